//! Statements of runs and incidents against their journals: are these the lines that were signed for?

use std::{collections::BTreeMap, path::Path};

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
use lifeboat_model::id::Sha256Digest;
use lifeboat_runbook::journal::Chain;

use crate::failure::Result;

/// What a statement says of a journal.
struct Said {
    of: String,
    lines: u64,
    head: Sha256Digest,
}

/// Holds what was seen against the lines in the repository.
pub(super) async fn compare(context: &Context, seen: &[SetEntry], audit: &mut Audit) -> Result<()> {
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
        let lines = journals.read(name, 1).await?;
        for Said { of, lines: wanted, head } in statements {
            let found = match usize::try_from(wanted).ok().and_then(|wanted| lines.get(..wanted)) {
                None => JournalFound::Short(lines.len() as u64),
                Some(lines) => match Chain::<serde_json::Value>::check(lines, Path::new("")) {
                    Ok(read) if read.head == head.to_string() => JournalFound::Same,
                    Ok(_) | Err(_) => JournalFound::Other,
                },
            };
            audit.journal(&of, &name.to_string(), wanted, found);
        }
    }
    Ok(())
}
