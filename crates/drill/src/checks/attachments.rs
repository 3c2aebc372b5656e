//! Rung 8: every row of `ir_attachment` against the restored filestore.

use std::{collections::HashSet, path::PathBuf};

use lifeboat_odoo::attachments::{self, Report, VerifyOptions};
use tokio_postgres::Client;

use crate::{checks::some, error::Result, ladder::Answer};

/// One database's filestore folder and what the backup knew to be missing in it.
pub(crate) struct Place {
    pub folder: Option<PathBuf>,
    pub known_missing: HashSet<String>,
}

/// Verifies one database.
pub(crate) async fn verify(client: &Client, place: Place) -> Result<Report> {
    // Without any folder every row that names a file is missing, and the report says so.
    let filestore = place.folder.unwrap_or_else(|| PathBuf::from("/nonexistent"));
    let options = VerifyOptions { filestore, known_missing: place.known_missing, workers: 2 };
    Ok(attachments::verify(client, &options).await?)
}

/// The answer for all databases.
pub(crate) fn judge(reports: &[(String, Report)]) -> Answer {
    let (mut seen, mut public, mut wrong, mut counts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (database, report) in reports {
        let not_covered: u64 = report.not_covered.values().sum();
        let kinds: Vec<String> = report.not_covered.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let mut text = format!("{database}: {} rows, {} files", report.rows, report.files);
        if not_covered > 0 {
            text.push_str(&format!(", not covered: {}", kinds.join(", ")));
        }
        if report.known_missing.count > 0 {
            text.push_str(&format!(", {} known missing", report.known_missing.count));
        }
        public.push(text.clone());
        if report.known_missing.count > 0 {
            text.push_str(&format!(" ({})", some(&report.known_missing.examples, report.known_missing.count)));
        }
        seen.push(text);
        for (what, found) in [
            ("missing", &report.missing),
            ("of the wrong size", &report.wrong_size),
            ("corrupt", &report.corrupt),
            ("unreadable", &report.unreadable),
        ] {
            if found.count > 0 {
                counts.push(format!("{database}: {} {what}", found.count));
                wrong.push(format!("{database}: {} {what}: {}", found.count, some(&found.examples, found.count)));
            }
        }
    }
    match wrong.is_empty() {
        true => Answer::passed(seen.join("; ")).in_public(public.join("; ")),
        false => Answer::failed(wrong.join("; ")).in_public(counts.join("; ")),
    }
}
