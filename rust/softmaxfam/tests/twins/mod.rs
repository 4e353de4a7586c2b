//! What the tests share: scores to try, layouts of memory, every instruction set.
#![allow(dead_code, reason = "each test file uses a part of it")]

use softmaxfam::{Element, Rows, RowsMut, isa};

/// Numbers from N(0, scale^2), the same at every run.
pub(crate) fn scores<E: Element>(count: usize, scale: f64) -> Vec<E> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let mut normal = || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    (0..count).map(|_| E::of_f64_once(scale * normal())).collect()
}

/// The length and the stride of one axis.
type Axis = [(usize, isize); 1];

/// A place in memory for each position of some rows.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) rows: usize,
    pub(crate) classes: usize,
    start: usize,
    length: usize,
    strides: (isize, isize),
}

/// Rows in line, rows apart, classes reversed, classes strided with rows adjacent and apart.
pub(crate) fn layouts(rows: usize, classes: usize) -> Vec<Layout> {
    let (r, c) = (rows as isize, classes as isize);
    let layout = |start: isize, length: isize, strides| Layout {
        rows,
        classes,
        start: start as usize,
        length: length as usize,
        strides,
    };
    vec![
        layout(0, r * c, (c, 1)),
        layout(0, r * (c + 3), (c + 3, 1)),
        layout(c - 1, r * c, (c, -1)),
        layout(0, r * c, (1, r)),
        layout(2, 3 * r * c, (3 * c, 3)),
    ]
}

impl Layout {
    fn place(&self, row: usize, class: usize) -> usize {
        (self.start as isize + row as isize * self.strides.0 + class as isize * self.strides.1) as usize
    }

    fn axes(&self) -> (Axis, Axis) {
        ([(self.rows, self.strides.0)], [(self.classes, self.strides.1)])
    }

    pub(crate) fn view<'a, E>(&self, memory: &'a [E]) -> Rows<'a, E> {
        let (batch, classes) = self.axes();
        Rows::strided(memory, self.start, &batch, &classes).unwrap()
    }

    pub(crate) fn view_mut<'a, E>(&self, memory: &'a mut [E]) -> RowsMut<'a, E> {
        let (batch, classes) = self.axes();
        RowsMut::strided(memory, self.start, &batch, &classes).unwrap()
    }

    /// Rows in line brought to their places; the places between hold NaN.
    pub(crate) fn scattered<E: Element>(&self, data: &[E]) -> Vec<E> {
        let mut memory = vec![E::NAN; self.length];
        for (at, value) in data.iter().enumerate() {
            memory[self.place(at / self.classes, at % self.classes)] = *value;
        }
        memory
    }

    /// Back in line.
    pub(crate) fn gathered<E: Element>(&self, memory: &[E]) -> Vec<E> {
        (0..self.rows * self.classes).map(|at| memory[self.place(at / self.classes, at % self.classes)]).collect()
    }
}

/// The result of `f` on each instruction set of this machine.
pub(crate) fn on_each_isa<R>(f: impl Fn() -> R) -> Vec<R> {
    isa::available().into_iter().map(|name| isa::forced(name, &f).expect("it is available")).collect()
}

pub(crate) fn close(got: f64, expected: f64, tolerance: f64, what: &str, layout: &Layout) {
    let equal = got == expected || (got.is_nan() && expected.is_nan()) || (got - expected).abs() <= tolerance;
    assert!(equal, "{what}: {got} is not {expected} to within {tolerance} ({layout:?})");
}

/// A sum that carries its rounding along (Kahan), for terms that are not negative.
pub(crate) fn carried_sum(terms: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut carry) = (0.0, 0.0);
    for term in terms {
        let corrected: f64 = term - carry;
        let next = sum + corrected;
        carry = (next - sum) - corrected;
        sum = next;
    }
    sum
}
