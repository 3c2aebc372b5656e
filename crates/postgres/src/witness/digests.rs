//! The digests of a database in a held snapshot, by several sessions at once.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
    time::Instant,
};

use futures::future::try_join_all;
use tokio_postgres::Client;

use super::{Budget, holder::Holder, holder::SequenceLooks};
use crate::{
    digest::{
        DatabaseDigest,
        catalog::{self, Listed, Relation},
        layout::Layout,
        read::{Pace, Read, Reader, into},
        sequences,
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
    let work = Work::new(&listed, budget);
    try_join_all(sessions.iter().map(|client| work.run(client, &holder.exported, &pace))).await?;
    let mut digest = work.found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
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

/// Tables that wait, small ones first: if time runs out, most are done.
struct Work {
    waiting: Mutex<VecDeque<Relation>>,
    found: Mutex<DatabaseDigest>,
    block_size: u64,
    sample_above: Option<u64>,
}

impl Work {
    fn new(listed: &Listed, budget: &Budget) -> Work {
        let mut found = DatabaseDigest::default();
        let mut waiting = Vec::new();
        for relation in &listed.relations {
            match relation.left_out() {
                Some(why) => into(&mut found, relation.name.clone(), Read::LeftOut(why.to_owned())),
                None => waiting.push(relation.clone()),
            }
        }
        waiting.sort_by_key(|relation| relation.blocks);
        let (waiting, found) = (Mutex::new(waiting.into()), Mutex::new(found));
        Work { waiting, found, block_size: listed.block_size, sample_above: budget.sample_above }
    }

    fn next(&self) -> Option<Relation> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front()
    }

    async fn run(&self, client: &Client, snapshot: &str, pace: &Pace) -> Result<()> {
        let reader = Reader { client, snapshot: Some(snapshot), pace };
        while let Some(relation) = self.next() {
            let name = relation.name.clone();
            let layout = |relation: &Relation| Layout::new(relation, self.block_size, self.sample_above);
            let read = reader.table(relation, layout).await?;
            let mut found = self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            into(&mut found, name, read);
        }
        Ok(())
    }
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
