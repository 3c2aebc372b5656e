//! The climb, one rung after the other.
//!
//! What is independent runs at the same time; what a failed rung makes meaningless is not tried. A part of the climb gives
//! nothing when it stops at such a rung; it has told the ladder why, and the ladder writes that reason into every check that
//! was not reached. The parts stand below in the order of the ladder.

mod content;
mod control;
pub(crate) mod hold;
mod import;
mod own;
mod prepare;
mod replay;
mod serve;

pub(crate) use content::verify_attachments;
pub(crate) use serve::merge;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lifeboat_evidence::drill::{Comparison, Prediction, SoftwareVersions};
use lifeboat_odoo::attachments;
use tokio_util::sync::CancellationToken;

use hold::Standing;

use crate::{
    error::{Error, Result},
    ladder::{self, Answer, Answered, Ladder, Observer, Spec},
    measure,
    prediction::{Measured, predict},
    report::{self, DrillReport},
    run::DrillRequest,
    sandbox::{Docker, Image, Isolation, User, disk::Disk, pulse::Pulse, secrets, teardown},
    screenshot::Picture,
    source::{Fetched, Form, Selected},
    timing::Timing,
};

/// How long looking around may take.
const LOOK_LIMIT: Duration = Duration::from_secs(600);

/// So many credentials are named; the others are counted.
const NAMED: usize = 50;

/// What the climb leaves behind, also when it is stopped in the middle.
pub(crate) struct Climb {
    pub ladder: Ladder,
    begun: Instant,
    timing: Timing,
    pub docker: Option<Docker>,
    /// The disk that everything is written to.
    pub disk: Arc<Disk>,
    /// Whether the engine is still there.
    pub pulse: Arc<Pulse>,
    selected: Option<Selected>,
    images: Vec<Image>,
    versions: SoftwareVersions,
    isolation: Option<Isolation>,
    comparison: Comparison,
    newest_commit: Option<Timestamp>,
    rpo: Option<Duration>,
    rto: Option<Duration>,
    /// What the logged-in user saw.
    picture: Option<Picture>,
    prediction: Option<Prediction>,
    not_covered: Vec<(String, u64)>,
    notes: Vec<String>,
    /// Our own words, fit for evidence.
    public_notes: Vec<String>,
    observer: Arc<dyn Observer>,
}

/// Where things lie in the drill's folder.
struct Places {
    work: PathBuf,
    restored: PathBuf,
    pgdata: PathBuf,
    /// PostgreSQL's settings.
    settings: PathBuf,
    /// PostgreSQL's socket for the host.
    socket: PathBuf,
}

impl Places {
    fn new(work: &Path) -> Places {
        let restored = work.join("restored");
        let pgdata = restored.join("pgdata");
        Places { work: work.to_owned(), restored, pgdata, settings: work.join("postgres"), socket: work.join("socket") }
    }
}

impl Climb {
    pub fn new(observer: Arc<dyn Observer>, begun: Instant, disk: Arc<Disk>, pulse: Arc<Pulse>) -> Climb {
        Climb {
            ladder: Ladder::new(Arc::clone(&observer)),
            begun,
            timing: Timing::new(begun),
            docker: None,
            disk,
            pulse,
            selected: None,
            images: Vec::new(),
            versions: SoftwareVersions::default(),
            isolation: None,
            comparison: Comparison::None { why: "not reached".to_owned() },
            newest_commit: None,
            rpo: None,
            rto: None,
            picture: None,
            prediction: None,
            not_covered: Vec::new(),
            notes: Vec::new(),
            public_notes: Vec::new(),
            observer,
        }
    }

    /// From the first rung to the last but teardown; gives a sandbox in which Odoo serves.
    pub async fn climb(&mut self, request: &DrillRequest, started: Timestamp, work: &Path) -> Result<Option<Standing>> {
        let places = Places::new(work);
        self.notes
            .extend(request.sabotage.iter().map(|sabotage| format!("damaged on purpose: {}", sabotage.describe())));
        let Some(found) = self.select(request, started).await? else { return Ok(None) };
        let Some(fetched) = self.fetch(request, started, &found, &places).await? else { return Ok(None) };
        let (mut prepared, mut replayed) = if request.source.form() == Form::Sql {
            let Some(imported) = self.import(request, fetched, &places).await? else { return Ok(None) };
            imported
        } else {
            let Some(mut prepared) = self.prepare(request, fetched, &places).await? else { return Ok(None) };
            let Some(replayed) = self.replay(request, &mut prepared, &places).await? else { return Ok(None) };
            (prepared, replayed)
        };
        self.tell_restored(request, &prepared, &places).await;
        let Some(ready) = self.content(request, &mut prepared, &mut replayed, &places).await? else { return Ok(None) };
        let Some(served) = self.serve(request, &prepared, &mut replayed, &ready).await? else { return Ok(None) };
        self.measure(request, &found.selected, &prepared.fetched);
        self.ladder.stop("not asked");
        Ok(Some(Standing::new(request, &places, self.rpo, replayed, served)))
    }

    /// Rung 13.
    fn measure(&mut self, request: &DrillRequest, selected: &Selected, fetched: &Fetched) {
        let known = self.newest_commit.or(fetched.began);
        // Of a position nobody knows the time: what it names is there to the last commit, or replay would have failed.
        let reference = selected.reference.or(known);
        self.rpo = reference.and_then(|reference| measure::rpo(reference, known));
        let mut rpo =
            measure::judge("commit was replayed and the backup's beginning is not known", self.rpo, request.rpo);
        if self.newest_commit.is_none() && self.rpo.is_some() {
            rpo.observed = format!("at most {}: no commit was replayed, so from the backup's beginning", rpo.observed);
        }
        let rto = measure::judge("login was served", self.rto, request.rto);
        self.ladder.record(ladder::RPO.answered(rpo, Duration::ZERO));
        self.ladder.record(ladder::RTO.answered(rto, Duration::ZERO));
        self.predict(request, fetched);
    }

    /// What an emergency would do of this, and how long it would take.
    fn predict(&mut self, request: &DrillRequest, fetched: &Fetched) {
        let took = |name| self.timing.took(name);
        let measured = Measured {
            select: self.timing.phase("select"),
            fetch: took(prepare::FETCH),
            bytes: fetched.bytes,
            replay: took(replay::REPLAY),
            wal: fetched.wal_end.zip(fetched.wal_begin).map(|(end, begin)| end.0.saturating_sub(begin.0)),
            boot: took(serve::BOOT),
            login: took(serve::LOGIN),
            paused: self.timing.count(replay::REPLAY) > 1,
        };
        // A database in a zip is restored in another way.
        if self.rto.is_some() && request.source.form() == Form::Cluster {
            self.prediction = Some(predict(&measured, request.rto));
        }
    }

    /// What the repository looks like around the point: after the climb, however it ended, unless somebody stopped it.
    /// A negative control does not ask for it.
    pub async fn look_around(&mut self, request: &DrillRequest, cancel: &CancellationToken) {
        if request.sabotage.is_some() {
            return;
        }
        self.begin_phase("look around");
        let looking = tokio::time::timeout(LOOK_LIMIT, request.source.look_around());
        match cancel.run_until_cancelled(looking).await {
            Some(Ok(answers)) => answers.into_iter().for_each(|answered| self.ladder.record(answered)),
            Some(Err(_)) => {
                let why = format!("not done within {} s", LOOK_LIMIT.as_secs());
                self.ladder.record(ladder::SIGNS.not_executed(&why));
            }
            None => {}
        }
    }

    /// Ends the climb at a check that did not pass.
    fn stop_at<T>(&mut self, spec: &Spec) -> Option<T> {
        self.ladder.stop(format!("{} did not pass", spec.id));
        None
    }

    /// Writes down the check's answer, and ends the climb there unless it passed.
    fn stop_unless_passed(&mut self, spec: &Spec, answer: Answer, took: Duration) -> Option<()> {
        self.ladder.record(spec.answered(answer, took));
        if self.ladder.passed(spec) { Some(()) } else { self.stop_at(spec) }
    }

    pub fn begin_phase(&mut self, name: &str) {
        self.observer.phase(name);
        self.timing.begin_phase(name);
    }

    fn record_isolation(&mut self, isolation: Result<Isolation>) {
        let answer = match &isolation {
            Ok(seen) => seen.answer(),
            Err(error) => Answer::impossible(error),
        };
        let secrets = match &isolation {
            Ok(Isolation { secrets: (hidden, seen), .. }) => {
                let place = |path: &PathBuf| format!("a credential was hidden from the sandbox: {}", path.display());
                self.notes.extend(hidden.paths.iter().take(NAMED).map(place));
                secrets::answer(hidden, seen)
            }
            Err(error) => Answer::impossible(error),
        };
        self.ladder.record(ladder::SECRETS.answered(secrets, Duration::ZERO));
        self.isolation = isolation.ok();
        self.ladder.record(ladder::ISOLATION.answered(answer, Duration::ZERO));
    }

    fn note_attachments(&mut self, reports: &[(String, attachments::Report)]) {
        for (_, report) in reports {
            for (kind, count) in &report.not_covered {
                match self.not_covered.iter_mut().find(|(known, _)| known == kind) {
                    Some((_, known)) => *known += count,
                    None => self.not_covered.push((kind.clone(), *count)),
                }
            }
        }
    }

    pub fn finish(self, request: DrillRequest, started: Timestamp, teardown: teardown::Teardown) -> DrillReport {
        let mut ladder = self.ladder.with_own(own::own_checks(&request.config));
        ladder
            .record(ladder::SIGNED.not_executed("signed after the report is drawn up: see where the evidence is kept"));
        let answered = ladder.finish();
        let evidence_checks = answered.iter().map(Answered::for_evidence).collect();
        let checks: Vec<_> = answered.into_iter().map(|answered| answered.check).collect();
        let required = match request.source.form() {
            Form::Cluster => ladder::required(&own::required(&request.config)),
            Form::Sql => ladder::required_of_zip(&own::required(&request.config)),
        };
        let outcome = ladder::outcome(&checks, &required);
        let (phases, breakdown) = self.timing.finish();
        let damage = request.sabotage.as_ref().and_then(|sabotage| sabotage.damage());
        let damage = damage.map(|what| format!("damaged: {what}"));
        DrillReport {
            run: request.run,
            tenant: request.tenant,
            instance: request.instance,
            started,
            finished: (request.clock)(),
            selected: self.selected,
            checks,
            evidence_checks,
            outcome,
            required,
            comparison: self.comparison,
            phases,
            breakdown,
            prediction: self.prediction,
            rpo: self.rpo,
            rto: self.rto,
            picture: self.picture,
            newest_commit: self.newest_commit,
            targets: report::targets(request.rpo, request.rto, (self.rpo, self.rto)),
            images: self.images,
            versions: self.versions,
            isolation: self.isolation,
            teardown,
            sabotage: request.sabotage.as_ref().map(|sabotage| sabotage.describe()),
            not_covered: self.not_covered,
            notes: damage.iter().chain(&self.notes).chain(&self.public_notes).cloned().collect(),
            public_notes: self.public_notes,
        }
    }
}

/// Changes owners off the async threads.
pub(crate) async fn own(user: User, path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || user.own(&path)).await.map_err(|error| Error::Task(error.to_string()))?
}
