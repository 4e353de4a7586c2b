//! AVX-512: a register holds all 16 f32 or 8 f64 lanes.
#![allow(unsafe_code, reason = "one of the files named for it: intrinsics")]

use super::{Isa, Kernel, Lanes, Real};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// A CPU with AVX-512 F, BW, DQ, VL and with F16C and FMA. `detect` is the only constructor and tests all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512 {
    /// Whether it has AVX-512 VNNI too.
    has_vnni: bool,
}

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("fma");
        found.then(|| Self { has_vnni: is_x86_feature_detected!("avx512vnni") })
    }

    /// This instruction set where a CPU lacks VNNI.
    #[cfg(test)]
    pub(super) fn without_vnni(self) -> Self {
        Self { has_vnni: false }
    }

    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c,fma,avx2")]
        fn enabled<K: Kernel>(isa: Avx512, kernel: K) -> K::Output {
            kernel.run(isa)
        }
        // SAFETY: `self` proves that `detect` found every feature that `enabled` enables.
        unsafe { enabled(self, kernel) }
    }
}

/// The value of an expression of intrinsics.
macro_rules! intrinsics {
    ($value:expr) => {{
        // SAFETY: an `Avx512` exists, so `detect` found the features of every intrinsic in this file; each pointer is
        // that of a slice or array whose length was checked just before.
        unsafe { $value }
    }};
}

/// 16 lanes of f32 in one register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F32x16(());

/// A mask of the first `count` lanes, at most 16.
#[inline(always)]
fn first_f32(count: usize) -> __mmask16 {
    ((1_u32 << count) - 1) as __mmask16
}

impl Lanes for F32x16 {
    const N: usize = 16;
    type Scalar = f32;
    type V = __m512;
    type Mask = __mmask16;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        intrinsics!(_mm512_set1_ps(value))
    }
    #[inline(always)]
    fn load(self, source: &[f32]) -> Self::V {
        let source = &source[..16];
        intrinsics!(_mm512_loadu_ps(source.as_ptr()))
    }
    #[inline(always)]
    fn load_or(self, source: &[f32], pad: f32) -> Self::V {
        assert!(source.len() <= 16);
        intrinsics!(_mm512_mask_loadu_ps(_mm512_set1_ps(pad), first_f32(source.len()), source.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: Self::V, target: &mut [f32]) {
        let target = &mut target[..16];
        intrinsics!(_mm512_storeu_ps(target.as_mut_ptr(), v))
    }
    #[inline(always)]
    fn store_part(self, v: Self::V, target: &mut [f32]) {
        assert!(target.len() <= 16);
        intrinsics!(_mm512_mask_storeu_ps(target.as_mut_ptr(), first_f32(target.len()), v))
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        intrinsics!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        intrinsics!(_mm512_fnmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        intrinsics!(_mm512_sqrt_ps(a))
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn gt(self, a: Self::V, b: Self::V) -> Self::Mask {
        intrinsics!(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b))
    }
    #[inline(always)]
    fn ge(self, a: Self::V, b: Self::V) -> Self::Mask {
        intrinsics!(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b))
    }
    #[inline(always)]
    fn eq(self, a: Self::V, b: Self::V) -> Self::Mask {
        intrinsics!(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b))
    }
    #[inline(always)]
    fn is_nan(self, a: Self::V) -> Self::Mask {
        intrinsics!(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a))
    }
    #[inline(always)]
    fn select(self, mask: Self::Mask, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!(_mm512_mask_blend_ps(mask, b, a))
    }
    #[inline(always)]
    fn bits(self, mask: Self::Mask) -> u32 {
        mask.into()
    }
    #[inline(always)]
    fn compress(self, mask: Self::Mask, v: Self::V, target: &mut [f32]) -> usize {
        // compressed in a register and stored whole: the compress to memory is microcode on some CPUs
        self.store(intrinsics!(_mm512_maskz_compress_ps(mask, v)), target);
        mask.count_ones() as usize
    }
    #[inline(always)]
    fn transpose(self, rows: &mut [Self::V; 16]) {
        intrinsics!({
            // 4 x 4 blocks in each 128 bits, then the blocks
            for four in 0..4 {
                let [a, b, c, d] = [rows[4 * four], rows[4 * four + 1], rows[4 * four + 2], rows[4 * four + 3]];
                let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
                let (ab_high, cd_high) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
                rows[4 * four] = _mm512_shuffle_ps::<0x44>(ab, cd);
                rows[4 * four + 1] = _mm512_shuffle_ps::<0xee>(ab, cd);
                rows[4 * four + 2] = _mm512_shuffle_ps::<0x44>(ab_high, cd_high);
                rows[4 * four + 3] = _mm512_shuffle_ps::<0xee>(ab_high, cd_high);
            }
            for column in 0..4 {
                let [a, b, c, d] = [rows[column], rows[4 + column], rows[8 + column], rows[12 + column]];
                let (even, odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
                let (even_high, odd_high) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
                rows[column] = _mm512_shuffle_f32x4::<0x88>(even, even_high);
                rows[4 + column] = _mm512_shuffle_f32x4::<0x88>(odd, odd_high);
                rows[8 + column] = _mm512_shuffle_f32x4::<0xdd>(even, even_high);
                rows[12 + column] = _mm512_shuffle_f32x4::<0xdd>(odd, odd_high);
            }
        })
    }
    #[inline(always)]
    fn to_exponent(self, v: Self::V) -> Self::V {
        intrinsics!(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(v))))
    }
    #[inline(always)]
    fn split_exponent(self, v: Self::V) -> (Self::V, Self::V) {
        intrinsics!({
            let offset = _mm512_set1_epi32((f32::ONE_BITS - f32::SQRT_HALF_BITS) as i32);
            let moved = _mm512_add_epi32(_mm512_castps_si512(v), offset);
            let exponent = _mm512_sub_epi32(_mm512_srli_epi32::<23>(moved), _mm512_set1_epi32(127));
            let low = _mm512_and_si512(moved, _mm512_set1_epi32(0x007f_ffff));
            let mantissa = _mm512_add_epi32(low, _mm512_set1_epi32(f32::SQRT_HALF_BITS as i32));
            (_mm512_cvtepi32_ps(exponent), _mm512_castsi512_ps(mantissa))
        })
    }
    #[inline(always)]
    fn reduce_add(self, v: Self::V) -> f32 {
        intrinsics!({
            let v = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
        })
    }
    #[inline(always)]
    fn reduce_max(self, v: Self::V) -> f32 {
        intrinsics!({
            let v = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
        })
    }
    #[inline(always)]
    fn reduce_min(self, v: Self::V) -> f32 {
        intrinsics!({
            let v = _mm256_min_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let v = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_min_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_min_ss(v, _mm_movehdup_ps(v)))
        })
    }
}

/// 8 lanes of f64 in one register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F64x8(());

/// A mask of the first `count` lanes, at most 8.
#[inline(always)]
fn first_f64(count: usize) -> __mmask8 {
    ((1_u32 << count) - 1) as __mmask8
}

impl Lanes for F64x8 {
    const N: usize = 8;
    type Scalar = f64;
    type V = __m512d;
    type Mask = __mmask8;

    #[inline(always)]
    fn splat(self, value: f64) -> Self::V {
        intrinsics!(_mm512_set1_pd(value))
    }
    #[inline(always)]
    fn load(self, source: &[f64]) -> Self::V {
        let source = &source[..8];
        intrinsics!(_mm512_loadu_pd(source.as_ptr()))
    }
    #[inline(always)]
    fn load_or(self, source: &[f64], pad: f64) -> Self::V {
        assert!(source.len() <= 8);
        intrinsics!(_mm512_mask_loadu_pd(_mm512_set1_pd(pad), first_f64(source.len()), source.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: Self::V, target: &mut [f64]) {
        let target = &mut target[..8];
        intrinsics!(_mm512_storeu_pd(target.as_mut_ptr(), v))
    }
    #[inline(always)]
    fn store_part(self, v: Self::V, target: &mut [f64]) {
        assert!(target.len() <= 8);
        intrinsics!(_mm512_mask_storeu_pd(target.as_mut_ptr(), first_f64(target.len()), v))
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!(_mm512_add_pd(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!(_mm512_sub_pd(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!(_mm512_mul_pd(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!(_mm512_div_pd(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        intrinsics!(_mm512_fmadd_pd(a, b, c))
    }
    #[inline(always)]
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        intrinsics!(_mm512_fnmadd_pd(a, b, c))
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        intrinsics!(_mm512_sqrt_pd(a))
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!(_mm512_max_pd(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!(_mm512_min_pd(a, b))
    }
    #[inline(always)]
    fn gt(self, a: Self::V, b: Self::V) -> Self::Mask {
        intrinsics!(_mm512_cmp_pd_mask::<_CMP_GT_OQ>(a, b))
    }
    #[inline(always)]
    fn ge(self, a: Self::V, b: Self::V) -> Self::Mask {
        intrinsics!(_mm512_cmp_pd_mask::<_CMP_GE_OQ>(a, b))
    }
    #[inline(always)]
    fn eq(self, a: Self::V, b: Self::V) -> Self::Mask {
        intrinsics!(_mm512_cmp_pd_mask::<_CMP_EQ_OQ>(a, b))
    }
    #[inline(always)]
    fn is_nan(self, a: Self::V) -> Self::Mask {
        intrinsics!(_mm512_cmp_pd_mask::<_CMP_UNORD_Q>(a, a))
    }
    #[inline(always)]
    fn select(self, mask: Self::Mask, a: Self::V, b: Self::V) -> Self::V {
        intrinsics!(_mm512_mask_blend_pd(mask, b, a))
    }
    #[inline(always)]
    fn bits(self, mask: Self::Mask) -> u32 {
        mask.into()
    }
    #[inline(always)]
    fn compress(self, mask: Self::Mask, v: Self::V, target: &mut [f64]) -> usize {
        // compressed in a register and stored whole: the compress to memory is microcode on some CPUs
        self.store(intrinsics!(_mm512_maskz_compress_pd(mask, v)), target);
        mask.count_ones() as usize
    }
    #[inline(always)]
    fn transpose(self, rows: &mut [Self::V; 16]) {
        intrinsics!({
            for two in 0..4 {
                let [a, b] = [rows[2 * two], rows[2 * two + 1]];
                rows[2 * two] = _mm512_unpacklo_pd(a, b);
                rows[2 * two + 1] = _mm512_unpackhi_pd(a, b);
            }
            for column in 0..2 {
                let [a, b, c, d] = [rows[column], rows[2 + column], rows[4 + column], rows[6 + column]];
                let (even, odd) = (_mm512_shuffle_f64x2::<0x88>(a, b), _mm512_shuffle_f64x2::<0xdd>(a, b));
                let (even_high, odd_high) = (_mm512_shuffle_f64x2::<0x88>(c, d), _mm512_shuffle_f64x2::<0xdd>(c, d));
                rows[column] = _mm512_shuffle_f64x2::<0x88>(even, even_high);
                rows[2 + column] = _mm512_shuffle_f64x2::<0x88>(odd, odd_high);
                rows[4 + column] = _mm512_shuffle_f64x2::<0xdd>(even, even_high);
                rows[6 + column] = _mm512_shuffle_f64x2::<0xdd>(odd, odd_high);
            }
        })
    }
    #[inline(always)]
    fn to_exponent(self, v: Self::V) -> Self::V {
        intrinsics!(_mm512_castsi512_pd(_mm512_slli_epi64::<52>(_mm512_castpd_si512(v))))
    }
    #[inline(always)]
    fn split_exponent(self, v: Self::V) -> (Self::V, Self::V) {
        intrinsics!({
            let offset = _mm512_set1_epi64((f64::ONE_BITS - f64::SQRT_HALF_BITS) as i64);
            let moved = _mm512_add_epi64(_mm512_castpd_si512(v), offset);
            let exponent = _mm512_sub_epi64(_mm512_srli_epi64::<52>(moved), _mm512_set1_epi64(1023));
            let low = _mm512_and_si512(moved, _mm512_set1_epi64(0x000f_ffff_ffff_ffff));
            let mantissa = _mm512_add_epi64(low, _mm512_set1_epi64(f64::SQRT_HALF_BITS as i64));
            (_mm512_cvtepi64_pd(exponent), _mm512_castsi512_pd(mantissa))
        })
    }
    #[inline(always)]
    fn reduce_add(self, v: Self::V) -> f64 {
        intrinsics!({
            let v = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd::<1>(v));
            let v = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd::<1>(v));
            _mm_cvtsd_f64(_mm_add_sd(v, _mm_unpackhi_pd(v, v)))
        })
    }
    #[inline(always)]
    fn reduce_max(self, v: Self::V) -> f64 {
        intrinsics!({
            let v = _mm256_max_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd::<1>(v));
            let v = _mm_max_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd::<1>(v));
            _mm_cvtsd_f64(_mm_max_sd(v, _mm_unpackhi_pd(v, v)))
        })
    }
    #[inline(always)]
    fn reduce_min(self, v: Self::V) -> f64 {
        intrinsics!({
            let v = _mm256_min_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd::<1>(v));
            let v = _mm_min_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd::<1>(v));
            _mm_cvtsd_f64(_mm_min_sd(v, _mm_unpackhi_pd(v, v)))
        })
    }
}

/// The instruction itself: its intrinsic is a call where the caller was not compiled for VNNI.
///
/// # Safety
/// - The CPU has AVX-512 VNNI.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn add_products_by_vnni(mut sum: __m512i, raised: __m512i, bytes: __m512i) -> __m512i {
    // SAFETY: the caller promises the instruction; it reads and writes the registers named and nothing else.
    unsafe {
        std::arch::asm!(
            "vpdpbusd {sum}, {raised}, {bytes}",
            sum = inout(zmm_reg) sum, raised = in(zmm_reg) raised, bytes = in(zmm_reg) bytes,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

impl Isa for Avx512 {
    type F32 = F32x16;
    type F64 = F64x8;
    type U64 = __m512i;
    type Bytes = __m512i;
    type I32 = __m512i;
    const MANY_REGISTERS: bool = true;

    #[inline(always)]
    fn f32(self) -> F32x16 {
        F32x16(())
    }
    #[inline(always)]
    fn f64(self) -> F64x8 {
        F64x8(())
    }
    #[inline(always)]
    fn widen(self, v: __m512) -> [__m512d; 2] {
        intrinsics!([_mm512_cvtps_pd(_mm512_castps512_ps256(v)), _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(v))])
    }
    #[inline(always)]
    fn narrow(self, v: [__m512d; 2]) -> __m512 {
        intrinsics!(_mm512_insertf32x8::<1>(_mm512_castps256_ps512(_mm512_cvtpd_ps(v[0])), _mm512_cvtpd_ps(v[1])))
    }
    #[inline(always)]
    fn load_f32_as_f64(self, source: &[f32]) -> __m512d {
        let source = &source[..8];
        intrinsics!(_mm512_cvtps_pd(_mm256_loadu_ps(source.as_ptr())))
    }
    #[inline(always)]
    fn load_f16(self, source: &[f16]) -> __m512 {
        let source = &source[..16];
        intrinsics!(_mm512_cvtph_ps(_mm256_loadu_si256(source.as_ptr().cast())))
    }
    #[inline(always)]
    fn store_f16(self, v: __m512, target: &mut [f16]) {
        let target = &mut target[..16];
        intrinsics!(_mm256_storeu_si256(
            target.as_mut_ptr().cast(),
            _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v)
        ))
    }
    #[inline(always)]
    fn load_bf16(self, source: &[bf16]) -> __m512 {
        let source = &source[..16];
        intrinsics!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(
            source.as_ptr().cast()
        )))))
    }
    #[inline(always)]
    fn load_bf16_in_two(self, source: &[bf16; 32]) -> [__m512; 2] {
        intrinsics!({
            let pairs = _mm512_loadu_si512(source.as_ptr().cast());
            let odd = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(odd)]
        })
    }
    #[inline(always)]
    fn load_i8(self, source: &[i8; 64]) -> __m512i {
        intrinsics!(_mm512_loadu_si512(source.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_i8_raised(self, source: &[i8; 64]) -> __m512i {
        intrinsics!(_mm512_xor_si512(_mm512_loadu_si512(source.as_ptr().cast()), _mm512_set1_epi8(-128)))
    }
    #[inline(always)]
    fn load_i32(self, source: &[i32; 16]) -> __m512i {
        intrinsics!(_mm512_loadu_si512(source.as_ptr().cast()))
    }
    #[inline(always)]
    fn add_products(self, sum: __m512i, raised: __m512i, bytes: __m512i) -> __m512i {
        if self.has_vnni {
            // SAFETY: `detect` found VNNI.
            return unsafe { add_products_by_vnni(sum, raised, bytes) };
        }
        intrinsics!({
            let low = _mm512_set1_epi16(0xff);
            let even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(bytes));
            let even = _mm512_madd_epi16(_mm512_and_si512(raised, low), even);
            let odd = _mm512_madd_epi16(_mm512_srli_epi16::<8>(raised), _mm512_srai_epi16::<8>(bytes));
            _mm512_add_epi32(sum, _mm512_add_epi32(even, odd))
        })
    }
    #[inline(always)]
    fn sum_each(self, v: &[__m512i; 16]) -> __m512 {
        // as `reduce_add_each`
        macro_rules! halves {
            ($shuffle:ident, $low:literal, $high:literal, $a:expr, $b:expr) => {{
                let (a, b) = ($a, $b);
                _mm512_add_epi32($shuffle!($low, a, b), $shuffle!($high, a, b))
            }};
        }
        macro_rules! blocks {
            ($which:literal, $a:expr, $b:expr) => {
                _mm512_shuffle_i32x4::<$which>($a, $b)
            };
        }
        macro_rules! within {
            ($which:literal, $a:expr, $b:expr) => {
                _mm512_castps_si512(_mm512_shuffle_ps::<$which>(_mm512_castsi512_ps($a), _mm512_castsi512_ps($b)))
            };
        }
        macro_rules! quarter {
            ($at:literal) => {
                halves!(
                    blocks,
                    0x88,
                    0xdd,
                    halves!(blocks, 0x44, 0xee, v[$at], v[$at + 4]),
                    halves!(blocks, 0x44, 0xee, v[$at + 8], v[$at + 12])
                )
            };
        }
        intrinsics!(_mm512_cvtepi32_ps(halves!(
            within,
            0x88,
            0xdd,
            halves!(within, 0x44, 0xee, quarter!(0), quarter!(1)),
            halves!(within, 0x44, 0xee, quarter!(2), quarter!(3))
        )))
    }
    #[inline(always)]
    fn reduce_add_each(self, v: &[__m512; 16]) -> __m512 {
        // by halves as `reduce_add` does, two vectors in one; vectors 4 apart share a register from the second step on, so that
        // the last leaves them in their order
        macro_rules! halves {
            ($shuffle:ident, $low:literal, $high:literal, $a:expr, $b:expr) => {{
                let (a, b) = ($a, $b);
                _mm512_add_ps($shuffle::<$low>(a, b), $shuffle::<$high>(a, b))
            }};
        }
        macro_rules! quarter {
            ($at:literal) => {
                halves!(
                    _mm512_shuffle_f32x4,
                    0x88,
                    0xdd,
                    halves!(_mm512_shuffle_f32x4, 0x44, 0xee, v[$at], v[$at + 4]),
                    halves!(_mm512_shuffle_f32x4, 0x44, 0xee, v[$at + 8], v[$at + 12])
                )
            };
        }
        intrinsics!(halves!(
            _mm512_shuffle_ps,
            0x88,
            0xdd,
            halves!(_mm512_shuffle_ps, 0x44, 0xee, quarter!(0), quarter!(1)),
            halves!(_mm512_shuffle_ps, 0x44, 0xee, quarter!(2), quarter!(3))
        ))
    }
    #[inline(always)]
    fn load_u64(self, source: &[u64; 8]) -> __m512i {
        intrinsics!(_mm512_loadu_si512(source.as_ptr().cast()))
    }
    #[inline(always)]
    fn store_u64(self, v: __m512i) -> [u64; 8] {
        let mut target = [0; 8];
        intrinsics!(_mm512_storeu_si512(target.as_mut_ptr().cast(), v));
        target
    }
    #[inline(always)]
    fn mul_lower(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics!(_mm512_mul_epu32(a, b))
    }
    #[inline(always)]
    fn upper(self, a: __m512i) -> __m512i {
        intrinsics!(_mm512_srli_epi64::<32>(a))
    }
    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics!(_mm512_xor_si512(a, b))
    }
    #[inline(always)]
    fn join_lower(self, low: __m512i, high: __m512i) -> __m512i {
        intrinsics!(_mm512_mask_blend_epi32(0xaaaa, low, _mm512_slli_epi64::<32>(high)))
    }
    #[inline(always)]
    fn add_u64(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsics!(_mm512_add_epi64(a, b))
    }
    #[inline(always)]
    fn interleave(self, a: __m512i, b: __m512i) -> [__m512i; 2] {
        intrinsics!([
            _mm512_permutex2var_epi64(a, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), b),
            _mm512_permutex2var_epi64(a, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), b)
        ])
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
    fn store_bf16(self, v: __m512, target: &mut [bf16]) {
        // in integers: the conversion instruction flushes subnormals
        let target = &mut target[..16];
        intrinsics!({
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let upper = _mm512_srli_epi32::<16>(_mm512_mask_blend_epi32(nan, rounded, quiet));
            _mm256_storeu_si256(target.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(upper));
        })
    }
}
