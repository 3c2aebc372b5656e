//! A tree that grows at its right end, in as many hashes as its size has binary ones.

use super::{Hash, leaf_hash, node_hash};

/// A log's tree as far as one must know it to append: the roots of its perfect subtrees, the largest first. It has at
/// most 64 hashes, however long the log is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    size: u64,
    frontier: Vec<Hash>,
}

impl Tree {
    /// The tree of an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree with these perfect subtrees; none where their number does not fit the size.
    pub fn from_frontier(size: u64, frontier: Vec<Hash>) -> Option<Self> {
        (frontier.len() as u32 == size.count_ones()).then_some(Self { size, frontier })
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of its perfect subtrees, the largest (leftmost) first.
    pub fn frontier(&self) -> &[Hash] {
        &self.frontier
    }

    /// Appends a leaf with these bytes.
    pub fn push(&mut self, leaf: &[u8]) {
        self.push_hash(leaf_hash(leaf));
    }

    /// Appends a leaf of which the hash is known.
    pub fn push_hash(&mut self, mut hash: Hash) {
        for _ in 0..self.size.trailing_ones() {
            let left = self.frontier.pop().expect("there is a subtree for each binary one of the size");
            hash = node_hash(&left, &hash);
        }
        self.frontier.push(hash);
        self.size += 1;
    }

    /// Its root.
    pub fn root(&self) -> Hash {
        let joined = self.frontier.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        joined.unwrap_or_else(Hash::empty)
    }
}

impl<L: AsRef<[u8]>> FromIterator<L> for Tree {
    fn from_iter<I: IntoIterator<Item = L>>(leaves: I) -> Self {
        let mut tree = Self::new();
        leaves.into_iter().for_each(|leaf| tree.push(leaf.as_ref()));
        tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The leaves and roots that certificate-transparency projects test with.
    const LEAVES: [&[u8]; 8] = [
        &[],
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
    ];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let mut tree = Tree::new();
        assert_eq!(tree.root().to_string(), ROOTS[0]);
        for (leaf, root) in LEAVES.iter().zip(&ROOTS[1..]) {
            tree.push(leaf);
            assert_eq!(tree.root().to_string(), *root, "{} leaves", tree.size());
            assert_eq!(Tree::from_frontier(tree.size(), tree.frontier().to_vec()), Some(tree.clone()));
        }
        assert_eq!(LEAVES.iter().collect::<Tree>(), tree);
        assert_eq!(Tree::from_frontier(7, tree.frontier().to_vec()), None);
        assert_eq!(ROOTS[8].parse::<Hash>().unwrap(), tree.root());
        assert!(ROOTS[8].to_uppercase().parse::<Hash>().is_err());
    }
}
