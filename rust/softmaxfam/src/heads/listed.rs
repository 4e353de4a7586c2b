//! Scores of one query and a few rows of a matrix, which are named by their numbers.
//!
//! Method. The products of `dots`, to the bit: lane j sums d = j, 16 + j, ... by fused multiply-adds, and the lanes meet by halves.
//! Four rows run together, 16 meet together. Rows lie anywhere, so those to come are asked for while these are multiplied.
//! Cost. A row is read from memory once, at the speed at which misses overlap.

use crate::simd::{Isa, Kernel, Lanes, V};

/// Rows of a matrix, one behind the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListedRows<'a> {
    pub(crate) numbers: &'a [f32],
    pub(crate) width: usize,
}

impl<'a> ListedRows<'a> {
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        &self.numbers[row * self.width..][..self.width]
    }

    /// The inner products of a query with at most 16 rows, the lanes beyond them holding anything.
    #[inline(always)]
    pub(crate) fn sixteen<I: Isa>(&self, isa: I, h: &[f32], named: &[usize]) -> V<I, f32> {
        let lanes = isa.f32();
        let mut sums = [lanes.splat(0.0); 16];
        for at in (0..named.len()).step_by(4) {
            let mut rows: [&[f32]; 4] = [&[]; 4];
            for (row, place) in rows.iter_mut().enumerate() {
                *place = &self.row(named[(at + row).min(named.len() - 1)])[..h.len()];
            }
            let mut four = [lanes.splat(0.0); 4];
            let whole = h.len() / 16 * 16;
            for from in (0..whole).step_by(16) {
                let query = lanes.load(&h[from..from + 16]);
                for row in 0..4 {
                    four[row] = lanes.mul_add(lanes.load(&rows[row][from..from + 16]), query, four[row]);
                }
            }
            if whole < h.len() {
                let query = lanes.load_or(&h[whole..], 0.0);
                for row in 0..4 {
                    four[row] = lanes.mul_add(lanes.load_or(&rows[row][whole..], 0.0), query, four[row]);
                }
            }
            sums[at..at + 4].copy_from_slice(&four);
        }
        isa.reduce_add_each(&sums)
    }

    #[inline(always)]
    pub(crate) fn ask_for<I: Isa>(&self, isa: I, row: usize) {
        for line in self.row(row).chunks(16) {
            isa.prefetch(line);
        }
    }
}

/// The inner products of a query with rows, each plus a number of its own.
pub(crate) struct ListedDots<'k> {
    pub(crate) rows: ListedRows<'k>,
    pub(crate) h: &'k [f32],
    pub(crate) named: &'k [i64],
    /// Rows that are needed after these.
    pub(crate) next: &'k [i64],
    pub(crate) plus: &'k [f32],
    pub(crate) scores: &'k mut [f32],
}

impl Kernel for ListedDots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let lanes = isa.f32();
        let mut ahead = self.named.iter().skip(16).chain(self.next);
        let parts = self.named.chunks(16).zip(self.plus.chunks(16)).zip(self.scores.chunks_mut(16));
        for ((named, plus), scores) in parts {
            let mut sixteen = [0; 16];
            for (place, &row) in sixteen.iter_mut().zip(named) {
                *place = row as usize;
                if let Some(&row) = ahead.next() {
                    self.rows.ask_for(isa, row as usize);
                }
            }
            let found = self.rows.sixteen(isa, self.h, &sixteen[..named.len()]);
            lanes.store_part(lanes.add(found, lanes.load_or(plus, 0.0)), scores);
        }
    }
}
