//! Weights to the slots of an alias table: in integers, in O(n), in blocks that threads share.
//!
//! Problem. Give class i W_i units, sum W_i = n 2^32, as near to n 2^32 q_i as can be, W_i >= 1 where q_i > 0; then fill n
//! slots of 2^32 units each, with at most two classes in a slot.
//!
//! Units. t_i = w_i C with C = n 2^32 / sum w, sums and products in two f64 each (error 2^-100), is rounded to the nearest
//! integer; then |sum W - n 2^32| <= n/2, and as many classes as that were rounded the wrong way by up to 1/2: the first of
//! them go the other way, so |W_i - t_i| < 1. Classes with t_i < 1 get one unit each, taken off the others by a second C.
//!
//! Slots. A light class (W <= 2^32) leaves its slot a deficit of 2^32 - W, a heavy one has an excess W - 2^32. In the order
//! of classes let D(i) be the deficit of the lights before i, E(j) the excess of the heavies up to and with j. Light i is filled up by
//! the first heavy j with E(j) > D(i). Heavy j is used up when D first reaches E(j): it then has 2^32 - (D - E(j)) units
//! left, which are the threshold of its own slot, and the next heavy fills that up. So the table is the merge of two
//! rising sequences (the sweep of Hübschle-Schneider and Sanders 2019, "Parallel weighted random sampling", section 4.2): memory is read in order, and the
//! merge starts anywhere, given sums over blocks: the result does not depend on the threads. Each heavy is written by the
//! block of lights that uses it up, so blocks share the table through atomics that nobody waits for; none reads a slot
//! that another writes, since a block knows E of its first and its last heavy from the start.
//!
//! Memory. Besides table and logq: a bit a class, and the powers of the weights where a power is asked for.
//! Cost. Five passes in order: check and sum, round, look for heavies, find the starts of blocks, merge.

use crate::elementary::{self, Window, log_scalar};
use crate::error::{Error, Result};
use crate::rows::{Chunks, Places, RowsMut, as_atomics, random_access};
use crate::simd::{Isa, Kernel, Lanes, Level, dispatch};
use crate::threads::{Job, for_each_piece};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

type Interrupt<'a> = Option<&'a (dyn Fn() -> bool + Sync)>;

/// A slot, in units.
const FULL: u64 = 1 << 32;
/// Classes of a block; a multiple of 64.
const BLOCK: usize = 1 << 14;
/// Time of a class in a pass, ns: for cutting work.
const COST: f64 = 2.0;
/// Weights between 2^-900 and 2^900 are summed as they are.
const PLAIN: f64 = f64::from_bits((1023 + 900) << 52);

pub(super) struct Built {
    pub(super) slots: Vec<u64>,
    pub(super) logq: Vec<f32>,
    pub(super) positive: usize,
}

pub(super) fn build(weights: &[f64], power: f64, interrupt: Interrupt<'_>) -> Result<Built> {
    if !(power >= 0.0 && power.is_finite()) {
        return Err(Error::Power { given: power });
    }
    let build = Build { level: Level::active(), interrupt, classes: weights.len() };
    let survey = build.survey(weights, 1.0, 0.0)?;
    if survey.positive == 0 {
        return Err(Error::NoWeight { classes: weights.len() });
    }
    if power == 1.0 {
        return build.table(weights, survey);
    }
    let powers = build.powers(weights, power, survey.highest)?;
    let survey = build.survey(&powers, 1.0, 0.0)?;
    build.table(&powers, survey)
}

/// logq of each class of a table of slots, and the number of classes that can be drawn.
pub(super) fn law(slots: &[u64], interrupt: Interrupt<'_>) -> Result<(Vec<f32>, usize)> {
    let mut units = vec![0_u64; slots.len()];
    for (slot, &word) in slots.iter().enumerate() {
        let (threshold, alias) = (word >> 32, word as u32 as usize);
        let own = if alias == slot { FULL } else { threshold };
        units[slot] = units[slot].wrapping_add(own);
        units[alias] = units[alias].wrapping_add(FULL - own);
    }
    let build = Build { level: Level::active(), interrupt, classes: slots.len() };
    let mut logq = random_access(slots.len());
    let outputs = Chunks::new(RowsMut::new(&mut logq, slots.len())?, BLOCK);
    for_each_piece(build.job(), outputs, |blocks, mut logq| {
        for block in blocks {
            let (from, to) = build.range(block);
            let of_block =
                Logq { units: &units[from..to], shift: build.shift(), logq: logq.place(block, from, to, &mut []) };
            dispatch(build.level, of_block);
        }
        Ok(())
    })?;
    Ok((logq, units.iter().filter(|&&units| units > 0).count()))
}

/// What one pass over weights finds.
#[derive(Clone, Copy, Debug)]
struct Survey {
    scale: f64, // a power of two by which weights are taken
    sum: Two,   // of the scaled weights that are not below the floor
    highest: f64,
    lowest: f64, // of the positive ones
    positive: usize,
    below: usize, // positive ones below the floor
}

impl Survey {
    const EMPTY: Self = Self {
        scale: 1.0,
        sum: Two { high: 0.0, low: 0.0 },
        highest: 0.0,
        lowest: f64::INFINITY,
        positive: 0,
        below: 0,
    };

    fn with(self, other: Self) -> Self {
        Self {
            scale: other.scale,
            sum: self.sum.plus(other.sum),
            highest: self.highest.max(other.highest),
            lowest: self.lowest.min(other.lowest),
            positive: self.positive + other.positive,
            below: self.below + other.below,
        }
    }
}

/// A number as the unevaluated sum of two.
#[derive(Clone, Copy, Debug)]
struct Two {
    high: f64,
    low: f64,
}

impl Two {
    fn plus(self, other: Self) -> Self {
        let sum = self.high + other.high;
        let part = sum - self.high;
        let lost = (self.high - (sum - part)) + (other.high - part) + self.low + other.low;
        let high = sum + lost;
        Self { high, low: lost - (high - sum) }
    }

    /// The quotient of (total - taken), two integers, by this.
    fn divides(self, total: f64, taken: f64) -> Self {
        let high = total / self.high;
        let rest = (-high).mul_add(self.high, total) - taken - high * self.low;
        Self { high, low: rest / self.high }
    }
}

struct Build<'a> {
    level: Level,
    interrupt: Interrupt<'a>,
    classes: usize,
}

impl<'a> Build<'a> {
    fn blocks(&self) -> usize {
        self.classes.div_ceil(BLOCK)
    }

    fn range(&self, block: usize) -> (usize, usize) {
        (block * BLOCK, self.classes.min((block + 1) * BLOCK))
    }

    fn job(&self) -> Job<'a> {
        let row_cost = COST * BLOCK.min(self.classes) as f64;
        Job { rows: self.blocks(), row_cost, together: 1, interrupt: self.interrupt }
    }

    /// log(n 2^32)
    fn shift(&self) -> f64 {
        log_scalar(self.level, self.classes as f64 * FULL as f64)
    }

    /// Checks and adds weights, without those below `floor`.
    fn survey(&self, weights: &[f64], scale: f64, floor: f64) -> Result<Survey> {
        let mut found = vec![Survey::EMPTY; self.blocks()];
        for_each_piece(self.job(), RowsMut::from_rows(&mut found), |blocks, mut found| {
            for block in blocks {
                let (from, to) = self.range(block);
                let (survey, is_sound) = dispatch(self.level, Sum { weights: &weights[from..to], scale, floor });
                if !is_sound {
                    return Err(first_bad(weights));
                }
                found.set(block, 0, survey);
            }
            Ok(())
        })?;
        let survey = found.into_iter().fold(Survey::EMPTY, Survey::with);
        let is_plain = survey.highest < PLAIN && survey.highest > 1.0 / PLAIN;
        if scale != 1.0 || is_plain || survey.positive == 0 {
            return Ok(survey);
        }
        // the power of two above the highest; 2^1022 is the largest whose inverse is normal
        let exponent = ((survey.highest.to_bits() >> 52).max(1) as i32 - 1023).clamp(-1022, 1022);
        self.survey(weights, 2_f64.powi(-exponent), floor)
    }

    /// weights^power, divided by that of the highest.
    fn powers(&self, weights: &[f64], power: f64, highest: f64) -> Result<Vec<f64>> {
        let mut powers = vec![0.0; weights.len()];
        let outputs = Chunks::new(RowsMut::new(&mut powers, weights.len())?, BLOCK);
        for_each_piece(self.job(), outputs, |blocks, mut powers| {
            for block in blocks {
                let (from, to) = self.range(block);
                let powers = powers.place(block, from, to, &mut []);
                dispatch(self.level, Power { weights: &weights[from..to], power, highest, powers });
            }
            Ok(())
        })?;
        Ok(powers)
    }

    fn table(&self, weights: &[f64], survey: Survey) -> Result<Built> {
        let total = self.classes as f64 * FULL as f64;
        let mut factor = survey.sum.divides(total, 0.0);
        let mut floor = 0.0;
        if survey.lowest * survey.scale * factor.high < 1.0 {
            // classes of less than one unit get one; the others share what is left
            floor = 1.0 / (factor.high * survey.scale);
            let kept = self.survey(weights, survey.scale, floor)?;
            factor = kept.sum.divides(total, kept.below as f64);
        }
        let rounding = Rounding { factor, scale: survey.scale, floor };
        let (mut units, mut logq) = (random_access(self.classes), random_access(self.classes));
        let sum = self.round(weights, &rounding, &mut units, &mut logq)?;
        let missing = (self.classes as u64).wrapping_mul(FULL).wrapping_sub(sum) as i64;
        self.settle(weights, &rounding, missing, &mut units, &mut logq);
        self.merge(&mut units)?;
        Ok(Built { slots: units, logq, positive: survey.positive })
    }

    /// Units to the nearest integer, their logarithms, and their sum.
    fn round(&self, weights: &[f64], rounding: &Rounding, units: &mut [u64], logq: &mut [f32]) -> Result<u64> {
        let mut sums = vec![0_u64; self.blocks()];
        let chunks = (
            Chunks::new(RowsMut::new(units, self.classes)?, BLOCK),
            Chunks::new(RowsMut::new(logq, self.classes)?, BLOCK),
        );
        let outputs = (chunks, RowsMut::from_rows(&mut sums));
        for_each_piece(self.job(), outputs, |blocks, ((mut units, mut logq), mut sums)| {
            for block in blocks {
                let (from, to) = self.range(block);
                let units = units.place(block, from, to, &mut []);
                let sum = dispatch(self.level, Round { weights: &weights[from..to], rounding, units });
                dispatch(self.level, Logq { units, shift: self.shift(), logq: logq.place(block, from, to, &mut []) });
                sums.set(block, 0, sum);
            }
            Ok(())
        })?;
        Ok(sums.into_iter().fold(0, u64::wrapping_add))
    }

    /// Gives (takes, if negative) the `missing` units to the first classes that were rounded down (up).
    fn settle(&self, weights: &[f64], rounding: &Rounding, missing: i64, units: &mut [u64], logq: &mut [f32]) {
        let (mut missing, step) = (missing, missing.signum());
        let mut give = |class: usize, count: i64| {
            units[class] = units[class].wrapping_add_signed(count);
            logq[class] = (log_scalar(self.level, units[class] as f64) - self.shift()) as f32;
        };
        for (class, &weight) in weights.iter().enumerate() {
            if missing == 0 {
                return;
            }
            let (rounded, rest) = rounding.units(weight);
            let is_changeable = if step > 0 { rest > 0.0 } else { rest < 0.0 && rounded > 1 };
            if is_changeable {
                give(class, step);
                missing -= step;
            }
        }
        // only where rounding errors of the sums themselves are left
        let heaviest = (0..weights.len()).max_by(|&a, &b| weights[a].total_cmp(&weights[b]).then(b.cmp(&a)));
        give(heaviest.expect("a table has a class"), missing);
    }

    /// Units to slots, in place.
    fn merge(&self, units: &mut [u64]) -> Result<()> {
        let mut heavies = vec![0_u64; self.classes.div_ceil(64)];
        let mut sums = vec![(0_u64, 0_u64); self.blocks()];
        let outputs = (
            Chunks::new(RowsMut::new(&mut heavies, self.classes.div_ceil(64))?, BLOCK / 64),
            RowsMut::from_rows(&mut sums),
        );
        for_each_piece(self.job(), outputs, |blocks, (mut heavies, mut sums)| {
            for block in blocks {
                let (from, to) = self.range(block);
                let marks = heavies.place(block, from / 64, to.div_ceil(64), &mut []);
                sums.set(block, 0, mark_heavies(&units[from..to], marks));
            }
            Ok(())
        })?;
        let (mut deficit, mut excess) = (0, 0);
        for (of_lights, of_heavies) in &mut sums {
            (deficit, *of_lights) = (deficit + *of_lights, deficit);
            (excess, *of_heavies) = (excess + *of_heavies, excess);
        }
        let before = sums;
        let mut starts = vec![Start::NONE; self.blocks() + 1];
        let job = self.job();
        for_each_piece(job, RowsMut::from_rows(&mut starts[..job.rows]), |blocks, mut starts| {
            for block in blocks {
                starts.set(block, 0, start(units, &heavies, &before, before[block].0));
            }
            Ok(())
        })?;
        let table = as_atomics(units);
        for_each_piece(job, (), |blocks, ()| {
            for block in blocks {
                let (from, to) = self.range(block);
                Merge { table, heavies: &heavies, last: starts[block + 1] }.run(
                    from,
                    to,
                    before[block].0,
                    starts[block],
                );
            }
            Ok(())
        })
    }
}

#[cold]
fn first_bad(weights: &[f64]) -> Error {
    let bad = |weight: &f64| !(*weight >= 0.0 && weight.is_finite());
    let class = weights.iter().position(bad).unwrap_or(0);
    Error::Weight { class, given: weights[class] }
}

/// Marks the classes of more than one slot; returns the deficit of the others and the excess of these.
fn mark_heavies(units: &[u64], marks: &mut [u64]) -> (u64, u64) {
    let (mut deficit, mut excess) = (0, 0);
    for (mark, units) in marks.iter_mut().zip(units.chunks(64)) {
        *mark = 0;
        for (bit, &units) in units.iter().enumerate() {
            *mark |= u64::from(units > FULL) << bit;
            deficit += FULL.saturating_sub(units);
            excess += units.saturating_sub(FULL);
        }
    }
    (deficit, excess)
}

/// Where the merge of a block starts: its first heavy class, and the excess up to and with it.
#[derive(Clone, Copy, Debug)]
struct Start {
    heavy: usize,
    reach: u64,
}

impl Start {
    const NONE: Self = Self { heavy: usize::MAX, reach: u64::MAX };
}

/// The first heavy class whose summed excess passes `deficit`.
fn start(units: &[u64], heavies: &[u64], before: &[(u64, u64)], deficit: u64) -> Start {
    let block = before.partition_point(|&(_, excess)| excess <= deficit) - 1;
    let mut reach = before[block].1;
    let mut heavy = next_mark(heavies, block * BLOCK);
    while let Some(class) = heavy {
        reach += units[class] - FULL;
        if reach > deficit {
            return Start { heavy: class, reach };
        }
        heavy = next_mark(heavies, class + 1);
    }
    Start::NONE
}

/// The first marked class from `from` on.
#[inline]
fn next_mark(marks: &[u64], from: usize) -> Option<usize> {
    let mut at = from / 64;
    let mut bits = marks.get(at)? & (u64::MAX << (from % 64));
    while bits == 0 {
        at += 1;
        bits = *marks.get(at)?;
    }
    Some(64 * at + bits.trailing_zeros() as usize)
}

/// The merge of one block of lights with the heavies that they use up.
struct Merge<'a> {
    table: &'a [AtomicU64],
    heavies: &'a [u64],
    last: Start, // of the next block: its slot is not ours to read
}

impl Merge<'_> {
    fn run(&self, from: usize, to: usize, deficit: u64, start: Start) {
        let (mut deficit, mut heavy) = (deficit, start);
        for at in from / 64..to.div_ceil(64) {
            let present = u64::MAX >> (64 - (to - 64 * at).min(64));
            let mut lights = !self.heavies[at] & present;
            while lights != 0 {
                let light = 64 * at + lights.trailing_zeros() as usize;
                lights &= lights - 1;
                let units = self.table[light].load(Relaxed);
                let word = if units == FULL { light as u64 } else { units << 32 | heavy.heavy as u64 };
                self.table[light].store(word, Relaxed);
                deficit += FULL - units;
                while heavy.reach <= deficit {
                    heavy = self.used_up(heavy, deficit);
                }
            }
        }
    }

    /// Writes the slot of a heavy class that has no excess left, and turns to the next.
    #[inline]
    fn used_up(&self, heavy: Start, deficit: u64) -> Start {
        let lacks = deficit - heavy.reach;
        let next = next_mark(self.heavies, heavy.heavy + 1);
        let word = match next {
            Some(next) if lacks > 0 => (FULL - lacks) << 32 | next as u64,
            _ => heavy.heavy as u64, // full
        };
        self.table[heavy.heavy].store(word, Relaxed);
        match next {
            Some(next) if next == self.last.heavy => self.last,
            Some(next) => Start { heavy: next, reach: heavy.reach + (self.table[next].load(Relaxed) - FULL) },
            None => Start::NONE,
        }
    }
}

/// How weights become units.
struct Rounding {
    factor: Two,
    scale: f64,
    floor: f64, // positive weights below it get one unit
}

impl Rounding {
    /// The units of a weight, and by how much they are too few; 0 for those that have what they must have.
    #[inline(always)]
    fn units(&self, weight: f64) -> (u64, f64) {
        let scaled = weight * self.scale;
        let product = scaled * self.factor.high;
        let low = scaled.mul_add(self.factor.high, -product) + scaled * self.factor.low;
        let whole = product.floor();
        let fraction = (product - whole) + low;
        let step = (fraction + 0.5).floor();
        let units = whole + step; // exact below 2^53, and then all that matters
        let large = (whole as u64).wrapping_add_signed(step as i64);
        let is_kept = weight > 0.0 && (weight < self.floor || units < 1.0);
        match is_kept {
            true => (1, 0.0),
            false => (large, fraction - step),
        }
    }
}

struct Round<'a> {
    weights: &'a [f64],
    rounding: &'a Rounding,
    units: &'a mut [u64],
}

impl Kernel for Round<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<I: Isa>(self, _isa: I) -> u64 {
        let mut sum = 0_u64;
        for (units, &weight) in self.units.iter_mut().zip(self.weights) {
            *units = self.rounding.units(weight).0;
            sum = sum.wrapping_add(*units);
        }
        sum
    }
}

struct Logq<'a> {
    units: &'a [u64],
    shift: f64,
    logq: &'a mut [f32],
}

impl Kernel for Logq<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let lanes = isa.f64();
        let shift = lanes.splat(self.shift);
        for (logq, units) in self.logq.chunks_mut(16).zip(self.units.chunks(16)) {
            let mut numbers = [0.0; 16];
            for (number, &units) in numbers.iter_mut().zip(units) {
                *number = units as f64;
            }
            let halves = [
                lanes.sub(elementary::log(lanes, lanes.load(&numbers)), shift),
                lanes.sub(elementary::log(lanes, lanes.load(&numbers[8..])), shift),
            ];
            isa.f32().store_part(isa.narrow(halves), logq);
        }
    }
}

/// log x, of subnormal numbers too: they are lifted by 2^60.
#[inline(always)]
fn log_of_any<L: Lanes<Scalar = f64>>(lanes: L, x: L::V) -> L::V {
    let (lift, lifted) = (lanes.splat((1_u64 << 60) as f64), lanes.splat(60.0 * std::f64::consts::LN_2));
    let is_tiny = lanes.gt(lanes.splat(1e-290), x);
    let log = elementary::log(lanes, lanes.select(is_tiny, lanes.mul(x, lift), x));
    lanes.sub(log, lanes.select(is_tiny, lifted, lanes.splat(0.0)))
}

struct Power<'a> {
    weights: &'a [f64],
    power: f64,
    highest: f64,
    powers: &'a mut [f64],
}

impl Kernel for Power<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let lanes = isa.f64();
        let zero = lanes.splat(0.0);
        let power = lanes.splat(self.power);
        let highest = log_of_any(lanes, lanes.splat(self.highest));
        let window = Window::new(lanes, 0.0);
        for (powers, weights) in self.powers.chunks_mut(8).zip(self.weights.chunks(8)) {
            let weights = lanes.load_or(weights, 0.0);
            let z = lanes.mul(power, lanes.sub(log_of_any(lanes, weights), highest));
            let of_positive = lanes.max(elementary::exp(lanes, z, None, &window), lanes.splat(f64::MIN_POSITIVE));
            lanes.store_part(lanes.select(lanes.gt(weights, zero), of_positive, zero), powers);
        }
    }
}

struct Sum<'a> {
    weights: &'a [f64],
    scale: f64,
    floor: f64,
}

impl Kernel for Sum<'_> {
    type Output = (Survey, bool);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> (Survey, bool) {
        let lanes = isa.f64();
        let (zero, infinity) = (lanes.splat(0.0), lanes.splat(f64::INFINITY));
        let (scale, floor) = (lanes.splat(self.scale), lanes.splat(self.floor));
        let (mut high, mut low, mut highest, mut lowest) = (zero, zero, zero, infinity);
        let (mut positive, mut below, mut is_sound) = (0, 0, true);
        for weights in self.weights.chunks(8) {
            let weight = lanes.load_or(weights, 0.0);
            let is_right = lanes.bits(lanes.ge(weight, zero)) & lanes.bits(lanes.gt(infinity, weight));
            is_sound &= is_right == 0xFF;
            let is_positive = lanes.gt(weight, zero);
            positive += lanes.bits(is_positive).count_ones();
            highest = lanes.max(weight, highest);
            lowest = lanes.min(lanes.select(is_positive, weight, infinity), lowest);
            let is_below = lanes.gt(floor, weight);
            below += (lanes.bits(is_below) & lanes.bits(is_positive)).count_ones();
            let term = lanes.mul(lanes.select(is_below, zero, weight), scale);
            let sum = lanes.add(high, term);
            let part = lanes.sub(sum, high);
            let lost = lanes.add(lanes.sub(high, lanes.sub(sum, part)), lanes.sub(term, part));
            (high, low) = (sum, lanes.add(low, lost));
        }
        let (mut highs, mut lows) = ([0.0; 8], [0.0; 8]);
        lanes.store(high, &mut highs);
        lanes.store(low, &mut lows);
        let sums = highs.into_iter().zip(lows).map(|(high, low)| Two { high, low });
        let sum = sums.fold(Survey::EMPTY.sum, Two::plus);
        let survey = Survey {
            scale: self.scale,
            sum,
            highest: lanes.reduce_max(highest),
            lowest: lanes.reduce_min(lowest),
            positive: positive as usize,
            below: below as usize,
        };
        (survey, is_sound)
    }
}
