//! Sums of exponentials with a row in each lane: for classes that do not follow each other in memory.
//!
//! Where the class axis is not the contiguous one, neighbouring rows often are: up to [`ROWS`] of them are read side by
//! side, class by class, from where they lie, or from a small packed tile where they are not adjacent either. Nothing
//! larger than a tile is copied. Per lane the method is that of `expsum`: a shift (and a reference) of the row's own, found
//! in its first [`CLASSES`] scores, and a tile that exceeds it is done again. A lane sees only its own row, so neither
//! the rows beside it nor their number change a bit.
//! Sums. TURNS terms in the element's real type, then f64. Cost. As `expsum` once the scores are in lanes.

use super::beside;
use super::expsum::{ExpSum, Exponents, HEADROOM, Scaled, TURNS, Terms, WideOf, base_for, spread, with_exponents};
use crate::elementary::Window;
use crate::options::PerRow;
use crate::rows::{BLOCK, Source};
use crate::simd::{Element, Isa, Lanes, LanesOf, Real, V};

/// The most rows that are taken side by side: four cache lines of f32.
pub(crate) const ROWS: usize = 64;
/// The classes of a tile: with [`ROWS`] rows 16 KiB of f32.
pub(crate) const CLASSES: usize = 64;

/// The sums of as many rows from `first` on as `sums` holds, at most [`ROWS`].
#[inline(always)]
pub(crate) fn sums<I: Isa, R: Real>(
    isa: I,
    source: &Source<'_, R>,
    temperature: &PerRow<'_>,
    first: usize,
    sums: &mut [ExpSum],
    packed: &mut Vec<R>,
) {
    let n = LanesOf::<I, R>::N;
    let width = sums.len().next_multiple_of(n);
    let mut columns = [Column::<I, R>::new(isa, temperature, first, sums.len()); ROWS / 8];
    let columns = &mut columns[..width / n];
    for (index, column) in columns.iter_mut().enumerate().skip(1) {
        *column = Column::new(isa, temperature, first + index * n, sums.len() - index * n);
    }
    for from in (0..source.classes()).step_by(CLASSES) {
        let to = source.classes().min(from + CLASSES);
        if from % BLOCK == 0 {
            for column in columns.iter_mut() {
                column.carry();
            }
        }
        let (tile, pitch) = source.tile(first, width, from, to, packed);
        for (index, column) in columns.iter_mut().enumerate() {
            column.add(&Strip { isa, tile: &tile[index * n..], pitch, classes: to - from });
        }
    }
    for (column, sums) in columns.iter_mut().zip(sums.chunks_mut(n)) {
        column.carry();
        sums.copy_from_slice(&column.bases[..sums.len()]);
    }
}

/// A tile's scores of the rows of one vector.
struct Strip<'t, I, R> {
    isa: I,
    tile: &'t [R],
    pitch: usize,
    classes: usize,
}

impl<I: Isa, R: Real> Strip<'_, I, R> {
    #[inline(always)]
    fn at(&self, class: usize) -> V<I, R> {
        R::load(self.isa, &self.tile[class * self.pitch..])
    }

    /// The largest score of each lane, NaN left out.
    #[inline(always)]
    fn highest(&self) -> V<I, R> {
        let lanes = R::lanes(self.isa);
        let mut highest = lanes.splat(Real::of_f64(f64::NEG_INFINITY));
        for class in 0..self.classes {
            highest = lanes.max(self.at(class), highest);
        }
        highest
    }

    /// What +inf and NaN among the scores of a lane make of its sum.
    fn beyond_terms(&self, lane: usize) -> f64 {
        let scores = || (0..self.classes).map(|class| self.tile[class * self.pitch + lane].to_f64());
        if scores().any(f64::is_nan) { f64::NAN } else { f64::INFINITY }
    }
}

/// The sums of the rows of one vector, as they grow.
#[derive(Clone, Copy)]
struct Column<'p, I: Isa, R: Real> {
    isa: I,
    temperature: &'p PerRow<'p>,
    first: usize,
    count: usize,
    bases: [ExpSum; 16],                   // with the sums of all blocks but the present one
    limits: [f64; 16],                     // a score above it needs a new shift; -inf before the first finite score
    wide: Wide<I, R>,                      // the sums
    limit: V<I, R>,                        // the limits, as lanes
    scaled: Option<Scaled<LanesOf<I, R>>>, // none where the scores are the exponents
    window: Window<LanesOf<I, R>>,
}

type Wide<I, R> = WideOf<I, <R as Element>::Real>;

impl<'p, I: Isa, R: Real> Column<'p, I, R> {
    #[inline(always)]
    fn new(isa: I, temperature: &'p PerRow<'p>, first: usize, count: usize) -> Self {
        let lanes = R::lanes(isa);
        let zero = lanes.splat(R::ZERO);
        let mut column = Self {
            isa,
            temperature,
            first,
            count: count.min(LanesOf::<I, R>::N),
            bases: [ExpSum::EMPTY; 16],
            limits: [f64::NEG_INFINITY; 16],
            wide: R::wide_zero(isa),
            limit: zero,
            scaled: None,
            window: Window::of_each(lanes, zero),
        };
        column.spread();
        column
    }

    /// Lanes of the present bases.
    #[inline(always)]
    fn spread(&mut self) {
        let (lanes, count) = (R::lanes(self.isa), LanesOf::<I, R>::N);
        let references = self.bases.map(|base| base.reference);
        self.scaled = Scaled::of_rows(lanes, self.temperature, self.first, &references[..self.count]);
        self.window = Window::of_each(lanes, spread(lanes, count, |lane| self.bases[lane].shift));
        self.limit = spread(lanes, count, |lane| self.limits[lane]);
    }

    #[inline(always)]
    fn add(&mut self, strip: &Strip<'_, I, R>) {
        let lanes = R::lanes(self.isa);
        if self.limits[..self.count].contains(&f64::NEG_INFINITY) {
            let highest = strip.highest();
            self.rebase(highest, |limit| limit == f64::NEG_INFINITY);
        }
        let (sum, highest) = self.terms(strip);
        if !lanes.any(lanes.gt(highest, self.limit)) {
            self.wide = sum;
            return;
        }
        self.rebase(highest, |_| true);
        let highest = beside::lanes_of(lanes, highest);
        let mut sums = R::wide_lanes(self.isa, self.terms(strip).0);
        let before = R::wide_lanes(self.isa, self.wide);
        for lane in (0..self.count).filter(|&lane| highest[lane] == f64::INFINITY) {
            sums[lane] = before[lane] + strip.beyond_terms(lane);
        }
        self.wide = R::wide_of(self.isa, &sums);
    }

    /// Gives the rows whose score in `highest` exceeds a limit that is `due` a new base.
    #[inline(always)]
    fn rebase(&mut self, highest: V<I, R>, due: impl Fn(f64) -> bool) {
        let mut sums = R::wide_lanes(self.isa, self.wide);
        for (lane, highest) in beside::lanes_of(R::lanes(self.isa), highest).into_iter().enumerate().take(self.count) {
            if highest.is_finite() && highest > self.limits[lane] && due(self.limits[lane]) {
                let temperature = self.temperature.of(self.first + lane);
                let (reference, shift) = base_for(highest, temperature);
                let base = self.bases[lane];
                sums[lane] = ExpSum { sum: sums[lane], ..base }.rebased(reference, shift, temperature);
                let sum = base.rebased(reference, shift, temperature);
                self.bases[lane] = ExpSum { reference, shift, sum };
                self.limits[lane] = highest + HEADROOM * temperature;
            }
        }
        self.wide = R::wide_of(self.isa, &sums);
        self.spread();
    }

    /// The sums with the terms of a strip added, and the largest score of each lane.
    #[inline(always)]
    fn terms(&self, strip: &Strip<'_, I, R>) -> (Wide<I, R>, V<I, R>) {
        with_exponents!(&self.scaled, exponents => self.terms_of(strip, exponents))
    }

    #[inline(always)]
    fn terms_of<X: Exponents<LanesOf<I, R>>>(&self, strip: &Strip<'_, I, R>, exponents: &X) -> (Wide<I, R>, V<I, R>) {
        let lanes = R::lanes(self.isa);
        let mut highest = lanes.splat(Real::of_f64(f64::NEG_INFINITY));
        let mut wide = self.wide;
        for from in (0..strip.classes).step_by(TURNS) {
            let mut terms = Terms::none(lanes);
            for class in from..strip.classes.min(from + TURNS) {
                let x = strip.at(class);
                highest = lanes.max(x, highest);
                terms.add(lanes, exponents, &self.window, x);
            }
            wide = terms.met(self.isa, wide);
        }
        (wide, highest)
    }

    /// Adds the sums of the present block to the others: few additions in each line of them round little.
    #[inline(always)]
    fn carry(&mut self) {
        let sums = R::wide_lanes(self.isa, self.wide);
        self.bases.iter_mut().zip(sums).for_each(|(base, sum)| base.sum += sum);
        self.wide = R::wide_zero(self.isa);
    }
}
