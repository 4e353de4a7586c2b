//! Threads and instruction sets.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(set_num_threads, module)?)?;
    module.add_function(wrap_pyfunction!(get_num_threads, module)?)?;
    module.add_function(wrap_pyfunction!(isa, module)?)?;
    module.add_function(wrap_pyfunction!(isa_available, module)?)
}

/// Sets the number of threads of all later calls.
#[pyfunction]
#[pyo3(signature = (n, /))]
fn set_num_threads(py: Python<'_>, n: isize) -> PyResult<()> {
    let count = usize::try_from(n).ok().filter(|count| (1..=MOST_THREADS).contains(count)).ok_or_else(|| {
        PyValueError::new_err(format!(
            "n is {n}, must lie in [1, {MOST_THREADS}]; a good choice is the number of cores"
        ))
    })?;
    py.detach(|| softmaxfam::threads::set_num_threads(count));
    Ok(())
}

/// A bound against slips such as a number of rows in place of a number of threads.
const MOST_THREADS: usize = 1024;

/// The number of threads that a long call uses.
#[pyfunction]
fn get_num_threads() -> usize {
    softmaxfam::threads::num_threads()
}

/// The instruction set in use.
#[pyfunction]
fn isa() -> &'static str {
    softmaxfam::isa::active()
}

/// The instruction sets that this machine has.
#[pyfunction]
fn isa_available() -> Vec<&'static str> {
    softmaxfam::isa::available()
}
