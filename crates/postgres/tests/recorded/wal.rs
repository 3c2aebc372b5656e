//! The record decoder on recorded WAL: whole, in pieces, cut off anywhere, damaged anywhere.

use lifeboat_model::lsn::Lsn;
use lifeboat_postgres::{
    Error,
    wal::{WalDecoder, WalEvent},
};

const SEGMENT: u64 = 1 << 20;
const START: Lsn = Lsn(0x90_0000);
/// Each recording with what `pg_waldump` says of it: start, kind, transaction or name, time.
const RECORDINGS: [(u32, &[u8], [&str; 4]); 3] = [
    (
        15,
        include_bytes!("15-wal.bin"),
        [
            "0/900068 COMMIT 726 2026-11-21 23:57:25.959906 UTC",
            "0/9016C8 COMMIT_PREPARED 727 2026-11-21 23:57:25.986923 UTC",
            "0/901A48 RESTORE_POINT here",
            "0/903E30 COMMIT 729 2026-11-21 23:57:26.016070 UTC",
        ],
    ),
    (
        17,
        include_bytes!("17-wal.bin"),
        [
            "0/900068 COMMIT 740 2026-11-21 23:57:27.612490 UTC",
            "0/9016C8 COMMIT_PREPARED 741 2026-11-21 23:57:27.798568 UTC",
            "0/901A48 RESTORE_POINT here",
            "0/903E30 COMMIT 743 2026-11-21 23:57:27.958407 UTC",
        ],
    ),
    (
        18,
        include_bytes!("18-wal.bin"),
        [
            "0/900068 COMMIT 754 2026-11-21 23:57:30.120386 UTC",
            "0/9016D0 COMMIT_PREPARED 755 2026-11-21 23:57:30.293537 UTC",
            "0/901A58 RESTORE_POINT here",
            "0/903E40 COMMIT 757 2026-11-21 23:57:30.444812 UTC",
        ],
    ),
];

/// What is told until the end or the error.
fn decode(start: Lsn, pieces: &[&[u8]]) -> (Vec<WalEvent>, Option<Error>) {
    let mut decoder = WalDecoder::new(start, SEGMENT);
    let mut events = Vec::new();
    for piece in pieces {
        if let Err(error) = decoder.feed(decoder.position(), piece, &mut |event| events.push(event)) {
            return (events, Some(error));
        }
    }
    (events, None)
}

fn whole(wal: &[u8]) -> Vec<WalEvent> {
    let (events, error) = decode(START, &[wal]);
    assert!(error.is_none(), "{error:?}");
    events
}

fn range(event: &WalEvent) -> (Lsn, Lsn) {
    match event {
        WalEvent::Commit(commit) => (commit.start, commit.end),
        WalEvent::RestorePoint(point) => (point.start, point.end),
    }
}

fn line(event: &WalEvent) -> String {
    match event {
        WalEvent::Commit(commit) => {
            let word = if commit.prepared { "COMMIT_PREPARED" } else { "COMMIT" };
            let time = commit.time.strftime("%Y-%m-%d %H:%M:%S.%6f UTC");
            format!("{} {word} {} {time}", commit.start, commit.xid)
        }
        WalEvent::RestorePoint(point) => format!("{} RESTORE_POINT {}", point.start, point.name),
    }
}

#[test]
fn what_the_servers_reader_tells() {
    for (major, wal, expected) in RECORDINGS {
        let events = whole(wal);
        assert_eq!(events.iter().map(line).collect::<Vec<_>>(), expected, "{major}");
        let mut decoder = WalDecoder::new(START, SEGMENT);
        decoder.feed(START, wal, &mut |_| {}).expect("as above");
        assert_eq!(decoder.major(), Some(major));
        assert_eq!(decoder.position(), Lsn(START.0 + wal.len() as u64));
    }
}

#[test]
fn pieces_make_no_difference() {
    for (major, wal, _) in RECORDINGS {
        let events = whole(wal);
        for at in 0..wal.len() {
            let (now, later) = wal.split_at(at);
            assert!(decode(START, &[now, later]).0 == events, "{major} at {at}");
            // And what is told of the first part is what ends there.
            let end = Lsn(START.0 + at as u64);
            let (told, error) = decode(START, &[now]);
            assert!(error.is_none());
            assert!(told.iter().eq(events.iter().filter(|event| range(event).1 <= end)), "{major} to {at}");
        }
        for len in [1, 3, 23, 24, 25, 4096] {
            assert!(decode(START, &wal.chunks(len).collect::<Vec<_>>()).0 == events, "{major} by {len}");
        }
    }
}

#[test]
fn it_begins_where_a_record_or_page_does() {
    for (major, wal, _) in RECORDINGS {
        let events = whole(wal);
        let pages = [START, Lsn(START.0 + 8192)];
        for start in events.iter().map(|event| range(event).0).chain(pages) {
            let part = &wal[(start.0 - START.0) as usize..];
            let (told, error) = decode(start, &[part]);
            let is_later = |event: &&WalEvent| range(event).0 >= start;
            assert!(
                error.is_none() && told.iter().eq(events.iter().filter(is_later)),
                "{major} from {start}: {error:?}"
            );
        }
    }
}

#[test]
fn a_position_within_a_record_is_refused() {
    for (major, wal, _) in RECORDINGS {
        let events = whole(wal);
        for at in (1..wal.len()).filter(|at| at % 8192 != 0) {
            let start = Lsn(START.0 + at as u64);
            let (told, error) = decode(start, &[&wal[at..]]);
            assert!(told.iter().all(|event| events.contains(event)), "{major} from {start}");
            if at % 8 != 0 || at % 8192 < 24 {
                assert!(matches!(error, Some(Error::WalCorrupt { lsn, .. }) if lsn == start), "{major} from {start}");
            }
        }
    }
}

#[test]
fn no_damage_makes_up_a_commit_or_hides_one() {
    for (major, wal, _) in RECORDINGS {
        let events = whole(wal);
        let mut damaged = wal.to_vec();
        for at in 0..wal.len() {
            for bits in [0x01, 0x80, 0xff] {
                damaged[at] ^= bits;
                let (told, error) = decode(START, &[&damaged]);
                // Nothing is made up, nothing is left out but what comes behind an error or is still awaited.
                assert!(events.starts_with(&told), "{major}: {bits:#x} at {at}");
                let is_awaited = |event: &WalEvent| range(event).0.0 <= START.0 + at as u64;
                if error.is_none() {
                    assert!(events[told.len()..].iter().all(is_awaited), "{major}: {bits:#x} at {at}");
                }
                damaged[at] ^= bits;
            }
        }
    }
}
