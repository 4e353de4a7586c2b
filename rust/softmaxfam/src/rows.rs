//! Strided views of rows of classes, read and written in blocks.
//!
//! A *row* is the scores of all classes for one query; a view holds many rows. Batch axes and class axes each have
//! any lengths and strides (negative and zero too), and neighbouring axes that lie in one line are joined. Kernels
//! never see a stride: they ask a row for a block of at most [`BLOCK`] classes and get a slice: the caller's own
//! memory where it is contiguous, a copy in a small buffer where it is strided, masked or about to be overwritten.
#![allow(unsafe_code, reason = "one of the files named for it: strided access through raw pointers")]

use crate::error::{Error, Result};
use crate::simd::Element;
use std::marker::PhantomData;

/// The most classes that a kernel handles at a time: 16 KiB of f32, which leaves room in a 32 KiB L1 cache.
pub const BLOCK: usize = 4096;

/// A buffer of one block, for rows that cannot be read or written in place.
pub(crate) type Buffer<E> = Box<[E]>;

pub(crate) fn buffer<E: Element>() -> Buffer<E> {
    vec![E::ZERO; BLOCK].into_boxed_slice()
}

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

    fn is_one_line(&self) -> bool {
        self.outer.is_empty() && (self.inner.1 == 1 || self.count <= 1)
    }

    /// Whether distinct positions are certain to have distinct offsets: each stride passes the span of the smaller ones.
    fn is_injective_with(&self, other: &Self) -> bool {
        let mut axes: Vec<_> = self.outer.iter().chain([&self.inner]).chain(&other.outer).chain([&other.inner]).collect();
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
        pub struct $name<'a, T> {
            start: $pointer,
            batch: Axes,
            classes: Axes,
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
                Self { start, batch: Axes::new(batch), classes: Axes::new(classes), lifetime: PhantomData }
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
            fn at(&self, row: usize, class: usize) -> $pointer {
                debug_assert!(row < self.rows() && class < self.classes());
                self.start.wrapping_offset(self.batch.offset(row) + self.classes.offset(class))
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

    #[inline]
    pub(crate) fn get(&self, row: usize, class: usize) -> T
    where
        T: Copy,
    {
        assert!(row < self.rows() && class < self.classes());
        // SAFETY: the position lies in the view, whose maker promised that its positions are readable.
        unsafe { *self.at(row, class) }
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

    /// Writes one position.
    ///
    /// # Safety
    /// No other thread reads or writes this row meanwhile.
    #[inline]
    pub(crate) unsafe fn set(&self, row: usize, class: usize, value: T) {
        assert!(row < self.rows() && class < self.classes());
        // SAFETY: the position lies in the view, whose maker promised that it is writable; the caller keeps others away.
        unsafe { *self.at(row, class) = value };
    }
}

fn whole_rows(length: usize, classes: usize) -> Result<usize> {
    match (length, classes) {
        (0, 0) => Ok(0),
        (_, 0) => Err(Error::Bounds { length }),
        _ if length % classes != 0 => Err(Error::Bounds { length }),
        _ => Ok(length / classes),
    }
}
