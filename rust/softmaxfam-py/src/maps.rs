//! Scores to an array of their own shape: softmax, log-softmax, entmax, normmax, budgeted sparsemax.

use crate::call::{Call, EXPONENTIAL, POWER};
use crate::dtype::for_float;
use crate::frame::Along;
use pyo3::prelude::*;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(softmax, module)?)?;
    module.add_function(wrap_pyfunction!(log_softmax, module)?)?;
    module.add_function(wrap_pyfunction!(entmax, module)?)?;
    module.add_function(wrap_pyfunction!(normmax, module)?)?;
    module.add_function(wrap_pyfunction!(budget_sparsemax, module)?)
}

/// Softmax along any axes.
#[pyfunction]
#[pyo3(signature = (scores, axis, present, temperature, out, /))]
fn softmax<'py>(
    scores: &Bound<'py, PyAny>,
    axis: &Bound<'py, PyAny>,
    present: &Bound<'py, PyAny>,
    temperature: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::along_any("scores", scores, axis)?.with(present, temperature)?;
    let mut out = call.output(out, Along::Classes, &[])?;
    for_float!(call.dtype(), E => {
        let (view, mut out) = (call.view::<E>()?, out.rows_mut(&call.frame, Along::Classes)?);
        let scores = view.rows();
        call.run(EXPONENTIAL, |options| softmaxfam::softmax(scores, options, &mut out))?;
    });
    out.into_object()
}

/// Logarithm of softmax along any axes.
#[pyfunction]
#[pyo3(signature = (scores, axis, present, temperature, out, /))]
fn log_softmax<'py>(
    scores: &Bound<'py, PyAny>,
    axis: &Bound<'py, PyAny>,
    present: &Bound<'py, PyAny>,
    temperature: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::along_any("scores", scores, axis)?.with(present, temperature)?;
    let mut out = call.output(out, Along::Classes, &[])?;
    for_float!(call.dtype(), E => {
        let (view, mut out) = (call.view::<E>()?, out.rows_mut(&call.frame, Along::Classes)?);
        let scores = view.rows();
        call.run(EXPONENTIAL, |options| softmaxfam::log_softmax(scores, options, &mut out))?;
    });
    out.into_object()
}

macro_rules! map_with_parameter {
    ($name:ident, $parameter:ident, $doc:literal) => {
        #[doc = $doc]
        #[pyfunction]
        #[pyo3(signature = (scores, $parameter, axis, present, temperature, out, /))]
        fn $name<'py>(
            scores: &Bound<'py, PyAny>,
            $parameter: &Bound<'py, PyAny>,
            axis: &Bound<'py, PyAny>,
            present: &Bound<'py, PyAny>,
            temperature: &Bound<'py, PyAny>,
            out: &Bound<'py, PyAny>,
        ) -> PyResult<Bound<'py, PyAny>> {
            let call = Call::along_one("scores", scores, axis)?.with(present, temperature)?;
            let parameter = call.parameter(stringify!($parameter), $parameter)?;
            let mut out = call.output(out, Along::Classes, &[parameter.array()])?;
            let parameter = parameter.per_row();
            for_float!(call.dtype(), E => {
                let (view, mut out) = (call.view::<E>()?, out.rows_mut(&call.frame, Along::Classes)?);
                let scores = view.rows();
                call.run(POWER, |options| softmaxfam::$name(scores, parameter, options, &mut out))?;
            });
            out.into_object()
        }
    };
}
map_with_parameter!(entmax, alpha, "Entmax of order alpha along one axis; alpha = 2 is sparsemax.");
map_with_parameter!(normmax, alpha, "Normmax of order alpha along one axis.");
map_with_parameter!(budget_sparsemax, budget, "Projection onto the capped simplex with this sum, along one axis.");
