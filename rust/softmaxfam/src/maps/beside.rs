//! Short rows, side by side: a row in each lane.
//!
//! Problem. Along a row of ten classes most lanes are empty, and the reductions, the logarithm and the bookkeeping of the
//! row cost more than its terms. Method. [`ROWS`] rows are transposed in registers into a tile in the first cache, class
//! after class with a row in each lane; all that is done for a row is then done for a whole vector of rows at once. Every
//! row in line of at most [`LONGEST`] classes goes this way and a lane sees only its own row, so that neither batch nor
//! threads change a bit. With the whole row at hand the shift of `expsum` is that of its maximum: nothing is done twice.
//! Sums. TURNS terms in the real type, then f64. Cost. Besides the terms a load, four shuffles and a store a vector.

use super::expsum::{ExpSum, Exponents, FAR, Scaled, TURNS, Terms, WideOf, with_exponents};
use crate::elementary::{self, Window};
use crate::options::PerRow;
use crate::rows::{Places, Results, Source};
use crate::simd::{Element, Isa, Kernel, Lanes, LanesOf, Level, Real, V, dispatch};
use std::ops::Range;

/// The rows of a tile: one vector of f32, two of f64.
pub(crate) const ROWS: usize = 16;
/// Rows of more classes fill vectors well enough along themselves.
pub(crate) const LONGEST: usize = 64;

/// Whether rows are taken side by side.
pub(crate) fn suits<R: Real>(source: &Source<'_, R>) -> bool {
    source.is_in_line() && (1..=LONGEST).contains(&source.classes())
}

/// Up to [`ROWS`] rows, side by side for each class. Lanes past them hold minus infinity.
pub(crate) struct Tile<R: Real> {
    level: Level,
    classes: usize,
    values: Box<[R]>,
    buffer: Box<[R]>,
}

/// Under what the exponentials of the rows of a vector are summed.
pub(crate) struct Base<L: Lanes> {
    highest: L::V,
    reference: L::V,
    shift: L::V,
    scaled: Option<Scaled<L>>, // none where the scores are the exponents
    window: Window<L>,
    is_far: bool, // whether a reference is not 0
}

impl<L: Lanes> Base<L> {
    /// What the sums of the rows are multiples of, as logarithms, without the reference.
    #[inline(always)]
    pub(crate) fn shifts(&self, lanes: L) -> [f64; 16] {
        lanes_of(lanes, self.shift)
    }
}

/// log of 2^shift sum
#[inline(always)]
pub(crate) fn logs_of<I: Isa>(isa: I, sums: &[f64; 16], shifts: &[f64; 16]) -> [f64; 16] {
    let lanes = isa.f64();
    let mut logs = [0.0; 16];
    for half in [0, 8] {
        let log = elementary::log(lanes, lanes.load(&sums[half..]));
        let height = lanes.mul(lanes.load(&shifts[half..]), lanes.splat(std::f64::consts::LN_2));
        lanes.store(lanes.add(height, log), &mut logs[half..]);
    }
    logs
}

#[inline(always)]
pub(crate) fn lanes_of<L: Lanes>(lanes: L, v: L::V) -> [f64; 16] {
    let (mut array, mut wide) = ([L::Scalar::ZERO; 16], [0.0; 16]);
    lanes.store(v, &mut array);
    for lane in 0..16 {
        wide[lane] = array[lane].into();
    }
    wide
}

impl<R: Real> Tile<R> {
    pub(crate) fn new(source: &Source<'_, R>) -> Self {
        let classes = source.classes();
        let copied = if source.is_in_place() { 0 } else { classes * ROWS };
        Self {
            level: Level::active(),
            classes,
            values: vec![R::ZERO; classes * ROWS].into_boxed_slice(),
            buffer: vec![R::ZERO; copied].into_boxed_slice(),
        }
    }

    pub(crate) fn level(&self) -> Level {
        self.level
    }

    /// The scores, or what was stored in their place, of one class and the rows from `column` on.
    #[inline(always)]
    pub(crate) fn at<I: Isa>(&self, isa: I, class: usize, column: usize) -> V<I, R> {
        R::lanes(isa).load(&self.values[class * ROWS + column..])
    }

    #[inline(always)]
    pub(crate) fn set<I: Isa>(&mut self, isa: I, class: usize, column: usize, v: V<I, R>) {
        R::lanes(isa).store(v, &mut self.values[class * ROWS + column..]);
    }

    /// 8 rows from `column` on, as f64.
    #[inline(always)]
    pub(crate) fn at_f64<I: Isa>(&self, isa: I, class: usize, column: usize) -> <I::F64 as Lanes>::V {
        R::load_f64(isa, &self.values[class * ROWS + column..])
    }

    #[inline(always)]
    pub(crate) fn set_f64<I: Isa>(&mut self, isa: I, class: usize, v: [<I::F64 as Lanes>::V; 2]) {
        R::store_f64(isa, v, &mut self.values[class * ROWS..]);
    }

    /// Reads `count` rows from `first` on.
    pub(crate) fn read(&mut self, source: &Source<'_, R>, first: usize, count: usize) {
        dispatch(self.level, Read { tile: self, source, first, count });
    }

    /// Writes what is stored to `count` rows of `out` from `first` on; `results` is as `out.place` needs it.
    pub(crate) fn write(&self, first: usize, count: usize, out: &mut Results<'_, R>, results: &mut [R]) {
        dispatch(self.level, Write { tile: self, first, count, out, results });
    }

    /// The largest score of each row of a vector, NaN left out.
    #[inline(always)]
    pub(crate) fn highest<I: Isa>(&self, isa: I, column: usize) -> V<I, R> {
        let lanes = R::lanes(isa);
        let mut highest = lanes.splat(Real::of_f64(f64::NEG_INFINITY));
        for class in 0..self.classes {
            highest = lanes.max(self.at(isa, class, column), highest);
        }
        highest
    }

    /// The base of `count` rows of a vector, of which the first is row `first` of the call.
    #[inline(always)]
    pub(crate) fn base<I: Isa>(
        &self,
        isa: I,
        column: usize,
        temperature: &PerRow<'_>,
        first: usize,
        count: usize,
    ) -> Base<LanesOf<I, R>> {
        let lanes = R::lanes(isa);
        let constant = |value| lanes.splat(Real::of_f64(value));
        let zero = constant(0.0);
        let highest = self.highest(isa, column);
        // a row without a finite maximum: any base will do
        let finite = lanes.select(lanes.gt(constant(f64::INFINITY), highest), highest, zero);
        let finite = lanes.select(lanes.gt(finite, constant(f64::NEG_INFINITY)), finite, zero);
        let scaled = Scaled::of_rows(lanes, temperature, first, &[0.0; ROWS][..count]);
        let z = scaled.of(finite).0;
        let is_far = lanes.gt(lanes.max(z, lanes.sub(zero, z)), constant(FAR));
        let rounder = lanes.splat(R::ROUNDER);
        let shift = lanes.sub(lanes.mul_add(z, lanes.splat(R::LOG2_E), rounder), rounder);
        let (reference, shift) = (lanes.select(is_far, finite, zero), lanes.select(is_far, zero, shift));
        let scaled = match lanes.any(is_far) {
            true => Scaled::of_rows(lanes, temperature, first, &lanes_of(lanes, reference)[..count]),
            false => scaled,
        };
        let is_far = lanes.any(is_far);
        Base { highest, reference, shift, scaled, window: Window::of_each(lanes, shift), is_far }
    }

    /// The sums of the rows of a vector.
    #[inline(always)]
    pub(crate) fn sums<I: Isa>(&self, isa: I, column: usize, base: &Base<LanesOf<I, R>>) -> [f64; 16] {
        let lanes = R::lanes(isa);
        let wide = with_exponents!(&base.scaled, exponents => self.terms(isa, column, &base.window, exponents));
        let mut sums = R::wide_lanes(isa, wide);
        if lanes.any(lanes.ge(base.highest, lanes.splat(Real::of_f64(f64::INFINITY)))) {
            self.settle_infinite(column, &lanes_of(lanes, base.highest), &mut sums);
        }
        sums
    }

    #[inline(always)]
    fn terms<I: Isa, X: Exponents<LanesOf<I, R>>>(
        &self,
        isa: I,
        column: usize,
        window: &Window<LanesOf<I, R>>,
        exponents: &X,
    ) -> WideOf<I, R> {
        let lanes = R::lanes(isa);
        let mut wide = R::wide_zero(isa);
        for from in (0..self.classes).step_by(TURNS) {
            let mut terms = Terms::none(lanes);
            for class in from..self.classes.min(from + TURNS) {
                terms.add(lanes, exponents, window, self.at(isa, class, column));
            }
            wide = terms.met(isa, wide);
        }
        wide
    }

    /// What +inf and NaN make of the sums of rows with +inf.
    #[cold]
    fn settle_infinite(&self, column: usize, highest: &[f64; 16], sums: &mut [f64; 16]) {
        for lane in (0..ROWS - column).filter(|&lane| highest[lane] == f64::INFINITY) {
            let scores = || self.values.iter().skip(column + lane).step_by(ROWS);
            sums[lane] = if scores().any(|x| (*x).into().is_nan()) { f64::NAN } else { f64::INFINITY };
        }
    }

    /// The logarithms of the sums of the rows of a vector, of which the first is row `first` of the call.
    #[inline(always)]
    pub(crate) fn logs<I: Isa>(
        &self,
        isa: I,
        column: usize,
        base: &Base<LanesOf<I, R>>,
        temperature: &PerRow<'_>,
        first: usize,
    ) -> [f64; 16] {
        let lanes = R::lanes(isa);
        let mut logs = logs_of(isa, &self.sums(isa, column, base), &base.shifts(lanes));
        if base.is_far {
            for (lane, reference) in lanes_of(lanes, base.reference).into_iter().enumerate() {
                logs[lane] += if reference == 0.0 { 0.0 } else { reference / temperature.of(first + lane) };
            }
        }
        logs
    }

    /// Puts the terms in the place of the scores of a vector of rows; their sums.
    #[inline(always)]
    pub(crate) fn store_terms<I: Isa>(&mut self, isa: I, column: usize, base: &Base<LanesOf<I, R>>) -> [f64; 16] {
        let wide = with_exponents!(&base.scaled, exponents => self.stored_terms(isa, column, &base.window, exponents));
        R::wide_lanes(isa, wide)
    }

    #[inline(always)]
    fn stored_terms<I: Isa, X: Exponents<LanesOf<I, R>>>(
        &mut self,
        isa: I,
        column: usize,
        window: &Window<LanesOf<I, R>>,
        exponents: &X,
    ) -> WideOf<I, R> {
        let lanes = R::lanes(isa);
        let mut wide = R::wide_zero(isa);
        for from in (0..self.classes).step_by(TURNS) {
            let mut sum = lanes.splat(R::ZERO);
            for class in from..self.classes.min(from + TURNS) {
                let (z, low) = exponents.of(self.at(isa, class, column));
                let term = elementary::exp(lanes, z, low, window);
                self.set(isa, class, column, term);
                sum = lanes.add(sum, term);
            }
            wide = R::wide_add(isa, wide, sum);
        }
        wide
    }

    /// Multiplies what is stored for a vector of rows by a number each, given as a sum of two.
    #[inline(always)]
    pub(crate) fn scale<I: Isa>(&mut self, isa: I, column: usize, factors: &[[R; 16]; 2]) {
        let lanes = R::lanes(isa);
        let [high, low] = [lanes.load(&factors[0]), lanes.load(&factors[1])];
        for class in 0..self.classes {
            let term = self.at(isa, class, column);
            self.set(isa, class, column, lanes.mul_add(term, high, lanes.mul(term, low)));
        }
    }

    /// Replaces the scores of a vector of rows by score over T (less the reference) minus a number each, a sum of two.
    #[inline(always)]
    pub(crate) fn subtract<I: Isa>(&mut self, isa: I, column: usize, base: &Base<LanesOf<I, R>>, logs: &[[R; 16]; 2]) {
        let lanes = R::lanes(isa);
        let [high, low_log] = [lanes.load(&logs[0]), lanes.load(&logs[1])];
        for class in 0..self.classes {
            let x = self.at(isa, class, column);
            let (z, low) = base.scaled.of(x);
            let low = match low {
                Some(low) => lanes.sub(low_log, low),
                None => low_log,
            };
            self.set(isa, class, column, lanes.sub(lanes.sub(z, high), low));
        }
    }
}

/// Kernels of their own: the code of a transposition exists once for each element type.
struct Read<'k, 's, R: Real> {
    tile: &'k mut Tile<R>,
    source: &'k Source<'s, R>,
    first: usize,
    count: usize,
}

impl<R: Real> Kernel for Read<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { tile, source, first, count } = self;
        let (lanes, n) = (R::lanes(isa), LanesOf::<I, R>::N);
        let classes = tile.classes;
        let mut rows: [&[R]; ROWS] = [&[]; ROWS];
        if let Some(run) = source.run(first, count) {
            for (row, scores) in rows.iter_mut().zip(run.chunks_exact(classes)) {
                *row = scores;
            }
            if let Some(next) = source.run(first + count, ROWS) {
                isa.prefetch(next); // the order of reading hides from the hardware that it is one
            }
        } else if source.is_in_place() {
            for (row, index) in rows[..count].iter_mut().zip(first..) {
                *row = source.block(index, 0, &mut []);
            }
        } else {
            source.copy_rows(first, count, &mut tile.buffer);
            for (row, scores) in rows[..count].iter_mut().zip(tile.buffer.chunks_exact(classes)) {
                *row = scores;
            }
        }
        for column in (0..ROWS).step_by(n) {
            for from in (0..classes).step_by(n) {
                let to = classes.min(from + n);
                let mut vectors = [lanes.splat(Real::of_f64(f64::NEG_INFINITY)); 16];
                for (vector, row) in vectors.iter_mut().zip(&rows[column..count.clamp(column, column + n)]) {
                    *vector = R::load_or(isa, &row[from..to], R::NEG_INFINITY);
                }
                lanes.transpose(&mut vectors);
                let values = &mut tile.values[from * ROWS..to * ROWS];
                for (values, vector) in values.chunks_exact_mut(ROWS).zip(&vectors) {
                    lanes.store(*vector, &mut values[column..]);
                }
            }
        }
    }
}

struct Write<'k, 'o, R: Real> {
    tile: &'k Tile<R>,
    first: usize,
    count: usize,
    out: &'k mut Results<'o, R>,
    results: &'k mut [R],
}

impl<R: Real> Kernel for Write<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { tile, first, count, out, results } = self;
        let (lanes, n) = (R::lanes(isa), LanesOf::<I, R>::N);
        for column in (0..count).step_by(n) {
            for from in (0..tile.classes).step_by(n) {
                let to = tile.classes.min(from + n);
                let mut vectors = [lanes.splat(R::ZERO); 16];
                let values = &tile.values[from * ROWS..to * ROWS];
                for (values, vector) in values.chunks_exact(ROWS).zip(&mut vectors) {
                    *vector = lanes.load(&values[column..]);
                }
                lanes.transpose(&mut vectors);
                for (row, vector) in (first + column..first + count.min(column + n)).zip(&vectors) {
                    R::store_part(isa, *vector, out.place(row, from, to, results));
                    out.settle(row, from, to, results);
                }
            }
        }
    }
}

/// log sum_i exp(x_i / T) of short rows.
#[inline(always)]
pub(crate) fn logsumexp<I: Isa, R: Real>(
    isa: I,
    source: &Source<'_, R>,
    temperature: &PerRow<'_>,
    rows: Range<usize>,
    out: &mut Results<'_, R>,
) {
    let n = LanesOf::<I, R>::N;
    let mut tile = Tile::new(source);
    for first in rows.clone().step_by(ROWS) {
        let count = ROWS.min(rows.end - first);
        tile.read(source, first, count);
        let mut results = [0.0; ROWS];
        for column in (0..count).step_by(n) {
            let base = tile.base(isa, column, temperature, first + column, n.min(count - column));
            let logs = tile.logs(isa, column, &base, temperature, first + column);
            results[column..column + n].copy_from_slice(&logs[..n]);
        }
        out.write_rounded(first, &results[..count]);
    }
}

/// The sums of as many rows from `first` on as `sums` holds, at most [`ROWS`].
pub(crate) struct Sums<'k, 'a, R: Real> {
    pub(crate) source: &'k Source<'a, R>,
    pub(crate) temperature: PerRow<'a>,
    pub(crate) first: usize,
    pub(crate) sums: &'k mut [ExpSum],
    pub(crate) tile: &'k mut Tile<R>,
}

impl<R: Real> Kernel for Sums<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { source, temperature, first, sums, tile } = self;
        let (lanes, n) = (R::lanes(isa), LanesOf::<I, R>::N);
        tile.read(source, first, sums.len());
        for (index, sums) in sums.chunks_mut(n).enumerate() {
            let column = index * n;
            let base = tile.base(isa, column, &temperature, first + column, sums.len());
            let found = tile.sums(isa, column, &base);
            let (references, shifts) = (lanes_of(lanes, base.reference), base.shifts(lanes));
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum = ExpSum { reference: references[lane], shift: shifts[lane], sum: found[lane] };
            }
        }
    }
}
