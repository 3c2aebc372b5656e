//! A small directory of evidence, as an export is, and what can be done to it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use lifeboat_evidence::{
    Act, ActPredicate, DrillPredicate, Statement,
    act::{Hold, KeyRevocation},
    audit::{Audit, Finding, Trust, Weight, Word},
    backup::{PointReference, StartedBy},
    ledger::{Entry, Previous, Tree, checkpoint, place},
    seal,
};
use lifeboat_model::{
    check::Outcome,
    id::{PointId, RepositoryId, RunId, Sha256Digest},
    signature::{PublicKey, SigningKey},
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

pub const REPOSITORY: RepositoryId = RepositoryId([5; 16]);
const DRILL: &str = include_str!("../../../evidence/tests/evidence/golden/drill-v1.json");

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn digest(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest(Sha256::digest(bytes).into())
}

/// A directory and the log that grows in it.
#[derive(Clone)]
pub struct World {
    pub files: BTreeMap<String, Vec<u8>>,
    pub tree: Tree,
    pub origin: String,
    pub key: SigningKey,
    signed: Option<Previous>,
    runs: u8,
}

impl World {
    /// Nothing yet.
    pub fn empty(key: SigningKey) -> World {
        let origin = lifeboat_evidence::ledger::origin(REPOSITORY, &"acme".parse().unwrap());
        World { files: BTreeMap::new(), tree: Tree::new(), origin, key, signed: None, runs: 0 }
    }

    /// Two holds and a drill, an hour apart, each entered a second after it had finished.
    pub fn small() -> World {
        let mut world = World::empty(key(7));
        world.hold("2026-11-21T10:00:00Z");
        world.drill("2026-11-21T11:00:00Z");
        world.hold("2026-11-21T12:00:00Z");
        world
    }

    /// The same, continued with another key.
    pub fn signing_with(self, key: SigningKey) -> World {
        World { key, ..self }
    }

    /// Records a hold that finished at this time; gives the statement's name.
    pub fn hold(&mut self, finished: &str) -> String {
        let finished = time(finished);
        let point = PointReference { id: PointId([1; 8]), key: "p".into(), sha256: digest(b"p"), version: None };
        let hold = Hold { point, reason: "audit".into(), objects: 0, shared: 0, refused: Vec::new() };
        self.act(finished, Act::Hold(hold))
    }

    /// Records that a key is revoked.
    pub fn revoke(&mut self, finished: &str, revoked: PublicKey) -> String {
        let finished = time(finished);
        self.act(finished, Act::KeyRevocation(KeyRevocation { key: revoked, at: finished, reason: "stolen".into() }))
    }

    pub fn act(&mut self, finished: Timestamp, act: Act) -> String {
        let statement = self.act_statement(finished, act);
        self.record(&statement, later(finished))
    }

    pub fn act_statement(&mut self, finished: Timestamp, act: Act) -> Statement {
        self.runs += 1;
        Statement::act(ActPredicate {
            run: RunId([self.runs; 8]),
            started_by: StartedBy { user: "root".into(), host: "h".into(), command: "lifeboat".into() },
            software: "lifeboat".into(),
            config_sha256: digest(b"c"),
            tenant: "acme".parse().unwrap(),
            instance: None,
            repository: REPOSITORY,
            storage: "/backups".into(),
            started: finished,
            finished,
            outcome: Outcome::Passed,
            act,
        })
    }

    /// Records a drill that passed.
    pub fn drill(&mut self, finished: &str) -> String {
        self.runs += 1;
        let mut predicate = serde_json::from_str::<serde_json::Value>(DRILL).unwrap();
        let mut drill: DrillPredicate = serde_json::from_value(predicate["predicate"].take()).unwrap();
        drill.run = RunId([self.runs; 8]);
        drill.tenant = "acme".parse().unwrap();
        (drill.started, drill.finished) = (time(finished), time(finished));
        drill.outcome = Outcome::Passed;
        drill.not_executed.clear();
        drill.checks.iter_mut().for_each(|check| check.verdict = lifeboat_model::check::Verdict::Passed);
        let at = later(drill.finished);
        self.record(&Statement::drill(drill), at)
    }

    /// Puts the statement, its entry and a checkpoint.
    pub fn record(&mut self, statement: &Statement, entered: Timestamp) -> String {
        let name = self.put(statement);
        self.enter(&name, entered);
        self.sign();
        name
    }

    /// Puts a statement, and tells nobody.
    pub fn put(&mut self, statement: &Statement) -> String {
        let name = statement.storage_key().unwrap().to_string();
        let name = name.rsplit('/').next().unwrap().to_owned();
        self.files.insert(name.clone(), seal(statement, &self.key));
        name
    }

    /// Enters what was put.
    pub fn enter(&mut self, name: &str, entered: Timestamp) {
        let sha256 = digest(&self.files[name]);
        let size = self.tree.size();
        let leaf = Entry::new(&self.origin, size, name, sha256, entered, self.signed.clone()).sign(&self.key);
        self.leaf(&leaf);
    }

    /// Puts this into the next slot.
    pub fn leaf(&mut self, leaf: &[u8]) {
        self.files.insert(place::entry(self.tree.size()), leaf.to_vec());
        self.tree.push(leaf);
    }

    /// Signs what there is now.
    pub fn sign(&mut self) {
        let note = checkpoint::sign_tree(&self.origin, &self.tree, &self.key);
        self.files.insert(place::checkpoint(self.tree.size()), note.into_bytes());
        self.signed = Some(Previous { size: self.tree.size(), root: self.tree.root() });
    }

    /// The newest checkpoint, to be kept elsewhere.
    pub fn kept(&self) -> Vec<u8> {
        self.files[&place::checkpoint(self.tree.size())].clone()
    }

    pub fn trust(&self) -> Trust {
        Trust { keys: vec![key(7).public()], revoked: Vec::new(), origin: None }
    }

    /// Takes files away; at least one must have been there.
    pub fn remove(&mut self, names: &[&str]) {
        for name in names {
            assert!(self.files.remove(*name).is_some(), "{name} is not there");
        }
    }

    /// The statements' names, in order.
    pub fn statements(&self) -> Vec<String> {
        self.files.keys().filter(|name| name.ends_with(".dsse.json")).cloned().collect()
    }

    /// As files.
    pub fn written(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in &self.files {
            write(folder.path(), name, bytes);
        }
        folder
    }

    pub fn audit(&self) -> Audit {
        self.audit_with(self.trust(), &[])
    }

    pub fn audit_against(&self, kept: &[u8]) -> Audit {
        self.audit_with(self.trust(), &[kept])
    }

    pub fn audit_with(&self, trust: Trust, kept: &[&[u8]]) -> Audit {
        let folder = self.written();
        let outside = tempfile::tempdir().unwrap();
        let anchors: Vec<PathBuf> =
            kept.iter().enumerate().map(|(n, bytes)| write(outside.path(), &format!("kept-{n}"), bytes)).collect();
        lifeboat_verify::audit(folder.path(), trust, &anchors, None, &mut |_| {}).unwrap()
    }
}

fn later(finished: Timestamp) -> Timestamp {
    Timestamp::from_second(finished.as_second() + 1).unwrap()
}

pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// There is such a finding, and it speaks against the evidence.
#[track_caller]
pub fn wrong(audit: &Audit, word: Word, of: &str) -> Finding {
    assert!(!audit.believed(), "{audit:#?}");
    finding(audit, word, of, Weight::Wrong)
}

#[track_caller]
pub fn finding(audit: &Audit, word: Word, of: &str, weight: Weight) -> Finding {
    let is = |finding: &&Finding| finding.word == word && finding.of.contains(of) && finding.weight == weight;
    audit.findings.listed().iter().find(is).unwrap_or_else(|| panic!("no {word:?} of {of}: {audit:#?}")).clone()
}

/// Nothing speaks against it.
#[track_caller]
pub fn sound(audit: &Audit) {
    assert!(audit.findings.listed().is_empty(), "{audit:#?}");
    assert_eq!(audit.proven, audit.statements, "{audit:#?}");
}
