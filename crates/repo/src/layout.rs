//! Where objects lie. One place makes every key, so that nothing else builds one by hand.

use jiff::Timestamp;
use lifeboat_model::{
    id::{Instance, ObjectId, PointId, Tenant},
    lsn::Lsn,
    time,
};
use lifeboat_store::Key;

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

    /// `name` is checked: it comes from outside.
    pub fn evidence(tenant: &Tenant, name: &str) -> lifeboat_store::Result<Key> {
        Key::new(format!("{tenant}/evidence/{name}"))
    }

    pub fn lease(&self, ticket_ms: u64, session: ObjectId, renewal: u32) -> Key {
        key(format!("{}{ticket_ms:016x}-{session}-{renewal:08x}", self.prefix("lease")))
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
}
