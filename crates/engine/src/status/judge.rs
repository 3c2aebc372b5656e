//! Protected, at risk or unprotected: the rule, apart from where the facts come from.
//!
//! It never flatters. What is not proven by a passed drill is at risk at best; a drill that failed says that the instance
//! does not come back, whatever points there are; and what could not be looked up is not taken for good.

use std::{cmp::Reverse, time::Duration};

use jiff::Timestamp;
use lifeboat_model::{check::Outcome, size::ByteSize, time::Span};

use super::{Drill, Facts, Judgement, Reason, State};
use crate::rehearsal;

/// A drill older than this proves nothing any more, in seconds: 35 days. Auditors ask for monthly drills, and a month has up to
/// 31 days; four more let a drill that failed to start be repeated before the alarm. Versions, images, data and people change
/// meanwhile, and what came back then need not come back now. A proof of locks ages as fast.
const PROOF_AGE_LIMIT: f64 = 35.0 * 86_400.0;
/// A copy that is behind by more than this, and more than the RPO allows, is a reason, in seconds: a day, and two hours for the copying.
const COPY_LIMIT: f64 = 26.0 * 3600.0;
/// A certificate that ends sooner is renewed now, in seconds: automatic renewal has had its tries by then, and a person who
/// has to ask somebody else for it still has three weeks.
const CERTIFICATE_NOTICE: f64 = 21.0 * 86_400.0;
/// A slot that is lost sooner than this if nothing changes needs a person, in seconds.
const SLOT_NOTICE: f64 = 24.0 * 3600.0;
/// A stream that begins again needs so many seconds at most.
const PAUSE: f64 = 60.0;
/// Facts this old, in seconds, say nothing of what came since: a stream that was at work need not be any more.
const STALE: f64 = 900.0;

/// Draws the conclusion.
pub fn judge(facts: &Facts, now: Timestamp) -> Judgement {
    let exposure = Exposure::of(facts, now);
    let mut found = Found { facts, now, reasons: Vec::new() };
    found.points();
    found.hole();
    found.rpo(&exposure);
    found.drill();
    found.control();
    found.slot();
    found.locks();
    found.copies();
    found.standbys();
    found.certificates();
    found.keys();
    found.unknown();
    let mut reasons = found.reasons;
    reasons.sort_by_key(|reason| Reverse(reason.state)); // keeps the order of equals
    Judgement {
        state: reasons.first().map_or(State::Protected, |reason| reason.state),
        next: reasons.first().map(|reason| reason.next.clone()),
        exposure_seconds: exposure.seconds,
        rpo_broken_at: exposure.broken_at,
        reasons,
    }
}

/// What a loss of the source would cost.
struct Exposure {
    seconds: Option<f64>,
    broken_at: Option<Timestamp>,
    /// Whether it is the streamed log that tells.
    streamed: bool,
}

impl Exposure {
    fn of(facts: &Facts, now: Timestamp) -> Exposure {
        let Some(point) = &facts.points.newest else {
            return Exposure { seconds: None, broken_at: None, streamed: false };
        };
        let (mut from, mut until, mut streamed, mut steady) = (point.started, now, false, false);
        if let Some(wal) = &facts.wal {
            let fresh = since(facts.looked, now) < STALE;
            let follows = wal.slot.as_ref().is_some_and(|slot| slot.active) && wal.cut_since.is_none();
            let streaming = fresh && wal.not_asked.is_none() && follows;
            // A stream that was at work goes on as it was: what waited then is held by now. What came later may wait still.
            let goes_on = streaming && wal.waiting_since.is_none_or(|begins| begins <= facts.looked);
            let end = if goes_on { facts.looked.min(now) } else { now };
            let begins = wal.waiting_since.unwrap_or(if fresh { end } else { facts.looked });
            // A newer point may hold what the log does not.
            if since(begins, end) <= since(point.started, now) {
                (from, until, streamed) = (begins, end, true);
                let brief = streaming && since(begins, end) <= PAUSE;
                steady = goes_on || brief || (fresh && wal.waiting_since.is_none());
            }
        }
        let (seconds, rpo) = (since(from, until), facts.targets.rpo_seconds);
        let broken_at = (!steady && seconds <= rpo).then(|| later(from, rpo)).flatten();
        Exposure { seconds: Some(seconds), broken_at, streamed }
    }
}

struct Found<'a> {
    facts: &'a Facts,
    now: Timestamp,
    reasons: Vec<Reason>,
}

impl Found<'_> {
    fn add(&mut self, kind: &str, state: State, text: String, next: String) {
        self.reasons.push(Reason { kind: kind.to_owned(), state, text, next });
    }

    fn at_risk(&mut self, kind: &str, text: String, next: String) {
        self.add(kind, State::AtRisk, text, next);
    }

    /// `lifeboat VERB INSTANCE`
    fn command(&self, verb: &str) -> String {
        format!("lifeboat {verb} {}", self.facts.instance)
    }

    fn points(&mut self) {
        let points = &self.facts.points;
        let list = self.command("points list");
        if points.newest.is_none() {
            let (text, next) = match points.stored {
                0 => ("there is no recovery point".to_owned(), self.command("backup")),
                stored => (format!("none of {} verifies", count(stored, "recovery point", "recovery points")), list),
            };
            return self.add("points", State::Unprotected, text, next);
        }
        if points.passed_over > 0 {
            let newer = count(points.passed_over, "newer recovery point does", "newer recovery points do");
            self.at_risk("points", format!("{newer} not verify"), list);
        }
    }

    fn hole(&mut self) {
        let Some(since) = self.facts.wal.as_ref().and_then(|wal| wal.cut_since) else { return };
        let text =
            format!("the log has a hole since {since:.0}: nothing later can be brought back until the next backup");
        self.at_risk("wal-hole", text, self.command("backup"));
    }

    fn rpo(&mut self, exposure: &Exposure) {
        let target = self.facts.targets.rpo_seconds;
        let Some(exposed) = exposure.seconds.filter(|exposed| *exposed > target) else { return };
        let (exposed, target) = (words(exposed), words(target));
        let (text, next) = match exposure.streamed {
            true => (
                format!("the database's last {exposed} are not held in the streamed log; the RPO target is {target}"),
                self.command("wal status"),
            ),
            false => (
                format!("the newest recovery point holds what was there {exposed} ago; the RPO target is {target}"),
                self.command("backup"),
            ),
        };
        self.at_risk("rpo", text, next);
    }

    fn drill(&mut self) {
        let next = self.command("drill");
        let passed_over = self.facts.drills_passed_over;
        if passed_over > 0 {
            let over = count(
                passed_over,
                "newer drill statement does not verify or contradicts itself",
                "newer drill statements do not verify or contradict themselves",
            );
            self.at_risk("evidence", over, "lifeboat evidence verify".into());
        }
        let Some(drill) = &self.facts.drill else {
            return self.at_risk("drill", "no drill has proven that it comes back".into(), next);
        };
        match drill.outcome {
            Outcome::Failed => {
                let rung = drill.first_bad.as_ref().map(|id| format!(" at {id}")).unwrap_or_default();
                let show = format!("{} --kind drill", self.command("evidence list"));
                let text = format!("the last drill failed{rung}: it does not come back");
                self.add("drill", State::Unprotected, text, show);
            }
            Outcome::Incomplete => {
                self.at_risk("drill", "the last drill left out a required check".into(), next.clone());
            }
            Outcome::Passed => {}
        }
        self.drill_age(drill, &next);
        let targets = &self.facts.targets;
        let measures = [
            ("rpo", "RPO", drill.rpo_seconds, targets.rpo_seconds),
            ("rto", "RTO", drill.rto_seconds, targets.rto_seconds),
        ];
        for (kind, name, measured, target) in measures {
            match measured {
                None if drill.outcome == Outcome::Passed => {
                    self.at_risk(kind, format!("the last drill did not measure its {name}"), next.clone());
                }
                Some(measured) if measured > target => {
                    let (measured, target) = (words(measured), words(target));
                    let text = format!("the last drill's {name} was {measured}; the target is {target}");
                    self.at_risk(kind, text, next.clone());
                }
                _ => {}
            }
        }
        if !drill.other_images.is_empty() {
            let images = drill.other_images.join(", ");
            let text = format!("the last drill ran on {images}, not on the images configured now");
            self.at_risk("drill", text, next);
        }
    }

    fn drill_age(&mut self, drill: &Drill, next: &str) {
        let age = since(drill.started, self.now);
        let ago = words(age);
        if age > PROOF_AGE_LIMIT {
            let limit = words(PROOF_AGE_LIMIT);
            let text = format!("the last drill was {ago} ago; a proof older than {limit} no longer counts");
            self.at_risk("drill-age", text, next.to_owned());
        } else if let Some(every) = self.facts.targets.drill_every_seconds.filter(|every| age > *every) {
            let text = format!(
                "a drill is due: the last was {ago} ago, and tier {} wants one every {}",
                self.facts.tier,
                words(every)
            );
            self.at_risk("drill-age", text, next.to_owned());
        }
    }

    fn control(&mut self) {
        let Some(control) = &self.facts.control else { return };
        if control.outcome == Outcome::Failed {
            let ago = words(since(control.started, self.now));
            let kind = control.kind.as_deref().unwrap_or("random");
            let text = format!("the negative control {kind} failed {ago} ago: drills may not see damage");
            self.at_risk("control", text, format!("{} --sabotage {kind}", self.command("drill")));
        }
    }

    fn slot(&mut self) {
        let Some(slot) = self.facts.wal.as_ref().and_then(|wal| wal.slot.as_ref()) else { return };
        let name = &slot.name;
        let (status, stream) = (self.command("wal status"), self.command("wal stream"));
        let held = slot.held_back_bytes.map(|bytes| format!("{} are kept for it", ByteSize(bytes)));
        match slot.wal_status.as_str() {
            "lost" => {
                let text = format!(
                    "replication slot {name} is lost: log that nobody has read is gone, and moments after it cannot be reached until the next backup"
                );
                return self.at_risk("wal-slot", text, self.command("wal drop-slot"));
            }
            "missing" => {
                let text = format!("replication slot {name} does not exist: the server keeps no log for the stream");
                return self.at_risk("wal-slot", text, stream);
            }
            state @ ("extended" | "unreserved") => {
                let what =
                    if state == "extended" { "beyond what the server meant to keep" } else { "about to be lost" };
                let text = format!("replication slot {name} is {what} ({state}); {}", held.unwrap_or_default());
                self.at_risk("wal-slot", text.trim_end_matches("; ").to_owned(), status.clone());
            }
            _ => {}
        }
        let waiting = self.facts.wal.as_ref().and_then(|wal| wal.waiting_since).map(|from| since(from, self.now));
        if let Some(waiting) = waiting.filter(|waiting| !slot.active && *waiting > PAUSE) {
            let text = format!("nobody streams from replication slot {name}: log has waited for {}", words(waiting));
            self.at_risk("wal-slot", text, stream);
        }
        if let Some(left) = slot.lost_at.map(|lost| since(self.now, lost)).filter(|left| *left < SLOT_NOTICE) {
            let limit = slot.limit_bytes.map(|limit| format!(" of {}", ByteSize(limit))).unwrap_or_default();
            let text =
                format!("replication slot {name} reaches its limit{limit} in {} as the log grows now", words(left));
            self.at_risk("wal-slot", text, status.clone());
        }
        if slot.limit_bytes.is_none() {
            let text = format!(
                "replication slot {name} has no limit: if the stream stands, the server's disk fills; set max_slot_wal_keep_size"
            );
            self.at_risk("wal-slot", text, "lifeboat doctor".to_owned());
        }
    }

    fn locks(&mut self) {
        let locks = &self.facts.locks;
        if locks.mode.is_none() {
            return; // the tier promises none
        }
        let next = format!("{} --locks", self.command("verify"));
        if let Some(why) = &locks.not_locked {
            return self.at_risk("locks", format!("tier {} demands locks: {why}", self.facts.tier), next);
        }
        if let Some(until) = locks.newest_until.filter(|until| *until <= self.now) {
            self.at_risk("locks", format!("the lock of the newest recovery point ended at {until:.0}"), next.clone());
        }
        match &locks.proof {
            None if self.facts.points.newest.is_some() => {
                self.at_risk("locks", "that its objects are locked was never proven".into(), next);
            }
            None => {}
            Some(proof) if proof.short > 0 => {
                let ago = words(since(proof.at, self.now));
                let short = count(proof.short, "object was", "objects were");
                self.at_risk(
                    "locks",
                    format!("{short} not locked long enough when it was last proven, {ago} ago"),
                    next,
                );
            }
            Some(proof) => {
                let age = since(proof.at, self.now);
                if age > PROOF_AGE_LIMIT {
                    let (age, limit) = (words(age), words(PROOF_AGE_LIMIT));
                    let text =
                        format!("the locks were last proven {age} ago; a proof older than {limit} no longer counts");
                    self.at_risk("locks", text, next);
                }
            }
        }
    }

    fn copies(&mut self) {
        let primary = self.facts.reaches();
        let limit = self.facts.targets.rpo_seconds.max(COPY_LIMIT);
        for copy in &self.facts.copies {
            let next = format!("{} --to {}", self.command("copy"), copy.name);
            match (&copy.not_asked, copy.reaches, primary) {
                (Some(why), ..) => {
                    let text = format!("copy {} cannot be asked: {why}", copy.name);
                    self.at_risk("copy", text, format!("lifeboat repo check --repository {}", copy.name));
                }
                (None, None, Some(_)) => {
                    self.at_risk("copy", format!("copy {} holds no recovery point", copy.name), next);
                }
                (None, Some(there), Some(here)) if since(there, here) > limit => {
                    let (behind, limit) = (words(since(there, here)), words(limit));
                    let text = format!("copy {} is behind by {behind}, more than {limit}", copy.name);
                    self.at_risk("copy", text, next);
                }
                _ => {}
            }
        }
    }

    fn standbys(&mut self) {
        for standby in &self.facts.standbys.found {
            if let Some(why) = &standby.not_ready {
                let text = format!("a failover to standby {} would break the promise: {why}", standby.name);
                self.at_risk("standby", text, self.command("status"));
            }
        }
    }

    fn certificates(&mut self) {
        for certificate in &self.facts.certificates {
            let of = format!("the certificate of {} ({})", certificate.of, certificate.endpoint);
            let next = "lifeboat doctor".to_owned();
            if let Some(end) = certificate.not_after {
                let left = since(self.now, end);
                if end <= self.now {
                    self.at_risk("certificate", format!("{of} expired {} ago", words(since(end, self.now))), next);
                    continue;
                }
                if left < CERTIFICATE_NOTICE {
                    self.at_risk("certificate", format!("{of} ends in {}, at {end:.0}", words(left)), next.clone());
                }
            }
            if let Some(why) = &certificate.not_trusted {
                self.at_risk("certificate", format!("{of} is not trusted: {why}"), "lifeboat doctor".to_owned());
            }
        }
    }

    fn keys(&mut self) {
        let next = format!("{} --name NAME --identity FILE", self.command("key rehearse"));
        for key in &self.facts.keys {
            let called = key.name.as_ref().map_or_else(|| short(&key.recipient), |name| format!("\"{name}\""));
            for worry in &key.worries {
                self.at_risk("key", format!("recovery identity {called}: {worry}"), next.clone());
            }
            let Some(last) = key.last_rehearsed else { continue };
            let age = since(last, self.now);
            if age > rehearsal::MAX_AGE_DAYS as f64 * 86_400.0 {
                let text = format!("recovery identity {called} was last rehearsed {} ago", words(age));
                self.at_risk("key", text, next.clone());
            }
        }
    }

    fn unknown(&mut self) {
        let next = self.command("status");
        for what in &self.facts.unknown {
            self.at_risk("unknown", format!("not known: {what}"), next.clone());
        }
        let age = since(self.facts.looked, self.now);
        if age > STALE {
            self.at_risk("unknown", format!("nobody has looked for {}", words(age)), next);
        }
    }
}

impl Facts {
    /// The newest moment that could be brought back: a commit in the streamed log, or the beginning of the newest point.
    pub fn reaches(&self) -> Option<Timestamp> {
        let point = self.points.newest.as_ref()?.started;
        let commit = self.wal.as_ref().and_then(|wal| wal.newest_commit);
        Some(commit.map_or(point, |commit| commit.max(point)))
    }
}

/// Seconds from one time to a later one; 0 where it is not later.
fn since(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

fn later(time: Timestamp, seconds: f64) -> Option<Timestamp> {
    time.checked_add(Duration::try_from_secs_f64(seconds).ok()?).ok()
}

/// `12.3s`, `4m 5s`
pub(super) fn words(seconds: f64) -> String {
    Span(Duration::try_from_secs_f64(seconds).unwrap_or_default()).to_string()
}

fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Enough of a recipient to know it by.
fn short(recipient: &str) -> String {
    match recipient.char_indices().nth(16) {
        Some((end, _)) => format!("{}…", &recipient[..end]),
        None => recipient.to_owned(),
    }
}

#[cfg(test)]
mod tests;
