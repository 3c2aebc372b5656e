//! A snapshot as `pg_current_snapshot()` tells it, and transaction ids of 32 bits as WAL has them.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// Which transactions are visible. Only ids of top-level transactions are in it, as in commit records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    in_progress: BTreeSet<u64>,
}

/// The text is not `xmin:xmax:xid,xid…`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a snapshot: expected the form 10:20:10,14")]
pub struct SnapshotError(String);

impl Snapshot {
    /// Whether a transaction that has committed is visible.
    pub fn shows(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && !self.in_progress.contains(&xid))
    }

    /// The whole id of a transaction that ran at about the time of this snapshot: of those with these lower 32 bits, the
    /// nearest to the next id. A server never has transactions further apart than 2^31.
    pub fn whole(&self, xid: u32) -> u64 {
        const EPOCH: u64 = 1 << 32;
        let same_epoch = (self.xmax & !(EPOCH - 1)) | u64::from(xid);
        if same_epoch > self.xmax + EPOCH / 2 {
            // Before the first wrap-around there is no epoch before.
            same_epoch.checked_sub(EPOCH).unwrap_or(same_epoch)
        } else if same_epoch + EPOCH / 2 < self.xmax {
            same_epoch + EPOCH
        } else {
            same_epoch
        }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let xids: Vec<String> = self.in_progress.iter().map(u64::to_string).collect();
        write!(f, "{}:{}:{}", self.xmin, self.xmax, xids.join(","))
    }
}

impl FromStr for Snapshot {
    type Err = SnapshotError;

    fn from_str(text: &str) -> Result<Self, SnapshotError> {
        let parse = || {
            let mut parts = text.split(':');
            let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let xids = parts.next()?.split(',').filter(|xid| !xid.is_empty());
            let in_progress = xids.map(|xid| xid.parse().ok()).collect::<Option<BTreeSet<u64>>>()?;
            (parts.next().is_none() && xmin <= xmax).then_some(Snapshot { xmin, xmax, in_progress })
        };
        parse().ok_or_else(|| SnapshotError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    #[test]
    fn a_snapshot_shows_what_had_ended_before() {
        let some = snapshot("10:20:10,14");
        for (xid, shown) in [(3, true), (9, true), (10, false), (11, true), (14, false), (19, true), (20, false)] {
            assert_eq!(some.shows(xid), shown, "{xid}");
        }
        assert_eq!(some.to_string(), "10:20:10,14");
        assert_eq!(snapshot("741:741:").to_string(), "741:741:");
        for bad in ["", "1:2", "2:1:", "1:2:x", "1:2:1:1", "a:b:"] {
            assert!(bad.parse::<Snapshot>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_of_the_wal_get_their_epoch() {
        const EPOCH: u64 = 1 << 32;
        let first = snapshot("700:750:");
        assert_eq!(first.whole(740), 740);
        assert_eq!(first.whole(760), 760, "began after the snapshot");
        assert_eq!(first.whole(u32::MAX), u64::from(u32::MAX), "nothing was before the first epoch");

        let just_after = snapshot(&format!("{}:{}:", 3 * EPOCH - 10, 3 * EPOCH + 5));
        assert_eq!(just_after.whole(3), 3 * EPOCH + 3);
        assert_eq!(just_after.whole(9), 3 * EPOCH + 9);
        assert_eq!(just_after.whole(u32::MAX - 2), 3 * EPOCH - 3, "from before the wrap-around");

        let just_before = snapshot(&format!("{}:{}:", 3 * EPOCH - 10, 3 * EPOCH - 5));
        assert_eq!(just_before.whole(u32::MAX), 3 * EPOCH - 1);
        assert_eq!(just_before.whole(4), 3 * EPOCH + 4, "after the wrap-around");
    }
}
