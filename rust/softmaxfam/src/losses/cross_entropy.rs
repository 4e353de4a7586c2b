//! Cross entropy of each row: log(1 + sum_{i != c} e^((x_i - x_c)/T)) for a class c, W times that of the highest class plus
//! sum_i w_i y_i (max x - x_i)/T for a distribution: sums of terms >= 0, which keep their digits for confident rows.
//!
//! Method. One pass over the scores but c's adds the exponentials (`maps::expsum`) and, if a gradient is asked for, stores them in
//! its place; while they are in cache they are scaled. p_c - 1 is formed from the sum without c. f16 and bf16, strided and masked
//! rows are brought to a row of f32 or f64 first, so that the kernels exist for those two.
//! Cost. One exponential a class; one read of the scores and one write of the gradient.

use super::RowLoss;
use super::sink::{Gradients, Sink};
use super::target::{OfRow, Wanted};
use crate::maps::expsum::{Adder, ExpSum, Scale, highest};
use crate::maps::softmax::{quotient_in_two, scale_block};
use crate::maps::strips::STRIP;
use crate::options::PerRow;
use crate::rows::{BLOCK, Source};
use crate::simd::{Isa, Kernel, Level, Real, dispatch};
use std::ops::Range;

/// Time of one class, ns a byte.
pub(super) const COST: f64 = 0.12;

/// Losses of rows, one after the other.
pub(super) struct CrossEntropy<'a, R: Real> {
    level: Level,
    source: Source<'a, R>,
    wanted: &'a Wanted<'a>,
    temperature: PerRow<'a>,
    scores: Vec<R>,
    terms: Vec<R>,
    bases: Vec<ExpSum>,
}

impl<'a, R: Real> CrossEntropy<'a, R> {
    pub(super) fn new(level: Level, source: Source<'a, R>, wanted: &'a Wanted<'a>, temperature: PerRow<'a>) -> Self {
        let (scores, terms, bases) = (Vec::new(), Vec::new(), Vec::new());
        Self { level, source, wanted, temperature, scores, terms, bases }
    }
}

/// A row in the type computed in: the caller's memory, or `buffer`.
fn reals<'b, R: Real>(source: &Source<'b, R>, row: usize, buffer: &'b mut Vec<R>) -> &'b [R] {
    if let Some(scores) = source.run(row, 1) {
        return scores;
    }
    buffer.resize(source.classes(), R::ZERO);
    source.copy_rows(row, 1, buffer);
    buffer
}

impl<R: Real> RowLoss<R> for CrossEntropy<'_, R> {
    fn row(&mut self, row: usize, sink: &mut Gradients<'_, R>) -> f64 {
        let classes = self.source.classes();
        let wanted = self.wanted;
        let of_row = wanted.of(row);
        if let OfRow::Nothing = of_row {
            sink.fill(row, classes, 0.0);
            return 0.0;
        }
        let level = self.level;
        let x = reals(&self.source, row, &mut self.scores);
        let (pivot, shares) = match of_row {
            OfRow::Class(class, _) => (Some(class), None),
            _ => {
                let shares = Shares::new(wanted, row, x);
                (dispatch(level, Highest { scores: x }), Some(shares))
            }
        };
        let temperature = self.temperature.of(row);
        let weight = match (&of_row, &shares) {
            (OfRow::Class(_, weight), _) => *weight,
            (_, Some(shares)) => shares.total,
            _ => unreachable!("a row has a class or shares"),
        };
        if shares.is_some() && weight == 0.0 && wanted.is_nothing(row, classes) {
            sink.fill(row, classes, 0.0);
            return 0.0;
        }
        let undefined = |sink: &mut Gradients<'_, R>| {
            sink.fill(row, classes, f64::NAN);
            f64::NAN
        };
        let Some(pivot) = pivot else { return undefined(sink) };
        let own: f64 = x[pivot].into();
        let scale = Scale::new(temperature);
        let bases = &mut self.bases;
        bases.clear();
        let mut target = sink.reals(row, classes, &mut self.terms);
        let sum = match &mut target {
            Some(terms) => dispatch(level, StoreTerms { scores: x, pivot, scale, terms, bases }),
            None => dispatch(level, AddTerms { scores: x, pivot, scale }),
        };
        let is_sound = sum.sum < f64::INFINITY && own < f64::INFINITY && (sum.sum > 0.0 || own > f64::NEG_INFINITY);
        if !is_sound || weight.is_nan() {
            return undefined(sink);
        }
        let ratio = log_ratio(&sum, own, temperature);
        let softplus = ratio.max(0.0) + (-ratio.abs()).exp().ln_1p();
        let mut loss = weight * softplus;
        if let Some(shares) = &shares {
            loss += shares.below(x, own) / temperature;
        }
        if let Some(terms) = target {
            let g = wanted.factor(row) / temperature;
            let numerator = g * weight / (1.0 + (-ratio).exp());
            for (range, base) in ranges(classes, pivot).zip(&*bases) {
                let total = sum.sum / base.rebased(sum.reference, sum.shift, temperature);
                let factor = if sum.sum > 0.0 { quotient_in_two(numerator, total) } else { [R::ZERO; 2] };
                dispatch(level, ScaleTerms { factor, terms: &mut terms[range] });
            }
            // 1 - p of the pivot, from the others
            let others = g * weight / (1.0 + (-ratio).exp());
            match &shares {
                None => terms[pivot] = R::of_f64(-others),
                Some(shares) => {
                    terms[pivot] = R::of_f64(g * weight / (1.0 + ratio.exp()));
                    shares.subtract(x, g, terms);
                    if shares.is_single {
                        terms[pivot] = if shares.at(pivot, x) > 0.0 { R::of_f64(-others) } else { terms[pivot] };
                    }
                }
            }
            sink.settle_reals(row, &self.terms);
        }
        loss
    }
}

/// log sum - own / T, without losing the digits of a small difference of large numbers.
fn log_ratio(sum: &ExpSum, own: f64, temperature: f64) -> f64 {
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8; // 32 bits: products with a shift are exact
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    if sum.sum == 0.0 {
        return f64::NEG_INFINITY;
    }
    if own == f64::NEG_INFINITY {
        return f64::INFINITY;
    }
    if sum.reference != 0.0 {
        return (sum.reference - own) / temperature + sum.sum.ln() + sum.shift * std::f64::consts::LN_2;
    }
    let quotient = own / temperature;
    let rest = (-quotient).mul_add(temperature, own) / temperature;
    let rest = if rest.is_finite() { rest } else { 0.0 };
    (sum.shift * LN_2_HIGH - quotient) + (sum.sum.ln() + (sum.shift * LN_2_LOW - rest))
}

/// The blocks of the classes but one.
fn ranges(classes: usize, pivot: usize) -> impl Iterator<Item = Range<usize>> {
    let of = |from: usize, to: usize| (from..to).step_by(BLOCK).map(move |start| start..to.min(start + BLOCK));
    of(0, pivot).chain(of(pivot + 1, classes))
}

/// The first class with the highest score; None where none is above -inf, or where that is +inf.
struct Highest<'k, R> {
    scores: &'k [R],
}

impl<R: Real> Kernel for Highest<'_, R> {
    type Output = Option<usize>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Option<usize> {
        let top = self.scores.chunks(BLOCK).fold(f64::NEG_INFINITY, |top, block| top.max(highest(isa, block)));
        self.scores.iter().position(|score| (*score).into() == top).filter(|_| top.is_finite())
    }
}

/// The sum of exponentials of the classes but one.
struct AddTerms<'k, R: Real> {
    scores: &'k [R],
    pivot: usize,
    scale: Scale<R>,
}

impl<R: Real> Kernel for AddTerms<'_, R> {
    type Output = ExpSum;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> ExpSum {
        let mut adder = Adder::<I, R>::new(isa, self.scale);
        for range in ranges(self.scores.len(), self.pivot) {
            adder.add_block(&self.scores[range]);
        }
        adder.sum()
    }
}

/// As [`AddTerms`], the terms being stored too, each block under the base that it was computed with.
struct StoreTerms<'k, R: Real> {
    scores: &'k [R],
    pivot: usize,
    scale: Scale<R>,
    terms: &'k mut [R],
    bases: &'k mut Vec<ExpSum>,
}

impl<R: Real> Kernel for StoreTerms<'_, R> {
    type Output = ExpSum;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> ExpSum {
        let mut adder = Adder::<I, R>::new(isa, self.scale);
        for range in ranges(self.scores.len(), self.pivot) {
            adder.add_block_to(&self.scores[range.clone()], &mut self.terms[range]);
            self.bases.push(ExpSum { sum: 1.0, ..adder.sum() });
        }
        adder.sum()
    }
}

/// Terms times a factor.
struct ScaleTerms<'k, R> {
    factor: [R; 2],
    terms: &'k mut [R],
}

impl<R: Real> Kernel for ScaleTerms<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        scale_block::<I, R>(isa, self.factor, self.terms);
    }
}

/// A distribution as the target of a row.
struct Shares<'a> {
    wanted: &'a Wanted<'a>,
    row: usize,
    present: usize,
    label: Option<(usize, f64, f64)>, // with what it keeps and what every class gets, where that is all
    total: f64,
    is_single: bool,
}

impl<'a> Shares<'a> {
    fn new<R: Real>(wanted: &'a Wanted<'a>, row: usize, x: &[R]) -> Self {
        let present = if wanted.is_smoothed() { x.iter().filter(|x| is_present(**x)).count() } else { 0 };
        let label = wanted.smoothed_label(row, present);
        let mut shares = Self { wanted, row, present, label, total: 1.0, is_single: present == 1 };
        if label.is_none() {
            let (mut total, mut count) = (0.0, 0);
            shares.for_each_strip(x, |_, strip| {
                total += strip.iter().sum::<f64>();
                count += strip.iter().filter(|share| **share != 0.0).count();
            });
            (shares.total, shares.is_single) = (total, count == 1);
        }
        shares
    }

    /// Calls `visit` with the first class and w y' of each strip.
    fn for_each_strip<R: Real>(&self, x: &[R], mut visit: impl FnMut(usize, &[f64])) {
        let mut strip = [0.0; STRIP];
        for (x, from) in x.chunks(STRIP).zip((0..).step_by(STRIP)) {
            let strip = &mut strip[..x.len()];
            self.wanted.shares(self.row, from, |at| is_present(x[at]), self.present, strip);
            visit(from, strip);
        }
    }

    fn at<R: Real>(&self, class: usize, x: &[R]) -> f64 {
        let mut share = [0.0];
        self.wanted.shares(self.row, class, |_| is_present(x[class]), self.present, &mut share);
        share[0]
    }

    /// sum_i w_i y_i (highest - x_i); a class without a share counts nothing, whatever its score.
    fn below<R: Real>(&self, x: &[R], highest: f64) -> f64 {
        if let Some((label, kept, spread)) = self.label {
            let of = |x: R| if is_present(x) { highest - x.into() } else { 0.0 };
            let mut sums = [0.0; WAYS];
            for x in x.chunks(WAYS) {
                sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += of(*x));
            }
            let of_label = if kept > 0.0 { kept * (highest - x[label].into()) } else { 0.0 };
            return of_label + spread * sums.iter().sum::<f64>();
        }
        let mut sum = 0.0;
        self.for_each_strip(x, |from, strip| {
            let of = |(share, x): (&f64, &R)| if *share == 0.0 { 0.0 } else { share * (highest - (*x).into()) };
            sum += strip.iter().zip(&x[from..]).map(of).sum::<f64>();
        });
        sum
    }

    /// Takes g w y' from the terms.
    fn subtract<R: Real>(&self, x: &[R], g: f64, terms: &mut [R]) {
        let less = |term: R, share: f64| {
            let value: f64 = term.into();
            R::of_f64(value - g * share)
        };
        if let Some((label, kept, spread)) = self.label {
            let of_label = less(terms[label], kept + if is_present(x[label]) { spread } else { 0.0 });
            for (term, x) in terms.iter_mut().zip(x) {
                *term = less(*term, if is_present(*x) { spread } else { 0.0 });
            }
            terms[label] = of_label;
            return;
        }
        self.for_each_strip(x, |from, strip| {
            terms[from..].iter_mut().zip(strip).for_each(|(term, share)| *term = less(*term, *share));
        });
    }
}

/// Sums that are carried side by side, which processors do at once.
const WAYS: usize = 8;

fn is_present<R: Real>(score: R) -> bool {
    score.into() > f64::NEG_INFINITY
}
