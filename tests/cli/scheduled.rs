//! `schedule check` and `schedule next`: what is wrong with schedules, and what is due when.

use crate::program::{Program, shape};

const GOOD: &str = r#"time_zone = "Europe/Berlin"

[schedule.stream]
do = "stream"
instances = ["clinic"]

[schedule.nightly]
do = "backup"
tiers = ["standard"]
cron = "30 2 * * *"

[schedule.hourly]
do = "scrub"
instances = "all"
cron = "0 * * * *"
jitter = "10m"
blackout = [{ from = "04:00", to = "22:00" }]

[schedule.drill]
do = "drill"
instances = ["clinic"]
after = "nightly"
delay = "10m"

[schedule.audit]
do = "audit"
cron = "0 6 * * *"
on = "last sunday"
"#;

fn with(schedules: &str) -> Program {
    let program = Program::initialised();
    program.write("schedules/all.toml", schedules);
    program
}

#[test]
fn good_schedules_are_usable() {
    let program = with(GOOD);
    let ended = program.run("schedule check").expect(0);
    insta::assert_snapshot!("schedule-check", program.stable(&ended.stdout));
    assert_eq!(ended.stderr, "");
    std::fs::remove_dir_all(program.path("schedules")).unwrap();
    let ended = program.run("schedule check").expect(0);
    assert!(ended.stdout.contains("there is no schedule in schedules: nothing is done by itself"), "{}", ended.stdout);
}

#[test]
fn everything_that_is_wrong_is_told() {
    let program =
        with(&GOOD.replace("30 2 * * *", "30 25 * * *").replace("after = \"nightly\"", "after = \"nightli\""));
    program.write("schedules/more.toml", "[schedule.audit]\ndo = \"audit\"\ncron = \"0 6 31 2 *\"\n");
    program.edit("rpo = \"24h\"", "rpo = 24");
    let ended = program.run("schedule check").expect(3);
    insta::assert_snapshot!("schedule-problems", program.stable(&ended.stdout));
    let json = program.run("schedule check --json").expect(3).json();
    insta::assert_snapshot!("schedule-check-json", shape(&json));
    let refused = program.run("schedule next").expect(3);
    assert!(refused.stderr.contains("\"25\" is not one"), "{}", refused.stderr);
    assert!(refused.stderr.contains("lifeboat schedule check"), "{}", refused.stderr);
    program.write("daemon.toml", "listen = \"0.0.0.0:80\"\n");
    let ended = program.run("schedule check").expect(3);
    assert!(
        ended.stdout.contains("daemon.toml:1: listen: tokens and sessions would travel in plain text"),
        "{}",
        ended.stdout
    );
}

/// The night on which clocks change.
#[test]
fn what_is_due_next() {
    let program = with(GOOD);
    let ended = program.run("schedule next --from 2026-10-24T20:00:00Z --count 9").expect(0);
    insta::assert_snapshot!("schedule-next", ended.stdout);
    let json = program.run("schedule next --from 2026-10-24T20:00:00Z --count 2 --json").expect(0).json();
    insta::assert_snapshot!("schedule-next-json", shape(&json));
    let until =
        program.run("schedule next --from 2026-10-24T20:00:00Z --until 2026-10-24T21:00:00Z --json").expect(0).json();
    assert_eq!(until["runs"].as_array().unwrap().len(), 1, "what is due at the beginning is not after it: {until:#}");
    let one = program.run("schedule next --instance clinic --count 500 --json").expect(0).json();
    assert!(one["runs"].as_array().unwrap().iter().all(|run| run["instance"] == "clinic" && run["do"] != "audit"));
    assert_eq!(one["runs"].as_array().unwrap().len(), 500);
    assert!(program.run("schedule next --instance other").expect(6).stderr.contains("configured are: clinic"));
}
