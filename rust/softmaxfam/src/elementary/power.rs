//! Whole powers on lanes, by squaring: one rounding a multiplication. Other powers are exp(log(x) / a).

use crate::simd::Lanes;

/// x^exponent; 1 for exponent 0.
#[inline(always)]
pub(crate) fn integer_power<L: Lanes<Scalar = f64>>(lanes: L, x: L::V, exponent: u32) -> L::V {
    let (mut power, mut square, mut rest) = (lanes.splat(1.0), x, exponent);
    while rest > 0 {
        if rest & 1 == 1 {
            power = lanes.mul(power, square);
        }
        square = lanes.mul(square, square);
        rest >>= 1;
    }
    power
}
