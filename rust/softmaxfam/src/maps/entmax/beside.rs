//! sparsemax and entmax 1.5 of short rows, side by side: a row in each lane.
//!
//! Method. That of `solve::climb_without_logarithms`, a row a lane, from w = p_max^a <= 1: no candidates are listed, for all
//! classes of a short row cost less than choosing among them. The maximum is one of the terms. A lane whose step has become
//! small keeps its w while others go on, so that no row depends on its neighbours.
//! Cost. 5 operations a class and step, 4 to 6 steps; a division, and a square root for alpha = 1.5, a step.

use super::solve::near;
use crate::maps::beside::{ROWS, Tile};
use crate::options::PerRow;
use crate::simd::{Isa, Lanes, Real};

/// Whether an order is solved here.
pub(super) fn suits(a: f64) -> bool {
    a == 0.5 || a == 1.0
}

type V64<I> = <<I as Isa>::F64 as Lanes>::V;

/// z = (x - max) / T of a tile's rows in f64, in two halves of 8 rows, then their probabilities.
pub(super) struct Beside {
    classes: usize,
    values: Box<[f64]>,
}

impl Beside {
    pub(super) fn new(classes: usize) -> Self {
        Self { classes, values: vec![0.0; classes * ROWS].into_boxed_slice() }
    }

    /// Replaces the scores of `count` rows from `first` on, all of one order, by probabilities; the highest scores. Rows
    /// without a finite highest score, or with NaN, get anything, and the highest score NaN.
    #[inline(always)]
    pub(super) fn solve<I: Isa, R: Real>(
        &mut self,
        isa: I,
        tile: &mut Tile<R>,
        a: f64,
        temperature: &PerRow<'_>,
        rows: std::ops::Range<usize>,
    ) -> [f64; ROWS] {
        let lanes = isa.f64();
        let mut temperatures = [1.0; ROWS];
        let mut is_scaled = false;
        for row in rows.clone() {
            temperatures[row - rows.start] = temperature.of(row);
            is_scaled |= temperature.of(row) != 1.0;
        }
        let mut tops = [0.0; ROWS];
        for column in [0, 8] {
            let divisor = lanes.load(&temperatures[column..]);
            let highest = self.differences(isa, tile, column, is_scaled.then_some(divisor));
            lanes.store(highest, &mut tops[column..]);
        }
        let w =
            if a == 1.0 { self.climb::<I, true>(isa, near::<R>()) } else { self.climb::<I, false>(isa, near::<R>()) };
        for (w, column) in w.into_iter().zip([0, 8]) {
            if a == 1.0 {
                self.project(isa, column, w);
            } else {
                self.share(isa, column, w);
            }
        }
        for class in 0..self.classes {
            let place = &self.values[class * ROWS..];
            tile.set_f64(isa, class, [lanes.load(place), lanes.load(&place[8..])]);
        }
        tops
    }

    /// z of 8 rows; their highest scores, NaN where z is undefined, and all z of such a row are -inf.
    #[inline(always)]
    fn differences<I: Isa, R: Real>(
        &mut self,
        isa: I,
        tile: &Tile<R>,
        column: usize,
        divisor: Option<V64<I>>,
    ) -> V64<I> {
        let lanes = isa.f64();
        let (lowest, infinite) = (lanes.splat(f64::NEG_INFINITY), lanes.splat(f64::INFINITY));
        let nan = lanes.splat(f64::NAN);
        let (mut highest, mut undefined) = (lowest, lanes.splat(0.0));
        for class in 0..self.classes {
            let x = tile.at_f64(isa, class, column);
            highest = lanes.max(x, highest);
            undefined = lanes.select(lanes.is_nan(x), nan, undefined);
            lanes.store(x, &mut self.values[class * ROWS + column..]);
        }
        let finite = lanes.select(lanes.gt(infinite, highest), highest, nan);
        let finite = lanes.select(lanes.gt(finite, lowest), finite, nan);
        let highest = lanes.add(finite, undefined);
        for class in 0..self.classes {
            let place = &mut self.values[class * ROWS + column..];
            let mut z = lanes.sub(lanes.load(place), highest);
            if let Some(divisor) = divisor {
                z = lanes.div(z, divisor);
            }
            lanes.store(lanes.select(lanes.is_nan(z), lowest, z), place);
        }
        highest
    }

    /// w = p_max^a of all rows, on the line of alpha = 2 or the parabola of alpha = 1.5. Both halves take turns, for a step
    /// is one long chain of operations.
    #[inline(always)]
    fn climb<I: Isa, const IS_LINE: bool>(&self, isa: I, near: f64) -> [V64<I>; 2] {
        let lanes = isa.f64();
        let (zero, one) = (lanes.splat(0.0), lanes.splat(1.0));
        let (eps, near) = (lanes.splat(f64::EPSILON), lanes.splat(near));
        let half = lanes.splat(if IS_LINE { 1.0 } else { 0.5 });
        let (mut w, mut last, mut closed) = ([one; 2], [zero; 2], [zero; 2]);
        for _ in 0..100 {
            let (mut sum, mut slope) = ([zero; 2], [zero; 2]);
            for z in self.values.chunks_exact(ROWS) {
                for part in 0..2 {
                    let t = lanes.max(lanes.mul_add(lanes.load(&z[8 * part..]), half, w[part]), zero);
                    if IS_LINE {
                        sum[part] = lanes.add(sum[part], t);
                        slope[part] = lanes.add(slope[part], lanes.select(lanes.gt(t, zero), one, zero));
                    } else {
                        sum[part] = lanes.mul_add(t, t, sum[part]);
                        slope[part] = lanes.add(slope[part], t);
                    }
                }
            }
            let mut is_open = false;
            for part in 0..2 {
                // of S = sum p: (S - 1) / S' on the line, (S - sqrt(S)) / (S' / 2) on the parabola
                let target = if IS_LINE { one } else { lanes.sqrt(sum[part]) };
                let step = lanes.div(lanes.sub(sum[part], target), slope[part]);
                let size = lanes.max(step, lanes.sub(zero, step));
                closed[part] = lanes.select(lanes.gt(last[part], zero), one, closed[part]);
                closed[part] = lanes.select(lanes.ge(lanes.mul(eps, w[part]), size), one, closed[part]);
                // an undefined row has no slope
                closed[part] = lanes.select(lanes.gt(slope[part], zero), closed[part], one);
                is_open |= lanes.any(lanes.gt(one, closed[part]));
                w[part] = lanes.select(lanes.gt(closed[part], zero), w[part], lanes.sub(w[part], step));
                if !IS_LINE {
                    last[part] = lanes.select(lanes.gt(lanes.mul(near, w[part]), size), one, last[part]);
                }
            }
            if !is_open {
                break;
            }
        }
        w
    }

    #[inline(always)]
    fn z<I: Isa>(&self, isa: I, class: usize, column: usize) -> V64<I> {
        isa.f64().load(&self.values[class * ROWS + column..])
    }

    /// p = [z + w]_+
    #[inline(always)]
    fn project<I: Isa>(&mut self, isa: I, column: usize, w: V64<I>) {
        let lanes = isa.f64();
        for class in 0..self.classes {
            let p = lanes.max(lanes.add(self.z(isa, class, column), w), lanes.splat(0.0));
            lanes.store(p, &mut self.values[class * ROWS + column..]);
        }
    }

    /// p = [w + z / 2]_+^2 over their sum.
    #[inline(always)]
    fn share<I: Isa>(&mut self, isa: I, column: usize, w: V64<I>) {
        let lanes = isa.f64();
        let (zero, half) = (lanes.splat(0.0), lanes.splat(0.5));
        let mut sum = zero;
        for class in 0..self.classes {
            let t = lanes.max(lanes.mul_add(self.z(isa, class, column), half, w), zero);
            let p = lanes.mul(t, t);
            sum = lanes.add(sum, p);
            lanes.store(p, &mut self.values[class * ROWS + column..]);
        }
        let inverse = lanes.div(lanes.splat(1.0), sum);
        for class in 0..self.classes {
            let p = self.z(isa, class, column);
            let quotient = lanes.mul(p, inverse);
            let rest = lanes.neg_mul_add(quotient, sum, p);
            let quotient = lanes.mul_add(rest, inverse, quotient);
            lanes.store(quotient, &mut self.values[class * ROWS + column..]);
        }
    }
}
