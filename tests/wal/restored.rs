//! A restore by the command line, started with the programs of its major.

use std::{fs, path::Path};

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
    verify(site, &target, &to, arguments.is_empty());
    target
}

/// Recovery came to its target, as far as the running server and its folder tell.
fn verify(site: &Site, target: &Postgres, to: &Path, thorough: bool) {
    std::os::unix::fs::symlink(target.data_dir(), to.join("pgdata")).unwrap();
    // Some majors run in a container of the kit, which is not that of a recovered system.
    let has_programs = Path::new(&format!("/usr/lib/postgresql/{}/bin/pg_amcheck", target.major())).exists();
    let rungs = if has_programs && thorough { "replay,structure" } else { "replay" };
    let server = format!("host={},port={},user=postgres", target.root().display(), target.port());
    let recovered = ["--recovered", to.to_str().unwrap(), "--rungs", rungs, "--postgres", &server];
    let output = site.run(&[["verify", "clinic"].as_slice(), recovered.as_slice()].concat());
    assert!(output.status.success(), "verify: {}", text(&output));
}
