//! Hierarchical softmax: trees, and losses and searches along their paths.

use crate::borrow::{Array, Output};
use crate::call::run;
use crate::dtype::Dtype;
use crate::frame::{Along, Frame};
use crate::heads::{Maybe, native, plain, refused, vector};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use softmaxfam::heads::{self, HierarchicalSoftmax, Touched};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(huffman, module)?)?;
    module.add_function(wrap_pyfunction!(tree_parents, module)?)?;
    module.add_function(wrap_pyfunction!(tree_path_lengths, module)?)?;
    module.add_function(wrap_pyfunction!(tree_loss, module)?)?;
    module.add_function(wrap_pyfunction!(tree_log_probs, module)?)?;
    module.add_function(wrap_pyfunction!(tree_top, module)?)
}

/// Nanoseconds of a class in building a tree, and of a number on a path.
const BUILD: f64 = 100.0;
const PRODUCT: f64 = 4.0;

/// The rows of the nodes, their bias, and the parents of all ids.
#[derive(FromPyObject)]
struct Nodes<'py>(Bound<'py, PyAny>, Maybe<'py>, Bound<'py, PyAny>);

/// The same, borrowed.
struct Model<'py> {
    weight: Array<'py>,
    bias: Option<Array<'py>>,
    parents: Array<'py>,
}

impl<'py> Model<'py> {
    fn new(nodes: &Nodes<'py>) -> PyResult<Self> {
        let Nodes(weight, bias, parents) = nodes;
        let weight = matrix("weight", weight)?;
        let bias = bias.as_ref().map(|bias| native("bias", bias, Dtype::F32)).transpose()?;
        Ok(Self { weight, bias, parents: native("parents", parents, Dtype::I32)? })
    }

    fn width(&self) -> usize {
        self.weight.shape()[1] as usize
    }

    fn view(&self) -> PyResult<HierarchicalSoftmax<'_>> {
        let bias = self.bias.as_ref().map(|bias| plain("bias", bias)).transpose()?;
        let (parents, weight) = (plain("parents", &self.parents)?, plain("weight", &self.weight)?);
        HierarchicalSoftmax::new(parents, weight, bias, self.width()).map_err(refused)
    }

    /// The queries, of the width of the nodes' rows.
    fn queries(&self, h: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let queries = matrix("h", h)?;
        let (given, needed) = (queries.shape()[1] as usize, self.width());
        if given == needed { Ok(queries) } else { Err(refused(softmaxfam::Error::Width { given, needed })) }
    }
}

pub(crate) fn matrix<'py>(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
    let array = native(name, object, Dtype::F32)?;
    match array.shape().len() {
        2 => Ok(array),
        axes => Err(PyValueError::new_err(format!("{name} has {axes} axes, must have two"))),
    }
}

/// The merges of Huffman's tree of counts, of float64.
#[pyfunction]
#[pyo3(signature = (counts, /))]
fn huffman<'py>(py: Python<'py>, counts: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let array = native("counts", counts, Dtype::F64)?;
    let counts = plain::<f64>("counts", &array)?;
    let merges = run(py, BUILD * counts.len() as f64, |interrupt| heads::huffman(counts, interrupt))?;
    Output::new(py, Dtype::I32, &[merges.len() as isize, 2])?.fill(merges.as_flattened()).into_object()
}

/// The parents of merges, of int32.
#[pyfunction]
#[pyo3(signature = (merges, /))]
fn tree_parents<'py>(py: Python<'py>, merges: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let array = native("merges", merges, Dtype::I32)?;
    let merges = plain::<i32>("merges", &array)?.as_chunks::<2>().0;
    let parents = run(py, BUILD * merges.len() as f64, |_| heads::parents(merges))?;
    vector(py, Dtype::I32, &parents)
}

/// The number of nodes above each class.
#[pyfunction]
#[pyo3(signature = (parents, /))]
fn tree_path_lengths<'py>(py: Python<'py>, parents: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let array = native("parents", parents, Dtype::I32)?;
    let parents = plain::<i32>("parents", &array)?;
    let lengths = run(py, BUILD * parents.len() as f64, |_| heads::path_lengths(parents))?;
    vector(py, Dtype::I32, &lengths)
}

/// Rows, their gradients, and those of their biases.
pub(crate) type Rows<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// The loss of each query in float64; with `touches` the gradients of the nodes too. That of the queries goes to `of_h`.
#[pyfunction]
#[pyo3(signature = (nodes, h, target, ignored, factors, of_h, touches, /))]
#[expect(clippy::too_many_arguments, reason = "the front end fills in every argument")]
fn tree_loss<'py>(
    py: Python<'py>,
    nodes: Nodes<'py>,
    h: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    ignored: Option<i64>,
    factors: Maybe<'py>,
    of_h: Maybe<'py>,
    touches: bool,
) -> PyResult<(Bound<'py, PyAny>, Option<Rows<'py>>)> {
    let model = Model::new(&nodes)?;
    let (view, queries) = (model.view()?, model.queries(h)?);
    let target = native("target", target, Dtype::I64)?;
    let factors = factors.map(|factors| native("factors", &factors, Dtype::F64)).transpose()?;
    let (h_plain, targets) = (plain::<f32>("h", &queries)?, plain::<i64>("target", &target)?);
    let factors = factors.as_ref().map(|factors| plain::<f64>("factors", factors)).transpose()?;
    let (count, width) = (targets.len() as isize, model.width() as isize);
    let frame = Frame::along_last(&[count, width]);
    let others = [Some(h), Some(&nodes.0)];
    let of_h = of_h.map(|out| Output::separate("the gradient of h", &out, Dtype::F32, &[count, width], &others));
    let mut of_h = of_h.transpose()?;
    let of_h = of_h.as_mut().map(|out| out.rows_mut::<f32>(&frame, Along::Classes)).transpose()?;
    let mut losses = vec![0.0; targets.len()];
    let work = PRODUCT * h_plain.len() as f64;
    let touched = run(py, work, |interrupt| {
        view.loss(h_plain, targets, ignored, factors, &mut losses, of_h, touches, interrupt)
    })?;
    let losses = vector(py, Dtype::F64, &losses)?;
    if !touches {
        return Ok((losses, None));
    }
    Ok((losses, Some(touched_rows(py, &touched, h_plain, width as usize)?)))
}

/// The rows that a loss touches, their gradients, and those of their biases.
pub(crate) fn touched_rows<'py>(
    py: Python<'py>,
    touched: &Touched,
    queries: &[f32],
    width: usize,
) -> PyResult<Rows<'py>> {
    let shape = [touched.rows.len() as isize, width as isize];
    let mut values = Output::new(py, Dtype::F32, &shape)?;
    let into = values.rows_mut::<f32>(&Frame::along_last(&shape), Along::Classes)?;
    run(py, PRODUCT * queries.len() as f64, |interrupt| touched.rows_into(queries, width, into, interrupt))?;
    Ok((vector(py, Dtype::I64, &touched.rows)?, values.into_object()?, vector(py, Dtype::F32, &touched.biases())?))
}

/// log p of all classes for each query.
#[pyfunction]
#[pyo3(signature = (nodes, h, /))]
fn tree_log_probs<'py>(py: Python<'py>, nodes: Nodes<'py>, h: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let model = Model::new(&nodes)?;
    let (view, queries) = (model.view()?, model.queries(h)?);
    let numbers = plain::<f32>("h", &queries)?;
    let shape = [queries.shape()[0], view.classes() as isize];
    let mut out = Output::new(py, Dtype::F32, &shape)?;
    let frame = Frame::along_last(&shape);
    let into = out.rows_mut::<f32>(&frame, Along::Classes)?;
    let work = crate::heads::PRODUCT * (numbers.len() * view.classes()) as f64;
    run(py, work, |interrupt| view.log_probs(numbers, into, interrupt))?;
    out.into_object()
}

/// The best k classes of each query: log p and indices.
#[pyfunction]
#[pyo3(signature = (nodes, merges, h, k, /))]
fn tree_top<'py>(
    py: Python<'py>,
    nodes: Nodes<'py>,
    merges: &Bound<'py, PyAny>,
    h: &Bound<'py, PyAny>,
    k: usize,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let model = Model::new(&nodes)?;
    let (view, queries) = (model.view()?, model.queries(h)?);
    let numbers = plain::<f32>("h", &queries)?;
    let merges = native("merges", merges, Dtype::I32)?;
    let merges = plain::<i32>("merges", &merges)?.as_chunks::<2>().0;
    let count = queries.shape()[0] as usize;
    let length = if k <= view.classes() { count * k } else { 0 };
    let (mut log_probs, mut indices) = (vec![0.0; length], vec![0; length]);
    let work = 1000.0 * (count * k) as f64;
    run(py, work, |interrupt| view.top(merges, numbers, k, &mut log_probs, &mut indices, interrupt))?;
    let shape = [count as isize, k as isize];
    let log_probs = Output::new(py, Dtype::F32, &shape)?.fill(&log_probs).into_object()?;
    Ok((log_probs, Output::new(py, Dtype::I64, &shape)?.fill(&indices).into_object()?))
}
