//! What rows should have been: classes or distributions, smoothed, weighted, or ignored.

use crate::error::{Error, Result};
use crate::maps::strips::STRIP;
use crate::options::PerRow;
use crate::rows::{Rows, Source};
use crate::simd::Element;

/// What each row should have been.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Target<'a, E> {
    /// A class for each row: a view of one class.
    Classes(&'a Rows<'a, i64>),
    /// A share of each class, >= 0, in the type of the scores.
    Shares(&'a Rows<'a, E>),
    /// Shares in f64.
    Numbers(&'a Rows<'a, f64>),
}

/// What becomes of the losses of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// Their sum over that of the weights of the labels that are not ignored; over the number of rows for distributions.
    Mean,
}

/// Options of losses besides those of the maps. The default: the mean, of rows that all count alike.
#[derive(Clone, Copy, Debug)]
pub struct LossOptions<'a> {
    weight: Option<&'a Rows<'a, f64>>,
    ignored: Option<i64>,
    smoothing: f64,
    reduction: Reduction,
    factor: PerRow<'a>,
}

impl Default for LossOptions<'_> {
    fn default() -> Self {
        Self { weight: None, ignored: None, smoothing: 0.0, reduction: Reduction::Mean, factor: PerRow::Same(1.0) }
    }
}

impl<'a> LossOptions<'a> {
    /// A weight of each class, finite and >= 0: a view of the rows and classes of the scores, of which rows mostly share one.
    pub fn weight(self, weight: &'a Rows<'a, f64>) -> Self {
        Self { weight: Some(weight), ..self }
    }

    /// Rows with this label count nothing; it need be no class.
    pub fn ignored(self, label: i64) -> Self {
        Self { ignored: Some(label), ..self }
    }

    /// The share of a target that is spread over the classes present, from 0 to 1.
    pub fn smoothing(self, smoothing: f64) -> Self {
        Self { smoothing, ..self }
    }

    /// What is returned, and differentiated.
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// The gradient of each row is multiplied by this: one number, or one for each row.
    pub fn factor(self, factor: impl Into<PerRow<'a>>) -> Self {
        Self { factor: factor.into(), ..self }
    }
}

/// Shares of any type, read as f64, so that what follows exists once for all.
trait ReadShares: Sync {
    fn read(&self, row: usize, from: usize, shares: &mut [f64]);
}

impl<E: Element> ReadShares for Rows<'_, E> {
    fn read(&self, row: usize, from: usize, shares: &mut [f64]) {
        let source = Source::new(self, None);
        let mut buffer = [E::Real::ZERO; STRIP];
        for (shares, from) in shares.chunks_mut(STRIP).zip((from..).step_by(STRIP)) {
            let given = source.part(row, from, from + shares.len(), &mut buffer);
            shares.iter_mut().zip(given).for_each(|(share, given)| *share = (*given).into());
        }
    }
}

/// The targets of a call, checked.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    target: Read<'a>,
    how: LossOptions<'a>,
    share: f64,
    /// The row of a call that here is the first.
    first: usize,
}

#[derive(Clone, Copy)]
enum Read<'a> {
    Labels(&'a Rows<'a, i64>),
    Shares(&'a dyn ReadShares),
}

/// The target of one row.
pub(super) enum OfRow {
    /// It counts nothing.
    Nothing,
    /// One class, with its weight.
    Class(usize, f64),
    /// A share in several.
    Shares,
}

impl<'a> Wanted<'a> {
    pub(super) fn new<E: Element>(
        (rows, classes): (usize, usize),
        target: Target<'a, E>,
        how: &LossOptions<'a>,
    ) -> Result<Self> {
        let how = *how;
        let target = match target {
            Target::Classes(labels) => {
                labels.expect("target", rows, 1)?;
                Read::Labels(labels)
            }
            Target::Shares(shares) => {
                shares.expect("target", rows, classes)?;
                Read::Shares(shares)
            }
            Target::Numbers(shares) => {
                shares.expect("target", rows, classes)?;
                Read::Shares(shares)
            }
        };
        if !(0.0..=1.0).contains(&how.smoothing) {
            return Err(Error::Smoothing { given: how.smoothing });
        }
        how.factor.check("factor", rows, |_| Ok(()))?;
        if let Some(weight) = how.weight {
            weight.expect("weight", rows, classes)?;
            // as a rule all rows have the weights of the first
            for class in 0..if rows > 0 { classes } else { 0 } {
                let given = weight.get(0, class);
                if !(0.0..f64::INFINITY).contains(&given) {
                    return Err(Error::Weight { class, given });
                }
            }
        }
        let mut wanted = Self { target, how, share: 1.0, first: 0 };
        let mut total = rows as f64;
        if let Read::Labels(labels) = target {
            total = 0.0;
            for row in 0..rows {
                let given = labels.get(row, 0);
                if Some(given) == how.ignored {
                    continue;
                }
                let Some(class) = usize::try_from(given).ok().filter(|class| *class < classes) else {
                    return Err(Error::Label { row, given, classes });
                };
                total += wanted.weight(row, class);
            }
        }
        if how.reduction == Reduction::Mean {
            wanted.share = 1.0 / total;
        }
        Ok(wanted)
    }

    /// The same of the rows from `first` on, the mean still that of all rows.
    pub(super) fn starting_at(&self, first: usize) -> Self {
        Self { first: self.first + first, ..*self }
    }

    /// What the sum of the losses is multiplied by.
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    /// What the gradient of the loss of a row is multiplied by.
    pub(super) fn factor(&self, row: usize) -> f64 {
        self.share * self.how.factor.of(self.first + row)
    }

    /// Whether every row has one class as target.
    pub(super) fn is_of_classes(&self) -> bool {
        matches!(self.target, Read::Labels(_)) && self.how.smoothing == 0.0
    }

    pub(super) fn is_smoothed(&self) -> bool {
        self.how.smoothing > 0.0
    }

    fn weight(&self, row: usize, class: usize) -> f64 {
        self.how.weight.map_or(1.0, |weight| weight.get(self.first + row, class))
    }

    pub(super) fn of(&self, row: usize) -> OfRow {
        let Read::Labels(labels) = self.target else { return OfRow::Shares };
        let label = labels.get(self.first + row, 0);
        if Some(label) == self.how.ignored {
            return OfRow::Nothing;
        }
        if self.how.smoothing > 0.0 {
            return OfRow::Shares;
        }
        let class = label as usize; // checked
        match self.weight(row, class) {
            0.0 => OfRow::Nothing,
            weight => OfRow::Class(class, weight),
        }
    }

    /// Whether nothing is wanted of a row given in shares, whatever its scores.
    pub(super) fn is_nothing(&self, row: usize, classes: usize) -> bool {
        let mut strip = [0.0; STRIP];
        (0..classes).step_by(STRIP).all(|from| {
            let strip = &mut strip[..STRIP.min(classes - from)];
            self.shares(row, from, |_| true, classes, strip);
            strip.iter().all(|share| *share == 0.0)
        })
    }

    /// (label, what it keeps, what each class present gets) of a smoothed label without weights.
    pub(super) fn smoothed_label(&self, row: usize, present: usize) -> Option<(usize, f64, f64)> {
        match (self.target, self.how.weight) {
            (Read::Labels(labels), None) => {
                let smoothing = self.how.smoothing;
                Some((labels.get(self.first + row, 0) as usize, 1.0 - smoothing, smoothing / present as f64))
            }
            _ => None,
        }
    }

    /// w y' of the classes from `from` on, given which are present and how many there are in the row.
    pub(super) fn shares(
        &self,
        row: usize,
        from: usize,
        is_present: impl Fn(usize) -> bool,
        present: usize,
        shares: &mut [f64],
    ) {
        match self.target {
            Read::Labels(labels) => {
                shares.fill(0.0);
                if let Some(at) =
                    (labels.get(self.first + row, 0) as usize).checked_sub(from).filter(|at| *at < shares.len())
                {
                    shares[at] = 1.0;
                }
            }
            Read::Shares(given) => given.read(self.first + row, from, shares),
        }
        if self.how.smoothing > 0.0 {
            let (kept, spread) = (1.0 - self.how.smoothing, self.how.smoothing / present as f64);
            for (at, share) in shares.iter_mut().enumerate() {
                *share = kept * *share + if is_present(at) { spread } else { 0.0 };
            }
        }
        if let Some(weight) = self.how.weight {
            shares.iter_mut().zip(from..).for_each(|(share, class)| *share *= weight.get(self.first + row, class));
        }
    }
}
