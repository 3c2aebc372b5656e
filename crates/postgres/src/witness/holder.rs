//! Sessions that hold a snapshot open for others.

use futures::future::try_join_all;
use lifeboat_model::lsn::Lsn;
use tokio_postgres::Client;

use super::snapshot::Snapshot;
use crate::{
    digest::{
        catalog::{self, SequenceName},
        read::{Pace, Reader},
        sequences::{self, Reached},
    },
    error::{Error, Result},
    sql,
    transport::ConnectOptions,
};

/// From here on a server may end transactions by their age (`transaction_timeout`).
const TRANSACTION_TIMEOUT: i32 = 170_000;

/// A database's snapshot, open until this is released or dropped.
pub(super) struct Holder {
    pub(super) database: String,
    /// The name that other sessions import it by.
    pub(super) exported: String,
    pub(super) snapshot: Snapshot,
    /// What sequences showed: before the snapshot, shortly before it, and after.
    pub(super) sequences: SequenceLooks,
    client: Client,
}

/// Three looks at the sequences of a database.
#[derive(Debug, Clone, Default)]
pub(super) struct SequenceLooks {
    pub(super) names: Vec<SequenceName>,
    pub(super) before: Reached,
    pub(super) between: Reached,
    pub(super) after: Reached,
}

/// Snapshots of all databases with the same exact position.
pub(super) struct Fixed {
    pub(super) system_id: u64,
    pub(super) timeline: u32,
    pub(super) lsn: Lsn,
    pub(super) holders: Vec<Holder>,
}

/// A session in an open transaction that has no snapshot yet.
pub(super) struct Ready {
    database: String,
    client: Client,
}

/// Opens a session for each database.
pub(super) async fn prepare(source: &ConnectOptions, databases: &[String]) -> Result<Vec<Ready>> {
    try_join_all(databases.iter().map(|database| Ready::open(source, database))).await
}

/// Takes the snapshots of all sessions as nearly at the same time as can be.
pub(super) async fn open(ready: Vec<Ready>) -> Result<Vec<Holder>> {
    try_join_all(ready.into_iter().map(Ready::export)).await
}

impl Ready {
    async fn open(source: &ConnectOptions, database: &str) -> Result<Ready> {
        let client = sql::connect(source, database).await?;
        let version = text(&client, "SELECT current_setting('server_version_num')").await?;
        let mut begin = "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = '60s';".to_owned();
        if version.parse::<i32>().is_ok_and(|version| version >= TRANSACTION_TIMEOUT) {
            begin += "SET transaction_timeout = 0;";
        }
        begin += "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        client.batch_execute(&begin).await.map_err(|error| sql::statement_error(source, &begin, error))?;
        Ok(Ready { database: database.to_owned(), client })
    }

    async fn export(self) -> Result<Holder> {
        const EXPORT: &str = "SELECT pg_export_snapshot() || ' ' || pg_current_snapshot()::text";
        let both = text(&self.client, EXPORT).await?;
        let garbled =
            |reason: String| Error::Protocol { server: "the source".into(), during: "exporting a snapshot", reason };
        let (exported, snapshot) = both.split_once(' ').ok_or_else(|| garbled(both.clone()))?;
        let snapshot = snapshot.parse().map_err(|error: super::snapshot::SnapshotError| garbled(error.to_string()))?;
        Ok(Holder {
            database: self.database,
            exported: exported.to_owned(),
            snapshot,
            sequences: SequenceLooks::default(),
            client: self.client,
        })
    }
}

impl Holder {
    /// Lets the snapshot go. Dropping does the same when the connection is seen to be closed.
    pub(super) async fn release(self) {
        if let Err(error) = self.client.batch_execute("ROLLBACK").await {
            tracing::debug!(%error, "letting a snapshot go");
        }
    }
}

/// One text of a statement, without preparing it.
pub(super) async fn text(client: &Client, statement: &str) -> Result<String> {
    let messages = client.simple_query(statement).await;
    let messages = messages.map_err(|error| sql::error_of("the source", statement, error))?;
    let row = messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    row.ok_or_else(|| Error::Protocol {
        server: "the source".into(),
        during: "running a statement",
        reason: format!("no value for {statement}"),
    })
}

/// A position that the server tells.
pub(super) async fn lsn(client: &Client, statement: &str) -> Result<Lsn> {
    let told = text(client, statement).await?;
    told.parse().map_err(|error: lifeboat_model::lsn::LsnError| Error::Protocol {
        server: "the source".into(),
        during: "asking for a position",
        reason: error.to_string(),
    })
}

/// Sessions that look at the sequences of each database.
pub(super) struct Onlookers {
    sessions: Vec<(Client, SequenceLooks)>,
    pace: Pace,
}

impl Onlookers {
    /// Lists the sequences, and looks for the first time.
    pub(super) async fn begin(source: &ConnectOptions, databases: &[String], pace: Pace) -> Result<Onlookers> {
        let mut sessions = Vec::with_capacity(databases.len());
        for database in databases {
            let client = sql::connect(source, database).await?;
            let reader = Reader { client: &client, snapshot: None, pace: &pace };
            let names = catalog::list(&reader).await?.sequences;
            let before = sequences::read(&reader, &names).await?;
            sessions.push((client, SequenceLooks { names, before, ..SequenceLooks::default() }));
        }
        Ok(Onlookers { sessions, pace })
    }

    /// Shortly before the snapshots.
    pub(super) async fn look_again(&mut self) -> Result<()> {
        for (client, looks) in &mut self.sessions {
            looks.between = sequences::read(&Reader { client, snapshot: None, pace: &self.pace }, &looks.names).await?;
        }
        Ok(())
    }

    /// Behind the position; the looks go to the holders, which are in the same order.
    pub(super) async fn end(mut self, holders: &mut [Holder]) -> Result<()> {
        for ((client, looks), holder) in self.sessions.iter_mut().zip(holders) {
            looks.after = sequences::read(&Reader { client, snapshot: None, pace: &self.pace }, &looks.names).await?;
            holder.sequences = std::mem::take(looks);
        }
        Ok(())
    }
}
