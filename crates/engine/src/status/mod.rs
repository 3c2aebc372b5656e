//! How an instance is protected: the facts, and what they mean. One model for `lifeboat status`, the daemon's API and its pages.
//!
//! [`Facts`] hold times, not ages: the daemon keeps them and judges them again as time passes. [`fn@look`] gathers them; it asks
//! servers only as long as [`Asking::patience`] allows, and what did not answer stands in them as unknown. [`fn@judge`] draws
//! the conclusion, and is pure.

mod asking;
mod certificates;
mod copies;
mod judge;
mod look;
mod server;
mod slow;
mod statements;

use jiff::Timestamp;
use lifeboat_model::check::Outcome;
use serde::{Deserialize, Serialize};

pub use asking::{Asking, OpenedCopy};
pub use copies::open_copies;
pub use judge::judge;
pub use look::look;
pub use statements::Statements;

/// What is known of one instance, at the moment it was looked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The instance.
    pub instance: String,
    /// Its recovery class.
    pub tier: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// When it was looked.
    pub looked: Timestamp,
    /// When what changes slowly was looked up: windows, and what is stored; none: not all of it could be.
    pub looked_slowly: Option<Timestamp>,
    /// What was promised.
    pub targets: Targets,
    /// Recovery points.
    pub points: Points,
    /// The streamed log; none where none is streamed.
    pub wal: Option<Wal>,
    /// Moments that can be reached, oldest first.
    pub windows: Vec<Window>,
    /// The newest drill with a valid signature; controls are not among them.
    pub drill: Option<Drill>,
    /// Newer drill statements that do not verify or contradict themselves.
    pub drills_passed_over: u64,
    /// RTO of the last passed drills, oldest first, at most 20.
    pub rto_trend: Vec<Measured>,
    /// The newest negative control; where the newest of some kind failed, that one.
    pub control: Option<Drill>,
    /// What is locked.
    pub locks: Locks,
    /// Copies by name.
    pub copies: Vec<Copy>,
    /// Standbys of the source.
    pub standbys: Standbys,
    /// Certificates of the endpoints that are used.
    pub certificates: Vec<Certificate>,
    /// Recovery identities.
    pub keys: Vec<RecoveryKey>,
    /// What is stored.
    pub storage: Storage,
    /// What could not be looked up, and why: nothing of it may count as good.
    pub unknown: Vec<String>,
}

/// What was promised, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Targets {
    /// How much work may be lost.
    pub rpo_seconds: f64,
    /// How long until people work again.
    pub rto_seconds: f64,
    /// How often it is to be rehearsed; none: nobody has said.
    pub drill_every_seconds: Option<f64>,
}

/// Recovery points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Points {
    /// In the repository, valid or not, without logical dumps.
    pub stored: u64,
    /// The newest that verifies.
    pub newest: Option<NewestPoint>,
    /// Newer ones that do not verify.
    pub passed_over: u64,
}

/// The newest point that verifies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewestPoint {
    /// Its id.
    pub id: String,
    /// When its backup began: what came after may be missing.
    pub started: Timestamp,
    /// When it was durable.
    pub finished: Timestamp,
}

/// The streamed write-ahead log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wal {
    /// The commit time of the newest commit held.
    pub newest_commit: Option<Timestamp>,
    /// Since when a commit has waited that is not held; none: nothing waits.
    pub waiting_since: Option<Timestamp>,
    /// Bytes at the server that are not held.
    pub waiting_bytes: Option<u64>,
    /// Since when nothing leads from the newest point to what is held, and so nothing later can be brought back; none: no hole.
    pub cut_since: Option<Timestamp>,
    /// Of the slot.
    pub slot: Option<Slot>,
    /// Why the server could not be asked.
    pub not_asked: Option<String>,
}

/// The replication slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// `reserved`, `extended`, `unreserved`, `lost`, or `missing`.
    pub wal_status: String,
    /// Whether somebody streams from it.
    pub active: bool,
    /// Bytes that the server keeps for it.
    pub held_back_bytes: Option<u64>,
    /// The server's limit for that; none: no limit, its disk can fill.
    pub limit_bytes: Option<u64>,
    /// When it is lost if nothing is acknowledged and growth stays as it is.
    pub lost_at: Option<Timestamp>,
}

/// An interval of moments that can be reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The timeline on which it ends.
    pub timeline: u32,
    /// The earliest moment.
    pub from: Timestamp,
    /// The latest moment.
    pub to: Timestamp,
    /// Whether it grows with the log: the newest point is in it, and no hole is behind it.
    #[serde(default)]
    pub grows: bool,
}

impl Wal {
    /// As a look finds it that began then: it asks the server a little later, and what waits at a server that writes all the time is
    /// younger than the look. Only a stream's own word, told after a look, speaks of what came later.
    fn seen_at(self, looked: Timestamp) -> Wal {
        let waiting_since = match self.cut_since {
            Some(_) => self.waiting_since,
            None => self.waiting_since.map(|since| since.min(looked)),
        };
        Wal { waiting_since, ..self }
    }
}

impl Window {
    /// Lets the window that grows reach the newest commit.
    pub fn grow(windows: &mut [Window], newest: Option<Timestamp>) {
        if let (Some(window), Some(newest)) = (windows.iter_mut().rfind(|window| window.grows), newest) {
            window.to = window.to.max(newest);
        }
    }
}

/// A drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    /// The run.
    pub run: String,
    /// When it began.
    pub started: Timestamp,
    /// When it was over.
    pub finished: Timestamp,
    /// Its answer.
    pub outcome: Outcome,
    /// The point that was restored.
    pub point: Option<String>,
    /// Of a negative control: what was damaged.
    pub kind: Option<String>,
    /// RPO measured from the restored data.
    pub rpo_seconds: Option<f64>,
    /// RTO measured to a served login.
    pub rto_seconds: Option<f64>,
    /// The first check that failed.
    pub first_bad: Option<String>,
    /// Images it ran on that are not the configured ones.
    pub other_images: Vec<String>,
    /// Key of its statement.
    pub evidence: String,
}

/// A measured time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// When.
    pub at: Timestamp,
    /// What.
    pub seconds: f64,
}

/// What is locked, as far as is known without reading every object's lock back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Locks {
    /// What the tier demands: `governance` or `compliance`; none: nothing is locked.
    pub mode: Option<String>,
    /// Until when the newest point's object is locked, as read back.
    pub newest_until: Option<Timestamp>,
    /// Why nothing is locked, or why it is not known.
    pub not_locked: Option<String>,
    /// The newest proof, `lifeboat verify --locks`.
    pub proof: Option<LockProof>,
}

/// A proof of locks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LockProof {
    /// When.
    pub at: Timestamp,
    /// Objects whose lock was read back.
    pub objects: u64,
    /// Of these, locked too short.
    pub short: u64,
}

/// How far a copy is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Copy {
    /// The repository's name.
    pub name: String,
    /// Its newest point; none: it has none, or it could not be asked.
    pub newest_started: Option<Timestamp>,
    /// Points that the primary has and it has not.
    pub missing_points: Option<u64>,
    /// Bytes of WAL that the primary has and it has not.
    pub missing_wal_bytes: Option<u64>,
    /// WAL is streamed, and it has none of it.
    pub lacks_wal: bool,
    /// The newest moment that could be brought back from it: a commit in its log, or the beginning of its newest point.
    pub reaches: Option<Timestamp>,
    /// Why it could not be asked.
    pub not_asked: Option<String>,
}

/// Standbys of the source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standbys {
    /// As `pg_stat_replication` shows them, without ourselves.
    pub found: Vec<Standby>,
    /// How many more stream of which the role may see nothing.
    #[serde(default)]
    pub hidden: u64,
    /// Why the server could not be asked, or does not tell.
    pub not_asked: Option<String>,
}

/// One standby.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standby {
    /// `application_name`.
    pub name: String,
    /// Its address.
    pub address: Option<String>,
    /// `streaming`, `catchup`, …
    pub state: String,
    /// `async`, `sync`, `quorum`, `potential`.
    pub sync_state: String,
    /// Bytes of WAL that it has not replayed.
    pub replay_lag_bytes: Option<u64>,
    /// How long a commit waits until it has replayed it; none on an idle server.
    pub replay_lag_seconds: Option<f64>,
    /// Why a failover to it would lose more than the RPO allows; none: it is ready.
    pub not_ready: Option<String>,
}

/// A certificate that an endpoint shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// `repository primary`, `PostgreSQL of clinic`, as people know it.
    pub of: String,
    /// Host and port.
    pub endpoint: String,
    /// When it ends; none: it could not be asked.
    pub not_after: Option<Timestamp>,
    /// Why what connects to it refuses it, whatever its end.
    pub not_trusted: Option<String>,
    /// Why it could not be asked.
    pub not_asked: Option<String>,
}

/// A recovery identity, as far as rehearsals tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryKey {
    /// The public half.
    pub recipient: String,
    /// What the last rehearsal called it.
    pub name: Option<String>,
    /// When it last opened the point that was newest then.
    pub last_rehearsed: Option<Timestamp>,
    /// Why it should not be relied upon.
    pub worries: Vec<String>,
}

/// What is stored of the instance.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Storage {
    /// Objects.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
    /// Of these, the streamed log.
    pub wal_bytes: u64,
    /// Of these, packs.
    pub pack_bytes: u64,
    /// Why it is not known.
    pub not_known: Option<String>,
}

/// One word for how an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Everything that was promised is so.
    Protected,
    /// Something that was promised is not so, or not proven.
    AtRisk,
    /// It would not come back, as far as is known.
    Unprotected,
}

/// Why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// What is wrong, in a fixed word: `rpo`, `points`, `drill`, `drill-age`, `rto`, `control`, `wal-hole`, `wal-slot`,
    /// `locks`, `copy`, `standby`, `certificate`, `key`, `evidence`, `unknown`.
    pub kind: String,
    /// How grave.
    pub state: State,
    /// For people: what, since when, by how much.
    pub text: String,
    /// The next command.
    pub next: String,
}

/// What the facts mean at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The gravest of the reasons.
    pub state: State,
    /// Why, gravest first.
    pub reasons: Vec<Reason>,
    /// The next command; none when all is well.
    pub next: Option<String>,
    /// What a loss of the source would cost now, in seconds; none: nothing could be brought back.
    pub exposure_seconds: Option<f64>,
    /// When the RPO is exceeded if nothing more is held; none: it is already, or nothing waits.
    pub rpo_broken_at: Option<Timestamp>,
}
