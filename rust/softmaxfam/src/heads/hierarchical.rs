//! Hierarchical softmax: a class as the leaf of a binary tree, its probability a product along its path.
//!
//! Problem. With a_v = <h, w_v> + b_v of node v (Morin & Bengio 2005; Mikolov, Sutskever, Chen, Corrado, Dean 2013),
//!     -log p(c) = sum of softplus(-x_v) over the nodes of c's path, x_v = a_v where the bit is 1, else -a_v,
//! and the slope in a_v is -sigmoid(-x_v) with the sign of x_v: on the path, 0 elsewhere. The probabilities of all classes sum
//! to 1; with a = 0 they are 2^-len, and Huffman's tree of counts has a mean len within 1 bit of their entropy.
//! Method. Paths are walked upwards, those of [`TOGETHER`] queries at a time, so that the misses of the walks overlap; the rows of
//! the next path are asked for while those of this one are multiplied. Products run in lanes as those of `dots`, to the
//! bit; softplus in f64, sums over a path in f64, from the root.
//! Order. The gradient of a query is one chain of fused multiply-adds along its path, that of a node such a chain over the
//! queries in their order: steps are sorted by node and query. So the bits hang on neither threads nor batches' cutting.
//! Error. As `dots` for a_v; e = |da| a step reaches -log p by at most e, 3 2^-52 of softplus beside it.
//! Cost. Of a query len D multiplications for the value, as many for its gradient, as many for that of the nodes.

use super::huffman::parent;
use super::linear::{check_length, locked, unlocked};
use super::listed::ListedRows;
use super::products::AddRows;
use super::touched::{Term, Touched};
use crate::elementary::two_ways;
use crate::error::{Error, Result};
use crate::rows::{Places, RowsMut};
use crate::simd::{Isa, Kernel, Lanes, Level, V, dispatch};
use crate::threads::{Job, for_each_piece};
use std::sync::Mutex;

/// Queries whose paths are walked at the same time.
const TOGETHER: usize = 16;
/// Nanoseconds of a multiplication, and of a step of a walk.
const PRODUCT: f64 = 0.1;
const STEP: f64 = 40.0;

/// A tree with a vector for each node, and a number if there is a bias.
///
/// ```
/// use softmaxfam::heads::{HierarchicalSoftmax, huffman, parents};
/// let parents = parents(&huffman(&[5.0, 1.0, 2.0], None)?)?;
/// let model = HierarchicalSoftmax::new(&parents, &[0.0; 4], None, 2)?;
/// let mut losses = [0.0; 2];
/// model.loss(&[1.0; 4], &[0, 1], None, None, &mut losses, None, false, None)?;
/// assert_eq!(losses, [2_f64.ln(), 4_f64.ln()]);
/// # Ok::<(), softmaxfam::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct HierarchicalSoftmax<'a> {
    pub(super) parents: &'a [i32],
    pub(super) weight: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
    pub(super) width: usize,
}

impl<'a> HierarchicalSoftmax<'a> {
    /// Over `parents`, as [`super::parents`] gives them, and rows of `width` numbers for the nodes.
    pub fn new(parents: &'a [i32], weight: &'a [f32], bias: Option<&'a [f32]>, width: usize) -> Result<Self> {
        let nodes = parents.len() / 2;
        if width == 0 {
            return Err(Error::Width { given: 0, needed: 1 });
        }
        check_length("the weight of the nodes", weight.len(), nodes * width)?;
        bias.map_or(Ok(()), |bias| check_length("the bias", bias.len(), nodes))?;
        Ok(Self { parents, weight, bias, width })
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.parents.len() / 2 + 1
    }

    fn rows(&self) -> ListedRows<'a> {
        ListedRows { numbers: self.weight, width: self.width }
    }

    /// -log p of each query's target into `losses`; 0 where it is `ignored`.
    ///
    /// The gradient of the sum, each loss times its factor, goes to `of_queries`; `touches` keeps what those of the nodes need.
    #[expect(clippy::too_many_arguments, reason = "a loss, and where its parts go")]
    pub fn loss(
        &self,
        queries: &[f32],
        targets: &[i64],
        ignored: Option<i64>,
        factors: Option<&[f64]>,
        losses: &mut [f64],
        of_queries: Option<RowsMut<'_, f32>>,
        touches: bool,
        interrupt: Option<&(dyn Fn() -> bool + Sync)>,
    ) -> Result<Touched> {
        let (count, width, classes) = (targets.len(), self.width, self.classes());
        check_length("the queries", queries.len(), count * width)?;
        check_length("losses", losses.len(), count)?;
        factors.map_or(Ok(()), |factors| check_length("factors", factors.len(), count))?;
        let is_class = |target: i64| usize::try_from(target).is_ok_and(|class| class < classes);
        let counts = |target: i64| ignored != Some(target);
        if let Some(row) = targets.iter().position(|&target| counts(target) && !is_class(target)) {
            return Err(Error::Label { row, given: targets[row], classes });
        }
        if let Some(of_queries) = &of_queries {
            of_queries.expect("the gradient of the queries", count, width)?;
            if count > 0 && !of_queries.is_in_line() {
                return Err(Error::Contiguous { what: "the gradient of the queries" });
            }
        }
        let found = Mutex::new(Vec::new());
        let level = Level::active();
        let asks_for_queries = of_queries.is_some();
        let length = f64::from(classes.ilog2() + 1);
        let row_cost = length * (STEP + PRODUCT * (1.0 + f64::from(u8::from(asks_for_queries))) * width as f64);
        let job = Job { rows: count, row_cost, together: TOGETHER, interrupt };
        for_each_piece(job, (RowsMut::new(losses, 1)?, of_queries), |rows, (mut losses, mut of_queries)| {
            let mut terms_of_nodes = Vec::new();
            let (mut slopes, mut terms) = (Vec::new(), Vec::new());
            for from in rows.clone().step_by(TOGETHER) {
                let block = from..rows.end.min(from + TOGETHER);
                let paths =
                    self.paths(targets[block.clone()].iter().map(|&target| counts(target).then_some(target)))?;
                for (at, query) in block.enumerate() {
                    let h = &queries[query * width..][..width];
                    let (path, next) = (&paths[at], paths.get(at + 1).map_or(&[][..], |next| next));
                    slopes.clear();
                    slopes.resize(path.len().next_multiple_of(16), 0.0);
                    let factor = factors.map_or(1.0, |factors| factors[query]);
                    let cost = dispatch(level, Walk { model: *self, h, path, next, factor, slopes: &mut slopes });
                    losses.set(query, 0, cost);
                    if let Some(to) = &mut of_queries {
                        terms.clear();
                        terms.extend(
                            path.iter().zip(&slopes).map(|(&code, &g)| (self.rows().row(code as usize >> 1), g)),
                        );
                        let sum = to.place(query, 0, width, &mut []);
                        sum.fill(0.0);
                        dispatch(level, AddRows { terms: &terms[..], sum });
                    }
                    if touches {
                        let term = |(&code, &slope): (&i32, &f32)| Term::new(code as usize >> 1, query, slope);
                        terms_of_nodes.extend(path.iter().zip(&slopes).map(term));
                    }
                }
            }
            locked(&found).append(&mut terms_of_nodes);
            Ok(())
        })?;
        Ok(Touched::new(unlocked(found), Vec::new()))
    }

    /// The paths of some targets, from the root; of none an empty one.
    fn paths(&self, targets: impl Iterator<Item = Option<i64>>) -> Result<[Vec<i32>; TOGETHER]> {
        let mut paths = [const { Vec::new() }; TOGETHER];
        let root = self.parents.len(); // its id
        let mut ids = [root; TOGETHER];
        for (id, target) in ids.iter_mut().zip(targets) {
            *id = target.map_or(root, |class| class as usize);
        }
        while ids.iter().any(|&id| id != root) {
            for (id, path) in ids.iter_mut().zip(&mut paths).filter(|(id, _)| **id != root) {
                let (node, bit) = parent(self.parents, *id)?;
                path.push((2 * node + bit) as i32);
                *id = root / 2 + 1 + node;
            }
        }
        paths.iter_mut().for_each(|path| path.reverse());
        Ok(paths)
    }
}

/// -log p along a path, and its slopes times a factor.
struct Walk<'k> {
    model: HierarchicalSoftmax<'k>,
    h: &'k [f32],
    path: &'k [i32],
    next: &'k [i32],
    factor: f64,
    /// As many as the path has nodes, in whole lanes.
    slopes: &'k mut [f32],
}

impl Kernel for Walk<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f64 {
        let (singles, doubles) = (isa.f32(), isa.f64());
        let factor = doubles.splat(-self.factor);
        let mut cost = 0.0;
        let mut next = self.next.iter();
        for (codes, slopes) in self.path.chunks(16).zip(self.slopes.chunks_mut(16)) {
            for &code in next.by_ref().take(16) {
                self.model.rows().ask_for(isa, code as usize >> 1);
            }
            let (mut nodes, mut signs, mut costs) = ([0; 16], [1.0; 16], [0.0; 16]);
            for (lane, &code) in codes.iter().enumerate() {
                nodes[lane] = code as usize >> 1;
                signs[lane] = if code & 1 == 1 { 1.0 } else { -1.0 };
            }
            let signs = singles.load(&signs);
            let logits = sixteen(isa, &self.model, self.h, &nodes[..codes.len()]);
            let halves = isa.widen(singles.mul(logits, signs));
            let mut found = halves;
            for half in 0..2 {
                let [_, down, part] = two_ways(doubles, halves[half]);
                doubles.store(down, &mut costs[8 * half..]);
                found[half] = doubles.mul(part, factor);
            }
            singles.store(singles.mul(isa.narrow(found), signs), slopes);
            for cost_of_step in &costs[..codes.len()] {
                cost += cost_of_step;
            }
        }
        for &code in next {
            self.model.rows().ask_for(isa, code as usize >> 1);
        }
        cost
    }
}

/// The logits of at most 16 nodes, the lanes beyond them holding anything.
#[inline(always)]
pub(super) fn sixteen<I: Isa>(isa: I, model: &HierarchicalSoftmax<'_>, h: &[f32], nodes: &[usize]) -> V<I, f32> {
    let lanes = isa.f32();
    let logits = model.rows().sixteen(isa, h, nodes);
    let Some(bias) = model.bias else { return logits };
    let mut biases = [0.0; 16];
    for (place, &node) in biases.iter_mut().zip(nodes) {
        *place = bias[node];
    }
    lanes.add(logits, lanes.load(&biases))
}
