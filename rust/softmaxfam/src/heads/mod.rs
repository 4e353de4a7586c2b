//! Heads: scores of many classes from queries, consumed while they are in cache.

mod dots;
mod linear;
mod numbers;
mod quantize;
mod queries;
mod state;
mod tiles;
mod weights;

pub use linear::{Ask, LinearHead};
pub use quantize::quantize;
pub use state::{ScoreState, Scores};
pub use weights::Weights;
