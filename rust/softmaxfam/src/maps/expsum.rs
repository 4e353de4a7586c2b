//! The sum of exponentials of a row in one pass: the core of logsumexp, softmax and top-k.
//!
//! Problem. sum_i exp(x_i / T) for n up to 1e7 and scores of any size, reading each score once, with a relative error
//! that grows neither with n nor with the scores.
//! Method. The sum is kept as e^(reference / T) 2^shift s. `shift` is the integer nearest to log2 of a term that is
//! large among the first [`HEAD`] scores; `reference` is 0 unless that score is beyond [`FAR`], so that nothing is subtracted
//! from a score and no score is rounded (`elementary::exp`). Each block is added under the present shift while its
//! maximum is collected; a block that exceeds the shift by more than [`HEADROOM`] (it could overflow) is done again under a
//! new one, and the sum before it is rescaled. Beyond FAR the reference is subtracted: the rounding of the difference
//! is then far below the error that the size of the result allows.
//! Sums. A term is 2^n (1 + t): the powers and the 2^n t are added apart, 8 a lane in the element's real type in 4
//! independent lanes, then in f64, so that the rounding of the sum is that of its smaller part. The order is fixed by the positions in
//! the chunk, hence the same on every instruction set; chunks of [`CHUNK`] classes are summed apart and met in their order.
//! Temperature. x / T is formed as a sum of two numbers, by 1/T in two parts and a fused multiply-add: it costs no digit.
//! Error. relative, of the sum: below 0.4 eps in the real type in all tests against 50-digit values.
//! Cost. One read of the row and 16 operations a vector: about the speed of a maximum from memory.

use crate::elementary::{self, Window};
use crate::options::PerRow;
use crate::rows::{BLOCK, Source};
use crate::simd::{Element, Isa, Lanes, LanesOf, Real};

/// A row longer than this is cut into chunks of this many classes, which threads share: 1 MiB of f32.
pub(crate) const CHUNK: usize = 1 << 18;

/// The first shift is that of the largest among so many scores.
const HEAD: usize = 256;
/// Scores (over T) up to this size are used unchanged: n ln 2 is then exact to far more digits than needed.
pub(crate) const FAR: f64 = 4096.0;
/// A term may exceed the one that gave the shift by e^60, 2^87: 4,096 such terms stay below 2^127.
pub(crate) const HEADROOM: f64 = 60.0;
/// Vectors that are added in the real type before f64 takes over, and the independent lanes that take turns.
pub(crate) const TURNS: usize = 8;
const WAYS: usize = 4;

/// A temperature as kernels use it: its inverse as the sum of two numbers, or none where it is 1.
#[derive(Clone, Copy)]
pub(crate) struct Scale<R> {
    pub(crate) temperature: f64,
    inverse: Option<[R; 2]>,
}

impl<R: Real> Scale<R> {
    pub(crate) fn new(temperature: f64) -> Self {
        Self { temperature, inverse: (temperature != 1.0).then(|| inverse_in_two(temperature)) }
    }
}

/// 1 / T as the sum of two numbers.
fn inverse_in_two<R: Real>(temperature: f64) -> [R; 2] {
    let inverse = 1.0 / temperature;
    let high = R::of_f64(inverse.min(R::MAX.into()));
    // what 1/T lost by rounding, then what the high part lost
    let low = (-temperature).mul_add(inverse, 1.0) / temperature + (inverse - high.into());
    let sound = high.into() < R::MAX.into() && low.is_finite();
    [high, R::of_f64(if sound { low } else { 0.0 })]
}

/// (x - reference) / T as the sum of a value and a small correction, for all lanes.
#[derive(Clone, Copy)]
pub(crate) struct Scaled<L: Lanes> {
    lanes: L,
    reference: L::V,
    inverse: Option<[L::V; 2]>,
}

impl<L: Lanes> Scaled<L> {
    #[inline(always)]
    pub(crate) fn new(lanes: L, scale: &Scale<L::Scalar>, reference: L::V) -> Self {
        Self { lanes, reference, inverse: scale.inverse.map(|parts| parts.map(|part| lanes.splat(part))) }
    }

    /// With a temperature and a reference for each of at most N lanes.
    #[inline(always)]
    pub(crate) fn of_each(lanes: L, count: usize, temperature: impl Fn(usize) -> f64, reference: L::V) -> Self {
        let inverse = (0..count).any(|lane| temperature(lane) != 1.0).then(|| {
            let of_lane = |lane| inverse_in_two::<L::Scalar>(temperature(lane));
            [0, 1].map(|part| spread(lanes, count, |lane| of_lane(lane)[part].into()))
        });
        Self { lanes, reference, inverse }
    }

    /// With the temperatures of `count` rows from `first` on, a row in each lane.
    #[inline(always)]
    pub(crate) fn of_rows(lanes: L, temperature: &PerRow<'_>, first: usize, count: usize) -> Self {
        let zero = lanes.splat(Real::of_f64(0.0));
        match temperature {
            PerRow::Same(value) => Self::new(lanes, &Scale::new(*value), zero),
            PerRow::Each(_) => Self::of_each(lanes, count, |lane| temperature.of(first + lane), zero),
        }
    }

    /// Changes what is subtracted from the scores.
    #[inline(always)]
    pub(crate) fn refer_to(&mut self, reference: L::V) {
        self.reference = reference;
    }

    #[inline(always)]
    pub(crate) fn of(&self, x: L::V) -> (L::V, Option<L::V>) {
        let lanes = self.lanes;
        let difference = lanes.sub(x, self.reference);
        let Some([high, low]) = self.inverse else { return (difference, None) };
        let z = lanes.mul(difference, high);
        let lost = lanes.neg_mul_add(difference, high, z); // z minus the exact product
        let correction = lanes.sub(lanes.mul(difference, low), lost);
        // an infinite score has no correction: the NaN of inf - inf gives way
        (z, Some(lanes.max(correction, lanes.splat(L::Scalar::of_f64(-1.0)))))
    }
}

/// Lanes with a value for each row: the same in all where there is one row; lanes past the rows hold 0.
#[inline(always)]
pub(crate) fn spread<L: Lanes>(lanes: L, count: usize, value: impl Fn(usize) -> f64) -> L::V {
    if count == 1 {
        return lanes.splat(Real::of_f64(value(0)));
    }
    let mut array = [L::Scalar::of_f64(0.0); 16];
    array.iter_mut().take(count).enumerate().for_each(|(lane, place)| *place = Real::of_f64(value(lane)));
    lanes.load(&array)
}

/// sum_i exp(x_i / T) over some classes of a row, as e^(reference / T) 2^shift sum. The sum is NaN where a score is NaN;
/// +inf where a score is +inf and none is NaN; 0 where there is no score above -inf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpSum {
    pub(crate) reference: f64,
    pub(crate) shift: f64,
    pub(crate) sum: f64,
}

impl ExpSum {
    pub(crate) const EMPTY: Self = Self { reference: 0.0, shift: 0.0, sum: 0.0 };

    /// This sum under another reference and shift.
    pub(crate) fn rebased(self, reference: f64, shift: f64, temperature: f64) -> f64 {
        let is_moved = (self.reference, self.shift) != (reference, shift);
        if !is_moved || self.sum == 0.0 || self.sum.is_nan() {
            return self.sum;
        }
        // in powers of two first: e^difference alone may overflow
        let moved = (self.reference - reference) / temperature * std::f64::consts::LOG2_E + self.shift - shift;
        self.sum * moved.exp2()
    }

    /// Both sums together; of several the first given decides the order of adding.
    pub(crate) fn merged(self, other: Self, temperature: f64) -> Self {
        let of_height = |s: &Self| s.reference / temperature * std::f64::consts::LOG2_E + s.shift;
        let base = match (self.sum == 0.0, other.sum == 0.0) {
            (true, _) => other,
            (_, true) => self,
            _ if of_height(&other) > of_height(&self) => other,
            _ => self,
        };
        let sum = self.rebased(base.reference, base.shift, temperature)
            + other.rebased(base.reference, base.shift, temperature);
        Self { sum, ..base }
    }

    /// The logarithm, given that of `sum`.
    pub(crate) fn log_given(&self, log_sum: f64, temperature: f64) -> f64 {
        let from_reference = if self.reference == 0.0 { 0.0 } else { self.reference / temperature };
        let height = self.shift * std::f64::consts::LN_2 + from_reference;
        // of an infinite sum, or an empty or undefined one, only the sum matters
        if log_sum.is_finite() { height + log_sum } else { log_sum }
    }
}

/// The reference and the shift under which terms of about exp(highest / T) are near 1.
#[inline(always)]
pub(crate) fn base_for(highest: f64, temperature: f64) -> (f64, f64) {
    let scaled = highest / temperature;
    if scaled.abs() <= FAR { (0.0, (scaled * std::f64::consts::LOG2_E).round_ties_even()) } else { (highest, 0.0) }
}

/// Adds up one row, block by block.
pub(crate) struct Adder<I: Isa, E: Element> {
    isa: I,
    scale: Scale<E::Real>,
    state: ExpSum,
    limit: Option<f64>, // scores above it need a new shift; none before the first finite score
}

impl<I: Isa, E: Element> Adder<I, E> {
    #[inline(always)]
    pub(crate) fn new(isa: I, scale: Scale<E::Real>) -> Self {
        Self { isa, scale, state: ExpSum::EMPTY, limit: None }
    }

    /// Adds the classes `from..to` of a row.
    #[inline(always)]
    pub(crate) fn add_row(
        mut self,
        source: &Source<'_, E>,
        row: usize,
        from: usize,
        to: usize,
        buffer: &mut [E],
    ) -> ExpSum {
        let mut at = from;
        while at < to {
            let block = source.block(row, at, buffer);
            let block = &block[..block.len().min(to - at)];
            self.add_block(block);
            at += block.len();
        }
        self.state
    }

    /// Adds at most [`BLOCK`] scores; returns a bound of them from above (the largest, unless the block has +inf or NaN).
    #[inline(always)]
    pub(crate) fn add_block(&mut self, block: &[E]) -> f64 {
        debug_assert!(block.len() <= BLOCK);
        if self.limit.is_none() {
            let head = highest(self.isa, &block[..block.len().min(HEAD)]);
            self.rebase(if head > f64::NEG_INFINITY { head } else { highest(self.isa, block) });
        }
        let Some(limit) = self.limit else {
            self.add_without_terms(block);
            return f64::INFINITY;
        };
        let (sum, highest) = self.terms(block);
        if highest <= limit {
            self.state.sum += sum;
            return highest;
        }
        self.rebase(highest);
        if highest == f64::INFINITY {
            self.add_without_terms(block);
        } else {
            self.state.sum += self.terms(block).0;
        }
        highest
    }

    pub(crate) fn sum(&self) -> ExpSum {
        self.state
    }

    fn rebase(&mut self, highest: f64) {
        if highest.is_infinite() {
            return;
        }
        let temperature = self.scale.temperature;
        let (reference, shift) = base_for(highest, temperature);
        let sum = self.state.rebased(reference, shift, temperature);
        self.state = ExpSum { reference, shift, sum };
        self.limit = Some(highest + HEADROOM * temperature);
    }

    /// A block that holds nothing finite above -inf, or that holds +inf: only NaN and +inf matter.
    fn add_without_terms(&mut self, block: &[E]) {
        if block.iter().any(|score| score.to_real() != score.to_real()) {
            self.state.sum = f64::NAN;
        } else if block.iter().any(|score| score.to_f64() == f64::INFINITY) {
            self.state.sum += f64::INFINITY;
        }
    }

    /// As [`Self::add_block`], of scores that are computed with in their own type, the terms being stored too. They are
    /// rounded there, and the sum is theirs.
    #[inline(always)]
    pub(crate) fn add_block_to(&mut self, block: &[E], target: &mut [E]) {
        if self.limit.is_none() {
            let head = highest(self.isa, &block[..block.len().min(HEAD)]);
            self.rebase(if head > f64::NEG_INFINITY { head } else { highest(self.isa, block) });
        }
        let Some(limit) = self.limit else {
            target.fill(E::ZERO);
            return self.add_without_terms(block);
        };
        let (mut sum, highest) = self.stored_terms(block, target);
        if highest > limit {
            self.rebase(highest);
            if highest == f64::INFINITY {
                return self.add_without_terms(block);
            }
            sum = self.stored_terms(block, target).0;
        }
        self.state.sum += sum;
    }

    #[inline(always)]
    fn stored_terms(&self, block: &[E], target: &mut [E]) -> (f64, f64) {
        let lanes = E::Real::lanes(self.isa);
        let n = LanesOf::<I, E>::N;
        let scaled = Scaled::new(lanes, &self.scale, lanes.splat(Real::of_f64(self.state.reference)));
        let window = Window::new(lanes, self.state.shift);
        let mut highest = [lanes.splat(Real::of_f64(f64::NEG_INFINITY)); WAYS];
        let mut total = E::Real::wide_zero(self.isa);
        let zero = lanes.splat(E::Real::ZERO);
        for (block, target) in block.chunks(TURNS * WAYS * n).zip(target.chunks_mut(TURNS * WAYS * n)) {
            let mut sums = [zero; WAYS];
            let (mut groups, mut places) = (block.chunks_exact(WAYS * n), target.chunks_exact_mut(WAYS * n));
            for (group, place) in (&mut groups).zip(&mut places) {
                for way in 0..WAYS {
                    let x = E::load(self.isa, &group[way * n..(way + 1) * n]);
                    highest[way] = lanes.max(x, highest[way]);
                    let (z, low) = scaled.of(x);
                    let term = elementary::exp(lanes, z, low, &window);
                    E::store(self.isa, term, &mut place[way * n..(way + 1) * n]);
                    sums[way] = lanes.add(sums[way], term);
                }
            }
            let (rest, places) = (groups.remainder(), places.into_remainder());
            for (way, (vector, place)) in rest.chunks(n).zip(places.chunks_mut(n)).enumerate() {
                let x = E::load_or(self.isa, vector, E::NEG_INFINITY);
                highest[way] = lanes.max(x, highest[way]);
                let (z, low) = scaled.of(x);
                let term = elementary::exp(lanes, z, low, &window);
                E::store_part(self.isa, term, place);
                sums[way] = lanes.add(sums[way], term);
            }
            let met = lanes.add(lanes.add(sums[0], sums[1]), lanes.add(sums[2], sums[3]));
            total = E::Real::wide_add(self.isa, total, met);
        }
        let highest = lanes.max(lanes.max(highest[0], highest[1]), lanes.max(highest[2], highest[3]));
        (E::Real::wide_sum(self.isa, total), lanes.reduce_max(highest).into())
    }

    /// The sum of the terms of a block, and its largest score; NaN does not count in that.
    #[inline(always)]
    fn terms(&self, block: &[E]) -> (f64, f64) {
        let lanes = E::Real::lanes(self.isa);
        let n = LanesOf::<I, E>::N;
        let scaled = Scaled::new(lanes, &self.scale, lanes.splat(Real::of_f64(self.state.reference)));
        let window = Window::new(lanes, self.state.shift);
        let lowest = lanes.splat(Real::of_f64(f64::NEG_INFINITY));
        let mut highest = [lowest; WAYS];
        let mut total = E::Real::wide_zero(self.isa);
        macro_rules! add {
            ($x:expr, $way:expr, $terms:expr) => {{
                let x = $x;
                highest[$way] = lanes.max(x, highest[$way]);
                $terms[$way].add(lanes, &scaled, &window, x);
            }};
        }
        let mut strides = block.chunks_exact(TURNS * WAYS * n);
        for stride in &mut strides {
            let mut terms = [Terms::none(lanes); WAYS];
            for group in stride.chunks_exact(WAYS * n) {
                for way in 0..WAYS {
                    add!(E::load(self.isa, &group[way * n..(way + 1) * n]), way, terms);
                }
            }
            total = met::<I, E>(self.isa, total, &terms);
        }
        if !strides.remainder().is_empty() {
            let mut terms = [Terms::none(lanes); WAYS];
            let mut groups = strides.remainder().chunks_exact(WAYS * n);
            for group in &mut groups {
                for way in 0..WAYS {
                    add!(E::load(self.isa, &group[way * n..(way + 1) * n]), way, terms);
                }
            }
            let mut vectors = groups.remainder().chunks_exact(n);
            for vector in &mut vectors {
                add!(E::load(self.isa, vector), 1, terms);
            }
            if !vectors.remainder().is_empty() {
                add!(E::load_or(self.isa, vectors.remainder(), E::NEG_INFINITY), 0, terms);
            }
            total = met::<I, E>(self.isa, total, &terms);
        }
        let highest = lanes.max(lanes.max(highest[0], highest[1]), lanes.max(highest[2], highest[3]));
        (E::Real::wide_sum(self.isa, total), lanes.reduce_max(highest).into())
    }
}

/// A few terms added up: their powers of two, and what they are more than those.
#[derive(Clone, Copy)]
pub(crate) struct Terms<L: Lanes> {
    powers: L::V,
    tails: L::V,
}

impl<L: Lanes> Terms<L> {
    #[inline(always)]
    pub(crate) fn none(lanes: L) -> Self {
        let zero = lanes.splat(L::Scalar::ZERO);
        Self { powers: zero, tails: zero }
    }

    /// Adds the term of a score in each lane.
    #[inline(always)]
    pub(crate) fn add(&mut self, lanes: L, scaled: &Scaled<L>, window: &Window<L>, x: L::V) {
        let (z, low) = scaled.of(x);
        let (power, tail) = elementary::exp_in_two(lanes, z, low, window);
        self.powers = lanes.add(self.powers, power);
        self.tails = lanes.mul_add(tail, power, self.tails);
    }

    /// Adds these to sums.
    #[inline(always)]
    pub(crate) fn met<I: Isa>(self, isa: I, sums: WideOf<I, L::Scalar>) -> WideOf<I, L::Scalar>
    where
        L::Scalar: Real<Lanes<I> = L>,
    {
        L::Scalar::wide_add(isa, L::Scalar::wide_add(isa, sums, self.powers), self.tails)
    }
}

pub(crate) type WideOf<I, R> = <R as Real>::Wide<I>;

#[inline(always)]
fn met<I: Isa, E: Element>(
    isa: I,
    sums: WideOf<I, E::Real>,
    terms: &[Terms<LanesOf<I, E>>; WAYS],
) -> WideOf<I, E::Real> {
    let lanes = E::Real::lanes(isa);
    let [a, b, c, d] = terms;
    let powers = lanes.add(lanes.add(a.powers, b.powers), lanes.add(c.powers, d.powers));
    let tails = lanes.add(lanes.add(a.tails, b.tails), lanes.add(c.tails, d.tails));
    E::Real::wide_add(isa, E::Real::wide_add(isa, sums, powers), tails)
}

/// The largest of at most a block of scores, NaN left out; -inf of none.
#[inline(always)]
pub(crate) fn highest<I: Isa, E: Element>(isa: I, scores: &[E]) -> f64 {
    let lanes = E::Real::lanes(isa);
    let mut highest = [lanes.splat(Real::of_f64(f64::NEG_INFINITY)); 2];
    let mut vectors = scores.chunks_exact(LanesOf::<I, E>::N);
    let mut way = 0;
    for vector in &mut vectors {
        highest[way] = lanes.max(E::load(isa, vector), highest[way]);
        way ^= 1;
    }
    if !vectors.remainder().is_empty() {
        highest[0] = lanes.max(E::load_or(isa, vectors.remainder(), E::NEG_INFINITY), highest[0]);
    }
    lanes.reduce_max(lanes.max(highest[0], highest[1])).into()
}
