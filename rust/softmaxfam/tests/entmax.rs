//! entmax, its threshold and its sparse rows against a bisection in f64, on every instruction set and layout.

mod twins;

use half::{bf16, f16};
use softmaxfam::{Element, Error, Options, PerRow, Rows, RowsMut, SparseRows, isa};
use twins::{Layout, close, layouts, on_each_isa, scores};

const ALPHAS: [f64; 14] =
    [0.5, 1.0, 1.0 + 1e-8, 1.0 + 1e-4, 1.02, 1.1, 1.3, 1.5, 1.75, 2.0, 2.5, 4.0, 64.0, f64::INFINITY];

/// Bisection on the normaliser.
fn naive_entmax(x: &[f64], alpha: f64, temperature: f64) -> Vec<f64> {
    let highest = x.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    let z: Vec<f64> = x.iter().map(|x| (x - highest) / temperature).collect();
    let a = alpha - 1.0;
    if alpha == f64::INFINITY {
        let ties = z.iter().filter(|z| **z == 0.0).count() as f64;
        return z.iter().map(|z| f64::from(u8::from(*z == 0.0)) / ties).collect();
    }
    if alpha > 2.0 {
        return naive_steep_entmax(&z.iter().map(|z| a * z).collect::<Vec<_>>(), a);
    }
    let p_of = |u: f64| -> Vec<f64> {
        let at = |z: f64| {
            if a == 0.0 {
                return (z - u).exp();
            }
            let y = a * (a * u).exp() * z;
            if y <= -1.0 || z == f64::NEG_INFINITY { 0.0 } else { (y.ln_1p() / a - u).exp() }
        };
        z.iter().map(|z| at(*z)).collect()
    };
    let (mut low, mut high) = (0.0, (x.len() as f64).ln());
    for _ in 0..200 {
        let u = f64::midpoint(low, high);
        if p_of(u).iter().sum::<f64>() > 1.0 { low = u } else { high = u }
    }
    let p = p_of(low);
    let sum: f64 = p.iter().sum();
    p.iter().map(|p| p / sum).collect()
}

/// Above order 2 the curve is vertical at the cut, so bisection is on the smallest probability of the support.
fn naive_steep_entmax(x: &[f64], a: f64) -> Vec<f64> {
    let mut sorted = x.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let inside = |k: usize| sorted[..k].iter().map(|x| (x - sorted[k]).powf(1.0 / a)).sum::<f64>() < 1.0;
    let support = (1..x.len()).take_while(|&k| inside(k)).count() + 1;
    let lowest = sorted[support - 1];
    let p_of = |log_pi: f64| -> Vec<f64> {
        let at = |x: f64| if x < lowest { 0.0 } else { ((x - lowest) + (a * log_pi).exp()).powf(1.0 / a) };
        x.iter().map(|x| at(*x)).collect()
    };
    let (mut low, mut high) = (-800.0 / a, 0.0);
    for _ in 0..200 {
        let log_pi = f64::midpoint(low, high);
        if p_of(log_pi).iter().sum::<f64>() > 1.0 { high = log_pi } else { low = log_pi }
    }
    p_of(high)
}

fn check<E: Element>(data: &[E], layout: &Layout, alpha: f64, temperature: f64, tolerance: f64) {
    let (rows, classes) = (layout.rows, layout.classes);
    let memory = layout.scattered(data);
    let view = layout.view(&memory);
    let options = Options::default().temperature(temperature);
    let alpha_of = || PerRow::Same(alpha);
    let all = on_each_isa(|| {
        let mut p = memory.clone();
        softmaxfam::entmax(&view, alpha_of(), &options, &mut layout.view_mut(&mut p)).unwrap();
        let (mut normalizer, mut support, mut log_p_max) = (vec![E::ZERO; rows], vec![0; rows], vec![E::ZERO; rows]);
        let (mut n, mut s, mut l) = (
            RowsMut::new(&mut normalizer, 1).unwrap(),
            RowsMut::new(&mut support, 1).unwrap(),
            RowsMut::new(&mut log_p_max, 1).unwrap(),
        );
        softmaxfam::entmax_threshold(&view, alpha_of(), &options, &mut n, &mut s, &mut l).unwrap();
        let sparse = softmaxfam::entmax_sparse(&view, alpha_of(), &options, None).unwrap();
        (layout.gathered(&p), normalizer, support, log_p_max, sparse)
    });
    assert!(all.iter().all(|other| other == &all[0]), "instruction sets differ: {:?}", isa::available());
    let (p, normalizer, support, log_p_max, sparse) = &all[0];
    for row in 0..rows {
        let x: Vec<f64> = data[row * classes..][..classes].iter().map(|x| x.to_f64()).collect();
        let expected = naive_entmax(&x, alpha, temperature);
        let p = &p[row * classes..][..classes];
        for (class, p) in p.iter().enumerate() {
            close(p.to_f64(), expected[class], tolerance, &format!("entmax {alpha} of class {class}"), layout);
        }
        let top = expected.iter().fold(0.0, |a: f64, &b| a.max(b));
        close(log_p_max[row].to_f64(), top.ln(), tolerance * top.ln().abs().max(1.0) / top, "log_p_max", layout);
        let at = |class: usize| 1.0 + (alpha - 1.0) * (x[class] / temperature - normalizer[row].to_f64());
        if alpha > 1.05 && alpha < 3.0 && size_of::<E>() == 8 {
            for (class, &p) in expected.iter().enumerate() {
                close(at(class).max(0.0).powf(1.0 / (alpha - 1.0)), p, 1e-9 / top, "normalizer", layout);
            }
        }
        let positive = p.iter().filter(|p| p.to_f64() > 0.0).count();
        assert!(support[row] as usize >= positive && (alpha == 1.0 || support[row] as usize <= classes));
        let listed = sparse.indptr[row] as usize..sparse.indptr[row + 1] as usize;
        let mut dense = vec![E::ZERO; classes];
        for (class, value) in sparse.indices[listed.clone()].iter().zip(&sparse.values[listed]) {
            dense[*class as usize] = *value;
        }
        if alpha != 1.0 {
            assert_eq!(dense, p);
        }
    }
}

fn agree<E: Element>(tolerance: f64) {
    for (rows, classes, scale) in
        [(2, 1, 1.0), (17, 5, 1.0), (5, 130, 3.0), (2, 5000, 1.0), (2, 5000, 0.01), (1, 9000, 1e-5)]
    {
        let data: Vec<E> = scores(rows * classes, scale);
        for alpha in ALPHAS {
            for (index, layout) in layouts(rows, classes).iter().enumerate() {
                let temperature = if index % 2 == 0 { 1.0 } else { 0.7 };
                check(&data, layout, alpha, temperature, tolerance);
            }
        }
    }
}

#[test]
fn f64_agrees_with_bisection() {
    agree::<f64>(16.0 * f64::EPSILON);
}

#[test]
fn f32_agrees_with_bisection() {
    agree::<f32>(4.0 * f64::from(f32::EPSILON));
}

#[test]
fn half_precision_agrees_with_bisection() {
    agree::<f16>(f16::EPSILON.into());
    agree::<bf16>(bf16::EPSILON.into());
}

#[test]
fn ties_and_edges() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for alpha in ALPHAS {
        for n in [1, 3, 100, 3000] {
            let mut equal = vec![-7.25; n];
            let run = |x: &[f64]| {
                let mut p = vec![9.0; x.len()];
                let mut out = RowsMut::new(&mut p, x.len()).unwrap();
                softmaxfam::entmax(&Rows::new(x, x.len()).unwrap(), alpha.into(), &Options::default(), &mut out)
                    .unwrap();
                p
            };
            assert!(
                run(&equal).iter().all(|p| (p * n as f64 - 1.0).abs() < 4e-15),
                "{alpha} {n}: {:e}",
                run(&equal)[0] * n as f64 - 1.0
            );
            equal[n / 2] = nan;
            assert!(run(&equal).iter().all(|p| p.is_nan()));
            equal[n / 2] = inf;
            assert!(run(&equal).iter().all(|p| p.is_nan()));
            equal.fill(-inf);
            assert!(run(&equal).iter().all(|p| p.is_nan()));
            equal[n / 2] = 1e308;
            assert_eq!(run(&equal).iter().sum::<f64>(), 1.0);
        }
    }
}

#[test]
fn sparse_rows_refuse_a_support_beyond_the_limit() {
    let x = [0.0, 0.1, 0.2, 5.0, 0.0, 0.0];
    let x = Rows::new(&x, 3).unwrap();
    let error = softmaxfam::entmax_sparse(&x, 2.0.into(), &Options::default(), Some(2)).unwrap_err();
    assert_eq!(error, Error::Support { row: 0, support: 3, limit: 2 });
    let rows: SparseRows<f64> = softmaxfam::entmax_sparse(&x, 2.0.into(), &Options::default(), Some(3)).unwrap();
    assert_eq!((rows.indptr, &rows.indices[3..], &rows.values[3..]), (vec![0, 3, 4], &[0][..], &[1.0][..]));
}
