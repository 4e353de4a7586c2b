//! Losses of scores against targets, each with its gradient in the same call: values that are never negative, and that keep
//! their digits for the most confident rows.
//!
//! Fenchel-Young losses (Blondel, Martins, Niculae 2020): L(x/T; y) = max_p (<p, x/T> - Omega(p)) + Omega(y) - <x/T, y> over the
//! simplex, with the gradient (p - y)/T, p the map of the same Omega: entmax, sparsemax and normmax losses, and the
//! perceptron's as order infinity. As written, the value is a difference of numbers of the size of the scores; here it is
//! the Bregman divergence of Omega from p to y, a sum of terms >= 0 (`divergence`), of which only the support has any.
//! So a row beyond the margin 1/(alpha-1) has the loss 0 exactly. Cross entropy is log(1 + sum_{i != y} e^((x_i - x_y)/T)),
//! and Rankmax's loss log(1 + sum_{i != y} [1 - (x_y - x_i)/T]_+): sums of terms > 0 again.
//!
//! Weights and smoothing, as torch has them: a target is first smoothed, y' = (1 - e) y + e/n over the n classes present, then
//! weighted, w y'; with W = sum w y' the loss is W L(x/T; w y'/W). The mean of a batch divides by the weights of the labels, or by
//! the number of rows where targets are distributions. All sums over rows are in f64, in the order of the rows.
//!
//! Edges. A row with NaN or +inf, or without any class, has the loss and the gradient NaN; one that is ignored, or whose W is 0, has
//! 0, whatever its scores; where the target has a share in an absent class, the loss is +inf and the gradient W (p - y)/T.

mod cross_entropy;
mod divergence;
mod fenchel_young;
mod linear;
mod rankmax;
mod sampled;
mod sink;
mod target;

use crate::error::{Error, Result};
use crate::maps::SparseRows;
use crate::maps::entmax::Entries;
use crate::options::{Options, PerRow};
use crate::rows::{Results, Rows, RowsMut, Source};
use crate::simd::{Element, Level, Real};
use crate::threads::{Job, for_each_piece};
use cross_entropy::CrossEntropy;
use fenchel_young::{Family, FenchelYoung};
pub use linear::{IndexedRows, LinearGradients, LinearScores, WeightGradient, linear_loss};
use rankmax::Rankmax;
pub use sampled::{SampledLoss, SampledScores, Slots, sampled_loss};
use sink::Gradients;
use target::Wanted;
pub use target::{LossOptions, Reduction, Target};

/// Which loss.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Loss<'a> {
    /// The Fenchel-Young loss of entmax of this order, > 0: 2 is sparsemax's, infinity the perceptron's max x - <x, y>, and 1
    /// is cross entropy less the entropy of the target.
    Entmax(PerRow<'a>),
    /// The Fenchel-Young loss of the norm of this order, > 1.
    Normmax(PerRow<'a>),
    /// -sum_c y_c log softmax(x/T)_c.
    CrossEntropy,
    /// log(1 + sum_{i != y} [1 - (x_y - x_i) / (T margin)]_+), for a class as target (Kong, Krichene, Mayoraz, Rendle, Zhang 2020).
    Rankmax {
        /// How far the target's score must be above another for that to count no more, > 0.
        margin: f64,
    },
}

/// The loss of each row into `losses`, and its gradient with respect to the scores into `gradient`, where there is one: of the
/// sum or the mean that `how` asks for, which is returned.
///
/// ```
/// use softmaxfam::{Loss, LossOptions, Options, Reduction, Rows, RowsMut, Target, loss};
/// let scores = Rows::new(&[1.0_f64, 0.5, -1.0], 3)?;
/// let (mut losses, mut gradient) = ([0.0; 1], [0.0; 3]);
/// let target = Rows::new(&[1], 1)?;
/// let sum = loss(
///     Loss::Entmax(2.0.into()),
///     &scores,
///     Target::Classes(&target),
///     &Options::default(),
///     &LossOptions::default().reduction(Reduction::Sum),
///     &mut losses,
///     Some(&mut RowsMut::new(&mut gradient, 3)?),
/// )?;
/// assert_eq!((sum, losses, gradient), (0.5625, [0.5625], [0.75, -0.75, 0.0]));
/// # Ok::<(), softmaxfam::Error>(())
/// ```
pub fn loss<E: Element>(
    loss: Loss<'_>,
    scores: &Rows<'_, E>,
    target: Target<'_, E>,
    options: &Options<'_>,
    how: &LossOptions<'_>,
    losses: &mut [f64],
    gradient: Option<&mut RowsMut<'_, E>>,
) -> Result<f64> {
    options.check(scores)?;
    if let Some(gradient) = &gradient {
        gradient.expect("gradient", scores.rows(), scores.classes())?;
    }
    let wanted = &Wanted::new((scores.rows(), scores.classes()), target, how)?;
    computed(loss, Source::new(scores, options.mask), wanted, options, losses, gradient.map(Results::new), None)
}

/// As [`loss`], the gradient without its zeros; not for cross entropy, whose gradient has none.
pub fn loss_and_sparse_gradient<E: Element>(
    loss: Loss<'_>,
    scores: &Rows<'_, E>,
    target: Target<'_, E>,
    options: &Options<'_>,
    how: &LossOptions<'_>,
    losses: &mut [f64],
) -> Result<(f64, SparseRows<E>)> {
    options.check(scores)?;
    let wanted = &Wanted::new((scores.rows(), scores.classes()), target, how)?;
    let mut parts = vec![Vec::new(); scores.rows()];
    let sparse = Some(RowsMut::from_rows(&mut parts));
    let reduced = computed(loss, Source::new(scores, options.mask), wanted, options, losses, None, sparse)?;
    Ok((reduced, SparseRows::of_parts(parts)))
}

fn computed<R: Real>(
    loss: Loss<'_>,
    source: Source<'_, R>,
    wanted: &Wanted<'_>,
    options: &Options<'_>,
    losses: &mut [f64],
    dense: Option<Results<'_, R>>,
    sparse: Option<RowsMut<'_, Entries>>,
) -> Result<f64> {
    let rows = source.rows();
    if losses.len() != rows {
        return Err(Error::Shape { what: "losses", given: (losses.len(), 1), needed: (rows, 1) });
    }
    let level = Level::active();
    let outputs = (RowsMut::from_rows(losses), dense, sparse);
    loss.check(rows, wanted)?;
    let temperature = options.temperature;
    match loss {
        Loss::Entmax(order) | Loss::Normmax(order) => {
            let family = if matches!(loss, Loss::Entmax(_)) { Family::Entmax } else { Family::Normmax };
            let is_softmax = family == Family::Entmax && matches!(order, PerRow::Same(1.0)) && wanted.is_of_classes();
            if is_softmax && outputs.2.is_none() {
                let job = job(&source, options, cross_entropy::COST);
                each_row(level, job, outputs, || CrossEntropy::new(level, source, wanted, temperature))?;
            } else {
                let job = crate::maps::entmax::job(&source, options);
                each_row(level, job, outputs, || FenchelYoung::new(level, source, wanted, family, order, temperature))?;
            }
        }
        Loss::CrossEntropy => {
            let job = job(&source, options, cross_entropy::COST);
            each_row(level, job, outputs, || CrossEntropy::new(level, source, wanted, temperature))?;
        }
        Loss::Rankmax { margin } => {
            let job = job(&source, options, rankmax::COST);
            each_row(level, job, outputs, || Rankmax::new(level, source, wanted, temperature, margin))?;
        }
    }
    Ok(wanted.share() * losses.iter().sum::<f64>())
}

impl Loss<'_> {
    /// Whether its parameter, and its targets, are such as it takes.
    fn check(&self, rows: usize, wanted: &Wanted<'_>) -> Result<()> {
        let check = |order: &PerRow<'_>, above| {
            let valid = |given| if given > above { Ok(()) } else { Err(Error::Alpha { given, above }) };
            order.check("alpha", rows, valid)
        };
        match self {
            Self::Entmax(order) => check(order, 0.0),
            Self::Normmax(order) => check(order, 1.0),
            Self::CrossEntropy => Ok(()),
            &Self::Rankmax { margin } if !(margin > 0.0 && margin < f64::INFINITY) => {
                Err(Error::Margin { given: margin })
            }
            Self::Rankmax { .. } if wanted.is_of_classes() => Ok(()),
            Self::Rankmax { .. } => Err(Error::NeedsClasses),
        }
    }
}

/// Time of a row besides its classes, ns.
const ROW_COST: f64 = 200.0;

fn job<'a, R: Real>(source: &Source<'_, R>, options: &Options<'a>, cost: f64) -> Job<'a> {
    let row_cost = ROW_COST + cost * (source.classes() * size_of::<R>()) as f64;
    Job { rows: source.rows(), row_cost, together: 1, interrupt: options.interrupt }
}

/// What computes row after row with the same buffers.
trait RowLoss<R: Real> {
    /// The loss of a row; its gradient goes to the sink.
    fn row(&mut self, row: usize, sink: &mut Gradients<'_, R>) -> f64;
}

type Outputs<'a, R> = (RowsMut<'a, f64>, Option<Results<'a, R>>, Option<RowsMut<'a, Entries>>);

fn each_row<'a, R: Real, L: RowLoss<R>>(
    level: Level,
    job: Job<'_>,
    outputs: Outputs<'a, R>,
    make: impl Fn() -> L + Sync,
) -> Result<()> {
    for_each_piece(job, outputs, |rows, (mut losses, dense, sparse)| {
        let mut of = make();
        let mut sink = Gradients::new(level, dense, sparse);
        for row in rows {
            losses.set(row, 0, of.row(row, &mut sink));
        }
        Ok(())
    })
}
