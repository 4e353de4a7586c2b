//! Natural logarithm of f64 lanes, and of one f64.
//!
//! Method (fdlibm's e_log.c, Sun Microsystems 1993). x = 2^e m with m in [sqrt(1/2), sqrt(2)); f = m - 1,
//! s = f / (2 + f), and log m = 2 atanh s = f - (f^2/2 - s (f^2/2 + R(s^2))), R of degree 7; e ln 2 is added in two parts,
//! the low one inside the bracket, so that nothing is lost where e is not 0.
//! `log1p` takes u = 1 + x and adds what rounding u lost, divided by u.
//!
//! Error. Relative [`MAX_ERROR`] for positive normal x, tested against 50-digit values; 0 gives -inf, +inf gives +inf,
//! a negative number or NaN gives NaN; subnormals count as 0.

use crate::simd::isa::Level;
use crate::simd::{Isa, Kernel, Lanes, dispatch};

/// Relative error of log and log1p in units of 2^-52.
pub const MAX_ERROR: f64 = 1.5;

#[expect(clippy::excessive_precision, reason = "as published")]
const R: [f64; 7] = [
    6.666_666_666_666_735_130e-1,
    3.999_999_999_940_941_908e-1,
    2.857_142_874_366_239_149e-1,
    2.222_219_843_214_978_396e-1,
    1.818_357_216_161_805_012e-1,
    1.531_383_769_920_937_332e-1,
    1.479_819_860_511_658_591e-1,
];
#[expect(clippy::excessive_precision, reason = "as published")]
const LN_2_HIGH: f64 = 6.931_471_803_691_238_164_90e-1; // 33 bits: e times this is exact
#[expect(clippy::excessive_precision, reason = "as published")]
const LN_2_LOW: f64 = 1.908_214_929_270_587_700_02e-10;

/// log x
#[inline(always)]
pub(crate) fn log<L: Lanes<Scalar = f64>>(lanes: L, x: L::V) -> L::V {
    log_with_tail(lanes, x, lanes.splat(0.0))
}

/// log(1 + x)
#[inline(always)]
pub(crate) fn log1p<L: Lanes<Scalar = f64>>(lanes: L, x: L::V) -> L::V {
    let one = lanes.splat(1.0);
    let u = lanes.add(one, x);
    // the larger of 1 and x first, so that the difference is exact
    let lost_of_x = lanes.sub(x, lanes.sub(u, one));
    let lost_of_one = lanes.sub(one, lanes.sub(u, x));
    let lost = lanes.select(lanes.gt(x, one), lost_of_one, lost_of_x);
    let tail = lanes.div(lost, u);
    // 1 + x is 0 or infinite: nothing was lost, and the quotient is NaN
    let tail = lanes.select(lanes.is_nan(tail), lanes.splat(0.0), tail);
    log_with_tail(lanes, u, tail)
}

#[inline(always)]
fn log_with_tail<L: Lanes<Scalar = f64>>(lanes: L, x: L::V, tail: L::V) -> L::V {
    let constant = |value| lanes.splat(value);
    let (e, m) = lanes.split_exponent(x);
    let f = lanes.sub(m, constant(1.0));
    let s = lanes.div(f, lanes.add(constant(2.0), f));
    let z = lanes.mul(s, s);
    let mut r = constant(R[6]);
    for &coefficient in R[..6].iter().rev() {
        r = lanes.in_step(lanes.mul_add(r, z, constant(coefficient)));
    }
    let half_square = lanes.mul(constant(0.5), lanes.mul(f, f));
    let low = lanes.mul_add(e, constant(LN_2_LOW), tail);
    let bracket = lanes.sub(half_square, lanes.mul_add(s, lanes.mul_add(z, r, half_square), low));
    let result = lanes.mul_add(e, constant(LN_2_HIGH), lanes.sub(f, bracket));
    // the edges: x < smallest normal, x = +inf, x < 0 or NaN
    let tiny = lanes.gt(constant(f64::MIN_POSITIVE), x);
    let result = lanes.select(tiny, constant(f64::NEG_INFINITY), result);
    let result = lanes.select(lanes.gt(x, constant(f64::MAX)), x, result);
    let defined = lanes.ge(x, constant(0.0));
    lanes.select(defined, result, constant(f64::NAN))
}

/// log x of one number, in the same arithmetic.
pub(crate) fn log_scalar(level: Level, x: f64) -> f64 {
    struct One(f64);
    impl Kernel for One {
        type Output = f64;
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> f64 {
            let lanes = isa.f64();
            lanes.reduce_max(log(lanes, lanes.splat(self.0)))
        }
    }
    dispatch(level, One(x))
}
