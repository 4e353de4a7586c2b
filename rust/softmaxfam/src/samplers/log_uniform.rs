//! The log-uniform law, which is nearly Zipf's: P(k) = log((k + 2) / (k + 1)) / log(n + 1) for k = 0 .. n - 1.
//!
//! Method. Its distribution function log(k + 2) / log(n + 1) is turned round in closed form: with u in [0, 1) the class is
//! floor((n + 1)^u) - 1 (the candidate sampler of TensorFlow). No table, no memory.
//! log q(k) = log(log1p(x) / log(n + 1)) with x = 1 / (k + 1); the quotient would lose its digits at large k, so it is
//! g(x) - log(k + 1) - log log(n + 1), g(x) = log(log1p(x) / x) being smooth on (0, 1]: a polynomial of degree 11
//! (Chebyshev nodes, 40 digits) whose error is 1.3e-10.
//! Error. `logq` is right to half an f32 and 2e-9. The law is exact but for u's 53 bits and the rounding of its power:
//! relative 1e-14 of (n + 1)^u where the floor falls.
//! Cost. An exponential and a logarithm a draw, on lanes.

use super::philox::{Noise, WORDS, unit};
use super::{Law, check_classes};
use crate::elementary::{self, Window};
use crate::error::Result;
use crate::simd::{Isa, Kernel, Lanes, Level, dispatch};

/// g(x) / x, lowest degree first.
#[expect(clippy::unreadable_literal, reason = "coefficients of a fit")]
const G: [f64; 11] = [
    -0.4999999997584064,
    0.2083332746548143,
    -0.12499760966933872,
    0.08711418851730007,
    -0.06564633781760258,
    0.05094912736678541,
    -0.03804172954943885,
    0.024664241073375774,
    -0.01219613609915299,
    0.0038913236481896768,
    -0.0005832630769785399,
];

/// 2^52: the unit in the last place of numbers from here on is 1.
const ROUNDER: f64 = (1_u64 << 52) as f64;

/// The log-uniform law over `classes` classes, which are sorted by falling frequency.
#[derive(Clone, Debug)]
pub struct LogUniform {
    classes: u32,
}

impl LogUniform {
    /// For 1 to 2^32 - 1 classes.
    pub fn new(classes: usize) -> Result<Self> {
        Ok(Self { classes: check_classes(classes)? })
    }
}

impl Law for LogUniform {
    fn classes(&self) -> u32 {
        self.classes
    }

    fn positive(&self) -> usize {
        self.classes as usize
    }

    fn draw(&self, level: Level, noise: &Noise, first: u64, ids: &mut [u32], logq: Option<&mut [f32]>) {
        match logq {
            Some(logq) => dispatch(level, Draw { classes: self.classes, noise, first, ids, logq }),
            None => dispatch(level, Draw { classes: self.classes, noise, first, ids, logq: &mut [] }),
        }
    }

    fn logq(&self, level: Level, ids: &[u32], logq: &mut [f32]) {
        dispatch(level, Logq { classes: self.classes, ids, logq });
    }
}

/// log q on lanes.
struct Curve<L: Lanes> {
    log_log: L::V,
}

impl<L: Lanes<Scalar = f64>> Curve<L> {
    #[inline(always)]
    fn new(lanes: L, log_total: L::V) -> Self {
        Self { log_log: elementary::log(lanes, log_total) }
    }

    #[inline(always)]
    fn at(&self, lanes: L, class: L::V) -> L::V {
        let one = lanes.splat(1.0);
        let place = lanes.add(class, one);
        let x = lanes.div(one, place);
        let mut g = lanes.splat(G[10]);
        for &coefficient in G[..10].iter().rev() {
            g = lanes.mul_add(g, x, lanes.splat(coefficient));
        }
        lanes.sub(lanes.neg_mul_add(elementary::log(lanes, place), one, lanes.mul(g, x)), self.log_log)
    }
}

/// log(n + 1)
#[inline(always)]
fn log_total<L: Lanes<Scalar = f64>>(lanes: L, classes: u32) -> L::V {
    elementary::log(lanes, lanes.splat(f64::from(classes) + 1.0))
}

/// floor((n + 1)^u) - 1, at most the last class.
#[inline(always)]
fn class<L: Lanes<Scalar = f64>>(lanes: L, u: L::V, log_total: L::V, last: L::V, window: &Window<L>) -> L::V {
    let (one, rounder, zero) = (lanes.splat(1.0), lanes.splat(ROUNDER), lanes.splat(0.0));
    let power = elementary::exp(lanes, lanes.mul(u, log_total), None, window);
    let value = lanes.min(lanes.max(lanes.sub(power, one), zero), last);
    // the nearest integer, less one where that is above
    let near = lanes.sub(lanes.add(value, rounder), rounder);
    lanes.select(lanes.gt(near, value), lanes.sub(near, one), near)
}

struct Draw<'a> {
    classes: u32,
    noise: &'a Noise,
    first: u64,
    ids: &'a mut [u32],
    logq: &'a mut [f32], // as long as the ids, or empty
}

impl Kernel for Draw<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { classes, noise, first, ids, logq } = self;
        let lanes = isa.f64();
        let log_total = log_total(lanes, classes);
        let curve = Curve::new(lanes, log_total);
        let (window, last) = (Window::new(lanes, 0.0), lanes.splat(f64::from(classes) - 1.0));
        let rounder = lanes.splat(ROUNDER);
        let mut skipped = (first % 2) as usize;
        let (mut at, mut from) = (first - skipped as u64, 0);
        while from < ids.len() {
            let (words, mut units) = (noise.words(isa, at), [0.0; WORDS]);
            for index in 0..WORDS {
                units[index] = unit(words[index]);
            }
            let (mut found, mut logs) = ([0; WORDS], [0_f32; WORDS]);
            for start in (0..WORDS).step_by(16) {
                let halves = [
                    class(lanes, lanes.load(&units[start..]), log_total, last, &window),
                    class(lanes, lanes.load(&units[start + 8..]), log_total, last, &window),
                ];
                let mut bits = [0.0; 16];
                lanes.store(lanes.add(halves[0], rounder), &mut bits);
                lanes.store(lanes.add(halves[1], rounder), &mut bits[8..]);
                for (id, bits) in found[start..].iter_mut().zip(bits) {
                    *id = bits.to_bits() as u32;
                }
                if !logq.is_empty() {
                    let halves = [curve.at(lanes, halves[0]), curve.at(lanes, halves[1])];
                    isa.f32().store(isa.narrow(halves), &mut logs[start..]);
                }
            }
            let to = ids.len().min(from + WORDS - skipped);
            ids[from..to].copy_from_slice(&found[skipped..skipped + to - from]);
            if !logq.is_empty() {
                logq[from..to].copy_from_slice(&logs[skipped..skipped + to - from]);
            }
            (from, skipped) = (to, 0);
            at += WORDS as u64;
        }
    }
}

struct Logq<'a> {
    classes: u32,
    ids: &'a [u32],
    logq: &'a mut [f32],
}

impl Kernel for Logq<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let lanes = isa.f64();
        let curve = Curve::new(lanes, log_total(lanes, self.classes));
        for (logq, ids) in self.logq.chunks_mut(16).zip(self.ids.chunks(16)) {
            let mut classes = [0.0; 16];
            for (class, &id) in classes.iter_mut().zip(ids) {
                *class = f64::from(id);
            }
            let halves = [curve.at(lanes, lanes.load(&classes)), curve.at(lanes, lanes.load(&classes[8..]))];
            isa.f32().store_part(isa.narrow(halves), logq);
        }
    }
}
