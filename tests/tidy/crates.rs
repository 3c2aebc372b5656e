//! The arrows between crates. A crate exists to enforce a ban or to fence a heavy dependency; here the bans are kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

use crate::tree::{files, none, read, root, shown};

/// Who may name whom, lowest first; what those may name is meant as well. `testkit` may name any and is named by none
/// but as a dev-dependency.
const MAY_NAME: [(&str, &[&str]); 12] = [
    ("lifeboat-model", &[]),
    ("lifeboat-store", &["lifeboat-model"]),
    ("lifeboat-repo", &["lifeboat-store"]),
    ("lifeboat-postgres", &["lifeboat-model"]),
    ("lifeboat-odoo", &["lifeboat-model"]),
    ("lifeboat-evidence", &["lifeboat-model"]),
    ("lifeboat-verify", &["lifeboat-evidence"]),
    ("lifeboat-engine", &["lifeboat-repo", "lifeboat-postgres", "lifeboat-odoo", "lifeboat-evidence"]),
    ("lifeboat-drill", &["lifeboat-engine"]),
    ("lifeboat-runbook", &["lifeboat-drill"]),
    ("lifeboat-daemon", &["lifeboat-runbook"]),
    ("lifeboat", &["lifeboat-daemon", "lifeboat-verify"]),
];

const TESTKIT: &str = "lifeboat-testkit";

/// Heavy or dangerous dependencies, and the only crates that may bring them in.
const FENCED: [(&str, &[&str]); 23] = [
    ("bollard", &["lifeboat-drill"]),
    ("aws-sdk-s3", &["lifeboat-store", "lifeboat-testkit"]),
    ("object_store", &["lifeboat-store"]),
    ("age", &["lifeboat-repo"]),
    ("zstd", &["lifeboat-repo"]),
    ("postgres-protocol", &["lifeboat-postgres", "lifeboat-drill"]),
    ("tokio-rustls", &["lifeboat-postgres"]),
    // Odoo's RPC in a sandbox; a time-stamping authority, to which a digest goes and nothing else; the daemon's messages and
    // its identity provider; a daemon elsewhere, for `--daemon`.
    ("reqwest", &["lifeboat-odoo", "lifeboat-engine", "lifeboat-daemon", "lifeboat"]),
    ("axum", &["lifeboat-daemon"]),
    ("axum-server", &["lifeboat-daemon"]),
    ("cron", &["lifeboat-daemon"]),
    ("jsonwebtoken", &["lifeboat-daemon"]),
    ("lettre", &["lifeboat-daemon"]),
    ("pulldown-cmark", &["lifeboat-runbook", "lifeboat-daemon"]),
    ("prometheus-client", &["lifeboat-daemon"]),
    ("rusqlite", &["lifeboat-daemon"]),
    ("utoipa", &["lifeboat-daemon"]),
    ("ed25519-dalek", &["lifeboat-model"]),
    ("clap", &["lifeboat", "lifeboat-verify"]),
    ("anstream", &["lifeboat"]),
    ("comfy-table", &["lifeboat"]),
    ("indicatif", &["lifeboat"]),
    ("anyhow", &["lifeboat", TESTKIT]),
];

/// Crates of pure values and functions, and what they must not name: no I/O, no async.
const PURE: [&str; 2] = ["lifeboat-model", "lifeboat-evidence"];
const IMPURE: [&str; 6] = ["tokio", "tokio-util", "futures", "async-trait", "rustix", "getrandom"];

struct Package {
    name: String,
    /// Normal and build dependencies.
    uses: BTreeSet<String>,
    dev: BTreeSet<String>,
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

fn package(package: &Value) -> Package {
    let named = |dev: bool| {
        let of_kind = |dependency: &&Value| (dependency["kind"].as_str() == Some("dev")) == dev;
        let name = |dependency: &Value| dependency["name"].as_str().unwrap().to_owned();
        package["dependencies"].as_array().unwrap().iter().filter(of_kind).map(name).collect()
    };
    Package { name: package["name"].as_str().unwrap().to_owned(), uses: named(false), dev: named(true) }
}

fn allowed(name: &str, table: &BTreeMap<&str, &[&str]>) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        for below in table.get(name).copied().unwrap_or_default() {
            if reached.insert((*below).to_owned()) {
                open.push(below);
            }
        }
    }
    reached
}

#[test]
fn arrows_go_only_where_the_design_draws_them() {
    let table: BTreeMap<&str, &[&str]> = MAY_NAME.into();
    let mut wrong = Vec::new();
    for package in packages().iter().filter(|package| package.name != TESTKIT) {
        if !table.contains_key(package.name.as_str()) {
            wrong.push(format!("{} is not in the table", package.name));
        }
        let allowed = allowed(&package.name, &table);
        let ours = |name: &&String| name.starts_with("lifeboat");
        for used in package.uses.iter().filter(ours).filter(|used| !allowed.contains(*used)) {
            wrong.push(format!("{} may not name {used}", package.name));
        }
        for used in package.dev.iter().filter(ours).filter(|used| *used != TESTKIT && !allowed.contains(*used)) {
            wrong.push(format!("the tests of {} may not name {used}", package.name));
        }
    }
    none("arrows that the design does not draw", &wrong);
}

#[test]
fn heavy_dependencies_stay_behind_their_fence() {
    let mut wrong = Vec::new();
    for package in packages() {
        for (fenced, owners) in FENCED {
            if package.uses.contains(fenced) && !owners.contains(&package.name.as_str()) {
                wrong.push(format!("{} names {fenced}, which belongs to {}", package.name, owners.join(", ")));
            }
        }
        for impure in IMPURE.iter().filter(|_| PURE.contains(&package.name.as_str())) {
            if package.uses.contains(*impure) {
                wrong.push(format!("{} is pure and names {impure}", package.name));
            }
        }
    }
    none("dependencies outside their fence", &wrong);
}

/// Versions stand once, in the workspace; lints are everybody's.
#[test]
fn every_crate_inherits_from_the_workspace() {
    let mut wrong = Vec::new();
    for file in files(&root().join("crates"), "toml") {
        let manifest: toml::Table = read(&file).parse().unwrap();
        let inherits = |table: Option<&toml::Value>| {
            table.and_then(|table| table.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
        };
        let file = shown(&file);
        if !inherits(manifest.get("lints")) {
            wrong.push(format!("{file}: lints are not inherited"));
        }
        for field in ["version", "edition", "rust-version", "license", "publish"] {
            if !inherits(manifest.get("package").and_then(|package| package.get(field))) {
                wrong.push(format!("{file}: package.{field} is not inherited"));
            }
        }
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let dependencies = manifest.get(kind).and_then(toml::Value::as_table).into_iter().flatten();
            for (name, _) in dependencies.filter(|(_, value)| !inherits(Some(value))) {
                wrong.push(format!("{file}: {kind}.{name} is not from the workspace"));
            }
        }
    }
    none("manifests that go their own way", &wrong);
}

/// What nobody names is downloaded and audited for nothing.
#[test]
fn every_workspace_dependency_is_named_by_somebody() {
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().unwrap();
    let dependencies = manifest["workspace"]["dependencies"].as_table().unwrap();
    let named: BTreeSet<String> =
        packages().into_iter().flat_map(|package| [package.uses, package.dev]).flatten().collect();
    let unused: Vec<String> = dependencies.keys().filter(|name| !named.contains(*name)).cloned().collect();
    none("workspace dependencies that no crate names", &unused);
}
