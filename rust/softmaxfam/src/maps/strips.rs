//! Rows in f64, a strip at a time: for maps whose arithmetic is in f64 for every element type.

use crate::rows::{BLOCK, Source};
use crate::simd::{Isa, Kernel, Lanes, Real};

/// Classes that are brought to f64 at a time: 4 KiB.
pub(crate) const STRIP: usize = 512;

/// Numbers as f64, exactly.
#[inline(always)]
pub(crate) fn widened<I: Isa, R: Real>(isa: I, scores: &[R], target: &mut [f64]) {
    let lanes = isa.f64();
    let (mut vectors, mut places) = (scores.chunks_exact(8), target.chunks_exact_mut(8));
    for (vector, place) in (&mut vectors).zip(&mut places) {
        lanes.store(R::load_f64(isa, vector), place);
    }
    places.into_remainder().iter_mut().zip(vectors.remainder()).for_each(|(place, value)| *place = value.to_f64());
}

/// Numbers in f64, rounded to elements.
#[inline(always)]
pub(crate) fn rounded<I: Isa, R: Real>(isa: I, values: &[f64], target: &mut [R]) {
    let lanes = isa.f64();
    let (mut vectors, mut places) = (values.chunks_exact(16), target.chunks_exact_mut(16));
    for (vector, place) in (&mut vectors).zip(&mut places) {
        R::store_f64(isa, [lanes.load(vector), lanes.load(&vector[8..])], place);
    }
    places.into_remainder().iter_mut().zip(vectors.remainder()).for_each(|(place, value)| *place = R::of_f64(*value));
}

/// [`rounded`] as a kernel of its own.
pub(crate) struct Rounded<'k, R> {
    pub(crate) values: &'k [f64],
    pub(crate) target: &'k mut [R],
}

impl<R: Real> Kernel for Rounded<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        rounded(isa, self.values, self.target);
    }
}

/// One row in f64 strips; the buffers are reused from row to row.
pub(crate) struct Strips<'a, R: Real> {
    source: Source<'a, R>,
    buffer: Box<[R]>,
    strip: Box<[f64; STRIP]>,
}

impl<'a, R: Real> Strips<'a, R> {
    pub(crate) fn new(source: Source<'a, R>) -> Self {
        Self { source, buffer: source.buffer(), strip: Box::new([0.0; STRIP]) }
    }

    /// The classes from `from`, a multiple of [`STRIP`], on: at most so many.
    #[inline(always)]
    pub(crate) fn at<I: Isa>(&mut self, isa: I, row: usize, from: usize) -> &mut [f64] {
        // a block that is copied is copied once, at its first strip
        let start = from / BLOCK * BLOCK;
        let to = self.source.classes().min(from + STRIP);
        let strip = &mut self.strip[..to - from];
        if self.source.is_in_place() {
            widened(isa, &self.source.block(row, start, &mut [])[from - start..to - start], strip);
        } else {
            if from == start {
                self.source.block(row, start, &mut self.buffer);
            }
            widened(isa, &self.buffer[from - start..to - start], strip);
        }
        strip
    }

    /// The first classes of all strips.
    pub(crate) fn starts(&self) -> impl Iterator<Item = usize> + use<R> {
        (0..self.source.classes()).step_by(STRIP)
    }
}
