//! The linear head: scores h W^T + b of all classes, of which only what is asked for leaves the cache.

use super::state::{Nodes, ScoreState, Scores};
use super::tiles::{Sweep, Tile, groups};
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::maps::expsum::{Adder, ExpSum, Paused, Scale};
use crate::maps::topk::Top;
use crate::rows::{Bands, Rows, RowsMut};
use crate::simd::{Isa, Kernel, dispatch};
use crate::threads::for_each_piece;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

/// Rows of codes may be so long: 255 * 127 times it is the largest sum, which must fit in i32.
const LONGEST_OF_CODES: usize = 1 << 16;

/// Scores of classes: the rows of a matrix by a query, a bias a class, over a temperature.
///
/// ```
/// use softmaxfam::Rows;
/// use softmaxfam::heads::{Ask, LinearHead, Weights};
/// let weight = [1.0_f32, 0.0, 0.0, 1.0, 1.0, 1.0]; // three classes of two numbers
/// let head = LinearHead::new(Weights::F32(Rows::new(&weight, 2)?))?;
/// let found = head.score(&Rows::new(&[0.0, 2.0], 2)?, &Ask::top(2))?;
/// assert_eq!(found.indices, [1, 2]);
/// assert_eq!(found.log_probs[0], found.log_probs[1]);
/// # Ok::<(), softmaxfam::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LinearHead<'a> {
    pub(super) weights: Weights<'a>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) temperature: f64,
    pub(super) first_class: u64,
}

/// What is asked of a head.
#[derive(Clone, Copy, Default)]
pub struct Ask<'a> {
    pub(super) k: usize,
    pub(super) target: Option<&'a [i64]>,
    pub(super) mask: Option<&'a [u8]>,
    pub(super) exclude: Option<(&'a [i64], &'a [i64])>,
    pub(super) interrupt: Option<&'a (dyn Fn() -> bool + Sync)>,
}

impl<'a> Ask<'a> {
    /// The `k` most probable classes of each query; 0 for the normaliser alone.
    pub fn top(k: usize) -> Self {
        Self { k, ..Self::default() }
    }

    /// A class for each query, whose log-probability is wanted too.
    pub fn target(self, target: &'a [i64]) -> Self {
        Self { target: Some(target), ..self }
    }

    /// A truth value for each class of the head: where it is 0 the class is absent.
    pub fn mask(self, mask: &'a [u8]) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// Classes that are absent for one query: those of query q are `classes[starts[q]..starts[q + 1]]`.
    pub fn exclude(self, starts: &'a [i64], classes: &'a [i64]) -> Self {
        Self { exclude: Some((starts, classes)), ..self }
    }

    /// Asked now and then, from any thread, whether to stop with [`Error::Interrupted`].
    pub fn interrupt(self, interrupt: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { interrupt: Some(interrupt), ..self }
    }
}

impl<'a> LinearHead<'a> {
    /// A head without bias, at temperature 1.
    pub fn new(weights: Weights<'a>) -> Result<Self> {
        let classes = weights.classes();
        if classes == 0 || classes > u32::MAX as usize {
            return Err(Error::Classes { given: classes });
        }
        if let Weights::Int8 { scales, .. } = &weights {
            check_length("scales", scales.len(), classes)?;
            if weights.width() > LONGEST_OF_CODES {
                return Err(Error::Codes { width: weights.width(), longest: LONGEST_OF_CODES });
            }
        }
        Ok(Self { weights, bias: None, temperature: 1.0, first_class: 0 })
    }

    /// One number a class, added to its score.
    pub fn bias(self, bias: &'a [f32]) -> Result<Self> {
        check_length("bias", bias.len(), self.classes())?;
        Ok(Self { bias: Some(bias), ..self })
    }

    /// Scores are divided by this: finite and > 0.
    pub fn temperature(self, temperature: f64) -> Result<Self> {
        let sound = temperature > 0.0 && temperature.is_finite();
        if sound { Ok(Self { temperature, ..self }) } else { Err(Error::Temperature { given: temperature }) }
    }

    /// The number of the first class, where the head is a shard of a larger one.
    pub fn first_class(self, first_class: u64) -> Self {
        Self { first_class, ..self }
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.weights.classes()
    }

    /// Where a class stands in this head.
    pub(super) fn place_of(&self, class: i64) -> Option<usize> {
        let place = usize::try_from(class.checked_sub(self.first_class as i64)?).ok()?;
        (place < self.classes()).then_some(place)
    }

    /// The most probable classes of each query with their log-probabilities, in one pass over the matrix.
    ///
    /// Queries are rows as long as those of the matrix. `k` may be 0 and at most the number of classes; a target must be one
    /// of the head's classes.
    pub fn score(&self, queries: &Rows<'_, f32>, ask: &Ask<'a>) -> Result<Scores> {
        if ask.k > self.classes() {
            return Err(Error::K { given: ask.k, classes: self.classes() });
        }
        self.partial(queries, ask)?.finish()
    }

    /// What this head's classes contribute, to be merged with other shards. `k` may exceed the number of its classes.
    pub fn partial(&self, queries: &Rows<'_, f32>, ask: &Ask<'a>) -> Result<ScoreState> {
        ask.check(self, queries)?;
        let mut state = ScoreState::new(ask.k, self.temperature, ask.target);
        for group in groups(queries.rows()) {
            let sweep = Sweep::new(self, queries, group.clone(), ask);
            self.add_group(&mut state, &sweep, ask.k, ask.target.map(|target| &target[group]), &())?;
        }
        Ok(state)
    }

    /// Adds the queries of a sweep to a state, with the `k` best of each; whoever is `beside` sees the tiles too.
    pub(super) fn add_group<B: Beside>(
        &self,
        state: &mut ScoreState,
        sweep: &Sweep<'_>,
        k: usize,
        targets: Option<&[i64]>,
        beside: &B,
    ) -> Result<()> {
        let (sums, found) = self.absorbed(sweep, k, targets, beside)?;
        let mut nodes = Nodes::default();
        for (chunk, sums) in sums.into_iter().enumerate() {
            nodes.push(self.numbered(sweep.range(chunk)), sums, self.temperature);
        }
        let found = found.into_iter().map(|mut found| (found.top.take().to_vec(), found.target));
        state.add_queries(nodes, sweep.absent(), found);
        Ok(())
    }

    /// The numbers, among all classes, of some of this head.
    pub(super) fn numbered(&self, range: Range<usize>) -> Range<u64> {
        self.first_class + range.start as u64..self.first_class + range.end as u64
    }

    /// For each chunk the sums of all queries, and for each query what was found in all chunks.
    pub(super) fn absorbed<B: Beside>(
        &self,
        sweep: &Sweep<'_>,
        k: usize,
        targets: Option<&[i64]>,
        beside: &B,
    ) -> Result<(Vec<Vec<ExpSum>>, Vec<Found>)> {
        let found: Vec<_> = (0..sweep.queries()).map(|_| Mutex::new(Found::new(k))).collect();
        let mut sums = vec![Vec::new(); sweep.chunks()];
        for_each_piece(sweep.job(), RowsMut::from_rows(&mut sums), |chunks, mut sums| {
            let mut walk = sweep.walk();
            for chunk in chunks {
                let (mut progress, mut own) = (Progress::new(&found), beside.begin());
                walk.tiles(sweep.range(chunk), |tile| {
                    beside.tile(&mut own, &tile);
                    progress.pick(self, &tile, targets);
                    dispatch(sweep.level, Absorb { tile, temperature: self.temperature, progress: &mut progress });
                });
                beside.end(own);
                progress.share(self, &found);
                sums.set(chunk, 0, progress.sums.iter().map(|paused| paused.state).collect());
            }
            Ok(())
        })?;
        Ok((sums, found.into_iter().map(unlocked).collect()))
    }

    /// All scores over the temperature, a row a query, for those who want them.
    pub fn logits(&self, queries: &Rows<'_, f32>, ask: &Ask<'a>, out: &mut RowsMut<'_, f32>) -> Result<()> {
        ask.check(self, queries)?;
        out.expect("out", queries.rows(), self.classes())?;
        for group in groups(queries.rows()) {
            let sweep = Sweep::new(self, queries, group.clone(), ask);
            let bands = Bands::new(out.reborrow(), (0..sweep.chunks()).map(|chunk| sweep.range(chunk)).collect());
            for_each_piece(sweep.job(), bands, |chunks, mut out| {
                let mut walk = sweep.walk();
                for chunk in chunks {
                    walk.tiles(sweep.range(chunk), |tile| {
                        for (query, row) in group.clone().enumerate() {
                            let scores = tile.of(query).iter();
                            if self.temperature == 1.0 {
                                out.write(chunk, row, tile.first, scores.copied());
                                continue;
                            }
                            let over = |&x: &f32| (f64::from(x) / self.temperature) as f32;
                            out.write(chunk, row, tile.first, scores.map(over));
                        }
                    });
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

pub(super) fn check_length(what: &'static str, given: usize, needed: usize) -> Result<()> {
    if given == needed { Ok(()) } else { Err(Error::Length { what, given, needed }) }
}

/// Who looks at the tiles of a pass beside those who sum them, chunk by chunk.
pub(super) trait Beside: Sync {
    /// What a chunk under way holds.
    type Own;
    fn begin(&self) -> Self::Own;
    fn tile(&self, own: &mut Self::Own, tile: &Tile<'_>);
    fn end(&self, own: Self::Own);
}

impl Beside for () {
    type Own = ();
    fn begin(&self) {}
    fn tile(&self, (): &mut (), _: &Tile<'_>) {}
    fn end(&self, (): ()) {}
}

/// What is known of a query, shared by threads.
pub(super) struct Found {
    pub(super) top: Top<f32>,
    target: Option<f32>,
}

impl Found {
    fn new(k: usize) -> Self {
        Self { top: Top::new(k), target: None }
    }
}

pub(super) fn unlocked<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// One chunk under way: for each query its sum, and what may be among the best.
struct Progress {
    sums: Vec<Paused>,
    tops: Vec<Top<f32>>,
    targets: Vec<(usize, f32)>,
}

impl Progress {
    /// Starts from what all chunks so far found. They need not have come in order, so a score equal to the last of the best
    /// still counts.
    fn new(found: &[Mutex<Found>]) -> Self {
        let begun = |found: &Mutex<Found>| {
            let top = &locked(found).top;
            Top { bar: top.bar.map(f32::next_down), ..Top::new(top.k) }
        };
        Self { sums: vec![Paused::START; found.len()], tops: found.iter().map(begun).collect(), targets: Vec::new() }
    }

    /// The scores of targets in a tile.
    fn pick(&mut self, head: &LinearHead<'_>, tile: &Tile<'_>, targets: Option<&[i64]>) {
        for (query, &target) in targets.into_iter().flatten().enumerate() {
            if let Some(place) = head.place_of(target)
                && (tile.first..tile.first + tile.count).contains(&place)
            {
                self.targets.push((query, tile.of(query)[place - tile.first]));
            }
        }
    }

    fn share(&mut self, head: &LinearHead<'_>, found: &[Mutex<Found>]) {
        for (top, found) in self.tops.iter_mut().zip(found).filter(|(top, _)| !top.entries.is_empty()) {
            let mut found = locked(found);
            let named = |&(score, place)| (score, place + head.first_class as i64);
            found.top.entries.extend(top.entries.iter().map(named));
            found.top.select();
        }
        for &(query, score) in &self.targets {
            locked(&found[query]).target = Some(score);
        }
    }
}

/// Adds a tile to the sums of all queries, and lists what may be among the best.
struct Absorb<'k, 't> {
    tile: Tile<'t>,
    temperature: f64,
    progress: &'k mut Progress,
}

impl Kernel for Absorb<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { tile, temperature, progress } = self;
        let scale = Scale::new(temperature);
        for (query, (sum, top)) in progress.sums.iter_mut().zip(&mut progress.tops).enumerate() {
            let scores = tile.of(query);
            let mut adder = Adder::<I, f32>::resumed(isa, scale, *sum);
            let highest = adder.add_block(scores);
            *sum = adder.paused();
            if top.k > 0 && top.bar.is_none_or(|bar| highest > bar.into()) {
                top.add(isa, scores, tile.first);
            }
        }
    }
}
