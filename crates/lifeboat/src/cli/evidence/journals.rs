//! Statements of runs and incidents against their journals: are these the lines that were signed for?

use std::{collections::BTreeMap, path::Path, time::Duration};

use bytes::Bytes;
use lifeboat_engine::{
    context::Context,
    journal::{Journals, Kind, Name},
    record,
};
use lifeboat_evidence::{
    Act, Predicate,
    audit::{Audit, JournalFound},
    verify::SetEntry,
};
use lifeboat_model::{config::Config, id::Sha256Digest};
use lifeboat_runbook::journal::Chain;

use crate::{
    cli::Session,
    failure::Result,
    kept::{Keeper, Place},
    wire::{self, Reading},
};

/// The configured repositories besides this one; those of a configuration that cannot be read are none.
pub(super) fn others(session: &Session, of: &Config) -> Vec<Place> {
    let Ok(Reading::Usable(loaded)) = wire::read_config(session) else { return Vec::new() };
    let mut places = Keeper::new(session, &loaded, "lifeboat evidence").readers();
    places.retain(|place| place.name != of.repository_name);
    places
}

/// What a statement says of a journal.
struct Said {
    of: String,
    lines: u64,
    head: Sha256Digest,
}

/// How long another repository may take to give a journal that this one lacks.
const PATIENCE: Duration = Duration::from_secs(60);

/// Holds what was seen against the lines in the repository. Lines that it lacks may lie in another one, in which the run went on
/// while this one was away.
pub(super) async fn compare(context: &Context, others: &[Place], seen: &[SetEntry], audit: &mut Audit) -> Result<()> {
    let kinds = [Kind::Run, Kind::Incident].map(|kind| (kind, if kind == Kind::Run { "runbook" } else { "incident" }));
    let is_one =
        |entry: &&SetEntry| entry.result.as_ref().is_ok_and(|said| kinds.iter().any(|(_, kind)| *kind == said.kind));
    if !seen.iter().any(|entry| is_one(&entry)) {
        return Ok(());
    }
    let listed = context.repository.list_evidence(&context.config.tenant, "").await?;
    let mut said: BTreeMap<Name, Vec<Said>> = BTreeMap::new();
    for entry in seen.iter().filter(is_one) {
        let Some(reference) = listed.iter().find(|found| found.key.as_str() == entry.name) else { continue };
        // What is not believed is told already.
        let Some(verified) = record::believed(context, reference).await? else { continue };
        let Predicate::Act(act) = verified.statement.predicate else { continue };
        let (name, lines, head) = match act.act {
            Act::Runbook(run) => (Name { kind: Kind::Run, id: run.run }, run.lines, run.head),
            Act::Incident(incident) => {
                (Name { kind: Kind::Incident, id: incident.incident }, incident.lines, incident.head)
            }
            _ => continue,
        };
        said.entry(name).or_default().push(Said { of: entry.name.clone(), lines, head });
    }
    let journals = Journals::of_reader(context);
    for (name, statements) in said {
        let mut lines = journals.read(name, 1).await?;
        let wanted = statements.iter().map(|said| said.lines).max().unwrap_or(0);
        if wanted > lines.len() as u64 {
            for place in others {
                if let Some(longer) = longer(place, name, &lines).await {
                    lines = longer;
                }
            }
        }
        for Said { of, lines: wanted, head } in statements {
            let found = found(&lines, wanted, &head);
            audit.journal(&of, &name.to_string(), wanted, found);
        }
    }
    Ok(())
}

fn found(lines: &[Bytes], wanted: u64, head: &Sha256Digest) -> JournalFound {
    let Some(lines) = usize::try_from(wanted).ok().and_then(|wanted| lines.get(..wanted)) else {
        return JournalFound::Short(lines.len() as u64);
    };
    match Chain::<serde_json::Value>::check(lines, Path::new("")) {
        Ok(read) if read.head == head.to_string() => JournalFound::Same,
        Ok(_) | Err(_) => JournalFound::Other,
    }
}

/// What another repository has of it, where these lines are the beginning of that. One that does not answer has nothing to say.
async fn longer(place: &Place, name: Name, lines: &[Bytes]) -> Option<Vec<Bytes>> {
    let reading = async { (place.open)().await.ok()?.read(name, 1).await.ok() };
    let there = tokio::time::timeout(PATIENCE, reading).await.ok()??;
    (there.len() > lines.len() && there.starts_with(lines)).then_some(there)
}
