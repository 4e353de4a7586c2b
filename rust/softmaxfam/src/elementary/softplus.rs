//! The cost of a choice of two, both ways: softplus(x) = log(1 + e^x) = -log sigmoid(-x).
//!
//! Method. log1p of e^-|x|, and the larger of x and 0 beside it: no term cancels, none overflows.
//! Error. Relative 3 2^-52, that of exp and log1p; sigmoid as much.

use super::{Window, exp, log1p};
use crate::simd::Lanes;

/// softplus(x), softplus(-x) and sigmoid(-x).
#[inline(always)]
pub(crate) fn two_ways<L: Lanes<Scalar = f64>>(lanes: L, x: L::V) -> [L::V; 3] {
    let (zero, one) = (lanes.splat(0.0), lanes.splat(1.0));
    let minus = lanes.sub(zero, x);
    let e = exp(lanes, lanes.min(x, minus), None, &Window::new(lanes, 0.0)); // e^-|x|; min gives a NaN back
    let log = log1p(lanes, e);
    let part = lanes.div(lanes.select(lanes.ge(x, zero), e, one), lanes.add(one, e));
    [lanes.add(lanes.max(x, zero), log), lanes.add(lanes.max(minus, zero), log), part]
}
