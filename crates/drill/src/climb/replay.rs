//! Rung 5, and rung 7 where the source's digests belong to an exact position on the way: the server waits there, paused and
//! open for reading, is compared, and goes on to the target. It is stopped and started for that, as a target cannot be
//! changed in a running server.
//!
//! A negative control that changes rows cannot do so in a server in recovery. There the server is promoted at the witness's
//! position instead, which takes the place of the target. One that damages the log waits until all of it has been brought.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use lifeboat_engine::{
    details::{Comparison as Taken, Witness},
    recovery::{Action, Stop, staging::Staged},
};
use lifeboat_evidence::drill::Worker;
use lifeboat_model::lsn::Lsn;
use lifeboat_postgres::control::ControlData;
use tokio_postgres::Client;

use super::{Climb, Places, prepare::Prepared};
use crate::{
    checks::{self, data::Values},
    error::{Error, Result},
    ladder::{self, Answer},
    postgres::{Replay, Server, Start},
    run::DrillRequest,
};

/// What the time until the server is where it was told to go is called, the start of the server included.
pub(crate) const REPLAY: &str = "start and replay";

/// The promoted server.
pub(super) struct Replayed {
    pub server: Server,
    /// A session with each database.
    pub clients: Vec<(String, Client)>,
}

impl Climb {
    /// Rung 5, and rung 7 where the server can be paused for it.
    pub(super) async fn replay(
        &mut self,
        request: &DrillRequest,
        prepared: &mut Prepared,
        places: &Places,
    ) -> Result<Option<Replayed>> {
        self.begin_phase("replay");
        let begun = Instant::now();
        let staged = self.damage_log(request, prepared, places).await?;
        let mut stop_at = None;
        if let Some((lsn, witness)) = witnessed(prepared) {
            if request.sabotage.as_ref().is_some_and(|sabotage| sabotage.writes()) {
                stop_at = Some((lsn, Action::Promote));
                let fetched = &mut prepared.fetched;
                (fetched.stop, fetched.wal_end, fetched.mark, fetched.newest_held) = (Stop::Lsn(lsn), None, None, None);
            } else {
                self.compare_paused(request, prepared, places, (lsn, witness)).await?;
                self.begin_phase("replay");
            }
        }
        let mut server = match start(request, prepared, places, stop_at).await {
            Ok(server) => server,
            Err(error) => {
                let passed = self.stop_unless_passed(&ladder::REPLAY, Answer::broken(&error), begun.elapsed());
                return Ok(passed.and(None));
            }
        };
        let limit = replay_limit(request.config.timeout.0, self.begun.elapsed());
        let timing = self.timing.clone();
        let replay = match timing.during(Worker::Postgres, REPLAY, server.promoted(limit)).await {
            // A server that does not get ready is no restore; the drill itself still has time to say so.
            Err(Error::Timeout { .. }) => server.replay(),
            other => other?,
        };
        self.newest_commit = replay.newest_commit.or(self.newest_commit);
        let staged = match staged {
            Some(staged) => staged,
            None => request.source.staged().await,
        };
        let answer = judge(&replay, self.newest_commit, prepared, places, &staged);
        if let Ok(staged) = &staged {
            self.notes.extend(staged.replaced.iter().map(|why| format!("WAL read from another copy: {why}")));
        }
        if self.stop_unless_passed(&ladder::REPLAY, answer, begun.elapsed()).is_none() {
            return Ok(None);
        }
        server.make_role().await?;
        let mut clients = Vec::with_capacity(request.databases.len());
        for database in &request.databases {
            clients.push((database.clone(), server.connect(database).await?));
        }
        if let Some(sabotage) = &request.sabotage {
            sabotage.replayed(&request.own_copy(places, &prepared.fetched), &clients).await?;
        }
        let version =
            clients[0].1.query_one("SHOW server_version", &[]).await.map_err(Error::sql("ask for the version"))?;
        self.versions.postgres = Some(version.get(0));
        Ok(Some(Replayed { server, clients }))
    }

    /// Rung 7 on a server that waits at the witness's position. What goes wrong before the comparison says nothing of the
    /// data: the way to the target is judged by rung 5.
    async fn compare_paused(
        &mut self,
        request: &DrillRequest,
        prepared: &Prepared,
        places: &Places,
        (lsn, witness): (Lsn, &Witness),
    ) -> Result<()> {
        let begun = Instant::now();
        let limit = replay_limit(request.config.timeout.0, self.begun.elapsed());
        let mut server = match start(request, prepared, places, Some((lsn, Action::Pause))).await {
            Ok(server) => server,
            Err(error) => {
                self.ladder.record(ladder::DIGESTS.answered(Answer::impossible(&error), begun.elapsed()));
                return Ok(());
            }
        };
        let timing = self.timing.clone();
        let replay = match timing.during(Worker::Postgres, REPLAY, server.paused(limit)).await {
            Err(Error::Timeout { .. }) => server.replay(),
            other => other?,
        };
        let mut comparison = self.comparison.clone();
        let answered = if replay.paused && !replay.ended {
            self.begin_phase("compare data");
            let values = if request.show_rows { Values::Shown } else { Values::Masked };
            let compared = checks::data::compare_paused(&server, witness, values, &mut comparison);
            timing.during(Worker::Postgres, "digests", ladder::DIGESTS.ask(compared)).await
        } else {
            let why = format!("PostgreSQL did not come to the witness's position {lsn}: {}", replay.last_words());
            let answer = Answer::not_executed(why).in_public(format!("PostgreSQL did not come to {lsn}"));
            ladder::DIGESTS.answered(answer, begun.elapsed())
        };
        self.comparison = comparison;
        self.ladder.record(answered);
        if !server.replay().ended {
            // The log tells it only at the end of replay, of what came since the last start.
            self.newest_commit = server.last_commit().await.unwrap_or_default();
            timing.during(Worker::Postgres, "stop", server.stop()).await?;
        }
        Ok(())
    }
}

/// The source's digests, where they are of an exact position on the way.
fn witnessed(prepared: &Prepared) -> Option<(Lsn, &Witness)> {
    let witness = prepared.fetched.witness.as_ref()?;
    match witness.comparison {
        Taken::Exact { lsn, .. } => Some((lsn, witness)),
        _ => None,
    }
}

async fn start(
    request: &DrillRequest,
    prepared: &Prepared,
    places: &Places,
    stop_at: Option<(Lsn, Action)>,
) -> Result<Server> {
    let control = ControlData::read(&places.pgdata)?;
    let start = Start { control: &control, socket: &places.socket, login_hint: &request.login_hint, stop_at };
    Server::start(&prepared.postgres, prepared.user, start).await
}

/// Damage in the log explains a replay that got nowhere better than the server's words.
fn judge(
    replay: &Replay,
    newest: Option<Timestamp>,
    prepared: &Prepared,
    places: &Places,
    staged: &Result<Staged>,
) -> Answer {
    let staged = match staged {
        Ok(staged) => staged,
        Err(error) => return Answer::broken(error),
    };
    if !staged.damage.is_empty() {
        let damage: Vec<String> = staged.damage.iter().map(crate::point::describe).collect();
        let count = damage.len();
        return Answer::failed(checks::some(&damage, count as u64))
            .in_public(format!("{count} objects of the write-ahead log are damaged or missing"));
    }
    checks::replay::judge(replay, newest, &prepared.fetched, &places.pgdata)
}

/// Three quarters of what is left of the drill's time, but never so little that a slow host would count as a bad backup.
fn replay_limit(timeout: Duration, elapsed: Duration) -> Duration {
    (timeout.saturating_sub(elapsed) * 3 / 4).max(Duration::from_secs(60))
}
