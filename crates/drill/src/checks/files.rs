//! Rung 4: restored files against the server's own `backup_manifest`, and every page against its checksum, before PostgreSQL
//! touches them. What the manifest leaves to others, the write-ahead log, is read by PostgreSQL's own `pg_verifybackup`.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lifeboat_engine::recovery::staging;
use lifeboat_evidence::drill::Worker;
use lifeboat_postgres::verify::{self, Findings, Options, Report};

use crate::{
    checks::some,
    error::{Error, Result, with_causes},
    ladder::{self, Answer, Answered},
    postgres::PGDATA,
    sandbox::{Container, User},
    timing::Timing,
};

/// Ends the threads when the drill is stopped in the middle.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Both checks: each file is read once for both.
pub(crate) async fn verify(
    pgdata: &Path,
    (container, user): (&Container, User),
    limit: Duration,
    timing: &Timing,
) -> Vec<Answered> {
    let started = Instant::now();
    let (report, wal) = tokio::join!(
        timing.during(Worker::Own, "read files back", read(pgdata)),
        timing.program(Worker::Postgres, "pg_verifybackup", wal(container, user, limit)),
    );
    let (manifest, pages) = match &report {
        Ok(report) => (manifest(report, wal), pages(report)),
        Err(error) => (Answer::broken(error), Answer::impossible(error)),
    };
    let took = started.elapsed();
    vec![ladder::MANIFEST.answered(manifest, took), ladder::PAGES.answered(pages, took)]
}

/// The same of a cluster that no container has yet. Its log is read by the replay that comes.
pub(crate) async fn read_back(pgdata: &Path) -> Vec<Answered> {
    let started = Instant::now();
    let (manifest, pages) = match read(pgdata).await {
        Ok(report) => (manifest(&report, Ok(Answer::passed("the log is for the replay to read"))), pages(&report)),
        Err(error) => (Answer::broken(&error), Answer::impossible(&error)),
    };
    let took = started.elapsed();
    vec![ladder::MANIFEST.answered(manifest, took), ladder::PAGES.answered(pages, took)]
}

async fn read(pgdata: &Path) -> Result<Report> {
    let interrupt = Arc::new(AtomicBool::new(false));
    let _stop = StopOnDrop(Arc::clone(&interrupt));
    let ignore = vec![staging::FOLDER.as_bytes().to_vec()];
    let (pgdata, options) = (pgdata.to_owned(), Options { interrupt, ignore, ..Options::default() });
    let done = tokio::task::spawn_blocking(move || verify::restored_dir(&pgdata, &options)).await;
    Ok(done.map_err(|error| Error::Task(error.to_string()))??)
}

/// The write-ahead log that the manifest asks for, read record by record. Checksums of files are ours to compare.
async fn wal(container: &Container, user: User, limit: Duration) -> Result<Answer> {
    let ignore = format!("--ignore={}", staging::FOLDER);
    let command = ["pg_verifybackup", "--quiet", "--skip-checksums", &ignore, PGDATA];
    let ran = container.run(&user.spec(), &command, limit).await?;
    Ok(match ran.is_ok() {
        true => Answer::passed("pg_verifybackup reads the write-ahead log"),
        false => Answer::failed(format!("pg_verifybackup: {}", ran.tail()))
            .in_public("pg_verifybackup cannot read the write-ahead log"),
    })
}

fn manifest(report: &Report, wal: Result<Answer>) -> Answer {
    let Some(manifest) = &report.manifest else { return Answer::not_executed("there is no backup_manifest") };
    let wrong = named(&[
        ("missing", &manifest.missing),
        ("not in the manifest", &manifest.extra),
        ("of the wrong size", &manifest.wrong_size),
        ("with a wrong checksum", &manifest.wrong_checksum),
        ("unreadable", &report.unreadable),
    ]);
    if let Some(answer) = wrong {
        return answer;
    }
    let seen = format!("{} files equal to the manifest", manifest.files);
    match wal {
        Ok(Answer { observed, verdict, .. }) if verdict.is_passed() => Answer::passed(format!("{seen}; {observed}")),
        Ok(answer) => answer,
        Err(error) => {
            Answer::not_executed(format!("{seen}, but the write-ahead log could not be read: {}", with_causes(&error)))
                .in_public(format!("{seen}, but the write-ahead log could not be read: {}", error.public()))
        }
    }
}

fn pages(report: &Report) -> Answer {
    let Some(pages) = &report.pages else {
        return Answer::not_executed(
            "the cluster has no page checksums (initdb --data-checksums, or pg_checksums --enable)",
        );
    };
    let wrong = named(&[("bad pages", &pages.bad), ("files that end inside a page", &pages.partial)]);
    let seen = format!(
        "{} pages of {} files; {} written during the backup are left to replay",
        pages.checked, pages.files, pages.newer
    );
    wrong.unwrap_or_else(|| Answer::passed(seen))
}

/// The failure, if anything of this was found.
fn named(kinds: &[(&str, &Findings)]) -> Option<Answer> {
    let found: Vec<_> = kinds.iter().filter(|(_, findings)| findings.count > 0).collect();
    let names = found.iter().map(|(what, one)| format!("{} {what}: {}", one.count, some(&one.examples, one.count)));
    let counts = found.iter().map(|(what, one)| format!("{} {what}", one.count));
    let join = |texts: Vec<String>| texts.join("; ");
    (!found.is_empty()).then(|| Answer::failed(join(names.collect())).in_public(join(counts.collect())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_model::check::Verdict;
    use lifeboat_postgres::{pages::PagesReport, verify::ManifestReport};

    fn report() -> Report {
        Report { manifest: Some(ManifestReport::default()), pages: Some(PagesReport::default()), ..Report::default() }
    }

    #[test]
    fn what_could_not_be_read_is_no_pass() {
        let wal = || Ok(Answer::passed(""));
        assert_eq!(manifest(&report(), wal()).verdict, Verdict::Passed);
        let unreadable = Findings { count: 1, examples: vec!["base/1".into()] };
        assert!(matches!(manifest(&Report { unreadable, ..report() }, wal()).verdict, Verdict::Failed(_)));
        assert!(matches!(manifest(&Report { manifest: None, ..report() }, wal()).verdict, Verdict::NotExecuted(_)));
        let unknown = manifest(&report(), Err(Error::NoRandomness));
        assert!(matches!(unknown.verdict, Verdict::NotExecuted(_)));
        assert!(matches!(manifest(&report(), Ok(Answer::failed("gap"))).verdict, Verdict::Failed(_)));
    }

    #[test]
    fn a_cluster_without_checksums_is_not_checked() {
        assert!(matches!(pages(&Report { pages: None, ..report() }).verdict, Verdict::NotExecuted(_)));
        let bad = Findings { count: 2, examples: vec!["base/1/2, block 3".into()] };
        let answer = pages(&Report { pages: Some(PagesReport { bad, ..PagesReport::default() }), ..report() });
        assert!(matches!(answer.verdict, Verdict::Failed(why) if why.contains("block 3")));
    }
}
