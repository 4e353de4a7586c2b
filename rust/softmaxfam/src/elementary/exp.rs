//! e^z 2^-shift on lanes, for sums of exponentials that need no subtraction of the maximum.
//!
//! Method. n = round(z log2 e), by adding 1.5 2^52 (f32: 1.5 2^23), whose unit in the last place is 1; r = z - n ln 2
//! with ln 2 in two parts and two fused steps; e^z = 2^n (1 + r + r^2 q(r)), q the minimax polynomial for the relative
//! error of e^r on |r| <= ln 2 / 2 (degree 9 for f64: 2^-57.9; degree 4 for f32: 2^-28.2; Remez, 60 digits). The sum
//! n + bias - shift stands in the low bits of the sum that rounded z, so moving them up makes 2^(n - shift) at once.
//!
//! The shift is an integer and exact: with `shift` near log2 of the largest term, a sum of such terms neither overflows
//! nor underflows, and no score was rounded by subtracting a maximum from it. z - n ln2_hi is exact while z is a
//! multiple of the last bit of ln2_hi and |r| < 1/2, which holds for all |z| >= 1/2.
//!
//! Error. Relative [`MAX_ERROR`] of f32 on all inputs whose result is normal (0.7131 eps at most over all 2^32 inputs, the
//! ignored-by-default test `exp_of_every_f32_is_within_its_bound`), and of
//! f64 on a dense sample. Where n < shift - 126 (f64: -1022) the result is exactly 0. NaN gives NaN, -inf gives 0; z must
//! not exceed (shift + 127) ln 2.
//! Cost. 12 operations for f32, 17 for f64.

use crate::simd::{Lanes, Real};

/// Relative error of exp, in units of the epsilon of its type.
pub const MAX_ERROR: f64 = 0.75;

/// Constants of exp in one type.
pub trait ExpConstants: Sized + 'static {
    /// 1 / ln 2
    const LOG2_E: Self;
    /// ln 2, high and low part.
    const LN_2: [Self; 2];
    /// The polynomial q, lowest degree first.
    const Q: &'static [Self];
    /// 1.5 2^(significand bits): adding it rounds to an integer.
    const ROUNDER: Self;
    /// The bias of the exponent.
    const BIAS: Self;
}

impl ExpConstants for f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN_2: [f32; 2] = [std::f32::consts::LN_2, -1.904_654_2e-9];
    const Q: &'static [f32] = &[0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_745, 0.001_381_454];
    const ROUNDER: f32 = 12_582_912.0;
    const BIAS: f32 = 127.0;
}

impl ExpConstants for f64 {
    const LOG2_E: f64 = std::f64::consts::LOG2_E;
    const LN_2: [f64; 2] = [std::f64::consts::LN_2, 2.319_046_813_846_299_6e-17];
    const Q: &'static [f64] = &[
        0.500_000_000_000_001_1,
        0.166_666_666_666_664_1,
        0.041_666_666_666_529_725,
        0.008_333_333_333_494_976,
        0.001_388_888_894_375_998_4,
        0.000_198_412_695_057_738_06,
        2.480_149_294_961_707e-5,
        2.755_758_680_384_706_7e-6,
        2.763_030_625_564_753_4e-7,
        2.500_001_885_308_405e-8,
    ];
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    const BIAS: f64 = 1023.0;
}

/// Where the results of [`exp`] lie: they are scaled by 2^-shift.
#[derive(Clone, Copy)]
pub(crate) struct Window<L: Lanes> {
    rounder: L::V,
    floor: L::V,
}

impl<L: Lanes> Window<L> {
    /// The window for an integer shift of at most 2^20 in size.
    #[inline(always)]
    pub(crate) fn new(lanes: L, shift: f64) -> Self {
        Self::of_each(lanes, lanes.splat(Real::of_f64(shift)))
    }

    /// A window for each lane, with the same limits.
    #[inline(always)]
    pub(crate) fn of_each(lanes: L, shift: L::V) -> Self {
        let bias = lanes.splat(L::Scalar::BIAS);
        let rounder = lanes.sub(lanes.add(lanes.splat(L::Scalar::ROUNDER), bias), shift);
        let floor = lanes.mul(lanes.sub(shift, bias), lanes.splat(Real::of_f64(std::f64::consts::LN_2)));
        Self { rounder, floor }
    }
}

/// e^(z + low) 2^-shift, `low` being a small correction of z.
#[inline(always)]
pub(crate) fn exp<L: Lanes>(lanes: L, z: L::V, low: Option<L::V>, window: &Window<L>) -> L::V {
    let (power, tail) = exp_in_two(lanes, z, low, window);
    lanes.mul_add(tail, power, power)
}

/// e^(z + low) 2^-shift as power (1 + tail), power being a power of two or 0 and |tail| < 0.42: sums of the powers and of
/// power times tail, kept apart, round less than a sum of exponentials and cost the same.
#[inline(always)]
pub(crate) fn exp_in_two<L: Lanes>(lanes: L, z: L::V, low: Option<L::V>, window: &Window<L>) -> (L::V, L::V) {
    let constant = |value| lanes.splat(value);
    let z = lanes.max(window.floor, z); // a NaN stays
    let rounded = lanes.in_step(lanes.mul_add(z, constant(L::Scalar::LOG2_E), window.rounder));
    let n = lanes.in_step(lanes.sub(rounded, window.rounder));
    let mut r = lanes.in_step(lanes.neg_mul_add(n, constant(L::Scalar::LN_2[0]), z));
    r = lanes.in_step(lanes.neg_mul_add(n, constant(L::Scalar::LN_2[1]), r));
    if let Some(low) = low {
        r = lanes.add(r, low);
    }
    let (last, rest) = L::Scalar::Q.split_last().expect("a polynomial has a coefficient");
    let mut q = constant(*last);
    for &coefficient in rest.iter().rev() {
        q = lanes.in_step(lanes.mul_add(q, r, constant(coefficient)));
    }
    (lanes.to_exponent(rounded), lanes.mul_add(lanes.mul(r, r), q, r))
}
