//! exp and log on lanes, each with its error bound, derived in its file and tested against 50-digit values.

mod exp;
mod log;

pub use exp::MAX_ERROR as EXP_MAX_ERROR;
pub(crate) use exp::{Window, exp};
pub use log::MAX_ERROR as LOG_MAX_ERROR;
pub(crate) use log::{log, log_scalar, log1p};

#[cfg(test)]
mod tests;
