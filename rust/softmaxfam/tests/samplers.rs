//! Samplers against their naive twins, on every instruction set and number of threads, and against frozen draws.

mod twins;

use proptest::prelude::*;
use softmaxfam::samplers::{
    AliasTable, Distinct, Draws, LogUniform, Proposal, Stream, Uniform, philox4x32, sample, sample_scores,
    sample_unique,
};
use softmaxfam::{Error, Options, Rows, RowsMut, threads};
use std::collections::HashSet;
use twins::on_each_isa;

const FULL: u128 = 1 << 32;

/// Units of each class, as the definition of a slot has them.
fn units(slots: &[u64]) -> Vec<u128> {
    let mut units = vec![0; slots.len()];
    for (slot, &word) in slots.iter().enumerate() {
        let (threshold, alias) = (u128::from(word >> 32), (word & 0xFFFF_FFFF) as usize);
        units[slot] += if alias == slot { FULL } else { threshold };
        units[alias] += if alias == slot { 0 } else { FULL - threshold };
    }
    units
}

/// Checks a table against the exact law of integer weights.
fn check_law(weights: &[u64]) {
    let as_f64: Vec<f64> = weights.iter().map(|&weight| weight as f64).collect();
    let table = AliasTable::new(&as_f64, 1.0, None).unwrap();
    let (n, sum) = (weights.len() as u128, weights.iter().map(|&weight| u128::from(weight)).sum::<u128>());
    let units = units(table.slots());
    assert_eq!(units.iter().sum::<u128>(), n * FULL);
    // classes below one unit are kept at the expense of the others
    let kept = weights.iter().filter(|&&weight| weight > 0 && u128::from(weight) * n * FULL < sum).count() as u128;
    for (class, (&units, &weight)) in units.iter().zip(weights).enumerate() {
        let exact = u128::from(weight) * n * FULL; // over `sum`
        let off = (units * sum).abs_diff(exact);
        let allowed = if exact < sum { sum } else { sum + kept * u128::from(weight) + kept };
        assert!(off < allowed, "class {class} of weight {weight} has {units} units, {exact} / {sum} wanted");
        assert_eq!(units > 0, weight > 0);
    }
    let logq = table.logq(&(0..weights.len() as i64).collect::<Vec<_>>()).unwrap();
    for (&logq, &units) in logq.iter().zip(&units) {
        let exact = (units as f64 / (n * FULL) as f64).ln();
        assert!(
            f64::from(logq) == exact || (f64::from(logq) - exact).abs() <= 1e-7 * exact.abs().max(1e-3),
            "{logq} is not {exact}"
        );
    }
    assert_eq!(table.positive(), weights.iter().filter(|&&weight| weight > 0).count());
}

/// Whole numbers of a heavy-tailed law, up to 2^40.
fn pareto(count: usize) -> Vec<u64> {
    let uniform = twins::scores::<f64>(count, 1.0);
    uniform.iter().map(|x| (1e3 * (2.5 * x.abs()).exp()) as u64 % (1 << 40)).collect()
}

#[test]
fn tables_have_the_law_of_their_weights() {
    for count in [1, 2, 3, 7, 64, 65, 1000, 16_384, 40_000] {
        check_law(&vec![1; count]);
        let mut heavy = pareto(count);
        heavy[0] += 1;
        check_law(&heavy);
        heavy.sort_unstable();
        check_law(&heavy);
        heavy.reverse();
        check_law(&heavy);
        let mut lonely = vec![0; count];
        lonely[count / 2] = 5;
        check_law(&lonely);
        lonely[0] = 1 << 52;
        check_law(&lonely);
        // nearly all classes below one unit
        let mut tiny = vec![1; count];
        tiny[count - 1] = 1 << 51;
        check_law(&tiny);
    }
}

proptest! {
    #[test]
    fn tables_have_the_law_of_any_weights(weights in prop::collection::vec(prop_oneof![Just(0), 1_u64..10, 1_u64 << 20..1 << 45], 1..200)) {
        prop_assume!(weights.iter().any(|&weight| weight > 0));
        check_law(&weights);
    }
}

#[test]
fn weights_of_any_size_and_power() {
    for scale in [1e-320, 1e-300, 1.0, 1e300] {
        let table = AliasTable::new(&[scale, 3.0 * scale, 0.0, 4.0 * scale], 1.0, None).unwrap();
        let logq = table.logq(&[0, 1, 2, 3]).unwrap();
        for (logq, q) in logq.into_iter().zip([0.125_f32, 0.375, 0.0, 0.5]) {
            assert!(logq == q.ln() || (logq - q.ln()).abs() < 1e-3, "{logq} at scale {scale}"); // subnormals have few digits
        }
    }
    let weights = [1e-320, 1.0, 16.0, 0.0, 1e300];
    for power in [0.0, 0.5, 0.75, 1.0, 3.0] {
        let table = AliasTable::new(&weights, power, None).unwrap();
        let powers: Vec<f64> = weights
            .iter()
            .map(|&w: &f64| if w > 0.0 { (power * (w.ln() - 1e300_f64.ln())).exp() } else { 0.0 })
            .collect();
        let sum: f64 = powers.iter().sum();
        let units = units(table.slots());
        for ((&units, power), &weight) in units.iter().zip(powers).zip(&weights) {
            let exact = power / sum * 5.0 * FULL as f64;
            assert!((units as f64 - exact).abs() < 4.0, "{units} is not {exact}"); // three classes are kept at one unit
            assert_eq!(units > 0, weight > 0.0);
        }
    }
}

#[test]
fn tables_do_not_depend_on_threads_or_instruction_sets() {
    let weights: Vec<f64> = pareto(200_000).into_iter().map(|weight| weight as f64).collect();
    let build = || AliasTable::new(&weights, 0.75, None).unwrap();
    let expected = build();
    let classes: Vec<i64> = (0..200_000).collect();
    for threads in [1, 2, 3] {
        threads::set_num_threads(threads);
        for table in on_each_isa(build) {
            assert!(table.slots() == expected.slots());
            assert!(table.logq(&classes) == expected.logq(&classes));
        }
    }
    threads::set_num_threads(0);
    let again = AliasTable::from_slots(expected.slots(), None).unwrap();
    assert!(again.logq(&classes) == expected.logq(&classes));
    assert_eq!(again.positive(), expected.positive());
}

/// Word `index` of a stream.
fn word(seed: u64, key: u64, index: u64) -> u64 {
    let counter = index / 2;
    let block = philox4x32(
        [counter as u32, (counter >> 32) as u32, key as u32, (key >> 32) as u32],
        [seed as u32, (seed >> 32) as u32],
    );
    let half = 2 * (index % 2) as usize;
    u64::from(block[half]) | u64::from(block[half + 1]) << 32
}

fn draw(proposal: &Proposal, stream: Stream, count: usize) -> (Vec<i64>, Vec<f32>) {
    let (mut ids, mut logq) = (vec![-7; count], vec![f32::NAN; count]);
    let mut logq_rows = RowsMut::strided(&mut logq, 0, &[(1, 0)], &[(count, 1)]).unwrap();
    let mut ids_rows = RowsMut::strided(&mut ids, 0, &[(1, 0)], &[(count, 1)]).unwrap();
    sample(proposal, stream, &mut ids_rows, Some(&mut logq_rows), &Draws::default()).unwrap();
    (ids, logq)
}

/// Laws, and their twins from a word to a class and its log q.
type Twin = Box<dyn Fn(u64) -> (i64, f64)>;

fn laws() -> Vec<(Proposal, Twin)> {
    let weights: Vec<f64> = pareto(3000).into_iter().map(|weight| weight as f64).collect();
    let table = AliasTable::new(&weights, 1.0, None).unwrap();
    let slots = table.slots().to_vec();
    let of_slots = units(&slots);
    let alias = move |word: u64| {
        let n = slots.len() as u128;
        let (slot, fraction) = (((u128::from(word) * n) >> 64) as usize, (u128::from(word) * n) as u64 >> 32);
        let id = if fraction < slots[slot] >> 32 { slot } else { (slots[slot] & 0xFFFF_FFFF) as usize };
        (id as i64, (of_slots[id] as f64 / (n * FULL) as f64).ln())
    };
    let uniform = |word: u64| (((u128::from(word) * 1000) >> 64) as i64, -(1000_f64.ln()));
    let log_uniform = |word: u64| {
        let unit = (word >> 11) as f64 / (1_u64 << 53) as f64;
        let id = (unit * 50_001_f64.ln()).exp().floor() - 1.0;
        (id as i64, ((1.0 / (id + 1.0)).ln_1p() / 50_001_f64.ln()).ln())
    };
    vec![
        (Proposal::Alias(table), Box::new(alias)),
        (Proposal::Uniform(Uniform::new(1000).unwrap()), Box::new(uniform)),
        (Proposal::LogUniform(LogUniform::new(50_000).unwrap()), Box::new(log_uniform)),
    ]
}

#[test]
fn draws_agree_with_their_naive_twins() {
    for (proposal, twin) in laws() {
        for (position, count) in [(0, 1), (0, 31), (1, 32), (7, 33), (2, 100), (1 << 40, 10_001)] {
            let stream = Stream::new(11, 13).at(position).unwrap();
            for threads in [1, 2, 3] {
                threads::set_num_threads(threads);
                for (ids, logq) in on_each_isa(|| draw(&proposal, stream, count)) {
                    for (index, (&id, &logq)) in ids.iter().zip(&logq).enumerate() {
                        let (class, exact) = twin(word(11, 13, position + index as u64));
                        assert_eq!(id, class, "draw {index} from {position}");
                        assert!(
                            (f64::from(logq) - exact).abs() <= 1.2e-7 * exact.abs().max(1.0),
                            "{logq} is not {exact}"
                        );
                    }
                }
            }
        }
    }
    threads::set_num_threads(0);
}

fn distinct(
    proposal: &Proposal,
    stream: Stream,
    rows: usize,
    count: usize,
) -> (Vec<i64>, Vec<f32>, Vec<i64>, Vec<f32>) {
    let (mut ids, mut logq) = (vec![0_i64; rows * count], vec![0.0; rows * count]);
    let (mut tries, mut thresholds) = (vec![0; rows], vec![0.0; rows]);
    let of_rows = Distinct {
        ids: RowsMut::new(&mut ids, count).unwrap(),
        logq: RowsMut::new(&mut logq, count).unwrap(),
        tries: RowsMut::new(&mut tries, 1).unwrap(),
        thresholds: RowsMut::new(&mut thresholds, 1).unwrap(),
    };
    sample_unique(proposal, stream, of_rows, &Draws::default()).unwrap();
    (ids, logq, tries, thresholds)
}

#[test]
fn distinct_draws_do_not_depend_on_threads_instruction_sets_or_batches() {
    let weights: Vec<f64> = (0..300).map(|class| 10_f64.powi(-(class % 31))).collect();
    let mut proposals: Vec<_> = laws().into_iter().map(|law| (law.0, 40)).collect();
    proposals.push((Proposal::Alias(AliasTable::new(&weights, 1.0, None).unwrap()), 290)); // by a race at the end
    for (proposal, count) in proposals {
        let stream = Stream::new(5, 1);
        let expected = distinct(&proposal, stream, 60, count);
        for row in expected.0.chunks(count) {
            assert_eq!(row.iter().collect::<HashSet<_>>().len(), count);
        }
        assert!(expected.2.iter().all(|&tries| tries >= count as i64));
        for threads in [1, 2, 3] {
            threads::set_num_threads(threads);
            for found in on_each_isa(|| distinct(&proposal, stream, 60, count)) {
                assert!(found == expected);
            }
        }
        let second = distinct(&proposal, stream.at(30).unwrap(), 30, count);
        assert!(second.0 == expected.0[30 * count..] && second.3 == expected.3[30..]);
    }
    threads::set_num_threads(0);
}

fn from_scores(scores: &[f32], rows: usize, count: usize, unique: bool) -> (Vec<i64>, Vec<f32>, Vec<f32>) {
    let (mut ids, mut logq, mut thresholds) = (vec![0; rows * count], vec![0.0; rows * count], vec![0.0; rows]);
    sample_scores(
        &Rows::new(scores, scores.len() / rows).unwrap(),
        Stream::new(9, 9),
        &Options::default().temperature(0.7),
        &mut RowsMut::new(&mut ids, count).unwrap(),
        &mut RowsMut::new(&mut logq, count).unwrap(),
        unique.then_some(&mut RowsMut::new(&mut thresholds, 1).unwrap()),
    )
    .unwrap();
    (ids, logq, thresholds)
}

#[test]
fn draws_from_scores_do_not_depend_on_threads_or_instruction_sets() {
    for (rows, classes) in [(20, 30), (5, 4096), (3, 20_000)] {
        let scores = twins::scores::<f32>(rows * classes, 2.0);
        for (unique, count) in [(false, 1), (false, 50), (true, 1), (true, 29)] {
            let expected = from_scores(&scores, rows, count, unique);
            for (row, (ids, logq)) in expected.0.chunks(count).zip(expected.1.chunks(count)).enumerate() {
                let of_row = &scores[row * classes..(row + 1) * classes];
                let lse = of_row.iter().map(|x| (f64::from(*x) / 0.7).exp()).sum::<f64>().ln();
                for (&id, &logq) in ids.iter().zip(logq) {
                    let exact = f64::from(of_row[id as usize]) / 0.7 - lse;
                    assert!((f64::from(logq) - exact).abs() < 1e-6, "{logq} is not {exact}");
                }
                assert!(!unique || ids.iter().collect::<HashSet<_>>().len() == count);
            }
            for threads in [1, 2] {
                threads::set_num_threads(threads);
                for found in on_each_isa(|| from_scores(&scores, rows, count, unique)) {
                    assert!(found == expected);
                }
            }
        }
    }
    threads::set_num_threads(0);
}

#[test]
fn excluded_classes_are_replaced_and_other_draws_stay() {
    for (proposal, _) in laws() {
        let (plain, _) = draw(&proposal, Stream::new(3, 3), 6000);
        let excluded: Vec<i64> = (0..60).flat_map(|row| [plain[row * 100], -1, plain[row * 100 + 7]]).collect();
        let exclude = Rows::new(&excluded, 3).unwrap();
        let (mut ids, mut logq) = (vec![0_i64; 6000], vec![0.0; 6000]);
        let draws = Draws::default().exclude(&exclude);
        let mut view = RowsMut::new(&mut logq, 6000).unwrap();
        sample(&proposal, Stream::new(3, 3), &mut RowsMut::new(&mut ids, 6000).unwrap(), Some(&mut view), &draws)
            .unwrap();
        for (index, (&id, &before)) in ids.iter().zip(&plain).enumerate() {
            let of_row = &excluded[index / 100 * 3..][..3];
            assert!(!of_row.contains(&id));
            assert!(id == before || of_row.contains(&before));
        }
        let mut of_ids = vec![0.0; 6000];
        let (given, target) = (Rows::new(&ids, 6000).unwrap(), &mut RowsMut::new(&mut of_ids, 6000).unwrap());
        softmaxfam::samplers::logq(&proposal, &given, target).unwrap();
        assert!(of_ids == logq);
    }
    // all but one class excluded, and that one rare
    let mut weights = vec![1.0; 50];
    weights[17] = 1e-9;
    let proposal = Proposal::Alias(AliasTable::new(&weights, 1.0, None).unwrap());
    let excluded: Vec<i64> = (0..50).filter(|&class| class != 17).collect();
    let exclude = Rows::new(&excluded, 49).unwrap();
    let mut ids = [0_i32; 5];
    let draws = Draws::default().exclude(&exclude);
    sample(&proposal, Stream::new(3, 3), &mut RowsMut::new(&mut ids, 5).unwrap(), None, &draws).unwrap();
    assert_eq!(ids, [17; 5]);
}

#[test]
fn value_stability() {
    let stream = Stream::new(42, 7).at(1001).unwrap();
    let weights = [5.0, 1.0, 0.0, 2.5, 1e-3, 40.0, 7.0];
    let proposals = [
        Proposal::Alias(AliasTable::new(&weights, 0.75, None).unwrap()),
        Proposal::Uniform(Uniform::new(1_000_000).unwrap()),
        Proposal::LogUniform(LogUniform::new(1_000_000).unwrap()),
    ];
    let known: [[i64; 8]; 3] = KNOWN_DRAWS;
    for (proposal, known) in proposals.iter().zip(known) {
        for (ids, _) in on_each_isa(|| draw(proposal, stream, 8)) {
            assert_eq!(ids, known);
        }
        let mut narrow = [0_i32; 8];
        sample(proposal, stream, &mut RowsMut::new(&mut narrow, 8).unwrap(), None, &Draws::default()).unwrap();
        assert_eq!(narrow.map(i64::from), known);
    }
    for (proposal, known) in proposals.iter().zip(KNOWN_DISTINCT) {
        for (ids, _, tries, _) in on_each_isa(|| distinct(proposal, stream, 2, 4)) {
            assert_eq!((&ids[..], &tries[..]), (&known.0[..], &known.1[..]));
        }
    }
    let scores = twins::scores::<f32>(5000, 3.0);
    for (ids, _, _) in on_each_isa(|| from_scores(&scores, 1, 8, false)) {
        assert_eq!(ids, KNOWN_OF_SCORES[0]);
    }
    for (ids, _, _) in on_each_isa(|| from_scores(&scores, 1, 8, true)) {
        assert_eq!(ids, KNOWN_OF_SCORES[1]);
    }
}

// New numbers here break the promise of streams: a major version, and a line under "Streams" in the CHANGELOG.
const KNOWN_DRAWS: [[i64; 8]; 3] = [
    [5, 0, 5, 3, 6, 5, 5, 5],
    [185361, 76249, 136838, 488515, 869770, 566121, 418566, 187583],
    [11, 1, 5, 852, 165431, 2492, 323, 12],
];
const KNOWN_DISTINCT: [([i64; 8], [i64; 2]); 3] = [
    ([5, 3, 1, 6, 6, 1, 5, 0], [7, 14]),
    ([554570, 443897, 381828, 458253, 986913, 152230, 337572, 892063], [4, 4]),
    ([2124, 459, 194, 560, 834609, 7, 105, 225101], [4, 4]),
];
const KNOWN_OF_SCORES: [[i64; 8]; 2] =
    [[2228, 4204, 2335, 4204, 2090, 4204, 4204, 4204], [1057, 4204, 2335, 1430, 1335, 3816, 2090, 355]];

#[test]
fn refusals_say_what_is_wrong_and_write_nothing() {
    let table = |weights: &[f64]| AliasTable::new(weights, 1.0, None).err();
    assert_eq!(table(&[1.0, -0.5]), Some(Error::Weight { class: 1, given: -0.5 }));
    assert_eq!(table(&[1.0, f64::INFINITY]), Some(Error::Weight { class: 1, given: f64::INFINITY }));
    assert!(matches!(table(&[1.0, 2.0, f64::NAN]), Some(Error::Weight { class: 2, .. })));
    assert_eq!(table(&[0.0, 0.0]), Some(Error::NoWeight { classes: 2 }));
    assert_eq!(table(&[]), Some(Error::Classes { given: 0 }));
    assert!(matches!(AliasTable::new(&[1.0], -1.0, None), Err(Error::Power { .. })));
    assert_eq!(AliasTable::from_slots(&[0, 9], None).err(), Some(Error::Slot { slot: 1, alias: 9, classes: 2 }));
    assert_eq!(Uniform::new(1 << 33).err(), Some(Error::Classes { given: 1 << 33 }));

    let two = Proposal::Alias(AliasTable::new(&[1.0, 0.0, 1.0], 1.0, None).unwrap());
    let mut ids = [7_i64; 3];
    let mut rest = ([0.0; 3], [0; 1], [0.0; 1]);
    let distinct = Distinct {
        ids: RowsMut::new(&mut ids, 3).unwrap(),
        logq: RowsMut::new(&mut rest.0, 3).unwrap(),
        tries: RowsMut::new(&mut rest.1, 1).unwrap(),
        thresholds: RowsMut::new(&mut rest.2, 1).unwrap(),
    };
    let refused = sample_unique(&two, Stream::new(1, 1), distinct, &Draws::default());
    assert_eq!(refused, Err(Error::Unique { row: 0, asked: 3, available: 2 }));
    for excluded in [vec![0, 2], vec![3]] {
        let exclude = Rows::new(&excluded, excluded.len()).unwrap();
        let draws = Draws::default().exclude(&exclude);
        let refused = sample(&two, Stream::new(1, 1), &mut RowsMut::new(&mut ids, 3).unwrap(), None, &draws);
        assert!(matches!(refused, Err(Error::Unique { .. } | Error::Class { given: 3, classes: 3 })));
    }
    let last = Stream::new(1, 1).at((1 << 63) - 2).unwrap();
    let refused = sample(&two, last, &mut RowsMut::new(&mut ids, 3).unwrap(), None, &Draws::default());
    assert_eq!(refused, Err(Error::Stream { asked: 3, left: 2 }));
    let many = Proposal::Uniform(Uniform::new(1 << 32 >> 1 | 1).unwrap());
    let mut narrow = [7_i32; 1];
    let refused = sample(&many, last, &mut RowsMut::new(&mut narrow, 1).unwrap(), None, &Draws::default());
    assert_eq!(refused, Err(Error::Narrow { classes: (1 << 31) + 1 }));
    assert_eq!((ids, narrow), ([7; 3], [7]));
}

#[test]
fn parts_of_a_stream_never_meet() {
    let whole = Stream::new(1, 2).at(100).unwrap();
    let parts = whole.split(7).unwrap();
    for (one, next) in parts.iter().zip(&parts[1..]) {
        assert_eq!(one.position() + one.remaining(), next.position());
    }
    let of_part = parts[3].split(2).unwrap();
    assert_eq!(of_part[0].position(), parts[3].position());
    assert!(of_part[1].position() + of_part[1].remaining() <= parts[4].position());
    assert!(whole.split(0).is_err() && of_part[0].at(1 << 63).is_ok() && whole.at((1 << 63) + 1).is_err());
}
