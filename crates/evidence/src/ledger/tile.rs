//! Full tiles and bundles of C2SP `tlog-tiles`: 256 hashes, and 256 entries each with its length before it.

use super::{Hash, node_hash};

/// Hashes in a tile, entries in a bundle.
pub const WIDTH: u64 = 256;

/// The bytes of a full tile.
pub fn encode(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a full tile; none where it is not one.
pub fn decode(bytes: &[u8]) -> Option<Vec<Hash>> {
    let whole = bytes.len() as u64 == 32 * WIDTH;
    whole.then(|| bytes.chunks_exact(32).map(|hash| Hash(hash.try_into().expect("32 bytes"))).collect())
}

/// The root of the subtree over a full tile: a hash of the tile one level up.
pub fn root(hashes: &[Hash]) -> Option<Hash> {
    if hashes.len() as u64 != WIDTH {
        return None;
    }
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    row.pop()
}

/// The bytes of a bundle of leaves; none where one of them is too long for it.
pub fn bundle<L: AsRef<[u8]>>(leaves: &[L]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for leaf in leaves {
        let leaf = leaf.as_ref();
        bytes.extend_from_slice(&u16::try_from(leaf.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(leaf);
    }
    Some(bytes)
}

/// The most bytes that a bundle can have.
pub const MAX_BUNDLE: u64 = WIDTH * (2 + u16::MAX as u64);

/// The leaves of a full bundle; none where it is not one.
pub fn unbundle(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut leaves, mut rest) = (Vec::new(), bytes);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (leaf, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        leaves.push(leaf);
        rest = after;
    }
    (rest.is_empty() && leaves.len() as u64 == WIDTH).then_some(leaves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Tree, leaf_hash};

    #[test]
    fn tiles_and_bundles_read_back() {
        let leaves: Vec<Vec<u8>> = (0..WIDTH).map(|n| vec![n as u8; n as usize * 3]).collect();
        let bytes = bundle(&leaves).unwrap();
        assert_eq!(unbundle(&bytes).unwrap(), leaves);
        assert_eq!(unbundle(&bytes[..bytes.len() - 1]), None);
        assert_eq!(unbundle(&[bytes.as_slice(), &[0, 0]].concat()), None);
        assert_eq!(unbundle(&[]), None);
        assert!(bundle(&[vec![0; 65_536]]).is_none());
        let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let tile = encode(&hashes);
        assert_eq!(decode(&tile).unwrap(), hashes);
        assert_eq!(decode(&tile[1..]), None);
        assert_eq!(root(&hashes), Some(leaves.iter().collect::<Tree>().root()));
        assert_eq!(root(&hashes[1..]), None);
    }
}
