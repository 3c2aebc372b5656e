//! Everything that commits can look like, and what lies between them.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use lifeboat_model::lsn::Lsn;
use lifeboat_testkit::postgres::Postgres;

use crate::{oracle, position};

pub const RESTORE_POINTS: [&str; 3] =
    ["before the move", "año nuevo – ok", "a name that fills all of the room that a name has: 63 bytes!!!!"];

const SUBTRANSACTIONS: &str = "\\set n random(1, 100000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :n;
SAVEPOINT a; INSERT INTO pgbench_history (tid, bid, aid) VALUES (1, 1, :n);
SAVEPOINT b; UPDATE pgbench_tellers SET tbalance = tbalance + 1 WHERE tid = 1 + :n % 10;
ROLLBACK TO SAVEPOINT b;
SAVEPOINT c; INSERT INTO pgbench_history (tid, bid, aid) VALUES (2, 2, :n);
COMMIT;
";
const TWO_PHASE: &str = "\\set n random(1, 100000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance - 1 WHERE aid = :n;
SAVEPOINT a; INSERT INTO pgbench_history (tid, bid, aid) VALUES (3, 3, :n);
PREPARE TRANSACTION 'p:client_id';
COMMIT PREPARED 'p:client_id';
";

/// Load, then one of each.
pub fn everything(server: &Postgres) -> Result<()> {
    server.pgbench_init("postgres", 1)?;
    let subtransactions = server.script("sub.sql", SUBTRANSACTIONS)?;
    let two_phase = server.script("2pc.sql", TWO_PHASE)?;
    let loads = [
        server.pgbench(&["-n", "-c", "4", "-t", "100", "postgres"])?,
        server.pgbench(&["-n", "-c", "4", "-t", "100", "-f", &subtransactions, "postgres"])?,
        server.pgbench(&["-n", "-c", "4", "-t", "50", "-f", &two_phase, "postgres"])?,
    ];
    for name in RESTORE_POINTS {
        restore_point(server, name)?;
        server.psql("postgres", "CHECKPOINT")?;
    }
    for load in loads {
        load.finish()?;
    }
    prepared(server, "quiet")?;
    many_relations(server)?;
    from_elsewhere(server)?;
    switches(server)?;
    messages(server)
}

fn restore_point(server: &Postgres, name: &str) -> Result<()> {
    server.psql("postgres", &format!("SELECT pg_create_restore_point('{name}')")).map(drop)
}

/// Prepared transactions with everything that their commit can list.
pub fn prepared(server: &Postgres, id: &str) -> Result<()> {
    let create = |count: u32| {
        let tables = (0..count).map(|n| format!("CREATE TABLE dropped_{n} (id int PRIMARY KEY, t text)"));
        tables.collect::<Vec<_>>().join(";")
    };
    let drop = |count: u32| (0..count).map(|n| format!("DROP TABLE dropped_{n}")).collect::<Vec<_>>().join(";");
    for count in [1, 60] {
        server.psql("postgres", &create(count))?;
        let sql = format!("BEGIN; SAVEPOINT s; {}; PREPARE TRANSACTION '{id}'", drop(count));
        server.psql("postgres", &sql)?;
        server.psql("postgres", &format!("COMMIT PREPARED '{id}'"))?;
    }
    server.psql("postgres", &format!("BEGIN; CREATE TABLE no (x int); PREPARE TRANSACTION '{id}'"))?;
    server.psql("postgres", &format!("ROLLBACK PREPARED '{id}'")).map(std::mem::drop)
}

/// Commits that are longer than a page.
fn many_relations(server: &Postgres) -> Result<()> {
    let names: Vec<String> = (0..400).map(|n| format!("many_{n}")).collect();
    let create: Vec<String> = names.iter().map(|name| format!("CREATE TABLE {name} (id serial, t text)")).collect();
    for part in create.chunks(100) {
        server.psql("postgres", &part.join(";"))?;
    }
    server.psql("postgres", &format!("DROP TABLE {}", names.join(","))).map(drop)
}

/// Transactions that say where they came from.
fn from_elsewhere(server: &Postgres) -> Result<()> {
    let sql = "SELECT pg_replication_origin_create('elsewhere'); \
        SELECT pg_replication_origin_session_setup('elsewhere')";
    let here = "BEGIN; SELECT pg_replication_origin_xact_setup('0/1234', now()); \
        INSERT INTO pgbench_history (tid) VALUES (4); COMMIT";
    let prepared = "BEGIN; SELECT pg_replication_origin_xact_setup('0/1235', now()); \
        INSERT INTO pgbench_history (tid) VALUES (5); PREPARE TRANSACTION 'origin'; COMMIT PREPARED 'origin'";
    // Several statements in one string would be one transaction: psql reads them from a file.
    let file = server.script("origin.sql", &format!("{sql};\n{here};\n{prepared};\n"))?;
    server.run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f", &file]).map(drop)
}

/// Segments that end early, also right behind each other and with a commit in between.
fn switches(server: &Postgres) -> Result<()> {
    for _ in 0..3 {
        server.psql("postgres", "SELECT pg_switch_wal()")?;
        server.psql("postgres", "INSERT INTO pgbench_history (tid) VALUES (6)")?;
    }
    Ok(())
}

/// Records that are longer than a segment.
fn messages(server: &Postgres) -> Result<()> {
    for (transactional, len) in [("false", 9_000), ("true", 3_000_000), ("false", 40_000_001)] {
        let sql = format!("SELECT pg_logical_emit_message({transactional}, 'long', repeat('x', {len}))");
        server.psql("postgres", &sql)?;
    }
    Ok(())
}

/// Stops the server at once while it writes a long record, until one was left half.
pub fn crash_within_a_record(server: &mut Postgres, from: Lsn) -> Result<()> {
    for _ in 0..8 {
        let script = "SELECT pg_logical_emit_message(true, 'lost', repeat('y', 200000000));\n";
        let script = server.script("lost.sql", script)?;
        let before = last_segment(server)?;
        let mut load = server.pgbench(&["-n", "-t", "1", "-f", &script, "postgres"])?;
        // The third segment after the one where it began: most is still to come.
        while load.is_running() && segments_after(server, &before)? < 3 {
            thread::sleep(Duration::from_millis(1));
        }
        server.stop_immediate()?;
        load.stop()?;
        server.resume()?;
        server.psql("postgres", "INSERT INTO pgbench_history (tid) VALUES (7)")?;
        let to = position(server)?;
        if oracle::dump(server, "XLOG", from, to)?.contains("OVERWRITE_CONTRECORD") {
            return Ok(());
        }
    }
    bail!("no stop left half a record")
}

fn segments(server: &Postgres) -> Result<Vec<String>> {
    let names = fs::read_dir(server.data_dir().join("pg_wal"))?.map(|entry| Ok(entry?.file_name()));
    let names: Vec<_> = names.collect::<Result<_>>()?;
    Ok(names.iter().filter_map(|name| name.to_str()).filter(|name| name.len() == 24).map(str::to_owned).collect())
}

fn last_segment(server: &Postgres) -> Result<String> {
    segments(server)?.into_iter().max().context("no segments")
}

fn segments_after(server: &Postgres, before: &str) -> Result<usize> {
    Ok(segments(server)?.iter().filter(|name| name.as_str() > before).count())
}
