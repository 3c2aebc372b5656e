//! `lifeboat notify`: whether messages get to people, tried before they are needed.

use std::sync::Arc;

use clap::{Args, Subcommand};
use lifeboat_daemon::{notify, policies};
use serde::Serialize;

use super::{Session, settings::SettingsArgs};
use crate::{
    exit::Exit,
    failure::{Failure, Result, of_daemon},
    output::{Answer, Page, Tone},
    wire,
};

/// Try the daemon's ways to people
#[derive(Debug, Args)]
pub struct NotifyCommand {
    #[command(subcommand)]
    verb: NotifyVerb,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
enum NotifyVerb {
    Test(Test),
}

/// Send a message that says that it is a test
///
/// Sends from here, past the daemon, its limits and what waits there. Exit code 10 (not reachable) when one did not get there.
#[derive(Debug, Args)]
struct Test {
    /// Only over this channel [default: all]
    channel: Option<String>,
}

impl NotifyCommand {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let sources = self.settings.sources(session)?;
        let NotifyVerb::Test(Test { channel: wanted }) = self.verb;
        let settings = policies::read(&sources).map_err(of_daemon)?.settings;
        let channels: Vec<_> = settings.notify.channels.iter().collect();
        let picked: Vec<_> =
            channels.iter().filter(|channel| wanted.as_ref().is_none_or(|name| *name == channel.name)).collect();
        if picked.is_empty() {
            let known: Vec<_> = channels.iter().map(|channel| channel.name.as_str()).collect();
            let message = match wanted {
                Some(name) => format!("there is no channel \"{name}\"; there are: {}", known.join(", ")),
                None => "no channel is configured: add [notify.channels.NAME] to daemon.toml".to_owned(),
            };
            return Err(Failure::new(Exit::NotFound, message).safe("nothing was sent").next("lifeboat schedule check"));
        }
        let mut tried = Tried { channels: Vec::new() };
        for channel in picked {
            let environment = Arc::new(|name: &str| wire::environment(name));
            let sent = notify::test(channel, settings.public_url.clone(), environment, "Somebody", session.now()).await;
            let problem = sent.err().map(|error| error.to_string());
            tried.channels.push(Channel { channel: channel.name.clone(), delivered: problem.is_none(), problem });
        }
        session.output.show(&tried)?;
        Ok(if tried.channels.iter().all(|channel| channel.delivered) { Exit::Ok } else { Exit::Unavailable })
    }
}

#[derive(Serialize)]
struct Tried {
    channels: Vec<Channel>,
}

#[derive(Serialize)]
struct Channel {
    channel: String,
    delivered: bool,
    problem: Option<String>,
}

impl Answer for Tried {
    const SCHEMA: &'static str = "lifeboat.notify-test/1";

    fn text(&self, page: &mut Page) {
        for channel in &self.channels {
            let name = &channel.channel;
            match &channel.problem {
                None => page.line(format_args!("{name}: {}", Tone::Good.paint("delivered"))),
                Some(problem) => page.line(format_args!("{name}: {}: {problem}", Tone::Bad.paint("NOT DELIVERED"))),
            }
        }
    }
}
