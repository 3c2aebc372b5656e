//! Time stamps of checkpoints (RFC 3161), as the installed `openssl` verifies them.
//!
//! A token says that an authority saw the checkpoint's bytes at a time. So entries cannot have been made up later and
//! dated back; that takes a certificate of the authority which the auditor trusts. The chain is verified as of the time in the
//! token, or evidence would fail on the day on which the authority's certificate ends.

use std::{
    env, fs,
    io::{self, Read as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use lifeboat_evidence::{
    audit::{Auditor, Stamp},
    ledger::place,
};

/// How long `openssl` may take over one token. It works for milliseconds; what hangs must not hold an audit up.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is read of its answer.
const LONGEST: u64 = 1 << 20;
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

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
        if authority.is_some() {
            auditor.expect_time_stamps();
        }
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
    auditor.expect_time_stamps();
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
///
/// A response has texts of anybody's around what the authority has signed, and they are printed first. So it is stripped of them
/// into a file beside it, and nothing else is looked at from then on.
pub fn verify(token: &Path, data: &Path, authority: &Authority) -> Result<Stamp, NoOpenssl> {
    let signed = token.with_extension("signed");
    let refused = || Ok(Stamp::Refused("it is no time stamp that was granted".to_owned()));
    let (granted, _) = openssl(&["ts", "-reply", "-token_out", "-in"], &[token, Path::new("-out"), &signed])?;
    if !granted {
        return refused(); // nothing was written, or it is of another token
    }
    let (told, text) = openssl(&["ts", "-reply", "-text", "-token_in", "-in"], &[&signed])?;
    let Some(time) = told.then(|| time_of(&text)).flatten() else { return refused() };
    let at = time.as_second().to_string();
    let verify = ["ts", "-verify", "-attime", &at, "-token_in", "-in"];
    let paths = [&signed, Path::new("-data"), data, Path::new("-CAfile"), &authority.ca_file];
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
    command.args(words).args(paths);
    run(command, PATIENCE).map_err(|error| NoOpenssl(error.to_string()))
}

/// Runs a program that must have ended after so long; whether it succeeded, and what it said on either stream.
fn run(mut command: Command, patience: Duration) -> io::Result<(bool, String)> {
    let deadline = Instant::now() + patience;
    let (reader, writer) = io::pipe()?;
    let mut child = command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // It holds the ends that are written to, and would go on to: the pipe has an end when the program has.
    drop(command);
    let (tell, told) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut said = Vec::new();
        let _ = tell.send(reader.take(LONGEST).read_to_end(&mut said).map(|_| said));
    });
    let said = told.recv_timeout(patience);
    let ended = match &said {
        Ok(_) => ended_by(&mut child, deadline)?,
        Err(_) => None,
    };
    match (said, ended) {
        (Ok(said), Some(status)) => Ok((status.success(), String::from_utf8_lossy(&said?).into_owned())),
        _ => {
            child.kill()?;
            child.wait()?;
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("it was stopped after {} s", patience.as_secs())))
        }
    }
}

/// How it ended, if it has by then.
fn ended_by(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(Some(status)),
            None if Instant::now() >= deadline => return Ok(None),
            None => thread::sleep(LOOK),
        }
    }
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
    fn a_program_that_hangs_is_stopped() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let long = Duration::from_secs(60);
        assert_eq!(run(shell("echo in; echo out >&2"), long).unwrap(), (true, "in\nout\n".to_owned()));
        assert!(!run(shell("exit 3"), long).unwrap().0);
        for hangs in ["exec sleep 600", "exec >&- 2>&-; exec sleep 600"] {
            let error = run(shell(hangs), Duration::from_millis(300)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{hangs}");
        }
        // More than a pipe holds, and more than is read.
        let (_, said) = run(shell("head -c 100000 /dev/zero"), long).unwrap();
        assert_eq!(said.len(), 100_000);
        let (succeeded, said) = run(shell("head -c 3000000 /dev/zero"), long).unwrap();
        assert!(!succeeded && said.len() as u64 == LONGEST);
        assert_eq!(run(Command::new("/nowhere/openssl"), long).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn names() {
        assert_eq!(size_of("ledger/timestamps/000000000012.tsr"), Some(12));
        for other in ["ledger/timestamps/12.tsr", "timestamps/000000000012.tsr", "ledger/timestamps/000000000012"] {
            assert_eq!(size_of(other), None);
        }
    }
}
