//! Scores to fewer numbers: log-sum-exp, Tsallis entropy, and the largest log-probabilities.

use crate::borrow::View;
use crate::call::{Call, EXPONENTIAL, POWER};
use crate::dtype::{Dtype, for_float};
use crate::frame::Along;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(logsumexp, module)?)?;
    module.add_function(wrap_pyfunction!(weighted_logsumexp, module)?)?;
    module.add_function(wrap_pyfunction!(tsallis_entropy, module)?)?;
    module.add_function(wrap_pyfunction!(top_log_probs, module)?)
}

/// Log-sum-exp along any axes.
#[pyfunction]
#[pyo3(signature = (scores, axis, keepdims, present, temperature, out, /))]
fn logsumexp<'py>(
    scores: &Bound<'py, PyAny>,
    axis: &Bound<'py, PyAny>,
    keepdims: bool,
    present: &Bound<'py, PyAny>,
    temperature: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::along_any("scores", scores, axis)?.with(present, temperature)?;
    let along = if keepdims { Along::One } else { Along::Dropped };
    let mut out = call.output(out, along, &[])?;
    for_float!(call.dtype(), E => {
        let (view, mut out) = (call.view::<E>()?, out.rows_mut(&call.frame, along)?);
        let scores = view.rows();
        call.run(EXPONENTIAL, |options| softmaxfam::logsumexp(scores, options, &mut out))?;
    });
    out.into_object()
}

/// Log of a weighted sum of exponentials, and the sign of that sum or None.
#[pyfunction]
#[pyo3(signature = (scores, weights, axis, keepdims, return_sign, present, temperature, out, /))]
#[expect(clippy::too_many_arguments, reason = "the front end fills in every argument")]
fn weighted_logsumexp<'py>(
    scores: &Bound<'py, PyAny>,
    weights: &Bound<'py, PyAny>,
    axis: &Bound<'py, PyAny>,
    keepdims: bool,
    return_sign: bool,
    present: &Bound<'py, PyAny>,
    temperature: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
    let call = Call::along_any("scores", scores, axis)?.with(present, temperature)?;
    let along = if keepdims { Along::One } else { Along::Dropped };
    let weights = call.scores.numbers_beside("weights", weights)?;
    let weights: View<'_, f64> = weights.view("weights", &call.frame, Along::Classes)?;
    let mut out = call.output(out, along, &[Some(weights.array())])?;
    let mut sign = if return_sign { Some(call.new_output(call.dtype(), along)?) } else { None };
    for_float!(call.dtype(), E => {
        let (view, mut out) = (call.view::<E>()?, out.rows_mut(&call.frame, along)?);
        let mut sign = sign.as_mut().map(|sign| sign.rows_mut(&call.frame, along)).transpose()?;
        let (scores, weights) = (view.rows(), weights.rows());
        call.run(EXPONENTIAL, |options| softmaxfam::weighted_logsumexp(scores, weights, options, &mut out, sign.as_mut()))?;
    });
    Ok((out.into_object()?, sign.map(|sign| sign.into_object()).transpose()?))
}

/// Tsallis entropy of order alpha along one axis.
#[pyfunction]
#[pyo3(signature = (p, alpha, axis, /))]
fn tsallis_entropy<'py>(
    p: &Bound<'py, PyAny>,
    alpha: &Bound<'py, PyAny>,
    axis: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::along_one("p", p, axis)?;
    let alpha = call.parameter("alpha", alpha)?;
    let mut entropy = call.new_output(call.dtype(), Along::Dropped)?;
    let alpha = alpha.per_row();
    for_float!(call.dtype(), E => {
        let (view, mut out) = (call.view::<E>()?, entropy.rows_mut(&call.frame, Along::Dropped)?);
        let p = view.rows();
        call.run(POWER, |options| softmaxfam::tsallis_entropy(p, alpha, options, &mut out))?;
    });
    entropy.into_object()
}

/// The k largest log-probabilities, their indices, and the log-sum-exp.
#[pyfunction]
#[pyo3(signature = (scores, k, axis, present, temperature, /))]
fn top_log_probs<'py>(
    scores: &Bound<'py, PyAny>,
    k: isize,
    axis: &Bound<'py, PyAny>,
    present: &Bound<'py, PyAny>,
    temperature: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let call = Call::along_one("scores", scores, axis)?.with(present, temperature)?;
    let classes = call.frame.classes();
    let Some(k) = usize::try_from(k).ok().filter(|k| (1..=classes).contains(k)) else {
        return Err(PyValueError::new_err(format!(
            "k is {k}, must lie in [1, {classes}], the number of classes; take min(k, n_classes)"
        )));
    };
    let mut log_probs = call.new_output(call.dtype(), Along::Length(k))?;
    let mut indices = call.new_output(Dtype::I64, Along::Length(k))?;
    let mut logsumexp = call.new_output(call.dtype(), Along::Dropped)?;
    for_float!(call.dtype(), E => {
        let view = call.view::<E>()?;
        let scores = view.rows();
        let mut log_probs = log_probs.rows_mut(&call.frame, Along::Length(k))?;
        let mut indices = indices.rows_mut(&call.frame, Along::Length(k))?;
        let mut logsumexp = logsumexp.rows_mut(&call.frame, Along::Dropped)?;
        call.run(EXPONENTIAL, |options| {
            softmaxfam::top_log_probs(scores, k, options, &mut log_probs, &mut indices, &mut logsumexp)
        })?;
    });
    Ok((log_probs.into_object()?, indices.into_object()?, logsumexp.into_object()?))
}
