//! Samplers: a proposal as a Python object, draws from it, and draws from scores.

use crate::borrow::{Array, Output, View};
use crate::call::{Asked, Call, EXPONENTIAL, run};
use crate::dtype::{Dtype, Native, for_float};
use crate::frame::{Along, Frame};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use softmaxfam::samplers::{self, AliasTable, Distinct, Draws, LogUniform, Stream, Uniform};
use softmaxfam::{Error, Rows};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Proposal>()?;
    module.add_function(wrap_pyfunction!(sample_scores, module)?)
}

/// Nanoseconds of a draw, and of a class in building a table.
const DRAW: f64 = 4.0;
const BUILD: f64 = 10.0;

/// Seed, key and position.
type Place = (u64, u64, u64);
/// An array, or nothing in its place.
type Maybe<'py> = Option<Bound<'py, PyAny>>;

/// The law of a sampler; it never changes.
#[pyclass(frozen, module = "softmaxfam_rs._core")]
struct Proposal(samplers::Proposal);

#[pymethods]
impl Proposal {
    /// The law proportional to weights^power.
    #[staticmethod]
    #[pyo3(signature = (weights, power, /))]
    fn alias(weights: &Bound<'_, PyAny>, power: f64) -> PyResult<Self> {
        let array = Array::numbers("weights", weights)?;
        let weights = plain::<f64>("weights", &array)?;
        let work = BUILD * weights.len() as f64;
        let table = run(array.py(), work, |interrupt| AliasTable::new(weights, power, interrupt))?;
        Ok(Self(samplers::Proposal::Alias(table)))
    }

    /// The law of a table, given its slots.
    #[staticmethod]
    #[pyo3(signature = (slots, /))]
    fn of_slots(slots: &Bound<'_, PyAny>) -> PyResult<Self> {
        let array = Array::native(slots).ok_or_else(|| PyValueError::new_err("slots must be an array of int64"))?;
        let words: Vec<u64> = plain::<i64>("slots", &array)?.iter().map(|slot| slot.cast_unsigned()).collect();
        let table = run(array.py(), BUILD * words.len() as f64, |interrupt| AliasTable::from_slots(&words, interrupt))?;
        Ok(Self(samplers::Proposal::Alias(table)))
    }

    /// Every class alike.
    #[staticmethod]
    #[pyo3(signature = (classes, /))]
    fn uniform(classes: usize) -> PyResult<Self> {
        Ok(Self(samplers::Proposal::Uniform(Uniform::new(classes).map_err(refused)?)))
    }

    /// The log-uniform law.
    #[staticmethod]
    #[pyo3(signature = (classes, /))]
    fn log_uniform(classes: usize) -> PyResult<Self> {
        Ok(Self(samplers::Proposal::LogUniform(LogUniform::new(classes).map_err(refused)?)))
    }

    /// The slots of an alias table.
    fn slots<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let samplers::Proposal::Alias(table) = &self.0 else {
            return Err(PyValueError::new_err("this proposal has no table"));
        };
        let slots: Vec<i64> = table.slots().iter().map(|slot| slot.cast_signed()).collect();
        Output::new(py, Dtype::I64, &[slots.len() as isize])?.fill(&slots).into_object()
    }

    /// The number of classes.
    fn classes(&self) -> usize {
        self.0.classes()
    }

    /// The number of classes that can be drawn.
    fn positive(&self) -> usize {
        self.0.positive()
    }

    /// The memory held by a table, in bytes.
    fn nbytes(&self) -> usize {
        if let samplers::Proposal::Alias(table) = &self.0 { table.bytes() } else { 0 }
    }

    /// log q of some classes.
    #[pyo3(signature = (ids, /))]
    fn logq<'py>(&self, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let ids = integers("ids", ids)?;
        let frame = Frame::one_row(ids.shape());
        let mut logq = Output::new(ids.py(), Dtype::F32, ids.shape())?;
        let (py, work) = (ids.py(), DRAW * frame.classes() as f64);
        let view = ids.view::<i64>("ids", &frame, Along::Classes)?;
        let (rows, mut out) = (view.rows(), logq.rows_mut(&frame, Along::Classes)?);
        run(py, work, |_| samplers::logq(&self.0, rows, &mut out))?;
        drop(out);
        logq.into_object()
    }

    /// Draws of a shape, and their log q where it is wanted; `ids` and `logq` are arrays to write, or None for new ones.
    #[pyo3(signature = (place, shape, narrow, ids, with_logq, logq, exclude, /))]
    #[expect(clippy::too_many_arguments, reason = "the front end fills in every argument")]
    fn sample<'py>(
        &self,
        py: Python<'py>,
        place: Place,
        shape: Vec<isize>,
        narrow: bool,
        ids: Maybe<'py>,
        with_logq: bool,
        logq: Maybe<'py>,
        exclude: Maybe<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Maybe<'py>)> {
        let stream = stream(place)?;
        let frame = Frame::one_row(&shape);
        let dtype = if narrow { Dtype::I32 } else { Dtype::I64 };
        let mut ids_out = output("ids", py, &ids, dtype, &shape, &[logq.as_ref(), exclude.as_ref()])?;
        let mut logq_out =
            with_logq.then(|| output("logq", py, &logq, Dtype::F32, &shape, &[exclude.as_ref()])).transpose()?;
        let excluded = exclude.as_ref().map(|given| excluded(given)).transpose()?;
        let work = DRAW * frame.classes() as f64;
        macro_rules! drawn {
            ($id:ty) => {{
                let mut ids = ids_out.rows_mut::<$id>(&frame, Along::Classes)?;
                let mut logq = logq_out.as_mut().map(|logq| logq.rows_mut(&frame, Along::Classes)).transpose()?;
                let excluded = excluded.as_ref().map(View::rows);
                run(py, work, |interrupt| {
                    let draws = draws(excluded, interrupt);
                    samplers::sample(&self.0, stream, &mut ids, logq.as_mut(), &draws)
                })?
            }};
        }
        if narrow {
            drawn!(i32)
        } else {
            drawn!(i64)
        };
        Ok((ids_out.into_object()?, logq_out.map(Output::into_object).transpose()?))
    }

    /// Distinct draws along the last axis of a shape: ids, their log q, the tries and the threshold of each row.
    #[pyo3(signature = (place, shape, narrow, ids, logq, exclude, /))]
    #[expect(clippy::too_many_arguments, reason = "the front end fills in every argument")]
    #[expect(clippy::type_complexity, reason = "four arrays")]
    fn sample_unique<'py>(
        &self,
        py: Python<'py>,
        place: Place,
        shape: Vec<isize>,
        narrow: bool,
        ids: Maybe<'py>,
        logq: Maybe<'py>,
        exclude: Maybe<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let stream = stream(place)?;
        let frame = Frame::along_last(&shape);
        let dtype = if narrow { Dtype::I32 } else { Dtype::I64 };
        let mut ids_out = output("ids", py, &ids, dtype, &shape, &[logq.as_ref(), exclude.as_ref()])?;
        let mut logq_out = output("logq", py, &logq, Dtype::F32, &shape, &[exclude.as_ref()])?;
        let rows = frame.shape(Along::Dropped);
        let (mut tries, mut thresholds) = (Output::new(py, Dtype::I64, &rows)?, Output::new(py, Dtype::F32, &rows)?);
        let excluded = exclude.as_ref().map(|given| excluded(given)).transpose()?;
        let work = 10.0 * DRAW * (frame.rows() * (frame.classes() + 1)) as f64;
        macro_rules! drawn {
            ($id:ty) => {{
                let distinct = Distinct {
                    ids: ids_out.rows_mut::<$id>(&frame, Along::Classes)?,
                    logq: logq_out.rows_mut(&frame, Along::Classes)?,
                    tries: tries.rows_mut(&frame, Along::Dropped)?,
                    thresholds: thresholds.rows_mut(&frame, Along::Dropped)?,
                };
                let excluded = excluded.as_ref().map(View::rows);
                run(py, work, |interrupt| {
                    let draws = draws(excluded, interrupt);
                    samplers::sample_unique(&self.0, stream, distinct, &draws)
                })?
            }};
        }
        if narrow {
            drawn!(i32)
        } else {
            drawn!(i64)
        };
        Ok((ids_out.into_object()?, logq_out.into_object()?, tries.into_object()?, thresholds.into_object()?))
    }
}

/// Draws from softmax of rows of scores: ids, their log-probabilities, and without replacement the thresholds.
#[pyfunction]
#[pyo3(signature = (scores, m, axis, present, temperature, place, unique, /))]
fn sample_scores<'py>(
    scores: &Bound<'py, PyAny>,
    m: usize,
    axis: &Bound<'py, PyAny>,
    present: &Bound<'py, PyAny>,
    temperature: &Bound<'py, PyAny>,
    place: Place,
    unique: bool,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>, Maybe<'py>)> {
    let stream = stream(place)?;
    let call = Call::along_one("scores", scores, axis)?.with(present, temperature)?;
    let mut ids = call.new_output(Dtype::I64, Along::Length(m))?;
    let mut logq = call.new_output(Dtype::F32, Along::Length(m))?;
    let mut thresholds = unique.then(|| call.new_output(Dtype::F32, Along::Dropped)).transpose()?;
    for_float!(call.dtype(), E => {
        let view = call.view::<E>()?;
        let scores = view.rows();
        let mut ids = ids.rows_mut(&call.frame, Along::Length(m))?;
        let mut logq = logq.rows_mut(&call.frame, Along::Length(m))?;
        let mut thresholds = thresholds.as_mut().map(|out| out.rows_mut(&call.frame, Along::Dropped)).transpose()?;
        call.run(EXPONENTIAL, |options| {
            samplers::sample_scores(scores, stream, options, &mut ids, &mut logq, thresholds.as_mut())
        })?;
    });
    Ok((ids.into_object()?, logq.into_object()?, thresholds.map(Output::into_object).transpose()?))
}

fn refused(error: Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn stream((seed, key, position): Place) -> PyResult<Stream> {
    Stream::new(seed, key).at(position).map_err(refused)
}

fn plain<'a, T: Native>(name: &str, array: &'a Array<'_>) -> PyResult<&'a [T]> {
    array.slice().ok_or_else(|| PyValueError::new_err(format!("{name} must be a contiguous array")))
}

fn integers<'py>(name: &str, ids: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
    let array = Array::native(ids).filter(|array| array.dtype() == Dtype::I64);
    array.ok_or_else(|| PyValueError::new_err(format!("{name} must be an array of int64")))
}

fn excluded<'py>(given: &Bound<'py, PyAny>) -> PyResult<View<'py, i64>> {
    let array = integers("exclude", given)?;
    let frame = Frame::along_last(array.shape());
    array.view("exclude", &frame, Along::Classes)
}

fn draws<'a>(exclude: Option<&'a Rows<'a, i64>>, interrupt: Asked<'a>) -> Draws<'a> {
    let mut draws = Draws::default();
    if let Some(exclude) = exclude {
        draws = draws.exclude(exclude);
    }
    if let Some(interrupt) = interrupt {
        draws = draws.interrupt(interrupt);
    }
    draws
}

fn output<'py>(
    name: &str,
    py: Python<'py>,
    given: &Maybe<'py>,
    dtype: Dtype,
    shape: &[isize],
    others: &[Option<&Bound<'py, PyAny>>],
) -> PyResult<Output<'py>> {
    match given {
        Some(given) => Output::separate(name, given, dtype, shape, others),
        None => Output::new(py, dtype, shape),
    }
}
