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
        match logq {
            Some(logq) => dispatch(level, Draw { table: self, noise, first, ids, logq: WithLogq(logq) }),
            None => dispatch(level, Draw { table: self, noise, first, ids, logq: WithoutLogq }),
        }
    }

    fn logq(&self, _level: Level, ids: &[u32], logq: &mut [f32]) {
        for (logq, &id) in logq.iter_mut().zip(ids) {
            *logq = self.logq[id as usize];
        }
    }
}

/// Steps between asking for memory and reading it: so many batches are under way.
const LAG: usize = 4;

/// Where the logarithms go, if they are wanted.
trait LogqTarget {
    fn prefetch<I: Isa>(&self, isa: I, table: &AliasTable, ids: &[u32]);
    fn write(&mut self, table: &AliasTable, from: usize, ids: &[u32]);
}

struct WithLogq<'a>(&'a mut [f32]);
struct WithoutLogq;

impl LogqTarget for WithLogq<'_> {
    #[inline(always)]
    fn prefetch<I: Isa>(&self, isa: I, table: &AliasTable, ids: &[u32]) {
        for &id in ids {
            isa.prefetch(&table.logq[id as usize..][..1]);
        }
    }
    #[inline(always)]
    fn write(&mut self, table: &AliasTable, from: usize, ids: &[u32]) {
        for (logq, &id) in self.0[from..].iter_mut().zip(ids) {
            *logq = table.logq[id as usize];
        }
    }
}

impl LogqTarget for WithoutLogq {
    #[inline(always)]
    fn prefetch<I: Isa>(&self, _isa: I, _table: &AliasTable, _ids: &[u32]) {}
    #[inline(always)]
    fn write(&mut self, _table: &AliasTable, _from: usize, _ids: &[u32]) {}
}

struct Draw<'a, T> {
    table: &'a AliasTable,
    noise: &'a Noise,
    first: u64,
    ids: &'a mut [u32],
    logq: T,
}

/// Slots and fractions of a batch of words.
#[derive(Clone, Copy)]
struct Batch {
    slots: [u32; WORDS],
    fractions: [u32; WORDS],
}

impl<T: LogqTarget> Draw<'_, T> {
    /// The slots of the words from `at`, which is even, on; their memory is asked for.
    #[inline(always)]
    fn look_up<I: Isa>(&self, isa: I, at: u64) -> Batch {
        let slots = &*self.table.slots;
        let classes = slots.len() as u64;
        let mut batch = Batch { slots: [0; WORDS], fractions: [0; WORDS] };
        for (index, word) in self.noise.words(isa, at).into_iter().enumerate() {
            let product = u128::from(word) * u128::from(classes);
            batch.slots[index] = (product >> 64) as u32;
            batch.fractions[index] = (product as u64 >> 32) as u32;
            isa.prefetch(&slots[batch.slots[index] as usize..][..1]);
        }
        batch
    }

    /// The classes of the batch of a step.
    #[inline(always)]
    fn choose<I: Isa>(&mut self, isa: I, batch: &Batch, step: usize, skipped: usize) {
        let (from, to) = draws_of(step, skipped, self.ids.len());
        let skipped = if step == 0 { skipped } else { 0 };
        let (ids, slots) = (&mut self.ids[from..to], &*self.table.slots);
        for ((id, &slot), &fraction) in ids.iter_mut().zip(&batch.slots[skipped..]).zip(&batch.fractions[skipped..]) {
            let word = slots[slot as usize];
            // no branch: it would go either way
            *id = select_unpredictable(u64::from(fraction) < word >> 32, slot, word as u32);
        }
        self.logq.prefetch(isa, self.table, ids);
    }
}

impl<T: LogqTarget> Kernel for Draw<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let (count, skipped) = (self.ids.len(), (self.first % 2) as usize);
        let start = self.first - skipped as u64;
        let steps = (count + skipped).div_ceil(WORDS);
        let mut batches = [Batch { slots: [0; WORDS], fractions: [0; WORDS] }; LAG];
        for step in 0..steps + 2 * LAG {
            if (LAG..steps + LAG).contains(&step) {
                let batch = batches[step % LAG];
                self.choose(isa, &batch, step - LAG, skipped);
            }
            if step < steps {
                batches[step % LAG] = self.look_up(isa, start + (step * WORDS) as u64);
            }
            if step >= 2 * LAG {
                let (from, to) = draws_of(step - 2 * LAG, skipped, count);
                self.logq.write(self.table, from, &self.ids[from..to]);
            }
        }
    }
}

/// The draws of a step; of the first one `skipped` words are left out.
#[inline(always)]
fn draws_of(step: usize, skipped: usize, count: usize) -> (usize, usize) {
    ((step * WORDS).saturating_sub(skipped), count.min((step + 1) * WORDS - skipped))
}
