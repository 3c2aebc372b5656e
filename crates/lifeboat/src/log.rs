//! Talk on standard error: what happens, warnings, and the error at the end. As text for people or, with
//! `--log-format json`, one JSON object a line for machines. Lines and progress bars share the terminal: a bar steps
//! aside while a line is written. The daemon reads the JSON form: beside lines for people it has the events of a run.

use std::io::{self, IsTerminal as _, Write};

use clap::builder::styling::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressDrawTarget};
use lifeboat_daemon::runner::RunEvent;
use tracing::Level;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{
    cli::{Cli, Global, LogFormat, Verb},
    failure::Failure,
};

/// Overrides what is logged, in the form of `RUST_LOG`.
const FILTER_VARIABLE: &str = "LIFEBOAT_LOG";

/// The one way to standard error.
#[derive(Clone)]
pub struct Voice {
    bars: MultiProgress,
    format: LogFormat,
    quiet: bool,
    draws: bool,
}

/// Starts logging.
pub fn start(cli: &Cli) -> Voice {
    let (global, is_daemon) = (&cli.global, matches!(cli.verb, Verb::Daemon(_)));
    let draws = !global.quiet && global.log_format == LogFormat::Text && io::stderr().is_terminal();
    let target = if draws { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bars = MultiProgress::with_draw_target(target);
    let voice = Voice { bars, format: global.log_format, quiet: global.quiet, draws };
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| filter(global, is_daemon));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(voice.clone());
    // Told to a standard error that is gone it would panic: a run whose daemon was killed must tear down in peace.
    let builder = builder.log_internal_errors(false);
    match global.log_format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_target(global.verbose > 1).with_ansi(colours()).init(),
    }
    voice
}

/// A daemon has nobody who watches it: each change of a state is one line, and spans tell whose.
fn filter(global: &Global, is_daemon: bool) -> EnvFilter {
    let ours = match (global.quiet, global.verbose) {
        (true, _) => Level::ERROR,
        (false, 0) if !is_daemon => Level::WARN,
        (false, 0 | 1) => Level::INFO,
        (false, 2) => Level::DEBUG,
        (false, _) => Level::TRACE,
    };
    let others = if global.verbose > 2 { Level::DEBUG } else { Level::WARN };
    let crates = ["lifeboat", "lifeboat_store", "lifeboat_repo", "lifeboat_postgres", "lifeboat_odoo"];
    let more = ["lifeboat_evidence", "lifeboat_engine", "lifeboat_drill", "lifeboat_daemon"];
    let ours = crates.iter().chain(&more).map(|name| format!(",{name}={ours}")).collect::<String>();
    EnvFilter::new(format!("{others}{ours}"))
}

fn colours() -> bool {
    !matches!(anstream::AutoStream::choice(&io::stderr()), anstream::ColorChoice::Never)
}

impl Voice {
    /// The bars of this terminal; hidden where there is none.
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Whether [`Voice::event`] tells anybody.
    pub fn tells_events(&self) -> bool {
        self.format == LogFormat::Json && !self.quiet
    }

    /// Something that happened, for programs; `message` says the same to people. Only with `--log-format json`.
    pub fn event(&self, event: &RunEvent, message: &str) {
        if self.tells_events() {
            self.write(&format!("{}\n", event_json(event, message)));
        }
    }

    /// Whether progress is drawn.
    pub fn draws(&self) -> bool {
        self.draws
    }

    /// A line for the person who started the command; not with `--quiet`.
    pub fn say(&self, text: &str) {
        if self.quiet {
            return;
        }
        match self.format {
            LogFormat::Text => self.write(&format!("{text}\n")),
            LogFormat::Json => self.write(&format!("{}\n", serde_json::json!({ "level": "INFO", "message": text }))),
        }
    }

    /// A line about something that works and should not stay; not with `--quiet`.
    pub fn warn(&self, text: &str) {
        if self.quiet {
            return;
        }
        let style = AnsiColor::Yellow.on_default().bold();
        match self.format {
            LogFormat::Text => self.write(&format!("{style}warning:{style:#} {text}\n")),
            LogFormat::Json => self.write(&format!("{}\n", serde_json::json!({ "level": "WARN", "message": text }))),
        }
    }

    /// The last words of a run that failed.
    pub fn failure(&self, failure: &Failure) {
        match self.format {
            LogFormat::Text => self.write(&failure_text(failure)),
            LogFormat::Json => self.write(&format!("{}\n", failure_json(failure))),
        }
    }

    fn write(&self, text: &str) {
        self.bars.suspend(|| {
            let mut stderr = anstream::stderr().lock();
            let _ = stderr.write_all(text.as_bytes()); // nowhere is left to tell that standard error is gone
        });
    }
}

fn event_json(event: &RunEvent, message: &str) -> serde_json::Value {
    let mut line = serde_json::json!({ "level": "INFO", "message": message });
    if let (Some(line), Ok(serde_json::Value::Object(event))) = (line.as_object_mut(), serde_json::to_value(event)) {
        line.extend(event); // the level and the message of a note are its own
    }
    line
}

fn failure_text(failure: &Failure) -> String {
    let (red, blue) = (AnsiColor::Red.on_default().bold(), Style::new().bold());
    let mut messages = failure.messages().into_iter();
    let mut text = format!("{red}error:{red:#} {}\n", messages.next().unwrap_or_default());
    for cause in messages {
        text += &format!("  caused by: {cause}\n");
    }
    for detail in &failure.details {
        text += &format!("  {detail}\n");
    }
    let advice = [("safe", &failure.safe), ("hint", &failure.hint), ("next", &failure.next)];
    for (name, words) in advice.iter().filter_map(|(name, words)| words.as_ref().map(|words| (name, words))) {
        text += &format!("{blue}{name}:{blue:#} {words}\n");
    }
    text
}

fn failure_json(failure: &Failure) -> serde_json::Value {
    let messages = failure.messages();
    serde_json::json!({
        "level": "ERROR",
        "message": messages.first(),
        "causes": messages.get(1..).unwrap_or_default(),
        "details": failure.details,
        "safe": failure.safe,
        "hint": failure.hint,
        "next": failure.next,
        "exit": failure.exit.code(),
        "exit_name": failure.exit.name(),
    })
}

impl<'a> MakeWriter<'a> for Voice {
    type Writer = Aside<'a>;
    fn make_writer(&'a self) -> Aside<'a> {
        Aside(&self.bars)
    }
}

/// Writes log lines while the bars step aside.
pub struct Aside<'a>(&'a MultiProgress);

impl Write for Aside<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn events_are_read_as_they_are_told() {
        let phase = RunEvent::Phase { name: "restore".into() };
        let note = RunEvent::Note { level: "WARN".into(), message: "slow".into() };
        for event in [phase, note] {
            let line = event_json(&event, "words").to_string();
            assert_eq!(serde_json::from_str::<RunEvent>(&line).unwrap(), event, "{line}");
        }
    }

    #[test]
    fn last_words_have_a_fixed_order() {
        let failure = Failure::new(Exit::Busy, "inner")
            .context("backup of clinic failed")
            .next("lifeboat status clinic")
            .hint("wait")
            .safe("points are as they were");
        let text = anstream::adapter::strip_str(&failure_text(&failure)).to_string();
        assert_eq!(
            text,
            "error: backup of clinic failed\n  caused by: inner\nsafe: points are as they were\nhint: wait\n\
             next: lifeboat status clinic\n"
        );
        assert_eq!(failure_json(&failure)["exit_name"], "busy");
    }
}
