//! The drill whose sandbox stands in for production: a process of its own, held until its standard input closes.
//!
//! However the executor ends, that pipe closes with it: the drill tears down, and signs what it had found if it was whole.

use std::{path::Path, process::Stdio, time::Duration};

use lifeboat_daemon::runner::RunEvent;
use lifeboat_model::check::Verdict;
use serde_json::Value;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStdin, Command},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    cli::drill::hold::HoldFile,
    hands::Tools,
    runner::lines::{self, LastWords},
};

/// A drill that was told to end tears down, which takes 300 s at most, and signs.
const PATIENCE: Duration = Duration::from_secs(600);
/// People think and are asked: so long a sandbox waits for them.
const HELD: &str = "--hold=4h";
/// The answer is read whole up to this.
const ANSWER: u64 = 4 << 20;
/// Events that wait to be looked at.
const EVENTS: usize = 64;

/// A check that has answered, in the words of evidence.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    /// As in docs/drill.md.
    pub id: String,
    /// The answer.
    pub verdict: Verdict,
}

/// How a drill ended.
#[derive(Debug, Clone)]
pub(super) struct Verdicted {
    /// Its run id, as far as it came to have one.
    pub run: Option<String>,
    /// The key of its signed statement.
    pub evidence: Option<String>,
    /// Why it has not passed.
    pub why: Option<String>,
}

/// What is known of a drill.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub checks: Vec<Checked>,
    pub file: HoldFile,
    pub ended: Option<Verdicted>,
}

/// A drill at work.
pub(super) struct Held {
    pub instance: String,
    pub known: watch::Receiver<Known>,
    /// Its end says that the sandbox is not needed any more.
    stdin: Option<ChildStdin>,
    _following: JoinHandle<()>,
}

impl Held {
    /// Begins a drill. `arguments` say of which moment.
    pub fn begin(instance: &str, arguments: &[String], tools: &Tools) -> Result<Held, String> {
        let file = tools.folder.join("practice.json");
        let _ = std::fs::remove_file(&file); // of a drill that was killed: it leads nowhere
        let mut command = Command::new("/proc/self/exe");
        if let Some(config) = &tools.config_file {
            command.arg("--config").arg(config);
        }
        command.args(["--json", "--log-format", "json", "--until-stdin-closes", "--started-by", &tools.started_by]);
        command.args(["drill", instance, HELD, "--hold-file"]).arg(&file).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|error| format!("cannot start a drill: {error}"))?;
        let stdin = child.stdin.take();
        let (sender, known) = watch::channel(Known::default());
        let talk = std::sync::Arc::clone(&tools.talk);
        let following = tokio::spawn(async move {
            let ended = follow(child, &file, &sender, &*talk).await;
            sender.send_modify(|known| known.ended = Some(ended));
        });
        Ok(Held { instance: instance.to_owned(), known, stdin, _following: following })
    }

    /// Waits until something is known of it; or why it has ended before.
    pub async fn until<T>(&self, look: impl Fn(&Known) -> Option<T>) -> Result<T, String> {
        let mut known = self.known.clone();
        let waited = known.wait_for(|known| known.ended.is_some() || look(known).is_some()).await;
        let known = waited.map_err(|_| "the drill is not followed any more: a defect of ours".to_owned())?;
        if let Some(found) = look(&known).filter(|_| known.ended.is_none()) {
            return Ok(found);
        }
        let why = known.ended.as_ref().and_then(|ended| ended.why.clone());
        Err(match why {
            Some(why) => format!("the drill has ended: {why}"),
            None => "the sandbox is gone: its time was over, or it was ended from outside".to_owned(),
        })
    }

    /// Lets go of the sandbox and waits for the drill's last word.
    pub async fn release(mut self) -> Verdicted {
        drop(self.stdin.take());
        let mut known = self.known.clone();
        let over = timeout(PATIENCE, known.wait_for(|known| known.ended.is_some())).await;
        let ended = over.ok().and_then(Result::ok).and_then(|known| known.ended.clone());
        ended.unwrap_or_else(|| Verdicted {
            run: None,
            evidence: None,
            why: Some(format!("the drill did not end within {} s: look for its containers", PATIENCE.as_secs())),
        })
    }
}

/// Follows it to its end.
async fn follow(
    mut child: Child,
    file: &Path,
    known: &watch::Sender<Known>,
    talk: &(dyn Fn(&str) + Send + Sync),
) -> Verdicted {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let answer = async {
        let mut text = Vec::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(ANSWER).read_to_end(&mut text).await; // what is not whole is no answer
        }
        serde_json::from_slice::<Value>(&text).ok()
    };
    let (events, mut told) = mpsc::channel(EVENTS);
    let looking = async {
        while let Some(event) = told.recv().await {
            match event {
                RunEvent::Phase { name } => {
                    talk(&format!("sandbox: {name}"));
                    // Written before the phase was begun.
                    let now = look(file).await;
                    known.send_modify(|known| known.file = now.unwrap_or_else(|| known.file.clone()));
                }
                RunEvent::Check { id, verdict, .. } => {
                    if let Verdict::Failed(why) = &verdict {
                        talk(&format!("sandbox: {id} FAILED: {why}"));
                    }
                    known.send_modify(|known| known.checks.push(Checked { id, verdict }));
                }
                _ => {}
            }
        }
    };
    let (answer, words, ()) = tokio::join!(answer, lines::tell(stderr, events), looking);
    let code = child.wait().await.ok().and_then(|status| status.code());
    judge(code, answer.as_ref(), words, &known.borrow())
}

async fn look(file: &Path) -> Option<HoldFile> {
    serde_json::from_slice(&tokio::fs::read(file).await.ok()?).ok()
}

/// What became of it.
fn judge(code: Option<i32>, answer: Option<&Value>, words: Option<LastWords>, known: &Known) -> Verdicted {
    let text = |name: &str| answer.and_then(|answer| answer.get(name)).and_then(Value::as_str).map(str::to_owned);
    let run = text("run").or_else(|| known.file.restored.as_ref().map(|restored| restored.run.clone()));
    let failed = |check: &Checked| match &check.verdict {
        // In the words of evidence: whoever may see what is inside the backup asks for more.
        Verdict::Failed(why) => {
            Some(format!("{} failed: {why}; lifeboat drill of the same moment tells more", check.id))
        }
        _ => None,
    };
    let why = match (code, words) {
        (Some(0), _) => None,
        (_, Some(words)) => Some(words.to_string()),
        (code, None) => known.checks.iter().find_map(failed).or_else(|| {
            Some(match code {
                Some(code) => format!("it ended with {code}; lifeboat evidence list tells what it found"),
                None => "its process was ended from outside".to_owned(),
            })
        }),
    };
    Verdicted { run, evidence: text("evidence"), why }
}
