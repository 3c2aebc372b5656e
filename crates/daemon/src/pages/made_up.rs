//! Views that nobody measured, for tests of pages.

use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::status::Facts;
use serde_json::json;

use super::context::{PageContext, Place};
use crate::{
    auth::{Caller, How},
    settings::{Grant, Role, Tenants},
    view::*,
};

/// What must be shown as it is, and never taken for markup.
pub(super) const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&";

pub(super) fn now() -> Timestamp {
    "2026-11-22T14:05:09Z".parse().unwrap()
}

/// So many seconds before now.
pub(super) fn before(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

pub(super) fn context(roles: &[Role]) -> PageContext {
    let grants = roles.iter().map(|role| Grant { role: *role, tenants: Tenants::All }).collect();
    let reader = Caller { who: "ann".into(), grants, how: How::Session { csrf: "0123456789".into() } };
    PageContext { now: now(), reader: Some(reader), place: Place::None, troubles: Vec::new(), looked: None }
}

pub(super) fn trouble() -> Trouble {
    Trouble {
        tenant: Some("northern".into()),
        of: "postgres clinic".into(),
        since: before(250),
        text: "connection refused by db.clinic.internal:5432.".into(),
        next: Some("Look whether the server runs: systemctl status postgresql".into()),
    }
}

pub(super) fn run(verb: &str, outcome: Option<&str>, ago: i64, took: i64) -> RunLine {
    RunLine {
        run: format!("{:016x}", ago as u64 * 2_654_435_761),
        tenant: "northern".into(),
        instance: Some("clinic".into()),
        verb: verb.into(),
        schedule: Some(format!("gold-{verb}")),
        due: Some(before(ago + 5)),
        who: None,
        phase: if outcome.is_some() { "ended".into() } else { "running".into() },
        outcome: outcome.map(str::to_owned),
        attempt: 1,
        started: Some(before(ago)),
        ended: outcome.map(|_| before(ago - took)),
        reason: (outcome == Some("failed")).then(|| "the bucket refused a write\nhint: look at its policy".to_owned()),
    }
}

pub(super) fn due(verb: &str, ahead: i64) -> Due {
    let at = before(-ahead);
    Due {
        tenant: "northern".into(),
        instance: Some("clinic".into()),
        schedule: format!("gold-{verb}"),
        verb: verb.into(),
        due: at,
        at,
    }
}

fn timeline(state: &str, seed: i64) -> Timeline {
    let day = 86_400;
    let mut marks = Vec::new();
    for hour in (0..14 * 4).rev() {
        let outcome = if state != "protected" && hour % 23 == seed % 23 { "failed" } else { "passed" };
        marks.push(Mark {
            verb: "backup".into(),
            outcome: outcome.into(),
            at: before(hour * 6 * 3600 + 900),
            run: None,
        });
    }
    for at in [12, 5] {
        let outcome = if state == "unprotected" && at == 5 { "failed" } else { "passed" };
        marks.push(Mark {
            verb: "drill".into(),
            outcome: outcome.into(),
            at: before(at * day + seed * 977),
            run: Some(format!("{at:016x}")),
        });
    }
    marks.push(Mark {
        verb: "control".into(),
        outcome: "passed".into(),
        at: before(9 * day),
        run: Some("00000000000000ff".into()),
    });
    marks.push(Mark { verb: "drill".into(), outcome: "incomplete".into(), at: before(8 * day), run: None });
    let windows = match state {
        "unprotected" => vec![Stretch { from: before(14 * day), to: before(6 * day) }],
        "at-risk" => vec![
            Stretch { from: before(20 * day), to: before(8 * day) },
            Stretch { from: before(7 * day), to: before(40) },
        ],
        _ => vec![Stretch { from: before(20 * day), to: before(3) }],
    };
    Timeline { from: before(14 * day), to: now(), marks, windows }
}

/// A line in a state.
pub(super) fn line(number: i64, state: &str) -> Line {
    let names =
        ["clinic", "pharmacy", "archive", "laboratory", "maternity", "radiology-and-nuclear-medicine", "payroll"];
    let name = names[number as usize % names.len()];
    let (reason, next, exposure) = match state {
        "unprotected" => (
            Some("The newest drill failed at data.digests: 3 of 412 tables differ from the source.".to_owned()),
            Some(format!("lifeboat drill {name}")),
            None,
        ),
        "at-risk" => (
            Some(
                "No point since 9 h: the RPO of 1 h is exceeded. Backups fail: the bucket refused a write.".to_owned(),
            ),
            Some(format!("lifeboat backup {name}")),
            Some(32_460.0),
        ),
        "unknown" => (None, None, None),
        _ => (None, None, Some(4.2)),
    };
    Line {
        tenant: ["northern", "southern-clinics"][number as usize % 2].into(),
        instance: if number < 7 { name.into() } else { format!("{name}-{number}") },
        tier: ["gold", "silver", "bronze"][number as usize % 3].into(),
        owner: [Some("Dr. Ada Weiss".to_owned()), Some("Hosting team".to_owned()), None][number as usize % 3].clone(),
        state: state.into(),
        reason,
        next,
        exposure_seconds: exposure,
        rpo_target_seconds: Some(3600.0),
        newest_point: Some(before(3900)),
        drill_outcome: Some(if state == "unprotected" { "failed" } else { "passed" }.into()),
        drill_started: Some(before(5 * 86_400)),
        rto_seconds: Some(1512.0),
        rto_target_seconds: Some(7200.0),
        next_run: Some(due("backup", 1800)),
        running: if number == 3 { vec![run("drill", None, 95, 0)] } else { Vec::new() },
        timeline: timeline(state, number),
    }
}

pub(super) fn overview(many: i64) -> Overview {
    let state = |number: i64| match number * 100 / many.max(1) {
        0..=5 => "unprotected",
        6..=20 => "at-risk",
        21..=23 => "unknown",
        _ => "protected",
    };
    let instances: Vec<Line> = (0..many).map(|number| line(number, state(number))).collect();
    let of = |state: &str| instances.iter().filter(|line| line.state == state).count() as u64;
    let counts = Counts {
        protected: of("protected"),
        at_risk: of("at-risk"),
        unprotected: of("unprotected"),
        unknown: of("unknown"),
    };
    Overview { now: now(), counts, troubles: Vec::new(), instances }
}

pub(super) fn instance(state: &str) -> InstanceView {
    let line = line(0, state);
    let reasons = match state {
        "protected" => Vec::new(),
        _ => vec![
            ReasonView {
                kind: "drill".into(),
                state: state.into(),
                text: line.reason.clone().unwrap_or_default(),
                next: line.next.clone().unwrap_or_default(),
            },
            ReasonView {
                kind: "certificate".into(),
                state: "at-risk".into(),
                text: "The certificate of the repository ends in 6 d.".into(),
                next: "openssl s_client -connect bucket.example.org:443".into(),
            },
        ],
    };
    let verbs = ["backup", "drill", "control", "prune"];
    let outcomes = ["passed", "passed", "failed", "incomplete", "interrupted", "missed"];
    let runs = (0..14)
        .map(|at| run(verbs[at as usize % 4], Some(outcomes[at as usize % 6]), (at + 1) * 7_300, 340 + at * 11))
        .collect();
    let due = vec![due("backup", 1800), due("drill", 90_000)];
    InstanceView { line, reasons, facts: Some(facts()), runs, due, dependencies: dependencies() }
}

/// One in each state, and more.
pub(super) fn dependencies() -> Vec<DependencyView> {
    let one = |name: &str, kind: &str, address: &str, state: &str, note: Option<&str>| DependencyView {
        name: name.into(),
        kind: kind.into(),
        address: address.into(),
        note: note.map(str::to_owned),
        state: state.into(),
        since: matches!(state, "answers" | "silent").then(|| before(5400)),
        asked: matches!(state, "answers" | "silent").then(|| before(12)),
        why: match state {
            "silent" => Some("connection refused".into()),
            "not-checked" => Some("what answers at s3:// is not known; write host:port or an https URL".into()),
            _ => None,
        },
    };
    let desk = "IT service desk, +43 1 234 567; staff can work with local passwords for a day";
    vec![
        one("sign-in", "identity", "https://id.example.org", "silent", Some(desk)),
        one("database", "postgresql", "db.clinic.internal:5432", "answers", None),
        one("cache", "redis", "cache.clinic.internal:6379", "answers", Some("everybody has to sign in again")),
        one("attachments", "object-storage", "s3://clinic-attachments", "not-checked", None),
        one("laboratory-results-of-the-regional-hospital", "integration", "https://hl7.example.org", "unknown", None),
    ]
}

/// Everything that can be known.
pub(super) fn facts() -> Facts {
    let trend: Vec<_> = (0..12i64)
        .map(|at| json!({"at": before((12 - at) * 7 * 86_400), "seconds": if at == 4 { 8100.0 } else { 1300.0 + at as f64 * 37.0 }}))
        .collect();
    let drill = json!({"run": "0000000000000005", "started": before(432_000), "finished": before(430_000), "outcome": "passed",
        "rpo_seconds": 3.2, "rto_seconds": 1512.0, "first_bad": null, "other_images": [], "evidence": "northern/evidence/a"});
    serde_json::from_value(json!({
        "instance": "clinic", "tier": "gold", "owner": "Dr. Ada Weiss", "looked": before(42), "looked_slowly": before(300),
        "targets": {"rpo_seconds": 3600.0, "rto_seconds": 7200.0, "drill_every_seconds": 604_800.0},
        "points": {"stored": 212, "newest": {"id": "20261122T130009Z-4fd1a8c2", "started": before(3900), "finished": before(3600)}, "passed_over": 0},
        "wal": {"newest_commit": before(4), "waiting_since": null, "waiting_bytes": 0, "not_asked": null,
            "slot": {"name": "lifeboat_clinic", "wal_status": "reserved", "active": true, "held_back_bytes": 1_200_000,
                "limit_bytes": 10_737_418_240_u64, "lost_at": null}},
        "windows": [{"timeline": 1, "from": before(1_728_000), "to": before(700_000)}, {"timeline": 2, "from": before(604_800), "to": before(4)}],
        "drill": drill, "drills_passed_over": 0, "rto_trend": trend, "control": drill,
        "locks": {"mode": "compliance", "newest_until": before(-2_592_000), "not_locked": null,
            "proof": {"at": before(86_400), "objects": 18_211, "short": 0}},
        "copies": [{"name": "offsite", "newest_started": before(7200), "missing_points": 1, "missing_wal_bytes": 33_554_432,
            "lacks_wal": false, "reaches": before(7000), "not_asked": null}],
        "standbys": {"found": [
            {"name": "standby-a", "address": "10.0.4.12", "state": "streaming", "sync_state": "async", "replay_lag_bytes": 120,
                "replay_lag_seconds": 0.2, "not_ready": null},
            {"name": "standby-b", "address": "10.0.4.13", "state": "catchup", "sync_state": "async",
                "replay_lag_bytes": 8_000_000_000_u64, "replay_lag_seconds": null, "not_ready": "8 GB behind, more than the RPO allows"}],
            "not_asked": null},
        "certificates": [{"of": "repository primary", "endpoint": "bucket.example.org:443", "not_after": before(-520_000), "not_trusted": null, "not_asked": null},
            {"of": "PostgreSQL of clinic", "endpoint": "db.clinic.internal:5432", "not_after": null, "not_trusted": null, "not_asked": "it offers no TLS"}],
        "keys": [{"recipient": "age1qy352euf40x77qfrg4ncn27daujjx3pfmej8yz8zwsha4tv8dupsg53j8r", "name": "escrow 2026", "last_rehearsed": before(9_000_000), "worries": []}],
        "storage": {"objects": 18_211, "bytes": 322_122_547_200_u64, "wal_bytes": 42_949_672_960_u64, "pack_bytes": 279_000_000_000_u64, "not_known": null},
        "unknown": ["whether objects older than 30 days are still locked: the bucket did not answer within 5 s"]
    }))
    .unwrap()
}

/// A drill that goes on, or is over.
pub(super) fn drill(outcome: Option<&str>) -> RunView {
    let check = |id: &str, verdict: &str, seconds: f64, detail: &str| CheckView {
        id: id.into(),
        verdict: verdict.into(),
        detail: detail.into(),
        seconds,
    };
    let mut checks = vec![
        check("select.point", "passed", 0.4, "20261122T130009Z-4fd1a8c2, of 22 Nov 13:00:09"),
        check("point.signature", "passed", 0.1, "signed by the site's key"),
        check("point.objects", "passed", 2.9, "812 of 812"),
        check("point.locks", "not-executed", 0.0, "the store has no locks"),
        check("fetch.place", "passed", 96.0, "12.1 GiB in 41,002 files"),
        check("files.manifest", "passed", 31.0, "1,204 of 1,204"),
    ];
    if outcome.is_some() {
        checks.push(check("replay.end", "passed", 21.0, "consistent at 0/5000120, promoted"));
        checks.push(check("data.digests", "failed", 41.0, "409 of 412 tables equal; 3 differ"));
        checks.push(check("teardown.proof", "passed", 1.2, "nothing left"));
    }
    let note = |ago: i64, level: &str, text: &str| NoteView { at: before(ago), level: level.into(), text: text.into() };
    RunView {
        line: RunLine { who: Some("ann".into()), schedule: None, ..run("drill", outcome, 190, 150) },
        last_event: 12,
        checks,
        doing: outcome.is_none().then(|| "replay".to_owned()),
        notes: vec![
            note(190, "INFO", "drill of clinic begins"),
            note(120, "WARN", "the image is not the one of the last drill"),
            note(30, "ERROR", "3 tables differ"),
        ],
        answer: outcome.map(|_| json!({"outcome": outcome, "rto_seconds": 151.2})),
        evidence: outcome.map(|_| "northern/evidence/2026/11/drill-1.json".to_owned()),
    }
}

pub(super) fn schedules() -> Vec<ScheduleView> {
    ["backup", "drill", "control"]
        .into_iter()
        .enumerate()
        .map(|(at, verb)| {
            let at = at as i64;
            let step = [21_600, 604_800, 1_209_600][at as usize];
            let outcomes = ["passed", "passed", "passed", "passed", "failed", "passed", "missed"];
            ScheduleView {
                tenant: "northern".into(),
                schedule: format!("gold-{verb}"),
                description: Some(format!("A {verb} of every gold instance")),
                file: "/etc/lifeboat/schedules/gold.toml".into(),
                verb: verb.into(),
                when: ["0 */6 * * *, Europe/Vienna", "after gold-backup", "0 3 * * Sun#1, Europe/Vienna"][at as usize]
                    .into(),
                instances: ["clinic", "pharmacy", "archive", "laboratory", "maternity"].map(str::to_owned).into(),
                next: (1..40).map(|n| due(verb, n * step - 3000)).collect(),
                past: (0..80).map(|n| run(verb, Some(outcomes[(n + at) as usize % 7]), n * step + 900, 300)).collect(),
            }
        })
        .collect()
}

pub(super) fn storage() -> Vec<StorageView> {
    let line = |instance: &str, gib: u64| StorageLine {
        instance: instance.into(),
        objects: gib * 64,
        bytes: gib << 30,
        wal_bytes: gib << 27,
    };
    vec![StorageView {
        tenant: "northern".into(),
        place: "s3://lifeboat-northern, versions kept, locked in compliance mode".into(),
        instances: vec![line("clinic", 300), line("pharmacy", 41), line("archive", 902)],
        growth: (0..90u64)
            .map(|day| Size { at: before((90 - day as i64) * 86_400), bytes: (700 + day * 6 + day * day / 30) << 30 })
            .collect(),
        locks_ending: vec![
            LockEnd { instance: "archive".into(), until: before(-86_400), cost: Some(0.6808) },
            LockEnd { instance: "clinic".into(), until: before(-2_592_000), cost: Some(6.7924) },
        ],
        cost: Some(CostView { price: 0.023, currency: "USD".into(), this_month: Some(32.118), committed: 7.4732 }),
    }]
}

pub(super) fn evidence() -> Vec<EvidenceView> {
    ["drill", "backup", "backup", "prune"]
        .into_iter()
        .enumerate()
        .map(|(at, kind)| EvidenceView {
            key: format!("northern/evidence/statements/2026/11/22/{kind}-{at}.dsse.json"),
            tenant: "northern".into(),
            instance: Some("clinic".into()),
            kind: kind.into(),
            run: format!("{at:016x}"),
            at: before(3600 * (at as i64 + 1)),
            doubt: (at == 2).then(|| "signed by a key that is not trusted".to_owned()),
        })
        .collect()
}

/// One of them, whole.
pub(super) fn statement() -> StatementView {
    let statement =
        json!({"_type": "https://in-toto.io/Statement/v1", "predicate": {"outcome": "passed", "rto_seconds": 151.2}});
    StatementView {
        line: evidence().remove(0), statement: Some(statement), envelope: "{\"payload\":\"eyJ…\"}".into()
    }
}

pub(super) fn activity() -> Vec<ActivityView> {
    let entry = |ago: i64, who: &str, act: &str, allowed: bool, detail: Option<&str>| ActivityView {
        at: before(ago),
        tenant: Some("northern".into()),
        who: who.into(),
        act: act.into(),
        target: Some("clinic".into()),
        allowed,
        detail: detail.map(str::to_owned),
    };
    vec![
        entry(90, "ann", "start", true, Some("drill 00000000000000a1")),
        entry(400, "bob", "cancel", false, Some("this takes the role operator")),
        entry(4000, "daemon", "policies", true, Some("2 files changed")),
    ]
}

pub(super) fn runbooks() -> Runbooks {
    let book = |file: &str, title: &str, summary: &str, rehearsed: &str, errors: u64| RunbookView {
        tenant: "northern".into(),
        file: file.into(),
        runbook: file.strip_suffix(".md").map(str::to_owned),
        title: Some(title.into()),
        summary: Some(summary.into()),
        version: Some("2".into()),
        sha256: Some("5f".repeat(32)),
        steps: 14,
        expected_seconds: Some(5_400.0),
        expected_unknown: 2,
        rto_target_seconds: Some(14_400.0),
        errors,
        warnings: 1,
        rehearsed: rehearsed.into(),
        rehearsed_at: (rehearsed == "rehearsed").then(|| before(800_000)),
    };
    let late = RunbookView {
        rto_target_seconds: Some(3600.0),
        warnings: 0,
        rehearsed_at: Some(before(90_000)),
        ..book("ransomware.md", "Ransomware", "Files or rows are encrypted by somebody else", "changed", 0)
    };
    let prose = RunbookView { steps: 0, summary: None, ..book("notes.md", "Notes for the night", "", "never", 0) };
    let broken = RunbookView { title: None, runbook: None, ..book("draft.md", "", "", "not-known", 3) };
    Runbooks {
        runbooks: vec![
            book(
                "total-loss.md",
                "Total loss: bring the clinic back on a clean machine",
                "The host or its data are gone",
                "rehearsed",
                0,
            ),
            late,
            prose,
            broken,
        ],
        doubts: vec!["secret.md cannot be read: permission denied".into()],
    }
}

/// The text of a runbook, and what is known of it.
pub(super) fn runbook() -> RunbookText {
    let text = "# Total loss\n\nWhen the host is gone. Call the platform team: [+43 1 234](tel:+431234).\n\n## Decide\n\n### 1. Is it off?\n\n\
        Two systems that send the same invoices are **worse than none**.\n\n```toml\naction = \"decide\"\nrole = \"lead\"\n```\n\n\
        | Who | Number |\n|---|---|\n| IT service desk | 4711 |\n| Laboratory | 4712 |\n\n### 2. Restore\n\n1. Read it aloud.\n2. Then:\n\n\
        ```toml\naction = \"restore\"\nreplace = true\n```\n\n```text\nan example\n```\n\n> Staff write on paper until then.\n";
    let at = |heading: &str| text.find(heading).map_or(0, |at| at as u64);
    let step = |id: &str, at: u64, words: &str, effect: &str| StepPlan {
        id: id.into(),
        at,
        words: words.into(),
        effect: effect.into(),
        touches: if effect == "nothing" {
            Vec::new()
        } else {
            vec!["the volumes of db and odoo in /srv/odoo/compose.yml".into()]
        },
        expected_seconds: Some(3600.0),
        role: Some("lead".into()),
        answers: if effect == "nothing" { vec!["yes → continue".into(), "no → fence".into()] } else { Vec::new() },
    };
    RunbookText {
        line: runbooks().runbooks.remove(0),
        text: text.into(),
        findings: vec![
            TextNote {
                line: 5,
                severity: "warning".into(),
                text: "forgets \"sign-in\" (identity, https://id.example.org)".into(),
            },
            TextNote { line: 21, severity: "error".into(), text: "timeout: \"soon\" is no span".into() },
        ],
        steps: vec![
            step("is-it-off", at("### 1"), "asks the lead: Is the old system surely off?", "nothing"),
            step("restore", at("### 2"), "restores clinic as of latest in place of what is there", "destroys"),
        ],
        needs: vec!["postgresql".into(), "dns".into()],
        touches: vec![
            "the volumes of db and odoo in /srv/odoo/compose.yml".into(),
            "the name odoo.clinic.example.org".into(),
        ],
    }
}

fn runbook_run_line(phase: &str, ending: Option<&str>, elapsed: f64) -> RunbookRunLine {
    RunbookRunLine {
        run: "00000000000000b7".into(),
        tenant: "northern".into(),
        runbook: "total-loss".into(),
        title: Some("Total loss: bring the clinic back on a clean machine".into()),
        mode: "real".into(),
        instance: Some("clinic".into()),
        incident: Some("00000000000000c1".into()),
        who: "ann@rescue".into(),
        phase: phase.into(),
        ending: ending.map(str::to_owned),
        at: (phase != "over").then(|| "Restore".to_owned()),
        reason: (phase == "stopped").then(|| "the repository did not answer within 30 s".to_owned()),
        started: before(elapsed as i64),
        last: before(20),
        elapsed_seconds: elapsed,
        rto_target_seconds: Some(14_400.0),
        steps: 8,
        steps_over: 3,
    }
}

pub(super) fn runbook_runs() -> RunbookRuns {
    RunbookRuns {
        runs: vec![
            runbook_run_line("going-on", None, 4_210.0),
            runbook_run_line("stopped", None, 16_000.0),
            runbook_run_line("over", Some("passed"), 5_000.0),
            runbook_run_line("over", Some("half-rolled-back"), 900.0),
        ],
        doubts: vec!["/var/lib/lifeboat/runs/0.jsonl cannot be read: permission denied".into()],
    }
}

/// A run with steps in every state.
pub(super) fn runbook_run(phase: &str, ending: Option<&str>) -> RunbookRunView {
    let states = [
        "passed",
        "skipped",
        "not-practised",
        "failed",
        "running",
        "taking-back",
        "taken-back",
        "not-taken-back",
        "untouched",
    ];
    let answer = |asked: &str, answer: &str| AnswerView {
        at: before(900),
        who: "eve@rescue".into(),
        asked: asked.into(),
        answer: answer.into(),
        comment: Some("the switch says so".into()),
    };
    let mut steps: Vec<StepView> = states
        .into_iter()
        .enumerate()
        .map(|(at, state)| StepView {
            id: format!("step-{at}"),
            title: format!("Step {at} of what must be done before anybody works again"),
            depth: 1,
            is_group: false,
            action: Some(["decide", "manual", "restore"][at % 3].into()),
            role: Some("lead".into()),
            undoes: None,
            state: state.into(),
            attempt: u64::from(state != "untouched") + u64::from(state == "failed"),
            started: (state != "untouched" && state != "skipped").then(|| before(3000 - at as i64 * 60)),
            ended: matches!(state, "passed" | "failed").then(|| before(2700)),
            expected_seconds: (at % 4 != 3).then_some(300.0),
            why: matches!(state, "failed" | "skipped").then(|| "it is not so that mode == 'real'".to_owned()),
            answers: if at == 0 {
                vec![answer("question", "yes")]
            } else if state == "failed" {
                vec![answer("failure", "retry")]
            } else {
                Vec::new()
            },
            printed: if at == 0 { vec!["point 3fa9 <whole>".into(), "nothing is missing".into()] } else { Vec::new() },
            printed_before: u64::from(at == 0) * 12,
        })
        .collect();
    let plain = StepView { started: None, ended: None, why: None, answers: Vec::new(), ..steps[8].clone() };
    steps.insert(0, StepView { is_group: true, title: "Decide first".into(), action: None, ..plain.clone() });
    steps.push(StepView { undoes: Some("restore".into()), title: "Stop what was started".into(), ..plain });
    let note = |number: u64, text: &str, is_bad: bool| JournalNote {
        number,
        at: before(3000 - number as i64),
        who: "ann@rescue".into(),
        text: text.into(),
        is_bad,
    };
    RunbookRunView {
        line: runbook_run_line(phase, ending, if phase == "stopped" { 16_000.0 } else { 4_210.0 }),
        sha256: "5f".repeat(32),
        is_text_known: phase != "stopped",
        parameters: [
            ("instance".to_owned(), "clinic".to_owned()),
            ("key".to_owned(), "/media/key/recovery.identity".to_owned()),
        ]
        .into(),
        steps,
        next: vec!["Start".into(), "Verify".into(), "Point the name here".into()],
        notes: vec![
            note(1, "total-loss begins (real)", false),
            note(2, "restore begins", false),
            note(3, "restore failed: no answer", true),
        ],
    }
}
