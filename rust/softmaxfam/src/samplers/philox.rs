//! Philox4x32-10, the source of every random word here: a bijection of 128-bit counters for each 64-bit key.
//!
//! Method (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"). Ten rounds, each two products
//! of 32 by 32 bits whose halves are swapped and mixed with the other half of the counter and the key, which advances by
//! a Weyl sequence. Nothing is carried from one counter to the next, so any thread computes any word.
//! Layout. The key is the seed. Of the counter, the upper 64 bits are [`Noise::upper`] and the lower 64 count; a counter
//! gives two words of 64 bits, so word j is half `j % 2` of counter `j / 2`. Main streams use counters below 2^62 (see
//! `stream`), noise that hangs on a word of them has counters from 2^63 on: the two never meet.
//! Cost. 60 operations on lanes for [`LANES`] counters, each waiting for the one before: [`GROUPS`] of them side by side fill
//! the waits, and what is done with the words of one call overlaps the rounds of the next.

use crate::simd::Isa;

/// Counters of a vector.
const LANES: usize = 8;
/// Vectors taken side by side.
const GROUPS: usize = 2;
/// Words made at a time.
pub(crate) const WORDS: usize = 2 * LANES * GROUPS;

const ROUNDS: usize = 10;
const MULTIPLIERS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85]; // the golden ratio, and sqrt(3) - 1
const FIRST_DERIVED: u64 = 1 << 63;

/// What noise that hangs on a word of a stream is for: each has counters of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// A uniform class again, where multiply-high would favour one.
    Uniform,
    /// A class in place of one that is excluded.
    Redraw,
    /// The draws of a row without replacement.
    Row,
    /// Arrival times of classes, for rows whose last classes are rare.
    Race,
    /// Numbers of tries, and the time of the last.
    Tries,
    /// Largest keys of blocks of scores.
    Blocks,
    /// Largest keys within a block.
    Parts,
    /// Keys of scores.
    Scores,
}

/// A sequence of random words: word j is a pure function of this and j.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noise {
    seed: u64,
    upper: u64,
    first: u64, // counter of word 0
}

impl Noise {
    pub(crate) fn new(seed: u64, upper: u64) -> Self {
        Self { seed, upper, first: 0 }
    }

    /// The noise that hangs on a word of this one, for a purpose: 2^56 words.
    pub(crate) fn derived(&self, word: u64, purpose: Purpose) -> Self {
        Self { seed: self.seed, upper: word, first: FIRST_DERIVED | (purpose as u64) << 56 }
    }

    /// Word `index`.
    pub(crate) fn word(&self, index: u64) -> u64 {
        let low = self.first + index / 2;
        let counter = [low as u32, (low >> 32) as u32, self.upper as u32, (self.upper >> 32) as u32];
        let block = philox4x32(counter, [self.seed as u32, (self.seed >> 32) as u32]);
        let half = 2 * (index % 2) as usize;
        u64::from(block[half]) | u64::from(block[half + 1]) << 32
    }

    /// [`Self::words`] and [`Self::scaled`], entered from outside of a kernel.
    #[cfg(test)]
    fn words_on(&self, level: crate::simd::Level, index: u64, factor: u32) -> [[u64; WORDS]; 2] {
        use crate::simd::{Kernel, dispatch};
        struct Words(Noise, u64, u32);
        impl Kernel for Words {
            type Output = [[u64; WORDS]; 2];
            #[inline(always)]
            fn run<I: Isa>(self, isa: I) -> Self::Output {
                [self.0.words(isa, self.1), self.0.scaled(isa, self.1, self.2)]
            }
        }
        dispatch(level, Words(*self, index, factor))
    }

    /// The words from `index`, which is even, on.
    #[inline(always)]
    pub(crate) fn words<I: Isa>(&self, isa: I, index: u64) -> [u64; WORDS] {
        stored(isa, self.groups(isa, index))
    }

    /// The products of the words from `index`, which is even, on and a number, less their lower 32 bits.
    #[inline(always)]
    pub(crate) fn scaled<I: Isa>(&self, isa: I, index: u64, factor: u32) -> [u64; WORDS] {
        let (mut groups, factor) = (self.groups(isa, index), splat(isa, factor.into()));
        for [even, odd] in &mut groups {
            (*even, *odd) = (isa.mul_upper(*even, factor), isa.mul_upper(*odd, factor));
        }
        stored(isa, groups)
    }

    /// The words at even and at odd places from `index` on, in groups. Of each lane of a round the lower half counts: the
    /// upper halves hold anything until the end.
    #[inline(always)]
    fn groups<I: Isa>(&self, isa: I, index: u64) -> [[I::U64; 2]; GROUPS] {
        debug_assert!(index.is_multiple_of(2));
        let upper = splat(isa, self.upper);
        let mut states = [[upper, upper, upper, isa.upper(upper)]; GROUPS];
        let mut counter = self.first + index / 2;
        for [a, b, _, _] in &mut states {
            let mut counters = [counter; LANES];
            for (lane, counter) in (0..).zip(&mut counters) {
                *counter += lane;
            }
            *a = isa.load_u64(&counters);
            *b = isa.upper(*a);
            counter += LANES as u64;
        }
        let multipliers = [splat(isa, MULTIPLIERS[0]), splat(isa, MULTIPLIERS[1])];
        let mut key = [self.seed as u32, (self.seed >> 32) as u32];
        for _ in 0..ROUNDS {
            let keys = [splat(isa, key[0].into()), splat(isa, key[1].into())];
            for [a, b, c, d] in &mut states {
                let (p, q) = (isa.mul_lower(*a, multipliers[0]), isa.mul_lower(*c, multipliers[1]));
                *a = isa.xor(isa.xor(isa.upper(q), *b), keys[0]);
                *c = isa.xor(isa.xor(isa.upper(p), *d), keys[1]);
                (*b, *d) = (q, p);
            }
            key = advanced(key);
        }
        let mut words = [[upper; 2]; GROUPS];
        for (words, [a, b, c, d]) in words.iter_mut().zip(states) {
            *words = [isa.join_lower(a, b), isa.join_lower(c, d)];
        }
        words
    }
}

/// The words of groups in their order.
#[inline(always)]
fn stored<I: Isa>(isa: I, groups: [[I::U64; 2]; GROUPS]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    for (words, [even, odd]) in words.chunks_exact_mut(2 * LANES).zip(groups) {
        let [low, high] = isa.interleave(even, odd);
        words[..LANES].copy_from_slice(&isa.store_u64(low));
        words[LANES..].copy_from_slice(&isa.store_u64(high));
    }
    words
}

#[inline(always)]
fn splat<I: Isa>(isa: I, value: u64) -> I::U64 {
    isa.load_u64(&[value; LANES])
}

#[inline(always)]
fn advanced(key: [u32; 2]) -> [u32; 2] {
    [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])]
}

/// The block function of Philox4x32-10: four random words of 32 bits.
///
/// ```
/// // Random123's known answer for a counter and a key of zeros
/// let words = softmaxfam::samplers::philox4x32([0; 4], [0; 2]);
/// assert_eq!(words, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
/// ```
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut counter, mut key) = (counter, key);
    for _ in 0..ROUNDS {
        let [a, b, c, d] = counter;
        let (p, q) = (u64::from(a) * MULTIPLIERS[0], u64::from(c) * MULTIPLIERS[1]);
        counter = [(q >> 32) as u32 ^ b ^ key[0], q as u32, (p >> 32) as u32 ^ d ^ key[1], p as u32];
        key = advanced(key);
    }
    counter
}

/// A word as a number in [0, 1): a multiple of 2^-53.
#[inline(always)]
pub(crate) fn unit(word: u64) -> f64 {
    (word >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A word as a number in (0, 1), whose logarithm is finite: an odd multiple of 2^-54.
#[inline(always)]
pub(crate) fn open_unit(word: u64) -> f64 {
    // with 52 bits the half is exact, and the largest stays below 1
    ((word >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, isa};

    #[test]
    fn known_answers_of_random123() {
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (pi, [0xa409_3822, 0x299f_31d0], [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox4x32(counter, key), expected);
        }
    }

    #[test]
    fn lanes_agree_with_single_words_on_each_instruction_set() {
        let main = Noise::new(0x0123_4567_89ab_cdef, u64::MAX - 5);
        for noise in [main, main.derived(77, Purpose::Race), Noise::new(0, 0)] {
            for first in [0, 2, 30, (1 << 33) - 16, 1 << 45] {
                for (isa, factor) in isa::available().into_iter().zip([1, 10_007, u32::MAX]) {
                    let [words, scaled] =
                        isa::forced(isa, || noise.words_on(Level::active(), first, factor)).expect("it is available");
                    for (index, (word, scaled)) in (first..).zip(words.into_iter().zip(scaled)) {
                        assert_eq!(word, noise.word(index), "{isa}, word {index}");
                        assert_eq!(
                            u128::from(scaled),
                            (u128::from(word) * u128::from(factor)) >> 32,
                            "{isa}, word {index}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn units_stay_inside() {
        assert_eq!((unit(0), unit(u64::MAX)), (0.0, 1.0 - f64::EPSILON / 2.0));
        assert!(open_unit(0) > 0.0 && open_unit(u64::MAX) < 1.0);
    }
}
