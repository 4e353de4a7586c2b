//! Draws from softmax of rows of scores, without a normalised copy.
//!
//! Problem. m classes of each row from p_i = exp(x_i / T) / sum, for rows of 1e5 to 1e7 scores. Noise for each score (the
//! Gumbel-max trick) costs several times the reading of the row.
//! Method, with replacement. One log-sum-exp pass keeps the sum of each block of [`BLOCK`] classes. A word picks a place in
//! the sums, and what is left of it a place in the one block, which is opened: its terms are computed again.
//! Without replacement. The m largest of x_i / T + Gumbel_i, from the top down: the maximum of such keys over a block is
//! log-sum-exp of the block plus a Gumbel number. Given the maximum of a set, the keys of its parts are free ones bent below it
//! (Maddison, Tarlow, Minka 2014; Kool, van Hoof, Welling 2019, appendix B): with Z the largest free key and K the maximum,
//! v = K - free + log1p(-exp(free - Z)), key = K - max(v, 0) - log1p(exp(-|v|)). Blocks, then parts of [`PART`] classes, then classes
//! are opened while their maximum passes the (m + 1)-th largest key so far, which in the end is the threshold.
//! Error. Block sums are those of `expsum` (relative 1e-7 in f32); everything else is f64. Cost. The pass, and a block a draw.

use super::philox::{Noise, Purpose, WORDS, unit};
use super::race::{exponentials, log_exponentials};
use super::stream::Stream;
use crate::elementary::{self, Window, log_scalar};
use crate::error::{Error, Result};
use crate::maps::expsum::{ExpSum, Scale};
use crate::maps::logsumexp::{COST, Chunk, logs_of};
use crate::options::Options;
use crate::rows::{BLOCK, Rows, RowsMut, Source};
use crate::simd::{Element, Isa, Kernel, Lanes, Level, Real, dispatch};
use crate::threads::{Job, for_each_piece};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Classes of a part of a block: a multiple of the words made at a time.
const PART: usize = 256;
/// Words that belong to the parts of a block: part of the promise of streams.
const PART_WORDS: usize = 32;
const _: () = assert!(BLOCK / PART <= WORDS && WORDS <= PART_WORDS); // one group of words serves a block
/// Time of opening a block, ns: for cutting work.
pub(crate) const OPENING: f64 = 1e4;

/// Draws classes of each row from softmax(scores / T) into `ids`, and their log-probabilities into `logq`.
///
/// Both have as many rows as the scores, and a class for each draw. With `thresholds`, a view of one class, the draws are without
/// replacement, in the order of their keys, and the threshold key of each row is written there. A row that is undefined (NaN,
/// +inf, nothing above -inf) gets class -1 and NaN; slots beyond the classes above -inf get -1 and -inf.
pub fn sample_scores<E: Element>(
    scores: &Rows<'_, E>,
    stream: Stream,
    options: &Options<'_>,
    ids: &mut RowsMut<'_, i64>,
    logq: &mut RowsMut<'_, f32>,
    thresholds: Option<&mut RowsMut<'_, f32>>,
) -> Result<()> {
    options.check(scores)?;
    let (rows, classes, count) = (scores.rows(), scores.classes(), ids.classes());
    ids.expect("ids", rows, count)?;
    logq.expect("logq", rows, count)?;
    if let Some(thresholds) = &thresholds {
        thresholds.expect("thresholds", rows, 1)?;
        if count > classes {
            return Err(Error::Unique { row: 0, asked: count, available: classes });
        }
    }
    let noise = stream.words(if thresholds.is_some() { rows } else { rows * count })?;
    let outputs = ((ids.reborrow(), logq.reborrow()), thresholds.map(|thresholds| thresholds.reborrow()));
    of_rows(Source::new(scores, options.mask), noise, options, outputs)
}

/// ids and logq, thresholds
type Outputs<'a> = ((RowsMut<'a, i64>, RowsMut<'a, f32>), Option<RowsMut<'a, f32>>);

fn of_rows<R: Real>(
    source: Source<'_, R>,
    (noise, first): (Noise, u64),
    options: &Options<'_>,
    outputs: Outputs<'_>,
) -> Result<()> {
    let (rows, classes, count) = (source.rows(), source.classes(), outputs.0.0.classes());
    let level = Level::active();
    let sums = block_sums(level, source, options)?;
    let per_row = classes.div_ceil(BLOCK);
    let row_cost = OPENING * per_row.min(count + 1) as f64;
    let job = Job { rows, row_cost, together: 1, interrupt: options.interrupt };
    for_each_piece(job, outputs, |rows, ((mut ids, mut logq), mut thresholds)| {
        let mut buffer = source.buffer();
        for row in rows {
            let temperature = options.temperature.of(row);
            let sums = &sums[row * per_row..(row + 1) * per_row];
            let block = |block: usize, into: &mut Vec<f64>| {
                into.clear();
                let scores = source.block(row, block * BLOCK, &mut buffer).iter().map(|x| x.to_f64());
                if temperature == 1.0 {
                    into.extend(scores); // dividing takes as long as the exponentials
                } else {
                    into.extend(scores.map(|x| x / temperature));
                }
            };
            let drawing = Drawing { level, noise: &noise, temperature, sums, count };
            let word = first + if thresholds.is_some() { row } else { row * count } as u64;
            let drawn = drawing.row(word, thresholds.is_some(), || source.is_absent(row), block);
            for (slot, &(class, log_prob)) in drawn.classes.iter().enumerate() {
                ids.set(row, slot, class);
                logq.set(row, slot, log_prob);
            }
            if let Some(thresholds) = &mut thresholds {
                thresholds.set(row, 0, drawn.threshold);
            }
        }
        Ok(())
    })
}

/// What a row is drawn from: the sums of exponentials of its blocks of [`BLOCK`] classes, the last of which may be shorter.
#[derive(Clone, Copy)]
pub(crate) struct Drawing<'a> {
    pub(crate) level: Level,
    pub(crate) noise: &'a Noise,
    pub(crate) temperature: f64,
    pub(crate) sums: &'a [ExpSum],
    /// The draws.
    pub(crate) count: usize,
}

/// The draws of a row.
pub(crate) struct Drawn {
    /// Classes with their log-probabilities: class -1 where there is none, with NaN in an undefined row.
    pub(crate) classes: Vec<(i64, f32)>,
    /// The threshold key of draws without replacement, over the sum.
    pub(crate) threshold: f32,
}

impl Drawing<'_> {
    /// Draws by the words of the noise from `word` on, or, without replacement, by that word; `block` reads the scores over T of
    /// a block.
    pub(crate) fn row(
        self,
        word: u64,
        unique: bool,
        is_absent: impl FnOnce() -> bool,
        block: impl FnMut(usize, &mut Vec<f64>),
    ) -> Drawn {
        let Self { level, noise, temperature, sums, count } = self;
        let total = sums.iter().fold(ExpSum::EMPTY, |sum, part| sum.merged(*part, temperature));
        let lse = total.log_given(log_scalar(level, total.sum), temperature);
        let mut found = Found { classes: Vec::new(), threshold: f64::NAN };
        if lse.is_finite() {
            let mut row = Row { level, noise, temperature, sums, total, block };
            found = if unique { row.largest_keys(count, noise.word(word)) } else { row.with_replacement(count, word) };
        }
        let is_empty = lse.is_finite() || (lse == f64::NEG_INFINITY && is_absent());
        let rest = if is_empty { f64::NEG_INFINITY } else { f64::NAN };
        let of_slot = |slot| {
            let (class, score) = found.classes.get(slot).copied().unwrap_or((-1, rest));
            (class, if class < 0 { rest } else { (score - lse).min(0.0) } as f32)
        };
        let threshold = if lse.is_finite() { found.threshold - lse } else { rest };
        Drawn { classes: (0..count).map(of_slot).collect(), threshold: threshold as f32 }
    }
}

/// The sum of exponentials of each block of each row.
fn block_sums<R: Real>(level: Level, source: Source<'_, R>, options: &Options<'_>) -> Result<Vec<ExpSum>> {
    let per_row = source.classes().div_ceil(BLOCK);
    let mut sums = vec![ExpSum::EMPTY; source.rows() * per_row];
    let row_cost = COST * (BLOCK.min(source.classes()) * size_of::<R>()) as f64;
    let job = Job { rows: sums.len(), row_cost, together: 1, interrupt: options.interrupt };
    for_each_piece(job, RowsMut::from_rows(&mut sums), |blocks, mut sums| {
        let mut buffer = source.buffer();
        for block in blocks {
            let (row, from) = (block / per_row, block % per_row * BLOCK);
            let to = source.classes().min(from + BLOCK);
            let scale = Scale::new(options.temperature.of(row));
            sums.set(block, 0, dispatch(level, Chunk { source, scale, row, from, to, buffer: &mut buffer }));
        }
        Ok(())
    })?;
    Ok(sums)
}

/// What was drawn: classes with their scores over T, and the threshold key.
struct Found {
    classes: Vec<(i64, f64)>,
    threshold: f64,
}

/// One row: the sums of its blocks, and how to read a block of scores over T.
struct Row<'a, B> {
    level: Level,
    noise: &'a Noise,
    temperature: f64,
    sums: &'a [ExpSum],
    total: ExpSum,
    block: B,
}

impl<B: FnMut(usize, &mut Vec<f64>)> Row<'_, B> {
    /// Independent draws, by the words from `first` on.
    fn with_replacement(&mut self, count: usize, first: u64) -> Found {
        let mut sum = 0.0;
        let ends = self.sums.iter().map(|block| {
            sum += block.rebased(self.total.reference, self.total.shift, self.temperature);
            sum
        });
        let ends: Vec<f64> = ends.collect();
        let mut draws: Vec<_> = (0..count)
            .map(|draw| {
                let place = unit(self.noise.word(first + draw as u64)) * sum;
                let block = place_in(&ends, place);
                let start = block.checked_sub(1).map_or(0.0, |before| ends[before]);
                (block, draw, (place - start) / (ends[block] - start))
            })
            .collect();
        draws.sort_unstable_by_key(|&(block, draw, _)| (block, draw));
        let mut classes = vec![(-1, f64::NAN); count];
        let mut opened = Opened::default();
        for of_block in draws.chunk_by(|one, other| one.0 == other.0) {
            let block = of_block[0].0;
            (self.block)(block, &mut opened.scores);
            opened.open(self.level);
            for &(_, draw, fraction) in of_block {
                let place = opened.find(fraction);
                classes[draw] = ((block * BLOCK + place) as i64, opened.scores[place]);
            }
        }
        Found { classes, threshold: f64::NAN }
    }

    /// The classes of the largest keys, by noise that hangs on `word`.
    fn largest_keys(&mut self, count: usize, word: u64) -> Found {
        let of = |purpose| self.noise.derived(word, purpose);
        let (of_blocks, of_parts, of_scores) = (of(Purpose::Blocks), of(Purpose::Parts), of(Purpose::Scores));
        let mut blocks = self.keys_of_blocks(&of_blocks);
        blocks.sort_unstable_by(|one, other| other.0.total_cmp(&one.0));
        let mut top = Top { count: count + 1, keys: BinaryHeap::new() };
        let mut scores = Vec::new();
        for (key, block) in blocks {
            if !top.passes(key) {
                break;
            }
            (self.block)(block, &mut scores);
            let mut masses = [f64::NEG_INFINITY; WORDS];
            for (mass, part) in masses.iter_mut().zip(scores.chunks(PART)) {
                *mass = log_sum(self.level, part);
            }
            let parts = bent(self.level, key, &masses, &of_parts, block * PART_WORDS);
            for (part, (&key, scores)) in parts.iter().zip(scores.chunks(PART)).enumerate() {
                if !top.passes(key) {
                    continue;
                }
                let start = block * BLOCK + part * PART;
                let keys = bent(self.level, key, scores, &of_scores, start);
                for (class, (&key, &score)) in (start..).zip(keys.iter().zip(scores)) {
                    if top.passes(key) {
                        top.enter(Key { key, score, class: class as i64 });
                    }
                }
            }
        }
        top.finish(count)
    }

    /// The largest key of each block, with its number.
    fn keys_of_blocks(&self, noise: &Noise) -> Vec<(f64, usize)> {
        let mut logs = vec![0.0; self.sums.len()];
        dispatch(self.level, Logs { sums: self.sums, logs: &mut logs });
        let mut keys = Vec::with_capacity(logs.len());
        for (group, sums) in self.sums.chunks(WORDS).enumerate() {
            let log_times = dispatch(self.level, LogExponentials(noise, (group * WORDS) as u64));
            for (index, (sum, log_time)) in sums.iter().zip(log_times).enumerate() {
                let block = group * WORDS + index;
                keys.push((sum.log_given(logs[block], self.temperature) - log_time, block));
            }
        }
        keys
    }
}

/// The first place whose end lies beyond: only places of positive length are found.
fn place_in(ends: &[f64], at: f64) -> usize {
    let place = ends.partition_point(|&end| end <= at);
    // a product that was rounded up to the end belongs to the last place of positive length
    if place < ends.len() { place } else { ends.partition_point(|&end| end < ends[ends.len() - 1]) }
}

/// A block whose terms are known.
#[derive(Default)]
struct Opened {
    scores: Vec<f64>,
    terms: Vec<f64>,
    ends: Vec<f64>, // sums up to and with each part of a few terms
}

impl Opened {
    const FEW: usize = 64;
    const CHAINS: usize = 8;

    fn open(&mut self, level: Level) {
        let highest = dispatch(level, Highest(&self.scores));
        self.terms.clear();
        self.terms.extend(self.scores.iter().map(|score| score - highest));
        exponentials(level, &mut self.terms);
        let mut sum = 0.0;
        self.ends.clear();
        let mut push = |part: f64| {
            sum += part;
            self.ends.push(sum);
        };
        let (groups, rest) = self.terms.as_chunks::<{ Self::FEW * Self::CHAINS }>();
        for terms in groups {
            // side by side, for each addition waits for the one before
            let mut parts = [0.0; Self::CHAINS];
            for index in 0..Self::FEW {
                for (chain, part) in parts.iter_mut().enumerate() {
                    *part += terms[chain * Self::FEW + index];
                }
            }
            parts.into_iter().for_each(&mut push);
        }
        rest.chunks(Self::FEW).map(|terms| terms.iter().sum()).for_each(push);
    }

    /// The place at this fraction of the sum of all terms.
    fn find(&self, fraction: f64) -> usize {
        let at = fraction * self.ends[self.ends.len() - 1];
        let few = place_in(&self.ends, at);
        let mut rest = at - few.checked_sub(1).map_or(0.0, |before| self.ends[before]);
        let start = few * Self::FEW;
        let terms = &self.terms[start..self.terms.len().min(start + Self::FEW)];
        let mut last = 0;
        for (index, term) in terms.iter().enumerate().filter(|(_, term)| **term > 0.0) {
            last = index;
            if rest < *term {
                break;
            }
            rest -= term;
        }
        start + last
    }
}

/// The largest of some numbers, none of them NaN; of none -inf.
struct Highest<'a>(&'a [f64]);

impl Kernel for Highest<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f64 {
        let lanes = isa.f64();
        let mut highest = [lanes.splat(f64::NEG_INFINITY); 4];
        for numbers in self.0.chunks(32) {
            for (highest, numbers) in highest.iter_mut().zip(numbers.chunks(8)) {
                *highest = lanes.max(lanes.load_or(numbers, f64::NEG_INFINITY), *highest);
            }
        }
        let [a, b, c, d] = highest;
        lanes.reduce_max(lanes.max(lanes.max(a, b), lanes.max(c, d)))
    }
}

/// log sum exp of a few numbers.
fn log_sum(level: Level, numbers: &[f64]) -> f64 {
    let highest = dispatch(level, Highest(numbers));
    if highest == f64::NEG_INFINITY {
        return highest;
    }
    let mut terms = [0.0; PART];
    let terms = &mut terms[..numbers.len()];
    terms.iter_mut().zip(numbers).for_each(|(term, number)| *term = number - highest);
    exponentials(level, terms);
    highest + log_scalar(level, terms.iter().sum())
}

/// The keys of at most [`PART`] things of these log-masses, given that the largest key is `highest`.
fn bent(level: Level, highest: f64, masses: &[f64], noise: &Noise, first: usize) -> [f64; PART] {
    let mut keys = [f64::NEG_INFINITY; PART];
    for (start, masses) in (0..).step_by(WORDS).zip(masses.chunks(WORDS)) {
        let log_times = dispatch(level, LogExponentials(noise, (first + start) as u64));
        for ((key, mass), log_time) in keys[start..].iter_mut().zip(masses).zip(log_times) {
            *key = mass - log_time;
        }
    }
    let free = dispatch(level, Highest(&keys));
    dispatch(level, Bend { highest, free, keys: &mut keys });
    keys
}

/// Free keys to keys whose largest is `highest`.
struct Bend<'a> {
    highest: f64,
    free: f64,
    keys: &'a mut [f64; PART],
}

impl Kernel for Bend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let lanes = isa.f64();
        let (highest, free) = (lanes.splat(self.highest), lanes.splat(self.free));
        let zero = lanes.splat(0.0);
        let window = Window::new(lanes, 0.0);
        for keys in self.keys.chunks_mut(8) {
            let key = lanes.load(keys);
            let below = lanes.sub(zero, elementary::exp(lanes, lanes.sub(key, free), None, &window));
            let v = lanes.add(lanes.sub(highest, key), elementary::log1p(lanes, below));
            let positive = lanes.max(v, zero);
            let size = lanes.max(v, lanes.sub(zero, v));
            let soft = elementary::log1p(lanes, elementary::exp(lanes, lanes.sub(zero, size), None, &window));
            lanes.store(lanes.sub(lanes.sub(highest, positive), soft), keys);
        }
    }
}

/// log E of the words from an index on.
struct LogExponentials<'a>(&'a Noise, u64);

impl Kernel for LogExponentials<'_> {
    type Output = [f64; WORDS];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> [f64; WORDS] {
        log_exponentials(isa, &self.0.words(isa, self.1))
    }
}

struct Logs<'a> {
    sums: &'a [ExpSum],
    logs: &'a mut [f64],
}

impl Kernel for Logs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        logs_of(isa, self.sums, self.logs);
    }
}

/// A class with its key and its score over T.
#[derive(Clone, Copy, PartialEq)]
struct Key {
    key: f64,
    score: f64,
    class: i64,
}

impl Eq for Key {}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.total_cmp(&other.key).then(other.class.cmp(&self.class))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The largest keys so far.
struct Top {
    count: usize,
    keys: BinaryHeap<Reverse<Key>>,
}

impl Top {
    fn passes(&self, key: f64) -> bool {
        let is_short = self.keys.len() < self.count;
        key > f64::NEG_INFINITY && (is_short || self.keys.peek().is_some_and(|last| key > last.0.key))
    }

    fn enter(&mut self, key: Key) {
        self.keys.push(Reverse(key));
        if self.keys.len() > self.count {
            self.keys.pop();
        }
    }

    /// The first `count` by falling key, and the key of the next.
    fn finish(self, count: usize) -> Found {
        let sorted = self.keys.into_sorted_vec(); // by rising Reverse: the largest key first
        let threshold = sorted.get(count).map_or(f64::NEG_INFINITY, |key| key.0.key);
        Found { classes: sorted.iter().take(count).map(|key| (key.0.class, key.0.score)).collect(), threshold }
    }
}
