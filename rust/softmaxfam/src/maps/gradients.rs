//! Vector-Jacobian products of the maps, from their results, for those without automatic differentiation.
//!
//! The Jacobian of entmax at p is diag(s) - s s^T / sum s with s_i = p_i^(2-alpha) on the support (Peters, Niculae, Martins
//! 2019), so J g = s (g - <s, g> / sum s); softmax is alpha = 1, s = p. For alpha > 2 the s_i are unbounded: they are formed
//! relative to the largest, and g is centred at its class, which is legal for J 1 = 0. With respect to alpha, dp/dalpha = -J k,
//! k_i = l_i^2 phi'(a l_i), l = log p, a = alpha - 1, phi'(x) = (e^x (x - 1) + 1) / x^2: continuous at alpha = 1, unlike the form of
//! Correia, Niculae, Martins (2019), which it equals elsewhere.
//! All in f64, rounded once. Cost. Two reads of each input, one write.

use super::strips::{STRIP, Strips, rounded};
use crate::elementary::{self, Window};
use crate::error::{Error, Result};
use crate::options::{Options, PerRow};
use crate::rows::{Places, Rows, RowsMut, Source};
use crate::simd::{Element, Isa, Kernel, Lanes, Level, dispatch};
use crate::threads::{Job, for_each_piece};

/// Time of one class, ns a byte of one input.
const COST: f64 = 0.2;

fn job<'a, E: Element>(rows: &Rows<'_, E>, options: &Options<'a>) -> Job<'a> {
    let row_cost = 50.0 + COST * (rows.classes() * size_of::<E>()) as f64;
    Job { rows: rows.rows(), row_cost, together: 1, interrupt: options.interrupt }
}

/// The gradient p (g - <p, g>) / T with respect to scores whose softmax is `p`, given that with respect to p.
pub fn softmax_vjp<E: Element>(
    p: &Rows<'_, E>,
    g: &Rows<'_, E>,
    options: &Options<'_>,
    out: &mut RowsMut<'_, E>,
) -> Result<()> {
    centred(p, g, 1.0.into(), options, out)
}

/// The gradient J g / T with respect to scores whose entmax of order `alpha` is `p`; p = 0 is outside the support.
pub fn entmax_vjp<E: Element>(
    p: &Rows<'_, E>,
    g: &Rows<'_, E>,
    alpha: PerRow<'_>,
    options: &Options<'_>,
    out: &mut RowsMut<'_, E>,
) -> Result<()> {
    centred(p, g, alpha, options, out)
}

fn check_alpha(alpha: PerRow<'_>, rows: usize) -> Result<()> {
    alpha.check("alpha", rows, |given| if given > 0.0 { Ok(()) } else { Err(Error::Alpha { given, above: 0.0 }) })
}

fn centred<E: Element>(
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
    let level = Level::active();
    for_each_piece(job(p, options), out.reborrow(), |rows, mut out| {
        let (mut p, mut g) = (Strips::new(Source::new(p, None)), Strips::new(Source::new(g, None)));
        let mut results = [E::ZERO; STRIP];
        for row in rows {
            let (p, g, results) = (&mut p, &mut g, &mut results[..]);
            let (alpha, temperature) = (alpha.of(row), options.temperature.of(row));
            dispatch(level, Centred { p, g, row, alpha, temperature, results, out: &mut out });
        }
        Ok(())
    })
}

struct Centred<'k, 'a, E> {
    p: &'k mut Strips<'a, E>,
    g: &'k mut Strips<'a, E>,
    row: usize,
    alpha: f64,
    temperature: f64,
    results: &'k mut [E],
    out: &'k mut RowsMut<'a, E>,
}

/// Replaces each p of a strip by (p / reference)^(2 - alpha), and 0 by 0.
#[inline(always)]
fn weights<I: Isa>(isa: I, alpha: f64, reference: f64, p: &mut [f64]) {
    let lanes = isa.f64();
    let (zero, one) = (lanes.splat(0.0), lanes.splat(1.0));
    let window = Window::new(lanes, 0.0);
    for p in p.chunks_mut(8) {
        let v = lanes.load_or(p, 0.0);
        let weight = if alpha == 1.0 {
            v
        } else if alpha == 1.5 {
            lanes.sqrt(v)
        } else if alpha == 2.0 {
            one
        } else {
            let log = elementary::log(lanes, lanes.div(v, lanes.splat(reference)));
            let power = lanes.mul(log, lanes.splat(2.0 - alpha));
            elementary::exp(lanes, lanes.min(power, lanes.splat(700.0)), None, &window)
        };
        let inside = lanes.select(lanes.gt(v, zero), weight, zero);
        // an undefined p stays so
        lanes.store_part(lanes.select(lanes.is_nan(v), v, inside), p);
    }
}

/// (<s, g - base>, sum s) of strips of s and g.
#[inline(always)]
fn products<I: Isa>(isa: I, s: &[f64], g: &[f64], base: f64) -> (f64, f64) {
    let lanes = isa.f64();
    let (zero, base) = (lanes.splat(0.0), lanes.splat(base));
    let (mut dot, mut sum) = (zero, zero);
    for (s, g) in s.chunks(8).zip(g.chunks(8)) {
        let s = lanes.load_or(s, 0.0);
        // outside the support an infinite g does not count
        let g = lanes.select(lanes.eq(s, zero), zero, lanes.sub(lanes.load_or(g, 0.0), base));
        dot = lanes.mul_add(s, g, dot);
        sum = lanes.add(sum, s);
    }
    (lanes.reduce_add(dot), lanes.reduce_add(sum))
}

impl<E: Element> Kernel for Centred<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { p, g, row, alpha, temperature, results, out } = self;
        if alpha == f64::INFINITY {
            // shares of 1 among the maxima do not move; NaN stays
            for from in p.starts() {
                let strip = p.at(isa, row, from);
                strip.iter_mut().for_each(|p| *p *= 0.0);
                write(isa, strip, row, from, results, out);
            }
            return;
        }
        // the class of the largest s: of the smallest p, for alpha > 2
        let (mut reference, mut base) = (1.0, 0.0);
        if alpha > 2.0 {
            reference = f64::INFINITY;
            for from in p.starts() {
                let (p, g) = (p.at(isa, row, from), g.at(isa, row, from));
                for (p, g) in p.iter().zip(g) {
                    if *p > 0.0 && *p < reference {
                        (reference, base) = (*p, *g);
                    }
                }
            }
        }
        let (mut dot, mut sum) = (0.0, 0.0);
        for from in p.starts() {
            let s = p.at(isa, row, from);
            weights(isa, alpha, reference, s);
            let (more_dot, more_sum) = products(isa, s, g.at(isa, row, from), base);
            dot += more_dot;
            sum += more_sum;
        }
        // a wholly masked row is all zeros, and so is its gradient
        let mean = if sum == 0.0 {
            0.0
        } else if alpha == 1.0 {
            dot
        } else {
            dot / sum
        };
        let scale = if alpha > 2.0 { ((2.0 - alpha) * reference.ln()).exp() } else { 1.0 } / temperature;
        let lanes = isa.f64();
        let middle = [base, mean, scale].map(|value| lanes.splat(value));
        let zero = lanes.splat(0.0);
        for from in p.starts() {
            let s = p.at(isa, row, from);
            weights(isa, alpha, reference, s);
            for (s, g) in s.chunks_mut(8).zip(g.at(isa, row, from).chunks(8)) {
                let (weight, g) = (lanes.load_or(s, 0.0), lanes.load_or(g, 0.0));
                let above = lanes.sub(lanes.sub(g, middle[0]), middle[1]);
                let product = lanes.mul(lanes.mul(weight, above), middle[2]);
                lanes.store_part(lanes.select(lanes.eq(weight, zero), zero, product), s);
            }
            write(isa, s, row, from, results, out);
        }
    }
}

/// A strip of results to its place.
#[inline(always)]
fn write<I: Isa, E: Element>(
    isa: I,
    strip: &[f64],
    row: usize,
    from: usize,
    results: &mut [E],
    out: &mut RowsMut<'_, E>,
) {
    let to = from + strip.len();
    rounded(isa, strip, out.place(row, from, to, results));
    out.settle(row, from, to, results);
}

/// The gradient (g - exp(log_p) sum g) / T with respect to scores whose log_softmax is `log_p`.
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
    let level = Level::active();
    for_each_piece(job(log_p, options), out.reborrow(), |rows, mut out| {
        let (mut log_p, mut g) = (Strips::new(Source::new(log_p, None)), Strips::new(Source::new(g, None)));
        let mut results = [E::ZERO; STRIP];
        for row in rows {
            let (x, g, results) = (&mut log_p, &mut g, &mut results[..]);
            let temperature = options.temperature.of(row);
            dispatch(
                level,
                OfExponentials { x, offset: 0.0, g: Some(g), scale: 0.0, row, temperature, results, out: &mut out },
            );
        }
        Ok(())
    })
}

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
    let level = Level::active();
    for_each_piece(job(scores, options), out.reborrow(), |rows, mut out| {
        let mut x = Strips::new(Source::new(scores, options.mask));
        let mut results = [E::ZERO; STRIP];
        for row in rows {
            let (lse, scale, temperature) =
                (lse.get(row, 0).to_f64(), g.get(row, 0).to_f64(), options.temperature.of(row));
            if lse == f64::NEG_INFINITY {
                out.fill(row, E::ZERO);
                continue;
            }
            let (x, results) = (&mut x, &mut results[..]);
            dispatch(
                level,
                OfExponentials { x, offset: lse, g: None, scale, row, temperature, results, out: &mut out },
            );
        }
        Ok(())
    })
}

/// Either (g - exp(x) sum g) / T, or with no g for each class scale exp(x / T - offset) / T.
struct OfExponentials<'k, 'a, E> {
    x: &'k mut Strips<'a, E>,
    offset: f64,
    g: Option<&'k mut Strips<'a, E>>,
    scale: f64,
    row: usize,
    temperature: f64,
    results: &'k mut [E],
    out: &'k mut RowsMut<'a, E>,
}

impl<E: Element> Kernel for OfExponentials<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { x, offset, mut g, mut scale, row, temperature, results, out } = self;
        let lanes = isa.f64();
        let window = Window::new(lanes, 0.0);
        if let Some(g) = &mut g {
            let sum: f64 = g
                .starts()
                .map(|from| {
                    products(isa, &[1.0; STRIP][..g.classes().min(from + STRIP) - from], g.at(isa, row, from), 0.0).0
                })
                .sum();
            scale = -sum;
        }
        // log-probabilities are given over T already
        let divisor = lanes.splat(if g.is_some() { 1.0 } else { temperature });
        let [offset, scale, inverse] = [offset, scale, 1.0 / temperature].map(|value| lanes.splat(value));
        let highest = lanes.splat(700.0);
        for from in x.starts() {
            let strip = x.at(isa, row, from);
            let mut g = g.as_mut().map(|g| g.at(isa, row, from).chunks(8));
            for x in strip.chunks_mut(8) {
                let z = lanes.sub(lanes.div(lanes.load_or(x, 0.0), divisor), offset);
                // min gives its second argument where one is NaN
                let term = lanes.mul(elementary::exp(lanes, lanes.min(highest, z), None, &window), scale);
                let g = g.as_mut().and_then(Iterator::next).map_or(lanes.splat(0.0), |g| lanes.load_or(g, 0.0));
                lanes.store_part(lanes.mul(lanes.add(g, term), inverse), x);
            }
            write(isa, strip, row, from, results, out);
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
    let mut job = job(p, options);
    job.row_cost *= 20.0;
    for_each_piece(job, out.reborrow(), |rows, mut out| {
        for row in rows {
            let alpha = alpha.of(row);
            let classes = || (0..classes).map(|class| (p.get(row, class).to_f64(), g.get(row, class).to_f64()));
            out.set(row, 0, E::of_f64_once(alpha_gradient(classes, alpha)));
        }
        Ok(())
    })
}

/// -<g, J k> over the support.
fn alpha_gradient<C: Iterator<Item = (f64, f64)>>(classes: impl Fn() -> C, alpha: f64) -> f64 {
    if classes().any(|(p, _)| p.is_nan()) {
        return f64::NAN;
    }
    if alpha == f64::INFINITY {
        return 0.0;
    }
    let support = || classes().filter(|(p, _)| *p > 0.0);
    // relative to the largest weight, whose class g is centred at
    let by_p = |a: &(f64, f64), b: &(f64, f64)| a.0.total_cmp(&b.0);
    let reference = if alpha > 2.0 { support().min_by(by_p) } else { support().max_by(by_p) };
    let Some((reference, base)) = reference else { return 0.0 };
    let weight = |p: f64| ((2.0 - alpha) * (p / reference).ln()).exp();
    let (dot, sum) = support().fold((0.0, 0.0), |(dot, sum), (p, g)| (dot + weight(p) * (g - base), sum + weight(p)));
    let mean = dot / sum;
    let scale = ((2.0 - alpha) * reference.ln()).exp();
    let total: f64 = support().map(|(p, g)| weight(p) * (g - base - mean) * curvature(p.ln(), alpha - 1.0)).sum();
    0.0 - total * scale
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
