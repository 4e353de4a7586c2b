//! Queries as kernels read them: rows of whole lines, padded with zeros, each line on a cache line of its own.

use crate::rows::Rows;

/// 16 numbers of a query.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [f32; 16]);

/// 64 numbers of a query, in units of its scale.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Levels(pub(super) [i8; 64]);

impl Default for Levels {
    fn default() -> Self {
        Self([0; 64])
    }
}

/// Queries that kernels take together.
pub(super) const TOGETHER: usize = 4;

/// Some queries of one width, in groups of [`TOGETHER`]: the first lines of all in a group, then their second, and so on.
pub(super) struct Queries<L> {
    lines: Vec<L>,
    per_query: usize,
    count: usize,
    /// What the sums of each query start with.
    starts: Vec<[i32; 16]>,
    /// What integer sums are multiples of: for each group that of its first query four times, and so on.
    scales: Vec<[f32; 16]>,
}

impl<L: Copy + Default> Queries<L> {
    fn zeros(count: usize, per_query: usize) -> Self {
        let lines = vec![L::default(); count * per_query];
        Self {
            lines,
            per_query,
            count,
            starts: vec![[0; 16]; count],
            scales: vec![[1.0; 16]; count.div_ceil(TOGETHER)],
        }
    }

    /// The lines of one query, in order.
    fn places(&mut self, query: usize) -> impl Iterator<Item = &mut L> {
        let first = query / TOGETHER * TOGETHER;
        let together = TOGETHER.min(self.count - first);
        let group = &mut self.lines[first * self.per_query..(first + together) * self.per_query];
        group.iter_mut().skip(query - first).step_by(together)
    }

    /// The numbers of f32 that the lines of a query hold.
    pub(super) fn numbers(&self) -> usize {
        16 * self.per_query
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The lines of the `Q` queries of a group, side by side.
    #[inline(always)]
    pub(super) fn group<const Q: usize>(&self, first: usize) -> &[[L; Q]] {
        debug_assert!(first.is_multiple_of(TOGETHER) && Q == TOGETHER.min(self.count - first));
        self.lines[first * self.per_query..(first + Q) * self.per_query].as_chunks().0
    }

    #[inline(always)]
    pub(super) fn start(&self, query: usize) -> &[i32; 16] {
        &self.starts[query]
    }

    /// The scales of the group that starts at this query.
    #[inline(always)]
    pub(super) fn scales(&self, first: usize) -> &[f32; 16] {
        &self.scales[first / TOGETHER]
    }
}

impl Queries<Line> {
    /// The queries `from..from + count` of a view, in which a query is a row; in lines of 16 numbers in their order or, for
    /// bf16, of those at the even places of each 32, then those at the odd ones.
    pub(super) fn new(view: &Rows<'_, f32>, from: usize, count: usize, in_two: bool) -> Self {
        let width = view.classes();
        let per_query = if in_two { 2 * width.div_ceil(32) } else { width.div_ceil(16) };
        let mut queries = Self::zeros(count, per_query);
        let mut numbers = vec![0.0; 16 * per_query];
        for query in 0..count {
            view.copy_into(from + query, 0, &mut numbers[..width]);
            for (index, line) in queries.places(query).enumerate() {
                let number =
                    |lane: usize| if in_two { index / 2 * 32 + 2 * lane + index % 2 } else { 16 * index + lane };
                line.0 = std::array::from_fn(|lane| numbers[number(lane)]);
            }
        }
        queries
    }
}

impl Queries<Levels> {
    /// Each query rounded to 255 levels of its own scale, its largest number over 127. One that holds NaN or infinity has a scale
    /// of NaN.
    pub(super) fn in_levels(view: &Rows<'_, f32>, from: usize, count: usize) -> Self {
        let width = view.classes();
        let mut queries = Self::zeros(count, width.div_ceil(64));
        let mut numbers = vec![0.0; width];
        for query in 0..count {
            view.copy_into(from + query, 0, &mut numbers);
            let (scale, levels) = super::quantize::levels(&numbers);
            let of_group = &mut queries.scales[query / TOGETHER];
            of_group[query % TOGETHER * 4..][..4].fill(scale.unwrap_or(f32::NAN));
            for (line, levels) in queries.places(query).zip(levels.chunks(64)) {
                line.0[..levels.len()].copy_from_slice(levels);
            }
            queries.starts[query][0] = -128 * levels.iter().map(|&level| i32::from(level)).sum::<i32>();
        }
        queries
    }
}
