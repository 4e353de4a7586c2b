//! What a part of the classes contributes to the result of some queries, and how parts meet.
//!
//! Sums of floats hang on their order, so parts are kept apart until neighbours in one fixed tree are both there: its leaves
//! are the chunks of `tiles`, numbered by their first class among all; a node of twice the length is the sum of its two halves.
//! Merging is then associative and its result the same in any order, and shards that end at multiples of 4,096 classes give
//! the bits of one head. A state holds a number of sums that grows with the logarithm of the classes.

use super::bytes::{Reader, Writer};
use super::tiles::CHUNK;
use crate::elementary::log_scalar;
use crate::error::{Error, Result};
use crate::maps::expsum::ExpSum;
use crate::maps::topk::Top;
use crate::simd::Level;
use std::ops::Range;

const FORMAT: &[u8; 8] = b"sf-score";

/// Sums over ranges of classes, for each of some queries, in the order of classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Nodes(Vec<Node>);

#[derive(Clone, Debug, PartialEq)]
struct Node {
    classes: Range<u64>,
    sums: Vec<ExpSum>,
}

impl Node {
    /// Whether these are the two halves of a node of the tree.
    fn has_sibling(&self, next: &Self) -> bool {
        let length = self.classes.end - self.classes.start;
        let is_node = length.is_multiple_of(CHUNK as u64) && (length / CHUNK as u64).is_power_of_two();
        let follows = next.classes == (self.classes.end..self.classes.end + length);
        is_node && follows && self.classes.start.is_multiple_of(2 * length)
    }
}

impl Nodes {
    /// Adds the range that follows those so far.
    pub(super) fn push(&mut self, classes: Range<u64>, sums: Vec<ExpSum>, temperature: f64) {
        if classes.is_empty() {
            return;
        }
        self.0.push(Node { classes, sums });
        while let [.., left, right] = &self.0[..]
            && left.has_sibling(right)
        {
            let right = self.0.pop().expect("there are two");
            let left = self.0.last_mut().expect("there are two");
            left.classes.end = right.classes.end;
            left.sums.iter_mut().zip(right.sums).for_each(|(left, right)| *left = left.merged(right, temperature));
        }
    }

    /// Both together; the ranges must not meet.
    fn merged(self, other: Self, temperature: f64) -> Result<Self> {
        let mut all = [self.0, other.0].concat();
        all.sort_by_key(|node| node.classes.start);
        if let Some(pair) = all.windows(2).find(|pair| pair[0].classes.end > pair[1].classes.start) {
            return Err(Error::Overlap { class: pair[1].classes.start });
        }
        let mut nodes = Self::default();
        all.into_iter().for_each(|node| nodes.push(node.classes, node.sums, temperature));
        Ok(nodes)
    }
}

/// What some classes contribute to the scores of some queries: mergeable with what other classes do.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreState {
    k: usize,
    temperature: f64,
    /// For each query the class that is asked for, and its score once it was met.
    targets: Option<Vec<(i64, Option<f32>)>>,
    nodes: Nodes,
    absent: Vec<bool>,
    /// Scores and classes, best first, at most k a query.
    tops: Vec<Vec<(f32, i64)>>,
}

/// The result of a head's scoring: rows of queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Log-probabilities of the best classes, k a query, best first; -inf where there are no more, NaN in undefined rows.
    pub log_probs: Vec<f32>,
    /// Their classes; -1 where there is none.
    pub indices: Vec<i64>,
    /// log sum exp of all scores over the temperature, one a query.
    pub logsumexp: Vec<f32>,
    /// The log-probability of each query's target.
    pub target_log_prob: Option<Vec<f32>>,
}

impl ScoreState {
    pub(super) fn new(k: usize, temperature: f64, target: Option<&[i64]>) -> Self {
        let targets = target.map(|target| target.iter().map(|&class| (class, None)).collect());
        Self { k, temperature, targets, nodes: Nodes::default(), absent: Vec::new(), tops: Vec::new() }
    }

    /// Adds queries over the same classes as those so far.
    pub(super) fn add_queries(
        &mut self,
        nodes: Nodes,
        absent: Vec<bool>,
        found: impl Iterator<Item = (Vec<(f32, i64)>, Option<f32>)>,
    ) {
        let before = self.tops.len();
        for (query, (top, target)) in found.enumerate() {
            self.tops.push(top);
            if let Some(targets) = &mut self.targets {
                targets[before + query].1 = target;
            }
        }
        self.absent.extend(absent);
        if self.nodes.0.is_empty() {
            self.nodes = nodes;
        } else {
            for (node, more) in self.nodes.0.iter_mut().zip(nodes.0) {
                node.sums.extend(more.sums);
            }
        }
    }

    /// The number of best classes kept of each query.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The number of queries.
    pub fn queries(&self) -> usize {
        self.tops.len()
    }

    /// This and what other classes contribute to the same queries. The order of merging changes no bit of the result.
    pub fn merge(self, other: Self) -> Result<Self> {
        let asked = |state: &Self| {
            let targets: Option<Vec<_>> = state.targets.as_ref().map(|all| all.iter().map(|target| target.0).collect());
            (state.queries(), state.k, state.temperature.to_bits(), targets)
        };
        if asked(&self) != asked(&other) {
            return Err(Error::States);
        }
        let nodes = self.nodes.merged(other.nodes, self.temperature)?;
        let tops = self.tops.into_iter().zip(other.tops).map(|(one, other)| {
            let mut top = Top::new(self.k);
            top.entries = [one, other].concat();
            top.take().to_vec()
        });
        let met = |(one, other): ((i64, Option<f32>), (i64, Option<f32>))| (one.0, one.1.or(other.1));
        let targets = self.targets.zip(other.targets).map(|(one, other)| one.into_iter().zip(other).map(met).collect());
        let absent = self.absent.iter().zip(&other.absent).map(|(&one, &other)| one && other).collect();
        Ok(Self { k: self.k, temperature: self.temperature, targets, nodes, absent, tops: tops.collect() })
    }

    /// The log of the sum over all classes of each query.
    pub(super) fn logsumexp(&self) -> Vec<f64> {
        let level = Level::active();
        let of = |query: usize| {
            let sums = self.nodes.0.iter().map(|node| node.sums[query]);
            let sum = sums.fold(ExpSum::EMPTY, |sum, part| sum.merged(part, self.temperature));
            sum.log_given(log_scalar(level, sum.sum), self.temperature)
        };
        (0..self.queries()).map(of).collect()
    }

    /// The result over the classes that were merged.
    pub fn finish(&self) -> Result<Scores> {
        let logsumexp = self.logsumexp();
        if let Some((query, target)) = self.targets.iter().flatten().enumerate().find(|(_, target)| target.1.is_none())
        {
            return Err(Error::Target { query, given: target.0 });
        }
        let is_undefined =
            |query: usize, lse: f64| !(lse.is_finite() || (lse == f64::NEG_INFINITY && self.absent[query]));
        let (mut log_probs, mut indices) = (Vec::new(), Vec::new());
        for (query, (top, &lse)) in self.tops.iter().zip(&logsumexp).enumerate() {
            let undefined = is_undefined(query, lse);
            let rest = if undefined { f32::NAN } else { f32::NEG_INFINITY };
            for slot in 0..self.k {
                let entry = top.get(slot).filter(|_| !undefined);
                log_probs.push(entry.map_or(rest, |&(score, _)| self.log_prob(score, lse)));
                indices.push(entry.map_or(-1, |&(_, class)| class));
            }
        }
        let of_target = |(query, &(_, score)): (usize, &(i64, Option<f32>))| {
            let lse = logsumexp[query];
            match score {
                _ if is_undefined(query, lse) => f32::NAN,
                Some(score) if score > f32::NEG_INFINITY => self.log_prob(score, lse),
                _ => f32::NEG_INFINITY,
            }
        };
        let target_log_prob = self.targets.as_ref().map(|all| all.iter().enumerate().map(of_target).collect());
        Ok(Scores { log_probs, indices, logsumexp: logsumexp.iter().map(|&lse| lse as f32).collect(), target_log_prob })
    }

    fn log_prob(&self, score: f32, lse: f64) -> f32 {
        (f64::from(score) / self.temperature - lse) as f32
    }

    /// The best of each query, for others in their place, best first.
    pub(super) fn set_tops(&mut self, tops: Vec<Vec<(f32, i64)>>) {
        self.tops = tops;
    }

    /// This state for another process or machine.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Writer::new(FORMAT);
        bytes.number(self.k as u64);
        bytes.double(self.temperature);
        bytes.number(self.queries() as u64);
        bytes.number(self.nodes.0.len() as u64);
        bytes.number(self.targets.is_some().into());
        for (query, top) in self.tops.iter().enumerate() {
            bytes.number(self.absent[query].into());
            if let Some(targets) = &self.targets {
                let (class, score) = targets[query];
                bytes.number(class.cast_unsigned());
                bytes.number(score.is_some().into());
                bytes.single(score.unwrap_or(0.0));
            }
            bytes.number(top.len() as u64);
            for &(score, class) in top {
                bytes.single(score);
                bytes.number(class.cast_unsigned());
            }
        }
        for node in &self.nodes.0 {
            bytes.number(node.classes.start);
            bytes.number(node.classes.end);
            for sum in &node.sums {
                [sum.reference, sum.shift, sum.sum].into_iter().for_each(|number| bytes.double(number));
            }
        }
        bytes.finish()
    }

    /// A state from what [`ScoreState::to_bytes`] gave; anything else is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut bytes = Reader::new(FORMAT, bytes)?;
        let k = usize::try_from(bytes.number()?).map_err(|_| Error::Bytes)?;
        let temperature = bytes.double()?;
        let (queries, nodes, with_targets) = (bytes.count(16)?, bytes.count(16)?, bytes.number()? != 0);
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(Error::Bytes);
        }
        let mut state = Self::new(k, temperature, with_targets.then_some(&[]));
        for _ in 0..queries {
            state.absent.push(bytes.number()? != 0);
            if let Some(targets) = &mut state.targets {
                let (class, is_met, score) = (bytes.number()?.cast_signed(), bytes.number()? != 0, bytes.single()?);
                targets.push((class, is_met.then_some(score)));
            }
            let entries = (0..bytes.count(12)?).map(|_| Ok((bytes.single()?, bytes.number()?.cast_signed())));
            state.tops.push(entries.collect::<Result<_>>()?);
        }
        for _ in 0..nodes {
            let classes = bytes.number()?..bytes.number()?;
            let sum = |_| Ok(ExpSum { reference: bytes.double()?, shift: bytes.double()?, sum: bytes.double()? });
            let sums = (0..queries).map(sum).collect::<Result<_>>()?;
            let follows = state.nodes.0.last().is_none_or(|last| last.classes.end <= classes.start);
            if classes.is_empty() || !follows {
                return Err(Error::Bytes);
            }
            state.nodes.0.push(Node { classes, sums });
        }
        bytes.end()?;
        Ok(state)
    }
}
