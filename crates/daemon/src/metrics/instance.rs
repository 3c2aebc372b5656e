//! What is known of an instance, as numbers. Times are exported, not ages: how old something is, is Prometheus' to say.

use jiff::Timestamp;
use lifeboat_engine::status::{Drill, Facts, Judgement, State};
use lifeboat_model::check::Outcome;

use super::sheet::{Labels, Sheet};
use crate::view::DependencyView;

const STATES: [&str; 4] = ["protected", "at-risk", "unprotected", "unknown"];

/// Whose it is, and what it was promised.
pub(super) struct Instance {
    pub tenant: String,
    pub name: String,
    pub tier: String,
    pub owner: String,
    pub facts: Option<std::sync::Arc<Facts>>,
    pub judgement: Option<Judgement>,
    /// What is begun next, and when.
    pub next_run: Option<(String, Timestamp)>,
}

/// Whether something that it cannot work without answers. What was not asked is not there.
pub(super) fn dependency(sheet: &mut Sheet, instance: &Instance, one: DependencyView) {
    let answers = match one.state.as_str() {
        "answers" => 1.0,
        "silent" => 0.0,
        _ => return,
    };
    let labels =
        [("tenant", &instance.tenant), ("instance", &instance.name), ("dependency", &one.name), ("kind", &one.kind)];
    let labels: Labels = labels.into_iter().map(|(name, value)| (name, value.clone())).collect();
    let help = "Whether something that the instance cannot work without answers.";
    sheet.gauge("lifeboat_dependency_answers", help, &labels, answers);
}

/// All of one instance.
pub(super) fn gather(sheet: &mut Sheet, instance: &Instance) {
    let labels: Labels = vec![("tenant", instance.tenant.clone()), ("instance", instance.name.clone())];
    let with = |more: &[(&'static str, &str)]| -> Labels {
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
        labels.iter().cloned().chain(more).collect()
    };
    let info = with(&[("tier", &instance.tier), ("owner", &instance.owner)]);
    sheet.gauge(
        "lifeboat_instance_info",
        "An instance that is watched, with its class and owner; always 1.",
        &info,
        1.0,
    );
    let state = match instance.judgement.as_ref().map(|judgement| judgement.state) {
        Some(State::Protected) => "protected",
        Some(State::AtRisk) => "at-risk",
        Some(State::Unprotected) => "unprotected",
        None => "unknown",
    };
    for one in STATES {
        let help = "How the instance is: 1 for the state that it is in.";
        sheet.gauge("lifeboat_instance_state", help, &with(&[("state", one)]), f64::from(u8::from(one == state)));
    }
    if let Some((verb, at)) = &instance.next_run {
        let help = "When the next run is begun.";
        sheet.gauge("lifeboat_next_run_timestamp_seconds", help, &with(&[("verb", verb)]), seconds(*at));
    }
    if let (Some(facts), Some(judgement)) = (&instance.facts, &instance.judgement) {
        promises(sheet, &labels, facts, judgement);
        for kind in
            judgement.reasons.iter().map(|reason| reason.kind.as_str()).collect::<std::collections::BTreeSet<_>>()
        {
            let help = "Why an instance is not protected; always 1.";
            sheet.gauge("lifeboat_instance_reason", help, &with(&[("kind", kind)]), 1.0);
        }
        log(sheet, &labels, facts);
        drills(sheet, &labels, facts);
        places(sheet, &labels, &with, facts);
    }
}

fn promises(sheet: &mut Sheet, labels: &Labels, facts: &Facts, judgement: &Judgement) {
    let help = "What a loss of the source would cost now; absent if nothing could be brought back.";
    sheet.gauge("lifeboat_rpo_exposure_seconds", help, labels, judgement.exposure_seconds);
    let help = "What a loss of the source may cost.";
    sheet.gauge("lifeboat_rpo_target_seconds", help, labels, facts.targets.rpo_seconds);
    let help = "When the RPO is exceeded if nothing more is held.";
    sheet.gauge("lifeboat_rpo_exceeded_timestamp_seconds", help, labels, judgement.rpo_broken_at.map(seconds));
    let rto = facts.drill.as_ref().and_then(|drill| drill.rto_seconds);
    sheet.gauge("lifeboat_rto_seconds", "What the last drill took until people could log in.", labels, rto);
    sheet.gauge("lifeboat_rto_target_seconds", "What it may take.", labels, facts.targets.rto_seconds);
    sheet.gauge("lifeboat_points", "Recovery points in the repository.", labels, facts.points.stored as f64);
    let help = "When the backup of the newest recovery point that verifies began.";
    let newest = facts.points.newest.as_ref().map(|point| seconds(point.started));
    sheet.gauge("lifeboat_newest_point_timestamp_seconds", help, labels, newest);
    let window = facts.windows.last();
    let help = "The earliest moment of the newest window that can be brought back.";
    sheet.gauge("lifeboat_window_from_timestamp_seconds", help, labels, window.map(|window| seconds(window.from)));
    let help = "The latest moment that can be brought back.";
    sheet.gauge("lifeboat_window_to_timestamp_seconds", help, labels, window.map(|window| seconds(window.to)));
    let help = "When the instance was last looked at.";
    sheet.gauge("lifeboat_looked_timestamp_seconds", help, labels, seconds(facts.looked));
    let help = "Things that could not be looked up: nothing of them counts as good.";
    sheet.gauge("lifeboat_unknown_facts", help, labels, facts.unknown.len() as f64);
}

fn log(sheet: &mut Sheet, labels: &Labels, facts: &Facts) {
    let Some(wal) = &facts.wal else { return };
    let help = "When the newest commit that is held was made.";
    sheet.gauge("lifeboat_newest_commit_timestamp_seconds", help, labels, wal.newest_commit.map(seconds));
    let help = "Log that the server has and the repository has not.";
    sheet.gauge("lifeboat_wal_waiting_bytes", help, labels, wal.waiting_bytes.map(|bytes| bytes as f64));
    let Some(slot) = &wal.slot else { return };
    let is_active = f64::from(u8::from(slot.active));
    sheet.gauge("lifeboat_slot_active", "Whether somebody streams from the replication slot.", labels, is_active);
    let is_lost = matches!(slot.wal_status.as_str(), "lost" | "missing");
    let help = "Whether the slot has lost what was not streamed yet, or is gone.";
    sheet.gauge("lifeboat_slot_lost", help, labels, f64::from(u8::from(is_lost)));
    let help = "Log that the server keeps for the slot.";
    sheet.gauge("lifeboat_slot_held_back_bytes", help, labels, slot.held_back_bytes.map(|bytes| bytes as f64));
    let help = "How much the server would keep; absent if without limit.";
    sheet.gauge("lifeboat_slot_limit_bytes", help, labels, slot.limit_bytes.map(|bytes| bytes as f64));
    let help = "When the slot is lost if nothing is streamed and it grows as it does.";
    sheet.gauge("lifeboat_slot_lost_timestamp_seconds", help, labels, slot.lost_at.map(seconds));
}

fn drills(sheet: &mut Sheet, labels: &Labels, facts: &Facts) {
    let passed = |drill: &Drill| f64::from(u8::from(drill.outcome == Outcome::Passed));
    let drill = facts.drill.as_ref();
    let help = "When the last drill began.";
    sheet.gauge("lifeboat_last_drill_timestamp_seconds", help, labels, drill.map(|drill| seconds(drill.started)));
    sheet.gauge("lifeboat_last_drill_passed", "Whether it passed.", labels, drill.map(passed));
    let help = "The RPO that it measured.";
    sheet.gauge("lifeboat_last_drill_rpo_seconds", help, labels, drill.and_then(|drill| drill.rpo_seconds));
    let help = "How often a drill was promised.";
    sheet.gauge("lifeboat_drill_interval_target_seconds", help, labels, facts.targets.drill_every_seconds);
    let control = facts.control.as_ref();
    let help = "When the last negative control began.";
    sheet.gauge("lifeboat_last_control_timestamp_seconds", help, labels, control.map(|drill| seconds(drill.started)));
    let help = "Whether it found the damage that was done on purpose.";
    sheet.gauge("lifeboat_last_control_passed", help, labels, control.map(passed));
}

/// What there is several of.
fn places(sheet: &mut Sheet, labels: &Labels, with: &impl Fn(&[(&'static str, &str)]) -> Labels, facts: &Facts) {
    let help = "Until when the newest point is locked, as read back.";
    let until = facts.locks.newest_until.map(seconds);
    sheet.gauge("lifeboat_lock_newest_until_timestamp_seconds", help, labels, until);
    let proof = facts.locks.proof.as_ref();
    let help = "When every lock was last read back.";
    sheet.gauge("lifeboat_lock_proof_timestamp_seconds", help, labels, proof.map(|proof| seconds(proof.at)));
    let help = "Objects that were locked too short then.";
    sheet.gauge("lifeboat_lock_short_objects", help, labels, proof.map(|proof| proof.short as f64));
    for copy in &facts.copies {
        let labels = with(&[("copy", &copy.name)]);
        let help = "When the backup of the newest point of a copy began.";
        sheet.gauge("lifeboat_copy_newest_point_timestamp_seconds", help, &labels, copy.newest_started.map(seconds));
        let help = "Points that a copy lacks.";
        sheet.gauge("lifeboat_copy_behind_points", help, &labels, copy.missing_points.map(|points| points as f64));
        let help = "Log that a copy lacks.";
        sheet.gauge("lifeboat_copy_behind_wal_bytes", help, &labels, copy.missing_wal_bytes.map(|bytes| bytes as f64));
    }
    for standby in &facts.standbys.found {
        let labels = with(&[("standby", &standby.name)]);
        let help = "How long a commit waits until a standby has replayed it.";
        sheet.gauge("lifeboat_standby_replay_lag_seconds", help, &labels, standby.replay_lag_seconds);
        let help = "Log that a standby has not replayed.";
        let lag = standby.replay_lag_bytes.map(|bytes| bytes as f64);
        sheet.gauge("lifeboat_standby_replay_lag_bytes", help, &labels, lag);
        let help = "Whether a failover to it would lose no more than the RPO allows.";
        sheet.gauge("lifeboat_standby_ready", help, &labels, f64::from(u8::from(standby.not_ready.is_none())));
    }
    for certificate in &facts.certificates {
        let labels = with(&[("of", &certificate.of), ("endpoint", &certificate.endpoint)]);
        let help = "When the certificate of an endpoint ends.";
        let ends = certificate.not_after.map(seconds);
        sheet.gauge("lifeboat_certificate_not_after_timestamp_seconds", help, &labels, ends);
    }
    for key in &facts.keys {
        let labels = with(&[("recipient", &key.recipient)]);
        let help = "When a recovery key last opened a backup.";
        let rehearsed = key.last_rehearsed.map(seconds);
        sheet.gauge("lifeboat_key_last_rehearsed_timestamp_seconds", help, &labels, rehearsed);
        let help = "Whether there are reasons not to rely on a recovery key.";
        sheet.gauge("lifeboat_key_doubtful", help, &labels, f64::from(u8::from(!key.worries.is_empty())));
    }
    let storage = &facts.storage;
    let other = storage.bytes.saturating_sub(storage.wal_bytes + storage.pack_bytes);
    for (class, bytes) in [("packs", storage.pack_bytes), ("wal", storage.wal_bytes), ("other", other)] {
        sheet.gauge("lifeboat_storage_bytes", "What is stored.", &with(&[("class", class)]), bytes as f64);
    }
    sheet.gauge("lifeboat_storage_objects", "Objects that are stored.", labels, storage.objects as f64);
}

pub(super) fn seconds(time: Timestamp) -> f64 {
    time.as_microsecond() as f64 / 1e6
}
