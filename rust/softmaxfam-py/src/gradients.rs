//! Vector-Jacobian products of the maps, from their results.

use crate::borrow::Array;
use crate::call::{Call, EXPONENTIAL, POWER};
use crate::dtype::for_float;
use crate::frame::Along;
use pyo3::prelude::*;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(softmax_vjp, module)?)?;
    module.add_function(wrap_pyfunction!(log_softmax_vjp, module)?)?;
    module.add_function(wrap_pyfunction!(logsumexp_vjp, module)?)?;
    module.add_function(wrap_pyfunction!(entmax_vjp, module)?)?;
    module.add_function(wrap_pyfunction!(entmax_alpha_grad, module)?)
}

macro_rules! vjp_of_a_result {
    ($name:ident, $result:ident, $doc:literal) => {
        #[doc = $doc]
        #[pyfunction]
        #[pyo3(signature = ($result, g, axis, temperature, /))]
        fn $name<'py>(
            $result: &Bound<'py, PyAny>,
            g: &Bound<'py, PyAny>,
            axis: &Bound<'py, PyAny>,
            temperature: &Bound<'py, PyAny>,
        ) -> PyResult<Bound<'py, PyAny>> {
            let call = Call::along_any(stringify!($result), $result, axis)?.at(temperature)?;
            let g = call.beside("g", g)?;
            let mut out = call.output_like_scores()?;
            for_float!(call.dtype(), E => {
                let (view, g) = (call.view::<E>()?, g.view::<E>("g", &call.frame, Along::Classes)?);
                let (result, g, mut out) = (view.rows(), g.rows(), out.rows_mut(&call.frame, Along::Classes)?);
                call.run(EXPONENTIAL, |options| softmaxfam::$name(result, g, options, &mut out))?;
            });
            out.into_object()
        }
    };
}
vjp_of_a_result!(softmax_vjp, p, "Gradient with respect to the scores, from softmax's result p.");
vjp_of_a_result!(log_softmax_vjp, log_p, "Gradient with respect to the scores, from log_softmax's result.");

/// Gradient with respect to the scores, from logsumexp's result, with or without its axes of length 1.
#[pyfunction]
#[pyo3(signature = (scores, lse, g, axis, present, temperature, /))]
fn logsumexp_vjp<'py>(
    scores: &Bound<'py, PyAny>,
    lse: &Bound<'py, PyAny>,
    g: &Bound<'py, PyAny>,
    axis: &Bound<'py, PyAny>,
    present: &Bound<'py, PyAny>,
    temperature: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::along_any("scores", scores, axis)?.with(present, temperature)?;
    let (lse, g) = (call.beside("lse", lse)?, call.beside("g", g)?);
    let along = |array: &Array<'_>| match array.shape().len() == call.scores.shape().len() {
        true => Along::One,
        false => Along::Dropped,
    };
    let (lse_along, g_along) = (along(&lse), along(&g));
    let mut out = call.output_like_scores()?;
    for_float!(call.dtype(), E => {
        let (lse, g) = (lse.view::<E>("lse", &call.frame, lse_along)?, g.view::<E>("g", &call.frame, g_along)?);
        let (view, mut out) = (call.view::<E>()?, out.rows_mut(&call.frame, Along::Classes)?);
        let (scores, lse, g) = (view.rows(), lse.rows(), g.rows());
        call.run(EXPONENTIAL, |options| softmaxfam::logsumexp_vjp(scores, lse, g, options, &mut out))?;
    });
    out.into_object()
}

/// Gradient with respect to the scores, from entmax's result p.
#[pyfunction]
#[pyo3(signature = (p, g, alpha, axis, temperature, /))]
fn entmax_vjp<'py>(
    p: &Bound<'py, PyAny>,
    g: &Bound<'py, PyAny>,
    alpha: &Bound<'py, PyAny>,
    axis: &Bound<'py, PyAny>,
    temperature: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::along_one("p", p, axis)?.at(temperature)?;
    let g = call.beside("g", g)?;
    let alpha = call.parameter("alpha", alpha)?;
    let alpha = alpha.per_row();
    let mut out = call.output_like_scores()?;
    for_float!(call.dtype(), E => {
        let (view, g) = (call.view::<E>()?, g.view::<E>("g", &call.frame, Along::Classes)?);
        let (p, g, mut out) = (view.rows(), g.rows(), out.rows_mut(&call.frame, Along::Classes)?);
        call.run(POWER, |options| softmaxfam::entmax_vjp(p, g, alpha, options, &mut out))?;
    });
    out.into_object()
}

/// Gradient with respect to alpha, for each row, from entmax's p.
#[pyfunction]
#[pyo3(signature = (p, g, alpha, axis, /))]
fn entmax_alpha_grad<'py>(
    p: &Bound<'py, PyAny>,
    g: &Bound<'py, PyAny>,
    alpha: &Bound<'py, PyAny>,
    axis: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::along_one("p", p, axis)?;
    let g = call.beside("g", g)?;
    let alpha = call.parameter("alpha", alpha)?;
    let alpha = alpha.per_row();
    let mut out = call.new_output(call.dtype(), Along::Dropped)?;
    for_float!(call.dtype(), E => {
        let (view, g) = (call.view::<E>()?, g.view::<E>("g", &call.frame, Along::Classes)?);
        let (p, g, mut out) = (view.rows(), g.rows(), out.rows_mut(&call.frame, Along::Dropped)?);
        call.run(POWER, |options| softmaxfam::entmax_alpha_grad(p, g, alpha, options, &mut out))?;
    });
    out.into_object()
}
