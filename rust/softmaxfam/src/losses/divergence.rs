//! The terms of Fenchel-Young losses of Tsallis entropies: Bregman divergences, each >= 0 and with all its digits.
//!
//! Omega(p) = sum (p^alpha - p) / (alpha a), a = alpha - 1. From p to y its divergence is the sum of
//!     D(y, p) = (y^alpha + a p^alpha - alpha p^a y) / (alpha a),
//! of which D(0, p) = p^alpha / alpha and D(y, 0) = y^alpha / (alpha a). Where the target is one class, whose p is 1 - q, its
//! term is d(q) = D(1, 1 - q), a function of q alone, which has its digits where 1 - q has not.
//! The definition cancels as p nears y. With r = log(p / y), delta = (p - y) / y and x = -a r,
//!     D = (y p^a / alpha) [(e^x - 1 - x) / a + (delta - log1p delta)]       for x < 1,
//!     D = (1 / alpha) [-y^alpha expm1(-x) / a - p^a (y - p)]                  beyond:
//! two functions of one variable, each by its series near 0, so that every alpha is one formula, 1 included.
//! Orders below 1 use the first where |x| < 1: their terms differ in sign, and lose a factor 1 / alpha.

/// e^x - 1 - x
fn exp_less_line(x: f64) -> f64 {
    if x.abs() > 0.5 {
        return x.exp_m1() - x;
    }
    // sum_{k >= 2} x^k / k!, the next term below 2^-60 of the first
    let mut series = 0.0;
    for k in (3..=15_u8).rev() {
        series = (series + 1.0) * x / f64::from(k);
    }
    x * x / 2.0 * (1.0 + series)
}

/// t - log(1 + t)
fn line_less_log(t: f64) -> f64 {
    if t.abs() > 0.5 {
        return t - t.ln_1p();
    }
    // log(1 + t) = 2 atanh s, s = t / (2 + t), and t - 2 s = s t
    let s = t / (2.0 + t);
    let square = s * s;
    let mut series = 0.0;
    for k in (1..=16_u8).rev() {
        series = (series + 1.0 / f64::from(2 * k + 1)) * square;
    }
    s * t - 2.0 * s * series
}

/// p^alpha / alpha: the term of a class that is no part of the target.
pub(super) fn of_other(a: f64, p: f64) -> f64 {
    let power = match a {
        0.0 => p,
        0.5 => p * p.sqrt(),
        1.0 => p * p,
        f64::INFINITY => return 0.0,
        _ => p.powf(1.0 + a),
    };
    power / (1.0 + a)
}

/// d(q) of the target's class, given q, p = 1 - q and log p; q = 1 with p = 0 is off the support.
pub(super) fn of_label(a: f64, q: f64, p: f64, log_p: f64) -> f64 {
    let alpha = 1.0 + a;
    match a {
        f64::INFINITY => return 0.0,
        1.0 => return q * q / 2.0,
        0.5 => {
            let root = p.sqrt();
            let below = q / (1.0 + root);
            return below * below * (2.0 + root) * (2.0 / 3.0);
        }
        _ => {}
    }
    let x = -a * log_p;
    if x.abs() < 1.0 {
        let bent = if a == 0.0 { 0.0 } else { exp_less_line(x) / a };
        let straight = if q < 0.5 { line_less_log(-q) } else { -log_p - q };
        (-x).exp() / alpha * (bent + straight)
    } else {
        (-(-x).exp_m1() / a - q * (-x).exp()) / alpha
    }
}

/// D(y, p) of y > 0, given what computes log(p / y) where p is far from y or 0.
pub(super) fn of_share(a: f64, y: f64, p: f64, log_ratio: impl FnOnce() -> f64) -> f64 {
    let alpha = 1.0 + a;
    match a {
        f64::INFINITY => return 0.0,
        1.0 => return (y - p) * (y - p) / 2.0,
        0.5 => {
            let (of_y, of_p) = (y.sqrt(), p.sqrt());
            let apart = (y - p) / (of_y + of_p);
            return apart * apart * (2.0 * of_y + of_p) * (2.0 / 3.0);
        }
        _ => {}
    }
    let delta = (p - y) / y;
    let is_near = delta.abs() < 0.5;
    let r = if is_near { delta.ln_1p() } else { log_ratio() };
    let x = -a * r;
    let power = y.powf(alpha);
    if x < 1.0 && (a >= 0.0 || x > -1.0) {
        let bent = if a == 0.0 { 0.0 } else { exp_less_line(x) / a };
        let straight = if is_near { line_less_log(delta) } else { delta - r };
        power * (-x).exp() / alpha * (bent + straight)
    } else {
        let power_of_p = y.powf(a) * (-x).exp();
        (-power * (-x).exp_m1() / a - power_of_p * (y - p)) / alpha
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (1/alpha) int_p^y of alpha (y - t) t^(a-1) dt, which is the divergence, by Simpson's rule.
    fn integral(a: f64, y: f64, p: f64) -> f64 {
        let steps = 20_000;
        let of = |t: f64| (y - t) * t.powf(a - 1.0);
        let h = (y - p) / f64::from(steps);
        let at = |k: i32| of(p + h * f64::from(k));
        let inner: f64 = (1..steps).map(|k| f64::from(if k % 2 == 1 { 4 } else { 2 }) * at(k)).sum();
        h / 3.0 * (at(0) + inner + at(steps))
    }

    #[test]
    fn divergences_are_their_integral() {
        for a in [-0.5, -0.1, 0.0, 1e-12, 1e-3, 0.3, 0.5, 0.7, 1.0, 1.5, 3.0, 20.0] {
            for (y, p) in [(0.3, 0.3001), (0.3, 0.2), (0.3, 0.9), (1.0, 0.2), (0.01, 0.7), (0.9, 0.05)] {
                let expected = integral(a, y, p);
                let got = of_share(a, y, p, || f64::ln(p / y));
                assert!((got - expected).abs() <= 1e-9 * expected, "a = {a}, y = {y}, p = {p}: {got} {expected}");
                if y == 1.0 {
                    let label = of_label(a, 1.0 - p, p, p.ln());
                    assert!((label - expected).abs() <= 1e-9 * expected, "a = {a}, p = {p}: {label} {expected}");
                }
            }
        }
    }

    #[test]
    fn terms_near_the_target_keep_their_digits() {
        for a in [-0.5, 0.0, 1e-9, 0.25, 0.5, 0.8, 1.0, 2.0, 9.0] {
            for q in [1e-3_f64, 1e-9, 1e-150] {
                // d = q^2 / 2 - (a - 1) q^3 / 3 + ...
                let expected = q * q / 2.0 * (1.0 - (a - 1.0) * q * 2.0 / 3.0 + (a - 1.0) * (a - 2.0) * q * q / 4.0);
                let got = of_label(a, q, 1.0 - q, (-q).ln_1p());
                assert!((got - expected).abs() <= 1e-4 * q * expected + 1e-14 * expected, "a = {a}, q = {q}");
            }
            assert_eq!(of_share(a, 0.3, 0.3, || 0.0), 0.0);
            assert_eq!(of_label(a, 0.0, 1.0, 0.0), 0.0);
        }
    }
}
