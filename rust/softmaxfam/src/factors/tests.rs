//! Steps against their normal equations, for every instruction set and number of threads.

use super::{Interactions, Quadratic, gram, solve_rows};
use crate::error::Error;
use crate::{isa, threads};

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

struct Problem {
    starts: Vec<i64>,
    columns: Vec<i32>,
    factors: Vec<f32>,
    width: usize,
}

impl Problem {
    /// Row r has r % 7 interactions.
    fn new(rows: usize, items: usize, width: usize) -> Self {
        let mut starts = vec![0];
        let mut columns = Vec::new();
        for row in 0..rows {
            columns.extend((0..row % 7).map(|at| ((row * 31 + at * 17) % items) as i32));
            starts.push(columns.len() as i64);
        }
        Self { starts, columns, factors: numbers(items * width, 1), width }
    }

    fn step(&self, weight: f64, counts: bool) -> (Vec<f32>, Vec<f64>) {
        let Self { starts, columns, factors, width } = self;
        let items = factors.len() / width;
        let (mut matrix, mut center) = gram(factors, *width, None, None).unwrap();
        matrix.iter_mut().chain(&mut center).for_each(|number| *number /= items as f64);
        let quadratic = Quadratic { matrix: &matrix, center: &center, ridge: 0.1, weight, counts };
        let rows = starts.len() - 1;
        let (mut solved, mut scores) = (vec![f32::NAN; rows * width], vec![f64::NAN; 2 * rows]);
        let interactions = Interactions { starts, columns };
        solve_rows(interactions, factors, *width, quadratic, &mut solved, &mut scores, None).unwrap();
        (solved, scores)
    }
}

#[test]
fn solutions_make_the_gradient_vanish() {
    for (rows, items, width) in [(30, 12, 1), (40, 50, 5), (70, 9, 16), (50, 300, 33)] {
        let problem = Problem::new(rows, items, width);
        let factor = |item: usize| problem.factors[item * width..][..width].iter().map(|&x| f64::from(x));
        for weight in [0.0, 0.3] {
            for counts in [true, false] {
                let (solved, scores) = problem.step(weight, counts);
                for row in 0..rows {
                    let x: Vec<_> = solved[row * width..][..width].iter().map(|&x| f64::from(x)).collect();
                    let score = |item| factor(item).zip(&x).map(|(f, x)| f * x).sum::<f64>();
                    let columns = &problem.columns[problem.starts[row] as usize..problem.starts[row + 1] as usize];
                    let k = if counts { columns.len() as f64 } else { 1.0 };
                    // of k (mean (s + 1)^2 / 2) - sum_I s + weight sum_I (s - 1)^2 + 0.05 |x|^2
                    let mut gradient: Vec<_> = x.iter().map(|x| 0.1 * x).collect();
                    for item in 0..items {
                        let slope = k / items as f64 * (1.0 + score(item));
                        gradient.iter_mut().zip(factor(item)).for_each(|(g, f)| *g += slope * f);
                    }
                    for &item in columns {
                        let slope = 2.0 * weight * (score(item as usize) - 1.0) - 1.0;
                        gradient.iter_mut().zip(factor(item as usize)).for_each(|(g, f)| *g += slope * f);
                    }
                    assert!(gradient.iter().all(|g| g.abs() < 2e-6 * (1.0 + k)), "{width} {row}: {gradient:?}");
                    let sum = columns.iter().map(|&item| score(item as usize)).sum::<f64>();
                    assert!((scores[2 * row] - sum).abs() < 1e-12 * (1.0 + sum.abs()));
                    let squares = columns.iter().map(|&item| score(item as usize).powi(2)).sum::<f64>();
                    let asked = if weight > 0.0 { squares } else { 0.0 };
                    assert!((scores[2 * row + 1] - asked).abs() < 1e-12 * (1.0 + asked));
                }
            }
        }
    }
}

#[test]
fn bits_hang_on_neither_threads_nor_instructions() {
    let problem = Problem::new(900, 5000, 21);
    let weights: Vec<_> = (0..5000).map(|row| f64::from(row % 9)).collect();
    let all = || {
        (problem.step(0.0, true), problem.step(0.5, false), gram(&problem.factors, 21, Some(&weights), None).unwrap())
    };
    let expected = all();
    for name in isa::available() {
        for count in [1, 3] {
            threads::set_num_threads(count);
            let found = isa::forced(name, all).unwrap();
            threads::set_num_threads(0);
            assert_eq!(found, expected, "{name} {count}");
        }
    }
}

#[test]
fn gram_matrices_are_sums_of_squares() {
    let (width, count) = (7, 5000);
    let rows = numbers(count * width, 3);
    let weights: Vec<_> = (0..count).map(|row| (row % 4) as f64).collect();
    let (matrix, vector) = gram(&rows, width, Some(&weights), None).unwrap();
    for i in 0..width {
        let of = |row: usize, number: usize| f64::from(rows[row * width + number]);
        let sum: f64 = (0..count).map(|row| weights[row] * of(row, i)).sum();
        assert!((vector[i] - sum).abs() < 1e-9);
        for j in 0..width {
            let sum: f64 = (0..count).map(|row| weights[row] * of(row, i) * of(row, j)).sum();
            assert!((matrix[i * width + j] - sum).abs() < 1e-9, "{i} {j}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |starts: &[i64], columns: &[i32], ridge: f64| {
        let quadratic = Quadratic { matrix: &[1.0], center: &[0.0], ridge, weight: 0.0, counts: true };
        let (mut solved, mut scores) = (vec![0.0; starts.len() - 1], vec![0.0; 2 * starts.len() - 2]);
        let interactions = Interactions { starts, columns };
        solve_rows(interactions, &[1.0, 2.0], 1, quadratic, &mut solved, &mut scores, None).unwrap_err()
    };
    assert_eq!(refused(&[0, 1], &[2], 1.0), Error::Class { given: 2, classes: 2 });
    assert_eq!(refused(&[0, 1], &[-1], 1.0), Error::Class { given: -1, classes: 2 });
    assert_eq!(refused(&[0, 2], &[1], 1.0), Error::Starts { length: 1 });
    assert_eq!(refused(&[0, 1], &[1], 0.0), Error::Ridge { given: 0.0 });
}
