//! What `lifeboat incident` answers.

use jiff::Timestamp;
use lifeboat_runbook::{event::Line, incident::Happened};
use serde::Serialize;

use crate::{
    incidents::Incident,
    output::{Answer, Page, Rows, Tone, moment},
};

#[derive(Serialize)]
pub(super) struct List {
    incidents: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    incident: String,
    text: String,
    instance: Option<String>,
    since: Timestamp,
    opened: Timestamp,
    closed: Option<Timestamp>,
    notes: usize,
}

impl Row {
    fn new(incident: &Incident) -> Row {
        Row {
            incident: incident.id.to_string(),
            text: incident.text().to_owned(),
            instance: incident.instance().map(str::to_owned),
            since: incident.since(),
            opened: incident.opened(),
            closed: incident.closed(),
            notes: incident.lines.iter().filter(|line| matches!(line.event, Happened::Noted { .. })).count(),
        }
    }

    fn stand(&self) -> (Tone, String) {
        match self.closed {
            None => (Tone::Bad, "OPEN".to_owned()),
            Some(closed) => (Tone::Plain, format!("closed {}", moment(closed))),
        }
    }
}

impl List {
    pub fn new(incidents: &[Incident]) -> List {
        List { incidents: incidents.iter().map(Row::new).collect() }
    }
}

impl Answer for List {
    const SCHEMA: &'static str = "lifeboat.incident-list/1";

    fn text(&self, page: &mut Page) {
        if self.incidents.is_empty() {
            page.line("no incident is known");
            return;
        }
        let mut rows = Rows::new(&["incident", "since", "instance", "what", "notes", "stands"]).numbers(&[4]);
        for row in &self.incidents {
            let (since, notes) = (moment(row.since), row.notes.to_string());
            let (tone, stand) = row.stand();
            let plain = |text| (Tone::Plain, text);
            let instance = row.instance.as_deref().unwrap_or("-");
            let cells = [plain(row.incident.as_str()), plain(&since), plain(instance), plain(&row.text), plain(&notes)];
            rows.row(cells.into_iter().chain([(tone, stand.as_str())]));
        }
        page.table(rows);
    }
}

#[derive(Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    row: Row,
    lines: Vec<Said>,
    /// SHA-256 over all lines.
    head: String,
    /// Where the signed statement of this is; null: none was made.
    evidence: Option<String>,
}

#[derive(Serialize)]
struct Said {
    at: Timestamp,
    who: String,
    what: &'static str,
    text: Option<String>,
}

impl From<&Line<Happened>> for Said {
    fn from(line: &Line<Happened>) -> Said {
        let (what, text) = match &line.event {
            Happened::Opened { text, .. } => ("opened", Some(text.clone())),
            Happened::Noted { text } => ("noted", Some(text.clone())),
            Happened::Closed { text } => ("closed", text.clone()),
        };
        Said { at: line.at, who: line.who.clone(), what, text }
    }
}

impl Shown {
    pub fn new(incident: &Incident, evidence: Option<String>) -> Shown {
        let mut lines: Vec<Said> = incident.lines.iter().map(Said::from).collect();
        // What was noted where no repository answered stands later than it was said.
        lines.sort_by_key(|said| said.at);
        Shown { row: Row::new(incident), lines, head: incident.head.clone(), evidence }
    }
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.incident/1";

    fn text(&self, page: &mut Page) {
        let (tone, stand) = self.row.stand();
        page.line(format_args!("incident {}: {}", self.row.incident, tone.paint(&stand)));
        page.field("what", &self.row.text);
        page.field("instance", self.row.instance.as_deref().unwrap_or("all"));
        page.field("since", moment(self.row.since));
        if let Some(evidence) = &self.evidence {
            page.field("evidence", evidence);
        }
        for Said { at, who, what, text } in &self.lines {
            let text = text.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
            page.line(format_args!("{}  {who} {what}{text}", moment(*at)));
        }
    }
}
