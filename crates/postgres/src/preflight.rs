//! Whether a server can be backed up, asked before the first backup: every precondition, what was seen, and how to mend
//! it. What the role may not see is *not executed*, with the reason, and never a pass.

use jiff::Timestamp;
use lifeboat_model::{check::Verdict, config::TlsMode};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Row, types::ToSql};

use crate::{
    error::{Error, Result},
    replication::{Replication, SUPPORTED_MAJORS},
    sql,
    transport::ConnectOptions,
};

mod streaming;

pub use streaming::streaming;

/// A base backup, and the WAL stream beside it.
const NEEDED_SENDERS: i64 = 2;
const MAX_SKEW_MS: i64 = 2000;
/// The longest target of a link in the server's tar stream.
const MAX_LOCATION: usize = 99;

/// How much an item matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Without it there is no backup.
    Required,
    /// Without it backups work, and something is at risk: the text says what.
    Advised,
}

/// One precondition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreflightItem {
    /// Stable id: `postgres.wal-level`, `postgres.database.<name>`.
    pub id: String,
    /// How much it matters.
    pub need: Need,
    /// The answer.
    pub ok: Verdict,
    /// What was seen.
    pub observed: String,
    /// What is wanted.
    pub expected: String,
    /// What to do where the answer is not a pass.
    pub mend: String,
}

/// Asks a server everything. `now` is read before and after the server's own clock.
///
/// Never fails: what could not be asked is in the answer.
pub async fn check(
    options: &ConnectOptions,
    databases: &[String],
    now: &(dyn Fn() -> Timestamp + Sync),
) -> Vec<PreflightItem> {
    let mut items = Vec::new();
    let first = databases.first().map_or("postgres", String::as_str);
    match sql::connect(options, first).await {
        Err(error) => items.push(unreachable(&error)),
        Ok(client) => {
            items.push(passed("reachable", Need::Required, options.server(), "an SQL session"));
            let session = Session { client: &client, options };
            for item in [
                session.version().await,
                session.tls().await,
                session.replication_right().await,
                session.read_right().await,
                session.wal_level().await,
                session.free_senders().await,
                session.free_slots().await,
                session.slot_limit().await,
                session.is_on("data_checksums", "data-checksums", CHECKSUMS_MEND).await,
                session.is_on("full_page_writes", "full-page-writes", FULL_PAGE_MEND).await,
                session.is_on("fsync", "fsync", FSYNC_MEND).await,
                session.clock_skew(now).await,
                session.tablespaces().await,
            ] {
                items.push(item);
            }
        }
    }
    items.push(replication_session(options).await);
    for database in databases {
        items.push(database_session(options, database).await);
    }
    items
}

const CHECKSUMS_MEND: &str =
    "without page checksums a damaged page is copied unseen: stop the server and run pg_checksums --enable";
const FULL_PAGE_MEND: &str = "torn pages cannot be mended after a crash: set full_page_writes = on and reload";
const FSYNC_MEND: &str = "a crash can lose or damage everything: set fsync = on and reload";

fn item(id: &str, need: Need, ok: Verdict, observed: String, expected: &str, mend: &str) -> PreflightItem {
    let (expected, mend) = (expected.to_owned(), mend.to_owned());
    PreflightItem { id: format!("postgres.{id}"), need, ok, observed, expected, mend }
}

fn passed(id: &str, need: Need, observed: String, expected: &str) -> PreflightItem {
    item(id, need, Verdict::Passed, observed, expected, "")
}

/// A pass where `good`, else a failure that says what was seen.
fn judged(id: &str, need: Need, good: bool, observed: String, expected: &str, mend: &str) -> PreflightItem {
    if good {
        return passed(id, need, observed, expected);
    }
    let why = format!("{observed}, expected {expected}");
    item(id, need, Verdict::Failed(why), observed, expected, mend)
}

fn not_executed(id: &str, need: Need, why: String, expected: &str, mend: &str) -> PreflightItem {
    item(id, need, Verdict::NotExecuted(why), "not seen".into(), expected, mend)
}

fn unreachable(error: &Error) -> PreflightItem {
    let why = error.to_string();
    // The errors of this crate say what to do themselves.
    item("reachable", Need::Required, Verdict::Failed(why.clone()), "refused".into(), "an SQL session", &why)
}

/// The proof of the `pg_hba.conf` entry, of the right to replicate and of a free WAL sender: a session.
async fn replication_session(options: &ConnectOptions) -> PreflightItem {
    const ID: &str = "replication";
    const EXPECTED: &str = "a replication session";
    let tried: Result<_> = async {
        let mut replication = Replication::connect(options).await?;
        let identity = replication.identify_system().await?;
        replication.close().await;
        Ok(identity)
    }
    .await;
    match tried {
        Ok(identity) => {
            let observed = format!("system {} on timeline {}", identity.system_id, identity.timeline);
            passed(ID, Need::Required, observed, EXPECTED)
        }
        Err(error) => {
            let why = error.to_string();
            item(ID, Need::Required, Verdict::Failed(why.clone()), "refused".into(), EXPECTED, &why)
        }
    }
}

async fn database_session(options: &ConnectOptions, database: &str) -> PreflightItem {
    let id = format!("database.{database}");
    let expected = "a session with this database";
    match sql::connect(options, database).await {
        Ok(_) => passed(&id, Need::Required, "connected".into(), expected),
        Err(error) => {
            let mend =
                "correct postgres.databases in lifeboat.toml, or let the role connect: GRANT CONNECT ON DATABASE";
            item(&id, Need::Required, Verdict::Failed(error.to_string()), "refused".into(), expected, mend)
        }
    }
}

struct Session<'a> {
    client: &'a Client,
    options: &'a ConnectOptions,
}

impl Session<'_> {
    async fn row(&self, statement: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        let server = self.options.server();
        let asked = async {
            let row = self.client.query_one(statement, parameters).await;
            row.map_err(|error| sql::error_of(&server, statement, error))
        };
        self.within(asked).await
    }

    async fn within<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        let after = self.options.connect_timeout;
        let (server, during) = (self.options.server(), "asking for a setting");
        tokio::time::timeout(after, asked).await.unwrap_or(Err(Error::Timeout { server, during, after }))
    }

    /// One value of a statement.
    async fn value<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, statement: &str) -> Result<T> {
        let row = self.row(statement, &[]).await?;
        row.try_get(0).map_err(|error| sql::error_of(&self.options.server(), statement, error))
    }

    async fn setting(&self, name: &str) -> Result<String> {
        self.value(&format!("SELECT current_setting('{name}')")).await
    }

    async fn version(&self) -> PreflightItem {
        const ID: &str = "version";
        let expected = format!("{} to {}", SUPPORTED_MAJORS.start(), SUPPORTED_MAJORS.end());
        let mend = "this release speaks with these versions only";
        match self.value::<i32>("SELECT current_setting('server_version_num')::int").await {
            Ok(number) => {
                let major = u32::try_from(number / 10_000).unwrap_or(0);
                let observed = format!("{major}.{}", number % 10_000);
                judged(ID, Need::Required, SUPPORTED_MAJORS.contains(&major), observed, &expected, mend)
            }
            Err(error) => not_executed(ID, Need::Required, error.to_string(), &expected, mend),
        }
    }

    async fn tls(&self) -> PreflightItem {
        const ID: &str = "tls";
        const EXPECTED: &str = "an encrypted session";
        let mend = "turn on ssl at the server and set tls = \"verify-full\" with root_cert_file";
        if self.options.is_unix_socket() {
            return passed(ID, Need::Advised, "a Unix socket".into(), EXPECTED);
        }
        const ASK: &str = "SELECT ssl, coalesce(version, '') FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        match self.row(ASK, &[]).await {
            Ok(row) => {
                let (on, version): (bool, &str) = (row.get(0), row.get(1));
                let observed = match (on, self.options.tls) {
                    (false, _) => "plain text".to_owned(),
                    (true, TlsMode::Require) => format!("{version}, to whoever answers (tls = \"require\")"),
                    (true, mode) => format!("{version}, {mode}"),
                };
                judged(ID, Need::Advised, on, observed, EXPECTED, mend)
            }
            Err(error) => not_executed(ID, Need::Advised, error.to_string(), EXPECTED, mend),
        }
    }

    async fn replication_right(&self) -> PreflightItem {
        const ID: &str = "replication-right";
        const EXPECTED: &str = "a role with REPLICATION";
        let mend = format!("ALTER ROLE \"{}\" REPLICATION", self.options.user);
        match self.value::<bool>("SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user").await {
            Ok(has) => judged(ID, Need::Required, has, yes_or_no(has), EXPECTED, &mend),
            Err(error) => not_executed(ID, Need::Required, error.to_string(), EXPECTED, &mend),
        }
    }

    async fn read_right(&self) -> PreflightItem {
        const ID: &str = "read-all-data";
        const EXPECTED: &str = "a member of pg_read_all_data";
        let mend =
            format!("tables cannot be compared after a restore: GRANT pg_read_all_data TO \"{}\"", self.options.user);
        // `USAGE`: has the right without SET ROLE. The role is unknown before 14.
        const ASK: &str = "SELECT bool_or(pg_has_role(oid, 'USAGE')) FROM pg_roles WHERE rolname = 'pg_read_all_data'";
        match self.value::<Option<bool>>(ASK).await {
            Ok(Some(has)) => judged(ID, Need::Advised, has, yes_or_no(has), EXPECTED, &mend),
            Ok(None) => {
                let why = "PostgreSQL 13 has no role pg_read_all_data".to_owned();
                not_executed(ID, Need::Advised, why, EXPECTED, "grant SELECT on all tables to the role")
            }
            Err(error) => not_executed(ID, Need::Advised, error.to_string(), EXPECTED, &mend),
        }
    }

    async fn wal_level(&self) -> PreflightItem {
        const ID: &str = "wal-level";
        let mend = "set wal_level = replica and restart the server";
        match self.setting("wal_level").await {
            Ok(level) => {
                let good = matches!(level.as_str(), "replica" | "logical");
                judged(ID, Need::Required, good, level, "replica or logical", mend)
            }
            Err(error) => not_executed(ID, Need::Required, error.to_string(), "replica or logical", mend),
        }
    }

    async fn free_senders(&self) -> PreflightItem {
        const ID: &str = "wal-senders";
        let expected = format!("{NEEDED_SENDERS} free");
        let mend = "raise max_wal_senders and restart the server, or end a stale replication session";
        // Everybody may count the senders; only their details need pg_monitor.
        const ASK: &str = "SELECT current_setting('max_wal_senders')::bigint, count(*) FROM pg_stat_get_wal_senders()";
        match self.row(ASK, &[]).await {
            Ok(row) => {
                let (all, used): (i64, i64) = (row.get(0), row.get(1));
                let observed = format!("{} of {all} free", all - used);
                judged(ID, Need::Required, all - used >= NEEDED_SENDERS, observed, &expected, mend)
            }
            Err(error) => not_executed(ID, Need::Required, error.to_string(), &expected, mend),
        }
    }

    async fn free_slots(&self) -> PreflightItem {
        const ID: &str = "replication-slots";
        let mend = "raise max_replication_slots and restart the server, or drop a slot that nobody uses";
        const ASK: &str = "SELECT current_setting('max_replication_slots')::bigint, count(*) FROM pg_replication_slots";
        match self.row(ASK, &[]).await {
            Ok(row) => {
                let (all, used): (i64, i64) = (row.get(0), row.get(1));
                let observed = format!("{} of {all} free", all - used);
                judged(ID, Need::Required, all > used, observed, "1 free", mend)
            }
            Err(error) => not_executed(ID, Need::Required, error.to_string(), "1 free", mend),
        }
    }

    async fn slot_limit(&self) -> PreflightItem {
        const ID: &str = "slot-limit";
        const EXPECTED: &str = "a limit for the WAL that slots keep";
        let mend =
            "a forgotten slot can fill the server's disk: set max_slot_wal_keep_size, for example to 20GB, and reload";
        match self.setting("max_slot_wal_keep_size").await {
            Ok(limit) => {
                let observed = if limit == "-1" { "no limit".to_owned() } else { limit.clone() };
                judged(ID, Need::Advised, limit != "-1", observed, EXPECTED, mend)
            }
            Err(error) => not_executed(ID, Need::Advised, error.to_string(), EXPECTED, mend),
        }
    }

    async fn is_on(&self, setting: &str, id: &str, mend: &str) -> PreflightItem {
        match self.setting(setting).await {
            Ok(value) => judged(id, Need::Advised, value == "on", value, "on", mend),
            Err(error) => not_executed(id, Need::Advised, error.to_string(), "on", mend),
        }
    }

    async fn clock_skew(&self, now: &(dyn Fn() -> Timestamp + Sync)) -> PreflightItem {
        const ID: &str = "clock-skew";
        const ASK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let expected = format!("at most {MAX_SKEW_MS} ms");
        let mend = "times in recovery points and targets would be off: let both hosts follow NTP";
        let before = now().as_millisecond();
        let server = self.value::<i64>(ASK).await;
        let after = now().as_millisecond();
        match server {
            Ok(server) => {
                // Within the round trip nothing can be said.
                let skew = if server < before { server - before } else { (server - after).max(0) };
                judged(ID, Need::Advised, skew.abs() <= MAX_SKEW_MS, format!("{skew} ms"), &expected, mend)
            }
            Err(error) => not_executed(ID, Need::Advised, error.to_string(), &expected, mend),
        }
    }

    async fn tablespaces(&self) -> PreflightItem {
        const ID: &str = "tablespaces";
        const EXPECTED: &str = "locations of at most 99 bytes";
        const ASK: &str = "SELECT coalesce(array_agg(spcname || ' at ' || place ORDER BY 1), '{}'), \
            coalesce(max(octet_length(place)), 0) \
            FROM (SELECT spcname::text, pg_tablespace_location(oid) place FROM pg_tablespace) t WHERE place <> ''";
        let mend = "the server cannot send longer ones as links: move the tablespace to a shorter path";
        match self.row(ASK, &[]).await {
            Ok(row) => {
                let (places, longest): (Vec<String>, i32) = (row.get(0), row.get(1));
                let good = usize::try_from(longest).is_ok_and(|longest| longest <= MAX_LOCATION);
                let observed = if places.is_empty() { "none".to_owned() } else { places.join(", ") };
                judged(ID, Need::Required, good, observed, EXPECTED, mend)
            }
            Err(error) => not_executed(ID, Need::Required, error.to_string(), EXPECTED, mend),
        }
    }
}

fn yes_or_no(has: bool) -> String {
    if has { "yes" } else { "no" }.to_owned()
}
