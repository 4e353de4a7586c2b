//! Maps of rows of scores: normalisers, probabilities, and what is computed from them.

mod across;
mod beside;
mod budget;
pub(crate) mod entmax;
pub(crate) mod expsum;
mod gradients;
pub(crate) mod logsumexp;
pub(crate) mod softmax;
pub(crate) mod strips;
pub(crate) mod topk;
mod tsallis;

pub use budget::budget_sparsemax;
pub use entmax::{SparseRows, entmax, entmax_sparse, entmax_threshold, normmax};
pub use gradients::{entmax_alpha_grad, entmax_vjp, log_softmax_vjp, logsumexp_vjp, softmax_vjp};
pub use logsumexp::{logsumexp, weighted_logsumexp};
pub use softmax::{log_softmax, softmax};
pub use topk::top_log_probs;
pub use tsallis::tsallis_entropy;
