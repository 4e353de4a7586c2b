//! Element types: what users store, and the real type that is computed with.

use super::{Isa, Lanes};
use half::{bf16, f16};

/// The lanes in which an element type is computed.
pub(crate) type LanesOf<I, E> = <<E as Element>::Real as Real>::Lanes<I>;
/// The f64 lanes of an instruction set.
pub(crate) type Lanes64Of<I> = <I as Isa>::F64;
/// The lane values in which an element type is computed.
pub(crate) type V<I, E> = <LanesOf<I, E> as Lanes>::V;

/// f32 or f64: the types that are computed with.
pub trait Real: Element<Real = Self> + PartialOrd + Into<f64> {
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

    /// The lanes of this type on an instruction set.
    fn lanes<I: Isa>(isa: I) -> Self::Lanes<I>;
    /// Rounded to this type.
    fn of_f64(value: f64) -> Self;
}

/// A type of scores: f16, bf16, f32 or f64. The first three are computed in f32, f64 in f64.
pub trait Element: Copy + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// The type computed with.
    type Real: Real;
    /// 0.
    const ZERO: Self;
    /// Minus infinity, the score of an absent class.
    const NEG_INFINITY: Self;
    /// The NaN that results hold.
    const NAN: Self;

    /// Exactly.
    fn to_real(self) -> Self::Real;
    /// Rounded once, ties to even.
    fn of_real(value: Self::Real) -> Self;
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
    /// 8 elements as f64.
    fn load_f64<I: Isa>(isa: I, source: &[Self]) -> <I::F64 as Lanes>::V;
    /// At most 8 elements as f64, padded.
    fn load_f64_or<I: Isa>(isa: I, source: &[Self], pad: Self) -> <I::F64 as Lanes>::V;
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

macro_rules! real {
    ($scalar:ident, $lanes:ident, $bits:ty, $significand:literal, $sqrt_half:expr) => {
        impl Real for $scalar {
            type Lanes<I: Isa> = I::$lanes;
            const SIGNIFICAND_BITS: u32 = $significand;
            const ONE_BITS: $bits = (1.0 as $scalar).to_bits();
            const SQRT_HALF_BITS: $bits = ($sqrt_half as $scalar).to_bits();
            type Bits = $bits;
            const EPSILON: Self = $scalar::EPSILON;
            const MAX: Self = $scalar::MAX;

            #[inline(always)]
            fn lanes<I: Isa>(isa: I) -> I::$lanes {
                lanes_of!(isa, $lanes)
            }
            #[inline(always)]
            fn of_f64(value: f64) -> Self {
                value as $scalar
            }
        }

        impl Element for $scalar {
            type Real = $scalar;
            const ZERO: Self = 0.0;
            const NEG_INFINITY: Self = $scalar::NEG_INFINITY;
            const NAN: Self = $scalar::NAN;

            #[inline(always)]
            fn to_real(self) -> $scalar {
                self
            }
            #[inline(always)]
            fn of_real(value: $scalar) -> Self {
                value
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
            #[inline(always)]
            fn load_f64<I: Isa>(isa: I, source: &[Self]) -> <I::F64 as Lanes>::V {
                load_as_f64!(isa, source, $lanes)
            }
            #[inline(always)]
            fn load_f64_or<I: Isa>(isa: I, source: &[Self], pad: Self) -> <I::F64 as Lanes>::V {
                load_as_f64_or!(isa, source, pad, $lanes)
            }
        }
    };
}

real!(f32, F32, u32, 23, std::f32::consts::FRAC_1_SQRT_2);
real!(f64, F64, u64, 52, std::f64::consts::FRAC_1_SQRT_2);

macro_rules! half_precision {
    ($half:ident, $load:ident, $store:ident) => {
        impl Element for $half {
            type Real = f32;
            const ZERO: Self = $half::ZERO;
            const NEG_INFINITY: Self = $half::NEG_INFINITY;
            const NAN: Self = $half::NAN;

            #[inline(always)]
            fn to_real(self) -> f32 {
                self.to_f32()
            }
            #[inline(always)]
            fn of_real(value: f32) -> Self {
                $half::from_f32(value)
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self.to_f32().into()
            }
            #[inline(always)]
            fn of_f64_once(value: f64) -> Self {
                $half::from_f64(value)
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
            #[inline(always)]
            fn load_f64<I: Isa>(isa: I, source: &[Self]) -> <I::F64 as Lanes>::V {
                Self::load_f64_or(isa, &source[..8], $half::ZERO)
            }
            #[inline(always)]
            fn load_f64_or<I: Isa>(isa: I, source: &[Self], pad: Self) -> <I::F64 as Lanes>::V {
                isa.widen(Self::load_or(isa, source, pad))[0]
            }
        }
    };
}

half_precision!(f16, load_f16, store_f16);
half_precision!(bf16, load_bf16, store_bf16);
