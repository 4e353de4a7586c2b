//! What a chunk of text asks for: its windows, and which rows they touch. No parameter is read here.

use super::matrix::SHARDS;
use super::{Outputs, SkipGram};
use crate::heads::parent;
use crate::samplers::Law;
use crate::samplers::philox::{Noise, WORDS};
use crate::simd::{Isa, Kernel, Level, dispatch};
use std::ops::Range;

/// Ends a sentence among the words that were kept.
const END: u32 = u32::MAX;

/// A word with some neighbours, and what is scored against them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    contexts: (u32, u32), // first and end in `Chunk::contexts`
    outputs: (u32, u32),
    pub(super) slots: usize,  // its first in `Chunk::shifts` and `Chunk::labels`
    pub(super) slopes: usize, // its first in `Chunk::slopes`
}

/// A row that a window touches: as its context, or its output, of this number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Touch {
    pub(super) row: u32, // of its shard
    pub(super) window: u32,
    pub(super) slot: u32,
}

/// A chunk of text under way.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) windows: Vec<Window>,
    contexts: Vec<u32>,
    outputs: Vec<u32>,
    /// Of each output of each window, padded to whole lanes: what is wanted, and what is taken from scores; infinity from padding.
    pub(super) labels: Vec<f32>,
    pub(super) shifts: Vec<f32>,
    /// For each context of each window a slope for each output, padded: first the scores, then steps.
    pub(super) slopes: Vec<f32>,
    /// Rows of contexts and of outputs, by shards.
    pub(super) touched: [[Vec<Touch>; SHARDS]; 2],
    kept: Vec<u32>,
    breadths: Vec<u32>, // of the kept words, how far their windows reach
    pub(super) loss: f64,
}

impl Window {
    /// Numbers from one context's slopes to the next's.
    pub(super) fn pitch(&self) -> usize {
        ((self.outputs.1 - self.outputs.0) as usize).next_multiple_of(16)
    }
}

impl Chunk {
    pub(super) fn contexts(&self, window: &Window) -> &[u32] {
        &self.contexts[window.contexts.0 as usize..window.contexts.1 as usize]
    }

    pub(super) fn outputs(&self, window: &Window) -> &[u32] {
        &self.outputs[window.outputs.0 as usize..window.outputs.1 as usize]
    }

    pub(super) fn pairs(&self) -> usize {
        self.contexts.len()
    }

    /// Reads the windows of some positions of the text.
    pub(super) fn prepare(
        &mut self,
        model: &SkipGram,
        level: Level,
        text: &[i32],
        positions: Range<usize>,
        epoch: u64,
    ) {
        let Self { windows, contexts, outputs, labels, shifts, slopes, touched, kept, breadths, loss } = self;
        *loss = 0.0;
        [&mut *kept, breadths, contexts, outputs].into_iter().for_each(Vec::clear);
        [&mut *labels, shifts].into_iter().for_each(Vec::clear);
        windows.clear();
        touched.iter_mut().flatten().for_each(Vec::clear);
        let noise = Noise::new(model.seed, 2 * epoch);
        let centres = dispatch(level, Keep { model, text, noise, positions: positions.clone(), kept, breadths });
        let mut rows = 0;
        for centre in centres {
            let (word, breadth) = (kept[centre], breadths[centre] as usize);
            if word == END {
                continue;
            }
            let before = kept[centre.saturating_sub(breadth)..centre].iter().rev().take_while(|&&word| word != END);
            let after = kept[centre + 1..].iter().take(breadth).take_while(|&&word| word != END);
            let first = contexts.len() as u32;
            contexts.extend(before.chain(after));
            let end = contexts.len() as u32;
            if first < end {
                let outputs = (word, 0);
                windows.push(Window { contexts: (first, end), outputs, slots: 0, slopes: rows });
                rows += (end - first) as usize;
            }
        }
        match &model.outputs {
            Outputs::Words { law, negatives, .. } => {
                let m = *negatives;
                let mut drawn = vec![0; windows.len() * m];
                let (mut logs, mut own) = (vec![0.0; windows.len() * m], [0.0]);
                let noise = Noise::new(model.seed, 2 * epoch + 1);
                law.draw(level, &noise, (positions.start * m) as u64, &mut drawn, Some(&mut logs));
                for (at, window) in windows.iter_mut().enumerate() {
                    let word = window.outputs.0;
                    Law::logq(law, level, &[word], &mut own);
                    let of_window = at * m..(at + 1) * m;
                    window.outputs.0 = outputs.len() as u32;
                    outputs.push(word);
                    outputs.extend_from_slice(&drawn[of_window.clone()]);
                    window.slots = labels.len();
                    labels.push(1.0);
                    shifts.extend(own.iter().chain(&logs[of_window]).map(|&logq| model.shift(logq)));
                    close(window, outputs, labels, shifts);
                }
            }
            Outputs::Nodes { parents } => {
                for window in windows.iter_mut() {
                    let mut id = window.outputs.0 as usize;
                    window.outputs.0 = outputs.len() as u32;
                    window.slots = labels.len();
                    // a tree that was checked when it was made: no error ends a walk but at the root
                    while id < parents.len()
                        && let Ok((node, bit)) = parent(parents, id)
                    {
                        outputs.push(node as u32);
                        labels.push(bit as f32);
                        shifts.push(0.0);
                        id = parents.len() / 2 + 1 + node;
                    }
                    close(window, outputs, labels, shifts);
                }
            }
        }
        let mut from = 0;
        for (index, window) in (0..).zip(windows.iter_mut()) {
            window.slopes = from;
            from += window.pitch() * (window.contexts.1 - window.contexts.0) as usize;
            let ranges = [(&*contexts, window.contexts), (&*outputs, window.outputs)];
            for ((ids, (first, end)), touched) in ranges.into_iter().zip(touched.iter_mut()) {
                for (slot, &id) in (0..).zip(&ids[first as usize..end as usize]) {
                    let row = id / SHARDS as u32;
                    touched[id as usize % SHARDS].push(Touch { row, window: index, slot });
                }
            }
        }
        slopes.resize(from, 0.0);
    }
}

/// Ends the outputs of a window: pads its slots.
fn close(window: &mut Window, outputs: &[u32], labels: &mut Vec<f32>, shifts: &mut Vec<f32>) {
    window.outputs.1 = outputs.len() as u32;
    labels.resize(window.slots + window.pitch(), 0.0);
    shifts.resize(window.slots + window.pitch(), f32::INFINITY);
}

/// The words near some positions that are not left out for being frequent; returns which are those of the positions.
struct Keep<'k> {
    model: &'k SkipGram,
    text: &'k [i32],
    noise: Noise,
    positions: Range<usize>,
    kept: &'k mut Vec<u32>,
    breadths: &'k mut Vec<u32>,
}

impl Kernel for Keep<'_> {
    type Output = Range<usize>;

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Range<usize> {
        let window = self.model.window;
        let mut first = self.positions.start / WORDS;
        // backwards, until the first window is filled or its sentence began
        while first > 0 {
            first -= 1;
            self.kept.clear();
            self.breadths.clear();
            self.read(isa, first, 0..self.positions.start);
            let (mut words, mut ends) = (0, false);
            for &word in self.kept.iter().rev() {
                ends |= word == END;
                words += usize::from(!ends);
            }
            if ends || words >= window {
                break;
            }
        }
        self.kept.clear();
        self.breadths.clear();
        let mut group = first;
        let mut centres = 0..0;
        // up to the positions, through them, and on until the last window is filled or its sentence ends
        while group * WORDS < self.positions.start {
            self.read(isa, group, 0..self.positions.start);
            group += 1;
        }
        centres.start = self.kept.len();
        group = self.positions.start / WORDS;
        while group * WORDS < self.positions.end {
            self.read(isa, group, self.positions.clone());
            group += 1;
        }
        centres.end = self.kept.len();
        group = self.positions.end / WORDS;
        while group * WORDS < self.text.len() {
            self.read(isa, group, self.positions.end..self.text.len());
            let after = &self.kept[centres.end..];
            if after.len() >= window || after.contains(&END) {
                break;
            }
            group += 1;
        }
        centres
    }
}

impl Keep<'_> {
    /// Reads what lies in `range` of a group of positions whose random words are made together.
    #[inline(always)]
    fn read<I: Isa>(&mut self, isa: I, group: usize, range: Range<usize>) {
        let from = group * WORDS;
        let words = self.noise.words(isa, from as u64);
        for (position, random) in (from..).zip(words) {
            if !range.contains(&position) || position >= self.text.len() {
                continue;
            }
            let id = self.text[position] as u32; // of -1: no word
            match self.model.keep.get(id as usize) {
                None => {
                    self.kept.push(END);
                    self.breadths.push(0);
                }
                Some(&keep) => {
                    if u64::from(random as u32) < keep {
                        self.kept.push(id);
                        let part = ((random >> 32) * self.model.window as u64) >> 32;
                        self.breadths.push(self.model.window as u32 - part as u32);
                    }
                }
            }
        }
    }
}
