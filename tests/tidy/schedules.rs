//! Shipped schedules and the settings that docs/daemon.md shows are taken by the daemon's own code.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use lifeboat_daemon::{daemon::Sources, policies, schedule, settings::Budget};
use lifeboat_drill::sabotage::Kind;
use lifeboat_model::config::{Config, parse};

use crate::tree::{files, read, root};

/// An instance of each tier, a lock and a copy: what shipped schedules may ask for.
fn config(tenant: &str) -> String {
    let tiers = ["gold", "silver", "bronze"].map(|tier| {
        format!(
            r#"
[tiers.{tier}]
rpo = "15m"
rto = "4h"
lock = {{ mode = "governance", minimum = "7d" }}
drill = {{ every = "31d" }}
[instances.{tier}-one]
tier = "{tier}"
postgres = {{ host = "db.example.org", user = "lifeboat", databases = ["odoo"] }}
filestore = {{ path = "/srv/odoo" }}
drill = {{ postgres_image = "postgres:17", odoo_image = "odoo:19" }}
"#
        )
    });
    let place = r#"region = "eu-central-1", access_key_env = "KEY", secret_key_env = "SECRET""#;
    format!(
        r#"tenant = "{tenant}"
[[repository]]
name = "here"
role = "primary"
s3 = {{ bucket = "{tenant}-here", {place} }}
[[repository]]
name = "there"
role = "copy"
s3 = {{ bucket = "{tenant}-there", {place} }}
[keys]
recovery_recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"]
host_identity_file = "host.age"
signing_key_file = "signing"
trusted_keys = ["lifeboat-ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw="]
recovery_identity_file = "recovery.age"
[engine]
state_dir = "state"
{}"#,
        tiers.concat()
    )
}

fn checked() -> Config {
    match parse(&config("clinics"), Path::new("lifeboat.toml")) {
        Ok((config, _)) => config,
        Err(problems) => panic!("{problems:#?}"),
    }
}

#[test]
fn shipped_schedules_are_taken() {
    let shipped: Vec<(PathBuf, String)> =
        files(&root().join("schedules"), "toml").into_iter().map(|path| (path.clone(), read(&path))).collect();
    let names: BTreeSet<String> =
        shipped.iter().map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    for tier in ["gold.toml", "silver.toml", "bronze.toml", "tenant.toml"] {
        assert!(names.contains(tier), "{names:?}");
    }
    let config = checked();
    let said = |problems: Vec<lifeboat_model::config::Problem>| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    // All together, and each tier's by itself, as people copy them: with nothing left to say.
    let found = schedule::read(&shipped, &config).unwrap_or_else(|problems| panic!("{}", said(problems)));
    assert_eq!(found.warnings, []);
    for one in &shipped {
        let found =
            schedule::read(std::slice::from_ref(one), &config).unwrap_or_else(|problems| panic!("{}", said(problems)));
        assert!(!found.schedules.is_empty());
        assert!(found.schedules.iter().all(|schedule| schedule.description.is_some()), "{}", one.0.display());
    }
    // Gold is what the tier is for: the log always, and a drill after a backup.
    let words: BTreeSet<(&str, String)> =
        found.schedules.iter().map(|schedule| (schedule.verb.word(), schedule.words())).collect();
    assert!(words.contains(&("stream", "always".to_owned())), "{words:?}");
    assert!(words.contains(&("drill", "10m 0s after gold-nightly".to_owned())), "{words:?}");
}

/// The daemon does not know the drill's code, but its words.
#[test]
fn controls_have_the_words_of_the_drill() {
    let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.word()).collect();
    assert_eq!(BTreeSet::from_iter(known), BTreeSet::from_iter(schedule::CONTROLS));
}

#[test]
fn the_settings_in_the_document_are_taken() {
    let document = read(&root().join("docs/daemon.md"));
    let example = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(example.contains("[notify.dead_man]"), "the example is the first block of TOML");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("daemon.toml", &example.replace("/var/lib/lifeboat", "state"));
    for tenant in ["north", "south"] {
        write(&format!("{tenant}/lifeboat.toml"), &config(tenant));
        for file in ["gold.toml", "silver.toml", "bronze.toml", "tenant.toml"] {
            write(&format!("{tenant}/schedules/{file}"), &read(&root().join("schedules").join(file)));
        }
    }
    for named in example.split('"').filter(|text| text.starts_with("secrets/") || text.starts_with("tls/")) {
        write(named, "-");
    }
    let checked = policies::check(&Sources { settings: Some(folder.path().join("daemon.toml")), config: None });
    assert_eq!(checked.problems, []);
    assert_eq!(checked.warnings, []);
    let settings = checked.policies.unwrap().settings;
    assert_eq!((settings.notify.channels.len(), settings.notify.routes.len()), (4, 3));
    // What the comments call a default is one.
    let plain = policies::settings(&Sources { settings: None, config: None }).unwrap();
    assert_eq!((settings.look_every, settings.stop_grace), (plain.look_every, plain.stop_grace));
    assert_eq!(settings.probe_every, plain.probe_every);
    let budget = settings.budget;
    assert!(budget.line != plain.budget.line, "the line is bounded in the example, and by default it is not");
    assert_eq!(Budget { priority: Vec::new(), line: plain.budget.line, ..budget }, plain.budget);
}
