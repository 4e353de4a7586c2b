//! Losses and their gradients against their definition, on every instruction set and layout, and what they promise.

mod twins;

use half::{bf16, f16};
use proptest::prelude::*;
use softmaxfam::{
    Element, Error, Loss, LossOptions, Options, PerRow, Reduction, Rows, RowsMut, Target, entmax, loss,
    loss_and_sparse_gradient, normmax, softmax,
};
use twins::{Layout, close, layouts, on_each_isa, scores};

const INF: f64 = f64::INFINITY;

fn kinds() -> Vec<Loss<'static>> {
    let orders = [0.5, 1.0, 1.0 + 1e-6, 1.3, 1.5, 2.0, 2.5, 8.0, INF].map(|alpha| Loss::Entmax(alpha.into()));
    let norms = [1.2, 2.0, 5.0, INF].map(|alpha| Loss::Normmax(alpha.into()));
    let others = [Loss::CrossEntropy, Loss::Rankmax { margin: 1.0 }, Loss::Rankmax { margin: 0.7 }];
    orders.into_iter().chain(norms).chain(others).collect()
}

/// Loss and gradient of one row as defined, from the probabilities of the maps: differences, of few digits near 0.
fn defined(kind: Loss<'_>, x: &[f64], y: &[f64], temperature: f64) -> (f64, Vec<f64>) {
    let z: Vec<f64> = x.iter().map(|x| x / temperature).collect();
    let mut p = vec![0.0; x.len()];
    let view = Rows::new(&z, z.len()).unwrap();
    let (options, mut out) = (Options::default(), RowsMut::new(&mut p, z.len()).unwrap());
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| if *a == 0.0 { 0.0 } else { a * b }).sum::<f64>();
    match kind {
        Loss::Entmax(order) => {
            entmax(&view, order, &options, &mut out).unwrap();
            let PerRow::Same(alpha) = order else { unreachable!() };
            let a = alpha - 1.0;
            let omega = |p: &[f64]| {
                let of = |p: &f64| match a {
                    _ if *p == 0.0 || a == INF => 0.0,
                    0.0 => p * p.ln(),
                    _ => p * (a * p.ln()).exp_m1() / a / alpha,
                };
                p.iter().map(of).sum::<f64>()
            };
            let value = dot(&p, &z) - omega(&p) + omega(y) - dot(y, &z);
            (value, p.iter().zip(y).map(|(p, y)| (p - y) / temperature).collect())
        }
        Loss::Normmax(order) => {
            normmax(&view, order, &options, &mut out).unwrap();
            let PerRow::Same(alpha) = order else { unreachable!() };
            let norm = |p: &[f64]| match alpha {
                INF => p.iter().fold(0.0, |top: f64, p| top.max(*p)),
                _ => p.iter().map(|p| p.powf(alpha)).sum::<f64>().powf(1.0 / alpha),
            };
            let value = dot(&p, &z) - norm(&p) + norm(y) - dot(y, &z);
            (value, p.iter().zip(y).map(|(p, y)| (p - y) / temperature).collect())
        }
        Loss::CrossEntropy => {
            softmax(&view, &options, &mut out).unwrap();
            let highest = z.iter().fold(-INF, |top, z| top.max(*z));
            let log = z.iter().map(|z| (z - highest).exp()).sum::<f64>().ln() + highest;
            let value = y.iter().zip(&z).map(|(y, z)| if *y == 0.0 { 0.0 } else { y * (log - z) }).sum();
            (value, p.iter().zip(y).map(|(p, y)| (p - y) / temperature).collect())
        }
        Loss::Rankmax { margin } => {
            let own = y.iter().position(|y| *y == 1.0).unwrap();
            let above: Vec<f64> = z.iter().map(|x| ((x - z[own]) / margin + 1.0).max(0.0)).collect();
            let sum: f64 = above.iter().sum();
            let active = above.iter().filter(|above| **above > 0.0).count() as f64 - 1.0;
            let scale = temperature * margin * sum;
            let mut gradient: Vec<f64> = above.iter().map(|above| f64::from(*above > 0.0) / scale).collect();
            gradient[own] = -active / scale;
            (sum.ln(), gradient)
        }
        _ => unreachable!(),
    }
}

fn one_hot(classes: usize, class: usize) -> Vec<f64> {
    (0..classes).map(|c| f64::from(c == class)).collect()
}

fn is_rankmax(kind: Loss<'_>) -> bool {
    matches!(kind, Loss::Rankmax { .. })
}

struct Found<E> {
    losses: Vec<f64>,
    gradient: Vec<E>,
    sum: f64,
}

fn run<E: Element>(
    kind: Loss<'_>,
    view: &Rows<'_, E>,
    target: Target<'_, E>,
    options: &Options<'_>,
    how: &LossOptions<'_>,
) -> Found<E> {
    let (mut losses, mut gradient) = (vec![0.0; view.rows()], vec![E::NAN; view.rows() * view.classes()]);
    let mut out = RowsMut::new(&mut gradient, view.classes()).unwrap();
    let sum = loss(kind, view, target, options, how, &mut losses, Some(&mut out)).unwrap();
    Found { losses, gradient, sum }
}

fn check<E: Element>(data: &[E], layout: &Layout, kind: Loss<'_>, temperature: f64, tolerance: f64) {
    let (rows, classes) = (layout.rows, layout.classes);
    let memory = layout.scattered(data);
    let view = layout.view(&memory);
    let labels: Vec<i64> = (0..rows as i64).map(|row| row * 7 % classes as i64).collect();
    let labels_view = Rows::new(&labels, 1).unwrap();
    let options = Options::default().temperature(temperature);
    let how = LossOptions::default().reduction(Reduction::Sum);
    let target = Target::Classes(&labels_view);
    let all = on_each_isa(|| {
        let found = run(kind, &view, target, &options, &how);
        // the loss alone, and sparse
        let mut alone = vec![0.0; rows];
        loss(kind, &view, target, &options, &how, &mut alone, None).unwrap();
        for (alone, beside) in alone.iter().zip(&found.losses) {
            // terms that are stored are summed as they are stored, in the type computed in
            assert!((alone - beside).abs() <= 3e-7_f64.min(tolerance) * (1.0 + beside), "{kind:?}: {alone} {beside}");
        }
        if !matches!(kind, Loss::CrossEntropy) {
            let mut again = vec![0.0; rows];
            let (_, sparse) = loss_and_sparse_gradient(kind, &view, target, &options, &how, &mut again).unwrap();
            for row in 0..rows {
                let mut dense = vec![0.0; classes];
                for at in sparse.indptr[row] as usize..sparse.indptr[row + 1] as usize {
                    dense[sparse.indices[at] as usize] = sparse.values[at].to_f64();
                }
                for (one, other) in dense.iter().zip(&found.gradient[row * classes..]) {
                    assert!((one - other.to_f64()).abs() <= tolerance, "{kind:?}: {one} {other:?}");
                }
            }
        }
        // into rows of the same layout
        let mut scattered = vec![E::ZERO; memory.len()];
        let into = &mut layout.view_mut(&mut scattered);
        loss(kind, &view, target, &options, &how, &mut alone, Some(into)).unwrap();
        assert_eq!(layout.gathered(&scattered), found.gradient, "{kind:?}");
        (found.losses, found.gradient)
    });
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{kind:?}: instruction sets differ");
    let (losses, gradient) = &all[0];
    for row in 0..rows {
        let x: Vec<f64> = data[row * classes..(row + 1) * classes].iter().map(|x| x.to_f64()).collect();
        let (value, of_value) = defined(kind, &x, &one_hot(classes, labels[row] as usize), temperature);
        close(losses[row], value, tolerance * (1.0 + value.abs()), "loss", layout);
        for (got, expected) in gradient[row * classes..].iter().zip(&of_value) {
            close(got.to_f64(), *expected, tolerance / temperature, "gradient", layout);
        }
    }
}

fn check_all<E: Element>(tolerance: f64) {
    for kind in kinds() {
        for (rows, classes) in [(1, 1), (3, 2), (4, 9), (3, 40), (2, 300), (2, 5000)] {
            for scale in [0.01, 2.0, 30.0] {
                let data = scores::<E>(rows * classes, scale);
                let all = layouts(rows, classes);
                for layout in if classes < 1000 { &all[..] } else { &all[..1] } {
                    check(&data, layout, kind, if scale == 2.0 { 0.7 } else { 1.0 }, tolerance);
                }
            }
        }
    }
}

#[test]
fn f64_rows_agree_with_the_definition() {
    check_all::<f64>(1e-11);
}

#[test]
fn f32_rows_agree_with_the_definition() {
    check_all::<f32>(1e-5);
}

#[test]
fn f16_rows_agree_with_the_definition() {
    check_all::<f16>(5e-3);
}

#[test]
fn bf16_rows_agree_with_the_definition() {
    check_all::<bf16>(2e-2);
}

/// A distribution with some zeros.
fn shares(count: usize, classes: usize) -> Vec<f64> {
    let mut y: Vec<f64> = scores::<f64>(count, 1.0).iter().map(|x| if *x < 0.3 { 0.0 } else { *x }).collect();
    for row in y.chunks_mut(classes) {
        row[classes / 2] += 0.1;
        let total: f64 = row.iter().sum();
        row.iter_mut().for_each(|y| *y /= total);
    }
    y
}

#[test]
fn distributions_agree_with_the_definition() {
    for kind in kinds().into_iter().filter(|kind| !is_rankmax(*kind)) {
        for classes in [2, 9, 600, 5000] {
            for scale in [0.01, 2.0, 30.0] {
                let (x, y) = (scores::<f64>(2 * classes, scale), shares(2 * classes, classes));
                let (view, of_y) = (Rows::new(&x, classes).unwrap(), Rows::new(&y, classes).unwrap());
                let how = LossOptions::default().reduction(Reduction::Sum);
                let options = Options::default().temperature(0.7);
                let found = run(kind, &view, Target::Shares(&of_y), &options, &how);
                let numbers = run(kind, &view, Target::Numbers(&of_y), &options, &how);
                assert_eq!((&found.losses, &found.gradient), (&numbers.losses, &numbers.gradient));
                for row in 0..2 {
                    let part = row * classes..(row + 1) * classes;
                    let (value, gradient) = defined(kind, &x[part.clone()], &y[part.clone()], 0.7);
                    let got = found.losses[row];
                    assert!((got - value).abs() <= 1e-11 * (1.0 + value), "{kind:?} {classes} {scale}: {got} {value}");
                    for (got, expected) in found.gradient[part].iter().zip(gradient) {
                        assert!((got - expected).abs() <= 1e-12 / 0.7, "{kind:?}: {got} {expected}");
                    }
                }
            }
        }
    }
}

#[test]
fn smoothed_and_weighted_labels_are_the_distributions_that_they_stand_for() {
    let classes = 11;
    let x = scores::<f64>(3 * classes, 2.0);
    let view = Rows::new(&x, classes).unwrap();
    let labels = [4_i64, 0, 10];
    let of_labels = Rows::new(&labels, 1).unwrap();
    let w: Vec<f64> = (0..classes).map(|class| 0.25 * class as f64).collect();
    let weight = Rows::strided(&w, 0, &[(3, 0)], &[(classes, 1)]).unwrap();
    for kind in kinds().into_iter().filter(|kind| !is_rankmax(*kind)) {
        for smoothing in [0.0, 0.1, 1.0] {
            for is_weighted in [false, true] {
                let how = LossOptions::default().smoothing(smoothing).reduction(Reduction::Sum);
                let how = if is_weighted { how.weight(&weight) } else { how };
                let found = run(kind, &view, Target::Classes(&of_labels), &Options::default(), &how);
                for (row, &label) in labels.iter().enumerate() {
                    let part = row * classes..(row + 1) * classes;
                    let wy: Vec<f64> = one_hot(classes, label as usize)
                        .iter()
                        .zip(&w)
                        .map(|(y, w)| {
                            let smoothed = (1.0 - smoothing) * y + smoothing / classes as f64;
                            smoothed * if is_weighted { *w } else { 1.0 }
                        })
                        .collect();
                    let total: f64 = wy.iter().sum();
                    let (mut value, mut gradient) = (0.0, vec![0.0; classes]);
                    if total > 0.0 {
                        let y: Vec<f64> = wy.iter().map(|y| y / total).collect();
                        (value, gradient) = defined(kind, &x[part.clone()], &y, 1.0);
                    }
                    let got = found.losses[row];
                    assert!((got - total * value).abs() <= 1e-12 * (1.0 + total * value), "{kind:?}: {got} {value}");
                    for (got, expected) in found.gradient[part].iter().zip(gradient) {
                        assert!((got - total * expected).abs() <= 1e-13 * (1.0 + total), "{kind:?}: {got} {expected}");
                    }
                }
                assert_eq!(found.sum, found.losses.iter().sum::<f64>());
            }
        }
    }
}

#[test]
fn means_divide_by_the_weights_of_the_labels_that_count() {
    let x = scores::<f64>(4 * 5, 1.0);
    let view = Rows::new(&x, 5).unwrap();
    let labels = [1_i64, -100, 3, 1];
    let of_labels = Rows::new(&labels, 1).unwrap();
    let w = [1.0, 0.5, 2.0, 3.0, 0.0];
    let weight = Rows::strided(&w, 0, &[(4, 0)], &[(5, 1)]).unwrap();
    let how = LossOptions::default().weight(&weight).ignored(-100);
    for kind in kinds() {
        let mean = run(kind, &view, Target::Classes(&of_labels), &Options::default(), &how);
        let sum = run(kind, &view, Target::Classes(&of_labels), &Options::default(), &how.reduction(Reduction::Sum));
        assert!((mean.sum - sum.sum / 4.0).abs() <= 1e-14 * sum.sum, "{kind:?}");
        assert_eq!((mean.losses[1], &mean.gradient[5..10]), (0.0, &[0.0; 5][..]));
        for (one, other) in mean.gradient.iter().zip(&sum.gradient) {
            assert!((one - other / 4.0).abs() <= 1e-15, "{kind:?}");
        }
        let factors = [2.0, 5.0, 0.5, 0.0];
        let of_rows = Rows::new(&factors, 1).unwrap();
        let how = how.reduction(Reduction::Sum).factor(PerRow::Each(&of_rows));
        let scaled = run(kind, &view, Target::Classes(&of_labels), &Options::default(), &how);
        for (at, (one, other)) in scaled.gradient.iter().zip(&sum.gradient).enumerate() {
            assert!((one - other * factors[at / 5]).abs() <= 1e-14, "{kind:?}");
        }
    }
}

#[test]
fn the_edges_of_the_contract() {
    let rows: [(&[f64; 3], f64); 7] = [
        (&[0.0, f64::NAN, 1.0], f64::NAN),
        (&[0.0, INF, 1.0], f64::NAN),
        (&[INF, 0.0, 1.0], f64::NAN),
        (&[-INF, -INF, -INF], f64::NAN),
        (&[-INF, 0.0, 1.0], INF), // the label is absent
        (&[3.0, -INF, -INF], 0.0),
        (&[1e300, -1e300, -1e300], 0.0),
    ];
    let label = Rows::new(&[0_i64], 1).unwrap();
    for kind in kinds() {
        for (x, expected) in rows {
            let view = Rows::new(x, 3).unwrap();
            let found =
                on_each_isa(|| run(kind, &view, Target::Classes(&label), &Options::default(), &LossOptions::default()));
            for found in found {
                let got = found.losses[0];
                assert!(got == expected || (got.is_nan() && expected.is_nan()), "{kind:?} {x:?}: {got}");
                let is_nan = found.gradient.iter().all(|g| g.is_nan());
                assert!(is_nan == expected.is_nan(), "{kind:?} {x:?}: {:?}", found.gradient);
                assert!(is_nan || found.gradient.iter().sum::<f64>().abs() < 1e-15);
            }
            // an ignored row is not even read
            let how = LossOptions::default().ignored(0).reduction(Reduction::Sum);
            let found = run(kind, &view, Target::Classes(&label), &Options::default(), &how);
            assert_eq!((found.losses[0], &found.gradient[..]), (0.0, &[0.0; 3][..]));
        }
        let (nan, no_share) = ([f64::NAN, 1.0, 2.0], [0.0; 3]);
        let (view, shares) = (Rows::new(&nan, 3).unwrap(), Rows::new(&no_share, 3).unwrap());
        if !is_rankmax(kind) {
            let found = run(kind, &view, Target::Shares(&shares), &Options::default(), &LossOptions::default());
            assert_eq!((found.losses[0], &found.gradient[..]), (0.0, &[0.0; 3][..]), "{kind:?}");
            let negative = Rows::new(&[-0.5, 0.5, 1.0], 3).unwrap();
            let view = Rows::new(&[0.0, 1.0, 2.0], 3).unwrap();
            let found = run(kind, &view, Target::Shares(&negative), &Options::default(), &LossOptions::default());
            // cross entropy is linear in the shares, entropies have none that are negative
            assert_eq!(found.losses[0].is_nan(), !matches!(kind, Loss::CrossEntropy), "{kind:?}");
        }
        let mask = [0_u8; 3];
        let mask = Rows::new(&mask, 3).unwrap();
        let view = Rows::new(&[1.0, 2.0, 3.0], 3).unwrap();
        let options = Options::default().mask(&mask);
        let found = run(kind, &view, Target::Classes(&label), &options, &LossOptions::default());
        assert!(found.losses[0].is_nan(), "{kind:?}");
    }
}

#[test]
fn refused_arguments() {
    let x = [0.0_f64; 6];
    let view = Rows::new(&x, 3).unwrap();
    let call = |kind: Loss<'_>, labels: [i64; 2], how: &LossOptions<'_>| {
        let labels = Rows::new(&labels, 1).unwrap();
        loss(kind, &view, Target::Classes(&labels), &Options::default(), how, &mut [7.0; 2], None).unwrap_err()
    };
    let plain = LossOptions::default();
    assert_eq!(call(Loss::CrossEntropy, [0, 3], &plain), Error::Label { row: 1, given: 3, classes: 3 });
    assert_eq!(call(Loss::CrossEntropy, [-1, 3], &plain.ignored(3)), Error::Label { row: 0, given: -1, classes: 3 });
    assert_eq!(call(Loss::CrossEntropy, [0, 0], &plain.smoothing(1.5)), Error::Smoothing { given: 1.5 });
    assert_eq!(call(Loss::Rankmax { margin: 0.0 }, [0, 0], &plain), Error::Margin { given: 0.0 });
    assert_eq!(call(Loss::Rankmax { margin: 1.0 }, [0, 0], &plain.smoothing(0.1)), Error::NeedsClasses);
    assert_eq!(call(Loss::Entmax(0.0.into()), [0, 0], &plain), Error::Alpha { given: 0.0, above: 0.0 });
    assert_eq!(call(Loss::Normmax(1.0.into()), [0, 0], &plain), Error::Alpha { given: 1.0, above: 1.0 });
    let w = [1.0, -1.0, 1.0, 1.0, 1.0, 1.0];
    let weight = Rows::new(&w, 3).unwrap();
    assert_eq!(call(Loss::CrossEntropy, [0, 0], &plain.weight(&weight)), Error::Weight { class: 1, given: -1.0 });
    assert_eq!(
        Error::Label { row: 1, given: 3, classes: 3 }.to_string(),
        "target of row 1 is 3, must lie in [0, 2]; set ignore_index to leave rows out"
    );
}

#[test]
fn threads_and_the_batch_change_no_bit() {
    let (rows, classes) = (300, 700);
    let x = scores::<f32>(rows * classes, 3.0);
    let labels: Vec<i64> = (0..rows as i64).map(|row| row * 31 % classes as i64).collect();
    let view = Rows::new(&x, classes).unwrap();
    let of_labels = Rows::new(&labels, 1).unwrap();
    let how = LossOptions::default().reduction(Reduction::Sum);
    for kind in kinds() {
        softmaxfam::threads::set_num_threads(1);
        let one = run(kind, &view, Target::Classes(&of_labels), &Options::default(), &how);
        softmaxfam::threads::set_num_threads(3);
        let three = run(kind, &view, Target::Classes(&of_labels), &Options::default(), &how);
        softmaxfam::threads::set_num_threads(0);
        assert_eq!((one.sum, &one.losses, &one.gradient), (three.sum, &three.losses, &three.gradient));
        for row in [0, 17, 299] {
            let part = &x[row * classes..(row + 1) * classes];
            let (view, label) = (Rows::new(part, classes).unwrap(), Rows::new(&labels[row..=row], 1).unwrap());
            let alone = run(kind, &view, Target::Classes(&label), &Options::default(), &how);
            assert_eq!(alone.losses[0], one.losses[row]);
            assert_eq!(alone.gradient, one.gradient[row * classes..(row + 1) * classes]);
        }
    }
}

fn of_row(kind: Loss<'_>, x: &[f64], class: usize) -> (f64, Vec<f64>) {
    let view = Rows::new(x, x.len()).unwrap();
    let label = [class as i64];
    let label = Rows::new(&label, 1).unwrap();
    let how = LossOptions::default();
    let found = run(kind, &view, Target::Classes(&label), &Options::default(), &how);
    (found.losses[0], found.gradient)
}

proptest! {
    #[test]
    fn losses_are_not_negative_and_gradients_sum_to_zero(
        x in prop::collection::vec(-20.0_f64..20.0, 1..60), at in 0_usize..60, which in 0_usize..16,
    ) {
        let (kind, class) = (kinds()[which], at % x.len());
        let (value, gradient) = of_row(kind, &x, class);
        prop_assert!(value >= 0.0);
        prop_assert!(gradient.iter().sum::<f64>().abs() < 1e-12);
        let has_sign = |(c, g): (usize, &f64)| (c == class || *g >= 0.0) && (c != class || *g <= 0.0);
        prop_assert!(gradient.iter().enumerate().all(has_sign));
    }

    #[test]
    fn beyond_the_margin_there_is_nothing(
        x in prop::collection::vec(-20.0_f64..20.0, 2..60), at in 0_usize..60, alpha in 1.1_f64..6.0,
    ) {
        let (mut x, class) = (x.clone(), at % x.len());
        let others = x.iter().enumerate().filter(|(c, _)| *c != class).fold(-INF, |top, (_, x)| top.max(*x));
        x[class] = others + 1.0 / (alpha - 1.0) + 1e-12;
        let (value, gradient) = of_row(Loss::Entmax(alpha.into()), &x, class);
        prop_assert_eq!(value, 0.0);
        prop_assert!(gradient.iter().all(|g| *g == 0.0));
        x[class] = others + 0.999 / (alpha - 1.0);
        prop_assert!(of_row(Loss::Entmax(alpha.into()), &x, class).0 > 0.0);
    }

    #[test]
    fn gradients_are_those_of_the_losses(
        x in prop::collection::vec(-3.0_f64..3.0, 2..12), at in 0_usize..12, which in 0_usize..13,
    ) {
        let (kind, class) = (kinds()[which], at % x.len());
        let (_, gradient) = of_row(kind, &x, class);
        for other in 0..x.len() {
            let step = 1e-6;
            let at = |by: f64| {
                let mut moved = x.clone();
                moved[other] += by;
                of_row(kind, &moved, class).0
            };
            let (up, down, middle) = (at(step), at(-step), at(0.0));
            // convex: the derivative lies between the slopes of both sides
            let (low, high) = ((middle - down) / step, (up - middle) / step);
            prop_assert!(gradient[other] >= low - 1e-7 && gradient[other] <= high + 1e-7, "{:?}", kind);
        }
    }

    #[test]
    fn a_higher_order_has_no_larger_loss(
        x in prop::collection::vec(-5.0_f64..5.0, 1..40), at in 0_usize..40, alpha in 0.3_f64..8.0, by in 0.01_f64..2.0,
    ) {
        let class = at % x.len();
        let of = |alpha: f64| of_row(Loss::Entmax(alpha.into()), &x, class).0;
        prop_assert!(of(alpha + by) <= of(alpha) * (1.0 + 1e-12));
    }
}
