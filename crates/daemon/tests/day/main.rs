//! A day of the daemon, compressed: fifty instances, clocks that are set, restarts, kills. The daemon is a real process (this
//! program begun again), and so is each run; only what a run does is a stand-in: it takes its time and writes down when it began
//! and ended.
//!
//! Without arguments all tests are run; `idle` measures a thousand idle instances (`make bench`).

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
#![allow(clippy::print_stdout, reason = "a program of its own, that tells what it measures")]

mod child;
mod clock;
mod day;
mod effects;
mod idle;
mod policies;
mod worker;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["daemon", folder, name] => child::main(folder.as_ref(), name),
        ["worker", rest @ ..] => return worker::main(rest),
        ["idle"] => idle::main(),
        ["march"] => day::one("2026-03-29"),
        ["--list", ..] => println!("day: test"),
        filters => {
            let is_wanted = |name: &str| {
                let names: Vec<_> = filters.iter().filter(|filter| !filter.starts_with('-')).collect();
                names.is_empty() || names.iter().any(|filter| name.contains(**filter))
            };
            let tests: [(&str, fn()); 5] = [
                ("a_bad_policy_is_refused_whole", policies::a_bad_policy_is_refused_whole),
                ("one_daemon_a_state_folder", policies::one_daemon_a_state_folder),
                ("one_daemon_leads_and_another_takes_over", policies::one_daemon_leads_and_another_takes_over),
                ("a_night_without_an_hour", day::without_an_hour),
                ("a_day_with_kills_and_restarts", || day::one("2026-10-25")),
            ];
            for (name, test) in tests.iter().filter(|(name, _)| is_wanted(name)) {
                let begun = std::time::Instant::now();
                println!("test {name} …");
                test(); // a panic ends the program, and is a failure
                println!("test {name} ok ({:.1} s)", begun.elapsed().as_secs_f64());
            }
        }
    }
    ExitCode::SUCCESS
}
