//! Time stamps of checkpoints (RFC 3161), as the installed `openssl` verifies them.
//!
//! A token says that an authority saw the checkpoint's bytes at a time. So entries cannot have been made up later and
//! dated back; that takes a certificate of the authority which the auditor trusts. The chain is verified as of the time in the
//! token, or evidence would fail on the day on which the authority's certificate ends.

use std::{
    env, fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use lifeboat_evidence::{
    audit::{Auditor, Stamp},
    ledger::place,
};

/// A token has some kilobytes.
pub const MAX_BYTES: u64 = 64 << 10;

/// Whom to believe about time.
#[derive(Debug, Clone)]
pub struct Authority {
    /// A PEM file of certificates.
    pub ca_file: PathBuf,
}

/// What a token's file is called.
pub fn name_of(size: u64) -> String {
    format!("{}timestamps/{size:012}.tsr", place::FOLDER)
}

/// The size of the checkpoint that a file is about; none if it is no token's name.
pub fn size_of(name: &str) -> Option<u64> {
    let size = name.strip_prefix(place::FOLDER)?.strip_prefix("timestamps/")?.strip_suffix(".tsr")?.parse().ok()?;
    (name_of(size) == name).then_some(size)
}

/// A token, and what may be the checkpoint that it is about.
#[derive(Debug, Clone)]
pub struct Token<N> {
    /// The size of the checkpoint.
    pub size: u64,
    /// The token's bytes.
    pub token: Vec<u8>,
    /// What lies in the checkpoint's place.
    pub notes: Vec<N>,
}

/// Verifies tokens, or says why nobody has. Blocks while `openssl` works.
pub fn audit<N: AsRef<[u8]>>(
    tokens: Vec<Token<N>>,
    authority: Option<&Authority>,
    auditor: &mut Auditor,
) -> io::Result<()> {
    if tokens.is_empty() {
        return Ok(());
    }
    let what = format!("time stamps of {} checkpoints", tokens.len());
    let Some(authority) = authority else {
        auditor.not_executed(&what, "no file with the authority's certificates was given (--tsa-ca)");
        return Ok(());
    };
    let folder = Scratch::make()?;
    for Token { size, token, notes } in tokens {
        let mut stamp = Stamp::Refused("the checkpoint that it is about is not there".to_owned());
        let token = folder.put("token", &token)?;
        for note in notes {
            match verify(&token, &folder.put("checkpoint", note.as_ref())?, authority) {
                Ok(answer) => stamp = answer,
                Err(NoOpenssl(why)) => {
                    auditor.not_executed(&what, &format!("openssl could not be run: {why}"));
                    return Ok(());
                }
            }
            if matches!(stamp, Stamp::Verified(_)) {
                break;
            }
        }
        auditor.timestamp(size, stamp);
    }
    Ok(())
}

/// A folder of this process alone, for what `openssl` reads from files. Nothing secret gets there.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> io::Result<Scratch> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("lifeboat-verify-{}-{number}", process::id()));
        // One that is there already is not ours: whoever made it could change what is verified.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Scratch(path))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// There is no `openssl` to ask.
#[derive(Debug)]
pub struct NoOpenssl(pub String);

/// Asks `openssl` whether a token is about these bytes, and by an authority that the certificates vouch for.
pub fn verify(token: &Path, data: &Path, authority: &Authority) -> Result<Stamp, NoOpenssl> {
    let told = openssl(&["ts", "-reply", "-text", "-in"], &[token])?;
    let Some(time) = told.0.then(|| time_of(&told.1)).flatten() else {
        return Ok(Stamp::Refused("it is no time stamp that was granted".to_owned()));
    };
    let at = time.as_second().to_string();
    let verify = ["ts", "-verify", "-attime", &at, "-in"];
    let paths = [token, Path::new("-data"), data, Path::new("-CAfile"), &authority.ca_file];
    let (verified, said) = openssl(&verify, &paths)?;
    if verified && said.lines().any(|line| line == "Verification: OK") {
        return Ok(Stamp::Verified(time));
    }
    let why = said.lines().rev().find(|line| line.contains("error:")).unwrap_or("openssl refused it");
    let why = why.rsplit(":../").next().unwrap_or(why);
    Ok(Stamp::Refused(format!("{why} (openssl ts -verify)")))
}

/// Whether it succeeded, and what it said.
fn openssl(words: &[&str], paths: &[&Path]) -> Result<(bool, String), NoOpenssl> {
    let mut command = Command::new("openssl");
    let output = command.args(words).args(paths).stdin(Stdio::null()).output();
    let output = output.map_err(|error| NoOpenssl(error.to_string()))?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// `Time stamp: Nov 22 07:16:00 2026 GMT`, the seconds perhaps with a fraction.
fn time_of(text: &str) -> Option<Timestamp> {
    let line = text.lines().find_map(|line| line.strip_prefix("Time stamp: "))?;
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let time = DateTime::strptime("%b %d %H:%M:%S%.f %Y GMT", &line).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_read_as_openssl_writes_it() {
        let of = |line: &str| time_of(&format!("Status info:\nTime stamp: {line}\nOrdering: no\n"));
        assert_eq!(of("Nov 22 07:16:00 2026 GMT").unwrap().to_string(), "2026-11-22T07:16:00Z");
        assert_eq!(of("Nov  2 07:16:00.25 2026 GMT").unwrap().to_string(), "2026-11-02T07:16:00.25Z");
        assert_eq!(of("unspecified"), None);
    }

    #[test]
    fn names() {
        assert_eq!(size_of("ledger/timestamps/000000000012.tsr"), Some(12));
        for other in ["ledger/timestamps/12.tsr", "timestamps/000000000012.tsr", "ledger/timestamps/000000000012"] {
            assert_eq!(size_of(other), None);
        }
    }
}
