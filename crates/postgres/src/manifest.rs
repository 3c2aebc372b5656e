//! `backup_manifest`: which files a base backup has, how long they are and what their checksums are.
//!
//! It is read as a stream, one file at a time, because a cluster can have hundreds of thousands of files. Its own
//! checksum covers everything but its last line, so it is known only at the end: act on nothing before.

use std::{
    io::{self, Read},
    path::Path,
};

use lifeboat_model::lsn::Lsn;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor},
};
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};

use crate::{
    error::{Error, Result},
    verify::{self, ManifestReport, Options},
};

/// The longest line that is held back for the manifest's own checksum.
const MAX_LINE: usize = 1 << 20;

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// Relative to PGDATA, `/` between folders; not always UTF-8.
    pub path: Vec<u8>,
    /// Length in bytes.
    pub size: u64,
    /// Absent where the manifest was asked for without.
    pub checksum: Option<Checksum>,
}

/// The checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// CRC-32C, in the byte order of the manifest (little-endian servers).
    Crc32c(u32),
    /// SHA-224.
    Sha224([u8; 28]),
    /// SHA-256.
    Sha256([u8; 32]),
    /// SHA-384.
    Sha384([u8; 48]),
    /// SHA-512.
    Sha512([u8; 64]),
}

impl Checksum {
    pub(crate) fn parse(algorithm: &str, digits: &str) -> Option<Checksum> {
        fn bytes<const LEN: usize>(digits: &str) -> Option<[u8; LEN]> {
            let mut bytes = [0; LEN];
            hex::decode_to_slice(digits, &mut bytes).ok()?;
            Some(bytes)
        }
        Some(match algorithm {
            "CRC32C" => Checksum::Crc32c(u32::from_le_bytes(bytes(digits)?)),
            "SHA224" => Checksum::Sha224(bytes(digits)?),
            "SHA256" => Checksum::Sha256(bytes(digits)?),
            "SHA384" => Checksum::Sha384(bytes(digits)?),
            "SHA512" => Checksum::Sha512(bytes(digits)?),
            _ => return None,
        })
    }

    /// As the manifest writes it.
    pub(crate) fn digits(&self) -> String {
        match self {
            Checksum::Crc32c(sum) => hex::encode(sum.to_le_bytes()),
            Checksum::Sha224(sum) => hex::encode(sum),
            Checksum::Sha256(sum) => hex::encode(sum),
            Checksum::Sha384(sum) => hex::encode(sum),
            Checksum::Sha512(sum) => hex::encode(sum),
        }
    }
}

/// Computes the checksum that a file should have.
pub(crate) enum Summer {
    None,
    Crc32c(u32),
    Sha224(Sha224),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Summer {
    pub(crate) fn like(checksum: Option<&Checksum>) -> Summer {
        match checksum {
            None => Summer::None,
            Some(Checksum::Crc32c(_)) => Summer::Crc32c(0),
            Some(Checksum::Sha224(_)) => Summer::Sha224(Sha224::new()),
            Some(Checksum::Sha256(_)) => Summer::Sha256(Sha256::new()),
            Some(Checksum::Sha384(_)) => Summer::Sha384(Sha384::new()),
            Some(Checksum::Sha512(_)) => Summer::Sha512(Sha512::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Summer::None => {}
            Summer::Crc32c(sum) => *sum = crc32c::crc32c_append(*sum, bytes),
            Summer::Sha224(sum) => sum.update(bytes),
            Summer::Sha256(sum) => sum.update(bytes),
            Summer::Sha384(sum) => sum.update(bytes),
            Summer::Sha512(sum) => sum.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Option<Checksum> {
        Some(match self {
            Summer::None => return None,
            Summer::Crc32c(sum) => Checksum::Crc32c(sum),
            Summer::Sha224(sum) => Checksum::Sha224(sum.finalize().into()),
            Summer::Sha256(sum) => Checksum::Sha256(sum.finalize().into()),
            Summer::Sha384(sum) => Checksum::Sha384(sum.finalize().into()),
            Summer::Sha512(sum) => Checksum::Sha512(sum.finalize().into()),
        })
    }
}

/// A run of WAL that belongs to a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalRange {
    /// The timeline.
    #[serde(rename(deserialize = "Timeline"))]
    pub timeline: u32,
    /// From here on.
    #[serde(rename(deserialize = "Start-LSN"))]
    pub start: Lsn,
    /// Up to here.
    #[serde(rename(deserialize = "End-LSN"))]
    pub end: Lsn,
}

/// What a manifest says besides its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// 1 up to PostgreSQL 16, 2 from 17 on.
    pub version: u32,
    /// The cluster (version 2).
    pub system_id: Option<u64>,
    /// How many files it lists.
    pub files: u64,
    /// The sum of their lengths.
    pub bytes: u64,
    /// The WAL that is needed.
    pub wal_ranges: Vec<WalRange>,
}

/// A whole manifest in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What it says besides its files.
    pub summary: Summary,
    /// Its files, in its order.
    pub files: Vec<ManifestFile>,
}

/// Reads a whole manifest and checks its own checksum.
pub fn parse(reader: impl Read) -> Result<Manifest> {
    let mut files = Vec::new();
    let summary = read(reader, &mut |file| {
        files.push(file);
        Ok(())
    })?;
    Ok(Manifest { summary, files })
}

/// Checks the files of a restored directory against its manifest. Blocks the thread.
pub fn verify_dir(pgdata: &Path, options: &Options) -> Result<ManifestReport> {
    let options = Options { manifest: true, pages: false, ..options.clone() };
    Ok(verify::restored_dir(pgdata, &options)?.manifest.unwrap_or_default())
}

/// Reads a manifest file by file, and checks its own checksum at the end. Memory does not grow with the number of files.
pub fn read(reader: impl Read, on_file: &mut dyn FnMut(ManifestFile) -> Result<()>) -> Result<Summary> {
    let damaged = |reason: String| Error::Manifest { reason };
    let mut reader =
        LastLineApart { inner: io::BufReader::with_capacity(1 << 16, reader), held: vec![], sum: Sha256::new() };
    let mut refused = None;
    let body = {
        let mut json = serde_json::Deserializer::from_reader(&mut reader);
        let seed = Body { on_file, refused: &mut refused };
        let body = seed.deserialize(&mut json).and_then(|body| json.end().map(|()| body));
        match (refused.take(), body) {
            (Some(error), _) => return Err(error),
            (None, body) => body.map_err(|error| damaged(error.to_string()))?,
        }
    };
    let expected = hex::encode(reader.sum.finalize());
    let Some(found) = body.checksum else {
        return Err(damaged("it has no checksum of its own".into()));
    };
    if !found.eq_ignore_ascii_case(&expected) {
        return Err(damaged(format!("its own checksum is {found}, its content gives {expected}")));
    }
    match body.version {
        Some(version @ 1..=2) => Ok(Summary { version, ..body.summary }),
        version => Err(damaged(format!("version {version:?} is not known"))),
    }
}

/// Hashes everything that is read but the last line.
struct LastLineApart<R> {
    inner: R,
    /// From behind the last newline but one.
    held: Vec<u8>,
    sum: Sha256,
}

impl<R: Read> Read for LastLineApart<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buf)?;
        for line in buf[..len].split_inclusive(|byte| *byte == b'\n') {
            if self.held.ends_with(b"\n") {
                self.sum.update(&self.held);
                self.held.clear();
            }
            self.held.extend_from_slice(line);
        }
        if self.held.len() > MAX_LINE {
            return Err(io::Error::other("a line is too long"));
        }
        Ok(len)
    }
}

/// The outer object.
struct Body<'a> {
    on_file: &'a mut dyn FnMut(ManifestFile) -> Result<()>,
    refused: &'a mut Option<Error>,
}

struct Parsed {
    version: Option<u32>,
    summary: Summary,
    checksum: Option<String>,
}

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = Parsed;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Parsed, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = Parsed;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a backup manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Parsed, A::Error> {
        let summary = Summary { version: 0, system_id: None, files: 0, bytes: 0, wal_ranges: vec![] };
        let mut parsed = Parsed { version: None, summary, checksum: None };
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "PostgreSQL-Backup-Manifest-Version" => parsed.version = Some(map.next_value()?),
                "System-Identifier" => parsed.summary.system_id = Some(map.next_value()?),
                "WAL-Ranges" => parsed.summary.wal_ranges = map.next_value()?,
                "Manifest-Checksum" => parsed.checksum = Some(map.next_value()?),
                "Files" => {
                    let summary = &mut parsed.summary;
                    map.next_value_seed(Files { on_file: self.on_file, refused: self.refused, summary })?;
                }
                other => return Err(A::Error::custom(format!("\"{other}\" is not known"))),
            }
        }
        Ok(parsed)
    }
}

/// The list of files.
struct Files<'a> {
    on_file: &'a mut dyn FnMut(ManifestFile) -> Result<()>,
    refused: &'a mut Option<Error>,
    summary: &'a mut Summary,
}

impl<'de> DeserializeSeed<'de> for Files<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Files<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        while let Some(line) = list.next_element::<FileLine>()? {
            let file = line.checked().map_err(A::Error::custom)?;
            self.summary.files += 1;
            self.summary.bytes = self.summary.bytes.saturating_add(file.size);
            if let Err(error) = (self.on_file)(file) {
                *self.refused = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct FileLine {
    #[serde(rename = "Path")]
    path: Option<String>,
    /// Hexadecimal, for names that are not UTF-8.
    #[serde(rename = "Encoded-Path")]
    encoded_path: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: Option<String>,
    #[serde(rename = "Checksum")]
    checksum: Option<String>,
}

impl FileLine {
    fn checked(self) -> std::result::Result<ManifestFile, String> {
        let path = match (self.path, self.encoded_path) {
            (Some(path), None) => path.into_bytes(),
            (None, Some(digits)) => {
                hex::decode(&digits).map_err(|_| format!("path \"{digits}\" is not hexadecimal"))?
            }
            _ => return Err("a file without a path, or with two".into()),
        };
        let name = || String::from_utf8_lossy(&path).into_owned();
        let is_bad = |part: &[u8]| part.is_empty() || part == b"." || part == b"..";
        if path.split(|byte| *byte == b'/').any(is_bad) {
            return Err(format!("\"{}\" is not a path below PGDATA", name()));
        }
        let checksum = match (self.algorithm, self.checksum) {
            (None, None) => None,
            (Some(algorithm), Some(digits)) => Some(
                Checksum::parse(&algorithm, &digits)
                    .ok_or_else(|| format!("{}: {algorithm} checksum \"{digits}\" is not usable", name()))?,
            ),
            _ => return Err(format!("{}: a checksum without its algorithm, or the reverse", name())),
        };
        Ok(ManifestFile { path, size: self.size, checksum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest as PostgreSQL 17 writes it, with its checksum.
    fn manifest(files: &[&str]) -> String {
        let text = format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": 7432100000000000001,\n\"Files\": [\n{}\n],\n\
             \"WAL-Ranges\": [\n{{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }}\n],\n",
            files.join(",\n")
        );
        let checksum = hex::encode(Sha256::digest(&text));
        format!("{text}\"Manifest-Checksum\": \"{checksum}\"}}\n")
    }

    const LABEL: &str = r#"{ "Path": "backup_label", "Size": 225, "Last-Modified": "2026-11-21 20:07:32 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "e3069283" }"#;
    const ODD: &str = r#"{ "Encoded-Path": "ff2f61", "Size": 0, "Last-Modified": "2026-11-21 20:07:32 GMT" }"#;

    #[test]
    fn a_manifest() {
        let parsed = parse(manifest(&[LABEL, ODD]).as_bytes()).unwrap();
        assert_eq!(parsed.summary.system_id, Some(7_432_100_000_000_000_001));
        assert_eq!((parsed.summary.files, parsed.summary.bytes), (2, 225));
        assert_eq!(parsed.summary.wal_ranges, [WalRange { timeline: 1, start: Lsn(0x200_0028), end: Lsn(0x200_0100) }]);
        // The CRC-32C of "123456789" is e3069283; the manifest writes its bytes as they lie in memory.
        assert_eq!(parsed.files[0].checksum, Some(Checksum::Crc32c(0x8392_06e3)));
        assert_eq!(parsed.files[1].path, b"\xff/a");
    }

    #[test]
    fn any_change_is_seen() {
        let good = manifest(&[LABEL]);
        for (from, to) in
            [("225", "226"), ("0/2000100", "0/2000101"), ("Files", "Flies"), ("backup_label", "backup_labe1")]
        {
            let bad = good.replace(from, to);
            assert!(parse(bad.as_bytes()).is_err(), "{from} → {to}");
        }
        for end in 0..good.len() - 1 {
            assert!(parse(&good.as_bytes()[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn bad_files_are_refused() {
        for bad in [
            LABEL.replace("backup_label", "../x"),
            LABEL.replace("backup_label", "/x"),
            LABEL.replace("e3069283", "e30692"),
            LABEL.replace("CRC32C", "MD5"),
            LABEL.replace("\"Path\": \"backup_label\", ", ""),
        ] {
            assert!(matches!(parse(manifest(&[&bad]).as_bytes()), Err(Error::Manifest { .. })), "{bad}");
        }
    }

    #[test]
    fn the_receiver_can_stop() {
        let mut stop = |_: ManifestFile| Err(Error::Invalid { what: "x", reason: "enough".into() });
        assert!(matches!(read(manifest(&[LABEL]).as_bytes(), &mut stop), Err(Error::Invalid { .. })));
    }
}
