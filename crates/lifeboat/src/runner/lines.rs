//! What a run tells on standard error, line by line: events, lines for people, and last words.

use std::fmt;

use lifeboat_daemon::runner::RunEvent;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    sync::mpsc,
};

/// Longer lines are cut: nothing that a run tells is.
const LONGEST_LINE: usize = 64 << 10;

/// The error at the end of a run that failed.
#[derive(Debug, Deserialize, PartialEq)]
pub struct LastWords {
    message: String,
    #[serde(default)]
    causes: Vec<String>,
    hint: Option<String>,
    next: Option<String>,
    /// What tells it from other lines.
    #[serde(rename = "exit_name")]
    _exit_name: String,
}

impl fmt::Display for LastWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        self.next.as_ref().map_or(Ok(()), |next| write!(f, "; next: {next}"))
    }
}

/// A line.
#[derive(Debug, PartialEq)]
enum Line {
    /// For whoever follows.
    Event(RunEvent),
    /// For the daemon's own log: it may name what is inside a backup.
    Log { level: String, message: String },
    /// The error at the end.
    Last(LastWords),
}

/// Reads to the end and gives the last words, if there were any.
pub async fn tell(stderr: Option<impl AsyncRead + Unpin>, events: mpsc::Sender<RunEvent>) -> Option<LastWords> {
    let (mut reader, mut line, mut last) = (BufReader::new(stderr?), Vec::new(), None);
    while next_line(&mut reader, &mut line).await {
        match read(&String::from_utf8_lossy(&line)) {
            None => {}
            // The next one tells it too, so that a daemon that is slow does not hold the run up.
            Some(Line::Event(event @ (RunEvent::Progress { .. } | RunEvent::Wal { .. }))) => {
                drop(events.try_send(event))
            }
            Some(Line::Event(event)) => drop(events.send(event).await), // an error says that nobody follows
            Some(Line::Log { level, message }) => match level.as_str() {
                "ERROR" => tracing::error!("{message}"),
                "WARN" => tracing::warn!("{message}"),
                "INFO" => tracing::info!("{message}"),
                _ => tracing::debug!("{message}"),
            },
            Some(Line::Last(words)) => {
                let note = RunEvent::Note { level: "ERROR".to_owned(), message: words.to_string() };
                drop(events.send(note).await);
                last = Some(words);
            }
        }
    }
    last
}

/// The next line without its end; what is too long of it is passed over. False: there is none any more.
async fn next_line(reader: &mut BufReader<impl AsyncRead + Unpin>, line: &mut Vec<u8>) -> bool {
    line.clear();
    loop {
        let Ok(buffer) = reader.fill_buf().await else { return !line.is_empty() };
        if buffer.is_empty() {
            return !line.is_empty();
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        line.extend_from_slice(&piece[..piece.len().min(LONGEST_LINE - line.len())]);
        let used = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            return true;
        }
    }
}

fn read(line: &str) -> Option<Line> {
    let line = line.trim();
    if line.is_empty() {
        return None;
    }
    let note = |message: &str| Line::Event(RunEvent::Note { level: "WARN".to_owned(), message: message.to_owned() });
    let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { return Some(note(line)) };
    if let Ok(event) = RunEvent::deserialize(&value) {
        return Some(Line::Event(event));
    }
    if let Ok(words) = LastWords::deserialize(&value) {
        return Some(Line::Last(words));
    }
    let text = |name: &str| value.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    let (Some(level), Some(message)) = (text("level"), text("message")) else { return Some(note(line)) };
    Some(match value.get("timestamp") {
        Some(_) => Line::Log { level, message: logged(&value, message) },
        None => Line::Event(RunEvent::Note { level, message }),
    })
}

/// A line of the run's log with its fields.
fn logged(value: &serde_json::Value, message: String) -> String {
    let known = ["timestamp", "level", "message", "target", "span", "spans"];
    let fields = value.as_object().into_iter().flatten().filter(|(name, _)| !known.contains(&name.as_str()));
    fields.fold(message, |line, (name, value)| format!("{line} {name}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_what_it_is() {
        let event = |event: RunEvent| Some(Line::Event(event));
        let note = |level: &str, message: &str| event(RunEvent::Note { level: level.into(), message: message.into() });
        let phase = r#"{"level":"INFO","message":"restore …","event":"phase","name":"restore"}"#;
        assert_eq!(read(phase), event(RunEvent::Phase { name: "restore".into() }));
        assert_eq!(read(r#"{"level":"INFO","message":"dumping"}"#), note("INFO", "dumping"));
        assert_eq!(read("no JSON"), note("WARN", "no JSON"));
        assert_eq!(read("[1]"), note("WARN", "[1]"));
        assert_eq!(read("  "), None);
        let log = r#"{"timestamp":"2026-11-22T10:00:00Z","level":"WARN","message":"odd","object":"k","target":"t"}"#;
        assert_eq!(read(log), Some(Line::Log { level: "WARN".into(), message: "odd object=\"k\"".into() }));
        let last = r#"{"level":"ERROR","message":"backup failed","causes":["gone"],"details":["secret"],"safe":null,
            "hint":"wait","next":"lifeboat doctor","exit":10,"exit_name":"unavailable"}"#;
        let Some(Line::Last(words)) = read(last) else { panic!("no last words") };
        assert_eq!(words.to_string(), "backup failed: gone; wait; next: lifeboat doctor");
    }

    #[tokio::test]
    async fn lines_without_end_do_not_fill_memory() {
        let text = [vec![b'x'; LONGEST_LINE * 3], b"\nshort\nlast".to_vec()].concat();
        let (mut reader, mut line, mut lengths) = (BufReader::new(text.as_slice()), Vec::new(), Vec::new());
        while next_line(&mut reader, &mut line).await {
            lengths.push(line.len());
        }
        assert_eq!(lengths, [LONGEST_LINE, 5, 4]);
    }
}
