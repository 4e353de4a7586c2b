//! Draws without replacement: independent draws until as many classes as asked for have appeared.
//!
//! Law. The classes in the order of their first appearance (Plackett-Luce); `tries` is the number of draws that it took, as
//! TensorFlow's candidate samplers count them, those of excluded classes among them.
//! Threshold. Let the draws be the points of a Poisson process of rate 1. Class i then first appears at a time E_i / q_i, and
//! log q_i + Gumbel_i = -log of that time: the classes drawn are those of the m largest such keys, and the next largest is
//! kappa = -log T with T the time of the draw that brings class m + 1, a Gamma number of as many draws. With it
//! sum f_i / (1 - exp(-exp(log q_i - kappa))) over the classes drawn is an unbiased estimate of sum f_i over all (Duffield,
//! Lund, Thorup 2007; Kool, van Hoof, Welling 2019). Where nothing is left to come, kappa is -inf.
//! End. After draws that cost about as much as looking at every class, the rest come from one `race` among the classes left; their numbers of
//! tries are geometric, given the mass that was left each time. So weights over any number of decades end.
//! Noise. A row uses one word of the stream; all that it draws hangs on that word.

use super::draw::{Draws, Id, check_ids, excluded_of};
use super::philox::{Noise, Purpose, WORDS, open_unit};
use super::race::{self, Race};
use super::stream::Stream;
use super::{Law, Proposal};
use crate::elementary::{self, log_scalar};
use crate::error::{Error, Result};
use crate::rows::{Places, RowsMut};
use crate::simd::{Isa, Kernel, Lanes, Level, dispatch};
use crate::threads::{Job, for_each_piece};

/// Time of a draw with the look whether its class is new, ns: for cutting work.
const COST: f64 = 20.0;

/// Where draws without replacement go.
pub struct Distinct<'a, T> {
    /// The classes of each row in the order of their appearance.
    pub ids: RowsMut<'a, T>,
    /// Their log q; of the same rows and classes.
    pub logq: RowsMut<'a, f32>,
    /// The number of draws that each row took; a view of one class.
    pub tries: RowsMut<'a, i64>,
    /// The threshold key of each row; a view of one class.
    pub thresholds: RowsMut<'a, f32>,
}

/// Draws distinct classes for each row; `exclude` holds what each must not draw.
///
/// ```
/// use softmaxfam::RowsMut;
/// use softmaxfam::samplers::{Distinct, Draws, Proposal, Stream, Uniform, sample_unique};
/// let (mut ids, mut logq, mut tries, mut thresholds) = ([0_i64; 4], [0.0; 4], [0], [0.0]);
/// let distinct = Distinct {
///     ids: RowsMut::new(&mut ids, 4)?,
///     logq: RowsMut::new(&mut logq, 4)?,
///     tries: RowsMut::new(&mut tries, 1)?,
///     thresholds: RowsMut::new(&mut thresholds, 1)?,
/// };
/// sample_unique(&Proposal::Uniform(Uniform::new(4)?), Stream::new(7, 0), distinct, &Draws::default())?;
/// ids.sort_unstable();
/// assert_eq!((ids, thresholds[0]), ([0, 1, 2, 3], f32::NEG_INFINITY));
/// # Ok::<(), softmaxfam::Error>(())
/// ```
pub fn sample_unique<T: Id>(
    proposal: &Proposal,
    stream: Stream,
    distinct: Distinct<'_, T>,
    draws: &Draws<'_>,
) -> Result<()> {
    let law = proposal.law();
    let Distinct { ids, logq, tries, thresholds } = distinct;
    let (rows, count) = (ids.rows(), ids.classes());
    logq.expect("logq", rows, count)?;
    tries.expect("tries", rows, 1)?;
    thresholds.expect("thresholds", rows, 1)?;
    check_ids::<T>(law)?;
    let (noise, first) = stream.words(rows)?;
    let level = Level::active();
    check_counts(law, level, draws, rows, count)?;
    let job = Job { rows, row_cost: COST * (count as f64 + 2.0), together: 1, interrupt: draws.interrupt };
    for_each_piece(
        job,
        ((ids, logq), (tries, thresholds)),
        |rows, ((mut ids, mut logq), (mut tries, mut thresholds))| {
            let mut hunt = Hunt { law, level, count, seen: Set::default(), found: Vec::new(), excluded: Vec::new() };
            let (mut buffer, mut logs) = (vec![T::ZERO; count], vec![0.0; count]);
            for row in rows {
                hunt.exclude(draws, row)?;
                let word = noise.word(first + row as u64);
                let (of_row, threshold) = hunt.run(&noise, word);
                let target = ids.place(row, 0, count, &mut buffer);
                target.iter_mut().zip(&hunt.found).for_each(|(target, id)| *target = T::of(*id));
                ids.settle(row, 0, count, &buffer);
                law.logq(level, &hunt.found[..count], logq.place(row, 0, count, &mut logs));
                logq.settle(row, 0, count, &logs);
                tries.set(row, 0, of_row as i64); // saturates
                thresholds.set(row, 0, threshold as f32);
            }
            Ok(())
        },
    )
}

/// Checks that every row has as many classes as it is asked for.
fn check_counts(law: &dyn Law, level: Level, draws: &Draws<'_>, rows: usize, count: usize) -> Result<()> {
    let positive = law.positive();
    let Some(exclude) = draws.exclude else {
        return if count <= positive {
            Ok(())
        } else {
            Err(Error::Unique { row: 0, asked: count, available: positive })
        };
    };
    exclude.expect("exclude", rows, exclude.classes())?;
    let mut excluded = Vec::new();
    for row in 0..rows {
        excluded_of(law, level, exclude, row, &mut excluded)?;
        let available = positive - excluded.len();
        if count > available {
            return Err(Error::Unique { row, asked: count, available });
        }
    }
    Ok(())
}

/// The draws of a row until its classes are distinct.
struct Hunt<'a> {
    law: &'a dyn Law,
    level: Level,
    count: usize,
    seen: Set,
    found: Vec<u32>,
    excluded: Vec<u32>,
}

impl Hunt<'_> {
    fn exclude(&mut self, draws: &Draws<'_>, row: usize) -> Result<()> {
        match draws.exclude {
            Some(exclude) => excluded_of(self.law, self.level, exclude, row, &mut self.excluded),
            None => Ok(()),
        }
    }

    /// Finds the classes of a row, and one more where there is one; returns the tries and the threshold.
    fn run(&mut self, noise: &Noise, word: u64) -> (f64, f64) {
        let available = self.law.positive() - self.excluded.len();
        let wanted = available.min(self.count + 1);
        self.found.clear();
        self.seen.reset(wanted + self.excluded.len());
        self.excluded.iter().for_each(|&class| _ = self.seen.insert(class));
        let budget = 4 * wanted as u64 + 64 + u64::from(self.law.classes()) / 2;
        let (mut at_count, mut tries) = self.draw(&noise.derived(word, Purpose::Row), wanted, budget);
        let of_tries = noise.derived(word, Purpose::Tries);
        let missing = wanted - self.found.len();
        if missing > 0 {
            let seen = &self.seen;
            let of_race = noise.derived(word, Purpose::Race);
            let late = Race::run(self.law, self.level, &of_race, missing, |class| seen.contains(class));
            for (class, more) in late.iter().zip(self.waits(&late, &of_tries)) {
                tries += more;
                self.found.push(*class);
                if self.found.len() == self.count {
                    at_count = tries;
                }
            }
        }
        if self.count == available {
            return (at_count, f64::NEG_INFINITY);
        }
        (at_count, -log_gamma(self.level, tries, &of_tries))
    }

    /// Draws until `wanted` classes are found or the budget is spent: the tries when `count` were, and all of them.
    fn draw(&mut self, noise: &Noise, wanted: usize, budget: u64) -> (f64, f64) {
        let (mut tries, mut at_count) = (0_u64, 0);
        let mut ids = [0; WORDS];
        while tries < budget && self.found.len() < wanted {
            self.law.draw(self.level, noise, tries, &mut ids, None);
            for id in ids {
                if self.found.len() == wanted {
                    break;
                }
                tries += 1;
                if self.seen.insert(id) {
                    self.found.push(id);
                    if self.found.len() == self.count {
                        at_count = tries;
                    }
                }
            }
        }
        (at_count as f64, tries as f64)
    }

    /// How many draws each late class takes, given those before it.
    fn waits(&mut self, late: &[u32], noise: &Noise) -> Vec<f64> {
        self.seen.reset(self.found.len() + self.excluded.len() + late.len());
        for &class in self.found.iter().chain(&self.excluded).chain(late) {
            self.seen.insert(class);
        }
        let never = race::mass(self.law, self.level, |class| self.seen.contains(class));
        let mut logq = vec![0.0; late.len()];
        self.law.logq(self.level, late, &mut logq);
        let mut masses: Vec<f64> = logq.into_iter().map(f64::from).collect();
        race::exponentials(self.level, &mut masses);
        // from the last to the first, so that small masses are not differences of large ones
        let mut left = never;
        for mass in masses.iter_mut().rev() {
            left += *mass;
            *mass = left;
        }
        dispatch(self.level, Geometric { noise, chances: &mut masses });
        masses
    }
}

/// Turns chances of success into the numbers of tries up to the first success.
struct Geometric<'a> {
    noise: &'a Noise,
    chances: &'a mut [f64],
}

impl Kernel for Geometric<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let lanes = isa.f64();
        let one = lanes.splat(1.0);
        for (chances, first) in self.chances.chunks_mut(WORDS).zip((GAMMA_WORDS..).step_by(WORDS)) {
            let (words, mut units) = (self.noise.words(isa, first), [0.0; WORDS]);
            for (unit, word) in units.iter_mut().zip(words) {
                *unit = open_unit(word);
            }
            for (chances, units) in chances.chunks_mut(8).zip(units.chunks(8)) {
                let chance = lanes.load_or(chances, 1.0);
                let log_failure = elementary::log1p(lanes, lanes.sub(lanes.splat(0.0), lanes.min(chance, one)));
                let ratio = lanes.div(elementary::log(lanes, lanes.load(units)), log_failure);
                lanes.store_part(ratio, chances);
                for tries in chances {
                    *tries = tries.floor() + 1.0;
                }
            }
        }
    }
}

/// Words of a row's noise for tries that are kept for its Gamma number.
const GAMMA_WORDS: u64 = 1 << 20;

/// The logarithm of a Gamma number of this shape, >= 1 (Marsaglia and Tsang 2000), from normal numbers by the polar method.
fn log_gamma(level: Level, shape: f64, noise: &Noise) -> f64 {
    let log = |x| log_scalar(level, x);
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    let mut index = 0;
    let mut next = || {
        index = (index + 1) % GAMMA_WORDS;
        open_unit(noise.word(index))
    };
    loop {
        let (a, b) = (2.0 * next() - 1.0, 2.0 * next() - 1.0);
        let square = a * a + b * b;
        if square >= 1.0 {
            continue;
        }
        let x = a * (-2.0 * log(square) / square).sqrt();
        let root = 1.0 + c * x;
        if root <= 0.0 {
            next();
            continue;
        }
        let v = root * root * root;
        if log(next()) < 0.5 * x * x + d - d * v + d * log(v) {
            return log(d) + log(v);
        }
    }
}

/// A set of classes: open addressing, at most half full.
#[derive(Default)]
struct Set {
    places: Vec<u32>,
    shift: u32,
}

impl Set {
    const EMPTY: u32 = u32::MAX; // no class: there are at most 2^32 - 1

    /// Empties the set, with room for so many.
    fn reset(&mut self, room: usize) {
        let places = (2 * room).next_power_of_two().max(16);
        self.places.clear();
        self.places.resize(places, Self::EMPTY);
        self.shift = 64 - places.trailing_zeros();
    }

    /// Where a class is, or would be.
    #[inline]
    fn place(&self, class: u32) -> usize {
        let mut at = (u64::from(class).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize;
        while self.places[at] != class && self.places[at] != Self::EMPTY {
            at = (at + 1) % self.places.len();
        }
        at
    }

    /// Whether the class is new.
    #[inline]
    fn insert(&mut self, class: u32) -> bool {
        let at = self.place(class);
        let is_new = self.places[at] != class;
        self.places[at] = class;
        is_new
    }

    fn contains(&self, class: u32) -> bool {
        self.places[self.place(class)] == class
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samplers::AliasTable;

    /// Draws one at a time until `count` classes are distinct: the classes, and the tries.
    fn naive(law: &dyn Law, noise: &Noise, count: usize, excluded: &[u32]) -> (Vec<u32>, f64) {
        let (mut found, mut id) = (Vec::new(), [0]);
        for tries in 0.. {
            if found.len() == count {
                return (found, tries as f64);
            }
            law.draw(Level::active(), noise, tries, &mut id, None);
            if !found.contains(&id[0]) && !excluded.contains(&id[0]) {
                found.push(id[0]);
            }
        }
        unreachable!("the tries have no end");
    }

    #[test]
    fn agrees_with_its_naive_twin() {
        let weights: Vec<f64> = (1..=200).map(|class| 1.0 / f64::from(class)).collect();
        let table = AliasTable::new(&weights, 1.0, None).unwrap();
        let noise = Noise::new(3, 4);
        for (count, excluded) in [(1, vec![]), (5, vec![0, 7]), (40, vec![1, 2, 3]), (100, vec![])] {
            for word in 0..20 {
                let (law, level) = (&table, Level::active());
                let mut hunt =
                    Hunt { law, level, count, seen: Set::default(), found: Vec::new(), excluded: excluded.clone() };
                let (tries, threshold) = hunt.run(&noise, word);
                let twin = naive(&table, &noise.derived(word, Purpose::Row), count, &excluded);
                assert_eq!((&hunt.found[..count], tries), (&twin.0[..], twin.1));
                assert!(threshold.is_finite());
            }
        }
    }

    #[test]
    fn a_gamma_number_has_its_mean_and_variance() {
        let noise = Noise::new(5, 6);
        for shape in [1.0, 2.0, 7.0, 1e6] {
            let draw = |word| log_gamma(Level::active(), shape, &noise.derived(word, Purpose::Tries)).exp();
            let numbers: Vec<f64> = (0..20_000).map(draw).collect();
            let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
            let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / numbers.len() as f64;
            // 5 standard errors: false alarms below 1e-6
            let error = (shape / numbers.len() as f64).sqrt();
            assert!((mean - shape).abs() < 5.0 * error, "mean {mean} of shape {shape}");
            let spread = (2.0 + 6.0 / shape).sqrt() / (numbers.len() as f64).sqrt();
            assert!((variance / shape - 1.0).abs() < 5.0 * spread, "variance {variance} of shape {shape}");
        }
    }

    #[test]
    fn tries_of_a_rare_class_are_geometric() {
        for chance in [0.9, 0.1, 1e-9] {
            let mut tries = vec![chance; 4000];
            let noise = Noise::new(1, 2);
            dispatch(Level::active(), Geometric { noise: &noise, chances: &mut tries });
            let mean = tries.iter().sum::<f64>() / tries.len() as f64;
            let error = (1.0_f64 - chance).sqrt() / chance / (tries.len() as f64).sqrt();
            assert!((mean - 1.0 / chance).abs() < 5.0 * error, "{mean} tries at a chance of {chance}");
            assert!(tries.iter().all(|&n| n >= 1.0));
        }
        let mut sure = [1.0; 3];
        dispatch(Level::active(), Geometric { noise: &Noise::new(1, 2), chances: &mut sure });
        assert_eq!(sure, [1.0; 3]);
    }
}
