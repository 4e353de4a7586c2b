//! The first arrivals of a race: classes without replacement, at a cost that does not depend on how rare they are.
//!
//! Class i arrives at time E_i / q_i with E_i of the unit exponential law. The order of arrivals is that of the first
//! appearances in independent draws from q (Plackett-Luce), also among classes that have not appeared yet, since the
//! exponential law forgets. Where all but rare classes have been drawn, one pass over the classes takes the place of
//! draws without number. Cost. A word, two logarithms and an exponential a class.

use super::Law;
use super::philox::{Noise, WORDS, open_unit};
use crate::elementary::{self, Window};
use crate::simd::{Isa, Kernel, Lanes, Level, dispatch};
use std::collections::BinaryHeap;

/// A class and the logarithm of its time.
#[derive(Clone, Copy, PartialEq)]
struct Arrival {
    log_time: f64,
    class: u32,
}

impl Eq for Arrival {}

impl Ord for Arrival {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.log_time.total_cmp(&other.log_time).then(self.class.cmp(&other.class))
    }
}

impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The first classes so far.
pub(super) struct Race {
    count: usize,
    first: BinaryHeap<Arrival>, // the last of them on top
}

impl Race {
    /// The first `count` classes to arrive, in their order, of those that are not `out` and can be drawn.
    pub(super) fn run(law: &dyn Law, level: Level, noise: &Noise, count: usize, out: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut race = Self { count, first: BinaryHeap::with_capacity(count + 1) };
        let (mut ids, mut logq) = ([0; WORDS], [0.0; WORDS]);
        let classes = law.classes();
        for start in (0..classes).step_by(WORDS) {
            let present = WORDS.min((classes - start) as usize);
            ids.iter_mut().zip(start..classes).for_each(|(id, class)| *id = class);
            law.logq(level, &ids[..present], &mut logq[..present]);
            let log_times = dispatch(level, LogTimes { noise, start, logq: &logq });
            for (&class, &log_time) in ids[..present].iter().zip(&log_times) {
                if race.is_early(log_time) && !out(class) {
                    race.enter(Arrival { log_time, class });
                }
            }
        }
        race.first.into_sorted_vec().into_iter().map(|arrival| arrival.class).collect()
    }

    /// Whether an arrival at this time could count; a class that is never drawn arrives at no time.
    fn is_early(&self, log_time: f64) -> bool {
        log_time < f64::INFINITY
            && (self.first.len() < self.count || self.first.peek().is_some_and(|last| log_time < last.log_time))
    }

    fn enter(&mut self, arrival: Arrival) {
        self.first.push(arrival);
        if self.first.len() > self.count {
            self.first.pop();
        }
    }
}

/// log(E / q) of as many classes as words.
struct LogTimes<'a> {
    noise: &'a Noise,
    start: u32,
    logq: &'a [f32; WORDS],
}

impl Kernel for LogTimes<'_> {
    type Output = [f64; WORDS];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> [f64; WORDS] {
        let mut times = log_exponentials(isa, &self.noise.words(isa, self.start.into()));
        for (time, &logq) in times.iter_mut().zip(self.logq) {
            *time -= f64::from(logq);
        }
        times
    }
}

/// log E for each word, E of the unit exponential law: minus a Gumbel number.
#[inline(always)]
pub(super) fn log_exponentials<I: Isa>(isa: I, words: &[u64; WORDS]) -> [f64; WORDS] {
    let lanes = isa.f64();
    let mut numbers = [0.0; WORDS];
    for (number, &word) in numbers.iter_mut().zip(words) {
        *number = open_unit(word);
    }
    for numbers in numbers.chunks_mut(8) {
        let exponentials = lanes.sub(lanes.splat(0.0), elementary::log(lanes, lanes.load(numbers)));
        lanes.store(elementary::log(lanes, exponentials), numbers);
    }
    numbers
}

/// e^z of some numbers up to 700.
pub(super) fn exponentials(level: Level, numbers: &mut [f64]) {
    struct Exp<'a>(&'a mut [f64]);
    impl Kernel for Exp<'_> {
        type Output = ();
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let lanes = isa.f64();
            let window = Window::new(lanes, 0.0);
            for numbers in self.0.chunks_mut(8) {
                let z = lanes.load_or(numbers, 0.0);
                lanes.store_part(elementary::exp(lanes, z, None, &window), numbers);
            }
        }
    }
    dispatch(level, Exp(numbers));
}

/// The mass of the classes that are not `out`.
pub(super) fn mass(law: &dyn Law, level: Level, out: impl Fn(u32) -> bool) -> f64 {
    let (mut ids, mut logq, mut masses) = ([0; WORDS], [0.0; WORDS], [0.0; WORDS]);
    let classes = law.classes();
    let mut sum = 0.0;
    for start in (0..classes).step_by(WORDS) {
        let present = WORDS.min((classes - start) as usize);
        ids.iter_mut().zip(start..classes).for_each(|(id, class)| *id = class);
        law.logq(level, &ids[..present], &mut logq[..present]);
        masses.iter_mut().zip(&logq).for_each(|(mass, &logq)| *mass = logq.into());
        exponentials(level, &mut masses[..present]);
        sum += ids[..present].iter().zip(&masses).filter(|(id, _)| !out(**id)).map(|(_, mass)| mass).sum::<f64>();
    }
    sum
}
