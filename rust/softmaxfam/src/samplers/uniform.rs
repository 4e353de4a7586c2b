//! Every class alike.
//!
//! Method. The class is the upper half of word times n (Lemire 2019, "Fast random integer generation in an interval"); the
//! 2^64 mod n words whose lower half is below that remainder, which would favour some classes, are replaced. So the law is
//! exact. Cost. One product a draw.

use super::philox::{Noise, Purpose, WORDS};
use super::{Law, check_classes};
use crate::error::Result;
use crate::simd::{Isa, Kernel, Level, dispatch};

/// The uniform law over `classes` classes.
#[derive(Clone, Debug)]
pub struct Uniform {
    classes: u32,
    logq: f32,
}

impl Uniform {
    /// For 1 to 2^32 - 1 classes.
    pub fn new(classes: usize) -> Result<Self> {
        let classes = check_classes(classes)?;
        Ok(Self { classes, logq: -f64::from(classes).ln() as f32 })
    }
}

/// The class of a word, and whether the word is one of those that favour a class.
#[inline(always)]
fn class_of(word: u64, classes: u32) -> (u32, bool) {
    let product = u128::from(word) * u128::from(classes);
    let low = product as u64;
    // the remainder is below n, so the division is rarely made
    let favours = low < u64::from(classes) && low < u64::from(classes).wrapping_neg() % u64::from(classes);
    ((product >> 64) as u32, favours)
}

/// The class of a word, or of the first word of noise that hangs on it where it favours a class.
#[cold]
fn fair(noise: &Noise, word: u64, classes: u32) -> u32 {
    let again = noise.derived(word, Purpose::Uniform);
    let words = std::iter::once(word).chain((0..).map(|index| again.word(index)));
    words.map(|word| class_of(word, classes)).find(|found| !found.1).map_or(0, |found| found.0)
}

impl Law for Uniform {
    fn classes(&self) -> u32 {
        self.classes
    }

    fn positive(&self) -> usize {
        self.classes as usize
    }

    fn draw(&self, level: Level, noise: &Noise, first: u64, ids: &mut [u32], logq: Option<&mut [f32]>) {
        dispatch(level, Draw { classes: self.classes, noise, first, ids });
        if let Some(logq) = logq {
            logq.fill(self.logq);
        }
    }

    fn logq(&self, _level: Level, ids: &[u32], logq: &mut [f32]) {
        logq[..ids.len()].fill(self.logq);
    }
}

struct Draw<'a> {
    classes: u32,
    noise: &'a Noise,
    first: u64,
    ids: &'a mut [u32],
}

impl Kernel for Draw<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { classes, noise, first, ids } = self;
        let mut skipped = (first % 2) as usize;
        let (mut at, mut from) = (first - skipped as u64, 0);
        while from < ids.len() {
            let products = noise.scaled(isa, at, classes);
            let to = ids.len().min(from + WORDS - skipped);
            for (id, &product) in ids[from..to].iter_mut().zip(&products[skipped..]) {
                *id = (product >> 32) as u32;
            }
            // the lower half of a product that favours a class is below 2^32
            if products.iter().any(|&product| product as u32 == 0) {
                for (id, index) in ids[from..to].iter_mut().zip(at + skipped as u64..) {
                    *id = fair(noise, noise.word(index), classes);
                }
            }
            (from, skipped) = (to, 0);
            at += WORDS as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::isa;

    #[test]
    fn draws_are_those_of_single_words_where_one_might_favour_a_class() {
        const CLASSES: u32 = 10_000_000;
        const SUSPECT: u64 = 2_816_123_109; // found by search: one word in 2^32 is such
        let (noise, law) = (Noise::new(7, 0), Uniform::new(CLASSES as usize).expect("some classes"));
        assert_eq!((u128::from(noise.word(SUSPECT)) * u128::from(CLASSES)) as u64 >> 32, 0);
        for isa in isa::available() {
            for first in [SUSPECT - 41, SUSPECT - 40, SUSPECT] {
                let mut ids = [0; 45];
                isa::forced(isa, || law.draw(Level::active(), &noise, first, &mut ids, None)).expect("it is available");
                for (id, index) in ids.into_iter().zip(first..) {
                    assert_eq!(id, fair(&noise, noise.word(index), CLASSES), "{isa}, word {index}");
                }
            }
        }
    }

    #[test]
    fn words_that_favour_a_class_are_as_many_as_the_remainder() {
        // with n = 2^31 + 1 the remainder 2^64 mod n is 4: the products of these words are 0, n, .. below n
        let classes = (1 << 31) + 1;
        let remainder = u64::from(classes).wrapping_neg() % u64::from(classes);
        assert_eq!(u128::from(remainder), (1_u128 << 64) % u128::from(classes));
        let low = |word: u64| word.wrapping_mul(u64::from(classes));
        // the word whose lower half is r is r times the inverse of n modulo 2^64
        let mut inverse = u64::from(classes);
        for _ in 0..6 {
            inverse = inverse.wrapping_mul(2_u64.wrapping_sub(inverse.wrapping_mul(u64::from(classes))));
        }
        assert_eq!(low(inverse), 1);
        for rest in 0..10 {
            assert_eq!(class_of(inverse.wrapping_mul(rest), classes).1, rest < remainder);
        }
        assert!(fair(&Noise::new(1, 2), inverse, classes) < classes);
    }
}
