//! The linear head: a class matrix as a Python object, and what is asked of it.

use crate::borrow::{Array, Output, View};
use crate::call::{Asked, run};
use crate::dtype::{Dtype, Native};
use crate::frame::{Along, Frame};
use half::{bf16, f16};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use softmaxfam::heads::{self, Ask, Exact, LinearHead, Weights};
use softmaxfam::samplers::Stream;
use softmaxfam::{Error, Rows};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Head>()?;
    module.add_class::<ScoreState>()?;
    module.add_class::<EntmaxState>()?;
    module.add_function(wrap_pyfunction!(quantize, module)?)
}

/// Nanoseconds of a product.
pub(crate) const PRODUCT: f64 = 0.02;

/// An array, or nothing in its place.
pub(crate) type Maybe<'py> = Option<Bound<'py, PyAny>>;
/// log_probs, indices, logsumexp, and the targets' log-probabilities.
type Scored<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>, Maybe<'py>);
type Three<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// A class matrix with what belongs to it; it never changes, though the caller may write to its memory.
#[pyclass(frozen, module = "softmaxfam_rs._core")]
struct Head {
    weight: Py<PyAny>,
    scales: Option<Py<PyAny>>,
    bias: Option<Py<PyAny>>,
    temperature: f64,
    first_class: u64,
}

/// The arguments of a call besides the queries: k, target, where, and the CSR of excluded classes.
#[derive(FromPyObject)]
struct Asking<'py>(usize, Maybe<'py>, Maybe<'py>, Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>);

#[pymethods]
impl Head {
    #[new]
    #[pyo3(signature = (weight, scales, bias, temperature, first_class, /))]
    fn new(
        py: Python<'_>,
        weight: Py<PyAny>,
        scales: Option<Py<PyAny>>,
        bias: Option<Py<PyAny>>,
        temperature: f64,
        first_class: u64,
    ) -> PyResult<Self> {
        let head = Self { weight, scales, bias, temperature, first_class };
        head.with(py, |_| Ok(()))?;
        Ok(head)
    }

    /// The best classes of each query, in one pass.
    #[pyo3(signature = (queries, asking, /))]
    fn score<'py>(&self, py: Python<'py>, queries: &Bound<'py, PyAny>, asking: Asking<'py>) -> PyResult<Scored<'py>> {
        let found = self.ask(py, queries, &asking, |head, queries, ask| head.score(queries, ask))?;
        scored(py, asking.0, &found)
    }

    /// The same with exact scores, and how many classes were scored again.
    #[pyo3(signature = (queries, asking, exact, lost, kept, /))]
    fn score_exactly<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        asking: Asking<'py>,
        exact: &Bound<'py, PyAny>,
        lost: &Bound<'py, PyAny>,
        kept: &Bound<'py, PyAny>,
    ) -> PyResult<(Scored<'py>, Bound<'py, PyAny>)> {
        let exact = rows::<f32>("exact weight", exact)?;
        let (lost, kept) = (native("lost", lost, Dtype::F32)?, native("kept", kept, Dtype::F32)?);
        let exact =
            Exact { weight: exact.rows(), lost: plain::<f32>("lost", &lost)?, kept: plain::<f32>("kept", &kept)? };
        let (found, counts) =
            self.ask(py, queries, &asking, |head, queries, ask| head.score_exactly(queries, ask, &exact))?;
        Ok((scored(py, asking.0, &found)?, vector(py, Dtype::I64, &counts)?))
    }

    /// What these classes contribute to the scores.
    #[pyo3(signature = (queries, asking, /))]
    fn partial(&self, py: Python<'_>, queries: &Bound<'_, PyAny>, asking: Asking<'_>) -> PyResult<ScoreState> {
        self.ask(py, queries, &asking, |head, queries, ask| head.partial(queries, ask)).map(ScoreState)
    }

    /// What these classes contribute to entmax.
    #[pyo3(signature = (queries, alpha, asking, /))]
    fn entmax_partial(
        &self,
        py: Python<'_>,
        queries: &Bound<'_, PyAny>,
        alpha: f64,
        asking: Asking<'_>,
    ) -> PyResult<EntmaxState> {
        self.ask(py, queries, &asking, |head, queries, ask| head.entmax_partial(queries, alpha, ask)).map(EntmaxState)
    }

    /// All scores.
    #[pyo3(signature = (queries, asking, out, /))]
    fn logits<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        asking: Asking<'py>,
        out: Maybe<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let classes = Array::native(self.weight.bind(py)).map_or(0, |weight| weight.shape()[0]);
        let shape = [rows::<f32>("h", queries)?.rows().rows() as isize, classes];
        let mut out = match &out {
            Some(out) => Output::separate("out", out, Dtype::F32, &shape, &[Some(queries)])?,
            None => Output::new(py, Dtype::F32, &shape)?,
        };
        let frame = Frame::along_last(&shape);
        let mut into = out.rows_mut::<f32>(&frame, Along::Classes)?;
        self.ask(py, queries, &asking, |head, queries, ask| head.logits(queries, ask, &mut into))?;
        out.into_object()
    }

    /// Draws from softmax: ids, their log-probabilities, and without replacement the thresholds.
    #[pyo3(signature = (queries, m, asking, place, unique, /))]
    fn sample<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        m: usize,
        asking: Asking<'py>,
        place: (u64, u64, u64),
        unique: bool,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>, Maybe<'py>)> {
        let stream = Stream::new(place.0, place.1).at(place.2).map_err(refused)?;
        let count = rows::<f32>("h", queries)?.rows().rows() as isize;
        let (mut ids, mut logq) =
            (Output::new(py, Dtype::I64, &[count, m as isize])?, Output::new(py, Dtype::F32, &[count, m as isize])?);
        let mut thresholds = unique.then(|| Output::new(py, Dtype::F32, &[count, 1])).transpose()?;
        let frame = Frame::along_last(&[count, m as isize]);
        let of_rows = Frame::along_last(&[count, 1]);
        let mut into_ids = ids.rows_mut::<i64>(&frame, Along::Classes)?;
        let mut into_logq = logq.rows_mut::<f32>(&frame, Along::Classes)?;
        let mut into = thresholds.as_mut().map(|out| out.rows_mut::<f32>(&of_rows, Along::Classes)).transpose()?;
        self.ask(py, queries, &asking, |head, queries, ask| {
            head.sample(queries, stream, ask, &mut into_ids, &mut into_logq, into.as_mut())
        })?;
        Ok((ids.into_object()?, logq.into_object()?, thresholds.map(Output::into_object).transpose()?))
    }
}

impl Head {
    /// Does something with the head as the crate has it.
    fn with<R>(&self, py: Python<'_>, f: impl FnOnce(&LinearHead<'_>) -> PyResult<R>) -> PyResult<R> {
        let weight = self.weight.bind(py);
        let dtype = Array::native(weight).map(|array| array.dtype());
        let scales = self.scales.as_ref().map(|scales| native("scales", scales.bind(py), Dtype::F32)).transpose()?;
        macro_rules! with_weights {
            ($number:ty, $rows:ident => $weights:expr) => {{
                let view = rows::<$number>("weight", weight)?;
                let $rows = view.rows().clone();
                self.with_weights(py, $weights, f)
            }};
        }
        match dtype {
            Some(Dtype::F32) => with_weights!(f32, rows => Weights::F32(rows)),
            Some(Dtype::F16) => with_weights!(f16, rows => Weights::F16(rows)),
            Some(Dtype::Bf16 | Dtype::U16) => with_weights!(bf16, rows => Weights::Bf16(rows)),
            Some(Dtype::I8) => {
                let scales = scales.as_ref().ok_or_else(|| PyTypeError::new_err("weight of int8 needs scales"))?;
                let scales = plain::<f32>("scales", scales)?;
                with_weights!(i8, codes => Weights::Int8 { codes, scales })
            }
            _ => Err(PyTypeError::new_err("weight must be float32, float16, bfloat16 or int8")),
        }
    }

    fn with_weights<R>(
        &self,
        py: Python<'_>,
        weights: Weights<'_>,
        f: impl FnOnce(&LinearHead<'_>) -> PyResult<R>,
    ) -> PyResult<R> {
        let bias = self.bias.as_ref().map(|bias| native("bias", bias.bind(py), Dtype::F32)).transpose()?;
        let head = LinearHead::new(weights).and_then(|head| head.temperature(self.temperature)).map_err(refused)?;
        let mut head = head.first_class(self.first_class);
        if let Some(bias) = &bias {
            head = head.bias(plain::<f32>("bias", bias)?).map_err(refused)?;
        }
        f(&head)
    }

    /// Asks something, without the GIL if it takes long.
    fn ask<T: Send>(
        &self,
        py: Python<'_>,
        queries: &Bound<'_, PyAny>,
        asking: &Asking<'_>,
        job: impl for<'a> FnOnce(&LinearHead<'a>, &Rows<'_, f32>, &Ask<'a>) -> softmaxfam::Result<T> + Send,
    ) -> PyResult<T> {
        let Asking(k, target, mask, exclude) = asking;
        let target = target.as_ref().map(|target| native("target", target, Dtype::I64)).transpose()?;
        let mask = mask.as_ref().map(|mask| native("where", mask, Dtype::Bool)).transpose()?;
        let exclude = exclude.as_ref().map(|(starts, ids)| {
            Ok::<_, PyErr>((native("starts", starts, Dtype::I64)?, native("exclude", ids, Dtype::I64)?))
        });
        let exclude = exclude.transpose()?;
        let target = target.as_ref().map(|target| plain::<i64>("target", target)).transpose()?;
        let mask = mask.as_ref().map(|mask| plain::<u8>("where", mask)).transpose()?;
        let exclude = exclude
            .as_ref()
            .map(|(starts, ids)| Ok::<_, PyErr>((plain::<i64>("starts", starts)?, plain::<i64>("exclude", ids)?)));
        let exclude = exclude.transpose()?;
        let view = rows::<f32>("h", queries)?;
        let queries = view.rows();
        self.with(py, |head| {
            let work = PRODUCT * (queries.rows() * queries.classes() * head.classes()) as f64;
            run(py, work, |interrupt| {
                let mut ask = Ask::top(*k);
                ask = target.map_or(ask, |target| ask.target(target));
                ask = mask.map_or(ask, |mask| ask.mask(mask));
                ask = exclude.map_or(ask, |(starts, ids)| ask.exclude(starts, ids));
                job(head, queries, &interrupted(ask, interrupt))
            })
        })
    }
}

fn interrupted<'a>(ask: Ask<'a>, interrupt: Asked<'a>) -> Ask<'a> {
    match interrupt {
        Some(interrupt) => ask.interrupt(interrupt),
        None => ask,
    }
}

/// What some classes contribute to the scores of some queries.
#[pyclass(frozen, module = "softmaxfam_rs._core")]
struct ScoreState(heads::ScoreState);

#[pymethods]
impl ScoreState {
    /// This and what other classes contribute.
    #[pyo3(signature = (other, /))]
    fn merge(&self, other: &Self) -> PyResult<Self> {
        Ok(Self(self.0.clone().merge(other.0.clone()).map_err(refused)?))
    }

    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Scored<'py>> {
        let found = self.0.finish().map_err(refused)?;
        scored(py, self.0.k(), &found)
    }

    fn queries(&self) -> usize {
        self.0.queries()
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.to_bytes())
    }

    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        Ok(Self(heads::ScoreState::from_bytes(data).map_err(refused)?))
    }
}

/// What some classes contribute to entmax of the scores of some queries.
#[pyclass(frozen, module = "softmaxfam_rs._core")]
struct EntmaxState(heads::EntmaxState);

#[pymethods]
impl EntmaxState {
    /// This and what other classes contribute.
    #[pyo3(signature = (other, /))]
    fn merge(&self, other: &Self) -> PyResult<Self> {
        Ok(Self(self.0.clone().merge(other.0.clone()).map_err(refused)?))
    }

    #[pyo3(signature = (max_support, /))]
    fn finish<'py>(&self, py: Python<'py>, max_support: Option<usize>) -> PyResult<Three<'py>> {
        let rows = self.0.finish(max_support).map_err(refused)?;
        let (indptr, indices) = (vector(py, Dtype::I64, &rows.indptr)?, vector(py, Dtype::I64, &rows.indices)?);
        Ok((indptr, indices, vector(py, Dtype::F32, &rows.values)?))
    }

    fn queries(&self) -> usize {
        self.0.queries()
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.to_bytes())
    }

    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        Ok(Self(heads::EntmaxState::from_bytes(data).map_err(refused)?))
    }
}

/// A matrix in 8 bits: codes, a scale a class, and two norms of each class.
#[pyfunction]
#[pyo3(signature = (weight, /))]
fn quantize<'py>(py: Python<'py>, weight: &Bound<'py, PyAny>) -> PyResult<Three<'py>> {
    let view = rows::<f32>("weight", weight)?;
    let weight = view.rows();
    let (classes, width) = (weight.rows() as isize, weight.classes() as isize);
    let mut codes = Output::new(py, Dtype::I8, &[classes, width])?;
    let (mut scales, mut norms) =
        (Output::new(py, Dtype::F32, &[classes])?, Output::new(py, Dtype::F32, &[classes, 2])?);
    let (of_codes, of_norms) = (Frame::along_last(&[classes, width]), Frame::along_last(&[classes, 2]));
    let of_scales = Frame::along_last(&[classes, 1]);
    let mut into_codes = codes.rows_mut::<i8>(&of_codes, Along::Classes)?;
    let mut into_scales = scales.rows_mut::<f32>(&of_scales, Along::Dropped)?;
    let mut into_norms = norms.rows_mut::<f32>(&of_norms, Along::Classes)?;
    run(py, (classes * width) as f64, |interrupt| {
        heads::quantize(weight, &mut into_codes, &mut into_scales, &mut into_norms, interrupt)
    })?;
    Ok((codes.into_object()?, scales.into_object()?, norms.into_object()?))
}

fn scored<'py>(py: Python<'py>, k: usize, found: &heads::Scores) -> PyResult<Scored<'py>> {
    let shape = [found.logsumexp.len() as isize, k as isize];
    let log_probs = Output::new(py, Dtype::F32, &shape)?.fill(&found.log_probs).into_object()?;
    let indices = Output::new(py, Dtype::I64, &shape)?.fill(&found.indices).into_object()?;
    let target = found.target_log_prob.as_ref().map(|target| vector(py, Dtype::F32, target)).transpose()?;
    Ok((log_probs, indices, vector(py, Dtype::F32, &found.logsumexp)?, target))
}

pub(crate) fn vector<'py, T: Native>(py: Python<'py>, dtype: Dtype, values: &[T]) -> PyResult<Bound<'py, PyAny>> {
    Output::new(py, dtype, &[values.len() as isize])?.fill(values).into_object()
}

pub(crate) fn refused(error: Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A matrix whose rows are classes or queries.
pub(crate) fn rows<'py, T: Native>(name: &str, object: &Bound<'py, PyAny>) -> PyResult<View<'py, T>> {
    let array = Array::native(object).and_then(|array| array.stored_as::<T>()).filter(|array| array.shape().len() == 2);
    let array = array.ok_or_else(|| {
        PyTypeError::new_err(format!(
            "{name} must be a matrix of {}, aligned and in native byte order",
            T::DTYPE.name()
        ))
    })?;
    let frame = Frame::along_last(array.shape());
    array.view(name, &frame, Along::Classes)
}

pub(crate) fn native<'py>(name: &str, object: &Bound<'py, PyAny>, dtype: Dtype) -> PyResult<Array<'py>> {
    let array = Array::native(object).filter(|array| array.dtype() == dtype);
    array.ok_or_else(|| PyTypeError::new_err(format!("{name} must be an array of {}", dtype.name())))
}

pub(crate) fn plain<'a, T: Native>(name: &str, array: &'a Array<'_>) -> PyResult<&'a [T]> {
    array.slice().ok_or_else(|| PyValueError::new_err(format!("{name} must be a contiguous array")))
}
