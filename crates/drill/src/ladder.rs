//! The ladder: every check that a drill knows, in order, and the book of what each answered.
//!
//! The list is fixed, so that a report always has every check once: passed, failed, or *not executed* and why. What a drill
//! did not reach is filled in at the end with the reason that stopped it; nothing is left out and nothing passes unasked.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lifeboat_model::check::{Check, Outcome, Verdict, millis};

use crate::error::{Error, Result, with_causes};

/// Follows a drill while it runs, for progress output.
pub trait Observer: Send + Sync {
    /// A phase begins.
    fn phase(&self, _name: &str) {}
    /// A check has answered.
    fn check(&self, _check: &Check) {}
    /// The same, with its words for evidence.
    fn answered(&self, answered: &Answered) {
        self.check(&answered.check);
    }
}

/// Follows nothing.
pub struct Silent;

impl Observer for Silent {}

/// One check of the ladder.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Stable id, `rung.name`.
    pub id: &'static str,
    /// Rung, 1–15.
    pub rung: u8,
    /// What it is for.
    pub purpose: &'static str,
    /// What must be seen.
    pub expected: &'static str,
    /// Whether the drill is incomplete without it, whatever the configuration says.
    pub required: bool,
}

/// What a check found.
#[derive(Debug)]
pub struct Answer {
    /// What was seen.
    pub observed: String,
    /// What it means.
    pub verdict: Verdict,
    /// The words for evidence, which is stored unencrypted and shown to others, where `observed` names things from inside the
    /// backup: files, rows, log lines.
    pub public: Option<String>,
}

/// A check with its answer, and its words for evidence where they are others.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The check, with everything that helps whoever ran the drill.
    pub check: Check,
    /// See [`Answer::public`].
    pub public: Option<String>,
}

impl From<Check> for Answered {
    fn from(check: Check) -> Answered {
        Answered { check, public: None }
    }
}

impl Answered {
    /// The check as evidence may say it.
    pub fn for_evidence(&self) -> Check {
        let Some(public) = &self.public else { return self.check.clone() };
        let verdict = match &self.check.verdict {
            Verdict::Passed => Verdict::Passed,
            Verdict::Failed(_) => Verdict::Failed(public.clone()),
            Verdict::NotExecuted(_) => {
                let verdict = Verdict::NotExecuted(public.clone());
                return Check { observed: String::new(), verdict, ..self.check.clone() };
            }
        };
        Check { observed: public.clone(), verdict, ..self.check.clone() }
    }
}

impl Answer {
    /// As expected.
    pub fn passed(observed: impl Into<String>) -> Answer {
        Answer { observed: observed.into(), verdict: Verdict::Passed, public: None }
    }

    /// Not as expected; the same text says what was seen and why it is wrong.
    pub fn failed(why: impl Into<String>) -> Answer {
        let why = why.into();
        Answer { observed: why.clone(), verdict: Verdict::Failed(why), public: None }
    }

    /// Could not be asked.
    pub fn not_executed(why: impl Into<String>) -> Answer {
        Answer { observed: String::new(), verdict: Verdict::NotExecuted(why.into()), public: None }
    }

    /// Could not be asked, because of an error: evidence is not told what servers and programs said.
    pub fn impossible(error: &Error) -> Answer {
        Answer::not_executed(with_causes(error)).in_public(error.public())
    }

    /// Failed, because of an error that tells of the backup. Any other says nothing of it: see [`Answer::impossible`].
    pub fn broken(error: &Error) -> Answer {
        match error.is_damage() {
            true => Answer::failed(with_causes(error)).in_public(error.public()),
            false => Answer::impossible(error),
        }
    }

    /// Says it in other words to evidence.
    pub fn in_public(self, words: impl Into<String>) -> Answer {
        Answer { public: Some(words.into()), ..self }
    }

    /// Passed or failed, by a condition.
    pub fn when(holds: bool, observed: impl Into<String>) -> Answer {
        if holds { Answer::passed(observed) } else { Answer::failed(observed) }
    }
}

macro_rules! ladder {
    ($($name:ident = $rung:literal $id:literal $need:ident: $purpose:literal, $expected:literal;)*) => {
        $(#[doc = $purpose] pub const $name: Spec = Spec { id: $id, rung: $rung, purpose: $purpose, expected: $expected, required: ladder!(@ $need) };)*
        /// Every check, in order.
        pub const LADDER: &[Spec] = &[$($name),*];
    };
    (@ required) => { true };
    (@ optional) => { false };
}

ladder! {
    SELECT = 1 "select.point" required: "the recovery point to rehearse", "a recovery point";
    SIGNATURE = 2 "point.signature" required: "the point was signed by a trusted key", "a valid Ed25519 signature of a trusted key";
    OBJECTS = 2 "point.objects" required: "every object of the point is stored", "all objects, with the recorded lengths";
    VERSIONS = 2 "point.versions" optional: "objects are read by the version that was written", "the recorded VersionIds";
    LOCKS = 2 "point.locks" optional: "objects cannot be deleted early", "retention as recorded";
    SIGNS = 2 "point.signs" optional: "what others have put into the repository is seen, and not read", "named, or none";
    FETCH = 3 "fetch.place" required: "everything is fetched, decrypted, verified and placed", "every byte in place, no damage";
    MANIFEST = 4 "files.manifest" required: "restored files are those of the server's own backup_manifest", "sizes and checksums equal";
    PAGES = 4 "files.pages" optional: "page checksums of every relation file", "no page with a wrong checksum";
    REPLAY = 5 "replay.end" required: "WAL is replayed to the end of the point and the server promotes itself", "consistent, end of the point's WAL reached, promoted";
    ISOLATION = 5 "sandbox.isolation" required: "the sandbox has no way out", "no network, no route, every attempt to get out fails";
    SECRETS = 5 "sandbox.secrets" required: "credentials of production are hidden from the sandbox", "none in sight from any container";
    AMCHECK = 6 "structure.amcheck" required: "heaps and B-tree indexes are sound", "pg_amcheck with heapallindexed reports nothing";
    DIGESTS = 7 "data.digests" optional: "row counts and digests of every table equal the source's", "all tables equal";
    ATTACHMENTS = 8 "attachments.filestore" required: "every attachment's file is there", "present, right size, right SHA-1";
    TARGET = 9 "neutralise.target" required: "the server that is asked is the sandbox's own, and none of production", "the drill's own data folder, on a timeline of its own";
    NEUTRALISE = 9 "neutralise.apply" required: "the copy is made harmless before Odoo loads it", "all statements that apply have run";
    ASSERT = 9 "neutralise.assert" required: "the copy is harmless", "every assertion that applies holds";
    IMAGE = 10 "boot.image" required: "the Odoo image fits the database", "Odoo of the database's series";
    MODULES = 10 "boot.modules" required: "installed modules are available in the same versions", "none missing, all versions equal";
    EXTENSIONS = 10 "boot.extensions" required: "PostgreSQL has every extension that the database uses", "every extension at the installed version, every library";
    REGISTRY = 10 "boot.registry" required: "Odoo loads the registry and serves", "registry loaded, HTTP answers";
    LOG = 10 "boot.log" required: "Odoo's log, to the end of its use, has nothing that must not be there", "no error, no traceback, no missing module or file";
    LOGIN = 11 "use.login" required: "a user made for the sandbox logs in through the web session", "a session";
    RECORDS = 11 "use.records" required: "records are read through Odoo", "partners as the database has them";
    CONTENT = 11 "use.attachments" required: "attachments are fetched over HTTP", "SHA-1 of each content as recorded";
    ASSETS = 11 "use.assets" optional: "stylesheets and scripts of the login page and of the application are served", "status 200, not empty, of the right type";
    INVOICE = 11 "use.invoice" optional: "an invoice is rendered as PDF", "a PDF";
    SCREENSHOT = 11 "use.screenshot" optional: "a browser shows the application to whoever is logged in", "a picture of the web client";
    BOOKS = 12 "books.integrity" optional: "Odoo's own inalterability check, in every company", "chains verified, none corrupted";
    RPO = 13 "measure.rpo" required: "age of the newest restored commit at the reference time", "within the target";
    RTO = 13 "measure.rto" required: "from the first second to a served login", "within the target";
    TEARDOWN = 14 "teardown.proof" required: "nothing is left of the sandbox", "no container, volume, network or plaintext";
    SIGNED = 15 "evidence.signed" optional: "the evidence is signed and stored", "a signed statement in the repository";
}

/// The rung of an operator's own checks: behind the last that asks Odoo.
const OWN_RUNG: u8 = 12;

/// A check that the configuration brings.
#[derive(Debug, Clone)]
pub struct Own {
    /// Its id, `own.<name>`.
    pub id: String,
    /// What it is for.
    pub purpose: String,
    /// What must be seen.
    pub expected: String,
}

impl Own {
    /// An answer.
    pub fn answered(&self, answer: Answer, took: Duration) -> Answered {
        let check = Check {
            id: self.id.clone(),
            rung: OWN_RUNG,
            purpose: self.purpose.clone(),
            expected: self.expected.clone(),
            observed: answer.observed,
            verdict: answer.verdict,
            duration_ms: millis(took),
        };
        Answered { check, public: answer.public }
    }
}

/// The book of answers.
pub struct Ladder {
    checks: Vec<Answered>,
    own: Vec<Own>,
    observer: Arc<dyn Observer>,
    /// Why, and the words of it for evidence.
    stopped: Option<(String, String)>,
    /// Which checks failed, and when.
    failures: Vec<(String, Instant)>,
}

impl Ladder {
    /// An empty book.
    pub fn new(observer: Arc<dyn Observer>) -> Ladder {
        Ladder {
            checks: Vec::with_capacity(LADDER.len()),
            own: Vec::new(),
            observer,
            stopped: None,
            failures: Vec::new(),
        }
    }

    /// Takes in what the configuration brings: it is in the book as well, asked or not.
    pub fn with_own(self, own: Vec<Own>) -> Ladder {
        Ladder { own, ..self }
    }

    /// Writes an answer down, once per check: the first counts.
    pub fn record(&mut self, answered: impl Into<Answered>) {
        let answered = answered.into();
        let check = &answered.check;
        if self.checks.iter().all(|known| known.check.id != check.id) {
            tracing::debug!(check = %check.id, verdict = check.verdict.word(), "check");
            self.observer.answered(&answered);
            if matches!(check.verdict, Verdict::Failed(_)) {
                self.failures.push((check.id.clone(), Instant::now()));
            }
            self.checks.push(answered);
        }
    }

    /// Whether a check has passed.
    pub fn passed(&self, spec: &Spec) -> bool {
        self.checks.iter().any(|known| known.check.id == spec.id && known.check.verdict.is_passed())
    }

    /// Whether any check has failed.
    pub fn any_failed(&self) -> bool {
        self.checks.iter().any(|known| matches!(known.check.verdict, Verdict::Failed(_)))
    }

    /// What failed since then was not executed: the ground that it stood on was gone.
    pub fn doubt(&mut self, since: Instant, why: &str) {
        let doubted: Vec<String> = self.failures.extract_if(.., |(_, at)| *at >= since).map(|(id, _)| id).collect();
        for known in self.checks.iter_mut().filter(|known| doubted.contains(&known.check.id)) {
            known.check.verdict = Verdict::NotExecuted(why.to_owned());
            known.check.observed.clear();
            known.public = None;
        }
    }

    /// Whether a check has answered.
    pub fn has(&self, spec: &Spec) -> bool {
        self.checks.iter().any(|known| known.check.id == spec.id)
    }

    /// Says why nothing further was done. The first reason counts.
    pub fn stop(&mut self, why: impl Into<String>) {
        let why = why.into();
        self.stopped.get_or_insert((why.clone(), why));
    }

    /// Says the reason behind all that was said before.
    pub fn stop_instead(&mut self, why: &str) {
        self.stopped = Some((why.to_owned(), why.to_owned()));
    }

    /// Says which error ended the climb; evidence is not told what servers and programs said.
    pub fn stop_by(&mut self, error: &Error) {
        self.stopped.get_or_insert((with_causes(error), error.public()));
    }

    /// Fills in what was not reached, and orders by rung.
    pub fn finish(mut self) -> Vec<Answered> {
        let not_reached = || ("not reached".to_owned(), "not reached".to_owned());
        let (why, public) = self.stopped.clone().unwrap_or_else(not_reached);
        for spec in LADDER {
            let answer = Answer::not_executed(why.as_str()).in_public(public.as_str());
            self.record(spec.answered(answer, Duration::ZERO));
        }
        for own in std::mem::take(&mut self.own) {
            self.record(own.answered(Answer::not_executed(why.as_str()).in_public(public.as_str()), Duration::ZERO));
        }
        let place = |known: &Answered| LADDER.iter().position(|spec| spec.id == known.check.id);
        self.checks.sort_by_key(|known| (known.check.rung, place(known).unwrap_or(usize::MAX)));
        self.checks
    }
}

/// Ids of the checks that must have run: the ladder's own, and what the configuration asks for besides. The last rung is not
/// among them: it is the caller's, who signs after the sum is drawn.
pub fn required(also: &[String]) -> Vec<String> {
    let own = LADDER.iter().filter(|spec| spec.required).map(|spec| spec.id.to_owned());
    let mut ids: Vec<String> = own.chain(also.iter().filter(|id| *id != SIGNED.id).cloned()).collect();
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    ids
}

/// The same for a database in a zip, which is no recovery point: what only a point can be asked is not required.
pub fn required_of_zip(also: &[String]) -> Vec<String> {
    let of_a_point = [SIGNATURE, OBJECTS, MANIFEST, REPLAY, RPO];
    let mut ids = required(also);
    ids.retain(|id| of_a_point.iter().all(|spec| spec.id != id));
    ids
}

/// The outcome of a drill. A required check that nobody knows keeps it incomplete.
pub fn outcome(checks: &[Check], required: &[String]) -> Outcome {
    let is_required = |id: &str| required.iter().any(|wanted| wanted == id);
    let unknown = required.iter().any(|id| checks.iter().all(|check| check.id != *id));
    match Outcome::of(checks, is_required) {
        Outcome::Passed if unknown => Outcome::Incomplete,
        outcome => outcome,
    }
}

impl Spec {
    /// Asks, with the time it takes. An error means that it could not be asked, unless it is Odoo's own answer.
    pub async fn ask(&self, work: impl Future<Output = Result<Answer>>) -> Answered {
        let started = Instant::now();
        let answer = work.await.unwrap_or_else(|error| match error {
            Error::Odoo(_) => Answer::broken(&error),
            _ => Answer::impossible(&error),
        });
        self.answered(answer, started.elapsed())
    }

    /// An answer that is there already.
    pub fn answered(&self, answer: Answer, took: Duration) -> Answered {
        let check = Check {
            id: self.id.to_owned(),
            rung: self.rung,
            purpose: self.purpose.to_owned(),
            expected: self.expected.to_owned(),
            observed: answer.observed,
            verdict: answer.verdict,
            duration_ms: millis(took),
        };
        Answered { check, public: answer.public }
    }

    /// Not executed, and why.
    pub fn not_executed(&self, why: &str) -> Answered {
        self.answered(Answer::not_executed(why), Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_rungs_ascend() {
        for (index, spec) in LADDER.iter().enumerate() {
            assert!(LADDER[..index].iter().all(|other| other.id != spec.id), "{}", spec.id);
            assert!(index == 0 || LADDER[index - 1].rung <= spec.rung, "{}", spec.id);
        }
    }

    /// `docs/drill.md` has one row for each check, in this order, and says of none what is not so.
    #[test]
    fn the_document_has_every_check() {
        let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/drill.md");
        let text = std::fs::read_to_string(document).unwrap();
        let head = "| rung | check | required | what must be seen |";
        let table = text.lines().skip_while(|line| *line != head).skip(2).take_while(|line| line.starts_with('|'));
        let row = |spec: &Spec| {
            let Spec { rung, id, purpose, expected, required } = spec;
            format!("| {rung} | `{id}` | {} | {purpose}: {expected} |", if *required { "yes" } else { "" })
        };
        let rows: Vec<String> = LADDER.iter().map(row).collect();
        assert_eq!(table.collect::<Vec<_>>(), rows);
    }

    #[test]
    fn what_was_not_reached_is_named_with_the_reason() {
        let mut ladder = Ladder::new(Arc::new(Silent));
        ladder.record(SELECT.answered(Answer::passed("x"), Duration::ZERO));
        ladder.record(FETCH.answered(Answer::failed("pack gone"), Duration::ZERO));
        ladder.stop("fetch.place failed");
        let checks: Vec<Check> = ladder.finish().into_iter().map(|answered| answered.check).collect();
        assert_eq!(checks.len(), LADDER.len());
        assert!(checks.windows(2).all(|pair| pair[0].rung <= pair[1].rung));
        let boot = checks.iter().find(|check| check.id == REGISTRY.id).unwrap();
        assert_eq!(boot.verdict, Verdict::NotExecuted("fetch.place failed".into()));
        assert_eq!(outcome(&checks, &required(&[])), Outcome::Failed);
    }

    #[test]
    fn evidence_does_not_name_what_is_inside_the_backup() {
        let answer = Answer::failed("patient-17.pdf is missing").in_public("1 file missing");
        let answered = ATTACHMENTS.answered(answer, Duration::ZERO);
        assert!(answered.check.observed.contains("patient"));
        let text = serde_json::to_string(&answered.for_evidence()).unwrap();
        assert!(text.contains("1 file missing") && !text.contains("patient"), "{text}");
    }

    #[test]
    fn what_could_not_be_run_has_not_failed() {
        let away = lifeboat_store::Error::Unavailable { operation: "get", key: "k".into(), reason: "gone".into() };
        let away = Error::source("cannot restore the point")(Box::new(lifeboat_engine::Error::Store(away)));
        assert!(matches!(Answer::broken(&away).verdict, Verdict::NotExecuted(why) if why.contains("gone")));
        let damaged = lifeboat_engine::Error::Damaged("pack 7".into());
        let damaged = Error::source("cannot restore the point")(Box::new(damaged));
        assert!(matches!(Answer::broken(&damaged).verdict, Verdict::Failed(_)));
    }

    #[tokio::test]
    async fn a_refusal_of_odoo_is_an_answer() {
        let raised =
            lifeboat_odoo::Error::Rpc { method: "run".into(), name: "ValueError".into(), message: "no".into() };
        let crashed = lifeboat_odoo::Error::Status { path: "/report/pdf".into(), status: 500 };
        for error in [raised, crashed] {
            let answered = INVOICE.ask(async { Err(Error::Odoo(error)) }).await;
            assert!(matches!(answered.check.verdict, Verdict::Failed(_)), "{:?}", answered.check);
        }
        let away = lifeboat_odoo::Error::Status { path: "/report/pdf".into(), status: 503 };
        let answered = INVOICE.ask(async { Err(Error::Odoo(away)) }).await;
        assert!(matches!(answered.check.verdict, Verdict::NotExecuted(_)), "{:?}", answered.check);
    }

    #[test]
    fn evidence_is_not_told_what_a_program_printed_when_it_ended_the_climb() {
        let mut ladder = Ladder::new(Arc::new(Silent));
        let output = "FATAL: Jane Doe".to_owned();
        ladder.stop_by(&Error::Program { program: "psql".into(), role: "postgres", code: 1, output });
        for answered in ladder.finish() {
            assert!(format!("{:?}", answered.check.verdict).contains("Jane"));
            let text = serde_json::to_string(&answered.for_evidence()).unwrap();
            assert!(text.contains("psql") && !text.contains("Jane"), "{text}");
        }
    }

    #[test]
    fn only_a_whole_climb_passes() {
        let climb = |skip: &str| -> Vec<Check> {
            let ask = |spec: &Spec| match spec.id == skip || !spec.required {
                true => spec.not_executed("no image"),
                false => spec.answered(Answer::passed(""), Duration::ZERO),
            };
            LADDER.iter().map(ask).map(|answered| answered.check).collect()
        };
        let sum = |skip: &str, also: &[&str]| {
            let also: Vec<String> = also.iter().map(|&id| id.to_owned()).collect();
            outcome(&climb(skip), &required(&also))
        };
        assert_eq!(sum("", &[]), Outcome::Passed);
        assert_eq!(sum("", &["use.login", "evidence.signed"]), Outcome::Passed);
        assert_eq!(sum("use.login", &[]), Outcome::Incomplete);
        assert_eq!(sum("", &["books.integrity"]), Outcome::Incomplete);
        assert_eq!(sum("", &["no.such"]), Outcome::Incomplete);
    }
}
