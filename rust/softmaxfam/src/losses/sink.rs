//! Where gradients go: nowhere, to dense rows, or to lists of what is not 0.

use super::Entries;
use crate::maps::strips::Rounded;
use crate::rows::{Places, Results, RowsMut};
use crate::simd::{Level, Real, dispatch};

/// Where the gradient of a row goes, for code that exists once for all element types.
pub(super) trait Sink {
    /// Whether anybody wants it.
    fn is_asked_for(&self) -> bool;
    /// All classes of a row alike: NaN or 0.
    fn fill(&mut self, row: usize, classes: usize, value: f64);
    /// A row by what is not 0, in ascending order of classes.
    fn list(&mut self, row: usize, entries: &[(u32, f64)]);
    /// At most [`STRIP`] classes of a row, of which all follow each other; [`Self::finish`] comes after the last.
    fn strip(&mut self, row: usize, from: usize, values: &[f64]);
    /// Ends a row given in strips.
    fn finish(&mut self, row: usize);
}

/// The gradients of some rows, to be written.
pub(super) struct Gradients<'a, R: Real> {
    level: Level,
    to: To<'a, R>,
}

enum To<'a, R: Real> {
    /// Nobody asked.
    Nothing,
    /// Rows, and room for a part of one that is not written where it stays.
    Dense(Results<'a, R>, Box<[R]>),
    /// What is not 0, in ascending order of classes.
    Sparse(RowsMut<'a, Entries>, Entries),
}

impl<'a, R: Real> Gradients<'a, R> {
    pub(super) fn new(level: Level, dense: Option<Results<'a, R>>, sparse: Option<RowsMut<'a, Entries>>) -> Self {
        let to = match (dense, sparse) {
            (Some(rows), _) => {
                let room = rows.buffer();
                To::Dense(rows, room)
            }
            (None, Some(rows)) => To::Sparse(rows, Vec::new()),
            (None, None) => To::Nothing,
        };
        Self { level, to }
    }

    /// Room for a whole row of so many classes in the type computed in: its place itself, or `buffer`; None where nobody asked
    /// for it.
    pub(super) fn reals<'b>(&'b mut self, row: usize, classes: usize, buffer: &'b mut Vec<R>) -> Option<&'b mut [R]> {
        let To::Dense(rows, _) = &mut self.to else { return None };
        if rows.is_in_place() {
            return Some(rows.place(row, 0, classes, &mut []));
        }
        buffer.resize(classes, R::ZERO);
        Some(buffer)
    }

    /// Brings what was written to the `buffer` of [`Self::reals`] to its place.
    pub(super) fn settle_reals(&mut self, row: usize, buffer: &[R]) {
        if let To::Dense(rows, _) = &mut self.to
            && !rows.is_in_place()
        {
            rows.settle(row, 0, buffer.len(), buffer);
        }
    }
}

impl<R: Real> Sink for Gradients<'_, R> {
    fn is_asked_for(&self) -> bool {
        !matches!(self.to, To::Nothing)
    }

    fn fill(&mut self, row: usize, classes: usize, value: f64) {
        match &mut self.to {
            To::Nothing => {}
            To::Dense(rows, _) => rows.fill(row, R::of_f64(value)),
            To::Sparse(rows, _) if value == 0.0 => rows.set(row, 0, Vec::new()),
            To::Sparse(rows, _) => {
                rows.set(row, 0, (0..classes as i64).map(|class| (class, value)).collect());
            }
        }
    }

    fn list(&mut self, row: usize, entries: &[(u32, f64)]) {
        match &mut self.to {
            To::Nothing => {}
            To::Dense(rows, _) => {
                rows.fill(row, R::ZERO);
                entries.iter().for_each(|&(class, value)| rows.set(row, class as usize, value));
            }
            To::Sparse(rows, _) => {
                let found = entries.iter().filter(|entry| entry.1 != 0.0);
                rows.set(row, 0, found.map(|&(class, value)| (class.into(), value)).collect());
            }
        }
    }

    fn strip(&mut self, row: usize, from: usize, values: &[f64]) {
        match &mut self.to {
            To::Nothing => {}
            To::Dense(rows, room) => {
                let to = from + values.len();
                dispatch(self.level, Rounded { values, target: rows.place(row, from, to, room) });
                rows.settle(row, from, to, room);
            }
            To::Sparse(_, entries) => {
                let found = (from as i64..).zip(values).filter(|entry| *entry.1 != 0.0);
                entries.extend(found.map(|(class, &value)| (class, value)));
            }
        }
    }

    fn finish(&mut self, row: usize) {
        if let To::Sparse(rows, entries) = &mut self.to {
            rows.set(row, 0, std::mem::take(entries));
        }
    }
}
