//! Reading what is stored again, a share each day, and remembering how far it came.
//!
//! The cursor lies in the state folder. Where that is lost, the newest signed statement of a scrub says which day was
//! finished last, so that a new host goes on there and leaves nothing out.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use lifeboat_evidence::{
    Act, EvidenceKey, Predicate,
    act::{Refused, Scrub},
};
use lifeboat_model::{
    check::Outcome,
    id::{Instance, RepositoryId},
};
use lifeboat_repo::{
    check::{self, ScrubCursor, ScrubOptions, ScrubReport},
    progress::Progress,
};
use lifeboat_store::Key;
use tokio_util::sync::CancellationToken;

use crate::{context::Context, error::Result, record};

/// A share of everything each day, as people write it: `1%/day`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    text: String,
    /// Within so many days everything is read.
    pub days: u32,
}

/// The text is not a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a share: write a percentage a day, for example \"1%/day\"")]
pub struct ShareError(String);

impl FromStr for Share {
    type Err = ShareError;
    fn from_str(text: &str) -> Result<Self, ShareError> {
        let percent = text.strip_suffix("%/day").and_then(|number| number.parse::<f64>().ok());
        let days = percent.and_then(|percent| check::days_of_share(percent / 100.0));
        days.map(|days| Share { text: text.to_owned(), days }).ok_or_else(|| ShareError(text.to_owned()))
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a scrub did.
#[derive(Debug)]
pub struct Scrubbed {
    /// What was read.
    pub report: ScrubReport,
    /// Where the signed statement is kept; none where nothing was due.
    pub evidence: Option<Key>,
}

/// Reads what is due of an instance.
pub async fn run(
    context: &Context,
    name: &Instance,
    share: &Share,
    progress: Arc<dyn Progress>,
    cancel: CancellationToken,
) -> Result<Scrubbed> {
    let started = (context.clock)();
    let file = place(&context.config.engine.state_dir, context.repository.id(), name);
    let cursor = match load(&file) {
        Some(cursor) => cursor,
        None => rebuilt(context, name, share).await?.unwrap_or_default(),
    };
    let now = (context.store_clock().await?)();
    let options = ScrubOptions { days: share.days, cursor, now, cancel };
    let repo = context.instance_repo(name);
    let report = check::scrub(&repo, &context.config.keys.trusted_keys, options, progress).await?;
    save(&file, &report.cursor);
    if report.due == 0 && report.problems.is_empty() {
        return Ok(Scrubbed { report, evidence: None });
    }
    let problem = |problem: &check::Problem| Refused { key: problem.key.to_string(), why: problem.what.clone() };
    let act = Scrub {
        share: share.to_string(),
        days: share.days,
        due: report.due,
        objects: report.objects,
        bytes: report.bytes,
        complete: report.complete,
        done: report.cursor.done,
        problems: report.problems.iter().map(problem).collect(),
    };
    let outcome = match (act.problems.is_empty(), act.complete) {
        (false, _) => Outcome::Failed,
        (true, false) => Outcome::Incomplete,
        (true, true) => Outcome::Passed,
    };
    let (key, _) = record::keep_act(context, Some(name), started, outcome, Act::Scrub(act)).await?;
    Ok(Scrubbed { report, evidence: Some(key) })
}

/// From the newest statement of a scrub with the same calendar.
async fn rebuilt(context: &Context, name: &Instance, share: &Share) -> Result<Option<ScrubCursor>> {
    let mut scrubs = context.repository.list_evidence(&context.config.tenant, "").await?;
    scrubs.retain(|reference| {
        let parts = reference.key.as_str().parse::<EvidenceKey>();
        parts.is_ok_and(|parts| parts.kind == "scrub" && parts.instance == *name)
    });
    for reference in scrubs.iter().rev() {
        let Some(verified) = record::believed(context, reference).await? else { continue };
        let Predicate::Act(act) = verified.statement.predicate else { continue };
        if let (Act::Scrub(scrub), true) = (act.act, act.instance.as_ref() == Some(name))
            && scrub.days == share.days
        {
            return Ok(Some(ScrubCursor { days: scrub.days, done: scrub.done, after: None, until: None }));
        }
    }
    Ok(None)
}

fn place(state_dir: &Path, repository: RepositoryId, instance: &Instance) -> PathBuf {
    state_dir.join("scrub").join(format!("{repository}-{instance}.json"))
}

fn load(file: &Path) -> Option<ScrubCursor> {
    serde_json::from_str(&fs::read_to_string(file).ok()?).ok()
}

/// That it could not be written costs the next run some reading, nothing else.
fn save(file: &Path, cursor: &ScrubCursor) {
    let write = || -> std::io::Result<()> {
        let folder = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut new, cursor)?;
        new.persist(file)?;
        Ok(())
    };
    if let Err(error) = write() {
        tracing::warn!(%error, file = %file.display(), "cannot remember how far the scrub came; the next one finds it in evidence");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let days = |text: &str| text.parse::<Share>().map(|share| share.days).ok();
        let cases = [("1%/day", Some(100)), ("100%/day", Some(1)), ("0.5%/day", Some(200)), ("3%/day", Some(34))];
        for (text, expected) in cases {
            assert_eq!(days(text), expected, "{text}");
        }
        for bad in
            ["", "1%", "0%/day", "-1%/day", "101%/day", "x%/day", "NaN%/day", "inf%/day", "1 %/day", "0.001%/day"]
        {
            assert_eq!(days(bad), None, "{bad}");
        }
        assert_eq!("1%/day".parse::<Share>().unwrap().to_string(), "1%/day");
    }
}
