//! The kernels on their own: `cargo bench -p softmaxfam`; `cargo bench -p softmaxfam -- --test` runs each once.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use softmaxfam::heads::{Ask, LinearHead, Weights};
use softmaxfam::samplers::{AliasTable, Draws, LogUniform, Proposal, Stream, Uniform, sample};
use softmaxfam::{Options, Rows, RowsMut};

const SHAPES: [(usize, usize); 4] = [(1 << 16, 16), (1 << 13, 128), (64, 1 << 14), (4, 1 << 18)];

fn scores(count: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from((state >> 32) as u32) / f64::from(u32::MAX)
    };
    // the sum of twelve uniform numbers is near enough to a normal one
    (0..count).map(|_| ((0..12).map(|_| next()).sum::<f64>() - 6.0) as f32).collect()
}

#[divan::bench(args = SHAPES)]
fn logsumexp(bencher: Bencher<'_, '_>, (rows, classes): (usize, usize)) {
    let data = scores(rows * classes);
    let mut lse = vec![0.0; rows];
    bencher.counter(BytesCount::of_slice(&data)).bench_local(|| {
        let x = Rows::new(black_box(&data), classes).unwrap();
        softmaxfam::logsumexp(&x, &Options::default(), &mut RowsMut::new(&mut lse, 1).unwrap())
    });
}

#[divan::bench(args = SHAPES)]
fn softmax(bencher: Bencher<'_, '_>, (rows, classes): (usize, usize)) {
    let data = scores(rows * classes);
    let mut p = vec![0.0; data.len()];
    bencher.counter(BytesCount::of_slice(&data)).bench_local(|| {
        let x = Rows::new(black_box(&data), classes).unwrap();
        softmaxfam::softmax(&x, &Options::default(), &mut RowsMut::new(&mut p, classes).unwrap())
    });
}

#[divan::bench(args = SHAPES, consts = [13, 15, 20])]
fn entmax<const TENTHS: usize>(bencher: Bencher<'_, '_>, (rows, classes): (usize, usize)) {
    let data = scores(rows * classes);
    let mut p = vec![0.0; data.len()];
    bencher.counter(BytesCount::of_slice(&data)).bench_local(|| {
        let x = Rows::new(black_box(&data), classes).unwrap();
        let alpha = (TENTHS as f64 / 10.0).into();
        softmaxfam::entmax(&x, alpha, &Options::default(), &mut RowsMut::new(&mut p, classes).unwrap())
    });
}

#[divan::bench(args = SHAPES)]
fn top_log_probs(bencher: Bencher<'_, '_>, (rows, classes): (usize, usize)) {
    let data = scores(rows * classes);
    let (mut log_probs, mut indices, mut lse) = (vec![0.0; rows * 10], vec![0; rows * 10], vec![0.0; rows]);
    bencher.counter(BytesCount::of_slice(&data)).bench_local(|| {
        let x = Rows::new(black_box(&data), classes).unwrap();
        let (mut l, mut i) = (RowsMut::new(&mut log_probs, 10).unwrap(), RowsMut::new(&mut indices, 10).unwrap());
        softmaxfam::top_log_probs(&x, 10, &Options::default(), &mut l, &mut i, &mut RowsMut::new(&mut lse, 1).unwrap())
    });
}

#[divan::bench(args = [(1, 1 << 17, 128), (16, 1 << 15, 256), (128, 1 << 14, 256)])]
fn head_score(bencher: Bencher<'_, '_>, (queries, classes, width): (usize, usize, usize)) {
    let (weight, h) = (scores(classes * width), scores(queries * width));
    let products = ItemsCount::new(queries * classes * width);
    bencher.counter(products).bench_local(|| {
        let rows = Rows::new(black_box(&weight), width).unwrap();
        let head = LinearHead::new(Weights::F32(rows)).unwrap();
        head.score(&Rows::new(&h, width).unwrap(), &Ask::top(10)).unwrap()
    });
}

fn proposal(law: &str, classes: usize) -> Proposal {
    match law {
        "uniform" => Proposal::Uniform(Uniform::new(classes).unwrap()),
        "log-uniform" => Proposal::LogUniform(LogUniform::new(classes).unwrap()),
        _ => {
            let weights: Vec<f64> = (1..=classes).map(|rank| 1.0 / rank as f64).collect();
            Proposal::Alias(AliasTable::new(&weights, 0.75, None).unwrap())
        }
    }
}

#[divan::bench(args = [("alias", 10_000), ("alias", 1_000_000), ("alias", 10_000_000), ("uniform", 1_000_000), ("log-uniform", 1_000_000)])]
fn draws(bencher: Bencher<'_, '_>, (law, classes): (&str, usize)) {
    let proposal = proposal(law, classes);
    let (mut ids, mut logq) = (vec![0_i64; 1 << 18], vec![0_f32; 1 << 18]);
    let count = ids.len();
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let mut logq = RowsMut::new(&mut logq, count).unwrap();
        let ids = &mut RowsMut::new(&mut ids, count).unwrap();
        sample(&proposal, Stream::new(7, 0), ids, Some(&mut logq), &Draws::default())
    });
}

fn main() {
    divan::main();
}
