//! The newest points of each instance, each read and verified. The newest stands last, where the eye is on a terminal.

use clap::Args;
use jiff::Timestamp;
use lifeboat_engine::lifetime::Lifetime;
use lifeboat_model::{id::Instance, signature::PublicKey};
use lifeboat_repo::{
    point::{Point, PointRef},
    repository::InstanceRepo,
};
use serde::Serialize;

use crate::{
    cli::{
        Session,
        place::Place,
        prune::{Why, reasons, reasons_text},
    },
    exit::Exit,
    failure::{Advise as _, Result},
    output::{Answer, Page, Rows, Tone, ago, bytes, count, moment},
    wire,
};

/// List the newest recovery points (newest last), each read and its signature verified
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lifeboat points list\n  lifeboat points list clinic --limit 100 --json")]
pub struct List {
    /// Only this instance
    instance: Option<Instance>,
    /// How many of each instance; 0: all
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Also instances that are stored here and not configured (goes through the whole listing)
    #[arg(long, conflicts_with = "instance")]
    stored: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Listed {
    repository: String,
    points: Vec<Row>,
    /// Older ones, not shown.
    more: u64,
    #[serde(skip)]
    now: Timestamp,
}

#[derive(Serialize)]
struct Row {
    instance: String,
    point: String,
    finished: Timestamp,
    /// `backup` or `dump`; none of one that is not valid.
    kind: Option<&'static str>,
    /// Digest and signature fit and a trusted key signed it.
    valid: bool,
    why_not: Option<String>,
    /// Size of database, filestore and configuration as restored.
    restored_bytes: Option<u64>,
    /// Size of all stored objects that it needs, shared ones included.
    stored_bytes: Option<u64>,
    /// Whether policy keeps it; none where its instance is not configured, or it is not valid.
    keep: Option<bool>,
    /// Why it is kept.
    reasons: Vec<Why>,
    /// Until when it is kept for certain; none: as long as a reason without an end holds.
    kept_until: Option<Timestamp>,
}

impl Answer for Listed {
    const SCHEMA: &'static str = "lifeboat.points-list/1";

    fn text(&self, page: &mut Page) {
        if self.points.is_empty() {
            page.line(format_args!("No recovery points in {}.", self.repository));
            return;
        }
        let header = ["instance", "point", "kind", "finished", "age", "restored", "stored", "kept until", "why", ""];
        let mut rows = Rows::new(&header).numbers(&[5, 6]);
        for row in &self.points {
            let size = |size: Option<u64>| size.map_or("–".to_owned(), bytes);
            let (restored, stored) = (size(row.restored_bytes), size(row.stored_bytes));
            let (finished, age) = (moment(row.finished), ago(self.now, row.finished));
            let state = match &row.why_not {
                None => (Tone::Good, "valid".to_owned()),
                Some(why) => (Tone::Bad, format!("NOT VALID: {why}")),
            };
            let kind = row.kind.unwrap_or("–");
            let (until, why) = row.kept();
            let plain = [row.instance.as_str(), &row.point, kind, &finished, &age, &restored, &stored, &until, &why];
            let plain = plain.into_iter().map(|text| (Tone::Plain, text));
            rows.row(plain.chain([(state.0, state.1.as_str())]));
        }
        page.table(rows);
        if self.more > 0 {
            page.line(format_args!("{} not shown; --limit 0 shows all", count(self.more, "older one", "older ones")));
        }
    }
}

impl Row {
    fn kept(&self) -> (String, String) {
        match (self.keep, self.kept_until) {
            (None, _) => ("–".to_owned(), "–".to_owned()),
            (Some(false), _) => ("not kept".to_owned(), "–".to_owned()),
            (Some(true), Some(until)) => (moment(until), reasons_text(&self.reasons)),
            (Some(true), None) => ("further notice".to_owned(), reasons_text(&self.reasons)),
        }
    }
}

impl List {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = self.place.load(session)?;
        let (repository, _) = wire::open_for_reading(&loaded).await?;
        let context = wire::context(session, loaded, repository, "lifeboat points list");
        let (repository, config) = (&context.repository, &context.config);
        let instances = match self.instance {
            None if self.stored => repository.instances(&config.tenant).await?,
            named => wire::instances(named.as_ref(), config),
        };
        let describe = repository.store().describe();
        let mut listed = Listed { repository: describe, points: Vec::new(), more: 0, now: session.now() };
        for instance in instances {
            let repo = context.instance_repo(&instance);
            let points = repo.list_points().await?;
            if points.is_empty() && !self.stored {
                config.instance(instance.as_str())?; // a mistyped name is told, an instance without points is no error
            }
            let lifetime = match config.instances.contains_key(&instance) {
                true => Some(Lifetime::look(&context, &instance).await?),
                false => None, // stored and not configured: nobody says how long it is kept
            };
            let skip = if self.limit == 0 { 0 } else { points.len().saturating_sub(self.limit) };
            listed.more += skip as u64;
            for reference in &points[skip..] {
                let mut row = row(&repo, reference, &config.keys.trusted_keys).await?;
                if let Some(decision) = lifetime.as_ref().and_then(|lifetime| lifetime.of(&reference.id)) {
                    row.keep = Some(decision.keep);
                    (row.reasons, row.kept_until) = (reasons(decision), decision.kept_until());
                }
                listed.points.push(row);
            }
        }
        let exit = if listed.points.iter().all(|row| row.valid) { Exit::Ok } else { Exit::CheckFailed };
        session.output.show(&listed)?;
        Ok(exit)
    }
}

async fn row(repo: &InstanceRepo, reference: &PointRef, trusted: &[PublicKey]) -> Result<Row> {
    let mut row = Row {
        instance: repo.instance().to_string(),
        point: reference.id.to_string(),
        finished: reference.time,
        kind: None,
        valid: false,
        why_not: None,
        restored_bytes: None,
        stored_bytes: None,
        keep: None,
        reasons: Vec::new(),
        kept_until: None,
    };
    match repo.read_point(reference, trusted).await {
        Ok(point) => {
            row.valid = true;
            row.kind = Some(kind(&point));
            row.restored_bytes = Some(point.header.trees.iter().map(|tree| tree.bytes).sum());
            row.stored_bytes = Some(point.header.objects.iter().map(|object| object.len).sum());
        }
        Err(error @ lifeboat_repo::Error::Store(_)) => return Err(error).context("cannot read a recovery point"),
        Err(error) => row.why_not = Some(error.to_string()),
    }
    Ok(row)
}

/// What a point holds, in a word.
pub fn kind(point: &Point) -> &'static str {
    if point.header.is_dump() { "dump" } else { "backup" }
}
