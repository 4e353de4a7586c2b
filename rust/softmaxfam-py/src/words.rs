//! Skip-gram embeddings of words as a Python object that learns.

use crate::borrow::{Array, Output};
use crate::call::run;
use crate::dtype::Dtype;
use crate::heads::{native, plain, refused};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use softmaxfam::words::{self, BLOCK, Objective, Pass, Settings};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SkipGram>()
}

/// Nanoseconds of a position of the text.
const POSITION: f64 = 500.0;

/// The vectors under way.
#[pyclass(module = "softmaxfam_rs._core")]
struct SkipGram {
    model: words::SkipGram,
    width: usize,
}

#[pymethods]
impl SkipGram {
    /// Positions of the text whose steps are added together.
    #[classattr]
    const BLOCK: usize = BLOCK;

    #[new]
    #[pyo3(signature = (counts, objective, width, window, negatives, power, sample, seed, /))]
    #[expect(clippy::too_many_arguments, reason = "the front end fills in every argument")]
    fn new(
        counts: &Bound<'_, PyAny>,
        objective: &str,
        width: usize,
        window: usize,
        negatives: usize,
        power: f64,
        sample: f64,
        seed: u64,
    ) -> PyResult<Self> {
        let objective = match objective {
            "neg" => Objective::Negatives,
            "nce" => Objective::Nce,
            "sampled-softmax" => Objective::SampledSoftmax,
            "hs" => Objective::Hierarchical,
            other => return Err(PyValueError::new_err(format!("no loss is called {other}"))),
        };
        let array = Array::numbers("counts", counts)?;
        let counts = plain::<f64>("counts", &array)?;
        let settings = Settings { objective, width, window, negatives, power, sample, seed };
        Ok(Self { model: words::SkipGram::new(counts, &settings).map_err(refused)?, width })
    }

    /// Trains on some blocks of a text of int32; returns the pairs and the sum of their losses.
    #[pyo3(signature = (text, first, end, epoch, epochs, rates, limit, /))]
    #[expect(clippy::too_many_arguments, reason = "the front end fills in every argument")]
    fn train(
        &mut self,
        text: &Bound<'_, PyAny>,
        first: usize,
        end: usize,
        epoch: u64,
        epochs: u64,
        rates: [f64; 2],
        limit: f32,
    ) -> PyResult<(u64, f64)> {
        let array = native("text", text, Dtype::I32)?;
        let ids = plain::<i32>("text", &array)?;
        let model = &mut self.model;
        let pass = Pass { epoch, epochs, rates };
        let work = POSITION * (end.saturating_sub(first) * BLOCK) as f64;
        run(text.py(), work, |interrupt| model.train(ids, first..end, pass, limit, interrupt))
    }

    /// The vectors of words as contexts, and those of the outputs.
    fn vectors<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let part = |rows: usize, copy: &dyn Fn(&mut [f32])| {
            let mut numbers = vec![0.0; rows * self.width];
            copy(&mut numbers);
            Output::new(py, Dtype::F32, &[rows as isize, self.width as isize])?.fill(&numbers).into_object()
        };
        let [inputs, outputs] = self.model.rows();
        Ok((part(inputs, &|into| self.model.inputs(into))?, part(outputs, &|into| self.model.outputs(into))?))
    }
}
