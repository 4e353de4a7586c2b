//! Losses of entmax and of normmax, from the solver of the maps: of a sparse row only the support is looked at.
//!
//! entmax, target one class c with p_c = 1 - q: L = sum_{i != c} p_i^alpha / alpha + d(q) + [lambda - x_c/T]_+, lambda the threshold score,
//! the last where c is off the support; for a distribution y, L = sum_i D(y_i, p_i) + sum_{i off the support} y_i (lambda - x_i/T).
//! normmax, whose solver gives pi_i = v_i^alpha, v = p / |p|_alpha, sum pi = 1, and v_i^(alpha-1) = x_i/T - tau on the support: with
//! b = (alpha - 1)/alpha, L = 1 - pi_c^b on the support, 1 + tau - x_c/T off it; for a distribution, with u = y / |y|_alpha,
//! L = |y|_alpha (alpha - 1) sum_i D_alpha(u_i, v_i) + sum_{i off the support} y_i (tau - x_i/T): by Young's inequality each term is >= 0.
//!
//! All in f64, in scalar code that exists once for all element types; scores are read by the kernels of the maps. A row whose
//! support is too large to be listed is read again: for the sums, then for its gradient.

use super::RowLoss;
use super::divergence::{of_label, of_other, of_share};
use super::sink::{Gradients, Sink};
use super::target::{OfRow, Wanted};
use crate::maps::entmax::{Order, Solved, Solver};
use crate::maps::strips::STRIP;
use crate::options::PerRow;
use crate::rows::{BLOCK, Source};
use crate::simd::{Level, Real};

/// Whose loss.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Entmax,
    Normmax,
}

/// Rows whose other classes have so little together that their w = p^a is below this are solved to relative digits: an error of
/// an eps in w is then felt.
const CONFIDENT: f64 = 0.05;

/// What is read of scores, for code that exists once for all element types.
trait Scores {
    fn classes(&self) -> usize;
    /// One score, -inf of an absent class.
    fn score(&self, row: usize, class: usize) -> f64;
    /// The number of classes whose score is above -inf.
    fn present(&self, row: usize) -> usize;
    fn solve(&mut self, row: usize, order: Order) -> Solved;
    /// The candidates of a row that is listed, in ascending order, and their probabilities.
    fn listed(&self) -> (&[u32], &[f64]);
    /// Gives the small probabilities of a listed row their digits; log p_max.
    fn polish(&mut self, order: Order, log_p_max: f64) -> f64;
    /// z of the classes from `from` on, and unless the row is listed their probabilities.
    fn strip(&mut self, of: &Row, from: usize, z: &mut [f64], p: &mut [f64]);
}

struct OfSource<'a, R: Real> {
    source: Source<'a, R>,
    solver: Solver<'a, R>,
}

impl<R: Real> Scores for OfSource<'_, R> {
    fn classes(&self) -> usize {
        self.source.classes()
    }

    fn score(&self, row: usize, class: usize) -> f64 {
        score(&self.source, row, class)
    }

    fn present(&self, row: usize) -> usize {
        let mut buffer = self.source.buffer();
        let of_block = |first| {
            let block = self.source.block(row, first, &mut buffer);
            block.iter().filter(|score| **score != R::NEG_INFINITY).count()
        };
        (0..self.source.classes()).step_by(BLOCK).map(of_block).sum()
    }

    fn solve(&mut self, row: usize, order: Order) -> Solved {
        self.solver.solve_row(row, order)
    }

    fn listed(&self) -> (&[u32], &[f64]) {
        self.solver.listed()
    }

    fn polish(&mut self, order: Order, log_p_max: f64) -> f64 {
        self.solver.polish(order, log_p_max)
    }

    fn strip(&mut self, of: &Row, from: usize, z: &mut [f64], p: &mut [f64]) {
        self.solver.strip((of.row, from), of.order, &of.solved, z, p);
    }
}

/// One score, -inf where the class is masked.
pub(super) fn score<R: Real>(source: &Source<'_, R>, row: usize, class: usize) -> f64 {
    source.part(row, class, class + 1, &mut [R::ZERO])[0].into()
}

/// Losses of rows, one after the other.
pub(super) struct FenchelYoung<'a> {
    scores: Box<dyn Scores + 'a>,
    wanted: &'a Wanted<'a>,
    family: Family,
    orders: PerRow<'a>,
    temperature: PerRow<'a>,
    entries: Vec<(u32, f64)>,
    z: Box<[f64; STRIP]>,
    p: Box<[f64; STRIP]>,
    y: Box<[f64; STRIP]>,
}

/// A row that is solved.
#[derive(Clone, Copy)]
struct Row {
    row: usize,
    alpha: f64,
    order: Order, // of the solver
    solved: Solved,
    highest: f64,
    log_p_max: f64,
}

/// Sums over the classes but one.
#[derive(Clone, Copy, Default)]
struct Others {
    terms: f64, // of the loss of entmax
    mass: f64,
    roots: f64, // pi^(1/alpha), what normmax shares are of
}

impl Row {
    /// a e^(au), by which z is bent.
    fn coefficient(&self) -> f64 {
        match self.solved {
            Solved::Spread { solution, .. } => solution.coefficient,
            _ if self.order.a == 0.0 => 1.0,
            _ => self.order.a * (-self.order.a * self.log_p_max).exp(),
        }
    }

    /// log p of a class, given z and p; None off the support.
    fn log(&self, z: f64, p: f64) -> Option<f64> {
        if p >= f64::MIN_POSITIVE {
            return Some(p.ln());
        }
        match self.order.a {
            _ if z == f64::NEG_INFINITY => None,
            0.0 => Some(z + self.log_p_max),
            // an underflow is no absence
            a if a < 1.0 => {
                let bent = self.coefficient() * z;
                (bent > -1.0).then(|| self.log_p_max + bent.ln_1p() / a)
            }
            _ => None,
        }
    }

    /// How far a class off the support lies below the threshold.
    fn gap(&self, z: f64) -> f64 {
        let top = match self.order.a {
            f64::INFINITY => 0.0,
            a => (a * self.log_p_max).exp() / a,
        };
        (-z - top).max(0.0)
    }
}

impl<'a> FenchelYoung<'a> {
    pub(super) fn new<R: Real>(
        level: Level,
        source: Source<'a, R>,
        wanted: &'a Wanted<'a>,
        family: Family,
        orders: PerRow<'a>,
        temperature: PerRow<'a>,
    ) -> Self {
        let scores = Box::new(OfSource { source, solver: Solver::new(level, source) });
        let (strip, entries) = (|| Box::new([0.0; STRIP]), Vec::new());
        Self { scores, wanted, family, orders, temperature, entries, z: strip(), p: strip(), y: strip() }
    }

    /// None for a row without probabilities.
    fn solved(&mut self, row: usize) -> Option<Row> {
        let (alpha, temperature) = (self.orders.of(row), self.temperature.of(row));
        let order = match self.family {
            Family::Entmax => Order::new(alpha, temperature),
            Family::Normmax => Order::of_normmax(alpha, temperature),
        };
        let solved = self.scores.solve(row, order);
        let (highest, mut log_p_max) = match solved {
            Solved::Undefined | Solved::Absent => return None,
            Solved::Listed { highest, log_p_max, .. } => (highest, log_p_max),
            Solved::Spread { highest, solution } => (highest, solution.log_p_max),
        };
        if let Solved::Listed { .. } = solved
            && order.a > 0.0
            && order.a <= 1.0
            && -log_p_max.exp_m1() < CONFIDENT.powf(1.0 / order.a)
        {
            log_p_max = self.scores.polish(order, log_p_max);
        }
        Some(Row { row, alpha, order, solved, highest, log_p_max })
    }

    /// Calls `visit` with the first class, z, p and room for as many shares of each strip of a row.
    fn for_each_strip(&mut self, of: &Row, mut visit: impl FnMut(usize, &[f64], &[f64], &mut [f64])) {
        let mut at = 0; // in the list
        for from in (0..self.scores.classes()).step_by(STRIP) {
            let count = STRIP.min(self.scores.classes() - from);
            let (z, p, y) = (&mut self.z[..count], &mut self.p[..count], &mut self.y[..count]);
            self.scores.strip(of, from, z, p);
            if let Solved::Listed { .. } = of.solved {
                p.fill(0.0);
                let (classes, listed) = self.scores.listed();
                while at < classes.len() && (classes[at] as usize) < from + count {
                    p[classes[at] as usize - from] = listed[at];
                    at += 1;
                }
            }
            visit(from, z, p, y);
        }
    }

    /// The sums over all classes but `class`, and the probability of that.
    fn others(&mut self, of: &Row, class: usize) -> (Others, f64) {
        let (family, a, power) = (self.family, of.order.a, 1.0 / of.alpha);
        let add = |sums: &mut Others, p: f64| {
            sums.mass += p;
            match family {
                Family::Entmax => sums.terms += of_other(a, p),
                Family::Normmax => sums.roots += root(p, power),
            }
        };
        let (mut sums, mut own) = (Others::default(), 0.0);
        if let Solved::Listed { .. } = of.solved {
            let (classes, listed) = self.scores.listed();
            for (&other, &p) in classes.iter().zip(listed) {
                if other as usize == class {
                    own = p;
                } else {
                    add(&mut sums, p);
                }
            }
            return (sums, own);
        }
        self.for_each_strip(of, |from, _, p, _| {
            let mut part = Others::default(); // sums of many small terms meet in two steps
            for (at, &p) in p.iter().enumerate() {
                if from + at == class {
                    own = p;
                } else {
                    add(&mut part, p);
                }
            }
            sums.terms += part.terms;
            sums.mass += part.mass;
            sums.roots += part.roots;
        });
        (sums, own)
    }

    /// The target is one class.
    fn of_class(&mut self, row: usize, class: usize, weight: f64, sink: &mut dyn Sink) -> f64 {
        let Some(of) = self.solved(row) else { return self.undefined(row, sink) };
        let (sums, own) = self.others(&of, class);
        let z = (self.scores.score(row, class) - of.highest) / of.order.temperature;
        let q = sums.mass;
        let log = if q < 0.5 { Some((-q).ln_1p()) } else { of.log(z, own) };
        let p = if q < 0.5 { 1.0 - q } else { own };
        let a = of.order.a;
        let loss = match (self.family, log) {
            _ if z == f64::NEG_INFINITY => f64::INFINITY,
            (Family::Entmax, Some(log)) if a < f64::INFINITY => sums.terms + of_label(a, q, p, log),
            (Family::Entmax, _) => sums.terms + of_label(a, 1.0, 0.0, f64::NEG_INFINITY) + of.gap(z),
            (Family::Normmax, Some(log)) => 0.0 - (a * log).exp_m1(),
            (Family::Normmax, None) => 1.0 + a * of.gap(z),
        };
        if sink.is_asked_for() {
            let g = weight * self.wanted.factor(row) / self.temperature.of(row);
            self.write_class(&of, class, &sums, own, g, sink);
        }
        weight * loss
    }

    /// g (p - e_class)
    fn write_class(&mut self, of: &Row, class: usize, sums: &Others, own: f64, g: f64, sink: &mut dyn Sink) {
        let (family, power) = (self.family, 1.0 / of.alpha);
        let scale = match family {
            Family::Entmax => g,
            Family::Normmax => g / (sums.roots + root(own, power)),
        };
        let of_p = |p: f64| if family == Family::Entmax { scale * p } else { scale * root(p, power) };
        // p - 1 of the class itself, by the others where they are few
        let of_class = match family {
            Family::Entmax if sums.mass < 0.5 => 0.0 - g * sums.mass,
            Family::Entmax => g * (own - 1.0),
            Family::Normmax => 0.0 - scale * sums.roots,
        };
        if let Solved::Listed { .. } = of.solved {
            let entries = &mut self.entries;
            entries.clear();
            let (classes, listed) = self.scores.listed();
            entries.extend(classes.iter().zip(listed).filter(|(_, p)| **p > 0.0).map(|(&other, &p)| (other, of_p(p))));
            match entries.binary_search_by_key(&(class as u32), |entry| entry.0) {
                Ok(at) => entries[at].1 = of_class,
                Err(at) => entries.insert(at, (class as u32, of_class)),
            }
            return sink.list(of.row, entries);
        }
        let mut values = [0.0; STRIP];
        self.for_each_strip(of, |from, _, p, _| {
            let values = &mut values[..p.len()];
            values.iter_mut().zip(p).for_each(|(value, &p)| *value = of_p(p));
            if let Some(value) = class.checked_sub(from).and_then(|at| values.get_mut(at)) {
                *value = of_class;
            }
            sink.strip(of.row, from, values);
        });
        sink.finish(of.row);
    }

    /// The target is a distribution.
    fn of_shares(&mut self, row: usize, sink: &mut dyn Sink) -> f64 {
        let wanted = self.wanted;
        let Some(of) = self.solved(row) else {
            let is_nothing = wanted.is_nothing(row, self.scores.classes());
            return if is_nothing { self.nothing(row, sink) } else { self.undefined(row, sink) };
        };
        let present = if wanted.is_smoothed() { self.scores.present(row) } else { 0 };
        let shares = |from: usize, z: &[f64], y: &mut [f64]| {
            wanted.shares(row, from, |at| z[at] > f64::NEG_INFINITY, present, y);
        };
        let (mut total, mut largest, mut single, mut count) = (0.0, 0.0_f64, 0, 0);
        let mut is_sound = true;
        self.for_each_strip(&of, |from, z, _, y| {
            shares(from, z, y);
            total += y.iter().sum::<f64>();
            for (at, &y) in y.iter().enumerate().filter(|(_, y)| **y != 0.0) {
                (single, count, largest) = (from + at, count + 1, largest.max(y));
                is_sound &= y > 0.0;
            }
        });
        if !is_sound || total.is_infinite() {
            return self.undefined(row, sink);
        }
        match count {
            0 => return self.nothing(row, sink),
            1 => return self.of_class(row, single, total, sink),
            _ => {}
        }
        let (family, a, alpha) = (self.family, of.order.a, of.alpha);
        let is_normmax = family == Family::Normmax;
        let mut norm = total;
        if is_normmax {
            norm = largest;
            if alpha < f64::INFINITY {
                let mut powers = 0.0;
                self.for_each_strip(&of, |from, z, _, y| {
                    shares(from, z, y);
                    powers += y.iter().map(|y| (y / largest).powf(alpha)).sum::<f64>();
                });
                norm = largest * powers.powf(1.0 / alpha);
            }
        }
        let (mut terms, mut gaps, mut roots) = (0.0, 0.0, 0.0);
        let mut last = (0.0, 0.0); // many classes off the support have the same share
        self.for_each_strip(&of, |from, z, p, y| {
            shares(from, z, y);
            let (mut part, mut gap) = (0.0, 0.0);
            for ((&y, &z), &p) in y.iter().zip(z).zip(p) {
                let unit = y / norm;
                let (order, p_or_v) = match family {
                    Family::Entmax => (a, p),
                    Family::Normmax => (alpha - 1.0, root(p, 1.0 / alpha)),
                };
                if is_normmax {
                    roots += p_or_v;
                }
                if y == 0.0 {
                    part += of_other(order, p_or_v);
                    continue;
                }
                match of.log(z, p) {
                    Some(log) => {
                        let log = if is_normmax { log / alpha } else { log };
                        part += of_share(order, unit, p_or_v, || log - unit.ln());
                    }
                    None => {
                        gap += unit * of.gap(z);
                        if last.0 != unit {
                            last = (unit, if order == f64::INFINITY { 0.0 } else { of_other(order, unit) / order });
                        }
                        part += last.1;
                    }
                }
            }
            terms += part;
            gaps += gap;
        });
        let loss = match family {
            Family::Entmax => norm * (terms + gaps),
            Family::Normmax if alpha == f64::INFINITY => {
                let mut reached = 0.0;
                self.for_each_strip(&of, |from, z, p, y| {
                    shares(from, z, y);
                    reached += y.iter().zip(p).map(|(y, p)| y * p).sum::<f64>();
                });
                (norm - reached).max(0.0) + norm * a * gaps
            }
            Family::Normmax => norm * ((alpha - 1.0) * terms + a * gaps),
        };
        if sink.is_asked_for() {
            let g = wanted.factor(row) / self.temperature.of(row);
            let scale = if is_normmax { total / roots } else { total };
            let mut values = [0.0; STRIP];
            self.for_each_strip(&of, |from, z, p, y| {
                shares(from, z, y);
                let values = &mut values[..p.len()];
                for ((value, &p), &y) in values.iter_mut().zip(p).zip(&*y) {
                    let p = if is_normmax { root(p, 1.0 / alpha) } else { p };
                    *value = g * (scale * p - y);
                }
                sink.strip(row, from, values);
            });
            sink.finish(row);
        }
        loss
    }

    fn undefined(&self, row: usize, sink: &mut dyn Sink) -> f64 {
        sink.fill(row, self.scores.classes(), f64::NAN);
        f64::NAN
    }

    fn nothing(&self, row: usize, sink: &mut dyn Sink) -> f64 {
        sink.fill(row, self.scores.classes(), 0.0);
        0.0
    }
}

/// p^power of p > 0, else 0.
fn root(p: f64, power: f64) -> f64 {
    match (p, power) {
        (0.0, _) => 0.0,
        (_, 0.5) => p.sqrt(),
        _ => p.powf(power),
    }
}

impl<R: Real> RowLoss<R> for FenchelYoung<'_> {
    fn row(&mut self, row: usize, sink: &mut Gradients<'_, R>) -> f64 {
        match self.wanted.of(row) {
            OfRow::Nothing => self.nothing(row, sink),
            OfRow::Class(class, weight) => self.of_class(row, class, weight, sink),
            OfRow::Shares => self.of_shares(row, sink),
        }
    }
}
