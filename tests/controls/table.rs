//! The table in `docs/controls.md`: which damage was found by which check, as the last run saw it.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use serde_json::Value;

const BEGIN: &str = "<!-- table: begin -->\n";
const END: &str = "<!-- table: end -->";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/controls.md")
}

/// Fails where the document says anything else than the run.
pub fn compare(controls: &[Value]) {
    let text = fs::read_to_string(path()).unwrap();
    let start = text.find(BEGIN).unwrap() + BEGIN.len();
    let end = text.find(END).unwrap();
    let seen = table(controls);
    if std::env::var("LIFEBOAT_UPDATE_DOCS").is_ok_and(|value| value == "1") {
        fs::write(path(), format!("{}{seen}{}", &text[..start], &text[end..])).unwrap();
        return;
    }
    assert_eq!(&text[start..end], seen, "docs/controls.md is not what was seen; LIFEBOAT_UPDATE_DOCS=1 writes it anew");
}

/// One row a check that found something, in the order of the ladder; one column with the kinds that it found.
fn table(controls: &[Value]) -> String {
    let mut found: BTreeMap<(u64, String), Vec<String>> = BTreeMap::new();
    for control in controls {
        for check in control["failed"].as_array().unwrap() {
            let check = (check["rung"].as_u64().unwrap(), check["id"].as_str().unwrap().to_owned());
            found.entry(check).or_default().push(format!("`{}`", control["kind"].as_str().unwrap()));
        }
    }
    let mut table = "| rung | check | damage that it finds |\n|---|---|---|\n".to_owned();
    for ((rung, check), kinds) in found {
        writeln!(table, "| {rung} | `{check}` | {} |", kinds.join(", ")).unwrap();
    }
    table
}
