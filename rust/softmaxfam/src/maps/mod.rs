//! Maps of rows of scores: normalisers, probabilities, and what is computed from them.

mod across;
mod expsum;
mod logsumexp;
mod softmax;

pub use logsumexp::{logsumexp, weighted_logsumexp};
pub use softmax::{log_softmax, softmax};
