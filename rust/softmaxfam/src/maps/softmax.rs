//! softmax and log_softmax of each row.
//!
//! Method. softmax stores the terms while `expsum` sums them, then scales them in a pass over the row, still in cache, where
//! results are written in place. Otherwise: the sum of exponentials, then one more pass over the row that writes
//! e^(x / T) 2^-(shift + j) (2^j / sum), or x / T - logsumexp. j = log2 of the sum, so that the last factor lies in (1/2, 1]; it is used as the
//! sum of two numbers, which makes the quotient right to half a unit in the last place: one dominant class gets
//! exactly 1. Rows longer than `expsum::CHUNK` are summed and written in chunks that threads share.
//! Error. softmax: relative 2 eps, or below the smallest normal; log_softmax: 2 eps max(1, |x / T|, |logsumexp|).
//! Cost. Two reads of the row and one write; the second read is from cache up to CHUNK.

use super::across;
use super::beside::{self, Base, Tile};
use super::expsum::{
    Adder, CHUNK, ExpSum, Exponents, ROWS_THAT_BEGIN, Scale, Scaled, rows_that_begin_together, spread, with_exponents,
};
use super::logsumexp::{COST, RowSums, chunked_sums, job, logs_of};
use crate::elementary::{self, Window};
use crate::error::Result;
use crate::options::{Options, PerRow};
use crate::rows::{BLOCK, Chunks, Places, Results, Rows, RowsMut, Source};
use crate::simd::{Element, Isa, Kernel, Lanes, LanesOf, Level, Real, Visitor, dispatch};
use crate::threads::{Job, for_each_piece};
use std::marker::PhantomData;
use std::ops::Range;

/// exp(x_i / T) / sum_j exp(x_j / T) of each row into `out`, which may be the memory of the scores.
///
/// A row with NaN or +inf, or with nothing above -inf, gives NaN; a row that is masked as a whole gives zeros.
///
/// ```
/// use softmaxfam::{Options, Rows, RowsMut, softmax};
/// let scores = [0.0_f32, 0.0, f32::NEG_INFINITY, 5.0, -500.0, -500.0];
/// let mut p = [0.0; 6];
/// softmax(&Rows::new(&scores, 3)?, &Options::default(), &mut RowsMut::new(&mut p, 3)?)?;
/// assert_eq!(p, [0.5, 0.5, 0.0, 1.0, 0.0, 0.0]);
/// # Ok::<(), softmaxfam::Error>(())
/// ```
pub fn softmax<E: Element>(scores: &Rows<'_, E>, options: &Options<'_>, out: &mut RowsMut<'_, E>) -> Result<()> {
    check(scores, options, out)?;
    normalise::<E::Real, Probability>(Source::new(scores, options.mask), options, Results::new(out))
}

/// x_i / T - log sum_j exp(x_j / T) of each row into `out`, which may be the memory of the scores.
///
/// A row with NaN or +inf, or with nothing above -inf, gives NaN; a row that is masked as a whole gives -inf.
pub fn log_softmax<E: Element>(scores: &Rows<'_, E>, options: &Options<'_>, out: &mut RowsMut<'_, E>) -> Result<()> {
    check(scores, options, out)?;
    normalise::<E::Real, LogProbability>(Source::new(scores, options.mask), options, Results::new(out))
}

fn check<E: Element>(scores: &Rows<'_, E>, options: &Options<'_>, out: &RowsMut<'_, E>) -> Result<()> {
    options.check(scores)?;
    out.expect("out", scores.rows(), scores.classes())
}

/// What is written for a score once the sum of its row is known.
pub(crate) trait Normal: Copy + Send + Sync + 'static {
    /// What each class of a wholly masked row gets.
    fn absent<R: Real>() -> R;
    /// The normaliser of a row with a finite positive sum, given log of the sum where [`Self::NEEDS_LOG`].
    fn normaliser<L: Lanes>(lanes: L, sums: &[ExpSum], logs: &[f64]) -> Normaliser<L>;
    /// Whether the terms are stored before the sum is known, where results are written in place.
    const IS_STORED_FIRST: bool;
    /// Whether `normaliser` reads the logarithms.
    const NEEDS_LOG: bool;
    /// Replaces the scores of rows side by side by results; the sums of the rows.
    fn beside<I: Isa, R: Real>(isa: I, tile: &mut Tile<R>, column: usize, base: &Base<LanesOf<I, R>>) -> [f64; 16];
    /// The result of each lane.
    fn of<L: Lanes>(lanes: L, normaliser: &Normaliser<L>, z: L::V, low: Option<L::V>) -> L::V;
}

/// Parameters of a normalisation, one row for all lanes or a row a lane.
#[derive(Clone, Copy)]
pub(crate) struct Normaliser<L: Lanes> {
    window: Window<L>,
    high: L::V,
    low: L::V,
}

#[derive(Clone, Copy)]
struct Probability;

#[derive(Clone, Copy)]
struct LogProbability;

/// Numbers as sums of two of the real type.
#[inline(always)]
fn each_in_two<R: Real>(values: &[f64; 16]) -> [[R; 16]; 2] {
    let mut parts = [[R::ZERO; 16]; 2];
    for lane in 0..16 {
        let [high, low] = in_two_parts::<R>(values[lane]);
        (parts[0][lane], parts[1][lane]) = (R::of_f64(high), R::of_f64(low));
    }
    parts
}

/// A number as the sum of two of the real type.
#[inline(always)]
fn in_two_parts<R: Real>(value: f64) -> [f64; 2] {
    let high: f64 = R::of_f64(value).into();
    [high, value - high]
}

/// A quotient as the sum of two numbers of the real type.
#[inline(always)]
pub(crate) fn quotient_in_two<R: Real>(numerator: f64, divisor: f64) -> [R; 2] {
    let quotient = numerator / divisor;
    let high: f64 = R::of_f64(quotient).into();
    // in f64 there is nothing left of the quotient itself; what the division lost makes the low part
    let low = if size_of::<R>() == 8 { (-high).mul_add(divisor, numerator) / divisor } else { quotient - high };
    [R::of_f64(high), R::of_f64(if low.is_finite() { low } else { 0.0 })]
}

impl Normal for Probability {
    const IS_STORED_FIRST: bool = true;
    const NEEDS_LOG: bool = false;

    fn absent<R: Real>() -> R {
        R::ZERO
    }

    #[inline(always)]
    fn normaliser<L: Lanes>(lanes: L, sums: &[ExpSum], _logs: &[f64]) -> Normaliser<L> {
        let exponent = |row: usize| f64::from(((sums[row].sum.to_bits() >> 52) & 0x7ff) as u16) - 1023.0;
        let power = |row: usize| f64::from_bits(((exponent(row) + 1023.0) as u64) << 52);
        let parts = |row: usize| quotient_in_two::<L::Scalar>(power(row), sums[row].sum);
        Normaliser {
            window: Window::of_each(lanes, spread(lanes, sums.len(), |row| sums[row].shift + exponent(row))),
            high: spread(lanes, sums.len(), |row| parts(row)[0].into()),
            low: spread(lanes, sums.len(), |row| parts(row)[1].into()),
        }
    }

    #[inline(always)]
    fn beside<I: Isa, R: Real>(isa: I, tile: &mut Tile<R>, column: usize, base: &Base<LanesOf<I, R>>) -> [f64; 16] {
        let sums = tile.store_terms(isa, column, base);
        let mut factors = [[R::ZERO; 16]; 2];
        for lane in 0..16 {
            [factors[0][lane], factors[1][lane]] = quotient_in_two(1.0, sums[lane]);
        }
        tile.scale(isa, column, &factors);
        sums
    }

    #[inline(always)]
    fn of<L: Lanes>(lanes: L, normaliser: &Normaliser<L>, z: L::V, low: Option<L::V>) -> L::V {
        let term = elementary::exp(lanes, z, low, &normaliser.window);
        lanes.mul_add(term, normaliser.high, lanes.mul(term, normaliser.low))
    }
}

impl Normal for LogProbability {
    const IS_STORED_FIRST: bool = false;
    const NEEDS_LOG: bool = true;

    fn absent<R: Real>() -> R {
        R::NEG_INFINITY
    }

    #[inline(always)]
    fn normaliser<L: Lanes>(lanes: L, sums: &[ExpSum], logs: &[f64]) -> Normaliser<L> {
        // the reference is subtracted from the scores already
        let log = |row: usize| sums[row].shift * std::f64::consts::LN_2 + logs[row];
        Normaliser {
            window: Window::of_each(lanes, lanes.splat(L::Scalar::of_f64(0.0))),
            high: spread(lanes, sums.len(), |row| in_two_parts::<L::Scalar>(log(row))[0]),
            low: spread(lanes, sums.len(), |row| in_two_parts::<L::Scalar>(log(row))[1]),
        }
    }

    #[inline(always)]
    fn beside<I: Isa, R: Real>(isa: I, tile: &mut Tile<R>, column: usize, base: &Base<LanesOf<I, R>>) -> [f64; 16] {
        let sums = tile.sums(isa, column, base);
        let logs = beside::logs_of(isa, &sums, &base.shifts(R::lanes(isa)));
        tile.subtract(isa, column, base, &each_in_two(&logs));
        sums
    }

    #[inline(always)]
    fn of<L: Lanes>(lanes: L, normaliser: &Normaliser<L>, z: L::V, low: Option<L::V>) -> L::V {
        let low = match low {
            Some(low) => lanes.sub(normaliser.low, low),
            None => normaliser.low,
        };
        lanes.sub(lanes.sub(z, normaliser.high), low)
    }
}

fn normalise<R: Real, N: Normal>(source: Source<'_, R>, options: &Options<'_>, out: Results<'_, R>) -> Result<()> {
    let level = Level::active();
    if source.classes() > CHUNK && source.is_in_line() {
        return in_chunks::<R, N>(level, source, options, out);
    }
    let call = Call::new(source, options, &out);
    let mut job = job(&source, options);
    job.row_cost *= 3.0;
    for_each_piece(job, out, |rows, mut out| {
        if beside::suits(&source) {
            dispatch(level, NormaliseShortRows::<R, N> { call, rows, out: &mut out, normal: PhantomData });
            return Ok(());
        }
        dispatch(level, NormaliseRows::<R, N> { call, rows, out: &mut out, normal: PhantomData });
        Ok(())
    })
}

/// What the pieces of a call share.
#[derive(Clone, Copy)]
struct Call<'a, R: Real> {
    source: Source<'a, R>,
    to_write: Source<'a, R>, // the same, read while results are written, maybe in its place
    temperature: PerRow<'a>,
    in_place: bool, // whether results are written where they stay
}

impl<'a, R: Real> Call<'a, R> {
    fn new(source: Source<'a, R>, options: &Options<'a>, out: &Results<'_, R>) -> Self {
        let to_write = source.written_to(out);
        Self { source, to_write, temperature: options.temperature, in_place: out.is_in_place() }
    }
}

/// Where scores are copied before they are overwritten, and results made before they are scattered.
struct Buffers<R> {
    scores: Box<[R]>,
    results: Box<[R]>,
    tile: Vec<R>,
}

impl<R: Real> Buffers<R> {
    fn new(call: &Call<'_, R>) -> Self {
        let along = call.source.is_in_line();
        let results = if along && !call.in_place { call.source.classes().min(BLOCK) } else { 0 };
        let scores = if along { call.to_write.buffer() } else { Box::default() };
        Self { scores, results: vec![R::ZERO; results].into(), tile: Vec::new() }
    }
}

/// Rows that are summed, then written while they are in cache.
struct NormaliseRows<'k, 'a, R: Real, N> {
    call: Call<'a, R>,
    rows: Range<usize>,
    out: &'k mut Results<'a, R>,
    normal: PhantomData<N>,
}

impl<R: Real, N: Normal> Kernel for NormaliseRows<'_, '_, R, N> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { call, rows, out, .. } = self;
        let mut row_sums = RowSums::new(call.source, call.temperature);
        let together = row_sums.together(SHORT);
        let mut sums = [ExpSum::EMPTY; across::ROWS];
        let mut logs = [0.0; across::ROWS];
        let mut buffers = Buffers::new(&call);
        for first in rows.clone().step_by(together) {
            let count = together.min(rows.end - first);
            let (sums, logs) = (&mut sums[..count], &mut logs[..count]);
            if N::IS_STORED_FIRST && call.source.is_in_line() && call.in_place {
                store_then_scale::<I, R, N>(isa, &call, first..first + count, &mut buffers.scores, out);
                continue;
            }
            row_sums.fill(isa, first, sums);
            if N::NEEDS_LOG {
                logs_of(isa, sums, logs);
            }
            if !call.source.is_in_line() {
                write_across::<I, R, N>(isa, &call, first, sums, logs, &mut buffers.tile, out);
                continue;
            }
            for (row, (sum, log)) in (first..).zip(sums.iter().zip(logs)) {
                let write = Write::<I, R, N>::new(isa, &call, row, sum, *log);
                write.classes(0..call.source.classes(), row, &mut buffers, out);
            }
        }
    }
}

/// Short rows, side by side.
struct NormaliseShortRows<'k, 'a, R: Real, N> {
    call: Call<'a, R>,
    rows: Range<usize>,
    out: &'k mut Results<'a, R>,
    normal: PhantomData<N>,
}

impl<R: Real, N: Normal> Kernel for NormaliseShortRows<'_, '_, R, N> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { call, rows, out, .. } = self;
        let n = LanesOf::<I, R>::N;
        let mut tile = Tile::new(&call.to_write);
        let mut results = Buffers::new(&call).results;
        for first in rows.clone().step_by(beside::ROWS) {
            let count = beside::ROWS.min(rows.end - first);
            tile.read(&call.to_write, first, count);
            if call.in_place {
                for row in first + count..rows.end.min(first + count + beside::ROWS) {
                    isa.prefetch(out.place(row, 0, call.source.classes(), &mut []));
                }
            }
            let mut sums = [0.0; beside::ROWS];
            for column in (0..count).step_by(n) {
                let base = tile.base(isa, column, &call.temperature, first + column, n.min(count - column));
                let found = N::beside(isa, &mut tile, column, &base);
                sums[column..column + n].copy_from_slice(&found[..n]);
            }
            // told before the scores are overwritten
            let mut unusual = [None; beside::ROWS];
            for ((value, sum), row) in unusual.iter_mut().zip(sums).zip(first..first + count) {
                *value = of_unusual_sum::<R, N>(&call.source, row, &ExpSum { sum, ..ExpSum::EMPTY });
            }
            tile.write(first, count, out, &mut results);
            for (value, row) in unusual.into_iter().zip(first..) {
                if let Some(value) = value {
                    out.fill(row, value);
                }
            }
        }
    }
}

/// One exponential a class: the terms are stored in their place while they are summed, and scaled once the sum is known.
#[inline(always)]
fn store_then_scale<I: Isa, R: Real, N: Normal>(
    isa: I,
    call: &Call<'_, R>,
    rows: Range<usize>,
    scores: &mut [R],
    out: &mut Results<'_, R>,
) {
    let classes = call.source.classes();
    let scale = |row| Scale::new(call.temperature.of(row));
    if classes > BLOCK {
        for row in rows {
            store_then_scale_blocks::<I, R, N>(isa, call, row, scores, out);
        }
        return;
    }
    let together = if call.to_write.is_in_place() { rows_that_begin_together(classes) } else { 1 };
    for first in rows.clone().step_by(together) {
        let rows = first..rows.end.min(first + together);
        let mut adders = [Adder::<I, R>::new(isa, scale(first)); ROWS_THAT_BEGIN];
        let adders = &mut adders[..rows.len()];
        for (adder, row) in adders.iter_mut().zip(rows.clone()) {
            *adder = Adder::new(isa, scale(row));
            adder.begin(call.to_write.block(row, 0, scores));
        }
        for (adder, row) in adders.iter_mut().zip(rows.clone()) {
            adder.add_block_to(call.to_write.block(row, 0, scores), out.place(row, 0, classes, &mut []));
        }
        let mut factors = [[R::ZERO; 2]; ROWS_THAT_BEGIN];
        for (factor, adder) in factors.iter_mut().zip(adders.iter()) {
            *factor = quotient_in_two(1.0, adder.sum().sum);
        }
        for ((adder, factor), row) in adders.iter().zip(factors).zip(rows) {
            match of_unusual_sum::<R, N>(&call.source, row, &adder.sum()) {
                Some(value) => out.fill(row, value),
                None => scale_block(isa, factor, out.place(row, 0, classes, &mut [])),
            }
        }
    }
}

/// A row of several blocks, which may have been stored under several shifts.
#[inline(always)]
fn store_then_scale_blocks<I: Isa, R: Real, N: Normal>(
    isa: I,
    call: &Call<'_, R>,
    row: usize,
    scores: &mut [R],
    out: &mut Results<'_, R>,
) {
    let (classes, temperature) = (call.source.classes(), call.temperature.of(row));
    let mut bases = [ExpSum::EMPTY; CHUNK / BLOCK]; // under which the terms of each block were stored
    let mut adder = Adder::<I, R>::new(isa, Scale::new(temperature));
    for (from, base) in (0..classes).step_by(BLOCK).zip(&mut bases) {
        let to = classes.min(from + BLOCK);
        let block = call.to_write.block(row, from, scores);
        adder.add_block_to(block, out.place(row, from, to, &mut []));
        *base = ExpSum { sum: 1.0, ..adder.sum() };
    }
    let sum = adder.sum();
    if let Some(value) = of_unusual_sum::<R, N>(&call.source, row, &sum) {
        return out.fill(row, value);
    }
    for (from, base) in (0..classes).step_by(BLOCK).zip(&bases) {
        let total = sum.sum / base.rebased(sum.reference, sum.shift, temperature);
        let to = classes.min(from + BLOCK);
        scale_block(isa, quotient_in_two(1.0, total), out.place(row, from, to, &mut []));
    }
}

/// Multiplies terms by a factor that is the sum of two numbers.
#[inline(always)]
pub(crate) fn scale_block<I: Isa, R: Real>(isa: I, factor: [R; 2], terms: &mut [R]) {
    let (lanes, n) = (R::lanes(isa), LanesOf::<I, R>::N);
    let (high, low) = (lanes.splat(factor[0]), lanes.splat(factor[1]));
    let mut vectors = terms.chunks_exact_mut(n);
    for vector in &mut vectors {
        let term = R::load(isa, vector);
        R::store(isa, lanes.mul_add(term, high, lanes.mul(term, low)), vector);
    }
    let rest = vectors.into_remainder();
    if !rest.is_empty() {
        let term = R::load_or(isa, rest, R::ZERO);
        R::store_part(isa, lanes.mul_add(term, high, lanes.mul(term, low)), rest);
    }
}

/// Rows of at most so many classes are still in the first cache when the 16 of them have been summed.
const SHORT: usize = 512;

/// The writing of one row whose sum is known.
struct Write<'k, I: Isa, R: Real, N> {
    isa: I,
    source: &'k Source<'k, R>,
    row: usize,
    constant: Option<R>,                   // what all classes of an unusual row get
    scaled: Option<Scaled<LanesOf<I, R>>>, // none where the scores are the exponents
    normaliser: Normaliser<LanesOf<I, R>>,
    normal: PhantomData<N>,
}

impl<'k, I: Isa, R: Real, N: Normal> Write<'k, I, R, N> {
    #[inline(always)]
    fn new(isa: I, call: &'k Call<'k, R>, row: usize, sum: &ExpSum, log: f64) -> Self {
        let lanes = R::lanes(isa);
        Self {
            isa,
            source: &call.to_write,
            row,
            constant: of_unusual_sum::<R, N>(&call.source, row, sum),
            scaled: Scaled::new(lanes, &Scale::new(call.temperature.of(row)), sum.reference),
            normaliser: N::normaliser(lanes, &[*sum], &[log]),
            normal: PhantomData,
        }
    }

    /// Writes some classes part by part to the row or the chunk `index` of `out`.
    #[inline(always)]
    fn classes(&self, classes: Range<usize>, index: usize, buffers: &mut Buffers<R>, out: &mut impl Places<R>) {
        let Buffers { scores, results, .. } = buffers;
        let step = self.source.step().min(out.step());
        for from in classes.clone().step_by(step) {
            let to = classes.end.min(from + step);
            let target = out.place(index, from, to, results);
            match self.constant {
                Some(value) => target.fill(value),
                None => self.source.visit(self.row, from, to, scores, WritePart { write: self, target }),
            }
            out.settle(index, from, to, results);
        }
    }

    #[inline(always)]
    fn part<E: Element<Real = R>, X: Exponents<LanesOf<I, R>>>(&self, scores: &[E], target: &mut [R], exponents: &X) {
        let (lanes, n) = (R::lanes(self.isa), LanesOf::<I, R>::N);
        let (mut vectors, mut places) = (scores.chunks_exact(n), target.chunks_exact_mut(n));
        for (vector, place) in (&mut vectors).zip(&mut places) {
            let (z, low) = exponents.of(E::load(self.isa, vector));
            R::store(self.isa, N::of(lanes, &self.normaliser, z, low), place);
        }
        let rest = vectors.remainder();
        if !rest.is_empty() {
            let (z, low) = exponents.of(E::load_or(self.isa, rest, E::NEG_INFINITY));
            R::store_part(self.isa, N::of(lanes, &self.normaliser, z, low), places.into_remainder());
        }
    }
}

/// The results of scores as they are stored.
struct WritePart<'k, I: Isa, R: Real, N> {
    write: &'k Write<'k, I, R, N>,
    target: &'k mut [R],
}

impl<I: Isa, R: Real, N: Normal> Visitor<R> for WritePart<'_, I, R, N> {
    type Output = ();

    #[inline(always)]
    fn visit<E: Element<Real = R>>(self, scores: &[E]) {
        let Self { write, target } = self;
        with_exponents!(&write.scaled, exponents => write.part(scores, target, exponents));
    }
}

/// What all classes of a row get whose sum of exponentials is 0, infinite or NaN.
#[inline(always)]
fn of_unusual_sum<R: Real, N: Normal>(source: &Source<'_, R>, row: usize, sum: &ExpSum) -> Option<R> {
    let usual = sum.sum > 0.0 && sum.sum < f64::INFINITY;
    let absent = || sum.sum == 0.0 && source.is_absent(row);
    (!usual).then(|| if absent() { N::absent() } else { R::NAN })
}

/// Writes at most `across::ROWS` rows from `first` on, a row in each lane.
#[inline(always)]
fn write_across<I: Isa, R: Real, N: Normal>(
    isa: I,
    call: &Call<'_, R>,
    first: usize,
    sums: &[ExpSum],
    logs: &[f64],
    packed: &mut Vec<R>,
    out: &mut Results<'_, R>,
) {
    let lanes = R::lanes(isa);
    let n = LanesOf::<I, R>::N;
    let width = sums.len().next_multiple_of(n);
    let mut columns = [(None, N::normaliser(lanes, &sums[..1], &logs[..1])); across::ROWS / 8];
    let columns = &mut columns[..width / n];
    for (column, place) in columns.iter_mut().enumerate() {
        let rows = column * n..((column + 1) * n).min(sums.len());
        let mut references = [0.0; 16];
        for (reference, sum) in references.iter_mut().zip(&sums[rows.clone()]) {
            *reference = sum.reference;
        }
        let scaled = Scaled::of_rows(lanes, &call.temperature, first + rows.start, &references[..rows.len()]);
        *place = (scaled, N::normaliser(lanes, &sums[rows.clone()], &logs[rows]));
    }
    let mut results = [R::ZERO; across::ROWS];
    for from in (0..call.source.classes()).step_by(across::CLASSES) {
        let to = call.source.classes().min(from + across::CLASSES);
        let (tile, pitch) = call.to_write.tile(first, width, from, to, packed);
        for class in from..to {
            let scores = &tile[(class - from) * pitch..];
            for (column, (scaled, normaliser)) in columns.iter().enumerate() {
                let x = R::load(isa, &scores[column * n..]);
                let (z, low) = scaled.of(x);
                R::store(isa, N::of(lanes, normaliser, z, low), &mut results[column * n..]);
            }
            out.write_across(first, class, &results[..sums.len()]);
        }
    }
    for (sum, row) in sums.iter().zip(first..) {
        if let Some(value) = of_unusual_sum::<R, N>(&call.source, row, sum) {
            out.fill(row, value);
        }
    }
}

/// Long rows: summed in chunks, then written in chunks, both shared by threads.
fn in_chunks<R: Real, N: Normal>(
    level: Level,
    source: Source<'_, R>,
    options: &Options<'_>,
    out: Results<'_, R>,
) -> Result<()> {
    let sums = chunked_sums(level, source, options)?;
    let mut logs = vec![0.0; sums.len()];
    if N::NEEDS_LOG {
        logs.iter_mut().zip(&sums).for_each(|(log, sum)| *log = elementary::log_scalar(level, sum.sum));
    }
    let call = Call::new(source, options, &out);
    let per_row = source.classes().div_ceil(CHUNK);
    let row_cost = 2.0 * COST * (CHUNK * size_of::<R>()) as f64;
    let job = Job { rows: source.rows() * per_row, row_cost, together: 1, interrupt: options.interrupt };
    for_each_piece(job, Chunks::new(out, CHUNK), |units, mut out| {
        let mut buffers = Buffers::new(&call);
        for unit in units {
            let row = unit / per_row;
            let (sum, log) = (sums[row], logs[row]);
            dispatch(
                level,
                NormaliseChunk::<R, N> {
                    call,
                    unit,
                    sum,
                    log,
                    buffers: &mut buffers,
                    out: &mut out,
                    normal: PhantomData,
                },
            );
        }
        Ok(())
    })
}

struct NormaliseChunk<'k, 'a, R: Real, N> {
    call: Call<'a, R>,
    unit: usize,
    sum: ExpSum,
    log: f64,
    buffers: &'k mut Buffers<R>,
    out: &'k mut Chunks<Results<'a, R>>,
    normal: PhantomData<N>,
}

impl<R: Real, N: Normal> Kernel for NormaliseChunk<'_, '_, R, N> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let classes = self.call.source.classes();
        let per_row = classes.div_ceil(CHUNK);
        let (row, from) = (self.unit / per_row, self.unit % per_row * CHUNK);
        let write = Write::<I, R, N>::new(isa, &self.call, row, &self.sum, self.log);
        write.classes(from..classes.min(from + CHUNK), self.unit, self.buffers, self.out);
    }
}
