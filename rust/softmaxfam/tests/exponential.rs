//! logsumexp, softmax and log_softmax against naive twins in f64, on every instruction set and layout.

mod twins;

use half::{bf16, f16};
use softmaxfam::{Element, Options, Rows, RowsMut, isa};
use twins::{Layout, carried_sum, close, layouts, on_each_isa, scores};

fn naive_logsumexp(row: &[f64], temperature: f64) -> f64 {
    if row.iter().any(|x| x.is_nan()) {
        return f64::NAN;
    }
    let highest = row.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    if highest.is_infinite() {
        return highest;
    }
    let sum = carried_sum(row.iter().map(|x| ((x - highest) / temperature).exp()));
    highest / temperature + sum.ln()
}

fn agree_with_twins<E: Element>(epsilon: f64) {
    for (rows, classes, scale) in
        [(3, 1, 1.0), (70, 5, 3.0), (17, 128, 1.0), (5, 5000, 20.0), (2, 9001, 5000.0), (1, 300_000, 1.0)]
    {
        for temperature in [1.0, 0.7] {
            let data: Vec<E> = scores(rows * classes, scale);
            for layout in layouts(rows, classes) {
                check(&data, &layout, temperature, epsilon);
            }
        }
    }
}

fn check<E: Element>(data: &[E], layout: &Layout, temperature: f64, epsilon: f64) {
    let (rows, classes) = (layout.rows, layout.classes);
    let memory = layout.scattered(data);
    let view = layout.view(&memory);
    let options = Options::default().temperature(temperature);
    let all = on_each_isa(|| {
        let mut lse = vec![E::ZERO; rows];
        softmaxfam::logsumexp(&view, &options, &mut RowsMut::new(&mut lse, 1).unwrap()).unwrap();
        let mut p = memory.clone();
        softmaxfam::softmax(&view, &options, &mut layout.view_mut(&mut p)).unwrap();
        let mut log_p = memory.clone();
        softmaxfam::log_softmax(&view, &options, &mut layout.view_mut(&mut log_p)).unwrap();
        (lse, layout.gathered(&p), layout.gathered(&log_p))
    });
    let (lse, p, log_p) = &all[0];
    assert!(all.iter().all(|other| other == &all[0]), "instruction sets differ: {:?}", isa::available());
    for row in 0..rows {
        let x: Vec<f64> = data[row * classes..][..classes].iter().map(|x| x.to_f64()).collect();
        let expected = naive_logsumexp(&x, temperature);
        close(lse[row].to_f64(), expected, epsilon * expected.abs().max(1.0), "logsumexp", layout);
        let highest = x.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let terms: Vec<f64> = x.iter().map(|x| ((x - highest) / temperature).exp()).collect();
        let sum = carried_sum(terms.iter().copied());
        let probabilities: Vec<f64> = terms.iter().map(|term| term / sum).collect();
        for (class, x) in x.iter().enumerate() {
            let z = x / temperature - expected;
            let at = row * classes + class;
            close(
                log_p[at].to_f64(),
                z,
                2.0 * epsilon * z.abs().max(x.abs() / temperature).max(1.0),
                "log_softmax",
                layout,
            );
            let z = probabilities[class].ln();
            let tolerance =
                (4.0 + z.abs().min(800.0)) * epsilon * probabilities[class] + if epsilon > 1e-4 { 1e-7 } else { 1e-37 };
            close(p[at].to_f64(), probabilities[class], tolerance, "softmax", layout);
        }
    }
}

#[test]
fn f32_agrees_with_naive_twins() {
    agree_with_twins::<f32>(f32::EPSILON.into());
}

#[test]
fn f64_agrees_with_naive_twins() {
    agree_with_twins::<f64>(1e-15); // sums of 3e5 terms, rounded a few hundred times in a lane
}

#[test]
fn half_precision_agrees_with_naive_twins() {
    agree_with_twins::<bf16>(bf16::EPSILON.into());
    agree_with_twins::<f16>(f16::EPSILON.into());
}

#[test]
fn edges_of_the_contract() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    type Probabilities = Option<&'static [f32]>;
    let cases: [(&[f32], f32, Probabilities); 7] = [
        (&[1.0, nan, inf], nan, None),
        (&[1.0, inf, -inf], inf, None),
        (&[-inf, -inf, -inf], -inf, None),
        (&[0.0, -inf, 0.0], 2f32.ln(), Some(&[0.5, 0.0, 0.5])),
        (&[3e38, 3e38, -3e38], 3e38, Some(&[0.5, 0.5, 0.0])),
        (&[500.0, -500.0, 0.0], 500.0, Some(&[1.0, 0.0, 0.0])),
        (&[-1e-40, -inf, -inf], 0.0, Some(&[1.0, 0.0, 0.0])),
    ];
    for repeat in [1, 70, 3000] {
        for (start, lse, p) in &cases {
            // the row twice over, with absent classes between: the normaliser does not change
            let mut row = vec![-inf; 3 * repeat];
            (0..3).for_each(|class| row[class * repeat] = start[class]);
            for layout in layouts(1, row.len()) {
                let memory = layout.scattered(&row);
                for (got, p_got) in on_each_isa(|| {
                    let mut got = [0f32];
                    let view = layout.view(&memory);
                    softmaxfam::logsumexp(&view, &Options::default(), &mut RowsMut::new(&mut got, 1).unwrap()).unwrap();
                    let mut p = memory.clone();
                    softmaxfam::softmax(&view, &Options::default(), &mut layout.view_mut(&mut p)).unwrap();
                    (got[0], layout.gathered(&p))
                }) {
                    assert!(got == *lse || (got.is_nan() && lse.is_nan()), "logsumexp of {start:?}: {got}");
                    for class in 0..3 {
                        match p {
                            None => assert!(p_got[class * repeat].is_nan(), "softmax of {start:?}"),
                            Some(p) => assert_eq!(p_got[class * repeat], p[class], "softmax of {start:?}"),
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn masked_rows_and_masked_rubbish() {
    let x = [1.0, f64::NAN, 1.0, f64::INFINITY, 5.0, 6.0];
    let mask = [1u8, 0, 1, 0, 0, 0];
    let (x, mask) = (Rows::new(&x, 3).unwrap(), Rows::new(&mask, 3).unwrap());
    let options = Options::default().mask(&mask);
    let (mut lse, mut p, mut log_p) = ([0.0; 2], [9.0; 6], [9.0; 6]);
    softmaxfam::logsumexp(&x, &options, &mut RowsMut::new(&mut lse, 1).unwrap()).unwrap();
    softmaxfam::softmax(&x, &options, &mut RowsMut::new(&mut p, 3).unwrap()).unwrap();
    softmaxfam::log_softmax(&x, &options, &mut RowsMut::new(&mut log_p, 3).unwrap()).unwrap();
    assert_eq!(lse, [1.0 + 2f64.ln(), f64::NEG_INFINITY]);
    assert_eq!(p, [0.5, 0.0, 0.5, 0.0, 0.0, 0.0]);
    assert_eq!(log_p[3..], [f64::NEG_INFINITY; 3]);
    assert_eq!(log_p[1], f64::NEG_INFINITY);
}

#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    for classes in [7, 100, 5000] {
        let data: Vec<f32> = scores(100 * classes, 4.0);
        let whole = |data: &[f32]| {
            let mut lse = vec![0f32; data.len() / classes];
            let x = Rows::new(data, classes).unwrap();
            softmaxfam::logsumexp(&x, &Options::default(), &mut RowsMut::new(&mut lse, 1).unwrap()).unwrap();
            lse
        };
        let lse = whole(&data);
        (0..100).for_each(|row| assert_eq!(whole(&data[row * classes..][..classes]), [lse[row]]));
    }
}

#[test]
fn weighted_logsumexp_takes_signs_and_skips_zero_weights() {
    let x = [0.0, 1.0, f64::NAN, 2.0];
    let weights = [1.0, -3.0, 0.0, 0.5];
    let expected: f64 = 1.0 - 3.0 * 1f64.exp() + 0.5 * 2f64.exp();
    let (x, w) = (Rows::new(&x, 4).unwrap(), Rows::new(&weights, 4).unwrap());
    let (mut log, mut sign) = ([0.0], [0.0]);
    let mut out = RowsMut::new(&mut log, 1).unwrap();
    let mut sign_out = RowsMut::new(&mut sign, 1).unwrap();
    softmaxfam::weighted_logsumexp(&x, &w, &Options::default(), &mut out, Some(&mut sign_out)).unwrap();
    assert!((log[0] - expected.abs().ln()).abs() < 1e-15 && sign[0] == expected.signum());
    softmaxfam::weighted_logsumexp(&x, &w, &Options::default(), &mut RowsMut::new(&mut log, 1).unwrap(), None).unwrap();
    assert!(log[0].is_nan());
}
