//! Losses from sampled negatives against their definition in f64, for every instruction set and number of threads.

use proptest::prelude::*;
use softmaxfam::losses::{SampledLoss, SampledScores, Slots, sampled_loss};
use softmaxfam::{Error, RowsMut, isa, threads};
use std::collections::BTreeMap;

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
    target: Vec<i64>,
    of_target: Vec<f32>,
    negative: Vec<i64>,
    of_negative: Vec<f32>,
    factors: Vec<f64>,
    width: usize,
    is_shared: bool,
    removes_hits: bool,
    temperature: f64,
}

#[derive(Clone, Debug, PartialEq)]
struct Found<N> {
    losses: Vec<f64>,
    queries: Vec<N>,
    rows: Vec<i64>,
    values: Vec<N>,
    biases: Vec<N>,
}

impl Problem {
    fn new((count, classes, width, each): (usize, usize, usize, usize), is_shared: bool, removes_hits: bool) -> Self {
        let drawn = if is_shared { each } else { count * each };
        let ids = |count, seed| {
            let class = |number: f32| ((f64::from(number) + 1.0) / 2.0 * classes as f64) as i64 % classes as i64;
            numbers(count, seed, 1.0).into_iter().map(class).collect()
        };
        Self {
            queries: numbers(count * width, 1, 1.0),
            weight: numbers(classes * width, 2, 1.0),
            target: ids(count, 3),
            of_target: numbers(count, 4, 2.0),
            negative: ids(drawn, 5),
            of_negative: numbers(drawn, 6, 2.0),
            factors: numbers(count, 7, 1.0).into_iter().map(f64::from).collect(),
            width,
            is_shared,
            removes_hits,
            temperature: 0.7,
        }
    }

    fn slots(&self) -> Slots<'_> {
        let Self { target, of_target, negative, of_negative, is_shared, removes_hits, .. } = self;
        let (is_shared, removes_hits) = (*is_shared, *removes_hits);
        Slots { target, of_target, negative, of_negative, is_shared, removes_hits }
    }

    fn found(&self, loss: SampledLoss) -> Found<f32> {
        let Self { queries, weight, width, temperature, .. } = self;
        let scores = SampledScores { queries, weight, width: *width, temperature: *temperature };
        let (mut losses, mut of_queries) = (vec![0.0; self.target.len()], vec![f32::NAN; queries.len()]);
        let into = RowsMut::new(&mut of_queries, *width).unwrap();
        let factors = Some(&self.factors[..]);
        let touched = sampled_loss(loss, scores, self.slots(), factors, &mut losses, Some(into), true, None).unwrap();
        let mut values = vec![f32::NAN; touched.rows.len() * width];
        touched.rows_into(queries, *width, RowsMut::new(&mut values, *width).unwrap(), None).unwrap();
        Found { losses, queries: of_queries, rows: touched.rows.clone(), values, biases: touched.biases() }
    }

    /// The definition, in f64.
    fn defined(&self, loss: SampledLoss) -> Found<f64> {
        let (count, width, temperature) = (self.target.len(), self.width, self.temperature);
        let each = if self.is_shared { self.negative.len() } else { self.negative.len() / count.max(1) };
        let mut rows = BTreeMap::new();
        let mut found = Found { losses: vec![], queries: vec![], rows: vec![], values: vec![], biases: vec![] };
        for query in 0..count {
            let h: Vec<_> = self.queries[query * width..][..width].iter().map(|&x| f64::from(x)).collect();
            let row = |class: i64| self.weight[class as usize * width..][..width].iter().map(|&x| f64::from(x));
            let first = if self.is_shared { 0 } else { query * each };
            let mut slots: Vec<_> = (first..first + each).map(|at| (self.negative[at], self.of_negative[at])).collect();
            slots.push((self.target[query], self.of_target[query]));
            let score = |&(class, plus): &(i64, f32)| {
                (row(class).zip(&h).map(|(w, h)| w * h).sum::<f64>() + f64::from(plus)) / temperature
            };
            let scores: Vec<_> = slots.iter().map(score).collect();
            let counts = |slot: usize| slot == each || !self.removes_hits || slots[slot].0 != self.target[query];
            let present: Vec<_> = (0..=each).filter(|&slot| counts(slot)).collect();
            let total = present.iter().map(|&slot| (scores[slot] - scores[each]).exp()).sum::<f64>();
            let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
            let slopes: Vec<_> = (0..=each)
                .map(|slot| match loss {
                    _ if !counts(slot) => 0.0,
                    SampledLoss::Softmax => {
                        (scores[slot] - scores[each]).exp() / total - f64::from(u8::from(slot == each))
                    }
                    SampledLoss::Binary if slot == each => -sigmoid(-scores[slot]),
                    SampledLoss::Binary => sigmoid(scores[slot]),
                })
                .map(|slope| slope / temperature * self.factors[query])
                .collect();
            found.losses.push(match loss {
                SampledLoss::Softmax => total.ln(),
                SampledLoss::Binary => {
                    let cost = |&slot: &usize| if slot == each { -scores[slot] } else { scores[slot] }.exp().ln_1p();
                    present.iter().map(cost).sum()
                }
            });
            for number in 0..width {
                found
                    .queries
                    .push(slots.iter().zip(&slopes).map(|((class, _), g)| g * row(*class).nth(number).unwrap()).sum());
            }
            for ((class, _), g) in slots.iter().zip(&slopes) {
                let (sum, bias) = rows.entry(*class).or_insert((vec![0.0; width], 0.0));
                sum.iter_mut().zip(&h).for_each(|(sum, h)| *sum += g * h);
                *bias += g;
            }
        }
        for (class, (sum, bias)) in rows {
            found.rows.push(class);
            found.values.extend(sum);
            found.biases.push(bias);
        }
        found
    }
}

fn near(found: &[f32], defined: &[f64], tolerance: f64) {
    assert_eq!(found.len(), defined.len());
    for (at, (&found, &defined)) in found.iter().zip(defined).enumerate() {
        assert!((f64::from(found) - defined).abs() < tolerance, "{at}: {found} for {defined}");
    }
}

fn check(problem: &Problem, loss: SampledLoss) {
    let (found, defined) = (problem.found(loss), problem.defined(loss));
    for (query, (found, defined)) in found.losses.iter().zip(&defined.losses).enumerate() {
        assert!((found - defined).abs() < 3e-5 * (1.0 + defined), "{query}: {found} for {defined}");
    }
    assert_eq!(found.rows, defined.rows);
    let scale = 1e-5 * (problem.target.len() + problem.negative.len()) as f64;
    near(&found.queries, &defined.queries, scale.min(2e-4));
    near(&found.values, &defined.values, scale.min(2e-4));
    near(&found.biases, &defined.biases, scale.min(2e-4));
}

const SHAPES: [(usize, usize, usize, usize); 8] = [
    (1, 1, 1, 1),
    (5, 40, 7, 3),
    (3, 9, 64, 40), // every class many times, hits among them
    (40, 1000, 33, 17),
    (300, 500, 100, 70), // several blocks, tiles and chunks
    (0, 3, 4, 2),
    (4, 3, 4, 0),
    (150, 90, 16, 700),
];
const LOSSES: [SampledLoss; 2] = [SampledLoss::Softmax, SampledLoss::Binary];

#[test]
fn losses_and_gradients_are_those_of_the_definition() {
    for shape in SHAPES {
        for loss in LOSSES {
            for (is_shared, removes_hits) in [(true, false), (true, true), (false, false), (false, true)] {
                check(&Problem::new(shape, is_shared, removes_hits), loss);
            }
        }
    }
}

#[test]
fn bits_hang_on_neither_threads_nor_instructions() {
    for shape in SHAPES {
        for loss in LOSSES {
            for is_shared in [true, false] {
                let problem = Problem::new(shape, is_shared, true);
                let expected = problem.found(loss);
                for name in isa::available() {
                    for count in [1, 3] {
                        threads::set_num_threads(count);
                        let found = isa::forced(name, || problem.found(loss)).unwrap();
                        threads::set_num_threads(0);
                        assert_eq!(found, expected, "{name} {count}");
                    }
                }
            }
        }
    }
}

#[test]
fn losses_alone_are_the_same() {
    let problem = Problem::new((40, 1000, 33, 17), true, false);
    let Problem { queries, weight, width, temperature, .. } = &problem;
    let scores = SampledScores { queries, weight, width: *width, temperature: *temperature };
    let mut losses = vec![0.0; problem.target.len()];
    let touched =
        sampled_loss(SampledLoss::Softmax, scores, problem.slots(), None, &mut losses, None, false, None).unwrap();
    assert!(touched.rows.is_empty());
    for (alone, with_gradient) in losses.iter().zip(problem.found(SampledLoss::Softmax).losses) {
        assert!((alone - with_gradient).abs() < 1e-7 * (1.0 + alone));
    }
}

#[test]
fn absent_means_absent() {
    let mut problem = Problem::new((2, 4, 3, 2), false, true);
    problem.target = vec![1, 2];
    problem.negative = vec![1, 0, 3, 2];
    problem.of_negative[0] = f32::NAN; // a hit, which is left out
    let found = problem.found(SampledLoss::Softmax);
    assert!(found.losses.iter().all(|loss| loss.is_finite()) && found.values.iter().all(|value| value.is_finite()));
    problem.removes_hits = false;
    let found = problem.found(SampledLoss::Softmax);
    assert!(found.losses[0].is_nan() && found.losses[1].is_finite());
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |change: &dyn Fn(&mut Problem)| {
        let mut problem = Problem::new((5, 40, 7, 3), true, false);
        change(&mut problem);
        let Problem { queries, weight, width, temperature, .. } = &problem;
        let scores = SampledScores { queries, weight, width: *width, temperature: *temperature };
        let mut losses = vec![0.0; problem.target.len()];
        sampled_loss(SampledLoss::Binary, scores, problem.slots(), None, &mut losses, None, true, None).unwrap_err()
    };
    assert_eq!(refused(&|problem| problem.target[2] = 40), Error::Target { query: 2, given: 40 });
    assert_eq!(refused(&|problem| problem.negative[1] = -1), Error::Class { given: -1, classes: 40 });
    assert!(matches!(refused(&|problem| problem.temperature = 0.0), Error::Temperature { .. }));
    assert!(matches!(refused(&|problem| problem.width = 0), Error::Width { .. }));
    assert!(matches!(refused(&|problem| problem.of_negative.truncate(2)), Error::Length { .. }));
    assert!(matches!(refused(&|problem| problem.queries.truncate(6)), Error::Length { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_shape(count in 0_usize..30, classes in 1_usize..60, width in 1_usize..40, each in 0_usize..40, kind in 0..8) {
        let loss = LOSSES[kind as usize % 2];
        check(&Problem::new((count, classes, width, each), kind & 2 == 0, kind & 4 == 0), loss);
    }
}
