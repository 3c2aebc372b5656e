//! Files as people write them, and what is said when they are wrong.

use std::path::{Path, PathBuf};

use lifeboat_model::config::{Config, parse};

use super::super::*;

const CONFIG: &str = r#"tenant = "clinics"
[[repository]]
name = "primary"
role = "primary"
path = "backups"
[[repository]]
name = "elsewhere"
role = "copy"
path = "copies"
[keys]
recovery_recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"]
host_identity_file = "keys/host.age"
signing_key_file = "keys/signing"
trusted_keys = ["lifeboat-ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw="]
[tiers.gold]
rpo = "15m"
rto = "4h"
drill = { every = "7d" }
[tiers.silver]
rpo = "24h"
rto = "8h"
[instances.clinic]
tier = "gold"
postgres = { host = "db", user = "lifeboat", databases = ["clinic"], tls = "disable" }
drill = { postgres_image = "postgres:17", odoo_image = "odoo:19" }
[instances.shop]
tier = "silver"
postgres = { host = "db", user = "lifeboat", databases = ["shop"], tls = "disable" }
drill = { postgres_image = "postgres:17", odoo_image = "odoo:19" }
"#;

fn config() -> Config {
    match parse(CONFIG, Path::new("lifeboat.toml")) {
        Ok((config, _)) => config,
        Err(problems) => panic!("{problems:#?}"),
    }
}

fn read_one(text: &str) -> Result<Found, Vec<String>> {
    let files = [(PathBuf::from("gold.toml"), text.to_owned())];
    read(&files, &config()).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

const GOOD: &str = r#"
time_zone = "Europe/Berlin"

[schedule.gold-stream]
do = "stream"
tiers = ["gold"]

[schedule.gold-backup]
description = "Every four hours"
do = "backup"
tiers = ["gold"]
cron = "0 0,4,8,12,16,20 * * *"
jitter = "20m"
blackout = [{ days = ["mon-fri"], from = "08:00", to = "18:00" }, { days = "sun", from = "22:00", to = "06:00" }]
missed = { once_within = "12h" }
retries = 3
retry_after = "5m"

[schedule.gold-drill]
do = "drill"
point = "random"
instances = ["clinic"]
after = "gold-backup"
delay = "10m"

[schedule.report]
do = "report"
period = "month"
folder = "reports"
cron = "0 6 * * *"
on = "first monday"
time_zone = "America/New_York"
missed = "skip"

[schedule.everything]
do = "control"
kind = "flipped-page"
instances = "all"
cron = "@weekly"
"#;

#[test]
fn a_good_file() {
    let found = read_one(GOOD).unwrap();
    let told: Vec<String> = found
        .schedules
        .iter()
        .map(|schedule| {
            let of: Vec<String> = schedule
                .instances(&config())
                .iter()
                .map(|instance| instance.as_ref().map_or("tenant".to_owned(), ToString::to_string))
                .collect();
            for name in config().instances.keys().map(Some).chain([None]) {
                let listed = schedule.instances(&config()).contains(&name.cloned());
                assert_eq!(schedule.has(&config(), name), listed, "{} has {name:?}", schedule.name);
            }
            format!(
                "{}: {:?} of {}: {}; jitter {}, {:?}, {} retries after {}, {} blackouts",
                schedule.name,
                schedule.verb,
                of.join("+"),
                schedule.words(),
                schedule.jitter,
                schedule.missed,
                schedule.retries,
                schedule.retry_after,
                schedule.blackouts.len()
            )
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(found.files.len(), 1, "the report's folder is looked at: {:?}", found.files);
    let days: Vec<_> = found.schedules[1].blackouts.iter().map(|blackout| blackout.days.len()).collect();
    assert_eq!(days, [5, 1]);
    let warnings: Vec<String> = found.warnings.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("left-out", warnings.join("\n"));
}

/// Each line of the table is a change to a small good file, and all that is said then.
#[test]
fn every_problem_says_where_it_is_and_what_to_do() {
    let base = "[schedule.one]\ndo = \"backup\"\ntiers = [\"gold\"]\ncron = \"@daily\"\n";
    let said = |text: &str| match read_one(text) {
        Ok(found) => panic!("is taken: {text}\n{found:?}"),
        Err(problems) => problems.join("\n"),
    };
    let cases = [
        "[schedule.one\n".to_owned(),
        "[schedules.one]\ndo = \"backup\"\n".to_owned(),
        "[schedule.One]\n".to_owned(),
        format!("{base}crom = \"x\"\n"),
        base.replace("backup", "backupp"),
        base.replace("tiers = [\"gold\"]\n", ""),
        base.replace("gold", "goold"),
        base.replace("tiers = [\"gold\"]", "instances = [\"clinc\", \"shop\"]"),
        base.replace("tiers = [\"gold\"]", "instances = \"clinic\""),
        format!("{base}instances = \"all\"\n"),
        base.replace("cron = \"@daily\"\n", ""),
        base.replace("@daily", "0 25 * * *"),
        base.replace("@daily", "0 0 31 2 *"),
        format!("{base}on = [\"first sunnday\"]\n"),
        format!("{base}after = \"two\"\n"),
        format!("{base}delay = \"1h\"\n"),
        format!("{base}time_zone = \"Berlin\"\n"),
        format!("{base}jitter = \"2d\"\n"),
        format!("{base}missed = \"once\"\n"),
        format!("{base}missed = {{ within = \"1h\" }}\n"),
        format!("{base}retries = -1\n"),
        format!("{base}blackout = [{{ from = \"8:00\", to = \"18:00\", days = [\"mo\"] }}]\n"),
        format!("{base}blackout = {{ from = \"00:00\", to = \"24:00\" }}\n"),
        format!("{base}point = \"random\"\n"),
        base.replace("\"backup\"", "\"scrub\"\nsample = \"all\""),
        base.replace("\"backup\"", "\"control\"\nkind = \"flipped-pages\""),
        base.replace("\"backup\"", "\"copy\"\nto = \"elsewher\""),
        base.replace("\"backup\"", "\"report\"\nperiod = \"day\""),
        base.replace("\"backup\"", "\"stream\"\nmissed = \"skip\"\nblackout = []"),
        base.replace("cron = \"@daily\"", "after = \"two\""),
        base.replace("cron = \"@daily\"", "after = \"one\""),
        format!("{}[schedule.two]\ndo = \"drill\"\ninstances = [\"shop\"]\nafter = \"one\"\n", base),
        format!("{}[schedule.wal]\ndo = \"stream\"\ntiers = [\"gold\"]\n", base.replace("cron = \"@daily\"", "after = \"wal\"")),
        "[schedule.a]\ndo = \"stream\"\ninstances = \"all\"\n[schedule.b]\ndo = \"stream\"\ntiers = [\"gold\"]\n".to_owned(),
        "[schedule.a]\ndo = \"audit\"\nafter = \"b\"\n[schedule.b]\ndo = \"audit\"\nafter = \"c\"\n[schedule.c]\ndo = \"audit\"\nafter = \"a\"\n".to_owned(),
        "[schedule.a]\n[schedule.b]\ndo = 5\n[schedule.c]\ncron = \"x\"\njitter = 5\nbla = 1\n".to_owned(),
    ];
    insta::assert_snapshot!(cases.map(|case| said(&case)).join("\n---\n"));
}

#[test]
fn all_files_are_told_at_once_and_names_are_unique_in_all() {
    let one = "[schedule.nightly]\ndo = \"backup\"\ntiers = [\"gold\"]\ncron = \"@daily\"\n".to_owned();
    let files = [
        (PathBuf::from("a.toml"), one.clone()),
        (PathBuf::from("b.toml"), one),
        (PathBuf::from("c.toml"), "do = 1".to_owned()),
        (PathBuf::from("d.toml"), "x y".to_owned()),
    ];
    let problems: Vec<String> = read(&files, &config()).unwrap_err().iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(problems.join("\n"));
    assert_eq!(super::super::problems(&files).len(), 2, "without the configuration, what the files alone tell");
}

#[test]
fn a_copy_needs_a_place() {
    let one = "[schedule.copy]\ndo = \"copy\"\ntiers = [\"gold\"]\ncron = \"@daily\"\n";
    assert!(read_one(one).is_ok());
    let mut without = config();
    without.copies.clear();
    let problems = read(&[(PathBuf::from("a.toml"), one.to_owned())], &without).unwrap_err();
    assert!(problems[0].to_string().contains("no repository to copy to; add a [[repository]]"), "{problems:?}");
}
