//! Vector-Jacobian products with a row in each lane: for classes that do not follow each other in memory.
//!
//! As in `maps::across`, up to [`ROWS`] rows are read side by side from tiles; a lane sees only its own row. Sums. TURNS
//! terms in the type that is computed with, then f64.

use super::{HIGHEST, TURNS, Weights, add_products, gradient, in_two};
use crate::elementary::{self, Window};
use crate::maps::across::{CLASSES, ROWS};
use crate::options::PerRow;
use crate::rows::{Results, Source};
use crate::simd::{Isa, Kernel, Lanes, LanesOf, Real, V};
use std::ops::Range;

/// Which product: with probabilities of an order up to 2, or with their logarithms.
#[derive(Clone, Copy)]
pub(super) enum Product {
    OfShares { alpha: f64 },
    OfLogs,
}

/// The products of some rows.
pub(super) struct Across<'k, 'a, R: Real> {
    pub(super) product: Product,
    pub(super) x: &'k Source<'a, R>,
    pub(super) g: &'k Source<'a, R>,
    pub(super) rows: Range<usize>,
    pub(super) temperature: PerRow<'k>,
    pub(super) tiles: &'k mut [Vec<R>; 2],
    pub(super) out: &'k mut Results<'a, R>,
}

/// What the rows of a vector have in common: mean of g in two parts, or the sum of g; and 1 / T.
struct Middle<I: Isa, R: Real> {
    high: V<I, R>,
    low: V<I, R>,
    scale: V<I, R>,
}

impl<R: Real> Kernel for Across<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let mut rows = self.rows.clone();
        while !rows.is_empty() {
            // rows that end a line are not taken with those of the next: a tile of both would be a copy
            let together = match self.x.adjacent(rows.start) {
                1 => ROWS,
                adjacent => adjacent.min(ROWS),
            };
            let end = rows.end.min(rows.start + together);
            self.some_rows(isa, rows.start..end);
            rows.start = end;
        }
    }
}

impl<R: Real> Across<'_, '_, R> {
    #[inline(always)]
    fn some_rows<I: Isa>(&mut self, isa: I, rows: Range<usize>) {
        let n = LanesOf::<I, R>::N;
        let width = rows.len().next_multiple_of(n);
        let mut sums = [[R::wide_zero(isa); 2]; ROWS / 8];
        let [of_x, of_g] = &mut *self.tiles;
        for from in (0..self.x.classes()).step_by(CLASSES) {
            let to = self.x.classes().min(from + CLASSES);
            let (x, x_pitch) = self.x.tile(rows.start, width, from, to, of_x);
            let (g, g_pitch) = self.g.tile(rows.start, width, from, to, of_g);
            for (column, sums) in sums[..width / n].iter_mut().enumerate() {
                let (x, g) = (&x[column * n..], &g[column * n..]);
                add_tile::<I, R>(isa, self.product, sums, (x, x_pitch), (g, g_pitch), to - from);
            }
        }
        let mut middles = [const { None }; ROWS / 8];
        for (column, middle) in middles[..width / n].iter_mut().enumerate() {
            *middle = Some(self.middle::<I>(isa, &sums[column], rows.start + column * n..rows.end));
        }
        let [of_x, of_g] = &mut *self.tiles;
        let mut results = [R::ZERO; ROWS];
        for from in (0..self.x.classes()).step_by(CLASSES) {
            let to = self.x.classes().min(from + CLASSES);
            let (x, x_pitch) = self.x.tile(rows.start, width, from, to, of_x);
            let (g, g_pitch) = self.g.tile(rows.start, width, from, to, of_g);
            for class in 0..to - from {
                for (column, middle) in middles.iter().flatten().enumerate() {
                    let x = R::load(isa, &x[class * x_pitch + column * n..]);
                    let g = R::load(isa, &g[class * g_pitch + column * n..]);
                    R::store(isa, result::<I, R>(isa, self.product, x, g, middle), &mut results[column * n..]);
                }
                self.out.write_across(rows.start, from + class, &results[..rows.len()]);
            }
        }
    }

    #[inline(always)]
    fn middle<I: Isa>(&self, isa: I, sums: &[<R as Real>::Wide<I>; 2], rows: Range<usize>) -> Middle<I, R> {
        let lanes = R::lanes(isa);
        let (first, second) = (R::wide_lanes(isa, sums[0]), R::wide_lanes(isa, sums[1]));
        let (mut high, mut low, mut scale) = ([R::ZERO; 16], [R::ZERO; 16], [R::ZERO; 16]);
        for (lane, row) in rows.take(LanesOf::<I, R>::N).enumerate() {
            let middle = match self.product {
                Product::OfShares { alpha: 1.0 } => first[lane],
                Product::OfShares { .. } if second[lane] == 0.0 => 0.0, // a wholly masked row
                Product::OfShares { .. } => first[lane] / second[lane],
                Product::OfLogs => second[lane],
            };
            [high[lane], low[lane]] = in_two::<R>(middle);
            scale[lane] = R::of_f64(1.0 / self.temperature.of(row));
        }
        Middle { high: lanes.load(&high), low: lanes.load(&low), scale: lanes.load(&scale) }
    }
}

/// Adds a tile's terms of the rows of a vector: <s, g> and sum s, or the sum of g of the classes present.
#[inline(always)]
fn add_tile<I: Isa, R: Real>(
    isa: I,
    product: Product,
    sums: &mut [<R as Real>::Wide<I>; 2],
    (x, x_pitch): (&[R], usize),
    (g, g_pitch): (&[R], usize),
    classes: usize,
) {
    let lanes = R::lanes(isa);
    let zero = lanes.splat(R::ZERO);
    for from in (0..classes).step_by(TURNS) {
        let mut some = [zero; 2];
        for class in from..classes.min(from + TURNS) {
            let (x, g) = (R::load(isa, &x[class * x_pitch..]), R::load(isa, &g[class * g_pitch..]));
            match product {
                Product::OfShares { alpha } => {
                    let weights = Weights { alpha, reference: 1.0 };
                    add_products::<I, R, false>(isa, &mut some, x, g, weights, zero);
                }
                Product::OfLogs => some[1] = lanes.add(some[1], lanes.select(is_absent::<I, R>(isa, x), zero, g)),
            }
        }
        sums[0] = R::wide_add(isa, sums[0], some[0]);
        sums[1] = R::wide_add(isa, sums[1], some[1]);
    }
}

#[inline(always)]
fn is_absent<I: Isa, R: Real>(isa: I, x: V<I, R>) -> <LanesOf<I, R> as Lanes>::Mask {
    let lanes = R::lanes(isa);
    lanes.eq(x, lanes.splat(R::of_f64(f64::NEG_INFINITY)))
}

#[inline(always)]
fn result<I: Isa, R: Real>(isa: I, product: Product, x: V<I, R>, g: V<I, R>, middle: &Middle<I, R>) -> V<I, R> {
    let lanes = R::lanes(isa);
    let zero = lanes.splat(R::ZERO);
    match product {
        Product::OfShares { alpha } => {
            let weights = Weights { alpha, reference: 1.0 };
            gradient::<I, R, false>(isa, x, g, weights, [zero, middle.high, middle.low], middle.scale)
        }
        Product::OfLogs => {
            let highest = lanes.splat(R::of_f64(HIGHEST));
            let p = elementary::exp(lanes, lanes.min(highest, x), None, &Window::new(lanes, 0.0));
            let gradient = lanes.mul(lanes.neg_mul_add(p, middle.high, g), middle.scale);
            lanes.select(is_absent::<I, R>(isa, x), zero, gradient)
        }
    }
}
