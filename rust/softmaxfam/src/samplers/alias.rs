//! Any law over classes, as a table of slots (Walker 1977): one word a slot, one random word a draw.
//!
//! A slot holds a threshold (its upper 32 bits) and another class, its alias (its lower 32 bits). A random word times n has
//! the slot above and a fraction below: the draw is the slot itself where the fraction's upper 32 bits are below the
//! threshold, else the alias. A full slot has itself for alias. Class i comes with probability W_i / (n 2^32), W_i being
//! the units that `build` gave it; `logq` is the logarithm of that, the law of the table, not of the weights before they
//! were rounded. Multiply-high adds an error of at most 2^-64 a slot that touches the class.
//! Cost. Philox, a product and two cache misses a draw, which overlap: the slots of a batch are asked for while the words
//! of the next are made, their classes' logq after that.

use super::build;
use super::philox::{Noise, WORDS};
use super::{Law, check_classes};
use crate::error::{Error, Result};
use crate::rows::random_access;
use crate::simd::{Isa, Kernel, Level, dispatch};
use std::hint::select_unpredictable;

/// A law given by weights, for draws at a cost that does not depend on the number of classes.
///
/// ```
/// use softmaxfam::samplers::AliasTable;
/// let table = AliasTable::new(&[3.0, 0.0, 1.0], 1.0, None)?;
/// assert_eq!((table.len(), table.positive()), (3, 2));
/// assert_eq!(table.logq(&[0, 1])?, [0.75_f32.ln(), f32::NEG_INFINITY]);
/// # Ok::<(), softmaxfam::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AliasTable {
    slots: Vec<u64>,
    logq: Vec<f32>,
    positive: usize,
}

impl AliasTable {
    /// The law that is proportional to weights^power: 1 to 2^32 - 1 weights, finite, >= 0, one of them > 0.
    ///
    /// Each probability is right to within 2^-32 / n, and 2^-32 of itself where classes below one unit had to be kept: a
    /// positive weight has at least one unit, a weight of 0 none.
    pub fn new(weights: &[f64], power: f64, interrupt: Option<&(dyn Fn() -> bool + Sync)>) -> Result<Self> {
        check_classes(weights.len())?;
        let build::Built { slots, logq, positive } = build::build(weights, power, interrupt)?;
        Ok(Self { slots, logq, positive })
    }

    /// The table with these slots, as [`AliasTable::slots`] gave them.
    pub fn from_slots(slots: &[u64], interrupt: Option<&(dyn Fn() -> bool + Sync)>) -> Result<Self> {
        check_classes(slots.len())?;
        let classes = slots.len() as u64;
        if let Some(slot) = slots.iter().position(|&word| u64::from(word as u32) >= classes) {
            return Err(Error::Slot { slot, alias: slots[slot] as u32, classes: slots.len() });
        }
        let (logq, positive) = build::law(slots, interrupt)?;
        let mut own = random_access(slots.len());
        own.copy_from_slice(slots);
        Ok(Self { slots: own, logq, positive })
    }

    /// The slots: threshold above, alias below.
    pub fn slots(&self) -> &[u64] {
        &self.slots
    }

    /// The number of classes.
    #[expect(clippy::len_without_is_empty, reason = "a table has at least one class")]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The number of classes that can be drawn.
    pub fn positive(&self) -> usize {
        self.positive
    }

    /// log q of these classes.
    pub fn logq(&self, classes: &[i64]) -> Result<Vec<f32>> {
        let logq = |&class: &i64| usize::try_from(class).ok().and_then(|class| self.logq.get(class)).copied();
        let refused = |&class: &i64| Error::Class { given: class, classes: self.len() };
        classes.iter().map(|class| logq(class).ok_or_else(|| refused(class))).collect()
    }

    /// The memory that is held, in bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.slots) + size_of_val(&*self.logq)
    }
}

impl Law for AliasTable {
    fn classes(&self) -> u32 {
        self.slots.len() as u32
    }

    fn positive(&self) -> usize {
        self.positive
    }

    fn draw(&self, level: Level, noise: &Noise, first: u64, ids: &mut [u32], logq: Option<&mut [f32]>) {
        dispatch(level, Draw { table: self, noise, first, ids, logq });
    }

    fn logq(&self, _level: Level, ids: &[u32], logq: &mut [f32]) {
        for (logq, &id) in logq.iter_mut().zip(ids) {
            *logq = self.logq[id as usize];
        }
    }
}

/// Steps between asking for memory and reading it: so many batches are under way.
const LAG: usize = 2;

struct Draw<'a> {
    table: &'a AliasTable,
    noise: &'a Noise,
    first: u64,
    ids: &'a mut [u32],
    logq: Option<&'a mut [f32]>,
}

impl Kernel for Draw<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { table, noise, first, ids, mut logq } = self;
        let (slots, logs) = (&*table.slots, &*table.logq);
        let (count, skipped) = (ids.len(), (first % 2) as usize);
        let steps = (count + skipped).div_ceil(WORDS);
        // of a place the slot is above, the fraction below
        let (mut places, mut classes) = ([[0; WORDS]; LAG], [[0; WORDS]; LAG]);
        for step in 0..steps + 2 * LAG {
            let (places, classes) = (&mut places[step % LAG], &mut classes[step % LAG]);
            let mut fresh = [0; WORDS];
            if step < steps {
                fresh = noise.scaled(isa, first - skipped as u64 + (step * WORDS) as u64, slots.len() as u32);
            }
            let (mut drawn, mut drawn_logq) = ([0; WORDS], [0.0; WORDS]);
            for word in 0..WORDS {
                drawn[word] = classes[word];
                if logq.is_some() {
                    drawn_logq[word] = logs[classes[word] as usize];
                }
                let slot = (places[word] >> 32) as u32;
                let both = slots[slot as usize];
                // no branch: it would go either way
                classes[word] = select_unpredictable(u64::from(places[word] as u32) < both >> 32, slot, both as u32);
                if logq.is_some() {
                    isa.prefetch_at(logs, classes[word] as usize);
                }
                places[word] = fresh[word];
                isa.prefetch_at(slots, (fresh[word] >> 32) as usize);
            }
            if step >= 2 * LAG {
                let (from, to) = draws_of(step - 2 * LAG, skipped, count);
                let words = if from == 0 { skipped..skipped + to } else { 0..to - from };
                ids[from..to].copy_from_slice(&drawn[words.clone()]);
                if let Some(logq) = &mut logq {
                    logq[from..to].copy_from_slice(&drawn_logq[words]);
                }
            }
        }
    }
}

/// The draws of a step; of the first one `skipped` words are left out.
#[inline(always)]
fn draws_of(step: usize, skipped: usize, count: usize) -> (usize, usize) {
    ((step * WORDS).saturating_sub(skipped), count.min((step + 1) * WORDS - skipped))
}
