//! Scores of some queries and some classes: the inner products, scaled, and the bias.
//!
//! Problem. s_qc = sum_d h_qd w_cd + b_c for rows w_c that are streamed from memory and queries that stay in cache, at the speed
//! of memory for one query and at that of the multipliers for many, with the same bits for any number of either.
//! Method. Products run along d in the lanes: lane j sums d = j, 16 + j, ... by fused multiply-adds in their order, and the 16
//! lanes meet by halves. That order hangs on neither queries nor classes nor registers, so each product has one value. Rows
//! are read as they lie: nothing is packed, nothing transposed. The sums of 16 products are met together (45 instructions
//! for 16, which run beside the multiplications).
//! Few queries: a row at a time, in the order of memory, which is what the hardware's prefetcher follows. Many: [`ROWS`] rows
//! with [`TOGETHER`] queries hold 16 sums in registers (8 loads for 16 multiplications), and the rows to come are asked for
//! ahead; rows of f16 and bf16 are widened once for all queries. Codes of 8 bits sum to exact integers.
//! Error. At most (d / 16 + 5) 2^-24 sum_d |h_d w_d|, to first order; the bias adds half a unit of the result.
//! Cost. On Zen 4, of f32: 0.95 of the speed of reading the matrix for one query; for 16 and more 0.75 to 0.87 of the peak of the
//! multipliers with rows of 256 and more, 0.6 with rows of 64, whose sums meet after 4 steps (`benches/heads.py`).

use super::numbers::Numbers;
use super::queries::{Queries, TOGETHER};
use crate::simd::{Isa, Kernel, Lanes, V};

/// Classes of a tile: scores of up to 128 queries then stay in the second cache.
pub(super) const TILE: usize = 512;
const ROWS: usize = 4;
/// So far ahead rows are asked for.
const AHEAD_BYTES: usize = 32 << 10;

/// Rows of one matrix in memory, `pitch` elements apart, from the first row on.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a, W> {
    pub(super) data: &'a [W],
    pub(super) pitch: usize,
    pub(super) width: usize,
}

impl<'a, W: Numbers> Lines<'a, W> {
    #[inline(always)]
    fn row(&self, row: usize) -> &'a [W] {
        &self.data[row * self.pitch..][..self.width]
    }

    /// The steps of a row, if there is one, to be asked for ahead.
    #[inline(always)]
    fn ahead(&self, row: usize) -> &'a [W::Chunk] {
        W::chunks(self.data.get(row * self.pitch..row * self.pitch + self.width).unwrap_or(&[])).0
    }

    fn rows_ahead(&self) -> usize {
        AHEAD_BYTES.div_ceil((self.pitch * size_of::<W>()).max(1)).next_multiple_of(ROWS)
    }
}

/// What a tile of scores is made of besides the matrix: all queries, and `count` classes, at most [`TILE`].
pub(super) struct Factors<'k, L> {
    pub(super) queries: &'k Queries<L>,
    pub(super) first: usize,
    pub(super) count: usize,
    /// What the sums of each of these classes are multiplied by, besides the scale of the query.
    pub(super) scales: Option<&'k [f32]>,
    /// One number for each of these classes, or none.
    pub(super) bias: Option<&'k [f32]>,
}

impl<L> Clone for Factors<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Factors<'_, L> {}

/// Scores of some queries and the classes of a tile; places beyond its classes hold anything.
pub(super) type Tiles = [[f32; TILE]];

/// The scores of a tile.
pub(super) struct Dots<'k, W: Numbers> {
    pub(super) lines: Lines<'k, W>,
    pub(super) factors: Factors<'k, W::Line>,
    pub(super) scores: &'k mut Tiles,
}

impl<W: Numbers> Kernel for Dots<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        if self.factors.queries.count() <= TOGETHER { self.row_by_row(isa) } else { self.side_by_side(isa) }
    }
}

impl<W: Numbers> Dots<'_, W> {
    #[inline(always)]
    fn row_by_row<I: Isa>(&mut self, isa: I) {
        for at in (0..self.factors.count).step_by(16) {
            match self.factors.queries.count() {
                1 => self.sixteen::<I, 1>(isa, at),
                2 => self.sixteen::<I, 2>(isa, at),
                3 => self.sixteen::<I, 3>(isa, at),
                _ => self.sixteen::<I, 4>(isa, at),
            }
        }
    }

    /// 16 classes, or what is left of them, for `Q` queries.
    #[inline(always)]
    fn sixteen<I: Isa, const Q: usize>(&mut self, isa: I, at: usize) {
        let lanes = isa.f32();
        let Factors { queries, first, count, scales, bias } = self.factors;
        let lines = queries.group::<Q>(0);
        let starts = starts::<I, W, Q>(isa, queries, 0);
        let rows = (count - at).min(16);
        let distance = self.lines.rows_ahead();
        let mut sums = [[starts[0]; 16]; Q];
        for row in 0..rows {
            let mut found = [starts];
            // for one or two queries the hardware asks in time
            let ahead = if Q > 2 { self.lines.ahead(first + at + row + distance) } else { &[] };
            Rows::new([self.lines.row(first + at + row)]).add_up(isa, lines, ahead, &mut found, 0);
            for (sums, found) in sums.iter_mut().zip(found[0]) {
                sums[row] = found;
            }
        }
        for (query, sums) in sums.iter().enumerate() {
            let mut scores = W::meet(isa, sums);
            if let Some(scales) = scales {
                let scale =
                    lanes.mul(lanes.load_or(&scales[at..at + rows], 0.0), lanes.splat(queries.scales(0)[ROWS * query]));
                scores = lanes.mul(scores, scale);
            }
            if let Some(bias) = bias {
                scores = lanes.add(scores, lanes.load_or(&bias[at..at + rows], 0.0));
            }
            lanes.store(scores, &mut self.scores[query][at..at + 16]);
        }
    }

    #[inline(always)]
    fn side_by_side<I: Isa>(&mut self, isa: I) {
        let lanes = isa.f32();
        let Factors { queries, first, count, scales, bias } = self.factors;
        let distance = self.lines.rows_ahead();
        let numbers = queries.numbers();
        let mut places = vec![0.0; if size_of::<W>() == 2 { ROWS * numbers } else { 0 }];
        for at in (0..count).step_by(ROWS) {
            let mut places = places.chunks_mut(numbers.max(1));
            // of the last few rows the last takes the place of those that are missing
            let mut rows: [&[W::Met]; ROWS] = [&[]; ROWS];
            for (row, met) in rows.iter_mut().enumerate() {
                let line = self.lines.row(first + (at + row).min(count - 1));
                *met = W::met(isa, line, places.next().unwrap_or(&mut []));
            }
            let each = |values: &[f32]| -> [f32; 16] {
                let four: [f32; ROWS] = std::array::from_fn(|row| values[(at + row).min(count - 1)]);
                std::array::from_fn(|lane| four[lane % ROWS])
            };
            let scales = if let Some(scales) = scales { Some(lanes.load(&each(scales))) } else { None };
            let bias = if let Some(bias) = bias { Some(lanes.load(&each(bias))) } else { None };
            let four = Four::<I, W::Met> { rows: Rows::new(rows), scales, bias, at };
            for (group, query) in (0..queries.count()).step_by(TOGETHER).enumerate() {
                // the first groups of queries ask for a row each that will be needed later
                let ahead = if group < ROWS { self.lines.ahead(first + at + distance + group) } else { &[] };
                match queries.count() - query {
                    1 => four.meet::<_, 1>(isa, queries, query, ahead, self.scores),
                    2 => four.meet::<_, 2>(isa, queries, query, ahead, self.scores),
                    3 => four.meet::<_, 3>(isa, queries, query, ahead, self.scores),
                    _ => four.meet::<_, 4>(isa, queries, query, ahead, self.scores),
                }
            }
        }
    }
}

/// [`ROWS`] classes, to meet queries.
struct Four<'r, I: Isa, W: Numbers> {
    rows: Rows<'r, W, ROWS>,
    /// Of class r in each lane that is r modulo [`ROWS`].
    scales: Option<V<I, f32>>,
    bias: Option<V<I, f32>>,
    at: usize,
}

impl<I: Isa, W: Numbers> Four<'_, I, W> {
    #[inline(always)]
    fn meet<A, const Q: usize>(
        &self,
        isa: I,
        queries: &Queries<W::Line>,
        query: usize,
        ahead: &[A],
        scores: &mut Tiles,
    ) {
        let lanes = isa.f32();
        let lines = queries.group::<Q>(query);
        let starts = starts::<I, W, Q>(isa, queries, query);
        let mut sums = [starts; ROWS];
        if I::MANY_REGISTERS {
            self.rows.add_up(isa, lines, ahead, &mut sums, 0);
        } else {
            let [upper, lower] = self.rows.halves();
            let mut halves = [[starts; 2]; 2];
            for from in (0..Q).step_by(2) {
                upper.add_up(isa, lines, if from == 0 { ahead } else { &[] }, &mut halves[0], from);
                lower.add_up(isa, lines, &ahead[..0], &mut halves[1], from);
            }
            sums = [halves[0][0], halves[0][1], halves[1][0], halves[1][1]];
        }
        let mut each = [starts[0]; 16]; // of query q and row r: 4 q + r
        for q in 0..Q {
            for row in 0..ROWS {
                each[ROWS * q + row] = sums[row][q];
            }
        }
        let mut found = W::meet(isa, &each);
        if let Some(scales) = self.scales {
            found = lanes.mul(found, lanes.mul(scales, lanes.load(queries.scales(query))));
        }
        if let Some(bias) = self.bias {
            found = lanes.add(found, bias);
        }
        let mut each = [0.0; 16];
        lanes.store(found, &mut each);
        for (scores, four) in scores[query..query + Q].iter_mut().zip(each.as_chunks::<ROWS>().0) {
            scores.as_chunks_mut::<ROWS>().0[self.at / ROWS] = *four;
        }
    }
}

/// What the sums of queries start with.
#[inline(always)]
fn starts<I: Isa, W: Numbers, const Q: usize>(isa: I, queries: &Queries<W::Line>, first: usize) -> [W::Sum<I>; Q] {
    let mut starts = [W::start(isa, &[0; 16]); Q];
    for (query, start) in starts.iter_mut().enumerate() {
        *start = W::start(isa, queries.start(first + query));
    }
    starts
}

/// Some rows in steps: of one length each, so that one comparison guards all.
struct Rows<'r, W: Numbers, const R: usize> {
    chunks: [&'r [W::Chunk]; R],
    rest: [&'r [W]; R],
    whole: usize,
}

impl<'r, W: Numbers, const R: usize> Rows<'r, W, R> {
    #[inline(always)]
    fn new(rows: [&'r [W]; R]) -> Self {
        let whole = W::chunks(rows[0]).0.len();
        Self { chunks: rows.map(|row| &W::chunks(row).0[..whole]), rest: rows.map(|row| W::chunks(row).1), whole }
    }

    /// Adds up, lane by lane, these rows with queries: with all `Q` where registers are many, else with two from `from` on.
    #[inline(always)]
    fn add_up<I: Isa, A, const Q: usize>(
        &self,
        isa: I,
        queries: &[[W::Line; Q]],
        ahead: &[A],
        sums: &mut [[W::Sum<I>; Q]; R],
        from: usize,
    ) {
        let taken = if I::MANY_REGISTERS || R == 1 { 0..Q } else { from..Q.min(from + 2) };
        let (steps, last) = W::steps(queries).split_at(self.whole);
        let chunks = self.chunks.map(|chunks| &chunks[..steps.len()]);
        for (step, lines) in steps.iter().enumerate() {
            if step < ahead.len() {
                isa.prefetch(&ahead[step..=step]);
            }
            let query = W::queries(isa, lines);
            for (sums, chunks) in sums.iter_mut().zip(chunks) {
                let row = W::row(isa, &chunks[step]);
                for q in taken.clone() {
                    sums[q] = W::add(isa, sums[q], row, query[q]);
                }
            }
        }
        for lines in last {
            let query = W::queries(isa, lines);
            for (sums, rest) in sums.iter_mut().zip(self.rest) {
                let row = W::rest(isa, rest);
                for q in taken.clone() {
                    sums[q] = W::add(isa, sums[q], row, query[q]);
                }
            }
        }
    }
}

impl<'r, W: Numbers> Rows<'r, W, ROWS> {
    #[inline(always)]
    fn halves(&self) -> [Rows<'r, W, 2>; 2] {
        let ([a, b, c, d], [e, f, g, h]) = (self.chunks, self.rest);
        let whole = self.whole;
        [Rows { chunks: [a, b], rest: [e, f], whole }, Rows { chunks: [c, d], rest: [g, h], whole }]
    }
}
