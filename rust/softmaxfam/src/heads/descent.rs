//! From the root of a tree down: the probabilities of all classes, or the best of them alone.
//!
//! All. log p of an id is that of its parent less a softplus; ids of parents are higher, so one loop over falling ids does.
//! The best k. A log-probability only falls along a path, so a node bounds all classes below it: of a heap of ids the best is taken;
//! a class is the next result, a node gives way to its two ids (best-first search; Hart, Nilsson, Raphael 1968, with h = 0).
//! The order is that of all classes' log-probabilities in f32, equal ones by class: a node goes before classes of its own
//! log p, for it may hold a lower one. Cost: as many nodes as have a log p of at least the k-th result's; few where the
//! distribution is peaked, all where it is flat.

use super::hierarchical::{HierarchicalSoftmax, sixteen};
use super::huffman::parent;
use super::linear::{Ask, LinearHead, check_length};
use super::weights::Weights;
use crate::elementary::two_ways;
use crate::error::{Error, Result};
use crate::rows::{Places, Rows, RowsMut};
use crate::simd::{Isa, Kernel, Lanes, Level, dispatch};
use crate::threads::{Job, for_each_piece};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Bytes of logits that are kept.
const KEPT: usize = 54 << 20;
/// Nanoseconds of a node: softplus, and a step of a search.
const NODE: f64 = 8.0;
const SEARCH: f64 = 200.0;

impl HierarchicalSoftmax<'_> {
    /// log p of all classes, a row a query.
    pub fn log_probs(
        &self,
        queries: &[f32],
        out: RowsMut<'_, f32>,
        interrupt: Option<&(dyn Fn() -> bool + Sync)>,
    ) -> Result<()> {
        let (classes, nodes) = (self.classes(), self.classes() - 1);
        let count = out.rows();
        out.expect("out", count, classes)?;
        if count == 0 {
            return Ok(());
        }
        let out = out.into_line().ok_or(Error::Contiguous { what: "out" })?;
        check_length("the queries", queries.len(), count * self.width)?;
        if nodes == 0 {
            out.fill(0.0);
            return Ok(());
        }
        let mut head = LinearHead::new(Weights::F32(Rows::new(self.weight, self.width)?))?;
        if let Some(bias) = self.bias {
            head = head.bias(bias)?;
        }
        let ask = interrupt.map_or(Ask::default(), |interrupt| Ask::default().interrupt(interrupt));
        let level = Level::active();
        let group = (KEPT / (size_of::<f32>() * nodes)).clamp(1, 126);
        let mut logits = vec![0.0; group.min(count) * nodes];
        for (queries, out) in queries.chunks(group * self.width).zip(out.chunks_mut(group * classes)) {
            let logits = &mut logits[..out.len() / classes * nodes];
            head.logits(&Rows::new(queries, self.width)?, &ask, &mut RowsMut::new(logits, nodes)?)?;
            let job = Job { rows: out.len() / classes, row_cost: NODE * classes as f64, together: 1, interrupt };
            for_each_piece(job, RowsMut::new(out, classes)?, |rows, mut out| {
                let mut reached = vec![[0.0; 2]; nodes];
                for row in rows {
                    let (logits, log_probs) = (&logits[row * nodes..][..nodes], out.place(row, 0, classes, &mut []));
                    dispatch(level, Descent { parents: self.parents, logits, reached: &mut reached, log_probs })?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The k best classes of each query and their log-probabilities, best first, of equal ones the lower class.
    ///
    /// A query that meets a NaN gets NaN and -1. `merges` are those that the parents came from.
    pub fn top(
        &self,
        merges: &[[i32; 2]],
        queries: &[f32],
        k: usize,
        log_probs: &mut [f32],
        indices: &mut [i64],
        interrupt: Option<&(dyn Fn() -> bool + Sync)>,
    ) -> Result<()> {
        let classes = self.classes();
        if !(1..=classes).contains(&k) {
            return Err(Error::K { given: k, classes });
        }
        let count = indices.len() / k;
        check_length("the merges", merges.len(), classes - 1)?;
        check_length("the queries", queries.len(), count * self.width)?;
        let level = Level::active();
        let row_cost = SEARCH * (k as f64 + f64::from(classes.ilog2()));
        let job = Job { rows: count, row_cost, together: 1, interrupt };
        let outputs = (RowsMut::new(log_probs, k)?, RowsMut::new(indices, k)?);
        for_each_piece(job, outputs, |rows, (mut log_probs, mut indices)| {
            let mut heap = BinaryHeap::new();
            for row in rows {
                let h = &queries[row * self.width..][..self.width];
                let (log_probs, indices) = (log_probs.place(row, 0, k, &mut []), indices.place(row, 0, k, &mut []));
                heap.clear();
                let search = Search { model: *self, merges, h, heap: &mut heap, log_probs, indices };
                if !dispatch(level, search)? {
                    log_probs.fill(f32::NAN);
                    indices.fill(-1);
                }
            }
            Ok(())
        })
    }
}

/// log p of all classes from the logits of all nodes.
struct Descent<'k> {
    parents: &'k [i32],
    logits: &'k [f32],
    /// log p of the two ids of each node.
    reached: &'k mut [[f64; 2]],
    log_probs: &'k mut [f32],
}

impl Kernel for Descent<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Result<()> {
        let lanes = isa.f64();
        let nodes = self.logits.len();
        for from in (0..nodes).step_by(8).rev() {
            let eight = &self.logits[from..nodes.min(from + 8)];
            let (mut numbers, mut costs) = ([0.0; 8], [[0.0; 8]; 2]);
            for (number, &logit) in numbers.iter_mut().zip(eight) {
                *number = f64::from(logit);
            }
            let [first, second, _] = two_ways(lanes, lanes.load(&numbers));
            lanes.store(first, &mut costs[0]);
            lanes.store(second, &mut costs[1]);
            for at in (0..eight.len()).rev() {
                let node = from + at;
                // of costs, which are added up as along a path
                let before = if node + 1 == nodes {
                    0.0
                } else {
                    let (above, bit) = parent(self.parents, nodes + 1 + node)?;
                    self.reached[above][bit]
                };
                self.reached[node] = [before + costs[0][at], before + costs[1][at]];
            }
        }
        for (class, log_p) in self.log_probs.iter_mut().enumerate() {
            let (above, bit) = parent(self.parents, class)?;
            *log_p = -self.reached[above][bit] as f32;
        }
        Ok(())
    }
}

/// An id that was reached.
#[derive(Clone, Copy, PartialEq)]
struct Reached {
    cost: f64,
    id: i32,
    is_class: bool,
}

impl Eq for Reached {}

impl PartialOrd for Reached {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Reached {
    /// The greatest comes first: of the least cost in f32, nodes before classes, of these the lower.
    fn cmp(&self, other: &Self) -> Ordering {
        let costs = (other.cost as f32).total_cmp(&(self.cost as f32));
        costs.then(other.is_class.cmp(&self.is_class)).then(other.id.cmp(&self.id))
    }
}

/// Finds the best classes; false where a logit is NaN.
struct Search<'k> {
    model: HierarchicalSoftmax<'k>,
    merges: &'k [[i32; 2]],
    h: &'k [f32],
    heap: &'k mut BinaryHeap<Reached>,
    log_probs: &'k mut [f32],
    indices: &'k mut [i64],
}

impl Kernel for Search<'_> {
    type Output = Result<bool>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Result<bool> {
        let (singles, doubles) = (isa.f32(), isa.f64());
        let classes = self.merges.len() + 1;
        let reached = |cost, id: i32| Reached { cost, id, is_class: (id as usize) < classes };
        self.heap.push(reached(0.0, self.model.parents.len() as i32));
        let mut found = 0;
        while found < self.indices.len() {
            let Some(best) = self.heap.pop() else { return Err(Error::Tree) };
            if best.is_class {
                (self.log_probs[found], self.indices[found]) = (-best.cost as f32, best.id.into());
                found += 1;
                continue;
            }
            let node = best.id as usize - classes;
            let Some(&ids) = self.merges.get(node).filter(|ids| ids.iter().all(|&id| id < best.id && id >= 0)) else {
                return Err(Error::Tree);
            };
            let logit = sixteen(isa, &self.model, self.h, &[node]);
            let [first, second, _] = two_ways(doubles, isa.widen(logit)[0]);
            let (mut costs, mut both) = ([[0.0; 8]; 2], [0.0; 16]);
            singles.store(logit, &mut both);
            doubles.store(first, &mut costs[0]);
            doubles.store(second, &mut costs[1]);
            if both[0].is_nan() {
                return Ok(false);
            }
            self.heap.push(reached(best.cost + costs[0][0], ids[0]));
            self.heap.push(reached(best.cost + costs[1][0], ids[1]));
        }
        Ok(true)
    }
}
