//! The class matrix of a head: a row a class, as it is stored.

use super::dots::{Dots, Factors, Lines, Tiles};
use super::numbers::Numbers;
use super::queries::{Levels, Line, Queries};
use crate::rows::Rows;
use crate::simd::{Level, dispatch};
use half::{bf16, f16};
use std::ops::Range;

/// A matrix with a row for each class, in the type that it is stored in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Weights<'a> {
    /// f32.
    F32(Rows<'a, f32>),
    /// f16, widened in registers.
    F16(Rows<'a, f16>),
    /// bf16, widened in registers.
    Bf16(Rows<'a, bf16>),
    /// Codes of 8 bits, in units of a scale a class: see [`super::quantize`]. Queries are rounded to 8 bits too.
    Int8 {
        /// -127 to 127.
        codes: Rows<'a, i8>,
        /// A number a class.
        scales: &'a [f32],
    },
}

/// What is done with the matrix in the type that it has.
macro_rules! with_rows {
    ($weights:expr, $rows:ident => $call:expr) => {
        match $weights {
            Weights::F32($rows) => $call,
            Weights::F16($rows) => $call,
            Weights::Bf16($rows) => $call,
            Weights::Int8 { codes: $rows, .. } => $call,
        }
    };
}

impl Weights<'_> {
    /// The number of classes.
    pub fn classes(&self) -> usize {
        with_rows!(self, rows => rows.rows())
    }

    /// The length of each row, and of queries.
    pub fn width(&self) -> usize {
        with_rows!(self, rows => rows.classes())
    }

    /// Bytes of a row.
    pub(super) fn row_bytes(&self) -> usize {
        with_rows!(self, rows => bytes(rows))
    }

    /// The queries `group` of a view, as this type of rows takes them.
    pub(super) fn prepared(&self, queries: &Rows<'_, f32>, group: Range<usize>) -> Prepared {
        let (from, count) = (group.start, group.len());
        match self {
            Self::F32(_) | Self::F16(_) => Prepared::Lines(Queries::new(queries, from, count, false)),
            Self::Bf16(_) => Prepared::Lines(Queries::new(queries, from, count, true)),
            Self::Int8 { .. } => Prepared::Levels(Queries::in_levels(queries, from, count)),
        }
    }

    /// Scores of the classes `classes`, at most a tile, for queries prepared by the same matrix; `copied` is room for rows that do
    /// not lie in line.
    pub(super) fn scores(
        &self,
        level: Level,
        classes: Range<usize>,
        queries: &Prepared,
        bias: Option<&[f32]>,
        copied: &mut Copied,
        scores: &mut Tiles,
    ) {
        let (first, count) = (classes.start, classes.len());
        match (self, queries) {
            (Self::F32(rows), Prepared::Lines(queries)) => {
                tile(level, rows, Factors { queries, first, count, scales: None, bias }, &mut copied.f32, scores);
            }
            (Self::F16(rows), Prepared::Lines(queries)) => {
                tile(level, rows, Factors { queries, first, count, scales: None, bias }, &mut copied.f16, scores);
            }
            (Self::Bf16(rows), Prepared::Lines(queries)) => {
                tile(level, rows, Factors { queries, first, count, scales: None, bias }, &mut copied.bf16, scores);
            }
            (Self::Int8 { codes, scales: each }, Prepared::Levels(queries)) => {
                let scales = Some(&each[classes]);
                tile(level, codes, Factors { queries, first, count, scales, bias }, &mut copied.i8, scores);
            }
            _ => unreachable!("queries are prepared by the matrix that they meet"),
        }
    }
}

fn bytes<T>(rows: &Rows<'_, T>) -> usize {
    rows.classes() * size_of::<T>()
}

/// Queries in the form that a type of rows takes.
pub(super) enum Prepared {
    Lines(Queries<Line>),
    Levels(Queries<Levels>),
}

impl Prepared {
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Lines(queries) => queries.count(),
            Self::Levels(queries) => queries.count(),
        }
    }
}

/// Room for the rows of a tile, of whichever type they are.
#[derive(Default)]
pub(super) struct Copied {
    f32: Vec<f32>,
    f16: Vec<f16>,
    bf16: Vec<bf16>,
    i8: Vec<i8>,
}

fn tile<W: Numbers>(
    level: Level,
    rows: &Rows<'_, W>,
    factors: Factors<'_, W::Line>,
    copied: &mut Vec<W>,
    scores: &mut Tiles,
) {
    let width = rows.classes();
    if let Some((data, pitch)) = rows.lines() {
        return dispatch(level, Dots { lines: Lines { data, pitch, width }, factors, scores });
    }
    let Factors { first, count, .. } = factors;
    copied.clear();
    copied.resize(count * width, W::default());
    for (row, place) in (first..first + count).zip(copied.chunks_mut(width.max(1))) {
        rows.copy_into(row, 0, place);
    }
    let lines = Lines { data: copied, pitch: width, width };
    dispatch(level, Dots { lines, factors: Factors { first: 0, ..factors }, scores });
}
