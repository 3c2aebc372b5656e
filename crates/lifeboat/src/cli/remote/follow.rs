//! A run as it goes on: server-sent events, each told in one line. The connection is made again where it ends too early.

use std::time::Duration;

use lifeboat_daemon::{runner::RunEvent, view::EventView};
use lifeboat_model::check::Verdict;
use reqwest::Response;

use super::client::Client;
use crate::{
    exit::Exit,
    failure::{Failure, Result},
    log::Voice,
    output::{Tone, ago, bytes},
};

/// No event is longer.
const LONGEST: usize = 1 << 20;
/// Attempts in a row that bring nothing, before it is given up.
const ATTEMPTS: u32 = 10;
/// Between them.
const PAUSE: Duration = Duration::from_secs(2);

/// Comes back when the run is over.
pub async fn to_the_end(client: &Client, voice: &Voice, run: &str) -> Result<()> {
    let (mut last, mut attempts) = (None::<String>, 0);
    loop {
        let before = last.clone();
        match stream(client, voice, run, &mut last).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(failure) if failure.exit != Exit::Unavailable || attempts >= ATTEMPTS => return Err(failure),
            Err(_) => {}
        }
        attempts = if last == before { attempts + 1 } else { 0 };
        tokio::time::sleep(PAUSE).await;
    }
}

/// One connection; true when the run is over.
async fn stream(client: &Client, voice: &Voice, run: &str, last: &mut Option<String>) -> Result<bool> {
    let response = client.events(run, last.as_deref()).await?;
    let mut source = Source { response, buffer: Vec::new() };
    while let Some(message) = source.next().await? {
        if message.name == "end" {
            return Ok(true);
        }
        if let Ok(view) = serde_json::from_str::<EventView>(&message.data) {
            tell(voice, &view);
        }
        if message.id.is_some() {
            *last = message.id;
        }
    }
    Ok(false)
}

fn tell(voice: &Voice, view: &EventView) {
    if voice.tells_events() {
        return voice.event(&view.event, &words(view).unwrap_or_default());
    }
    if let Some(words) = words(view) {
        voice.say(&words);
    }
}

/// For people; what changes all the time is left out.
fn words(view: &EventView) -> Option<String> {
    Some(match &view.event {
        RunEvent::Phase { name } => format!("{name} …"),
        RunEvent::Check { id, verdict, observed, .. } => {
            let (tone, detail) = match verdict {
                Verdict::Passed => (Tone::Good, observed),
                Verdict::Failed(why) => (Tone::Bad, why),
                Verdict::NotExecuted(why) => (Tone::Doubtful, why),
            };
            format!("  {} {id}: {detail}", tone.paint(&format!("{:<12}", verdict.word())))
        }
        RunEvent::Note { message, .. } => message.clone(),
        RunEvent::Wal { phase, newest_commit, waiting_bytes, .. } => {
            let newest = newest_commit.map(|time| format!(", newest commit {}", ago(view.at, time)));
            let waiting =
                waiting_bytes.filter(|waiting| *waiting > 0).map(|waiting| format!(", {} wait", bytes(waiting)));
            format!("{phase}{}{}", newest.unwrap_or_default(), waiting.unwrap_or_default())
        }
        RunEvent::Progress { .. } => return None,
    })
}

/// A message of the stream.
#[derive(Debug, PartialEq)]
struct Message {
    name: String,
    id: Option<String>,
    data: String,
}

struct Source {
    response: Response,
    buffer: Vec<u8>,
}

impl Source {
    /// None: the connection has ended.
    async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(message) = take(&mut self.buffer) {
                return Ok(Some(message));
            }
            if self.buffer.len() > LONGEST {
                return Err(Failure::new(Exit::Failed, "the daemon sends an event that is too long"));
            }
            match self.response.chunk().await {
                Ok(Some(piece)) => self.buffer.extend_from_slice(&piece),
                Ok(None) => return Ok(None),
                Err(error) => return Err(Failure::new(Exit::Unavailable, error.to_string())),
            }
        }
    }
}

/// Takes the first whole message out of what has come. Comments, which only say that somebody is there, are passed over.
fn take(buffer: &mut Vec<u8>) -> Option<Message> {
    loop {
        let end = buffer.windows(2).position(|pair| pair == b"\n\n")?;
        let block: Vec<u8> = buffer.drain(..end + 2).collect();
        let text = String::from_utf8_lossy(&block);
        let (mut name, mut id, mut data) = ("message".to_owned(), None, Vec::new());
        for line in text.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => name = value.to_owned(),
                "id" => id = Some(value.to_owned()),
                "data" => data.push(value),
                _ => {}
            }
        }
        if !data.is_empty() {
            return Some(Message { name, id, data: data.join("\n") });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_pieces() {
        let mut buffer = b": alive\n\nid: 7\ndata: {\"a\":1}\n\nevent: end\ndata: {".to_vec();
        let first = take(&mut buffer).unwrap();
        assert_eq!(first, Message { name: "message".into(), id: Some("7".into()), data: "{\"a\":1}".into() });
        assert_eq!(take(&mut buffer), None);
        buffer.extend_from_slice(b"}\n\n");
        assert_eq!(take(&mut buffer).unwrap().name, "end");
        assert!(buffer.is_empty());
    }
}
