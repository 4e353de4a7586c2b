//! Rankmax's loss: log(1 + sum_{i != c} [1 + z_i]_+), z_i = (x_i - x_c) / (T margin), c the target (Kong, Krichene, Mayoraz, Rendle,
//! Zhang 2020).
//!
//! With S the sum of the D_i = [1 + z_i]_+, which is 1 for c itself, the gradient is 1/S for the k other classes with D_i > 0 and -k/S
//! for c, over T margin. A class exactly at the margin, D_i = 0, counts as inactive. The sum has terms > 0 only, and z_i + 1 is
//! formed from a difference of scores, so that a class close to the margin keeps its digits.
//! Cost. One read, a second one for the gradient; nothing is sorted.

use super::RowLoss;
use super::fenchel_young::score;
use super::sink::{Gradients, Sink};
use super::target::{OfRow, Wanted};
use crate::maps::entmax::Differences;
use crate::maps::strips::STRIP;
use crate::options::PerRow;
use crate::rows::{BLOCK, Source};
use crate::simd::{Level, Real, dispatch};

/// Time of one class, ns a byte.
pub(super) const COST: f64 = 0.3;
/// Sums that are carried side by side, which processors do at once.
const WAYS: usize = 8;

/// Losses of rows, one after the other.
pub(super) struct Rankmax<'a, R: Real> {
    level: Level,
    source: Source<'a, R>,
    wanted: &'a Wanted<'a>,
    temperature: PerRow<'a>,
    margin: f64,
    buffer: Box<[R]>,
}

impl<'a, R: Real> Rankmax<'a, R> {
    pub(super) fn new(
        level: Level,
        source: Source<'a, R>,
        wanted: &'a Wanted<'a>,
        temperature: PerRow<'a>,
        margin: f64,
    ) -> Self {
        Self { level, source, wanted, temperature, margin, buffer: source.buffer() }
    }

    /// Calls `visit` with the first class of each strip and its 1 + z.
    fn for_each_strip(&mut self, row: usize, own: f64, scale: f64, mut visit: impl FnMut(usize, &mut [f64])) {
        let mut strip = [0.0; STRIP];
        for first in (0..self.source.classes()).step_by(BLOCK) {
            let block = self.source.block(row, first, &mut self.buffer);
            for (scores, from) in block.chunks(STRIP).zip((first..).step_by(STRIP)) {
                let z = &mut strip[..scores.len()];
                dispatch(self.level, Differences { scores, highest: own, temperature: scale, z });
                z.iter_mut().for_each(|z| *z += 1.0);
                visit(from, z);
            }
        }
    }

    /// (sum of [1 + z]_+, how many are positive) over the classes but `class`, of a finite score; the sum is NaN or infinite in an
    /// undefined row.
    fn active(&mut self, row: usize, class: usize, own: f64, scale: f64) -> (f64, f64) {
        let (mut sum, mut count) = (0.0, 0.0);
        self.for_each_strip(row, own, scale, |from, above| {
            if let Some(above) = class.checked_sub(from).and_then(|at| above.get_mut(at)) {
                *above = 0.0;
            }
            let (mut sums, mut counts) = ([0.0; WAYS], [0.0; WAYS]);
            for above in above.chunks(WAYS) {
                for ((sum, count), &above) in sums.iter_mut().zip(&mut counts).zip(above) {
                    let is_inactive = above <= 0.0; // NaN counts
                    *sum += if is_inactive { 0.0 } else { above };
                    *count += if is_inactive { 0.0 } else { 1.0 };
                }
            }
            sum += sums.iter().sum::<f64>();
            count += counts.iter().sum::<f64>();
        });
        (sum, count)
    }

    /// Whether a row whose target is absent has no loss either: it holds NaN or +inf, or nothing at all.
    fn is_undefined(&mut self, row: usize) -> bool {
        let mut highest = f64::NEG_INFINITY;
        let mut has_nan = false;
        for first in (0..self.source.classes()).step_by(BLOCK) {
            for score in self.source.block(row, first, &mut self.buffer) {
                let score: f64 = (*score).into();
                has_nan |= score.is_nan();
                highest = highest.max(score);
            }
        }
        has_nan || highest.is_infinite()
    }
}

impl<R: Real> RowLoss<R> for Rankmax<'_, R> {
    fn row(&mut self, row: usize, sink: &mut Gradients<'_, R>) -> f64 {
        let classes = self.source.classes();
        let OfRow::Class(class, weight) = self.wanted.of(row) else {
            sink.fill(row, classes, 0.0);
            return 0.0;
        };
        let (own, scale) = (score(&self.source, row, class), self.temperature.of(row) * self.margin);
        if own == f64::NEG_INFINITY && !self.is_undefined(row) {
            sink.fill(row, classes, 0.0); // the limit
            return f64::INFINITY;
        }
        let (sum, count) = if own.is_finite() { self.active(row, class, own, scale) } else { (f64::NAN, 0.0) };
        if !sum.is_finite() {
            sink.fill(row, classes, f64::NAN);
            return f64::NAN;
        }
        if sink.is_asked_for() {
            let g = weight * self.wanted.factor(row) / (scale * (1.0 + sum));
            self.for_each_strip(row, own, scale, |from, above| {
                above.iter_mut().for_each(|above| *above = if *above > 0.0 { g } else { 0.0 });
                if let Some(above) = class.checked_sub(from).and_then(|at| above.get_mut(at)) {
                    *above = 0.0 - count * g;
                }
                sink.strip(row, from, above);
            });
            sink.finish(row);
        }
        weight * sum.ln_1p()
    }
}
