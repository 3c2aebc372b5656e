//! A run of the daemon is a process: this very program, with the command that a person would type. What the process tells on
//! standard error becomes events, what it prints at its end the answer.
//!
//! Its standard input is a pipe that nothing is written to: when the daemon dies, however it dies, or follows the run no more,
//! the pipe closes and the run tears down by itself. The process has a group of its own, so that Ctrl-C in the daemon's terminal reaches it only through the
//! daemon, and what it has started ends with it. Secrets are in files and in the environment, never among the arguments.

use std::{
    fs::{OpenOptions, TryLockError},
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_daemon::{
    job::{Because, Job, RunOutcome, Verb},
    runner::{Ended, How, RunEvent, Runner},
};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

mod argv;
pub mod lines;

use lines::LastWords;

/// What a run prints at its end is kept up to this.
const MOST_ANSWER: usize = 1 << 20;

/// A run that was told to stop tears down: for a drill that takes at most 300 s. Behind that something is stuck.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a process that has ended has left in its pipes is there at once. Longer, and something that it started holds them.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// Of the daemon alone: a run neither tells the service manager anything nor talks to the daemon's API.
const NOT_PASSED_ON: [&str; 5] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LIFEBOAT_TOKEN_FILE", "LIFEBOAT_DAEMON"];

/// Starts runs as processes.
#[derive(Debug)]
pub struct ProcessRunner {
    program: PathBuf,
}

impl ProcessRunner {
    /// With this program itself. While it is being upgraded the daemon goes on with the old one, also in its runs.
    pub fn new() -> io::Result<ProcessRunner> {
        let itself = PathBuf::from("/proc/self/exe");
        Ok(ProcessRunner { program: if itself.exists() { itself } else { std::env::current_exe()? } })
    }

    #[cfg(test)]
    fn of(program: &std::path::Path) -> ProcessRunner {
        ProcessRunner { program: program.to_owned() }
    }

    fn start(&self, job: &Job, how: &How) -> io::Result<Child> {
        if let Verb::Report { folder, .. } = &job.verb {
            std::fs::create_dir_all(folder)?;
        }
        let mut command = Command::new(&self.program);
        command.arg0("lifeboat").args(argv::arguments(job, how)).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in NOT_PASSED_ON {
            command.env_remove(name);
        }
        command.spawn()
    }
}

#[async_trait]
impl Runner for ProcessRunner {
    async fn run(&self, job: &Job, how: &How, events: mpsc::Sender<RunEvent>, cancel: CancellationToken) -> Ended {
        let started = self.start(job, how);
        match started {
            Ok(child) => {
                let ended = follow(child, events, &cancel).await;
                // Whoever looks finds no lock on it any more; the name alone would stay for ever.
                let _ = std::fs::remove_file(&how.alive_file);
                ended
            }
            Err(error) => Ended {
                outcome: RunOutcome::Failed,
                exit: None,
                answer: None,
                reason: Some(format!("cannot start {}: {error}", self.program.display())),
                is_transient: true, // no memory, no more processes
            },
        }
    }

    async fn is_alive(&self, _job: &Job, how: &How) -> bool {
        let Ok(file) = OpenOptions::new().write(true).open(&how.alive_file) else { return false };
        match file.try_lock() {
            Ok(()) => {
                let _ = std::fs::remove_file(&how.alive_file); // its process is gone
                false
            }
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(_)) => false,
        }
    }
}

/// Reads what it tells, stops it when it is to stop, waits for its end.
async fn follow(mut child: Child, events: mpsc::Sender<RunEvent>, cancel: &CancellationToken) -> Ended {
    let stdin = child.stdin.take(); // held open until the end
    let answer = tokio::spawn(answer(child.stdout.take()));
    let last_words = tokio::spawn(lines::tell(child.stderr.take(), events));
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let waited = tokio::select! {
        status = child.wait() => status,
        () = cancel.cancelled() => stop(&mut child, group).await,
    };
    drop(stdin);
    let (answer, last_words) = (within(answer, group).await, within(last_words, group).await);
    match waited {
        Ok(status) => ended(status, answer.flatten(), last_words.flatten(), cancel.is_cancelled()),
        Err(error) => Ended {
            outcome: RunOutcome::Failed,
            exit: None,
            answer: None,
            reason: Some(format!("cannot wait for the process of the run: {error}")),
            is_transient: false,
        },
    }
}

/// Asks it to stop and tear down, and waits; what is stuck is ended.
async fn stop(child: &mut Child, group: Option<Pid>) -> io::Result<ExitStatus> {
    if let Some(process) = group {
        let _ = kill_process(process, Signal::INT); // it may have ended by itself
    }
    if let Ok(status) = timeout(PATIENCE, child.wait()).await {
        return status;
    }
    tracing::error!("a run that was told to stop {} min ago is ended by force", PATIENCE.as_secs() / 60);
    kill_group(group);
    child.wait().await
}

fn kill_group(group: Option<Pid>) {
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL); // nobody may be left in it
    }
}

/// What a reader has read. If something that the run has started holds the pipe, that is ended first.
async fn within<T>(mut reading: JoinHandle<T>, group: Option<Pid>) -> Option<T> {
    if let Ok(read) = timeout(LAST_BYTES, &mut reading).await {
        return read.ok();
    }
    tracing::warn!("programs that a run has started have outlived it; they are ended");
    kill_group(group);
    match timeout(LAST_BYTES, &mut reading).await {
        Ok(read) => read.ok(),
        Err(_) => {
            reading.abort();
            None
        }
    }
}

/// The JSON document on standard output. All is read, so that the process never waits; too much of it is no answer.
async fn answer(stdout: Option<impl AsyncRead + Unpin>) -> Option<serde_json::Value> {
    let (mut stdout, mut text, mut buffer, mut is_whole) = (stdout?, Vec::new(), vec![0; 16 << 10], true);
    while let Ok(read @ 1..) = stdout.read(&mut buffer).await {
        is_whole &= text.len() + read <= MOST_ANSWER;
        if is_whole {
            text.extend_from_slice(&buffer[..read]);
        }
    }
    if is_whole { serde_json::from_slice(&text).ok() } else { None }
}

/// From the exit code to what became of it: docs/exit-codes.md.
fn ended(
    status: ExitStatus,
    answer: Option<serde_json::Value>,
    last_words: Option<LastWords>,
    was_cancelled: bool,
) -> Ended {
    let exit = status.code().and_then(|code| u8::try_from(code).ok());
    let is = |one: Exit| exit == Some(one.code());
    let outcome = match exit {
        _ if is(Exit::Ok) => RunOutcome::Passed,
        _ if is(Exit::Incomplete) => RunOutcome::Incomplete,
        _ if is(Exit::Interrupted) => RunOutcome::Interrupted,
        None if was_cancelled => RunOutcome::Interrupted,
        _ => RunOutcome::Failed,
    };
    let reason = match (outcome, last_words, exit) {
        (RunOutcome::Passed, ..) => None,
        (_, Some(words), _) => Some(words.to_string()),
        (_, None, None) => Some(format!("its process was ended from outside ({status})")),
        (_, None, Some(code)) => answered_reason(answer.as_ref()).or_else(|| Some(format!("exit code {code}"))),
    };
    let is_transient = [Exit::Busy, Exit::Unavailable, Exit::Full].into_iter().any(is) || exit.is_none();
    Ended { outcome, exit, answer, reason, is_transient: is_transient && outcome == RunOutcome::Failed }
}

/// Why not, from the answer of a command that ended in order and found something.
fn answered_reason(answer: Option<&serde_json::Value>) -> Option<String> {
    let answer = answer?;
    let checks = answer.get("checks").and_then(serde_json::Value::as_array).into_iter().flatten();
    let of = |outcome: &str| -> Vec<String> {
        let is_it = |check: &&serde_json::Value| check["verdict"]["outcome"] == outcome;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let told = |check: &serde_json::Value| format!("{}: {}", text(&check["id"]), text(&check["verdict"]["why"]));
        checks.clone().filter(is_it).map(told).collect()
    };
    let controls = answer.get("controls").and_then(serde_json::Value::as_array).into_iter().flatten();
    let controls = controls.filter(|one| one["outcome"] != "passed");
    let controls = controls.filter_map(|one| Some(format!("{}: {}", one["kind"].as_str()?, one["why"].as_str()?)));
    let lists = ["incomplete", "failed_commands"].into_iter().filter_map(|name| answer.get(name)?.as_array());
    let lists = lists.flatten().filter_map(|one| one.as_str().map(str::to_owned));
    let found = [of("failed"), controls.collect(), lists.collect(), of("not-executed")];
    let first = found.into_iter().find(|list| !list.is_empty())?;
    let (more, shown) = (first.len().saturating_sub(3), first.iter().take(3).cloned().collect::<Vec<_>>().join("; "));
    Some(if more > 0 { format!("{shown}; and {more} more") } else { shown })
}

/// When a run was due or asked for.
fn moment(because: &Because) -> Timestamp {
    match because {
        Because::Schedule { due, .. } => *due,
        Because::Asked { at, .. } => *at,
    }
}

#[cfg(test)]
mod tests;
