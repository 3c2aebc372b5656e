//! What a drill leaves behind, as somebody finds it who was not there: its picture, the export, the report.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lifeboat_evidence::{Predicate, drill::Screenshot};
use lifeboat_model::config::parse;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::{Site, text};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

fn has_browser() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .any(|name| folders.iter().any(|folder| folder.join(name).is_file()))
}

/// What the drill's signed statement has of its picture.
fn stated(site: &Site, answer: &Value) -> Option<Screenshot> {
    let text = fs::read_to_string(site.config()).unwrap();
    let (config, _) = parse(&text, &site.config()).unwrap_or_else(|found| panic!("{found:#?}"));
    let envelope = fs::read(site.repository().join(answer["evidence"].as_str().unwrap())).unwrap();
    match lifeboat_evidence::verify(&envelope, &config.keys.trusted_keys).unwrap().statement.predicate {
        Predicate::Drill(drill) => drill.screenshot,
        other => panic!("{other:?}"),
    }
}

fn contains(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// The picture that a drill was asked to write to `file`; none where the check says why there is none.
pub fn picture(site: &Site, answer: &Value, file: &Path) -> Option<Vec<u8>> {
    let check = answer["checks"].as_array().unwrap().iter().find(|check| check["id"] == "use.screenshot").unwrap();
    let (outcome, why) = (&check["verdict"]["outcome"], check["verdict"]["why"].as_str().unwrap_or_default());
    if outcome != "passed" {
        assert_eq!(outcome, "not-executed", "{check:#}");
        let reasons: &[&str] = if has_browser() { &["time", "within", "room"] } else { &["chromium"] };
        assert!(reasons.iter().any(|reason| why.contains(reason)), "{check:#}");
    }
    let taken = stated(site, answer);
    assert!(taken.is_some() || outcome != "passed", "{check:#}");
    let Some(taken) = taken else {
        assert!(!file.exists());
        return None;
    };
    let png = fs::read(file).unwrap();
    assert!(png.starts_with(PNG) && png.len() as u64 == taken.bytes, "{} bytes, {taken:?}", png.len());
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(taken.sha256.0, <[u8; 32]>::from(Sha256::digest(&png)));
    let key = taken.key.unwrap();
    assert_eq!(key, answer["evidence"].as_str().unwrap().replace(".dsse.json", ".png.age"));
    let sealed = fs::read(site.repository().join(&key)).unwrap();
    assert!(sealed.starts_with(b"age-encryption.org/v1\n") && !contains(&sealed, PNG), "{key}");
    Some(png)
}

/// The report names the drill, and has its picture where somebody opens it.
pub fn report(site: &Site, answer: &Value, png: Option<&[u8]>) {
    let record = format!("id=\"r-{}\"", answer["run"].as_str().unwrap());
    let plain = site.succeed(&["evidence", "report", "--instance", "clinic"]);
    assert!(plain.contains(&record) && !plain.contains("data:image"), "the drill without its picture");
    let Some(png) = png else { return };
    let picture = format!("src=\"data:image/png;base64,{}\"", STANDARD.encode(png));
    assert!(plain.contains(".png.age"), "where it is kept");
    let identity = site.identity();
    let file = site.dir.path().join("report.html");
    let (identity, to) = (identity.to_str().unwrap(), file.to_str().unwrap());
    site.succeed(&["evidence", "report", "--identity", identity, "--output", to]);
    let shown = fs::read_to_string(&file).unwrap();
    assert!(shown.contains(&record) && shown.matches(&picture).count() == 1, "with its picture");
    let refused = site.run(&["evidence", "report", "--identity", identity, "--format", "csv"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    // An identity that opens nothing is no reason to have no report.
    let host = site.dir.path().join("keys/host.identity");
    let without = site.succeed(&["evidence", "report", "--identity", host.to_str().unwrap()]);
    assert!(without.contains("not shown here:") && !without.contains("data:image"), "why not");
}

/// What an auditor gets is believed by two programs, and not once something in it was changed.
pub fn export(site: &Site, answer: &Value) {
    let folder = site.dir.path().join("exported");
    let exported = site.json(&["evidence", "export", "--to", folder.to_str().unwrap()]);
    let key = exported["keys"][0].as_str().unwrap();
    let audited = verify(&folder, key);
    assert_eq!(audited.status.code(), Some(0), "{}", text(&audited));
    let said: Value = serde_json::from_slice(&audited.stdout).unwrap();
    assert_eq!(said["audit"]["proven"], exported["statements"], "{said:#}");
    assert_eq!(said["audit"]["rehearsals"][0]["run"], answer["run"], "{said:#}");
    let second = second_opinion(&folder, key);
    assert_eq!(second.status.code(), Some(0), "{}", text(&second));

    let name = answer["evidence"].as_str().unwrap().rsplit('/').next().unwrap();
    let drill = folder.join(name);
    fs::write(&drill, fs::read_to_string(&drill).unwrap().replacen("\"payload\":\"e", "\"payload\":\"f", 1)).unwrap();
    assert_eq!(verify(&folder, key).status.code(), Some(4));
    assert_ne!(second_opinion(&folder, key).status.code(), Some(0));
}

fn second_opinion(folder: &Path, key: &str) -> std::process::Output {
    Command::new("python3").arg(folder.join("verify.py")).arg(folder).arg(key).output().unwrap()
}

/// The auditor's program. A build of everything has put it beside ours; else cargo makes it.
fn verify(folder: &Path, key: &str) -> std::process::Output {
    let beside = Path::new(env!("CARGO_BIN_EXE_lifeboat")).with_file_name("lifeboat-verify");
    let mut command = match beside.is_file() {
        true => Command::new(beside),
        false => {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["run", "--quiet", "--locked", "--package", "lifeboat-verify", "--"]);
            cargo
        }
    };
    command.arg(folder).args(["--key", key, "--json"]).output().unwrap()
}
