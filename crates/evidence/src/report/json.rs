//! The report as one JSON document, written in pieces: the period, then every drill as it was signed.

use serde::Serialize;

use super::period::Period;
use crate::drill::DrillPredicate;

#[derive(Serialize)]
struct Document<'p> {
    schema: &'p str,
    #[serde(flatten)]
    period: &'p Period,
    /// Which drills follow.
    records: &'p str,
}

/// What stands before the first drill.
pub fn head(schema: &str, period: &Period, records: &str) -> String {
    let document = Document { schema, period, records };
    let text = serde_json::to_string_pretty(&document).expect("structs with text keys always serialize");
    let open = text.strip_suffix("\n}").unwrap_or(&text);
    format!("{open},\n  \"drills\": [")
}

/// A drill, as its statement has it.
pub fn drill(drill: &DrillPredicate, is_first: bool) -> String {
    let text = serde_json::to_string(drill).expect("structs with text keys always serialize");
    format!("{}\n    {text}", if is_first { "" } else { "," })
}

/// What stands behind the last drill.
pub fn tail() -> &'static str {
    "\n  ]\n}\n"
}
