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
//! Sums. A term is 2^n (1 + t): the powers and the 2^n t are added apart, 8 a lane in the element's real type, 4 such
//! sums together, then in f64, so that the rounding of the sum is that of its smaller part. The order is fixed by the positions in
//! the chunk, hence the same on every instruction set; chunks of [`CHUNK`] classes are summed apart and met in their order.
//! Temperature. x / T is formed as a sum of two numbers, by 1/T in two parts and a fused multiply-add: it costs no digit.
//! Error. relative, of the sum: below 0.4 eps in the real type in all tests against 50-digit values.
//! Cost. One read of the row and 16 operations a vector: about the speed of a maximum from memory.

use crate::elementary::{self, Window};
use crate::options::PerRow;
use crate::rows::{BLOCK, Source};
use crate::simd::{Element, Isa, Lanes, LanesOf, Real, Visitor};

/// A row longer than this is cut into chunks of this many classes, which threads share: 1 MiB of f32.
pub(crate) const CHUNK: usize = 1 << 18;

/// The first shift is that of the largest among so many scores.
const HEAD: usize = 256;
/// Scores (over T) up to this size are used unchanged: n ln 2 is then exact to far more digits than needed.
pub(crate) const FAR: f64 = 4096.0;
/// A term may exceed the one that gave the shift by e^60, 2^87: 4,096 such terms stay below 2^127.
pub(crate) const HEADROOM: f64 = 60.0;
/// Vectors that are added in the real type, and the sums of them that are added before f64 takes over.
pub(crate) const TURNS: usize = 8;
const WAYS: usize = 4;

/// The most rows whose shifts are chosen before the first is added: each step of a row waits for the one before, rows do
/// not wait for each other.
pub(crate) const ROWS_THAT_BEGIN: usize = 8;

/// Scores that are looked at before the first is added; of more, the hardware no longer sees that they are read in order.
const AHEAD: usize = 1024;

/// How many rows in place begin together.
pub(crate) fn rows_that_begin_together(classes: usize) -> usize {
    (AHEAD / classes.max(1)).clamp(1, ROWS_THAT_BEGIN)
}

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
    let rounded: R = R::of_f64(inverse.min(R::MAX.into()));
    // by 0 the score of an absent class would become NaN
    let high = if rounded.into() == 0.0 { R::of_f64(f32::from_bits(1).into()) } else { rounded };
    // what 1/T lost by rounding, then what the high part lost
    let low = (-temperature).mul_add(inverse, 1.0) / temperature + (inverse - high.into());
    let sound = high.into() < R::MAX.into() && low.is_finite();
    [high, R::of_f64(if sound { low } else { 0.0 })]
}

/// What scores are exponents of, as the sum of a value and, maybe, a small correction.
pub(crate) trait Exponents<L: Lanes>: Copy {
    fn of(&self, x: L::V) -> (L::V, Option<L::V>);
}

/// The scores themselves: T = 1 and no reference.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

impl<L: Lanes> Exponents<L> for Plain {
    #[inline(always)]
    fn of(&self, x: L::V) -> (L::V, Option<L::V>) {
        (x, None)
    }
}

/// (x - reference) / T, for all lanes or for each.
#[derive(Clone, Copy)]
pub(crate) struct Scaled<L: Lanes> {
    lanes: L,
    reference: L::V,
    inverse: [L::V; 2],
}

impl<L: Lanes> Exponents<L> for Scaled<L> {
    #[inline(always)]
    fn of(&self, x: L::V) -> (L::V, Option<L::V>) {
        let (lanes, [high, low]) = (self.lanes, self.inverse);
        let difference = lanes.sub(x, self.reference);
        let z = lanes.mul(difference, high);
        let lost = lanes.neg_mul_add(difference, high, z); // z minus the exact product
        let correction = lanes.sub(lanes.mul(difference, low), lost);
        // an infinite score has no correction: the NaN of inf - inf gives way; nor has one so far off that it rounds by more
        // than an exponent has room for
        let one = |value| lanes.splat(L::Scalar::of_f64(value));
        (z, Some(lanes.min(lanes.max(correction, one(-1.0)), one(1.0))))
    }
}

/// For few vectors: the choice is made for each.
impl<L: Lanes> Exponents<L> for Option<Scaled<L>> {
    #[inline(always)]
    fn of(&self, x: L::V) -> (L::V, Option<L::V>) {
        match self {
            None => Exponents::<L>::of(&Plain, x),
            Some(scaled) => scaled.of(x),
        }
    }
}

impl<L: Lanes> Scaled<L> {
    /// None where [`Plain`] says the same.
    #[inline(always)]
    pub(crate) fn new(lanes: L, scale: &Scale<L::Scalar>, reference: f64) -> Option<Self> {
        if scale.inverse.is_none() && reference == 0.0 {
            return None;
        }
        let [high, low] = scale.inverse.unwrap_or_else(|| inverse_in_two(1.0));
        let reference = lanes.splat(Real::of_f64(reference));
        Some(Self { lanes, reference, inverse: [lanes.splat(high), lanes.splat(low)] })
    }

    /// With the temperatures of at most N rows from `first` on, a row in each lane, and a reference each.
    #[inline(always)]
    pub(crate) fn of_rows(lanes: L, temperature: &PerRow<'_>, first: usize, references: &[f64]) -> Option<Self> {
        let count = references.len();
        let of_row = |lane| temperature.of(first + lane);
        let is_one = matches!(temperature, PerRow::Same(1.0));
        if (0..count).all(|lane| (is_one || of_row(lane) == 1.0) && references[lane] == 0.0) {
            return None;
        }
        let reference = spread(lanes, count, |lane| references[lane]);
        let part = |lane, part: usize| inverse_in_two::<L::Scalar>(of_row(lane))[part].into();
        let high = spread(lanes, count, |lane| part(lane, 0));
        let low = spread(lanes, count, |lane| part(lane, 1));
        Some(Self { lanes, reference, inverse: [high, low] })
    }
}

/// A call with `$exponents` being [`Plain`] or the [`Scaled`] given: each has code of its own, for a choice in the loop
/// over vectors would cost more than the exponential.
macro_rules! with_exponents {
    ($scaled:expr, $exponents:ident => $call:expr) => {
        match $scaled {
            None => {
                let $exponents = &$crate::maps::expsum::Plain;
                $call
            }
            Some($exponents) => $call,
        }
    };
}
pub(crate) use with_exponents;

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
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ExpSum {
    pub(crate) reference: f64,
    pub(crate) shift: f64,
    pub(crate) sum: f64,
}

impl ExpSum {
    pub(crate) const EMPTY: Self = Self { reference: 0.0, shift: 0.0, sum: 0.0 };

    /// This sum under another reference and shift.
    #[inline(always)]
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
#[derive(Clone, Copy)]
pub(crate) struct Adder<I: Isa, R: Real> {
    isa: I,
    scale: Scale<R>,
    state: ExpSum,
    limit: Option<f64>, // scores above it need a new shift; none before the first finite score
}

/// An [`Adder`] between two blocks.
#[derive(Clone, Copy)]
pub(crate) struct Paused {
    pub(crate) state: ExpSum,
    limit: Option<f64>,
}

impl Paused {
    pub(crate) const START: Self = Self { state: ExpSum::EMPTY, limit: None };
}

impl<I: Isa, R: Real> Adder<I, R> {
    #[inline(always)]
    pub(crate) fn new(isa: I, scale: Scale<R>) -> Self {
        Self { isa, scale, state: ExpSum::EMPTY, limit: None }
    }

    /// Adds the classes `from..to` of a row.
    #[inline(always)]
    pub(crate) fn add_row(
        mut self,
        source: &Source<'_, R>,
        row: usize,
        from: usize,
        to: usize,
        buffer: &mut [R],
    ) -> ExpSum {
        let mut at = from;
        while at < to {
            let end = to.min(at + BLOCK);
            source.visit(row, at, end, buffer, AddBlock(&mut self));
            at = end;
        }
        self.state
    }

    /// Chooses the shift by the first scores, unless that was done; adding them does it too.
    #[inline(always)]
    pub(crate) fn begin<E: Element<Real = R>>(&mut self, block: &[E]) {
        if self.limit.is_none() {
            let head = highest(self.isa, &block[..block.len().min(HEAD)]);
            self.rebase(if head > f64::NEG_INFINITY { head } else { highest(self.isa, block) });
        }
    }

    /// Adds at most [`BLOCK`] scores; returns a bound of them from above (the largest, unless the block has +inf or NaN).
    #[inline(always)]
    pub(crate) fn add_block<E: Element<Real = R>>(&mut self, block: &[E]) -> f64 {
        debug_assert!(block.len() <= BLOCK);
        self.begin(block);
        while let Some(limit) = self.limit {
            let scaled = Scaled::new(R::lanes(self.isa), &self.scale, self.state.reference);
            let (sum, highest) = with_exponents!(&scaled, exponents => self.terms(block, exponents));
            if highest <= limit {
                self.state.sum += sum;
                return highest;
            }
            self.rebase(highest);
            if highest == f64::INFINITY {
                break;
            }
        }
        self.add_without_terms(block);
        f64::INFINITY
    }

    pub(crate) fn sum(&self) -> ExpSum {
        self.state
    }

    /// Goes on where another left off.
    #[inline(always)]
    pub(crate) fn resumed(isa: I, scale: Scale<R>, paused: Paused) -> Self {
        Self { isa, scale, state: paused.state, limit: paused.limit }
    }

    #[inline(always)]
    pub(crate) fn paused(&self) -> Paused {
        Paused { state: self.state, limit: self.limit }
    }

    #[inline(always)]
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
    fn add_without_terms<E: Element<Real = R>>(&mut self, block: &[E]) {
        if block.iter().any(|score| score.to_f64().is_nan()) {
            self.state.sum = f64::NAN;
        } else if block.iter().any(|score| score.to_f64() == f64::INFINITY) {
            self.state.sum += f64::INFINITY;
        }
    }

    /// As [`Self::add_block`], of scores that are computed with in their own type, the terms being stored too. They are
    /// rounded there, and the sum is theirs.
    #[inline(always)]
    pub(crate) fn add_block_to(&mut self, block: &[R], target: &mut [R]) {
        self.begin(block);
        while let Some(limit) = self.limit {
            let scaled = Scaled::new(R::lanes(self.isa), &self.scale, self.state.reference);
            let (sum, highest) = with_exponents!(&scaled, exponents => self.stored_terms(block, target, exponents));
            if highest <= limit {
                self.state.sum += sum;
                return;
            }
            self.rebase(highest);
            if highest == f64::INFINITY {
                return self.add_without_terms(block);
            }
        }
        target.fill(R::ZERO);
        self.add_without_terms(block);
    }

    /// The sum of the terms of a block, which go to `target`, and its largest score; NaN does not count in that.
    #[inline(always)]
    fn stored_terms<X: Exponents<LanesOf<I, R>>>(&self, block: &[R], target: &mut [R], exponents: &X) -> (f64, f64) {
        let (lanes, n) = (R::lanes(self.isa), LanesOf::<I, R>::N);
        let window = Window::new(lanes, self.state.shift);
        let mut highest = lanes.splat(Real::of_f64(f64::NEG_INFINITY));
        let mut total = R::wide_zero(self.isa);
        macro_rules! store {
            ($x:expr, $store:ident, $place:expr, $sum:ident) => {{
                let x = $x;
                highest = lanes.max(x, highest);
                let (z, low) = exponents.of(x);
                let term = elementary::exp(lanes, z, low, &window);
                R::$store(self.isa, term, $place);
                $sum = lanes.add($sum, term);
            }};
        }
        for (group, target) in block.chunks(TURNS * WAYS * n).zip(target.chunks_mut(TURNS * WAYS * n)) {
            let mut met = lanes.splat(R::ZERO);
            for (run, target) in group.chunks(TURNS * n).zip(target.chunks_mut(TURNS * n)) {
                let mut sum = lanes.splat(R::ZERO);
                let (mut vectors, mut places) = (run.chunks_exact(n), target.chunks_exact_mut(n));
                for (vector, place) in (&mut vectors).zip(&mut places) {
                    store!(R::load(self.isa, vector), store, place, sum);
                }
                if !vectors.remainder().is_empty() {
                    let x = R::load_or(self.isa, vectors.remainder(), R::NEG_INFINITY);
                    store!(x, store_part, places.into_remainder(), sum);
                }
                met = lanes.add(met, sum);
            }
            total = R::wide_add(self.isa, total, met);
        }
        (R::wide_sum(self.isa, total), lanes.reduce_max(highest).into())
    }

    /// The sum of the terms of a block, and its largest score; NaN does not count in that.
    #[inline(always)]
    fn terms<E: Element<Real = R>, X: Exponents<LanesOf<I, R>>>(&self, block: &[E], exponents: &X) -> (f64, f64) {
        let (lanes, n) = (R::lanes(self.isa), LanesOf::<I, R>::N);
        let window = Window::new(lanes, self.state.shift);
        let mut highest = lanes.splat(Real::of_f64(f64::NEG_INFINITY));
        let mut total = R::wide_zero(self.isa);
        for group in block.chunks(TURNS * WAYS * n) {
            let mut met = Terms::none(lanes);
            for run in group.chunks(TURNS * n) {
                let mut terms = Terms::none(lanes);
                let mut vectors = run.chunks_exact(n);
                for vector in &mut vectors {
                    let x = E::load(self.isa, vector);
                    highest = lanes.max(x, highest);
                    terms.add(lanes, exponents, &window, x);
                }
                if !vectors.remainder().is_empty() {
                    let x = E::load_or(self.isa, vectors.remainder(), E::NEG_INFINITY);
                    highest = lanes.max(x, highest);
                    terms.add(lanes, exponents, &window, x);
                }
                met.join(lanes, &terms);
            }
            total = met.met(self.isa, total);
        }
        (R::wide_sum(self.isa, total), lanes.reduce_max(highest).into())
    }
}

/// [`Adder::add_block`] of scores as they are stored.
struct AddBlock<'k, I: Isa, R: Real>(&'k mut Adder<I, R>);

impl<I: Isa, R: Real> Visitor<R> for AddBlock<'_, I, R> {
    type Output = f64;

    #[inline(always)]
    fn visit<E: Element<Real = R>>(self, block: &[E]) -> f64 {
        self.0.add_block(block)
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
    pub(crate) fn add<X: Exponents<L>>(&mut self, lanes: L, exponents: &X, window: &Window<L>, x: L::V) {
        let (z, low) = exponents.of(x);
        let (power, tail) = elementary::exp_in_two(lanes, z, low, window);
        self.powers = lanes.add(self.powers, power);
        self.tails = lanes.mul_add(tail, power, self.tails);
    }

    /// Adds others.
    #[inline(always)]
    pub(crate) fn join(&mut self, lanes: L, others: &Self) {
        self.powers = lanes.add(self.powers, others.powers);
        self.tails = lanes.add(self.tails, others.tails);
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
