//! The types that a class matrix is stored in, as inner products take them: a step of a row, and how it multiplies.

use super::queries::{Levels, Line};
use crate::simd::{Element, Isa, Lanes, V};
use half::{bf16, f16};

/// A number of a class matrix.
pub(super) trait Numbers: Copy + Default + Send + Sync + 'static {
    /// The numbers of a row that are taken in a step.
    type Chunk: 'static;
    /// A query's part of a step is one of these or several.
    type Line: Copy + Default + 'static;
    /// The lines of `Q` queries in a step.
    type Lines<const Q: usize>: 'static;
    /// Sums, lane by lane, of the products so far.
    type Sum<I: Isa>: Copy;
    /// A step of a row in registers.
    type Row<I: Isa>: Copy;
    /// A step of a query in registers.
    type Query<I: Isa>: Copy;

    /// The type that rows are brought to before they meet many queries.
    type Met: Numbers<Line = Self::Line>;

    /// A row as that type: itself, or in `place`, which has room for as many numbers as the lines of a query.
    fn met<'r, I: Isa>(isa: I, row: &'r [Self], place: &'r mut [f32]) -> &'r [Self::Met];
    /// The whole steps of a row, and what is left.
    fn chunks(row: &[Self]) -> (&[Self::Chunk], &[Self]);
    /// The lines of queries, step by step.
    fn steps<const Q: usize>(lines: &[[Self::Line; Q]]) -> &[Self::Lines<Q>];
    fn row<I: Isa>(isa: I, chunk: &Self::Chunk) -> Self::Row<I>;
    /// The last numbers of a row, fewer than a step takes, then zeros.
    fn rest<I: Isa>(isa: I, rest: &[Self]) -> Self::Row<I>;
    fn queries<I: Isa, const Q: usize>(isa: I, lines: &Self::Lines<Q>) -> [Self::Query<I>; Q];
    /// Where the sums of a query start: nothing but what its lines of numbers cannot hold.
    fn start<I: Isa>(isa: I, start: &[i32; 16]) -> Self::Sum<I>;
    fn add<I: Isa>(isa: I, sum: Self::Sum<I>, row: Self::Row<I>, query: Self::Query<I>) -> Self::Sum<I>;
    /// The sum over the lanes of each.
    fn meet<I: Isa>(isa: I, sums: &[Self::Sum<I>; 16]) -> V<I, f32>;
}

/// Writes a row as the f32 that multiply with the lines of queries.
macro_rules! widened {
    ($isa:ident, $row:ident, $place:ident, $step:literal, $vectors:ident => $store:expr) => {{
        let (chunks, rest) = Self::chunks($row);
        let rest = (!rest.is_empty()).then(|| Self::rest($isa, rest));
        let (whole, last) = $place.split_at_mut($step * chunks.len());
        for (chunk, $place) in chunks.iter().zip(whole.chunks_exact_mut($step)) {
            let $vectors = Self::row($isa, chunk);
            $store
        }
        if let Some($vectors) = rest {
            let $place = last;
            $store
        }
    }};
}

macro_rules! in_lines_of_16 {
    ($number:ty, $isa:ident, $row:ident, $place:ident => $met:expr) => {
        impl Numbers for $number {
            type Chunk = [$number; 16];
            type Line = Line;
            type Lines<const Q: usize> = [Line; Q];
            type Sum<I: Isa> = V<I, f32>;
            type Row<I: Isa> = V<I, f32>;
            type Query<I: Isa> = V<I, f32>;
            type Met = f32;

            #[inline(always)]
            fn met<'r, I: Isa>($isa: I, $row: &'r [Self], $place: &'r mut [f32]) -> &'r [f32] {
                $met
            }
            #[inline(always)]
            fn chunks(row: &[Self]) -> (&[Self::Chunk], &[Self]) {
                row.as_chunks()
            }
            #[inline(always)]
            fn steps<const Q: usize>(lines: &[[Line; Q]]) -> &[[Line; Q]] {
                lines
            }
            #[inline(always)]
            fn row<I: Isa>(isa: I, chunk: &Self::Chunk) -> V<I, f32> {
                <$number>::load(isa, chunk)
            }
            #[inline(always)]
            fn rest<I: Isa>(isa: I, rest: &[Self]) -> V<I, f32> {
                <$number>::load_or(isa, rest, <$number>::ZERO)
            }
            #[inline(always)]
            fn queries<I: Isa, const Q: usize>(isa: I, lines: &[Line; Q]) -> [V<I, f32>; Q] {
                let mut queries = [isa.f32().splat(0.0); Q];
                for q in 0..Q {
                    queries[q] = isa.f32().load(&lines[q].0);
                }
                queries
            }
            #[inline(always)]
            fn start<I: Isa>(isa: I, _: &[i32; 16]) -> V<I, f32> {
                isa.f32().splat(0.0)
            }
            #[inline(always)]
            fn add<I: Isa>(isa: I, sum: V<I, f32>, row: V<I, f32>, query: V<I, f32>) -> V<I, f32> {
                isa.f32().mul_add(row, query, sum)
            }
            #[inline(always)]
            fn meet<I: Isa>(isa: I, sums: &[V<I, f32>; 16]) -> V<I, f32> {
                isa.reduce_add_each(sums)
            }
        }
    };
}

in_lines_of_16!(f32, _isa, row, _place => row);
in_lines_of_16!(f16, isa, row, place => {
    widened!(isa, row, place, 16, vector => isa.f32().store(vector, place));
    place
});

/// 32 numbers a step: one load, whose even places make a line of f32, and whose odd ones the next.
impl Numbers for bf16 {
    type Chunk = [bf16; 32];
    type Line = Line;
    type Lines<const Q: usize> = [[Line; Q]; 2];
    type Sum<I: Isa> = V<I, f32>;
    type Row<I: Isa> = [V<I, f32>; 2];
    type Query<I: Isa> = [V<I, f32>; 2];
    type Met = f32;

    #[inline(always)]
    fn met<'r, I: Isa>(isa: I, row: &'r [Self], place: &'r mut [f32]) -> &'r [f32] {
        widened!(isa, row, place, 32, vectors => {
            isa.f32().store(vectors[0], place);
            isa.f32().store(vectors[1], &mut place[16..]);
        });
        place
    }
    #[inline(always)]
    fn chunks(row: &[Self]) -> (&[Self::Chunk], &[Self]) {
        row.as_chunks()
    }
    #[inline(always)]
    fn steps<const Q: usize>(lines: &[[Line; Q]]) -> &[[[Line; Q]; 2]] {
        lines.as_chunks().0
    }
    #[inline(always)]
    fn row<I: Isa>(isa: I, chunk: &Self::Chunk) -> [V<I, f32>; 2] {
        isa.load_bf16_in_two(chunk)
    }
    #[inline(always)]
    fn rest<I: Isa>(isa: I, rest: &[Self]) -> [V<I, f32>; 2] {
        let mut chunk = [bf16::ZERO; 32];
        chunk[..rest.len()].copy_from_slice(rest);
        isa.load_bf16_in_two(&chunk)
    }
    #[inline(always)]
    fn queries<I: Isa, const Q: usize>(isa: I, lines: &[[Line; Q]; 2]) -> [[V<I, f32>; 2]; Q] {
        let mut queries = [[isa.f32().splat(0.0); 2]; Q];
        for q in 0..Q {
            queries[q] = [isa.f32().load(&lines[0][q].0), isa.f32().load(&lines[1][q].0)];
        }
        queries
    }
    #[inline(always)]
    fn start<I: Isa>(isa: I, _: &[i32; 16]) -> V<I, f32> {
        isa.f32().splat(0.0)
    }
    #[inline(always)]
    fn add<I: Isa>(isa: I, sum: V<I, f32>, row: [V<I, f32>; 2], query: [V<I, f32>; 2]) -> V<I, f32> {
        let lanes = isa.f32();
        lanes.mul_add(row[1], query[1], lanes.mul_add(row[0], query[0], sum))
    }
    #[inline(always)]
    fn meet<I: Isa>(isa: I, sums: &[V<I, f32>; 16]) -> V<I, f32> {
        isa.reduce_add_each(sums)
    }
}

/// Codes of 8 bits by queries in levels of 8 bits: exact sums of integers. Codes are raised by 128 on loading, as the instruction
/// asks; the sums start at what that adds.
impl Numbers for i8 {
    type Chunk = [i8; 64];
    type Line = Levels;
    type Lines<const Q: usize> = [Levels; Q];
    type Sum<I: Isa> = I::I32;
    type Row<I: Isa> = I::Bytes;
    type Query<I: Isa> = I::Bytes;
    type Met = i8;

    #[inline(always)]
    fn met<'r, I: Isa>(_: I, row: &'r [i8], _: &'r mut [f32]) -> &'r [i8] {
        row
    }
    #[inline(always)]
    fn chunks(row: &[Self]) -> (&[Self::Chunk], &[Self]) {
        row.as_chunks()
    }
    #[inline(always)]
    fn steps<const Q: usize>(lines: &[[Levels; Q]]) -> &[[Levels; Q]] {
        lines
    }
    #[inline(always)]
    fn row<I: Isa>(isa: I, chunk: &[i8; 64]) -> I::Bytes {
        isa.load_i8_raised(chunk)
    }
    #[inline(always)]
    fn rest<I: Isa>(isa: I, rest: &[i8]) -> I::Bytes {
        let mut chunk = [0; 64];
        chunk[..rest.len()].copy_from_slice(rest);
        isa.load_i8_raised(&chunk)
    }
    #[inline(always)]
    fn queries<I: Isa, const Q: usize>(isa: I, lines: &[Levels; Q]) -> [I::Bytes; Q] {
        let mut queries = [isa.load_i8(&[0; 64]); Q];
        for q in 0..Q {
            queries[q] = isa.load_i8(&lines[q].0);
        }
        queries
    }
    #[inline(always)]
    fn start<I: Isa>(isa: I, start: &[i32; 16]) -> I::I32 {
        isa.load_i32(start)
    }
    #[inline(always)]
    fn add<I: Isa>(isa: I, sum: I::I32, row: I::Bytes, query: I::Bytes) -> I::I32 {
        isa.add_products(sum, row, query)
    }
    #[inline(always)]
    fn meet<I: Isa>(isa: I, sums: &[I::I32; 16]) -> V<I, f32> {
        isa.sum_each(sums)
    }
}
