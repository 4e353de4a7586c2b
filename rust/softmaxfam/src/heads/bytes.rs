//! States as bytes, and back: little-endian numbers behind a name of the format.

use crate::error::{Error, Result};

/// Bytes being written.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(format: &[u8; 8]) -> Self {
        Self(format.to_vec())
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    pub(super) fn double(&mut self, number: f64) {
        self.number(number.to_bits());
    }

    pub(super) fn single(&mut self, number: f32) {
        self.0.extend(number.to_le_bytes());
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Bytes being read, which may be damaged.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(format: &[u8; 8], bytes: &'a [u8]) -> Result<Self> {
        bytes.strip_prefix(format).map(Self).ok_or(Error::Bytes)
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(*self.take()?))
    }

    /// How many things of `size` bytes or more follow: no more than there are bytes left.
    pub(super) fn count(&mut self, size: usize) -> Result<usize> {
        let count = usize::try_from(self.number()?).ok().filter(|&count| count <= self.0.len() / size);
        count.ok_or(Error::Bytes)
    }

    pub(super) fn double(&mut self) -> Result<f64> {
        Ok(f64::from_bits(self.number()?))
    }

    pub(super) fn single(&mut self) -> Result<f32> {
        Ok(f32::from_le_bytes(*self.take()?))
    }

    pub(super) fn end(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Bytes) }
    }

    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Error::Bytes)?;
        self.0 = rest;
        Ok(taken)
    }
}
