//! The module `softmaxfam_rs._core`: checks arguments, borrows arrays, releases the GIL, calls the crate.
//!
//! No mathematics and no defaults live here: the crate computes, the Python front end documents and sets defaults, so
//! every function below takes all its arguments by position. What each file is for:
//!
//! - `dtype`: the element types, and the dispatch from a NumPy type to a Rust one;
//! - `borrow`: NumPy's memory, raw, and `exchange`: that of tensors; the only files with `unsafe`;
//! - `frame`: which axes of an array are rows and which are classes;
//! - `call`: options, the GIL, interrupts, errors; what every function does around its one line of work;
//! - `maps`, `reductions`, `sparse`, `gradients`, `losses`, `linear_losses`, `sampled`, `samplers`,
//!   `heads`, `hierarchical`, `factors`, `words`, `config`: the functions, by subject.

mod borrow;
mod call;
mod config;
mod dtype;
mod exchange;
mod factors;
mod frame;
mod gradients;
mod heads;
mod hierarchical;
mod linear_losses;
mod list;
mod losses;
mod maps;
mod reductions;
mod sampled;
mod samplers;
mod sparse;
mod words;

use pyo3::prelude::*;

/// Kernels of softmaxfam_rs on NumPy arrays; internal: use the functions of the package.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    maps::register(module)?;
    reductions::register(module)?;
    sparse::register(module)?;
    gradients::register(module)?;
    losses::register(module)?;
    linear_losses::register(module)?;
    sampled::register(module)?;
    samplers::register(module)?;
    heads::register(module)?;
    hierarchical::register(module)?;
    factors::register(module)?;
    words::register(module)?;
    exchange::register(module)?;
    config::register(module)
}
