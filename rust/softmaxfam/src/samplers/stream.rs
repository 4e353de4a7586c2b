//! Streams: where in the random words of a seed and a key the next draws begin.

use super::philox::Noise;
use crate::error::{Error, Result};

/// The number of draws of a stream.
pub const DRAWS: u64 = 1 << 63;

/// A place in a sequence of random words. Word j of a (seed, key) is a pure function of the three: it depends neither on
/// threads, nor on how draws are cut into calls, nor on the machine; it changes only in a major version.
///
/// ```
/// use softmaxfam::samplers::Stream;
/// let stream = Stream::new(7, 0);
/// let parts = stream.split(3)?; // for three workers, which never draw the same word
/// assert!(parts[0].remaining() > 1 << 61 && parts[1].position() == parts[0].remaining());
/// # Ok::<(), softmaxfam::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    seed: u64,
    key: u64,
    position: u64,
    end: u64,
}

impl Stream {
    /// The beginning of a stream; those of different seeds or keys are independent.
    pub fn new(seed: u64, key: u64) -> Self {
        Self { seed, key, position: 0, end: DRAWS }
    }

    /// The same stream at another position, up to [`DRAWS`].
    pub fn at(self, position: u64) -> Result<Self> {
        let end = DRAWS;
        if position <= end {
            Ok(Self { position, end, ..self })
        } else {
            Err(Error::Stream { asked: position, left: end })
        }
    }

    /// What is left of this stream as `parts` streams of equal length, which never meet.
    pub fn split(self, parts: u64) -> Result<Vec<Self>> {
        let length = self.remaining().checked_div(parts).unwrap_or(0);
        if length == 0 {
            return Err(Error::Stream { asked: parts, left: self.remaining() });
        }
        let part = |start| Self { position: start, end: start + length, ..self };
        Ok((0..parts).map(|index| part(self.position + index * length)).collect())
    }

    /// The number of the next word.
    pub fn position(self) -> u64 {
        self.position
    }

    /// How many words are left.
    pub fn remaining(self) -> u64 {
        self.end - self.position
    }

    /// The words, and the number of the first of the `count` that a call uses.
    pub(crate) fn words(self, count: usize) -> Result<(Noise, u64)> {
        let asked = count as u64;
        if asked > self.remaining() {
            return Err(Error::Stream { asked, left: self.remaining() });
        }
        Ok((Noise::new(self.seed, self.key), self.position))
    }
}
