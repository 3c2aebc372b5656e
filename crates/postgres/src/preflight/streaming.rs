//! Whether WAL can be streamed without a break: the slot, and the heartbeat.

use super::{Need, PreflightItem, Session, item, judged, not_executed, passed};
use crate::{
    slot::{self, ServerWal, Slot},
    sql,
    transport::ConnectOptions,
};

/// Asks a server about continuous WAL through a slot. `heartbeat`: whether one is configured.
///
/// Never fails: what could not be asked is in the answer.
pub async fn streaming(options: &ConnectOptions, database: &str, slot: &str, heartbeat: bool) -> Vec<PreflightItem> {
    let client = match sql::connect(options, database).await {
        Ok(client) => client,
        Err(error) => {
            let mend =
                format!("the streamer uses it: GRANT CONNECT ON DATABASE \"{database}\" TO \"{}\"", options.user);
            let unasked = |id, need, expected| not_executed(id, need, error.to_string(), expected, &mend);
            let mut items = vec![unasked("slot", Need::Required, SLOT_EXPECTED)];
            if heartbeat {
                items.push(unasked(HEARTBEAT, Need::Advised, HEARTBEAT_EXPECTED));
            }
            return items;
        }
    };
    let session = Session { client: &client, options };
    let mut items = vec![session.slot(slot).await];
    if heartbeat {
        items.push(session.heartbeat_right().await);
    }
    items
}

const SLOT_EXPECTED: &str = "a physical slot that has lost no WAL, or none yet";
const HEARTBEAT: &str = "heartbeat-right";
const HEARTBEAT_EXPECTED: &str = "a primary where the role may write messages";

impl Session<'_> {
    async fn slot(&self, name: &str) -> PreflightItem {
        let asked = async { Ok((slot::look(self.client, name).await?, slot::server(self.client).await?)) };
        match self.within(asked).await {
            Ok((None, _)) => {
                let observed = format!("no slot {name} yet: it is made when streaming begins");
                passed("slot", Need::Required, observed, SLOT_EXPECTED)
            }
            Ok((Some(slot), server)) => slot_item(&slot, &server),
            Err(error) => not_executed("slot", Need::Required, error.to_string(), SLOT_EXPECTED, "ask again"),
        }
    }

    async fn heartbeat_right(&self) -> PreflightItem {
        // Later versions have one more argument.
        const ASK: &str = "SELECT pg_is_in_recovery(), has_function_privilege(oid, 'EXECUTE'), oid::regprocedure::text \
            FROM pg_proc WHERE proname = 'pg_logical_emit_message' AND proargtypes[2] = 'text'::regtype";
        let off = "or set heartbeat = \"off\", and an idle system has no provable recovery point";
        match self.row(ASK, &[]).await {
            Ok(row) => {
                let (is_standby, may, function): (bool, bool, &str) = (row.get(0), row.get(1), row.get(2));
                let (observed, mend) = match (is_standby, may) {
                    (true, _) => ("a standby", format!("stream from the primary, {off}")),
                    (false, true) => ("yes", String::new()),
                    (false, false) => {
                        ("no", format!("GRANT EXECUTE ON FUNCTION {function} TO \"{}\", {off}", self.options.user))
                    }
                };
                judged(HEARTBEAT, Need::Advised, may && !is_standby, observed.to_owned(), HEARTBEAT_EXPECTED, &mend)
            }
            Err(error) => not_executed(HEARTBEAT, Need::Advised, error.to_string(), HEARTBEAT_EXPECTED, off),
        }
    }
}

fn slot_item(slot: &Slot, server: &ServerWal) -> PreflightItem {
    let name = &slot.name;
    let failed = |need, observed: String, mend: String| {
        let verdict = lifeboat_model::check::Verdict::Failed(observed.clone());
        item("slot", need, verdict, observed, SLOT_EXPECTED, &mend)
    };
    if !slot.physical {
        let mend = "choose another name with postgres.wal.slot in lifeboat.toml".to_owned();
        return failed(Need::Required, format!("slot {name} is a logical one"), mend);
    }
    if slot.is_lost() {
        let why = slot.invalidated.as_deref().unwrap_or("it kept more than max_slot_wal_keep_size");
        let mend = format!(
            "WAL that was not streamed yet is gone: SELECT pg_drop_replication_slot('{name}'), raise \
             max_slot_wal_keep_size, stream again (it makes the slot anew), and take a base backup behind the gap"
        );
        return failed(Need::Required, format!("the server has given up slot {name}: {why}"), mend);
    }
    let kept = slot.held_back(server).unwrap_or(0) >> 20;
    if slot.wal_status.as_deref() == Some("unreserved") {
        let mend = "the server removes WAL that the slot needs at its next checkpoint: stream now, and raise \
            max_slot_wal_keep_size";
        return failed(
            Need::Advised,
            format!("slot {name} is about to be given up ({kept} MiB kept)"),
            mend.to_owned(),
        );
    }
    let user = match slot.active_pid {
        Some(pid) => format!("process {pid} of the server streams through it"),
        None => "nobody streams through it".to_owned(),
    };
    passed("slot", Need::Required, format!("{name}: {user}, {kept} MiB of WAL kept"), SLOT_EXPECTED)
}
