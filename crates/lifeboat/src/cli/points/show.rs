//! All that a point's header says, and its sealed notes where the host's identity opens them.

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use lifeboat_engine::{
    details::{PostgresDetails, SourceNotes, Witness, decode},
    dump::DumpDetails,
    keys::host_identity,
    lifetime::Lifetime,
};
use lifeboat_model::{config::KeysConfig, id::Instance};
use lifeboat_repo::{
    point::{ObjectKind, Point, PointDetails, PointSelector},
    seal::Identity,
};
use serde::Serialize;

use super::locks::{self, ObjectLock};
use crate::{
    cli::{
        Session,
        place::Place,
        prune::{Why, reasons, reasons_text},
    },
    exit::Exit,
    failure::Result,
    output::{Answer, Page, Rows, Tone, ago, bytes, moment},
    wire,
};

/// Show what a recovery point holds and who signed it
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lifeboat points show clinic\n  lifeboat points show clinic 3fa9 --json\n  lifeboat points show clinic 3fa9 --objects      the lock of each object"
)]
pub struct Show {
    /// The instance
    instance: Instance,
    /// "latest", or 4 to 16 digits of its id
    #[arg(default_value = "latest")]
    point: PointSelector,
    /// Also read back the lock of each object
    #[arg(long)]
    objects: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Shown {
    instance: String,
    point: String,
    /// `backup` or `dump`.
    kind: &'static str,
    key: String,
    version_id: Option<String>,
    sha256: String,
    signed_by: String,
    sealed_to: Vec<String>,
    software: String,
    started: Timestamp,
    finished: Timestamp,
    trees: Vec<Tree>,
    wal: Option<Wal>,
    objects: BTreeMap<&'static str, Objects>,
    /// Whether policy keeps it; none where its instance is not configured.
    keep: Option<bool>,
    /// Why it is kept.
    reasons: Vec<Why>,
    /// Until when it is kept for certain; none: as long as a reason without an end holds.
    kept_until: Option<Timestamp>,
    /// Until when its objects were locked when it was made; none: not locked then.
    promised_until: Option<Timestamp>,
    /// The lock of each object as read back, where that was asked for.
    locks: Option<Vec<ObjectLock>>,
    /// Newer points that do not verify, and why.
    passed_over: Vec<String>,
    sealed: Sealed,
    #[serde(skip)]
    now: Timestamp,
}

#[derive(Serialize)]
struct Tree {
    name: &'static str,
    entries: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Wal {
    timeline: u32,
    start: String,
    end: String,
    system_id: String,
}

#[derive(Serialize, Default)]
struct Objects {
    count: u64,
    bytes: u64,
}

/// The sealed part: opened, or why not.
#[derive(Serialize, Default)]
struct Sealed {
    opened: bool,
    why_not: Option<String>,
    postgres_version: Option<u32>,
    data_checksums: Option<bool>,
    databases: Vec<String>,
    /// What made the dumps, in a point that holds dumps.
    program: Option<String>,
    witness_exact: Option<bool>,
    changed_files: u64,
    skipped_files: u64,
    failed_commands: Vec<String>,
    remarks: Vec<String>,
}

impl Show {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = self.place.load(session)?;
        let (repository, _) = wire::open_for_reading(&loaded).await?;
        let context = wire::context(session, loaded, repository, "lifeboat points show");
        let config = &context.config;
        let repo = context.instance_repo(&self.instance);
        let point = wire::find_point(&repo, &self.point, config).await?;
        let sealed = Sealed::open(&point, &config.keys);
        let mut shown = Shown::new(&point, sealed, session.now());
        if config.instances.contains_key(&self.instance)
            && let Some(decision) = Lifetime::look(&context, &self.instance).await?.of(&point.header.point)
        {
            shown.keep = Some(decision.keep);
            (shown.reasons, shown.kept_until) = (reasons(decision), decision.kept_until());
        }
        if self.objects {
            shown.locks = Some(locks::read_back(&repo, &point).await?);
        }
        session.output.show(&shown)?;
        Ok(Exit::Ok)
    }
}

impl Sealed {
    fn open(point: &Point, keys: &KeysConfig) -> Self {
        let identities = host_identity(keys);
        let identities: Vec<Identity> = identities.into_iter().collect();
        let read = point.open_details(&identities).map_err(|error| error.to_string());
        match read.and_then(|details| Sealed::new(&details).map_err(|failure| failure.messages().join(": "))) {
            Ok(sealed) => sealed,
            Err(why) => Sealed { why_not: Some(why), ..Sealed::default() },
        }
    }

    fn new(details: &PointDetails) -> Result<Self> {
        if let Some(dump) = details.facts.get(DumpDetails::FACT) {
            return Ok(Sealed::of_dump(decode(dump)?, details));
        }
        let postgres: PostgresDetails = decode(&details.postgres)?;
        let witness: Option<Witness> = if details.witness.is_null() { None } else { Some(decode(&details.witness)?) };
        let notes: SourceNotes = match details.facts.get(SourceNotes::FACT) {
            Some(notes) => decode(notes)?,
            None => SourceNotes::default(),
        };
        Ok(Sealed {
            opened: true,
            why_not: None,
            postgres_version: Some(postgres.version),
            data_checksums: Some(postgres.data_checksums),
            databases: postgres.databases,
            program: None,
            witness_exact: witness.map(|witness| witness.comparison.is_exact()),
            changed_files: notes.changed_count,
            skipped_files: notes.skipped_count,
            failed_commands: notes.failed_commands,
            remarks: notes.remarks,
        })
    }

    fn of_dump(dump: DumpDetails, details: &PointDetails) -> Self {
        Sealed {
            opened: true,
            postgres_version: Some(dump.version),
            databases: dump.databases.into_iter().map(|database| database.name).collect(),
            program: Some(dump.program),
            remarks: details.notes.clone(),
            ..Sealed::default()
        }
    }

    fn text(&self, page: &mut Page) {
        if let Some(why) = &self.why_not {
            return page.field("sealed notes", format_args!("not opened: {why}"));
        }
        let major = self.postgres_version.map(|version| format!("{}.{}", version / 10_000, version % 10_000));
        page.field("PostgreSQL", major.unwrap_or_default());
        if let Some(program) = &self.program {
            page.field("dumped by", program);
            return page.field("databases", self.databases.join(", "));
        }
        page.field("page checksums", if self.data_checksums == Some(true) { "on" } else { "off" });
        page.field("databases", self.databases.join(", "));
        page.field("exact comparison", if self.witness_exact == Some(true) { "possible" } else { "not possible" });
        page.field("changed, left out", format_args!("{}, {}", self.changed_files, self.skipped_files));
        for remark in self.failed_commands.iter().chain(&self.remarks) {
            page.field("note", remark);
        }
    }
}

impl Shown {
    fn new(point: &Point, sealed: Sealed, now: Timestamp) -> Self {
        let header = &point.header;
        let mut objects: BTreeMap<&'static str, Objects> = BTreeMap::new();
        for object in &header.objects {
            let of_kind = objects.entry(kind(object.kind)).or_default();
            of_kind.count += 1;
            of_kind.bytes += object.len;
        }
        Shown {
            instance: header.instance.to_string(),
            point: header.point.to_string(),
            kind: super::list::kind(point),
            key: point.key.to_string(),
            version_id: point.version.as_ref().map(|version| version.0.clone()),
            sha256: point.sha256.to_string(),
            signed_by: point.signer.to_string(),
            sealed_to: header.recipients.clone(),
            software: header.software.clone(),
            started: header.started,
            finished: header.finished,
            trees: header
                .trees
                .iter()
                .map(|tree| Tree { name: tree.kind.word(), entries: tree.entries, bytes: tree.bytes })
                .collect(),
            wal: header.wal.as_ref().map(|wal| Wal {
                timeline: wal.timeline,
                start: wal.start.to_string(),
                end: wal.end.to_string(),
                system_id: wal.system_id.to_string(),
            }),
            objects,
            keep: None,
            reasons: Vec::new(),
            kept_until: None,
            promised_until: header.retain_until,
            locks: None,
            passed_over: point.skipped.clone(),
            sealed,
            now,
        }
    }
}

impl Shown {
    fn kept(&self, page: &mut Page) {
        let why = reasons_text(&self.reasons);
        match (self.keep, self.kept_until) {
            (None, _) => {}
            (Some(false), _) => page.field("kept", "no: the next prune removes it, if nothing locks it"),
            (Some(true), Some(until)) => page.field("kept", format_args!("until {} ({why})", moment(until))),
            (Some(true), None) => page.field("kept", format_args!("until further notice ({why})")),
        }
        match self.promised_until {
            Some(until) => page.field("locked", format_args!("when it was made, until {}", moment(until))),
            None => page.field("locked", Tone::Doubtful.paint("not when it was made")),
        }
    }
}

fn kind(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Key => "key",
        ObjectKind::Pack => "pack",
        ObjectKind::Tree => "tree",
        ObjectKind::Wal => "wal",
    }
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.points-show/1";

    fn text(&self, page: &mut Page) {
        for why in &self.passed_over {
            page.line(format_args!("{} a newer point was passed over: {why}", Tone::Bad.paint("NOT VALID:")));
        }
        page.field("point", &self.point);
        page.field("kind", self.kind);
        page.field("instance", &self.instance);
        page.field("finished", format_args!("{}, {}", moment(self.finished), ago(self.now, self.finished)));
        page.field("made by", &self.software);
        page.field("signed by", &self.signed_by);
        page.field("sealed to", self.sealed_to.join(", "));
        page.field("key", &self.key);
        page.field("version", self.version_id.as_deref().unwrap_or("– (the store keeps no versions)"));
        page.field("sha256", &self.sha256);
        self.kept(page);
        if let Some(wal) = &self.wal {
            page.field("WAL", format_args!("{} to {}, timeline {}", wal.start, wal.end, wal.timeline));
        }
        self.sealed.text(page);
        page.gap();
        let mut rows = Rows::new(&["part", "entries", "size"]).numbers(&[1, 2]);
        for tree in &self.trees {
            rows.plain([tree.name, &tree.entries.to_string(), &bytes(tree.bytes)]);
        }
        page.table(rows);
        page.gap();
        let mut rows = Rows::new(&["objects", "count", "stored"]).numbers(&[1, 2]);
        for (kind, objects) in &self.objects {
            rows.plain([*kind, &objects.count.to_string(), &bytes(objects.bytes)]);
        }
        page.table(rows);
        if let Some(locks) = &self.locks {
            locks::table(page, locks);
        }
    }
}
