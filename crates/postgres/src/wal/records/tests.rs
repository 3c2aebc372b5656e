//! WAL made here: forms that no server at hand writes, and everything that a crash leaves.

use std::collections::BTreeSet;

use super::*;

const SEGMENT: u64 = 1 << 20;
/// 2026-11-22 00:00:00 UTC, in PostgreSQL's microseconds.
const TIME: i64 = 848_620_800_000_000;

/// Writes WAL as a server does.
struct Writer {
    magic: u16,
    start: u64,
    bytes: Vec<u8>,
    previous: u64,
    /// A flag for the next page header.
    flag: u16,
}

impl Writer {
    fn new(magic: u16, start: u64) -> Writer {
        Writer { magic, start, bytes: Vec::new(), previous: start.saturating_sub(40), flag: 0 }
    }

    fn position(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn page(&mut self, remaining: u32) {
        let (at, is_first) = (self.position(), self.position().is_multiple_of(SEGMENT));
        let flags = u16::from(remaining > 0) | if is_first { 2 } else { 0 } | std::mem::take(&mut self.flag);
        self.bytes.extend(self.magic.to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(7_u32.to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        self.bytes.extend(remaining.to_le_bytes());
        self.bytes.extend([0; 4]);
        if is_first {
            self.bytes.extend(42_u64.to_le_bytes());
            self.bytes.extend((SEGMENT as u32).to_le_bytes());
            self.bytes.extend((PAGE as u32).to_le_bytes());
        }
    }

    /// Writes a record and gives where it begins.
    fn record(&mut self, manager: u8, info: u8, xid: u32, body: &[u8]) -> u64 {
        if self.position().is_multiple_of(PAGE) {
            self.page(0);
        }
        let start = self.position();
        let mut record = (RECORD_HEADER as u32 + body.len() as u32).to_le_bytes().to_vec();
        record.extend(xid.to_le_bytes());
        record.extend(self.previous.to_le_bytes());
        record.extend([info, manager, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(body), &record);
        record.extend(crc.to_le_bytes());
        record.extend(body);
        self.previous = start;
        for (at, byte) in record.iter().enumerate() {
            if self.position().is_multiple_of(PAGE) {
                self.page((record.len() - at) as u32);
            }
            self.bytes.push(*byte);
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        start
    }

    fn filler(&mut self, len: usize) -> u64 {
        self.record(10, 0, 5, &vec![0xa5; len])
    }

    /// As many bytes as let the next record begin so many bytes before the end of its page.
    fn fill_to(&mut self, before_end: u64) {
        if self.position().is_multiple_of(PAGE) {
            self.page(0);
        }
        let room = PAGE - self.position() % PAGE - before_end;
        assert!(room >= RECORD_HEADER as u64, "no room for a record");
        self.filler(room as usize - RECORD_HEADER);
    }

    fn commit(&mut self, xid: u32) -> u64 {
        self.record(1, 0, xid, &short(&TIME.to_le_bytes()))
    }

    fn switch(&mut self) {
        self.record(0, 0x40, 0, &[]);
        let end = self.position().next_multiple_of(SEGMENT);
        self.bytes.resize((end - self.start) as usize, 0);
    }
}

/// Main data behind its short header.
fn short(data: &[u8]) -> Vec<u8> {
    [&[SHORT_DATA, data.len() as u8], data].concat()
}

fn long(data: &[u8]) -> Vec<u8> {
    [&[LONG_DATA][..], &(data.len() as u32).to_le_bytes(), data].concat()
}

const SHORT_DATA: u8 = 255;
const LONG_DATA: u8 = 254;

fn decode(start: u64, wal: &[u8], piece: usize) -> (Vec<WalEvent>, Result<()>) {
    let mut decoder = WalDecoder::new(Lsn(start), SEGMENT);
    let mut events = Vec::new();
    for piece in wal.chunks(piece) {
        if let Err(error) = decoder.feed(decoder.position(), piece, &mut |event| events.push(event)) {
            assert!(decoder.feed(decoder.position(), piece, &mut |_| panic!("an error is final")).is_err());
            return (events, Err(error));
        }
    }
    (events, Ok(()))
}

/// What is told, the same in pieces of any length.
fn told(start: u64, wal: &[u8]) -> Vec<WalEvent> {
    let (events, ended) = decode(start, wal, usize::MAX);
    ended.unwrap();
    for piece in [1, 2, 7, 8, 24, 40, 1000, 8191, 8192, 8193] {
        assert!(decode(start, wal, piece).0 == events, "in pieces of {piece}");
    }
    events
}

fn xids(events: &[WalEvent]) -> Vec<u32> {
    let xid = |event: &WalEvent| match event {
        WalEvent::Commit(commit) => Some(commit.xid),
        WalEvent::RestorePoint(_) => None,
    };
    events.iter().filter_map(xid).collect()
}

fn corrupt(ended: Result<()>) -> (Lsn, String) {
    match ended {
        Err(Error::WalCorrupt { lsn, reason }) => (lsn, reason),
        other => panic!("not corrupt: {other:?}"),
    }
}

const MAGIC_17: u16 = 0xd116;

#[test]
fn a_commit_wherever_it_lies_on_a_page() {
    for before_end in (8..120).step_by(8) {
        let mut wal = Writer::new(MAGIC_17, 3 * SEGMENT);
        wal.fill_to(before_end);
        let start = wal.commit(100);
        let end = wal.position();
        wal.commit(101);
        let events = told(3 * SEGMENT, &wal.bytes);
        assert_eq!(xids(&events), [100, 101], "{before_end}");
        let time = "2026-11-22T00:00:00Z".parse().unwrap();
        let commit = Commit { start: Lsn(start), end: Lsn(end), xid: 100, time, prepared: false };
        assert_eq!(events[0], WalEvent::Commit(commit));
    }
}

#[test]
fn prepared_commits_of_each_version() {
    for (magic, item) in [(0xd106_u16, 0_usize), (0xd10d, 0), (0xd110, 12), (0xd113, 12), (0xd116, 12), (0xd118, 16)] {
        let has_statistics = item > 0;
        for with in 0..64_u32 {
            let has = |bit: u32| with & 1 << bit != 0;
            let flags = [(has(0), 1), (has(1), 2), (has(2), 4), (has(3) && has_statistics, 256), (has(4), 8)];
            let flags = flags.iter().filter(|(has, _)| *has).map(|(_, flag)| flag).sum::<u32>();
            let flags = flags | 16 | if has(5) { 32 | 128 } else { 0 };
            let mut data = [&TIME.to_le_bytes()[..], &flags.to_le_bytes()].concat();
            let mut list = |flag: u32, count: u32, item: usize| {
                if flags & flag != 0 {
                    data.extend(count.to_le_bytes());
                    data.extend(vec![1; item * count as usize]);
                }
            };
            if flags & 1 != 0 {
                list(1, 0x0101_0101, 0);
                list(1, 0x0101_0101, 0);
            }
            list(2, 3, 4);
            list(4, 5, 12);
            list(256, 7, item);
            list(8, 900, 16);
            data.extend(777_u32.to_le_bytes());
            if has(5) {
                data.extend(b"a name\0");
                data.extend([9; 16]);
            }
            let mut wal = Writer::new(magic, SEGMENT);
            let start = wal.record(1, 0x30 | 0x80, 0, &long(&data));
            wal.commit(5);
            let events = told(SEGMENT, &wal.bytes);
            assert_eq!(xids(&events), [777, 5], "{magic:x} {with:b}");
            assert!(matches!(events[0], WalEvent::Commit(Commit { prepared: true, .. })));
            // Begun right there, nothing tells the version in time; nor is it needed.
            let from = (start - SEGMENT) as usize;
            assert_eq!(xids(&told(start, &wal.bytes[from..])), [777, 5], "{magic:x} {with:b}");
        }
    }
}

/// The parts that stand before the main data, by the rules of the format.
#[test]
fn main_data_behind_everything_else() {
    let place = [0_u8; 16];
    let image = |info: u8, has_hole_length: bool| {
        // Flags, length of data, length of image, offset of its hole, its info, the length of its hole.
        let header = [&[0, 0x10, 5, 0, 9, 0, 1, 0, info][..], if has_hole_length { &[1, 0] } else { &[] }].concat();
        ([&header, &place[..]].concat(), vec![3_u8; 14])
    };
    let cases: Vec<(u16, Vec<u8>, Vec<u8>)> = vec![
        (MAGIC_17, vec![253, 1, 0], vec![]),
        (MAGIC_17, vec![253, 1, 0, 252, 1, 2, 3, 4], vec![]),
        (MAGIC_17, [&[32, 0x20, 5, 0][..], &place].concat(), vec![3; 5]),
        (MAGIC_17, [&[0, 0x20, 5, 0][..], &place, &[1, 0xa0, 2, 0, 1, 1, 1, 1]].concat(), vec![3; 7]),
        // An image, whole; with a hole; with a hole and compressed, where the hole's length follows.
        (MAGIC_17, image(0x02, false).0, image(0, false).1),
        (MAGIC_17, image(0x03, false).0, image(0, false).1),
        (MAGIC_17, image(0x06, false).0, image(0, false).1),
        (MAGIC_17, image(0x07, true).0, image(0, false).1),
        (MAGIC_17, image(0x13, true).0, image(0, false).1),
        // Until 14 the bits meant something else.
        (0xd10d, image(0x05, false).0, image(0, false).1),
        (0xd10d, image(0x07, true).0, image(0, false).1),
    ];
    for (number, (magic, headers, blocks)) in cases.into_iter().enumerate() {
        for is_long in [false, true] {
            let length = if is_long { vec![LONG_DATA, 8, 0, 0, 0] } else { vec![SHORT_DATA, 8] };
            let body = [&headers, &length, &blocks, &TIME.to_le_bytes()[..]].concat();
            let mut wal = Writer::new(magic, 0x4000 + SEGMENT);
            wal.record(1, 0, 50, &body);
            let events = told(0x4000 + SEGMENT, &wal.bytes);
            let time = "2026-11-22T00:00:00Z".parse().unwrap();
            assert!(
                matches!(events[..], [WalEvent::Commit(Commit { xid: 50, time: told, .. })] if told == time),
                "case {number}: {events:?}"
            );
        }
    }
}

#[test]
fn restore_points_have_names() {
    let mut wal = Writer::new(0xd118, 0);
    let data = |name: &[u8]| {
        let mut data = TIME.to_le_bytes().to_vec();
        data.extend(name);
        data.resize(72, 0);
        short(&data)
    };
    wal.record(0, 0x70, 0, &data("caffè".as_bytes()));
    wal.fill_to(40);
    wal.record(0, 0x70, 0, &data(&[b'x'; 64]));
    wal.record(0, 0x70, 0, &data(&[0xff, b'y']));
    let names: Vec<String> = told(0, &wal.bytes)
        .into_iter()
        .map(|event| match event {
            WalEvent::RestorePoint(point) => point.name,
            WalEvent::Commit(commit) => panic!("{commit:?}"),
        })
        .collect();
    assert_eq!(names, ["caffè".to_owned(), "x".repeat(64), "\u{fffd}y".to_owned()]);
}

#[test]
fn what_began_before_is_stepped_over() {
    let mut wal = Writer::new(MAGIC_17, SEGMENT);
    wal.filler(3 * SEGMENT as usize + 5);
    wal.commit(8);
    for page in (PAGE..3 * SEGMENT).step_by(64 * PAGE as usize) {
        assert_eq!(xids(&told(SEGMENT + page, &wal.bytes[page as usize..])), [8]);
    }
}

#[test]
fn a_segment_ends_early() {
    let mut wal = Writer::new(MAGIC_17, 5 * SEGMENT);
    wal.commit(1);
    wal.switch();
    wal.switch();
    wal.commit(2);
    // The switch may be the last thing that fits.
    let room = 6 * PAGE;
    while wal.position() % SEGMENT < SEGMENT - room {
        wal.filler(1000);
    }
    while SEGMENT - wal.position() % SEGMENT > PAGE {
        wal.filler(100);
    }
    wal.fill_to(24);
    wal.switch();
    wal.commit(3);
    assert_eq!(xids(&told(5 * SEGMENT, &wal.bytes)), [1, 2, 3]);
}

/// The server fell within a record; when it was up again it wrote on from the page that it had not written.
#[test]
fn a_record_stays_half_for_ever() {
    for before_end in [8, 16, 24, 32, 64] {
        for pages in 1..4 {
            let mut wal = Writer::new(MAGIC_17, SEGMENT);
            wal.commit(1);
            wal.fill_to(before_end);
            let previous = wal.previous;
            // A commit too, which must not be told.
            let lost = wal.record(1, 0, 2, &[&short(&TIME.to_le_bytes())[..], &vec![0; 5 * PAGE as usize]].concat());
            let end = (lost + 1).next_multiple_of(PAGE) + (pages - 1) * PAGE;
            wal.bytes.truncate((end - SEGMENT) as usize);
            (wal.previous, wal.flag) = (previous, 8);
            let at = wal.position();
            wal.record(0, 0xd0, 0, &short(&[0; 16]));
            wal.commit(3);
            assert_eq!(xids(&told(SEGMENT, &wal.bytes)), [1, 3], "{before_end} {pages}");
            assert_eq!(xids(&told(at, &wal.bytes[(at - SEGMENT) as usize..])), [3]);

            // Without the word of the server it is damage.
            wal.bytes[(at - SEGMENT) as usize + 2] &= !8;
            let (events, ended) = decode(SEGMENT, &wal.bytes, usize::MAX);
            assert_eq!(xids(&events), [1]);
            assert_eq!(corrupt(ended).0, Lsn(lost));
        }
    }
}

#[test]
fn damage_is_told_with_its_place() {
    let check = |at: usize, with: &[u8], words: &str| {
        let mut wal = Writer::new(MAGIC_17, SEGMENT);
        wal.commit(1);
        wal.filler(2 * PAGE as usize);
        wal.commit(2);
        wal.bytes[at..at + with.len()].copy_from_slice(with);
        let reasons: BTreeSet<_> = [1, 100, usize::MAX]
            .into_iter()
            .map(|piece| {
                let (lsn, reason) = corrupt(decode(SEGMENT, &wal.bytes, piece).1);
                assert!(reason.contains(words), "{lsn}: {reason}");
                (lsn, reason)
            })
            .collect();
        assert_eq!(reasons.len(), 1, "{reasons:?}");
    };
    check(0, &[0, 0], "no page header of PostgreSQL 13 to 18 (magic 0000)");
    check(2, &[0x10], "impossible flags");
    check(2, &[0], "wrong length for its place");
    check(8, &[1], "is that of 0/100001");
    check(32, &[1], "segment has");
    check(36, &[1], "pages of");
    check(40, &[0, 0], "its length is zero");
    check(40, &[23], "its length would be 23");
    check(43, &[0x7f], "its length would be");
    check(48, &[0xff; 8], "names FFFFFFFF/FFFFFFFF as the one before it");
    check(57, &[22], "unknown kind (22)");
    check(65, &[1], "checksum is wrong");
    let second = 80;
    check(second + 8, &[1], "names 0/100001 as the one before it, not 0/100028");
    check(second + 30, &[1], "checksum is wrong");
    check(PAGE as usize, &[0x10], "another version");
    check(PAGE as usize + 2, &[0], "is not continued on the page at 0/102000");
    check(PAGE as usize + 2, &[9], "impossible flags");
    check(PAGE as usize + 4, &[6], "timeline 6 behind one of 7");
    check(PAGE as usize + 16, &[1], "bytes of it are said to follow");
}

#[test]
fn what_cannot_be_begun_at_is_refused() {
    let mut wal = Writer::new(MAGIC_17, SEGMENT);
    wal.commit(1);
    let refused = |start: u64, segment: u64, bytes: &[u8]| {
        let mut decoder = WalDecoder::new(Lsn(start), segment);
        corrupt(decoder.feed(Lsn(start), bytes, &mut |_| {}))
    };
    for at in [1, 8, 16, 23, 41, 44] {
        assert_eq!(refused(SEGMENT + at, SEGMENT, &wal.bytes[at as usize..]).0, Lsn(SEGMENT + at));
    }
    for size in [0, 1, 8192, SEGMENT + 1, 2 << 30, u64::MAX] {
        assert!(refused(SEGMENT, size, &wal.bytes).1.contains("not possible"));
    }
    assert!(refused(u64::MAX - 100, SEGMENT, &wal.bytes).1.contains("no positions"));

    let mut decoder = WalDecoder::new(Lsn(SEGMENT), SEGMENT);
    let gap = decoder.feed(Lsn(SEGMENT + 8), &wal.bytes, &mut |_| {});
    assert!(matches!(gap, Err(Error::WalGap { expected: Lsn(SEGMENT), .. })));
    decoder.feed(Lsn(SEGMENT), &wal.bytes, &mut |_| {}).unwrap();
    assert_eq!(decoder.position(), Lsn(wal.position()));
}

/// Anything at all is either read or refused.
#[test]
fn noise_never_panics() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut wal = Writer::new(0xd118, SEGMENT);
    for xid in 1..400 {
        match random() % 4 {
            0 => wal.filler((random() % 20_000) as usize),
            1 => wal.record(1, 0x30 | 0x80, 0, &(0..random() % 300).map(|_| random() as u8).collect::<Vec<_>>()),
            2 => wal.record(0, 0x70, 0, &(0..random() % 100).map(|_| random() as u8).collect::<Vec<_>>()),
            _ => wal.commit(xid),
        };
    }
    for _ in 0..400 {
        let mut damaged = wal.bytes.clone();
        for _ in 0..random() % 50 {
            let at = random() as usize % damaged.len();
            damaged[at] = random() as u8;
        }
        let from = random() % (damaged.len() as u64 / 8);
        let from = if random().is_multiple_of(2) { from * 8 } else { 0 };
        let _ = decode(SEGMENT + from, &damaged[from as usize..], 1 + (random() % 9000) as usize);
        let noise: Vec<u8> = (0..10_000).map(|_| random() as u8).collect();
        let _ = decode(random() & !7, &noise, 1 + (random() % 9000) as usize);
    }
}
