//! Log-sum-exp, softmax, sparsemax, entmax and top-k over many classes.

pub mod elementary;
pub mod error;
pub mod options;
pub mod rows;
mod simd;
pub mod threads;

pub use error::{Error, Result};
pub use options::{Options, PerRow};
pub use rows::{Rows, RowsMut};
pub use simd::{Element, isa};
