//! Products of matrices that a gradient is made of: rows of one that are added, times coefficients, to rows of another.
//!
//! Problem. o_i += sum_k a_ik b_k for rows o_i and b_k: gradients of scores times class rows give those of queries, and times
//! queries those of class rows. Both matrices of rows are as wide as queries, and neither is to be transposed.
//! Method. Six rows of o, 64 numbers of each, stay in registers while k runs: 4 loads of b_k and 6 broadcasts of a feed 24
//! fused multiply-adds. The rows b_k are packed by panels of 64 numbers, so that what a run over k reads lies in line and in
//! the first cache; a is read as it lies. Terms are added in the order of k whatever the panels, so each number has one value.
//! Error. That of a chain of fused multiply-adds: (terms) 2^-24 sum_k |a_ik b_k|, to first order.
//! Cost. A loss of three such products takes 0.6 to 0.8 of the time of the same by MKL with its matrices: `benches/linear.py`.

use crate::simd::{Isa, Kernel, Lanes};
use std::ops::Range;

/// Rows that are added to together.
pub(crate) const TOGETHER: usize = 6;
/// Numbers of a row that are taken together.
const PANEL: usize = 64;
/// Terms that are added between a load and a store of the sums: so many rows of a panel stay in the first cache.
const RUN: usize = 96;

/// Rows of one width, cut into panels: of each panel all rows follow each other, padded with zeros to whole lines of 16.
#[derive(Default)]
pub(crate) struct Panels {
    numbers: Vec<f32>,
    rows: usize,
    width: usize,
}

impl Panels {
    /// Packs so many rows of a width, which `copy` writes: row, first number, where to.
    pub(crate) fn pack(&mut self, rows: usize, width: usize, mut copy: impl FnMut(usize, usize, &mut [f32])) {
        (self.rows, self.width) = (rows, width);
        self.numbers.resize(rows * width.next_multiple_of(16), 0.0);
        for row in 0..rows {
            // a row after the other, in the order of memory
            for from in (0..width).step_by(PANEL) {
                let length = (width - from).min(PANEL);
                let pitch = length.next_multiple_of(16);
                let place = &mut self.numbers[rows * from + row * pitch..][..pitch];
                let (numbers, padding) = place.split_at_mut(length);
                copy(row, from, numbers);
                padding.fill(0.0);
            }
        }
    }

    fn panel(&self, from: usize) -> (usize, &[f32]) {
        let pitch = (self.width - from).min(PANEL).next_multiple_of(16);
        (pitch, &self.numbers[self.rows * from..][..self.rows * pitch])
    }
}

/// Coefficients of [`TOGETHER`] rows.
trait Coefficients: Copy {
    fn of(&self, k: usize) -> [f32; TOGETHER];
    /// Those from `k` on.
    fn from(&self, k: usize, count: usize) -> Self;
}

/// The coefficients of a row follow each other in memory.
#[derive(Clone, Copy)]
struct ByRow<'a>([&'a [f32]; TOGETHER]);

impl Coefficients for ByRow<'_> {
    #[inline(always)]
    fn of(&self, k: usize) -> [f32; TOGETHER] {
        let rows = self.0;
        [rows[0][k], rows[1][k], rows[2][k], rows[3][k], rows[4][k], rows[5][k]]
    }
    #[inline(always)]
    fn from(&self, k: usize, count: usize) -> Self {
        Self(self.0.map(|row| &row[k..k + count]))
    }
}

/// The coefficients of a term follow each other in memory, those of the next term `pitch` behind.
#[derive(Clone, Copy)]
struct ByTerm<'a> {
    numbers: &'a [f32],
    pitch: usize,
}

impl Coefficients for ByTerm<'_> {
    #[inline(always)]
    fn of(&self, k: usize) -> [f32; TOGETHER] {
        let found = &self.numbers[k * self.pitch..][..TOGETHER];
        [found[0], found[1], found[2], found[3], found[4], found[5]]
    }
    #[inline(always)]
    fn from(&self, k: usize, _: usize) -> Self {
        Self { numbers: &self.numbers[k * self.pitch..], ..*self }
    }
}

/// o_i += sum_k a_ki b_k: coefficients of a term side by side, `pitch` from term to term, for all rows of `sums`.
///
/// Rows of `sums` are as wide as those of `rows`; of a term there are [`TOGETHER`] coefficients for each so many rows, of
/// which the last need not exist.
pub(crate) struct AddByTerm<'k> {
    pub(crate) coefficients: &'k [f32],
    pub(crate) pitch: usize,
    pub(crate) rows: &'k Panels,
    pub(crate) sums: &'k mut [f32],
    /// What will be read after this, to be asked for meanwhile.
    pub(crate) ahead: &'k [f32],
}

impl Kernel for AddByTerm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { coefficients, pitch, rows, mut sums, mut ahead } = self;
        let length = (TOGETHER * rows.width).max(1);
        let each = ahead.len().div_ceil(sums.len().div_ceil(length).max(1));
        let mut block = 0;
        while !sums.is_empty() {
            let (now, later) = sums.split_at_mut(length.min(sums.len()));
            isa.prefetch(&later[..length.min(later.len())]);
            let (soon, after) = ahead.split_at(each.min(ahead.len()));
            isa.prefetch(soon);
            add(isa, ByTerm { numbers: &coefficients[block..], pitch }, rows, now);
            (sums, ahead, block) = (later, after, block + TOGETHER);
        }
    }
}

/// o_i += sum_k a_ik b_k: coefficients of a row side by side, `pitch` from row to row, for all rows of `sums`.
pub(crate) struct AddByRow<'k> {
    pub(crate) coefficients: &'k [f32],
    pub(crate) pitch: usize,
    pub(crate) rows: &'k Panels,
    pub(crate) sums: &'k mut [f32],
}

impl Kernel for AddByRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { coefficients, pitch, rows, sums } = self;
        let last = (sums.len() / rows.width.max(1)).saturating_sub(1);
        for (block, sums) in sums.chunks_mut((TOGETHER * rows.width).max(1)).enumerate() {
            let mut of_rows: [&[f32]; TOGETHER] = [&[]; TOGETHER];
            for (row, of_row) in of_rows.iter_mut().enumerate() {
                *of_row = &coefficients[(block * TOGETHER + row).min(last) * pitch..][..rows.rows];
            }
            add(isa, ByRow(of_rows), rows, sums);
        }
    }
}

/// Adds to at most [`TOGETHER`] rows.
#[inline(always)]
fn add<I: Isa, A: Coefficients>(isa: I, a: A, rows: &Panels, sums: &mut [f32]) {
    let width = rows.width;
    for from in (0..width).step_by(PANEL) {
        let (pitch, panel) = rows.panel(from);
        let to = width.min(from + PANEL);
        for (run, panel) in panel.chunks(RUN * pitch).enumerate() {
            let a = a.from(run * RUN, panel.len() / pitch);
            let vectors = if I::MANY_REGISTERS { pitch / 16 } else { 1 };
            for at in (0..pitch).step_by(16 * vectors) {
                let columns = from + at..to.min(from + at + 16 * vectors);
                let place = Place { sums: &mut *sums, width, columns };
                match vectors {
                    1 => place.add::<_, _, 1>(isa, a, panel, pitch, at),
                    2 => place.add::<_, _, 2>(isa, a, panel, pitch, at),
                    3 => place.add::<_, _, 3>(isa, a, panel, pitch, at),
                    _ => place.add::<_, _, 4>(isa, a, panel, pitch, at),
                }
            }
        }
    }
}

/// Some numbers of [`TOGETHER`] rows, of which the last need not exist.
struct Place<'k> {
    sums: &'k mut [f32],
    width: usize,
    columns: Range<usize>,
}

impl Place<'_> {
    #[inline(always)]
    fn add<I: Isa, A: Coefficients, const N: usize>(self, isa: I, a: A, panel: &[f32], pitch: usize, at: usize) {
        let lanes = isa.f32();
        let Self { sums, width, columns } = self;
        let (rows, length) = (sums.len() / width, columns.len());
        let mut found = [[lanes.splat(0.0); N]; TOGETHER];
        for r in 0..TOGETHER {
            if r < rows {
                let row = &sums[r * width..][columns.clone()];
                for n in 0..N {
                    found[r][n] = lanes.load_or(&row[16 * n..length.min(16 * n + 16)], 0.0);
                }
            }
        }
        for (k, row) in panel.chunks_exact(pitch).enumerate() {
            let row = &row[at..at + 16 * N];
            let mut b = [lanes.splat(0.0); N];
            for n in 0..N {
                b[n] = lanes.load(&row[16 * n..16 * n + 16]);
            }
            let a = a.of(k);
            for r in 0..TOGETHER {
                let a = lanes.splat(a[r]);
                for n in 0..N {
                    found[r][n] = lanes.mul_add(a, b[n], found[r][n]);
                }
            }
        }
        for r in 0..TOGETHER {
            if r < rows {
                let row = &mut sums[r * width..][columns.clone()];
                for n in 0..N {
                    lanes.store_part(found[r][n], &mut row[16 * n..length.min(16 * n + 16)]);
                }
            }
        }
    }
}

/// Rows in memory, and what each is multiplied by.
pub(crate) trait Terms {
    fn count(&self) -> usize;
    fn get(&self, index: usize) -> (&[f32], f32);
}

impl Terms for [(&[f32], f32)] {
    #[inline(always)]
    fn count(&self) -> usize {
        self.len()
    }
    #[inline(always)]
    fn get(&self, index: usize) -> (&[f32], f32) {
        self[index]
    }
}

/// Adds rows times coefficients, in their order, to a row of the same width.
pub(crate) struct AddRows<'k, T: Terms + ?Sized = [(&'k [f32], f32)]> {
    pub(crate) terms: &'k T,
    pub(crate) sum: &'k mut [f32],
}

impl<T: Terms + ?Sized> Kernel for AddRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let width = self.sum.len();
        for from in (0..width).step_by(PANEL) {
            let columns = from..width.min(from + PANEL);
            match columns.len().div_ceil(16) {
                1 => self.columns::<I, 1>(isa, columns),
                2 => self.columns::<I, 2>(isa, columns),
                3 => self.columns::<I, 3>(isa, columns),
                _ => self.columns::<I, 4>(isa, columns),
            }
        }
    }
}

impl<T: Terms + ?Sized> AddRows<'_, T> {
    #[inline(always)]
    fn columns<I: Isa, const N: usize>(&mut self, isa: I, columns: Range<usize>) {
        let lanes = isa.f32();
        let length = columns.len();
        let sum = &mut self.sum[columns.clone()];
        let mut found = [lanes.splat(0.0); N];
        for n in 0..N {
            found[n] = lanes.load_or(&sum[16 * n..length.min(16 * n + 16)], 0.0);
        }
        for index in 0..self.terms.count() {
            if index + 4 < self.terms.count() {
                isa.prefetch(&self.terms.get(index + 4).0[columns.clone()]);
            }
            let (row, a) = self.terms.get(index);
            let (row, a) = (&row[columns.clone()], lanes.splat(a));
            for n in 0..N {
                let b = lanes.load_or(&row[16 * n..length.min(16 * n + 16)], 0.0);
                found[n] = lanes.mul_add(a, b, found[n]);
            }
        }
        for n in 0..N {
            lanes.store_part(found[n], &mut sum[16 * n..length.min(16 * n + 16)]);
        }
    }
}
