//! The curve r(y) = (1 + y)^(1/a) of each order, on lanes, with its slope r / (1 + y).
//!
//! A class whose score lies z <= 0 above the highest (so below it) has p / p_max = r(a e^(au) z), a = alpha - 1 and
//! u = -log p_max. Orders 2 and 3/2 need no power; the others take exp(log1p(y) / a), which keeps its digits for every a,
//! however near to 0; at a = 0 the curve is e^y of y = z itself.
//! Error. Relative, 2 + |log r| eps; beside the cut at y = -1 absolute, eps.

use crate::elementary::{self, Window};
use crate::simd::Lanes;

/// One order's curve.
pub(super) trait Curve: Copy {
    /// (r, slope) of y; zeros where 1 + y is not positive.
    fn at<L: Lanes<Scalar = f64>>(self, lanes: L, y: L::V) -> (L::V, L::V);
}

/// alpha = 2
#[derive(Clone, Copy)]
pub(super) struct Line;

/// alpha = 3/2
#[derive(Clone, Copy)]
pub(super) struct Parabola;

/// alpha = 1
#[derive(Clone, Copy)]
pub(super) struct Exponential;

/// Any other alpha.
#[derive(Clone, Copy)]
pub(super) struct Power {
    /// alpha - 1
    pub(super) a: f64,
}

/// Runs `$body` with `$curve` the curve of an order up to 2.
macro_rules! with_curve {
    ($order:expr, $curve:ident => $body:expr) => {{
        use $crate::maps::entmax::curve::{Exponential, Line, Parabola, Power};
        match $order.a {
            0.0 => {
                let $curve = Exponential;
                $body
            }
            0.5 => {
                let $curve = Parabola;
                $body
            }
            1.0 => {
                let $curve = Line;
                $body
            }
            a => {
                let $curve = Power { a };
                $body
            }
        }
    }};
}
pub(super) use with_curve;

impl Curve for Line {
    #[inline(always)]
    fn at<L: Lanes<Scalar = f64>>(self, lanes: L, y: L::V) -> (L::V, L::V) {
        let (zero, one) = (lanes.splat(0.0), lanes.splat(1.0));
        let w = lanes.max(lanes.add(one, y), zero);
        (w, lanes.select(lanes.gt(w, zero), one, zero))
    }
}

impl Curve for Parabola {
    #[inline(always)]
    fn at<L: Lanes<Scalar = f64>>(self, lanes: L, y: L::V) -> (L::V, L::V) {
        let w = lanes.max(lanes.add(lanes.splat(1.0), y), lanes.splat(0.0));
        (lanes.mul(w, w), w)
    }
}

impl Curve for Exponential {
    #[inline(always)]
    fn at<L: Lanes<Scalar = f64>>(self, lanes: L, y: L::V) -> (L::V, L::V) {
        let r = elementary::exp(lanes, y, None, &Window::new(lanes, 0.0));
        (r, r)
    }
}

impl Curve for Power {
    #[inline(always)]
    fn at<L: Lanes<Scalar = f64>>(self, lanes: L, y: L::V) -> (L::V, L::V) {
        let zero = lanes.splat(0.0);
        let w = lanes.add(lanes.splat(1.0), y);
        let log = lanes.div(elementary::log1p(lanes, y), lanes.splat(self.a));
        let r = elementary::exp(lanes, lanes.min(log, zero), None, &Window::new(lanes, 0.0));
        // an infinite y (alpha < 1, an absent class) has r = 0, and no slope either
        let inside = lanes.gt(w, zero);
        (lanes.select(inside, r, zero), lanes.select(inside, lanes.div(r, w), zero))
    }
}
