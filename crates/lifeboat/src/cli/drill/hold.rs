//! `lifeboat drill INSTANCE --hold`: the sandbox stays up once everything has been asked, until somebody says that it is enough.
//!
//! Enough is: Enter or the end of standard input, Ctrl-C, or that the time is over. To a program that has started this the end of
//! standard input says so by `--until-stdin-closes`, however that program ended; and what it needs to know it reads in
//! `--hold-file`, which is written before the events `check` and `phase` tell that it is worth reading.

use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use clap::Args;
use jiff::Timestamp;
use lifeboat_drill::hold::{Hold, Restored, Serving};
use lifeboat_model::{id::Instance, time::Span};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::Session,
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    log::Voice,
};

/// Longer, and a drill that somebody has forgotten keeps others from their turn for days.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The address of a socket has so many bytes at most.
const LONGEST_SOCKET: usize = 107;

/// Whether and how long.
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// Keep the sandbox up once everything has been asked, to look into it, until Enter, Ctrl-C or so long; what was found and
    /// measured stays
    #[arg(long, value_name = "SPAN", num_args = 0..=1, require_equals = true, default_missing_value = "30m")]
    #[arg(conflicts_with = "sabotage", value_parser = span)]
    hold: Option<Span>,
    /// Write how to get into the sandbox into a new file that only its owner can read; it is removed in the end
    #[arg(long, value_name = "FILE", requires = "hold")]
    hold_file: Option<PathBuf>,
}

fn span(text: &str) -> std::result::Result<Span, String> {
    let span: Span = text.parse().map_err(|error| format!("{error}"))?;
    match span.0 {
        span if span.is_zero() => Err("not at all: leave --hold out".to_owned()),
        span if span > LONGEST => Err(format!("at most {}", Span(LONGEST))),
        _ => Ok(span),
    }
}

/// What stands in `--hold-file`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HoldFile {
    /// Name and version of this form.
    pub schema: String,
    /// What was brought back, once replay is over.
    pub restored: Option<RestoredFile>,
    /// How to get in, while it is held.
    pub serving: Option<ServingFile>,
}

/// What was brought back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestoredFile {
    /// The drill.
    pub run: String,
    /// Where it lies.
    pub folder: PathBuf,
    /// The recovery point.
    pub point: Option<String>,
    /// The newest commit in it.
    pub newest_commit: Option<Timestamp>,
}

/// How to get in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServingFile {
    /// Odoo.
    pub url: url::Url,
    /// The folder of PostgreSQL's socket.
    pub socket: PathBuf,
    /// The number in its name.
    pub port: u16,
    /// A superuser whom it asks no password.
    pub role: String,
    /// Odoo's databases.
    pub databases: Vec<String>,
    /// What would have been lost.
    pub rpo_seconds: Option<f64>,
    /// Users who exist in the sandbox only.
    pub logins: Vec<LoginFile>,
}

/// A user of the sandbox's Odoo.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoginFile {
    /// The database.
    pub database: String,
    /// The login name.
    pub login: String,
    /// The password; it is worth nothing once the sandbox is gone.
    pub password: String,
}

const SCHEMA: &str = "lifeboat.drill-hold/1";

impl HoldArgs {
    /// Whether it is asked for.
    pub fn is_given(&self) -> bool {
        self.hold.is_some()
    }

    /// Prepares it; a file that is there already is refused before anything is begun.
    pub fn prepare(self, session: &Session, instance: &Instance) -> Result<Option<Arc<Holder>>> {
        let Some(limit) = self.hold else { return Ok(None) };
        if let Some(file) = &self.hold_file {
            if fs::symlink_metadata(file).is_ok() {
                let words = format!("{} is there already", file.display());
                return Err(Failure::new(Exit::Usage, words).hint("name a new file").safe("nothing was done"));
            }
            write(file, &HoldFile { schema: SCHEMA.to_owned(), ..HoldFile::default() })
                .context(format!("cannot write {}", file.display()))?;
        }
        let holder = Arc::new(Holder {
            voice: session.voice.clone(),
            instance: instance.clone(),
            limit: limit.0,
            file: self.hold_file,
            known: Mutex::new(HoldFile { schema: SCHEMA.to_owned(), ..HoldFile::default() }),
            is_held: AtomicBool::new(false),
            enough: CancellationToken::new(),
            stop: CancellationToken::new(),
            asks_stdin: !session.until_stdin_closes,
        });
        let (asked, one) = (session.cancel.clone(), Arc::downgrade(&holder));
        tokio::spawn(async move {
            asked.cancelled().await;
            if let Some(holder) = one.upgrade() {
                // What was found is whole by then, and is not thrown away.
                if holder.is_held.load(Ordering::SeqCst) { &holder.enough } else { &holder.stop }.cancel();
            }
        });
        Ok(Some(holder))
    }
}

/// Holds a drill.
pub struct Holder {
    voice: Voice,
    instance: Instance,
    limit: Duration,
    file: Option<PathBuf>,
    known: Mutex<HoldFile>,
    is_held: AtomicBool,
    enough: CancellationToken,
    /// Stops the drill, which somebody wanted before there was anything to hold.
    pub stop: CancellationToken,
    asks_stdin: bool,
}

impl Holder {
    /// Puts what has become known where others read it.
    async fn know(&self, change: impl FnOnce(&mut HoldFile)) {
        let known = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut known);
            known.clone()
        };
        let Some(file) = self.file.clone() else { return };
        let name = file.display().to_string();
        let written = tokio::task::spawn_blocking(move || write(&file, &known)).await;
        if let Err(error) = written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            self.voice.warn(&format!("cannot write {name}: {error}"));
        }
    }

    fn tell(&self, serving: &Serving) {
        let Holder { voice, instance, .. } = self;
        voice.say(&format!(
            "the sandbox of {instance} is held for {}; nothing that was found changes",
            Span(self.limit)
        ));
        voice.say(&format!("  Odoo        {}", serving.url));
        for (database, login) in &serving.logins {
            // Nobody else shall read it in a log.
            let password = match (io::stderr().is_terminal(), &self.file) {
                (true, _) => login.password.expose().to_owned(),
                (false, Some(file)) => format!("in {}", file.display()),
                (false, None) => "only in --hold-file, or on a terminal".to_owned(),
            };
            voice.say(&format!("              database {database}, user {}, password {password}", login.login));
        }
        for database in &serving.databases {
            voice.say(&format!("  PostgreSQL  {}", psql(&serving.socket, serving.port, &serving.role, database)));
        }
        voice.say(match self.asks_stdin {
            true => "  Enter ends it: it is torn down, and the evidence is signed",
            false => "  the end of standard input ends it: it is torn down, and the evidence is signed",
        });
    }
}

/// How people get in. The address of a socket is short, the path of its folder may not be.
fn psql(socket: &Path, port: u16, role: &str, database: &str) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let folder = quote(&socket.display().to_string());
    let (role, database) = (quote(role), quote(database));
    match socket.as_os_str().len() + format!("/.s.PGSQL.{port}").len() <= LONGEST_SOCKET {
        true => format!("psql -h {folder} -p {port} -U {role} {database}"),
        false => format!("cd {folder} && psql -h /proc/self/cwd -p {port} -U {role} {database}"),
    }
}

#[async_trait]
impl Hold for Holder {
    fn limit(&self) -> Duration {
        self.limit
    }

    async fn restored(&self, restored: &Restored) {
        let Restored { run, folder, point, newest_commit } = restored.clone();
        let restored = RestoredFile { run: run.to_string(), folder, point, newest_commit };
        self.know(|known| known.restored = Some(restored)).await;
    }

    async fn serving(&self, serving: &Serving) {
        let login = |(database, login): &(String, lifeboat_odoo::login::SandboxLogin)| LoginFile {
            database: database.clone(),
            login: login.login.clone(),
            password: login.password.expose().to_owned(),
        };
        let file = ServingFile {
            url: serving.url.clone(),
            socket: serving.socket.clone(),
            port: serving.port,
            role: serving.role.clone(),
            databases: serving.databases.clone(),
            rpo_seconds: serving.rpo.map(|rpo| rpo.as_secs_f64()),
            logins: serving.logins.iter().map(login).collect(),
        };
        self.is_held.store(true, Ordering::SeqCst);
        self.know(|known| known.serving = Some(file)).await;
        self.tell(serving);
    }

    async fn released(&self) {
        if self.asks_stdin {
            let enough = self.enough.clone();
            // A thread of its own: a read that waits for ever would keep the runtime from ending.
            std::thread::spawn(move || {
                let _ = rustix::termios::tcflush(io::stdin(), rustix::termios::QueueSelector::IFlush); // typed before
                let mut line = String::new();
                let _ = io::stdin().lock().read_line(&mut line); // an error ends it as well
                enough.cancel();
            });
        }
        self.enough.cancelled().await;
        self.is_held.store(false, Ordering::SeqCst);
        self.voice.say("enough: tearing down");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = fs::remove_file(file); // what it leads to is gone
        }
    }
}

/// Whoever reads it sees all of it or what was there before.
fn write(file: &Path, known: &HoldFile) -> io::Result<()> {
    // Beside it, under a name that nobody else has chosen: this process removes only what it made.
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = file.with_file_name(name);
    let mut text = serde_json::to_string_pretty(known)?;
    text.push('\n');
    let mut made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = made.write_all(text.as_bytes()).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        let _ = fs::remove_file(&new); // the first error counts
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_reached_however_long_its_path_is() {
        assert_eq!(psql(Path::new("/x"), 5432, "r", "it's"), r"psql -h '/x' -p 5432 -U 'r' 'it'\''s'");
        let long = PathBuf::from(format!("/{}", "x".repeat(100)));
        assert!(psql(&long, 5432, "r", "d").starts_with("cd '/xxx"));
    }

    #[test]
    fn a_file_that_is_told_leaves_others_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("notes.json"), folder.path().join("notes.new"));
        fs::write(&other, "somebody else's").unwrap();
        for _ in 0..2 {
            write(&file, &HoldFile { schema: SCHEMA.to_owned(), ..HoldFile::default() }).unwrap();
        }
        assert!(fs::read_to_string(&file).unwrap().contains(SCHEMA));
        assert_eq!(fs::read_to_string(&other).unwrap(), "somebody else's");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "and nothing is left beside it");
    }

    #[test]
    fn it_is_held_for_a_while_and_not_for_ever() {
        assert_eq!(span("30m").unwrap(), Span(Duration::from_secs(1800)));
        assert!(span("0s").is_err() && span("25h").is_err() && span("clinic").is_err());
    }
}
