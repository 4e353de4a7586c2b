//! exp and log on lanes, each with its error bound, derived in its file and tested against 50-digit values.

mod exp;
mod log;
mod power;
mod softplus;

pub use exp::ExpConstants;
pub use exp::MAX_ERROR as EXP_MAX_ERROR;
pub(crate) use exp::{Window, exp, exp_in_two};
pub use log::MAX_ERROR as LOG_MAX_ERROR;
pub(crate) use log::{log, log_scalar, log1p};
pub(crate) use power::integer_power;
pub(crate) use softplus::two_ways;

#[cfg(test)]
mod tests;
