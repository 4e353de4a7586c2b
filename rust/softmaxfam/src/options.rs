//! What every map takes besides its scores: temperature, mask, interrupt.

use crate::error::{Error, Result};
use crate::rows::Rows;

/// A parameter that is the same for all rows, or one number for each row.
#[derive(Clone, Copy, Debug)]
pub enum PerRow<'a> {
    /// One value for all rows.
    Same(f64),
    /// A value for each row: a view of as many rows, of one class.
    Each(&'a Rows<'a, f64>),
}

impl PerRow<'_> {
    #[inline]
    pub(crate) fn of(&self, row: usize) -> f64 {
        match self {
            Self::Same(value) => *value,
            Self::Each(values) => values.get(row, 0),
        }
    }

    /// Checks the shape and every value before anything is written.
    pub(crate) fn check(&self, what: &'static str, rows: usize, valid: impl Fn(f64) -> Result<()>) -> Result<()> {
        match self {
            Self::Same(value) => valid(*value),
            Self::Each(values) => {
                values.expect(what, rows, 1)?;
                (0..rows).try_for_each(|row| valid(values.get(row, 0)))
            }
        }
    }
}

impl From<f64> for PerRow<'_> {
    fn from(value: f64) -> Self {
        Self::Same(value)
    }
}

/// Options shared by the maps. The default: temperature 1, every class present, no interrupt.
///
/// ```
/// let options = softmaxfam::Options::default().temperature(0.5);
/// ```
#[derive(Clone, Copy)]
pub struct Options<'a> {
    pub(crate) temperature: PerRow<'a>,
    pub(crate) mask: Option<&'a Rows<'a, u8>>,
    pub(crate) interrupt: Option<&'a (dyn Fn() -> bool + Sync)>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { temperature: PerRow::Same(1.0), mask: None, interrupt: None }
    }
}

impl<'a> Options<'a> {
    /// The scores are divided by this: finite and > 0, one number or one for each row.
    pub fn temperature(self, temperature: impl Into<PerRow<'a>>) -> Self {
        Self { temperature: temperature.into(), ..self }
    }

    /// A view of the same rows and classes as the scores; where it holds 0 the class is absent.
    pub fn mask(self, mask: &'a Rows<'a, u8>) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// Asked now and then, from any thread, whether to stop with [`Error::Interrupted`].
    pub fn interrupt(self, interrupt: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { interrupt: Some(interrupt), ..self }
    }

    pub(crate) fn check<E>(&self, scores: &Rows<'_, E>) -> Result<()> {
        self.check_shape(scores.rows(), scores.classes())
    }

    pub(crate) fn check_shape(&self, rows: usize, classes: usize) -> Result<()> {
        self.temperature.check("temperature", rows, |given| {
            if given > 0.0 && given.is_finite() { Ok(()) } else { Err(Error::Temperature { given }) }
        })?;
        self.mask.map_or(Ok(()), |mask| mask.expect("mask", rows, classes))
    }
}
