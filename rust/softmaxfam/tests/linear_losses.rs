//! Losses fused with a head against all scores at once: the loss by the scores' own code, then the products as promised.

use proptest::prelude::*;
use softmaxfam::heads::{Ask, LinearHead, Weights};
use softmaxfam::losses::{IndexedRows, LinearGradients, LinearScores, WeightGradient, linear_loss};
use softmaxfam::{Error, Loss, LossOptions, Options, PerRow, Reduction, Rows, RowsMut, Target, isa, loss, threads};

/// Numbers without pattern, the same on every machine, in -scale to scale.
fn numbers(count: usize, seed: u64, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| scale * next()).collect()
}

struct Problem {
    queries: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    labels: Vec<i64>,
    shape: (usize, usize, usize), // queries, classes, width
}

/// The loss and the gradients of queries, class rows and bias.
#[derive(Clone, Debug, PartialEq)]
struct Found {
    mean: f64,
    losses: Vec<f64>,
    queries: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Problem {
    fn new((count, classes, width): (usize, usize, usize), scale: f32) -> Self {
        Self {
            queries: numbers(count * width, 1, 1.0),
            weight: numbers(classes * width, 2, scale),
            bias: numbers(classes, 3, scale),
            labels: (0..count).map(|row| (row * 7919 % classes) as i64).collect(),
            shape: (count, classes, width),
        }
    }

    /// All scores at once, and the chains that are promised.
    fn promised(&self, kind: Loss<'_>, target: Target<'_, f32>, options: &Options<'_>, how: &LossOptions<'_>) -> Found {
        let (count, classes, width) = self.shape;
        let (queries, weight) = (Rows::new(&self.queries, width).unwrap(), Rows::new(&self.weight, width).unwrap());
        let head = LinearHead::new(Weights::F32(weight)).unwrap().bias(&self.bias).unwrap();
        let (mut scores, mut gradient) = (vec![0.0; count * classes], vec![0.0; count * classes]);
        head.logits(&queries, &Ask::default(), &mut RowsMut::new(&mut scores, classes).unwrap()).unwrap();
        let scores = Rows::new(&scores, classes).unwrap();
        let mut losses = vec![0.0; count];
        let into = &mut RowsMut::new(&mut gradient, classes).unwrap();
        let mean = loss(kind, &scores, target, options, how, &mut losses, Some(into)).unwrap();
        let mut found = Found {
            mean,
            losses,
            queries: vec![0.0; count * width],
            weight: vec![0.0; classes * width],
            bias: vec![0.0; classes],
        };
        let band = classes.div_ceil(64).next_multiple_of(512);
        for query in 0..count {
            let g = &gradient[query * classes..][..classes];
            let h = &self.queries[query * width..][..width];
            let rows = found.weight.chunks_exact_mut(width);
            for ((g, bias), row) in g.iter().zip(&mut found.bias).zip(rows) {
                *bias += g;
                row.iter_mut().zip(h).for_each(|(sum, h)| *sum = g.mul_add(*h, *sum));
            }
            for d in 0..width {
                let of_band = |band: std::ops::Range<usize>| {
                    let add = |sum, class: usize| g[class].mul_add(self.weight[class * width + d], sum);
                    f64::from(band.fold(0.0_f32, add))
                };
                let bands = (0..classes).step_by(band).map(|from| of_band(from..classes.min(from + band)));
                found.queries[query * width + d] = bands.sum::<f64>() as f32;
            }
        }
        found
    }

    fn fused(
        &self,
        kind: Loss<'_>,
        target: Target<'_, f32>,
        options: &Options<'_>,
        how: &LossOptions<'_>,
        as_rows: bool,
    ) -> Result<Found, Error> {
        let (count, classes, width) = self.shape;
        let (queries, weight) = (Rows::new(&self.queries, width)?, Rows::new(&self.weight, width)?);
        let scores = LinearScores { queries: &queries, weight: &weight, bias: Some(&self.bias) };
        let (mut losses, mut of_queries) = (vec![0.0; count], vec![0.0; count * width]);
        let (mut of_weight, mut of_bias) = (vec![0.0; classes * width], vec![0.0; classes]);
        let mut rows = IndexedRows::default();
        let dense = RowsMut::new(&mut of_weight, width)?;
        let into = if as_rows { WeightGradient::Rows(&mut rows) } else { WeightGradient::Dense(dense) };
        let gradients = LinearGradients {
            queries: Some(RowsMut::new(&mut of_queries, width)?),
            weight: into,
            bias: Some(RowsMut::new(&mut of_bias, classes)?),
        };
        let mean = linear_loss(kind, scores, target, options, how, &mut losses, gradients)?;
        if as_rows {
            assert!(rows.indices.is_sorted_by(|a, b| a < b));
            assert_eq!(rows.values.len(), rows.indices.len() * width);
            for (&class, row) in rows.indices.iter().zip(rows.values.chunks(width)) {
                of_weight[class as usize * width..][..width].copy_from_slice(row);
            }
        }
        // the loss alone is the same, up to the order in which exponentials are added
        let mut alone = vec![0.0; count];
        let value = linear_loss(kind, scores, target, options, how, &mut alone, LinearGradients::default())?;
        let close = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-6 * a.abs().max(1e-3);
        assert!(close(value, mean) && alone.iter().zip(&losses).all(|(a, b)| close(*a, *b)), "{alone:?} {losses:?}");
        Ok(Found { mean, losses, queries: of_queries, weight: of_weight, bias: of_bias })
    }
}

fn kinds() -> [Loss<'static>; 9] {
    let order = |alpha: f64| Loss::Entmax(alpha.into());
    [
        Loss::CrossEntropy,
        order(0.7),
        order(1.0),
        order(1.5),
        order(2.0),
        order(f64::INFINITY),
        Loss::Normmax(3.0.into()),
        Loss::Rankmax { margin: 1.0 },
        Loss::Rankmax { margin: 0.3 },
    ]
}

#[test]
fn the_promised_bits_on_each_instruction_set_and_for_any_threads() {
    // one block of queries and several, one band of classes and several, widths with and without a rest
    for shape in [(1, 1, 1), (3, 7, 5), (9, 1300, 33), (131, 600, 64), (3, 40_000, 4), (5, 1100, 80)] {
        for scale in [0.02, 3.0] {
            let problem = Problem::new(shape, scale);
            let labels = Rows::new(&problem.labels, 1).unwrap();
            let (options, how) = (Options::default().temperature(0.7), LossOptions::default());
            for kind in kinds() {
                let expected = problem.promised(kind, Target::Classes(&labels), &options, &how);
                for name in isa::available() {
                    for (count, as_rows) in [(1, false), (3, true)] {
                        threads::set_num_threads(count);
                        let call = || problem.fused(kind, Target::Classes(&labels), &options, &how, as_rows);
                        let found = isa::forced(name, call).unwrap().unwrap();
                        threads::set_num_threads(0);
                        assert_eq!(found, expected, "{kind:?} {shape:?} {scale} {name} {count}");
                    }
                }
            }
        }
    }
}

#[test]
fn options_mean_what_they_mean_for_scores() {
    let shape @ (count, classes, _) = (9, 600, 12);
    let problem = Problem::new(shape, 1.0);
    let mut labels = problem.labels.clone();
    labels[3] = -100;
    let labels = Rows::new(&labels, 1).unwrap();
    let weight: Vec<f64> = (0..classes).map(|class| (class % 5) as f64 / 2.0).collect();
    let weight = Rows::strided(&weight, 0, &[(count, 0)], &[(classes, 1)]).unwrap();
    let mask: Vec<u8> = (0..count * classes).map(|at| u8::from(at % 3 > 0)).collect();
    let mask = Rows::new(&mask, classes).unwrap();
    let each: Vec<f64> = (0..count).map(|row| 0.5 + row as f64 / 7.0).collect();
    let each = Rows::new(&each, 1).unwrap();
    let shares: Vec<f32> = numbers(count * classes, 9, 1.0).iter().map(|share| share.max(0.8) - 0.8).collect();
    let shares = Rows::new(&shares, classes).unwrap();
    let plain = LossOptions::default();
    let orders = Loss::Entmax(PerRow::Each(&each));
    for kind in kinds().into_iter().chain([orders]) {
        let is_rankmax = matches!(kind, Loss::Rankmax { .. });
        let mut cases = vec![
            (Target::Classes(&labels), Options::default(), plain.ignored(-100).reduction(Reduction::Sum)),
            (
                Target::Classes(&labels),
                Options::default().temperature(PerRow::Each(&each)),
                plain.ignored(-100).weight(&weight),
            ),
            (Target::Classes(&labels), Options::default().mask(&mask), plain.ignored(-100).factor(PerRow::Each(&each))),
        ];
        if !is_rankmax {
            cases.push((Target::Classes(&labels), Options::default(), plain.ignored(-100).smoothing(0.1)));
            cases.push((Target::Shares(&shares), Options::default(), plain.weight(&weight)));
        }
        for (case, (target, options, how)) in cases.into_iter().enumerate() {
            let expected = problem.promised(kind, target, &options, &how);
            let found = problem.fused(kind, target, &options, &how, case % 2 == 0).unwrap();
            assert_eq!(found, expected, "{kind:?}, case {case}");
        }
    }
}

#[test]
fn queries_that_are_ignored_may_hold_anything() {
    let mut problem = Problem::new((4, 50, 6), 1.0);
    problem.queries[6..12].fill(f32::NAN);
    problem.labels[1] = 7;
    let labels = Rows::new(&problem.labels, 1).unwrap();
    let how = LossOptions::default().ignored(7);
    for kind in kinds() {
        let found = problem.fused(kind, Target::Classes(&labels), &Options::default(), &how, false).unwrap();
        assert!(found.weight.iter().chain(&found.queries).all(|number| number.is_finite()), "{kind:?}");
        assert_eq!(found.losses[1], 0.0);
    }
}

#[test]
fn any_strides() {
    let problem = Problem::new((5, 40, 6), 1.0);
    let labels = Rows::new(&problem.labels, 1).unwrap();
    let turned = |numbers: &[f32], rows: usize| -> Vec<f32> {
        (0..6 * rows).map(|at| numbers[at % rows * 6 + at / rows]).collect()
    };
    let (queries, weight) = (turned(&problem.queries, 5), turned(&problem.weight, 40));
    let queries = Rows::strided(&queries, 0, &[(5, 1)], &[(6, 5)]).unwrap();
    let weight = Rows::strided(&weight, 0, &[(40, 1)], &[(6, 40)]).unwrap();
    let scores = LinearScores { queries: &queries, weight: &weight, bias: Some(&problem.bias) };
    let (options, how) = (Options::default(), LossOptions::default());
    for kind in kinds() {
        let expected = problem.fused(kind, Target::Classes(&labels), &options, &how, false).unwrap();
        let (mut losses, mut of_queries, mut of_weight) = ([0.0; 5], vec![0.0; 30], vec![0.0; 240]);
        let into = WeightGradient::Dense(RowsMut::new(&mut of_weight, 6).unwrap());
        let gradients =
            LinearGradients { queries: Some(RowsMut::new(&mut of_queries, 6).unwrap()), weight: into, bias: None };
        linear_loss(kind, scores, Target::Classes(&labels), &options, &how, &mut losses, gradients).unwrap();
        assert_eq!((&*of_queries, &*of_weight), (&*expected.queries, &*expected.weight), "{kind:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_a_stop_is_heard() {
    let problem = Problem::new((3, 20, 4), 1.0);
    let (options, how) = (Options::default(), LossOptions::default());
    let call = |labels: &[i64], options: &Options<'_>, length: usize| {
        let (queries, weight) = (Rows::new(&problem.queries, 4)?, Rows::new(&problem.weight, 4)?);
        let scores = LinearScores { queries: &queries, weight: &weight, bias: None };
        let mut of_queries = vec![0.0; length];
        let gradients = LinearGradients { queries: Some(RowsMut::new(&mut of_queries, 4)?), ..Default::default() };
        let labels = Rows::new(labels, 1)?;
        let found =
            linear_loss(Loss::CrossEntropy, scores, Target::Classes(&labels), options, &how, &mut [0.0; 3], gradients);
        found.inspect_err(|_| assert!(of_queries.iter().all(|number| *number == 0.0)))
    };
    assert_eq!(call(&[0, 1, 20], &options, 12), Err(Error::Label { row: 2, given: 20, classes: 20 }));
    assert!(matches!(call(&[0, 1], &options, 12), Err(Error::Shape { what: "target", .. })));
    assert!(matches!(call(&[0, 1, 2], &options, 8), Err(Error::Shape { given: (2, 4), needed: (3, 4), .. })));
    assert_eq!(call(&[0, 1, 2], &options.interrupt(&|| true), 12), Err(Error::Interrupted));
    let each = Rows::new(&[1.5, 2.0], 1).unwrap();
    let of_each = Loss::Entmax(PerRow::Each(&each));
    let of = |loss| {
        let labels = Rows::new(&problem.labels, 1)?;
        problem.fused(loss, Target::Classes(&labels), &options, &how, true)
    };
    assert!(matches!(of(of_each), Err(Error::Shape { what: "alpha", given: (2, 1), needed: (3, 1) })));
    assert!(matches!(of(Loss::Entmax(0.0.into())), Err(Error::Alpha { given: 0.0, above: 0.0 })));
    assert!(matches!(of(Loss::Rankmax { margin: 0.0 }), Err(Error::Margin { given: 0.0 })));
    let (queries, weight) = (Rows::new(&problem.queries, 3).unwrap(), Rows::new(&problem.weight, 4).unwrap());
    let scores = LinearScores { queries: &queries, weight: &weight, bias: None };
    let labels = Rows::new(&[0; 4], 1).unwrap();
    let nothing = LinearGradients::default();
    let found =
        linear_loss(Loss::CrossEntropy, scores, Target::Classes(&labels), &options, &how, &mut [0.0; 4], nothing);
    assert_eq!(found, Err(Error::Width { given: 3, needed: 4 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_shape(count in 1_usize..20, classes in 1_usize..300, width in 1_usize..70, kind in 0_usize..9, scale in 0.01_f32..4.0) {
        let problem = Problem::new((count, classes, width), scale);
        let labels = Rows::new(&problem.labels, 1).unwrap();
        let (options, how, kind) = (Options::default(), LossOptions::default(), kinds()[kind]);
        let expected = problem.promised(kind, Target::Classes(&labels), &options, &how);
        prop_assert_eq!(problem.fused(kind, Target::Classes(&labels), &options, &how, true).unwrap(), expected);
    }
}
