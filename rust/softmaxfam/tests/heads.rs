//! Heads against their definition: all scores at once, then the maps' own functions on them.

use softmaxfam::heads::{Ask, EntmaxState, Exact, LinearHead, ScoreState, Scores, Weights, quantize};
use softmaxfam::samplers::{Stream, sample_scores};
use softmaxfam::{Error, Options, Rows, RowsMut, entmax_sparse, isa, threads, top_log_probs};

/// Numbers without pattern, the same on every machine, of about unit size.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next() + next() + next()).collect()
}

/// The inner products in the order that is promised: 16 lanes along d, which then meet by halves.
fn promised_logits(weight: &[f32], queries: &[f32], width: usize, bias: Option<&[f32]>) -> Vec<f32> {
    let mut all = Vec::new();
    for h in queries.chunks(width) {
        for (class, w) in weight.chunks(width).enumerate() {
            let mut lanes = [0.0_f32; 16];
            for (d, (w, h)) in w.iter().zip(h).enumerate() {
                lanes[d % 16] = w.mul_add(*h, lanes[d % 16]);
            }
            for half in [8, 4, 2, 1] {
                for lane in 0..half {
                    lanes[lane] += lanes[lane + half];
                }
            }
            all.push(lanes[0] + bias.map_or(0.0, |bias| bias[class]));
        }
    }
    all
}

struct Problem {
    weight: Vec<f32>,
    queries: Vec<f32>,
    bias: Vec<f32>,
    width: usize,
}

impl Problem {
    fn new(classes: usize, count: usize, width: usize) -> Self {
        let of = |count, seed| numbers(count, seed);
        Self { weight: of(classes * width, 1), queries: of(count * width, 2), bias: of(classes, 3), width }
    }

    fn head(&self) -> LinearHead<'_> {
        let rows = Rows::new(&self.weight, self.width).unwrap();
        LinearHead::new(Weights::F32(rows)).unwrap().bias(&self.bias).unwrap()
    }

    fn queries(&self) -> Rows<'_, f32> {
        Rows::new(&self.queries, self.width).unwrap()
    }

    fn logits(&self) -> Vec<f32> {
        promised_logits(&self.weight, &self.queries, self.width, Some(&self.bias))
    }
}

#[test]
fn logits_are_the_promised_sums_to_the_bit_on_every_instruction_set() {
    for (classes, count, width) in
        [(1, 1, 1), (7, 3, 5), (33, 1, 16), (100, 2, 17), (70, 4, 64), (513, 5, 40), (65, 17, 33), (600, 131, 8)]
    {
        let problem = Problem::new(classes, count, width);
        let expected = problem.logits();
        for name in isa::available() {
            let mut found = vec![f32::NAN; count * classes];
            let mut out = RowsMut::new(&mut found, classes).unwrap();
            isa::forced(name, || problem.head().logits(&problem.queries(), &Ask::default(), &mut out))
                .unwrap()
                .unwrap();
            let equal = found.iter().zip(&expected).all(|(one, other)| one == other);
            assert!(equal, "{name}: {classes} classes, {count} queries of {width}");
        }
    }
}

fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    for (found, expected) in found.iter().zip(expected) {
        let near = (found - expected).abs() <= 4e-7 * expected.abs().max(1.0) || found == expected;
        assert!(near || (found.is_nan() && expected.is_nan()), "{what}: {found} for {expected}");
    }
}

/// The maps' top-k of all scores at once.
fn by_rows(logits: &[f32], classes: usize, k: usize, options: &Options<'_>) -> (Vec<f32>, Vec<i64>, Vec<f32>) {
    let count = logits.len() / classes;
    let (mut log_probs, mut indices, mut lse) = (vec![0.0; count * k], vec![0; count * k], vec![0.0; count]);
    top_log_probs(
        &Rows::new(logits, classes).unwrap(),
        k,
        options,
        &mut RowsMut::new(&mut log_probs, k).unwrap(),
        &mut RowsMut::new(&mut indices, k).unwrap(),
        &mut RowsMut::new(&mut lse, 1).unwrap(),
    )
    .unwrap();
    (log_probs, indices, lse)
}

#[test]
fn scores_are_those_of_all_logits_at_once() {
    for (classes, count, width, k) in
        [(1, 1, 3, 1), (5, 2, 4, 5), (4097, 1, 8, 10), (9000, 6, 12, 3), (5000, 133, 4, 40), (20000, 3, 20, 1)]
    {
        let problem = Problem::new(classes, count, width);
        let all = problem.logits();
        for temperature in [1.0, 0.3] {
            let head = problem.head().temperature(temperature).unwrap();
            let target: Vec<i64> = (0..count).map(|query| (query * 977 % classes) as i64).collect();
            let found = head.score(&problem.queries(), &Ask::top(k).target(&target)).unwrap();
            let (log_probs, indices, lse) = by_rows(&all, classes, k, &Options::default().temperature(temperature));
            assert_eq!(found.indices, indices);
            assert_near(&found.log_probs, &log_probs, "log_probs");
            assert_near(&found.logsumexp, &lse, "logsumexp");
            let of_target = found.target_log_prob.unwrap();
            for (query, &target) in target.iter().enumerate() {
                let score = f64::from(all[query * classes + target as usize]) / temperature;
                assert_near(&[of_target[query]], &[(score - f64::from(lse[query])) as f32], "target");
            }
        }
    }
}

#[test]
fn ties_go_to_the_lower_class_however_the_classes_are_cut() {
    let weight = vec![1.0_f32; 3 * 4096 + 17];
    let queries = [1.0_f32; 2];
    let head = LinearHead::new(Weights::F32(Rows::new(&weight, 1).unwrap())).unwrap();
    for threads in [1, 3] {
        threads::set_num_threads(threads);
        let found = head.score(&Rows::new(&queries, 1).unwrap(), &Ask::top(5)).unwrap();
        assert_eq!(found.indices, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
    }
    threads::set_num_threads(0);
}

fn bits(scores: &Scores) -> Vec<u32> {
    let targets = scores.target_log_prob.iter().flatten();
    scores.log_probs.iter().chain(&scores.logsumexp).chain(targets).map(|x| x.to_bits()).collect()
}

#[test]
fn bits_hang_on_neither_threads_nor_batch_nor_shards_nor_instruction_set() {
    let (classes, count, width) = (5 * 4096 + 100, 140, 24);
    let problem = Problem::new(classes, count, width);
    let target: Vec<i64> = (0..count as i64).collect();
    let whole = problem.head().score(&problem.queries(), &Ask::top(7).target(&target)).unwrap();
    for name in isa::available() {
        for threads in [1, 2, 5] {
            threads::set_num_threads(threads);
            let of_call = || problem.head().score(&problem.queries(), &Ask::top(7).target(&target)).unwrap();
            let found = isa::forced(name, of_call).unwrap();
            assert_eq!((&found.indices, bits(&found)), (&whole.indices, bits(&whole)), "{name}, {threads} threads");
        }
    }
    threads::set_num_threads(0);
    for query in [0, 1, 77, 139] {
        let one = Rows::new(&problem.queries[query * width..(query + 1) * width], width).unwrap();
        let found = problem.head().score(&one, &Ask::top(7).target(&target[query..=query])).unwrap();
        assert_eq!(found.logsumexp[0].to_bits(), whole.logsumexp[query].to_bits());
        assert_eq!(found.log_probs, whole.log_probs[7 * query..7 * query + 7]);
        assert_eq!(found.target_log_prob.unwrap()[0], whole.target_log_prob.as_ref().unwrap()[query]);
    }
    // shards that end at chunks, merged in every order
    let ends = [0, 4096, 3 * 4096, classes];
    let shard = |index: usize| {
        let (from, to) = (ends[index], ends[index + 1]);
        let rows = Rows::new(&problem.weight[from * width..to * width], width).unwrap();
        let head = LinearHead::new(Weights::F32(rows)).unwrap().bias(&problem.bias[from..to]).unwrap();
        head.first_class(from as u64).partial(&problem.queries(), &Ask::top(7).target(&target)).unwrap()
    };
    for [a, b, c] in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1], [0, 2, 1], [1, 0, 2]] {
        let merged = shard(a).merge(shard(b)).unwrap().merge(shard(c)).unwrap();
        let found = merged.finish().unwrap();
        assert_eq!((&found.indices, bits(&found)), (&whole.indices, bits(&whole)));
    }
    let twice = shard(0).merge(shard(0)).unwrap_err();
    assert_eq!(twice, Error::Overlap { class: 0 });
    let missing = shard(0).merge(shard(2)).unwrap();
    assert!(missing.finish().is_ok(), "all targets lie in the first shard");
}

#[test]
fn shards_that_end_anywhere_merge_to_one_value_in_any_order() {
    let (classes, width) = (9000, 6);
    let problem = Problem::new(classes, 3, width);
    let whole = problem.head().score(&problem.queries(), &Ask::top(4)).unwrap();
    let ends = [0, 1000, 4500, 8999, classes];
    let shard = |index: usize| {
        let (from, to) = (ends[index], ends[index + 1]);
        let rows = Rows::new(&problem.weight[from * width..to * width], width).unwrap();
        let head = LinearHead::new(Weights::F32(rows)).unwrap().bias(&problem.bias[from..to]).unwrap();
        head.first_class(from as u64).partial(&problem.queries(), &Ask::top(4)).unwrap()
    };
    let one = shard(0).merge(shard(1)).unwrap().merge(shard(2)).unwrap().merge(shard(3)).unwrap();
    let other = shard(3).merge(shard(1)).unwrap().merge(shard(2).merge(shard(0)).unwrap()).unwrap();
    let (one, other) = (one.finish().unwrap(), other.finish().unwrap());
    assert_eq!(bits(&one), bits(&other));
    assert_eq!(one.indices, whole.indices);
    assert_near(&one.logsumexp, &whole.logsumexp, "logsumexp");
}

#[test]
fn absent_classes_count_nowhere() {
    let (classes, count, width) = (5000, 9, 7);
    let problem = Problem::new(classes, count, width);
    let mask: Vec<u8> = (0..classes).map(|class| u8::from(class % 3 != 1 && !(512..1024).contains(&class))).collect();
    let whole = problem.head().score(&problem.queries(), &Ask::top(3)).unwrap();
    // of each query its best classes are excluded, and one that does not exist
    let starts: Vec<i64> = (0..=count as i64).map(|query| 4 * query).collect();
    let mut ids = Vec::new();
    for best in whole.indices.chunks(3) {
        ids.extend_from_slice(best);
        ids.push(classes as i64);
    }
    let mut all = problem.logits();
    for query in 0..count {
        for class in 0..classes {
            if mask[class] == 0 || ids[4 * query..4 * query + 4].contains(&(class as i64)) {
                all[query * classes + class] = f32::NEG_INFINITY;
            }
        }
    }
    let target: Vec<i64> = vec![1; count];
    let ask = Ask::top(3).mask(&mask).exclude(&starts, &ids).target(&target);
    let found = problem.head().score(&problem.queries(), &ask).unwrap();
    let (log_probs, indices, lse) = by_rows(&all, classes, 3, &Options::default());
    assert_eq!(found.indices, indices);
    assert_near(&found.log_probs, &log_probs, "log_probs");
    assert_near(&found.logsumexp, &lse, "logsumexp");
    assert_eq!(found.target_log_prob.unwrap(), vec![f32::NEG_INFINITY; count]);
    let nothing = vec![0; classes];
    let found = problem.head().score(&problem.queries(), &Ask::top(2).mask(&nothing)).unwrap();
    assert_eq!(found.logsumexp, vec![f32::NEG_INFINITY; count]);
    assert_eq!((found.log_probs, found.indices), (vec![f32::NEG_INFINITY; 2 * count], vec![-1; 2 * count]));
}

#[test]
fn undefined_queries_are_nan_and_leave_the_others_alone() {
    let mut problem = Problem::new(600, 6, 5);
    let whole = problem.head().score(&problem.queries(), &Ask::top(2)).unwrap();
    (problem.queries[2], problem.queries[13]) = (f32::NAN, f32::INFINITY);
    let found = problem.head().score(&problem.queries(), &Ask::top(2)).unwrap();
    for query in 0..6 {
        let (of_query, expected) =
            (&found.log_probs[2 * query..2 * query + 2], &whole.log_probs[2 * query..2 * query + 2]);
        if query == 0 || query == 2 {
            assert!(of_query.iter().all(|x| x.is_nan()) && found.indices[2 * query] == -1);
        } else {
            assert_eq!(of_query, expected);
        }
    }
    assert!(found.logsumexp[0].is_nan());
}

#[test]
fn rows_may_lie_anyhow() {
    let (classes, count, width) = (700, 5, 10);
    let problem = Problem::new(classes, count, width);
    let expected = problem.head().score(&problem.queries(), &Ask::top(4)).unwrap();
    let mut transposed = vec![0.0; classes * width];
    let mut reversed = vec![0.0; 2 * classes * width];
    for class in 0..classes {
        for d in 0..width {
            transposed[d * classes + class] = problem.weight[class * width + d];
            reversed[2 * (classes - 1 - class) * width + d] = problem.weight[class * width + d];
        }
    }
    let step = classes as isize;
    let start = 2 * (classes - 1) * width;
    for rows in [
        Rows::strided(&transposed, 0, &[(classes, 1)], &[(width, step)]).unwrap(),
        Rows::strided(&reversed, start, &[(classes, -2 * width as isize)], &[(width, 1)]).unwrap(),
    ] {
        let head = LinearHead::new(Weights::F32(rows)).unwrap().bias(&problem.bias).unwrap();
        assert_eq!(head.score(&problem.queries(), &Ask::top(4)).unwrap(), expected);
    }
    let alone = problem.head().score(&problem.queries(), &Ask::top(0)).unwrap();
    assert_eq!((alone.logsumexp, alone.indices), (expected.logsumexp, vec![]));
    let none = Rows::new(&[], width).unwrap();
    assert_eq!(problem.head().score(&none, &Ask::top(4)).unwrap().indices, []);
}

#[test]
fn half_precision_weights_are_widened_exactly() {
    for (classes, count, width) in [(5000, 6, 19), (700, 1, 64), (300, 3, 33), (40, 9, 7)] {
        let problem = Problem::new(classes, count, width);
        let f16s: Vec<half::f16> = problem.weight.iter().map(|&w| half::f16::from_f32(w)).collect();
        let bf16s: Vec<half::bf16> = problem.weight.iter().map(|&w| half::bf16::from_f32(w)).collect();
        let logits = |weights| {
            let mut found = vec![0.0; count * classes];
            let mut out = RowsMut::new(&mut found, classes).unwrap();
            LinearHead::new(weights).unwrap().logits(&problem.queries(), &Ask::default(), &mut out).unwrap();
            found
        };
        let f16_rows = Weights::F16(Rows::new(&f16s, width).unwrap());
        let bf16_rows = Weights::Bf16(Rows::new(&bf16s, width).unwrap());
        let widened: Vec<f32> = f16s.iter().map(|w| w.to_f32()).collect();
        assert_eq!(logits(f16_rows), promised_logits(&widened, &problem.queries, width, None));
        // of bf16 the numbers at even places of each 32 make a line, then those at odd places
        let in_two = |numbers: &[f32]| -> Vec<f32> {
            let padded = width.next_multiple_of(32);
            let number = |row: &[f32], at: usize| row.get(at / 32 * 32 + at % 16 * 2 + at % 32 / 16).copied();
            numbers.chunks(width).flat_map(|row| (0..padded).map(|at| number(row, at).unwrap_or(0.0))).collect()
        };
        let widened: Vec<f32> = bf16s.iter().map(|w| w.to_f32()).collect();
        let padded = width.next_multiple_of(32);
        let expected = promised_logits(&in_two(&widened), &in_two(&problem.queries), padded, None);
        for name in isa::available() {
            assert_eq!(isa::forced(name, || logits(bf16_rows.clone())).unwrap(), expected, "{name}");
        }
    }
}

#[test]
fn codes_of_eight_bits_sum_to_exact_integers() {
    for (classes, count, width) in [(700, 1, 64), (600, 2, 100), (50, 3, 1), (530, 9, 200), (4, 5, 63)] {
        let problem = Problem::new(classes, count, width);
        let (mut codes, mut scales, mut norms) = (vec![0; classes * width], vec![0.0; classes], vec![0.0; 2 * classes]);
        quantize(
            &Rows::new(&problem.weight, width).unwrap(),
            &mut RowsMut::new(&mut codes, width).unwrap(),
            &mut RowsMut::new(&mut scales, 1).unwrap(),
            &mut RowsMut::new(&mut norms, 2).unwrap(),
            None,
        )
        .unwrap();
        let levels = |row: &[f32]| {
            let scale = row.iter().fold(0.0_f32, |highest, x| highest.max(x.abs())) / 127.0;
            (scale, row.iter().map(|x| (x / scale).round_ties_even() as i32).collect::<Vec<_>>())
        };
        let mut expected = Vec::new();
        for h in problem.queries.chunks(width) {
            let (of_query, h) = levels(h);
            for (class, row) in problem.weight.chunks(width).enumerate() {
                let (of_class, w) = levels(row);
                assert_eq!((scales[class], codes[class * width] as i32), (of_class, w[0]));
                let sum: i32 = w.iter().zip(&h).map(|(w, h)| w * h).sum();
                expected.push(sum as f32 * (of_class * of_query) + problem.bias[class]);
                let lost: f64 = row
                    .iter()
                    .zip(&w)
                    .map(|(x, w)| (f64::from(*x) - f64::from(*w) * f64::from(of_class)).powi(2))
                    .sum();
                assert!(
                    f64::from(norms[2 * class]) >= lost.sqrt()
                        && f64::from(norms[2 * class]) < lost.sqrt() * 1.000001 + 1e-30
                );
            }
        }
        let weights = Weights::Int8 { codes: Rows::new(&codes, width).unwrap(), scales: &scales };
        let head = LinearHead::new(weights).unwrap().bias(&problem.bias).unwrap();
        for name in isa::available() {
            let mut found = vec![0.0; count * classes];
            let mut out = RowsMut::new(&mut found, classes).unwrap();
            isa::forced(name, || head.logits(&problem.queries(), &Ask::default(), &mut out)).unwrap().unwrap();
            assert_eq!(found, expected, "{name}");
        }
    }
    let weight = [1.0, f32::NAN, 2.0, 3.0];
    let (mut codes, mut scales, mut norms) = ([0; 4], [0.0; 2], [0.0; 4]);
    let refused = quantize(
        &Rows::new(&weight, 2).unwrap(),
        &mut RowsMut::new(&mut codes, 2).unwrap(),
        &mut RowsMut::new(&mut scales, 1).unwrap(),
        &mut RowsMut::new(&mut norms, 2).unwrap(),
        None,
    );
    assert_eq!(refused, Err(Error::NotFinite { class: 0 }));
}

#[test]
fn bad_arguments_are_named() {
    let problem = Problem::new(10, 2, 4);
    let head = problem.head();
    let queries = problem.queries();
    let refused = |ask: &Ask<'_>| head.score(&queries, ask).unwrap_err();
    assert_eq!(refused(&Ask::top(11)), Error::K { given: 11, classes: 10 });
    assert_eq!(refused(&Ask::top(1).target(&[3, 10])), Error::Target { query: 1, given: 10 });
    assert_eq!(refused(&Ask::top(1).target(&[3])), Error::Length { what: "target", given: 1, needed: 2 });
    assert_eq!(refused(&Ask::top(1).mask(&[1; 9])), Error::Length { what: "where", given: 9, needed: 10 });
    assert_eq!(refused(&Ask::top(1).exclude(&[0, 2, 1], &[4])), Error::Starts { length: 1 });
    let narrow = Rows::new(&problem.queries, 2).unwrap();
    assert_eq!(head.score(&narrow, &Ask::top(1)).unwrap_err(), Error::Width { given: 2, needed: 4 });
    assert_eq!(head.clone().temperature(0.0).unwrap_err(), Error::Temperature { given: 0.0 });
    let none: [f32; 0] = [];
    let empty = LinearHead::new(Weights::F32(Rows::new(&none, 4).unwrap())).unwrap_err();
    assert_eq!(empty, Error::Classes { given: 0 });
}

#[test]
fn states_travel_as_bytes_and_damage_is_refused() {
    let problem = Problem::new(9000, 3, 6);
    let target = [5, 8999, 17];
    let state = problem.head().partial(&problem.queries(), &Ask::top(4).target(&target)).unwrap();
    let bytes = state.to_bytes();
    assert!(bytes.len() < 3 * 400);
    assert_eq!(ScoreState::from_bytes(&bytes).unwrap(), state);
    for length in 0..bytes.len() {
        assert_eq!(ScoreState::from_bytes(&bytes[..length]), Err(Error::Bytes));
    }
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0xff;
        let _ = ScoreState::from_bytes(&damaged); // refused or another state, never a panic or a large allocation
    }
    assert_eq!(ScoreState::from_bytes(&[&bytes[..], &[0]].concat()), Err(Error::Bytes));
    let entmax = problem.head().entmax_partial(&problem.queries(), 1.5, &Ask::default()).unwrap();
    let bytes = entmax.to_bytes();
    assert_eq!(EntmaxState::from_bytes(&bytes).unwrap(), entmax);
    assert_eq!(EntmaxState::from_bytes(&bytes[1..]), Err(Error::Bytes));
}

#[test]
fn entmax_is_that_of_all_logits_at_once() {
    for (classes, count, width, scale) in [(1, 1, 3, 1.0), (9000, 5, 12, 1.0), (5000, 133, 4, 3.0), (5000, 2, 8, 0.01)]
    {
        let mut problem = Problem::new(classes, count, width);
        problem.queries.iter_mut().for_each(|x| *x *= scale);
        let all = problem.logits();
        for alpha in [1.01, 1.3, 1.5, 2.0, 3.0, f64::INFINITY] {
            for temperature in [1.0, 0.4] {
                let head = problem.head().temperature(temperature).unwrap();
                let found = head.entmax(&problem.queries(), alpha, &Ask::default(), None).unwrap();
                let options = Options::default().temperature(temperature);
                let expected = entmax_sparse(&Rows::new(&all, classes).unwrap(), alpha.into(), &options, None).unwrap();
                assert_eq!((found.indptr, found.indices), (expected.indptr, expected.indices), "alpha {alpha}");
                for (p, expected) in found.values.iter().zip(&expected.values) {
                    assert!((p - expected).abs() <= 4.0 * f32::EPSILON, "alpha {alpha}: {p} for {expected}");
                }
            }
        }
    }
    let problem = Problem::new(600, 3, 5);
    let refused = problem.head().entmax(&problem.queries(), 1.0, &Ask::default(), None).unwrap_err();
    assert_eq!(refused, Error::Alpha { given: 1.0, above: 1.0 });
    let refused = problem.head().entmax(&problem.queries(), 1.5, &Ask::default(), Some(1)).unwrap_err();
    assert!(matches!(refused, Error::Support { row: 0, limit: 1, .. }));
}

#[test]
fn bits_of_entmax_hang_on_neither_threads_nor_shards() {
    let (classes, count, width) = (3 * 4096 + 100, 20, 9);
    let problem = Problem::new(classes, count, width);
    let whole = problem.head().entmax(&problem.queries(), 1.5, &Ask::default(), None).unwrap();
    for threads in [1, 2, 5] {
        threads::set_num_threads(threads);
        assert_eq!(problem.head().entmax(&problem.queries(), 1.5, &Ask::default(), None).unwrap(), whole);
    }
    threads::set_num_threads(0);
    let ends = [0, 1000, 8000, classes];
    let shard = |index: usize| {
        let (from, to) = (ends[index], ends[index + 1]);
        let rows = Rows::new(&problem.weight[from * width..to * width], width).unwrap();
        let head = LinearHead::new(Weights::F32(rows)).unwrap().bias(&problem.bias[from..to]).unwrap();
        head.first_class(from as u64).entmax_partial(&problem.queries(), 1.5, &Ask::default()).unwrap()
    };
    for [a, b, c] in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let merged = shard(a).merge(shard(b)).unwrap().merge(shard(c)).unwrap();
        assert_eq!(merged.finish(None).unwrap(), whole);
    }
    assert_eq!(shard(1).merge(shard(1)).unwrap_err(), Error::Overlap { class: 1000 });
}

#[test]
fn entmax_of_absent_and_undefined_queries() {
    let mut problem = Problem::new(5000, 4, 6);
    problem.queries[6] = f32::NAN;
    let best = problem.head().score(&problem.queries(), &Ask::top(1)).unwrap().indices;
    let starts = [0, 0, 0, 1, 1];
    let found =
        problem.head().entmax(&problem.queries(), 2.0, &Ask::default().exclude(&starts, &best[2..3]), None).unwrap();
    let row = |row: usize| found.indptr[row] as usize..found.indptr[row + 1] as usize;
    assert!(found.values[row(1)].iter().all(|p| p.is_nan()) && row(1).len() == 5000);
    assert!(!found.indices[row(2)].contains(&best[2]) && !row(2).is_empty());
    let nothing = vec![0; 5000];
    let found = problem.head().entmax(&problem.queries(), 2.0, &Ask::default().mask(&nothing), None).unwrap();
    assert_eq!(found.indptr, [0; 5]);
}

#[test]
fn samples_are_those_of_all_logits_at_once() {
    for (classes, count, width) in [(1, 2, 3), (9000, 7, 6), (5000, 131, 4)] {
        let problem = Problem::new(classes, count, width);
        let all = problem.logits();
        for (draws, unique) in [(3, false), (1, true), (4, true)] {
            if unique && draws > classes {
                continue;
            }
            let mut of_head = (vec![0; count * draws], vec![0.0; count * draws], vec![0.0; count]);
            let mut of_rows = of_head.clone();
            let stream = Stream::new(7, 3);
            let head = problem.head().temperature(0.7).unwrap();
            let mut thresholds = RowsMut::new(&mut of_head.2, 1).unwrap();
            head.sample(
                &problem.queries(),
                stream,
                &Ask::default(),
                &mut RowsMut::new(&mut of_head.0, draws).unwrap(),
                &mut RowsMut::new(&mut of_head.1, draws).unwrap(),
                unique.then_some(&mut thresholds),
            )
            .unwrap();
            let mut thresholds = RowsMut::new(&mut of_rows.2, 1).unwrap();
            sample_scores(
                &Rows::new(&all, classes).unwrap(),
                stream,
                &Options::default().temperature(0.7),
                &mut RowsMut::new(&mut of_rows.0, draws).unwrap(),
                &mut RowsMut::new(&mut of_rows.1, draws).unwrap(),
                unique.then_some(&mut thresholds),
            )
            .unwrap();
            assert_eq!(of_head.0, of_rows.0, "{classes} classes, {draws} draws, unique: {unique}");
            assert_near(&of_head.1, &of_rows.1, "logq");
            assert_near(&of_head.2, &of_rows.2, "thresholds");
        }
    }
}

/// The matrix in 8 bits: codes, scales, and the two norms of each class.
fn quantized(problem: &Problem) -> (Vec<i8>, Vec<f32>, Vec<f32>, Vec<f32>) {
    let classes = problem.bias.len();
    let (mut codes, mut scales, mut norms) =
        (vec![0; problem.weight.len()], vec![0.0; classes], vec![0.0; 2 * classes]);
    quantize(
        &Rows::new(&problem.weight, problem.width).unwrap(),
        &mut RowsMut::new(&mut codes, problem.width).unwrap(),
        &mut RowsMut::new(&mut scales, 1).unwrap(),
        &mut RowsMut::new(&mut norms, 2).unwrap(),
        None,
    )
    .unwrap();
    let part = |at: usize| norms.iter().skip(at).step_by(2).copied().collect();
    (codes, scales, part(0), part(1))
}

#[test]
fn low_precision_scored_again_gives_the_exact_best() {
    for (classes, count, width, k) in [(9000, 5, 40, 10), (20000, 130, 16, 3), (3, 2, 8, 3), (6000, 1, 130, 50)] {
        let problem = Problem::new(classes, count, width);
        let expected = problem.head().score(&problem.queries(), &Ask::top(k)).unwrap();
        let (codes, scales, lost, kept) = quantized(&problem);
        let exact_rows = Rows::new(&problem.weight, width).unwrap();
        let exact = Exact { weight: &exact_rows, lost: &lost, kept: &kept };
        let weights = Weights::Int8 { codes: Rows::new(&codes, width).unwrap(), scales: &scales };
        let head = LinearHead::new(weights).unwrap().bias(&problem.bias).unwrap();
        for name in isa::available() {
            for threads in [1, 3] {
                threads::set_num_threads(threads);
                let of_call = || head.score_exactly(&problem.queries(), &Ask::top(k), &exact).unwrap();
                let (found, counts) = isa::forced(name, of_call).unwrap();
                assert_eq!(found.indices, expected.indices, "{name}");
                for (query, &rescored) in counts.iter().enumerate() {
                    for slot in k * query..k * query + k {
                        // exact scores over a normaliser of low precision
                        let score = f64::from(found.log_probs[slot]) + f64::from(found.logsumexp[query]);
                        let wanted = f64::from(expected.log_probs[slot]) + f64::from(expected.logsumexp[query]);
                        assert!((score - wanted).abs() < 2e-6 * wanted.abs().max(4.0), "{score} for {wanted}");
                    }
                    assert!(rescored >= k as i64 && (rescored as usize) < classes.max(100) / 5);
                }
            }
        }
        threads::set_num_threads(0);
    }
}

#[test]
fn bounds_of_low_precision_hold() {
    // weights and queries whose rounding is as bad as it gets: half a level off, all in one direction
    let (classes, width) = (4096, 64);
    let mut problem = Problem::new(classes, 1, width);
    problem.bias.fill(0.0);
    for (at, w) in problem.weight.iter_mut().enumerate() {
        *w = if at % width == 0 { 127.0 } else { ((at / width) % 100) as f32 + 0.499 };
    }
    for (at, h) in problem.queries.iter_mut().enumerate() {
        *h = if at == 0 { 127.0 } else { 50.499 };
    }
    let expected = problem.head().score(&problem.queries(), &Ask::top(64)).unwrap();
    let (codes, scales, lost, kept) = quantized(&problem);
    let exact_rows = Rows::new(&problem.weight, width).unwrap();
    let exact = Exact { weight: &exact_rows, lost: &lost, kept: &kept };
    let weights = Weights::Int8 { codes: Rows::new(&codes, width).unwrap(), scales: &scales };
    let head = LinearHead::new(weights).unwrap();
    let (found, _) = head.score_exactly(&problem.queries(), &Ask::top(64), &exact).unwrap();
    assert_eq!(found.indices, expected.indices);
}
