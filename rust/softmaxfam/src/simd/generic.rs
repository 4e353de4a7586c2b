//! Lanes as plain arrays, for the compiler to vectorise: every CPU, and the definition of what the others compute.
//!
//! Where a fused multiply-add is a call for each lane (x86-64 before FMA), the operations that take many instructions
//! are functions of their own: inlined into every kernel they made half of the library's size, for the slowest CPUs.

use super::{Isa, Lanes, Real};
use half::{bf16, f16};

/// Plain Rust: any CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generic;

#[inline(always)]
fn each<T: Copy, U: Copy, const N: usize>(f: impl Fn(usize) -> U, _like: &[T; N]) -> [U; N] {
    std::array::from_fn(f)
}

/// Inline where the CPU has the instructions, else a function of its own.
macro_rules! large {
    ($($function:item)*) => {
        $(
            #[cfg_attr(any(target_feature = "fma", not(target_arch = "x86_64")), inline(always))]
            #[cfg_attr(not(any(target_feature = "fma", not(target_arch = "x86_64"))), inline(never))]
            $function
        )*
    };
}

macro_rules! lanes {
    ($name:ident, $scalar:ty, $n:literal) => {
        #[doc = concat!(stringify!($n), " lanes of ", stringify!($scalar), " in an array.")]
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name;

        impl $name {
            #[inline(always)]
            fn reduce(v: [$scalar; $n], f: impl Fn($scalar, $scalar) -> $scalar) -> $scalar {
                let (mut v, mut width) = (v, $n);
                while width > 1 {
                    width /= 2;
                    for lane in 0..width {
                        v[lane] = f(v[lane], v[lane + width]);
                    }
                }
                v[0]
            }
        }

        impl Lanes for $name {
            const N: usize = $n;
            type Scalar = $scalar;
            type V = [$scalar; $n];
            type Mask = [bool; $n];

            #[inline(always)]
            fn splat(self, value: $scalar) -> Self::V {
                [value; $n]
            }
            #[inline(always)]
            fn load(self, source: &[$scalar]) -> Self::V {
                std::array::from_fn(|lane| source[lane])
            }
            #[inline(always)]
            fn store(self, v: Self::V, target: &mut [$scalar]) {
                target[..$n].copy_from_slice(&v);
            }
            #[inline(always)]
            fn add(self, a: Self::V, b: Self::V) -> Self::V {
                each(|lane| a[lane] + b[lane], &a)
            }
            #[inline(always)]
            fn sub(self, a: Self::V, b: Self::V) -> Self::V {
                each(|lane| a[lane] - b[lane], &a)
            }
            #[inline(always)]
            fn mul(self, a: Self::V, b: Self::V) -> Self::V {
                each(|lane| a[lane] * b[lane], &a)
            }
            large! {
                fn div(self, a: Self::V, b: Self::V) -> Self::V {
                    each(|lane| a[lane] / b[lane], &a)
                }
                fn sqrt(self, a: Self::V) -> Self::V {
                    each(|lane| a[lane].sqrt(), &a)
                }
                fn max(self, a: Self::V, b: Self::V) -> Self::V {
                    each(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] }, &a)
                }
                fn min(self, a: Self::V, b: Self::V) -> Self::V {
                    each(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] }, &a)
                }
                fn gt(self, a: Self::V, b: Self::V) -> Self::Mask {
                    each(|lane| a[lane] > b[lane], &a)
                }
                fn ge(self, a: Self::V, b: Self::V) -> Self::Mask {
                    each(|lane| a[lane] >= b[lane], &a)
                }
                fn eq(self, a: Self::V, b: Self::V) -> Self::Mask {
                    each(|lane| a[lane] == b[lane], &a)
                }
                fn is_nan(self, a: Self::V) -> Self::Mask {
                    each(|lane| a[lane].is_nan(), &a)
                }
                fn to_exponent(self, v: Self::V) -> Self::V {
                    each(|lane| <$scalar>::from_bits(v[lane].to_bits() << <$scalar>::SIGNIFICAND_BITS), &v)
                }
                fn load_or(self, source: &[$scalar], pad: $scalar) -> Self::V {
                    std::array::from_fn(|lane| if lane < source.len() { source[lane] } else { pad })
                }
                fn store_part(self, v: Self::V, target: &mut [$scalar]) {
                    target.copy_from_slice(&v[..target.len()]);
                }
                fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
                    each(|lane| a[lane].mul_add(b[lane], c[lane]), &a)
                }
                fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
                    each(|lane| (-a[lane]).mul_add(b[lane], c[lane]), &a)
                }
                fn select(self, mask: Self::Mask, a: Self::V, b: Self::V) -> Self::V {
                    each(|lane| if mask[lane] { a[lane] } else { b[lane] }, &a)
                }
                fn bits(self, mask: Self::Mask) -> u32 {
                    (0..$n).map(|lane| u32::from(mask[lane]) << lane).sum()
                }
                fn compress(self, mask: Self::Mask, v: Self::V, target: &mut [$scalar]) -> usize {
                    let mut count = 0;
                    for lane in 0..$n {
                        target[count] = v[lane]; // overwritten by the next where this one does not hold
                        count += usize::from(mask[lane]);
                    }
                    count
                }
                fn transpose(self, rows: &mut [Self::V; 16]) {
                    for row in 0..$n {
                        for column in 0..row {
                            (rows[row][column], rows[column][row]) = (rows[column][row], rows[row][column]);
                        }
                    }
                }
                fn split_exponent(self, v: Self::V) -> (Self::V, Self::V) {
                    // moving sqrt(1/2) to 1 makes the exponent field round to the nearest power of two
                    let offset = <$scalar>::ONE_BITS - <$scalar>::SQRT_HALF_BITS;
                    let low = (1 << <$scalar>::SIGNIFICAND_BITS) - 1;
                    let bias = <$scalar>::ONE_BITS >> <$scalar>::SIGNIFICAND_BITS;
                    let moved = each(|lane| v[lane].to_bits() + offset, &v);
                    (
                        each(|lane| (moved[lane] >> <$scalar>::SIGNIFICAND_BITS) as $scalar - bias as $scalar, &v),
                        each(|lane| <$scalar>::from_bits((moved[lane] & low) + <$scalar>::SQRT_HALF_BITS), &v),
                    )
                }
                fn reduce_add(self, v: Self::V) -> $scalar {
                    Self::reduce(v, |a, b| a + b)
                }
                fn reduce_max(self, v: Self::V) -> $scalar {
                    Self::reduce(v, |a, b| if a > b { a } else { b })
                }
                fn reduce_min(self, v: Self::V) -> $scalar {
                    Self::reduce(v, |a, b| if a < b { a } else { b })
                }
            }
        }
    };
}

lanes!(F32x16, f32, 16);
lanes!(F64x8, f64, 8);

impl Isa for Generic {
    type F32 = F32x16;
    type F64 = F64x8;
    type U64 = [u64; 8];
    type Bytes = [i16; 64];
    type I32 = [i32; 16];
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn f32(self) -> F32x16 {
        F32x16
    }
    #[inline(always)]
    fn f64(self) -> F64x8 {
        F64x8
    }
    #[inline(always)]
    fn load_u64(self, source: &[u64; 8]) -> [u64; 8] {
        *source
    }
    #[inline(always)]
    fn store_u64(self, v: [u64; 8]) -> [u64; 8] {
        v
    }
    large! {
        fn widen(self, v: [f32; 16]) -> [[f64; 8]; 2] {
            [std::array::from_fn(|lane| f64::from(v[lane])), std::array::from_fn(|lane| f64::from(v[lane + 8]))]
        }
        fn load_f32_as_f64(self, source: &[f32]) -> [f64; 8] {
            std::array::from_fn(|lane| f64::from(source[lane]))
        }
        fn load_bf16_in_two(self, source: &[bf16; 32]) -> [[f32; 16]; 2] {
            [0, 1].map(|odd| std::array::from_fn(|lane| source[2 * lane + odd].to_f32()))
        }
        fn load_i8(self, source: &[i8; 64]) -> [i16; 64] {
            source.map(i16::from)
        }
        fn load_i8_raised(self, source: &[i8; 64]) -> [i16; 64] {
            source.map(|byte| i16::from(byte) + 128)
        }
        fn load_i32(self, source: &[i32; 16]) -> [i32; 16] {
            *source
        }
        fn add_products(self, sum: [i32; 16], raised: [i16; 64], bytes: [i16; 64]) -> [i32; 16] {
            let product = |at: usize| i32::from(raised[at]) * i32::from(bytes[at]);
            each(|lane| sum[lane] + (4 * lane..4 * lane + 4).map(product).sum::<i32>(), &sum)
        }
        fn sum_each(self, v: &[[i32; 16]; 16]) -> [f32; 16] {
            v.map(|v| v.iter().sum::<i32>() as f32)
        }
        fn reduce_add_each(self, v: &[[f32; 16]; 16]) -> [f32; 16] {
            v.map(|v| F32x16.reduce_add(v))
        }
        fn mul_lower(self, a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
            each(|lane| u64::from(a[lane] as u32) * u64::from(b[lane] as u32), &a)
        }
        fn upper(self, a: [u64; 8]) -> [u64; 8] {
            each(|lane| a[lane] >> 32, &a)
        }
        fn xor(self, a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
            each(|lane| a[lane] ^ b[lane], &a)
        }
        fn join_lower(self, low: [u64; 8], high: [u64; 8]) -> [u64; 8] {
            each(|lane| u64::from(low[lane] as u32) | high[lane] << 32, &low)
        }
        fn add_u64(self, a: [u64; 8], b: [u64; 8]) -> [u64; 8] {
            each(|lane| a[lane].wrapping_add(b[lane]), &a)
        }
        fn interleave(self, a: [u64; 8], b: [u64; 8]) -> [[u64; 8]; 2] {
            [0, 4].map(|from| std::array::from_fn(|lane| [a, b][lane % 2][from + lane / 2]))
        }
        fn load_f16(self, source: &[f16]) -> [f32; 16] {
            std::array::from_fn(|lane| source[lane].to_f32())
        }
        fn store_f16(self, v: [f32; 16], target: &mut [f16]) {
            target[..16].copy_from_slice(&v.map(f16::from_f32));
        }
        fn load_bf16(self, source: &[bf16]) -> [f32; 16] {
            std::array::from_fn(|lane| source[lane].to_f32())
        }
        fn store_bf16(self, v: [f32; 16], target: &mut [bf16]) {
            target[..16].copy_from_slice(&v.map(bf16::from_f32));
        }
        fn narrow(self, v: [[f64; 8]; 2]) -> [f32; 16] {
            std::array::from_fn(|lane| v[lane / 8][lane % 8] as f32)
        }
    }
}
