//! Lanes: the one face that kernels see of an instruction set.
//!
//! Kernels are written once, over virtual lanes of fixed width: [`Isa::F32`] holds 16 f32, [`Isa::F64`] holds 8 f64,
//! whether a register holds that many or not. All operations are exactly rounded (add, mul, fused multiply-add,
//! division, square root) or exact, and sums across lanes go in one fixed order, so that every instruction set gives
//! the same bits. There is no approximate reciprocal, no flushing of subnormals and no reassociation here.
//!
//! [`dispatch`] enters a kernel with the features of the chosen set enabled; everything below is `inline(always)`.

mod element;
mod generic;
mod packed;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

pub mod isa;

pub use element::Element;
pub(crate) use element::{LanesOf, Real, V};
pub(crate) use isa::Level;
pub(crate) use packed::{Packing, Visitor};

/// An instruction set, as a value: holding one proves that this CPU has it.
pub trait Isa: Copy + Send + Sync + 'static {
    /// 16 lanes of f32.
    type F32: Lanes<Scalar = f32>;
    /// 8 lanes of f64.
    type F64: Lanes<Scalar = f64>;
    /// 8 integers of 64 bits.
    type U64: Copy;
    /// 64 integers of 8 bits.
    type Bytes: Copy;
    /// 16 integers of 32 bits.
    type I32: Copy;
    /// Whether registers are enough for 16 sums of 16 f32 beside their operands.
    const MANY_REGISTERS: bool;

    /// The f32 lanes.
    fn f32(self) -> Self::F32;
    /// The f64 lanes.
    fn f64(self) -> Self::F64;

    /// The lower and the upper 8 lanes as f64, exactly.
    fn widen(self, v: <Self::F32 as Lanes>::V) -> [<Self::F64 as Lanes>::V; 2];
    /// The lanes of both rounded to f32, ties to even.
    fn narrow(self, v: [<Self::F64 as Lanes>::V; 2]) -> <Self::F32 as Lanes>::V;
    /// 8 f32 as f64.
    fn load_f32_as_f64(self, source: &[f32]) -> <Self::F64 as Lanes>::V;
    /// 16 half-precision numbers, as f32.
    fn load_f16(self, source: &[half::f16]) -> <Self::F32 as Lanes>::V;
    /// 16 numbers rounded to half precision, ties to even.
    fn store_f16(self, v: <Self::F32 as Lanes>::V, target: &mut [half::f16]);
    /// 16 bfloat16, as f32.
    fn load_bf16(self, source: &[half::bf16]) -> <Self::F32 as Lanes>::V;
    /// 16 numbers rounded to bfloat16, ties to even.
    fn store_bf16(self, v: <Self::F32 as Lanes>::V, target: &mut [half::bf16]);
    /// Lane r of the result is [`Lanes::reduce_add`] of `v[r]`, to the bit.
    fn reduce_add_each(self, v: &[<Self::F32 as Lanes>::V; 16]) -> <Self::F32 as Lanes>::V;
    /// 32 bfloat16, as f32: those at even places, then those at odd ones.
    fn load_bf16_in_two(self, source: &[half::bf16; 32]) -> [<Self::F32 as Lanes>::V; 2];
    /// 64 integers.
    fn load_i8(self, source: &[i8; 64]) -> Self::Bytes;
    /// 64 integers, each plus 128: in 0 to 255.
    fn load_i8_raised(self, source: &[i8; 64]) -> Self::Bytes;
    /// 16 integers.
    fn load_i32(self, source: &[i32; 16]) -> Self::I32;
    /// To each lane of `sum` adds the products of its four bytes, those of `raised` in 0 to 255; sums must fit in i32.
    fn add_products(self, sum: Self::I32, raised: Self::Bytes, bytes: Self::Bytes) -> Self::I32;
    /// Lane r of the result is the sum of the lanes of `v[r]`, rounded to f32.
    fn sum_each(self, v: &[Self::I32; 16]) -> <Self::F32 as Lanes>::V;
    /// 8 integers.
    fn load_u64(self, source: &[u64; 8]) -> Self::U64;
    /// 8 integers.
    fn store_u64(self, v: Self::U64) -> [u64; 8];
    /// The products of the lower halves.
    fn mul_lower(self, a: Self::U64, b: Self::U64) -> Self::U64;
    /// The upper halves, moved down.
    fn upper(self, a: Self::U64) -> Self::U64;
    /// a xor b
    fn xor(self, a: Self::U64, b: Self::U64) -> Self::U64;
    /// The lower halves of `low`, and above them those of `high`.
    fn join_lower(self, low: Self::U64, high: Self::U64) -> Self::U64;
    /// a + b, modulo 2^64.
    fn add_u64(self, a: Self::U64, b: Self::U64) -> Self::U64;
    /// The lanes of both in turns: a0 b0 a1 b1 and so on, in two vectors.
    fn interleave(self, a: Self::U64, b: Self::U64) -> [Self::U64; 2];
    /// The product of a and the lower half of b, less its lower 32 bits.
    #[inline(always)]
    fn mul_upper(self, a: Self::U64, b: Self::U64) -> Self::U64 {
        self.add_u64(self.mul_lower(self.upper(a), b), self.upper(self.mul_lower(a, b)))
    }
    /// Asks for data that will be read soon.
    #[inline(always)]
    fn prefetch<T>(self, _data: &[T]) {}
    /// Asks for the line where an element begins that will be read soon.
    #[inline(always)]
    fn prefetch_at<T>(self, _data: &[T], _index: usize) {}
}

/// Arithmetic on `N` lanes of one scalar type. Slices given to loads and stores hold at least `N` elements unless said.
pub trait Lanes: Copy + Send + Sync + 'static {
    /// The number of lanes.
    const N: usize;
    /// What a lane holds.
    type Scalar: Real;
    /// A value for each lane.
    type V: Copy;
    /// A truth value for each lane.
    type Mask: Copy;

    /// The same value in each lane.
    fn splat(self, value: Self::Scalar) -> Self::V;
    /// The first `N` elements.
    fn load(self, source: &[Self::Scalar]) -> Self::V;
    /// At most `N` elements, the lanes past them filled with `pad`.
    fn load_or(self, source: &[Self::Scalar], pad: Self::Scalar) -> Self::V;
    /// Writes the first `N` elements.
    fn store(self, v: Self::V, target: &mut [Self::Scalar]);
    /// Writes as many lanes as `target`, of at most `N` elements, holds.
    fn store_part(self, v: Self::V, target: &mut [Self::Scalar]);

    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a - b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a b + c, rounded once
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c - a b, rounded once
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The same value, in all registers that hold it before anything is computed from one. In a long chain of operations it
    /// keeps the optimiser from going through the chain for one register, then for the next, which spares registers but
    /// leaves the CPU waiting for each result.
    #[inline(always)]
    fn in_step(self, v: Self::V) -> Self::V {
        v
    }
    /// Square root.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`: b where one of them is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`: b where one of them is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;

    /// a > b; false where one of them is NaN.
    fn gt(self, a: Self::V, b: Self::V) -> Self::Mask;
    /// a >= b; false where one of them is NaN.
    fn ge(self, a: Self::V, b: Self::V) -> Self::Mask;
    /// a = b; false where one of them is NaN.
    fn eq(self, a: Self::V, b: Self::V) -> Self::Mask;
    /// Whether each lane is NaN.
    fn is_nan(self, a: Self::V) -> Self::Mask;
    /// a where the mask holds, else b.
    fn select(self, mask: Self::Mask, a: Self::V, b: Self::V) -> Self::V;
    /// Lane i of the mask as bit i.
    fn bits(self, mask: Self::Mask) -> u32;
    /// Whether any lane holds.
    #[inline(always)]
    fn any(self, mask: Self::Mask) -> bool {
        self.bits(mask) != 0
    }
    /// Writes the lanes that hold to the front of `target` in their order, and anything up to `target[N]` behind them;
    /// returns how many hold.
    fn compress(self, mask: Self::Mask, v: Self::V, target: &mut [Self::Scalar]) -> usize;

    /// The bits of each lane moved up by the width of the significand: turns the low bits of `k + magic` into 2^k.
    fn to_exponent(self, v: Self::V) -> Self::V;
    /// Each positive normal lane as 2^e m with m in [sqrt(1/2), sqrt(2)): (e, m).
    fn split_exponent(self, v: Self::V) -> (Self::V, Self::V);

    /// Lane c of the first `N` vectors, in their order, becomes vector c.
    fn transpose(self, rows: &mut [Self::V; 16]);

    /// Lane i + lane i + N/2, and so on by halves.
    fn reduce_add(self, v: Self::V) -> Self::Scalar;
    /// The largest lane, by [`Lanes::max`] in halves; no lane may be NaN.
    fn reduce_max(self, v: Self::V) -> Self::Scalar;
    /// The smallest lane, likewise.
    fn reduce_min(self, v: Self::V) -> Self::Scalar;
}

/// A computation that is entered once for each piece of work, with the features of an instruction set enabled.
///
/// `run` and all that it calls must be `inline(always)`.
pub(crate) trait Kernel {
    type Output;
    fn run<I: Isa>(self, isa: I) -> Self::Output;
}

/// Runs a kernel on an instruction set.
pub(crate) fn dispatch<K: Kernel>(level: Level, kernel: K) -> K::Output {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(isa) => isa.run(kernel),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(isa) => isa.run(kernel),
        Level::Generic(isa) => kernel.run(isa),
    }
}

#[cfg(test)]
pub(crate) mod tests;
