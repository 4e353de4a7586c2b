//! Projection onto the capped simplex {0 <= p <= 1, sum p = budget}: budgeted sparsemax.
//!
//! p_i = clip(x_i / T - tau, 0, 1), tau the root of sum p = budget, which is piecewise linear and falling in tau. Newton's step
//! on the present piece, kept strictly inside a bracket: alone Newton's steps can go round in a circle, for the function is
//! neither convex nor concave. After `FREE` steps, which rows seldom need, a step that does not halve the bracket is followed
//! by one that does. Once a step does not change the piece, tau is exact.
//! Scores are taken below the row's maximum, in f64. Cost. About 6 reads of the row.

use super::strips::{STRIP, Strips, rounded};
use crate::error::{Error, Result};
use crate::options::{Options, PerRow};
use crate::rows::{Places, Results, Rows, RowsMut, Source};
use crate::simd::{Element, Isa, Kernel, Lanes, Level, Real, dispatch};
use crate::threads::{Job, for_each_piece};

/// Time of one class, ns a byte.
const COST: f64 = 1.0;

/// Steps of Newton that need not halve the bracket; normal rows of 7 to 32768 scores take 3 to 9, at most 14.
const FREE: usize = 12;

/// The point of {0 <= p <= 1, sum p = budget} nearest to x / T, for each row, into `out`, which may be the memory of the scores.
///
/// A budget lies in [0, the number of classes present]. A row with NaN or +inf, or with fewer classes above -inf than its
/// budget, gives NaN; a row that is masked as a whole gives zeros.
///
/// ```
/// use softmaxfam::{Options, Rows, RowsMut, budget_sparsemax};
/// let mut p = [0.0; 3];
/// let mut out = RowsMut::new(&mut p, 3)?;
/// budget_sparsemax(&Rows::new(&[5.0_f64, 0.5, 0.5], 3)?, 2.0.into(), &Options::default(), &mut out)?;
/// assert_eq!(p, [1.0, 0.5, 0.5]);
/// # Ok::<(), softmaxfam::Error>(())
/// ```
pub fn budget_sparsemax<E: Element>(
    scores: &Rows<'_, E>,
    budget: PerRow<'_>,
    options: &Options<'_>,
    out: &mut RowsMut<'_, E>,
) -> Result<()> {
    options.check(scores)?;
    out.expect("out", scores.rows(), scores.classes())?;
    budget.check("budget", scores.rows(), |_| Ok(()))?;
    of_rows(Source::new(scores, options.mask), budget, options, Results::new(out))
}

fn of_rows<R: Real>(
    source: Source<'_, R>,
    budget: PerRow<'_>,
    options: &Options<'_>,
    out: Results<'_, R>,
) -> Result<()> {
    for row in 0..source.rows() {
        let (given, classes) = (budget.of(row), source.present(row));
        if !(given >= 0.0 && given <= classes as f64) && (classes > 0 || given.is_nan()) {
            return Err(Error::Budget { given, classes });
        }
        if options.mask.is_none() && matches!(budget, PerRow::Same(_)) {
            break; // the same for all rows
        }
    }
    let row_cost = 100.0 + COST * (source.classes() * size_of::<R>()) as f64;
    let job = Job { rows: source.rows(), row_cost, together: 1, interrupt: options.interrupt };
    let (to_write, level) = (source.written_to(&out), Level::active());
    for_each_piece(job, out, |rows, mut out| {
        let mut strips = Strips::new(to_write);
        let mut results = [R::ZERO; STRIP];
        for row in rows {
            let (strips, results) = (&mut strips, &mut results[..]);
            let (budget, temperature) = (budget.of(row), options.temperature.of(row));
            dispatch(
                level,
                Project { strips, is_absent: source.is_absent(row), row, budget, temperature, results, out: &mut out },
            );
        }
        Ok(())
    })
}

struct Project<'k, 'a, R: Real> {
    strips: &'k mut Strips<'a, R>,
    is_absent: bool,
    row: usize,
    budget: f64,
    temperature: f64,
    results: &'k mut [R],
    out: &'k mut Results<'a, R>,
}

/// What a row gives at some tau.
#[derive(Default)]
struct Piece {
    inside: f64,   // sum of z - tau over 0 < z - tau < 1
    linear: usize, // their number
    capped: usize, // the number of z - tau >= 1
}

impl<R: Real> Project<'_, '_, R> {
    #[inline(always)]
    fn piece<I: Isa>(&mut self, isa: I, highest: f64, tau: f64) -> Piece {
        let lanes = isa.f64();
        let [zero, one, top, divisor, tau] = [0.0, 1.0, highest, self.temperature, tau].map(|value| lanes.splat(value));
        let mut piece = Piece::default();
        for from in self.strips.starts() {
            let mut sum = zero;
            for x in self.strips.at(isa, self.row, from).chunks(8) {
                let z = lanes.div(lanes.sub(lanes.load_or(x, f64::NEG_INFINITY), top), divisor);
                let above = lanes.sub(z, tau);
                let capped = lanes.ge(above, one);
                let inside = lanes.select(capped, zero, lanes.max(above, zero));
                sum = lanes.add(sum, inside);
                piece.capped += lanes.bits(capped).count_ones() as usize;
                piece.linear += lanes.bits(lanes.gt(inside, zero)).count_ones() as usize;
            }
            piece.inside += lanes.reduce_add(sum);
        }
        piece
    }
}

impl<R: Real> Kernel for Project<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let (mut highest, mut lowest, mut finite, mut undefined) = (f64::NEG_INFINITY, f64::INFINITY, 0, false);
        for from in self.strips.starts() {
            for &x in &*self.strips.at(isa, self.row, from) {
                undefined |= x.is_nan() || x == f64::INFINITY;
                if x > f64::NEG_INFINITY {
                    (highest, lowest, finite) = (highest.max(x), lowest.min(x), finite + 1);
                }
            }
        }
        if self.is_absent || self.budget == 0.0 && !undefined {
            return self.out.fill(self.row, R::ZERO);
        }
        if undefined || finite == 0 || self.budget > finite as f64 {
            return self.out.fill(self.row, R::NAN);
        }
        // everything is 1 at the left end, nothing is positive at the right one
        let (mut left, mut right) = ((lowest - highest) / self.temperature - 1.0, 0.0);
        let (mut tau, mut width) = ((-1.0_f64).max(left), f64::INFINITY);
        for step in 0..200 {
            let piece = self.piece(isa, highest, tau);
            let excess = piece.inside + piece.capped as f64 - self.budget;
            if excess >= 0.0 {
                left = tau
            } else {
                right = tau
            }
            let newton = tau + excess / piece.linear as f64;
            let is_slow = step >= FREE && right - left > 0.5 * width;
            width = right - left;
            let is_exact = (newton - tau).abs() <= 2.0 * f64::EPSILON * tau.abs();
            if is_exact || excess == 0.0 {
                break;
            }
            tau = if newton > left && newton < right && !is_slow { newton } else { f64::midpoint(left, right) };
        }
        let lanes = isa.f64();
        let (zero, one, highest) = (lanes.splat(0.0), lanes.splat(1.0), lanes.splat(highest));
        let (tau, divisor) = (lanes.splat(tau), lanes.splat(self.temperature));
        for from in self.strips.starts() {
            let strip = self.strips.at(isa, self.row, from);
            for x in strip.chunks_mut(8) {
                let z = lanes.div(lanes.sub(lanes.load_or(x, 0.0), highest), divisor);
                lanes.store_part(lanes.min(lanes.max(lanes.sub(z, tau), zero), one), x);
            }
            let to = from + strip.len();
            rounded(isa, strip, self.out.place(self.row, from, to, self.results));
            self.out.settle(self.row, from, to, self.results);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bisection of the threshold.
    fn naive(scores: &[f64], budget: f64) -> Vec<f64> {
        let at = |tau: f64| scores.iter().map(move |x| (x - tau).clamp(0.0, 1.0));
        let (mut left, mut right) = (-100.0, 100.0);
        for _ in 0..100 {
            let tau = f64::midpoint(left, right);
            if at(tau).sum::<f64>() >= budget { left = tau } else { right = tau }
        }
        at(f64::midpoint(left, right)).collect()
    }

    #[test]
    fn agrees_with_its_naive_twin() {
        let mut state = 1_u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        for case in 0..20_000 {
            let classes = 1 + case % 23;
            let spread = [0.1, 1.0, 4.0, 30.0][case % 4];
            let scores: Vec<f64> = (0..classes).map(|_| spread * random()).collect();
            let share = classes as f64 * random();
            let budget = if case % 2 == 0 { share } else { share.ceil() };
            let mut p = vec![f64::NAN; classes];
            let mut out = RowsMut::new(&mut p, classes).unwrap();
            budget_sparsemax(&Rows::new(&scores, classes).unwrap(), budget.into(), &Options::default(), &mut out)
                .unwrap();
            for (got, wanted) in p.iter().zip(naive(&scores, budget)) {
                assert!((got - wanted).abs() < 1e-12, "{scores:?} with {budget}: {got}, not {wanted}");
            }
        }
    }
}
