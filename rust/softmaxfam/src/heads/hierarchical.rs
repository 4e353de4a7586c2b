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
use super::products::AddRows;
use crate::elementary::{Window, exp, log1p};
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

/// Steps of paths, by the nodes that they touch: what the gradients of these need.
#[derive(Debug, Default)]
pub struct Touched {
    /// The nodes, ascending.
    pub nodes: Vec<i64>,
    starts: Vec<usize>,
    steps: Vec<Step>,
}

/// The slope of a loss in the logit of a node.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The node above, the query below.
    key: u64,
    slope: f32,
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

    pub(super) fn row(&self, node: usize) -> &'a [f32] {
        &self.weight[node * self.width..][..self.width]
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
            let mut steps = Vec::new();
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
                        terms.extend(path.iter().zip(&slopes).map(|(&code, &g)| (self.row(code as usize >> 1), g)));
                        let sum = to.place(query, 0, width, &mut []);
                        sum.fill(0.0);
                        dispatch(level, AddRows { terms: &terms, sum });
                    }
                    if touches {
                        let key = |code: i32| (code as u64 >> 1) << 32 | query as u64;
                        steps.extend(path.iter().zip(&slopes).map(|(&code, &slope)| Step { key: key(code), slope }));
                    }
                }
            }
            locked(&found).append(&mut steps);
            Ok(())
        })?;
        let mut steps = unlocked(found);
        steps.sort_unstable_by_key(|step| step.key);
        let mut touched = Touched::default();
        for (at, step) in steps.iter().enumerate() {
            let node = (step.key >> 32) as i64;
            if touched.nodes.last() != Some(&node) {
                touched.nodes.push(node);
                touched.starts.push(at);
            }
        }
        touched.starts.push(steps.len());
        touched.steps = steps;
        Ok(touched)
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

impl Touched {
    /// The gradients of the nodes' rows, for the same queries: one after the other, in the order of `nodes`.
    pub fn rows_into(
        &self,
        queries: &[f32],
        width: usize,
        into: RowsMut<'_, f32>,
        interrupt: Option<&(dyn Fn() -> bool + Sync)>,
    ) -> Result<()> {
        into.expect("the gradient of the nodes", self.nodes.len(), width)?;
        if self.nodes.is_empty() {
            return Ok(());
        }
        if !into.is_in_line() {
            return Err(Error::Contiguous { what: "the gradient of the nodes" });
        }
        let level = Level::active();
        let row_cost = PRODUCT * (self.steps.len() * width) as f64 / self.nodes.len().max(1) as f64;
        let job = Job { rows: self.nodes.len(), row_cost, together: 1, interrupt };
        for_each_piece(job, into, |rows, mut view| {
            let mut terms = Vec::new();
            for row in rows {
                let of_query = |step: &Step| (&queries[step.key as u32 as usize * width..][..width], step.slope);
                terms.clear();
                terms.extend(self.steps[self.starts[row]..self.starts[row + 1]].iter().map(of_query));
                let sum = view.place(row, 0, width, &mut []);
                sum.fill(0.0);
                dispatch(level, AddRows { terms: &terms, sum });
            }
            Ok(())
        })
    }

    /// The gradients of the nodes' biases.
    pub fn biases(&self) -> Vec<f32> {
        let sum =
            |range: &[usize]| self.steps[range[0]..range[1]].iter().map(|step| f64::from(step.slope)).sum::<f64>();
        self.starts.windows(2).map(|range| sum(range) as f32).collect()
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
                ask_for(isa, self.model.row(code as usize >> 1));
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
            ask_for(isa, self.model.row(code as usize >> 1));
        }
        cost
    }
}

/// softplus(x), softplus(-x) and sigmoid(-x).
#[inline(always)]
pub(super) fn two_ways<L: Lanes<Scalar = f64>>(lanes: L, x: L::V) -> [L::V; 3] {
    let (zero, one) = (lanes.splat(0.0), lanes.splat(1.0));
    let minus = lanes.sub(zero, x);
    let e = exp(lanes, lanes.min(x, minus), None, &Window::new(lanes, 0.0)); // e^-|x|; min gives a NaN back
    let log = log1p(lanes, e);
    let part = lanes.div(lanes.select(lanes.ge(x, zero), e, one), lanes.add(one, e));
    [lanes.add(lanes.max(x, zero), log), lanes.add(lanes.max(minus, zero), log), part]
}

/// The logits of at most 16 nodes, the lanes beyond them holding anything.
#[inline(always)]
pub(super) fn sixteen<I: Isa>(isa: I, model: &HierarchicalSoftmax<'_>, h: &[f32], nodes: &[usize]) -> V<I, f32> {
    let lanes = isa.f32();
    let mut sums = [lanes.splat(0.0); 16];
    for at in (0..nodes.len()).step_by(4) {
        let mut rows: [&[f32]; 4] = [&[]; 4];
        for (row, place) in rows.iter_mut().enumerate() {
            *place = &model.row(nodes[(at + row).min(nodes.len() - 1)])[..h.len()];
        }
        let mut four = [lanes.splat(0.0); 4];
        let whole = h.len() / 16 * 16;
        for from in (0..whole).step_by(16) {
            let query = lanes.load(&h[from..from + 16]);
            for row in 0..4 {
                four[row] = lanes.mul_add(lanes.load(&rows[row][from..from + 16]), query, four[row]);
            }
        }
        if whole < h.len() {
            let query = lanes.load_or(&h[whole..], 0.0);
            for row in 0..4 {
                four[row] = lanes.mul_add(lanes.load_or(&rows[row][whole..], 0.0), query, four[row]);
            }
        }
        sums[at..at + 4].copy_from_slice(&four);
    }
    let logits = isa.reduce_add_each(&sums);
    let Some(bias) = model.bias else { return logits };
    let mut biases = [0.0; 16];
    for (place, &node) in biases.iter_mut().zip(nodes) {
        *place = bias[node];
    }
    lanes.add(logits, lanes.load(&biases))
}

#[inline(always)]
fn ask_for<I: Isa>(isa: I, row: &[f32]) {
    for line in row.chunks(16) {
        isa.prefetch(line);
    }
}
