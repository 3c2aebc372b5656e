//! The locks of a point's objects, as the store reads them back: nothing is believed that a header says of them.

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use lifeboat_repo::{point::Point, repository::InstanceRepo};
use lifeboat_store::{Key, LockState, VersionId};
use serde::Serialize;

use crate::{
    failure::Result,
    output::{Page, Rows, Tone, bytes, count, moment},
};

/// Requests at the same time.
const AT_ONCE: usize = 16;

/// One object and its lock.
#[derive(Serialize)]
pub struct ObjectLock {
    key: String,
    version_id: Option<String>,
    bytes: Option<u64>,
    /// What the signed header says that it was given.
    promised_until: Option<Timestamp>,
    /// As read back: `governance` or `compliance`.
    mode: Option<&'static str>,
    locked_until: Option<Timestamp>,
    legal_hold: bool,
    /// Why it could not be read back.
    why_not: Option<String>,
}

/// Of the point itself and of all that it names.
pub async fn read_back(repo: &InstanceRepo, point: &Point) -> Result<Vec<ObjectLock>> {
    let own = (point.key.clone(), point.version.clone(), None, point.header.retain_until);
    let named = point.header.objects.iter();
    let named = named.map(|object| (object.key.clone(), object.version.clone(), Some(object.len), object.retain_until));
    let all: Vec<_> = std::iter::once(own).chain(named).collect();
    let reading = all.into_iter().map(|(key, version, bytes, promised)| async move {
        match repo.store_of(version.as_ref()).lock_state(&key, version.as_ref()).await {
            Err(error) if error.is_transient() => Err(lifeboat_repo::Error::from(error)),
            state => {
                let state = state.map_err(|error| error.to_string());
                Ok(ObjectLock::new(key, version, bytes, promised, state))
            }
        }
    });
    let read: Vec<_> = stream::iter(reading).buffered(AT_ONCE).collect().await;
    Ok(read.into_iter().collect::<std::result::Result<Vec<_>, lifeboat_repo::Error>>()?)
}

impl ObjectLock {
    fn new(
        key: Key,
        version: Option<VersionId>,
        bytes: Option<u64>,
        promised_until: Option<Timestamp>,
        state: std::result::Result<LockState, String>,
    ) -> Self {
        let (state, why_not) = match state {
            Ok(state) => (state, None),
            Err(why) => (LockState::default(), Some(why)),
        };
        ObjectLock {
            key: key.to_string(),
            version_id: version.map(|version| version.0),
            bytes,
            promised_until,
            mode: state.retention.map(|retention| retention.mode.word()),
            locked_until: state.retention.map(|retention| retention.until),
            legal_hold: state.legal_hold,
            why_not,
        }
    }

    fn cell(&self) -> (Tone, String) {
        let hold = if self.legal_hold { ", legal hold" } else { "" };
        match (&self.why_not, self.locked_until, self.mode) {
            (Some(why), ..) => (Tone::Bad, format!("NOT READ BACK: {why}")),
            (None, Some(until), Some(mode)) => (Tone::Good, format!("{mode} until {}{hold}", moment(until))),
            _ if self.legal_hold => (Tone::Good, "legal hold".to_owned()),
            _ => (Tone::Doubtful, "not locked".to_owned()),
        }
    }
}

/// A line for each object.
pub fn table(page: &mut Page, locks: &[ObjectLock]) {
    page.gap();
    let mut rows = Rows::new(&["object", "size", "lock"]).numbers(&[1]);
    for lock in locks {
        let (tone, text) = lock.cell();
        let size = lock.bytes.map_or("–".to_owned(), bytes);
        rows.row([(Tone::Plain, lock.key.as_str()), (Tone::Plain, &size), (tone, &text)]);
    }
    page.table(rows);
    let open = locks.iter().filter(|lock| lock.locked_until.is_none() && !lock.legal_hold).count() as u64;
    if open > 0 {
        page.line(format_args!("{} not locked", count(open, "object is", "objects are")));
    }
}
