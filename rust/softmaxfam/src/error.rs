//! What a call may refuse. Every message says what was given, what is accepted and the way out.

use std::fmt;

/// The result of every call that may refuse its arguments.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call was refused or stopped; nothing was written, save by [`Error::Interrupted`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A temperature that is zero, negative or NaN.
    Temperature {
        /// The temperature.
        given: f64,
    },
    /// An order of entropy (entmax, normmax) that is zero, negative or NaN.
    Alpha {
        /// The order.
        given: f64,
        /// The smallest order accepted, itself excluded.
        above: f64,
    },
    /// A budget outside `[0, classes]`, or NaN.
    Budget {
        /// The budget.
        given: f64,
        /// The number of classes present.
        classes: usize,
    },
    /// A `k` of zero or above the number of classes.
    K {
        /// The k.
        given: usize,
        /// The number of classes.
        classes: usize,
    },
    /// A row whose support exceeds the caller's limit.
    Support {
        /// The row, counted in C order.
        row: usize,
        /// Its support.
        support: usize,
        /// The limit.
        limit: usize,
    },
    /// Two views that must agree in their rows or classes and do not.
    Shape {
        /// Which view.
        what: &'static str,
        /// Its (rows, classes).
        given: (usize, usize),
        /// The (rows, classes) needed.
        needed: (usize, usize),
    },
    /// A strided view that reaches outside its slice, or a mutable one in which two places coincide.
    Bounds {
        /// The length of the slice.
        length: usize,
    },
    /// The caller's interrupt asked to stop; outputs are partly written.
    Interrupted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Temperature { given } => {
                write!(f, "temperature is {given}, must be > 0 and finite; for the limit T -> 0 take argmax")
            }
            Self::Alpha { given, above } => {
                write!(f, "alpha is {given}, must be > {above}; 1 is softmax, 2 is sparsemax, inf is argmax")
            }
            Self::Budget { given, classes } => write!(
                f,
                "budget is {given}, must lie in [0, {classes}], the number of present classes; each probability is at most 1"
            ),
            Self::K { given, classes } => {
                write!(f, "k is {given}, must lie in [1, {classes}], the number of classes; take min(k, n_classes)")
            }
            Self::Support { row, support, limit } => write!(
                f,
                "row {row} has a support of {support} classes, max_support allows {limit}; raise max_support, or alpha"
            ),
            Self::Shape { what, given, needed } => write!(
                f,
                "{what} has {} rows of {} classes, must have {} rows of {}; broadcast or reshape it first",
                given.0, given.1, needed.0, needed.1
            ),
            Self::Bounds { length } => write!(
                f,
                "a strided view leaves its slice of {length} elements or overlaps itself; check its lengths and strides"
            ),
            Self::Interrupted => write!(f, "interrupted before the end; outputs are partly written, call again"),
        }
    }
}

impl std::error::Error for Error {}
