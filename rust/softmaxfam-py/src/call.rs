//! What every function does around its one line of work: options, the GIL, interrupts, errors.

use crate::borrow::{Array, Output, View};
use crate::dtype::{Dtype, Native};
use crate::frame::{Along, Frame};
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt};
use softmaxfam::{Error, Options, PerRow};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, ThreadId};
use std::time::Instant;

/// Estimated work, in nanoseconds, from which the GIL is released: beside a busy Python thread it may take 5 ms to get
/// the GIL back, which less work would not be worth.
const DETACH_FROM: f64 = 100_000.0;
/// How often a long call looks whether the user pressed Ctrl-C, in milliseconds.
const SIGNALS_EVERY: u64 = 50;

/// Estimated nanoseconds of work for each class, on one core of about 2024; a factor of two does not matter.
#[derive(Clone, Copy)]
pub(crate) struct Work(f64);

/// One exponential for each class.
pub(crate) const EXPONENTIAL: Work = Work(0.4);
/// A threshold and a power for each class, in rows of any kind.
pub(crate) const POWER: Work = Work(2.0);

/// The scores (or probabilities) of a call, and which of their axes are classes.
pub(crate) struct Call<'py> {
    pub(crate) scores: Array<'py>,
    pub(crate) frame: Frame,
    temperature: Parameter<'py>,
    mask: Option<View<'py, u8>>,
}

impl<'py> Call<'py> {
    pub(crate) fn new(scores: Array<'py>, frame: Frame) -> Self {
        Self { scores, frame, temperature: Parameter::Same(1.0), mask: None }
    }

    pub(crate) fn with(self, mask: &Bound<'py, PyAny>, temperature: &Bound<'py, PyAny>) -> PyResult<Self> {
        let temperature = self.parameter("temperature", temperature)?;
        let mask = match mask.is_none() {
            true => None,
            false => Some(self.scores.bools_beside("where", mask)?.view("where", &self.frame, Along::Classes)?),
        };
        Ok(Self { temperature, mask, ..self })
    }

    pub(crate) fn at(self, temperature: &Bound<'py, PyAny>) -> PyResult<Self> {
        Ok(Self { temperature: self.parameter("temperature", temperature)?, ..self })
    }

    /// One class axis.
    pub(crate) fn along_one(name: &str, scores: &Bound<'py, PyAny>, axis: &Bound<'_, PyAny>) -> PyResult<Self> {
        let scores = Array::new(name, scores)?;
        let frame = Frame::along_one(name, scores.shape(), axis)?;
        Ok(Self::new(scores, frame))
    }

    /// Any number of class axes.
    pub(crate) fn along_any(name: &str, scores: &Bound<'py, PyAny>, axis: &Bound<'_, PyAny>) -> PyResult<Self> {
        let scores = Array::new(name, scores)?;
        let frame = Frame::along_any(name, scores.shape(), axis)?;
        Ok(Self::new(scores, frame))
    }

    /// A number, or an array with one for each row.
    pub(crate) fn parameter(&self, name: &str, given: &Bound<'py, PyAny>) -> PyResult<Parameter<'py>> {
        if let Ok(number) = given.cast::<PyFloat>() {
            return Ok(Parameter::Same(number.value()));
        }
        if given.is_instance_of::<PyInt>() && !given.is_instance_of::<PyBool>() {
            return Ok(Parameter::Same(given.extract()?));
        }
        Ok(Parameter::Each(self.scores.numbers_beside(name, given)?.view(name, &self.frame, Along::One)?))
    }

    pub(crate) fn py(&self) -> Python<'py> {
        self.scores.py()
    }

    pub(crate) fn dtype(&self) -> Dtype {
        self.scores.dtype()
    }

    /// The scores as the crate reads them.
    pub(crate) fn view<E: Native>(&self) -> PyResult<View<'py, E>> {
        self.scores.clone().view("scores", &self.frame, Along::Classes)
    }

    /// A second input beside the scores, of their dtype.
    pub(crate) fn beside(&self, name: &str, given: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let array = self.scores.beside(name, given)?;
        if array.dtype() == self.dtype() {
            return Ok(array);
        }
        let (given, needed) = (array.dtype().name(), self.dtype().name());
        Err(PyTypeError::new_err(format!(
            "{name} has dtype {given}, must be {needed} as the first argument; convert it"
        )))
    }

    /// An array to write, with `along` in place of the class axes: `out`, or a new one where `out` is None.
    pub(crate) fn output(
        &self,
        out: &Bound<'py, PyAny>,
        along: Along,
        others: &[Option<&Array<'py>>],
    ) -> PyResult<Output<'py>> {
        if !out.is_none() {
            let mask = self.mask.as_ref().map(View::array);
            let others = [&[mask, self.temperature.array()], others].concat();
            return Output::given(out, self.dtype(), &self.frame.shape(along), &self.scores, &others);
        }
        match along {
            Along::Classes => self.output_like_scores(),
            _ => self.new_output(self.dtype(), along),
        }
    }

    /// A new array to write, of the shape of the scores and in their order of axes.
    pub(crate) fn output_like_scores(&self) -> PyResult<Output<'py>> {
        Output::like(&self.scores)
    }

    /// A new array to write, with `along` in place of the class axes.
    pub(crate) fn new_output(&self, dtype: Dtype, along: Along) -> PyResult<Output<'py>> {
        Output::beside(&self.scores, dtype, &self.frame.shape(along))
    }

    /// Does the work, without the GIL if it is long.
    pub(crate) fn run<T: Send>(
        &self,
        work: Work,
        job: impl FnOnce(&Options<'_>) -> softmaxfam::Result<T> + Send,
    ) -> PyResult<T> {
        let mut options = Options::default().temperature(self.temperature.per_row());
        if let Some(mask) = &self.mask {
            options = options.mask(mask.rows());
        }
        let nanoseconds = work.0 * (self.frame.rows() * self.frame.classes()) as f64;
        run(self.py(), nanoseconds, |interrupt| match interrupt {
            Some(interrupt) => job(&options.interrupt(interrupt)),
            None => job(&options),
        })
    }
}

/// What a long job asks now and then.
pub(crate) type Asked<'a> = Option<&'a (dyn Fn() -> bool + Sync)>;

/// Does a job of about so many nanoseconds, without the GIL if it is long.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    nanoseconds: f64,
    job: impl FnOnce(Asked<'_>) -> softmaxfam::Result<T> + Send,
) -> PyResult<T> {
    let (mut job, mut result) = (Some(job), None);
    run_any(py, nanoseconds, &mut |asked| {
        let job = job.take().expect("a job is done once");
        result = Some(job(asked)?);
        Ok(())
    })?;
    Ok(result.expect("the job was done"))
}

/// [`run`] for any job, so that its code exists once.
fn run_any(
    py: Python<'_>,
    nanoseconds: f64,
    job: &mut (dyn FnMut(Asked<'_>) -> softmaxfam::Result<()> + Send),
) -> PyResult<()> {
    if nanoseconds <= DETACH_FROM {
        return caught(|| job(None))?.map_err(|error| PyValueError::new_err(error.to_string()));
    }
    let interrupt = Interrupt::new();
    let asked = || interrupt.asked();
    py.detach(|| caught(|| job(Some(&asked))))?.map_err(|error| interrupt.into_exception(&error))
}

/// A number for all rows, or one for each.
pub(crate) enum Parameter<'py> {
    Same(f64),
    Each(View<'py, f64>),
}

impl<'py> Parameter<'py> {
    pub(crate) fn per_row(&self) -> PerRow<'_> {
        match self {
            Self::Same(number) => PerRow::Same(*number),
            Self::Each(view) => PerRow::Each(view.rows()),
        }
    }

    pub(crate) fn array(&self) -> Option<&Array<'py>> {
        match self {
            Self::Same(_) => None,
            Self::Each(view) => Some(view.array()),
        }
    }
}

/// Turns a panic, which is a bug of ours, into a RuntimeError; PyO3's own exception for it escapes `except Exception`.
fn caught<T>(job: impl FnOnce() -> T) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(job)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("no message");
        PyRuntimeError::new_err(format!(
            "internal error in softmaxfam_rs: {text}; outputs are not valid; please report it with show_config()"
        ))
    })
}

/// Looks for signals during work without the GIL: only on the caller's thread, where Python handles them.
struct Interrupt {
    caller: ThreadId,
    started: Instant,
    next: AtomicU64,
    stop: AtomicBool,
    raised: Mutex<Option<PyErr>>,
}

impl Interrupt {
    fn new() -> Self {
        Self {
            caller: thread::current().id(),
            started: Instant::now(),
            next: AtomicU64::new(SIGNALS_EVERY),
            stop: AtomicBool::new(false),
            raised: Mutex::new(None),
        }
    }

    fn asked(&self) -> bool {
        if self.stop.load(Relaxed) {
            return true;
        }
        let now = self.started.elapsed().as_millis() as u64;
        if now < self.next.load(Relaxed) || thread::current().id() != self.caller {
            return false;
        }
        self.next.store(now + SIGNALS_EVERY, Relaxed);
        let Err(raised) = Python::attach(|py| py.check_signals()) else { return false };
        *self.raised.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(raised);
        self.stop.store(true, Relaxed);
        true
    }

    fn into_exception(self, error: &Error) -> PyErr {
        let raised = self.raised.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        match error {
            Error::Interrupted => raised.unwrap_or_else(|| PyKeyboardInterrupt::new_err(())),
            _ => PyValueError::new_err(error.to_string()),
        }
    }
}
