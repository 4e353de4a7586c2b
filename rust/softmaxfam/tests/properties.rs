//! Properties that hold for any scores.

use proptest::prelude::*;
use softmaxfam::{Options, Rows, RowsMut, entmax, logsumexp};

fn run(x: &[f64], alpha: f64) -> Vec<f64> {
    let mut p = vec![0.0; x.len()];
    let out = &mut RowsMut::new(&mut p, x.len()).unwrap();
    entmax(&Rows::new(x, x.len()).unwrap(), alpha.into(), &Options::default(), out).unwrap();
    p
}

fn log_sum(x: &[f64]) -> f64 {
    let mut lse = [0.0];
    let out = &mut RowsMut::new(&mut lse, 1).unwrap();
    logsumexp(&Rows::new(x, x.len()).unwrap(), &Options::default(), out).unwrap();
    lse[0]
}

fn scores() -> impl Strategy<Value = Vec<f64>> {
    (0.01_f64..100.0).prop_flat_map(|scale| prop::collection::vec(-scale..scale, 1..300))
}

fn alphas() -> impl Strategy<Value = f64> {
    prop_oneof![Just(1.0), Just(1.5), Just(2.0), 0.2_f64..6.0, 6.0_f64..80.0]
}

proptest! {
    #[test]
    fn probabilities_sum_to_one_and_keep_the_order(x in scores(), alpha in alphas()) {
        let p = run(&x, alpha);
        prop_assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-13);
        prop_assert!(p.iter().all(|p| (0.0..=1.0).contains(p)));
        for (a, b) in x.iter().zip(&p).zip(x.iter().zip(&p).skip(1)) {
            let is_in_order = if a.0 > b.0 { a.1 >= b.1 } else { a.1 <= b.1 };
            prop_assert!(is_in_order, "{a:?} beside {b:?}");
        }
    }

    #[test]
    fn a_higher_order_has_no_larger_support(x in scores(), alpha in 1.05_f64..4.0) {
        let count = |alpha| run(&x, alpha).iter().filter(|p| **p > 1e-300).count();
        prop_assert!(count(alpha + 0.5) <= count(alpha));
    }

    #[test]
    fn permuted_scores_give_permuted_probabilities(x in scores(), alpha in alphas(), by in 0_usize..300) {
        let by = by % x.len();
        let mut turned = x.clone();
        turned.rotate_left(by);
        let mut p = run(&x, alpha);
        p.rotate_left(by);
        for (a, b) in p.iter().zip(run(&turned, alpha)) {
            prop_assert!((a - b).abs() < 1e-13);
        }
    }

    #[test]
    fn logsumexp_lies_between_the_maximum_and_log_n_above(x in scores(), shift in -700.0_f64..700.0) {
        let highest = x.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let lse = log_sum(&x);
        prop_assert!(lse >= highest - 1e-13 * highest.abs() && lse <= highest + (x.len() as f64).ln() + 1e-12);
        let shifted: Vec<f64> = x.iter().map(|x| x + shift).collect();
        prop_assert!((log_sum(&shifted) - lse - shift).abs() < 1e-11);
    }
}
