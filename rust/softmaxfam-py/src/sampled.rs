//! Losses from sampled negatives, with the gradients of queries and of the class rows that were drawn.

use crate::borrow::Output;
use crate::call::run;
use crate::dtype::Dtype;
use crate::frame::{Along, Frame};
use crate::heads::{Maybe, native, plain, refused, vector};
use crate::hierarchical::{Rows, matrix, touched_rows};
use pyo3::prelude::*;
use softmaxfam::Error;
use softmaxfam::losses::{SampledLoss, SampledScores, Slots, sampled_loss as computed};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(sampled_loss, module)?)
}

/// Nanoseconds of a number of a row that is named.
const PRODUCT: f64 = 0.1;

/// Targets and what is added to their scores, negatives and what is added to theirs.
#[derive(FromPyObject)]
struct Classes<'py>(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// Whether slots are choices of two, negatives that are the target count nothing, and the temperature.
#[derive(FromPyObject)]
struct Numbers(bool, bool, f64);

/// The loss of each query in float64; with `touches` the gradients of class rows. That of the queries goes to `of_h`.
///
/// Negatives are a matrix, with a row for each query, or a vector that all share.
#[pyfunction]
#[pyo3(signature = (h, weight, classes, numbers, factors, of_h, touches, /))]
#[expect(clippy::too_many_arguments, reason = "the front end fills in every argument")]
fn sampled_loss<'py>(
    py: Python<'py>,
    h: &Bound<'py, PyAny>,
    weight: &Bound<'py, PyAny>,
    classes: Classes<'py>,
    numbers: Numbers,
    factors: Maybe<'py>,
    of_h: Maybe<'py>,
    touches: bool,
) -> PyResult<(Bound<'py, PyAny>, Option<Rows<'py>>)> {
    let Classes(target, of_target, negative, of_negative) = classes;
    let Numbers(is_binary, removes_hits, temperature) = numbers;
    let (queries, rows) = (matrix("h", h)?, matrix("W", weight)?);
    let (given, needed) = (queries.shape()[1] as usize, rows.shape()[1] as usize);
    if given != needed {
        return Err(refused(Error::Width { given, needed }));
    }
    let (target, negative) = (native("target", &target, Dtype::I64)?, native("negative", &negative, Dtype::I64)?);
    let of_target = native("what is added to targets", &of_target, Dtype::F32)?;
    let of_negative = native("what is added to negatives", &of_negative, Dtype::F32)?;
    let factors = factors.map(|factors| native("factors", &factors, Dtype::F64)).transpose()?;
    let slots = Slots {
        target: plain("target", &target)?,
        of_target: plain("what is added to targets", &of_target)?,
        negative: plain("negative", &negative)?,
        of_negative: plain("what is added to negatives", &of_negative)?,
        is_shared: negative.shape().len() == 1,
        removes_hits,
    };
    let scores =
        SampledScores { queries: plain("h", &queries)?, weight: plain("W", &rows)?, width: given, temperature };
    let factors = factors.as_ref().map(|factors| plain::<f64>("factors", factors)).transpose()?;
    let shape = [slots.target.len() as isize, given as isize];
    let frame = Frame::along_last(&shape);
    let others = [Some(h), Some(weight)];
    let of_h = of_h.map(|out| Output::separate("the gradient of h", &out, Dtype::F32, &shape, &others));
    let mut of_h = of_h.transpose()?;
    let of_h = of_h.as_mut().map(|out| out.rows_mut::<f32>(&frame, Along::Classes)).transpose()?;
    let loss = if is_binary { SampledLoss::Binary } else { SampledLoss::Softmax };
    let mut losses = vec![0.0; slots.target.len()];
    let work = PRODUCT * scores.queries.len() as f64 * slots.negative.len() as f64;
    let touched =
        run(py, work, |interrupt| computed(loss, scores, slots, factors, &mut losses, of_h, touches, interrupt))?;
    let losses = vector(py, Dtype::F64, &losses)?;
    let rows = if touches { Some(touched_rows(py, &touched, scores.queries, given)?) } else { None };
    Ok((losses, rows))
}
