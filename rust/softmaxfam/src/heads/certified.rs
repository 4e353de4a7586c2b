//! The exact best classes from a matrix of low precision: candidates by error bounds, scored again.
//!
//! With w' for the stored row of a class and h' for the query that it met, a score is off by at most
//! |h| |w - w'| + |w'| |h - h'|, and what rounding adds (`dots`): the norms of each class are kept with the matrix, those of a
//! query are taken here. A class whose score plus its bound does not reach the k-th best of scores minus bounds is none of the
//! k best by exact scores; all others are scored again from the exact rows, in the order of sums that a head of f32 has, so that the
//! result is that head's to the bit.

use super::dots::TILE;
use super::linear::{Ask, Beside, LinearHead, check_length, locked, unlocked};
use super::quantize::{above, levels};
use super::state::{ScoreState, Scores};
use super::tiles::{Sweep, Tile, groups};
use super::weights::{Copied, Weights};
use crate::error::{Error, Result};
use crate::maps::topk::Top;
use crate::rows::{Rows, RowsMut};
use crate::simd::{Isa, Kernel, Lanes, Level, dispatch};
use crate::threads::{Job, for_each_piece};
use std::sync::Mutex;

/// The exact matrix of a head of low precision, and what its rounding lost.
#[derive(Clone, Copy)]
pub struct Exact<'a> {
    /// A row a class.
    pub weight: &'a Rows<'a, f32>,
    /// Of each class the norm of what rounding took from its row.
    pub lost: &'a [f32],
    /// Of each class the norm of the rounded row.
    pub kept: &'a [f32],
}

impl<'a> LinearHead<'a> {
    /// As [`LinearHead::score`] with the exact best classes and their exact scores; the normaliser stays that of the low precision.
    /// Also how many classes of each query were scored again.
    pub fn score_exactly(
        &self,
        queries: &Rows<'_, f32>,
        ask: &Ask<'a>,
        exact: &Exact<'_>,
    ) -> Result<(Scores, Vec<i64>)> {
        let (classes, width) = (self.classes(), self.weights.width());
        if ask.k > classes {
            return Err(Error::K { given: ask.k, classes });
        }
        let given = (exact.weight.rows(), exact.weight.classes());
        if given != (classes, width) {
            return Err(Error::Exact { given, needed: (classes, width) });
        }
        check_length("lost", exact.lost.len(), classes)?;
        check_length("kept", exact.kept.len(), classes)?;
        ask.check(self, queries)?;
        let mut state = ScoreState::new(ask.k, self.temperature, ask.target);
        let (mut tops, mut counts) = (Vec::new(), Vec::new());
        for group in groups(queries.rows()) {
            let sweep = Sweep::new(self, queries, group.clone(), ask);
            let uncertainty = group.clone().map(|query| self.uncertainty(queries, query)).collect();
            let found = (0..sweep.queries()).map(|_| Mutex::new(Found::new(ask.k))).collect();
            let search = Search { exact, uncertainty, level: sweep.level, found };
            self.add_group(&mut state, &sweep, 0, ask.target.map(|target| &target[group.clone()]), &search)?;
            let found = search.found;
            let listed: Vec<_> = found.into_iter().map(|found| unlocked(found).finish()).collect();
            let mut again: Vec<Vec<(f32, i64)>> = vec![Vec::new(); listed.len()];
            let job = Job {
                rows: listed.len(),
                row_cost: 0.1 * width as f64 * listed.iter().map(Vec::len).max().unwrap_or(0) as f64,
                together: 1,
                interrupt: ask.interrupt,
            };
            let weights = Weights::F32(exact.weight.clone());
            for_each_piece(job, RowsMut::from_rows(&mut again), |rows, mut again| {
                for query in rows {
                    let prepared = weights.prepared(queries, group.start + query..group.start + query + 1);
                    let mut tile = [[0.0; TILE]];
                    let score = |&class: &usize| {
                        let bias = self.bias.map(|bias| &bias[class..=class]);
                        let mut copied = Copied::default();
                        weights.scores(sweep.level, class..class + 1, &prepared, bias, &mut copied, &mut tile);
                        (tile[0][0], self.first_class as i64 + class as i64)
                    };
                    again.set(query, 0, listed[query].iter().map(score).collect());
                }
                Ok(())
            })?;
            for entries in again {
                counts.push(entries.len() as i64);
                let mut top = Top::new(ask.k);
                // a score that turns out not to be a number is no candidate
                top.entries = entries.into_iter().filter(|entry| entry.0 > f32::NEG_INFINITY).collect();
                tops.push(top.take().to_vec());
            }
        }
        state.set_tops(tops);
        Ok((state.finish()?, counts))
    }

    /// What multiplies the two norms of a class in the bound of its score's error.
    fn uncertainty(&self, queries: &Rows<'_, f32>, query: usize) -> [f32; 2] {
        let width = self.weights.width();
        let mut h = vec![0.0; width];
        queries.copy_into(query, 0, &mut h);
        let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
        let of_query = norm(&mut h.iter().map(|&x| x.into()));
        let lost = match &self.weights {
            Weights::Int8 { .. } => {
                let (scale, levels) = levels(&h);
                let scale = f64::from(scale.unwrap_or(f32::NAN));
                norm(&mut h.iter().zip(levels).map(|(&x, level)| f64::from(x) - f64::from(level) * scale))
            }
            _ => 0.0,
        };
        // of both scores: their sums, their scaling, their bias, and the arithmetic of the bound itself
        let rounding = 2.0 * (width as f64 / 16.0 + 16.0) * f64::from(f32::EPSILON) / 2.0;
        let all = of_query + lost;
        [above(of_query + rounding * all), above(lost + rounding * all)]
    }
}

/// The search of a group of queries for candidates.
struct Search<'e> {
    exact: &'e Exact<'e>,
    uncertainty: Vec<[f32; 2]>,
    level: Level,
    found: Vec<Mutex<Found>>,
}

impl Beside for Search<'_> {
    type Own = Vec<Found>;

    fn begin(&self) -> Vec<Found> {
        self.found.iter().map(|found| locked(found).begun()).collect()
    }

    fn tile(&self, own: &mut Vec<Found>, tile: &Tile<'_>) {
        let Self { exact, uncertainty, level, .. } = self;
        dispatch(*level, Bounds { tile, exact, uncertainty, found: own });
    }

    fn end(&self, own: Vec<Found>) {
        self.found.iter().zip(own).for_each(|(found, own)| locked(found).merge(own));
    }
}

/// Candidates so far: the best by their least possible scores, and all that may be among the best.
struct Found {
    least: Top<f32>,
    may: Vec<(f32, usize)>,
    prune_at: usize,
}

impl Found {
    fn new(k: usize) -> Self {
        Self { least: Top::new(k), may: Vec::new(), prune_at: 1024 }
    }

    fn begun(&self) -> Self {
        Self { least: Top { bar: self.least.bar, ..Top::new(self.least.k) }, ..Self::new(self.least.k) }
    }

    fn bar(&self) -> f32 {
        self.least.bar.unwrap_or(f32::MIN)
    }

    fn merge(&mut self, other: Self) {
        self.least.entries.extend(other.least.entries);
        self.least.select();
        let bar = self.bar();
        self.may.extend(other.may.into_iter().filter(|entry| entry.0 >= bar));
        self.prune();
    }

    fn prune(&mut self) {
        if self.may.len() > self.prune_at {
            self.least.select();
            let bar = self.bar();
            self.may.retain(|entry| entry.0 >= bar);
            self.prune_at = 2 * self.may.len().max(512);
        }
    }

    /// The classes to score again, ascending.
    fn finish(mut self) -> Vec<usize> {
        self.least.select();
        let bar = self.bar();
        let mut classes: Vec<_> = self.may.iter().filter(|entry| entry.0 >= bar).map(|entry| entry.1).collect();
        classes.sort_unstable();
        classes
    }
}

/// Scores of a tile minus and plus their bounds.
struct Bounds<'k, 't, 'e> {
    tile: &'k Tile<'t>,
    exact: &'k Exact<'e>,
    uncertainty: &'k [[f32; 2]],
    found: &'k mut [Found],
}

impl Kernel for Bounds<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { tile, exact, uncertainty, found } = self;
        let lanes = isa.f32();
        let (lost, kept) = (&exact.lost[tile.first..][..tile.count], &exact.kept[tile.first..][..tile.count]);
        let mut least = [f32::NEG_INFINITY; TILE];
        // of a score itself: the rounding of its last steps
        let relative = lanes.splat(4.0 * f32::EPSILON);
        let zero = lanes.splat(0.0);
        for ((query, found), [of_lost, of_kept]) in found.iter_mut().enumerate().zip(uncertainty) {
            let scores = tile.of(query);
            let (of_lost, of_kept) = (lanes.splat(*of_lost), lanes.splat(*of_kept));
            let mut most = [f32::NEG_INFINITY; 16];
            for at in (0..tile.count).step_by(16) {
                let to = tile.count.min(at + 16);
                let score = lanes.load_or(&scores[at..to], f32::NEG_INFINITY);
                let size = lanes.max(score, lanes.sub(zero, score));
                let bound = lanes.mul(of_lost, lanes.load_or(&lost[at..to], 0.0));
                let bound = lanes.mul_add(of_kept, lanes.load_or(&kept[at..to], 0.0), bound);
                let bound = lanes.mul_add(relative, size, bound);
                lanes.store(lanes.sub(score, bound), &mut least[at..at + 16]);
                let highest = lanes.add(score, bound); // NaN where the class is absent
                let mut bits = lanes.bits(lanes.ge(highest, lanes.splat(found.bar())));
                if bits != 0 {
                    lanes.store(highest, &mut most);
                    while bits != 0 {
                        let lane = bits.trailing_zeros() as usize;
                        found.may.push((most[lane], tile.first + at + lane));
                        bits &= bits - 1;
                    }
                }
            }
            found.least.add(isa, &least[..tile.count], tile.first);
            found.prune();
        }
    }
}
