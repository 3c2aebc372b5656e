//! Behind the last rung but teardown: the sandbox is held for whoever asked for it.

use std::time::{Duration, Instant};

use lifeboat_model::time::Span;
use tokio_util::sync::CancellationToken;

use super::{Climb, Places, prepare::Prepared, replay::Replayed, serve::Served};
use crate::{
    hold::{Hold, Restored, Serving},
    odoo,
    postgres::{self, PORT, ROLE},
    run::DrillRequest,
    sandbox::pulse::{self, Pulse},
};

/// What the observer is told while it is held. It is no phase of the drill's time.
const HELD: &str = "hold";

/// A sandbox in which Odoo serves. It can be reached until this is dropped.
pub(crate) struct Standing {
    serving: Serving,
    _odoo: odoo::Server,
    _postgres: postgres::Server,
}

impl Standing {
    pub(super) fn new(
        request: &DrillRequest,
        places: &Places,
        rpo: Option<Duration>,
        replayed: Replayed,
        served: Served,
    ) -> Standing {
        let serving = Serving {
            url: served.odoo.base.clone(),
            socket: places.socket.clone(),
            port: PORT,
            role: ROLE.to_owned(),
            databases: request.databases.clone(),
            rpo,
            logins: served.logins,
        };
        Standing { serving, _odoo: served.odoo, _postgres: replayed.server }
    }
}

impl Climb {
    /// Tells whoever wants to hold it that the data are there.
    pub(super) async fn tell_restored(&self, request: &DrillRequest, prepared: &Prepared, places: &Places) {
        let Some(hold) = &request.hold else { return };
        let point = self.selected.as_ref().and_then(|selected| selected.point.as_ref());
        let restored = Restored {
            run: request.run,
            folder: places.restored.clone(),
            point: point.map(|point| point.id.to_string()),
            newest_commit: self.newest_commit.or(prepared.fetched.began),
        };
        hold.restored(&restored).await;
    }

    /// Holds it until it is released, its time is over, or it cannot be held any longer.
    pub async fn hold(&mut self, request: &DrillRequest, hold: &dyn Hold, cancel: &CancellationToken, on: Standing) {
        let begun = Instant::now();
        let limit = hold.limit();
        let (pulse, disk): (&Pulse, _) = (&self.pulse, &self.disk);
        let ended = self.timing.not_counted(async {
            hold.serving(&on.serving).await;
            self.observer.phase(HELD);
            tokio::select! {
                () = hold.released() => None,
                () = tokio::time::sleep(limit) => Some(format!("its time of {} was over", Span(limit))),
                () = cancel.cancelled() => Some("it was stopped".to_owned()),
                words = disk.overrun() => Some(words),
                () = pulse.lost(request.run) => Some(pulse::LOST.to_owned()),
            }
        });
        let why = ended.await.map(|why| format!(", until {why}")).unwrap_or_default();
        let held = Duration::from_secs(begun.elapsed().as_secs_f64().round() as u64);
        self.public_notes.push(format!("held for {} after the last check, which counts nowhere{why}", Span(held)));
    }
}
