//! Programs that steps start.
//!
//! Each holds a lock by which another executor sees that it still runs: the lock is on the file that is the program's standard input
//! (`flock(2)`: the lock belongs to the open file, and lives as long as anybody who has inherited it), so that an executor that was
//! killed leaves no program behind that nobody knows of. What is started by Lifeboat itself ends when its standard input
//! closes, and holds the lock by `--alive-file`. A step that is stopped takes its whole process group with it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
};

use super::{Tools, of_slot};
/// What a program says is kept up to this, the end of it.
const KEPT: usize = 16 << 10;
/// The answer of Lifeboat itself is read whole up to this.
const ANSWER: usize = 4 << 20;
/// How often a lock is asked for.
const LOOK: Duration = Duration::from_millis(200);

/// A program that has ended.
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// Standard output and standard error, the last of it.
    pub output: String,
}

impl Ended {
    /// Its code; none: ended by a signal.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// How it ended and its last lines, for a message.
    pub fn tail(&self) -> String {
        let lines: Vec<&str> = self.output.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(4)..].join(" | ");
        match self.code() {
            Some(code) if last.is_empty() => format!("ended with {code}"),
            Some(code) => format!("ended with {code}: {last}"),
            None => format!("was ended by a signal: {last}"),
        }
    }
}

/// Waits until what an earlier executor has started for this step is over.
pub async fn wait_for_earlier(slot: &Path, tools: &Tools) -> Result<(), String> {
    lock(slot, tools).await.map(drop)
}

fn lock_file(slot: &Path) -> PathBuf {
    of_slot(slot, "lock")
}

/// The step's lock; waited for without end, as the step's own limit counts.
async fn lock(slot: &Path, tools: &Tools) -> Result<File, String> {
    let path = lock_file(slot);
    let failed = |error| format!("cannot lock {}: {error}", path.display());
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = open().map_err(failed)?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        if !std::mem::replace(&mut told, true) {
            (tools.talk)("what an earlier executor has started for this step still runs: waiting for its end");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Runs a program to its end.
pub async fn run(mut command: Command, slot: &Path, tools: &Tools) -> Result<Ended, String> {
    let lock = lock(slot, tools).await?;
    command.stdin(lock).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut group = Group::spawn(&mut command)?;
    let (stdout, stderr) = (group.child.stdout.take(), group.child.stderr.take());
    let (stdout, stderr, status) = tokio::join!(last_of(stdout), last_of(stderr), group.child.wait());
    let status = status.map_err(|error| format!("cannot wait for the program: {error}"))?;
    group.over();
    let output = [stdout, stderr].concat();
    Ok(Ended { status, output })
}

/// What Lifeboat itself answered.
pub struct Answered {
    /// The exit code, as docs/exit-codes.md has it.
    pub code: Option<i32>,
    /// The document on standard output.
    pub answer: Option<Value>,
    /// The last lines of standard error.
    pub words: String,
}

/// Runs this very program with a command of its own, in the way of the daemon's runs.
pub async fn lifeboat(arguments: &[String], slot: &Path, tools: &Tools) -> Result<Answered, String> {
    drop(lock(slot, tools).await?); // the process takes it by itself
    // The file itself, also while it is being replaced by a newer one.
    let mut command = Command::new("/proc/self/exe");
    if let Some(file) = &tools.config_file {
        command.arg("--config").arg(file);
    }
    command.args(["--json", "--started-by", &tools.started_by, "--until-stdin-closes", "--alive-file"]);
    command.arg(lock_file(slot)).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut group = Group::spawn(&mut command)?;
    group.is_ours = true;
    let stdin = group.child.stdin.take(); // held open: its end says that nobody waits any more
    let (stdout, stderr) = (group.child.stdout.take(), group.child.stderr.take());
    let (stdout, words, status) = tokio::join!(whole_of(stdout), last_of(stderr), group.child.wait());
    drop(stdin);
    let status = status.map_err(|error| format!("cannot wait for lifeboat: {error}"))?;
    group.over();
    let words = last_words(&words);
    Ok(Answered { code: status.code(), answer: serde_json::from_slice(&stdout).ok(), words })
}

/// The error, without the progress that was told before it.
fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let begin = lines.iter().rposition(|line| line.starts_with("error")).unwrap_or(lines.len().saturating_sub(4));
    lines[begin..].join("; ")
}

/// A process and all that it starts. Dropped before its end, it is ended; Lifeboat itself is only told, and tears down.
struct Group {
    child: Child,
    id: Option<Pid>,
    is_ours: bool,
}

impl Group {
    fn spawn(command: &mut Command) -> Result<Group, String> {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("cannot start {program}: {error}"))?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Group { child, id, is_ours: false })
    }

    fn over(&mut self) {
        self.id = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(group) = self.id.filter(|_| !self.is_ours) else { return };
        let _ = kill_process_group(group, Signal::KILL); // it may have ended just now
    }
}

/// All is read, so that the program never waits; the end is kept.
async fn last_of(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return String::new() };
    let mut buffer = vec![0; 8 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }
    kept.drain(..kept.len().saturating_sub(KEPT));
    String::from_utf8_lossy(&kept).into_owned()
}

/// All of it; nothing, if it is too much.
async fn whole_of(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut all = Vec::new();
    let Some(mut stream) = stream else { return all };
    let (mut buffer, mut is_whole) = (vec![0; 16 << 10], true);
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        is_whole &= all.len() + read <= ANSWER;
        if is_whole {
            all.extend_from_slice(&buffer[..read]);
        }
    }
    if is_whole { all } else { Vec::new() }
}
