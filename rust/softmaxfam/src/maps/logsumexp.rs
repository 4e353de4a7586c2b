//! log sum_i w_i exp(x_i / T) of each row.
//!
//! The sum is `expsum`'s; here rows are taken [`ROWS_TOGETHER`] at a time, so that their logarithms, in f64, are taken on
//! lanes, and rows longer than `expsum::CHUNK` are summed in chunks that threads share.
//! Weights (of any sign) go a plainer way in f64: the maximum over the classes whose weight is not 0, then the sum of
//! w_i exp(x_i / T - max), positive and negative terms apart, so that the only cancellation is the one in the problem; where
//! much cancels, the sum of the weights and that of w_i (exp(..) - 1), which is small for terms near the maximum.

use super::across;
use super::beside::{self, Tile};
use super::expsum::{Adder, CHUNK, ExpSum, ROWS_THAT_BEGIN, Scale, rows_that_begin_together};
use crate::elementary::{self, Window};
use crate::error::Result;
use crate::options::{Options, PerRow};
use crate::rows::{BLOCK, Results, Rows, RowsMut, Source};
use crate::simd::{Element, Isa, Kernel, Lanes, Level, Real, dispatch};
use crate::threads::{Job, for_each_piece};
use std::ops::Range;

/// Time of one class, ns a byte: for cutting work, not a promise.
pub(crate) const COST: f64 = 0.04;
/// Time of a row besides its classes, ns.
const ROW_COST: f64 = 15.0;
/// Rows are taken so many at a time, so that their logarithms share lanes.
const ROWS_TOGETHER: usize = beside::ROWS;

/// log sum_i exp(x_i / T) of each row into `out`, a view of one class.
///
/// A row with NaN gives NaN, else one with +inf gives +inf; a row without any score above -inf gives -inf.
/// For f32 the error is at most 2^-23 max(1, |result|).
///
/// ```
/// use softmaxfam::{Options, Rows, RowsMut, logsumexp};
/// let scores = [0.0_f64, 0.0, 1000.0, 1000.0];
/// let mut result = [0.0; 2];
/// logsumexp(&Rows::new(&scores, 2)?, &Options::default(), &mut RowsMut::new(&mut result, 1)?)?;
/// assert!((result[0] - 2f64.ln()).abs() < 1e-15 && (result[1] - 1000.0 - 2f64.ln()).abs() < 1e-12);
/// # Ok::<(), softmaxfam::Error>(())
/// ```
pub fn logsumexp<E: Element>(scores: &Rows<'_, E>, options: &Options<'_>, out: &mut RowsMut<'_, E>) -> Result<()> {
    options.check(scores)?;
    out.expect("out", scores.rows(), 1)?;
    of_rows(Source::new(scores, options.mask), options, Results::new(out))
}

fn of_rows<'a, R: Real>(source: Source<'_, R>, options: &Options<'a>, mut out: Results<'a, R>) -> Result<()> {
    let level = Level::active();
    if source.classes() > CHUNK && source.is_in_line() {
        let sums = chunked_sums(level, source, options)?;
        dispatch(level, Finish { sums: &sums, temperature: options.temperature, first: 0, out: &mut out });
        return Ok(());
    }
    for_each_piece(job(&source, options), out, |rows, mut out| {
        dispatch(level, LogSumExp { source, temperature: options.temperature, rows, out: &mut out });
        Ok(())
    })
}

pub(crate) fn job<'a, R: Real>(source: &Source<'_, R>, options: &Options<'a>) -> Job<'a> {
    let row_cost = ROW_COST + COST * (source.classes() * size_of::<R>()) as f64;
    let together = if source.is_in_line() { ROWS_TOGETHER } else { across::ROWS / 2 };
    Job { rows: source.rows(), row_cost, together, interrupt: options.interrupt }
}

struct LogSumExp<'k, 'a, R: Real> {
    source: Source<'a, R>,
    temperature: PerRow<'a>,
    rows: Range<usize>,
    out: &'k mut Results<'a, R>,
}

impl<R: Real> Kernel for LogSumExp<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { source, temperature, rows, out } = self;
        if source.classes() == 1 {
            return rows.for_each(|row| out.set(row, 0, source.number(row) / temperature.of(row)));
        }
        if beside::suits(&source) {
            return beside::logsumexp(isa, &source, &temperature, rows, out);
        }
        let mut sums = [ExpSum::EMPTY; across::ROWS];
        let mut row_sums = RowSums::new(source, temperature);
        let together = row_sums.together(usize::MAX);
        for first in rows.clone().step_by(together) {
            let sums = &mut sums[..together.min(rows.end - first)];
            row_sums.fill(isa, first, sums);
            Finish { sums, temperature, first, out }.run(isa);
        }
    }
}

/// The sums of whole rows, several at a time: lanes run along the classes where these follow each other in long rows, else
/// across rows.
pub(crate) struct RowSums<'a, R: Real> {
    source: Source<'a, R>,
    temperature: PerRow<'a>,
    buffer: Box<[R]>,
    tile: Vec<R>,
    beside: Option<Tile<R>>, // of short rows
}

impl<'a, R: Real> RowSums<'a, R> {
    pub(crate) fn new(source: Source<'a, R>, temperature: PerRow<'a>) -> Self {
        let buffer = if source.is_in_line() { source.buffer() } else { Box::default() };
        let beside = beside::suits(&source).then(|| Tile::new(&source));
        Self { source, temperature, buffer, tile: Vec::new(), beside }
    }

    /// How many rows to take at a time, one of a row in line that is longer than `short`.
    pub(crate) fn together(&self, short: usize) -> usize {
        match self.source.is_in_line() {
            true if self.source.classes() > short => 1,
            true => ROWS_TOGETHER,
            false => across::ROWS,
        }
    }

    #[inline(always)]
    pub(crate) fn fill<I: Isa>(&mut self, isa: I, first: usize, sums: &mut [ExpSum]) {
        if !self.source.is_in_line() {
            return across::sums(isa, &self.source, &self.temperature, first, sums, &mut self.tile);
        }
        if let Some(tile) = &mut self.beside {
            let (source, temperature) = (&self.source, self.temperature);
            return dispatch(tile.level(), beside::Sums { source, temperature, first, sums, tile });
        }
        let adder = |row| Adder::new(isa, Scale::new(self.temperature.of(row)));
        let together = rows_that_begin_together(self.source.classes());
        if together > 1 && self.source.is_in_place() {
            for (sums, first) in sums.chunks_mut(together).zip((first..).step_by(together)) {
                let mut adders = [adder(first); ROWS_THAT_BEGIN];
                let adders = &mut adders[..sums.len()];
                for (row, each) in (first..).zip(adders.iter_mut()) {
                    *each = adder(row);
                    each.begin(self.source.block(row, 0, &mut []));
                }
                for ((row, adder), sum) in (first..).zip(adders).zip(sums) {
                    adder.add_block(self.source.block(row, 0, &mut []));
                    *sum = adder.sum();
                }
            }
            return;
        }
        for (sum, row) in sums.iter_mut().zip(first..) {
            *sum = adder(row).add_row(&self.source, row, 0, self.source.classes(), &mut self.buffer);
        }
    }
}

/// Logarithms of sums, as results of the rows from `first` on.
struct Finish<'k, 'a, R: Real> {
    sums: &'k [ExpSum],
    temperature: PerRow<'a>,
    first: usize,
    out: &'k mut Results<'a, R>,
}

impl<R: Real> Kernel for Finish<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut logs = [0.0; across::ROWS];
        for (sums, first) in self.sums.chunks(across::ROWS).zip((self.first..).step_by(across::ROWS)) {
            let logs = &mut logs[..sums.len()];
            logs_of(isa, sums, logs);
            for ((log, sum), row) in logs.iter_mut().zip(sums).zip(first..) {
                *log = sum.log_given(*log, self.temperature.of(row));
            }
            self.out.write_rounded(first, logs);
        }
    }
}

/// The logarithms of some sums.
#[inline(always)]
pub(crate) fn logs_of<I: Isa>(isa: I, sums: &[ExpSum], logs: &mut [f64]) {
    let lanes = isa.f64();
    logs.iter_mut().zip(sums).for_each(|(log, sum)| *log = sum.sum);
    for logs in logs.chunks_mut(8) {
        let of_sums = elementary::log(lanes, lanes.load_or(logs, 1.0));
        lanes.store_part(of_sums, logs);
    }
}

/// The sums of long rows: chunks that threads share, met in their order.
pub(crate) fn chunked_sums<R: Real>(level: Level, source: Source<'_, R>, options: &Options<'_>) -> Result<Vec<ExpSum>> {
    let chunks = source.classes().div_ceil(CHUNK);
    let mut parts = vec![ExpSum::EMPTY; source.rows() * chunks];
    let row_cost = COST * (CHUNK * size_of::<R>()) as f64;
    let job = Job { rows: parts.len(), row_cost, together: 1, interrupt: options.interrupt };
    let temperature = options.temperature;
    for_each_piece(job, RowsMut::new(&mut parts, 1)?, |units, mut parts| {
        let mut buffer = source.buffer();
        for unit in units {
            let (row, from) = (unit / chunks, unit % chunks * CHUNK);
            let to = source.classes().min(from + CHUNK);
            let chunk = Chunk { source, scale: Scale::new(temperature.of(row)), row, from, to, buffer: &mut buffer };
            parts.set(unit, 0, dispatch(level, chunk));
        }
        Ok(())
    })?;
    let of_row = |(row, parts): (usize, &[ExpSum])| {
        parts.iter().fold(ExpSum::EMPTY, |sum, part| sum.merged(*part, temperature.of(row)))
    };
    Ok(parts.chunks(chunks).enumerate().map(of_row).collect())
}

/// The sum of the classes `from..to` of a row.
pub(crate) struct Chunk<'k, 'a, R: Real> {
    pub(crate) source: Source<'a, R>,
    pub(crate) scale: Scale<R>,
    pub(crate) row: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) buffer: &'k mut [R],
}

impl<R: Real> Kernel for Chunk<'_, '_, R> {
    type Output = ExpSum;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> ExpSum {
        Adder::new(isa, self.scale).add_row(&self.source, self.row, self.from, self.to, self.buffer)
    }
}

/// log |sum_i w_i exp(x_i / T)| of each row into `out`, and the sign of the sum into `sign`; both views of one class.
///
/// Weights are finite and may be negative; a class of weight 0 is absent, whatever its score. Without `sign` a negative
/// sum gives NaN. A sum of exactly 0 gives -inf with sign 0.
pub fn weighted_logsumexp<E: Element>(
    scores: &Rows<'_, E>,
    weights: &Rows<'_, f64>,
    options: &Options<'_>,
    out: &mut RowsMut<'_, E>,
    sign: Option<&mut RowsMut<'_, E>>,
) -> Result<()> {
    options.check(scores)?;
    weights.expect("weights", scores.rows(), scores.classes())?;
    out.expect("out", scores.rows(), 1)?;
    if let Some(sign) = &sign {
        sign.expect("sign", scores.rows(), 1)?;
    }
    let sign = sign.map(|sign| Results::new(sign));
    weighted(Source::new(scores, options.mask), weights, options, Results::new(out), sign)
}

fn weighted<R: Real>(
    source: Source<'_, R>,
    weights: &Rows<'_, f64>,
    options: &Options<'_>,
    out: Results<'_, R>,
    sign: Option<Results<'_, R>>,
) -> Result<()> {
    let level = Level::active();
    let row_cost = 10.0 * COST * (8 * source.classes()) as f64;
    let job = Job { rows: source.rows(), row_cost, together: 1, interrupt: options.interrupt };
    for_each_piece(job, (out, sign), |rows, (mut out, mut sign)| {
        let mut sum = WeightedSum { source, weights, temperature: 1.0, row: 0, scores: &mut source.buffer() };
        for row in rows {
            (sum.temperature, sum.row) = (options.temperature.of(row), row);
            let (log, negative) = dispatch(level, &mut sum);
            let of_sign = if log.is_nan() { f64::NAN } else { f64::from(log > f64::NEG_INFINITY) };
            out.set(row, 0, if negative && sign.is_none() { f64::NAN } else { log });
            if let Some(sign) = &mut sign {
                sign.set(row, 0, if negative { -of_sign } else { of_sign });
            }
        }
        Ok(())
    })
}

/// Sums below this part of their terms are formed anew, with more digits.
const CANCELLED: f64 = 1.0 / 64.0;

struct WeightedSum<'k, 'a, R: Real> {
    source: Source<'a, R>,
    weights: &'a Rows<'a, f64>,
    temperature: f64,
    row: usize,
    scores: &'k mut [R],
}

impl<R: Real> WeightedSum<'_, '_, R> {
    /// Calls `visit` with scores over T and weights of 8 classes at a time; classes of weight 0 have score -inf.
    #[inline(always)]
    fn for_each_vector<I: Isa>(&mut self, isa: I, mut visit: impl FnMut(V64<I>, V64<I>)) {
        let lanes = isa.f64();
        let (zero, lowest) = (lanes.splat(0.0), lanes.splat(f64::NEG_INFINITY));
        for from in (0..self.source.classes()).step_by(BLOCK) {
            let block = self.source.block(self.row, from, self.scores);
            for (scores, from) in block.chunks(8).zip((from..).step_by(8)) {
                let mut weights = [0.0; 8];
                self.weights.copy_into(self.row, from, &mut weights[..scores.len()]);
                let w = lanes.load(&weights);
                let x = lanes.div(R::load_f64_or(isa, scores, R::NEG_INFINITY), lanes.splat(self.temperature));
                let absent = lanes.eq(w, zero);
                visit(lanes.select(absent, lowest, x), lanes.select(absent, zero, w));
            }
        }
    }
}

impl<R: Real> WeightedSum<'_, '_, R> {
    /// The sum as that of the weights and of w_i (e^z_i - 1), compensated: where terms near the highest cancel, it keeps the digits of
    /// their differences.
    #[inline(always)]
    fn without_ones<I: Isa>(&mut self, isa: I, base: f64) -> f64 {
        let lanes = isa.f64();
        let (mut sum, mut lost) = (0.0_f64, 0.0_f64);
        self.for_each_vector(isa, |x, w| {
            let (mut scores, mut weights) = ([0.0; 8], [0.0; 8]);
            lanes.store(x, &mut scores);
            lanes.store(w, &mut weights);
            for (x, w) in scores.iter().zip(weights).filter(|(_, w)| *w != 0.0) {
                for term in [w, w * (x - base).exp_m1()] {
                    let next = sum + term; // Neumaier's
                    lost += if sum.abs() >= term.abs() { (sum - next) + term } else { (term - next) + sum };
                    sum = next;
                }
            }
        });
        sum + lost
    }
}

type V64<I> = <<I as Isa>::F64 as Lanes>::V;

impl<R: Real> Kernel for &mut WeightedSum<'_, '_, R> {
    type Output = (f64, bool); // logarithm of the absolute value, whether the sum is negative

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> (f64, bool) {
        let lanes = isa.f64();
        let zero = lanes.splat(0.0);
        let mut highest = lanes.splat(f64::NEG_INFINITY);
        let mut undefined = false;
        self.for_each_vector(isa, |x, w| {
            highest = lanes.max(x, highest);
            undefined |= lanes.any(lanes.is_nan(x)) || lanes.any(lanes.is_nan(w));
        });
        let highest = lanes.reduce_max(highest);
        if undefined {
            return (f64::NAN, false);
        }
        let (mut positive, mut negative) = (zero, zero);
        let window = Window::new(lanes, 0.0);
        let base = lanes.splat(if highest.is_finite() { highest } else { 0.0 });
        let infinite = lanes.splat(f64::INFINITY);
        self.for_each_vector(isa, |x, w| {
            let is_infinite = lanes.ge(x, infinite);
            let z = lanes.min(lanes.sub(x, base), lanes.splat(1.0));
            let term = lanes.mul(w, lanes.select(is_infinite, infinite, elementary::exp(lanes, z, None, &window)));
            positive = lanes.add(positive, lanes.max(term, zero));
            negative = lanes.add(negative, lanes.max(lanes.sub(zero, term), zero));
        });
        let (positive, negative) = (lanes.reduce_add(positive), lanes.reduce_add(negative));
        let mut sum = positive - negative;
        if highest.is_finite() && sum.abs() < CANCELLED * (positive + negative) {
            sum = self.without_ones(isa, highest);
        }
        let log = lanes.reduce_max(elementary::log(lanes, lanes.splat(sum.abs())));
        (if highest.is_finite() { log + highest } else { log }, sum < 0.0)
    }
}
