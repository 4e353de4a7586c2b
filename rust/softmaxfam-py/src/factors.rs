//! Steps of alternating least squares, and Gram matrices.

use crate::borrow::Output;
use crate::call::run;
use crate::dtype::Dtype;
use crate::frame::{Along, Frame};
use crate::heads::{Maybe, native, plain, vector};
use crate::hierarchical::matrix;
use pyo3::prelude::*;
use softmaxfam::factors::{self, Interactions, Quadratic};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(gram, module)?)?;
    module.add_function(wrap_pyfunction!(solve_rows, module)?)
}

/// The weighted sum of the squares of rows, and that of the rows, in float64.
#[pyfunction]
#[pyo3(signature = (rows, weights, /))]
fn gram<'py>(
    py: Python<'py>,
    rows: &Bound<'py, PyAny>,
    weights: Maybe<'py>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let rows = matrix("factors", rows)?;
    let weights = weights.map(|weights| native("weights", &weights, Dtype::F64)).transpose()?;
    let weights = weights.as_ref().map(|weights| plain::<f64>("weights", weights)).transpose()?;
    let (numbers, width) = (plain::<f32>("factors", &rows)?, rows.shape()[1]);
    let work = 0.1 * (numbers.len() as f64) * width as f64;
    let (sums, vectors) = run(py, work, |interrupt| factors::gram(numbers, width as usize, weights, interrupt))?;
    Ok((Output::new(py, Dtype::F64, &[width, width])?.fill(&sums).into_object()?, vector(py, Dtype::F64, &vectors)?))
}

/// The matrix and the vector of a whole side, ridge, weight of interactions, and whether their number counts.
#[derive(FromPyObject)]
struct Side<'py>(Bound<'py, PyAny>, Bound<'py, PyAny>, f64, f64, bool);

/// Writes the rows that minimise their quadratics to `solved`; returns the sums of scores at interactions, and of squares.
#[pyfunction]
#[pyo3(signature = (starts, columns, factors, side, solved, /))]
fn solve_rows<'py>(
    py: Python<'py>,
    starts: &Bound<'py, PyAny>,
    columns: &Bound<'py, PyAny>,
    factors: &Bound<'py, PyAny>,
    side: Side<'py>,
    solved: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let Side(sums, center, ridge, weight, counts) = side;
    let (starts, columns) = (native("indptr", starts, Dtype::I64)?, native("indices", columns, Dtype::I32)?);
    let rows = matrix("factors", factors)?;
    let (sums, center) = (native("the matrix", &sums, Dtype::F64)?, native("the center", &center, Dtype::F64)?);
    let quadratic =
        Quadratic { matrix: plain("the matrix", &sums)?, center: plain("the center", &center)?, ridge, weight, counts };
    let interactions = Interactions { starts: plain("indptr", &starts)?, columns: plain("indices", &columns)? };
    let (count, width) = (interactions.starts.len().saturating_sub(1), rows.shape()[1]);
    let shape = [count as isize, width];
    let mut out = Output::separate("solved", solved, Dtype::F32, &shape, &[Some(factors)])?;
    let frame = Frame::along_last(&shape);
    let into = out.rows_mut::<f32>(&frame, Along::Classes)?.into_line();
    let numbers = plain("factors", &rows)?;
    let mut scores = vec![0.0; 2 * count];
    let work = (interactions.columns.len() as f64 + (count * width as usize) as f64) * width as f64;
    run(py, work, |interrupt| {
        let what = "solved";
        let into = into.ok_or(softmaxfam::Error::Contiguous { what })?;
        factors::solve_rows(interactions, numbers, width as usize, quadratic, into, &mut scores, interrupt)
    })?;
    Output::new(py, Dtype::F64, &[count as isize, 2])?.fill(&scores).into_object()
}
