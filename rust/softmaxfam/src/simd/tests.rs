//! Every operation of every instruction set against the definition in plain Rust, on values with all the edges.

use super::*;
use half::{bf16, f16};

/// Runs a kernel on every instruction set of this machine, and prints which.
pub(crate) fn on_each_isa<K: Kernel + Copy>(kernel: K) -> Vec<(&'static str, K::Output)> {
    let run = |name| (name, isa::forced(name, || dispatch(Level::active(), kernel)).expect("it is available"));
    let results: Vec<_> = isa::available().into_iter().map(run).collect();
    println!("ran on {:?}", isa::available());
    results
}

const EDGES: [f64; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    3.0e38,
    -2.5e-38,
    1.0e-45,
    7.25,
    0.1,
    -0.1,
    65519.9,
    1.0e-7,
    123_456.789,
];

/// Bits of all that an operation gave; NaNs count as one.
fn bits<R: Real>(values: &[R]) -> Vec<u64> {
    let of = |value: f64| if value.is_nan() { u64::MAX } else { value.to_bits() };
    values.iter().map(|value| of((*value).into())).collect()
}

/// The results of all operations on rotated edges, as bits.
#[derive(Clone, Copy)]
struct Operations<R>(std::marker::PhantomData<R>);

impl<R: Real> Kernel for Operations<R> {
    type Output = Vec<u64>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Vec<u64> {
        let lanes = R::lanes(isa);
        let n = <R::Lanes<I> as Lanes>::N;
        let mut found = Vec::new();
        for shift in 0..16 {
            let rotated = |by: usize| -> Vec<R> { (0..n).map(|lane| R::of_f64(EDGES[(lane + by) % 16])).collect() };
            let (a, b, c) = (rotated(0), rotated(shift), rotated(3 * shift + 1));
            let (va, vb, vc) = (lanes.load(&a), lanes.load(&b), lanes.load(&c));
            let mut buffer = vec![R::ZERO; n];
            let results = [
                lanes.add(va, vb),
                lanes.sub(va, vb),
                lanes.mul(va, vb),
                lanes.div(va, vb),
                lanes.mul_add(va, vb, vc),
                lanes.neg_mul_add(va, vb, vc),
                lanes.in_step(va),
                lanes.sqrt(vb),
                lanes.max(va, vb),
                lanes.min(va, vb),
                lanes.select(lanes.gt(va, vb), va, vc),
                lanes.select(lanes.ge(va, vb), va, vc),
                lanes.select(lanes.eq(va, vb), va, vc),
                lanes.select(lanes.is_nan(vb), va, vc),
                lanes.load_or(&b[..shift % n], R::of_f64(-3.0)),
                lanes.splat(b[0]),
            ];
            for result in results {
                lanes.store(result, &mut buffer);
                found.extend(bits(&buffer));
                let mut part = vec![R::ZERO; shift % n];
                lanes.store_part(result, &mut part);
                found.extend(bits(&part));
            }
            let mut square = [va; 16];
            for (row, vector) in square.iter_mut().enumerate().take(n) {
                *vector = lanes.load(&rotated(row * (shift + 1)));
            }
            lanes.transpose(&mut square);
            for vector in &square[..n] {
                lanes.store(*vector, &mut buffer);
                found.extend(bits(&buffer));
            }
            let mask = lanes.gt(va, vb);
            let mut kept = vec![R::ZERO; n];
            let count = lanes.compress(mask, va, &mut kept);
            found.extend(bits(&kept[..count]));
            found.extend([u64::from(lanes.bits(mask)), u64::from(lanes.any(mask))]);
            let finite: Vec<R> = b.iter().map(|x| if (*x).into().is_finite() { *x } else { R::ZERO }).collect();
            let v = lanes.load(&finite);
            found.extend(bits(&[lanes.reduce_add(v), lanes.reduce_max(v), lanes.reduce_min(v)]));
            let positive: Vec<R> = b.iter().map(|x| R::of_f64((*x).into().abs().clamp(1e-30, 1e30))).collect();
            let positive: Vec<R> =
                positive.iter().map(|x| if (*x).into().is_nan() { R::of_f64(2.0) } else { *x }).collect();
            let (exponent, significand) = lanes.split_exponent(lanes.load(&positive));
            lanes.store(exponent, &mut buffer);
            found.extend(bits(&buffer));
            lanes.store(significand, &mut buffer);
            found.extend(bits(&buffer));
        }
        found
    }
}

#[test]
fn operations_give_the_same_bits_on_every_instruction_set() {
    for results in [
        on_each_isa(Operations::<f32>(std::marker::PhantomData)),
        on_each_isa(Operations::<f64>(std::marker::PhantomData)),
    ] {
        let (_, expected) = results.last().expect("generic is always there");
        for (name, found) in &results {
            assert!(found == expected, "{name} differs from generic");
        }
    }
}

#[test]
fn generic_operations_are_those_of_plain_rust() {
    struct Few;
    impl Kernel for Few {
        type Output = Vec<f32>;
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> Vec<f32> {
            let lanes = isa.f32();
            let mut kept = vec![0.0; 16];
            let x: Vec<f32> = (0..16).map(|lane| lane as f32).collect();
            let v = lanes.load(&x);
            let count = lanes.compress(lanes.gt(v, lanes.splat(11.5)), v, &mut kept);
            kept.truncate(count);
            kept.push(lanes.reduce_add(v));
            kept.push(lanes.reduce_max(lanes.neg_mul_add(v, v, lanes.splat(1.0))));
            kept
        }
    }
    let found = isa::forced("generic", || dispatch(Level::active(), Few)).expect("always there");
    assert_eq!(found, [12.0, 13.0, 14.0, 15.0, 120.0, 1.0]);
}

/// All 2^16 numbers of a half-precision type, loaded, and stored back; and f32 numbers rounded to it.
#[derive(Clone, Copy)]
struct Halves;

impl Kernel for Halves {
    type Output = (Vec<u32>, Vec<u16>);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let lanes = isa.f32();
        let (mut loaded, mut stored) = (Vec::new(), Vec::new());
        let (mut wide, mut f, mut b) = ([0.0; 16], [f16::ZERO; 16], [bf16::ZERO; 16]);
        let is_number = |x: f32| if x.is_nan() { u32::MAX } else { x.to_bits() };
        for start in (0..=u16::MAX).step_by(16) {
            let halves: [f16; 16] = std::array::from_fn(|lane| f16::from_bits(start + lane as u16));
            let brains: [bf16; 16] = std::array::from_fn(|lane| bf16::from_bits(start + lane as u16));
            for v in [isa.load_f16(&halves), isa.load_bf16(&brains)] {
                lanes.store(v, &mut wide);
                loaded.extend(wide.map(is_number));
            }
            // between two numbers of the type, and halfway
            let between: [f32; 16] = std::array::from_fn(|lane| {
                f32::from_bits((u32::from(start + lane as u16) << 16) | [0x7fff, 0x8000, 0x8001, 0x1234][lane % 4])
            });
            isa.store_f16(lanes.load(&between), &mut f);
            isa.store_bf16(lanes.load(&between), &mut b);
            stored.extend(f.iter().map(|x| if x.is_nan() { u16::MAX } else { x.to_bits() }));
            stored.extend(b.iter().map(|x| if x.is_nan() { u16::MAX } else { x.to_bits() }));
        }
        (loaded, stored)
    }
}

#[test]
fn half_precision_is_rounded_once_from_f64() {
    fn check<E: Element>(of_bits: fn(u16) -> E, infinity: u16) {
        for bits in 0..infinity - 1 {
            let (below, above) = (of_bits(bits), of_bits(bits + 1));
            let middle = f64::midpoint(below.to_f64(), above.to_f64());
            let even = if bits % 2 == 0 { below } else { above };
            for (value, wanted) in [(middle.next_down(), below), (middle, even), (middle.next_up(), above)] {
                assert_eq!(E::of_f64_once(value), wanted, "{value:e}");
                assert_eq!(E::of_f64_once(-value).to_f64(), -wanted.to_f64(), "{value:e}");
            }
        }
        assert!(E::of_f64_once(f64::NAN).to_f64().is_nan());
        assert_eq!(E::of_f64_once(f64::MAX).to_f64(), f64::INFINITY);
    }
    check(f16::from_bits, 0x7c00);
    check(bf16::from_bits, 0x7f80);
}

#[test]
fn half_precision_is_loaded_exactly_and_rounded_once() {
    let results = on_each_isa(Halves);
    let (_, expected) = results.last().expect("generic is always there");
    for (name, found) in &results {
        assert!(found == expected, "{name} differs from generic");
    }
}

/// Sums of each of 16 vectors, and the operations on bytes.
#[derive(Clone, Copy)]
struct Sums;

impl Kernel for Sums {
    type Output = (Vec<u32>, Vec<u32>, Vec<u32>);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let lanes = isa.f32();
        let number = |at: usize| (f32::from((at * 37 % 101) as u16) - 50.3) / f32::from(at as u16 % 13 + 1);
        let rows: [[f32; 16]; 16] = std::array::from_fn(|row| std::array::from_fn(|lane| number(16 * row + lane)));
        let of_each = isa.reduce_add_each(&rows.map(|row| lanes.load(&row)));
        let mut found = [0.0; 16];
        lanes.store(of_each, &mut found);
        let alone = rows.map(|row| lanes.reduce_add(lanes.load(&row)));
        assert_eq!(found, alone);
        let brains: [bf16; 32] = std::array::from_fn(|at| bf16::from_f32(number(at)));
        let mut in_two = Vec::new();
        for v in isa.load_bf16_in_two(&brains) {
            lanes.store(v, &mut found);
            in_two.extend(found.map(f32::to_bits));
        }
        let mut products = Vec::new();
        let byte = |at: usize| [-128, 127, -1, 0, 1, 77, -90][(at * at + at / 5) % 7] as i8;
        let sums: [I::I32; 16] = std::array::from_fn(|row| {
            let start = std::array::from_fn(|lane| (row * lane) as i32 - 7);
            let (codes, levels) =
                (std::array::from_fn(|at| byte(at + row)), std::array::from_fn(|at| byte(3 * at + row)));
            isa.add_products(isa.load_i32(&start), isa.load_i8_raised(&codes), isa.load_i8(&levels))
        });
        lanes.store(isa.sum_each(&sums), &mut found);
        products.extend(found.map(f32::to_bits));
        (alone.map(f32::to_bits).to_vec(), in_two, products)
    }
}

#[test]
fn sums_and_products_give_the_same_bits_on_every_instruction_set() {
    let mut results = on_each_isa(Sums);
    #[cfg(target_arch = "x86_64")]
    if let Level::Avx512(isa) = Level::active() {
        results.insert(0, ("avx512 without VNNI", isa.without_vnni().run(Sums)));
    }
    let (_, expected) = results.last().expect("generic is always there");
    for (name, found) in &results {
        assert!(found == expected, "{name} differs from generic");
    }
}

/// Integers of 64 bits, their halves and products.
#[derive(Clone, Copy)]
struct Words;

impl Kernel for Words {
    type Output = Vec<[u64; 8]>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let (a, b) = (isa.load_u64(&WORDS[0]), isa.load_u64(&WORDS[1]));
        let [low, high] = isa.interleave(a, b);
        let results = [
            isa.add_u64(a, b),
            isa.mul_lower(a, b),
            isa.mul_upper(a, b),
            isa.upper(a),
            isa.xor(a, b),
            isa.join_lower(a, b),
            low,
            high,
        ];
        let mut found = Vec::new();
        for result in results {
            found.push(isa.store_u64(result));
        }
        found
    }
}

const WORDS: [[u64; 8]; 2] = [
    [0, 1, u64::MAX, 1 << 63, 0x0123_4567_89ab_cdef, u64::MAX - 5, 1 << 32, 0xffff_ffff],
    [u64::MAX, 1 << 31, 0xffff_ffff, 7, 0xfedc_ba98_7654_3210, 3, 1 << 40, 0xffff_ffff],
];

#[test]
fn integers_are_those_of_plain_rust_on_every_instruction_set() {
    let [a, b] = WORDS;
    let lower = |word: u64| u128::from(word as u32);
    let each = |f: fn(u64, u64) -> u64| std::array::from_fn(|lane| f(a[lane], b[lane]));
    let turns = |from: usize| std::array::from_fn(|lane| WORDS[lane % 2][from + lane / 2]);
    let expected: Vec<[u64; 8]> = vec![
        each(u64::wrapping_add),
        std::array::from_fn(|lane| (lower(a[lane]) * lower(b[lane])) as u64),
        std::array::from_fn(|lane| ((u128::from(a[lane]) * lower(b[lane])) >> 32) as u64),
        each(|a, _| a >> 32),
        each(|a, b| a ^ b),
        each(|a, b| (a & 0xffff_ffff) | (b << 32)),
        turns(0),
        turns(4),
    ];
    for (name, found) in on_each_isa(Words) {
        assert_eq!(found, expected, "{name}");
    }
}
