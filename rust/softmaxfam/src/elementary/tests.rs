//! exp, log, log1p and powers against their stated bounds, on every instruction set.

use super::*;
use crate::simd::tests::on_each_isa;
use crate::simd::{Isa, Kernel, Lanes, Level, dispatch};

/// The largest relative error, in eps, of the f32 exp over every `step`-th bit pattern, against the f64 one.
#[derive(Clone, Copy)]
struct ExpError {
    step: usize,
}

impl Kernel for ExpError {
    type Output = f64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f64 {
        let (narrow, wide) = (isa.f32(), isa.f64());
        let (window, wide_window) = (Window::new(narrow, 0.0), Window::new(wide, 0.0));
        let mut worst = wide.splat(0.0);
        let mut x = [0.0_f32; 16];
        for start in (0..1_u64 << 32).step_by(16 * self.step) {
            for (lane, x) in x.iter_mut().enumerate() {
                let value = f32::from_bits((start + (lane * self.step) as u64) as u32);
                // results that are normal: beyond, they are exactly 0 or not asked for
                *x = if value > -87.3 && value < 88.3 { value } else { 0.0 };
            }
            let v = narrow.load(&x);
            let results = isa.widen(exp(narrow, v, None, &window));
            for (result, z) in results.into_iter().zip(isa.widen(v)) {
                let exact = exp(wide, z, None, &wide_window);
                let error = wide.div(wide.sub(result, exact), exact);
                worst = wide.max(wide.max(error, wide.sub(wide.splat(0.0), error)), worst);
            }
        }
        wide.reduce_max(worst) / f64::from(f32::EPSILON)
    }
}

#[test]
fn exp_of_f32_is_within_its_bound_on_a_dense_sample() {
    for (name, error) in on_each_isa(ExpError { step: 1021 }) {
        assert!(error <= EXP_MAX_ERROR && error > 0.4, "{name}: {error} eps");
    }
}

#[test]
#[ignore = "all 2^32 inputs take a minute: cargo test --release -- --ignored exp_of_every"]
fn exp_of_every_f32_is_within_its_bound() {
    let error = dispatch(Level::active(), ExpError { step: 1 });
    println!("largest relative error: {error} eps");
    assert!(error <= EXP_MAX_ERROR);
}

/// exp, log and log1p of some numbers.
#[derive(Clone, Copy)]
struct OfF64<'a>(&'a [f64]);

impl Kernel for OfF64<'_> {
    type Output = Vec<[f64; 3]>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let lanes = isa.f64();
        let window = Window::new(lanes, 0.0);
        let mut results = Vec::new();
        let mut values = [[0.0; 8]; 3];
        for x in self.0.chunks(8) {
            let v = lanes.load_or(x, 1.0);
            lanes.store(exp(lanes, v, None, &window), &mut values[0]);
            lanes.store(log(lanes, v), &mut values[1]);
            lanes.store(log1p(lanes, v), &mut values[2]);
            results.extend((0..x.len()).map(|lane| [values[0][lane], values[1][lane], values[2][lane]]));
        }
        results
    }
}

#[test]
fn exp_log_and_log1p_of_f64_are_within_their_bounds() {
    // the standard library's results are themselves within 1 eps
    let mut x: Vec<f64> = (-7000..7000).map(|i| f64::from(i) * 0.1 + 1.0 / 3.0).collect();
    x.extend((1..3000).map(|i| f64::from(i) * 1e-5));
    x.extend((1..600).map(|i| 2f64.powi(-i) * 1.1));
    x.extend((1..50).map(|i| -2f64.powi(-i)));
    let all = on_each_isa(OfF64(&x));
    for (name, results) in &all {
        assert_eq!(results.iter().map(|r| r.map(f64::to_bits)).collect::<Vec<_>>().len(), x.len());
        for (x, [exp, log, log1p]) in x.iter().zip(results) {
            let close = |got: f64, expected: f64, bound: f64| {
                (got - expected).abs() <= (bound + 1.0) * f64::EPSILON * expected.abs()
                    || (got.is_nan() && expected.is_nan())
            };
            assert!(close(*exp, x.exp(), EXP_MAX_ERROR) || x.exp() < f64::MIN_POSITIVE, "{name}: exp({x}) = {exp}");
            assert!(close(*log, x.ln(), LOG_MAX_ERROR), "{name}: log({x}) = {log}");
            assert!(close(*log1p, x.ln_1p(), LOG_MAX_ERROR), "{name}: log1p({x}) = {log1p}");
        }
    }
}

#[test]
fn edges() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for (name, results) in on_each_isa(OfF64(&[-inf, nan, 0.0, -1.0, inf, -800.0])) {
        let [of_low, of_nan, of_zero, of_minus_one, of_inf, of_tiny] = results[..] else { panic!("six results") };
        assert_eq!(of_low[0], 0.0, "{name}");
        assert!(of_nan.iter().all(|value| value.is_nan()), "{name}");
        assert_eq!(of_zero, [1.0, -inf, 0.0], "{name}");
        assert!(of_minus_one[1].is_nan() && of_minus_one[2] == -inf, "{name}: {of_minus_one:?}");
        assert_eq!(of_inf[1..], [inf, inf], "{name}");
        assert_eq!(of_tiny[0], 0.0, "{name}");
    }
}

#[test]
fn whole_powers() {
    struct Powers;
    impl Kernel for Powers {
        type Output = Vec<f64>;
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> Vec<f64> {
            let lanes = isa.f64();
            (0..20).map(|k| lanes.reduce_max(integer_power(lanes, lanes.splat(1.5), k))).collect()
        }
    }
    let powers = dispatch(Level::active(), Powers);
    (0..20).for_each(|k| assert_eq!(powers[k as usize], 1.5_f64.powi(k)));
}
