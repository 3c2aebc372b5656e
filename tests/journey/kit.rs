//! A drill from the kit alone: the host is gone with its configuration, its keys and its state.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use lifeboat_testkit::testbed;
use serde_json::Value;

use super::{nothing_left, passed};
use crate::support::{Settings, Site, text};

#[test]
fn a_drill_passes_from_the_kit_alone() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings::default());
    site.succeed(&["backup", "clinic"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let kit = elsewhere.path().join("kit");
    site.succeed(&["kit", "write", kit.to_str().unwrap()]);
    // What is left: the repository, and the recovery identity that somebody fetched.
    let identity = elsewhere.path().join("recovery.identity");
    fs::rename(site.identity(), &identity).unwrap();
    for gone in ["lifeboat.toml", "keys", "state"] {
        let path = site.dir.path().join(gone);
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        assert!(!path.exists(), "{gone}");
    }
    let run = |arguments: &[&str]| {
        let mut command = Command::new(kit.join("lifeboat"));
        command.args(arguments).current_dir(&kit).env_clear();
        // Only what a shell of root has.
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap()
    };
    let checked = run(&["kit", "check"]);
    assert!(checked.status.success(), "{}", text(&checked));
    let readme = fs::read_to_string(kit.join("README.md")).unwrap();
    let making = readme.lines().find_map(|line| line.trim().strip_prefix("./lifeboat key generate")).unwrap();
    let words: Vec<&str> = ["key", "generate"].into_iter().chain(making.split_whitespace()).collect();
    let made = run(&words);
    assert!(made.status.success(), "{}", text(&made));
    assert_eq!(fs::metadata(kit.join("secrets/signing.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let drilled = run(&["drill", "clinic", "--identity", identity.to_str().unwrap(), "--json", "--quiet"]);
    let answer: Value =
        serde_json::from_slice(&drilled.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&drilled)));
    nothing_left(&passed((drilled.status.code().unwrap(), answer)));
}

/// A machine that cannot fetch images gets them from the kit.
#[test]
fn images_go_along_and_come_back() {
    if !testbed::enabled() {
        return;
    }
    let shell = |command: &str| {
        let output = Command::new("bash").args(["-o", "pipefail", "-c", command]).output().unwrap();
        assert!(output.status.success(), "{command}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let site = Site::new(&Settings::default());
    let image = format!("lifeboat-kit-test/tiny:{}", std::process::id());
    let id = shell(&format!(
        "echo hello > {0}/hello && tar -C {0} -c hello | docker import - {image}",
        site.dir.path().display()
    ));
    let config = fs::read_to_string(site.config()).unwrap();
    let lines = config.lines().map(|line| match line.split_once("_image = ") {
        Some((which, _)) => format!("{which}_image = \"{image}\"\n"),
        None => format!("{line}\n"),
    });
    fs::write(site.config(), lines.collect::<String>()).unwrap();
    let kit = site.dir.path().join("kit");
    site.succeed(&["kit", "write", kit.to_str().unwrap(), "--images"]);
    shell(&format!("docker image rm {image}"));
    assert!(fs::read_to_string(kit.join("README.md")).unwrap().contains("docker load -i images.tar"));
    shell(&format!("cd {} && sha256sum -c --quiet SHA256SUMS && docker load -i images.tar", kit.display()));
    let back = shell(&format!("docker image inspect -f '{{{{.Id}}}}' {image}"));
    shell(&format!("docker image rm {image}"));
    assert_eq!(back, id);
    // What is not on this host cannot go along, and the older kit stays what it is.
    let refused = site.run(&["kit", "write", kit.to_str().unwrap(), "--images"]);
    assert!(text(&refused).contains(&format!("docker pull {image}")), "{}", text(&refused));
    site.succeed(&["kit", "check", kit.to_str().unwrap()]);
    let config = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), config.replace(&image, &format!("tiny@sha256:{}", "0".repeat(64)))).unwrap();
    let refused = site.run(&["kit", "write", kit.to_str().unwrap(), "--images"]);
    assert!(text(&refused).contains("named by its digest alone"), "{}", text(&refused));
}
