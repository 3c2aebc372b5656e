//! docs/openapi.json is what the code says.

use std::{env, fs, path::Path};

#[test]
fn the_document_in_docs_is_the_one_that_is_served() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let served = lifeboat_daemon::api::document();
    if env::var("LIFEBOAT_WRITE_OPENAPI").is_ok_and(|value| value == "1") {
        fs::write(&file, &served).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    let same = kept == served;
    assert!(same, "docs/openapi.json is not what the code says; LIFEBOAT_WRITE_OPENAPI=1 in this test writes it anew");
}
