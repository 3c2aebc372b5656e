//! Where the ledger's objects lie, below `<tenant>/evidence/`.

/// The folder of a log.
pub const FOLDER: &str = "ledger/";

/// What an object of the ledger is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The slot of an entry.
    Entry(u64),
    /// A checkpoint of so many entries; with a suffix where its first place was taken by something else.
    Checkpoint(u64),
    /// Full tile of hashes: level and number.
    Tile(u32, u64),
    /// Full bundle of entries.
    Bundle(u64),
}

/// The slot of an entry.
pub fn entry(index: u64) -> String {
    format!("{FOLDER}entries/{index:012}")
}

/// The checkpoint of so many entries.
pub fn checkpoint(size: u64) -> String {
    format!("{FOLDER}checkpoints/{size:012}")
}

/// Where a checkpoint goes if its place is taken by something else: nobody can know that place before it is signed.
pub fn other_checkpoint(size: u64, note: &str) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(note);
    let digits: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{digits}", checkpoint(size))
}

/// A full tile of hashes.
pub fn tile(level: u32, number: u64) -> String {
    format!("{FOLDER}tile/{level}/{}", grouped(number))
}

/// A full bundle of entries.
pub fn bundle(number: u64) -> String {
    format!("{FOLDER}tile/entries/{}", grouped(number))
}

/// Three digits to a path element, all but the last with an `x`.
fn grouped(number: u64) -> String {
    let last = format!("{:03}", number % 1000);
    match number / 1000 {
        0 => last,
        rest => format!(
            "{}/{last}",
            grouped(rest)
                .rsplit_once('/')
                .map_or_else(|| format!("x{}", grouped(rest)), |(front, back)| format!("{front}/x{back}"),)
        ),
    }
}

/// What lies at a name; none where no release writes such a name.
pub fn parse(name: &str) -> Option<Place> {
    let rest = name.strip_prefix(FOLDER)?;
    if let Some(index) = rest.strip_prefix("entries/") {
        let index = index.parse().ok()?;
        return (entry(index) == name).then_some(Place::Entry(index));
    }
    if let Some(size) = rest.strip_prefix("checkpoints/") {
        let (size, suffix) = size.split_once('-').unwrap_or((size, "0000000000000000"));
        let digits = suffix.len() == 16 && suffix.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let size = size.parse().ok()?;
        return (digits && name.starts_with(&checkpoint(size))).then_some(Place::Checkpoint(size));
    }
    let (level, groups) = rest.strip_prefix("tile/")?.split_once('/')?;
    let number = groups.split('/').map(|group| group.trim_start_matches('x')).collect::<String>().parse().ok()?;
    if level == "entries" {
        return (bundle(number) == name).then_some(Place::Bundle(number));
    }
    let level = level.parse().ok().filter(|level| *level < 64)?;
    (tile(level, number) == name).then_some(Place::Tile(level, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_specifications_and_read_back() {
        assert_eq!(tile(0, 67), "ledger/tile/0/067");
        assert_eq!(tile(2, 1_234_067), "ledger/tile/2/x001/x234/067", "the specification's example");
        assert_eq!(bundle(1000), "ledger/tile/entries/x001/000");
        assert_eq!(entry(7), "ledger/entries/000000000007");
        assert_eq!(
            checkpoint(1_234_567_890_123),
            "ledger/checkpoints/1234567890123",
            "more digits where they are needed"
        );
        for number in [0, 1, 255, 999, 1000, 1001, 999_999, 1_000_000, 1_234_567_890] {
            assert_eq!(parse(&tile(1, number)), Some(Place::Tile(1, number)));
            assert_eq!(parse(&bundle(number)), Some(Place::Bundle(number)));
            assert_eq!(parse(&entry(number)), Some(Place::Entry(number)));
            assert_eq!(parse(&checkpoint(number)), Some(Place::Checkpoint(number)));
            assert_eq!(parse(&other_checkpoint(number, "note")), Some(Place::Checkpoint(number)));
        }
        for bad in [
            "entries/000000000007",
            "ledger/entries/7",
            "ledger/entries/0000000000007",
            "ledger/entries/00000000000a",
            "ledger/entries/+00000000007",
            "ledger/checkpoints/7",
            "ledger/checkpoints/000000000007-",
            "ledger/checkpoints/000000000007-00000000000000AB",
            "ledger/tile/64/000",
            "ledger/tile/0/0",
            "ledger/tile/0/x000/000",
            "ledger/tile/0/000.p/1",
            "ledger/tile/00/000",
            "ledger/notes",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
