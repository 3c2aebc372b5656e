//! The digests of a database in a held snapshot, by several sessions at once.

use std::{collections::BTreeMap, time::Instant};

use super::{Budget, holder::Holder, holder::SequenceLooks};
use crate::{
    digest::{
        DatabaseDigest,
        catalog::{self, Relation},
        layout::Layout,
        read::{Pace, Reader},
        sequences, work,
    },
    error::{Error, Result},
    sql,
    transport::ConnectOptions,
};

const EXTENSIONS: &str = "SELECT extname, extversion FROM pg_extension ORDER BY 1";
const VERSION: &str = "SELECT current_setting('server_version')";

/// What a snapshot shows of its database.
pub(super) struct Digested {
    pub(super) digest: DatabaseDigest,
    pub(super) extensions: BTreeMap<String, String>,
    pub(super) version: String,
}

pub(super) fn pace(budget: &Budget, deadline: Option<Instant>) -> Pace {
    Pace { statement_timeout: budget.statement_timeout, duty_cycle: budget.duty_cycle, deadline }
}

pub(super) async fn of_database(
    source: &ConnectOptions,
    holder: &Holder,
    budget: &Budget,
    deadline: Instant,
) -> Result<Digested> {
    let mut sessions = Vec::new();
    for _ in 0..budget.parallel.max(1) {
        sessions.push(sql::connect(source, &holder.database).await?);
    }
    let pace = pace(budget, Some(deadline));
    let Some(first) = sessions.first() else { return Err(Error::Interrupted) };
    let reader = Reader { client: first, snapshot: Some(&holder.exported), pace: &pace };
    let listed = catalog::list(&reader).await?;
    let extensions = pairs(&reader, EXTENSIONS).await?;
    let version = pairs(&reader, &format!("{VERSION}, ''")).await?;
    let layout = |relation: &Relation| Layout::new(relation, listed.block_size, budget.sample_above);
    let in_snapshot = |client| Reader { client, snapshot: Some(&holder.exported), pace: &pace };
    let readers: Vec<Reader<'_>> = sessions.iter().map(in_snapshot).collect();
    let mut digest = work::tables(&readers, &listed.relations, layout).await?;
    digest.snapshot = Some(holder.snapshot.to_string());
    add_sequences(&mut digest, &holder.sequences);
    // Now, not in the snapshot: what has another shape by now may have had it when it was read.
    let now = catalog::list(&Reader { client: first, snapshot: None, pace: &pace }).await?;
    for (name, why) in catalog::changed(&listed.shapes, &now.shapes) {
        digest.doubt(name, why);
    }
    let version = version.into_keys().next().unwrap_or_default();
    Ok(Digested { digest, extensions, version })
}

async fn pairs(reader: &Reader<'_>, statement: &str) -> Result<BTreeMap<String, String>> {
    let rows = reader.rows(statement).await?.map_err(|reason| Error::Protocol {
        server: "the source".into(),
        during: "reading in a snapshot",
        reason,
    })?;
    let pair = |row: &tokio_postgres::SimpleQueryRow| Some((row.get(0)?.to_owned(), row.get(1)?.to_owned()));
    Ok(rows.iter().filter_map(pair).collect())
}

fn add_sequences(digest: &mut DatabaseDigest, looks: &SequenceLooks) {
    for sequence in &looks.names {
        let name = &sequence.name;
        let refused = [&looks.before, &looks.between, &looks.after].iter().find_map(|look| look.refused.get(name));
        if let Some(why) = refused {
            digest.left_out.insert(name.clone(), why.clone());
            continue;
        }
        let [before, between, after] =
            [&looks.before, &looks.between, &looks.after].map(|look| look.reach.get(name).copied());
        match sequences::bounds(sequence, before, between, after) {
            Ok(bounds) => drop(digest.sequences.insert(name.clone(), bounds)),
            Err(why) => drop(digest.inconclusive.insert(name.clone(), why.to_owned())),
        }
    }
}
