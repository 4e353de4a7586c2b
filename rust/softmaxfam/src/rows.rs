//! Strided views of rows of classes, read and written in blocks.
//!
//! A *row* is the scores of all classes for one query; a view holds many rows. Batch axes and class axes each have
//! any lengths and strides (negative and zero too), and neighbouring axes that lie in one line are joined. Kernels
//! never see a stride: they ask a row for a block of at most [`BLOCK`] classes and get a slice: the caller's own
//! memory where it is contiguous, a copy in a small buffer where it is strided, packed, masked or about to be overwritten.
//! Nor do they see half precision: a `Source` unpacks what it copies, and `Results` are packed as they are settled.
#![allow(unsafe_code, reason = "one of the files named for it: strided access through raw pointers")]

use crate::error::{Error, Result};
use crate::simd::{Element, Packing, Real, Visitor};
use half::{bf16, f16};
use std::any::TypeId;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The most classes that a kernel handles at a time: 16 KiB of f32, which leaves room in a 32 KiB L1 cache.
pub const BLOCK: usize = 4096;
/// Packed numbers that are gathered or scattered at a time.
const WORDS: usize = 64;
/// Classes that are copied at a time where blocks as such do not matter: 2 KiB of f32, for several inputs and results to stay
/// in the first cache; a multiple of all that kernels add up at a time.
const STRIP: usize = 512;

/// Lengths and strides (in elements) of axes that are enumerated in C order, joined where they lie in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Axes {
    count: usize,
    inner: (usize, isize),
    outer: Vec<(usize, isize)>, // slowest first
}

impl Axes {
    fn new(axes: &[(usize, isize)]) -> Self {
        let count = axes.iter().map(|axis| axis.0).product();
        let mut inner = (1, 0);
        let mut outer = Vec::new();
        for &(length, stride) in axes.iter().filter(|axis| axis.0 != 1) {
            if inner.0 == 1 {
                inner = (length, stride);
            } else if inner.1 == stride * length as isize {
                inner = (inner.0 * length, stride);
            } else {
                outer.push(inner);
                inner = (length, stride);
            }
        }
        Self { count, inner, outer }
    }

    /// The distance in elements from the first position to position `index`.
    #[inline]
    fn offset(&self, index: usize) -> isize {
        if self.outer.is_empty() {
            return index as isize * self.inner.1;
        }
        let mut rest = index / self.inner.0;
        let mut offset = (index % self.inner.0) as isize * self.inner.1;
        for &(length, stride) in self.outer.iter().rev() {
            offset += (rest % length) as isize * stride;
            rest /= length;
        }
        offset
    }

    /// Smallest and largest distance from the first position, for a set of axes that is not empty.
    fn span(&self) -> (isize, isize) {
        let mut span = (0, 0);
        for &(length, stride) in self.outer.iter().chain([&self.inner]) {
            let end = (length as isize - 1) * stride;
            span = (span.0 + end.min(0), span.1 + end.max(0));
        }
        span
    }

    /// Whether the `count` positions from `index` on follow each other in memory.
    fn is_run(&self, index: usize, count: usize) -> bool {
        let (length, stride) = self.inner;
        index + count <= self.count && (count == 1 || (stride == 1 && index % length + count <= length))
    }

    /// Whether the `count` positions from `index` on lie `step` elements apart.
    fn is_spaced(&self, index: usize, count: usize, step: usize) -> bool {
        let (length, stride) = self.inner;
        index + count <= self.count && stride == step as isize && index % length + count <= length
    }

    fn is_one_line(&self) -> bool {
        self.outer.is_empty() && (self.inner.1 == 1 || self.count <= 1)
    }

    /// Whether distinct positions are certain to have distinct offsets: each stride passes the span of the smaller ones.
    fn is_injective_with(&self, other: &Self) -> bool {
        let mut axes: Vec<_> =
            self.outer.iter().chain([&self.inner]).chain(&other.outer).chain([&other.inner]).collect();
        axes.sort_by_key(|axis| axis.1.unsigned_abs());
        let mut span = 0;
        axes.iter().filter(|axis| axis.0 > 1).all(|&&(length, stride)| {
            let apart = stride.unsigned_abs() > span;
            span += (length - 1) * stride.unsigned_abs();
            apart
        })
    }
}

macro_rules! view {
    ($name:ident, $pointer:ty, $slice:ty, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug)]
        #[repr(C)] // of one layout for all T: see `cast`
        pub struct $name<'a, T> {
            start: $pointer,
            batch: Axes,
            classes: Axes,
            window: Range<usize>, // the rows that this view may touch
            lifetime: PhantomData<$slice>,
        }

        impl<'a, T> $name<'a, T> {
            /// The number of rows.
            pub fn rows(&self) -> usize {
                self.batch.count
            }

            /// The number of classes of each row.
            pub fn classes(&self) -> usize {
                self.classes.count
            }

            /// A view by address: position (r, c) is at the sum of the offsets of row r along `batch` and of class c
            /// along `classes`, each a list of (length, stride in elements) enumerated in C order.
            ///
            /// # Safety
            /// - Every position is valid for reads (and, if mutable, writes) of `T`, and aligned, for the lifetime `'a`.
            /// - Nothing else writes there meanwhile; and, if mutable, nothing else reads there, save a view of the
            ///   scores with the same start and the same axes in the same call: maps work in place.
            /// - If mutable, distinct positions have distinct addresses.
            pub unsafe fn from_raw(start: $pointer, batch: &[(usize, isize)], classes: &[(usize, isize)]) -> Self {
                let (batch, classes) = (Axes::new(batch), Axes::new(classes));
                Self { start, window: 0..batch.count, batch, classes, lifetime: PhantomData }
            }

            fn fits(&self, start: usize, length: usize) -> bool {
                let (batch, classes) = (self.batch.span(), self.classes.span());
                let (first, last) = (start as isize + batch.0 + classes.0, start as isize + batch.1 + classes.1);
                self.rows() == 0 || self.classes() == 0 || (first >= 0 && last < length as isize)
            }

            pub(crate) fn expect(&self, what: &'static str, rows: usize, classes: usize) -> Result<()> {
                if (self.rows(), self.classes()) == (rows, classes) {
                    return Ok(());
                }
                Err(Error::Shape { what, given: (self.rows(), self.classes()), needed: (rows, classes) })
            }

            #[inline]
            fn row_start(&self, row: usize) -> $pointer {
                assert!(self.window.contains(&row), "row {row} is not in {:?}", self.window);
                self.start.wrapping_offset(self.batch.offset(row))
            }
        }

        // SAFETY: a view is a slice with strides: sharing it shares `&[T]` or moves `&mut [T]`; writes through a shared
        // `RowsMut` are unsafe calls inside this crate, which give each row to one thread.
        unsafe impl<T: Send + Sync> Send for $name<'_, T> {}
        // SAFETY: as above.
        unsafe impl<T: Send + Sync> Sync for $name<'_, T> {}
    };
}

view!(Rows, *const T, &'a [T], "Rows of classes to read: any strides over memory that outlives `'a`.");
view!(RowsMut, *mut T, &'a mut [T], "Rows of classes to write: any strides over memory that outlives `'a`.");

/// Whether a view of `T` may be taken for one of `U`: the same type, or the bits of half precision.
fn are_same_bits<T: 'static, U: 'static>() -> bool {
    let is_half = [TypeId::of::<f16>(), TypeId::of::<bf16>()].contains(&TypeId::of::<T>());
    TypeId::of::<T>() == TypeId::of::<U>() || (is_half && TypeId::of::<U>() == TypeId::of::<u16>())
}

impl<'a, T> Rows<'a, T> {
    /// Rows that follow each other in `data`; its length must be a multiple of `classes` (which may be 0 for no rows).
    ///
    /// ```
    /// let scores = softmaxfam::Rows::new(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], 3).unwrap();
    /// assert_eq!((scores.rows(), scores.classes()), (2, 3));
    /// ```
    pub fn new(data: &'a [T], classes: usize) -> Result<Self> {
        let rows = whole_rows(data.len(), classes)?;
        Self::strided(data, 0, &[(rows, classes as isize)], &[(classes, 1)])
    }

    /// The view whose position (r, c) is `data[start + offset of r along batch + offset of c along classes]`; each list
    /// holds (length, stride) of its axes, enumerated in C order.
    pub fn strided(data: &'a [T], start: usize, batch: &[(usize, isize)], classes: &[(usize, isize)]) -> Result<Self> {
        // SAFETY: the pointer comes from the slice, and `fits` keeps every position inside it.
        let view = unsafe { Self::from_raw(data.as_ptr().wrapping_add(start), batch, classes) };
        if view.fits(start, data.len()) { Ok(view) } else { Err(Error::Bounds { length: data.len() }) }
    }

    /// The same view of the same bits.
    fn cast<U: 'static>(&self) -> &Rows<'a, U>
    where
        T: 'static,
    {
        assert!(are_same_bits::<T, U>());
        // SAFETY: the view is of one layout for both types, by `repr(C)`; both have the same size, alignment and valid bits.
        unsafe { &*std::ptr::from_ref(self).cast() }
    }

    /// Some of the rows, which must lie along one axis.
    pub(crate) fn part(&self, rows: Range<usize>) -> Result<Self> {
        if !self.batch.outer.is_empty() {
            return Err(Error::Axes);
        }
        assert!(rows.start <= rows.end && rows.end <= self.rows());
        let batch = Axes::new(&[(rows.len(), self.batch.inner.1)]);
        let start = self.start.wrapping_offset(self.batch.offset(rows.start));
        Ok(Self { start, window: 0..rows.len(), batch, classes: self.classes.clone(), lifetime: PhantomData })
    }

    /// One element.
    #[inline]
    pub(crate) fn get(&self, row: usize, class: usize) -> T
    where
        T: Copy,
    {
        assert!(class < self.classes());
        // SAFETY: the position lies in the view, whose maker promised that its positions are readable.
        unsafe { *self.row_start(row).wrapping_offset(self.classes.offset(class)) }
    }

    /// Copies the classes from `from` on into `buffer`, as many as it holds.
    pub(crate) fn copy_into(&self, row: usize, from: usize, buffer: &mut [T])
    where
        T: Copy,
    {
        assert!(from + buffer.len() <= self.classes());
        if let Some(line) = self.slice(row, from, from + buffer.len()) {
            return buffer.copy_from_slice(line);
        }
        let start = self.row_start(row);
        for (place, class) in buffer.iter_mut().zip(from..) {
            // SAFETY: the position lies in the view, whose maker promised that its positions are readable.
            *place = unsafe { *start.wrapping_offset(self.classes.offset(class)) };
        }
    }

    /// The classes from `from` to `to` in place, where they are contiguous.
    #[inline]
    fn slice(&self, row: usize, from: usize, to: usize) -> Option<&'a [T]> {
        assert!(from <= to && to <= self.classes());
        let start = self.row_start(row).wrapping_add(from);
        // SAFETY: in one line the positions from `from` to `to` follow each other, and all are readable for 'a.
        self.classes.is_one_line().then(|| unsafe { std::slice::from_raw_parts(start, to - from) })
    }

    /// All rows as one slice, in which each starts so many elements after the one before; None where their classes are not
    /// contiguous, or where they do not follow each other upward at one distance.
    pub(crate) fn lines(&self) -> Option<(&'a [T], usize)> {
        let (rows, classes) = (self.rows(), self.classes());
        let pitch = if rows > 1 { usize::try_from(self.batch.inner.1).ok()? } else { classes };
        let found = self.classes.is_one_line() && self.batch.outer.is_empty() && pitch >= classes;
        if rows == 0 || classes == 0 {
            return Some((&[], 0));
        }
        // SAFETY: every position of the view is readable for 'a, and so is what lies between two positions of one
        // allocation; the last position is class `classes - 1` of row `rows - 1`.
        found.then(|| (unsafe { std::slice::from_raw_parts(self.start, (rows - 1) * pitch + classes) }, pitch))
    }

    /// The classes from `from` to `to`, one at least, of `width` rows that lie side by side for each class, with what is
    /// between the classes; and the step from class to class.
    ///
    /// # Safety
    /// Nothing writes to the memory that the view spans while the result is in use.
    unsafe fn strip(&self, row: usize, width: usize, from: usize, to: usize) -> Option<(&'a [T], usize)> {
        let is_even = self.classes.outer.is_empty() && self.classes.inner.1 > 0;
        if !is_even || from >= to || !self.batch.is_run(row, width) {
            return None;
        }
        let pitch = self.classes.inner.1 as usize;
        assert!(to <= self.classes() && row + width <= self.rows());
        let start = self.row_start(row).wrapping_add(from * pitch);
        // SAFETY: every position of the view is readable for 'a, and so is what lies between two positions of one
        // allocation; nothing writes there, as the caller promises.
        Some((unsafe { std::slice::from_raw_parts(start, (to - from - 1) * pitch + width) }, pitch))
    }

    /// Copies these classes of `count` rows from `row` on to lines of `width`, a class each.
    fn gather(&self, row: usize, count: usize, classes: Range<usize>, width: usize, target: &mut [T])
    where
        T: Copy,
    {
        for lane in 0..count {
            for (class, line) in classes.clone().zip(target.chunks_exact_mut(width)) {
                line[lane] = self.get(row + lane, class);
            }
        }
    }

    /// All classes of `count` rows from `row` on in place, where they are contiguous.
    #[inline]
    fn run(&self, row: usize, count: usize) -> Option<&'a [T]> {
        let classes = self.classes();
        let found = self.classes.is_one_line() && self.batch.is_spaced(row, count, classes);
        // SAFETY: in one line, and each line `classes` elements from the next, the elements of these rows, which `is_spaced`
        // found to be in the view, follow each other, and all are readable for 'a.
        found.then(|| unsafe { std::slice::from_raw_parts(self.row_start(row), count * classes) })
    }
}

impl<'a, T> RowsMut<'a, T> {
    /// Rows that follow each other in `data`; its length must be a multiple of `classes` (which may be 0 for no rows).
    pub fn new(data: &'a mut [T], classes: usize) -> Result<Self> {
        let rows = whole_rows(data.len(), classes)?;
        Self::strided(data, 0, &[(rows, classes as isize)], &[(classes, 1)])
    }

    /// As [`Rows::strided`]; also refused where two positions might coincide.
    pub fn strided(
        data: &'a mut [T],
        start: usize,
        batch: &[(usize, isize)],
        classes: &[(usize, isize)],
    ) -> Result<Self> {
        let length = data.len();
        // SAFETY: the pointer comes from the exclusive slice, `fits` keeps every position inside it, and positions are
        // distinct by `is_injective_with`.
        let view = unsafe { Self::from_raw(data.as_mut_ptr().wrapping_add(start), batch, classes) };
        let sound = view.fits(start, length) && view.batch.is_injective_with(&view.classes);
        if sound { Ok(view) } else { Err(Error::Bounds { length }) }
    }

    /// The part of this view with these rows, which keep their numbers.
    ///
    /// # Safety
    /// No two parts of a view that are in use at the same time share a row.
    unsafe fn part(&self, rows: Range<usize>) -> Self {
        assert!(self.window.start <= rows.start && rows.end <= self.window.end);
        Self {
            start: self.start,
            batch: self.batch.clone(),
            classes: self.classes.clone(),
            window: rows,
            lifetime: PhantomData,
        }
    }

    /// All elements, row after row, where they follow each other in memory and this is no part of a view.
    pub fn into_line(self) -> Option<&'a mut [T]> {
        let (rows, classes) = (self.rows(), self.classes());
        let is_whole = self.window == (0..rows);
        let is_line = self.classes.is_one_line() && (rows <= 1 || self.batch.is_spaced(0, rows, classes));
        // SAFETY: the positions follow each other, are ours to write for 'a, and this view, the only one of them, is given up.
        (is_whole && is_line).then(|| unsafe { std::slice::from_raw_parts_mut(self.start, rows * classes) })
    }

    /// One value for each row.
    pub(crate) fn from_rows(values: &'a mut [T]) -> Self {
        // SAFETY: the pointer and the length are those of an exclusive slice.
        unsafe { Self::from_raw(values.as_mut_ptr(), &[(values.len(), 1)], &[(1, 1)]) }
    }

    /// Writes one element.
    #[inline]
    pub(crate) fn set(&mut self, row: usize, class: usize, value: T) {
        assert!(class < self.classes());
        let place = self.row_start(row).wrapping_offset(self.classes.offset(class));
        // SAFETY: the position lies in the view and in a row that is this part's alone, so it is ours to write.
        unsafe { *place = value };
    }

    /// Whether the classes of a row follow each other in memory.
    pub(crate) fn is_in_line(&self) -> bool {
        self.classes.is_one_line()
    }

    /// The same view for a shorter time.
    pub fn reborrow(&mut self) -> RowsMut<'_, T> {
        // SAFETY: the whole of this view, which stays borrowed as long as the new one lives.
        unsafe { self.part(self.window.clone()) }
    }

    /// The same view of the same bits, for a shorter time.
    fn cast<U: 'static>(&mut self) -> RowsMut<'_, U>
    where
        T: 'static,
    {
        assert!(are_same_bits::<T, U>());
        let (batch, classes, window) = (self.batch.clone(), self.classes.clone(), self.window.clone());
        RowsMut { start: self.start.cast(), batch, classes, window, lifetime: PhantomData }
    }

    /// Writes one class of as many rows from `row` on as there are values, or as this part has.
    #[inline]
    pub(crate) fn write_across(&mut self, row: usize, class: usize, values: &[T])
    where
        T: Copy,
    {
        let count = values.len().min(self.window.end - row);
        assert!(class < self.classes() && self.window.contains(&row));
        if self.batch.is_run(row, count) {
            let start = self.row_start(row).wrapping_offset(self.classes.offset(class));
            // SAFETY: the rows from `row` on lie in this part's window and follow each other in memory.
            unsafe { std::slice::from_raw_parts_mut(start, count) }.copy_from_slice(&values[..count]);
        } else {
            values[..count].iter().zip(row..).for_each(|(&value, row)| self.set(row, class, value));
        }
    }

    /// Fills a row with one value.
    fn fill(&mut self, row: usize, value: T)
    where
        T: Copy,
    {
        if self.is_in_line() {
            self.line(row, 0, self.classes()).fill(value);
        } else {
            (0..self.classes()).for_each(|class| self.set(row, class, value));
        }
    }

    /// The classes from `from` to `to`, which follow each other in memory.
    #[inline(always)]
    fn line(&mut self, row: usize, from: usize, to: usize) -> &mut [T] {
        assert!(self.is_in_line() && from <= to && to <= self.classes());
        let start = self.row_start(row).wrapping_add(from);
        // SAFETY: in one line these positions follow each other; the row is this part's alone for the time of `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(start, to - from) }
    }
}

/// Outputs that are written in blocks: `index` is a row, or a chunk of one.
pub(crate) trait Places<T> {
    /// Where to write the classes from `from` to `to`: in place where they follow each other, else in `buffer`, which
    /// [`Self::settle`] then brings to its place.
    fn place<'b>(&'b mut self, index: usize, from: usize, to: usize, buffer: &'b mut [T]) -> &'b mut [T];

    /// How many classes to write at a time.
    fn step(&self) -> usize {
        BLOCK
    }

    /// To be called with the same arguments after the writing.
    fn settle(&mut self, index: usize, from: usize, to: usize, buffer: &[T]);
}

impl<T: Copy> Places<T> for RowsMut<'_, T> {
    #[inline(always)]
    fn place<'b>(&'b mut self, row: usize, from: usize, to: usize, buffer: &'b mut [T]) -> &'b mut [T] {
        if self.is_in_line() { self.line(row, from, to) } else { &mut buffer[..to - from] }
    }

    #[inline(always)]
    fn settle(&mut self, row: usize, from: usize, to: usize, buffer: &[T]) {
        if !self.is_in_line() {
            (from..to).zip(buffer).for_each(|(class, &value)| self.set(row, class, value));
        }
    }
}

/// Views that have rows and classes.
pub(crate) trait Shaped {
    /// How many of both.
    fn shape(&self) -> (usize, usize);
}

impl<T> Shaped for RowsMut<'_, T> {
    fn shape(&self) -> (usize, usize) {
        (self.rows(), self.classes())
    }
}

/// What a call writes: in the type that is computed with, or packed.
pub(crate) enum Results<'a, R: Real> {
    Whole(RowsMut<'a, R>),
    Packed(RowsMut<'a, u16>, R::Packed),
}

impl<R: Real> Shaped for Results<'_, R> {
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::Whole(view) => view.shape(),
            Self::Packed(view, _) => view.shape(),
        }
    }
}

impl<'a, R: Real> Results<'a, R> {
    pub(crate) fn new<E: Element<Real = R>>(out: &'a mut RowsMut<'_, E>) -> Self {
        match E::packing() {
            None => Self::Whole(out.cast()),
            Some(packing) => Self::Packed(out.cast(), packing),
        }
    }

    /// Whether blocks are written where they stay.
    #[inline]
    pub(crate) fn is_in_place(&self) -> bool {
        matches!(self, Self::Whole(view) if view.is_in_line())
    }

    /// The buffer that [`Self::place`] needs for these rows: empty where they are written in place.
    pub(crate) fn buffer(&self) -> Box<[R]> {
        let length = if self.is_in_place() { 0 } else { self.shape().1.min(BLOCK) };
        vec![R::ZERO; length].into_boxed_slice()
    }

    /// Writes one element, rounded once.
    pub(crate) fn set(&mut self, row: usize, class: usize, value: f64) {
        match self {
            Self::Whole(view) => view.set(row, class, R::of_f64(value)),
            Self::Packed(view, packing) => view.set(row, class, packing.pack_f64(value)),
        }
    }

    /// Writes one class of at most [`WORDS`] rows from `row` on.
    #[inline]
    pub(crate) fn write_across(&mut self, row: usize, class: usize, values: &[R]) {
        match self {
            Self::Whole(view) => view.write_across(row, class, values),
            Self::Packed(view, packing) => {
                let words = &mut [0; WORDS][..values.len()];
                packing.pack(values, words);
                view.write_across(row, class, words);
            }
        }
    }

    /// Writes the only class of at most [`WORDS`] rows from `row` on, rounded once.
    pub(crate) fn write_rounded(&mut self, row: usize, values: &[f64]) {
        match self {
            Self::Whole(view) => {
                let rounded = &mut [R::ZERO; WORDS][..values.len()];
                rounded.iter_mut().zip(values).for_each(|(place, &value)| *place = R::of_f64(value));
                view.write_across(row, 0, rounded);
            }
            Self::Packed(..) => values.iter().zip(row..).for_each(|(&value, row)| self.set(row, 0, value)),
        }
    }

    /// Fills a row with one value.
    pub(crate) fn fill(&mut self, row: usize, value: R) {
        match self {
            Self::Whole(view) => view.fill(row, value),
            Self::Packed(view, _) if value == R::ZERO => view.fill(row, 0), // the constant makes it a memset
            Self::Packed(view, packing) => view.fill(row, packing.pack_f64(value.into())),
        }
    }
}

impl RowsMut<'_, u16> {
    /// Packs numbers into the classes from `from` on.
    #[inline(never)]
    fn pack<R: Real>(&mut self, row: usize, from: usize, numbers: &[R], packing: impl Packing<R>) {
        if self.is_in_line() {
            return packing.pack(numbers, self.line(row, from, from + numbers.len()));
        }
        for (numbers, from) in numbers.chunks(WORDS).zip((from..).step_by(WORDS)) {
            let words = &mut [0; WORDS][..numbers.len()];
            packing.pack(numbers, words);
            (from..).zip(words).for_each(|(class, &mut word)| self.set(row, class, word));
        }
    }
}

impl<R: Real> Places<R> for Results<'_, R> {
    #[inline(always)]
    fn place<'b>(&'b mut self, row: usize, from: usize, to: usize, buffer: &'b mut [R]) -> &'b mut [R] {
        match self {
            Self::Whole(view) => view.place(row, from, to, buffer),
            Self::Packed(..) => &mut buffer[..to - from],
        }
    }

    #[inline(always)]
    fn step(&self) -> usize {
        match self {
            Self::Whole(_) => BLOCK,
            Self::Packed(..) => STRIP,
        }
    }

    #[inline(always)]
    fn settle(&mut self, row: usize, from: usize, to: usize, buffer: &[R]) {
        match self {
            Self::Whole(view) => view.settle(row, from, to, buffer),
            Self::Packed(view, packing) => view.pack(row, from, &buffer[..to - from], *packing),
        }
    }
}

/// Scores as they are stored: in the type that is computed with, or packed.
#[derive(Clone, Copy)]
enum Stored<'a, R: Real> {
    Whole(&'a Rows<'a, R>),
    Packed(&'a Rows<'a, u16>, R::Packed),
}

/// The scores of a call: rows to read in blocks, the absent classes as minus infinity.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a, R: Real> {
    scores: Stored<'a, R>,
    batch: &'a Axes,
    classes: &'a Axes,
    mask: Option<&'a Rows<'a, u8>>,
    overwritten: bool,
}

impl<'a, R: Real> Source<'a, R> {
    pub(crate) fn new<E: Element<Real = R>>(scores: &'a Rows<'a, E>, mask: Option<&'a Rows<'a, u8>>) -> Self {
        let (batch, classes) = (&scores.batch, &scores.classes);
        let scores = match E::packing() {
            None => Stored::Whole(scores.cast()),
            Some(packing) => Stored::Packed(scores.cast(), packing),
        };
        Self { scores, batch, classes, mask, overwritten: false }
    }

    /// For a map whose results go to `out`, maybe the memory of the scores themselves.
    pub(crate) fn written_to(self, out: &Results<'_, R>) -> Self {
        let overwritten = match (self.scores, out) {
            (Stored::Whole(scores), Results::Whole(out)) => std::ptr::eq(scores.start, out.start),
            (Stored::Packed(scores, _), Results::Packed(out, _)) => std::ptr::eq(scores.start, out.start),
            _ => false,
        };
        Self { overwritten, ..self }
    }

    pub(crate) fn rows(&self) -> usize {
        self.batch.count
    }

    pub(crate) fn classes(&self) -> usize {
        self.classes.count
    }

    /// The buffer that [`Self::block`] needs for these rows: empty where they are read in place.
    pub(crate) fn buffer(&self) -> Box<[R]> {
        let length = if self.is_in_place() { 0 } else { self.classes().min(BLOCK) };
        vec![R::ZERO; length].into_boxed_slice()
    }

    /// The classes of `row` from `from` on: at most [`BLOCK`] of them, and none past the row's end.
    #[inline]
    pub(crate) fn block<'b>(&self, row: usize, from: usize, buffer: &'b mut [R]) -> &'b [R]
    where
        'a: 'b,
    {
        self.part(row, from, self.classes().min(from + BLOCK), buffer)
    }

    /// How many classes to read at a time where it does not matter.
    #[inline]
    pub(crate) fn step(&self) -> usize {
        if self.is_in_place() { BLOCK } else { STRIP }
    }

    /// The classes of `row` from `from` to `to`, at most [`BLOCK`] of them.
    #[inline]
    pub(crate) fn part<'b>(&self, row: usize, from: usize, to: usize, buffer: &'b mut [R]) -> &'b [R]
    where
        'a: 'b,
    {
        if self.mask.is_none()
            && !self.overwritten
            && let Stored::Whole(scores) = self.scores
            && let Some(slice) = scores.slice(row, from, to)
        {
            return slice;
        }
        let buffer = &mut buffer[..to - from];
        self.copy_into(row, from, buffer);
        buffer
    }

    /// Runs a computation on the classes of `row` from `from` to `to`: where they lie, packed or not, if that can be.
    #[inline(always)]
    pub(crate) fn visit<V: Visitor<R>>(
        &self,
        row: usize,
        from: usize,
        to: usize,
        buffer: &mut [R],
        visitor: V,
    ) -> V::Output {
        if self.mask.is_none()
            && !self.overwritten
            && let Stored::Packed(scores, packing) = self.scores
            && let Some(words) = scores.slice(row, from, to)
        {
            return packing.visit(words, visitor);
        }
        visitor.visit(self.part(row, from, to, buffer))
    }

    /// Copies the classes from `from` on, as many as `buffer` holds.
    #[inline(never)]
    fn copy_into(&self, row: usize, from: usize, buffer: &mut [R]) {
        let to = from + buffer.len();
        match self.scores {
            Stored::Whole(scores) => match scores.slice(row, from, to) {
                Some(slice) => buffer.copy_from_slice(slice),
                None => scores.copy_into(row, from, buffer),
            },
            Stored::Packed(scores, packing) => match scores.slice(row, from, to) {
                Some(words) => {
                    let ahead = |class| self.classes().min(class + BLOCK);
                    packing.prefetch(scores.slice(row, ahead(from), ahead(to)).unwrap_or_default());
                    packing.unpack(words, words.len(), words.len(), buffer);
                }
                None => {
                    for (buffer, from) in buffer.chunks_mut(WORDS).zip((from..).step_by(WORDS)) {
                        let words = &mut [0; WORDS][..buffer.len()];
                        scores.copy_into(row, from, words);
                        packing.unpack(words, words.len(), words.len(), buffer);
                    }
                }
            },
        }
        if let Some(mask) = self.mask {
            for (place, class) in buffer.iter_mut().zip(from..) {
                if mask.get(row, class) == 0 {
                    *place = R::NEG_INFINITY;
                }
            }
        }
    }

    /// The only class of a row.
    pub(crate) fn number(&self, row: usize) -> f64 {
        self.block(row, 0, &mut [R::ZERO])[0].into()
    }

    /// All scores of `count` rows from `row` on, where they can be read in place and are contiguous.
    #[inline]
    pub(crate) fn run(&self, row: usize, count: usize) -> Option<&'a [R]> {
        match self.scores {
            Stored::Whole(scores) if self.mask.is_none() && !self.overwritten => scores.run(row, count),
            _ => None,
        }
    }

    /// Copies all classes of `count` rows from `row` on, one row after another.
    pub(crate) fn copy_rows(&self, row: usize, count: usize, buffer: &mut [R]) {
        if self.mask.is_none()
            && let Stored::Packed(scores, packing) = self.scores
            && let Some(words) = scores.run(row, count)
        {
            return packing.unpack(words, words.len(), words.len(), &mut buffer[..words.len()]);
        }
        let rows = buffer.chunks_exact_mut(self.classes());
        rows.zip(row..row + count).for_each(|(buffer, row)| self.copy_into(row, 0, buffer));
    }

    /// Whether blocks are the caller's own memory, so that reading a row again costs nothing more than the reading.
    pub(crate) fn is_in_place(&self) -> bool {
        matches!(self.scores, Stored::Whole(_)) && self.mask.is_none() && !self.overwritten && self.is_in_line()
    }

    /// Whether the classes of a row follow each other in memory.
    pub(crate) fn is_in_line(&self) -> bool {
        self.classes.is_one_line()
    }

    /// How many rows from `row` on follow each other in memory.
    pub(crate) fn adjacent(&self, row: usize) -> usize {
        let (length, stride) = self.batch.inner;
        if stride == 1 { length - row % length } else { 1 }
    }

    /// `width` rows from `row` on over the classes `from..to` as a tile: the rows side by side for each class, the classes
    /// `pitch` elements apart. A view of the scores where rows are adjacent in memory, else a copy in `buffer`, which
    /// grows; missing rows are filled with minus infinity.
    pub(crate) fn tile<'b>(
        &self,
        row: usize,
        width: usize,
        from: usize,
        to: usize,
        buffer: &'b mut Vec<R>,
    ) -> (&'b [R], usize)
    where
        'a: 'b,
    {
        if self.mask.is_none()
            && !self.overwritten
            && let Stored::Whole(scores) = self.scores
            // SAFETY: this is not an in-place call.
            && let Some(strip) = unsafe { scores.strip(row, width, from, to) }
        {
            return strip;
        }
        buffer.clear();
        buffer.resize((to - from) * width, R::NEG_INFINITY);
        self.copy_tile(row, width, from, to, buffer);
        (buffer, width)
    }

    #[inline(never)]
    fn copy_tile(&self, row: usize, width: usize, from: usize, to: usize, buffer: &mut [R]) {
        let present = width.min(self.rows() - row);
        match self.scores {
            Stored::Whole(scores) => scores.gather(row, present, from..to, width, buffer),
            Stored::Packed(scores, packing) => {
                // SAFETY: this is not an in-place call.
                let strip = (!self.overwritten).then(|| unsafe { scores.strip(row, width, from, to) });
                if let Some((words, pitch)) = strip.flatten() {
                    packing.unpack(words, pitch, width, buffer);
                } else {
                    let mut words = vec![0; buffer.len()];
                    scores.gather(row, present, from..to, width, &mut words);
                    packing.unpack(&words, width, width, buffer);
                }
            }
        }
        for (class, line) in (from..).zip(buffer.chunks_exact_mut(width)) {
            line[present..].fill(R::NEG_INFINITY);
            for (row, place) in (row..).zip(&mut line[..present]) {
                if self.mask.is_some_and(|mask| mask.get(row, class) == 0) {
                    *place = R::NEG_INFINITY;
                }
            }
        }
    }

    /// Whether a mask leaves no class of this row: what maps then give differs from a row of minus infinities.
    pub(crate) fn is_absent(&self, row: usize) -> bool {
        self.mask.is_some_and(|mask| (0..self.classes()).all(|class| mask.get(row, class) == 0))
    }

    /// The number of classes present in a row.
    pub(crate) fn present(&self, row: usize) -> usize {
        let count = |mask: &Rows<'_, u8>| (0..self.classes()).filter(|&class| mask.get(row, class) != 0).count();
        self.mask.map_or(self.classes(), count)
    }
}

/// Words that several threads write, each word by one of them.
pub(crate) fn as_atomics(words: &mut [u64]) -> &[AtomicU64] {
    const { assert!(align_of::<u64>() == align_of::<AtomicU64>()) };
    // SAFETY: AtomicU64 has the size, the valid bits and, as just asserted, the alignment of u64; the slice is exclusive for
    // as long as the result lives, so nothing else reaches these words but through it.
    unsafe { &*(std::ptr::from_mut(words) as *const [AtomicU64]) }
}

/// Memory of zeros that will be read at random places: in huge pages where the system has them and it is large enough, so
/// that reads find their page without walking its tables.
pub(crate) fn random_access<T: Copy + Default>(length: usize) -> Vec<T> {
    let mut memory = vec![T::default(); length]; // of large sizes not touched yet
    advise_huge_pages(&mut memory);
    memory
}

#[cfg(target_os = "linux")]
fn advise_huge_pages<T>(memory: &mut [T]) {
    use std::ffi::{c_int, c_void};
    unsafe extern "C" {
        fn madvise(start: *mut c_void, length: usize, advice: c_int) -> c_int;
    }
    const HUGE_PAGE: usize = 2 << 20;
    const MADV_HUGEPAGE: c_int = 14;
    let start = memory.as_mut_ptr().cast::<u8>();
    let before = start.addr().next_multiple_of(HUGE_PAGE) - start.addr();
    let length = size_of_val(memory).saturating_sub(before) / HUGE_PAGE * HUGE_PAGE;
    if length > 0 {
        // SAFETY: whole pages inside of memory that is exclusively ours; the advice changes no content. A refusal is no loss.
        let _ = unsafe { madvise(start.wrapping_add(before).cast(), length, MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages<T>(_memory: &mut [T]) {}

/// Outputs of a call that are cut by rows: views, and tuples of views.
pub(crate) trait Outputs: Send + Sync + Sized {
    /// # Safety
    /// No two parts that are in use at the same time share a row.
    unsafe fn part(&self, rows: Range<usize>) -> Self;
}

impl<T: Send + Sync> Outputs for RowsMut<'_, T> {
    unsafe fn part(&self, rows: Range<usize>) -> Self {
        // SAFETY: the caller's promise is the same.
        unsafe { RowsMut::part(self, rows) }
    }
}

impl<R: Real> Outputs for Results<'_, R> {
    unsafe fn part(&self, rows: Range<usize>) -> Self {
        // SAFETY: the caller's promise is the same.
        unsafe {
            match self {
                Self::Whole(view) => Self::Whole(view.part(rows)),
                Self::Packed(view, packing) => Self::Packed(view.part(rows), *packing),
            }
        }
    }
}

/// A view whose rows are cut into chunks of classes: unit `u` is chunk `u % per_row` of row `u / per_row`.
pub(crate) struct Chunks<V> {
    view: V,
    shape: (usize, usize), // of the view: rows, classes
    length: usize,
    units: Range<usize>,
}

impl<V: Shaped> Chunks<V> {
    pub(crate) fn new(view: V, length: usize) -> Self {
        let shape = view.shape();
        Self { view, shape, length, units: 0..shape.0 * shape.1.div_ceil(length) }
    }
}

impl<V> Chunks<V> {
    /// The row of a unit, given classes that lie in its chunk.
    #[inline(always)]
    fn row(&self, unit: usize, from: usize, to: usize) -> usize {
        let per_row = self.shape.1.div_ceil(self.length);
        let start = unit % per_row * self.length;
        assert!(self.units.contains(&unit) && start <= from && to <= start + self.length);
        unit / per_row
    }
}

impl<T, V: Places<T>> Places<T> for Chunks<V> {
    #[inline(always)]
    fn place<'b>(&'b mut self, unit: usize, from: usize, to: usize, buffer: &'b mut [T]) -> &'b mut [T] {
        self.view.place(self.row(unit, from, to), from, to, buffer)
    }

    #[inline(always)]
    fn step(&self) -> usize {
        self.view.step()
    }

    #[inline(always)]
    fn settle(&mut self, unit: usize, from: usize, to: usize, buffer: &[T]) {
        self.view.settle(self.row(unit, from, to), from, to, buffer);
    }
}

impl<V: Outputs> Outputs for Chunks<V> {
    unsafe fn part(&self, units: Range<usize>) -> Self {
        assert!(self.units.start <= units.start && units.end <= self.units.end);
        // SAFETY: parts share rows, but `row` admits only the chunks of its units, which are this part's alone.
        let view = unsafe { self.view.part(0..self.shape.0) };
        Self { view, units, ..*self }
    }
}

/// A view that is cut by classes: unit `u` is a range of classes in every row.
pub(crate) struct Bands<'a, T> {
    view: RowsMut<'a, T>,
    ranges: Arc<[Range<usize>]>,
    units: Range<usize>,
}

impl<'a, T: Copy> Bands<'a, T> {
    /// The ranges must not meet each other.
    pub(crate) fn new(view: RowsMut<'a, T>, ranges: Vec<Range<usize>>) -> Self {
        assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
        Self { view, units: 0..ranges.len(), ranges: ranges.into() }
    }

    /// Writes classes of a row from `from` on, which lie in the range of `unit`.
    pub(crate) fn write(&mut self, unit: usize, row: usize, from: usize, values: impl ExactSizeIterator<Item = T>) {
        let to = from + values.len();
        assert!(self.units.contains(&unit) && self.ranges[unit].start <= from && to <= self.ranges[unit].end);
        if self.view.is_in_line() {
            self.view.place(row, from, to, &mut []).iter_mut().zip(values).for_each(|(place, value)| *place = value);
        } else {
            (from..to).zip(values).for_each(|(class, value)| self.view.set(row, class, value));
        }
    }
}

impl<T: Send + Sync> Outputs for Bands<'_, T> {
    unsafe fn part(&self, units: Range<usize>) -> Self {
        assert!(self.units.start <= units.start && units.end <= self.units.end);
        // SAFETY: parts share rows, but `write` reaches only the ranges of its units, which are this part's alone.
        let view = unsafe { RowsMut::part(&self.view, self.view.window.clone()) };
        Self { view, ranges: Arc::clone(&self.ranges), units }
    }
}

impl<A: Outputs, B: Outputs> Outputs for (A, B) {
    unsafe fn part(&self, rows: Range<usize>) -> Self {
        // SAFETY: the caller's promise is the same.
        unsafe { (self.0.part(rows.clone()), self.1.part(rows)) }
    }
}

impl<A: Outputs, B: Outputs, C: Outputs> Outputs for (A, B, C) {
    unsafe fn part(&self, rows: Range<usize>) -> Self {
        // SAFETY: the caller's promise is the same.
        unsafe { (self.0.part(rows.clone()), self.1.part(rows.clone()), self.2.part(rows)) }
    }
}

impl<A: Outputs> Outputs for Option<A> {
    unsafe fn part(&self, rows: Range<usize>) -> Self {
        // SAFETY: the caller's promise is the same.
        self.as_ref().map(|outputs| unsafe { outputs.part(rows) })
    }
}

impl Outputs for () {
    unsafe fn part(&self, _rows: Range<usize>) -> Self {}
}

/// Rows dealt out in pieces, each to one taker.
pub(crate) struct Pieces<O> {
    outputs: O,
    rows: usize,
    length: usize,
    next: AtomicUsize,
}

impl<O: Outputs> Pieces<O> {
    /// Deals `rows` rows in pieces of `length`; `outputs` is given up, so that nobody else can cut it.
    pub(crate) fn new(outputs: O, rows: usize, length: usize) -> Self {
        Self { outputs, rows, length: length.max(1), next: AtomicUsize::new(0) }
    }

    pub(crate) fn count(&self) -> usize {
        self.rows.div_ceil(self.length)
    }

    /// The next piece: its rows, and the part of the outputs with these rows.
    pub(crate) fn take(&self) -> Option<(Range<usize>, O)> {
        let start = self.next.fetch_add(1, Ordering::Relaxed).checked_mul(self.length)?;
        let rows = start..self.rows.min(start.saturating_add(self.length));
        // SAFETY: each value of the counter is seen once, so no two pieces share a row.
        (start < self.rows).then(|| (rows.clone(), unsafe { self.outputs.part(rows) }))
    }
}

fn whole_rows(length: usize, classes: usize) -> Result<usize> {
    match (length, classes) {
        (0, 0) => Ok(0),
        (_, 0) => Err(Error::Bounds { length }),
        _ if !length.is_multiple_of(classes) => Err(Error::Bounds { length }),
        _ => Ok(length / classes),
    }
}
