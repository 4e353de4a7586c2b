//! Log-sum-exp, softmax, sparsemax, entmax and top-k over many classes, samplers of classes, heads that score them,
//! factors of users and items, and vectors of words.

pub mod elementary;
pub mod error;
pub mod factors;
pub mod heads;
pub mod losses;
pub mod maps;
pub mod options;
pub mod rows;
pub mod samplers;
mod simd;
pub mod threads;
pub mod words;

pub use error::{Error, Result};
pub use losses::{Loss, LossOptions, Reduction, Target, loss, loss_and_sparse_gradient};
pub use maps::{
    SparseRows, budget_sparsemax, entmax, entmax_alpha_grad, entmax_sparse, entmax_threshold, entmax_vjp, log_softmax,
    log_softmax_vjp, logsumexp, logsumexp_vjp, normmax, softmax, softmax_vjp, top_log_probs, tsallis_entropy,
    weighted_logsumexp,
};
pub use options::{Options, PerRow};
pub use rows::{Rows, RowsMut};
pub use simd::{Element, isa};
