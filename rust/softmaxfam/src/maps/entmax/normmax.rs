//! normmax of each row: argmax_p <p, x / T> - |p|_alpha over the simplex.
//!
//! At the optimum p_i / |p|_alpha = v_i = [x_i / T - tau]_+^(1/(alpha-1)) with sum v_i^alpha = 1 (Blondel, Martins, Niculae 2020). With
//! a = (alpha - 1) / alpha the numbers v_i^alpha = [x_i / T - tau]_+^(1/a) sum to 1: they are entmax of order 1 + a at the temperature
//! a T, so its solver does the work, and p_i is their power 1 / alpha, normalised. Error. As entmax.

use super::solve::Probabilities;
use super::{Differences, Order, Solved, Solver, job};
use crate::elementary::{self, Window};
use crate::error::{Error, Result};
use crate::maps::strips::{STRIP, rounded};
use crate::options::{Options, PerRow};
use crate::rows::{Places, Results, Rows, RowsMut, Source};
use crate::simd::{Element, Isa, Kernel, Lanes, Level, Real, dispatch};
use crate::threads::for_each_piece;

/// normmax of order `alpha` > 1 of each row into `out`, which may be the memory of the scores; edges as [`super::entmax`].
///
/// ```
/// use softmaxfam::{Options, Rows, RowsMut, normmax};
/// let mut p = [0.0; 2];
/// let mut out = RowsMut::new(&mut p, 2)?;
/// normmax(&Rows::new(&[0.3_f64, 0.3], 2)?, 2.0.into(), &Options::default(), &mut out)?;
/// assert_eq!(p, [0.5, 0.5]);
/// # Ok::<(), softmaxfam::Error>(())
/// ```
pub fn normmax<E: Element>(
    scores: &Rows<'_, E>,
    alpha: PerRow<'_>,
    options: &Options<'_>,
    out: &mut RowsMut<'_, E>,
) -> Result<()> {
    options.check(scores)?;
    alpha.check(
        "alpha",
        scores.rows(),
        |given| if given > 1.0 { Ok(()) } else { Err(Error::Alpha { given, above: 1.0 }) },
    )?;
    out.expect("out", scores.rows(), scores.classes())?;
    of_rows(Source::new(scores, options.mask), alpha, options, Results::new(out))
}

fn of_rows<R: Real>(
    source: Source<'_, R>,
    alpha: PerRow<'_>,
    options: &Options<'_>,
    out: Results<'_, R>,
) -> Result<()> {
    let (source, level) = (source.written_to(&out), Level::active());
    for_each_piece(job(&source, options), out, |rows, mut out| {
        let mut solver = Solver::new(level, source);
        let mut results = [R::ZERO; STRIP];
        for row in rows {
            let (alpha, temperature) = (alpha.of(row), options.temperature.of(row));
            let (solver, results) = (&mut solver, &mut results[..]);
            dispatch(level, NormmaxRow { solver, row, alpha, temperature, results, out: &mut out });
        }
        Ok(())
    })
}

struct NormmaxRow<'k, 'a, R: Real> {
    solver: &'k mut Solver<'a, R>,
    row: usize,
    alpha: f64,
    temperature: f64,
    results: &'k mut [R],
    out: &'k mut Results<'a, R>,
}

/// Replaces each p by p^(1 / alpha); their sum.
#[inline(always)]
fn roots<I: Isa>(isa: I, alpha: f64, p: &mut [f64]) -> f64 {
    let lanes = isa.f64();
    let window = Window::new(lanes, 0.0);
    let (zero, mut sum) = (lanes.splat(0.0), lanes.splat(0.0));
    for p in p.chunks_mut(8) {
        let v = lanes.load_or(p, 0.0);
        let root = if alpha == 2.0 {
            lanes.sqrt(v)
        } else {
            elementary::exp(lanes, lanes.div(elementary::log(lanes, v), lanes.splat(alpha)), None, &window)
        };
        let root = lanes.select(lanes.gt(v, zero), root, zero);
        lanes.store_part(root, p);
        sum = lanes.add(sum, root);
    }
    lanes.reduce_add(sum)
}

impl<R: Real> Kernel for NormmaxRow<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { solver, row, alpha, temperature, results, out } = self;
        let order = Order::of_normmax(alpha, temperature);
        match solver.solve(isa, row, order) {
            Solved::Undefined => out.fill(row, R::NAN),
            Solved::Absent => out.fill(row, R::ZERO),
            Solved::Listed { .. } => {
                let total = roots(isa, alpha, &mut solver.p);
                out.fill(row, R::ZERO);
                for (&class, &p) in solver.filter.indices().iter().zip(&solver.p) {
                    out.set(row, class as usize, p / total);
                }
            }
            Solved::Spread { highest, solution } => {
                let (mut z, mut p) = ([0.0; STRIP], [0.0; STRIP]);
                let mut total = 0.0;
                for is_writing in [false, true] {
                    for from in (0..solver.source.classes()).step_by(STRIP) {
                        let to = solver.source.classes().min(from + STRIP);
                        let scores = &solver.source.block(row, from, &mut solver.buffer)[..to - from];
                        let (z, p) = (&mut z[..to - from], &mut p[..to - from]);
                        dispatch(solver.level, Differences { scores, highest, temperature: order.temperature, z });
                        dispatch(solver.level, Probabilities { order, solution, z, p });
                        let sum = roots(isa, alpha, p);
                        if is_writing {
                            p.iter_mut().for_each(|p| *p /= total);
                            rounded(isa, p, out.place(row, from, to, results));
                            out.settle(row, from, to, results);
                        } else {
                            total += sum;
                        }
                    }
                }
            }
        }
    }
}
