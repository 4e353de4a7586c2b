//! Binary trees whose leaves are classes: Huffman's of some counts (Huffman 1952), or a given one.
//!
//! A tree is a list of merges, as SciPy's linkage and scikit-learn's `children_` have it: ids below n are classes, merge i joins
//! two of the ids below n + i and makes the id n + i, so the last merge is the root. Node i is merge i; its bit is 1 on the way
//! to the second of the two. A path is walked by parents: for each id but the root's, 2 node + bit. So the tree takes 8 bytes a
//! class for each of both, whatever its depth, which may be n - 1; paths as lists would take sum len, up to n^2 / 2.
//!
//! Method. Counts are sorted; then the two lightest are at the fronts of two queues, that of the classes and that of the merges
//! made, whose weights rise (van Leeuwen 1976). Of equal weights a class goes first, and of classes the lower one, which keeps
//! the longest path as short as it can be: with equal counts the tree is balanced. Counts of 0 are leaves like others.
//! Cost. O(n log n) for the sort, then O(n).

use crate::error::{Error, Result};

/// As many classes as ids and bits fit for in 31 bits.
const MOST: usize = 1 << 30;

/// The merges of Huffman's tree of counts that are finite and >= 0: 1 to 2^30 of them.
///
/// ```
/// use softmaxfam::heads::huffman;
/// assert_eq!(huffman(&[5.0, 1.0, 2.0], None)?, [[1, 2], [3, 0]]);
/// # Ok::<(), softmaxfam::Error>(())
/// ```
pub fn huffman(counts: &[f64], interrupt: Option<&(dyn Fn() -> bool + Sync)>) -> Result<Vec<[i32; 2]>> {
    let classes = counts.len();
    if !(1..=MOST).contains(&classes) {
        return Err(Error::Leaves { given: classes, most: MOST });
    }
    if let Some(class) = counts.iter().position(|count| !(count.is_finite() && *count >= 0.0)) {
        return Err(Error::Count { class, given: counts[class] });
    }
    // of numbers >= 0 the bits are in the order of the numbers; -0 becomes 0
    let mut sorted: Vec<(u64, u32)> = counts.iter().map(|count| (count + 0.0).to_bits()).zip(0..).collect();
    sorted.sort_unstable();
    let mut weights = Vec::with_capacity(classes - 1);
    let mut merges = Vec::with_capacity(classes - 1);
    let (mut leaf, mut made) = (0, 0);
    while merges.len() < classes - 1 {
        if merges.len().is_multiple_of(1 << 20) && interrupt.is_some_and(|interrupt| interrupt()) {
            return Err(Error::Interrupted);
        }
        let mut lightest = || {
            let of_leaf = sorted.get(leaf).map(|&(bits, class)| (f64::from_bits(bits), class as i32));
            let of_made = weights.get(made).map(|&weight: &f64| (weight, (classes + made) as i32));
            match (of_leaf, of_made) {
                (Some(one), Some(other)) if other.0 < one.0 => {
                    made += 1;
                    other
                }
                (Some(one), _) => {
                    leaf += 1;
                    one
                }
                (None, other) => {
                    made += 1;
                    other.expect("two ids are left until the root is made")
                }
            }
        };
        let (one, other) = (lightest(), lightest());
        weights.push(one.0 + other.0);
        merges.push([one.1, other.1]);
    }
    Ok(merges)
}

/// For each id but the root's 2 node + bit, of merges that are those of a tree; others are refused.
///
/// ```
/// use softmaxfam::heads::parents;
/// assert_eq!(parents(&[[1, 2], [3, 0]])?, [3, 0, 1, 2]);
/// # Ok::<(), softmaxfam::Error>(())
/// ```
pub fn parents(merges: &[[i32; 2]]) -> Result<Vec<i32>> {
    let classes = merges.len() + 1;
    if classes > MOST {
        return Err(Error::Leaves { given: classes, most: MOST });
    }
    let mut parents = vec![-1; 2 * merges.len()];
    for (node, ids) in merges.iter().enumerate() {
        for (bit, &id) in ids.iter().enumerate() {
            let is_there = usize::try_from(id).is_ok_and(|id| id < classes + node);
            if !is_there || parents[id as usize] >= 0 {
                return Err(Error::Merge { merge: node, given: id, below: classes + node });
            }
            parents[id as usize] = (2 * node + bit) as i32;
        }
    }
    Ok(parents) // as many ids as places, each once: all are named
}

/// The number of nodes on the path of each class.
pub fn path_lengths(parents: &[i32]) -> Result<Vec<i32>> {
    let nodes = parents.len() / 2;
    let classes = nodes + 1;
    let mut lengths = vec![0; nodes]; // of nodes
    for node in (0..nodes.saturating_sub(1)).rev() {
        lengths[node] = 1 + lengths[parent(parents, classes + node)?.0];
    }
    (0..classes.min(parents.len()))
        .map(|class| Ok(1 + lengths[parent(parents, class)?.0]))
        .chain((nodes == 0).then_some(Ok(0)))
        .collect()
}

/// The node above an id, and its bit.
#[inline(always)]
pub(crate) fn parent(parents: &[i32], id: usize) -> Result<(usize, usize)> {
    let (nodes, code) = (parents.len() / 2, parents[id]);
    let node = (code >> 1) as usize; // of a negative one: huge
    // ids of nodes rise towards the root, so that a walk ends
    if node >= nodes || nodes + 1 + node <= id { Err(Error::Tree) } else { Ok((node, (code & 1) as usize)) }
}
