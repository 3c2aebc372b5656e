//! Checkpoints: what a log was at one moment, signed (C2SP `tlog-checkpoint`).
//!
//! Those that we store carry one extension line, `frontier <base64>`: the roots of the tree's perfect subtrees. With it the
//! next entry is appended without reading any earlier one; it adds nothing that the root does not bind, and is refused
//! where it does not lead to the root.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lifeboat_model::signature::{PublicKey, SigningKey};

use super::{Hash, Tree, note, note::NoteError};

const FRONTIER: &str = "frontier ";

/// A log's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: see [`super::origin`].
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
}

/// A checkpoint that a trusted key has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What was signed.
    pub checkpoint: Checkpoint,
    /// The tree that can be appended to, where the checkpoint tells it.
    pub tree: Option<Tree>,
    /// The key that has signed it.
    pub key: PublicKey,
}

/// Signs a checkpoint in a key's name, which should be the origin. Gives the text of the note.
pub fn sign(checkpoint: &Checkpoint, key: &SigningKey, name: &str) -> String {
    note::sign(&checkpoint.text(), name, key)
}

/// The same of a tree, with what appending to it takes.
pub fn sign_tree(origin: &str, tree: &Tree, key: &SigningKey) -> String {
    let checkpoint = Checkpoint { origin: origin.to_owned(), size: tree.size(), root: tree.root() };
    let hashes: Vec<u8> = tree.frontier().iter().flat_map(|hash| hash.0).collect();
    let line = match hashes.is_empty() {
        true => String::new(),
        false => format!("{FRONTIER}{}\n", STANDARD.encode(hashes)),
    };
    note::sign(&format!("{}{line}", checkpoint.text()), origin, key)
}

/// The checkpoint, if a trusted key has signed it.
pub fn open(note: &[u8], trusted: &[PublicKey]) -> Result<Signed, NoteError> {
    let opened = note::open(note, trusted)?;
    let (checkpoint, tree) = parse(&opened.text)?;
    Ok(Signed { checkpoint, tree, key: opened.key })
}

/// [`open`], and it must be one of this log.
pub fn open_of(note: &[u8], trusted: &[PublicKey], origin: &str) -> Result<Signed, NoteError> {
    let signed = open(note, trusted)?;
    if signed.checkpoint.origin != origin {
        return Err(NoteError::Origin { found: signed.checkpoint.origin, expected: origin.to_owned() });
    }
    Ok(signed)
}

impl Checkpoint {
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }
}

fn parse(text: &str) -> Result<(Checkpoint, Option<Tree>), NoteError> {
    let bad = NoteError::Content("a checkpoint");
    let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
    let mut line = || lines.next().filter(|line| !line.is_empty()).ok_or(bad.clone());
    let (origin, size, root) = (line()?, line()?, line()?);
    let number: u64 = size.parse().map_err(|_| bad.clone())?;
    let root = STANDARD.decode(root).ok().and_then(|root| Some(Hash(root.try_into().ok()?))).ok_or(bad.clone())?;
    // One checkpoint, one text.
    let checkpoint = Checkpoint { origin: origin.to_owned(), size: number, root };
    if !text.starts_with(&checkpoint.text()) {
        return Err(bad);
    }
    let mut tree = None;
    for line in lines {
        if line.is_empty() {
            return Err(bad);
        }
        if let Some(encoded) = line.strip_prefix(FRONTIER) {
            let wrong = NoteError::Content("a checkpoint: its frontier does not lead to its root");
            let hashes = STANDARD.decode(encoded).map_err(|_| wrong.clone())?;
            let whole = hashes.len() % 32 == 0;
            let hashes = hashes.chunks_exact(32).map(|hash| Hash(hash.try_into().expect("32 bytes"))).collect();
            let told = Tree::from_frontier(number, hashes).filter(|tree| whole && tree.root() == root);
            tree = Some(told.ok_or(wrong)?);
        }
    }
    let empty = || (number == 0 && root == Hash::empty()).then(Tree::new);
    Ok((checkpoint, tree.or_else(empty)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "lifeboat.dev/ledger/00000000000000000000000000000000/acme";

    fn key() -> SigningKey {
        SigningKey::from_seed(&[7; 32])
    }

    #[test]
    fn round_trip_at_every_size() {
        let mut tree = Tree::new();
        for n in 0..70_u64 {
            let note = sign_tree(ORIGIN, &tree, &key());
            let signed = open_of(note.as_bytes(), &[key().public()], ORIGIN).unwrap();
            assert_eq!((signed.checkpoint.size, signed.checkpoint.root), (n, tree.root()));
            assert_eq!(signed.tree.as_ref(), Some(&tree));
            let plain = sign(&signed.checkpoint, &key(), ORIGIN);
            let again = open(plain.as_bytes(), &[key().public()]).unwrap();
            assert_eq!(again.checkpoint, signed.checkpoint);
            assert_eq!(again.tree, (n == 0).then(Tree::new));
            tree.push(&n.to_be_bytes());
        }
    }

    #[test]
    fn what_is_signed_and_is_no_checkpoint_is_refused() {
        let root = STANDARD.encode([1; 32]);
        let open = |text: &str| {
            open_of(note::sign(text, ORIGIN, &key()).as_bytes(), &[key().public()], ORIGIN).map(|_| ()).unwrap_err()
        };
        let bad = NoteError::Content("a checkpoint");
        for text in [
            "\n".to_owned(),
            format!("{ORIGIN}\n1\n"),
            format!("{ORIGIN}\n01\n{root}\n"),
            format!("{ORIGIN}\n+1\n{root}\n"),
            format!("{ORIGIN}\n-1\n{root}\n"),
            format!("{ORIGIN}\n1\n{}\n", &root[4..]),
            format!("{ORIGIN}\n1\n{root}\n\nmore\n"),
        ] {
            assert_eq!(open(&text), bad, "{text}");
        }
        let frontier = open(&format!("{ORIGIN}\n1\n{root}\nfrontier {}\n", STANDARD.encode([2; 32])));
        assert!(matches!(frontier, NoteError::Content(why) if why.contains("frontier")));
        assert!(matches!(open(&format!("else\n1\n{root}\n")), NoteError::Origin { .. }));
    }
}
