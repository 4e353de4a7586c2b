//! Draws with replacement, over threads; classes that a row excludes are replaced or marked.
//!
//! Draw j of a call is the class of word position + j of the stream, whatever the shape: pieces of [`UNIT`] draws go to
//! threads. An excluded class is drawn again by noise that hangs on its own word until it is not excluded, so other draws
//! stay what they are; after a number of tries that costs as much as looking at every class, `race` takes over.

use super::philox::{Noise, Purpose};
use super::race::Race;
use super::stream::Stream;
use super::{Law, Proposal};
use crate::error::{Error, Result};
use crate::rows::{Chunks, Places, Rows, RowsMut};
use crate::simd::{Isa, Kernel, Level, dispatch};
use crate::threads::{Job, for_each_piece};

/// Draws of a piece: their ids and logq stay in the first cache.
const UNIT: usize = 4096;
/// Time of a draw, ns: for cutting work.
const COST: f64 = 4.0;
/// Draws made at a time where one is replaced.
const BATCH: usize = 16;

/// The integers that ids are written as: i32 or i64.
pub trait Id: Copy + Send + Sync + 'static {
    /// The most classes that have such ids.
    const CLASSES: u64;
    /// 0.
    const ZERO: Self;
    /// The id of a class, below [`Self::CLASSES`].
    fn of(class: u32) -> Self;
    /// No class: -1.
    const NONE: Self;
}

impl Id for i64 {
    const CLASSES: u64 = u64::MAX;
    const ZERO: Self = 0;
    const NONE: Self = -1;
    #[inline(always)]
    fn of(class: u32) -> Self {
        class.into()
    }
}

impl Id for i32 {
    const CLASSES: u64 = 1 << 31;
    const ZERO: Self = 0;
    const NONE: Self = -1;
    #[inline(always)]
    fn of(class: u32) -> Self {
        class.cast_signed()
    }
}

/// Classes to ids, with the instructions of a set.
struct Widen<'a, T> {
    classes: &'a [u32],
    ids: &'a mut [T],
}

impl<T: Id> Kernel for Widen<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _isa: I) {
        for (id, &class) in self.ids.iter_mut().zip(self.classes) {
            *id = T::of(class);
        }
    }
}

/// Options of a call that draws. The default: nothing excluded, no interrupt.
#[derive(Clone, Copy, Default)]
pub struct Draws<'a> {
    pub(super) exclude: Option<&'a Rows<'a, i64>>,
    pub(super) interrupt: Option<&'a (dyn Fn() -> bool + Sync)>,
}

impl<'a> Draws<'a> {
    /// For each row the classes that it must not draw; -1 stands for none.
    pub fn exclude(self, exclude: &'a Rows<'a, i64>) -> Self {
        Self { exclude: Some(exclude), ..self }
    }

    /// Asked now and then, from any thread, whether to stop with [`Error::Interrupted`].
    pub fn interrupt(self, interrupt: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { interrupt: Some(interrupt), ..self }
    }
}

/// Draws classes into `ids` and their log q into `logq`, both views of one row that holds all draws in C order.
///
/// With `exclude`, as many draws belong to each of its rows as there are draws a row.
///
/// ```
/// use softmaxfam::RowsMut;
/// use softmaxfam::samplers::{Draws, Proposal, Stream, Uniform, sample};
/// let mut ids = [0_i64; 5];
/// let proposal = Proposal::Uniform(Uniform::new(10)?);
/// sample(&proposal, Stream::new(7, 0), &mut RowsMut::new(&mut ids, 5)?, None, &Draws::default())?;
/// assert!(ids.iter().all(|id| (0..10).contains(id)));
/// # Ok::<(), softmaxfam::Error>(())
/// ```
pub fn sample<T: Id>(
    proposal: &Proposal,
    stream: Stream,
    ids: &mut RowsMut<'_, T>,
    logq: Option<&mut RowsMut<'_, f32>>,
    draws: &Draws<'_>,
) -> Result<()> {
    let law = proposal.law();
    let count = ids.rows() * ids.classes();
    ids.expect("ids", 1, count)?;
    if let Some(logq) = &logq {
        logq.expect("logq", 1, count)?;
    }
    check_ids::<T>(law)?;
    let (noise, first) = stream.words(count)?;
    let excluded = draws.exclude.map(|rows| Excluded::new(law, rows, count)).transpose()?;
    let level = Level::active();
    let outputs = (Chunks::new(ids.reborrow(), UNIT), logq.map(|logq| Chunks::new(logq.reborrow(), UNIT)));
    let job = Job {
        rows: count.div_ceil(UNIT),
        row_cost: COST * UNIT.min(count) as f64,
        together: 1,
        interrupt: draws.interrupt,
    };
    for_each_piece(job, outputs, |units, (mut ids, mut logq)| {
        let mut found = vec![0; UNIT.min(count)];
        let (mut buffer, mut logs) = (vec![T::ZERO; found.len()], vec![0.0; found.len()]);
        for unit in units {
            let (from, to) = (unit * UNIT, count.min((unit + 1) * UNIT));
            let found = &mut found[..to - from];
            let mut of_unit = logq.as_mut().map(|logq| logq.place(unit, from, to, &mut logs));
            law.draw(level, &noise, first + from as u64, found, of_unit.as_deref_mut());
            if let Some(excluded) = &excluded {
                excluded.replace(law, level, &noise, first, from, found, of_unit)?;
            }
            let target = ids.place(unit, from, to, &mut buffer);
            dispatch(level, Widen { classes: found, ids: target });
            ids.settle(unit, from, to, &buffer);
            if let Some(logq) = &mut logq {
                logq.settle(unit, from, to, &logs);
            }
        }
        Ok(())
    })
}

pub(super) fn check_ids<T: Id>(law: &dyn Law) -> Result<()> {
    let classes = law.classes();
    if u64::from(classes) <= T::CLASSES { Ok(()) } else { Err(Error::Narrow { classes: classes as usize }) }
}

/// log q of some classes, in the order of `ids`: both views of the same rows and classes.
pub fn logq(proposal: &Proposal, ids: &Rows<'_, i64>, logq: &mut RowsMut<'_, f32>) -> Result<()> {
    let law = proposal.law();
    logq.expect("logq", ids.rows(), ids.classes())?;
    let (mut given, mut classes) = (vec![0; ids.classes()], vec![0; ids.classes()]);
    for row in 0..ids.rows() {
        ids.copy_into(row, 0, &mut given);
        given.iter().try_for_each(|&id| class(law, id).map(|_| ()))?;
    }
    let level = Level::active();
    let mut logs = vec![0.0; ids.classes()];
    for row in 0..ids.rows() {
        ids.copy_into(row, 0, &mut given);
        classes.iter_mut().zip(&given).for_each(|(class, &id)| *class = id as u32);
        law.logq(level, &classes, logq.place(row, 0, given.len(), &mut logs));
        logq.settle(row, 0, given.len(), &logs);
    }
    Ok(())
}

fn class(law: &dyn Law, id: i64) -> Result<u32> {
    let classes = law.classes();
    let found = u32::try_from(id).ok().filter(|&class| class < classes);
    found.ok_or(Error::Class { given: id, classes: classes as usize })
}

/// The classes that a row must not draw, distinct and in order.
pub(super) fn excluded_of(
    law: &dyn Law,
    level: Level,
    exclude: &Rows<'_, i64>,
    row: usize,
    into: &mut Vec<u32>,
) -> Result<()> {
    into.clear();
    for slot in 0..exclude.classes() {
        match exclude.get(row, slot) {
            -1 => {}
            id => into.push(class(law, id)?),
        }
    }
    into.sort_unstable();
    into.dedup();
    let mut logq = vec![0.0; into.len()];
    law.logq(level, into, &mut logq);
    let mut logs = logq.iter();
    into.retain(|_| *logs.next().expect("one for each") > f32::NEG_INFINITY); // the others are never drawn
    Ok(())
}

/// Excluded classes of a call whose draws belong to rows.
struct Excluded<'a> {
    exclude: &'a Rows<'a, i64>,
    per_row: usize,
}

impl<'a> Excluded<'a> {
    /// Checks that each row has a class left.
    fn new(law: &dyn Law, exclude: &'a Rows<'a, i64>, count: usize) -> Result<Self> {
        let per_row = count.checked_div(exclude.rows()).unwrap_or(0);
        if per_row * exclude.rows() != count {
            return Err(Error::Shape {
                what: "exclude",
                given: (exclude.rows(), exclude.classes()),
                needed: (1, exclude.classes()),
            });
        }
        let mut list = Vec::new();
        for row in 0..exclude.rows() {
            excluded_of(law, Level::active(), exclude, row, &mut list)?;
            if list.len() >= law.positive() && per_row > 0 {
                return Err(Error::Unique { row, asked: 1, available: 0 });
            }
        }
        Ok(Self { exclude, per_row })
    }

    /// Draws again what a row must not draw; `from` is the number of the first of these draws in the call.
    #[expect(clippy::too_many_arguments, reason = "what a piece of draws is")]
    fn replace(
        &self,
        law: &dyn Law,
        level: Level,
        noise: &Noise,
        first: u64,
        from: usize,
        ids: &mut [u32],
        mut logq: Option<&mut [f32]>,
    ) -> Result<()> {
        let mut excluded = Vec::new();
        let mut row = usize::MAX;
        for (index, id) in ids.iter_mut().enumerate() {
            let of_draw = (from + index) / self.per_row;
            if of_draw != row {
                row = of_draw;
                excluded_of(law, level, self.exclude, row, &mut excluded)?;
            }
            if excluded.binary_search(id).is_err() {
                continue;
            }
            let word = noise.word(first + (from + index) as u64);
            *id = again(law, level, noise, word, &excluded)?;
            if let Some(logq) = &mut logq {
                law.logq(level, std::slice::from_ref(id), &mut logq[index..=index]);
            }
        }
        Ok(())
    }
}

/// A class that is not excluded, by noise that hangs on a word.
fn again(law: &dyn Law, level: Level, noise: &Noise, word: u64, excluded: &[u32]) -> Result<u32> {
    let tries = noise.derived(word, Purpose::Redraw);
    let mut found = [0; BATCH];
    for batch in 0..8 + u64::from(law.classes()) / (2 * BATCH as u64) {
        law.draw(level, &tries, batch * BATCH as u64, &mut found, None);
        if let Some(id) = found.iter().find(|id| excluded.binary_search(id).is_err()) {
            return Ok(*id);
        }
    }
    let is_out = |class| excluded.binary_search(&class).is_ok();
    let first = Race::run(law, level, &noise.derived(word, Purpose::Race), 1, is_out);
    Ok(first[0])
}
