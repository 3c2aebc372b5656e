//! A restore by the command line, started with the programs of its major.

use std::fs;

use lifeboat_testkit::postgres::Postgres;

use crate::site::{Site, text};

/// Restores with these arguments and starts the result; returns when it has promoted itself.
pub fn restore(site: &Site, major: u32, arguments: &[&str]) -> Postgres {
    let mut target = Postgres::empty(major).unwrap();
    let (to, identity) = (target.root().join("restored"), site.identity());
    let fixed = ["restore", "clinic", "--to", to.to_str().unwrap(), "--identity", &identity, "--only", "database"];
    let output = site.run(&fixed.iter().chain(arguments).copied().collect::<Vec<_>>());
    assert!(output.status.success(), "restore {arguments:?}: {}", text(&output));
    fs::rename(to.join("pgdata"), target.data_dir()).unwrap();
    target.own(target.data_dir()).unwrap();
    target.resume().unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{}", target.log()));
    let promoted = target.wait_for("SELECT pg_is_in_recovery()", "f");
    promoted.unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{}", target.log()));
    target
}
