//! The k most probable classes of each row with their log-probabilities, and logsumexp, in one read.
//!
//! Each block goes through the sum of exponentials (`expsum`) and, while it is in the first cache, past a bar: the k-th
//! largest score so far. Few scores pass it after the first blocks; they are collected, and when twice k have come the
//! best k are selected and the bar rises. Ties go to the lower class: a later score equal to the bar does not pass.
//! Error. As log_softmax; computed in f64. Cost. The read, and a comparison of a block's maximum.

use super::expsum::{Adder, CHUNK, ExpSum, Scale};
use super::logsumexp::COST;
use crate::elementary;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::rows::{BLOCK, Results, Rows, RowsMut, Source};
use crate::simd::{Element, Isa, Kernel, Lanes, LanesOf, Level, Real, dispatch};
use crate::threads::{Job, for_each_piece};

const GROUP: usize = 8;

/// The `k` largest log-probabilities of each row in descending order, ties by lower class, their classes, and logsumexp.
///
/// `log_probs` and `indices` have k classes, `logsumexp` one. Slots beyond the classes above -inf get -inf and -1; all slots of
/// an undefined row (NaN, +inf, nothing above -inf) get NaN and -1.
///
/// ```
/// use softmaxfam::{Options, Rows, RowsMut, top_log_probs};
/// let scores = [0.0_f64, 3.0, 3.0, 1.0];
/// let (mut log_probs, mut indices, mut lse) = ([0.0; 2], [0; 2], [0.0]);
/// let (mut l, mut i, mut s) =
///     (RowsMut::new(&mut log_probs, 2)?, RowsMut::new(&mut indices, 2)?, RowsMut::new(&mut lse, 1)?);
/// top_log_probs(&Rows::new(&scores, 4)?, 2, &Options::default(), &mut l, &mut i, &mut s)?;
/// assert_eq!(indices, [1, 2]);
/// assert_eq!(log_probs[0], 3.0 - lse[0]);
/// # Ok::<(), softmaxfam::Error>(())
/// ```
pub fn top_log_probs<E: Element>(
    scores: &Rows<'_, E>,
    k: usize,
    options: &Options<'_>,
    log_probs: &mut RowsMut<'_, E>,
    indices: &mut RowsMut<'_, i64>,
    logsumexp: &mut RowsMut<'_, E>,
) -> Result<()> {
    options.check(scores)?;
    let (rows, classes) = (scores.rows(), scores.classes());
    if !(1..=classes).contains(&k) {
        return Err(Error::K { given: k, classes });
    }
    log_probs.expect("log_probs", rows, k)?;
    indices.expect("indices", rows, k)?;
    logsumexp.expect("logsumexp", rows, 1)?;
    let outputs = (Results::new(log_probs), indices.reborrow(), Results::new(logsumexp));
    of_rows(Source::new(scores, options.mask), k, options, outputs)
}

/// log_probs, indices, logsumexp
type Outputs<'a, R> = (Results<'a, R>, RowsMut<'a, i64>, Results<'a, R>);

fn of_rows<R: Real>(source: Source<'_, R>, k: usize, options: &Options<'_>, mut outputs: Outputs<'_, R>) -> Result<()> {
    let (rows, classes) = (source.rows(), source.classes());
    let level = Level::active();
    let per_row = classes.div_ceil(CHUNK);
    let row_cost = 30.0 + 1.5 * COST * (classes.min(CHUNK) * size_of::<R>()) as f64;
    let job = Job { rows: rows * per_row, row_cost, together: 1, interrupt: options.interrupt };
    let scale_of = |row| Scale::new(options.temperature.of(row));
    if per_row == 1 {
        return for_each_piece(job, outputs, |rows, mut outputs| {
            let mut top = Top::new(k);
            let mut buffer = source.buffer();
            for row in rows {
                let scale = scale_of(row);
                let sum = dispatch(
                    level,
                    Chunk { source, scale, row, from: 0, to: classes, top: &mut top, buffer: &mut buffer },
                );
                write(level, &source, row, scale.temperature, sum, &mut top, &mut outputs);
            }
            Ok(())
        });
    }
    let mut parts = vec![(ExpSum::EMPTY, Vec::new()); rows * per_row];
    for_each_piece(job, RowsMut::from_rows(&mut parts), |units, mut parts| {
        let mut top = Top::new(k);
        let mut buffer = source.buffer();
        for unit in units {
            let (row, from) = (unit / per_row, unit % per_row * CHUNK);
            let to = classes.min(from + CHUNK);
            let chunk = Chunk { source, scale: scale_of(row), row, from, to, top: &mut top, buffer: &mut buffer };
            let sum = dispatch(level, chunk);
            parts.set(unit, 0, (sum, top.take().to_vec()));
        }
        Ok(())
    })?;
    let mut top = Top::new(k);
    for (row, parts) in parts.chunks(per_row).enumerate() {
        let temperature = options.temperature.of(row);
        let sum = parts.iter().fold(ExpSum::EMPTY, |sum, part| sum.merged(part.0, temperature));
        top.start();
        top.entries.extend(parts.iter().flat_map(|part| &part.1));
        write(level, &source, row, temperature, sum, &mut top, &mut outputs);
    }
    Ok(())
}

fn write<R: Real>(
    level: Level,
    source: &Source<'_, R>,
    row: usize,
    temperature: f64,
    sum: ExpSum,
    top: &mut Top<R>,
    (log_probs, indices, logsumexp): &mut Outputs<'_, R>,
) {
    let lse = sum.log_given(elementary::log_scalar(level, sum.sum), temperature);
    logsumexp.set(row, 0, lse);
    let undefined = !(lse.is_finite() || (lse == f64::NEG_INFINITY && source.is_absent(row)));
    let rest = if undefined { f64::NAN } else { f64::NEG_INFINITY };
    let listed = top.take();
    for slot in 0..indices.classes() {
        let entry = listed.get(slot).filter(|_| !undefined);
        log_probs.set(row, slot, entry.map_or(rest, |(x, _)| x.to_f64() / temperature - lse));
        indices.set(row, slot, entry.map_or(-1, |(_, class)| *class));
    }
}

/// The best scores so far, with their classes.
#[derive(Clone)]
pub(crate) struct Top<R: Real> {
    pub(crate) k: usize,
    pub(crate) entries: Vec<(R, i64)>,
    /// Entries must exceed it; of equal ones those of lower classes are kept, if classes come in their order.
    pub(crate) bar: Option<R>,
}

impl<R: Real> Top<R> {
    pub(crate) fn new(k: usize) -> Self {
        Self { k, entries: Vec::new(), bar: None }
    }

    fn start(&mut self) {
        self.entries.clear();
        self.bar = None;
    }

    /// Orders by falling score, then by rising class; there is no NaN and no -inf.
    fn before(a: &(R, i64), b: &(R, i64)) -> std::cmp::Ordering {
        b.0.to_f64().total_cmp(&a.0.to_f64()).then(a.1.cmp(&b.1))
    }

    /// Keeps the best k, and raises the bar to the last of them.
    #[cold]
    pub(crate) fn select(&mut self) {
        if (1..=self.entries.len()).contains(&self.k) {
            let (_, last, _) = self.entries.select_nth_unstable_by(self.k - 1, Self::before);
            self.bar = Some(last.0);
            self.entries.truncate(self.k);
        }
    }

    /// The best k in order.
    pub(crate) fn take(&mut self) -> &[(R, i64)] {
        self.select();
        self.entries.sort_unstable_by(Self::before);
        &self.entries
    }

    /// Lists the scores of a block that pass the bar.
    #[inline(always)]
    pub(crate) fn add<I: Isa>(&mut self, isa: I, block: &[R], first: usize) {
        let lanes = R::lanes(isa);
        let n = LanesOf::<I, R>::N;
        let mut at = first;
        let mut groups = block.chunks_exact(GROUP * n);
        for group in &mut groups {
            let bar = lanes.splat(self.bar.unwrap_or(R::NEG_INFINITY));
            let mut x = [lanes.splat(R::ZERO); GROUP];
            for (way, x) in x.iter_mut().enumerate() {
                *x = R::load(isa, &group[way * n..(way + 1) * n]);
            }
            let top = lanes.max(
                lanes.max(lanes.max(x[0], x[1]), lanes.max(x[2], x[3])),
                lanes.max(lanes.max(x[4], x[5]), lanes.max(x[6], x[7])),
            );
            if lanes.any(lanes.gt(top, bar)) {
                for way in 0..GROUP {
                    self.pass(lanes.bits(lanes.gt(x[way], bar)), &group[way * n..], at + way * n);
                }
            }
            at += GROUP * n;
        }
        for vector in groups.remainder().chunks(n) {
            let bar = lanes.splat(self.bar.unwrap_or(R::NEG_INFINITY));
            let x = R::load_or(isa, vector, R::NEG_INFINITY);
            self.pass(lanes.bits(lanes.gt(x, bar)), vector, at);
            at += n;
        }
    }

    #[inline(always)]
    fn pass(&mut self, mut bits: u32, scores: &[R], first: usize) {
        while bits != 0 {
            let lane = bits.trailing_zeros() as usize;
            self.entries.push((scores[lane], (first + lane) as i64));
            bits &= bits - 1;
        }
        if self.entries.len() >= 2 * self.k + 64 {
            self.select();
        }
    }
}

struct Chunk<'k, 'a, R: Real> {
    source: Source<'a, R>,
    scale: Scale<R>,
    row: usize,
    from: usize,
    to: usize,
    top: &'k mut Top<R>,
    buffer: &'k mut [R],
}

impl<R: Real> Kernel for Chunk<'_, '_, R> {
    type Output = ExpSum;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> ExpSum {
        let Self { source, scale, row, from, to, top, buffer } = self;
        top.start();
        let mut adder = Adder::<I, R>::new(isa, scale);
        for first in (from..to).step_by(BLOCK) {
            let block = source.block(row, first, buffer);
            let block = &block[..block.len().min(to - first)];
            let highest = adder.add_block(block);
            if top.bar.is_none_or(|bar| highest > bar.to_f64()) {
                top.add(isa, block, first);
            }
        }
        adder.sum()
    }
}
