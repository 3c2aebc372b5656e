use std::os::unix::process::ExitStatusExt as _;

use lifeboat_model::secret::Secret;

use super::*;

fn ended(stdout: &str, stderr: &str) -> Ended {
    let status = ExitStatus::from_raw(5 << 8);
    Ended { status, stdout: stdout.to_owned(), stderr: stderr.to_owned(), raw: [stdout, stderr].concat() }
}

#[test]
fn what_was_found_out_is_not_pushed_out_by_progress() {
    let progress: String = (0..100).map(|number| format!("probe {number}: …\n")).collect();
    let told = ended("the last good moment: 14:03:10\nnot held: 14:05\n", &progress).tail();
    assert!(told.starts_with("ended with 5: the last good moment: 14:03:10 | not held: 14:05 | probe 80"), "{told}");
    assert!(told.ends_with("probe 99: …"), "{told}");
    let long = format!("{}\nthe end", "x".repeat(10_000));
    assert_eq!(ended(&long, "").tail(), "ended with 5: the end");
    assert!(ended(&"x".repeat(10_000), "").tail().len() < REASON + 100);
    assert_eq!(ended("", "\n").tail(), "ended with 5");
}

#[test]
fn no_part_of_a_secret_is_kept_at_a_cut() {
    let masks = Masks::default();
    masks.hide(&Secret::new("token-of-the-balancer"));
    let mut before = "x".repeat(100);
    before.push_str("\ntoken-of-the-balancer\n");
    // Wherever the cut comes, nothing of it stays.
    for cut in 0..before.len() {
        let text = format!("{}{}", &before[cut..], "y\n".repeat(KEPT));
        let shown = kept(&text, &masks);
        assert!(shown.len() <= KEPT && !shown.contains("balancer") && !shown.contains("token"), "{cut}");
    }
    assert_eq!(kept("a token-of-the-balancer", &masks), "a ***");
    assert!(kept(&"é".repeat(KEPT), &masks).len() <= KEPT);
}

fn of_ours<'t>(left: &'t Left, slot: &Path, script: &str, folder: &Path) -> Group<'t> {
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(folder).stdin(Stdio::piped()).process_group(0);
    let mut group = Group::spawn(&mut command).unwrap();
    group.left = Some((left, slot.to_owned()));
    group
}

#[tokio::test]
async fn a_step_that_was_stopped_has_ended_when_lifeboat_has_torn_down() {
    let folder = tempfile::tempdir().unwrap();
    let (left, slot) = (Left::default(), folder.path().join("restore"));
    let mut group = of_ours(&left, &slot, "cat; sleep 0.3; echo > torn-down", folder.path());
    drop(group.child.as_mut().unwrap().stdin.take());
    drop(group);
    left.within(Path::new("another"), LEAVES, &|_| {}).await;
    assert!(!folder.path().join("torn-down").exists(), "another step's are not waited for");
    left.within(&slot, LEAVES, &|_| {}).await;
    assert!(folder.path().join("torn-down").exists());
}

#[tokio::test]
async fn a_drill_that_a_command_has_started_tears_down() {
    let folder = tempfile::tempdir().unwrap();
    let (left, slot) = (Left::default(), folder.path().join("drill"));
    let script = "trap 'echo > torn-down; exit 130' TERM; echo > begun; while :; do sleep 0.01; done";
    let mut group = of_ours(&left, &slot, script, folder.path());
    group.is_asked = true;
    while !folder.path().join("begun").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(group);
    left.within(&slot, LEAVES, &|_| {}).await;
    assert!(folder.path().join("torn-down").exists());
}

#[tokio::test]
async fn what_does_not_end_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let (left, slot) = (Left::default(), folder.path().join("restore"));
    let group = of_ours(&left, &slot, "sleep 600 & echo $! > begun; wait", folder.path());
    let begun = folder.path().join("begun");
    while !std::fs::read_to_string(&begun).is_ok_and(|text| text.ends_with('\n')) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(group);
    left.within(&slot, Duration::from_millis(20), &|_| {}).await;
    let started = std::fs::read_to_string(&begun).unwrap();
    // It may wait for somebody to ask for its end, and runs no more.
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", started.trim())).unwrap_or_default();
    while !state().is_empty() && !state().contains(") Z ") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
