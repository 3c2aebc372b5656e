//! From believed statements, one after the other, to the sums of a period.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lifeboat_model::{
    check::{Check, Outcome, Verdict},
    id::{Instance, RepositoryId, RunId, Sha256Digest, Tenant, TierName},
};

use super::{
    clauses, due, judge,
    period::{
        Backups, ControlRun, InstancePeriod, Ledger, Measured, NotBelieved, Period, Rehearsal, Signed, State,
        Statements, Sums,
    },
    trend::trend,
};
use crate::{
    act::{Act, ActPredicate, SignOff},
    backup::{BackupPredicate, StartedBy},
    drill::{Comparison, DrillPredicate},
    statement::{Predicate, Statement},
};

/// What the report is to be about.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The owner.
    pub tenant: Tenant,
    /// From when on.
    pub from: Timestamp,
    /// Until when, exclusively.
    pub to: Timestamp,
    /// The time.
    pub made: Timestamp,
    /// Who makes it.
    pub made_by: StartedBy,
    /// With which software.
    pub software: String,
    /// The repository.
    pub repository: RepositoryId,
    /// Where it is, as people call it.
    pub storage: String,
    /// The configured instances.
    pub instances: Vec<Charge>,
}

/// A configured instance, and what its tier demands.
#[derive(Debug, Clone)]
pub struct Charge {
    /// Its name.
    pub instance: Instance,
    /// Its recovery class.
    pub tier: TierName,
    /// Who answers for it.
    pub owner: Option<String>,
    /// How much work may be lost.
    pub rpo_seconds: u64,
    /// How long it may take.
    pub rto_seconds: u64,
    /// How often it is to be rehearsed; none: nobody has said.
    pub every_seconds: Option<u64>,
    /// The oldest statement of it: before that nothing was due.
    pub known_since: Option<Timestamp>,
    /// Its last rehearsal before the period.
    pub rehearsed_before: Option<Timestamp>,
}

/// A statement, and where it is.
#[derive(Debug, Clone, Copy)]
pub struct Told<'s> {
    /// What it says.
    pub statement: &'s Statement,
    /// Where it is stored.
    pub key: &'s str,
    /// SHA-256 of its envelope as stored.
    pub sha256: Sha256Digest,
}

/// A report in the making. Statements may come in any order; sign-offs from after the period count for runs in it.
#[derive(Debug)]
pub struct Builder {
    scope: Scope,
    statements: Statements,
    instances: BTreeMap<Instance, Gathered>,
    /// By the digest of the statement that was seen: a word on one is none on another of the same run.
    sign_offs: BTreeMap<Sha256Digest, Vec<Signed>>,
    runs: BTreeMap<RunId, Sha256Digest>,
}

#[derive(Debug, Default)]
struct Gathered {
    charge: Option<Charge>,
    configured: bool,
    rehearsals: Vec<Rehearsal>,
    controls: Vec<ControlRun>,
    backups: Backups,
    finished: Vec<Timestamp>,
    acts: BTreeMap<String, u64>,
    not_covered: Option<(Timestamp, Vec<crate::backup::NotCovered>)>,
}

impl Builder {
    /// Begins with what is configured: an instance of which nothing was heard is in the report as well.
    pub fn new(scope: Scope) -> Builder {
        let gathered = |charge: &Charge| {
            let of = Gathered { charge: Some(charge.clone()), configured: true, ..Gathered::default() };
            (charge.instance.clone(), of)
        };
        let instances = scope.instances.iter().map(gathered).collect();
        Builder {
            scope,
            statements: Statements::default(),
            instances,
            sign_offs: BTreeMap::new(),
            runs: BTreeMap::new(),
        }
    }

    /// Whether a run that began then is in the period.
    pub fn is_within(&self, time: Timestamp) -> bool {
        (self.scope.from..self.scope.to).contains(&time)
    }

    /// A statement that is believed. False: it is not counted, as another of the same run came before it.
    pub fn add(&mut self, told: Told<'_>) -> bool {
        if let Some((run, ..)) = told.statement.run()
            && *self.runs.entry(run).or_insert(told.sha256) != told.sha256
        {
            self.add_not_believed(told.key, "a second statement of the same run");
            return false;
        }
        if let Predicate::Act(act) = &told.statement.predicate
            && let Act::SignOff(sign_off) = &act.act
        {
            self.sign_offs.entry(sign_off.statement_sha256).or_default().push(signed(act, sign_off));
        }
        let Some(place) = told.statement.storage_key() else { return false };
        if !self.is_within(place.time) {
            return true;
        }
        self.statements.believed += 1;
        match &told.statement.predicate {
            Predicate::Drill(drill) => self.add_drill(drill, told),
            Predicate::Backup(backup) => {
                let of = self.instances.entry(backup.instance.clone()).or_default();
                of.charge_of(&backup.instance, &backup.tier, None);
                of.add_backup(backup);
            }
            Predicate::Dump(dump) => {
                let of = self.instances.entry(dump.instance.clone()).or_default();
                of.charge_of(&dump.instance, &dump.tier, None);
                of.backups.dumps += 1;
            }
            Predicate::Act(act) => {
                // An instance that nothing but acts tells of is none that a report could judge.
                if let Some(of) = act.instance.as_ref().and_then(|instance| self.instances.get_mut(instance)) {
                    *of.acts.entry(act.act.kind().to_owned()).or_default() += 1;
                }
            }
            Predicate::Opaque { .. } => {}
        }
        true
    }

    /// A statement that is not.
    pub fn add_not_believed(&mut self, key: &str, why: &str) {
        self.statements.not_believed += 1;
        if self.statements.listed.len() < Statements::LISTED {
            self.statements.listed.push(NotBelieved { key: key.to_owned(), why: why.to_owned() });
        }
    }

    fn add_drill(&mut self, drill: &DrillPredicate, told: Told<'_>) {
        let of = self.instances.entry(drill.instance.clone()).or_default();
        of.charge_of(&drill.instance, &drill.tier, Some(drill));
        if drill.sabotage.is_some() || drill.control.is_some() {
            return of.controls.push(control(drill, told));
        }
        if of.not_covered.as_ref().is_none_or(|(newest, _)| *newest <= drill.started) {
            of.not_covered = Some((drill.started, drill.not_covered.clone()));
        }
        of.rehearsals.push(rehearsal(drill, told));
    }

    /// The sums.
    pub fn finish(self, ledger: Ledger) -> Period {
        let Builder { scope, statements, instances, mut sign_offs, .. } = self;
        let now = scope.to.min(scope.made);
        let of = |(name, gathered): (Instance, Gathered)| gathered.finish(name, &scope, now, &mut sign_offs);
        let instances: Vec<InstancePeriod> = instances.into_iter().filter_map(of).collect();
        let sums = sums(&instances);
        let state = instances.iter().map(|of| of.state).max().unwrap_or(State::Unprotected);
        // Evidence that was changed proves nothing of the whole, whatever is left of it says.
        let state = if ledger.is_sound() { state } else { state.max(State::AtRisk) };
        let mut period = Period {
            tenant: scope.tenant,
            from: scope.from,
            to: scope.to,
            made: scope.made,
            made_by: scope.made_by,
            software: scope.software,
            repository: scope.repository,
            storage: scope.storage,
            state,
            sums,
            ledger,
            statements,
            decisions: Vec::new(),
            instances,
            clauses: Vec::new(),
        };
        period.decisions = judge::decisions(&period);
        period.clauses = clauses::clauses(&period);
        period
    }
}

impl Gathered {
    /// What is not configured any more has the demands of its newest drill.
    fn charge_of(&mut self, instance: &Instance, tier: &TierName, drill: Option<&DrillPredicate>) {
        if self.configured || (self.charge.is_some() && drill.is_none()) {
            return;
        }
        self.charge = Some(Charge {
            instance: instance.clone(),
            tier: tier.clone(),
            owner: None,
            rpo_seconds: drill.map_or(0, |drill| drill.targets.rpo_seconds),
            rto_seconds: drill.map_or(0, |drill| drill.targets.rto_seconds),
            every_seconds: None,
            known_since: None,
            rehearsed_before: None,
        });
    }

    fn add_backup(&mut self, backup: &BackupPredicate) {
        self.backups.made += 1;
        self.backups.read_bytes += backup.sizes.read_bytes;
        self.backups.stored_bytes += backup.sizes.stored_bytes;
        self.finished.push(backup.finished);
    }

    fn finish(
        mut self,
        name: Instance,
        scope: &Scope,
        now: Timestamp,
        sign_offs: &mut BTreeMap<Sha256Digest, Vec<Signed>>,
    ) -> Option<InstancePeriod> {
        let charge = self.charge.take()?;
        let mut said = |seen: &Sha256Digest| {
            let mut said = sign_offs.remove(seen).unwrap_or_default();
            said.sort_by_key(|signed| signed.time);
            said
        };
        self.rehearsals.sort_by_key(|rehearsal| rehearsal.started);
        self.controls.sort_by_key(|control| control.started);
        for rehearsal in &mut self.rehearsals {
            rehearsal.sign_offs.extend(said(&rehearsal.sha256));
        }
        for control in &mut self.controls {
            control.sign_offs.extend(said(&control.sha256));
        }
        self.finished.sort();
        self.backups.newest = self.finished.last().copied();
        let since = charge.known_since.map_or(scope.from, |known| known.max(scope.from)).min(now);
        let first = self.finished.first().map(|first| due::seconds(since, *first));
        let gaps = self.finished.windows(2).map(|pair| due::seconds(pair[0], pair[1]));
        self.backups.longest_gap_seconds = gaps.chain(first).max();
        self.backups.newest_age_seconds = self.backups.newest.map(|newest| due::seconds(newest, now));
        // What did not get to an answer is no rehearsal that was done.
        let is_done = |one: &&Rehearsal| one.outcome != Outcome::Incomplete;
        let times: Vec<Timestamp> = self.rehearsals.iter().filter(is_done).map(|one| one.started).collect();
        let due = charge.every_seconds.map(|every| due::due(every, (since, now), charge.rehearsed_before, &times));
        let rpo = measured(&self.rehearsals, |one| (one.rpo_seconds, one.rpo_target_seconds));
        let rto = measured(&self.rehearsals, |one| (one.rto_seconds, one.rto_target_seconds));
        let mut period = InstancePeriod {
            instance: name,
            tier: charge.tier,
            owner: charge.owner,
            configured: self.configured,
            state: State::Protected,
            reasons: Vec::new(),
            rpo_target_seconds: charge.rpo_seconds,
            rto_target_seconds: charge.rto_seconds,
            due,
            rehearsals: self.rehearsals,
            controls: self.controls,
            rpo,
            rto,
            backups: self.backups,
            acts: self.acts,
            exceptions: Vec::new(),
            not_covered: self.not_covered.map(|(_, list)| list).unwrap_or_default(),
        };
        period.exceptions = judge::exceptions(&period, now);
        (period.state, period.reasons) = judge::state(&period);
        Some(period)
    }
}

fn signed(act: &ActPredicate, sign_off: &SignOff) -> Signed {
    Signed {
        time: act.finished,
        who: sign_off.who.clone(),
        role: sign_off.role.clone(),
        decision: Some(sign_off.decision),
        comment: sign_off.comment.clone(),
        exception: sign_off.exception.clone(),
        corrective_action: sign_off.corrective_action.clone(),
        due: sign_off.due,
    }
}

fn rehearsal(drill: &DrillPredicate, told: Told<'_>) -> Rehearsal {
    let count = |word: &str| drill.checks.iter().filter(|check| check.verdict.word() == word).count() as u64;
    let own = drill.sign_offs.iter().map(|own| Signed {
        time: own.time,
        who: own.who.clone(),
        role: own.role.clone(),
        decision: None,
        comment: String::new(),
        exception: None,
        corrective_action: None,
        due: None,
    });
    Rehearsal {
        run: drill.run,
        statement: told.key.to_owned(),
        sha256: told.sha256,
        started: drill.started,
        finished: drill.finished,
        outcome: drill.outcome,
        point: drill.point.as_ref().map(|point| point.id),
        rpo_seconds: drill.rpo_seconds,
        to_latest: drill
            .point
            .as_ref()
            .is_some_and(|point| point.selected_by.contains("target: the latest moment held")),
        rpo_target_seconds: drill.targets.rpo_seconds,
        rto_seconds: drill.rto_seconds,
        rto_target_seconds: drill.targets.rto_seconds,
        predicted_seconds: drill.prediction.as_ref().map(|prediction| prediction.seconds),
        checks_passed: count("passed"),
        checks_failed: count("failed"),
        checks_not_executed: count("not executed"),
        first_bad: first_bad(drill),
        exact: matches!(drill.comparison, Comparison::ExactWitness(_)),
        exceptions: drill.exceptions.clone(),
        corrective_action: drill.corrective_action.clone(),
        sign_offs: own.collect(),
    }
}

/// Longer reasons stand in the full record.
const LONGEST_REASON: usize = 200;

fn first_bad(drill: &DrillPredicate) -> Option<String> {
    let failed = |check: &&Check| matches!(check.verdict, Verdict::Failed(_));
    let missing =
        |check: &&Check| matches!(check.verdict, Verdict::NotExecuted(_)) && drill.required.contains(&check.id);
    let check = drill.checks.iter().find(failed).or_else(|| drill.checks.iter().find(missing))?;
    match &check.verdict {
        _ if drill.outcome == Outcome::Passed => None,
        Verdict::Failed(why) => Some(shortened(format!("{}: {why}", check.id))),
        Verdict::NotExecuted(why) => Some(shortened(format!("{} was not executed: {why}", check.id))),
        Verdict::Passed => None,
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn control(drill: &DrillPredicate, told: Told<'_>) -> ControlRun {
    let judged = drill.control.as_ref();
    let failed = drill.checks.iter().filter(|check| matches!(check.verdict, Verdict::Failed(_)));
    let unjudged = || "its statement does not say which checks had to fail".to_owned();
    ControlRun {
        run: drill.run,
        statement: told.key.to_owned(),
        sha256: told.sha256,
        started: drill.started,
        kind: judged.map(|control| control.kind.clone()).or(drill.sabotage.clone()).unwrap_or_default(),
        outcome: judged.map(|control| control.outcome),
        expected: judged.map(|control| control.expected.clone()).unwrap_or_default(),
        failed: judged.map_or_else(|| failed.map(|check| check.id.clone()).collect(), |control| control.failed.clone()),
        why: judged.map_or_else(unjudged, |control| control.why.clone()),
        sign_offs: Vec::new(),
    }
}

fn measured(rehearsals: &[Rehearsal], of: impl Fn(&Rehearsal) -> (Option<f64>, u64)) -> Measured {
    let measures: Vec<f64> = rehearsals.iter().filter_map(|one| of(one).0).collect();
    let is_met = |one: &&Rehearsal| matches!(of(one), (Some(seconds), target) if seconds <= target as f64);
    let met = rehearsals.iter().filter(is_met).count() as u64;
    Measured {
        worst_seconds: measures.iter().copied().max_by(f64::total_cmp),
        newest_seconds: measures.last().copied(),
        met,
        missed: measures.len() as u64 - met,
        not_measured: (rehearsals.len() - measures.len()) as u64,
        trend: trend(&measures),
    }
}

fn sums(instances: &[InstancePeriod]) -> Sums {
    let mut sums = Sums::default();
    for of in instances {
        match of.state {
            State::Protected => sums.protected += 1,
            State::AtRisk => sums.at_risk += 1,
            State::Unprotected => sums.unprotected += 1,
        }
        match &of.due {
            Some(due) => (sums.due, sums.missed) = (sums.due + due.due, sums.missed + due.missed),
            None => sums.without_rhythm += 1,
        }
        for rehearsal in &of.rehearsals {
            sums.rehearsals += 1;
            match rehearsal.outcome {
                Outcome::Passed => sums.passed += 1,
                Outcome::Failed => sums.failed += 1,
                Outcome::Incomplete => sums.incomplete += 1,
            }
            sums.accepted += u64::from(judge::is_accepted(&rehearsal.sign_offs));
        }
        sums.controls += of.controls.len() as u64;
        let passed = |control: &&ControlRun| control.outcome == Some(Outcome::Passed);
        sums.controls_passed += of.controls.iter().filter(passed).count() as u64;
        sums.backups += of.backups.made;
        sums.open_exceptions += judge::open(of).count() as u64;
    }
    sums
}
