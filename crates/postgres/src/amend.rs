//! Makes `backup_manifest` agree with a file that was changed: its length, its checksum and the manifest's own.
//!
//! For negative controls alone. Damage that a source had before it was backed up is described faithfully by its manifest; to
//! stand for such a source, a copy that is damaged afterwards needs a manifest that does not give the damage away.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, BufWriter, Read, Write as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use crate::{
    error::{Error, Result},
    manifest::{Checksum, Summer},
};

/// A line of a manifest is a path and a few words.
const LONGEST_LINE: u64 = 1 << 20;

/// Rewrites the entry of `path` (relative to PGDATA) as if `content` had been backed up. Blocks the thread; reads the manifest
/// line by line.
pub fn amend(pgdata: &Path, path: &str, content: &mut dyn Read) -> Result<()> {
    let manifest = pgdata.join("backup_manifest");
    let new = pgdata.join("backup_manifest.amended");
    let cannot = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| Error::Read { path, source }
    };
    let source = File::open(&manifest).map_err(cannot(&manifest))?;
    let permissions = source.metadata().map_err(cannot(&manifest))?.permissions();
    let target = File::options().write(true).create_new(true).open(&new).map_err(cannot(&new))?;
    target.set_permissions(permissions).map_err(cannot(&new))?;
    let mut job = Job { out: BufWriter::new(target), sum: Sha256::new(), held: Vec::new(), found: false };
    let mut source = BufReader::new(source);
    loop {
        let mut line = Vec::new();
        let read = (&mut source).take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(cannot(&manifest))?;
        if read == 0 {
            break;
        }
        if names(&line, path) {
            line = amended(&line, content)?;
            job.found = true;
        }
        job.line(line).map_err(cannot(&new))?;
    }
    let found = job.found;
    job.finish().map_err(cannot(&new))?;
    if !found {
        return Err(Error::Manifest { reason: format!("it does not name {path}") });
    }
    fs::rename(&new, &manifest).map_err(cannot(&manifest))
}

struct Job {
    out: BufWriter<File>,
    sum: Sha256,
    /// The last line, which the manifest's own checksum does not cover.
    held: Vec<u8>,
    found: bool,
}

impl Job {
    fn line(&mut self, line: Vec<u8>) -> io::Result<()> {
        let before = std::mem::replace(&mut self.held, line);
        self.sum.update(&before);
        self.out.write_all(&before)
    }

    fn finish(mut self) -> io::Result<()> {
        let sum = hex::encode(self.sum.finalize());
        writeln!(self.out, "\"Manifest-Checksum\": \"{sum}\"}}")?;
        self.out.flush()
    }
}

/// Whether this is the entry of a file. Names that are no text are written in another way, and relations have none such.
fn names(line: &[u8], path: &str) -> bool {
    let Ok(line) = std::str::from_utf8(line) else { return false };
    field(line, "Path").is_some_and(|(_, name)| name == path)
}

/// Place and text of a field of an entry, without quotes.
fn field<'a>(line: &'a str, name: &str) -> Option<(usize, &'a str)> {
    let label = format!("\"{name}\": ");
    let start = line.find(&label)? + label.len();
    let rest = &line[start..];
    match rest.strip_prefix('"') {
        Some(quoted) => Some((start + 1, &quoted[..quoted.find('"')?])),
        None => Some((start, &rest[..rest.find(|c: char| !c.is_ascii_digit())?])),
    }
}

fn amended(line: &[u8], content: &mut dyn Read) -> Result<Vec<u8>> {
    let invalid = || Error::Manifest { reason: "an entry has no size or a checksum of an unknown kind".to_owned() };
    let mut line = String::from_utf8(line.to_vec()).map_err(|_| invalid())?;
    let algorithm = field(&line, "Checksum-Algorithm").map(|(_, name)| name.to_owned());
    let kind = match &algorithm {
        Some(algorithm) => {
            let (_, digits) = field(&line, "Checksum").ok_or_else(invalid)?;
            Some(Checksum::parse(algorithm, digits).ok_or_else(invalid)?)
        }
        None => None,
    };
    let mut summer = Summer::like(kind.as_ref());
    let (mut size, mut buffer) = (0_u64, vec![0; 1 << 16]);
    loop {
        let read = content.read(&mut buffer).map_err(|source| Error::Read { path: "a damaged file".into(), source })?;
        if read == 0 {
            break;
        }
        summer.update(&buffer[..read]);
        size += read as u64;
    }
    let mut replace = |name: &str, text: &str| {
        let (start, old) = field(&line, name).ok_or_else(invalid)?;
        let end = start + old.len();
        line.replace_range(start..end, text);
        Ok::<_, Error>(())
    };
    replace("Size", &size.to_string())?;
    if let Some(sum) = summer.finish() {
        replace("Checksum", &sum.digits())?;
    }
    Ok(line.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;

    fn manifest(checksum: &str) -> String {
        let body = format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n\
             {{ \"Path\": \"base/1/11\", \"Size\": 1, \"Last-Modified\": \"2026-11-21 20:07:32 GMT\", {checksum} }},\n\
             {{ \"Path\": \"base/1/1\", \"Size\": 1, \"Last-Modified\": \"2026-11-21 20:07:32 GMT\", {checksum} }}\n\
             ],\n\"WAL-Ranges\": [\n\
             {{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000120\" }}\n],\n"
        );
        let sum = hex::encode(Sha256::digest(body.as_bytes()));
        format!("{body}\"Manifest-Checksum\": \"{sum}\"}}\n")
    }

    #[test]
    fn the_manifest_agrees_with_what_the_file_has_become() {
        let sha = hex::encode(Sha256::digest(b"x"));
        let crc = |bytes: &[u8]| crc32c::crc32c(bytes);
        for checksum in [
            "\"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"00000000\"".to_owned(),
            format!("\"Checksum-Algorithm\": \"SHA256\", \"Checksum\": \"{sha}\""),
        ] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("backup_manifest"), manifest(&checksum)).unwrap();
            amend(folder.path(), "base/1/1", &mut &b"damaged"[..]).unwrap();
            let text = std::fs::read(folder.path().join("backup_manifest")).unwrap();
            let read = parse(text.as_slice()).expect("its own checksum is right again");
            assert_eq!((read.files[0].size, read.files[1].size), (1, 7), "another file is as it was");
            let expected = match checksum.contains("CRC32C") {
                true => Checksum::Crc32c(crc(b"damaged")),
                false => Checksum::Sha256(Sha256::digest(b"damaged").into()),
            };
            assert_eq!(read.files[1].checksum, Some(expected));
            assert_ne!(read.files[0].checksum, read.files[1].checksum);
        }
    }

    #[test]
    fn a_file_that_the_manifest_does_not_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let before = manifest("\"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"00000000\"");
        std::fs::write(folder.path().join("backup_manifest"), &before).unwrap();
        assert!(amend(folder.path(), "base/1/2", &mut &b""[..]).is_err());
        assert_eq!(std::fs::read_to_string(folder.path().join("backup_manifest")).unwrap(), before);
    }
}
