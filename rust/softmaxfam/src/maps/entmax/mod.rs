//! entmax of each row: the projections between softmax and argmax, whose results are sparse.
//!
//! p_i = [1 + a (x_i / T - normalizer)]_+^(1/a), a = alpha - 1, sums to 1 (Peters, Niculae, Martins 2019; sparsemax, alpha = 2:
//! Martins, Astudillo 2016). One pass lists the few classes that can be in the support (`filter`), the threshold is
//! solved for on them (`solve`), and the rest of the row is zeros that nobody computes. Rows whose support is too large
//! to list, and orders that have no cut, are solved in place: each step reads the row again, in blocks, from cache. Short
//! rows of the two common orders are solved side by side (`beside`).

mod beside;
mod curve;
pub(crate) mod filter;
mod normmax;
mod solve;

pub use normmax::normmax;

use super::beside::{self as side, Tile};
use super::softmax::softmax;
use super::strips::{Rounded, STRIP};
use crate::error::{Error, Result};
use crate::options::{Options, PerRow};
use crate::rows::{BLOCK, Places, Results, Rows, RowsMut, Source};
use crate::simd::{Element, Isa, Kernel, Lanes, LanesOf, Level, Real, dispatch};
use crate::threads::{Job, for_each_piece};
use beside::Beside;
use filter::{AddBlock, Filter, Reach, State};
use solve::{AddSums, Descend, Probabilities, Solution, Sums, climb, near};
use std::ops::Range;

/// Time of one class, ns a byte, and of a row: for cutting work, not a promise.
const COST: f64 = 0.06;
const ROW_COST: f64 = 200.0;
/// Below this a (1/32) a cut lies so far out that looking for it is in vain.
const LEAST_CUT: f64 = 1.0 / 32.0;

/// entmax of order `alpha` of each row into `out`, which may be the memory of the scores.
///
/// `alpha` is > 0: 1 is softmax, 2 is sparsemax, infinity shares 1 among the maxima, below 1 tails are heavier than softmax's.
/// A row with NaN or +inf, or with nothing above -inf, gives NaN; a row that is masked as a whole gives zeros.
///
/// ```
/// use softmaxfam::{Options, Rows, RowsMut, entmax};
/// let scores = [1.0_f64, 0.5, -1.0];
/// let mut p = [0.0; 3];
/// entmax(&Rows::new(&scores, 3)?, 2.0.into(), &Options::default(), &mut RowsMut::new(&mut p, 3)?)?;
/// assert_eq!(p, [0.75, 0.25, 0.0]);
/// # Ok::<(), softmaxfam::Error>(())
/// ```
pub fn entmax<E: Element>(
    scores: &Rows<'_, E>,
    alpha: PerRow<'_>,
    options: &Options<'_>,
    out: &mut RowsMut<'_, E>,
) -> Result<()> {
    if matches!(alpha, PerRow::Same(1.0)) {
        return softmax(scores, options, out);
    }
    check(scores, alpha, options)?;
    out.expect("out", scores.rows(), scores.classes())?;
    of_rows(Source::new(scores, options.mask), alpha, options, Results::new(out))
}

fn of_rows<R: Real>(
    source: Source<'_, R>,
    alpha: PerRow<'_>,
    options: &Options<'_>,
    out: Results<'_, R>,
) -> Result<()> {
    let to_write = source.written_to(&out);
    let level = Level::active();
    let is_short = side::suits(&source);
    let mut job = job(&source, options);
    if is_short {
        (job.row_cost, job.together) = (0.2 * job.row_cost, side::ROWS);
    }
    for_each_piece(job, out, |rows, mut out| {
        let mut solver = Solver::new(level, source);
        let mut results = out.buffer();
        let mut short = is_short.then(|| (Tile::new(&to_write), Beside::new(source.classes())));
        let mut row = rows.start;
        while row < rows.end {
            let order = Order::new(alpha.of(row), options.temperature.of(row));
            let (solver, results) = (&mut solver, &mut results[..]);
            match &mut short {
                Some((tile, beside)) if beside::suits(order.a) => {
                    let (call, rows) = ((source, to_write, options.temperature), run_of_order(alpha, row..rows.end));
                    let at = row;
                    row = rows.end;
                    dispatch(level, ShortRows { call, rows, a: order.a, tile, beside, results, at, out: &mut out });
                }
                _ => {
                    dispatch(level, DenseRow { solver, to_write, row, order, results, out: &mut out });
                    row += 1;
                }
            }
        }
        Ok(())
    })
}

/// The first rows that are solved side by side: those of one order.
fn run_of_order(alpha: PerRow<'_>, rows: Range<usize>) -> Range<usize> {
    let same = rows.clone().take(side::ROWS).take_while(|&row| alpha.of(row) == alpha.of(rows.start));
    rows.start..rows.start + same.count()
}

/// The threshold of entmax of each row: into `normalizer` and `log_p_max` numbers, into `support_size` counts.
///
/// p_i = [1 + (alpha-1) (x_i / T - normalizer)]_+^(1/(alpha-1)); at alpha = 1 the normalizer is logsumexp. All views of one class.
/// An undefined row gives NaN and support 0; a row that is masked as a whole -inf, 0, -inf.
pub fn entmax_threshold<E: Element>(
    scores: &Rows<'_, E>,
    alpha: PerRow<'_>,
    options: &Options<'_>,
    normalizer: &mut RowsMut<'_, E>,
    support_size: &mut RowsMut<'_, i64>,
    log_p_max: &mut RowsMut<'_, E>,
) -> Result<()> {
    check(scores, alpha, options)?;
    normalizer.expect("normalizer", scores.rows(), 1)?;
    support_size.expect("support_size", scores.rows(), 1)?;
    log_p_max.expect("log_p_max", scores.rows(), 1)?;
    let outputs = (Results::new(normalizer), support_size.reborrow(), Results::new(log_p_max));
    thresholds(Source::new(scores, options.mask), alpha, options, outputs)
}

fn thresholds<R: Real>(
    source: Source<'_, R>,
    alpha: PerRow<'_>,
    options: &Options<'_>,
    outputs: (Results<'_, R>, RowsMut<'_, i64>, Results<'_, R>),
) -> Result<()> {
    let level = Level::active();
    for_each_piece(job(&source, options), outputs, |rows, (mut normalizer, mut support_size, mut log_p_max)| {
        let mut solver = Solver::new(level, source);
        for row in rows {
            let order = Order::new(alpha.of(row), options.temperature.of(row));
            let solved = solver.solve_row(row, order);
            let (middle, support, log_p) = match solved {
                Solved::Undefined => (f64::NAN, 0, f64::NAN),
                Solved::Absent => (f64::NEG_INFINITY, 0, f64::NEG_INFINITY),
                Solved::Listed { highest, support, log_p_max } => {
                    (order.normalizer(highest, log_p_max), support, log_p_max)
                }
                Solved::Spread { highest, solution } => {
                    (order.normalizer(highest, solution.log_p_max), solution.support, solution.log_p_max)
                }
            };
            normalizer.set(row, 0, middle);
            support_size.set(row, 0, support as i64);
            log_p_max.set(row, 0, log_p);
        }
        Ok(())
    })
}

/// Rows of probabilities without their zeros: row r has the classes `indices[indptr[r]..indptr[r + 1]]`, in ascending order.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseRows<E> {
    /// Where each row starts, and the end: one more than rows.
    pub indptr: Vec<i64>,
    /// Classes.
    pub indices: Vec<i64>,
    /// Their probabilities.
    pub values: Vec<E>,
}

impl<E: Element> SparseRows<E> {
    /// Of the entries of each row, rounded once.
    pub(crate) fn of_parts(parts: Vec<Entries>) -> Self {
        let total = parts.iter().map(Vec::len).sum();
        let (mut indices, mut values) = (Vec::with_capacity(total), Vec::with_capacity(total));
        let mut indptr = Vec::with_capacity(parts.len() + 1);
        indptr.push(0);
        for part in parts {
            indices.extend(part.iter().map(|entry| entry.0));
            values.extend(part.iter().map(|entry| E::of_f64_once(entry.1)));
            indptr.push(indices.len() as i64);
        }
        Self { indptr, indices, values }
    }
}

/// entmax of each row without its zeros; never makes the dense result. An undefined row holds NaN for each class.
///
/// A support larger than `max_support` is refused with [`Error::Support`].
pub fn entmax_sparse<E: Element>(
    scores: &Rows<'_, E>,
    alpha: PerRow<'_>,
    options: &Options<'_>,
    max_support: Option<usize>,
) -> Result<SparseRows<E>> {
    check(scores, alpha, options)?;
    let limit = max_support.unwrap_or(usize::MAX);
    let is_zero = |p| E::of_f64_once(p) == E::ZERO;
    let parts = entries(Source::new(scores, options.mask), alpha, options, limit, is_zero)?;
    Ok(SparseRows::of_parts(parts))
}

/// Classes with their numbers.
pub(crate) type Entries = Vec<(i64, f64)>;

/// The entries of each row, those left out that are zero as they will be stored.
fn entries<R: Real>(
    source: Source<'_, R>,
    alpha: PerRow<'_>,
    options: &Options<'_>,
    limit: usize,
    is_zero: fn(f64) -> bool,
) -> Result<Vec<Entries>> {
    let level = Level::active();
    let mut parts = vec![Vec::new(); source.rows()];
    for_each_piece(job(&source, options), RowsMut::from_rows(&mut parts), |rows, mut parts| {
        let mut solver = Solver::new(level, source);
        let mut short = side::suits(&source).then(|| (Tile::new(&source), Beside::new(source.classes())));
        let mut dense = vec![R::ZERO; if short.is_some() { side::ROWS * source.classes() } else { 0 }];
        let mut row = rows.start;
        while row < rows.end {
            let order = Order::new(alpha.of(row), options.temperature.of(row));
            match &mut short {
                Some((tile, beside)) if beside::suits(order.a) => {
                    let (call, rows) = ((source, source, options.temperature), run_of_order(alpha, row..rows.end));
                    let mut out = RowsMut::new(&mut dense, source.classes())?;
                    let (results, out) = (&mut [][..], &mut Results::new(&mut out));
                    let (a, at) = (order.a, 0);
                    dispatch(level, ShortRows { call, rows: rows.clone(), a, tile, beside, results, at, out });
                    for (row, dense) in rows.clone().zip(dense.chunks_exact(source.classes())) {
                        parts.set(row, 0, within_limit(row, present(0, dense, is_zero).collect(), limit)?);
                    }
                    row = rows.end;
                }
                _ => {
                    let entries = dispatch(level, SparseRow { solver: &mut solver, row, order, limit, is_zero })?;
                    parts.set(row, 0, entries);
                    row += 1;
                }
            }
        }
        Ok(())
    })?;
    Ok(parts)
}

/// The entries among probabilities of the classes from `first` on.
fn present<R: Real>(first: usize, p: &[R], is_zero: fn(f64) -> bool) -> impl Iterator<Item = (i64, f64)> {
    let each = (first as i64..).zip(p).map(|(class, p)| (class, p.to_f64()));
    each.filter(move |(_, p)| *p != 0.0 && !is_zero(*p))
}

/// The entries of a row, unless they are too many.
fn within_limit(row: usize, entries: Entries, limit: usize) -> Result<Entries> {
    let support = entries.len();
    if support > limit { Err(Error::Support { row, support, limit }) } else { Ok(entries) }
}

pub(crate) fn check<E: Element>(scores: &Rows<'_, E>, alpha: PerRow<'_>, options: &Options<'_>) -> Result<()> {
    options.check(scores)?;
    alpha.check(
        "alpha",
        scores.rows(),
        |given| if given > 0.0 { Ok(()) } else { Err(Error::Alpha { given, above: 0.0 }) },
    )
}

pub(crate) fn job<'a, R: Real>(source: &Source<'_, R>, options: &Options<'a>) -> Job<'a> {
    let row_cost = ROW_COST + COST * (source.classes() * size_of::<R>()) as f64;
    Job { rows: source.rows(), row_cost, together: 1, interrupt: options.interrupt }
}

/// What a row is solved under.
#[derive(Clone, Copy)]
pub(crate) struct Order {
    pub(crate) a: f64, // alpha - 1; 0 where it is too small to matter
    pub(crate) temperature: f64,
    has_cut: bool, // whether the cut lies near enough to be looked for
}

/// What a filter must know of an order above 1 at a temperature; supports of any size are listed.
pub(crate) fn reach_of(alpha: f64, temperature: f64) -> Reach {
    Reach { unlimited: true, ..Order::new(alpha, temperature).reach() }
}

impl Order {
    pub(crate) fn new(alpha: f64, temperature: f64) -> Self {
        let a = alpha - 1.0;
        // at |z| <= 745 the curve differs from e^z by a z^2 / 2 at most: less than half an eps of f64
        Self { a: if a.abs() < 1e-22 { 0.0 } else { a }, temperature, has_cut: a >= LEAST_CUT }
    }

    /// Of the powers v^alpha that normmax's probabilities follow from.
    pub(crate) fn of_normmax(alpha: f64, temperature: f64) -> Self {
        let a = if alpha == f64::INFINITY { 1.0 } else { (alpha - 1.0) / alpha };
        Self { a, temperature: temperature * a, has_cut: true }
    }

    fn reach(&self) -> Reach {
        Reach {
            depth: if self.has_cut { self.temperature / self.a } else { f64::INFINITY },
            power: if self.has_cut { (1.0 / self.a).ceil().max(1.0) as u32 } else { 1 },
            unlimited: self.a > 1.0,
        }
    }

    fn normalizer(&self, highest: f64, log_p_max: f64) -> f64 {
        let u = -log_p_max;
        let above = match self.a {
            0.0 => u,
            f64::INFINITY => 0.0,
            a => -(-a * u).exp_m1() / a,
        };
        highest / self.temperature + above
    }
}

/// What became of a row.
#[derive(Clone, Copy)]
pub(crate) enum Solved {
    /// NaN or +inf, or nothing above -inf.
    Undefined,
    /// Masked as a whole.
    Absent,
    /// The probabilities of the candidates are listed.
    Listed { highest: f64, support: usize, log_p_max: f64 },
    /// The probabilities follow from the scores.
    Spread { highest: f64, solution: Solution },
}

/// Solves row after row with the same buffers.
pub(crate) struct Solver<'a, R: Real> {
    level: Level,
    source: Source<'a, R>,
    buffer: Box<[R]>,
    filter: Filter<R>,
    z: Vec<f64>,
    p: Vec<f64>, // of the candidates
    order: Vec<u32>,
    work: Vec<f64>,
}

impl<'a, R: Real> Solver<'a, R> {
    pub(crate) fn new(level: Level, source: Source<'a, R>) -> Self {
        let (z, p, order, work) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { level, source, buffer: source.buffer(), filter: Filter::new(), z, p, order, work }
    }

    #[inline(always)]
    fn solve<I: Isa>(&mut self, isa: I, row: usize, order: Order) -> Solved {
        self.filter.start(order.reach());
        for first in (0..self.source.classes()).step_by(BLOCK) {
            let end = self.source.classes().min(first + BLOCK);
            let adding = AddBlock { isa, filter: &mut self.filter, first };
            self.source.visit(row, first, end, &mut self.buffer, adding);
            if self.filter.state() != State::Listed {
                break;
            }
        }
        match self.filter.state() {
            State::Undefined => Solved::Undefined,
            State::TooMany => self.solve_spread(isa, row, order),
            State::Listed if self.filter.highest == f64::NEG_INFINITY => {
                if self.source.is_absent(row) {
                    Solved::Absent
                } else {
                    Solved::Undefined
                }
            }
            State::Listed => self.solve_listed(order),
        }
    }

    /// Solves a row outside of any kernel.
    pub(crate) fn solve_row(&mut self, row: usize, order: Order) -> Solved {
        dispatch(self.level, SolveRow { solver: self, row, order })
    }

    /// The candidates of a row that was [`Solved::Listed`], in ascending order, and their probabilities.
    pub(crate) fn listed(&self) -> (&[u32], &[f64]) {
        (self.filter.indices(), &self.p)
    }

    /// Solves again for a listed row whose order is at most 2, in u = -log p_max and with 1 + a e^(au) z formed as (1 + a z) +
    /// a z expm1(a u): relative digits of the small probabilities of confident rows, where e^(au) rounds to 1. Returns log p_max.
    pub(crate) fn polish(&mut self, order: Order, log_p_max: f64) -> f64 {
        let a = order.a;
        let mut u = -log_p_max;
        for _ in 0..8 {
            let (mut others, mut slopes) = (0.0, 0.0);
            let bend = (a * u).exp_m1();
            for (z, p) in self.z.iter().zip(&mut self.p).filter(|(z, _)| **z > f64::NEG_INFINITY) {
                let w = a.mul_add(*z, 1.0) + a * *z * bend;
                let r = match a {
                    _ if w <= 0.0 => 0.0,
                    0.5 => w * w,
                    1.0 => w,
                    _ => (w.ln() / a).exp(),
                };
                *p = r;
                others += r;
                slopes += if w > 0.0 { r / w } else { 0.0 };
            }
            let above = others.ln_1p() - u;
            let step = -((1.0 + others) / (1.0 + slopes) * (-a * above).exp_m1()).ln_1p() / a;
            if step.is_nan() || step.abs() <= f64::EPSILON * u {
                break;
            }
            u = (u + step).max(0.0);
        }
        let p_max = (-u).exp();
        for (z, p) in self.z.iter().zip(&mut self.p) {
            *p = if *z == f64::NEG_INFINITY { p_max } else { *p * p_max };
        }
        -u
    }

    /// z of the classes from `from` on, a multiple of [`STRIP`], and unless the row is listed, their probabilities.
    pub(crate) fn strip(
        &mut self,
        (row, from): (usize, usize),
        order: Order,
        solved: &Solved,
        z: &mut [f64],
        p: &mut [f64],
    ) {
        let (highest, solution) = match solved {
            Solved::Listed { highest, .. } => (*highest, None),
            Solved::Spread { highest, solution } => (*highest, Some(*solution)),
            Solved::Undefined | Solved::Absent => unreachable!("such a row has no probabilities"),
        };
        let start = from / BLOCK * BLOCK;
        let scores = &self.source.block(row, start, &mut self.buffer)[from - start..][..z.len()];
        dispatch(self.level, Differences { scores, highest, temperature: order.temperature, z });
        if let Some(solution) = solution {
            dispatch(self.level, Probabilities { order, solution, z, p });
        }
    }

    /// A start above p_max^a, from a lower bound of the threshold score.
    fn start(&self, highest: f64, order: Order) -> f64 {
        let reached = (highest - self.filter.bound()) / self.filter.depth();
        if order.has_cut && reached < 1.0 { (reached * (1.0 + 1e-9)).min(1.0) } else { 1.0 }
    }

    fn solve_listed(&mut self, order: Order) -> Solved {
        let highest = self.filter.highest;
        let count = self.filter.values().len();
        let at = self.filter.values().iter().position(|x| (*x).into() == highest).expect("the maximum is a candidate");
        self.z.resize(count, 0.0);
        self.p.resize(count, 0.0);
        let (scores, temperature) = (self.filter.values(), order.temperature);
        dispatch(self.level, Differences { scores, highest, temperature, z: &mut self.z });
        if order.a > 1.0 {
            return self.solve_steep(order);
        }
        self.z[at] = f64::NEG_INFINITY;
        let start = self.start(highest, order);
        let solution = climb(order.a, start, near::<R>(), |coefficient| {
            let mut sums = Sums::default();
            dispatch(self.level, AddSums { sums: &mut sums, order, z: &self.z, coefficient });
            sums
        });
        dispatch(self.level, Probabilities { order, solution, z: &self.z, p: &mut self.p });
        self.p[at] = solution.p_max;
        Solved::Listed { highest, support: solution.support, log_p_max: solution.log_p_max }
    }

    /// Orders above 2, on candidates sorted by score.
    fn solve_steep(&mut self, order: Order) -> Solved {
        let highest = self.filter.highest;
        let (support, log_p_max) = if order.a == f64::INFINITY {
            let ties = self.z.iter().filter(|z| **z == 0.0).count();
            self.p.iter_mut().zip(&self.z).for_each(|(p, z)| *p = if *z == 0.0 { 1.0 / ties as f64 } else { 0.0 });
            (ties, -(ties as f64).ln())
        } else {
            let z = &self.z;
            self.order.clear();
            self.order.extend(0..z.len() as u32);
            self.order.sort_unstable_by(|&i, &j| z[j as usize].total_cmp(&z[i as usize]).then(i.cmp(&j)));
            let mut x: Vec<f64> = self.order.iter().map(|&i| order.a * z[i as usize]).collect();
            let solved =
                dispatch(self.level, Descend { a: order.a, near: near::<R>(), x: &mut x, work: &mut self.work });
            self.order.iter().zip(&x).for_each(|(&i, p)| self.p[i as usize] = *p);
            solved
        };
        Solved::Listed { highest, support, log_p_max }
    }

    /// A large support: the steps of the solution read the row itself.
    #[inline(always)]
    fn solve_spread<I: Isa>(&mut self, isa: I, row: usize, order: Order) -> Solved {
        let Some((highest, at)) = self.survey(isa, row) else { return Solved::Undefined };
        let start = self.start(highest, order);
        let mut strip = [0.0; STRIP];
        let solution = climb(order.a, start, near::<R>(), |coefficient| {
            let mut sums = Sums::default();
            for first in (0..self.source.classes()).step_by(BLOCK) {
                let block = self.source.block(row, first, &mut self.buffer);
                for (scores, first) in block.chunks(STRIP).zip((first..).step_by(STRIP)) {
                    let z = &mut strip[..scores.len()];
                    dispatch(self.level, Differences { scores, highest, temperature: order.temperature, z });
                    if (first..first + z.len()).contains(&at) {
                        z[at - first] = f64::NEG_INFINITY;
                    }
                    dispatch(self.level, AddSums { sums: &mut sums, order, z, coefficient });
                }
            }
            sums
        });
        Solved::Spread { highest, solution }
    }

    /// The maximum of a row and its first class; None with NaN or +inf, or with nothing above -inf.
    #[inline(always)]
    fn survey<I: Isa>(&mut self, isa: I, row: usize) -> Option<(f64, usize)> {
        let (mut highest, mut from) = (f64::NEG_INFINITY, 0);
        for first in (0..self.source.classes()).step_by(BLOCK) {
            let block = self.source.block(row, first, &mut self.buffer);
            if has_nan(isa, block) {
                return None;
            }
            let top = super::expsum::highest(isa, block);
            if top > highest {
                (highest, from) = (top, first);
            }
        }
        let block = self.source.block(row, from, &mut self.buffer);
        let at = from + block.iter().position(|x| x.to_f64() == highest)?;
        highest.is_finite().then_some((highest, at))
    }
}

#[inline(always)]
fn has_nan<I: Isa, R: Real>(isa: I, scores: &[R]) -> bool {
    let lanes = R::lanes(isa);
    let mut found = 0;
    for vector in scores.chunks(LanesOf::<I, R>::N) {
        found |= lanes.bits(lanes.is_nan(R::load_or(isa, vector, R::ZERO)));
    }
    found != 0
}

/// z = (x - highest) / T in f64.
pub(crate) struct Differences<'k, R> {
    pub(crate) scores: &'k [R],
    pub(crate) highest: f64,
    pub(crate) temperature: f64,
    pub(crate) z: &'k mut [f64],
}

impl<R: Real> Kernel for Differences<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let lanes = isa.f64();
        let (highest, divisor) = (lanes.splat(self.highest), lanes.splat(self.temperature));
        let is_scaled = self.temperature != 1.0;
        for (scores, z) in self.scores.chunks(8).zip(self.z.chunks_mut(8)) {
            let whole = scores.len() == 8;
            let x = if whole { R::load_f64(isa, scores) } else { R::load_f64_or(isa, scores, R::ZERO) };
            let difference = lanes.sub(x, highest);
            let difference = if is_scaled { lanes.div(difference, divisor) } else { difference };
            if whole {
                lanes.store(difference, z);
            } else {
                lanes.store_part(difference, z);
            }
        }
    }
}

struct SolveRow<'k, 'a, R: Real> {
    solver: &'k mut Solver<'a, R>,
    row: usize,
    order: Order,
}

impl<R: Real> Kernel for SolveRow<'_, '_, R> {
    type Output = Solved;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Solved {
        self.solver.solve(isa, self.row, self.order)
    }
}

struct DenseRow<'k, 'a, R: Real> {
    solver: &'k mut Solver<'a, R>,
    to_write: Source<'a, R>,
    row: usize,
    order: Order,
    results: &'k mut [R],
    out: &'k mut Results<'a, R>,
}

impl<R: Real> Kernel for DenseRow<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { solver, to_write, row, order, results, out } = self;
        match solver.solve(isa, row, order) {
            Solved::Undefined => out.fill(row, R::NAN),
            Solved::Absent => out.fill(row, R::ZERO),
            Solved::Listed { .. } => {
                out.fill(row, R::ZERO);
                for (&class, &p) in solver.filter.indices().iter().zip(&solver.p) {
                    out.set(row, class as usize, p);
                }
            }
            Solved::Spread { highest, solution } => {
                let buffer = &mut to_write.buffer();
                for first in (0..to_write.classes()).step_by(BLOCK) {
                    let scores = to_write.block(row, first, buffer);
                    let end = first + scores.len();
                    let target = out.place(row, first, end, results);
                    spread_probabilities(solver.level, scores, highest, order, &solution, target);
                    out.settle(row, first, end, results);
                }
            }
        }
    }
}

/// Rows of one order, side by side.
struct ShortRows<'k, 'a, 'o, R: Real> {
    call: (Source<'a, R>, Source<'a, R>, PerRow<'a>),
    rows: Range<usize>,
    a: f64,
    tile: &'k mut Tile<R>,
    beside: &'k mut Beside,
    results: &'k mut [R],
    at: usize, // where the first result goes
    out: &'k mut Results<'o, R>,
}

impl<R: Real> Kernel for ShortRows<'_, '_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { call: (source, to_write, temperature), rows, a, tile, beside, results, at, out } = self;
        tile.read(&to_write, rows.start, rows.len());
        let tops = beside.solve(isa, tile, a, &temperature, rows.clone());
        tile.write(at, rows.len(), out, results);
        for ((row, top), place) in rows.zip(tops).zip(at..) {
            if top.is_nan() {
                out.fill(place, if source.is_absent(row) { R::ZERO } else { R::NAN });
            }
        }
    }
}

/// The probabilities of scores, given the solution of their row.
fn spread_probabilities<R: Real>(
    level: Level,
    scores: &[R],
    highest: f64,
    order: Order,
    solution: &Solution,
    target: &mut [R],
) {
    let (mut z, mut p) = ([0.0; STRIP], [0.0; STRIP]);
    for (scores, target) in scores.chunks(STRIP).zip(target.chunks_mut(STRIP)) {
        let (z, p) = (&mut z[..scores.len()], &mut p[..scores.len()]);
        dispatch(level, Differences { scores, highest, temperature: order.temperature, z });
        dispatch(level, Probabilities { order, solution: *solution, z, p });
        dispatch(level, Rounded { values: p, target });
    }
}

struct SparseRow<'k, 'a, R: Real> {
    solver: &'k mut Solver<'a, R>,
    row: usize,
    order: Order,
    limit: usize,
    is_zero: fn(f64) -> bool,
}

impl<R: Real> Kernel for SparseRow<'_, '_, R> {
    type Output = Result<Entries>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let Self { solver, row, order, limit, is_zero } = self;
        let classes = solver.source.classes();
        let solved = solver.solve(isa, row, order);
        let support = match solved {
            Solved::Undefined => classes,
            Solved::Absent => 0,
            Solved::Listed { support, .. } => support,
            Solved::Spread { solution, .. } => solution.support,
        };
        if support > limit {
            return Err(Error::Support { row, support, limit });
        }
        let mut entries = Vec::with_capacity(support);
        match solved {
            Solved::Undefined => entries.extend((0..classes as i64).map(|class| (class, f64::NAN))),
            Solved::Absent => {}
            Solved::Listed { .. } => {
                let listed = solver.filter.indices().iter().zip(&solver.p).filter(|(_, p)| **p > 0.0);
                entries.extend(listed.map(|(&class, &p)| (class.into(), p)));
            }
            Solved::Spread { highest, solution } => {
                let mut target = vec![R::ZERO; classes.min(BLOCK)];
                for first in (0..classes).step_by(BLOCK) {
                    let scores = solver.source.block(row, first, &mut solver.buffer);
                    let target = &mut target[..scores.len()];
                    spread_probabilities(solver.level, scores, highest, order, &solution, target);
                    entries.extend(present(first, target, is_zero));
                }
            }
        }
        Ok(entries)
    }
}
