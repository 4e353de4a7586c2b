//! Vector-Jacobian products of the maps, from their results, for those without automatic differentiation.
//!
//! The Jacobian of entmax at p is diag(s) - s s^T / sum s with s_i = p_i^(2-alpha) on the support (Peters, Niculae, Martins
//! 2019), so J g = s (g - <s, g> / sum s); softmax is alpha = 1, s = p. For alpha > 2 the s_i are unbounded: they are formed
//! relative to the largest, and g is centred at its class, which is legal for J 1 = 0. With respect to alpha, dp/dalpha = -J k,
//! k_i = l_i^2 phi'(a l_i), l = log p, a = alpha - 1, phi'(x) = (e^x (x - 1) + 1) / x^2: continuous at alpha = 1, unlike the form of
//! Correia, Niculae, Martins (2019), which it equals elsewhere. Above order 2 that form is taken: k_i nears 1 / a^2, which J does
//! not see, where s_i is largest, and without it s_i k_i is p_i (a l_i - 1) / a^2, small where p_i is.
//! Terms are formed in the type that scores are computed in, and summed in f64; g - <s, g> / sum s is rounded once.
//! Cost. Two reads of each input, the second from cache, one write; where whole stretches of probabilities are 0, g is not read.

mod across;

use self::across::{Across, Product};
use super::across::ROWS;
use crate::elementary::{self, Window};
use crate::error::{Error, Result};
use crate::options::{Options, PerRow};
use crate::rows::{BLOCK, Places, Results, Rows, RowsMut, Source};
use crate::simd::{Element, Isa, Kernel, Lanes, LanesOf, Level, Real, V, dispatch};
use crate::threads::{Job, for_each_piece};
use std::ops::Range;

/// Time of one class, ns a byte of one input.
const COST: f64 = 0.1;
/// Vectors whose products are added before the sum is carried on in f64.
const TURNS: usize = 8;

fn job<'a, R: Real>(rows: &Source<'_, R>, options: &Options<'a>) -> Job<'a> {
    let row_cost = 20.0 + COST * (rows.classes() * size_of::<R>()) as f64;
    Job { rows: rows.rows(), row_cost, together: 1, interrupt: options.interrupt }
}

/// The gradient p (g - <p, g>) / T with respect to scores whose softmax is `p`, given that with respect to p.
pub fn softmax_vjp<E: Element>(
    p: &Rows<'_, E>,
    g: &Rows<'_, E>,
    options: &Options<'_>,
    out: &mut RowsMut<'_, E>,
) -> Result<()> {
    entmax_vjp(p, g, 1.0.into(), options, out)
}

/// The gradient J g / T with respect to scores whose entmax of order `alpha` is `p`; p = 0 is outside the support, and for
/// infinite alpha the gradient is 0.
pub fn entmax_vjp<E: Element>(
    p: &Rows<'_, E>,
    g: &Rows<'_, E>,
    alpha: PerRow<'_>,
    options: &Options<'_>,
    out: &mut RowsMut<'_, E>,
) -> Result<()> {
    let (rows, classes) = (p.rows(), p.classes());
    options.check(p)?;
    check_alpha(alpha, rows)?;
    g.expect("g", rows, classes)?;
    out.expect("out", rows, classes)?;
    centred(&Source::new(p, None), &Source::new(g, None), alpha, options, Results::new(out))
}

fn check_alpha(alpha: PerRow<'_>, rows: usize) -> Result<()> {
    alpha.check("alpha", rows, |given| if given > 0.0 { Ok(()) } else { Err(Error::Alpha { given, above: 0.0 }) })
}

/// Copies of blocks that cannot be read or written in place; reused from row to row.
struct Buffers<R> {
    first: Box<[R]>,
    second: Box<[R]>,
    results: Box<[R]>,
}

impl<R: Real> Buffers<R> {
    fn new(first: &Source<'_, R>, second: Option<&Source<'_, R>>, out: &Results<'_, R>) -> Self {
        let second = second.map_or_else(Box::default, Source::buffer);
        Self { first: first.buffer(), second, results: out.buffer() }
    }
}

fn centred<R: Real>(
    p: &Source<'_, R>,
    g: &Source<'_, R>,
    alpha: PerRow<'_>,
    options: &Options<'_>,
    out: Results<'_, R>,
) -> Result<()> {
    let level = Level::active();
    if let PerRow::Same(alpha @ ..=2.0) = alpha
        && !p.is_in_line()
    {
        return side_by_side(Product::OfShares { alpha }, p, g, options, out);
    }
    for_each_piece(job(p, options), out, |rows, mut out| {
        let (buffers, temperature) = (&mut Buffers::new(p, Some(g), &out), options.temperature);
        dispatch(level, Centred { p, g, rows, alpha, temperature, buffers, out: &mut out });
        Ok(())
    })
}

/// Products of rows whose classes do not follow each other in memory.
fn side_by_side<R: Real>(
    product: Product,
    x: &Source<'_, R>,
    g: &Source<'_, R>,
    options: &Options<'_>,
    out: Results<'_, R>,
) -> Result<()> {
    let level = Level::active();
    let job = Job { together: ROWS, ..job(x, options) };
    for_each_piece(job, out, |rows, mut out| {
        let (tiles, temperature) = (&mut [Vec::new(), Vec::new()], options.temperature);
        dispatch(level, Across { product, x, g, rows, temperature, tiles, out: &mut out });
        Ok(())
    })
}

/// J g of some rows.
struct Centred<'k, 'a, R: Real> {
    p: &'k Source<'a, R>,
    g: &'k Source<'a, R>,
    rows: Range<usize>,
    alpha: PerRow<'k>,
    temperature: PerRow<'k>,
    buffers: &'k mut Buffers<R>,
    out: &'k mut Results<'a, R>,
}

impl<R: Real> Kernel for Centred<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        for row in self.rows.clone() {
            let alpha = self.alpha.of(row);
            if alpha == 1.0 {
                self.row::<I, true>(isa, row, alpha);
            } else {
                self.row::<I, false>(isa, row, alpha);
            }
        }
    }
}

/// s of one row: p^(2-alpha) relative to that of a reference probability.
#[derive(Clone, Copy)]
struct Weights {
    alpha: f64,
    reference: f64,
}

impl Weights {
    /// s of a vector, 0 outside the support; an undefined p stays so.
    #[inline(always)]
    fn of<I: Isa, R: Real>(self, isa: I, p: V<I, R>) -> V<I, R> {
        let lanes = R::lanes(isa);
        let zero = lanes.splat(R::ZERO);
        if self.alpha == 1.0 {
            return p;
        }
        let weight = if self.alpha == 1.5 {
            return lanes.sqrt(p);
        } else if self.alpha == 2.0 {
            lanes.splat(R::of_f64(1.0))
        } else {
            self.power::<I, R>(isa, p)
        };
        lanes.select(lanes.is_nan(p), p, lanes.select(lanes.gt(p, zero), weight, zero))
    }

    #[inline(always)]
    fn power<I: Isa, R: Real>(self, isa: I, p: V<I, R>) -> V<I, R> {
        let (lanes, wide) = (R::lanes(isa), isa.f64());
        let zero = lanes.splat(R::ZERO);
        // a power takes longer than the look whether one is needed
        if self.alpha == f64::INFINITY || lanes.bits(lanes.eq(p, zero)) == (1 << LanesOf::<I, R>::N) - 1 {
            return zero;
        }
        let mut values = [R::ZERO; 16];
        lanes.store(p, &mut values);
        let mut halves = [wide.splat(0.0); 2];
        for (half, values) in halves.iter_mut().zip(values.chunks(8)).take(LanesOf::<I, R>::N / 8) {
            *half = self.power_of_half(wide, R::load_f64(isa, values));
        }
        R::store_f64(isa, halves, &mut values);
        lanes.load(&values)
    }

    #[inline(always)]
    fn power_of_half<L: Lanes<Scalar = f64>>(self, wide: L, p: L::V) -> L::V {
        let window = Window::new(wide, 0.0);
        let ratio = wide.div(p, wide.splat(self.reference));
        let power = wide.mul(elementary::log(wide, ratio), wide.splat(2.0 - self.alpha));
        elementary::exp(wide, wide.min(power, wide.splat(700.0)), None, &window)
    }
}

impl<R: Real> Centred<'_, '_, R> {
    /// One row; for softmax every class is taken to have a probability, and their sum to be 1.
    #[inline(always)]
    fn row<I: Isa, const SOFTMAX: bool>(&mut self, isa: I, row: usize, alpha: f64) {
        let (reference, base) = if alpha > 2.0 { self.smallest(row) } else { (1.0, 0.0) };
        let weights = Weights { alpha, reference };
        let (mut dot, mut sum) = (0.0, 0.0);
        for from in (0..self.p.classes()).step_by(BLOCK) {
            let (more_dot, more_sum) = self.products::<I, SOFTMAX>(isa, row, from, weights, base);
            dot += more_dot;
            sum += more_sum;
        }
        // a wholly masked row is all zeros, and so is its gradient
        let mean = if SOFTMAX {
            dot
        } else if sum == 0.0 {
            0.0
        } else {
            dot / sum
        };
        let scale = if alpha > 2.0 { ((2.0 - alpha) * reference.ln()).exp() } else { 1.0 };
        // shares of 1 among the maxima do not move: s is 0
        let scale = if alpha == f64::INFINITY { 1.0 } else { scale } / self.temperature.of(row);
        let step = self.step();
        for from in (0..self.p.classes()).step_by(step) {
            let to = self.p.classes().min(from + step);
            let Buffers { first, second, results } = &mut *self.buffers;
            let (p, g) = (self.p.part(row, from, to, first), self.g.part(row, from, to, second));
            let target = self.out.place(row, from, to, results);
            write::<I, R, SOFTMAX>(isa, p, g, weights, [base, mean, scale], target);
            self.out.settle(row, from, to, results);
        }
    }

    fn step(&self) -> usize {
        self.p.step().min(self.g.step()).min(self.out.step())
    }

    #[inline(always)]
    fn parts(&mut self, row: usize, from: usize, to: usize) -> (&[R], &[R]) {
        let Buffers { first, second, .. } = &mut *self.buffers;
        (self.p.part(row, from, to, first), self.g.part(row, from, to, second))
    }

    /// (<s, g - base>, sum s) of the block from `from` on.
    #[inline(always)]
    fn products<I: Isa, const SOFTMAX: bool>(
        &mut self,
        isa: I,
        row: usize,
        from: usize,
        weights: Weights,
        base: f64,
    ) -> (f64, f64) {
        let (mut dot, mut sum) = (R::wide_zero(isa), R::wide_zero(isa));
        let (end, step) = (self.p.classes().min(from + BLOCK), self.step());
        for from in (from..end).step_by(step) {
            let (p, g) = self.parts(row, from, end.min(from + step));
            add_part::<I, R, SOFTMAX>(isa, [&mut dot, &mut sum], p, g, weights, base);
        }
        (R::wide_sum(isa, dot), R::wide_sum(isa, sum))
    }

    /// The smallest probability of the support, whose s is the largest for alpha > 2, and the g of its class.
    fn smallest(&mut self, row: usize) -> (f64, f64) {
        let mut found = (f64::INFINITY, 0.0);
        let (classes, step) = (self.p.classes(), self.step());
        for from in (0..classes).step_by(step) {
            let (p, g) = self.parts(row, from, classes.min(from + step));
            for (p, g) in p.iter().zip(g).filter(|(p, _)| **p != R::ZERO) {
                if p.to_f64() < found.0 {
                    found = (p.to_f64(), g.to_f64());
                }
            }
        }
        found
    }
}

/// A vector, or what is left of the last one; what is missing is 0.
#[inline(always)]
fn load<I: Isa, R: Real>(isa: I, values: &[R]) -> V<I, R> {
    if values.len() == LanesOf::<I, R>::N { R::load(isa, values) } else { R::load_or(isa, values, R::ZERO) }
}

/// Whether all of some whole vectors of probabilities are 0.
#[inline(always)]
fn is_outside<I: Isa, R: Real>(isa: I, p: &[R]) -> bool {
    let (lanes, n) = (R::lanes(isa), LanesOf::<I, R>::N);
    let mut sum = lanes.splat(R::ZERO);
    for p in p.chunks_exact(n) {
        sum = lanes.add(sum, R::load(isa, p)); // of numbers >= 0 or NaN
    }
    lanes.bits(lanes.eq(sum, lanes.splat(R::ZERO))) == (1 << n) - 1
}

/// Adds <s, g - base> and sum s of some classes.
#[inline(always)]
fn add_part<I: Isa, R: Real, const SOFTMAX: bool>(
    isa: I,
    [dot, sum]: [&mut R::Wide<I>; 2],
    p: &[R],
    g: &[R],
    weights: Weights,
    base: f64,
) {
    let (lanes, n) = (R::lanes(isa), LanesOf::<I, R>::N);
    let base = lanes.splat(R::of_f64(base));
    for (p, g) in p.chunks(n * TURNS).zip(g.chunks(n * TURNS)) {
        let mut some = [lanes.splat(R::ZERO); 2];
        if p.len() < n * TURNS {
            for (p, g) in p.chunks(n).zip(g.chunks(n)) {
                add_products::<I, R, SOFTMAX>(isa, &mut some, load(isa, p), load(isa, g), weights, base);
            }
        } else if SOFTMAX || !is_outside(isa, p) {
            for (p, g) in p.chunks_exact(n).zip(g.chunks_exact(n)) {
                add_products::<I, R, SOFTMAX>(isa, &mut some, R::load(isa, p), R::load(isa, g), weights, base);
            }
        } else {
            continue;
        }
        *dot = R::wide_add(isa, *dot, some[0]);
        if !SOFTMAX {
            *sum = R::wide_add(isa, *sum, some[1]);
        }
    }
}

#[inline(always)]
fn add_products<I: Isa, R: Real, const SOFTMAX: bool>(
    isa: I,
    [dot, sum]: &mut [V<I, R>; 2],
    p: V<I, R>,
    g: V<I, R>,
    weights: Weights,
    base: V<I, R>,
) {
    let lanes = R::lanes(isa);
    let zero = lanes.splat(R::ZERO);
    let s = weights.of::<I, R>(isa, p);
    // outside the support an infinite g does not count
    let g = lanes.select(lanes.eq(s, zero), zero, if SOFTMAX { g } else { lanes.sub(g, base) });
    *dot = lanes.mul_add(s, g, *dot);
    if !SOFTMAX {
        *sum = lanes.add(*sum, s);
    }
}

/// s (g - base - mean) scale of a block.
#[inline(always)]
fn write<I: Isa, R: Real, const SOFTMAX: bool>(
    isa: I,
    p: &[R],
    g: &[R],
    weights: Weights,
    [base, mean, scale]: [f64; 3],
    target: &mut [R],
) {
    let (lanes, n) = (R::lanes(isa), LanesOf::<I, R>::N);
    let [high, low] = in_two::<R>(mean);
    let middle = [lanes.splat(R::of_f64(base)), lanes.splat(high), lanes.splat(low)];
    let scale = lanes.splat(R::of_f64(scale));
    let parts = p.chunks(n * TURNS).zip(g.chunks(n * TURNS)).zip(target.chunks_mut(n * TURNS));
    for ((p, g), target) in parts {
        if p.len() < n * TURNS {
            for ((p, g), target) in p.chunks(n).zip(g.chunks(n)).zip(target.chunks_mut(n)) {
                let (p, g) = (load(isa, p), load(isa, g));
                store(isa, gradient::<I, R, SOFTMAX>(isa, p, g, weights, middle, scale), target);
            }
        } else if SOFTMAX || !is_outside(isa, p) {
            let vectors = p.chunks_exact(n).zip(g.chunks_exact(n)).zip(target.chunks_exact_mut(n));
            for ((p, g), target) in vectors {
                let (p, g) = (R::load(isa, p), R::load(isa, g));
                R::store(isa, gradient::<I, R, SOFTMAX>(isa, p, g, weights, middle, scale), target);
            }
        } else {
            target.fill(R::ZERO);
        }
    }
}

#[inline(always)]
fn gradient<I: Isa, R: Real, const SOFTMAX: bool>(
    isa: I,
    p: V<I, R>,
    g: V<I, R>,
    weights: Weights,
    [base, high, low]: [V<I, R>; 3],
    scale: V<I, R>,
) -> V<I, R> {
    let lanes = R::lanes(isa);
    let zero = lanes.splat(R::ZERO);
    let s = weights.of::<I, R>(isa, p);
    let centred = if SOFTMAX { g } else { lanes.sub(g, base) };
    let above = lanes.sub(lanes.sub(centred, high), low);
    lanes.select(lanes.eq(s, zero), zero, lanes.mul(lanes.mul(s, above), scale))
}

#[inline(always)]
fn store<I: Isa, R: Real>(isa: I, v: V<I, R>, target: &mut [R]) {
    if target.len() == LanesOf::<I, R>::N {
        R::store(isa, v, target);
    } else {
        R::store_part(isa, v, target);
    }
}

/// A number as the sum of two that are computed with.
#[inline(always)]
fn in_two<R: Real>(value: f64) -> [R; 2] {
    let high = R::of_f64(value);
    let rest = value - high.into();
    [high, R::of_f64(if rest.is_finite() { rest } else { 0.0 })]
}

/// The gradient (g - exp(log_p) sum g) / T with respect to scores whose log_softmax is `log_p`; an absent class, whose
/// log_p is -inf, has none, and its g does not count.
pub fn log_softmax_vjp<E: Element>(
    log_p: &Rows<'_, E>,
    g: &Rows<'_, E>,
    options: &Options<'_>,
    out: &mut RowsMut<'_, E>,
) -> Result<()> {
    let (rows, classes) = (log_p.rows(), log_p.classes());
    options.check(log_p)?;
    g.expect("g", rows, classes)?;
    out.expect("out", rows, classes)?;
    of_logs(&Source::new(log_p, None), &Source::new(g, None), options, Results::new(out))
}

fn of_logs<R: Real>(x: &Source<'_, R>, g: &Source<'_, R>, options: &Options<'_>, out: Results<'_, R>) -> Result<()> {
    let level = Level::active();
    if !x.is_in_line() {
        return side_by_side(Product::OfLogs, x, g, options, out);
    }
    for_each_piece(job(x, options), out, |rows, mut out| {
        let (buffers, temperature) = (&mut Buffers::new(x, Some(g), &out), options.temperature);
        dispatch(level, OfLogs { x, g, rows, temperature, buffers, out: &mut out });
        Ok(())
    })
}

struct OfLogs<'k, 'a, R: Real> {
    x: &'k Source<'a, R>,
    g: &'k Source<'a, R>,
    rows: Range<usize>,
    temperature: PerRow<'k>,
    buffers: &'k mut Buffers<R>,
    out: &'k mut Results<'a, R>,
}

impl<R: Real> Kernel for OfLogs<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { x, g, rows, temperature, buffers, out } = self;
        let Buffers { first, second, results } = buffers;
        let step = x.step().min(g.step()).min(out.step());
        let (lanes, n) = (R::lanes(isa), LanesOf::<I, R>::N);
        let (zero, absent) = (lanes.splat(R::ZERO), lanes.splat(R::of_f64(f64::NEG_INFINITY)));
        let window = Window::new(lanes, 0.0);
        let highest = lanes.splat(R::of_f64(HIGHEST));
        for row in rows {
            let mut sum = R::wide_zero(isa);
            for from in (0..x.classes()).step_by(step) {
                let to = x.classes().min(from + step);
                let (x, g) = (x.part(row, from, to, first), g.part(row, from, to, second));
                for (x, g) in x.chunks(n).zip(g.chunks(n)) {
                    let present = lanes.select(lanes.eq(load(isa, x), absent), zero, load(isa, g));
                    sum = R::wide_add(isa, sum, present);
                }
            }
            let sum = lanes.splat(R::of_f64(R::wide_sum(isa, sum)));
            let inverse = lanes.splat(R::of_f64(1.0 / temperature.of(row)));
            for from in (0..x.classes()).step_by(step) {
                let to = x.classes().min(from + step);
                let (x, g) = (x.part(row, from, to, first), g.part(row, from, to, second));
                let target = out.place(row, from, to, results);
                for ((x, g), target) in x.chunks(n).zip(g.chunks(n)).zip(target.chunks_mut(n)) {
                    let z = load(isa, x);
                    // min gives its second argument where one is NaN
                    let p = elementary::exp(lanes, lanes.min(highest, z), None, &window);
                    let gradient = lanes.mul(lanes.neg_mul_add(p, sum, load(isa, g)), inverse);
                    store(isa, lanes.select(lanes.eq(z, absent), zero, gradient), target);
                }
                out.settle(row, from, to, results);
            }
        }
    }
}

/// Exponents are cut off here, before f32 overflows: those of probabilities are not above 0 beyond rounding.
const HIGHEST: f64 = 80.0;

/// The gradient g exp(x / T - lse) / T with respect to scores x whose logsumexp is `lse`; `lse` and `g` have one class.
///
/// A row without any class (lse = -inf) has the gradient 0.
pub fn logsumexp_vjp<E: Element>(
    scores: &Rows<'_, E>,
    lse: &Rows<'_, E>,
    g: &Rows<'_, E>,
    options: &Options<'_>,
    out: &mut RowsMut<'_, E>,
) -> Result<()> {
    let (rows, classes) = (scores.rows(), scores.classes());
    options.check(scores)?;
    lse.expect("lse", rows, 1)?;
    g.expect("g", rows, 1)?;
    out.expect("out", rows, classes)?;
    let (lse, g) = (&Source::new(lse, None), &Source::new(g, None));
    of_sums(&Source::new(scores, options.mask), lse, g, options, Results::new(out))
}

fn of_sums<R: Real>(
    x: &Source<'_, R>,
    lse: &Source<'_, R>,
    g: &Source<'_, R>,
    options: &Options<'_>,
    out: Results<'_, R>,
) -> Result<()> {
    let level = Level::active();
    for_each_piece(job(x, options), out, |rows, mut out| {
        let (buffers, temperature) = (&mut Buffers::new(x, None, &out), options.temperature);
        dispatch(level, OfSums { x, lse, g, rows, temperature, buffers, out: &mut out });
        Ok(())
    })
}

struct OfSums<'k, 'a, R: Real> {
    x: &'k Source<'a, R>,
    lse: &'k Source<'a, R>,
    g: &'k Source<'a, R>,
    rows: Range<usize>,
    temperature: PerRow<'k>,
    buffers: &'k mut Buffers<R>,
    out: &'k mut Results<'a, R>,
}

impl<R: Real> Kernel for OfSums<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { x, lse, g, rows, temperature, buffers, out } = self;
        let Buffers { first, results, .. } = buffers;
        let step = x.step().min(out.step());
        let (lanes, n) = (R::lanes(isa), LanesOf::<I, R>::N);
        let window = Window::new(lanes, 0.0);
        let highest = lanes.splat(R::of_f64(HIGHEST));
        for row in rows {
            let (lse, g, t) = (lse.number(row), g.number(row), temperature.of(row));
            if lse == f64::NEG_INFINITY {
                out.fill(row, R::ZERO);
                continue;
            }
            // x - T lse loses nothing where x is near it, which x / T - lse would
            let [high, low] = in_two::<R>(lse * t);
            let (high, low) = (lanes.splat(high), lanes.splat(low));
            let (divisor, scale) = (lanes.splat(R::of_f64(t)), lanes.splat(R::of_f64(g / t)));
            for from in (0..x.classes()).step_by(step) {
                let to = x.classes().min(from + step);
                let x = x.part(row, from, to, first);
                let target = out.place(row, from, to, results);
                for (x, target) in x.chunks(n).zip(target.chunks_mut(n)) {
                    let difference = lanes.sub(lanes.sub(load(isa, x), high), low);
                    let z = if t == 1.0 { difference } else { lanes.div(difference, divisor) };
                    // min gives its second argument where one is NaN
                    let p = elementary::exp(lanes, lanes.min(highest, z), None, &window);
                    store(isa, lanes.mul(p, scale), target);
                }
                out.settle(row, from, to, results);
            }
        }
    }
}

/// The derivative of <p, g> with respect to alpha for each row, `p` being entmax of order alpha: `out` has one class.
pub fn entmax_alpha_grad<E: Element>(
    p: &Rows<'_, E>,
    g: &Rows<'_, E>,
    alpha: PerRow<'_>,
    options: &Options<'_>,
    out: &mut RowsMut<'_, E>,
) -> Result<()> {
    let (rows, classes) = (p.rows(), p.classes());
    options.check(p)?;
    check_alpha(alpha, rows)?;
    g.expect("g", rows, classes)?;
    out.expect("out", rows, 1)?;
    of_alpha(&Source::new(p, None), &Source::new(g, None), alpha, options, Results::new(out))
}

fn of_alpha<R: Real>(
    p: &Source<'_, R>,
    g: &Source<'_, R>,
    alpha: PerRow<'_>,
    options: &Options<'_>,
    out: Results<'_, R>,
) -> Result<()> {
    let mut job = job(p, options);
    job.row_cost *= 4.0;
    for_each_piece(job, out, |rows, mut out| {
        let (mut of_p, mut of_g) = (p.buffer(), g.buffer());
        let mut support = Vec::new();
        for row in rows {
            support.clear();
            for from in (0..p.classes()).step_by(BLOCK) {
                let (p, g) = (p.block(row, from, &mut of_p), g.block(row, from, &mut of_g));
                for (p, g) in p.chunks(16).zip(g.chunks(16)) {
                    if p.iter().any(|p| *p != R::ZERO) {
                        let inside = p.iter().zip(g).filter(|(p, _)| **p != R::ZERO);
                        support.extend(inside.map(|(p, g)| (p.to_f64(), g.to_f64())));
                    }
                }
            }
            out.set(row, 0, alpha_gradient(&support, alpha.of(row)));
        }
        Ok(())
    })
}

/// -<g, J k> of the support, as pairs of p and g.
fn alpha_gradient(support: &[(f64, f64)], alpha: f64) -> f64 {
    if support.iter().any(|(p, _)| p.is_nan()) {
        return f64::NAN;
    }
    // relative to the largest weight, whose class g is centred at
    let by_p = |a: &&(f64, f64), b: &&(f64, f64)| a.0.total_cmp(&b.0);
    let reference = if alpha > 2.0 { support.iter().min_by(by_p) } else { support.iter().max_by(by_p) };
    let Some(&(reference, base)) = reference.filter(|_| alpha < f64::INFINITY) else { return 0.0 };
    let weight = |p: f64| match alpha {
        1.5 => (p / reference).sqrt(),
        2.0 => 1.0,
        _ => ((2.0 - alpha) * (p / reference).ln()).exp(),
    };
    let (dot, sum) =
        support.iter().fold((0.0, 0.0), |(dot, sum), &(p, g)| (dot + weight(p) * (g - base), sum + weight(p)));
    let mean = dot / sum;
    let (a, scale) = (alpha - 1.0, ((2.0 - alpha) * reference.ln()).exp());
    // s_i k_i, above order 2 less s_i / a^2
    let bend = |p: f64| match alpha {
        ..=2.0 => weight(p) * scale * curvature(p.ln(), a),
        _ => p * (a * p.ln() - 1.0) / (a * a),
    };
    0.0 - support.iter().map(|&(p, g)| bend(p) * (g - base - mean)).sum::<f64>()
}

/// l^2 phi'(a l)
fn curvature(l: f64, a: f64) -> f64 {
    let x = a * l;
    if x.abs() < 0.5 {
        // phi'(x) = sum_n x^n / (n! (n + 2))
        let mut factor = 1.0;
        let mut series = 0.0;
        for n in 0..20 {
            series += factor / f64::from(n + 2);
            factor *= x / f64::from(n + 1);
        }
        return l * l * series;
    }
    (x.exp() * (x - 1.0) + 1.0) / (a * a)
}
