//! The oldest supported Odoo on the real thing: 14 with PostgreSQL 17, backed up and drilled like the newest. It has neither
//! a command that neutralises nor `/web/health`, serves its bundles as attachments, and speaks of its books in sentences
//! instead of states. Needs the testbed (`LIFEBOAT_TESTBED=1`, set by `make test`).

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "../support/mod.rs"]
mod support;

use lifeboat_testkit::testbed;
use serde_json::Value;
use support::{Settings, Site, text};

/// The check of an answer, which must have passed; gives what it saw.
fn passed(answer: &Value, id: &str) -> String {
    let check = answer["checks"].as_array().unwrap().iter().find(|check| check["id"] == id);
    let check = check.unwrap_or_else(|| panic!("no check {id}: {answer:#}"));
    assert_eq!(check["verdict"]["outcome"], "passed", "{check:#}");
    check["observed"].as_str().unwrap().to_owned()
}

#[test]
fn an_odoo_14_comes_back_and_is_used() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings::odoo14());
    let backup = site.json(&["backup", "clinic"]);
    assert_eq!(backup["witness_exact"], true, "{backup:#}");

    let identity = site.identity();
    let output = site.run(&["drill", "clinic", "--identity", identity.to_str().unwrap(), "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    assert_eq!((output.status.code(), answer["outcome"].as_str()), (Some(0), Some("passed")), "{answer:#}");

    assert_eq!(passed(&answer, "boot.image"), "Odoo Server 14.0");
    // The command came with 16.0: what makes this copy harmless are our own statements, and the assertions hold.
    let neutralised = passed(&answer, "neutralise.apply");
    assert!(neutralised.contains("odoo neutralize not available"), "{neutralised}");
    passed(&answer, "neutralise.assert");
    passed(&answer, "boot.modules");
    passed(&answer, "boot.registry");
    passed(&answer, "boot.log");
    passed(&answer, "use.login");
    passed(&answer, "use.records");
    passed(&answer, "use.attachments");
    passed(&answer, "use.assets");
    // Debian's wkhtmltopdf, which is built on an unpatched Qt, prints what Odoo 14 asks for.
    passed(&answer, "use.invoice");
    // The seed's journal of secured entries: anything but a verified chain would not pass.
    let books = passed(&answer, "books.integrity");
    assert!(books.contains("1 chain"), "{books}");
    passed(&answer, "teardown.proof");
    assert_eq!(answer["comparison"]["kind"], "exact-witness", "{answer:#}");
    site.succeed(&["evidence", "verify"]);
}
