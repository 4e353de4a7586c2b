//! Solving for the threshold: u = -log p_max, the root of G(u) = log sum_i r_i(u) - u.
//!
//! Up to order 2 (and below 1), Newton's method in u on N = (sum w_i^(1/a))^a, convex for these orders, so that it climbs to
//! the root from any start below it; the maximum's own r = 1 is kept apart from the sum, which keeps the digits of u when
//! one class has nearly everything. Above 2 the curve is vertical at the cut, so the unknown there is the smallest
//! probability pi of the support, found by the test sum_(i<k) (x_i - x_k)^(1/a) < 1 on sorted candidates; f(pi) = sum_i
//! ((x_i - x_k) + pi^a)^(1/a) is convex and Newton's method falls to f = 1 from pi = 1/k.
//! All in f64. Error. A few eps of p_max, in tests within 4 eps (alpha in {1, 3/2, 2}) and 16 eps (up to 64).
//! Cost. 3 to 6 passes over the candidates.

use super::Order;
use super::curve::{Curve, with_curve};
use crate::elementary::{self, Window};
use crate::simd::{Isa, Kernel, Lanes, Real};

/// A row's solution: p_i = r_i / total with r_i = (1 + coefficient z_i)^(1/a), and log p_max.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Solution {
    /// a e^(au), or 1 at a = 0.
    pub(crate) coefficient: f64,
    /// sum_i r_i
    pub(super) total: f64,
    /// The largest probability, and its logarithm.
    pub(super) p_max: f64,
    pub(crate) log_p_max: f64,
    /// The number of classes with r_i > 0.
    pub(super) support: usize,
}

/// After a step as small as this the next would be as small as its square, of no account for results of this type.
pub(super) fn near<R: Real>() -> f64 {
    if size_of::<R>() == 8 { 1e-9 } else { 1e-6 }
}

/// A sum whose rounding is carried along (Neumaier 1974): equal terms, of which flat rows have many, round alike.
#[derive(Clone, Copy, Default)]
struct Carried {
    sum: f64,
    lost: f64,
}

impl Carried {
    #[inline(always)]
    fn add(&mut self, term: f64) {
        let sum = self.sum + term;
        let (large, small) = if self.sum.abs() >= term.abs() { (self.sum, term) } else { (term, self.sum) };
        self.lost += (large - sum) + small;
        self.sum = sum;
    }

    fn value(self) -> f64 {
        self.sum + self.lost
    }
}

/// Sums over the classes but the maximum.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    r: Carried,
    slope: f64,
    support: usize,
}

impl Sums {
    /// Adds r and its slope over z, each below 0 or, for absent classes and the maximum itself, -inf.
    #[inline(always)]
    fn add<I: Isa, C: Curve>(&mut self, isa: I, curve: C, z: &[f64], coefficient: f64) {
        const WAYS: usize = 4;
        const TURNS: usize = 8; // a lane's sum rounds so often before it is carried
        let lanes = isa.f64();
        let (zero, one) = (lanes.splat(0.0), lanes.splat(1.0));
        let coefficient = lanes.splat(coefficient);
        let mut support = zero;
        for z in z.chunks(8 * WAYS * TURNS) {
            let (mut r, mut slope) = ([zero; WAYS], [zero; WAYS]);
            macro_rules! add {
                ($z:expr, $way:expr) => {{
                    let (this_r, this_slope) = curve.at(lanes, lanes.mul($z, coefficient));
                    r[$way] = lanes.add(r[$way], this_r);
                    slope[$way] = lanes.add(slope[$way], this_slope);
                    support = lanes.add(support, lanes.select(lanes.gt(this_r, zero), one, zero));
                }};
            }
            let mut groups = z.chunks_exact(WAYS * 8);
            for group in &mut groups {
                for way in 0..WAYS {
                    add!(lanes.load(&group[way * 8..]), way);
                }
            }
            for (way, vector) in groups.remainder().chunks(8).enumerate() {
                add!(lanes.load_or(vector, f64::NEG_INFINITY), way);
            }
            let met = |v: [_; WAYS]| lanes.reduce_add(lanes.add(lanes.add(v[0], v[1]), lanes.add(v[2], v[3])));
            self.r.add(met(r));
            self.slope += met(slope);
        }
        self.support += lanes.reduce_add(support) as usize;
    }
}

/// Adds to sums over z on the curve of an order. Kernels of their own, these loops exist once for all element types.
pub(super) struct AddSums<'k> {
    pub(super) sums: &'k mut Sums,
    pub(super) order: Order,
    pub(super) z: &'k [f64],
    pub(super) coefficient: f64,
}

impl Kernel for AddSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        with_curve!(self.order, curve => self.sums.add(isa, curve, self.z, self.coefficient));
    }
}

/// p = r / total of each z.
pub(super) struct Probabilities<'k> {
    pub(super) order: Order,
    pub(super) solution: Solution,
    pub(super) z: &'k [f64],
    pub(super) p: &'k mut [f64],
}

impl Kernel for Probabilities<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if self.order.a == 1.0 {
            return projected(isa, self.solution.p_max, self.z, self.p);
        }
        with_curve!(self.order, curve => probabilities(isa, curve, &self.solution, self.z, self.p));
    }
}

/// p = [z + p_max]_+: on the straight curve no digit is lost to a product.
#[inline(always)]
fn projected<I: Isa>(isa: I, p_max: f64, z: &[f64], p: &mut [f64]) {
    let lanes = isa.f64();
    let (zero, p_max) = (lanes.splat(0.0), lanes.splat(p_max));
    for (z, p) in z.chunks(8).zip(p.chunks_mut(8)) {
        lanes.store_part(lanes.max(lanes.add(lanes.load_or(z, 0.0), p_max), zero), p);
    }
}

#[inline(always)]
fn probabilities<I: Isa, C: Curve>(isa: I, curve: C, solution: &Solution, z: &[f64], p: &mut [f64]) {
    let lanes = isa.f64();
    let (coefficient, total) = (lanes.splat(solution.coefficient), lanes.splat(solution.total));
    let (mut vectors, mut places) = (z.chunks_exact(8), p.chunks_exact_mut(8));
    for (vector, place) in (&mut vectors).zip(&mut places) {
        let r = curve.at(lanes, lanes.mul(lanes.load(vector), coefficient)).0;
        lanes.store(lanes.div(r, total), place);
    }
    if !vectors.remainder().is_empty() {
        let z = lanes.load_or(vectors.remainder(), f64::NEG_INFINITY);
        let r = curve.at(lanes, lanes.mul(z, coefficient)).0;
        lanes.store_part(lanes.div(r, total), places.into_remainder());
    }
}

impl Sums {
    fn solution(&self, coefficient: f64) -> Solution {
        let r = self.r.value();
        Solution {
            coefficient,
            total: 1.0 + r,
            p_max: 1.0 / (1.0 + r),
            log_p_max: -r.ln_1p(),
            support: self.support + 1,
        }
    }
}

/// Solves for the threshold from a w = p_max^a that is too large, given the sums for any coefficient.
pub(super) fn climb(a: f64, w: f64, near: f64, sums: impl FnMut(f64) -> Sums) -> Solution {
    if a == 0.5 || a == 1.0 {
        climb_without_logarithms(a, w, near, sums)
    } else {
        climb_in_logarithms(a, -w.ln() / a, near, sums)
    }
}

/// The same steps in w = p_max^a, where its powers are cheap: w falls by (S - S^(1-a)) / S', S = sum p, S' = sum p^(1-a).
fn climb_without_logarithms(a: f64, start: f64, near: f64, mut sums: impl FnMut(f64) -> Sums) -> Solution {
    let mut w = start;
    let mut last = false;
    for rest in (0..100).rev() {
        let found = sums(a / w);
        let ratio = 1.0 + found.r.value();
        let (step, next) = if a == 1.0 {
            let step = (w * ratio - 1.0) / (1.0 + found.slope);
            (step, w - step)
        } else {
            // S = w^2 ratio, its root apart
            let root = ratio.sqrt();
            let step = w * (w * ratio - root) / (w * (1.0 + found.slope));
            (step, w - step)
        };
        if last || rest == 0 || step.abs() <= f64::EPSILON * w {
            let solution = found.solution(a / w);
            // on the straight curve w is p_max itself
            return if a == 1.0 { Solution { p_max: w, ..solution } } else { solution };
        }
        // a straight curve is solved exactly once its support stands, a bent one to the square of the step
        last = step.abs() < near * w && a < 1.0;
        w = next;
    }
    unreachable!("the last round returns")
}

/// Finds u from a start below it.
fn climb_in_logarithms(a: f64, start: f64, near: f64, mut sums: impl FnMut(f64) -> Sums) -> Solution {
    let mut u = start;
    let mut falls = 0;
    let mut last = false;
    for rest in (1..100).rev() {
        let coefficient = if a == 0.0 { 1.0 } else { a * (a * u).exp() };
        let found = sums(coefficient);
        let r = found.r.value();
        if last || a == 0.0 {
            return found.solution(coefficient);
        }
        let g = r.ln_1p() - u;
        let step = -((1.0 + r) / (1.0 + found.slope) * (-a * g).exp_m1()).ln_1p() / a;
        falls += usize::from(step < 0.0);
        if step.abs() <= f64::EPSILON * u || falls > 2 || rest == 1 {
            return found.solution(coefficient);
        }
        last = step.abs() < near * (1.0 + u);
        // rounding may take the logarithm's argument below -1: then halve the way to the uniform distribution
        u = if step.is_nan() { u.midpoint(((found.support + 1) as f64).ln()) } else { (u + step).max(0.0) };
    }
    unreachable!("the last round returns")
}

/// Probabilities above order 2 of sorted scores: `x` holds a z, the highest (0) first, and is overwritten by p; returns
/// the support and log p_max.
pub(super) struct Descend<'k> {
    pub(super) a: f64,
    pub(super) near: f64,
    pub(super) x: &'k mut [f64],
    pub(super) work: &'k mut Vec<f64>,
}

impl Kernel for Descend<'_> {
    type Output = (usize, f64);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> (usize, f64) {
        descend(isa, self.a, self.near, self.x, self.work)
    }
}

#[inline(always)]
fn descend<I: Isa>(isa: I, a: f64, near: f64, x: &mut [f64], work: &mut Vec<f64>) -> (usize, f64) {
    // the largest k whose lowest score is inside
    let (mut inside, mut outside) = (1, x.len() + 1);
    while outside - inside > 1 {
        let k = inside.midpoint(outside);
        let is_inside = x[k - 1] > -1.0 && sum_of_roots(isa, a, &x[..k - 1], x[k - 1]) < 1.0;
        *(if is_inside { &mut inside } else { &mut outside }) = k;
    }
    let (support, rest) = x.split_at_mut(inside);
    rest.fill(0.0);
    let lowest = support[inside - 1];
    work.clear();
    work.extend_from_slice(support);
    logs_above(isa, work, lowest);
    let mut log_pi = -(inside as f64).ln();
    let mut last = false;
    for rest in (0..100).rev() {
        let (others, top, slope) = log_probabilities(isa, a, log_pi, work, support);
        let excess = others + top.exp_m1();
        let next = (log_pi.exp() - excess / slope).ln();
        if last || rest == 0 || next.is_nan() {
            exponentials(isa, support, 1.0 + excess);
            return (inside, top - excess.ln_1p());
        }
        last = (next - log_pi).abs() <= near;
        log_pi = next;
    }
    unreachable!("the last round returns")
}

/// sum_i (x_i - lowest)^(1/a)
#[inline(always)]
fn sum_of_roots<I: Isa>(isa: I, a: f64, x: &[f64], lowest: f64) -> f64 {
    let lanes = isa.f64();
    let window = Window::new(lanes, 0.0);
    let mut sum = lanes.splat(0.0);
    for x in x.chunks(8) {
        let above = lanes.sub(lanes.load_or(x, lowest), lanes.splat(lowest));
        let log = lanes.div(elementary::log(lanes, above), lanes.splat(a));
        sum = lanes.add(sum, elementary::exp(lanes, log, None, &window));
    }
    lanes.reduce_add(sum)
}

/// Replaces each x by log(x - lowest).
#[inline(always)]
fn logs_above<I: Isa>(isa: I, x: &mut [f64], lowest: f64) {
    let lanes = isa.f64();
    for x in x.chunks_mut(8) {
        let log = elementary::log(lanes, lanes.sub(lanes.load_or(x, lowest), lanes.splat(lowest)));
        lanes.store_part(log, x);
    }
}

/// Replaces each log p by p over the total.
#[inline(always)]
fn exponentials<I: Isa>(isa: I, log_p: &mut [f64], total: f64) {
    let lanes = isa.f64();
    let (window, total) = (Window::new(lanes, 0.0), lanes.splat(total));
    for log_p in log_p.chunks_mut(8) {
        let p = elementary::exp(lanes, lanes.load_or(log_p, 0.0), None, &window);
        lanes.store_part(lanes.div(p, total), log_p);
    }
}

/// log p_i = log(delta_i + pi^a) / a into `log_p`; the sum of p but the first, the first's log p, and the derivative of the
/// sum with respect to pi.
#[inline(always)]
fn log_probabilities<I: Isa>(isa: I, a: f64, log_pi: f64, log_delta: &[f64], log_p: &mut [f64]) -> (f64, f64, f64) {
    let lanes = isa.f64();
    let window = Window::new(lanes, 0.0);
    let zero = lanes.splat(0.0);
    let power = lanes.splat(a * log_pi);
    for (log_delta, log_p) in log_delta.chunks(8).zip(log_p.chunks_mut(8)) {
        let delta = lanes.load_or(log_delta, f64::NEG_INFINITY);
        let (high, low) = (lanes.max(delta, power), lanes.min(delta, power));
        let ratio = elementary::exp(lanes, lanes.sub(low, high), None, &window);
        let log = lanes.div(lanes.add(high, elementary::log1p(lanes, ratio)), lanes.splat(a));
        lanes.store_part(log, log_p);
    }
    let (mut sum, mut slope) = (Carried::default(), zero);
    let [decay, pi] = [a - 1.0, log_pi].map(|value| lanes.splat(value));
    for log_p in log_p[1..].chunks(8) {
        let log = lanes.load_or(log_p, f64::NEG_INFINITY);
        sum.add(lanes.reduce_add(elementary::exp(lanes, log, None, &window)));
        // lanes past the end: no slope either
        let fraction = lanes.mul(decay, lanes.sub(pi, lanes.load_or(log_p, f64::INFINITY)));
        slope = lanes.add(slope, elementary::exp(lanes, lanes.min(fraction, zero), None, &window));
    }
    let top = log_p[0];
    (sum.value(), top, lanes.reduce_add(slope) + ((a - 1.0) * (log_pi - top)).min(0.0).exp())
}
