//! Entmax without the dense result: its threshold, and its probabilities in compressed rows.

use crate::borrow::Output;
use crate::call::{Call, POWER};
use crate::dtype::{Dtype, for_float};
use crate::frame::Along;
use pyo3::prelude::*;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(entmax_threshold, module)?)?;
    module.add_function(wrap_pyfunction!(entmax_sparse, module)?)
}

type Three<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// Normalizer, size of the support and largest log-probability of entmax along one axis.
#[pyfunction]
#[pyo3(signature = (scores, alpha, axis, present, temperature, /))]
fn entmax_threshold<'py>(
    scores: &Bound<'py, PyAny>,
    alpha: &Bound<'py, PyAny>,
    axis: &Bound<'py, PyAny>,
    present: &Bound<'py, PyAny>,
    temperature: &Bound<'py, PyAny>,
) -> PyResult<Three<'py>> {
    let call = Call::along_one("scores", scores, axis)?.with(present, temperature)?;
    let alpha = call.parameter("alpha", alpha)?;
    let alpha = alpha.per_row();
    let mut normalizer = call.new_output(call.dtype(), Along::Dropped)?;
    let mut support_size = call.new_output(Dtype::I64, Along::Dropped)?;
    let mut log_p_max = call.new_output(call.dtype(), Along::Dropped)?;
    for_float!(call.dtype(), E => {
        let view = call.view::<E>()?;
        let scores = view.rows();
        let mut normalizer = normalizer.rows_mut(&call.frame, Along::Dropped)?;
        let mut support_size = support_size.rows_mut(&call.frame, Along::Dropped)?;
        let mut log_p_max = log_p_max.rows_mut(&call.frame, Along::Dropped)?;
        call.run(POWER, |options| {
            softmaxfam::entmax_threshold(scores, alpha, options, &mut normalizer, &mut support_size, &mut log_p_max)
        })?;
    });
    Ok((normalizer.into_object()?, support_size.into_object()?, log_p_max.into_object()?))
}

/// Entmax along one axis as compressed rows (indptr, indices, values) and their (rows, classes).
#[pyfunction]
#[pyo3(signature = (scores, alpha, axis, present, temperature, max_support, /))]
fn entmax_sparse<'py>(
    scores: &Bound<'py, PyAny>,
    alpha: &Bound<'py, PyAny>,
    axis: &Bound<'py, PyAny>,
    present: &Bound<'py, PyAny>,
    temperature: &Bound<'py, PyAny>,
    max_support: Option<usize>,
) -> PyResult<(Three<'py>, (usize, usize))> {
    let call = Call::along_one("scores", scores, axis)?.with(present, temperature)?;
    let alpha = call.parameter("alpha", alpha)?;
    let alpha = alpha.per_row();
    let new = |dtype, length: usize| Output::beside(&call.scores, dtype, &[length as isize]);
    let three = for_float!(call.dtype(), E => {
        let view = call.view::<E>()?;
        let scores = view.rows();
        let rows = call.run(POWER, |options| softmaxfam::entmax_sparse(scores, alpha, options, max_support))?;
        let indptr = new(Dtype::I64, rows.indptr.len())?.fill(&rows.indptr);
        let indices = new(Dtype::I64, rows.indices.len())?.fill(&rows.indices);
        let values = new(call.dtype(), rows.values.len())?.fill(&rows.values);
        (indptr.into_object()?, indices.into_object()?, values.into_object()?)
    });
    Ok((three, (call.frame.rows(), call.frame.classes())))
}
