//! Where objects lie. One place makes every key, so that nothing else builds one by hand.

use jiff::Timestamp;
use lifeboat_model::{
    id::{Instance, ObjectId, PointId, Tenant},
    lsn::Lsn,
    time,
};
use lifeboat_store::Key;

use crate::{
    document::{DocumentKind, Position},
    wal::{WalName, WalObjectKind},
};

/// The key of the object that makes a prefix a repository.
pub(crate) const REPOSITORY: &str = "lifeboat.json";

/// The keys of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    tenant: Tenant,
    instance: Instance,
}

fn key(text: String) -> Key {
    Key::new(text).expect("names and ids hold only characters that keys may hold")
}

impl Layout {
    pub fn new(tenant: Tenant, instance: Instance) -> Self {
        Self { tenant, instance }
    }

    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The prefix of a kind of object: `packs`, `index`, `trees`, `points`, `wal`, `keys`, `lease`.
    pub fn prefix(&self, kind: &str) -> String {
        format!("{}/{}/{kind}/", self.tenant, self.instance)
    }

    pub fn chunk_key(&self, id: ObjectId) -> Key {
        key(format!("{}{id}", self.prefix("keys")))
    }

    pub fn pack(&self, id: ObjectId) -> Key {
        let text = id.to_string();
        key(format!("{}{}/{text}", self.prefix("packs"), &text[..2]))
    }

    pub fn index(&self, id: ObjectId) -> Key {
        key(format!("{}{id}", self.prefix("index")))
    }

    pub fn tree(&self, id: ObjectId) -> Key {
        key(format!("{}{id}", self.prefix("trees")))
    }

    pub fn point(&self, time: Timestamp, id: PointId) -> Key {
        key(format!("{}{}-{id}", self.prefix("points"), time::compact(time)))
    }

    pub fn wal(&self, system_id: u64, timeline: u32, first: Lsn, last: Lsn, id: ObjectId) -> Key {
        key(format!("{}{system_id}/{timeline:08x}/{:016x}-{:016x}-{id}", self.prefix("wal"), first.0, last.0))
    }

    /// The prefix of all that belongs to the instance.
    pub fn root(&self) -> String {
        format!("{}/{}/", self.tenant, self.instance)
    }

    /// The system id in the key of a point's own slice; none where it is none.
    pub fn point_wal_system(&self, key: &Key) -> Option<u64> {
        let mut parts = key.as_str().strip_prefix(&self.prefix("wal"))?.split('/');
        let system_id = parts.next()?.parse().ok()?;
        let timeline = u32::from_str_radix(parts.next()?, 16).ok()?;
        let (first, last, id) = lsns_and_id(parts.next()?)?;
        (self.wal(system_id, timeline, first, last, id) == *key).then_some(system_id)
    }

    /// The prefix of a stream's slices or segments.
    pub fn wal_folder(&self, kind: WalObjectKind, system_id: u64, timeline: u32) -> String {
        format!("{}{system_id}/{timeline:08x}/{}/", self.prefix("wal"), kind.folder())
    }

    pub fn wal_object(&self, name: &WalName) -> Key {
        let WalName { kind, system_id, timeline, first, last, id } = name;
        key(format!("{}{:016x}-{:016x}-{id}", self.wal_folder(*kind, *system_id, *timeline), first.0, last.0))
    }

    /// All that the key of a slice or segment tells; none where it is none, or not one that could have been written.
    pub fn wal_name(&self, key: &Key) -> Option<WalName> {
        let mut parts = key.as_str().strip_prefix(&self.prefix("wal"))?.split('/');
        let system_id = parts.next()?.parse().ok()?;
        let timeline = u32::from_str_radix(parts.next()?, 16).ok()?;
        let kind = WalObjectKind::of_folder(parts.next()?)?;
        let (first, last, id) = lsns_and_id(parts.next()?)?;
        let name = WalName { kind, system_id, timeline, first, last, id };
        (self.wal_object(&name) == *key && name.is_possible()).then_some(name)
    }

    pub fn document(&self, kind: DocumentKind, position: Position, id: ObjectId) -> Key {
        let Position { system_id, timeline, lsn } = position;
        key(format!("{}{system_id}-{timeline:08x}-{:016x}-{id}", self.prefix(kind.folder()), lsn.0))
    }

    /// All that the key of a document tells.
    pub fn document_parts(&self, kind: DocumentKind, key: &Key) -> Option<(Position, ObjectId)> {
        let mut parts = key.as_str().strip_prefix(&self.prefix(kind.folder()))?.split('-');
        let system_id = parts.next()?.parse().ok()?;
        let timeline = u32::from_str_radix(parts.next()?, 16).ok()?;
        let lsn = Lsn(u64::from_str_radix(parts.next()?, 16).ok()?);
        let (position, id) = (Position { system_id, timeline, lsn }, parts.next()?.parse().ok()?);
        (self.document(kind, position, id) == *key).then_some((position, id))
    }

    /// `name` is checked: it comes from outside.
    pub fn evidence(tenant: &Tenant, name: &str) -> lifeboat_store::Result<Key> {
        Key::new(format!("{}{name}", evidence_root(tenant)))
    }
}

/// What all evidence of a tenant lies below.
pub(crate) fn evidence_root(tenant: &Tenant) -> String {
    format!("{tenant}/evidence/")
}

/// What all journals of a tenant lie below. No instance is called so: names have no `_`.
pub(crate) fn journals_root(tenant: &Tenant) -> String {
    format!("{tenant}/_journals/")
}

/// Whether a release writes such a key below the journals: `runs/<id>/<number>.json`, `incidents/<id>/<number>.json`.
pub(crate) fn is_journal(tenant: &Tenant, key: &Key) -> bool {
    let Some(name) = key.as_str().strip_prefix(&journals_root(tenant)) else { return false };
    let id = |text: &str| text.len() == 16 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let number = |text: &str| text.len() == 8 && text.bytes().all(|c| c.is_ascii_digit());
    match name.split('/').collect::<Vec<_>>().as_slice() {
        ["runs" | "incidents", run, line] => id(run) && line.strip_suffix(".json").is_some_and(number),
        _ => false,
    }
}

/// The key of a lease object below its prefix.
pub(crate) fn lease(prefix: &str, ticket_ms: u64, session: ObjectId, renewal: u32) -> Key {
    key(format!("{prefix}{ticket_ms:016x}-{session}-{renewal:08x}"))
}

/// The prefix of the leases for the lead over a tenant's schedules. No instance is called so: names have no `_`.
pub(crate) fn lead(tenant: &Tenant) -> String {
    format!("{tenant}/_daemon/lease/")
}

/// Whether a release writes such a key below `<tenant>/evidence/`, as far as that can be told: statements and documents of
/// all kinds directly in it, and of the ledger what has its place there.
pub(crate) fn is_evidence(tenant: &Tenant, key: &Key) -> bool {
    let Some(name) = key.as_str().strip_prefix(&format!("{tenant}/evidence/")) else { return false };
    let Some(name) = name.strip_prefix("ledger/") else { return true };
    let number = |text: &str| text.len() >= 12 && text.bytes().all(|c| c.is_ascii_digit());
    let digits = |text: &str| text.len() == 16 && text.bytes().all(|c| c.is_ascii_hexdigit());
    let group = |text: &str| text.len() == 3 && text.bytes().all(|c| c.is_ascii_digit());
    match name.split('/').collect::<Vec<_>>().as_slice() {
        ["entries", index] => number(index),
        ["checkpoints", size] => {
            number(size) || size.split_once('-').is_some_and(|(size, digest)| number(size) && digits(digest))
        }
        ["timestamps", size] => size.strip_suffix(".tsr").is_some_and(number),
        ["tile", level, upper @ .., last] => {
            let level = *level == "entries" || level.parse::<u32>().is_ok_and(|level| level < 64);
            level && group(last) && upper.iter().all(|text| text.strip_prefix('x').is_some_and(group))
        }
        _ => false,
    }
}

/// The id at the end of a pack's, index's, tree's or key object's key.
pub(crate) fn last_id(key: &Key) -> Option<ObjectId> {
    key.as_str().rsplit('/').next()?.parse().ok()
}

/// Time and id in a point's key.
pub(crate) fn point_parts(key: &Key) -> Option<(Timestamp, PointId)> {
    let (time, id) = key.as_str().rsplit('/').next()?.split_once('-')?;
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", time).ok()?;
    let time = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some((time, id.parse().ok()?))
}

/// First position, end position (exclusive) and id in a slice's key.
pub(crate) fn wal_parts(key: &Key) -> Option<(Lsn, Lsn)> {
    let mut parts = key.as_str().rsplit('/').next()?.split('-');
    let mut lsn = || u64::from_str_radix(parts.next()?, 16).ok().map(Lsn);
    Some((lsn()?, lsn()?))
}

fn lsns_and_id(name: &str) -> Option<(Lsn, Lsn, ObjectId)> {
    let mut parts = name.split('-');
    let mut lsn = || u64::from_str_radix(parts.next()?, 16).ok().map(Lsn);
    Some((lsn()?, lsn()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
        let layout = Layout::new("hospital".parse().unwrap(), "clinic".parse().unwrap());
        let id = ObjectId([0xab; 16]);
        assert_eq!(layout.pack(id).as_str(), format!("hospital/clinic/packs/ab/{id}"));
        assert_eq!(last_id(&layout.pack(id)), Some(id));
        let time: Timestamp = "2026-11-21T20:07:32Z".parse().unwrap();
        let point = layout.point(time, PointId([1; 8]));
        assert_eq!(point.as_str(), "hospital/clinic/points/20261121T200732Z-0101010101010101");
        assert_eq!(point_parts(&point), Some((time, PointId([1; 8]))));
        let wal = layout.wal(7, 1, Lsn(0x1000), Lsn(0x2000), id);
        assert!(wal.as_str().contains("/wal/7/00000001/0000000000001000-0000000000002000-"));
        assert_eq!(wal_parts(&wal), Some((Lsn(0x1000), Lsn(0x2000))));
        assert_eq!(point_parts(&layout.index(id)), None);
    }

    #[test]
    fn what_belongs_to_a_ledger_is_known() {
        let tenant: Tenant = "hospital".parse().unwrap();
        let known = |name: &str| is_evidence(&tenant, &Key::new(format!("hospital/evidence/{name}")).unwrap());
        for name in [
            "20261121T200732Z-clinic-drill-0606060606060606.dsse.json",
            "ledger/entries/000000000007",
            "ledger/checkpoints/000000000008",
            "ledger/checkpoints/000000000008-0123456789abcdef",
            "ledger/tile/0/000",
            "ledger/tile/entries/x001/x234/067",
        ] {
            assert!(known(name), "{name}");
        }
        for name in [
            "ledger/entries/7",
            "ledger/entries/00000000000a",
            "ledger/entries/000000000007/x",
            "ledger/checkpoints/000000000008-01",
            "ledger/tile/64/000",
            "ledger/tile/0/0",
            "ledger/tile/0/001/000",
            "ledger/notes",
        ] {
            assert!(!known(name), "{name}");
        }
        assert!(!is_evidence(&"other".parse().unwrap(), &Key::new("hospital/evidence/x").unwrap()));
    }

    #[test]
    fn what_belongs_to_a_journal_is_known() {
        let tenant: Tenant = "hospital".parse().unwrap();
        let known = |name: &str| is_journal(&tenant, &Key::new(format!("hospital/_journals/{name}")).unwrap());
        assert!(known("runs/0606060606060606/00000001.json") && known("incidents/06060606060606ab/12345678.json"));
        for name in [
            "runs/0606060606060606/1.json",
            "runs/0606060606060606/00000001",
            "runs/0606060606060606/0000000a.json",
            "runs/060606060606060G/00000001.json",
            "runs/06/00000001.json",
            "other/0606060606060606/00000001.json",
            "runs/00000001.json",
        ] {
            assert!(!known(name), "{name}");
        }
        assert!("_journals".parse::<Instance>().is_err(), "no instance lies there");
    }

    #[test]
    fn wal_and_document_keys_read_back_exactly_or_not_at_all() {
        let layout = Layout::new("hospital".parse().unwrap(), "clinic".parse().unwrap());
        let (id, segment) = (ObjectId([0xab; 16]), 16 << 20);
        let (first, last) = (Lsn(5 * segment), Lsn(6 * segment));
        let name = WalName { kind: WalObjectKind::Segment, system_id: u64::MAX, timeline: 0x1a, first, last, id };
        let text =
            format!("hospital/clinic/wal/18446744073709551615/0000001a/segment/0000000005000000-0000000006000000-{id}");
        assert_eq!(layout.wal_object(&name).as_str(), text);
        let read = |text: &str| layout.wal_name(&Key::new(text).unwrap());
        assert_eq!(read(&text), Some(name));
        assert!(read(&text.replace("segment", "slice")).is_some(), "a slice may be as long");
        let bad = [
            text.replace("clinic", "other"),
            text.replace("segment", "piece"),
            text.replace("0000001a", "1a"),
            text.replace("0000001a", "0000001A"),
            text.replace("18446744073709551615", "018446744073709551615"),
            text.replace("-0000000006000000", "-0000000005000000"),
            text.replace("-0000000006000000", "-0000000005800001"),
            text.replace("0000000005000000-", "0000000005000010-"),
            text.replace("0000000005000000-0000000006000000", "0000000000000000-0000000008000000"),
            format!("{text}-1"),
            format!("{text}/1"),
            text.replace(&id.to_string(), "abcd"),
        ];
        bad.iter().for_each(|text| assert_eq!(read(text), None, "{text}"));

        let position = Position { system_id: 7, timeline: 2, lsn: Lsn(0x1_0000_0028) };
        for kind in DocumentKind::ALL {
            let key = layout.document(kind, position, id);
            assert_eq!(layout.document_parts(kind, &key), Some((position, id)), "{key}");
        }
        let key = layout.document(DocumentKind::RestorePoint, position, id);
        assert_eq!(key.as_str(), format!("hospital/clinic/marks/7-00000002-0000000100000028-{id}"));
        assert_eq!(layout.document_parts(DocumentKind::Witness, &key), None);
    }
}
