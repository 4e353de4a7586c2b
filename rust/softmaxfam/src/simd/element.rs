//! Element types: what users store, and the real type that is computed with.

use super::packed::{Format, Half, Packing};
use super::{Isa, Lanes};
use crate::elementary::ExpConstants;
use half::{bf16, f16};
use std::convert::Infallible;

/// The lanes in which an element type is computed.
pub(crate) type LanesOf<I, E> = <<E as Element>::Real as Real>::Lanes<I>;
/// The lane values in which an element type is computed.
pub(crate) type V<I, E> = <LanesOf<I, E> as Lanes>::V;

/// f32 or f64: the types that are computed with.
pub trait Real: Element<Real = Self> + ExpConstants + PartialOrd + Into<f64> {
    /// The lanes of this type on an instruction set.
    type Lanes<I: Isa>: Lanes<Scalar = Self>;
    /// Width of the significand's field.
    const SIGNIFICAND_BITS: u32;
    /// The bits of 1.
    const ONE_BITS: Self::Bits;
    /// The bits of the square root of 1/2.
    const SQRT_HALF_BITS: Self::Bits;
    /// Unsigned integers of the same width.
    type Bits;
    /// The spacing of numbers above 1.
    const EPSILON: Self;
    /// The largest finite number.
    const MAX: Self;

    /// How elements are packed that are narrower than the type they are computed in, this one.
    type Packed: Packing<Self>;

    /// Lanes of f64 that sums in this type are carried on in.
    type Wide<I: Isa>: Copy;

    /// The lanes of this type on an instruction set.
    fn lanes<I: Isa>(isa: I) -> Self::Lanes<I>;
    /// Zeros.
    fn wide_zero<I: Isa>(isa: I) -> Self::Wide<I>;
    /// Adds each lane exactly widened.
    fn wide_add<I: Isa>(isa: I, sum: Self::Wide<I>, v: <Self::Lanes<I> as Lanes>::V) -> Self::Wide<I>;
    /// The sum of all lanes, in a fixed order.
    fn wide_sum<I: Isa>(isa: I, sum: Self::Wide<I>) -> f64;
    /// The sum of each lane; those past the last are 0.
    fn wide_lanes<I: Isa>(isa: I, sum: Self::Wide<I>) -> [f64; 16];
    /// Sums given lane by lane.
    fn wide_of<I: Isa>(isa: I, sums: &[f64; 16]) -> Self::Wide<I>;
    /// Rounded to this type.
    fn of_f64(value: f64) -> Self;

    /// 8 numbers as f64.
    fn load_f64<I: Isa>(isa: I, source: &[Self]) -> <I::F64 as Lanes>::V;
    /// At most 8 numbers as f64, padded.
    fn load_f64_or<I: Isa>(isa: I, source: &[Self], pad: Self) -> <I::F64 as Lanes>::V;
    /// 16 numbers given as f64, rounded.
    fn store_f64<I: Isa>(isa: I, v: [<I::F64 as Lanes>::V; 2], target: &mut [Self]);
}

/// A type of scores: f16, bf16, f32 or f64. The first three are computed in f32, f64 in f64; kernels know of the last two.
pub trait Element: Copy + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// The type computed with.
    type Real: Real;
    /// 0.
    const ZERO: Self;
    /// Minus infinity, the score of an absent class.
    const NEG_INFINITY: Self;
    /// The NaN that results hold.
    const NAN: Self;

    /// How this type is packed, for a call that starts on this thread; none where it is computed in itself.
    fn packing() -> Option<<Self::Real as Real>::Packed>;
    /// Exactly.
    fn to_f64(self) -> f64;
    /// Rounded once, ties to even.
    fn of_f64_once(value: f64) -> Self;

    /// As many elements as the lanes of [`Element::Real`].
    fn load<I: Isa>(isa: I, source: &[Self]) -> <<Self::Real as Real>::Lanes<I> as Lanes>::V;
    /// At most as many, padded.
    fn load_or<I: Isa>(isa: I, source: &[Self], pad: Self) -> <<Self::Real as Real>::Lanes<I> as Lanes>::V;
    /// As many elements as the lanes of [`Element::Real`], rounded once.
    fn store<I: Isa>(isa: I, v: <<Self::Real as Real>::Lanes<I> as Lanes>::V, target: &mut [Self]);
    /// At most as many, rounded once.
    fn store_part<I: Isa>(isa: I, v: <<Self::Real as Real>::Lanes<I> as Lanes>::V, target: &mut [Self]);
}

macro_rules! lanes_of {
    ($isa:ident, F32) => {
        $isa.f32()
    };
    ($isa:ident, F64) => {
        $isa.f64()
    };
}

macro_rules! load_as_f64 {
    ($isa:ident, $source:ident, F32) => {
        $isa.load_f32_as_f64($source)
    };
    ($isa:ident, $source:ident, F64) => {
        $isa.f64().load($source)
    };
}

macro_rules! load_as_f64_or {
    ($isa:ident, $source:ident, $pad:ident, F32) => {
        $isa.widen($isa.f32().load_or($source, $pad))[0]
    };
    ($isa:ident, $source:ident, $pad:ident, F64) => {
        $isa.f64().load_or($source, $pad)
    };
}

macro_rules! store_f64s {
    ($isa:ident, $v:ident, $target:ident, F32) => {
        $isa.f32().store($isa.narrow($v), $target)
    };
    ($isa:ident, $v:ident, $target:ident, F64) => {{
        $isa.f64().store($v[0], $target);
        $isa.f64().store($v[1], &mut $target[8..]);
    }};
}

macro_rules! wide {
    (F32) => {
        type Wide<I: Isa> = [<I::F64 as Lanes>::V; 2];

        #[inline(always)]
        fn wide_zero<I: Isa>(isa: I) -> Self::Wide<I> {
            [isa.f64().splat(0.0); 2]
        }
        #[inline(always)]
        fn wide_add<I: Isa>(isa: I, sum: Self::Wide<I>, v: V<I, f32>) -> Self::Wide<I> {
            let [low, high] = isa.widen(v);
            [isa.f64().add(sum[0], low), isa.f64().add(sum[1], high)]
        }
        #[inline(always)]
        fn wide_sum<I: Isa>(isa: I, sum: Self::Wide<I>) -> f64 {
            isa.f64().reduce_add(isa.f64().add(sum[0], sum[1]))
        }
        #[inline(always)]
        fn wide_lanes<I: Isa>(isa: I, sum: Self::Wide<I>) -> [f64; 16] {
            let mut lanes = [0.0; 16];
            isa.f64().store(sum[0], &mut lanes[..8]);
            isa.f64().store(sum[1], &mut lanes[8..]);
            lanes
        }
        #[inline(always)]
        fn wide_of<I: Isa>(isa: I, sums: &[f64; 16]) -> Self::Wide<I> {
            [isa.f64().load(&sums[..8]), isa.f64().load(&sums[8..])]
        }
    };
    (F64) => {
        type Wide<I: Isa> = <I::F64 as Lanes>::V;

        #[inline(always)]
        fn wide_zero<I: Isa>(isa: I) -> Self::Wide<I> {
            isa.f64().splat(0.0)
        }
        #[inline(always)]
        fn wide_add<I: Isa>(isa: I, sum: Self::Wide<I>, v: V<I, f64>) -> Self::Wide<I> {
            isa.f64().add(sum, v)
        }
        #[inline(always)]
        fn wide_sum<I: Isa>(isa: I, sum: Self::Wide<I>) -> f64 {
            isa.f64().reduce_add(sum)
        }
        #[inline(always)]
        fn wide_lanes<I: Isa>(isa: I, sum: Self::Wide<I>) -> [f64; 16] {
            let mut lanes = [0.0; 16];
            isa.f64().store(sum, &mut lanes[..8]);
            lanes
        }
        #[inline(always)]
        fn wide_of<I: Isa>(isa: I, sums: &[f64; 16]) -> Self::Wide<I> {
            isa.f64().load(&sums[..8])
        }
    };
}

macro_rules! real {
    ($scalar:ident, $lanes:ident, $packed:ty, $bits:ty, $significand:literal, $sqrt_half:expr) => {
        impl Real for $scalar {
            type Lanes<I: Isa> = I::$lanes;
            const SIGNIFICAND_BITS: u32 = $significand;
            const ONE_BITS: $bits = (1.0 as $scalar).to_bits();
            const SQRT_HALF_BITS: $bits = ($sqrt_half as $scalar).to_bits();
            type Bits = $bits;
            const EPSILON: Self = $scalar::EPSILON;
            const MAX: Self = $scalar::MAX;
            type Packed = $packed;
            wide!($lanes);

            #[inline(always)]
            fn lanes<I: Isa>(isa: I) -> I::$lanes {
                lanes_of!(isa, $lanes)
            }
            #[inline(always)]
            fn of_f64(value: f64) -> Self {
                value as $scalar
            }
            #[inline(always)]
            fn load_f64<I: Isa>(isa: I, source: &[Self]) -> <I::F64 as Lanes>::V {
                load_as_f64!(isa, source, $lanes)
            }
            #[inline(always)]
            fn load_f64_or<I: Isa>(isa: I, source: &[Self], pad: Self) -> <I::F64 as Lanes>::V {
                load_as_f64_or!(isa, source, pad, $lanes)
            }
            #[inline(always)]
            fn store_f64<I: Isa>(isa: I, v: [<I::F64 as Lanes>::V; 2], target: &mut [Self]) {
                store_f64s!(isa, v, target, $lanes);
            }
        }

        impl Element for $scalar {
            type Real = $scalar;
            const ZERO: Self = 0.0;
            const NEG_INFINITY: Self = $scalar::NEG_INFINITY;
            const NAN: Self = $scalar::NAN;

            #[inline(always)]
            fn packing() -> Option<$packed> {
                None
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self.into()
            }
            #[inline(always)]
            fn of_f64_once(value: f64) -> Self {
                value as $scalar
            }
            #[inline(always)]
            fn load<I: Isa>(isa: I, source: &[Self]) -> V<I, Self> {
                Self::lanes(isa).load(source)
            }
            #[inline(always)]
            fn load_or<I: Isa>(isa: I, source: &[Self], pad: Self) -> V<I, Self> {
                Self::lanes(isa).load_or(source, pad)
            }
            #[inline(always)]
            fn store<I: Isa>(isa: I, v: V<I, Self>, target: &mut [Self]) {
                Self::lanes(isa).store(v, target);
            }
            #[inline(always)]
            fn store_part<I: Isa>(isa: I, v: V<I, Self>, target: &mut [Self]) {
                Self::lanes(isa).store_part(v, target);
            }
        }
    };
}

real!(f32, F32, Half, u32, 23, std::f32::consts::FRAC_1_SQRT_2);
real!(f64, F64, Infallible, u64, 52, std::f64::consts::FRAC_1_SQRT_2);

/// The number, or of the two f32 around it the one whose last bit is odd: no tie between two numbers of half precision,
/// whose last bits are even, so that what is rounded from it is as if rounded once. `half` itself goes over the nearest f32 or
/// drops half of the significand, as the CPU and its features have it.
fn rounded_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    if nearest.is_nan() || f64::from(nearest) == value {
        return nearest;
    }
    let is_above = f64::from(nearest).abs() > value.abs();
    f32::from_bits((nearest.to_bits() - u32::from(is_above)) | 1)
}

macro_rules! half_precision {
    ($half:ident, $variant:ident, $load:ident, $store:ident) => {
        impl Element for $half {
            type Real = f32;
            const ZERO: Self = $half::ZERO;
            const NEG_INFINITY: Self = $half::NEG_INFINITY;
            const NAN: Self = $half::NAN;

            #[inline(always)]
            fn packing() -> Option<Half> {
                Some(Half::active(Format::$variant))
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self.to_f32().into()
            }
            #[inline(always)]
            fn of_f64_once(value: f64) -> Self {
                $half::from_f32(rounded_to_odd(value))
            }
            #[inline(always)]
            fn load<I: Isa>(isa: I, source: &[Self]) -> V<I, Self> {
                isa.$load(source)
            }
            #[inline(always)]
            fn load_or<I: Isa>(isa: I, source: &[Self], pad: Self) -> V<I, Self> {
                let mut padded = [pad; 16];
                padded[..source.len()].copy_from_slice(source);
                isa.$load(&padded)
            }
            #[inline(always)]
            fn store<I: Isa>(isa: I, v: V<I, Self>, target: &mut [Self]) {
                isa.$store(v, target);
            }
            #[inline(always)]
            fn store_part<I: Isa>(isa: I, v: V<I, Self>, target: &mut [Self]) {
                let mut whole = [$half::ZERO; 16];
                isa.$store(v, &mut whole);
                target.copy_from_slice(&whole[..target.len()]);
            }
        }
    };
}

half_precision!(f16, F16, load_f16, store_f16);
half_precision!(bf16, Bf16, load_bf16, store_bf16);
