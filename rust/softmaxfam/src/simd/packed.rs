//! Half precision: what is stored in 16 bits and computed in f32.
//!
//! Kernels know nothing of it: rows reach them as blocks of f32 that are unpacked here, exactly, and their results are packed
//! here, rounded once. So kernels exist for f32 and f64 only, and a conversion costs a pass over a block in the first cache.
//! Only the loops that do little more than load have code of their own for each format: they are given to a [`Visitor`].

use super::{Element, Isa, Kernel, Lanes, Level, Real, dispatch};
use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};
use std::convert::Infallible;

/// A computation on numbers of any type that is computed in `R`; like a kernel, all of it `inline(always)`.
pub trait Visitor<R: Real> {
    /// What it gives.
    type Output;
    /// Runs it.
    fn visit<E: Element<Real = R>>(self, numbers: &[E]) -> Self::Output;
}

/// How numbers that are computed in `R` are stored as words of 16 bits.
pub trait Packing<R: Real>: Copy + Send + Sync {
    /// Runs a computation on words as the numbers that they are.
    fn visit<V: Visitor<R>>(self, words: &[u16], visitor: V) -> V::Output;
    /// Lines of `width` words that start `pitch` apart, as many as fill `target`, which takes them one after another.
    fn unpack(self, words: &[u16], pitch: usize, width: usize, target: &mut [R]);
    /// Asks for words that will be unpacked soon.
    fn prefetch(self, words: &[u16]);
    /// Rounds numbers, ties to even, to as many words.
    fn pack(self, numbers: &[R], words: &mut [u16]);
    /// Rounds a number once, ties to even.
    fn pack_f64(self, number: f64) -> u16;
}

/// A format of 16 bits, and the instruction set that converts it.
#[derive(Clone, Copy)]
pub struct Half {
    format: Format,
    level: Level,
}

#[derive(Clone, Copy)]
pub(super) enum Format {
    F16,
    Bf16,
}

impl Half {
    pub(super) fn active(format: Format) -> Self {
        Self { format, level: Level::active() }
    }
}

impl Packing<f32> for Half {
    #[inline(always)]
    fn visit<V: Visitor<f32>>(self, words: &[u16], visitor: V) -> V::Output {
        match self.format {
            Format::F16 => visitor.visit::<f16>(words.reinterpret_cast()),
            Format::Bf16 => visitor.visit::<bf16>(words.reinterpret_cast()),
        }
    }

    fn unpack(self, words: &[u16], pitch: usize, width: usize, target: &mut [f32]) {
        let Self { format, level } = self;
        match format {
            Format::F16 => dispatch(level, Unpack::<f16> { packed: words.reinterpret_cast(), pitch, width, target }),
            Format::Bf16 => dispatch(level, Unpack::<bf16> { packed: words.reinterpret_cast(), pitch, width, target }),
        }
    }

    fn prefetch(self, words: &[u16]) {
        dispatch(self.level, Prefetch(words));
    }

    fn pack(self, numbers: &[f32], words: &mut [u16]) {
        match self.format {
            Format::F16 => dispatch(self.level, Pack::<f16> { numbers, packed: words.reinterpret_cast_mut() }),
            Format::Bf16 => dispatch(self.level, Pack::<bf16> { numbers, packed: words.reinterpret_cast_mut() }),
        }
    }

    fn pack_f64(self, number: f64) -> u16 {
        match self.format {
            Format::F16 => f16::of_f64_once(number).to_bits(),
            Format::Bf16 => bf16::of_f64_once(number).to_bits(),
        }
    }
}

/// Nothing that is computed in f64 is stored in fewer bits.
impl Packing<f64> for Infallible {
    fn visit<V: Visitor<f64>>(self, _words: &[u16], _visitor: V) -> V::Output {
        match self {}
    }

    fn unpack(self, _words: &[u16], _pitch: usize, _width: usize, _target: &mut [f64]) {
        match self {}
    }

    fn prefetch(self, _words: &[u16]) {
        match self {}
    }

    fn pack(self, _numbers: &[f64], _words: &mut [u16]) {
        match self {}
    }

    fn pack_f64(self, _number: f64) -> u16 {
        match self {}
    }
}

struct Unpack<'k, E> {
    packed: &'k [E],
    pitch: usize,
    width: usize,
    target: &'k mut [f32],
}

impl<E: Element<Real = f32>> Kernel for Unpack<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (line, target) in self.target.chunks_exact_mut(self.width).enumerate() {
            let packed = &self.packed[line * self.pitch..][..self.width];
            let (mut vectors, mut places) = (packed.chunks_exact(I::F32::N), target.chunks_exact_mut(I::F32::N));
            for (vector, place) in (&mut vectors).zip(&mut places) {
                isa.f32().store(E::load(isa, vector), place);
            }
            if !vectors.remainder().is_empty() {
                isa.f32().store_part(E::load_or(isa, vectors.remainder(), E::ZERO), places.into_remainder());
            }
        }
    }
}

struct Prefetch<'k>(&'k [u16]);

impl Kernel for Prefetch<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        isa.prefetch(self.0);
    }
}

struct Pack<'k, E> {
    numbers: &'k [f32],
    packed: &'k mut [E],
}

impl<E: Element<Real = f32>> Kernel for Pack<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (mut vectors, mut places) = (self.numbers.chunks_exact(I::F32::N), self.packed.chunks_exact_mut(I::F32::N));
        for (vector, place) in (&mut vectors).zip(&mut places) {
            E::store(isa, isa.f32().load(vector), place);
        }
        if !vectors.remainder().is_empty() {
            E::store_part(isa, isa.f32().load_or(vectors.remainder(), 0.0), places.into_remainder());
        }
    }
}
