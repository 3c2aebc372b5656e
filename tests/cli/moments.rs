//! Which moments there are, and what is said of one that there is not.

use std::fs;

use crate::{
    program::{Program, shape},
    repository::add_point_with_log,
};

/// Two points, each with its own log, and nothing between them.
fn with_a_gap() -> Program {
    let program = Program::initialised();
    fs::rename(program.path("keys/recovery.identity"), program.path("recovery.identity")).unwrap();
    add_point_with_log(&program, "2026-11-20T10:00:00Z", 1);
    add_point_with_log(&program, "2026-11-21T10:00:00Z", 5);
    program
}

#[test]
fn windows_and_the_gap_between_are_shown_without_a_recovery_identity() {
    let program = with_a_gap();
    let json = program.run("points windows clinic --json").expect(0).json();
    insta::assert_snapshot!("points-windows-json", shape(&json));
    let of = &json["instances"][0];
    assert_eq!((of["windows"].as_array().unwrap().len(), of["gaps"].as_array().unwrap().len()), (2, 1), "{json:#}");
    assert_eq!(of["gaps"][0]["to"]["time"], "2026-11-21T10:00:00Z");
    let text = program.run("points windows").expect(0).stdout;
    assert!(text.contains("GAP of 1d") && text.contains("A backup made now"), "{text}");
    program.run("points windows clinik").expect(6);
}

#[test]
fn a_moment_that_is_not_held_names_the_nearest() {
    let program = with_a_gap();
    let moment = |arguments: &str| format!("restore clinic --to out --identity recovery.identity {arguments}");
    for arguments in ["--at 2026-11-20T22:00:00Z", "--lsn 0/3000000", "--at 2026-11-20T23:00:00+01:00"] {
        let ended = program.run(&moment(arguments)).expect(6);
        let told = &ended.stderr;
        assert!(told.contains("2026-11-20T10:00:00Z") && told.contains("2026-11-21T10:00:00Z"), "{arguments}: {told}");
        assert!(told.contains("points windows"), "{arguments}: {told}");
        assert!(!program.path("out").exists(), "nothing was written");
    }
    let early = program.run(&moment("--at 2026-11-01T00:00:00Z")).expect(6);
    assert!(early.stderr.contains("earliest moment that can be reached is 2026-11-20T10:00:00Z"), "{}", early.stderr);
    let unnamed = program.run(&moment("--restore-point upgrade")).expect(6);
    assert!(unnamed.stderr.contains("no restore point \"upgrade\""), "{}", unnamed.stderr);
}

#[test]
fn a_moment_is_named_in_one_way_and_a_time_with_its_zone() {
    let program = Program::new();
    for wrong in [
        "--at 2026-11-21T14:03:10Z --lsn 0/1",
        "--lsn 0/1 --restore-point x",
        "--lsn 17",
        "--timeline 0",
        "--at yesterday",
    ] {
        program.run(&format!("restore clinic --to out {wrong}")).expect(2);
        program.run(&format!("drill clinic {wrong}")).expect(2);
    }
    let local = program.run("restore clinic --to out --at 2026-11-21T14:03:10").expect(2);
    assert!(local.stderr.contains("2026-11-21T14:03:10Z") && local.stderr.contains("+01:00"), "{}", local.stderr);
}
