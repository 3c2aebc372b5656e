//! Configured paths and kept output of commands.

use std::{fs, path::PathBuf, time::Duration};

use lifeboat_model::config::{ConfigCommand, ConfigSources};

use crate::{odd, snapshot, world::World};

fn command(name: &str, run: &[&str], timeout: &str) -> ConfigCommand {
    let run = run.iter().map(|text| (*text).to_owned()).collect();
    ConfigCommand { name: name.into(), run, timeout: timeout.parse().unwrap() }
}

fn kept(world: &World, source: &std::path::Path) -> PathBuf {
    world.at("to/config/paths").join(source.strip_prefix("/").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_folders_come_back_with_the_folders_above_them() {
    let world = World::new().await;
    let (source, other) = (world.source().join("etc"), world.source().join("etc-beside"));
    fs::create_dir_all(&source).unwrap();
    odd::build(&source);
    fs::create_dir_all(other.join("deep")).unwrap();
    for name in ["odoo.conf", "not asked for", "deep/one", "deep/two"] {
        fs::write(other.join(name), name).unwrap();
    }
    odd::set_mode(&other, 0o750);
    odd::set_mtime(&other, 1_111_111_111, 11);
    // Out of order, one inside another, one twice.
    let paths = [other.join("odoo.conf"), other.join("deep/two"), source.clone(), source.join("a"), source.clone()];
    let backup = world.backup_config(&ConfigSources { paths: paths.into(), commands: Vec::new() }).await.unwrap();
    assert_eq!(backup.notes.skipped_count, 0, "{:?}", backup.notes);
    world.restore(&backup.point, "to", false).await.unwrap();
    snapshot::assert_equal(&source, &kept(&world, &source));
    let restored = kept(&world, &other);
    let names: Vec<_> = lifeboat_testkit::folder::files(&restored);
    assert_eq!(names, [PathBuf::from("deep/two"), "odoo.conf".into()]);
    let (wanted, got) = (snapshot::take(&other), snapshot::take(&restored));
    for path in [&b""[..], b"odoo.conf", b"deep", b"deep/two"] {
        assert_eq!(wanted[path], got[path], "{}", String::from_utf8_lossy(path));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_stored_in_one_way_however_they_are_written() {
    let world = World::new().await;
    let source = world.source().join("etc");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("odoo.conf"), "x").unwrap();
    let text = source.display().to_string();
    for (round, written) in
        [format!("{text}/"), format!("{text}//"), text.replacen("/source/", "//source/./", 1)].into_iter().enumerate()
    {
        let sources = ConfigSources { paths: vec![written.clone().into()], commands: Vec::new() };
        let backup = world.backup_config(&sources).await.unwrap_or_else(|error| panic!("{written}: {error}"));
        let to = format!("to{round}");
        world.restore(&backup.point, &to, false).await.unwrap();
        let kept = world.at(&to).join("config/paths").join(source.strip_prefix("/").unwrap());
        snapshot::assert_equal(&source, &kept);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_path_that_is_not_there_is_an_error_that_names_it() {
    let world = World::new().await;
    fs::write(world.source().join("there"), "x").unwrap();
    let missing = world.source().join("missing.conf");
    let paths = vec![world.source().join("there"), missing.clone()];
    let error = world.backup_config(&ConfigSources { paths, commands: Vec::new() }).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");
    assert_eq!(world.repo.list_points().await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_kept_as_a_link_and_said_so() {
    let world = World::new().await;
    let link = world.source().join("odoo.conf");
    std::os::unix::fs::symlink("/etc/elsewhere.conf", &link).unwrap();
    let sources = ConfigSources { paths: vec![link.clone()], commands: Vec::new() };
    let backup = world.backup_config(&sources).await.unwrap();
    let remark = backup.notes.remarks.join(" ");
    assert!(remark.contains(link.to_str().unwrap()) && remark.contains("/etc/elsewhere.conf"), "{remark}");
    world.restore(&backup.point, "to", false).await.unwrap();
    assert_eq!(fs::read_link(kept(&world, &link)).unwrap(), PathBuf::from("/etc/elsewhere.conf"));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_commands_is_kept_and_failures_are_told() {
    let world = World::new().await;
    let commands = vec![
        command("zeros", &["head", "-c", "9000000", "/dev/zero"], "30s"),
        command("failing", &["sh", "-c", "echo partly; exit 3"], "30s"),
        command("slow", &["sleep", "60"], "1s"),
        command("not.there", &["/nowhere/program"], "30s"),
        command("binary", &["printf", "\\377\\000\\n"], "30s"),
        command("reads.input", &["cat"], "30s"),
    ];
    let began = std::time::Instant::now();
    let backup = world.backup_config(&ConfigSources { paths: Vec::new(), commands }).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(30), "a slow command is ended");
    let failed = &backup.notes.failed_commands;
    let told = |name: &str, words: &str| failed.iter().any(|line| line.starts_with(name) && line.contains(words));
    assert!(
        told("failing: ", "exit status: 3") && told("slow: ", "within 1") && told("not.there: ", "/nowhere/program"),
        "{failed:?}"
    );
    assert_eq!(failed.len(), 3, "{failed:?}");
    world.restore(&backup.point, "to", false).await.unwrap();
    let read = |name: &str| fs::read(world.at("to/config/commands").join(name)).unwrap();
    assert!(read("zeros") == vec![0; 9_000_000]);
    assert_eq!(read("binary"), [0xff, 0, b'\n']);
    assert_eq!((read("failing"), read("reads.input")), (b"partly\n".to_vec(), Vec::new()));
}
