//! The few classes of a row that may have a probability: one pass, no sorting.
//!
//! Problem. For alpha > 1 the support is {x_i > lambda}, lambda the threshold score. Any lower bound of lambda may discard
//! classes; a good one found early leaves almost nothing to do for the rest of the row.
//! Method. The bound starts at max - T/a over the first scores (a = alpha - 1: no class further below the maximum has a
//! probability) and only rises: with the maximum, and, when the list of candidates has doubled, to the threshold of
//! that list alone, for a subset's threshold never exceeds the whole's (Peters, Niculae, Martins 2019). There the power
//! 1/a is replaced by the next integer k, which only lowers the bound, w^k <= w^(1/a) on [0, 1], and costs multiplications only;
//! Newton's method on (sum w^k)^(1/k) climbs to it from below. For alpha > 2, k = 1.
//! Scores are compared 8 vectors at a time by their maximum; their sum shows a NaN among them.
//! Cost. One read; 2 operations a vector. Which classes are kept depends on the row alone.

use super::super::expsum::highest;
use crate::elementary;
use crate::rows::BLOCK;
use crate::simd::{Element, Isa, Lanes, LanesOf, Real, V, Visitor};

/// A support larger than this is not listed, where the curve can be solved on the row itself.
const MANY: usize = 2048;
/// The list is first tightened when it holds so many.
const FEW: usize = 32;
/// Scores whose maximum gives the first bound.
const HEAD: usize = 256;
const GROUP: usize = 8;

/// What a row's order and temperature mean for the filter.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    /// T / a: how far below the maximum a class of the support can be.
    pub(super) depth: f64,
    /// The integer power whose threshold bounds the row's from below.
    pub(super) power: u32,
    /// Whether a large support is listed too.
    pub(super) unlimited: bool,
}

/// The candidates of one row, as they are found.
pub(crate) struct Filter<R: Real> {
    reach: Reach,
    /// The largest score so far.
    pub(super) highest: f64,
    bound: f64,
    /// Scores of the candidates, in the order of classes; longer than `count`.
    values: Vec<R>,
    indices: Vec<u32>,
    count: usize,
    tighten_at: usize,
    state: State,
}

/// How the filtering of a row stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum State {
    /// All of the support so far is listed.
    Listed,
    /// The support is too large to list.
    TooMany,
    /// The row holds NaN or +inf.
    Undefined,
}

impl<R: Real> Filter<R> {
    pub(crate) fn new() -> Self {
        Self {
            reach: Reach { depth: 0.0, power: 1, unlimited: false },
            highest: f64::NEG_INFINITY,
            bound: f64::NEG_INFINITY,
            values: Vec::new(),
            indices: Vec::new(),
            count: 0,
            tighten_at: FEW,
            state: State::Listed,
        }
    }

    pub(super) fn start(&mut self, reach: Reach) {
        self.reach = reach;
        (self.highest, self.bound) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        (self.count, self.tighten_at, self.state) = (0, FEW, State::Listed);
    }

    /// Starts with what is known of the threshold score from other classes: it does not lie below `bound`.
    pub(crate) fn start_above(&mut self, reach: Reach, bound: f64) {
        self.start(reach);
        self.bound = bound;
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// A lower bound of the threshold score.
    pub(crate) fn bound(&self) -> f64 {
        self.bound
    }

    /// How far below the maximum a class of the support can be.
    pub(super) fn depth(&self) -> f64 {
        self.reach.depth
    }

    pub(crate) fn values(&self) -> &[R] {
        &self.values[..self.count]
    }

    pub(crate) fn indices(&self) -> &[u32] {
        &self.indices[..self.count]
    }

    /// Adds a block of at most [`BLOCK`] scores, whose first is class `first`.
    #[inline(always)]
    pub(crate) fn add<I: Isa, E: Element<Real = R>>(&mut self, isa: I, block: &[E], first: usize) {
        if self.state != State::Listed {
            return;
        }
        debug_assert!(block.len() <= BLOCK);
        let lanes = R::lanes(isa);
        let n = LanesOf::<I, R>::N;
        if self.bound == f64::NEG_INFINITY {
            let head = highest(isa, &block[..block.len().min(HEAD)]);
            self.rise(head);
        }
        let mut bound = lanes.splat(self.bound_below());
        let mut at = first;
        let mut groups = block.chunks_exact(GROUP * n);
        for group in &mut groups {
            let mut x = [lanes.splat(R::ZERO); GROUP];
            for (way, x) in x.iter_mut().enumerate() {
                *x = E::load(isa, &group[way * n..(way + 1) * n]);
            }
            let top = lanes.max(
                lanes.max(lanes.max(x[0], x[1]), lanes.max(x[2], x[3])),
                lanes.max(lanes.max(x[4], x[5]), lanes.max(x[6], x[7])),
            );
            let sum = lanes.add(
                lanes.add(lanes.add(x[0], x[1]), lanes.add(x[2], x[3])),
                lanes.add(lanes.add(x[4], x[5]), lanes.add(x[6], x[7])),
            );
            if lanes.any(lanes.gt(top, bound)) || lanes.any(lanes.is_nan(sum)) {
                for (k, x) in x.into_iter().enumerate() {
                    self.keep(isa, x, bound, at + k * n);
                }
                if !self.is_in_order(isa) {
                    return;
                }
                bound = lanes.splat(self.bound_below());
            }
            at += GROUP * n;
        }
        for vector in groups.remainder().chunks(n) {
            self.keep(isa, E::load_or(isa, vector, E::NEG_INFINITY), bound, at);
            at += n;
        }
        self.is_in_order(isa);
    }

    /// Lists the classes of a vector that are above the bound.
    #[inline(always)]
    fn keep<I: Isa>(&mut self, isa: I, x: V<I, R>, bound: V<I, R>, first: usize) {
        let lanes = R::lanes(isa);
        let n = LanesOf::<I, R>::N;
        if lanes.any(lanes.is_nan(x)) {
            self.state = State::Undefined;
        }
        let above = lanes.gt(x, bound);
        let mut bits = lanes.bits(above);
        if bits == 0 {
            return;
        }
        if self.values.len() < self.count + n {
            self.values.resize(2 * self.count + n, R::ZERO);
            self.indices.resize(2 * self.count + n, 0);
        }
        lanes.compress(above, x, &mut self.values[self.count..]);
        while bits != 0 {
            self.indices[self.count] = first as u32 + bits.trailing_zeros();
            self.count += 1;
            bits &= bits - 1;
        }
        let lowest = lanes.splat(R::of_f64(f64::NEG_INFINITY));
        self.rise(lanes.reduce_max(lanes.max(x, lowest)).into());
    }

    /// Takes note of a score, and of the bound that it gives if it is the highest.
    fn rise(&mut self, score: f64) {
        if score > self.highest {
            self.highest = score;
            // the maximum itself stays above the bound, however small the depth beside it
            self.bound = self.bound.max((score - self.reach.depth).min(score.next_down()));
        }
    }

    /// Looks after the list: false where the row is decided, because it is undefined or its support too large.
    #[inline(always)]
    fn is_in_order<I: Isa>(&mut self, isa: I) -> bool {
        if self.highest == f64::INFINITY {
            self.state = State::Undefined;
        }
        if self.state == State::Listed && self.count >= self.tighten_at {
            if self.reach.depth.is_finite() {
                self.tighten(isa);
            }
            self.tighten_at = (2 * self.count).max(FEW);
            if self.count > MANY && !self.reach.unlimited {
                self.state = State::TooMany;
            }
        }
        self.state == State::Listed
    }

    /// The bound as the real type holds it, not rounded up.
    fn bound_below(&self) -> R {
        let rounded = R::of_f64(self.bound);
        let gap = 2.0 * f64::from_bits(self.bound.to_bits() & f64::INFINITY.to_bits()) * R::EPSILON.into();
        let below = self.bound - gap.max(f64::from(f32::from_bits(1))); // beside 0 even the gap would round to 0
        if rounded.into() <= self.bound { rounded } else { R::of_f64(below) }
    }

    /// Raises the bound to the threshold of the present candidates alone, and drops those that it excludes.
    #[inline(always)]
    fn tighten<I: Isa>(&mut self, isa: I) {
        let lanes = isa.f64();
        let (zero, depth, k) = (lanes.splat(0.0), self.reach.depth, f64::from(self.reach.power));
        // a depth of 0 (ties only) needs no more than the maximum
        let inverse_depth = if depth > 0.0 { 1.0 / depth } else { return self.drop_excluded() };
        let mut bound = self.bound.max(self.highest - depth);
        for _ in 0..8 {
            let (mut sum, mut slope) = (zero, zero);
            let bounds = lanes.splat(bound);
            for values in self.values[..self.count].chunks(8) {
                let x = R::load_f64_or(isa, values, R::of_f64(f64::NEG_INFINITY));
                let w = lanes.max(lanes.mul(lanes.sub(x, bounds), lanes.splat(inverse_depth)), zero);
                let below = elementary::integer_power(lanes, w, self.reach.power - 1);
                // w^0 counts the positive ones
                let below = lanes.select(lanes.gt(w, zero), below, zero);
                slope = lanes.add(slope, below);
                sum = lanes.mul_add(below, w, sum);
            }
            let (sum, slope) = (lanes.reduce_add(sum), lanes.reduce_add(slope));
            // Newton's step for (sum w^k)^(1/k) = 1, in units of the depth
            let power = match self.reach.power {
                1 => 1.0,
                2 => sum.sqrt(),
                _ => sum.powf(1.0 - 1.0 / k),
            };
            let step = (sum - power) / slope;
            if step.is_nan() || step <= 1e-3 {
                break;
            }
            bound += step * depth;
        }
        // what rounding may have added
        bound -= 1e-12 * depth + 4.0 * f64::EPSILON * bound.abs();
        self.bound = self.bound.max(bound.min(self.highest.next_down()));
        self.drop_excluded();
    }

    fn drop_excluded(&mut self) {
        let bound = self.bound_below();
        let (values, indices) = (&mut self.values[..self.count], &mut self.indices[..self.count]);
        let mut kept = 0;
        for at in 0..values.len().min(indices.len()) {
            let (value, index) = (values[at], indices[at]);
            (values[kept], indices[kept]) = (value, index);
            kept += usize::from(value > bound);
        }
        self.count = kept;
    }
}

/// [`Filter::add`] of scores as they are stored.
pub(super) struct AddBlock<'k, I, R: Real> {
    pub(super) isa: I,
    pub(super) filter: &'k mut Filter<R>,
    pub(super) first: usize,
}

impl<I: Isa, R: Real> Visitor<R> for AddBlock<'_, I, R> {
    type Output = ();

    #[inline(always)]
    fn visit<E: Element<Real = R>>(self, block: &[E]) {
        self.filter.add(self.isa, block, self.first);
    }
}
