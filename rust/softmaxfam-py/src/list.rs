//! A short list that needs no allocation, which a call on ten numbers would feel.

use std::ops::Deref;

const FEW: usize = 6;

/// A list of axes: on the stack up to six items, on the heap beyond.
#[derive(Clone)]
pub(crate) struct List<T> {
    few: [T; FEW],
    count: usize,
    many: Vec<T>, // all items, once they are more than `FEW`
}

impl<T: Copy + Default> List<T> {
    pub(crate) fn new() -> Self {
        Self { few: [T::default(); FEW], count: 0, many: Vec::new() }
    }

    pub(crate) fn push(&mut self, item: T) {
        if self.count < FEW {
            self.few[self.count] = item;
        } else {
            if self.count == FEW {
                self.many.extend_from_slice(&self.few);
            }
            self.many.push(item);
        }
        self.count += 1;
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        if self.count <= FEW { &self.few[..self.count] } else { &self.many }
    }
}

impl<T: Copy + Default> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut list = Self::new();
        items.into_iter().for_each(|item| list.push(item));
        list
    }
}
