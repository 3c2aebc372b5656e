//! The step `restore` of a runbook: what a run has begun is gone on with, and nothing else is touched.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    program::{Ended, Program},
    repository::add_point,
};

const RUNBOOK: &str = r#"# Back

```toml
[runbook]
id = "back"
summary = "All is lost"
roles = ["lead"]

[parameters.folder]
kind = "text"
```

## Restore

```toml
action = "restore"
instance = "clinic"
point = "latest"
to = "{{folder}}"
identity_file = "keys/recovery.identity"
```
"#;

struct Place(Program);

impl Place {
    fn new() -> Place {
        let program = Program::initialised();
        add_point(&program, "2026-11-21T10:00:00Z");
        program.write("back.md", RUNBOOK);
        Place(program)
    }

    fn run(&self, folder: &str) -> Ended {
        self.0.run(&format!("runbook run back.md --yes --set folder={folder}"))
    }

    fn begin(&self, folder: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(["runbook", "run", "back.md", "--yes", "--set", &format!("folder={folder}")]);
        command.current_dir(self.0.path("")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Whether the restore step of the only run was noted to begin.
    fn is_noted(&self) -> bool {
        let folders = |folder: PathBuf| {
            let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
            entries.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        let runs = folders(self.0.path("state/runs")).into_iter().filter(|path| path.is_dir());
        runs.flat_map(folders).any(|path| path.extension().is_some_and(|end| end == "begun"))
    }
}

/// The folder of an earlier incident is what people work in now. The server was stopped cleanly, so no process tells.
#[test]
fn a_folder_that_became_production_is_not_touched() {
    let place = Place::new();
    let program = &place.0;
    place.run("first").expect(0);
    assert_eq!(program.read("first/pgdata/base/5"), "relation");
    // What a server does when it leaves recovery, and what people do then.
    fs::remove_file(program.path("first/pgdata/recovery.signal")).unwrap();
    program.write("first/pgdata/base/5", "work of today");
    program.write("first/filestore/odoo/of-today", "uploaded today");

    let again = place.run("first").expect(1);
    assert!(again.stderr.contains("did not begin it"), "{}", again.stderr);
    let restore = "restore clinic --point latest --to first --delta --identity keys/recovery.identity";
    let by_hand = program.run(restore).expect(1);
    assert!(by_hand.stderr.contains("has left recovery"), "{}", by_hand.stderr);
    assert_eq!(program.read("first/pgdata/base/5"), "work of today");
    assert_eq!(program.read("first/filestore/odoo/of-today"), "uploaded today");
    assert!(!program.path("first/RESTORE-INCOMPLETE").exists());
    // Nor is one that is only somebody else's.
    fs::create_dir(program.path("second")).unwrap();
    program.write("second/.lifeboat-restore", "");
    program.write("second/filestore/mine", "mine");
    place.run("second").expect(1);
    assert_eq!(program.read("second/filestore/mine"), "mine");
}

/// Killed as soon as the note stands, before or in the middle of the restore: the same host goes on in the same folder.
#[test]
fn a_restore_whose_executor_was_killed_is_gone_on_with() {
    for part in [false, true] {
        let place = Place::new();
        let mut child = place.begin("out");
        let begun = Instant::now();
        while !(place.is_noted() && (!part || place.0.path("out").exists())) && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not begin");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let resumed = place.0.run("runbook resume latest");
        assert!(resumed.code == 0 || resumed.stderr.contains("is over"), "{resumed:?}");
        assert_eq!(place.0.read("out/pgdata/base/5"), "relation");
        assert!(!place.0.path("out/RESTORE-INCOMPLETE").exists());
    }
}
