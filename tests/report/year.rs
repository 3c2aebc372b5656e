//! A year of a hospital group's evidence, the same every time: weekly and monthly drills, failures, gaps, missed targets, negative
//! controls, sign-offs; and texts that nobody would write but somebody who wants to break the page.

use jiff::{SignedDuration, Timestamp};
use lifeboat_evidence::{
    Act, ActPredicate, BackupPredicate, DrillPredicate, Statement,
    act::{Decision, LocksProof, Proof, SignOff},
    backup::{DataChecksums, NotCovered, PointReference, Sizes, Source, StartedBy},
    drill::{
        Breakdown, Comparison, Control, DrilledPoint, ExactComparison, Fact, Image, LocksReadBack, ObjectVersion, Part,
        Phase, PredictedStep, Prediction, Screenshot, SoftwareVersions, Targets, Teardown, VersionsReadBack, Worker,
        not_executed,
    },
};
use lifeboat_model::{
    check::{Check, Outcome, Verdict},
    id::{PointId, RepositoryId, RunId, Sha256Digest},
    lsn::Lsn,
    time::Span,
};

/// The tenant.
/// Where all of it is kept.
pub const REPOSITORY: RepositoryId = RepositoryId([3; 16]);
pub const TENANT: &str = "northern-hospitals";
/// Rehearsed weekly, with what goes wrong in a year.
pub const CLINIC: &str = "clinic";
/// As long as a name can be.
pub const LONG: &str = "laboratory-and-imaging-centre-of-the-northern-hospital-group-01";
/// Rehearsed every two weeks, without a fault.
pub const PHARMACY: &str = "pharmacy";
/// Backed up, and never rehearsed; nobody has said how often.
pub const ARCHIVE: &str = "archive";
/// Not in the configuration any more.
pub const CLOSED: &str = "old-clinic";
/// What must never be markup.
pub const HOSTILE: &str =
    "</style><script>document.title='owned'</script><img src=x onerror=alert(1)> \" ' & \u{202e}esrever\u{202c}";
/// When the year began.
pub const FROM: &str = "2025-11-22T00:00:00Z";
/// When the report is made.
#[allow(dead_code, reason = "the binary has its own clock")]
pub const NOW: &str = "2026-11-22T09:00:00Z";

/// Of one instance.
struct Site {
    name: &'static str,
    tier: &'static str,
    rpo: u64,
    rto: u64,
    /// Seconds of a usual restore.
    usual: f64,
}

const SITES: [Site; 5] = [
    Site { name: CLINIC, tier: "gold", rpo: 900, rto: 3600, usual: 1450.0 },
    Site { name: LONG, tier: "silver", rpo: 3600, rto: 14_400, usual: 13_500.0 },
    Site { name: PHARMACY, tier: "silver", rpo: 3600, rto: 14_400, usual: 95.0 },
    Site { name: ARCHIVE, tier: "bronze", rpo: 86_400, rto: 172_800, usual: 900.0 },
    Site { name: CLOSED, tier: "gold", rpo: 900, rto: 3600, usual: 700.0 },
];

/// Rung, id, what it is for, what has to be seen, what is seen.
const CHECKS: [(u8, &str, &str, &str, &str); 30] = [
    (1, "select.point", "the recovery point to rehearse", "a recovery point", "the newest"),
    (2, "point.signature", "the point was signed by a trusted key", "a valid signature", "key 3f9a01c2b4d5e6f7"),
    (2, "point.objects", "every object of the point is stored", "all, with the recorded lengths", "412 of 412"),
    (2, "point.versions", "objects are read by the version that was written", "the recorded VersionIds", "412 equal"),
    (2, "point.locks", "objects cannot be deleted early", "retention as recorded", "412 locked, compliance"),
    (3, "fetch.place", "everything is fetched, decrypted, verified and placed", "no damage", "3,120 files, 61.2 GiB"),
    (4, "files.manifest", "files are those of the server's backup_manifest", "equal", "2,004 files equal"),
    (4, "files.pages", "page checksums of every relation file", "no wrong page", "7,912,340 pages right"),
    (5, "replay.end", "WAL is replayed and the server promotes itself", "promoted", "at 4A/7F003C18"),
    (5, "sandbox.isolation", "the sandbox has no way out", "no route, no port", "12 attempts failed"),
    (6, "structure.amcheck", "heaps and B-tree indexes are sound", "nothing reported", "nothing reported"),
    (
        7,
        "data.digests",
        "row counts and digests of every table equal the source's",
        "all equal",
        "589 tables, 12,345,678 rows",
    ),
    (
        8,
        "attachments.filestore",
        "every attachment's file is there",
        "present, right size, right SHA-1",
        "91,117 files",
    ),
    (
        9,
        "neutralise.apply",
        "the copy is made harmless before Odoo loads it",
        "all statements have run",
        "14 statements",
    ),
    (9, "neutralise.assert", "the copy is harmless", "every assertion holds", "11 assertions"),
    (10, "boot.image", "the Odoo image fits the database", "the same series", "19.0"),
    (10, "boot.modules", "installed modules are available in the same versions", "all equal", "164 modules"),
    (10, "boot.registry", "Odoo loads the registry and serves", "HTTP answers", "200 after 9.1 s"),
    (10, "boot.log", "the boot log has nothing that must not be there", "no error", "no error in 214 lines"),
    (11, "use.login", "a real user logs in", "a session", "a session"),
    (11, "use.records", "records are read through Odoo", "as the database has them", "40 partners"),
    (11, "use.attachments", "attachments are fetched over HTTP", "SHA-1 as recorded", "12 of 12"),
    (11, "use.assets", "the login page's stylesheet is served", "status 200", "200, 412 KiB"),
    (11, "use.invoice", "an invoice is rendered as PDF", "a PDF", "61 KiB"),
    (12, "books.integrity", "Odoo's own inalterability check", "no corrupted entry", "3 companies verified"),
    (13, "measure.rpo", "age of the newest restored commit", "within the target", "within the target"),
    (13, "measure.rto", "from the first second to a served login", "within the target", "within the target"),
    (14, "teardown.proof", "nothing is left of the sandbox", "nothing", "nothing is left"),
    (14, "own.opening-hours", "Öffnungszeiten sind eingetragen (von uns)", "≥ 1 Zeile", "7 Zeilen – 診療時間 ✓"),
    (15, "own.prescriptions", "yesterday's prescriptions are there", "more than 0 rows", "412 rows"),
];

/// What happens in a drill.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Passes,
    /// This check fails, and those behind it do not run.
    Fails(&'static str, &'static str),
    /// This required check does not run.
    LeavesOut(&'static str),
}

/// Every statement, in the order of time.
pub fn statements() -> Vec<Statement> {
    let mut year = Year { statements: Vec::new(), serial: 0 };
    for site in &SITES {
        year.backups(site);
    }
    year.clinic(&SITES[0]);
    for month in 0..11 {
        year.drill(&SITES[1], 11.0 + f64::from(month) * 30.4, Fate::Passes);
    }
    for fortnight in 0..26 {
        let run = year.drill(&SITES[2], 6.0 + f64::from(fortnight) * 13.9, Fate::Passes);
        year.sign(
            run,
            8.0 + f64::from(fortnight) * 13.9,
            Decision::Accepted,
            "Gesehen; Zeiten in Ordnung.",
            None,
            None,
        );
    }
    year.drill(&SITES[4], 30.0, Fate::Passes);
    year.drill(&SITES[4], 61.0, Fate::Fails("boot.modules", "web_responsive is not in the image"));
    year.statements.sort_by_key(|statement| statement.storage_key().map(|key| key.time));
    year.statements
}

struct Year {
    statements: Vec<Statement>,
    serial: u64,
}

impl Year {
    fn clinic(&mut self, site: &Site) {
        for week in 0..52_u32 {
            let day = 2.1 + f64::from(week) * 7.0;
            let fate = match week {
                // Nobody was there for a month.
                20..24 => continue,
                7 => Fate::Fails("data.digests", "public.res_partner and 2 other tables differ from the witness"),
                31 => Fate::LeavesOut("structure.amcheck"),
                45 => Fate::Fails("boot.log", HOSTILE),
                _ => Fate::Passes,
            };
            let run = self.drill(site, day, fate);
            match week {
                7 => {
                    let action = "replace the failing memory module of db-2, then drill again";
                    let words = "The page was damaged in memory before it was written: hardware ticket 4711.";
                    self.sign(run, day + 1.0, Decision::Rejected, words, None, Some(action));
                }
                31 => {
                    let words = "amcheck needs longer than the window allows; accepted once by the board.";
                    self.sign(run, day + 2.0, Decision::Accepted, words, Some("no structure check in July"), None);
                }
                12 => self.sign(run, day + 1.0, Decision::Noted, HOSTILE, None, None),
                week if week % 3 == 0 => self.sign(run, day + 1.0, Decision::Accepted, "seen", None, None),
                _ => {}
            }
        }
        let kinds = [
            ("flipped-page", "files.pages"),
            ("zeroed-page", "files.pages"),
            ("truncated-relation", "files.manifest"),
            ("missing-wal", "point.objects"),
            ("flipped-wal", "replay.end"),
            ("deleted-row", "data.digests"),
            ("changed-value", "data.digests"),
            ("dropped-index-entry", "structure.amcheck"),
            ("deleted-attachment", "attachments.filestore"),
            ("swapped-attachments", "attachments.filestore"),
            ("missing-addon", "boot.modules"),
            ("older-module", "boot.modules"),
            ("stale-filestore", "attachments.filestore"),
            ("wrong-key", "fetch.place"),
            ("forged-point", "point.signature"),
        ];
        for (at, (kind, check)) in kinds.into_iter().enumerate() {
            self.control(site, 320.0 + at as f64 / 24.0, kind, check);
        }
    }

    fn time(day: f64) -> Timestamp {
        let start: Timestamp = FROM.parse().unwrap();
        start + SignedDuration::from_secs((day * 86_400.0) as i64)
    }

    fn run(&mut self) -> RunId {
        self.serial += 1;
        RunId((self.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes())
    }

    /// Between 0 and 1, the same every time.
    fn chance(&self) -> f64 {
        (self.serial.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f64 / f64::from(1 << 24)
    }

    fn backups(&mut self, site: &Site) {
        let last = if site.name == CLOSED { 9 } else { 52 };
        for week in 0..last {
            let day = 1.0 + f64::from(week) * 7.0;
            let (run, started) = (self.run(), Self::time(day));
            self.statements.push(Statement::backup(BackupPredicate {
                run,
                started_by: by("lifeboat backup"),
                software: "lifeboat 0.1.0".into(),
                config_sha256: Sha256Digest([2; 32]),
                tenant: TENANT.parse().unwrap(),
                instance: site.name.parse().unwrap(),
                tier: site.tier.parse().unwrap(),
                repository: REPOSITORY,
                storage: storage(),
                started,
                finished: started + SignedDuration::from_secs(840),
                point: PointReference {
                    id: PointId(run.0),
                    key: format!("{TENANT}/{}/points/{run}", site.name),
                    sha256: Sha256Digest([5; 32]),
                    version: Some("3HL4kqtJvjVBH40Nrjfkd".into()),
                },
                source: Source {
                    system_id: "7440123456789012345".into(),
                    postgres_version: "17.6 (Debian 17.6-1)".into(),
                    timeline: 1,
                    start_lsn: Lsn(0x4A_7F00_0028),
                    end_lsn: Lsn(0x4A_7F00_3C18),
                    data_checksums: DataChecksums::Verified,
                    databases: vec!["odoo".into()],
                },
                sizes: Sizes {
                    read_bytes: 65_712_000_000,
                    new_bytes: 900_000_000,
                    stored_bytes: 310_000_000,
                    reused_bytes: 64_800_000_000,
                    files: 93_000,
                },
                trees: vec![],
                notes: vec![],
                not_covered: vec![],
            }));
        }
        let (run, started) = (self.run(), Self::time(200.0));
        let proof = LocksProof { points: 12, objects: 5120, ..LocksProof::default() };
        let act = Act::Verify(Proof { locks: Some(proof), signs: None });
        self.statements.push(Statement::act(around(run, site.name, started, Outcome::Passed, act)));
    }

    fn drill(&mut self, site: &Site, day: f64, fate: Fate) -> RunId {
        let run = self.run();
        let drill = self.predicate(site, run, Self::time(day), fate);
        self.statements.push(Statement::drill(drill));
        run
    }

    fn control(&mut self, site: &Site, day: f64, kind: &str, check: &'static str) {
        let run = self.run();
        // One damage is not seen by the check that must see it.
        let is_wrong = kind == "older-module";
        let failed = if is_wrong { "boot.log" } else { check };
        let mut drill = self.predicate(site, run, Self::time(day), Fate::Fails(failed, "as it must"));
        drill.sabotage = Some(kind.to_owned());
        drill.control = Some(Control {
            kind: kind.to_owned(),
            expected: vec![check.to_owned()],
            failed: vec![failed.to_owned()],
            outcome: if is_wrong { Outcome::Failed } else { Outcome::Passed },
            why: if is_wrong { "boot.modules passed, and boot.log failed" } else { "exactly the right check failed" }
                .into(),
        });
        self.statements.push(Statement::drill(drill));
    }

    fn sign(
        &mut self,
        of: RunId,
        day: f64,
        decision: Decision,
        comment: &str,
        exception: Option<&str>,
        corrective_action: Option<&str>,
    ) {
        let run = self.run();
        let about =
            self.statements.iter().find(|statement| statement.run().is_some_and(|(run, ..)| run == of)).unwrap();
        let instance = about.run().unwrap().2.unwrap().to_string();
        let act = Act::SignOff(SignOff {
            run: of,
            statement: about.storage_key().unwrap().to_string(),
            statement_sha256: digest(about),
            who: "agnès.müller@dr-desk".into(),
            role: "dr-coordinator".into(),
            decision,
            comment: comment.to_owned(),
            exception: exception.map(str::to_owned),
            corrective_action: corrective_action.map(str::to_owned),
            due: corrective_action.map(|_| "2026-02-01".parse().unwrap()),
        });
        self.statements.push(Statement::act(around(run, &instance, Self::time(day), decision.outcome(), act)));
    }

    fn predicate(&self, site: &Site, run: RunId, started: Timestamp, fate: Fate) -> DrillPredicate {
        let slow = if site.name == LONG && run.0[0].is_multiple_of(3) { 1.3 } else { 1.0 };
        let rto = site.usual * (0.85 + 0.3 * self.chance()) * slow;
        let is_late = rto > site.rto as f64;
        let fate = if is_late && fate == Fate::Passes {
            Fate::Fails("measure.rto", "4h 23m, the target is 4h 0m")
        } else {
            fate
        };
        let checks = checks(fate);
        let reached = |id: &str| checks.iter().any(|check| check.id == id && check.verdict.is_passed());
        let rto_seconds = (reached("use.login")).then_some(rto);
        let rpo = 2.0 + 40.0 * self.chance();
        let rpo_seconds = reached("measure.rpo").then_some(rpo);
        let reference = started - SignedDuration::from_secs(3600);
        let required: Vec<String> = CHECKS.iter().take(28).map(|(_, id, ..)| (*id).to_owned()).collect();
        let span = |seconds: u64| Span(std::time::Duration::from_secs(seconds));
        let newest_commit =
            rpo_seconds.map(|seconds| reference - SignedDuration::from_millis((seconds * 1000.0) as i64));
        DrillPredicate {
            run,
            started_by: by("lifeboat drill"),
            software: "lifeboat 0.1.0".into(),
            config_sha256: Sha256Digest([2; 32]),
            tenant: TENANT.parse().unwrap(),
            instance: site.name.parse().unwrap(),
            tier: site.tier.parse().unwrap(),
            repository: Some(REPOSITORY),
            storage: storage(),
            started,
            finished: started + SignedDuration::from_secs(rto as i64 + 30),
            point: Some(DrilledPoint {
                id: PointId(run.0),
                key: format!("{TENANT}/{}/points/20261121T200732Z-{run}", site.name),
                sha256: Sha256Digest([5; 32]),
                version: Some("3HL4kqtJvjVBH40Nrjfkd.QyzPJM2Vd5".into()),
                finished: reference,
                age_seconds: 86_400 * 2,
                selected_by: "target: the latest moment held".into(),
            }),
            versions_read_back: versions(started),
            outcome: Outcome::with_required(&checks, &required),
            not_executed: not_executed(&checks),
            required,
            comparison: Comparison::ExactWitness(ExactComparison {
                tables: 589,
                rows: 12_345_678,
                lsn: Lsn(0x4A_7F00_3C18),
                sampled: 0,
                not_compared: 1,
                from: "standby".into(),
            }),
            rpo_seconds,
            newest_commit,
            rpo_reference: newest_commit.map(|_| reference),
            rto_seconds,
            targets: Targets::compare(span(site.rpo), span(site.rto), rpo_seconds, rto_seconds),
            phases: phases(rto),
            images: images(),
            software_versions: SoftwareVersions {
                postgres: Some("17.6 (Debian 17.6-1)".into()),
                odoo: Some("19.0-20261015".into()),
                modules: Some(164),
            },
            isolation: isolation(),
            teardown: Teardown { complete: true, ..Teardown::default() },
            not_covered: vec![NotCovered {
                what: "attachments with the prefix s3://".into(),
                count: Some(12),
                why: "neither the database nor the filestore holds them".into(),
            }],
            sabotage: None,
            notes: vec!["the witness was taken at the standby".into()],
            exceptions: vec![],
            corrective_action: None,
            sign_offs: vec![],
            control: None,
            policy_sha256: Some(Sha256Digest([8; 32])),
            breakdown: Some(Breakdown {
                total_ms: (rto * 1000.0) as u64,
                postgres_ms: (rto * 420.0) as u64,
                odoo_ms: (rto * 250.0) as u64,
                own_ms: (rto * 330.0) as u64,
            }),
            prediction: Some(prediction(site, rto)),
            screenshot: Some(Screenshot { sha256: Sha256Digest([9; 32]), bytes: 184_000, key: None }),
            checks,
        }
    }
}

/// Stands for the digest of its envelope where nobody signs it.
pub fn digest(statement: &Statement) -> Sha256Digest {
    let key = statement.storage_key().unwrap().to_string();
    Sha256Digest(<sha2::Sha256 as sha2::Digest>::digest(key).into())
}

fn by(command: &str) -> StartedBy {
    StartedBy { user: "lifeboat".into(), host: "backup-1.example".into(), command: command.into() }
}

fn storage() -> String {
    "s3://hospital-evidence-eu-central-1/lifeboat at https://s3.eu-central-1.example (object lock, compliance, at least 2192 d)"
        .into()
}

fn around(run: RunId, instance: &str, started: Timestamp, outcome: Outcome, act: Act) -> ActPredicate {
    ActPredicate {
        run,
        started_by: by("lifeboat evidence sign-off"),
        software: "lifeboat 0.1.0".into(),
        config_sha256: Sha256Digest([2; 32]),
        tenant: TENANT.parse().unwrap(),
        instance: Some(instance.parse().unwrap()),
        repository: REPOSITORY,
        storage: storage(),
        started,
        finished: started,
        outcome,
        act,
    }
}

fn checks(fate: Fate) -> Vec<Check> {
    let mut broken: Option<&str> = None;
    let verdict = |id: &str, broken: &mut Option<&str>| match fate {
        _ if id.starts_with("teardown") => Verdict::Passed,
        _ if broken.is_some() => Verdict::NotExecuted(format!("{} failed", broken.unwrap_or_default())),
        Fate::Fails(check, why) if id == check => {
            // What is measured late does not stop the climb.
            if check != "measure.rto" {
                *broken = Some(check);
            }
            Verdict::Failed(why.to_owned())
        }
        Fate::LeavesOut(check) if id == check => Verdict::NotExecuted("it took longer than its limit of 30m".into()),
        _ if id == "use.invoice" => Verdict::NotExecuted("wkhtmltopdf does not work in this image".into()),
        _ => Verdict::Passed,
    };
    let made = CHECKS.iter().map(|(rung, id, purpose, expected, observed)| {
        let verdict = verdict(id, &mut broken);
        let observed = if matches!(verdict, Verdict::NotExecuted(_)) { "" } else { observed };
        Check {
            id: (*id).to_owned(),
            rung: *rung,
            purpose: (*purpose).to_owned(),
            expected: (*expected).to_owned(),
            observed: observed.to_owned(),
            verdict,
            duration_ms: 40 + u64::from(*rung) * 317,
        }
    });
    let mut checks: Vec<Check> = made.collect();
    // use.invoice is required here and cannot run: its lack is one that the tier does not mind.
    checks.retain(|check| check.id != "use.invoice" || fate != Fate::Passes);
    if fate == Fate::Passes {
        let passed = Check {
            id: "use.invoice".into(),
            rung: 11,
            purpose: "an invoice is rendered as PDF".into(),
            expected: "a PDF".into(),
            observed: "61 KiB, without-any-place-to-break-".repeat(6),
            verdict: Verdict::Passed,
            duration_ms: 3120,
        };
        checks.insert(23, passed);
    }
    checks
}

fn versions(started: Timestamp) -> VersionsReadBack {
    VersionsReadBack {
        objects: 412,
        equal: 412,
        listed: vec![ObjectVersion {
            key: format!("{TENANT}/clinic/packs/ab/ab00112233445566778899aabbccddee"),
            recorded: Some("v1".into()),
            read_back: Some("v1".into()),
        }],
        locks: Some(LocksReadBack {
            promised_until: Some(started + SignedDuration::from_hours(24 * 90)),
            objects: 413,
            locked: 413,
            compliance: 413,
            held: 0,
            unread: 0,
            earliest_until: Some(started + SignedDuration::from_hours(24 * 91)),
            short: vec![],
        }),
        ..VersionsReadBack::default()
    }
}

fn phases(rto: f64) -> Vec<Phase> {
    let phase = |name: &str, share: f64, bytes: Option<u64>, worker: Worker| Phase {
        name: name.to_owned(),
        duration_ms: (rto * share * 1000.0) as u64,
        bytes,
        files: bytes.map(|_| 3120),
        parts: vec![Part { name: name.to_owned(), worker, duration_ms: (rto * share * 990.0) as u64, bytes: None }],
    };
    vec![
        phase("fetch and place", 0.33, Some(65_712_000_000), Worker::Own),
        phase("replay", 0.22, Some(2_400_000_000), Worker::Postgres),
        phase("structure and data", 0.2, None, Worker::Postgres),
        phase("boot and use", 0.25, None, Worker::Odoo),
    ]
}

fn images() -> Vec<Image> {
    let image = |role: &str, name: &str| Image {
        role: role.to_owned(),
        name: name.to_owned(),
        id: "sha256:6a1f8fbd3b2c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6".into(),
        digest: None,
    };
    vec![image("postgres", "registry.example/northern/postgres:17"), image("odoo", "registry.example/northern/odoo:19")]
}

fn isolation() -> Vec<Fact> {
    let fact = |name: &str, observed: &str| Fact { name: name.to_owned(), observed: observed.to_owned() };
    vec![
        fact("network is internal", "true"),
        fact("postgres → host 172.17.0.1", "no route"),
        fact("odoo → 169.254.169.254", "no route"),
        fact("odoo → DNS", "no answer within 2 s"),
    ]
}

fn prediction(site: &Site, rto: f64) -> Prediction {
    let seconds = rto * 1.15;
    Prediction {
        seconds,
        target_seconds: site.rto,
        met: seconds <= site.rto as f64,
        steps: vec![
            PredictedStep {
                name: "fetch and place".into(),
                bytes: Some(65_712_000_000),
                bytes_per_second: Some(180_000_000.0),
                seconds: seconds * 0.6,
            },
            PredictedStep { name: "replay, boot".into(), bytes: None, bytes_per_second: None, seconds: seconds * 0.4 },
        ],
        assumptions: vec!["the same link to the repository".into(), "an empty disk of the same speed".into()],
    }
}
