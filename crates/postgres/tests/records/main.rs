//! The decoder of WAL records against the servers' own readers: on with `LIFEBOAT_TESTBED=1`.

mod oracle;
mod workload;

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use lifeboat_model::lsn::{Lsn, segment_file_name};
use lifeboat_postgres::wal::{WalDecoder, WalEvent};
use lifeboat_testkit::{
    postgres::{Options, Postgres, versions},
    testbed,
};

/// The versions to test, or none where the testbed is off.
fn majors() -> Vec<u32> {
    if !testbed::enabled() {
        return Vec::new();
    }
    let majors: Vec<u32> = versions().into_iter().filter(|major| *major >= 14).collect();
    assert!(majors.contains(&17), "PostgreSQL 17 is missing (testbed/testbed images); found {majors:?}");
    majors
}

/// A server that keeps all its WAL and can do everything that leaves traces there.
fn server(major: u32, segment: u64) -> Result<Postgres> {
    let conf = [
        "wal_level = logical",
        "wal_keep_size = 8GB",
        "max_wal_size = 8GB",
        "max_prepared_transactions = 40",
        "wal_compression = on",
        "wal_buffers = 64kB",
        "autovacuum_naptime = 1s",
    ];
    let initdb = vec![format!("--wal-segsize={}", segment >> 20)];
    Postgres::start(major, &Options { conf: conf.map(str::to_owned).to_vec(), initdb, ..Options::default() })
}

fn position(server: &Postgres) -> Result<Lsn> {
    Ok(server.flush_lsn()?.parse()?)
}

/// A run of WAL out of the server's files.
fn wal(server: &Postgres, from: Lsn, to: Lsn, segment: u64) -> Result<Vec<u8>> {
    let mut wal = Vec::new();
    let mut at = from;
    while at < to {
        let name = segment_file_name(1, at.segment(segment), segment);
        let file = fs::read(server.data_dir().join("pg_wal").join(&name)).with_context(|| name.clone())?;
        let end = to.0.min(at.segment_start(segment).0 + segment);
        wal.extend_from_slice(&file[(at.0 % segment) as usize..(end - at.segment_start(segment).0) as usize]);
        at = Lsn(end);
    }
    Ok(wal)
}

/// What is told of a run that is fed in pieces of the lengths that `next_len` gives.
fn decode(from: Lsn, wal: &[u8], segment: u64, mut next_len: impl FnMut() -> usize) -> Result<Vec<WalEvent>> {
    let mut decoder = WalDecoder::new(from, segment);
    let mut events = Vec::new();
    let mut rest = wal;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(next_len().clamp(1, rest.len()));
        let (first, last) = (decoder.position(), Lsn(decoder.position().0 + now.len() as u64));
        let mut is_inside = true;
        decoder.feed(first, now, &mut |event| {
            let (start, end) = range(&event);
            is_inside &= start < end && first < end && end <= last;
            events.push(event);
        })?;
        ensure!(is_inside, "an event was not told with its last byte");
        rest = later;
    }
    assert_eq!(decoder.position(), Lsn(from.0 + wal.len() as u64));
    Ok(events)
}

fn range(event: &WalEvent) -> (Lsn, Lsn) {
    match event {
        WalEvent::Commit(commit) => (commit.start, commit.end),
        WalEvent::RestorePoint(point) => (point.start, point.end),
    }
}

/// Lengths from 1 to `most`, the same in each run.
fn lengths(most: usize) -> impl FnMut() -> usize {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        1 + (seed % most as u64) as usize
    }
}

#[test]
fn what_is_told_equals_what_the_servers_own_reader_tells() -> Result<()> {
    for (major, segment) in majors().into_iter().zip([16 << 20, 1 << 20, 32 << 20].into_iter().cycle()) {
        let mut server = server(major, segment)?;
        let from = position(&server)?.segment_start(segment);
        workload::everything(&server)?;
        workload::crash_within_a_record(&mut server, from)?;
        workload::prepared(&server, "after the crash")?;
        let to = position(&server)?;

        let wal = wal(&server, from, to, segment)?;
        let events = decode(from, &wal, segment, || 128 << 10)?;
        let told: Vec<String> = events.iter().map(oracle::line).collect();
        let expected = oracle::waldump(&server, from, to)?;
        assert_eq!(told.len(), expected.len(), "PostgreSQL {major}");
        for (told, expected) in told.iter().zip(&expected) {
            assert_eq!(told, expected, "PostgreSQL {major}");
        }
        let count = |word: &str| told.iter().filter(|line| line.contains(word)).count();
        assert!(count(" COMMIT ") > 500, "PostgreSQL {major}: {} commits", count(" COMMIT "));
        assert!(count(" COMMIT_PREPARED ") > 100, "PostgreSQL {major}: {} commits", count(" COMMIT_PREPARED "));
        assert_eq!(count(" RESTORE_POINT "), workload::RESTORE_POINTS.len());
        if major >= 15 {
            let ends: BTreeMap<Lsn, Lsn> = events.iter().map(range).collect();
            assert_eq!(ends, oracle::ends(&server, from, to)?, "PostgreSQL {major}");
        }
        for (most, len) in [(5, 8 << 20), (100, 32 << 20), (9000, wal.len()), (70_000_000, wal.len())] {
            let part = &wal[..len.min(wal.len())];
            let end = Lsn(from.0 + part.len() as u64);
            let expected: Vec<_> = events.iter().filter(|event| range(event).1 <= end).cloned().collect();
            assert!(!expected.is_empty());
            assert!(decode(from, part, segment, lengths(most))? == expected, "PostgreSQL {major}, up to {most}");
        }
    }
    Ok(())
}
