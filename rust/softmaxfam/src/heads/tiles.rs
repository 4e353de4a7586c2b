//! The walk over a head's classes: chunks that threads share, tiles that stay in cache.
//!
//! A chunk is [`CHUNK`] classes from a multiple of that on, whatever the queries and threads; in it tiles come in the order of
//! classes. What is summed over a chunk therefore has one value, and chunks meet as `state` says.

use super::dots::{TILE, Tiles};
use super::linear::{Ask, LinearHead, check_length};
use super::weights::{Copied, Prepared};
use crate::error::{Error, Result};
use crate::rows::{BLOCK, Rows};
use crate::simd::Level;
use crate::threads::Job;
use std::ops::Range;

/// Classes that are summed together.
pub(super) const CHUNK: usize = BLOCK;
/// Queries that are served in one pass over the matrix.
pub(super) const GROUP: usize = 128;

/// One pass over a head's classes for a group of queries.
pub(super) struct Sweep<'a> {
    head: &'a LinearHead<'a>,
    pub(super) level: Level,
    queries: Prepared,
    mask: Option<&'a [u8]>,
    /// Classes that are absent for a query, in the order of classes.
    excluded: Vec<(usize, usize)>,
    interrupt: Option<&'a (dyn Fn() -> bool + Sync)>,
}

/// The scores of some classes for the queries of a sweep.
pub(super) struct Tile<'t> {
    /// The first class, counted from the head's first.
    pub(super) first: usize,
    pub(super) count: usize,
    scores: &'t Tiles,
}

impl Tile<'_> {
    /// The scores of a query.
    #[inline(always)]
    pub(super) fn of(&self, query: usize) -> &[f32] {
        &self.scores[query][..self.count]
    }
}

impl<'a> Sweep<'a> {
    /// A pass for the queries `group` of a view.
    pub(super) fn new(head: &'a LinearHead<'a>, queries: &Rows<'_, f32>, group: Range<usize>, ask: &Ask<'a>) -> Self {
        let mut excluded = Vec::new();
        if let Some((starts, classes)) = ask.exclude {
            for (query, row) in group.clone().enumerate() {
                let ids = &classes[starts[row] as usize..starts[row + 1] as usize];
                let inside = ids.iter().filter_map(|&class| head.place_of(class));
                excluded.extend(inside.map(|class| (class, query)));
            }
            excluded.sort_unstable();
            excluded.dedup();
        }
        Self {
            head,
            level: Level::active(),
            queries: head.weights.prepared(queries, group),
            mask: ask.mask,
            excluded,
            interrupt: ask.interrupt,
        }
    }

    pub(super) fn queries(&self) -> usize {
        self.queries.count()
    }

    fn classes(&self) -> usize {
        self.head.classes()
    }

    /// Chunks end where the multiples of [`CHUNK`] among all classes do: the first may be shorter.
    pub(super) fn chunks(&self) -> usize {
        (self.offset() + self.classes()).div_ceil(CHUNK)
    }

    fn offset(&self) -> usize {
        (self.head.first_class % CHUNK as u64) as usize
    }

    /// The classes of a chunk, counted from the head's first.
    pub(super) fn range(&self, chunk: usize) -> Range<usize> {
        let end = ((chunk + 1) * CHUNK - self.offset()).min(self.classes());
        (chunk * CHUNK).saturating_sub(self.offset())..end
    }

    /// The work, cut by chunks.
    pub(super) fn job(&self) -> Job<'a> {
        let (classes, queries) = (self.classes().min(CHUNK) as f64, self.queries() as f64);
        let reading = 0.05 * self.head.weights.row_bytes() as f64;
        let scoring = queries * (0.02 * self.head.weights.width() as f64 + 0.3);
        let row_cost = classes * reading.max(scoring);
        Job { rows: self.chunks(), row_cost, together: 1, interrupt: self.interrupt }
    }

    /// For each query whether it has no class in this head.
    pub(super) fn absent(&self) -> Vec<bool> {
        let is_present = |class: usize| self.mask.is_none_or(|mask| mask[class] != 0);
        let present = self.mask.map_or(self.classes(), |mask| mask.iter().filter(|&&is| is != 0).count());
        let mut left = vec![present; self.queries()];
        self.excluded.iter().filter(|&&(class, _)| is_present(class)).for_each(|&(_, query)| left[query] -= 1);
        left.into_iter().map(|left| left == 0).collect()
    }

    pub(super) fn walk(&self) -> Walk<'_> {
        Walk { sweep: self, scores: vec![[0.0; TILE]; self.queries()], copied: Copied::default() }
    }
}

/// Makes tile after tile with the same buffers.
pub(super) struct Walk<'s> {
    sweep: &'s Sweep<'s>,
    scores: Vec<[f32; TILE]>,
    copied: Copied,
}

impl Walk<'_> {
    /// The tiles of some classes in their order; absent classes score minus infinity.
    pub(super) fn tiles(&mut self, classes: Range<usize>, mut visit: impl FnMut(Tile<'_>)) {
        for first in classes.clone().step_by(TILE) {
            let count = TILE.min(classes.end - first);
            self.fill(first, count);
            visit(Tile { first, count, scores: &self.scores });
        }
    }

    fn fill(&mut self, first: usize, count: usize) {
        let Sweep { head, level, queries, mask, excluded, .. } = self.sweep;
        let mask = mask.map(|mask| &mask[first..first + count]);
        if mask.is_some_and(|mask| mask.iter().all(|&is| is == 0)) {
            return self.scores.fill([f32::NEG_INFINITY; TILE]);
        }
        let bias = head.bias.map(|bias| &bias[first..first + count]);
        head.weights.scores(*level, first..first + count, queries, bias, &mut self.copied, &mut self.scores);
        let absent = mask.into_iter().flat_map(|mask| (0..count).filter(|&class| mask[class] == 0));
        for class in absent {
            self.scores.iter_mut().for_each(|scores| scores[class] = f32::NEG_INFINITY);
        }
        let from = excluded.partition_point(|&(class, _)| class < first);
        for &(class, query) in excluded[from..].iter().take_while(|&&(class, _)| class < first + count) {
            self.scores[query][class - first] = f32::NEG_INFINITY;
        }
    }
}

/// Groups of queries that are served together.
pub(super) fn groups(queries: usize) -> impl Iterator<Item = Range<usize>> {
    (0..queries).step_by(GROUP).map(move |from| from..queries.min(from + GROUP))
}

impl<'a> Ask<'a> {
    pub(super) fn check(&self, head: &LinearHead<'_>, queries: &Rows<'_, f32>) -> Result<()> {
        let (count, classes) = (queries.rows(), head.classes());
        if queries.classes() != head.weights.width() {
            return Err(Error::Width { given: queries.classes(), needed: head.weights.width() });
        }
        self.mask.map_or(Ok(()), |mask| check_length("where", mask.len(), classes))?;
        self.target.map_or(Ok(()), |target| check_length("target", target.len(), count))?;
        if let Some((starts, ids)) = self.exclude {
            check_length("the starts of exclude", starts.len(), count + 1)?;
            let sound = starts.windows(2).all(|pair| pair[0] <= pair[1])
                && starts.first().is_none_or(|&start| start == 0)
                && starts.last().is_none_or(|&end| end == ids.len() as i64);
            if !sound {
                return Err(Error::Starts { length: ids.len() });
            }
        }
        Ok(())
    }
}
