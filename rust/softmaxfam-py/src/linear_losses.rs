//! Losses of linear heads, with the gradients of queries, class rows and bias.

use crate::borrow::Output;
use crate::call::run;
use crate::dtype::Dtype;
use crate::frame::{Along, Frame};
use crate::heads::{Maybe, PRODUCT, native, plain, refused, rows, vector};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use softmaxfam::losses::{IndexedRows, LinearGradients, LinearScores, WeightGradient, linear_loss as computed};
use softmaxfam::{Loss, LossOptions, Options, Reduction, Rows, RowsMut, Target};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(linear_loss, module)?)
}

/// The kind of a loss and its order or margin; temperature, class to ignore, smoothing, and whether a mean is asked for.
#[derive(FromPyObject)]
struct Numbers(String, f64, f64, Option<i64>, f64, bool);

/// Arrays of zeros, or nothing: for the gradients of the queries, of the class rows, and of the bias; and whether those of the
/// class rows are returned by rows.
#[derive(FromPyObject)]
struct Into<'py>(Maybe<'py>, Maybe<'py>, Maybe<'py>, bool);

/// (the sum or mean, the loss of each query, indices and values of the rows of the class rows' gradient)
type Found<'py> = (f64, Bound<'py, PyAny>, Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>);

/// The loss of scores h W^T + b, of float32, and its gradients.
///
/// `target` holds int64, or a distribution of float32 for each query; `factor` multiplies the gradient of each query.
#[pyfunction]
#[pyo3(signature = (h, weight, bias, target, present, class_weight, factor, numbers, into, /))]
#[expect(clippy::too_many_arguments, reason = "the front end fills in every argument")]
fn linear_loss<'py>(
    py: Python<'py>,
    h: &Bound<'py, PyAny>,
    weight: &Bound<'py, PyAny>,
    bias: Maybe<'py>,
    target: &Bound<'py, PyAny>,
    present: Maybe<'py>,
    class_weight: Maybe<'py>,
    factor: Maybe<'py>,
    numbers: Numbers,
    into: Into<'py>,
) -> PyResult<Found<'py>> {
    let Numbers(kind, parameter, temperature, ignored, smoothing, is_mean) = numbers;
    let (queries, matrix) = (rows::<f32>("h", h)?, rows::<f32>("W", weight)?);
    let (queries, matrix) = (queries.rows(), matrix.rows());
    let (count, classes) = (queries.rows(), matrix.rows());
    let optional = |name: &'static str, array: &Maybe<'py>, dtype| {
        array.as_ref().map(|array| native(name, array, dtype)).transpose()
    };
    let bias = optional("bias", &bias, Dtype::F32)?;
    let present = optional("where", &present, Dtype::Bool)?;
    let class_weight = optional("weight", &class_weight, Dtype::F64)?;
    let factor = optional("factor", &factor, Dtype::F64)?;
    let bias = bias.as_ref().map(|bias| plain::<f32>("bias", bias)).transpose()?;
    let mask = present.as_ref().map(|present| plain::<u8>("where", present)).transpose()?;
    let class_weight = class_weight.as_ref().map(|weight| plain::<f64>("weight", weight)).transpose()?;
    let factor = factor.as_ref().map(|factor| plain::<f64>("factor", factor)).transpose()?;
    // the same for all queries
    let mask = mask.map(|mask| Rows::strided(mask, 0, &[(count, 0)], &[(classes, 1)])).transpose().map_err(refused)?;
    let each = class_weight.map(|weight| Rows::strided(weight, 0, &[(count, 0)], &[(classes, 1)]));
    let each = each.transpose().map_err(refused)?;
    let factor = factor.map(|factor| Rows::new(factor, 1)).transpose().map_err(refused)?;
    let labels = native("target", target, Dtype::I64).ok();
    let labels = labels.as_ref().map(|labels| plain::<i64>("target", labels)).transpose()?;
    let labels = labels.map(|labels| Rows::new(labels, 1)).transpose().map_err(refused)?;
    let shares = if labels.is_none() { Some(rows::<f32>("target", target)?) } else { None };
    let target = match (&labels, &shares) {
        (Some(labels), _) => Target::Classes(labels),
        (_, Some(shares)) => Target::Shares(shares.rows()),
        _ => return Err(PyTypeError::new_err("target must be an array of int64 or float32")),
    };
    let kind = match &*kind {
        "entmax" => Loss::Entmax(parameter.into()),
        "normmax" => Loss::Normmax(parameter.into()),
        "cross_entropy" => Loss::CrossEntropy,
        "rankmax" => Loss::Rankmax { margin: parameter },
        _ => unreachable!("the front end names no other loss"),
    };
    let mut how = LossOptions::default().smoothing(smoothing);
    how = how.reduction(if is_mean { Reduction::Mean } else { Reduction::Sum });
    how = each.as_ref().map_or(how, |weight| how.weight(weight));
    how = ignored.map_or(how, |label| how.ignored(label));
    how = factor.as_ref().map_or(how, |factor| how.factor(softmaxfam::PerRow::Each(factor)));

    let Into(of_queries, of_weight, of_bias, by_rows) = into;
    let inputs = [Some(h), Some(weight)];
    let given = |name: &str, out: &Maybe<'py>, shape: &[isize]| {
        out.as_ref().map(|out| Output::separate(name, out, Dtype::F32, shape, &inputs)).transpose()
    };
    let (width, count, classes) = (matrix.classes() as isize, count as isize, classes as isize);
    let mut of_queries = given("the gradient of h", &of_queries, &[count, width])?;
    let mut of_weight = given("the gradient of W", &of_weight, &[classes, width])?;
    let mut of_bias = given("the gradient of the bias", &of_bias, &[1, classes])?;
    let (query_frame, class_frame) = (Frame::along_last(&[count, width]), Frame::along_last(&[classes, width]));
    let bias_frame = Frame::along_last(&[1, classes]);
    let mut found = IndexedRows::default();
    let gradients = LinearGradients {
        queries: of(of_queries.as_mut(), &query_frame)?,
        weight: match of(of_weight.as_mut(), &class_frame)? {
            Some(into) => WeightGradient::Dense(into),
            None if by_rows => WeightGradient::Rows(&mut found),
            None => WeightGradient::Nothing,
        },
        bias: of(of_bias.as_mut(), &bias_frame)?,
    };
    let mut losses = vec![0.0; count as usize];
    let scores = LinearScores { queries, weight: matrix, bias };
    let reduced = run(py, PRODUCT * (count * classes * width) as f64, |interrupt| {
        let mut options = Options::default().temperature(temperature);
        options = mask.as_ref().map_or(options, |mask| options.mask(mask));
        options = interrupt.map_or(options, |interrupt| options.interrupt(interrupt));
        computed(kind, scores, target, &options, &how, &mut losses, gradients)
    })?;
    let losses = vector(py, Dtype::F64, &losses)?;
    if !by_rows {
        return Ok((reduced, losses, None));
    }
    let shape = [found.indices.len() as isize, width];
    let values = Output::new(py, Dtype::F32, &shape)?.fill(&found.values).into_object()?;
    Ok((reduced, losses, Some((vector(py, Dtype::I64, &found.indices)?, values))))
}

/// The rows of an array that is there.
fn of<'a>(out: Option<&'a mut Output<'_>>, frame: &Frame) -> PyResult<Option<RowsMut<'a, f32>>> {
    out.map(|out| out.rows_mut::<f32>(frame, Along::Classes)).transpose()
}
