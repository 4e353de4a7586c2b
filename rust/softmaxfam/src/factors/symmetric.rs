//! Symmetric matrices in f64: eigenvectors by Jacobi's rotations, and Cholesky's factors in place.
//!
//! Jacobi (1846; Golub & Van Loan, 8.5): each rotation makes an off-diagonal pair 0; sweeps over all pairs end when what is off the
//! diagonal is below 2^-53 of the whole. Backward stable, and no eigenvalue needs another's; about 6 sweeps of 3 D^3 multiplications.
//! Cholesky works on the upper triangle, by rows: A = U^T U, so every inner loop runs along a row.

use crate::simd::{Isa, Kernel, Lanes};

/// Sweeps, at most: they converge quadratically.
const SWEEPS: usize = 40;

/// Eigenvalues and eigenvectors.
pub(super) struct Eigen {
    values: Vec<f64>,
    /// An eigenvector a row, padded with zeros.
    vectors: Vec<f64>,
    width: usize,
    pitch: usize,
}

impl Eigen {
    /// What finds those of a matrix, given row after row.
    pub(super) fn of(matrix: &[f64], width: usize, pitch: usize) -> impl Kernel<Output = Self> {
        Rotate { matrix, width, pitch }
    }

    /// x = B (k L + ridge)^-1 B^T b.
    #[inline(always)]
    pub(super) fn solve<I: Isa>(&self, isa: I, k: f64, ridge: f64, right: &[f64], solution: &mut [f64]) {
        let (lanes, pitch) = (isa.f64(), self.pitch);
        solution.fill(0.0);
        for index in 0..self.width {
            let vector = &self.vectors[index * pitch..(index + 1) * pitch];
            // eigenvalues of what is positive semidefinite, but for rounding
            let along = dot(lanes, vector, right) / (k * self.values[index].max(0.0) + ridge);
            axpy(lanes, along, vector, solution);
        }
    }
}

struct Rotate<'k> {
    matrix: &'k [f64],
    width: usize,
    pitch: usize,
}

impl Kernel for Rotate<'_> {
    type Output = Eigen;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Eigen {
        let lanes = isa.f64();
        let Self { matrix, width, pitch } = self;
        let (mut a, mut vectors) = (vec![0.0; width * pitch], vec![0.0; width * pitch]);
        for row in 0..width {
            a[row * pitch..][..width].copy_from_slice(&matrix[row * width..][..width]);
            vectors[row * pitch + row] = 1.0;
        }
        let whole = matrix.iter().map(|number| number * number).sum::<f64>();
        for _ in 0..SWEEPS {
            let mut off = 0.0;
            for p in 0..width {
                for q in p + 1..width {
                    off += a[p * pitch + q] * a[p * pitch + q];
                }
            }
            if off.is_nan() || off <= whole * f64::EPSILON * f64::EPSILON / 4.0 {
                break;
            }
            for p in 0..width {
                for q in p + 1..width {
                    let (pp, pq, qq) = (a[p * pitch + p], a[p * pitch + q], a[q * pitch + q]);
                    if pq == 0.0 {
                        continue;
                    }
                    // the smaller root of t^2 + 2 theta t - 1 = 0
                    let theta = (qq - pp) / (2.0 * pq);
                    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                    let c = 1.0 / (t * t + 1.0).sqrt();
                    let s = t * c;
                    // rows, then columns: what is symmetric stays so
                    rotate(lanes, &mut a, pitch, (p, q), c, s);
                    for row in 0..width {
                        let (x, y) = (a[row * pitch + p], a[row * pitch + q]);
                        a[row * pitch + p] = c * x - s * y;
                        a[row * pitch + q] = s * x + c * y;
                    }
                    a[p * pitch + q] = 0.0;
                    a[q * pitch + p] = 0.0;
                    rotate(lanes, &mut vectors, pitch, (p, q), c, s);
                }
            }
        }
        let values = (0..width).map(|index| a[index * pitch + index]).collect();
        Eigen { values, vectors, width, pitch }
    }
}

/// Turns two rows of a matrix.
#[inline(always)]
fn rotate<L: Lanes<Scalar = f64>>(lanes: L, matrix: &mut [f64], pitch: usize, (p, q): (usize, usize), c: f64, s: f64) {
    let (upper, lower) = matrix.split_at_mut(q * pitch);
    let (first, second) = (&mut upper[p * pitch..][..pitch], &mut lower[..pitch]);
    let (c, s) = (lanes.splat(c), lanes.splat(s));
    for (first, second) in first.as_chunks_mut::<8>().0.iter_mut().zip(second.as_chunks_mut::<8>().0) {
        let (x, y) = (lanes.load(first), lanes.load(second));
        lanes.store(lanes.neg_mul_add(s, y, lanes.mul(c, x)), first);
        lanes.store(lanes.mul_add(s, x, lanes.mul(c, y)), second);
    }
}

/// Solves A x = b for a positive definite A, given by its upper triangle, which is overwritten, as is b.
///
/// Vectors are padded with zeros; below the diagonal anything finite may stand.
#[inline(always)]
pub(super) fn solve<L: Lanes<Scalar = f64>>(
    lanes: L,
    a: &mut [f64],
    pitch: usize,
    width: usize,
    b: &mut [f64],
    x: &mut [f64],
) {
    x.fill(0.0);
    for k in 0..width {
        let (above, below) = a.split_at_mut((k + 1) * pitch);
        let row = &mut above[k * pitch..];
        let root = row[k].sqrt();
        let inverse = 1.0 / root;
        row[k..].iter_mut().for_each(|number| *number *= inverse);
        row[k] = root;
        for (at, other) in below.chunks_exact_mut(pitch).take(width - k - 1).enumerate() {
            let i = k + 1 + at;
            axpy(lanes, -row[i], &row[i / 8 * 8..], &mut other[i / 8 * 8..]);
        }
        // forward: y_k, of which the equations below are freed
        let y = b[k] * inverse;
        let from = (k + 1) / 8 * 8;
        if from < pitch {
            axpy(lanes, -y, &row[from..], &mut b[from..]);
        }
        b[k] = y;
    }
    for k in (0..width).rev() {
        let row = &a[k * pitch..(k + 1) * pitch];
        // of x all up to k are still 0
        let known = dot(lanes, &row[k / 8 * 8..], &x[k / 8 * 8..]);
        x[k] = (b[k] - known) / row[k];
    }
}

/// y += a x, of whole lanes.
#[inline(always)]
pub(super) fn axpy<L: Lanes<Scalar = f64>>(lanes: L, a: f64, x: &[f64], y: &mut [f64]) {
    let a = lanes.splat(a);
    for (x, y) in x.as_chunks::<8>().0.iter().zip(y.as_chunks_mut::<8>().0) {
        lanes.store(lanes.mul_add(a, lanes.load(x), lanes.load(y)), y);
    }
}

/// The inner product, of whole lanes.
#[inline(always)]
pub(super) fn dot<L: Lanes<Scalar = f64>>(lanes: L, x: &[f64], y: &[f64]) -> f64 {
    let mut sum = lanes.splat(0.0);
    for (x, y) in x.as_chunks::<8>().0.iter().zip(y.as_chunks::<8>().0) {
        sum = lanes.mul_add(lanes.load(x), lanes.load(y), sum);
    }
    lanes.reduce_add(sum)
}
