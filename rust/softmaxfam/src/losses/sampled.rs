//! Losses of a class against m classes that were drawn, from queries and class rows: only rows that were drawn are read, and only
//! their gradients exist.
//!
//! Problem. A query h, its target y and negatives x_1..x_m have scores o = <h, w> + b of a number b that the caller gives each
//! slot: the class's bias, less T times what corrects for the proposal. Sampled softmax is cross entropy of y over the m + 1
//! slots of o/T; noise-contrastive estimation and negative sampling are -log sigmoid(o_y/T) - sum_t log sigmoid(-o_t/T).
//! Method. Negatives of its own: a query at a time; its rows are read once, those of the next asked for meanwhile, and the
//! gradient of the query is made while they are in cache. Shared ones: their rows are gathered, and blocks of queries make three
//! products with them, each block's scores staying in cache. The gradient of a class is a sum over the slots that named it.
//! Order. A class of negatives of its own has one chain of fused multiply-adds over its slots in the order of queries; shared
//! ones have such a chain over the queries of a chunk, chunks meet in f64 in their order, and slots follow. Chunks hang
//! on shapes alone, so bits do not hang on threads.
//! Error. That of the chains: (terms) 2^-24 sum |g_n x_n| to first order; losses as those of scores.
//! Cost. `benches/sampled.py`.

use super::target::{Target, Wanted};
use super::{Loss, LossOptions, Reduction, computed};
use crate::elementary::two_ways;
use crate::error::{Error, Result};
use crate::heads::listed::{ListedDots, ListedRows};
use crate::heads::locked;
use crate::heads::products::{AddByRow, AddByTerm, AddRows, Panels, TOGETHER};
use crate::heads::touched::{Term, Touched};
use crate::options::{Options, PerRow};
use crate::rows::{Chunks, Places, Results, Rows, RowsMut, Source, random_access};
use crate::simd::{Isa, Kernel, Lanes, Level, dispatch};
use crate::threads::{Job, for_each_piece};
use std::sync::Mutex;

/// Queries that meet gathered rows together, at most, and the numbers that their scores have at most.
const BLOCK: usize = 128;
const SCORES: usize = 1 << 21;
/// Chunks of queries, at most, and the bytes of their sums.
const CHUNKS: usize = 16;
const SUMS: usize = 64 << 20;
/// Numbers of gathered rows that stay in the second cache beside the gradients that they meet.
const TILE: usize = 1 << 15;
/// Nanoseconds of a multiplication and addition: of products, and of rows that are named.
const PRODUCT: f64 = 0.01;
const LISTED: f64 = 0.1;
/// And of a slot besides.
const SLOT: f64 = 4.0;

/// What is made of the scores of a target and its negatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampledLoss {
    /// Cross entropy over the slots.
    Softmax,
    /// A choice of two at each slot: noise-contrastive estimation, negative sampling.
    Binary,
}

/// A target for each query, and the classes that were drawn against it; each with what is added to its score.
#[derive(Clone, Copy, Debug)]
pub struct Slots<'a> {
    /// The class of each query.
    pub target: &'a [i64],
    /// What is added to its score.
    pub of_target: &'a [f32],
    /// Classes for all queries, or as many for each.
    pub negative: &'a [i64],
    /// What is added to their scores.
    pub of_negative: &'a [f32],
    /// Whether all queries have the same negatives.
    pub is_shared: bool,
    /// Whether negatives that are the target count nothing.
    pub removes_hits: bool,
}

/// Queries, and the matrix whose rows are the classes: both row after row, of `width` numbers.
#[derive(Clone, Copy, Debug)]
pub struct SampledScores<'a> {
    /// A row for each query.
    pub queries: &'a [f32],
    /// A row for each class.
    pub weight: &'a [f32],
    /// How many numbers a row has, at least 1.
    pub width: usize,
    /// Scores are divided by it.
    pub temperature: f64,
}

/// The loss of each query into `losses`, and the gradient of their sum, each loss times its factor: that of the queries into
/// `of_queries`, of the class rows by what is returned, if it `touches` them.
///
/// ```
/// use softmaxfam::losses::{SampledLoss, SampledScores, Slots, sampled_loss};
/// let scores = SampledScores { queries: &[1.0], weight: &[0.0, 0.0, 0.0], width: 1, temperature: 1.0 };
/// let slots = Slots { target: &[0], of_target: &[0.0], negative: &[2, 1], of_negative: &[0.0; 2], is_shared: true, removes_hits: false };
/// let mut losses = [0.0; 1];
/// let touched = sampled_loss(SampledLoss::Softmax, scores, slots, None, &mut losses, None, true, None)?;
/// assert!((losses[0] - 3_f64.ln()).abs() < 1e-15);
/// assert_eq!(touched.rows, [0, 1, 2]);
/// # Ok::<(), softmaxfam::Error>(())
/// ```
#[expect(clippy::too_many_arguments, reason = "a loss, and where its parts go")]
pub fn sampled_loss(
    loss: SampledLoss,
    scores: SampledScores<'_>,
    slots: Slots<'_>,
    factors: Option<&[f64]>,
    losses: &mut [f64],
    of_queries: Option<RowsMut<'_, f32>>,
    touches: bool,
    interrupt: Option<&(dyn Fn() -> bool + Sync)>,
) -> Result<Touched> {
    let call = Call::new(loss, scores, slots, factors, interrupt)?;
    let (count, width) = (slots.target.len(), scores.width);
    if losses.len() != count {
        return Err(Error::Length { what: "losses", given: losses.len(), needed: count });
    }
    let what = "the gradient of the queries";
    let of_queries = match of_queries {
        Some(to) => {
            to.expect(what, count, width)?;
            Some(to.into_line().ok_or(Error::Contiguous { what })?)
        }
        None => None,
    };
    let label = [call.each as i64]; // the target's slot is the last
    let labels = Rows::strided(&label, 0, &[(count, 0)], &[(1, 1)])?;
    let factors = factors.map(|factors| Rows::new(factors, 1)).transpose()?;
    let mut how = LossOptions::default().reduction(Reduction::Sum);
    how = factors.as_ref().map_or(how, |factors| how.factor(PerRow::Each(factors)));
    let wanted = Wanted::new((count, call.each + 1), Target::<f32>::Classes(&labels), &how)?;
    if slots.is_shared && call.each > 0 && count > 0 {
        call.shared(&wanted, losses, of_queries, touches)
    } else {
        call.own(&wanted, losses, of_queries, touches)
    }
}

/// A call whose arguments fit.
struct Call<'a> {
    loss: SampledLoss,
    level: Level,
    scores: SampledScores<'a>,
    rows: ListedRows<'a>,
    slots: Slots<'a>,
    /// Negatives of a query.
    each: usize,
    interrupt: Option<&'a (dyn Fn() -> bool + Sync)>,
}

impl<'a> Call<'a> {
    fn new(
        loss: SampledLoss,
        scores: SampledScores<'a>,
        slots: Slots<'a>,
        factors: Option<&'a [f64]>,
        interrupt: Option<&'a (dyn Fn() -> bool + Sync)>,
    ) -> Result<Self> {
        let (count, width) = (slots.target.len(), scores.width);
        let fits = |what, given, needed| {
            if given == needed { Ok(()) } else { Err(Error::Length { what, given, needed }) }
        };
        if width == 0 {
            return Err(Error::Width { given: 0, needed: 1 });
        }
        Options::default().temperature(scores.temperature).check_shape(count, 1)?;
        let classes = scores.weight.len() / width;
        let each = if slots.is_shared { slots.negative.len() } else { slots.negative.len() / count.max(1) };
        fits("the weight", scores.weight.len(), classes * width)?;
        fits("the queries", scores.queries.len(), count * width)?;
        fits("negative", slots.negative.len(), if slots.is_shared { each } else { each * count })?;
        fits("what is added to targets", slots.of_target.len(), count)?;
        fits("what is added to negatives", slots.of_negative.len(), slots.negative.len())?;
        factors.map_or(Ok(()), |factors| fits("factors", factors.len(), count))?;
        let is_class = |&class: &i64| usize::try_from(class).is_ok_and(|class| class < classes);
        if let Some(row) = slots.target.iter().position(|class| !is_class(class)) {
            return Err(Error::Target { query: row, given: slots.target[row] });
        }
        if let Some(&given) = slots.negative.iter().find(|class| !is_class(class)) {
            return Err(Error::Class { given, classes });
        }
        let rows = ListedRows { numbers: scores.weight, width };
        Ok(Self { loss, level: Level::active(), scores, rows, slots, each, interrupt })
    }

    fn query(&self, query: usize) -> &'a [f32] {
        &self.scores.queries[query * self.scores.width..][..self.scores.width]
    }

    /// Where the negatives of a query are.
    fn negatives(&self, query: usize) -> std::ops::Range<usize> {
        let from = if self.slots.is_shared { 0 } else { query * self.each };
        from..from + self.each
    }

    /// Makes of the scores of a query's slots its loss, and their gradients in their place if there is room for them.
    fn reduce(&self, wanted: &Wanted<'_>, query: usize, scores: &mut [f32], gradient: &mut [f32]) -> Result<f64> {
        let temperature = self.scores.temperature;
        if self.loss == SampledLoss::Binary {
            let factor = wanted.factor(query);
            return Ok(dispatch(self.level, ChoicesOfTwo { scores, temperature, factor }));
        }
        let (slots, mut loss) = (scores.len(), [0.0]);
        let source = Rows::new(scores, slots)?;
        let mut dense = RowsMut::new(gradient, slots)?;
        let dense = (dense.rows() > 0).then(|| Results::new(&mut dense));
        let options = Options::default().temperature(temperature);
        let kind = Loss::CrossEntropy;
        computed(kind, Source::new(&source, None), &wanted.starting_at(query), &options, &mut loss, dense, None)?;
        if !gradient.is_empty() {
            scores.copy_from_slice(gradient);
        }
        Ok(loss[0])
    }

    /// Queries that have their negatives for themselves.
    fn own(
        &self,
        wanted: &Wanted<'_>,
        losses: &mut [f64],
        of_queries: Option<&mut [f32]>,
        touches: bool,
    ) -> Result<Touched> {
        let Slots { target, of_target, negative, of_negative, removes_hits, .. } = self.slots;
        let (count, width, slots) = (target.len(), self.scores.width, self.each + 1);
        let asks = touches || of_queries.is_some();
        let mut slopes = vec![0.0; count * slots];
        let outputs = (
            RowsMut::from_rows(losses),
            of_queries.map(|to| RowsMut::new(to, width)).transpose()?,
            RowsMut::new(&mut slopes, slots)?,
        );
        let row_cost = slots as f64 * (2.0 * LISTED * width as f64 + SLOT);
        let job = Job { rows: count, row_cost, together: 1, interrupt: self.interrupt };
        for_each_piece(job, outputs, |queries, (mut losses, mut of_queries, mut slopes)| {
            let (rows, mut named, mut plus, mut terms) = (self.rows, Vec::new(), Vec::new(), Vec::new());
            let mut gradient = vec![0.0; if asks { slots } else { 0 }];
            for query in queries.clone() {
                let mine = self.negatives(query);
                named.clear();
                named.extend_from_slice(&negative[mine.clone()]);
                named.push(target[query]);
                plus.clear();
                plus.extend_from_slice(&of_negative[mine]);
                plus.push(of_target[query]);
                let next = if query + 1 < queries.end { self.negatives(query + 1) } else { 0..0 };
                let next = &negative[next.start..next.end.min(next.start + 16)];
                let (h, scores) = (self.query(query), slopes.place(query, 0, slots, &mut []));
                dispatch(self.level, ListedDots { rows, h, named: &named, next, plus: &plus, scores });
                if removes_hits {
                    let hits =
                        named[..self.each].iter().zip(&mut *scores).filter(|(class, _)| **class == target[query]);
                    hits.for_each(|(_, score)| *score = f32::NEG_INFINITY);
                }
                losses.set(query, 0, self.reduce(wanted, query, scores, &mut gradient)?);
                if let Some(to) = &mut of_queries {
                    terms.clear();
                    terms.extend(named.iter().zip(&*scores).map(|(&class, &g)| (rows.row(class as usize), g)));
                    let sum = to.place(query, 0, width, &mut []);
                    sum.fill(0.0);
                    dispatch(self.level, AddRows { terms: &terms[..], sum });
                }
            }
            Ok(())
        })?;
        if !touches {
            return Ok(Touched::default());
        }
        let mut terms = Vec::with_capacity(slopes.len());
        for (query, slopes) in slopes.chunks_exact(slots).enumerate() {
            let named = negative[self.negatives(query)].iter().chain([&target[query]]);
            terms.extend(named.zip(slopes).map(|(&class, &slope)| Term::new(class as usize, query, slope)));
        }
        Ok(Touched::new(terms, Vec::new()))
    }

    /// Queries that share their negatives.
    fn shared(
        &self,
        wanted: &Wanted<'_>,
        losses: &mut [f64],
        of_queries: Option<&mut [f32]>,
        touches: bool,
    ) -> Result<Touched> {
        let Slots { target, of_target, negative, of_negative, removes_hits, .. } = self.slots;
        let (count, width, each) = (target.len(), self.scores.width, self.each);
        let asks = touches || of_queries.is_some();
        let mut rows = vec![0.0; each * width];
        for (place, &class) in rows.chunks_exact_mut(width).zip(negative) {
            place.copy_from_slice(self.rows.row(class as usize));
        }
        let pitch = (each + TOGETHER).next_multiple_of(16) + 16; // so that rows do not share places of the caches
        let mut across = Panels::default(); // a row for each number of queries, a column for each slot
        across.pack(width, pitch, |number, from, place| {
            place.fill(0.0);
            let slots = rows.chunks_exact(width).skip(from);
            place.iter_mut().zip(slots).for_each(|(place, row)| *place = row[number]);
        });
        let tile = (TILE / width).clamp(8 * TOGETHER, 96 * TOGETHER) / TOGETHER * TOGETHER;
        let packed = |numbers: &[f32], rows: usize| {
            let mut panels = Panels::default();
            panels.pack(rows, width, |row, from, place| {
                place.copy_from_slice(&numbers[row * width + from..][..place.len()]);
            });
            panels
        };
        let tiles: Vec<_> = rows.chunks(tile * width).map(|numbers| packed(numbers, numbers.len() / width)).collect();
        let spare = Mutex::new(Vec::new()); // of pieces that ended
        let mut hits: Vec<_> = negative.iter().copied().zip(0..).filter(|_| removes_hits).collect();
        hits.sort_unstable();

        let block = (SCORES / pitch).clamp(1, BLOCK);
        let most = (SUMS / (size_of::<f32>() * each * width)).clamp(2, CHUNKS);
        let chunk = count.div_ceil(block).div_ceil(most) * block;
        let chunks = count.div_ceil(chunk);
        let mut of_targets = vec![0.0; count];
        let mut of_rows = random_access(if touches { chunks * each * width } else { 0 });
        let mut of_biases = vec![0.0; if touches { chunks * each } else { 0 }];
        let into = (
            Chunks::new(RowsMut::new(losses, count)?, chunk),
            Chunks::new(RowsMut::new(&mut of_targets, count)?, chunk),
            match of_queries {
                Some(to) => Some(Chunks::new(RowsMut::new(to, count * width)?, chunk * width)),
                None => None,
            },
        );
        let sums = (RowsMut::new(&mut of_rows, each * width)?, RowsMut::new(&mut of_biases, each)?);
        let row_cost = PRODUCT * (3 * chunk * each * width) as f64;
        let job = Job { rows: chunks, row_cost, together: 1, interrupt: self.interrupt };
        for_each_piece(job, (into, touches.then_some(sums)), |pieces, (into, mut sums)| {
            let (mut losses, mut of_targets, mut of_queries) = into;
            let mut kept: Vec<f32> = locked(&spare).pop().unwrap_or_default();
            kept.resize(block * pitch, 0.0);
            let mut gradient = vec![0.0; if asks { each + 1 } else { 0 }];
            for at in pieces {
                let end = count.min((at + 1) * chunk);
                for from in (at * chunk..end).step_by(block) {
                    let queries = from..end.min(from + block);
                    let numbers = &self.scores.queries[from * width..queries.end * width];
                    for scores in kept.chunks_mut(pitch).take(queries.len()) {
                        scores[..each].copy_from_slice(of_negative);
                        scores[each..].fill(0.0);
                    }
                    let scores = &mut kept[..queries.len() * pitch];
                    dispatch(self.level, AddByRow { coefficients: numbers, pitch: width, rows: &across, sums: scores });
                    for (query, scores) in queries.clone().zip(kept.chunks_mut(pitch)) {
                        let (named, plus) = (&target[query..=query], &of_target[query..=query]);
                        let next = &target[query + 1..queries.end.min(query + 2)];
                        let (h, slot) = (self.query(query), &mut scores[each..=each]);
                        dispatch(self.level, ListedDots { rows: self.rows, h, named, next, plus, scores: slot });
                        let first = hits.partition_point(|&(class, _)| class < target[query]);
                        for &(_, slot) in hits[first..].iter().take_while(|&&(class, _)| class == target[query]) {
                            scores[slot] = f32::NEG_INFINITY;
                        }
                        let loss = self.reduce(wanted, query, &mut scores[..=each], &mut gradient)?;
                        losses.place(at, query, query + 1, &mut [])[0] = loss;
                        of_targets.place(at, query, query + 1, &mut [])[0] = scores[each];
                    }
                    if let Some(to) = &mut of_queries {
                        let sums = to.place(at, from * width, queries.end * width, &mut []);
                        sums.fill(0.0);
                        for (rows, from) in tiles.iter().zip((0..).step_by(tile)) {
                            dispatch(self.level, AddByRow { coefficients: &kept[from..], pitch, rows, sums });
                        }
                        for ((query, sum), scores) in
                            queries.clone().zip(sums.chunks_mut(width)).zip(kept.chunks(pitch))
                        {
                            let terms = [(self.rows.row(target[query] as usize), scores[each])];
                            dispatch(self.level, AddRows { terms: &terms[..], sum });
                        }
                    }
                    let Some((of_rows, of_biases)) = &mut sums else { continue };
                    let rows = &packed(numbers, queries.len());
                    let of_rows = of_rows.place(at, 0, each * width, &mut []);
                    for (sums, from) in of_rows.chunks_mut(tile * width).zip((0..).step_by(tile)) {
                        let coefficients = &kept[from..];
                        dispatch(self.level, AddByTerm { coefficients, pitch, rows, sums, ahead: &[] });
                    }
                    let of_biases = of_biases.place(at, 0, each, &mut []);
                    for scores in kept.chunks(pitch).take(queries.len()) {
                        of_biases.iter_mut().zip(scores).for_each(|(sum, &g)| *sum += f64::from(g));
                    }
                }
            }
            locked(&spare).push(kept);
            Ok(())
        })?;
        if !touches {
            return Ok(Touched::default());
        }
        self.merged(&of_targets, &of_rows, &of_biases)
    }

    /// Brings the sums of chunks, and the gradients of targets, to classes.
    fn merged(&self, of_targets: &[f32], of_rows: &[f32], of_biases: &[f64]) -> Result<Touched> {
        let (each, width, count) = (self.each, self.scores.width, of_targets.len());
        let mut sums = vec![0.0; each * width];
        let row_cost = LISTED * (of_rows.len() / each) as f64;
        let job = Job { rows: each, row_cost, together: 1, interrupt: self.interrupt };
        for_each_piece(job, RowsMut::new(&mut sums, width)?, |slots, mut sums| {
            for slot in slots {
                let sum = sums.place(slot, 0, width, &mut []);
                dispatch(self.level, SumOfChunks { numbers: &of_rows[slot * width..], pitch: each * width, sum });
            }
            Ok(())
        })?;
        let of_target = |(query, &slope)| Term::new(self.slots.target[query] as usize, query, slope);
        let mut terms: Vec<_> = of_targets.iter().enumerate().map(of_target).collect();
        for (slot, &class) in self.slots.negative.iter().enumerate() {
            let bias = of_biases.chunks_exact(each).map(|biases| biases[slot]).sum::<f64>();
            terms.push(Term::of_sum(class as usize, count + slot, bias as f32));
        }
        Ok(Touched::new(terms, sums))
    }
}

/// The sum of -log sigmoid of the last score and -log sigmoid of the others' negatives, over the temperature; the slopes, times a
/// factor, in place of the scores.
struct ChoicesOfTwo<'k> {
    scores: &'k mut [f32],
    temperature: f64,
    factor: f64,
}

impl Kernel for ChoicesOfTwo<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f64 {
        let (singles, doubles) = (isa.f32(), isa.f64());
        let (temperature, factor) = (doubles.splat(self.temperature), doubles.splat(-self.factor / self.temperature));
        let mut left = self.scores.len();
        let mut cost = 0.0;
        for scores in self.scores.chunks_mut(16) {
            let mut signs = [-1.0; 16];
            if left <= 16 {
                signs[left - 1] = 1.0;
            }
            left -= scores.len();
            let signs = singles.load(&signs);
            let halves = isa.widen(singles.mul(singles.load_or(scores, 0.0), signs));
            let (mut slopes, mut costs) = (halves, [0.0; 16]);
            for half in 0..2 {
                let [_, down, part] = two_ways(doubles, doubles.div(halves[half], temperature));
                doubles.store(down, &mut costs[8 * half..]);
                slopes[half] = doubles.mul(part, factor);
            }
            singles.store_part(singles.mul(isa.narrow(slopes), signs), scores);
            for cost_of_slot in &costs[..scores.len()] {
                cost += cost_of_slot;
            }
        }
        cost
    }
}

/// Numbers of a chunk, and those of the next `pitch` behind: their sums in f64, rounded once.
struct SumOfChunks<'k> {
    numbers: &'k [f32],
    pitch: usize,
    sum: &'k mut [f32],
}

impl Kernel for SumOfChunks<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (singles, doubles) = (isa.f32(), isa.f64());
        for (sum, from) in self.sum.chunks_mut(16).zip((0..).step_by(16)) {
            let mut total = [doubles.splat(0.0); 2];
            for numbers in self.numbers[from..].chunks(self.pitch) {
                let halves = isa.widen(singles.load_or(&numbers[..sum.len()], 0.0));
                for half in 0..2 {
                    total[half] = doubles.add(total[half], halves[half]);
                }
            }
            singles.store_part(isa.narrow(total), sum);
        }
    }
}
