//! The gradient of a matrix of which a loss touches few rows: sums of other rows times slopes.
//!
//! Order. The sum of a row is one chain of fused multiply-adds over its terms in their order, so its bits hang on neither
//! threads nor how they were found.

use super::products::{AddRows, Terms};
use crate::error::{Error, Result};
use crate::rows::{Chunks, Places, RowsMut};
use crate::simd::{Isa, Kernel, Level, dispatch};
use crate::threads::{Job, for_each_piece};
use std::ops::Range;

/// Nanoseconds of a multiplication and addition.
const PRODUCT: f64 = 0.1;
/// Rows that are summed between two looks at what is left.
const TOGETHER: usize = 64;

/// Which rows of a matrix a loss touches, and what their gradients are made of.
#[derive(Debug, Default)]
pub struct Touched {
    /// The rows, ascending.
    pub rows: Vec<i64>,
    starts: Vec<usize>,
    terms: Vec<Term>,
    /// Rows that follow the queries: what terms beyond them add.
    sums: Vec<f32>,
}

/// The slope of a loss in the score of a row and a query.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Term {
    row: u32,
    query: u32,
    slope: f32,
    /// What the numbers of the query are multiplied by.
    times: f32,
}

impl Term {
    pub(crate) fn new(row: usize, query: usize, slope: f32) -> Self {
        Self { row: row as u32, query: query as u32, slope, times: slope }
    }

    /// Several queries' slopes, whose products are summed already, in a row behind the queries.
    pub(crate) fn of_sum(row: usize, place: usize, slope: f32) -> Self {
        Self { times: 1.0, ..Self::new(row, place, slope) }
    }
}

impl Touched {
    /// Of terms, those of a row in the order of queries; those of queries that do not exist add rows of `sums`.
    pub(crate) fn new(terms: Vec<Term>, sums: Vec<f32>) -> Self {
        let terms = sorted(terms);
        let (mut rows, mut starts) = (Vec::new(), Vec::new());
        for (at, term) in terms.iter().enumerate() {
            let row = i64::from(term.row);
            if rows.last() != Some(&row) {
                rows.push(row);
                starts.push(at);
            }
        }
        starts.push(terms.len());
        Self { rows, starts, terms, sums }
    }

    /// The gradients of the rows, for the same queries: one after the other, in the order of `rows`.
    pub fn rows_into(
        &self,
        queries: &[f32],
        width: usize,
        into: RowsMut<'_, f32>,
        interrupt: Option<&(dyn Fn() -> bool + Sync)>,
    ) -> Result<()> {
        into.expect("the gradient of rows", self.rows.len(), width)?;
        if self.rows.is_empty() {
            return Ok(());
        }
        let into = into.into_line().ok_or(Error::Contiguous { what: "the gradient of rows" })?;
        let (count, level) = (self.rows.len(), Level::active());
        let row_cost = PRODUCT * (self.terms.len() * width * TOGETHER) as f64 / count as f64;
        let job = Job { rows: count.div_ceil(TOGETHER), row_cost, together: 1, interrupt };
        let view = Chunks::new(RowsMut::new(into, count * width)?, TOGETHER * width);
        for_each_piece(job, view, |parts, mut view| {
            for part in parts {
                let rows = part * TOGETHER..count.min((part + 1) * TOGETHER);
                let sums = view.place(part, rows.start * width, rows.end * width, &mut []);
                dispatch(level, Sums { touched: self, queries, rows, width, sums });
            }
            Ok(())
        })
    }

    fn terms_of(&self, row: usize) -> &[Term] {
        &self.terms[self.starts[row]..self.starts[row + 1]]
    }

    /// For each row the sum of its slopes: the gradient of what was added to its scores.
    pub fn biases(&self) -> Vec<f32> {
        let sum = |row| self.terms_of(row).iter().map(|term| f64::from(term.slope)).sum::<f64>() as f32;
        (0..self.rows.len()).map(sum).collect()
    }
}

/// Terms by rows, those of a row in the order of queries, of one query as they were: by digits, from the lowest (Hollerith 1889).
fn sorted(mut terms: Vec<Term>) -> Vec<Term> {
    const DIGIT: u32 = 11;
    if terms.len() < 1 << DIGIT {
        terms.sort_by_key(|term| (term.row, term.query));
        return terms;
    }
    if !terms.is_sorted_by_key(|term| term.query) {
        terms.sort_by_key(|term| term.query);
    }
    let highest = terms.iter().map(|term| term.row).max().unwrap_or(0);
    let mut other = vec![Term::default(); terms.len()];
    for shift in (0..u32::BITS).step_by(DIGIT as usize).take_while(|&shift| shift == 0 || highest >> shift > 0) {
        let digit = |term: &Term| (term.row >> shift) as usize & ((1 << DIGIT) - 1);
        let mut places = [0; 1 << DIGIT];
        terms.iter().for_each(|term| places[digit(term)] += 1);
        let mut next = 0;
        for place in &mut places {
            next += std::mem::replace(place, next);
        }
        for term in &terms {
            let place = &mut places[digit(term)];
            other[*place] = *term;
            *place += 1;
        }
        std::mem::swap(&mut terms, &mut other);
    }
    terms
}

/// The gradients of some rows.
struct Sums<'k> {
    touched: &'k Touched,
    queries: &'k [f32],
    rows: Range<usize>,
    width: usize,
    sums: &'k mut [f32],
}

/// The terms of a row, with the numbers that they multiply.
struct TermsOf<'k> {
    terms: &'k [Term],
    queries: &'k [f32],
    /// What follows the queries.
    more: &'k [f32],
    width: usize,
}

impl Terms for TermsOf<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.terms.len()
    }
    #[inline(always)]
    fn get(&self, index: usize) -> (&[f32], f32) {
        let term = &self.terms[index];
        let from = term.query as usize * self.width;
        let (numbers, from) = match from.checked_sub(self.queries.len()) {
            Some(from) => (self.more, from),
            None => (self.queries, from),
        };
        (&numbers[from..from + self.width], term.times)
    }
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { touched, queries, rows, width, sums } = self;
        for (row, sum) in rows.zip(sums.chunks_exact_mut(width)) {
            let terms = &TermsOf { terms: touched.terms_of(row), queries, more: &touched.sums, width };
            sum.fill(0.0);
            AddRows { terms, sum }.run(isa);
        }
    }
}
