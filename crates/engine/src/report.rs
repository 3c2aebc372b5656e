//! A period's evidence, read and believed once, ready to be written as a report.
//!
//! The repository is listed, and each statement of the period is read, weighed and summed ([`lifeboat_evidence::report`]).
//! Drills are put aside in an unnamed file as they were signed, so that a report with all of them holds one at a time in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use lifeboat_evidence::{
    DrillPredicate, EvidenceKey, Predicate, Statement, Verified,
    report::{Builder, Charge, Ledger, Period, Scope, Told},
};
use lifeboat_model::{
    check::Outcome,
    id::{Instance, Sha256Digest},
};
use lifeboat_repo::repository::EvidenceRef;
use sha2::{Digest as _, Sha256};

use crate::{
    context::{Context, SOFTWARE},
    error::{Error, Result},
    record,
};

/// Statements that are read at the same time; each has a megabyte at most in practice.
const AT_ONCE: usize = 8;
/// So many drills before the period are tried for the last one that counts.
const LOOKED_BACK: usize = 20;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Only these; none: all that are configured or have left evidence.
    pub instance: Option<Instance>,
    /// From when on.
    pub from: Timestamp,
    /// Until when, exclusively.
    pub to: Timestamp,
}

/// A period, and its drills in full.
#[derive(Debug)]
pub struct Report {
    /// The sums.
    pub period: Period,
    /// Drills as they were signed.
    pub drills: Drills,
}

/// Drills put aside.
#[derive(Debug)]
pub struct Drills {
    file: File,
    /// Where each begins, and how long it is.
    places: BTreeMap<Sha256Digest, (u64, usize)>,
    end: u64,
}

impl Drills {
    fn new() -> io::Result<Drills> {
        Ok(Drills { file: tempfile::tempfile()?, places: BTreeMap::new(), end: 0 })
    }

    fn put(&mut self, sha256: Sha256Digest, drill: &DrillPredicate) -> io::Result<()> {
        let text = serde_json::to_vec(drill)?;
        self.file.write_all(&text)?;
        self.places.insert(sha256, (self.end, text.len()));
        self.end += text.len() as u64;
        Ok(())
    }

    /// One of them, by the digest of its statement; none where the period has no such.
    pub fn get(&mut self, sha256: &Sha256Digest) -> io::Result<Option<DrillPredicate>> {
        let Some((start, len)) = self.places.get(sha256).copied() else { return Ok(None) };
        let mut text = vec![0; len];
        self.file.seek(SeekFrom::Start(start))?;
        self.file.read_exact(&mut text)?;
        Ok(Some(serde_json::from_slice(&text)?))
    }
}

/// What an audit of all statements has shown. With a ledger, a signature alone does not make a statement count: a stolen key
/// makes signatures of any date.
#[derive(Debug, Clone)]
pub struct Audited {
    /// What somebody has found about its wholeness.
    pub ledger: Ledger,
    /// Whether there is a ledger at all; older repositories have none.
    pub has_ledger: bool,
    /// The keys of the statements that were looked at.
    pub seen: BTreeSet<String>,
    /// Those that the ledger proves, with reasons for the others where they are known.
    pub proven: BTreeSet<String>,
    /// Why others are not.
    pub refused: BTreeMap<String, String>,
}

impl Audited {
    /// Why a statement counts for nothing, if it does.
    fn refusal(&self, key: &str) -> Option<String> {
        if !self.has_ledger || self.proven.contains(key) {
            return None;
        }
        let unknown = match self.seen.contains(key) {
            true => "the ledger does not prove it",
            false => "it is newer than the audit of this report",
        };
        Some(self.refused.get(key).cloned().unwrap_or_else(|| unknown.to_owned()))
    }
}

/// Reads and sums the evidence of a period.
pub async fn gather(context: &Context, wanted: &Wanted, audited: Audited) -> Result<Report> {
    let listed = context.repository.list_evidence(&context.config.tenant, "").await?;
    let parsed = listed.into_iter().filter_map(|reference| {
        let parts = reference.key.as_str().parse::<EvidenceKey>().ok()?;
        Some((reference, parts))
    });
    let is_of = |parts: &EvidenceKey| wanted.instance.as_ref().is_none_or(|instance| *instance == parts.instance);
    let evidence: Vec<(EvidenceRef, EvidenceKey)> = parsed.filter(|(_, parts)| is_of(parts)).collect();
    let scope = scope(context, wanted, &audited, &evidence).await?;
    let mut builder = Builder::new(scope);
    let mut drills = Drills::new().map_err(Error::io("cannot put drills aside in", &std::env::temp_dir()))?;
    // Words about a run come after it, and often after the period.
    let within = |parts: &EvidenceKey| (wanted.from..wanted.to).contains(&parts.time);
    let is_read = |parts: &EvidenceKey| within(parts) || (parts.kind == "signoff" && parts.time >= wanted.from);
    let read =
        evidence.iter().filter(|(_, parts)| is_read(parts)).map(|(reference, _)| weighed(context, &audited, reference));
    let mut read = stream::iter(read).buffered(AT_ONCE);
    while let Some(weighed) = read.next().await {
        match weighed? {
            Weighed::Believed { key, sha256, statement } => {
                let is_counted = builder.add(Told { statement: &statement, key: &key, sha256 });
                if is_counted && let Predicate::Drill(drill) = &statement.predicate {
                    drills
                        .put(sha256, drill)
                        .map_err(Error::io("cannot put drills aside in", &std::env::temp_dir()))?;
                }
            }
            Weighed::NotBelieved { key, why } => builder.add_not_believed(&key, &why),
            Weighed::Gone => {}
        }
    }
    drop(read);
    Ok(Report { period: builder.finish(audited.ledger), drills })
}

enum Weighed {
    Believed { key: String, sha256: Sha256Digest, statement: Box<Statement> },
    NotBelieved { key: String, why: String },
    Gone,
}

async fn weighed(context: &Context, audited: &Audited, reference: &EvidenceRef) -> Result<Weighed> {
    let key = reference.key.to_string();
    if let Some(why) = audited.refusal(&key) {
        return Ok(Weighed::NotBelieved { key, why });
    }
    let envelope: Bytes = match context.repository.get_evidence(reference).await {
        Err(lifeboat_repo::Error::Damaged { reason, .. }) => return Ok(Weighed::NotBelieved { key, why: reason }),
        Err(lifeboat_repo::Error::Store(lifeboat_store::Error::NotFound { .. })) => return Ok(Weighed::Gone),
        envelope => envelope?,
    };
    Ok(match record::weigh(context, reference, &envelope) {
        Ok(Verified { statement, .. }) => {
            let sha256 = Sha256Digest(Sha256::digest(&envelope).into());
            Weighed::Believed { key, sha256, statement: Box::new(statement) }
        }
        Err(why) => Weighed::NotBelieved { key, why },
    })
}

async fn scope(
    context: &Context,
    wanted: &Wanted,
    audited: &Audited,
    evidence: &[(EvidenceRef, EvidenceKey)],
) -> Result<Scope> {
    let mut instances = Vec::new();
    for (name, config) in &context.config.instances {
        if wanted.instance.as_ref().is_some_and(|instance| instance != name) {
            continue;
        }
        let tier = context.tier(config)?;
        instances.push(Charge {
            instance: name.clone(),
            tier: config.tier.clone(),
            owner: config.owner.clone(),
            rpo_seconds: tier.rpo.0.as_secs(),
            rto_seconds: tier.rto.0.as_secs(),
            every_seconds: tier.drill.every.map(|every| every.0.as_secs()),
            known_since: evidence.iter().find(|(_, parts)| parts.instance == *name).map(|(_, parts)| parts.time),
            rehearsed_before: rehearsed_before(context, audited, name, wanted.from, evidence).await?,
        });
    }
    let locked = instances.iter().map(|charge| &charge.instance).next();
    let lock = locked.map(|name| context.lock_policy(name)).transpose()?.flatten();
    Ok(Scope {
        tenant: context.config.tenant.clone(),
        from: wanted.from,
        to: wanted.to,
        made: (context.clock)(),
        made_by: record::started_by(&context.initiator),
        software: SOFTWARE.to_owned(),
        repository: context.repository.id(),
        storage: record::storage(context.repository.store(), lock),
        instances,
    })
}

/// The last rehearsal before a moment. Drills that are no rehearsals, or not to be believed, are passed over.
async fn rehearsed_before(
    context: &Context,
    audited: &Audited,
    name: &Instance,
    from: Timestamp,
    evidence: &[(EvidenceRef, EvidenceKey)],
) -> Result<Option<Timestamp>> {
    let is_before = |parts: &EvidenceKey| parts.instance == *name && parts.kind == "drill" && parts.time < from;
    let earlier = evidence.iter().rev().filter(|(_, parts)| is_before(parts));
    for (reference, _) in earlier.take(LOOKED_BACK) {
        if let Weighed::Believed { statement, .. } = weighed(context, audited, reference).await?
            && let Predicate::Drill(drill) = &statement.predicate
            && drill.sabotage.is_none()
            && drill.control.is_none()
            && drill.outcome != Outcome::Incomplete
        {
            return Ok(Some(drill.started));
        }
    }
    Ok(None)
}

/// Names of instances that have left evidence, configured or not.
pub async fn instances(context: &Context) -> Result<BTreeSet<Instance>> {
    let listed = context.repository.list_evidence(&context.config.tenant, "").await?;
    let parsed = listed.iter().filter_map(|reference| reference.key.as_str().parse::<EvidenceKey>().ok());
    Ok(parsed.map(|parts| parts.instance).collect())
}
