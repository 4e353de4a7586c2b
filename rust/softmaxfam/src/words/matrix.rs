//! Rows of numbers that many read at a time and few write to: dealt out to shards, each behind a lock.

use crate::rows::random_access;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Shards of rows, each written by one thread at a time; chunks of a block, too.
pub(super) const SHARDS: usize = 16;

/// Sixteen numbers of a row: the lanes of a vector.
pub(super) type Line = [f32; 16];

/// Rows padded with zeros to whole lines. Row i is row i / SHARDS of shard i % SHARDS, so that frequent words, which have low
/// numbers, lie in all shards.
#[derive(Debug)]
pub(super) struct Matrix {
    shards: Vec<RwLock<Vec<Line>>>,
    lines: usize,
    width: usize,
}

/// All shards, to read.
pub(super) struct Held<'a>(Vec<RwLockReadGuard<'a, Vec<Line>>>, usize);

/// The same, for kernels.
pub(super) struct View<'a> {
    shards: [&'a [Line]; SHARDS],
    pub(super) lines: usize,
}

impl Matrix {
    pub(super) fn new(rows: usize, width: usize) -> Self {
        let lines = width.div_ceil(16);
        let shard = |shard| RwLock::new(random_access((rows + SHARDS - 1 - shard) / SHARDS * lines));
        Self { shards: (0..SHARDS).map(shard).collect(), lines, width }
    }

    pub(super) fn lines(&self) -> usize {
        self.lines
    }

    pub(super) fn read(&self) -> Held<'_> {
        Held(self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner)).collect(), self.lines)
    }

    pub(super) fn write(&self, shard: usize) -> RwLockWriteGuard<'_, Vec<Line>> {
        self.shards[shard].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies all rows, of the width without padding, from or to `rows`.
    pub(super) fn copy_from(&mut self, rows: &[f32]) {
        let (lines, width) = (self.lines, self.width);
        for (index, row) in rows.chunks_exact(width).enumerate() {
            let shard = self.shards[index % SHARDS].get_mut().unwrap_or_else(PoisonError::into_inner);
            shard[index / SHARDS * lines..][..lines].as_flattened_mut()[..width].copy_from_slice(row);
        }
    }

    pub(super) fn copy_to(&self, rows: &mut [f32]) {
        let held = self.read();
        let view = held.view();
        for (index, row) in (0..).zip(rows.chunks_exact_mut(self.width)) {
            row.copy_from_slice(&view.row(index).as_flattened()[..self.width]);
        }
    }
}

impl Held<'_> {
    pub(super) fn view(&self) -> View<'_> {
        View { shards: std::array::from_fn(|shard| &**self.0[shard]), lines: self.1 }
    }
}

impl<'a> View<'a> {
    #[inline(always)]
    pub(super) fn row(&self, id: u32) -> &'a [Line] {
        let id = id as usize;
        &self.shards[id % SHARDS][id / SHARDS * self.lines..][..self.lines]
    }
}
