//! Every operation of every instruction set against the definition in plain Rust, on values with all the edges.

use super::*;
use half::{bf16, f16};

/// Runs a kernel on every instruction set of this machine, and prints which.
pub(crate) fn on_each_isa<K: Kernel + Copy>(kernel: K) -> Vec<(&'static str, K::Output)> {
    let run = |name| (name, isa::forced(name, || dispatch(Level::active(), kernel)).expect("it is available"));
    let results: Vec<_> = isa::available().into_iter().map(run).collect();
    println!("ran on {:?}", isa::available());
    results
}
