//! Hierarchical softmax against its definition, on every instruction set.

use proptest::prelude::*;
use softmaxfam::heads::{HierarchicalSoftmax, huffman, parents, path_lengths};
use softmaxfam::{Error, RowsMut, isa};

/// The (node, bit) of each class, from the root.
fn paths(merges: &[[i32; 2]]) -> Vec<Vec<(usize, usize)>> {
    let classes = merges.len() + 1;
    let above = |id: usize| {
        let nodes = merges.iter().enumerate();
        nodes.flat_map(|(node, ids)| [(node, 0, ids[0]), (node, 1, ids[1])]).find(|found| found.2 as usize == id)
    };
    (0..classes)
        .map(|class| {
            let (mut path, mut id) = (Vec::new(), class);
            while let Some((node, bit, _)) = above(id) {
                path.insert(0, (node, bit));
                id = classes + node;
            }
            path
        })
        .collect()
}

fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let step = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16) as f32;
    (0..count).map(|i| step(i + 1) / 32_768.0 - 1.0).collect()
}

proptest! {
    #[test]
    fn values_and_gradients_are_those_of_the_definition(
        counts in prop::collection::vec(0_u32..30, 2..30), width in 1_usize..40, rows in 1_usize..20,
    ) {
        let counts: Vec<f64> = counts.into_iter().map(f64::from).collect();
        let merges = huffman(&counts, None).unwrap();
        let (nodes, parents) = (merges.len(), parents(&merges).unwrap());
        let (weight, bias, queries) = (numbers(nodes * width, 1), numbers(nodes, 2), numbers(rows * width, 3));
        let targets: Vec<i64> = (0..rows).map(|row| (7 * row % counts.len()) as i64).collect();
        let model = HierarchicalSoftmax::new(&parents, &weight, Some(&bias), width).unwrap();
        let all = paths(&merges);
        let mut first = None;
        for name in isa::available() {
            let (mut losses, mut of_queries) = (vec![f64::NAN; rows], vec![f32::NAN; rows * width]);
            let into = RowsMut::new(&mut of_queries, width).unwrap();
            let found = isa::forced(name, || {
                model.loss(&queries, &targets, None, None, &mut losses, Some(into), true, None).unwrap()
            }).unwrap();
            let mut of_nodes = vec![f32::NAN; found.rows.len() * width];
            found.rows_into(&queries, width, RowsMut::new(&mut of_nodes, width).unwrap(), None).unwrap();
            let (mut want, mut want_rows) = (vec![0.0; rows * width], vec![0.0; nodes * width]);
            for (row, &target) in targets.iter().enumerate() {
                let h = &queries[row * width..][..width];
                let mut cost = 0.0;
                for &(node, bit) in &all[target as usize] {
                    let w = &weight[node * width..][..width];
                    let products = h.iter().zip(w).map(|(&a, &b)| f64::from(a) * f64::from(b));
                    let a = products.sum::<f64>() + f64::from(bias[node]);
                    let x = if bit == 1 { a } else { -a };
                    cost += (-x).exp().ln_1p();
                    let slope = 1.0 / (1.0 + (-a).exp()) - bit as f64;
                    for d in 0..width {
                        want[row * width + d] += slope * f64::from(w[d]);
                        want_rows[node * width + d] += slope * f64::from(h[d]);
                    }
                }
                prop_assert!((losses[row] - cost).abs() <= 1e-5 * cost.max(1.0), "{name}: {} {cost}", losses[row]);
            }
            prop_assert!(of_queries.iter().zip(&want).all(|(&a, b)| (f64::from(a) - b).abs() < 1e-5));
            for (&node, row) in found.rows.iter().zip(of_nodes.chunks(width)) {
                let want = &want_rows[node as usize * width..][..width];
                prop_assert!(row.iter().zip(want).all(|(&a, b)| (f64::from(a) - b).abs() < 1e-5));
            }
            let bits = (losses, of_queries, of_nodes, found.biases());
            prop_assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits);
        }
        let lengths: Vec<_> = all.iter().map(|path| path.len() as i32).collect();
        prop_assert_eq!(path_lengths(&parents).unwrap(), lengths);
    }
}

#[test]
fn parents_that_are_no_tree_are_refused_and_end() {
    // 3 classes: ids 0, 1, 2, then the nodes 3 and 4; the node 3 below itself
    for parents in [[0, 1, 2, 1], [0, 1, 2, 9], [0, 1, 2, -1]] {
        let model = HierarchicalSoftmax::new(&parents, &[0.0; 2], None, 1).unwrap();
        let walked = model.loss(&[1.0], &[0], None, None, &mut [0.0], None, false, None);
        assert_eq!(walked.map(|_| ()), Err(Error::Tree));
        let mut out = [0.0; 3];
        assert_eq!(model.log_probs(&[1.0], RowsMut::new(&mut out, 3).unwrap(), None), Err(Error::Tree));
        assert_eq!(path_lengths(&parents), Err(Error::Tree));
    }
    let model = HierarchicalSoftmax::new(&[0, 1, 2, 3], &[0.0; 2], None, 1).unwrap();
    let round = model.top(&[[0, 1], [2, 4]], &[1.0], 3, &mut [0.0; 3], &mut [0; 3], None);
    assert_eq!(round, Err(Error::Tree));
}

#[test]
fn a_label_out_of_range_is_refused_before_anything_is_written() {
    let model = HierarchicalSoftmax::new(&[0, 1], &[0.0], None, 1).unwrap();
    let mut losses = [7.0; 2];
    let refused = model.loss(&[1.0; 2], &[0, 2], None, None, &mut losses, None, false, None);
    assert_eq!(refused.map(|_| ()), Err(Error::Label { row: 1, given: 2, classes: 2 }));
    assert_eq!(losses, [7.0; 2]);
}

#[test]
fn an_interrupt_ends_the_building() {
    assert_eq!(huffman(&[1.0; 4], Some(&|| true)), Err(Error::Interrupted));
}
