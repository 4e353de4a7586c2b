//! Where gradients go: nowhere, to dense rows, or to lists of what is not 0.

use super::Entries;
use crate::maps::strips::{Rounded, STRIP};
use crate::rows::{Places, RowsMut};
use crate::simd::{Element, Isa, Kernel, Lanes, LanesOf, Level, Real, dispatch};
use half::{bf16, f16};

/// Elements, of which some are the type that they are computed in.
pub trait AsReal: Element {
    /// The slice itself, if that type is its own.
    fn as_real(slice: &[Self]) -> Option<&[Self::Real]>;
    /// As [`Self::as_real`], to write.
    fn as_real_mut(slice: &mut [Self]) -> Option<&mut [Self::Real]>;
}

macro_rules! as_real {
    ($($type:ty => $some:expr, $some_mut:expr;)*) => {
        $(impl AsReal for $type {
            fn as_real(slice: &[Self]) -> Option<&[Self::Real]> {
                $some(slice)
            }
            fn as_real_mut(slice: &mut [Self]) -> Option<&mut [Self::Real]> {
                $some_mut(slice)
            }
        })*
    };
}
as_real! {
    f32 => Some, Some;
    f64 => Some, Some;
    f16 => |_| None, |_| None;
    bf16 => |_| None, |_| None;
}

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
pub(super) struct Gradients<'a, E: Element> {
    level: Level,
    to: To<'a, E>,
}

enum To<'a, E: Element> {
    /// Nobody asked.
    Nothing,
    /// Rows, and room for a part of one that is not in line.
    Dense(RowsMut<'a, E>, Box<[E]>),
    /// What is not 0, in ascending order of classes.
    Sparse(RowsMut<'a, Entries<E>>, Entries<E>),
}

impl<'a, E: AsReal> Gradients<'a, E> {
    pub(super) fn new(level: Level, dense: Option<RowsMut<'a, E>>, sparse: Option<RowsMut<'a, Entries<E>>>) -> Self {
        let to = match (dense, sparse) {
            (Some(rows), _) => {
                let room = if rows.is_in_line() { 0 } else { STRIP.min(rows.classes()) };
                To::Dense(rows, vec![E::ZERO; room].into())
            }
            (None, Some(rows)) => To::Sparse(rows, Vec::new()),
            (None, None) => To::Nothing,
        };
        Self { level, to }
    }

    /// Room for a whole row in the type computed in: its place itself, or `buffer`; None where nobody asked for it.
    pub(super) fn reals<'b>(&'b mut self, row: usize, buffer: &'b mut Vec<E::Real>) -> Option<&'b mut [E::Real]> {
        let To::Dense(rows, _) = &mut self.to else { return None };
        let classes = rows.classes();
        if rows.is_in_line() && E::as_real_mut(&mut []).is_some() {
            return E::as_real_mut(rows.place(row, 0, classes, &mut []));
        }
        buffer.resize(classes, E::Real::ZERO);
        Some(buffer)
    }

    /// Brings what was written to the `buffer` of [`Self::reals`] to its place.
    pub(super) fn settle_reals(&mut self, row: usize, buffer: &[E::Real]) {
        let To::Dense(rows, room) = &mut self.to else { return };
        if rows.is_in_line() && E::as_real_mut(&mut []).is_some() {
            return;
        }
        for (values, from) in buffer.chunks(STRIP).zip((0..).step_by(STRIP)) {
            let to = from + values.len();
            dispatch(self.level, Narrowed { values, target: rows.place(row, from, to, room) });
            rows.settle(row, from, to, room);
        }
    }
}

impl<E: AsReal> Sink for Gradients<'_, E> {
    fn is_asked_for(&self) -> bool {
        !matches!(self.to, To::Nothing)
    }

    fn fill(&mut self, row: usize, classes: usize, value: f64) {
        match &mut self.to {
            To::Nothing => {}
            To::Dense(rows, _) => rows.fill(row, E::of_f64_once(value)),
            To::Sparse(rows, _) if value == 0.0 => rows.set(row, 0, Vec::new()),
            To::Sparse(rows, _) => {
                rows.set(row, 0, (0..classes as i64).map(|class| (class, E::of_f64_once(value))).collect());
            }
        }
    }

    fn list(&mut self, row: usize, entries: &[(u32, f64)]) {
        match &mut self.to {
            To::Nothing => {}
            To::Dense(rows, _) => {
                rows.fill(row, E::ZERO);
                for &(class, value) in entries {
                    rows.set(row, class as usize, E::of_f64_once(value));
                }
            }
            To::Sparse(rows, _) => {
                let found = entries.iter().filter(|entry| entry.1 != 0.0);
                rows.set(row, 0, found.map(|&(class, value)| (class.into(), E::of_f64_once(value))).collect());
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
                entries.extend(found.map(|(class, &value)| (class, E::of_f64_once(value))));
            }
        }
    }

    fn finish(&mut self, row: usize) {
        if let To::Sparse(rows, entries) = &mut self.to {
            rows.set(row, 0, std::mem::take(entries));
        }
    }
}

/// Numbers of the type computed in, rounded to elements.
struct Narrowed<'k, E: Element> {
    values: &'k [E::Real],
    target: &'k mut [E],
}

impl<E: Element> Kernel for Narrowed<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (lanes, n) = (E::Real::lanes(isa), LanesOf::<I, E>::N);
        for (values, target) in self.values.chunks(n).zip(self.target.chunks_mut(n)) {
            E::store_part(isa, lanes.load_or(values, E::Real::ZERO), target);
        }
    }
}

/// Elements as the type computed in.
pub(super) struct Widened<'k, E: Element> {
    pub(super) scores: &'k [E],
    pub(super) target: &'k mut [E::Real],
}

impl<E: Element> Kernel for Widened<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (lanes, n) = (E::Real::lanes(isa), LanesOf::<I, E>::N);
        for (scores, target) in self.scores.chunks(n).zip(self.target.chunks_mut(n)) {
            lanes.store_part(E::load_or(isa, scores, E::ZERO), target);
        }
    }
}
