//! Rungs 4 to 8 on a recovered system.

use std::{os::unix::fs::MetadataExt as _, path::Path, time::Instant};

use jiff::Timestamp;
use lifeboat_model::lsn::Lsn;
use lifeboat_odoo::modules;
use tokio_postgres::Client;

use super::{Found, Request, Rung, data, server::Server};
use crate::{
    checks::{self, extensions::Sessions as _},
    climb::verify_attachments,
    error::{Error, Result, with_causes},
    ladder::{self, Answer},
    odoo::Layout,
    postgres::{Replay, parse_time},
    sandbox::Ran,
    source::Fetched,
};

/// The schema that `pg_amcheck` gets its functions in, where nobody has installed them.
const SCHEMA: &str = "lifeboat_amcheck";

const ONLY_FILES: &str = "no database was restored here";

/// Rung 4, which only a cluster can pass on which no server has been started.
pub(super) async fn files(request: &Request, found: &mut Found<'_>) {
    if !request.record.database {
        found.record(ladder::MANIFEST.not_executed(ONLY_FILES));
        return;
    }
    let pgdata = request.folder.join("pgdata");
    let is_fresh = pgdata.join("recovery.signal").exists() && !pgdata.join("postmaster.pid").exists();
    if !is_fresh {
        let why = "a server has been started on it and has written: ask for \"files\" before the first start";
        found.record(ladder::MANIFEST.not_executed(why));
        found.record(ladder::PAGES.not_executed(why));
        return;
    }
    for answered in checks::files::read_back(&pgdata).await {
        found.record(answered);
    }
}

/// Rungs 5 to 8.
pub(super) async fn climb(
    request: &Request,
    rungs: &[Rung],
    server: &Server,
    newest: Option<Timestamp>,
    found: &mut Found<'_>,
) {
    if rungs.contains(&Rung::Replay) {
        found.record(ladder::REPLAY.ask(replay(request, server, newest)).await);
    }
    if rungs.contains(&Rung::Structure) {
        found.record(ladder::AMCHECK.ask(structure(request, server)).await);
    }
    if rungs.contains(&Rung::Data) {
        found.record(ladder::DIGESTS.ask(data::compare(server, request.record.witness.as_ref(), request.limit)).await);
    }
    if rungs.contains(&Rung::Attachments) {
        found.record(ladder::ATTACHMENTS.ask(attachments(request, server)).await);
    }
}

/// The newest commit that was replayed, as the server knows it until it is started again.
pub(super) async fn newest_commit(server: &Server) -> Result<Option<Timestamp>> {
    let client = server.open("postgres").await?;
    let query = "SELECT pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC' || ''";
    let row = client.query_one(query, &[]).await.map_err(Error::sql("ask for the last commit"))?;
    Ok(row.get::<_, Option<String>>(0).as_deref().and_then(parse_time))
}

/// Whether the server was started again since it left recovery, and so cannot know. Its history file was written when it did.
pub(super) async fn was_restarted(request: &Request, server: &Server) -> Result<bool> {
    let client = server.open("postgres").await?;
    let query = "SELECT extract(epoch FROM pg_postmaster_start_time())::bigint, \
                 substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)";
    let row = client.query_one(query, &[]).await.map_err(Error::sql("ask when the server was started"))?;
    let (started, timeline): (i64, String) = (row.get(0), row.get(1));
    Ok(started_behind(started, &request.folder.join(format!("pgdata/pg_wal/{timeline}.history"))))
}

/// Where there is no such file, nobody knows when recovery ended.
fn started_behind(started: i64, history: &Path) -> bool {
    std::fs::metadata(history).map_or(true, |metadata| started > metadata.mtime())
}

/// A session with every Odoo database.
pub(super) async fn clients(request: &Request, server: &Server) -> Result<Vec<(String, Client)>> {
    let mut clients = Vec::with_capacity(request.record.databases.len());
    for database in &request.record.databases {
        clients.push((database.clone(), server.open(database).await?));
    }
    Ok(clients)
}

/// What is installed in each database.
pub(super) async fn installed(clients: &[(String, Client)]) -> Result<Vec<(String, Vec<modules::Module>)>> {
    let mut installed = Vec::with_capacity(clients.len());
    for (database, client) in clients {
        installed.push((database.clone(), modules::installed(client).await?));
    }
    Ok(installed)
}

/// What a drill reads in the server's log stands in the history file of the timeline that the server chose.
async fn replay(request: &Request, server: &Server, newest: Option<Timestamp>) -> Result<Answer> {
    if !request.record.database {
        return Ok(Answer::not_executed(ONLY_FILES));
    }
    let client = server.open("postgres").await?;
    let query = "SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)";
    let row = client.query_one(query, &[]).await.map_err(Error::sql("ask for the timeline"))?;
    let timeline = u32::from_str_radix(&row.get::<_, String>(0), 16).unwrap_or_default();
    let pgdata = request.folder.join("pgdata");
    let mut fetched: Fetched = request.record.fetched();
    if timeline <= request.record.timeline {
        let why = format!("the server is on timeline {timeline}, as the backup was: it has not gone through recovery");
        return Ok(Answer::failed(why));
    }
    if newest.is_none() && fetched.newest_held.is_some() {
        let why = "the server was started again since its recovery and does not know its newest commit any more: \
                   ask for \"replay\" after the first start";
        return Ok(Answer::not_executed(why));
    }
    if newest.is_none() {
        fetched.newest_held = None;
    }
    // A server is not promoted before it is consistent.
    let replay = Replay {
        ready: true,
        timeline: Some(timeline),
        consistent: fetched.consistent_at,
        stopped: stopped(&pgdata, timeline),
        newest_commit: newest,
        ..Replay::default()
    };
    Ok(checks::replay::judge(&replay, newest, &fetched, &pgdata))
}

/// Why recovery ended, in the words that the server's log has for it.
fn stopped(pgdata: &Path, timeline: u32) -> Option<String> {
    let path = pgdata.join("pg_wal").join(format!("{timeline:08X}.history"));
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().rfind(|line| line.starts_with(|c: char| c.is_ascii_digit()))?;
    let reason = line.splitn(3, '\t').nth(2)?.trim();
    let rest = reason.strip_prefix("before ")?;
    Some(match rest.strip_prefix("LSN ").and_then(|lsn| lsn.parse::<Lsn>().ok()) {
        Some(lsn) => format!("before WAL location (LSN) \"{lsn}\""),
        None => format!("before commit, time {rest}"),
    })
}

/// `pg_amcheck` beside the server. The extension that it needs is taken away again where it was not there.
async fn structure(request: &Request, server: &Server) -> Result<Answer> {
    if !request.record.database {
        return Ok(Answer::not_executed(ONLY_FILES));
    }
    let Some(inside) = server.inside() else { return structure_on_host(request).await };
    let variable = inside.image.environment.iter().find_map(|line| line.strip_prefix("POSTGRES_USER="));
    let roles = ["postgres", variable.unwrap_or("postgres")];
    let command: Vec<&str> = ["sh", "-c", AMCHECK, "sh", SCHEMA].into_iter().chain(roles).collect();
    let ran = inside.container.run(&inside.user.spec(), &command, request.limit).await?;
    Ok(judge_amcheck(&ran))
}

/// The same under a server of this host: as the owner of its folder, over the socket that it names there.
async fn structure_on_host(request: &Request) -> Result<Answer> {
    let pgdata = request.folder.join("pgdata");
    let path = pgdata.join("postmaster.pid");
    let text = std::fs::read_to_string(&path).map_err(Error::io("cannot read", &path))?;
    // The fourth line is the port, the fifth the folder of the socket.
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let (Some(port), Some(socket)) = (lines.get(3), lines.get(4).filter(|socket| !socket.is_empty())) else {
        return Ok(Answer::not_executed("the server has no Unix socket over which pg_amcheck could ask it"));
    };
    let owner = std::fs::metadata(&pgdata).map_err(Error::io("cannot look at", &pgdata))?;
    let major = request.record.postgres_version / 10_000;
    // Beside the server's own program lies what fits it.
    let running = lines.first().and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
    let own = running.as_deref().and_then(Path::parent).unwrap_or(Path::new("/usr/bin")).display();
    let mut command = tokio::process::Command::new("sh");
    command
        .args(["-c", AMCHECK, "sh", SCHEMA, "postgres"])
        .env_clear()
        .env(
            "PATH",
            format!("{own}:/usr/lib/postgresql/{major}/bin:/usr/pgsql-{major}/bin:/usr/local/bin:/usr/bin:/bin"),
        )
        .envs([("PGHOST", *socket), ("PGPORT", *port), ("HOME", "/"), ("LC_ALL", "C")])
        .current_dir("/")
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    if rustix::process::geteuid().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    let timed = tokio::time::timeout(request.limit, command.output()).await;
    let timeout = || Error::Timeout { what: "pg_amcheck".to_owned(), after: request.limit };
    let output = timed.map_err(|_| timeout())?.map_err(Error::io("cannot start", "sh"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().map_or(-1, i64::from);
    Ok(judge_amcheck(&Ran { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }))
}

fn judge_amcheck(ran: &Ran) -> Answer {
    match ran.code {
        NO_ROLE => Answer::not_executed("no superuser is let in over the server's socket without a password"),
        _ => checks::structure::judge(ran),
    }
}

/// What [`AMCHECK`] ends with where nobody is let in.
const NO_ROLE: i64 = 77;

/// Arguments: the schema, and roles to try. One whose caller was killed goes on, and would take the extension away from the next: the
/// lock on a file of the cluster, which both have open, lets that one wait.
const AMCHECK: &str = r#"
schema=$1; shift
for role in "$@" ''; do
  [ "$role" ] || exit 77
  [ "$(psql -XAtw -U "$role" -d postgres -c 'SHOW is_superuser' 2>/dev/null)" = on ] && break
done
each() {
  psql -XAtw -U "$role" -d postgres -c 'SELECT datname FROM pg_database WHERE datallowconn' |
  while read -r name; do psql -qXAtw -U "$role" -d "$name" -c "$1" </dev/null >/dev/null 2>&1; done
}
data=$(psql -XAtw -U "$role" -d postgres -c 'SHOW data_directory')
if command -v flock >/dev/null; then exec 9<"$data/PG_VERSION"; flock 9; fi
each "CREATE SCHEMA IF NOT EXISTS $schema"
pg_amcheck --all --install-missing="$schema" --heapallindexed --jobs=2 -w -U "$role"; code=$?
each "DROP SCHEMA IF EXISTS $schema CASCADE"
exit $code
"#;

async fn attachments(request: &Request, server: &Server) -> Result<Answer> {
    let clients = clients(request, server).await?;
    let mut reports = Vec::new();
    verify_attachments(&clients, &layout(request), &request.record.fetched(), &mut reports).await
}

/// Where the filestore lies: as was said, in a data folder of Odoo's, or as it was restored.
fn layout(request: &Request) -> Layout {
    let databases = &request.record.databases;
    let data = request.folder.join("odoo-data/filestore");
    let folder = request.filestore.clone().or_else(|| Some(data).filter(|data| data.is_dir()));
    let Some(folder) = folder else { return Layout::find(&request.folder, databases, &[]) };
    let single = match databases.as_slice() {
        [database] if request.record.single => Some((database.clone(), folder.join(database))),
        _ => None,
    };
    let filestore = if single.is_none() { Some(folder) } else { None };
    Layout { filestore, single, addons: Vec::new(), missing_addons: Vec::new() }
}

/// Asks and says what cannot be.
pub(super) fn impossible(error: &Error, begun: Instant, found: &mut Found<'_>, specs: &[ladder::Spec]) {
    for spec in specs {
        found.record(spec.answered(Answer::not_executed(with_causes(error)), begun.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_started_again_does_not_know_its_newest_commit() {
        let folder = tempfile::tempdir().unwrap();
        let history = folder.path().join("00000002.history");
        assert!(started_behind(0, &history), "there is none");
        std::fs::write(&history, "").unwrap();
        let ended = std::fs::metadata(&history).unwrap().mtime();
        assert!(!started_behind(ended - 1, &history) && !started_behind(ended, &history));
        assert!(started_behind(ended + 1, &history));
    }

    #[test]
    fn the_history_tells_why_recovery_ended() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pg_wal")).unwrap();
        let file = folder.path().join("pg_wal/00000002.history");
        for (reason, expected) in [
            ("no recovery target specified", None),
            ("before 2026-11-21 14:03:10.000001+01", Some("before commit, time 2026-11-21 14:03:10.000001+01")),
            ("before LSN 0/5000060", Some("before WAL location (LSN) \"0/5000060\"")),
        ] {
            std::fs::write(&file, format!("1\t0/5000060\t{reason}\n")).unwrap();
            assert_eq!(stopped(folder.path(), 2).as_deref(), expected);
        }
        let replay =
            Replay { stopped: Some("before commit, time 2026-11-21 14:03:10.000001+01".into()), ..Replay::default() };
        assert_eq!(checks::replay::next_end(&replay), Some("2026-11-21T13:03:10.000001Z".parse().unwrap()));
    }
}
