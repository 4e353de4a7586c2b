//! AVX2 with FMA: two registers hold the 16 f32 or 8 f64 lanes.
#![allow(unsafe_code, reason = "one of the files named for it: intrinsics")]

use super::{Isa, Kernel, Lanes, Real};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// A CPU with AVX2, FMA and F16C. `detect` is the only constructor and tests all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let found =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        found.then_some(Self(()))
    }

    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn enabled<K: Kernel>(isa: Avx2, kernel: K) -> K::Output {
            kernel.run(isa)
        }
        // SAFETY: `self` proves that `detect` found every feature that `enabled` enables.
        unsafe { enabled(self, kernel) }
    }
}

/// The value of an expression of intrinsics.
macro_rules! intrinsics {
    ($value:expr) => {{
        // SAFETY: an `Avx2` exists, so `detect` found the features of every intrinsic in this file; each pointer is
        // that of a slice or array whose length was checked just before, or a mask keeps the access inside it.
        unsafe { $value }
    }};
}

/// The value of an expression of intrinsics for each of two registers. Not `map`: the optimiser may leave the closure out of
/// line, and without the features of this file.
macro_rules! both {
    ($v:ident => $value:expr) => {{
        let [low, high] = $v;
        let $v = low;
        let low = intrinsics!($value);
        let $v = high;
        [low, intrinsics!($value)]
    }};
}

/// 16 lanes of f32 in two registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F32x16(());

/// Row m moves the 32-bit lanes that the bits of m name to the front.
static TO_FRONT: [[i32; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut count) = (0, 0);
        while lane < 8 {
            if mask >> lane & 1 == 1 {
                table[mask][count] = lane;
                count += 1;
            }
            lane += 1;
        }
        mask += 1;
    }
    table
};

/// 16 ones, then 16 zeros: 8 of them from `16 - count` on mask the first `count` of 8 lanes, from `24 - count` on the next 8.
static ONES_THEN_ZEROS: [i32; 32] = {
    let mut table = [0; 32];
    let mut lane = 0;
    while lane < 16 {
        table[lane] = -1;
        lane += 1;
    }
    table
};

/// Masks of the first `count` lanes of 32 bits, at most 16.
#[inline(always)]
fn first(count: usize) -> [__m256i; 2] {
    let parts = [&ONES_THEN_ZEROS[16 - count..][..8], &ONES_THEN_ZEROS[24 - count..][..8]];
    both!(parts => _mm256_loadu_si256(parts.as_ptr().cast()))
}

/// The same registers, which the optimiser takes for new: it computes neither's successors before both are there.
///
/// # Safety
/// - The CPU has AVX.
#[inline]
#[target_feature(enable = "avx")]
unsafe fn in_step([mut low, mut high]: [__m256; 2]) -> [__m256; 2] {
    // SAFETY: no instruction, a comment to the assembler; what it names are two registers.
    unsafe {
        std::arch::asm!(
            "/* {low} {high} */",
            low = inout(ymm_reg) low, high = inout(ymm_reg) high,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    [low, high]
}

impl Lanes for F32x16 {
    const N: usize = 16;
    type Scalar = f32;
    type V = [__m256; 2];
    type Mask = [__m256; 2];

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        intrinsics!([_mm256_set1_ps(value); 2])
    }
    #[inline(always)]
    fn load(self, source: &[f32]) -> Self::V {
        let source = &source[..16];
        intrinsics!([_mm256_loadu_ps(source.as_ptr()), _mm256_loadu_ps(source[8..].as_ptr())])
    }
    #[inline(always)]
    fn load_or(self, source: &[f32], pad: f32) -> Self::V {
        // a masked load reads nothing where its mask is 0
        let [low, high] = first(source.len());
        let parts = [(source.as_ptr(), low), (source.as_ptr().wrapping_add(8), high)];
        both!(parts => {
            let (from, mask) = parts;
            _mm256_blendv_ps(_mm256_set1_ps(pad), _mm256_maskload_ps(from, mask), _mm256_castsi256_ps(mask))
        })
    }
    #[inline(always)]
    fn store(self, v: Self::V, target: &mut [f32]) {
        let target = &mut target[..16];
        intrinsics!({
            _mm256_storeu_ps(target.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(target[8..].as_mut_ptr(), v[1]);
        })
    }
    #[inline(always)]
    fn store_part(self, v: Self::V, target: &mut [f32]) {
        // by halves: the masked store is microcode on some CPUs
        assert!(target.len() <= 16);
        let mut places = target.chunks_exact_mut(8);
        let mut left = v[0];
        for place in &mut places {
            intrinsics!(_mm256_storeu_ps(place.as_mut_ptr(), left));
            left = v[1];
        }
        let mut places = places.into_remainder().chunks_exact_mut(4);
        let mut left = (intrinsics!(_mm256_castps256_ps128(left)), intrinsics!(_mm256_extractf128_ps::<1>(left)));
        for place in &mut places {
            intrinsics!(_mm_storeu_ps(place.as_mut_ptr(), left.0));
            left.0 = left.1;
        }
        let rest = places.into_remainder();
        if let Some((pair, last)) = rest.split_first_chunk_mut::<2>() {
            intrinsics!(_mm_storel_pd(pair.as_mut_ptr().cast(), _mm_castps_pd(left.0)));
            if let [last] = last {
                *last = intrinsics!(_mm_cvtss_f32(_mm_movehl_ps(left.0, left.0)));
            }
        } else if let [only] = rest {
            *only = intrinsics!(_mm_cvtss_f32(left.0));
        }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        intrinsics!([_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])])
    }
    #[inline(always)]
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        intrinsics!([_mm256_fnmadd_ps(a[0], b[0], c[0]), _mm256_fnmadd_ps(a[1], b[1], c[1])])
    }
    #[inline(always)]
    fn in_step(self, v: Self::V) -> Self::V {
        intrinsics!(in_step(v))
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        intrinsics!([_mm256_sqrt_ps(a[0]), _mm256_sqrt_ps(a[1])])
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!([_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn gt(self, a: Self::V, b: Self::V) -> Self::Mask {
        intrinsics!([_mm256_cmp_ps::<_CMP_GT_OQ>(a[0], b[0]), _mm256_cmp_ps::<_CMP_GT_OQ>(a[1], b[1])])
    }
    #[inline(always)]
    fn ge(self, a: Self::V, b: Self::V) -> Self::Mask {
        intrinsics!([_mm256_cmp_ps::<_CMP_GE_OQ>(a[0], b[0]), _mm256_cmp_ps::<_CMP_GE_OQ>(a[1], b[1])])
    }
    #[inline(always)]
    fn eq(self, a: Self::V, b: Self::V) -> Self::Mask {
        intrinsics!([_mm256_cmp_ps::<_CMP_EQ_OQ>(a[0], b[0]), _mm256_cmp_ps::<_CMP_EQ_OQ>(a[1], b[1])])
    }
    #[inline(always)]
    fn is_nan(self, a: Self::V) -> Self::Mask {
        intrinsics!([_mm256_cmp_ps::<_CMP_UNORD_Q>(a[0], a[0]), _mm256_cmp_ps::<_CMP_UNORD_Q>(a[1], a[1])])
    }
    #[inline(always)]
    fn select(self, mask: Self::Mask, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!([_mm256_blendv_ps(b[0], a[0], mask[0]), _mm256_blendv_ps(b[1], a[1], mask[1])])
    }
    #[inline(always)]
    fn bits(self, mask: Self::Mask) -> u32 {
        intrinsics!(_mm256_movemask_ps(mask[0]) as u32 | (_mm256_movemask_ps(mask[1]) as u32) << 8)
    }
    #[inline(always)]
    fn compress(self, mask: Self::Mask, v: Self::V, target: &mut [f32]) -> usize {
        // each half alone, the second written behind the lanes that the first keeps
        let mut count = 0;
        for part in 0..2 {
            let bits = intrinsics!(_mm256_movemask_ps(mask[part])) as usize;
            let (order, place) = (&TO_FRONT[bits], &mut target[count..count + 8]);
            intrinsics!({
                let order = _mm256_loadu_si256(order.as_ptr().cast());
                _mm256_storeu_ps(place.as_mut_ptr(), _mm256_permutevar8x32_ps(v[part], order));
            });
            count += bits.count_ones() as usize;
        }
        count
    }
    #[inline(always)]
    fn transpose(self, rows: &mut [Self::V; 16]) {
        intrinsics!({
            let mut columns = *rows;
            for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                // an 8 x 8 block: 4 x 4 in each 128 bits, then these
                let mut block = [_mm256_setzero_ps(); 8];
                for four in 0..2 {
                    let row = 8 * from + 4 * four;
                    let [a, b, c, d] = [rows[row][to], rows[row + 1][to], rows[row + 2][to], rows[row + 3][to]];
                    let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
                    let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
                    block[4 * four] = _mm256_shuffle_ps::<0x44>(ab, cd);
                    block[4 * four + 1] = _mm256_shuffle_ps::<0xee>(ab, cd);
                    block[4 * four + 2] = _mm256_shuffle_ps::<0x44>(ab_high, cd_high);
                    block[4 * four + 3] = _mm256_shuffle_ps::<0xee>(ab_high, cd_high);
                }
                for column in 0..4 {
                    let (a, b) = (block[column], block[4 + column]);
                    columns[8 * to + column][from] = _mm256_permute2f128_ps::<0x20>(a, b);
                    columns[8 * to + 4 + column][from] = _mm256_permute2f128_ps::<0x31>(a, b);
                }
            }
            *rows = columns;
        })
    }
    #[inline(always)]
    fn to_exponent(self, v: Self::V) -> Self::V {
        both!(v => _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(v))))
    }
    #[inline(always)]
    fn split_exponent(self, v: Self::V) -> (Self::V, Self::V) {
        let split = both!(v => {
            let moved = _mm256_add_epi32(
                _mm256_castps_si256(v),
                _mm256_set1_epi32((f32::ONE_BITS - f32::SQRT_HALF_BITS) as i32),
            );
            let exponent = _mm256_sub_epi32(_mm256_srli_epi32::<23>(moved), _mm256_set1_epi32(127));
            let low = _mm256_and_si256(moved, _mm256_set1_epi32(0x007f_ffff));
            let mantissa = _mm256_add_epi32(low, _mm256_set1_epi32(f32::SQRT_HALF_BITS as i32));
            (_mm256_cvtepi32_ps(exponent), _mm256_castsi256_ps(mantissa))
        });
        ([split[0].0, split[1].0], [split[0].1, split[1].1])
    }
    #[inline(always)]
    fn reduce_add(self, v: Self::V) -> f32 {
        intrinsics!({
            let v = _mm256_add_ps(v[0], v[1]);
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
        })
    }
    #[inline(always)]
    fn reduce_max(self, v: Self::V) -> f32 {
        intrinsics!({
            let v = _mm256_max_ps(v[0], v[1]);
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
        })
    }
    #[inline(always)]
    fn reduce_min(self, v: Self::V) -> f32 {
        intrinsics!({
            let v = _mm256_min_ps(v[0], v[1]);
            let v = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_min_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_min_ss(v, _mm_movehdup_ps(v)))
        })
    }
}

/// 8 lanes of f64 in two registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F64x8(());

impl Lanes for F64x8 {
    const N: usize = 8;
    type Scalar = f64;
    type V = [__m256d; 2];
    type Mask = [__m256d; 2];

    #[inline(always)]
    fn splat(self, value: f64) -> Self::V {
        intrinsics!([_mm256_set1_pd(value); 2])
    }
    #[inline(always)]
    fn load(self, source: &[f64]) -> Self::V {
        let source = &source[..8];
        intrinsics!([_mm256_loadu_pd(source.as_ptr()), _mm256_loadu_pd(source[4..].as_ptr())])
    }
    #[inline(always)]
    fn load_or(self, source: &[f64], pad: f64) -> Self::V {
        let [low, high] = first(2 * source.len());
        let parts = [(source.as_ptr(), low), (source.as_ptr().wrapping_add(4), high)];
        both!(parts => {
            let (from, mask) = parts;
            _mm256_blendv_pd(_mm256_set1_pd(pad), _mm256_maskload_pd(from, mask), _mm256_castsi256_pd(mask))
        })
    }
    #[inline(always)]
    fn store(self, v: Self::V, target: &mut [f64]) {
        let target = &mut target[..8];
        intrinsics!({
            _mm256_storeu_pd(target.as_mut_ptr(), v[0]);
            _mm256_storeu_pd(target[4..].as_mut_ptr(), v[1]);
        })
    }
    #[inline(always)]
    fn store_part(self, v: Self::V, target: &mut [f64]) {
        assert!(target.len() <= 8);
        let mut places = target.chunks_exact_mut(4);
        let mut left = v[0];
        for place in &mut places {
            intrinsics!(_mm256_storeu_pd(place.as_mut_ptr(), left));
            left = v[1];
        }
        let rest = places.into_remainder();
        let (low, high) = (intrinsics!(_mm256_castpd256_pd128(left)), intrinsics!(_mm256_extractf128_pd::<1>(left)));
        if let Some((pair, last)) = rest.split_first_chunk_mut::<2>() {
            intrinsics!(_mm_storeu_pd(pair.as_mut_ptr(), low));
            if let [last] = last {
                *last = intrinsics!(_mm_cvtsd_f64(high));
            }
        } else if let [only] = rest {
            *only = intrinsics!(_mm_cvtsd_f64(low));
        }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!([_mm256_add_pd(a[0], b[0]), _mm256_add_pd(a[1], b[1])])
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!([_mm256_sub_pd(a[0], b[0]), _mm256_sub_pd(a[1], b[1])])
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!([_mm256_mul_pd(a[0], b[0]), _mm256_mul_pd(a[1], b[1])])
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!([_mm256_div_pd(a[0], b[0]), _mm256_div_pd(a[1], b[1])])
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        intrinsics!([_mm256_fmadd_pd(a[0], b[0], c[0]), _mm256_fmadd_pd(a[1], b[1], c[1])])
    }
    #[inline(always)]
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        intrinsics!([_mm256_fnmadd_pd(a[0], b[0], c[0]), _mm256_fnmadd_pd(a[1], b[1], c[1])])
    }
    #[inline(always)]
    fn in_step(self, v: Self::V) -> Self::V {
        let v = both!(v => _mm256_castpd_ps(v));
        let v = intrinsics!(in_step(v));
        both!(v => _mm256_castps_pd(v))
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        intrinsics!([_mm256_sqrt_pd(a[0]), _mm256_sqrt_pd(a[1])])
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!([_mm256_max_pd(a[0], b[0]), _mm256_max_pd(a[1], b[1])])
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!([_mm256_min_pd(a[0], b[0]), _mm256_min_pd(a[1], b[1])])
    }
    #[inline(always)]
    fn gt(self, a: Self::V, b: Self::V) -> Self::Mask {
        intrinsics!([_mm256_cmp_pd::<_CMP_GT_OQ>(a[0], b[0]), _mm256_cmp_pd::<_CMP_GT_OQ>(a[1], b[1])])
    }
    #[inline(always)]
    fn ge(self, a: Self::V, b: Self::V) -> Self::Mask {
        intrinsics!([_mm256_cmp_pd::<_CMP_GE_OQ>(a[0], b[0]), _mm256_cmp_pd::<_CMP_GE_OQ>(a[1], b[1])])
    }
    #[inline(always)]
    fn eq(self, a: Self::V, b: Self::V) -> Self::Mask {
        intrinsics!([_mm256_cmp_pd::<_CMP_EQ_OQ>(a[0], b[0]), _mm256_cmp_pd::<_CMP_EQ_OQ>(a[1], b[1])])
    }
    #[inline(always)]
    fn is_nan(self, a: Self::V) -> Self::Mask {
        intrinsics!([_mm256_cmp_pd::<_CMP_UNORD_Q>(a[0], a[0]), _mm256_cmp_pd::<_CMP_UNORD_Q>(a[1], a[1])])
    }
    #[inline(always)]
    fn select(self, mask: Self::Mask, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!([_mm256_blendv_pd(b[0], a[0], mask[0]), _mm256_blendv_pd(b[1], a[1], mask[1])])
    }
    #[inline(always)]
    fn bits(self, mask: Self::Mask) -> u32 {
        intrinsics!(_mm256_movemask_pd(mask[0]) as u32 | (_mm256_movemask_pd(mask[1]) as u32) << 4)
    }
    #[inline(always)]
    fn compress(self, mask: Self::Mask, v: Self::V, target: &mut [f64]) -> usize {
        let mut count = 0;
        for part in 0..2 {
            let bits = intrinsics!(_mm256_movemask_pd(mask[part])) as usize;
            // bit i of four spread to bits 2i and 2i + 1: a 64-bit lane is two 32-bit lanes
            let spread = ((bits & 1) * 3) | ((bits >> 1 & 1) * 12) | ((bits >> 2 & 1) * 48) | ((bits >> 3 & 1) * 192);
            let (order, place) = (&TO_FRONT[spread], &mut target[count..count + 4]);
            intrinsics!({
                let order = _mm256_loadu_si256(order.as_ptr().cast());
                let moved = _mm256_permutevar8x32_ps(_mm256_castpd_ps(v[part]), order);
                _mm256_storeu_pd(place.as_mut_ptr(), _mm256_castps_pd(moved));
            });
            count += bits.count_ones() as usize;
        }
        count
    }
    #[inline(always)]
    fn transpose(self, rows: &mut [Self::V; 16]) {
        intrinsics!({
            let mut columns = *rows;
            for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let row = 4 * from;
                let [a, b, c, d] = [rows[row][to], rows[row + 1][to], rows[row + 2][to], rows[row + 3][to]];
                let (ab, cd) = (_mm256_unpacklo_pd(a, b), _mm256_unpacklo_pd(c, d));
                let (ab_high, cd_high) = (_mm256_unpackhi_pd(a, b), _mm256_unpackhi_pd(c, d));
                columns[4 * to][from] = _mm256_permute2f128_pd::<0x20>(ab, cd);
                columns[4 * to + 1][from] = _mm256_permute2f128_pd::<0x20>(ab_high, cd_high);
                columns[4 * to + 2][from] = _mm256_permute2f128_pd::<0x31>(ab, cd);
                columns[4 * to + 3][from] = _mm256_permute2f128_pd::<0x31>(ab_high, cd_high);
            }
            *rows = columns;
        })
    }
    #[inline(always)]
    fn to_exponent(self, v: Self::V) -> Self::V {
        both!(v => _mm256_castsi256_pd(_mm256_slli_epi64::<52>(_mm256_castpd_si256(v))))
    }
    #[inline(always)]
    fn split_exponent(self, v: Self::V) -> (Self::V, Self::V) {
        let split = both!(v => {
            let moved = _mm256_add_epi64(
                _mm256_castpd_si256(v),
                _mm256_set1_epi64x((f64::ONE_BITS - f64::SQRT_HALF_BITS) as i64),
            );
            // no conversion from 64-bit integers here: put the exponent into the low bits of 2^52 and subtract that
            let two_52 = _mm256_set1_pd(4_503_599_627_370_496.0);
            let field = _mm256_or_si256(_mm256_srli_epi64::<52>(moved), _mm256_castpd_si256(two_52));
            let exponent =
                _mm256_sub_pd(_mm256_castsi256_pd(field), _mm256_set1_pd(4_503_599_627_370_496.0 + 1023.0));
            let low = _mm256_and_si256(moved, _mm256_set1_epi64x(0x000f_ffff_ffff_ffff));
            let mantissa = _mm256_add_epi64(low, _mm256_set1_epi64x(f64::SQRT_HALF_BITS as i64));
            (exponent, _mm256_castsi256_pd(mantissa))
        });
        ([split[0].0, split[1].0], [split[0].1, split[1].1])
    }
    #[inline(always)]
    fn reduce_add(self, v: Self::V) -> f64 {
        intrinsics!({
            let v = _mm256_add_pd(v[0], v[1]);
            let v = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd::<1>(v));
            _mm_cvtsd_f64(_mm_add_sd(v, _mm_unpackhi_pd(v, v)))
        })
    }
    #[inline(always)]
    fn reduce_max(self, v: Self::V) -> f64 {
        intrinsics!({
            let v = _mm256_max_pd(v[0], v[1]);
            let v = _mm_max_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd::<1>(v));
            _mm_cvtsd_f64(_mm_max_sd(v, _mm_unpackhi_pd(v, v)))
        })
    }
    #[inline(always)]
    fn reduce_min(self, v: Self::V) -> f64 {
        intrinsics!({
            let v = _mm256_min_pd(v[0], v[1]);
            let v = _mm_min_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd::<1>(v));
            _mm_cvtsd_f64(_mm_min_sd(v, _mm_unpackhi_pd(v, v)))
        })
    }
}

impl Isa for Avx2 {
    type F32 = F32x16;
    type F64 = F64x8;
    type U64 = [__m256i; 2];
    type Bytes = [__m256i; 2];
    type I32 = [__m256i; 2];
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn f32(self) -> F32x16 {
        F32x16(())
    }
    #[inline(always)]
    fn f64(self) -> F64x8 {
        F64x8(())
    }
    #[inline(always)]
    fn widen(self, v: [__m256; 2]) -> [[__m256d; 2]; 2] {
        both!(v => [_mm256_cvtps_pd(_mm256_castps256_ps128(v)), _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(v))])
    }
    #[inline(always)]
    fn narrow(self, v: [[__m256d; 2]; 2]) -> [__m256; 2] {
        both!(v => _mm256_set_m128(_mm256_cvtpd_ps(v[1]), _mm256_cvtpd_ps(v[0])))
    }
    #[inline(always)]
    fn load_f32_as_f64(self, source: &[f32]) -> [__m256d; 2] {
        let source = &source[..8];
        intrinsics!([
            _mm256_cvtps_pd(_mm_loadu_ps(source.as_ptr())),
            _mm256_cvtps_pd(_mm_loadu_ps(source[4..].as_ptr()))
        ])
    }
    #[inline(always)]
    fn load_f16(self, source: &[f16]) -> [__m256; 2] {
        let source = &source[..16];
        intrinsics!([
            _mm256_cvtph_ps(_mm_loadu_si128(source.as_ptr().cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(source[8..].as_ptr().cast()))
        ])
    }
    #[inline(always)]
    fn store_f16(self, v: [__m256; 2], target: &mut [f16]) {
        let target = &mut target[..16];
        intrinsics!({
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
            _mm_storeu_si128(target.as_mut_ptr().cast(), _mm256_cvtps_ph::<NEAREST>(v[0]));
            _mm_storeu_si128(target[8..].as_mut_ptr().cast(), _mm256_cvtps_ph::<NEAREST>(v[1]));
        })
    }
    #[inline(always)]
    fn load_bf16(self, source: &[bf16]) -> [__m256; 2] {
        let parts = [&source[..8], &source[8..16]];
        both!(parts => _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(
            parts.as_ptr().cast()
        )))))
    }
    #[inline(always)]
    fn load_bf16_in_two(self, source: &[bf16; 32]) -> [[__m256; 2]; 2] {
        let pairs = [&source[..16], &source[16..]];
        let pairs = both!(pairs => _mm256_loadu_si256(pairs.as_ptr().cast()));
        let even = both!(pairs => _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)));
        let odd = both!(pairs => {
            _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32)))
        });
        [even, odd]
    }
    #[inline(always)]
    fn load_i8(self, source: &[i8; 64]) -> [__m256i; 2] {
        let parts = [&source[..32], &source[32..]];
        both!(parts => _mm256_loadu_si256(parts.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_i8_raised(self, source: &[i8; 64]) -> [__m256i; 2] {
        let bytes = self.load_i8(source);
        both!(bytes => _mm256_xor_si256(bytes, _mm256_set1_epi8(-128)))
    }
    #[inline(always)]
    fn load_i32(self, source: &[i32; 16]) -> [__m256i; 2] {
        let parts = [&source[..8], &source[8..]];
        both!(parts => _mm256_loadu_si256(parts.as_ptr().cast()))
    }
    #[inline(always)]
    fn add_products(self, sum: [__m256i; 2], raised: [__m256i; 2], bytes: [__m256i; 2]) -> [__m256i; 2] {
        // in 16 bits: the instruction for bytes would saturate
        let parts = [(sum[0], raised[0], bytes[0]), (sum[1], raised[1], bytes[1])];
        both!(parts => {
            let (sum, raised, bytes) = parts;
            let low = _mm256_set1_epi16(0xff);
            let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
            let even = _mm256_madd_epi16(_mm256_and_si256(raised, low), even);
            let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(raised), _mm256_srai_epi16::<8>(bytes));
            _mm256_add_epi32(sum, _mm256_add_epi32(even, odd))
        })
    }
    #[inline(always)]
    fn sum_each(self, v: &[[__m256i; 2]; 16]) -> [__m256; 2] {
        macro_rules! quarter {
            ($at:expr) => {
                _mm256_hadd_epi32(
                    _mm256_add_epi32(v[$at][0], v[$at][1]),
                    _mm256_add_epi32(v[$at + 1][0], v[$at + 1][1]),
                )
            };
        }
        macro_rules! eight {
            ($at:literal) => {{
                let (a, b) = (
                    _mm256_hadd_epi32(quarter!($at), quarter!($at + 2)),
                    _mm256_hadd_epi32(quarter!($at + 4), quarter!($at + 6)),
                );
                let (low, high) = (_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b));
                _mm256_cvtepi32_ps(_mm256_add_epi32(low, high))
            }};
        }
        intrinsics!([eight!(0), eight!(8)])
    }
    #[inline(always)]
    fn reduce_add_each(self, v: &[[__m256; 2]; 16]) -> [__m256; 2] {
        // by halves as `reduce_add` does; from the second step on two vectors share a register, then four
        macro_rules! halves {
            ($shuffle:ident, $low:literal, $high:literal, $a:expr, $b:expr) => {{
                let (a, b) = ($a, $b);
                _mm256_add_ps($shuffle::<$low>(a, b), $shuffle::<$high>(a, b))
            }};
        }
        macro_rules! quarter {
            ($at:expr) => {
                halves!(
                    _mm256_permute2f128_ps,
                    0x20,
                    0x31,
                    _mm256_add_ps(v[$at][0], v[$at][1]),
                    _mm256_add_ps(v[$at + 4][0], v[$at + 4][1])
                )
            };
        }
        macro_rules! eight {
            ($at:literal) => {
                halves!(
                    _mm256_shuffle_ps,
                    0x88,
                    0xdd,
                    halves!(_mm256_shuffle_ps, 0x44, 0xee, quarter!($at), quarter!($at + 1)),
                    halves!(_mm256_shuffle_ps, 0x44, 0xee, quarter!($at + 2), quarter!($at + 3))
                )
            };
        }
        intrinsics!([eight!(0), eight!(8)])
    }
    #[inline(always)]
    fn load_u64(self, source: &[u64; 8]) -> [__m256i; 2] {
        let parts = [&source[..4], &source[4..]];
        both!(parts => _mm256_loadu_si256(parts.as_ptr().cast()))
    }
    #[inline(always)]
    fn store_u64(self, v: [__m256i; 2]) -> [u64; 8] {
        let mut target = [0; 8];
        intrinsics!({
            _mm256_storeu_si256(target.as_mut_ptr().cast(), v[0]);
            _mm256_storeu_si256(target[4..].as_mut_ptr().cast(), v[1]);
        });
        target
    }
    #[inline(always)]
    fn mul_lower(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        intrinsics!([_mm256_mul_epu32(a[0], b[0]), _mm256_mul_epu32(a[1], b[1])])
    }
    #[inline(always)]
    fn upper(self, a: [__m256i; 2]) -> [__m256i; 2] {
        both!(a => _mm256_srli_epi64::<32>(a))
    }
    #[inline(always)]
    fn xor(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        intrinsics!([_mm256_xor_si256(a[0], b[0]), _mm256_xor_si256(a[1], b[1])])
    }
    #[inline(always)]
    fn join_lower(self, low: [__m256i; 2], high: [__m256i; 2]) -> [__m256i; 2] {
        let high = both!(high => _mm256_slli_epi64::<32>(high));
        intrinsics!([_mm256_blend_epi32::<0xaa>(low[0], high[0]), _mm256_blend_epi32::<0xaa>(low[1], high[1])])
    }
    #[inline(always)]
    fn add_u64(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        intrinsics!([_mm256_add_epi64(a[0], b[0]), _mm256_add_epi64(a[1], b[1])])
    }
    #[inline(always)]
    fn interleave(self, a: [__m256i; 2], b: [__m256i; 2]) -> [[__m256i; 2]; 2] {
        macro_rules! part {
            ($at:literal) => {{
                // lanes 0 and 2 of a with those of b, then 1 and 3
                let (even, odd) = (_mm256_unpacklo_epi64(a[$at], b[$at]), _mm256_unpackhi_epi64(a[$at], b[$at]));
                [_mm256_permute2x128_si256::<0x20>(even, odd), _mm256_permute2x128_si256::<0x31>(even, odd)]
            }};
        }
        intrinsics!([part!(0), part!(1)])
    }
    #[inline(always)]
    fn prefetch<T>(self, data: &[T]) {
        // into the second cache, which can wait for more lines at once than the first
        for line in data.chunks((64 / size_of::<T>()).max(1)) {
            intrinsics!(_mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()))
        }
    }
    #[inline(always)]
    fn prefetch_at<T>(self, data: &[T], index: usize) {
        // an address outside of the data would be ignored
        intrinsics!(_mm_prefetch::<_MM_HINT_T1>(data.as_ptr().wrapping_add(index).cast()))
    }
    #[inline(always)]
    fn store_bf16(self, v: [__m256; 2], target: &mut [bf16]) {
        let target = &mut target[..16];
        for part in 0..2 {
            let (v, target) = (v[part], &mut target[8 * part..8 * part + 8]);
            intrinsics!({
                let bits = _mm256_castps_si256(v);
                let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
                let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
                let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
                let upper = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
                let packed = _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256::<1>(upper));
                _mm_storeu_si128(target.as_mut_ptr().cast(), packed);
            });
        }
    }
}
