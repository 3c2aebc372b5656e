//! Programs that steps start.
//!
//! Each holds a lock by which another executor sees that it still runs: the lock is on the file that is the program's standard input
//! (`flock(2)`: the lock belongs to the open file, and lives as long as anybody who has inherited it), so that an executor that was
//! killed leaves no program behind that nobody knows of. What is started by Lifeboat itself ends when its standard input
//! closes, and holds the lock by `--alive-file`: it tears down what it has begun, and is waited for. Of anything else a step that is
//! stopped takes the whole process group with it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, ChildStderr, ChildStdout, Command},
};

use super::{Masks, Tools, of_slot};

/// This very program: the file itself, also while it is being replaced by a newer one.
pub const OURS: &str = "/proc/self/exe";
/// What a program says is kept up to this, the end of each of its two streams.
const KEPT: usize = 16 << 10;
/// Why it failed is told by so many lines at most, and so many characters.
const LINES: usize = 20;
const REASON: usize = 2_000;
/// Lifeboat itself has so long to tear down what it has begun.
const LEAVES: Duration = Duration::from_secs(120);
/// The answer of Lifeboat itself is read whole up to this.
const ANSWER: usize = 4 << 20;
/// How often a lock is asked for.
const LOOK: Duration = Duration::from_millis(200);

/// A program that has ended.
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// Standard output, the last of it, without secrets.
    stdout: String,
    /// Standard error likewise: progress and complaints.
    stderr: String,
    /// Both as they came.
    raw: String,
}

impl Ended {
    /// Its code; none: ended by a signal.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Both streams, without secrets.
    pub fn output(&self) -> String {
        let gap = if self.stdout.is_empty() || self.stdout.ends_with('\n') { "" } else { "\n" };
        format!("{}{gap}{}", self.stdout, self.stderr)
    }

    /// Both as they came, for what is compared and never kept: a secret that is struck out of a name makes it another one.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// Whether it has said this.
    pub fn says(&self, wanted: &str) -> bool {
        self.raw.contains(wanted)
    }

    /// How it ended and its last lines, for a message. What it found out stands on standard output; the progress on standard error
    /// must not push it out, nor it the complaint there.
    pub fn tail(&self) -> String {
        let told = [last_lines(&self.stdout), last_lines(&self.stderr)];
        let told = told.into_iter().filter(|lines| !lines.is_empty()).collect::<Vec<_>>().join(" | ");
        match self.code() {
            Some(code) if told.is_empty() => format!("ended with {code}"),
            Some(code) => format!("ended with {code}: {told}"),
            None => format!("was ended by a signal: {told}"),
        }
    }
}

/// The last of them that say something, whole lines as far as they fit.
fn last_lines(text: &str) -> String {
    let mut room = REASON;
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().rev().map(str::trim_end).filter(|line| !line.is_empty()).take(LINES) {
        let length = line.chars().count();
        if length > room {
            if lines.is_empty() {
                let begin: String = line.chars().take(room).collect();
                lines.push(format!("{begin}…"));
            }
            break;
        }
        room -= length;
        lines.push(line.to_owned());
    }
    lines.reverse();
    lines.join(" | ")
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
    if command.as_std().get_program() == OURS {
        // A drill, for example: killed, it leaves its sandbox with what was restored into it.
        group.left = Some((&tools.left, slot.to_owned()));
        group.is_asked = true;
    }
    let (stdout, stderr) = group.streams();
    let (stdout, stderr, status) = tokio::join!(last_of(stdout), last_of(stderr), group.wait());
    let status = status.map_err(|error| format!("cannot wait for the program: {error}"))?;
    group.over();
    let [shown, complaints] = [&stdout, &stderr].map(|text| kept(text, &tools.masks));
    Ok(Ended { status, stdout: shown, stderr: complaints, raw: [stdout, stderr].concat() })
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
    let mut command = Command::new(OURS);
    if let Some(file) = &tools.config_file {
        command.arg("--config").arg(file);
    }
    command.args(["--json", "--started-by", &tools.started_by, "--until-stdin-closes", "--alive-file"]);
    command.arg(lock_file(slot)).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut group = Group::spawn(&mut command)?;
    group.left = Some((&tools.left, slot.to_owned()));
    // Held open: its end says that nobody waits any more. The child must not have it when it is waited for, as that closes it.
    let stdin = group.child.as_mut().and_then(|child| child.stdin.take());
    let (stdout, stderr) = group.streams();
    let (stdout, words, status) = tokio::join!(whole_of(stdout), last_of(stderr), group.wait());
    drop(stdin);
    let status = status.map_err(|error| format!("cannot wait for lifeboat: {error}"))?;
    group.over();
    let words = last_words(&kept(&words, &tools.masks));
    Ok(Answered { code: status.code(), answer: serde_json::from_slice(&stdout).ok(), words })
}

/// Processes of Lifeboat itself that were told to end and have not ended yet, by the slot of their step.
#[derive(Default)]
pub struct Left(Mutex<Vec<(PathBuf, Child)>>);

impl Left {
    fn take(&self, slot: &Path) -> Vec<Child> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, others) = std::mem::take(&mut *all).into_iter().partition(|(of, _)| of == slot);
        *all = others;
        Vec::into_iter(ours).map(|(_, child)| child).collect()
    }

    /// Waits until what a step has left is over; what does not end in time is ended.
    pub async fn settle(&self, slot: &Path, tools: &Tools) {
        self.within(slot, LEAVES, &*tools.talk).await;
    }

    async fn within(&self, slot: &Path, patience: Duration, talk: &(dyn Fn(&str) + Send + Sync)) {
        for mut child in self.take(slot) {
            talk("what was begun is being ended: waiting until it has torn down what it made");
            if tokio::time::timeout(patience, child.wait()).await.is_err() {
                talk("it does not end: it is killed");
                if let Some(group) = group_of(&child) {
                    let _ = kill_process_group(group, Signal::KILL); // it may have ended just now
                }
                let _ = child.wait().await; // whatever it says, it is over
            }
        }
    }
}

fn group_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

/// The error, without the progress that was told before it.
fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let begin = lines.iter().rposition(|line| line.starts_with("error")).unwrap_or(lines.len().saturating_sub(4));
    lines[begin..].join("; ")
}

/// A process and all that it starts. Dropped before its end, it is ended; Lifeboat itself is only told, and left to be waited for.
struct Group<'t> {
    /// None: it is over.
    child: Option<Child>,
    /// Kept while it may have started others: they hold its output open.
    id: Option<Pid>,
    /// Of Lifeboat itself: where it is left, and by which slot.
    left: Option<(&'t Left, PathBuf)>,
    /// It does not end by itself when nobody waits any more: it is asked to.
    is_asked: bool,
}

impl Group<'_> {
    fn spawn(command: &mut Command) -> Result<Self, String> {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("cannot start {program}: {error}"))?;
        Ok(Group { id: group_of(&child), child: Some(child), left: None, is_asked: false })
    }

    fn streams(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        let Some(child) = &mut self.child else { return (None, None) };
        (child.stdout.take(), child.stderr.take())
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        match &mut self.child {
            Some(child) => child.wait().await,
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn over(&mut self) {
        (self.child, self.id) = (None, None);
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        match (self.child.take(), self.left.take()) {
            (Some(child), Some((left, slot))) => {
                if let Some(id) = self.id.filter(|_| self.is_asked) {
                    let _ = kill_process(id, Signal::TERM); // it may have ended just now
                }
                left.0.lock().unwrap_or_else(PoisonError::into_inner).push((slot, child));
            }
            _ => {
                let Some(group) = self.id else { return };
                let _ = kill_process_group(group, Signal::KILL); // it may have ended just now
            }
        }
    }
}

/// All is read, so that the program never waits; the end is kept, more of it than is shown: see [`kept`].
async fn last_of(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return String::new() };
    let mut buffer = vec![0; 8 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        if kept.len() > 4 * KEPT {
            kept.drain(..kept.len() - 2 * KEPT);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The end of it without secrets. Masked before it is cut, as nothing is known of a secret that was cut; where its beginning may be
/// lost already, the first line goes with it.
fn kept(text: &str, masks: &Masks) -> String {
    if text.len() <= KEPT {
        return masks.mask(text);
    }
    let whole = match text.find('\n').filter(|end| *end < KEPT) {
        Some(end) => &text[end + 1..],
        None => behind(text, KEPT),
    };
    let masked = masks.mask(whole);
    behind(&masked, masked.len().saturating_sub(KEPT)).to_owned()
}

/// From this byte on, or the first behind it at which a character begins.
fn behind(text: &str, at: usize) -> &str {
    (at..text.len()).find_map(|at| text.get(at..)).unwrap_or_default()
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

#[cfg(test)]
mod tests;
