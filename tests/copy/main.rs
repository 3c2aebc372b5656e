//! Copies by the built binary: what the primary holds comes back from the copy when the primary is gone, a live Odoo
//! included (that part needs the testbed, `LIFEBOAT_TESTBED=1`).

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "not every test uses all of it")]
mod support;

use std::{fs, path::PathBuf, process::Command};

use lifeboat_testkit::testbed;
use serde_json::Value;
use support::{Settings, Site, Storage, text};

/// A site whose primary and copies are folders; `renewed` is for what is sealed anew.
struct Copied {
    site: Site,
}

impl Copied {
    fn new() -> Self {
        let copied = Copied { site: Site::new(&Settings { storage: Storage::Local, ..Settings::default() }) };
        copied.configure(|text| {
            let repository = "[repository]\npath = \"repository\"\n";
            assert!(text.contains(repository), "{text}");
            let several = "[[repository]]\nname = \"main\"\nrole = \"primary\"\npath = \"repository\"\n\
                           [[repository]]\nname = \"offsite\"\nrole = \"copy\"\npath = \"offsite\"\n\
                           [[repository]]\nname = \"renewed\"\nrole = \"copy\"\npath = \"renewed\"\n";
            text.replace(repository, several)
        });
        copied
    }

    fn configure(&self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.site.config()).unwrap();
        fs::write(self.site.config(), change(text)).unwrap();
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.site.dir.path().join(name)
    }

    fn identity(&self) -> String {
        self.site.identity().display().to_string()
    }

    /// All keys below a repository, leases left out.
    fn keys(&self, name: &str) -> Vec<String> {
        let root = self.folder(name);
        let found = Command::new("find").arg(&root).args(["-type", "f", "-printf", "%P\n"]).output().unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        let mut keys: Vec<String> =
            found.lines().filter(|key| !key.contains("/lease/")).map(ToOwned::to_owned).collect();
        keys.sort();
        keys
    }

    fn drill_passes(&self, more: &[&str]) {
        let identity = self.identity();
        let arguments = [&["drill", "clinic", "--identity", &identity, "--json"], more].concat();
        let output = self.site.run(&arguments);
        let answer: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
        assert_eq!((output.status.code(), answer["outcome"].as_str()), (Some(0), Some("passed")), "{answer:#}");
    }
}

#[test]
fn a_live_odoo_is_drilled_from_a_copy_with_the_primary_gone() {
    if !testbed::enabled() {
        return;
    }
    let copied = Copied::new();
    let site = &copied.site;
    let made = site.json(&["backup", "clinic"]);
    assert_eq!(made["witness_exact"], true, "{made:#}");
    let status = site.run(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["instances"][0]["copies"][0]["reaches"], Value::Null, "nothing was copied yet: {status:#}");

    let done = site.json(&["copy", "clinic", "--to", "offsite"]);
    assert_eq!((&done["complete"], &done["copies"][0]["to"]), (&true.into(), &"offsite".into()), "{done:#}");
    assert_eq!(done["copies"][0]["points"][0]["point"], made["point"], "{done:#}");
    assert_eq!(done["copies"][0]["lag"]["points_missing"], 0, "{done:#}");
    let again = site.json(&["copy", "clinic", "--to", "offsite"]);
    assert_eq!(
        (&again["copies"][0]["objects"], &again["copies"][0]["points_present"]),
        (&0.into(), &1.into()),
        "{again:#}"
    );
    let missing: Vec<String> =
        copied.keys("repository").into_iter().filter(|key| !copied.keys("offsite").contains(key)).collect();
    assert_eq!(missing, [""; 0], "all of the primary is in the copy");
    let status = site.run(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["instances"][0]["copies"][0]["missing_points"], 0, "{status:#}");

    // From here on there is no primary.
    copied.configure(|text| text.replace("path = \"repository\"", "path = \"elsewhere\""));
    fs::rename(copied.folder("repository"), copied.folder("gone")).unwrap();
    let listed = site.json(&["points", "list", "clinic", "--repository", "offsite"]);
    assert_eq!(
        (&listed["points"][0]["point"], &listed["points"][0]["valid"]),
        (&made["point"], &true.into()),
        "{listed:#}"
    );
    site.succeed(&["verify", "clinic", "--repository", "offsite"]);
    copied.drill_passes(&["--repository", "offsite"]);
    let drills = site.json(&["evidence", "list", "clinic", "--kind", "drill", "--repository", "offsite"]);
    assert_eq!(drills["statements"].as_array().unwrap().len(), 1, "{drills:#}");
    site.succeed(&["evidence", "verify", "--repository", "offsite"]);
    let to = copied.folder("restored");
    let identity = copied.identity();
    let restore =
        ["restore", "clinic", "--to", to.to_str().unwrap(), "--identity", &identity, "--repository", "offsite"];
    site.succeed(&restore);
    assert!(to.join("pgdata/PG_VERSION").is_file() && !to.join("RESTORE-INCOMPLETE").exists());
}

#[test]
fn a_live_odoo_is_drilled_from_a_repository_that_is_sealed_anew() {
    if !testbed::enabled() {
        return;
    }
    let copied = Copied::new();
    let site = &copied.site;
    let made = site.json(&["backup", "clinic"]);
    // From now on backups are sealed to somebody else, whose identity is elsewhere.
    let fresh = copied.folder("fresh.identity");
    let generated = site.json(&["key", "generate", "recovery", "--out", fresh.to_str().unwrap()]);
    let public = generated["public"].as_str().unwrap().to_owned();
    copied.configure(|text| {
        let line = text.lines().find(|line| line.starts_with("recovery_recipients")).unwrap().to_owned();
        text.replace(&line, &format!("recovery_recipients = [\"{public}\"]"))
    });
    let identity = copied.identity();
    let done = site.json(&["copy", "clinic", "--to", "renewed", "--reencrypt", "--identity", &identity]);
    let row = &done["copies"][0];
    assert_eq!((&done["complete"], row["points"].as_array().unwrap().len()), (&true.into(), 1), "{done:#}");
    assert_eq!(row["points"][0]["made_from"], made["point"], "{done:#}");
    assert_ne!(row["points"][0]["point"], made["point"], "{done:#}");
    let again = site.json(&["copy", "clinic", "--to", "renewed", "--reencrypt", "--identity", &identity]);
    assert_eq!(
        (&again["copies"][0]["points_present"], &again["copies"][0]["objects"]),
        (&1.into(), &0.into()),
        "{again:#}"
    );
    // A copy as it is cannot go where another repository is.
    let refused = site.run(&["copy", "clinic", "--to", "renewed"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("a repository of its own"), "{}", text(&refused));
    // The old identity opens nothing of it, the new one everything.
    let old = site.run(&["drill", "clinic", "--identity", &identity, "--repository", "renewed"]);
    assert_eq!(old.status.code(), Some(8), "{}", text(&old));
    fs::rename(copied.folder("repository"), copied.folder("gone")).unwrap();
    let fresh = fresh.display().to_string();
    let output = site.run(&["drill", "clinic", "--identity", &fresh, "--repository", "renewed", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    assert_eq!((output.status.code(), answer["outcome"].as_str()), (Some(0), Some("passed")), "{answer:#}");
}

#[test]
fn a_backup_into_a_copy_is_refused_in_clear_words() {
    if !testbed::enabled() {
        return;
    }
    let copied = Copied::new();
    let site = &copied.site;
    site.succeed(&["backup", "clinic"]);
    site.succeed(&["copy", "clinic", "--to", "offsite"]);
    let before = copied.keys("offsite");
    // Somebody takes the copy for the primary.
    copied.configure(|text| {
        text.replace("path = \"offsite\"", "path = \"other\"").replace("path = \"repository\"", "path = \"offsite\"")
    });
    let refused = site.run(&["backup", "clinic"]);
    assert!(!refused.status.success() && text(&refused).contains("is a copy of a repository"), "{}", text(&refused));
    assert_eq!(copied.keys("offsite"), before);
}
