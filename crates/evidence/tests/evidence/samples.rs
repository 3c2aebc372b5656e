//! One statement of each kind, the same every time.

use lifeboat_evidence::{
    Act, ActPredicate, BackupPredicate, DrillPredicate,
    act::{
        Access, AccessAct, AccessRefusal, Copy, Decision, Hold, Incident, KeyRehearsal, KeyRevocation, KeyRotation,
        LocksProof, Policy, PolicyChange, PolicyFile, Proof, Property, Prune, Refused, RepositoryCheck, Retain,
        RunbookRun, Scrub, Sign, SignOff, SignsProof, Stage,
    },
    backup::{DataChecksums, NotCovered, PointReference, Sizes, Source, StartedBy, TreeSummary},
    drill::{
        Comparison, DrilledPoint, Fact, Image, ObjectVersion, Phase, SoftwareVersions, Targets, Teardown,
        VersionsReadBack, not_executed,
    },
};
use lifeboat_model::{
    check::{Check, Outcome, Verdict},
    id::{PointId, RepositoryId, RunId, Sha256Digest},
    lsn::Lsn,
    signature::SigningKey,
};

pub fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

fn started_by(command: &str) -> StartedBy {
    StartedBy { user: "root".into(), host: "backup-1".into(), command: command.into() }
}

pub fn backup() -> BackupPredicate {
    BackupPredicate {
        run: RunId([1; 8]),
        started_by: started_by("lifeboat backup clinic"),
        software: "lifeboat 0.1.0".into(),
        config_sha256: Sha256Digest([2; 32]),
        tenant: "acme".parse().unwrap(),
        instance: "clinic".parse().unwrap(),
        tier: "gold".parse().unwrap(),
        repository: RepositoryId([3; 16]),
        storage: "directory /srv/lifeboat, not immutable".into(),
        started: "2026-11-21T20:07:32Z".parse().unwrap(),
        finished: "2026-11-21T20:09:00.25Z".parse().unwrap(),
        point: PointReference {
            id: PointId([4; 8]),
            key: "acme/clinic/points/20261121T200732Z-0404040404040404".into(),
            sha256: Sha256Digest([5; 32]),
            version: None,
        },
        source: Source {
            system_id: "7440123456789012345".into(),
            postgres_version: "17.6 (Debian 17.6-1)".into(),
            timeline: 1,
            start_lsn: Lsn(0x200_0028),
            end_lsn: Lsn(0x200_0158),
            data_checksums: DataChecksums::Verified,
            databases: vec!["clinic".into()],
        },
        sizes: Sizes {
            read_bytes: 64_000_000,
            new_bytes: 60_000_000,
            stored_bytes: 9_000_000,
            reused_bytes: 4_000_000,
            files: 3120,
        },
        trees: vec![TreeSummary { kind: "filestore".into(), entries: 1116, bytes: 4_000_000, changed: 0, vanished: 1 }],
        notes: vec!["1 attachment was removed while the filestore was read".into()],
        not_covered: vec![NotCovered {
            what: "attachments with the prefix s3://".into(),
            count: Some(12),
            why: "no source reads them".into(),
        }],
    }
}

fn check(id: &str, rung: u8, verdict: Verdict) -> Check {
    let text = |text: &str| text.to_owned();
    Check {
        id: text(id),
        rung,
        purpose: text("for the test"),
        expected: text("this"),
        observed: text("that"),
        verdict,
        duration_ms: 12,
    }
}

pub fn drill() -> DrillPredicate {
    let checks = vec![
        check("select.signature", 2, Verdict::Passed),
        check("data.digests", 7, Verdict::Failed("public.res_partner differs".into())),
        check("boot.log", 10, Verdict::NotExecuted("the data differs".into())),
    ];
    let backup = backup();
    DrillPredicate {
        run: RunId([6; 8]),
        started_by: started_by("lifeboat drill clinic"),
        software: backup.software,
        config_sha256: backup.config_sha256,
        tenant: backup.tenant,
        instance: backup.instance,
        tier: backup.tier,
        repository: Some(backup.repository),
        storage: backup.storage,
        started: "2026-11-21T21:00:00Z".parse().unwrap(),
        finished: "2026-11-21T21:01:10.5Z".parse().unwrap(),
        point: Some(DrilledPoint {
            id: backup.point.id,
            key: backup.point.key,
            sha256: backup.point.sha256,
            version: None,
            finished: backup.finished,
            age_seconds: 3060,
            selected_by: "latest".into(),
        }),
        versions_read_back: VersionsReadBack {
            objects: 1,
            without_version: 1,
            listed: vec![ObjectVersion { key: "acme/clinic/packs/ab/ab00".into(), recorded: None, read_back: None }],
            locks: None,
            ..VersionsReadBack::default()
        },
        outcome: Outcome::Failed,
        required: vec!["select.signature".into(), "boot.log".into()],
        not_executed: not_executed(&checks),
        checks,
        comparison: Comparison::QuietSource { tables: 589, rows: 70_123 },
        rpo_seconds: Some(1072.5),
        newest_commit: Some("2026-11-21T19:50:00Z".parse().unwrap()),
        rpo_reference: Some("2026-11-21T20:07:52.5Z".parse().unwrap()),
        rto_seconds: None,
        targets: Targets::compare("15m".parse().unwrap(), "4h".parse().unwrap(), Some(1072.5), None),
        phases: vec![Phase {
            name: "fetch and place".into(),
            duration_ms: 2100,
            bytes: Some(64_000_000),
            files: Some(3120),
            parts: vec![],
        }],
        images: vec![Image {
            role: "postgres".into(),
            name: "postgres:17".into(),
            id: "sha256:aa".into(),
            digest: None,
        }],
        software_versions: SoftwareVersions { postgres: Some("17.6".into()), odoo: None, modules: Some(61) },
        isolation: vec![Fact { name: "network is internal".into(), observed: "true".into() }],
        teardown: Teardown { complete: true, ..Teardown::default() },
        not_covered: backup.not_covered,
        sabotage: None,
        notes: vec![],
        exceptions: vec![],
        corrective_action: None,
        sign_offs: vec![],
        control: None,
        policy_sha256: None,
        breakdown: None,
        prediction: None,
        screenshot: None,
    }
}

/// Around any act.
pub fn act(act: Act) -> ActPredicate {
    let backup = backup();
    ActPredicate {
        run: RunId([8; 8]),
        started_by: started_by("lifeboat something clinic"),
        software: backup.software,
        config_sha256: backup.config_sha256,
        tenant: backup.tenant,
        instance: Some(backup.instance),
        repository: backup.repository,
        storage: backup.storage,
        started: "2026-11-21T23:00:00Z".parse().unwrap(),
        finished: "2026-11-21T23:00:07Z".parse().unwrap(),
        outcome: Outcome::Failed,
        act,
    }
}

fn refused() -> Vec<Refused> {
    vec![Refused { key: "acme/clinic/packs/ab/ab00".into(), why: "the store refused".into() }]
}

fn hold() -> Hold {
    let reason = "case 12/2026".into();
    Hold { point: backup().point, reason, objects: 17, shared: 2, refused: refused() }
}

/// One of each kind.
pub fn acts() -> Vec<Act> {
    let time = |text: &str| text.parse().unwrap();
    let property = Property {
        id: "lock.delete-refused".into(),
        expected: "refused".into(),
        observed: "deleted".into(),
        verdict: Verdict::Failed("the store deleted a locked version".into()),
        duration_ms: 31,
    };
    let locks = LocksProof {
        points: 2,
        objects: 400,
        earliest: Some(time("2026-12-01T00:00:00Z")),
        short: 1,
        problems: refused(),
    };
    let sign = Sign {
        key: "acme/clinic/packs/ab/ab00".into(),
        version: Some("v2".into()),
        what: "a delete marker".into(),
        at: time("2026-11-21T22:00:00Z"),
    };
    vec![
        Act::Prune(Prune {
            objects: 400,
            removed: 20,
            freed_bytes: 9_000_000,
            locked_bytes: 1_000_000,
            locked_until: Some(time("2026-12-01T00:00:00Z")),
            kept_bytes: 70_000_000,
            waiting: 3,
            points_kept: 9,
            points_removed: vec![PointId([9; 8])],
        }),
        Act::Hold(hold()),
        Act::Release(Hold { objects: 0, ..hold() }),
        Act::Retain(Retain { points: 9, objects: 400, extended: 21, enough: 378, refused: refused() }),
        Act::RepositoryCheck(RepositoryCheck {
            name: "main".into(),
            findings: vec![property],
            skew_seconds: Some(-0.5),
        }),
        Act::KeyRehearsal(KeyRehearsal {
            name: "safe in the notary's office".into(),
            recipient: Some("age1example".into()),
            point: Some(backup().point),
            opened: vec!["the tree of the filestore".into()],
            failures: vec!["pack ab00: sealed to others".into()],
        }),
        Act::KeyRevocation(KeyRevocation {
            key: key().public(),
            at: time("2026-11-20T00:00:00Z"),
            reason: "the host was stolen".into(),
        }),
        Act::KeyRotation(KeyRotation {
            role: "recovery".into(),
            before: vec!["age1old".into()],
            after: vec!["age1new".into()],
            reason: Some("yearly".into()),
        }),
        Act::Copy(Copy {
            from: "main".into(),
            to: "offsite".into(),
            to_storage: "s3://offsite at https://s3.example".into(),
            points: 9,
            objects: 40,
            bytes: 80_000_000,
            present: 360,
            reencrypted: false,
            newest: Some(backup().point),
            refused: refused(),
        }),
        Act::Scrub(Scrub {
            share: "1%/day".into(),
            days: 100,
            due: 5,
            objects: 4,
            bytes: 64_000_000,
            complete: false,
            done: Some(20_777),
            problems: refused(),
        }),
        Act::Verify(Proof {
            locks: Some(locks),
            signs: Some(SignsProof {
                newer_versions: 1,
                delete_markers: 1,
                foreign: 1,
                shortened: 1,
                samples: vec![sign],
            }),
        }),
        Act::SignOff(SignOff {
            run: RunId([6; 8]),
            statement: "acme/evidence/20261121T210000Z-clinic-drill-0606060606060606.dsse.json".into(),
            statement_sha256: Sha256Digest([12; 32]),
            who: "root@backup-1".into(),
            role: "dr-coordinator".into(),
            decision: Decision::Rejected,
            comment: "the data differs; not accepted".into(),
            exception: Some("drills of the test clinic may be a week late".into()),
            corrective_action: Some("find out who writes to res_partner".into()),
            due: Some("2026-12-01".parse().unwrap()),
        }),
        Act::Access(Access {
            acts: vec![AccessAct {
                at: "2026-11-21T21:00:00Z".parse().unwrap(),
                who: "ann".into(),
                act: "start".into(),
                target: Some("drill of clinic".into()),
                detail: Some("run 0606060606060606".into()),
            }],
            refusals: vec![AccessRefusal {
                who: None,
                act: "sign-in".into(),
                why: "no such token".into(),
                count: 3,
                first: "2026-11-21T21:00:00Z".parse().unwrap(),
                last: "2026-11-21T21:05:00Z".parse().unwrap(),
            }],
            unlisted: 1,
        }),
        Act::Policy(Policy {
            files: vec![PolicyFile { name: "/etc/lifeboat/daemon.toml".into(), sha256: Sha256Digest([13; 32]) }],
            changes: vec![PolicyChange {
                name: "/etc/lifeboat/schedules/gold.toml".into(),
                before: Some(Sha256Digest([14; 32])),
                after: None,
            }],
        }),
        Act::Runbook(RunbookRun {
            run: RunId([7; 8]),
            runbook: "total-loss".into(),
            runbook_sha256: Sha256Digest([15; 32]),
            texts_sha256: None,
            mode: "real".into(),
            parameters: [("instance".to_owned(), "clinic".to_owned())].into(),
            incident: Some(RunId([8; 8])),
            begun: time("2026-11-21T20:07:32Z"),
            stage: Stage::StandsStill,
            ending: Some("verify: the registry was not loaded".into()),
            failed: vec!["verify".into()],
            not_practised: vec!["dns".into()],
            steps_passed: None,
            lines: 12,
            head: Sha256Digest([16; 32]),
        }),
        Act::Incident(Incident {
            incident: RunId([8; 8]),
            text: "the host does not answer".into(),
            since: time("2026-11-21T20:00:00Z"),
            closed: true,
            lines: 5,
            head: Sha256Digest([17; 32]),
        }),
    ]
}
