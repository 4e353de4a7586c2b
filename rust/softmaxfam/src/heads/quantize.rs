//! Rows of numbers as integers of 8 bits, a scale a row.
//!
//! A row x becomes round(x / s), to even, with s = max |x| / 127, so that each number is off by at most s / 2. What a score loses
//! by that is bounded by Cauchy and Schwarz: with codes w' for w and levels h' for h, in units of their scales,
//! |h w - h' w'| <= |h| |w - w'| + |w'| |h - h'|. The norms of w - w' and w' are kept for each class, rounded up.

use crate::error::{Error, Result};
use crate::rows::{Places, Rows, RowsMut};
use crate::threads::{Job, for_each_piece};

/// Adding it and taking it away rounds a smaller number to an integer, ties to even.
const TO_INTEGER: f32 = 1.5 * (1 << 23) as f32;

/// The scale of a row, whose levels go to `levels`; no scale where a number is NaN or infinite.
pub(super) fn levels_into(row: &[f32], levels: &mut [i8]) -> Option<f32> {
    // 0 times what is not finite is NaN, in any order of adding
    let mut ways = [(0.0_f32, 0.0_f32); 8];
    for few in row.chunks(8) {
        for ((highest, nothing), x) in ways.iter_mut().zip(few) {
            *highest = if x.abs() > *highest { x.abs() } else { *highest };
            *nothing += 0.0 * x;
        }
    }
    if ways.iter().any(|way| way.1.is_nan()) {
        return None;
    }
    let scale = ways.iter().fold(0.0_f32, |highest, way| highest.max(way.0)) / 127.0;
    if scale < f32::MIN_POSITIVE {
        levels.fill(0); // too small to divide by
        return Some(0.0);
    }
    for (level, x) in levels.iter_mut().zip(row) {
        *level = ((x / scale + TO_INTEGER) - TO_INTEGER) as i8;
    }
    Some(scale)
}

/// The same in a list of its own.
pub(super) fn levels(row: &[f32]) -> (Option<f32>, Vec<i8>) {
    let mut levels = vec![0; row.len()];
    (levels_into(row, &mut levels), levels)
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
        let (mut row, mut levels) = (vec![0.0; width], vec![0; width]);
        for class in classes {
            weight.copy_into(class, 0, &mut row);
            let Some(scale) = levels_into(&row, &mut levels) else { return Err(Error::NotFinite { class }) };
            let (mut lost, mut kept) = ([0.0; 8], [0.0; 8]);
            for (row, levels) in row.chunks(8).zip(levels.chunks(8)) {
                for (way, (&level, &x)) in levels.iter().zip(row).enumerate() {
                    let rounded = f64::from(level) * f64::from(scale);
                    lost[way] += (f64::from(x) - rounded) * (f64::from(x) - rounded);
                    kept[way] += rounded * rounded;
                }
            }
            let [lost, kept] = [lost, kept].map(|ways| ways.iter().sum::<f64>());
            if codes.is_in_line() {
                codes.place(class, 0, width, &mut []).copy_from_slice(&levels);
            } else {
                levels.iter().enumerate().for_each(|(d, &level)| codes.set(class, d, level));
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
