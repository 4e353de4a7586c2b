//! The Tsallis entropy of each row: (1 - sum p_i^alpha) / (alpha (alpha - 1)), Shannon's at alpha = 1 (Tsallis 1988).
//!
//! As sum_i p_i (-expm1(a log p_i) / a) / alpha with a = alpha - 1, whose terms are all >= 0: no rounding of sum p = 1 is
//! multiplied by 1/a, and alpha = 1 is a limit like any other.

use crate::error::{Error, Result};
use crate::options::{Options, PerRow};
use crate::rows::{BLOCK, Results, Rows, RowsMut, Source};
use crate::simd::{Element, Real};
use crate::threads::{Job, for_each_piece};

/// Time of one class, ns.
const COST: f64 = 20.0;

/// The Tsallis entropy of order `alpha` > 0 of each row of probabilities into `out`, a view of one class; 0 at infinity.
///
/// A row with NaN, or with a number outside [0, 1] beyond rounding, is not checked: NaN or a negative number gives NaN.
///
/// ```
/// use softmaxfam::{Options, Rows, RowsMut, tsallis_entropy};
/// let mut entropy = [0.0; 1];
/// let mut out = RowsMut::new(&mut entropy, 1)?;
/// tsallis_entropy(&Rows::new(&[0.5_f64, 0.5], 2)?, 2.0.into(), &Options::default(), &mut out)?;
/// assert_eq!(entropy, [0.25]);
/// # Ok::<(), softmaxfam::Error>(())
/// ```
pub fn tsallis_entropy<E: Element>(
    p: &Rows<'_, E>,
    alpha: PerRow<'_>,
    options: &Options<'_>,
    out: &mut RowsMut<'_, E>,
) -> Result<()> {
    options.check(p)?;
    alpha.check(
        "alpha",
        p.rows(),
        |given| if given > 0.0 { Ok(()) } else { Err(Error::Alpha { given, above: 0.0 }) },
    )?;
    out.expect("out", p.rows(), 1)?;
    of_rows(&Source::new(p, None), alpha, options, Results::new(out))
}

fn of_rows<R: Real>(p: &Source<'_, R>, alpha: PerRow<'_>, options: &Options<'_>, out: Results<'_, R>) -> Result<()> {
    let row_cost = COST * p.classes() as f64;
    let job = Job { rows: p.rows(), row_cost, together: 1, interrupt: options.interrupt };
    for_each_piece(job, out, |rows, mut out| {
        let mut buffer = p.buffer();
        for row in rows {
            let alpha = alpha.of(row);
            let mut sum = -0.0; // which adds nothing to any number
            for from in (0..p.classes()).step_by(BLOCK) {
                let terms = p.block(row, from, &mut buffer).iter().map(|&p| term(p.into(), alpha - 1.0));
                sum = terms.fold(sum, |sum, term| sum + term);
            }
            out.set(row, 0, sum / alpha);
        }
        Ok(())
    })
}

/// p (1 - p^a) / a
fn term(p: f64, a: f64) -> f64 {
    match (p, a) {
        (0.0, _) => 0.0,
        (_, f64::INFINITY) => p * 0.0,
        (_, 0.0) => -p * p.ln(),
        (_, 1.0) => p * (1.0 - p),
        _ => -p * (a * p.ln()).exp_m1() / a,
    }
}
