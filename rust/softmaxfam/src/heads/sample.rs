//! Draws from softmax of a head's scores: sums of chunks first, then only the chunks that are drawn are scored again.

use super::linear::{Ask, LinearHead};
use super::tiles::{Sweep, groups};
use crate::error::{Error, Result};
use crate::rows::{Rows, RowsMut};
use crate::samplers::Stream;
use crate::samplers::scores::{Drawing, OPENING};
use crate::threads::{Job, for_each_piece};

impl<'a> LinearHead<'a> {
    /// Draws classes of each query from softmax of its scores into `ids`, and their log-probabilities into `logq`: as
    /// [`crate::samplers::sample_scores`] does from given scores, with the same words of the stream.
    pub fn sample(
        &self,
        queries: &Rows<'_, f32>,
        stream: Stream,
        ask: &Ask<'a>,
        ids: &mut RowsMut<'_, i64>,
        logq: &mut RowsMut<'_, f32>,
        mut thresholds: Option<&mut RowsMut<'_, f32>>,
    ) -> Result<()> {
        ask.check(self, queries)?;
        let (rows, count, unique) = (queries.rows(), ids.classes(), thresholds.is_some());
        ids.expect("ids", rows, count)?;
        logq.expect("logq", rows, count)?;
        if let Some(thresholds) = &thresholds {
            thresholds.expect("thresholds", rows, 1)?;
            if count > self.classes() {
                return Err(Error::Unique { row: 0, asked: count, available: self.classes() });
            }
        }
        let (noise, first) = stream.words(if unique { rows } else { rows * count })?;
        for group in groups(rows) {
            let sweep = Sweep::new(self, queries, group.clone(), ask);
            let (sums, _) = self.absorbed(&sweep, 0, None, &())?;
            let absent = sweep.absent();
            let row_cost = OPENING * sweep.chunks().min(count + 1) as f64 * self.weights.width() as f64 / 50.0;
            let job = Job { rows: group.end, row_cost, together: 1, interrupt: ask.interrupt };
            let outputs = ((ids.reborrow(), logq.reborrow()), thresholds.as_deref_mut().map(RowsMut::reborrow));
            for_each_piece(job, outputs, |rows, ((mut ids, mut logq), mut thresholds)| {
                for row in rows.filter(|row| group.contains(row)) {
                    let query = row - group.start;
                    let sums: Vec<_> = sums.iter().map(|sums| sums[query]).collect();
                    let alone = Sweep::new(self, queries, row..row + 1, ask);
                    let mut walk = alone.walk();
                    let block = |chunk: usize, into: &mut Vec<f64>| {
                        into.clear();
                        walk.tiles(alone.range(chunk), |tile| {
                            into.extend(tile.of(0).iter().map(|&score| f64::from(score) / self.temperature));
                        });
                    };
                    let (level, temperature) = (sweep.level, self.temperature);
                    let drawing = Drawing { level, noise: &noise, temperature, sums: &sums, count };
                    let word = first + if unique { row } else { row * count } as u64;
                    let drawn = drawing.row(word, unique, || absent[query], block);
                    for (slot, &(class, log_prob)) in drawn.classes.iter().enumerate() {
                        ids.set(row, slot, self.drawn_class(class, &sweep));
                        logq.set(row, slot, log_prob);
                    }
                    if let Some(thresholds) = &mut thresholds {
                        thresholds.set(row, 0, drawn.threshold);
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The number of a class that was drawn by its chunk and place: chunks of a shard need not start at multiples.
    fn drawn_class(&self, class: i64, sweep: &Sweep<'_>) -> i64 {
        if class < 0 {
            return class;
        }
        let (chunk, place) = (class as usize / crate::rows::BLOCK, class as usize % crate::rows::BLOCK);
        self.first_class as i64 + (sweep.range(chunk).start + place) as i64
    }
}
