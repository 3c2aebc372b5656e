//! `pg_waldump` and `pg_walinspect`: what the servers themselves read in their WAL.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use lifeboat_model::lsn::{Lsn, segment_file_name};
use lifeboat_postgres::wal::WalEvent;
use lifeboat_testkit::postgres::Postgres;

/// An event in the words of `pg_waldump`.
pub fn line(event: &WalEvent) -> String {
    match event {
        WalEvent::Commit(commit) => {
            let word = if commit.prepared { "COMMIT_PREPARED" } else { "COMMIT" };
            let time = commit.time.strftime("%Y-%m-%d %H:%M:%S.%6f UTC");
            format!("{} {word} {} {time}", commit.start, commit.xid)
        }
        WalEvent::RestorePoint(point) => format!("{} RESTORE_POINT {}", point.start, point.name),
    }
}

/// Lines of `pg_waldump` for the records that the decoder tells of.
pub fn waldump(server: &Postgres, from: Lsn, to: Lsn) -> Result<Vec<String>> {
    let mut lines = BTreeMap::new();
    for manager in ["Transaction", "XLOG"] {
        for line in dump(server, manager, from, to)?.lines() {
            let field = |name: &str| line.split(name).nth(1).and_then(|rest| rest.split([',', ' ']).next());
            let start: Lsn = field("lsn: ").with_context(|| line.to_owned())?.parse()?;
            let xid = line.split("tx:").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default().trim();
            let description = line.split("desc: ").nth(1).unwrap_or_default();
            if let Some(told) = event(description, xid) {
                lines.insert(start, format!("{start} {told}"));
            }
        }
    }
    Ok(lines.into_values().collect())
}

fn event(description: &str, xid: &str) -> Option<String> {
    let (word, rest) = description.split_once(' ')?;
    match word {
        "COMMIT" => Some(format!("COMMIT {xid} {}", time(rest))),
        "COMMIT_PREPARED" => {
            let (xid, rest) = rest.split_once(": ")?;
            Some(format!("COMMIT_PREPARED {xid} {}", time(rest)))
        }
        "RESTORE_POINT" => Some(description.to_owned()),
        _ => None,
    }
}

/// The time that a description begins with.
fn time(text: &str) -> &str {
    text.split(';').next().unwrap_or_default()
}

pub fn dump(server: &Postgres, manager: &str, from: Lsn, to: Lsn) -> Result<String> {
    // Without a file it would look into any, and a segment that was made in advance says nothing.
    let size: u64 = server.psql("postgres", "SELECT pg_size_bytes(current_setting('wal_segment_size'))")?.parse()?;
    let file = |position: Lsn| segment_file_name(1, position.segment(size), size);
    let (first, last) = (file(from), file(Lsn(to.0 - 1)));
    let folder = server.data_dir().join("pg_wal").display().to_string();
    let (from, to) = (from.to_string(), to.to_string());
    let output = server.run("pg_waldump", &["-p", &folder, "-s", &from, "-e", &to, "-r", manager, &first, &last])?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.starts_with("rmgr:")).fold(
        String::new(),
        |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        },
    ))
}

/// Where `pg_walinspect` says that the records begin and end.
pub fn ends(server: &Postgres, from: Lsn, to: Lsn) -> Result<BTreeMap<Lsn, Lsn>> {
    server.psql("postgres", "CREATE EXTENSION IF NOT EXISTS pg_walinspect")?;
    let rows = server.psql(
        "postgres",
        &format!(
            "SELECT start_lsn, end_lsn FROM pg_get_wal_records_info('{from}', '{to}') \
             WHERE record_type IN ('COMMIT', 'COMMIT_PREPARED', 'RESTORE_POINT')"
        ),
    )?;
    let pair = |line: &str| {
        let (start, end) = line.split_once('\t')?;
        Some((start.parse().ok()?, end.parse().ok()?))
    };
    rows.lines().map(|line| pair(line).with_context(|| line.to_owned())).collect()
}
