//! Losses of scores h W^T + b with the gradients of h, W and b, without the matrix of all scores.
//!
//! Problem. Scores of B queries and V classes are B V numbers, and their gradient as many again: at 1024 x 131072 a GiB, beside
//! factors of some 100 MiB.
//! Method. A block of queries at a time, so many that their scores fit in [`KEPT`] bytes: their scores by the head, the loss by
//! the scores' own code, with all its options, and then three products of the gradient, which stays in cache by tiles of
//! classes: with W it adds to the gradient of h, with h to that of W. Nothing is computed twice: 6 B V D operations in all,
//! as many as with the whole matrix. Of losses with sparse gradients only the classes in a row's support are multiplied: 2 B V D
//! operations and the reading of few rows, and the gradient of W has those rows alone.
//! Order. The gradient of a class row is one chain of fused multiply-adds over the queries in their order; that of a query is
//! such a chain over the classes of a band, and bands meet in f64 in their order. A class outside the support adds 0. So
//! the bits hang on neither blocks, tiles, threads, nor on whether gradients came as lists.
//! Error. To first order n 2^-24 sum |g_n x_n| for n terms in a chain.
//! Cost. `benches/linear.py`: 0.6 to 0.8 of the time of all scores at once by torch and MKL, 0.3 for entmax.

use super::target::{OfRow, Target, Wanted};
use super::{Loss, LossOptions, computed};
use crate::error::{Error, Result};
use crate::heads::products::{AddByRow, AddByTerm, AddRows, Panels, TOGETHER};
use crate::heads::{Ask, LinearHead, Weights};
use crate::maps::entmax::Entries;
use crate::options::{Options, PerRow};
use crate::rows::{Chunks, Places, Results, Rows, RowsMut, Source, random_access};
use crate::simd::{Level, dispatch};
use crate::threads::{Job, for_each_piece};
use std::borrow::Cow;
use std::ops::Range;

/// Memory for scores.
const KEPT: usize = 54 << 20;
/// Queries of a block, at most: as many as the head serves in one pass.
const BLOCK: usize = 126;
/// Numbers of class rows that stay in the second cache beside the gradients that they meet.
const TILE: usize = 1 << 15;
/// Bands of classes, at most, and the classes that one has at least.
const BANDS: usize = 64;
const SHORTEST: usize = 512;
/// Gradients count as sparse where less than this part of the classes has one.
const SPARSE: usize = 16;
/// Bytes of lists that may wait, however small the matrix is.
const LONG: usize = 4 << 20;
/// Nanoseconds of a multiplication and addition of products, and of rows that are listed.
const PRODUCT: f64 = 0.01;
const LISTED: f64 = 0.1;
/// And of a loss, for each score.
const SCORE: f64 = 0.5;

/// Scores as the product of queries and class rows, not multiplied out: h W^T + b.
#[derive(Clone, Copy)]
pub struct LinearScores<'a> {
    /// A row for each query.
    pub queries: &'a Rows<'a, f32>,
    /// A row for each class, as long.
    pub weight: &'a Rows<'a, f32>,
    /// A number for each class.
    pub bias: Option<&'a [f32]>,
}

/// Where the gradients that are wanted go: each to contiguous memory that holds zeros.
#[derive(Default)]
pub struct LinearGradients<'a> {
    /// Of the queries: as many rows, as long.
    pub queries: Option<RowsMut<'a, f32>>,
    /// Of the class rows.
    pub weight: WeightGradient<'a>,
    /// Of the bias: a number for each class, in one row.
    pub bias: Option<RowsMut<'a, f32>>,
}

/// Where the gradient of the class rows goes.
#[derive(Default)]
pub enum WeightGradient<'a> {
    /// Nowhere.
    #[default]
    Nothing,
    /// As many rows as there are classes, as long.
    Dense(RowsMut<'a, f32>),
    /// The rows that are not 0, to what is empty.
    Rows(&'a mut IndexedRows),
}

/// Some rows of a matrix; all others are 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IndexedRows {
    /// Which rows, ascending.
    pub indices: Vec<i64>,
    /// Their numbers, row after row.
    pub values: Vec<f32>,
}

/// The loss of each query into `losses`, and the gradients of the sum or the mean that `how` asks for, which is returned.
///
/// As [`super::loss`] of the scores; all views must have their rows along one axis. Of a loss whose gradient is sparse, targets
/// in classes and no smoothing spare the time of classes outside the support.
///
/// ```
/// use softmaxfam::losses::{LinearGradients, LinearScores, linear_loss};
/// use softmaxfam::{Loss, LossOptions, Options, Rows, RowsMut, Target};
/// let (queries, weight) = (Rows::new(&[1.0_f32, 0.0], 2)?, Rows::new(&[2.0_f32, 0.0, 0.0, 1.0], 2)?);
/// let scores = LinearScores { queries: &queries, weight: &weight, bias: None };
/// let target = Rows::new(&[1], 1)?;
/// let (mut losses, mut gradient) = ([0.0; 1], [0.0; 2]);
/// let gradients = LinearGradients { queries: Some(RowsMut::new(&mut gradient, 2)?), ..Default::default() };
/// let (options, how) = (Options::default(), LossOptions::default());
/// let mean = linear_loss(Loss::Entmax(2.0.into()), scores, Target::Classes(&target), &options, &how, &mut losses, gradients)?;
/// assert_eq!((mean, gradient), (2.0, [2.0, -1.0]));
/// # Ok::<(), softmaxfam::Error>(())
/// ```
pub fn linear_loss(
    loss: Loss<'_>,
    scores: LinearScores<'_>,
    target: Target<'_, f32>,
    options: &Options<'_>,
    how: &LossOptions<'_>,
    losses: &mut [f64],
    gradients: LinearGradients<'_>,
) -> Result<f64> {
    let LinearScores { queries, weight, bias } = scores;
    let (count, classes) = (queries.rows(), weight.rows());
    let mut head = LinearHead::new(Weights::F32(weight.clone()))?;
    if let Some(bias) = bias {
        head = head.bias(bias)?;
    }
    if queries.classes() != weight.classes() {
        return Err(Error::Width { given: queries.classes(), needed: weight.classes() });
    }
    if losses.len() != count {
        return Err(Error::Shape { what: "losses", given: (losses.len(), 1), needed: (count, 1) });
    }
    options.check_shape(count, classes)?;
    let wanted = Wanted::new((count, classes), target, how)?;
    loss.check(count, &wanted)?;
    let share = wanted.share();
    let is_listed = loss.has_sparse_gradient(count) && wanted.is_of_classes();
    let mut backward = Backward::new(scores, gradients, options.interrupt)?;
    let ask = options.interrupt.map_or(Ask::default(), |interrupt| Ask::default().interrupt(interrupt));
    let pitch = classes.next_multiple_of(16) + 16; // so that rows do not share places of the caches
    let most = (KEPT / (size_of::<f32>() * pitch)).clamp(1, BLOCK);
    let length = count.div_ceil(count.div_ceil(most).max(1));
    let mut kept = random_access(length * pitch);
    let mut wants = if !backward.is_asked_for() {
        Wants::Nothing
    } else if is_listed {
        Wants::Lists
    } else {
        Wants::Rows
    };
    let mut from = 0;
    while from < count {
        // how long lists are, the first few rows tell
        let length = if is_listed && from == 0 { length.min(TOGETHER) } else { length };
        let rows = from..count.min(from + length);
        let along = (&[(rows.len(), pitch as isize)], &[(classes, 1)]);
        head.logits(&queries.part(rows.clone())?, &ask, &mut RowsMut::strided(&mut kept, 0, along.0, along.1)?)?;
        let outputs = RowsMut::strided(&mut kept, 0, along.0, along.1)?;
        let each = Each { loss, options, wanted: wanted.starting_at(from), first: from, wants };
        let lists = each.row(outputs, &mut losses[rows.clone()])?;
        match wants {
            Wants::Nothing => {}
            Wants::Rows => {
                let counts = |row| !matches!(wanted.of(from + row), OfRow::Nothing);
                backward.add(rows.clone(), counts, &kept, pitch)?;
            }
            Wants::Lists => {
                if lists.iter().map(Vec::len).sum::<usize>() > rows.len() * classes / SPARSE {
                    wants = Wants::Rows;
                }
                backward.add_lists(from, &lists)?;
            }
        }
        from = rows.end;
    }
    backward.finish()?;
    Ok(share * losses.iter().sum::<f64>())
}

/// In which form gradients of scores are wanted.
#[derive(Clone, Copy, PartialEq)]
enum Wants {
    Nothing,
    /// In place of the scores.
    Rows,
    /// As lists of what is not 0.
    Lists,
}

/// The losses of some queries, row by row.
struct Each<'a> {
    loss: Loss<'a>,
    options: &'a Options<'a>,
    wanted: Wanted<'a>,
    /// The query of the first row.
    first: usize,
    wants: Wants,
}

impl Each<'_> {
    /// Computes the losses of these scores, and their gradients in place of the scores or as lists.
    fn row(&self, scores: RowsMut<'_, f32>, losses: &mut [f64]) -> Result<Vec<Entries>> {
        let (count, classes) = (scores.rows(), scores.classes());
        let mut lists = vec![Entries::new(); if self.wants == Wants::Lists { count } else { 0 }];
        let into_lists = (!lists.is_empty()).then(|| RowsMut::from_rows(&mut lists));
        let job = Job { rows: count, row_cost: SCORE * classes as f64, together: 1, interrupt: self.options.interrupt };
        for_each_piece(
            job,
            (scores, RowsMut::from_rows(losses), into_lists),
            |rows, (mut scores, mut losses, mut lists)| {
                let mut gradient = vec![0.0; if self.wants == Wants::Rows { classes } else { 0 }];
                for row in rows {
                    let scores = scores.place(row, 0, classes, &mut []);
                    let (mut loss, mut list) = ([0.0], [Entries::new()]);
                    let mut dense = RowsMut::new(&mut gradient, if self.wants == Wants::Rows { classes } else { 0 })?;
                    let dense = (self.wants == Wants::Rows).then(|| Results::new(&mut dense));
                    let sparse = (self.wants == Wants::Lists).then(|| RowsMut::from_rows(&mut list));
                    self.of(row, scores, &mut loss, dense, sparse)?;
                    losses.set(row, 0, loss[0]);
                    if let Some(lists) = &mut lists {
                        let [list] = list;
                        lists.set(row, 0, list);
                    } else if self.wants == Wants::Rows {
                        scores.copy_from_slice(&gradient);
                    }
                }
                Ok(())
            },
        )?;
        Ok(lists)
    }

    fn of(
        &self,
        row: usize,
        scores: &[f32],
        loss: &mut [f64],
        dense: Option<Results<'_, f32>>,
        sparse: Option<RowsMut<'_, Entries>>,
    ) -> Result<f64> {
        let query = self.first + row;
        let same = |parameter: PerRow<'_>| PerRow::Same(parameter.of(query));
        let kind = match self.loss {
            Loss::Entmax(order) => Loss::Entmax(same(order)),
            Loss::Normmax(order) => Loss::Normmax(same(order)),
            Loss::CrossEntropy => Loss::CrossEntropy,
            Loss::Rankmax { margin } => Loss::Rankmax { margin },
        };
        let mask = self.options.mask.map(|mask| mask.part(query..query + 1)).transpose()?;
        let options = Options { temperature: same(self.options.temperature), mask: mask.as_ref(), ..*self.options };
        let scores = Rows::new(scores, scores.len())?;
        computed(kind, Source::new(&scores, options.mask), &self.wanted.starting_at(row), &options, loss, dense, sparse)
    }
}

impl Loss<'_> {
    /// Whether few classes of most rows have a gradient.
    fn has_sparse_gradient(&self, rows: usize) -> bool {
        match self {
            Self::Entmax(order) => (0..rows).all(|row| order.of(row) > 1.0),
            Self::Normmax(_) | Self::Rankmax { .. } => true,
            Self::CrossEntropy => false,
        }
    }
}

/// Brings gradients of scores to what the scores are made of.
struct Backward<'a> {
    level: Level,
    weight: &'a Rows<'a, f32>,
    /// All queries, row after row.
    queries: Cow<'a, [f32]>,
    of_queries: Option<&'a mut [f32]>,
    of_weight: OfWeight<'a>,
    of_bias: Option<&'a mut [f32]>,
    /// Gradients of scores that were not yet brought to class rows.
    waiting: Vec<Waiting>,
    interrupt: Option<&'a (dyn Fn() -> bool + Sync)>,
}

/// Where the gradient of the class rows is summed.
enum OfWeight<'a> {
    Nowhere,
    /// In the caller's matrix.
    Given(&'a mut [f32]),
    /// In a matrix that is empty until it is needed, or at the end, for these rows.
    Own(Vec<f32>, &'a mut IndexedRows),
}

/// The gradient of a score.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Waiting {
    class: u32,
    query: u32,
    gradient: f32,
}

impl<'a> Backward<'a> {
    fn new(
        scores: LinearScores<'a>,
        gradients: LinearGradients<'a>,
        interrupt: Option<&'a (dyn Fn() -> bool + Sync)>,
    ) -> Result<Self> {
        let LinearScores { queries, weight, .. } = scores;
        let (count, classes, width) = (queries.rows(), weight.rows(), weight.classes());
        let of = |what, to: RowsMut<'a, f32>, rows, classes| {
            to.expect(what, rows, classes)?;
            to.into_line().ok_or(Error::Contiguous { what })
        };
        let of_queries = gradients.queries.map(|to| of("the gradient of the queries", to, count, width)).transpose()?;
        let of_bias = gradients.bias.map(|to| of("the gradient of the bias", to, 1, classes)).transpose()?;
        let of_weight = match gradients.weight {
            WeightGradient::Nothing => OfWeight::Nowhere,
            WeightGradient::Dense(to) => OfWeight::Given(of("the gradient of the weight", to, classes, width)?),
            WeightGradient::Rows(to) => OfWeight::Own(Vec::new(), to),
        };
        let queries = match queries.lines() {
            Some((numbers, pitch)) if pitch == width || count <= 1 => Cow::Borrowed(numbers),
            _ => {
                let mut numbers = vec![0.0; count * width];
                for (row, place) in numbers.chunks_exact_mut(width.max(1)).enumerate() {
                    queries.copy_into(row, 0, place);
                }
                Cow::Owned(numbers)
            }
        };
        let (level, waiting) = (Level::active(), Vec::new());
        Ok(Self { level, weight, queries, of_queries, of_weight, of_bias, waiting, interrupt })
    }

    fn is_asked_for(&self) -> bool {
        self.of_queries.is_some() || self.of_bias.is_some() || !matches!(self.of_weight, OfWeight::Nowhere)
    }

    fn query(&self, row: usize) -> &[f32] {
        &self.queries[row * self.weight.classes()..][..self.weight.classes()]
    }

    /// Classes whose products with the gradient of a query are one chain.
    fn band(&self) -> usize {
        self.weight.rows().div_ceil(BANDS).next_multiple_of(SHORTEST)
    }

    /// Adds what the gradient of the scores of some queries contributes, of which each row is `pitch` behind the one before.
    /// Queries that do not count have a gradient of zeros, whatever their numbers.
    fn add(
        &mut self,
        rows: Range<usize>,
        counts: impl Fn(usize) -> bool,
        gradient: &[f32],
        pitch: usize,
    ) -> Result<()> {
        self.flush()?;
        let (classes, width, count) = (self.weight.rows(), self.weight.classes(), rows.len());
        let mut packed = Panels::default();
        packed.pack(count, width, |row, from, place| match counts(row) {
            true => place.copy_from_slice(&self.query(rows.start + row)[from..from + place.len()]),
            false => place.fill(0.0),
        });
        let (level, weight, band) = (self.level, self.weight, self.band());
        let bands = classes.div_ceil(band);
        let lines = weight.lines().filter(|(_, pitch)| *pitch == width);
        let asks_for_queries = self.of_queries.is_some() && width > 0;
        let mut of_bands = vec![0.0; if asks_for_queries { bands * count * width } else { 0 }];
        let of_weight = match self.of_weight.sums(classes * width).filter(|to| !to.is_empty()) {
            Some(to) => Some(Chunks::new(RowsMut::new(to, classes * width)?, band * width)),
            None => None,
        };
        let of_bias = match &mut self.of_bias {
            Some(to) => Some(Chunks::new(RowsMut::new(to, classes)?, band)),
            None => None,
        };
        let into_bands = asks_for_queries.then(|| RowsMut::new(&mut of_bands, count * width)).transpose()?;
        let tile = (TILE / width.max(1)).clamp(8 * TOGETHER, 96 * TOGETHER) / TOGETHER * TOGETHER;
        let row_cost = 2.0 * PRODUCT * (band * count * width) as f64;
        let job = Job { rows: bands, row_cost, together: 1, interrupt: self.interrupt };
        for_each_piece(job, (of_weight, into_bands, of_bias), |bands, (mut of_weight, mut of_bands, mut of_bias)| {
            let (mut class_rows, mut near) = (Panels::default(), vec![0.0; count * tile]);
            for at in bands {
                let band = at * band..classes.min((at + 1) * band);
                for from in band.clone().step_by(tile) {
                    let tile_classes = from..band.end.min(from + tile);
                    for (row, place) in near.chunks_exact_mut(tile).take(count).enumerate() {
                        place[..tile_classes.len()].copy_from_slice(&gradient[row * pitch..][tile_classes.clone()]);
                    }
                    if let Some(to) = &mut of_weight {
                        let sums = to.place(at, tile_classes.start * width, tile_classes.end * width, &mut []);
                        let ahead = match &lines {
                            Some((numbers, pitch)) => numbers.get(tile_classes.end * pitch..).unwrap_or(&[]),
                            None => &[],
                        };
                        let ahead = &ahead[..ahead.len().min(tile * width)];
                        dispatch(level, AddByTerm { coefficients: &near, pitch: tile, rows: &packed, sums, ahead });
                    }
                    if let Some(to) = &mut of_bands {
                        let sums = to.place(at, 0, count * width, &mut []);
                        class_rows.pack(tile_classes.len(), width, |row, from, place| {
                            weight.copy_into(tile_classes.start + row, from, place);
                        });
                        dispatch(level, AddByRow { coefficients: &near, pitch: tile, rows: &class_rows, sums });
                    }
                    if let Some(to) = &mut of_bias {
                        let sums = to.place(at, tile_classes.start, tile_classes.end, &mut []);
                        for row in near.chunks_exact(tile).take(count) {
                            sums.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
                        }
                    }
                }
            }
            Ok(())
        })?;
        if let Some(to) = &mut self.of_queries {
            let to = &mut to[rows.start * width..rows.end * width];
            let mut total = vec![0.0; to.len()];
            for sums in of_bands.chunks_exact(to.len().max(1)) {
                total.iter_mut().zip(sums).for_each(|(total, &sum)| *total += f64::from(sum));
            }
            to.iter_mut().zip(&total).for_each(|(to, &total)| *to = total as f32);
        }
        Ok(())
    }

    /// As [`Self::add`], of gradients given by the classes where they are not 0.
    fn add_lists(&mut self, first: usize, lists: &[Entries]) -> Result<()> {
        if let Some(to) = &mut self.of_bias {
            lists.iter().flatten().for_each(|&(class, g)| to[class as usize] += g as f32);
        }
        if !matches!(self.of_weight, OfWeight::Nowhere) {
            for (list, query) in lists.iter().zip(first as u32..) {
                self.waiting.extend(list.iter().map(|&(class, g)| Waiting {
                    class: class as u32,
                    query,
                    gradient: g as f32,
                }));
            }
        }
        let (level, weight, band, width) = (self.level, self.weight, self.band(), self.weight.classes());
        if let Some(to) = &mut self.of_queries {
            let view = RowsMut::new(&mut to[first * width..][..lists.len() * width], width)?;
            let entries = lists.iter().map(Vec::len).sum::<usize>();
            let row_cost = LISTED * (entries * width) as f64 / lists.len().max(1) as f64;
            let job = Job { rows: lists.len(), row_cost, together: 1, interrupt: self.interrupt };
            for_each_piece(job, view, |rows, mut view| {
                let (mut total, mut sum, mut copied) = (vec![0.0; width], vec![0.0; width], Vec::new());
                for row in rows {
                    total.fill(0.0);
                    for list in lists[row].chunk_by(|a, b| a.0 as usize / band == b.0 as usize / band) {
                        sum.fill(0.0);
                        let terms: Vec<_> = match weight.lines() {
                            Some((numbers, pitch)) => {
                                let row = |class: i64| &numbers[class as usize * pitch..][..width];
                                list.iter().map(|&(class, g)| (row(class), g as f32)).collect()
                            }
                            None => {
                                copied.resize(list.len() * width, 0.0);
                                for (row, &(class, _)) in copied.chunks_exact_mut(width).zip(list) {
                                    weight.copy_into(class as usize, 0, row);
                                }
                                copied.chunks_exact(width).zip(list).map(|(row, &(_, g))| (row, g as f32)).collect()
                            }
                        };
                        dispatch(level, AddRows { terms: &terms[..], sum: &mut sum });
                        total.iter_mut().zip(&sum).for_each(|(total, &sum)| *total += f64::from(sum));
                    }
                    let to = view.place(row, 0, width, &mut []);
                    to.iter_mut().zip(&total).for_each(|(to, &total)| *to = total as f32);
                }
                Ok(())
            })?;
        }
        // lists may wait as long as they take less memory than a row for each class
        let is_long = size_of_val(&*self.waiting) > LONG.max(size_of::<f32>() * weight.rows() * width);
        if is_long { self.flush() } else { Ok(()) }
    }

    /// Adds what waits to the rows of all classes.
    fn flush(&mut self) -> Result<()> {
        if self.waiting.is_empty() || self.weight.classes() == 0 {
            return Ok(());
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_unstable_by_key(|one| (one.class, one.query));
        let (level, queries) = (self.level, &self.queries);
        let (classes, width) = (self.weight.rows(), self.weight.classes());
        if let Some(to) = self.of_weight.sums(classes * width) {
            let row_cost = LISTED * (waiting.len() * width) as f64 / classes as f64;
            let job = Job { rows: classes, row_cost, together: 1, interrupt: self.interrupt };
            for_each_piece(job, RowsMut::new(to, width)?, |classes, mut view| {
                let from = waiting.partition_point(|one| (one.class as usize) < classes.start);
                let to = waiting.partition_point(|one| (one.class as usize) < classes.end);
                for group in waiting[from..to].chunk_by(|a, b| a.class == b.class) {
                    add_group(level, group, queries, view.place(group[0].class as usize, 0, width, &mut []));
                }
                Ok(())
            })?;
        }
        waiting.clear();
        self.waiting = waiting;
        Ok(())
    }

    /// Brings what is left to where it was asked for.
    fn finish(mut self) -> Result<()> {
        if !matches!(&self.of_weight, OfWeight::Own(whole, _) if whole.is_empty()) {
            self.flush()?;
        }
        let OfWeight::Own(whole, to) = self.of_weight else { return Ok(()) };
        let width = self.weight.classes();
        if !whole.is_empty() {
            to.values = whole;
            to.keep_all_but_zeros(width);
            return Ok(());
        }
        self.waiting.sort_unstable_by_key(|one| (one.class, one.query));
        let groups: Vec<_> = self.waiting.chunk_by(|a, b| a.class == b.class).collect();
        to.indices = groups.iter().map(|group| group[0].class.into()).collect();
        to.values = vec![0.0; groups.len() * width];
        let row_cost = LISTED * (self.waiting.len() * width) as f64 / groups.len().max(1) as f64;
        let job = Job { rows: groups.len(), row_cost, together: 1, interrupt: self.interrupt };
        for_each_piece(job, RowsMut::new(&mut to.values, width)?, |rows, mut view| {
            for row in rows {
                add_group(self.level, groups[row], &self.queries, view.place(row, 0, width, &mut []));
            }
            Ok(())
        })
    }
}

impl OfWeight<'_> {
    /// The matrix of all class rows, of so many numbers.
    fn sums(&mut self, length: usize) -> Option<&mut [f32]> {
        match self {
            Self::Nowhere => None,
            Self::Given(to) => Some(to),
            Self::Own(to, _) => {
                to.resize(length, 0.0);
                Some(to)
            }
        }
    }
}

impl IndexedRows {
    /// Of a whole matrix in `values`.
    fn keep_all_but_zeros(&mut self, width: usize) {
        let mut kept = 0;
        for row in 0..self.values.len() / width {
            if self.values[row * width..][..width].iter().any(|&number| number != 0.0) {
                self.values.copy_within(row * width..(row + 1) * width, kept * width);
                self.indices.push(row as i64);
                kept += 1;
            }
        }
        self.values.truncate(kept * width);
        self.values.shrink_to_fit();
    }
}

/// Adds to the row of a class what waits for it.
fn add_group(level: Level, group: &[Waiting], queries: &[f32], sum: &mut [f32]) {
    let width = sum.len();
    let of_query = |one: &Waiting| (&queries[one.query as usize * width..][..width], one.gradient);
    let terms: Vec<_> = group.iter().map(of_query).collect();
    dispatch(level, AddRows { terms: &terms[..], sum });
}
