//! Which axes of the scores are classes, and where any other array of the call lies along them.

use crate::list::List;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

/// Lengths and strides, in elements, of the axes that make rows, and of those that make classes.
pub(crate) struct Placement {
    pub(crate) batch: List<(usize, isize)>,
    pub(crate) classes: List<(usize, isize)>,
}

/// What an array has in place of the class axes of the scores.
#[derive(Clone, Copy)]
pub(crate) enum Along {
    /// The classes themselves.
    Classes,
    /// Axes of length 1.
    One,
    /// One axis of this length, in place of a single class axis.
    Length(usize),
    /// Nothing: the axes are dropped.
    Dropped,
}

/// The axes of the scores, each a row axis or a class axis. A 0-d array counts as one class.
pub(crate) struct Frame {
    shape: List<isize>,
    is_class: List<bool>,
    is_scalar: bool,
}

impl Frame {
    /// With one class axis, as most functions have it.
    pub(crate) fn along_one(name: &str, shape: &[isize], axis: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut frame = Self::rows_only(shape);
        let axis: isize =
            axis.extract().map_err(|_| PyTypeError::new_err(format!("axis is {}, must be an int", represent(axis))))?;
        frame.mark(name, axis)?;
        Ok(frame)
    }

    /// With one, several or, for None, all axes as class axes.
    pub(crate) fn along_any(name: &str, shape: &[isize], axis: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut frame = Self::rows_only(shape);
        if let Ok(axis) = axis.extract::<isize>() {
            frame.mark(name, axis)?;
        } else if axis.is_none() {
            frame.is_class = frame.shape.iter().map(|_| true).collect();
        } else if axis.is_instance_of::<PyTuple>() || axis.is_instance_of::<PyList>() {
            let axes: Vec<isize> = axis.extract()?;
            axes.into_iter().try_for_each(|axis| frame.mark(name, axis))?;
        } else {
            let message = format!("axis is {}, must be an int, a tuple of ints or None", represent(axis));
            return Err(PyTypeError::new_err(message));
        }
        Ok(frame)
    }

    /// All axes as class axes: one row.
    pub(crate) fn one_row(shape: &[isize]) -> Self {
        let frame = Self::rows_only(shape);
        Self { is_class: frame.shape.iter().map(|_| true).collect(), ..frame }
    }

    /// The last axis as class axis.
    pub(crate) fn along_last(shape: &[isize]) -> Self {
        let frame = Self::rows_only(shape);
        let last = frame.shape.len() - 1;
        Self { is_class: (0..=last).map(|axis| axis == last).collect(), ..frame }
    }

    fn rows_only(shape: &[isize]) -> Self {
        let is_scalar = shape.is_empty();
        let shape: List<isize> = if is_scalar { [1].into_iter().collect() } else { shape.iter().copied().collect() };
        Self { is_class: shape.iter().map(|_| false).collect(), shape, is_scalar }
    }

    fn mark(&mut self, name: &str, axis: isize) -> PyResult<()> {
        let count = self.shape.len() as isize;
        if axis < -count || axis >= count {
            return Err(PyValueError::new_err(format!(
                "axis is {axis}, must lie in [{}, {}] for {name} of shape {}",
                -count,
                count - 1,
                tuple(if self.is_scalar { &[] } else { &self.shape }),
            )));
        }
        let axis = axis.rem_euclid(count);
        let before = self.is_class[axis as usize];
        self.is_class = (0..count).map(|other| other == axis || self.is_class[other as usize]).collect();
        if before {
            return Err(PyValueError::new_err(format!("axis names axis {axis} twice, must name each once")));
        }
        Ok(())
    }

    /// The number of classes of each row.
    pub(crate) fn classes(&self) -> usize {
        self.shape.iter().zip(&*self.is_class).filter(|axis| *axis.1).map(|axis| *axis.0 as usize).product()
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.shape.iter().zip(&*self.is_class).filter(|axis| !*axis.1).map(|axis| *axis.0 as usize).product()
    }

    /// The shape of an array that has `along` in place of the class axes.
    pub(crate) fn shape(&self, along: Along) -> List<isize> {
        if self.is_scalar && matches!(along, Along::Classes | Along::One) {
            return List::new();
        }
        self.lengths(along).collect()
    }

    fn lengths(&self, along: Along) -> impl Iterator<Item = isize> {
        self.shape.iter().zip(&*self.is_class).filter_map(move |(&length, &is_class)| match along {
            Along::Classes => Some(length),
            _ if !is_class => Some(length),
            Along::One => Some(1),
            Along::Length(length) => Some(length as isize),
            Along::Dropped => None,
        })
    }

    /// Where the rows and classes lie in an array of this shape and these strides (in elements), by NumPy's rules of
    /// broadcasting; None if it does not broadcast to `self.shape(along)`.
    pub(crate) fn place(&self, shape: &[isize], strides: &[isize], along: Along) -> Option<Placement> {
        let lengths: List<isize> = self.lengths(along).collect();
        let missing = lengths.len().checked_sub(shape.len())?;
        let mut is_class =
            self.is_class.iter().copied().filter(|is_class| !(matches!(along, Along::Dropped) && *is_class));
        let mut placement = Placement { batch: List::new(), classes: List::new() };
        for (axis, &length) in lengths.iter().enumerate() {
            let stride = match axis.checked_sub(missing).map(|own| (shape[own], strides[own])) {
                None | Some((1, _)) => 0,
                Some((own, stride)) if own == length => stride,
                Some(_) => return None,
            };
            let axes = if is_class.next()? { &mut placement.classes } else { &mut placement.batch };
            axes.push((length as usize, stride));
        }
        Some(placement)
    }
}

/// A shape as Python writes it.
pub(crate) fn tuple(shape: &[isize]) -> String {
    match shape {
        [length] => format!("({length},)"),
        _ => format!("({})", shape.iter().map(isize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn represent(object: &Bound<'_, PyAny>) -> String {
    object.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string())
}
