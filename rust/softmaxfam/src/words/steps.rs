//! The arithmetic of a block: slopes of windows, and what they add to rows.

use super::matrix::{Line, View};
use super::windows::{Chunk, Touch, Window};
use crate::elementary::{Window as Range, exp, log};
use crate::simd::{Isa, Kernel, Lanes, V};

/// The smallest probability whose logarithm is reported: of four factors the product is no subnormal number.
const LEAST: f32 = 1.0 / (1u32 << 31) as f32;
/// Lines of a row whose sums stay in registers together: with many registers, and with few.
const MANY: usize = 8;
const FEW: usize = 4;

/// Steps of a chunk from its scores: rate (label - probability) for each context and output.
pub(super) struct Slopes<'k> {
    pub(super) inputs: &'k View<'k>,
    pub(super) outputs: &'k View<'k>,
    pub(super) chunk: &'k mut Chunk,
    pub(super) rate: f32,
    /// Whether probabilities are those of softmax over the outputs, or each its own.
    pub(super) softmax: bool,
}

impl Kernel for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { inputs, outputs, chunk, rate, softmax } = self;
        let mut slopes = std::mem::take(&mut chunk.slopes);
        let mut loss = [isa.f64().splat(0.0); 2];
        for (index, window) in chunk.windows.iter().enumerate() {
            if let Some(next) = chunk.windows.get(index + 1) {
                for &id in chunk.outputs(next) {
                    isa.prefetch(outputs.row(id));
                }
                isa.prefetch(inputs.row(chunk.contexts(next)[chunk.contexts(next).len() - 1]));
            }
            let contexts = chunk.contexts(window);
            let pitch = window.pitch();
            let of_window = &mut slopes[window.slopes..][..contexts.len() * pitch];
            score(isa, (inputs, contexts), (outputs, chunk.outputs(window)), of_window);
            let labels = &chunk.labels[window.slots..][..pitch];
            let shifts = &chunk.shifts[window.slots..][..pitch];
            let mut product = isa.f32().splat(1.0);
            for (at, slopes) in of_window.chunks_exact_mut(pitch).enumerate() {
                if softmax {
                    of_softmax(isa, slopes, labels, shifts, rate, &mut product);
                } else {
                    of_sigmoid(isa, slopes, labels, shifts, rate, &mut product, &mut loss);
                }
                if at % 4 == 3 || (at + 1) * pitch == contexts.len() * pitch {
                    add_log(isa, &mut product, &mut loss);
                }
            }
        }
        chunk.loss = -isa.f64().reduce_add(isa.f64().add(loss[0], loss[1]));
        chunk.slopes = slopes;
    }
}

/// Scores of two contexts and four outputs at a time; the sums of two such tiles are met together.
#[inline(always)]
fn score<I: Isa>(isa: I, contexts: (&View<'_>, &[u32]), outputs: (&View<'_>, &[u32]), scores: &mut [f32]) {
    let lanes = isa.f32();
    let ((inputs, contexts), (outputs, ids)) = (contexts, outputs);
    let pitch = ids.len().next_multiple_of(16);
    let mut sums = [lanes.splat(0.0); 16];
    let mut places = [(0, 0); 2];
    let mut half = 0;
    for c in (0..contexts.len()).step_by(2) {
        let one = inputs.row(contexts[c]);
        let other = inputs.row(contexts[(c + 1).min(contexts.len() - 1)]);
        for o in (0..ids.len()).step_by(4) {
            let last = ids.len() - 1;
            let mut rows: [&[Line]; 4] = [&[]; 4];
            for (at, row) in rows.iter_mut().enumerate() {
                *row = &outputs.row(ids[(o + at).min(last)])[..one.len()];
            }
            let other = &other[..one.len()];
            let mut found = [lanes.splat(0.0); 8];
            for line in 0..one.len() {
                let (a, b) = (lanes.load(&one[line]), lanes.load(&other[line]));
                for at in 0..4 {
                    let row = lanes.load(&rows[at][line]);
                    found[at] = lanes.mul_add(a, row, found[at]);
                    found[4 + at] = lanes.mul_add(b, row, found[4 + at]);
                }
            }
            sums[8 * half..8 * half + 8].copy_from_slice(&found);
            places[half] = (c, o);
            half += 1;
            if half == 2 {
                settle(isa, &sums, &places, contexts.len(), pitch, scores);
                half = 0;
            }
        }
    }
    if half > 0 {
        settle(isa, &sums, &places[..1], contexts.len(), pitch, scores);
    }
}

#[inline(always)]
fn settle<I: Isa>(
    isa: I,
    sums: &[V<I, f32>; 16],
    places: &[(usize, usize)],
    contexts: usize,
    pitch: usize,
    scores: &mut [f32],
) {
    let mut met = [0.0; 16];
    isa.f32().store(isa.reduce_add_each(sums), &mut met);
    for (&(c, o), tile) in places.iter().zip(met.as_chunks::<8>().0) {
        for (at, four) in tile.as_chunks::<4>().0.iter().enumerate() {
            if c + at < contexts {
                scores[(c + at) * pitch + o..][..4].copy_from_slice(four);
            }
        }
    }
}

/// Scores to slopes, each output with a sigmoid of its own.
#[inline(always)]
fn of_sigmoid<I: Isa>(
    isa: I,
    slopes: &mut [f32],
    labels: &[f32],
    shifts: &[f32],
    rate: f32,
    product: &mut V<I, f32>,
    loss: &mut [V<I, f64>; 2],
) {
    let lanes = isa.f32();
    let (zero, one, rate) = (lanes.splat(0.0), lanes.splat(1.0), lanes.splat(rate));
    let lines = slopes.len() / 16;
    for line in 0..lines {
        let place = &mut slopes[16 * line..16 * line + 16];
        let x = lanes.sub(lanes.load(place), lanes.load(&shifts[16 * line..]));
        let minus = lanes.sub(zero, x);
        let e = exp(lanes, lanes.min(x, minus), None, &Range::new(lanes, 0.0));
        let (is_above, whole) = (lanes.ge(x, zero), lanes.add(one, e));
        let part = lanes.div(lanes.select(is_above, one, e), whole);
        let rest = lanes.div(lanes.select(is_above, e, one), whole); // 1 - part, with all its digits
        let label = lanes.load(&labels[16 * line..]);
        let is_wanted = lanes.gt(label, zero);
        let slope = lanes.select(is_wanted, rest, lanes.sub(zero, part));
        let right = lanes.select(is_wanted, part, rest);
        *product = lanes.mul(*product, lanes.max(right, lanes.splat(LEAST)));
        if lines > 1 {
            add_log(isa, product, loss);
        }
        lanes.store(lanes.mul(slope, rate), place);
    }
}

/// Scores to slopes, of softmax over the outputs, of which the first is wanted.
#[inline(always)]
fn of_softmax<I: Isa>(isa: I, slopes: &mut [f32], labels: &[f32], shifts: &[f32], rate: f32, product: &mut V<I, f32>) {
    let lanes = isa.f32();
    let (mut most, mut sum) = (lanes.splat(f32::NEG_INFINITY), lanes.splat(0.0));
    for (place, shifts) in slopes.chunks_exact_mut(16).zip(shifts.chunks_exact(16)) {
        let x = lanes.sub(lanes.load(place), lanes.load(shifts));
        most = lanes.max(x, most);
        lanes.store(x, place);
    }
    let most = lanes.splat(lanes.reduce_max(most));
    for place in slopes.chunks_exact_mut(16) {
        let e = exp(lanes, lanes.sub(lanes.load(place), most), None, &Range::new(lanes, 0.0));
        sum = lanes.add(sum, e);
        lanes.store(e, place);
    }
    let (sum, rate) = (lanes.splat(lanes.reduce_add(sum)), lanes.splat(rate));
    let mut first = [1.0; 16];
    for (line, (place, labels)) in slopes.chunks_exact_mut(16).zip(labels.chunks_exact(16)).enumerate() {
        let part = lanes.div(lanes.load(place), sum);
        if line == 0 {
            lanes.store(part, place);
            first[0] = place[0];
        }
        lanes.store(lanes.mul(lanes.sub(lanes.load(labels), part), rate), place);
    }
    *product = lanes.mul(*product, lanes.max(lanes.load(&first), lanes.splat(LEAST)));
}

/// Adds the logarithms of the lanes of a product, which becomes 1.
#[inline(always)]
fn add_log<I: Isa>(isa: I, product: &mut V<I, f32>, loss: &mut [V<I, f64>; 2]) {
    let halves = isa.widen(*product);
    for half in 0..2 {
        loss[half] = isa.f64().add(loss[half], log(isa.f64(), halves[half]));
    }
    *product = isa.f32().splat(1.0);
}

/// What a block adds to rows of a shard.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// Of each row of the shard 1 + the number of its sum, or 0.
    numbers: Vec<u32>,
    rows: Vec<u32>,
    counts: Vec<u32>,
    sums: Vec<Line>,
}

impl Sums {
    pub(super) fn new(rows: usize) -> Self {
        Self { numbers: vec![0; rows], ..Self::default() }
    }
}

/// Adds up what a chunk adds to some rows: for inputs its outputs times slopes, for outputs its contexts.
pub(super) struct Gather<'k> {
    pub(super) chunk: &'k Chunk,
    pub(super) touched: &'k [Touch],
    /// The rows that are multiplied.
    pub(super) others: &'k View<'k>,
    pub(super) of_inputs: bool,
    pub(super) into: &'k mut Sums,
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { chunk, touched, others, of_inputs, into } = self;
        let lines = others.lines;
        for touch in touched {
            let window: &Window = &chunk.windows[touch.window as usize];
            let (slot, pitch) = (touch.slot as usize, window.pitch());
            let number = &mut into.numbers[touch.row as usize];
            if *number == 0 {
                into.rows.push(touch.row);
                into.counts.push(0);
                *number = into.rows.len() as u32;
                into.sums.resize(into.rows.len() * lines, [0.0; 16]);
            }
            let number = *number as usize - 1;
            let sum = &mut into.sums[number * lines..][..lines];
            let (ids, first, step) = match of_inputs {
                true => (chunk.outputs(window), window.slopes + slot * pitch, 1),
                false => (chunk.contexts(window), window.slopes + slot, pitch),
            };
            into.counts[number] += ids.len() as u32;
            let terms = Terms { others, ids, slopes: &chunk.slopes[first..], step };
            let together = if I::MANY_REGISTERS { MANY } else { FEW };
            for from in (0..lines).step_by(together) {
                let to = lines.min(from + together);
                match to - from {
                    1 => terms.add::<I, 1>(isa, sum, from),
                    2 => terms.add::<I, 2>(isa, sum, from),
                    3 => terms.add::<I, 3>(isa, sum, from),
                    4 => terms.add::<I, 4>(isa, sum, from),
                    _ if !I::MANY_REGISTERS => {}
                    5 => terms.add::<I, 5>(isa, sum, from),
                    6 => terms.add::<I, 6>(isa, sum, from),
                    7 => terms.add::<I, 7>(isa, sum, from),
                    _ => terms.add::<I, 8>(isa, sum, from),
                }
            }
        }
    }
}

/// Rows, and what they are multiplied by.
struct Terms<'k> {
    others: &'k View<'k>,
    ids: &'k [u32],
    slopes: &'k [f32],
    step: usize,
}

impl Terms<'_> {
    #[inline(always)]
    fn add<I: Isa, const N: usize>(&self, isa: I, sum: &mut [Line], from: usize) {
        let lanes = isa.f32();
        let sum = &mut sum[from..from + N];
        let mut found = [lanes.splat(0.0); N];
        for n in 0..N {
            found[n] = lanes.load(&sum[n]);
        }
        let mut at = 0;
        for &id in self.ids {
            let row = &self.others.row(id)[from..from + N];
            let slope = lanes.splat(self.slopes[at]);
            for n in 0..N {
                found[n] = lanes.mul_add(slope, lanes.load(&row[n]), found[n]);
            }
            at += self.step;
        }
        for n in 0..N {
            lanes.store(found[n], &mut sum[n]);
        }
    }
}

/// Adds the sums to the rows of a shard, and forgets them.
pub(super) struct Apply<'k> {
    pub(super) sums: &'k mut Sums,
    pub(super) rows: &'k mut [Line],
    pub(super) lines: usize,
    pub(super) limit: f32,
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let lanes = isa.f32();
        let Self { sums, rows, lines, limit } = self;
        for (at, &row) in sums.rows.iter().enumerate() {
            sums.numbers[row as usize] = 0;
            let count = sums.counts[at] as f32;
            let factor = lanes.splat(if count > limit { limit / count } else { 1.0 });
            let row = &mut rows[row as usize * lines..][..lines];
            for (place, sum) in row.iter_mut().zip(&sums.sums[at * lines..][..lines]) {
                lanes.store(lanes.mul_add(lanes.load(sum), factor, lanes.load(place)), place);
            }
        }
        sums.rows.clear();
        sums.counts.clear();
        sums.sums.clear();
    }
}
