//! Proofs: that a leaf stands in a tree, and that a tree is the beginning of another (RFC 6962, section 2.1; verified as
//! RFC 9162, sections 2.1.3.2 and 2.1.4.2, says).
//!
//! What makes a proof asks for hashes of *perfect subtrees*: `node(level, n)` is the root of the leaves from `n × 2^level`
//! on, `2^level` of them. They come from tiles, or from leaves that are at hand ([`of_leaves`]).

use std::convert::Infallible;

use super::{Hash, node_hash};

/// The audit path of leaf `index` in the tree of `size` leaves, the lowest hash first. `index` must be below `size`: else
/// the answer is empty, and proves nothing.
pub fn inclusion_proof<E>(
    index: u64,
    size: u64,
    mut node: impl FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let mut proof = Vec::new();
    if index >= size {
        return Ok(proof);
    }
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(range(middle, end, &mut node)?);
            end = middle;
        } else {
            proof.push(range(start, middle, &mut node)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of `old` leaves is the beginning of that of `new`. Empty where `old` is none or all of it; `old`
/// must not be above `new`.
pub fn consistency_proof<E>(
    old: u64,
    new: u64,
    mut node: impl FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return Ok(proof);
    }
    let (mut start, mut end) = (0, new);
    while old < end {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(range(middle, end, &mut node)?);
            end = middle;
        } else {
            proof.push(range(start, middle, &mut node)?);
            start = middle;
        }
    }
    // The old tree itself is known to whoever asks.
    if start > 0 {
        proof.push(range(start, end, &mut node)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Hashes of perfect subtrees over leaves that are at hand.
pub fn of_leaves(leaves: &[Hash]) -> impl FnMut(u32, u64) -> Result<Hash, Infallible> {
    |level, n| {
        let first = (n as usize) << level;
        let mut row = leaves[first..first + (1 << level)].to_vec();
        while row.len() > 1 {
            row = row.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
        }
        Ok(row[0])
    }
}

/// Whether a proof leads from a leaf's hash to the root of a tree.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut place, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Whether a proof shows that the tree with `old_root` is the beginning of the one with `new_root`.
pub fn verify_consistency(old: u64, new: u64, old_root: &Hash, new_root: &Hash, proof: &[Hash]) -> bool {
    if old > new {
        return false;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == Hash::empty();
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    let whole = old.is_power_of_two().then_some(old_root);
    let mut steps = whole.into_iter().chain(proof);
    let Some(first) = steps.next() else { return false };
    let (mut place, mut last) = (old - 1, new - 1);
    while place & 1 == 1 {
        (place, last) = (place >> 1, last >> 1);
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            old_hash = node_hash(step, &old_hash);
            new_hash = node_hash(step, &new_hash);
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            new_hash = node_hash(&new_hash, step);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

/// The largest power of two below `n`, which is above one: where the tree of `n` leaves is divided.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The hash of the leaves from `start` to `end`, which lie in the tree as one subtree, the last perhaps not perfect.
fn range<E>(start: u64, end: u64, node: &mut impl FnMut(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    let length = end - start;
    if length.is_power_of_two() {
        let level = length.trailing_zeros();
        return node(level, start >> level);
    }
    let middle = start + split(length);
    let left = range(start, middle, node)?;
    Ok(node_hash(&left, &range(middle, end, node)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Tree, leaf_hash};

    const MOST: u64 = 300;

    fn leaves() -> (Vec<Hash>, Vec<Hash>) {
        let leaves: Vec<Hash> = (0..MOST).map(|n| leaf_hash(n.to_string().as_bytes())).collect();
        let mut tree = Tree::new();
        let mut roots = vec![tree.root()];
        for leaf in &leaves {
            tree.push_hash(*leaf);
            roots.push(tree.root());
        }
        (leaves, roots)
    }

    /// RFC 6962's own definition of the tree hash, word for word.
    fn tree_hash(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::empty(),
            [leaf] => *leaf,
            leaves => {
                let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
                node_hash(&tree_hash(left), &tree_hash(right))
            }
        }
    }

    /// The same of its audit path.
    fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let k = split(leaves.len() as u64) as usize;
        let (left, right) = leaves.split_at(k);
        let (mut proof, other) =
            if m < k { (path(m, left), tree_hash(right)) } else { (path(m - k, right), tree_hash(left)) };
        proof.push(other);
        proof
    }

    #[test]
    fn every_inclusion_up_to_300_is_proved_and_no_other() {
        let (leaves, roots) = leaves();
        for size in 1..=MOST {
            let known = &leaves[..size as usize];
            assert_eq!(tree_hash(known), roots[size as usize], "{size}");
            for index in 0..size {
                let proof = inclusion_proof(index, size, of_leaves(known)).unwrap();
                let (leaf, root) = (&leaves[index as usize], &roots[size as usize]);
                if size % 7 == 0 || size < 40 {
                    assert_eq!(proof, path(index as usize, known), "{index} of {size}");
                }
                assert!(verify_inclusion(leaf, index, size, &proof, root), "{index} of {size}");
                assert!(!verify_inclusion(&leaves[(index as usize + 1) % 300], index, size, &proof, root));
                assert!(!verify_inclusion(leaf, index, size, &proof, &roots[size as usize - 1]), "{index} of {size}");
                assert!(!verify_inclusion(leaf, index ^ 1, size, &proof, root) || size == 1, "{index} of {size}");
                let long = [proof.as_slice(), &[*root]].concat();
                assert!(!verify_inclusion(leaf, index, size, &long, root), "{index} of {size}");
                if let Some((_, short)) = proof.split_last() {
                    assert!(!verify_inclusion(leaf, index, size, short, root), "{index} of {size}");
                }
            }
            assert!(inclusion_proof(size, size, of_leaves(known)).unwrap().is_empty());
            assert!(!verify_inclusion(&leaves[0], size, size, &[], &roots[size as usize]));
        }
    }

    #[test]
    fn every_consistency_up_to_300_is_proved_and_no_other() {
        let (leaves, roots) = leaves();
        for new in 0..=MOST {
            for old in 0..=new {
                let proof = consistency_proof(old, new, of_leaves(&leaves[..new as usize])).unwrap();
                let (old_root, new_root) = (&roots[old as usize], &roots[new as usize]);
                let verify = |proof: &[Hash]| verify_consistency(old, new, old_root, new_root, proof);
                assert!(verify(&proof), "{old} in {new}");
                let long = [proof.as_slice(), &[*new_root]].concat();
                assert!(!verify(&long), "{old} in {new}");
                if let Some((_, short)) = proof.split_last() {
                    assert!(!verify(short), "{old} in {new}");
                }
                let wrong = leaf_hash(b"another");
                assert!(!verify_consistency(old, new, &wrong, new_root, &proof), "{old} in {new}");
                if old > 0 {
                    assert!(!verify_consistency(old, new, old_root, &wrong, &proof), "{old} in {new}");
                }
                assert!(old == new || !verify_consistency(new, old, new_root, old_root, &proof));
            }
        }
    }

    #[test]
    fn any_changed_hash_breaks_a_proof() {
        let (leaves, roots) = leaves();
        for (first, size) in [(0, 8), (5, 7), (99, 100), (255, 257), (256, 300)] {
            let known = &leaves[..size as usize];
            let inclusion = inclusion_proof(first, size, of_leaves(known)).unwrap();
            let consistency = consistency_proof(first + 1, size, of_leaves(known)).unwrap();
            let root = &roots[size as usize];
            for bit in 0..256 {
                for at in 0..inclusion.len() {
                    let mut bad = inclusion.clone();
                    bad[at].0[bit / 8] ^= 1 << (bit % 8);
                    assert!(!verify_inclusion(&leaves[first as usize], first, size, &bad, root));
                }
                for at in 0..consistency.len() {
                    let mut bad = consistency.clone();
                    bad[at].0[bit / 8] ^= 1 << (bit % 8);
                    assert!(!verify_consistency(first + 1, size, &roots[first as usize + 1], root, &bad));
                }
            }
        }
    }
}
