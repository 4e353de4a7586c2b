//! Factors of users and items by alternating least squares: each row is the exact minimum of a quadratic, given the other side.
//!
//! Problem. For a row with the interactions I, the other side's factors f_i, a symmetric C and a vector c of that whole side,
//!     x = (k C + ridge 1 + 2 w sum_I f f^T)^-1 ((1 + 2w) sum_I f - k c),
//! the user step of RG2 and RGx (Pu et al. 2024, 2025) with k = |I|, C = G/N (RGx: less c c^T), c the mean factor; and their item
//! step with k = 1. The side as a whole enters by its Gram matrix alone, so a row costs what its interactions cost.
//! Method. Without w one eigendecomposition C = B L B^T serves all rows: x = B (k L + ridge)^-1 B^T b, two products of a matrix and a
//! vector. With w each row has its own matrix, made in place and factored by Cholesky. All in f64, rounded once.
//! Order. Sums run over interactions as they are given, Gram matrices over chunks of 4096 rows in their order: the bits hang on
//! neither threads nor instructions.
//! Error. That of a backward stable solution in f64, cond 2^-52, beside the rounding of factors to f32.
//! Cost. nnz D additions and 2 D^2 multiplications a row; with w nnz D^2 / 2 and D^3 / 6 a row: `benches/factors.py`.

mod symmetric;

use crate::error::{Error, Result};
use crate::rows::{Chunks, Places, RowsMut};
use crate::simd::{Isa, Kernel, Lanes, Level, dispatch};
use crate::threads::{Job, for_each_piece};
use std::ops::Range;
use symmetric::{Eigen, axpy, dot, solve};

/// Rows whose Gram matrix is one sum.
const CHUNK: usize = 4096;
/// Rows that are solved between two looks at what is left.
const TOGETHER: usize = 16;
/// Nanoseconds of an addition of interactions, and of a multiplication and addition.
const ADDITION: f64 = 0.2;
const PRODUCT: f64 = 0.15;

/// Which columns each row has, in compressed sparse rows.
#[derive(Clone, Copy, Debug)]
pub struct Interactions<'a> {
    /// Where the columns of each row start, and where those of the last end.
    pub starts: &'a [i64],
    /// The columns of all rows, row after row.
    pub columns: &'a [i32],
}

/// The quadratic of a step, besides the interactions.
#[derive(Clone, Copy, Debug)]
pub struct Quadratic<'a> {
    /// C, row after row.
    pub matrix: &'a [f64],
    /// c.
    pub center: &'a [f64],
    /// What is added to the diagonal, > 0.
    pub ridge: f64,
    /// The weight w >= 0 of (score - 1)^2 at interactions.
    pub weight: f64,
    /// Whether k is the number of a row's interactions; else it is 1.
    pub counts: bool,
}

/// The rows that minimise their quadratics into `solved`, given the `factors` of the other side, of `width` numbers each.
///
/// Into `scores` go for each row the sum of its scores at interactions, and with a weight that of their squares.
pub fn solve_rows(
    interactions: Interactions<'_>,
    factors: &[f32],
    width: usize,
    quadratic: Quadratic<'_>,
    solved: &mut [f32],
    scores: &mut [f64],
    interrupt: Option<&(dyn Fn() -> bool + Sync)>,
) -> Result<()> {
    let fits = |what, given, needed| if given == needed { Ok(()) } else { Err(Error::Length { what, given, needed }) };
    if width == 0 {
        return Err(Error::Width { given: 0, needed: 1 });
    }
    let (count, columns) = (interactions.check(factors.len() / width)?, factors.len() / width);
    fits("the factors", factors.len(), columns * width)?;
    fits("the matrix", quadratic.matrix.len(), width * width)?;
    fits("the center", quadratic.center.len(), width)?;
    fits("solved", solved.len(), count * width)?;
    fits("scores", scores.len(), 2 * count)?;
    if !(quadratic.ridge > 0.0 && quadratic.ridge < f64::INFINITY) {
        return Err(Error::Ridge { given: quadratic.ridge });
    }
    let level = Level::active();
    let pitch = width.next_multiple_of(16);
    let eigen = (quadratic.weight == 0.0).then(|| dispatch(level, Eigen::of(quadratic.matrix, width, pitch)));
    let mean = interactions.columns.len() as f64 / count.max(1) as f64;
    let square = (width * width) as f64;
    let row_cost = mean * width as f64 * ADDITION
        + PRODUCT * if eigen.is_some() { 2.0 * square } else { square * (mean / 2.0 + width as f64 / 6.0) };
    let job = Job { rows: count.div_ceil(TOGETHER), row_cost: row_cost * TOGETHER as f64, together: 1, interrupt };
    let outputs = (
        Chunks::new(RowsMut::new(solved, count * width)?, TOGETHER * width),
        Chunks::new(RowsMut::new(scores, 2 * count)?, TOGETHER * 2),
    );
    for_each_piece(job, outputs, |parts, (mut solved, mut scores)| {
        let mut room = Room::new(pitch, eigen.is_none());
        for part in parts {
            let rows = part * TOGETHER..count.min((part + 1) * TOGETHER);
            let solved = solved.place(part, rows.start * width, rows.end * width, &mut []);
            let scores = scores.place(part, 2 * rows.start, 2 * rows.end, &mut []);
            let (eigen, room) = (eigen.as_ref(), &mut room);
            dispatch(
                level,
                Solve { interactions, factors, width, pitch, quadratic, eigen, rows, solved, scores, room },
            );
        }
        Ok(())
    })
}

impl<'a> Interactions<'a> {
    /// Checks them against the number of columns; returns that of rows.
    fn check(&self, columns: usize) -> Result<usize> {
        let count = self.starts.len().saturating_sub(1);
        let is_sound = self.starts.first() == Some(&0)
            && self.starts.last() == Some(&(self.columns.len() as i64))
            && self.starts.windows(2).all(|pair| pair[0] <= pair[1]);
        if !is_sound {
            return Err(Error::Starts { length: self.columns.len() });
        }
        match self.columns.iter().find(|&&column| usize::try_from(column).map_or(true, |column| column >= columns)) {
            Some(&given) => Err(Error::Class { given: given.into(), classes: columns }),
            None => Ok(count),
        }
    }

    fn row(&self, row: usize) -> &'a [i32] {
        &self.columns[self.starts[row] as usize..self.starts[row + 1] as usize]
    }
}

/// Vectors and, for rows with matrices of their own, a matrix.
struct Room {
    sum: Vec<f64>,
    right: Vec<f64>,
    solution: Vec<f64>,
    four: Vec<f64>,
    matrix: Vec<f64>,
}

impl Room {
    fn new(pitch: usize, has_matrix: bool) -> Self {
        let vector = || vec![0.0; pitch];
        let matrix = vec![0.0; if has_matrix { pitch * pitch } else { 0 }];
        Self { sum: vector(), right: vector(), solution: vector(), four: vec![0.0; 4 * pitch], matrix }
    }
}

/// Solves some rows.
struct Solve<'k> {
    interactions: Interactions<'k>,
    factors: &'k [f32],
    width: usize,
    pitch: usize,
    quadratic: Quadratic<'k>,
    eigen: Option<&'k Eigen>,
    rows: Range<usize>,
    solved: &'k mut [f32],
    scores: &'k mut [f64],
    room: &'k mut Room,
}

impl Kernel for Solve<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        for (at, row) in self.rows.clone().enumerate() {
            self.row(isa, at, row);
        }
    }
}

impl Solve<'_> {
    #[inline(always)]
    fn row<I: Isa>(&mut self, isa: I, at: usize, row: usize) {
        let lanes = isa.f64();
        let Self { interactions, factors, width, pitch, quadratic, .. } = *self;
        let factor = |column: i32| &factors[column as usize * width..][..width];
        let columns = interactions.row(row);
        let Room { sum, right, solution, four, matrix } = &mut *self.room;
        sum.fill(0.0);
        for (index, &column) in columns.iter().enumerate() {
            if let Some(&next) = columns.get(index + 8) {
                isa.prefetch(factor(next));
            }
            for (sum, numbers) in sum.as_chunks_mut::<16>().0.iter_mut().zip(factor(column).chunks(16)) {
                let halves = isa.widen(isa.f32().load_or(numbers, 0.0));
                for half in 0..2 {
                    let part = &mut sum[8 * half..8 * half + 8];
                    lanes.store(lanes.add(lanes.load(part), halves[half]), part);
                }
            }
        }
        let k = if quadratic.counts { columns.len() as f64 } else { 1.0 };
        let w = quadratic.weight;
        for number in 0..width {
            right[number] = (1.0 + 2.0 * w) * sum[number] - k * quadratic.center[number];
        }
        right[width..].fill(0.0);
        if let Some(eigen) = self.eigen {
            eigen.solve(isa, k, quadratic.ridge, right, solution);
        } else {
            for (place, given) in matrix.chunks_exact_mut(pitch).zip(quadratic.matrix.chunks_exact(width)) {
                place[..width].iter_mut().zip(given).for_each(|(place, given)| *place = k * given);
                place[width..].fill(0.0);
            }
            for number in 0..width {
                matrix[number * pitch + number] += quadratic.ridge;
            }
            for columns in columns.chunks(4) {
                four.fill(0.0);
                for (place, &column) in four.chunks_exact_mut(pitch).zip(columns) {
                    place.iter_mut().zip(factor(column)).for_each(|(place, &number)| *place = f64::from(number));
                }
                add_squares(lanes, four, 2.0 * w, pitch, width, matrix);
            }
            solve(lanes, matrix, pitch, width, right, solution);
        }
        let into = &mut self.solved[at * width..(at + 1) * width];
        for (into, number) in into.iter_mut().zip(&mut *solution) {
            *into = *number as f32;
            *number = f64::from(*into);
        }
        solution[width..].fill(0.0);
        self.scores[2 * at] = dot(lanes, solution, sum);
        self.scores[2 * at + 1] = 0.0;
        if w > 0.0 {
            for &column in columns {
                right.iter_mut().zip(factor(column)).for_each(|(place, &number)| *place = f64::from(number));
                right[width..].fill(0.0);
                let score = dot(lanes, solution, right);
                self.scores[2 * at + 1] += score * score;
            }
        }
    }
}

/// Adds to the upper triangle of a matrix the squares of four vectors, times a weight.
#[inline(always)]
fn add_squares<L: Lanes<Scalar = f64>>(
    lanes: L,
    four: &[f64],
    weight: f64,
    pitch: usize,
    width: usize,
    matrix: &mut [f64],
) {
    let (a, rest) = four.split_at(pitch);
    let (b, rest) = rest.split_at(pitch);
    let (c, d) = rest.split_at(pitch);
    for row in 0..width {
        let times = [a[row], b[row], c[row], d[row]].map(|number| lanes.splat(weight * number));
        for from in (row / 8 * 8..width).step_by(8) {
            let place = &mut matrix[row * pitch + from..][..8];
            let mut sum = lanes.load(place);
            for (times, numbers) in times.into_iter().zip([a, b, c, d]) {
                sum = lanes.mul_add(times, lanes.load(&numbers[from..from + 8]), sum);
            }
            lanes.store(sum, place);
        }
    }
}

/// sum_r k_r x_r x_r^T and sum_r k_r x_r of rows x_r, with k_r = 1 without `weights`: row after row, and a vector.
pub fn gram(
    rows: &[f32],
    width: usize,
    weights: Option<&[f64]>,
    interrupt: Option<&(dyn Fn() -> bool + Sync)>,
) -> Result<(Vec<f64>, Vec<f64>)> {
    if width == 0 {
        return Err(Error::Width { given: 0, needed: 1 });
    }
    let count = rows.len() / width;
    if let Some(weights) = weights.filter(|weights| weights.len() != count) {
        return Err(Error::Length { what: "weights", given: weights.len(), needed: count });
    }
    let (level, pitch) = (Level::active(), width.next_multiple_of(16));
    let chunks = count.div_ceil(CHUNK);
    let size = (pitch + 1) * pitch; // the matrix, then the vector
    let mut parts = vec![0.0; chunks * size];
    let row_cost = PRODUCT * (CHUNK * width * width) as f64;
    let job = Job { rows: chunks, row_cost, together: 1, interrupt };
    for_each_piece(job, RowsMut::new(&mut parts, size)?, |chunks, mut parts| {
        for chunk in chunks {
            let range = chunk * CHUNK..count.min((chunk + 1) * CHUNK);
            let (matrix, vector) = parts.place(chunk, 0, size, &mut []).split_at_mut(pitch * pitch);
            let (rows, weights) =
                (&rows[range.start * width..range.end * width], weights.map(|all| &all[range.clone()]));
            dispatch(level, Squares { rows, weights, width, pitch, matrix, vector });
        }
        Ok(())
    })?;
    let (mut matrix, mut vector) = (vec![0.0; width * width], vec![0.0; width]);
    for part in parts.chunks_exact(size) {
        for row in 0..width {
            for column in row..width {
                matrix[row * width + column] += part[row * pitch + column];
            }
            vector[row] += part[pitch * pitch + row];
        }
    }
    for row in 0..width {
        for column in 0..row {
            matrix[row * width + column] = matrix[column * width + row];
        }
    }
    Ok((matrix, vector))
}

/// Adds the weighted squares of rows, and the rows.
struct Squares<'k> {
    rows: &'k [f32],
    weights: Option<&'k [f64]>,
    width: usize,
    pitch: usize,
    matrix: &'k mut [f64],
    vector: &'k mut [f64],
}

impl Kernel for Squares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let lanes = isa.f64();
        let Self { rows, weights, width, pitch, matrix, vector } = self;
        let mut four = vec![0.0; 4 * pitch];
        for (group, rows) in rows.chunks(4 * width).enumerate() {
            four.fill(0.0);
            for (row, (place, numbers)) in four.chunks_exact_mut(pitch).zip(rows.chunks_exact(width)).enumerate() {
                let weight = weights.map_or(1.0, |weights| weights[4 * group + row]);
                place.iter_mut().zip(numbers).for_each(|(place, &number)| *place = f64::from(number));
                axpy(lanes, weight, place, vector);
                // the square of the root: of a weight that is a count
                let root = weight.sqrt();
                place.iter_mut().for_each(|place| *place *= root);
            }
            add_squares(lanes, &four, 1.0, pitch, width, matrix);
        }
    }
}

#[cfg(test)]
mod tests;
