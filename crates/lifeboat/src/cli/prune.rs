//! `lifeboat prune`: removes what no policy keeps; shows first.

use clap::Args;
use jiff::Timestamp;
use lifeboat_engine::prune::{self, Pruned, Request};
use lifeboat_model::{id::Instance, retention::Decision};
use lifeboat_repo::prune::{Fate, PruneItem};
use lifeboat_store::Key;
use serde::Serialize;

use super::{Session, place::Place};
use crate::{
    exit::Exit,
    failure::{Advise as _, Result},
    output::{Answer, Page, Rows, Tone, ago, bytes, count, moment},
    progress::Meter,
    wire,
};

mod staying;

use staying::{Staying, Waiting};

/// Remove what retention does not keep
///
/// Looks at every object, and removes what no kept recovery point and no PITR window needs and nothing locks: first the
/// points, then what only they named. Needs no decryption key. Tiers without a retention section are left alone. Safe
/// beside backups and WAL streams, and safe to stop at any moment.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Prune {
    /// Only this instance [default: all that are configured]
    instance: Option<Instance>,
    /// Show what would be removed and why; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Name every object, not points alone
    #[arg(long)]
    objects: bool,
    /// Also remove newer versions, delete markers and objects that are not ours
    #[arg(long)]
    foreign: bool,
    /// This object among the points is none of ours: nothing is kept for it, and it is removed
    #[arg(long, value_name = "KEY", value_parser = |text: &str| Key::new(text))]
    disregard: Vec<Key>,
    #[command(flatten)]
    place: Place,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat prune --dry-run                       what would go, and why
  lifeboat prune clinic --dry-run --objects
  lifeboat prune

Exit codes: 0 done, 5 something waits (a backup or copy runs), 4 points that count for nothing were found.";

/// Objects that are named; more of them would fill memory and screen.
const NAMED: usize = 10_000;

#[derive(Serialize)]
struct Done {
    dry_run: bool,
    repository: String,
    instances: Vec<Row>,
    #[serde(skip)]
    now: Timestamp,
    #[serde(skip)]
    objects: bool,
}

#[derive(Serialize)]
struct Row {
    instance: String,
    /// Why nothing was done.
    left_alone: Option<String>,
    points: Vec<Point>,
    objects: Vec<Object>,
    /// Objects that are not in the list.
    more_objects: u64,
    seen_objects: u64,
    removed_objects: u64,
    freed_bytes: u64,
    locked_objects: u64,
    locked_bytes: u64,
    /// When the first of these locks ends …
    first_unlocked: Option<Timestamp>,
    /// … and the last.
    locked_until: Option<Timestamp>,
    held_objects: u64,
    waiting_objects: u64,
    /// What they wait for.
    waiting: Vec<Waiting>,
    /// Who holds the lease, so that some things wait.
    busy: Option<String>,
    foreign_objects: u64,
    strange_points: Vec<Strange>,
    kept_bytes: u64,
    projection: Option<Projection>,
    evidence: Option<String>,
    no_evidence: Option<String>,
}

#[derive(Serialize)]
struct Point {
    point: String,
    finished: Timestamp,
    keep: bool,
    reasons: Vec<Why>,
    kept_until: Option<Timestamp>,
}

#[derive(Serialize)]
pub struct Why {
    pub reason: &'static str,
    /// None: until something else happens.
    pub until: Option<Timestamp>,
}

#[derive(Serialize)]
struct Object {
    key: String,
    version_id: Option<String>,
    bytes: u64,
    kind: &'static str,
    why: String,
    fate: &'static str,
    /// Until when it is locked, or what it waits for.
    detail: Option<String>,
}

#[derive(Serialize)]
struct Strange {
    key: String,
    why: String,
}

#[derive(Serialize)]
struct Projection {
    monthly_bytes: u64,
    seen_days: u64,
    seen_points: u64,
}

/// The reasons of a decision, for JSON.
pub fn reasons(decision: &Decision) -> Vec<Why> {
    decision.reasons.iter().map(|(reason, until)| Why { reason: reason.word(), until: *until }).collect()
}

/// The reasons of a decision, in one cell.
pub fn reasons_text(reasons: &[Why]) -> String {
    reasons.iter().map(|why| why.reason).collect::<Vec<_>>().join(", ")
}

impl Object {
    fn new(item: &PruneItem) -> Self {
        let (fate, detail) = match &item.fate {
            Fate::Removed => ("removed", None),
            Fate::WouldRemove => ("would-remove", None),
            Fate::LockedUntil(until) => ("locked", Some(until.to_string())),
            Fate::Held => ("held", None),
            Fate::Waits(why) => ("waits", Some(why.clone())),
            Fate::Foreign => ("foreign", None),
        };
        Object {
            key: item.key.to_string(),
            version_id: item.version.as_ref().map(|version| version.0.clone()),
            bytes: item.bytes,
            kind: item.kind.word(),
            why: item.why.clone(),
            fate,
            detail,
        }
    }
}

impl Row {
    fn left_alone(instance: &Instance, why: &str) -> Self {
        Row {
            instance: instance.to_string(),
            left_alone: Some(why.to_owned()),
            points: Vec::new(),
            objects: Vec::new(),
            more_objects: 0,
            seen_objects: 0,
            removed_objects: 0,
            freed_bytes: 0,
            locked_objects: 0,
            locked_bytes: 0,
            first_unlocked: None,
            locked_until: None,
            held_objects: 0,
            waiting_objects: 0,
            waiting: Vec::new(),
            busy: None,
            foreign_objects: 0,
            strange_points: Vec::new(),
            kept_bytes: 0,
            projection: None,
            evidence: None,
            no_evidence: None,
        }
    }

    fn new(pruned: Pruned, objects: Vec<Object>, more_objects: u64, staying: Staying) -> Self {
        let Pruned { lifetime, report, projection, evidence, no_evidence } = pruned;
        let point = |(fact, decision): (&lifeboat_model::retention::PointFacts, &Decision)| Point {
            point: decision.id.to_string(),
            finished: fact.time,
            keep: decision.keep,
            reasons: reasons(decision),
            kept_until: decision.kept_until(),
        };
        Row {
            instance: lifetime.instance.to_string(),
            left_alone: None,
            points: lifetime.facts.iter().zip(&lifetime.decisions).map(point).collect(),
            objects,
            more_objects,
            seen_objects: report.objects,
            removed_objects: report.removed,
            freed_bytes: report.freed_bytes,
            locked_objects: report.locked.objects,
            locked_bytes: report.locked_bytes,
            first_unlocked: staying.first_unlocked,
            locked_until: report.locked_until,
            held_objects: report.held.objects,
            waiting_objects: report.waiting.objects,
            waiting: staying.waiting(),
            busy: report.busy,
            foreign_objects: report.foreign.objects,
            strange_points: report
                .strange_points
                .into_iter()
                .map(|(key, why)| Strange { key: key.to_string(), why })
                .collect(),
            kept_bytes: report.kept_bytes,
            projection: Some(Projection {
                monthly_bytes: projection.monthly_bytes,
                seen_days: projection.seen_days,
                seen_points: projection.seen_points,
            }),
            evidence: evidence.map(|key| key.to_string()),
            no_evidence,
        }
    }

    fn exit(&self) -> Exit {
        match () {
            () if !self.strange_points.is_empty() => Exit::CheckFailed,
            () if self.busy.is_some() || self.no_evidence.is_some() => Exit::Incomplete,
            () => Exit::Ok,
        }
    }
}

impl Prune {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = self.place.load(session)?;
        let instances = wire::instances(self.instance.as_ref(), &loaded.config);
        for instance in &instances {
            loaded.config.instance(instance.as_str())?;
        }
        let (repository, _) = wire::open_for_reading(&loaded).await?;
        let context = wire::context(session, loaded, repository, "lifeboat prune");
        let mut rows = Vec::new();
        for instance in instances {
            let meter = Meter::start(&session.voice, format!("prune {instance}"));
            let (mut objects, mut more) = (Vec::new(), 0);
            let mut staying = Staying::default();
            let mut each = |item: &PruneItem| {
                staying.add(item);
                match objects.len() < NAMED {
                    true => objects.push(Object::new(item)),
                    false => more += 1,
                }
            };
            let cancel = session.cancel.clone();
            let (dry_run, foreign) = (self.dry_run, self.foreign);
            let disregard = self.disregard.iter().cloned().collect();
            let request = Request { dry_run, foreign, disregard, cancel };
            let pruned = prune::run(&context, &instance, request, &mut each, meter).await;
            let pruned = pruned
                .safe("every recovery point that is kept has all that it needs; prune can be run again")
                .context(format!("cannot prune {instance}"))?;
            rows.push(match pruned {
                Some(pruned) => Row::new(pruned, objects, more, staying),
                None => Row::left_alone(&instance, "its tier has no retention section: everything is kept"),
            });
        }
        let exits: Vec<Exit> = rows.iter().map(Row::exit).collect();
        let exit = [Exit::CheckFailed, Exit::Incomplete].into_iter().find(|exit| exits.contains(exit));
        session.output.show(&Done {
            dry_run: self.dry_run,
            repository: context.repository.store().describe(),
            instances: rows,
            now: session.now(),
            objects: self.objects,
        })?;
        let stopped = session.cancel.is_cancelled().then_some(Exit::Interrupted);
        Ok(stopped.or(exit).unwrap_or(Exit::Ok))
    }
}

impl Answer for Done {
    const SCHEMA: &'static str = "lifeboat.prune/1";

    fn text(&self, page: &mut Page) {
        for row in &self.instances {
            page.heading(&row.instance);
            if let Some(why) = &row.left_alone {
                page.line(format_args!("left alone: {why}"));
                continue;
            }
            self.points(page, row);
            if self.objects {
                objects(page, row);
            }
            page.gap();
            self.sums(page, row);
        }
        page.gap();
        let changed = if self.dry_run { "Nothing was changed. " } else { "" };
        page.line(format_args!("{changed}Repository: {}.", self.repository));
    }
}

impl Done {
    fn points(&self, page: &mut Page, row: &Row) {
        let mut rows = Rows::new(&["point", "finished", "age", "", "why"]);
        for point in &row.points {
            let (finished, age) = (moment(point.finished), ago(self.now, point.finished));
            let (tone, word) = if point.keep { (Tone::Good, "stays") } else { (Tone::Doubtful, "goes") };
            let why = if point.keep { reasons_text(&point.reasons) } else { "no reason to keep it".to_owned() };
            let plain = |text| (Tone::Plain, text);
            rows.row([plain(point.point.as_str()), plain(&finished), plain(&age), (tone, word), plain(&why)]);
        }
        page.table(rows);
    }

    fn sums(&self, page: &mut Page, row: &Row) {
        let freed = if self.dry_run { "would be freed" } else { "freed" };
        page.field(
            freed,
            format_args!("{} in {}", bytes(row.freed_bytes), count(row.removed_objects, "object", "objects")),
        );
        if let Some(until) = row.locked_until {
            let objects = count(row.locked_objects, "object", "objects");
            let (sum, until) = (bytes(row.locked_bytes), moment(until));
            let first = row.first_unlocked.map(moment).filter(|first| *first != until);
            let first = first.map_or(String::new(), |first| format!("; the first of them until {first}"));
            page.field("locked", format_args!("{sum} in {objects}, until {until}{first}"));
        }
        if row.held_objects > 0 {
            page.field(
                "legal hold",
                count(row.held_objects, "object that nothing else needs", "objects that nothing else needs"),
            );
        }
        for waiting in &row.waiting {
            page.field("waits", waiting.text());
        }
        page.field("kept", bytes(row.kept_bytes));
        if let Some(seen) = &row.projection {
            let points = count(seen.seen_points, "point", "points");
            let days = count(seen.seen_days, "day", "days");
            page.field(
                "projected",
                format_args!(
                    "{} new each month, if it goes on as with the {points} of the last {days}; what is kept grows by that, less what ends",
                    bytes(seen.monthly_bytes)
                ),
            );
        }
        if row.foreign_objects > 0 {
            let foreign = count(row.foreign_objects, "object, version or marker", "objects, versions or markers");
            page.line(format_args!("{} {foreign}; lifeboat verify --signs names them", Tone::Bad.paint("NOT OURS:")));
        }
        for strange in &row.strange_points {
            page.line(format_args!("{} {}: {}", Tone::Bad.paint("COUNTS FOR NOTHING:"), strange.key, strange.why));
        }
        match (&row.evidence, &row.no_evidence) {
            (Some(key), _) => page.field("evidence", key),
            (None, Some(why)) => page.field("evidence", Tone::Bad.paint(&format!("none: {why}"))),
            (None, None) => {}
        }
    }
}

fn objects(page: &mut Page, row: &Row) {
    page.gap();
    let mut rows = Rows::new(&["object", "size", "kind", "why", ""]).numbers(&[1]);
    for object in &row.objects {
        let detail = object.detail.as_ref().map_or(String::new(), |detail| format!(" {detail}"));
        rows.plain([&object.key, &bytes(object.bytes), object.kind, &object.why, &format!("{}{detail}", object.fate)]);
    }
    page.table(rows);
    if row.more_objects > 0 {
        page.line(format_args!("{} not shown", count(row.more_objects, "more object", "more objects")));
    }
}
