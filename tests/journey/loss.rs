//! The whole of it, as somebody on call has it with nothing but the kit: a production system of its own is backed up and streamed
//! while people write, its containers, volumes, configuration, keys and state are destroyed under that load, and the shipped runbook
//! brings it back on another one, while its executor is killed wherever it stands.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use lifeboat_testkit::testbed;
use serde_json::Value;

use crate::{
    production::{Machine, PATIENCE, copy_runbooks, production_that_is_used, until},
    support::text,
};

/// What is on the memory stick, and a shell of root.
struct OnCall {
    kit: PathBuf,
}

impl OnCall {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.kit.join("lifeboat"));
        command.args(arguments).current_dir(&self.kit).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", "/root").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn journal(&self) -> Vec<Value> {
        let runs = fs::read_dir(self.kit.join("state/runs")).into_iter().flatten();
        let journal =
            runs.map(|entry| entry.unwrap().path()).find(|path| path.extension().is_some_and(|end| end == "jsonl"));
        let text = journal.map(|path| fs::read_to_string(path).unwrap()).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn total_loss_under_load_is_undone_from_the_kit_by_an_executor_that_is_killed_everywhere() {
    if !testbed::enabled() {
        return;
    }
    let (production, rescue) = (Machine::new("old"), Machine::new("new"));
    let (site, mut stream, writer) = production_that_is_used(&production);
    let elsewhere = tempfile::tempdir().unwrap();
    let on_call = OnCall { kit: elsewhere.path().join("kit") };
    copy_runbooks(&site);
    site.succeed(&["kit", "write", on_call.kit.to_str().unwrap()]);
    let identity = elsewhere.path().join("recovery.identity");
    // What its README says to bring: the role's password, to look into what was recovered.
    let password = testbed::state_dir().join("secrets/lifeboat.password");
    fs::copy(password, on_call.kit.join("secrets/lifeboat.password")).unwrap();

    // It is gone, with everything that was on that machine, while somebody writes.
    until("rows", || writer.last() > 100);
    let lost = Instant::now();
    production.destroy();
    stream.kill();
    let acknowledged = writer.last();
    drop(writer);
    fs::rename(site.identity(), &identity).unwrap();
    for gone in ["lifeboat.toml", "keys", "state", "old", "runbooks"] {
        let path = site.dir.path().join(gone);
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        assert!(!path.exists(), "{gone}");
    }

    let opened = on_call.run(&["incident", "open", "the machine is gone", "--instance", "clinic"]);
    assert!(opened.status.success(), "{}", text(&opened));
    let folder = elsewhere.path().join("restored");
    let maker = rescue.maker(elsewhere.path());
    let kills = begin_and_be_killed(&on_call, &rescue, &folder, &maker, &identity);

    let journal = on_call.journal();
    let told = journal.last().unwrap();
    assert_eq!((&told["event"], &told["ending"]), (&"finished".into(), &"passed".into()), "{journal:#?}");
    let passed = |step: &str| {
        let ends = journal
            .iter()
            .filter(|line| line["event"] == "ended" && line["step"] == step && line["outcome"] == "passed");
        ends.count()
    };
    for step in [
        "restore-volumes",
        "make-by-program",
        "start-postgres-container",
        "verify-volumes",
        "verify-odoo-container",
        "use-volumes",
    ] {
        assert_eq!(passed(step), 1, "{step}: {journal:#?}");
    }
    assert_eq!(
        fs::read_to_string(elsewhere.path().join("made")).unwrap().lines().count(),
        2,
        "each container was made once"
    );

    // What is back is what was written, without a hole, up to what the stream held.
    let rows = rescue.psql("demo", "SELECT count(*) || ' ' || coalesce(max(id), 0) FROM on_call").unwrap();
    let (count, newest) = rows.split_once(' ').unwrap();
    assert_eq!(count, newest, "rows without a hole");
    let newest: i64 = newest.parse().unwrap();
    assert!(newest > 0 && newest <= acknowledged + 1, "{newest} of {acknowledged}");
    let found = |name: &str| journal.iter().rev().find_map(|line| line["outputs"][name].as_str().map(str::to_owned));
    let rpo: f64 = found("rpo-seconds").expect("a measured RPO").parse().unwrap();
    eprintln!(
        "killed {kills} times; {newest} of {acknowledged} acknowledged rows are back; RPO {rpo} s; back {:.1} s after the loss",
        lost.elapsed().as_secs_f64()
    );
    let closed = on_call.run(&["incident", "close", "it works again"]);
    assert!(closed.status.success(), "{}", text(&closed));
    let report = on_call.run(&["incident", "report", "--out", "report.md"]);
    assert!(report.status.success(), "{}", text(&report));
    let report = fs::read_to_string(on_call.kit.join("report.md")).unwrap();
    for word in ["the machine is gone", "total-loss", "it works again"] {
        assert!(report.contains(word), "{word}: {report}");
    }
}

/// Runs the runbook; kills its executor behind every line of the journal, and in the middle of every step that takes a while. Gives
/// how often it was killed.
fn begin_and_be_killed(on_call: &OnCall, rescue: &Machine, folder: &Path, maker: &Path, identity: &Path) -> usize {
    let settings = [
        ("platform", "docker".to_owned()),
        ("key", identity.display().to_string()),
        ("folder", folder.display().to_string()),
        ("postgres", rescue.part("db")),
        ("odoo", rescue.part("web")),
        ("postgres-volume", rescue.part("db")),
        ("odoo-volume", rescue.part("files")),
        ("make-containers", maker.display().to_string()),
        ("login", "admin".to_owned()),
        ("login-password", testbed::state_dir().join("secrets/odoo-admin.password").display().to_string()),
        ("url", format!("http://127.0.0.1:{}", rescue.web)),
    ];
    let settings: Vec<String> = settings.map(|(name, value)| format!("{name}={value}")).into();
    let mut begin = vec!["runbook", "run", "total-loss", "--instance", "clinic", "--yes", "--confirm", "clinic"];
    settings.iter().for_each(|setting| begin.extend(["--set", setting]));
    let answers = [
        "is-the-old-system-off=yes@lead",
        "approve=yes@lead",
        "point-the-name-here=yes@ann",
        "the-business-has-looked=yes@lead",
        "tell-by-hand=yes@lead",
    ];
    let with_answers = |words: &[&'static str]| -> Vec<&'static str> {
        words.iter().copied().chain(answers.iter().flat_map(|answer| ["--answer", *answer])).collect()
    };
    begin.extend(answers.iter().flat_map(|answer| ["--answer", *answer]));
    let mut kills = Kills::default();
    let mut arguments = begin;
    loop {
        let mut child = on_call.command(&arguments).spawn().unwrap();
        let mut read = on_call.journal().len();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "it stands still: {:#?}", on_call.journal().last());
            let journal = on_call.journal();
            let line = journal[read.min(journal.len())..].iter().find_map(|line| kills.moment(line));
            read = journal.len();
            if let Some(behind) = line {
                thread::sleep(behind);
                child.kill().unwrap();
            }
            thread::sleep(Duration::from_millis(10));
        }
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            Some(0) => return kills.count(),
            Some(code) => panic!("ended with {code}: {}", text(&output)),
            None if on_call.journal().last().is_some_and(|line| line["event"] == "finished") => return kills.count(),
            None => arguments = with_answers(&["runbook", "resume", "latest"]),
        }
    }
}

/// Where the executor was killed: behind each kind of line of each step once, and once more in the middle of a step.
#[derive(Default)]
struct Kills(BTreeSet<(String, String, bool)>);

impl Kills {
    /// How long behind this line it is killed; none: it was already.
    fn moment(&mut self, line: &Value) -> Option<Duration> {
        let of = |middle: bool| {
            let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            (word("event"), word("step"), middle)
        };
        if self.0.insert(of(false)) {
            return Some(Duration::ZERO);
        }
        let is_step = line["event"] == "started" && self.0.insert(of(true));
        is_step.then_some(Duration::from_millis(700))
    }

    fn count(&self) -> usize {
        self.0.len()
    }
}
