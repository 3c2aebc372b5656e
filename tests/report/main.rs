//! Reports as people get them: a year of evidence in a repository, the built binary, and a real browser that opens the page on a desk
//! and on a phone, in light and in dark, and prints it on A4.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod year;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use jiff::Timestamp;
use lifeboat_engine::{context::open_store, keys::read_signing_key};
use lifeboat_evidence::{Predicate, Statement, act::Act, seal};
use lifeboat_model::{
    config::{Config, parse},
    id::Sha256Digest,
    signature::SigningKey,
};
use lifeboat_repo::repository::Repository;
use lifeboat_testkit::{browser::Browser, testbed};
use serde_json::Value;

use year::{CLINIC, LONG, TENANT};

const TIERS: &str = "
[tiers.gold]
rpo = \"15m\"
rto = \"1h\"
[tiers.gold.drill]
every = \"7d\"
[tiers.silver]
rpo = \"1h\"
rto = \"4h\"
[tiers.silver.drill]
every = \"31d\"
[tiers.bronze]
rpo = \"24h\"
rto = \"48h\"
";

/// A configured site with a year of evidence.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    /// With these statements, signed by the site's key but for those that `stranger` picks.
    fn new(statements: &[Statement], stranger: impl Fn(usize) -> bool) -> Site {
        let site = Site { folder: tempfile::tempdir().unwrap() };
        let made = site.run(&["init", "--tenant", TENANT, "--instance", CLINIC, "--state-dir", "state"]);
        assert!(made.status.success(), "{}", text(&made));
        let file = site.path("lifeboat.toml");
        let starter = fs::read_to_string(&file).unwrap();
        fs::write(&file, configured(&starter)).unwrap();
        let config = site.config();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let now: Timestamp = year::FROM.parse().unwrap();
        runtime.block_on(async {
            let store = open_store(&config.repository, &|_| None, true).await.unwrap();
            Repository::init(store, year::REPOSITORY, now).await.unwrap();
        });
        let (own, other) = (read_signing_key(&config.keys.signing_key_file).unwrap(), SigningKey::from_seed(&[1; 32]));
        let repository = site.path("repository");
        fs::create_dir_all(repository.join(TENANT).join("evidence")).unwrap();
        let mut digests = BTreeMap::new();
        for (at, statement) in statements.iter().enumerate() {
            let key = if stranger(at) { &other } else { &own };
            let mut statement = statement.clone();
            // A word is on the envelope that was seen, byte for byte.
            if let Predicate::Act(act) = &mut statement.predicate
                && let Act::SignOff(word) = &mut act.act
            {
                word.statement_sha256 = digests[&word.statement];
            }
            let envelope = seal(&statement, key);
            let digest = Sha256Digest(<sha2::Sha256 as sha2::Digest>::digest(&envelope).into());
            digests.insert(statement.storage_key().unwrap().to_string(), digest);
            let place = repository.join(statement.storage_key().unwrap().to_string());
            fs::write(place, envelope).unwrap();
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> Config {
        let file = self.path("lifeboat.toml");
        let (config, _) =
            parse(&fs::read_to_string(&file).unwrap(), &file).unwrap_or_else(|found| panic!("{found:#?}"));
        config
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(arguments).current_dir(self.folder.path()).output().unwrap()
    }

    #[track_caller]
    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "lifeboat {arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The report of the whole year, with more arguments.
    #[track_caller]
    fn report(&self, more: &[&str]) -> String {
        let year = ["evidence", "report", "--from", "2025-11-22", "--to", "2026-11-20"];
        self.succeed(&[year.as_slice(), more].concat())
    }
}

/// Three more instances beside the one of the starter file, all of them on the year's tiers.
fn configured(starter: &str) -> String {
    let (head, instance) = starter.split_once("[tiers.standard]").unwrap();
    let instance = &instance[instance.find("[instances.clinic]").unwrap()..];
    let instance = instance.replace("tier = \"standard\"", "tier = \"gold\"");
    let more = [(LONG, "silver"), (year::PHARMACY, "silver"), (year::ARCHIVE, "bronze")].map(|(name, tier)| {
        let database = format!("[instances.{name}.postgres]\nhost = \"localhost\"\nuser = \"lifeboat\"\n");
        let images = "postgres_image = \"postgres:17\"\nodoo_image = \"odoo:19\"\n";
        let drill = format!("[instances.{name}.drill]\n{images}");
        format!("[instances.{name}]\ntier = \"{tier}\"\n{database}databases = [\"odoo\"]\n{drill}")
    });
    format!("{head}{TIERS}\n{instance}\n{}", more.join("\n"))
}

fn text(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}\n{err}", output.status)
}

/// Pictures and pages stay for whoever wants to look at them.
fn kept(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

#[test]
fn the_report_counts_what_is_believed() {
    let statements = year::statements();
    let foreign = statements.iter().position(|statement| statement.kind() == "drill").unwrap();
    let site = Site::new(&statements, |at| at == foreign);
    let report: Value = serde_json::from_str(&site.report(&["--json"])).unwrap();
    assert_eq!(report["schema"], "lifeboat.evidence-report/1");
    let clinic = report["instances"].as_array().unwrap().iter().find(|of| of["instance"] == CLINIC).unwrap();
    assert_eq!(clinic["rehearsals"].as_array().unwrap().len(), 47, "one was signed by a stranger");
    assert_eq!(report["statements"]["not_believed"], 1, "{:#}", report["statements"]);
    assert_eq!(clinic["due"]["every_seconds"], 7 * 86_400);
    let ledger = &report["ledger"];
    assert_eq!((&ledger["audit"], ledger["findings"].is_object()), (&Value::from("executed"), true), "{ledger:#}");
    let drills = report["drills"].as_array().unwrap().len() as u64;
    let sums = |name: &str| report["sums"][name].as_u64().unwrap();
    assert_eq!(drills, sums("rehearsals") + sums("controls"));

    let one: Value =
        serde_json::from_str(&site.report(&["--json", "--instance", CLINIC, "--records", "none"])).unwrap();
    assert_eq!((one["instances"].as_array().unwrap().len(), one["drills"].as_array().unwrap().len()), (1, 0));
    let few: Value = serde_json::from_str(&site.report(&["--json", "--records", "exceptions"])).unwrap();
    let few = few["drills"].as_array().unwrap().len() as u64;
    assert!(few > 0 && few < drills, "{few} of {drills}");
    let table = site.report(&["--format", "csv"]);
    assert!(table.starts_with("instance,tier,kind,started,run,outcome") && table.lines().count() as u64 > drills);

    let gone = site.run(&["evidence", "report", "--instance", "nowhere"]);
    assert_eq!(gone.status.code(), Some(6), "{}", text(&gone));
    let backwards = site.run(&["evidence", "report", "--from", "2026-11-01", "--to", "2026-10-01"]);
    assert_eq!(backwards.status.code(), Some(2), "{}", text(&backwards));
    site.report(&["--output", "year.html"]);
    let again = site.run(&["evidence", "report", "--output", "year.html"]);
    assert!(!again.status.success() && text(&again).contains("will not overwrite"), "{}", text(&again));
}

/// A sign-off is evidence: in the list, beside what it is about, and in the report, where it closes what was open.
#[test]
fn a_word_on_a_failed_drill_answers_for_it() {
    let statements = year::statements();
    let site = Site::new(&statements, |_| false);
    let open = |site: &Site| -> Vec<String> {
        let report: Value = serde_json::from_str(&site.report(&["--json", "--instance", CLINIC])).unwrap();
        let all = report["instances"][0]["exceptions"].as_array().unwrap().clone();
        let open = all.iter().filter(|one| one["status"] == "open").filter(|one| one["run"].is_string());
        open.map(|one| one["run"].as_str().unwrap().to_owned()).collect()
    };
    let before = open(&site);
    let [failed, control] = before.as_slice() else { panic!("{before:?}") };
    let words = ["--role", "dr-coordinator", "--decision", "rejected", "--comment", "Der Text war böse: <b>"];
    let action = ["--corrective-action", "clean the log", "--due", "2026-12-01"];
    let sign = [["evidence", "sign-off", failed, "--json"].as_slice(), &words, &action].concat();
    let signed: Value = serde_json::from_str(&site.succeed(&sign)).unwrap();
    assert_eq!((&signed["decision"], &signed["kind"]), (&Value::from("rejected"), &Value::from("drill")));
    let file = fs::read(site.path("repository").join(signed["statement"].as_str().unwrap())).unwrap();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&file);
    assert_eq!(signed["statement_sha256"], hex::encode(digest), "what was seen, byte for byte");
    assert_eq!(open(&site), std::slice::from_ref(control), "answered for, and rehearsed since");

    let listed = site.succeed(&["evidence", "list", "--kind", "signoff", "--limit", "1"]);
    assert!(listed.contains("rejected run") && listed.contains("dr-coordinator"), "{listed}");
    let shown = site.succeed(&["evidence", "show", failed]);
    assert!(shown.contains("Der Text war böse") && shown.contains("clean the log"), "{shown}");
}

#[test]
fn nobody_signs_for_what_is_not_believed() {
    let statements = year::statements();
    let foreign = statements.iter().position(|statement| statement.kind() == "drill").unwrap();
    let site = Site::new(&statements, |at| at == foreign);
    let run = statements[foreign].run().unwrap().0.to_string();
    let sign = |run: &str| site.run(&["evidence", "sign-off", run, "--role", "owner", "--comment", "seen"]);
    let refused = sign(&run);
    assert!(refused.status.code() == Some(4) && text(&refused).contains("not to be believed"), "{}", text(&refused));
    assert_eq!(sign("ffffffffffffffff").status.code(), Some(6), "no such run");
    assert_eq!(sign("xyz").status.code(), Some(2));
    let silent = site.run(&["evidence", "sign-off", &run, "--role", "owner"]);
    assert_eq!(silent.status.code(), Some(2), "a comment is required");
    let word = statements.iter().find(|statement| statement.kind() == "signoff").unwrap();
    assert_eq!(sign(&word.run().unwrap().0.to_string()).status.code(), Some(2), "a word on a word");
}

#[test]
fn the_page_is_whole_in_a_real_browser() {
    if !testbed::enabled() {
        return;
    }
    let program = Browser::program().expect("chromium is here: testbed/install brings it");
    let site = Site::new(&year::statements(), |_| false);
    let file = kept("year.html");
    fs::write(&file, site.report(&[])).unwrap();
    // Fewer records of the same kinds: to measure all of them at each width takes minutes.
    let few = kept("exceptions.html");
    fs::write(&few, site.report(&["--records", "exceptions"])).unwrap();
    let mut browser = Browser::start(program);
    let views = [(&file, 1280, false), (&few, 1280, true), (&few, 768, false), (&few, 375, false), (&few, 375, true)];
    for (file, width, dark) in views {
        let asked = browser.open(file, width, dark);
        assert!(asked.iter().all(|url| url.starts_with("file://") && url.ends_with(".html")), "{asked:?}");
        let measured = browser.value(include_str!("measure.js"));
        let name = format!("{width}{}.png", if dark { "-dark" } else { "" });
        fs::write(kept(&name), browser.screenshot(6000)).unwrap();
        assert_eq!(measured["found"], serde_json::json!([]), "at {width} pixels: {measured:#}");
        // A page that shows nothing has no faults.
        assert!(measured["texts"].as_u64() > Some(2500) && measured["charts"].as_u64() >= Some(12), "{measured:#}");
        let title = browser.value("document.title");
        assert!(title.as_str().unwrap().starts_with("Recovery evidence of northern-hospitals"), "{title}");
        assert_eq!(browser.value("document.querySelectorAll('script, img, link, iframe').length"), 0);
    }
    assert!(has_contrast(&mut browser, &few, false) && has_contrast(&mut browser, &few, true));
    // A4 without its margins: what is cut there, no reader of the paper can scroll to.
    browser.open(&few, 1280, false);
    browser.as_paper(695);
    let measured = browser.value(include_str!("measure.js"));
    let found: Vec<&Value> = measured["found"].as_array().unwrap().iter().filter(|what| !is_letters(what)).collect();
    assert!(found.is_empty(), "on paper: {found:#?}");
    browser.open(&few, 1280, false);
    let pdf = kept("exceptions.pdf");
    fs::write(&pdf, browser.print()).unwrap();
    let (pages, size) = pages(&pdf);
    assert!(size.contains("A4"), "{size}");
    assert!((10..80).contains(&pages), "{pages} pages");
    let first = pdf_text(&pdf, 1);
    for word in ["Are we protected?", "What needs a decision", "Instances", LONG, "pharmacy", "1 / "] {
        assert!(first.contains(word), "the first page lacks {word}:\n{first}");
    }
}

/// Print is smaller than what a screen shows.
fn is_letters(what: &Value) -> bool {
    what.as_str().is_some_and(|what| what.starts_with("letters of"))
}

/// WCAG's 4.5 : 1 for every tone of text on the page and on raised boxes.
fn has_contrast(browser: &mut Browser, file: &Path, dark: bool) -> bool {
    browser.open(file, 1280, dark);
    let ratios = browser.value(include_str!("contrast.js"));
    let ratios = ratios.as_array().unwrap();
    assert!(ratios.len() >= 10, "{ratios:?}");
    let weak: Vec<&Value> = ratios.iter().filter(|ratio| ratio["ratio"].as_f64() < Some(4.5)).collect();
    assert!(weak.is_empty(), "{weak:#?}");
    true
}

fn pages(pdf: &Path) -> (u64, String) {
    let output = Command::new("pdfinfo").arg(pdf).output().expect("poppler-utils are here: testbed/install");
    let info = String::from_utf8(output.stdout).unwrap();
    let field =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    (field("Pages:").parse().unwrap(), field("Page size:"))
}

fn pdf_text(pdf: &Path, page: u32) -> String {
    let number = page.to_string();
    let output = Command::new("pdftotext").args(["-f", &number, "-l", &number]).arg(pdf).arg("-").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
