//! Skip-gram embeddings of words (Mikolov, Sutskever, Chen, Corrado, Dean 2013), trained by the losses of this crate.
//!
//! Problem. For each word of a text and each neighbour in a window around it: raise the score <in_neighbour, out_word>, lower those
//! of drawn words, by stochastic descent on negative sampling, noise contrast, sampled or hierarchical softmax.
//! Method. The neighbours of a word share its negatives, so that a window is a product of some ten rows with six (Ji, Satish, Li,
//! Dubey 2016, arXiv:1604.04661). A block of [`BLOCK`] words takes three rounds, each shared by all threads: steps of the
//! block before are added to rows, and windows are read, with every draw a function of seed and position; slopes from
//! scores; sums of the slopes by rows. Rows are dealt to shards, each written by one thread at a time, so there are
//! no races, and terms meet in the order of the text: the bits hang on neither threads nor instructions.
//! Steps. A row with more terms in a block than a limit takes their mean times the limit: the sum of many steps from the same point
//! would overshoot.
//! Error. Scores and sums as chains of fused multiply-adds in f32; losses add logarithms of products of four in f64.
//! Cost. `benches/words.py`: 3 D (c o) multiplications and additions a window of c contexts and o outputs.

mod matrix;
mod steps;
mod windows;

use crate::elementary::log_scalar;
use crate::error::{Error, Result};
use crate::heads::{huffman, parents};
use crate::samplers::AliasTable;
use crate::samplers::philox::{Noise, WORDS};
use crate::simd::{Isa, Kernel, Level, dispatch};
use crate::threads::for_each_round;
use matrix::{Matrix, SHARDS};
use std::ops::Range;
use std::sync::{Mutex, PoisonError, RwLock};
use steps::{Apply, Gather, Slopes, Sums};
use windows::Chunk;

/// Positions of the text that a thread takes.
const CHUNK: usize = 32;
/// Positions of the text whose steps are added together.
pub const BLOCK: usize = SHARDS * CHUNK;

/// What pairs of words are trained with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// Negative sampling.
    Negatives,
    /// Noise-contrastive estimation.
    Nce,
    /// Sampled softmax, with log q taken from all scores.
    SampledSoftmax,
    /// Hierarchical softmax over Huffman's tree of the counts.
    Hierarchical,
}

/// How a model is made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The loss.
    pub objective: Objective,
    /// The length of the vectors.
    pub width: usize,
    /// The most words on either side that count as context.
    pub window: usize,
    /// Negatives of a window.
    pub negatives: usize,
    /// The power of counts that negatives are drawn by.
    pub power: f64,
    /// Words of a larger share of the text are left out at random.
    pub sample: f64,
    /// Of all random numbers.
    pub seed: u64,
}

/// A part of a training: the epoch, of how many, and the learning rate at the beginning and the end.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// The number of the epoch, from 0.
    pub epoch: u64,
    /// How many there will be.
    pub epochs: u64,
    /// The learning rates at the beginning of the first and the end of the last.
    pub rates: [f64; 2],
}

/// Vectors of words as contexts, and of words or nodes as outputs.
#[derive(Debug)]
pub struct SkipGram {
    inputs: Matrix,
    weights: Matrix,
    outputs: Outputs,
    objective: Objective,
    window: usize,
    seed: u64,
    /// Of 2^32, how often each word is kept.
    keep: Vec<u64>,
}

#[derive(Debug)]
enum Outputs {
    Words { law: AliasTable, negatives: usize, log_negatives: f32 },
    Nodes { parents: Vec<i32> },
}

impl SkipGram {
    /// A model of words with these counts: random inputs, outputs of zeros.
    pub fn new(counts: &[f64], settings: &Settings) -> Result<Self> {
        let Settings { objective, width, window, negatives, power, sample, seed } = *settings;
        let words = counts.len();
        if width == 0 {
            return Err(Error::Width { given: 0, needed: 1 });
        }
        if words < 2 {
            return Err(Error::Length { what: "counts", given: words, needed: 2 });
        }
        let law = AliasTable::new(counts, power, None)?;
        let outputs = match objective {
            Objective::Hierarchical => Outputs::Nodes { parents: parents(&huffman(counts, None)?)? },
            _ => Outputs::Words { law, negatives, log_negatives: log_scalar(Level::active(), negatives as f64) as f32 },
        };
        let limit = sample * counts.iter().sum::<f64>();
        let keep = |&count: &f64| match sample > 0.0 {
            true => (((count / limit).sqrt() + 1.0) * (limit / count) * (1u64 << 32) as f64) as u64,
            false => 1 << 32,
        };
        let rows = if objective == Objective::Hierarchical { words - 1 } else { words };
        let mut model = Self {
            inputs: Matrix::new(words, width),
            weights: Matrix::new(rows, width),
            outputs,
            objective,
            window,
            seed,
            keep: counts.iter().map(keep).collect(),
        };
        let mut start = vec![0.0; words * width];
        dispatch(Level::active(), Start { noise: Noise::new(seed, u64::MAX), width, into: &mut start });
        model.inputs.copy_from(&start);
        Ok(model)
    }

    /// Trains on some blocks of a text, ids of words and -1 at the ends of sentences; returns pairs and the sum of their losses.
    ///
    /// Of a row's terms in a block more than `limit` count as so many times their mean.
    pub fn train(
        &mut self,
        text: &[i32],
        blocks: Range<usize>,
        pass: Pass,
        limit: f32,
        interrupt: Option<&(dyn Fn() -> bool + Sync)>,
    ) -> Result<(u64, f64)> {
        let blocks = blocks.start..blocks.end.min(text.len().div_ceil(BLOCK));
        if blocks.is_empty() {
            return Ok((0, 0.0));
        }
        let level = Level::active();
        let model = &*self;
        let rows = model.keep.len().div_ceil(SHARDS);
        let chunks: Vec<RwLock<Chunk>> = (0..SHARDS).map(|_| RwLock::default()).collect();
        let sums: Vec<Mutex<[Sums; 2]>> = (0..SHARDS).map(|_| Mutex::new([Sums::new(rows), Sums::new(rows)])).collect();
        let total = Mutex::new((0, 0.0));
        let rate = |block: usize| {
            let done = (pass.epoch as f64 + (block * BLOCK) as f64 / text.len() as f64) / pass.epochs.max(1) as f64;
            (pass.rates[0] + (pass.rates[1] - pass.rates[0]) * done) as f32
        };
        let matrices = [&model.inputs, &model.weights];
        let work = |round: usize, tasks: Range<usize>| {
            let block = blocks.start + round / 3;
            match round % 3 {
                0 => {
                    for task in tasks {
                        let mut sums = sums[task].lock().unwrap_or_else(PoisonError::into_inner);
                        for (sums, matrix) in sums.iter_mut().zip(matrices) {
                            let mut rows = matrix.write(task);
                            dispatch(level, Apply { sums, rows: &mut rows, lines: matrix.lines(), limit });
                        }
                        let mut chunk = chunks[task].write().unwrap_or_else(PoisonError::into_inner);
                        let from = block * BLOCK + task * CHUNK;
                        let positions = from.min(text.len())..(from + CHUNK).min(text.len());
                        if block < blocks.end {
                            chunk.prepare(model, level, text, positions, pass.epoch);
                        }
                    }
                }
                1 => {
                    let (inputs, weights) = (model.inputs.read(), model.weights.read());
                    let (inputs, outputs) = (&inputs.view(), &weights.view());
                    let softmax = model.objective == Objective::SampledSoftmax;
                    for task in tasks {
                        let mut chunk = chunks[task].write().unwrap_or_else(PoisonError::into_inner);
                        dispatch(level, Slopes { inputs, outputs, chunk: &mut chunk, rate: rate(block), softmax });
                    }
                }
                _ => {
                    let (inputs, weights) = (model.inputs.read(), model.weights.read());
                    let views = [&weights.view(), &inputs.view()];
                    let chunks: Vec<_> =
                        chunks.iter().map(|chunk| chunk.read().unwrap_or_else(PoisonError::into_inner)).collect();
                    if tasks.start == 0 {
                        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                        for chunk in &chunks {
                            total.0 += chunk.pairs() as u64;
                            total.1 += chunk.loss;
                        }
                    }
                    for task in tasks {
                        let mut sums = sums[task].lock().unwrap_or_else(PoisonError::into_inner);
                        for (side, into) in sums.iter_mut().enumerate() {
                            for chunk in &chunks {
                                let touched = &chunk.touched[side][task];
                                let others = views[side];
                                dispatch(level, Gather { chunk, touched, others, of_inputs: side == 0, into });
                            }
                        }
                    }
                }
            }
            Ok(())
        };
        for_each_round(3 * blocks.len() + 1, SHARDS, BLOCK as f64 * 100.0, interrupt, &work)?;
        Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is taken from the score of a word with this log q.
    fn shift(&self, logq: f32) -> f32 {
        match (self.objective, &self.outputs) {
            (Objective::SampledSoftmax, _) => logq,
            (Objective::Nce, Outputs::Words { log_negatives, .. }) => logq + log_negatives,
            _ => 0.0,
        }
    }

    /// How many inputs and outputs there are.
    pub fn rows(&self) -> [usize; 2] {
        let words = self.keep.len();
        [words, if self.objective == Objective::Hierarchical { words - 1 } else { words }]
    }

    /// Copies the vectors of contexts.
    pub fn inputs(&self, into: &mut [f32]) {
        self.inputs.copy_to(into);
    }

    /// Copies those of the outputs.
    pub fn outputs(&self, into: &mut [f32]) {
        self.weights.copy_to(into);
    }
}

/// Uniform numbers in [-1/width, 1/width).
struct Start<'k> {
    noise: Noise,
    width: usize,
    into: &'k mut [f32],
}

impl Kernel for Start<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let scale = 2.0 / self.width as f32;
        for (from, places) in (0..).step_by(WORDS).zip(self.into.chunks_mut(WORDS)) {
            for (place, word) in places.iter_mut().zip(self.noise.words(isa, from)) {
                *place = ((word >> 40) as f32 * (1.0 / (1 << 24) as f32) - 0.5) * scale;
            }
        }
    }
}
