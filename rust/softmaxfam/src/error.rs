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
    /// A view whose rows lie along several axes where one is needed.
    Axes,
    /// A view to write that is not contiguous.
    Contiguous {
        /// Which view.
        what: &'static str,
    },
    /// A number of classes that is 0 or above 2^32 - 1.
    Classes {
        /// The number of classes.
        given: usize,
    },
    /// A weight that is negative, infinite or NaN.
    Weight {
        /// The first class with such a weight.
        class: usize,
        /// Its weight.
        given: f64,
    },
    /// Weights that are all zero.
    NoWeight {
        /// The number of classes.
        classes: usize,
    },
    /// A number of leaves of a tree that is 0 or too large.
    Leaves {
        /// The number of classes.
        given: usize,
        /// The largest.
        most: usize,
    },
    /// A count that is negative, infinite or NaN.
    Count {
        /// The first class with such a count.
        class: usize,
        /// Its count.
        given: f64,
    },
    /// A merge of a tree that names an id which is not there, or was merged before.
    Merge {
        /// The merge.
        merge: usize,
        /// The id.
        given: i32,
        /// Ids are below this.
        below: usize,
    },
    /// Parents that are not those of a tree.
    Tree,
    /// A power of weights that is negative, infinite or NaN.
    Power {
        /// The power.
        given: f64,
    },
    /// A slot of an alias table that names a class which does not exist.
    Slot {
        /// The slot.
        slot: usize,
        /// The class that it names.
        alias: u32,
        /// The number of classes.
        classes: usize,
    },
    /// A class that does not exist.
    Class {
        /// The class.
        given: i64,
        /// The number of classes.
        classes: usize,
    },
    /// A target that is no class of its row, nor the class to ignore.
    Label {
        /// The row, counted in C order.
        row: usize,
        /// Its target.
        given: i64,
        /// The number of classes.
        classes: usize,
    },
    /// A distribution where a loss takes a class for each row.
    NeedsClasses,
    /// A share of smoothed labels outside `[0, 1]`, or NaN.
    Smoothing {
        /// The share.
        given: f64,
    },
    /// A margin that is zero, negative, infinite or NaN.
    Margin {
        /// The margin.
        given: f64,
    },
    /// More draws or parts than a stream has left.
    Stream {
        /// The draws, the position or the parts asked for.
        asked: u64,
        /// What is left.
        left: u64,
    },
    /// More distinct classes than a row can draw.
    Unique {
        /// The row, counted in C order.
        row: usize,
        /// The classes asked for.
        asked: usize,
        /// The classes of positive probability that are not excluded.
        available: usize,
    },
    /// Classes too many for the integers that they are written to.
    Narrow {
        /// The number of classes.
        classes: usize,
    },
    /// An argument with one value for each of some things, and another number of values.
    Length {
        /// Which argument.
        what: &'static str,
        /// Its length.
        given: usize,
        /// The length needed.
        needed: usize,
    },
    /// Queries whose length is not that of the rows of the matrix.
    Width {
        /// The length of each query.
        given: usize,
        /// That of each row.
        needed: usize,
    },
    /// A row of a matrix that holds NaN or infinity where numbers are needed.
    NotFinite {
        /// The class of the row.
        class: usize,
    },
    /// Starts of rows that do not rise from 0 to the number of values.
    Starts {
        /// The number of values.
        length: usize,
    },
    /// Parts of a result that count a class twice.
    Overlap {
        /// The class.
        class: u64,
    },
    /// Parts that do not belong to the same queries, k, temperature, order and targets.
    States,
    /// Bytes that are no state, or a damaged one.
    Bytes,
    /// Rows of codes that are too long for sums of integers.
    Codes {
        /// Their length.
        width: usize,
        /// The longest.
        longest: usize,
    },
    /// A matrix to take exact scores from that does not have the shape of the head's.
    Exact {
        /// Its (classes, width).
        given: (usize, usize),
        /// Those of the head.
        needed: (usize, usize),
    },
    /// A target that is none of the classes.
    Target {
        /// The query.
        query: usize,
        /// Its target.
        given: i64,
    },
    /// A ridge that is zero, negative or not finite.
    Ridge {
        /// The ridge.
        given: f64,
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
            Self::Classes { given } => {
                write!(
                    f,
                    "the number of classes is {given}, must lie in [1, 4294967295]; split larger sets into several"
                )
            }
            Self::Weight { class, given } => write!(
                f,
                "weight of class {class} is {given}, must be finite and >= 0; clip it, or set it to 0 to leave the class out"
            ),
            Self::NoWeight { classes } => {
                write!(f, "all {classes} weights are 0, must have one > 0; UniformSampler draws all classes alike")
            }
            Self::Leaves { given, most } => {
                write!(f, "the tree has {given} classes, must have 1 to {most}; leave rare classes out, or group them")
            }
            Self::Count { class, given } => {
                write!(
                    f,
                    "count of class {class} is {given}, must be finite and >= 0; a class not seen yet has count 0"
                )
            }
            Self::Merge { merge, given, below } => write!(
                f,
                "merge {merge} of the tree names id {given}, must name ids in [0, {}] that no other merge names; \
                 ids below the number of classes are classes, merge i makes id n_classes + i",
                below - 1
            ),
            Self::Tree => {
                write!(f, "the parents are not those of a tree, must be; they are damaged, make them of its merges")
            }
            Self::Power { given } => {
                write!(f, "power is {given}, must be finite and >= 0; 1 keeps the weights as they are")
            }
            Self::Slot { slot, alias, classes } => write!(
                f,
                "slot {slot} of the table names class {alias}, must be below {classes}; the table is damaged, build it anew"
            ),
            Self::Class { given, classes } => {
                write!(f, "class {given} does not exist, must lie in [0, {}]; check the ids", classes - 1)
            }
            Self::Label { row, given, classes: 0 } => {
                write!(
                    f,
                    "target of row {row} is {given}, but there are no classes; set ignore_index to leave rows out"
                )
            }
            Self::Label { row, given, classes } => write!(
                f,
                "target of row {row} is {given}, must lie in [0, {}]; set ignore_index to leave rows out",
                classes - 1
            ),
            Self::NeedsClasses => {
                write!(
                    f,
                    "the target is a distribution, or smoothed, must be a class for each row; entmax_loss takes either"
                )
            }
            Self::Smoothing { given } => {
                write!(f, "label_smoothing is {given}, must lie in [0, 1]; 0 leaves the targets as they are")
            }
            Self::Margin { given } => {
                write!(f, "margin is {given}, must be > 0 and finite; scores divided by a number do without one")
            }
            Self::Stream { asked, left } => write!(
                f,
                "{asked} draws or parts are asked of a stream that has {left} left, must be 1 to {left}; take another key"
            ),
            Self::Unique { row, asked, available } => write!(
                f,
                "row {row} asks for {asked} distinct classes of {available} that have positive probability and are not excluded; \
                 ask for fewer, or draw with replacement"
            ),
            Self::Narrow { classes } => {
                write!(f, "{classes} classes do not fit in int32, which ends at 2147483647; take dtype int64")
            }
            Self::Length { what, given, needed } => {
                write!(f, "{what} has length {given}, must have length {needed}; check what it belongs to")
            }
            Self::Contiguous { what } => {
                write!(f, "{what} is not contiguous, must be, in C order; write to a new array")
            }
            Self::Axes => write!(f, "rows lie along several axes, must lie along one; copy them to a matrix"),
            Self::Width { given, needed } => write!(
                f,
                "queries have {given} numbers each, must have {needed} as the rows of the weight; is one of the two transposed?"
            ),
            Self::NotFinite { class } => {
                write!(
                    f,
                    "the weight of class {class} holds NaN or infinity, must be finite for int8; mend it, or take float32"
                )
            }
            Self::Starts { length } => write!(
                f,
                "starts must rise from 0 to {length}, the number of values, with one more than there are rows; take those of a CSR"
            ),
            Self::Overlap { class } => write!(
                f,
                "class {class} is in both states, must be in one; give each shard its own first_class, and merge each once"
            ),
            Self::States => write!(
                f,
                "the states belong to other queries, k, temperature, alpha or targets, must agree in all; take them from the same call"
            ),
            Self::Bytes => {
                write!(
                    f,
                    "the bytes are no state of this version, must be what to_bytes gave; they are damaged or another's"
                )
            }
            Self::Codes { width, longest } => {
                write!(f, "rows of int8 have {width} numbers, must have at most {longest}; take bfloat16")
            }
            Self::Exact { given, needed } => write!(
                f,
                "the exact weight has shape ({}, {}), must have ({}, {}) as the head's; give the matrix that was rounded",
                given.0, given.1, needed.0, needed.1
            ),
            Self::Target { query, given } => write!(
                f,
                "target of query {query} is class {given}, must be one of the classes that were scored; check the ids, or merge all shards"
            ),
            Self::Ridge { given } => {
                write!(
                    f,
                    "regularization is {given}, must be > 0 and finite; a small one, such as 1e-6, hardly changes factors"
                )
            }
            Self::Interrupted => write!(f, "interrupted before the end; outputs are partly written, call again"),
        }
    }
}

impl std::error::Error for Error {}
