//! Samplers: classes drawn from a proposal, with the logarithms of their probabilities.
//!
//! What each file is for: `philox` makes random words, `stream` says where a call begins in them; `alias`, `uniform` and
//! `log_uniform` are laws, each with a way from one word to one class (`build` makes the alias table); `draw` runs them over
//! threads, replaces or marks excluded classes; `unique` draws without replacement, with `race` for the rare classes; `scores`
//! draws from softmax of rows of scores.

mod alias;
mod build;
mod draw;
mod log_uniform;
pub(crate) mod philox;
mod race;
pub(crate) mod scores;
mod stream;
mod uniform;
mod unique;

pub use alias::AliasTable;
pub use draw::{Draws, Id, logq, sample};
pub use log_uniform::LogUniform;
pub use philox::philox4x32;
pub use scores::sample_scores;
pub use stream::{DRAWS, Stream};
pub use uniform::Uniform;
pub use unique::{Distinct, sample_unique};

use crate::error::{Error, Result};
use crate::simd::Level;
use philox::Noise;

/// What draws need of a law over classes.
pub(crate) trait Law: Send + Sync {
    /// The number of classes.
    fn classes(&self) -> u32;

    /// The number of classes whose probability is not 0.
    fn positive(&self) -> usize;

    /// The classes of the words from `first` on, and the logarithms of their probabilities.
    fn draw(&self, level: Level, noise: &Noise, first: u64, ids: &mut [u32], logq: Option<&mut [f32]>);

    /// The logarithms of the probabilities of these classes, which exist.
    fn logq(&self, level: Level, ids: &[u32], logq: &mut [f32]);
}

/// The law that negatives are drawn from.
#[derive(Clone, Debug)]
pub enum Proposal {
    /// Given by weights.
    Alias(AliasTable),
    /// Every class alike.
    Uniform(Uniform),
    /// Zipf's, nearly.
    LogUniform(LogUniform),
}

impl Proposal {
    fn law(&self) -> &dyn Law {
        match self {
            Self::Alias(law) => law,
            Self::Uniform(law) => law,
            Self::LogUniform(law) => law,
        }
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.law().classes() as usize
    }

    /// The number of classes that can be drawn.
    pub fn positive(&self) -> usize {
        self.law().positive()
    }
}

fn check_classes(classes: usize) -> Result<u32> {
    u32::try_from(classes).ok().filter(|&classes| classes > 0).ok_or(Error::Classes { given: classes })
}
