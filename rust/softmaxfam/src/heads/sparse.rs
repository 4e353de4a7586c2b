//! entmax of a head's scores, alpha > 1: the few classes with a probability, without the scores of the others.
//!
//! Each chunk lists its candidates as `maps::entmax` does for a row (`filter`), above the best lower bound of the threshold that
//! any chunk of the query has found; what is listed in the end holds the support. Its rows are put in the order of falling scores,
//! so that the support comes first, and solved twice: for the support, then on the support alone. The result thus
//! hangs on the support only, not on the candidates beside it, which vary with threads and shards.

use super::bytes::{Reader, Writer};
use super::linear::{Ask, LinearHead, locked, unlocked};
use super::tiles::{Sweep, Tile, groups};
use crate::error::{Error, Result};
use crate::maps::entmax::filter::{Filter, State};
use crate::maps::entmax::{SparseRows, entmax_sparse, reach_of};
use crate::options::Options;
use crate::rows::Rows;
use crate::simd::{Isa, Kernel, dispatch};
use crate::threads::for_each_piece;
use std::ops::Range;
use std::sync::Mutex;

/// What some classes contribute to entmax of the scores of some queries: mergeable with what other classes do.
#[derive(Clone, Debug, PartialEq)]
pub struct EntmaxState {
    alpha: f64,
    temperature: f64,
    /// Classes looked at, in rising ranges that do not meet.
    ranges: Vec<Range<u64>>,
    queries: Vec<Candidates>,
}

/// Of one query.
#[derive(Clone, Debug, PartialEq)]
struct Candidates {
    /// Scores and classes, best first; of equal ones the lower class.
    entries: Vec<(f32, i64)>,
    undefined: bool,
    absent: bool,
}

impl<'a> LinearHead<'a> {
    /// entmax of order `alpha` > 1 of the scores, exactly: of each query the classes with a probability above 0, ascending.
    ///
    /// A support larger than `max_support` is refused. An undefined query holds NaN for each class.
    pub fn entmax(
        &self,
        queries: &Rows<'_, f32>,
        alpha: f64,
        ask: &Ask<'a>,
        max_support: Option<usize>,
    ) -> Result<SparseRows<f32>> {
        self.entmax_partial(queries, alpha, ask)?.finish(max_support)
    }

    /// What this head's classes contribute to that, to be merged with other shards.
    pub fn entmax_partial(&self, queries: &Rows<'_, f32>, alpha: f64, ask: &Ask<'a>) -> Result<EntmaxState> {
        if alpha.is_nan() || alpha <= 1.0 {
            return Err(Error::Alpha { given: alpha, above: 1.0 });
        }
        ask.check(self, queries)?;
        let reach = reach_of(alpha, self.temperature);
        let mut all = Vec::with_capacity(queries.rows());
        for group in groups(queries.rows()) {
            let sweep = Sweep::new(self, queries, group, ask);
            let found: Vec<_> = (0..sweep.queries()).map(|_| Mutex::new(Found::default())).collect();
            for_each_piece(sweep.job(), (), |chunks, ()| {
                let mut walk = sweep.walk();
                let mut filters: Vec<_> = (0..sweep.queries()).map(|_| Filter::new()).collect();
                for chunk in chunks {
                    for (filter, found) in filters.iter_mut().zip(&found) {
                        filter.start_above(reach, locked(found).bound);
                    }
                    let range = sweep.range(chunk);
                    walk.tiles(range.clone(), |tile| {
                        dispatch(sweep.level, List { filters: &mut filters, from: range.start, tile });
                    });
                    for (filter, found) in filters.iter().zip(&found) {
                        let first = self.first_class as i64 + range.start as i64;
                        locked(found).take(filter, first);
                    }
                }
                Ok(())
            })?;
            for (found, absent) in found.into_iter().map(unlocked).zip(sweep.absent()) {
                let undefined = found.undefined || (found.entries.is_empty() && !absent);
                let mut candidates = Candidates { entries: found.entries, undefined, absent };
                candidates.order();
                all.push(candidates);
            }
        }
        let range = self.numbered(0..self.classes());
        Ok(EntmaxState { alpha, temperature: self.temperature, ranges: vec![range], queries: all })
    }
}

/// What chunks found, whatever their order.
struct Found {
    entries: Vec<(f32, i64)>,
    bound: f64,
    undefined: bool,
    prune_at: usize,
}

impl Default for Found {
    fn default() -> Self {
        Self { entries: Vec::new(), bound: f64::NEG_INFINITY, undefined: false, prune_at: 256 }
    }
}

impl Found {
    fn take(&mut self, filter: &Filter<f32>, first: i64) {
        self.undefined |= filter.state() == State::Undefined;
        self.bound = self.bound.max(filter.bound());
        let listed = filter.values().iter().zip(filter.indices());
        let listed = listed.filter(|(score, _)| f64::from(**score) > self.bound);
        self.entries.extend(listed.map(|(&score, &class)| (score, first + i64::from(class))));
        if self.entries.len() > self.prune_at {
            self.entries.retain(|entry| f64::from(entry.0) > self.bound);
            self.prune_at = 2 * self.entries.len().max(128);
        }
    }
}

impl Candidates {
    fn order(&mut self) {
        self.entries.sort_unstable_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    }

    /// entmax of the candidates' scores: the places of those with a probability above 0, and these.
    fn solved(scores: &[f32], alpha: f64, temperature: f64) -> Result<SparseRows<f32>> {
        let rows = Rows::new(scores, scores.len())?;
        entmax_sparse(&rows, alpha.into(), &Options::default().temperature(temperature), None)
    }
}

impl EntmaxState {
    /// The number of queries.
    pub fn queries(&self) -> usize {
        self.queries.len()
    }

    /// This and what other classes contribute to the same queries. The order of merging changes no bit of the result.
    pub fn merge(mut self, other: Self) -> Result<Self> {
        let asked = |state: &Self| (state.queries.len(), state.alpha.to_bits(), state.temperature.to_bits());
        if asked(&self) != asked(&other) {
            return Err(Error::States);
        }
        self.ranges.extend(other.ranges);
        self.ranges.sort_by_key(|range| range.start);
        if let Some(pair) = self.ranges.windows(2).find(|pair| pair[0].end > pair[1].start) {
            return Err(Error::Overlap { class: pair[1].start });
        }
        for (one, other) in self.queries.iter_mut().zip(other.queries) {
            // a shard that is undefined only for want of a class above -inf is no more than empty beside one that has some
            let is_void = |candidates: &Candidates| candidates.undefined && candidates.entries.is_empty();
            let both_void = is_void(one) && (is_void(&other) || other.absent) || is_void(&other) && one.absent;
            let has_nan = |candidates: &Candidates| candidates.undefined && !candidates.entries.is_empty();
            one.undefined = both_void || has_nan(one) || has_nan(&other);
            one.absent &= other.absent;
            one.entries.extend(other.entries);
            one.order();
        }
        Ok(self)
    }

    /// The rows over the classes that were merged.
    pub fn finish(&self, max_support: Option<usize>) -> Result<SparseRows<f32>> {
        let (mut indptr, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
        let limit = max_support.unwrap_or(usize::MAX);
        for (row, query) in self.queries.iter().enumerate() {
            let mut listed: Vec<(i64, f32)> = if query.undefined {
                let classes = self.ranges.iter().flat_map(|range| range.clone());
                classes.map(|class| (class as i64, f32::NAN)).collect()
            } else if query.entries.is_empty() {
                Vec::new()
            } else {
                let scores: Vec<f32> = query.entries.iter().map(|entry| entry.0).collect();
                let support = Candidates::solved(&scores, self.alpha, self.temperature)?.indices.len();
                let alone = Candidates::solved(&scores[..support], self.alpha, self.temperature)?;
                let named = alone.indices.iter().zip(&alone.values);
                named.map(|(&place, &p)| (query.entries[place as usize].1, p)).collect()
            };
            let support = listed.len();
            if support > limit {
                return Err(Error::Support { row, support, limit });
            }
            listed.sort_unstable_by_key(|entry| entry.0);
            indices.extend(listed.iter().map(|entry| entry.0));
            values.extend(listed.iter().map(|entry| entry.1));
            indptr.push(indices.len() as i64);
        }
        Ok(SparseRows { indptr, indices, values })
    }
}

const FORMAT: &[u8; 8] = b"sf-entmx";

impl EntmaxState {
    /// This state for another process or machine.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Writer::new(FORMAT);
        bytes.double(self.alpha);
        bytes.double(self.temperature);
        bytes.number(self.ranges.len() as u64);
        bytes.number(self.queries.len() as u64);
        for range in &self.ranges {
            bytes.number(range.start);
            bytes.number(range.end);
        }
        for query in &self.queries {
            bytes.number(query.undefined.into());
            bytes.number(query.absent.into());
            bytes.number(query.entries.len() as u64);
            for &(score, class) in &query.entries {
                bytes.single(score);
                bytes.number(class.cast_unsigned());
            }
        }
        bytes.finish()
    }

    /// A state from what [`EntmaxState::to_bytes`] gave; anything else is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut bytes = Reader::new(FORMAT, bytes)?;
        let (alpha, temperature) = (bytes.double()?, bytes.double()?);
        let (ranges, queries) = (bytes.count(16)?, bytes.count(24)?);
        let sound = alpha > 1.0 && temperature > 0.0 && temperature.is_finite();
        let ranges: Vec<_> = (0..ranges).map(|_| Ok(bytes.number()?..bytes.number()?)).collect::<Result<_>>()?;
        let apart = ranges.windows(2).all(|pair| pair[0].end <= pair[1].start);
        if !sound || !apart || ranges.iter().any(Range::is_empty) {
            return Err(Error::Bytes);
        }
        let mut state = Self { alpha, temperature, ranges, queries: Vec::with_capacity(queries) };
        for _ in 0..queries {
            let (undefined, absent) = (bytes.number()? != 0, bytes.number()? != 0);
            let entries = (0..bytes.count(12)?).map(|_| Ok((bytes.single()?, bytes.number()?.cast_signed())));
            let mut candidates = Candidates { entries: entries.collect::<Result<_>>()?, undefined, absent };
            candidates.order();
            state.queries.push(candidates);
        }
        bytes.end()?;
        Ok(state)
    }
}

/// Lists the candidates of a tile for all queries; classes are counted from the start of the chunk.
struct List<'k, 't> {
    filters: &'k mut [Filter<f32>],
    from: usize,
    tile: Tile<'t>,
}

impl Kernel for List<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (query, filter) in self.filters.iter_mut().enumerate() {
            filter.add(isa, self.tile.of(query), self.tile.first - self.from);
        }
    }
}
