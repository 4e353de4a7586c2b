//! Heads: scores of many classes from queries, consumed while they are in cache.
//!
//! What each file is for: `weights` is the class matrix in the type that it is stored in, `quantize` makes one of 8 bits;
//! `numbers`, `queries` and `dots` multiply; `tiles` walks over classes; `linear` scores them, `sparse` lists those of entmax,
//! `sample` draws, `certified` finds the exact best by a matrix of low precision; `state` merges what shards found, `bytes` sends it.
//! `listed` multiplies rows that are named, `touched` sums their gradients.
//! `huffman` makes trees of classes, `hierarchical` follows their paths, and `descent` goes down from the root.

mod bytes;
mod certified;
mod descent;
mod dots;
mod hierarchical;
mod huffman;
mod linear;
pub(crate) mod listed;
mod numbers;
pub(crate) mod products;
mod quantize;
mod queries;
mod sample;
mod sparse;
mod state;
mod tiles;
pub(crate) mod touched;
mod weights;

pub use certified::Exact;
pub use hierarchical::HierarchicalSoftmax;
pub(crate) use huffman::parent;
pub use huffman::{huffman, parents, path_lengths};
pub(crate) use linear::locked;
pub use linear::{Ask, LinearHead};
pub use quantize::quantize;
pub use sparse::EntmaxState;
pub use state::{ScoreState, Scores};
pub use touched::Touched;
pub use weights::Weights;
