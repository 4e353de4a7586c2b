//! Maps of rows of scores: normalisers, probabilities, and what is computed from them.

mod across;
mod entmax;
mod expsum;
mod logsumexp;
mod softmax;

pub use entmax::{SparseRows, entmax, entmax_sparse, entmax_threshold};
pub use logsumexp::{logsumexp, weighted_logsumexp};
pub use softmax::{log_softmax, softmax};
