//! Losses of scores against targets, with their gradients.

use crate::borrow::{Array, Output, View};
use crate::call::{Call, EXPONENTIAL, POWER};
use crate::dtype::{Dtype, for_float};
use crate::frame::Along;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use softmaxfam::{Element, Loss, LossOptions, Reduction, Target};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(loss, module)?)
}

/// A target as the crate reads it, whose type is that of the array that was given.
enum Targets<'py, E> {
    Labels(View<'py, i64>),
    Shares(View<'py, E>),
    Numbers(View<'py, f64>),
}

/// The loss named by `kind`, and its gradient if it is asked for.
///
/// `kind` is entmax, normmax, cross_entropy or rankmax; `parameter` its order or margin, one for each row or a number. Of
/// `reduction` "none" gives a loss for each row, "rows" the same in float64, "sum" and "mean" a number. `factor` multiplies the
/// gradient of each row. `gradient` is "none", "dense", or "sparse": (indptr, indices, values) and (rows, classes).
#[pyfunction]
#[pyo3(signature = (
    kind, scores, target, parameter, axis, present, temperature, weight, ignored, smoothing, reduction, factor, gradient, /
))]
#[expect(clippy::too_many_arguments, reason = "the front end fills in every argument")]
fn loss<'py>(
    kind: &str,
    scores: &Bound<'py, PyAny>,
    target: &Bound<'py, PyAny>,
    parameter: &Bound<'py, PyAny>,
    axis: &Bound<'py, PyAny>,
    present: &Bound<'py, PyAny>,
    temperature: &Bound<'py, PyAny>,
    weight: &Bound<'py, PyAny>,
    ignored: Option<i64>,
    smoothing: f64,
    reduction: &str,
    factor: &Bound<'py, PyAny>,
    gradient: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let call = Call::along_one("scores", scores, axis)?.with(present, temperature)?;
    let target = call.scores.target_beside("target", target, &call.frame)?;
    let parameter = call.parameter(if kind == "rankmax" { "margin" } else { "alpha" }, parameter)?;
    let factor = call.parameter("factor", factor)?;
    let weight = match weight.is_none() {
        true => None,
        false => Some(call.scores.numbers_beside("weight", weight)?.view("weight", &call.frame, Along::Classes)?),
    };
    let mut how = LossOptions::default().smoothing(smoothing).factor(factor.per_row());
    how = how.reduction(match reduction {
        "none" | "sum" | "rows" => Reduction::Sum,
        "mean" => Reduction::Mean,
        _ => {
            let message = format!("reduction is '{reduction}', must be 'none', 'mean' or 'sum'");
            return Err(PyValueError::new_err(message));
        }
    });
    if let Some(weight) = &weight {
        how = how.weight(View::rows(weight));
    }
    if let Some(label) = ignored {
        how = how.ignored(label);
    }
    let (kind, work) = match kind {
        "entmax" => (Loss::Entmax(parameter.per_row()), POWER),
        "normmax" => (Loss::Normmax(parameter.per_row()), POWER),
        "cross_entropy" => (Loss::CrossEntropy, EXPONENTIAL),
        "rankmax" => match parameter.per_row() {
            softmaxfam::PerRow::Same(margin) => (Loss::Rankmax { margin }, EXPONENTIAL),
            softmaxfam::PerRow::Each(_) => return Err(PyTypeError::new_err("margin is an array, must be a number")),
        },
        _ => unreachable!("the front end names no other loss"),
    };
    let py = call.py();
    let mut losses = vec![0.0; call.frame.rows()];
    let mut dense = if gradient == "dense" { Some(call.output_like_scores()?) } else { None };
    let new = |dtype, length: usize| Output::beside(&call.scores, dtype, &[length as isize]);
    for_float!(call.dtype(), E => {
        let view = call.view::<E>()?;
        let scores = view.rows();
        let target = Targets::<E>::new(&call, target)?;
        let target = target.read();
        let (reduced, sparse) = if gradient == "sparse" {
            let (reduced, rows) = call.run(work, |options| {
                softmaxfam::loss_and_sparse_gradient(kind, scores, target, options, &how, &mut losses)
            })?;
            let indptr = new(Dtype::I64, rows.indptr.len())?.fill(&rows.indptr).into_object()?;
            let indices = new(Dtype::I64, rows.indices.len())?.fill(&rows.indices).into_object()?;
            let values = new(call.dtype(), rows.values.len())?.fill(&rows.values).into_object()?;
            let shape = (call.frame.rows(), call.frame.classes());
            (reduced, Some(((indptr, indices, values), shape).into_pyobject(py)?.into_any()))
        } else {
            let mut rows = match &mut dense {
                Some(dense) => Some(dense.rows_mut::<E>(&call.frame, Along::Classes)?),
                None => None,
            };
            let reduced = call.run(work, |options| {
                softmaxfam::loss(kind, scores, target, options, &how, &mut losses, rows.as_mut())
            })?;
            (reduced, None)
        };
        let rounded = |value: f64| <E as Element>::of_f64_once(value);
        let result = match reduction {
            "rows" => call.new_output(Dtype::F64, Along::Dropped)?.fill(&losses),
            "none" => {
                let losses: Vec<E> = losses.iter().copied().map(rounded).collect();
                call.new_output(call.dtype(), Along::Dropped)?.fill(&losses)
            }
            _ => Output::beside(&call.scores, call.dtype(), &[])?.fill(&[rounded(reduced)]),
        };
        let result = result.into_object()?;
        match (sparse, dense) {
            (Some(sparse), _) => Ok(PyTuple::new(py, [result, sparse])?.into_any()),
            (_, Some(dense)) => Ok(PyTuple::new(py, [result, dense.into_object()?])?.into_any()),
            _ => Ok(result),
        }
    })
}

impl<'py, E: crate::dtype::Native + Element> Targets<'py, E> {
    fn new(call: &Call<'py>, array: Array<'py>) -> PyResult<Self> {
        let frame = &call.frame;
        match array.dtype() {
            Dtype::I64 => {
                let is_dropped = array.shape() == &*frame.shape(Along::Dropped);
                let along = if is_dropped { Along::Dropped } else { Along::One };
                Ok(Self::Labels(array.view("target", frame, along)?))
            }
            own if own == E::DTYPE => Ok(Self::Shares(array.view("target", frame, Along::Classes)?)),
            _ => Ok(Self::Numbers(array.view("target", frame, Along::Classes)?)),
        }
    }

    fn read(&self) -> Target<'_, E> {
        match self {
            Self::Labels(view) => Target::Classes(view.rows()),
            Self::Shares(view) => Target::Shares(view.rows()),
            Self::Numbers(view) => Target::Numbers(view.rows()),
        }
    }
}
