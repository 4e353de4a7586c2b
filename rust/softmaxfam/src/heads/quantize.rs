//! Rows of numbers as integers of 8 bits, a scale a row.
//!
//! A row x becomes round(x / s), to even, with s = max |x| / 127, so that each number is off by at most s / 2. What a score loses
//! by that is bounded by Cauchy and Schwarz: with codes w' for w and levels h' for h, in units of their scales,
//! |h w - h' w'| <= |h| |w - w'| + |w'| |h - h'|. The norms of w - w' and w' are kept for each class, rounded up.

use crate::error::{Error, Result};
use crate::rows::{Rows, RowsMut};
use crate::threads::{Job, for_each_piece};

/// The scale of a row and its levels; no scale where a number is NaN or infinite.
pub(super) fn levels(row: &[f32]) -> (Option<f32>, Vec<i8>) {
    let highest = row.iter().fold(0.0_f32, |highest, x| if x.is_nan() { f32::NAN } else { highest.max(x.abs()) });
    if !highest.is_finite() || row.iter().any(|x| x.is_nan()) {
        return (None, vec![0; row.len()]);
    }
    let scale = highest / 127.0;
    if scale < f32::MIN_POSITIVE {
        return (Some(0.0), vec![0; row.len()]); // subnormal: too small to divide by
    }
    (Some(scale), row.iter().map(|x| (x / scale).round_ties_even().clamp(-127.0, 127.0) as i8).collect())
}

/// The class matrix as [`super::Weights::Int8`] holds it: codes of the shape of `weight`, a scale a class, and two norms of
/// each class: of what rounding took from its row, and of the rounded row.
///
/// A row with NaN or infinity is refused. `interrupt` is asked now and then whether to stop.
pub fn quantize(
    weight: &Rows<'_, f32>,
    codes: &mut RowsMut<'_, i8>,
    scales: &mut RowsMut<'_, f32>,
    norms: &mut RowsMut<'_, f32>,
    interrupt: Option<&(dyn Fn() -> bool + Sync)>,
) -> Result<()> {
    let (classes, width) = (weight.rows(), weight.classes());
    codes.expect("codes", classes, width)?;
    scales.expect("scales", classes, 1)?;
    norms.expect("norms", classes, 2)?;
    let job = Job { rows: classes, row_cost: 1.5 * width as f64, together: 1, interrupt };
    let outputs = (codes.reborrow(), scales.reborrow(), norms.reborrow());
    for_each_piece(job, outputs, |classes, (mut codes, mut scales, mut norms)| {
        let mut row = vec![0.0; width];
        for class in classes {
            weight.copy_into(class, 0, &mut row);
            let (Some(scale), levels) = levels(&row) else { return Err(Error::NotFinite { class }) };
            let rounded = |level: i8| f64::from(level) * f64::from(scale);
            let (mut lost, mut kept) = (0.0, 0.0);
            for (d, (&level, &x)) in levels.iter().zip(&row).enumerate() {
                codes.set(class, d, level);
                lost += (f64::from(x) - rounded(level)).powi(2);
                kept += rounded(level).powi(2);
            }
            scales.set(class, 0, scale);
            norms.set(class, 0, above(lost.sqrt()));
            norms.set(class, 1, above(kept.sqrt()));
        }
        Ok(())
    })
}

/// An f32 that is not below a norm that was summed in f64.
pub(super) fn above(norm: f64) -> f32 {
    (norm as f32).next_up()
}
