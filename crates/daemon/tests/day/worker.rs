//! What a run is here: a process that takes its time, and stops when its standard input ends, as `lifeboat` does.

use std::{
    fs::OpenOptions,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::Read as _,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use async_trait::async_trait;
use jiff::SignedDuration;
use lifeboat_daemon::{
    job::{Because, Job, RunOutcome, Verb},
    runner::{Ended, How, RunEvent, Runner},
};
use rustix::fs::{FlockOperation, flock};
use tokio::{io::AsyncWriteExt as _, process::Command};
use tokio_util::sync::CancellationToken;

use super::{
    clock::Clock,
    effects::{self, Key},
};

const TRANSIENT: u8 = 75;
const ABANDONED: u8 = 70;

/// `worker LOG RUN VERB SCHEDULE INSTANCE DUE MILLIS LOCK`.
pub fn main(arguments: &[&str]) -> ExitCode {
    let [log, run, verb, schedule, instance, due, millis, lock] = arguments else { panic!("{arguments:?}") };
    let (log, lock) = (Path::new(log), OpenOptions::new().create(true).append(true).open(lock).unwrap());
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    // Before this the daemon may have died without knowing of us: nothing is done then.
    let mut input = std::io::stdin();
    if input.read(&mut [0]).unwrap() == 0 {
        return ExitCode::from(ABANDONED);
    }
    let (sender, closed) = mpsc::channel();
    thread::spawn(move || {
        let _ = input.read(&mut [0]);
        let _ = sender.send(());
    });
    let key = Key { schedule: schedule.to_string(), instance: instance.to_string(), due: due.to_string() };
    let is_bad_day = bad_luck(&key) && !effects::read(log).values().any(|effect| effect.key == key);
    effects::write(log, "begin", run, verb, &key);
    let span = Duration::from_millis(millis.parse().unwrap());
    let (what, code) = match closed.recv_timeout(span) {
        Ok(()) => {
            thread::sleep(Duration::from_millis(30)); // tearing down takes a moment
            ("abandoned", ABANDONED)
        }
        Err(_) if is_bad_day => ("transient", TRANSIENT),
        Err(_) => ("end", 0),
    };
    effects::write(log, what, run, verb, &key);
    ExitCode::from(code)
}

/// One due run in ten fails the first time, for a passing reason.
fn bad_luck(key: &Key) -> bool {
    let mut hasher = DefaultHasher::new();
    (&key.schedule, &key.instance, &key.due).hash(&mut hasher);
    key.schedule != "stream" && hasher.finish().is_multiple_of(10)
}

/// Begins such processes.
pub struct Workers {
    pub log: PathBuf,
    pub clock: Clock,
}

/// How long such a run takes.
fn span(verb: &Verb) -> SignedDuration {
    SignedDuration::from_mins(match verb {
        Verb::Backup => 6,
        Verb::Drill { .. } => 20,
        Verb::Control { .. } => 15,
        Verb::Prune | Verb::Scrub { .. } | Verb::Copy { .. } => 5,
        Verb::Stream => 60 * 24 * 30,
        _ => 2,
    })
}

#[async_trait]
impl Runner for Workers {
    async fn run(
        &self,
        job: &Job,
        how: &How,
        events: tokio::sync::mpsc::Sender<RunEvent>,
        cancel: CancellationToken,
    ) -> Ended {
        let (schedule, due) = match &job.because {
            Because::Schedule { schedule, due } => (schedule.clone(), due.to_string()),
            Because::Asked { at, .. } => ("asked".to_owned(), at.to_string()),
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("worker")
            .arg(&self.log)
            .args([job.run.to_string(), job.verb.word().to_owned(), schedule])
            .args([job.instance.as_ref().map_or("-".to_owned(), ToString::to_string), due])
            .arg(self.clock.real(span(&job.verb)).as_millis().to_string())
            .arg(&how.alive_file)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let _ = input.write_all(b".").await;
        let _ = events.send(RunEvent::Phase { name: "working".to_owned() }).await;
        tokio::select! {
            _ = child.wait() => {}
            () = cancel.cancelled() => drop(input),
        }
        let status = child.wait().await.unwrap();
        // Long enough that some kills come between what was done and its being recorded.
        tokio::time::sleep(Duration::from_millis(60)).await;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        let (outcome, reason) = match code {
            Some(0) => (RunOutcome::Passed, None),
            Some(ABANDONED) => (RunOutcome::Interrupted, Some("stopped".to_owned())),
            _ => (RunOutcome::Failed, Some("the object storage does not answer".to_owned())),
        };
        Ended { outcome, exit: code, answer: None, reason, is_transient: code == Some(TRANSIENT) }
    }

    async fn is_alive(&self, _: &Job, how: &How) -> bool {
        let Ok(file) = OpenOptions::new().append(true).open(&how.alive_file) else { return false };
        flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
    }
}
