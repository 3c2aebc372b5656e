//! `lifeboat kit`: all that is needed to bring systems back on a machine that has nothing, but no secret.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::task::spawn_blocking;

use self::{
    check::Seen,
    config::Need,
    contents::{Asked, Contents},
};
use super::Session;
use crate::{
    exit::Exit,
    failure::{Failure, Result},
    output::{Answer, Page, Tone, ago, count},
    wire,
};

mod check;
mod config;
mod contents;
mod manifest;
mod readme;
mod write;

/// Write or check a recovery kit: all that a clean machine needs but the secrets
///
/// A kit holds this program, lifeboat.toml with paths that work anywhere, runbooks, certificates, instructions and sums. With
/// the recovery identity and the repository's credentials, which it never holds, it brings systems back where there is no
/// daemon, no state and no network but the way to the repository.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct KitCommand {
    #[command(subcommand)]
    verb: KitVerb,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat kit write /media/stick/lifeboat-kit
  lifeboat kit write /media/stick/lifeboat-kit --images --runbooks /etc/lifeboat/runbooks
  lifeboat kit check /media/stick/lifeboat-kit

Write it anew when kit check says that it is stale, and keep it where the recovery identity is not.";

#[derive(Debug, Subcommand)]
enum KitVerb {
    Write(Write),
    Check(Check),
}

/// Write a kit into a new folder, or over an older kit
#[derive(Debug, Args)]
struct Write {
    /// The folder
    #[arg(value_name = "DIR")]
    to: PathBuf,
    /// Where the runbooks are [default: runbooks/ beside lifeboat.toml]
    #[arg(long, value_name = "DIR")]
    runbooks: Option<PathBuf>,
    /// Bring the images that drills need, for a machine that cannot fetch them (some GB)
    #[arg(long)]
    images: bool,
}

/// See whether a kit is whole and still true, and what has to be brought to it
///
/// Exit codes: 0 whole and true, 4 damaged, 5 stale: what it was made from has changed.
#[derive(Debug, Args)]
struct Check {
    /// The folder
    #[arg(value_name = "DIR", default_value = ".")]
    kit: PathBuf,
}

#[derive(Serialize)]
struct Written {
    kit: PathBuf,
    files: usize,
    #[serde(flatten)]
    manifest: manifest::Manifest,
}

impl Answer for Written {
    const SCHEMA: &'static str = "lifeboat.kit-write/1";

    fn text(&self, page: &mut Page) {
        let files = count(self.files as u64, "file", "files");
        page.line(format_args!("{}: {} with {files}", self.kit.display(), Tone::Good.paint("a kit")));
        page.gap();
        page.heading("It holds no secret. Whoever uses it brings:");
        page.line("  - the recovery identity");
        for slot in self.manifest.secrets.iter().filter(|slot| slot.needed_for == Need::Recovery) {
            page.line(format_args!("  - {} ({}), as {}", slot.key, slot.was.display(), slot.file));
        }
        for (key, name) in &self.manifest.variables {
            page.line(format_args!("  - the environment variable {name} ({key})"));
        }
        for folder in &self.manifest.folders {
            page.gap();
            let word = Tone::Doubtful.paint("warning:");
            page.line(format_args!("{word} the repository at {} is a folder of this machine", folder.display()));
            page.line("  If the machine is lost, so is the folder: use a bucket, or copy the repository elsewhere.");
        }
        page.gap();
        page.line(format_args!("Next: lifeboat kit check {}", self.kit.display()));
    }
}

impl Answer for Seen {
    const SCHEMA: &'static str = "lifeboat.kit-check/1";

    fn text(&self, page: &mut Page) {
        let (tone, word) = match (self.whole, self.stale.is_empty()) {
            (false, _) => (Tone::Bad, "DAMAGED"),
            (true, false) => (Tone::Doubtful, "stale"),
            (true, true) => (Tone::Good, "whole"),
        };
        let made = ago(self.looked, self.manifest.made);
        page.line(format_args!("{}: {}, made {made} on {}", self.kit.display(), tone.paint(word), self.manifest.host));
        for line in &self.damage {
            page.line(format_args!("  {} {line}", Tone::Bad.paint("damaged:")));
        }
        for line in &self.stale {
            page.line(format_args!("  {} {line}", Tone::Doubtful.paint("stale:")));
        }
        for file in &self.missing {
            page.line(format_args!("  to be brought: {file} (mode 0600)"));
        }
        if !self.whole || !self.stale.is_empty() {
            page.gap();
            page.line(format_args!("Next: lifeboat kit write {}", self.kit.display()));
        }
    }
}

impl KitCommand {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        match self.verb {
            KitVerb::Write(verb) => verb.run(session).await,
            KitVerb::Check(verb) => verb.run(session),
        }
    }
}

impl Write {
    async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = wire::load_config(session)?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let what = Asked { runbooks: self.runbooks, images: self.images, host, now: session.now() };
        let contents = spawn_blocking(move || contents::gather(&loaded, &what)).await??;
        let images = &contents.manifest.images;
        let docker = if self.images { Some(write::engine_with(images).await?) } else { None };
        write::make_room(&contents, &self.to)?;
        if let Some(docker) = docker {
            session.voice.say(&format!("Saving {} …", images.join(", ")));
            tokio::select! {
                saved = write::save(&docker, images, &self.to) => saved?,
                () = session.cancel.cancelled() => {
                    return Err(Failure::new(Exit::Interrupted, "stopped").safe("what was written is no kit; write it again"));
                }
            }
        }
        let to = self.to.clone();
        let contents = spawn_blocking(move || write::write(&contents, &to).map(|()| contents)).await??;
        let Contents { files, manifest, .. } = contents;
        let count = files.len() + 2 + usize::from(self.images);
        session.output.show(&Written { kit: self.to, files: count, manifest })?;
        Ok(Exit::Ok)
    }
}

impl Check {
    fn run(self, session: &Session) -> Result<Exit> {
        let seen = check::look(&self.kit, session.now())?;
        session.output.show(&seen)?;
        Ok(match (seen.whole, seen.stale.is_empty()) {
            (false, _) => Exit::CheckFailed,
            (true, false) => Exit::Incomplete,
            (true, true) => Exit::Ok,
        })
    }
}
