//! A bucket of its own with Object Lock, a policy for each role, and two recovery points of the testbed's Odoo in it.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use jiff::Timestamp;
use lifeboat_model::signature::SigningKey;
use lifeboat_repo::{
    point::PointDetails,
    progress::Silent,
    repository::Repository,
    tree::{Entry, EntryKind, FileTime, TreeKind},
    writer::{Chunking, Finish, PointDraft, Writer, WriterKeys, WriterOptions},
};
use lifeboat_store::s3::S3Options;
use lifeboat_testkit::{
    account::{Account, Who},
    bucket,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Settings, Site, Storage, text};

const ROLES: [&str; 4] = ["writer", "reader", "pruner", "holder"];
const LOCK: &str = "[tiers.gold.lock]\nmode = \"compliance\"\nminimum = \"6h\"\n";

pub struct Vault {
    pub bucket: String,
    pub owner: Account,
    pub site: Site,
    /// The genuine points, oldest first.
    points: Vec<String>,
    /// What a restore of the newest genuine point gives.
    expected: String,
}

impl Vault {
    pub async fn prepare() -> Vault {
        let bucket = format!("attacked-{}", lifeboat_store::suite::random_name());
        let owner = Account::new(Who::Owner, &bucket);
        owner.create(true).await.unwrap();
        let storage = Storage::Roles { bucket: bucket.clone() };
        let site = Site::new(&Settings { storage, extra: LOCK.to_owned(), ..Settings::default() });
        owner.set_policy(&policies(&site)).await.unwrap();
        for arguments in [&["backup", "clinic"][..], &["wal", "stream", "clinic", "--once"], &["backup", "clinic"]] {
            site.succeed(arguments);
        }
        site.succeed(&["wal", "drop-slot", "clinic"]);
        let mut vault = Vault { bucket, owner, site, points: Vec::new(), expected: String::new() };
        vault.points = vault.listed();
        assert_eq!(vault.points.len(), 2);
        vault.expected = vault.restored();
        vault
    }

    fn reader(&self, arguments: &[&str]) -> String {
        let output = self.site.run_as("reader", arguments);
        assert!(output.status.success(), "lifeboat {arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The ids of the points that verify, oldest first. That there are others beside them makes the command end with 4.
    fn listed(&self) -> Vec<String> {
        let output = self.site.run_as("reader", &["points", "list", "clinic", "--json"]);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
        let points = answer["points"].as_array().unwrap_or_else(|| panic!("{answer:#}"));
        let valid = points.iter().filter(|point| point["valid"] != false);
        valid.map(|point| point["point"].as_str().unwrap().to_owned()).collect()
    }

    /// Restores the newest genuine point with the reader's credential; a digest over everything that came back.
    fn restored(&self) -> String {
        let folder = tempfile::tempdir().unwrap();
        let (to, identity) = (folder.path().join("restored"), self.site.identity());
        let newest = self.points.last().unwrap();
        let (to_text, identity) = (to.to_str().unwrap(), identity.to_str().unwrap());
        self.reader(&["restore", "clinic", "--point", newest, "--to", to_text, "--identity", identity]);
        let mut hash = Sha256::new();
        digest(&to, &to, &mut hash);
        hex::encode(hash.finalize())
    }

    /// The genuine points are listed, the newest comes back byte for byte, and all that they need is there.
    pub fn assert_sound(&self, when: &str) {
        assert_eq!(self.listed(), self.points, "{when}");
        assert_eq!(self.restored(), self.expected, "{when}");
        for point in &self.points {
            self.reader(&["verify", "clinic", "--point", point]);
        }
        self.reader(&["verify", "clinic", "--locks"]);
    }

    /// Newer versions and delete markers that `verify --signs` counts.
    pub fn signs(&self) -> (u64, u64) {
        let output = self.site.run_as("reader", &["verify", "clinic", "--signs", "--json"]);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
        let signs = &answer["instances"][0]["signs"];
        let count = |name: &str| signs[name].as_u64().unwrap_or_else(|| panic!("{name}: {answer:#}"));
        let found = (count("newer_versions"), count("delete_markers"));
        let code = output.status.code().unwrap();
        assert_eq!(code, if found == (0, 0) { 0 } else { 4 }, "{}", text(&output));
        found
    }

    /// The keys that `verify --signs` names as signs of this kind.
    pub fn signs_of(&self, kind: &str) -> Vec<String> {
        let output = self.site.run_as("reader", &["verify", "clinic", "--signs", "--json"]);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
        let samples = answer["instances"][0]["signs"]["signs"].as_array().unwrap_or_else(|| panic!("{answer:#}"));
        let of_kind = samples.iter().filter(|sign| sign["kind"] == kind);
        of_kind.map(|sign| sign["key"].as_str().unwrap().to_owned()).collect()
    }
}

/// The policies that `lifeboat repo policy` prints, for the users of the testbed.
fn policies(site: &Site) -> String {
    let mut statements = Vec::new();
    for role in ROLES {
        let mut policy: Value = serde_json::from_str(&site.succeed(&["repo", "policy", "--role", role])).unwrap();
        for statement in policy["Statement"].as_array_mut().unwrap() {
            statement["Principal"] = json!({"AWS": [format!("arn:aws:iam:::user/lifeboat-{role}")]});
            statements.push(statement.clone());
        }
    }
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

/// Names, links and contents below a folder, in order.
/// All but the record of the restore itself, which says when it was.
fn digest(root: &Path, folder: &Path, hash: &mut Sha256) {
    let entries: BTreeSet<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in entries.into_iter().filter(|path| *path != root.join("RESTORED.json")) {
        hash.update(path.strip_prefix(root).unwrap().as_os_str().as_encoded_bytes());
        match fs::symlink_metadata(&path).unwrap().file_type() {
            kind if kind.is_dir() => digest(root, &path, hash),
            kind if kind.is_symlink() => hash.update(fs::read_link(&path).unwrap().as_os_str().as_encoded_bytes()),
            kind if kind.is_file() => hash.update(Sha256::digest(fs::read(&path).unwrap())),
            _ => {}
        }
    }
}

/// Forgeries. Whoever knows the public recipients can seal; whoever holds the writer's credential can add objects.
impl Vault {
    /// A newer point and its index, sealed to the right recipients, signed by a key that nobody trusts.
    pub async fn forge_point_and_index(&self) {
        let text = fs::read_to_string(self.site.config()).unwrap();
        let (config, _) = lifeboat_model::config::parse(&text, &self.site.config()).unwrap();
        let keys = lifeboat_engine::keys::writer_keys(&config.keys).unwrap();
        let forged = WriterKeys { signing: SigningKey::from_seed(&[66; 32]), ..keys };
        let (access_key, secret_key) = Who::Role("writer").keys();
        let options = S3Options { bucket: self.bucket.clone(), access_key, secret_key, ..bucket::options("") };
        let repository = Repository::open(Arc::new(bucket::connect(options).await)).await.unwrap();
        let repo = repository.instance(&config.tenant, &"clinic".parse().unwrap());
        let cache = tempfile::tempdir().unwrap();
        let options = WriterOptions {
            level: 3,
            pack_size: 16 << 20,
            workers: 1,
            uploads: 1,
            cache_dir: cache.path().to_owned(),
            software: "lifeboat".to_owned(),
            clock: Arc::new(Timestamp::now),
        };
        let mut writer = Writer::begin(repo, forged, options, Arc::new(Silent)).await.unwrap();
        writer.begin_tree(TreeKind::Config).await.unwrap();
        let kind = EntryKind::File { size: 0, extents: Vec::new() };
        let mtime = FileTime { seconds: 0, nanos: 0 };
        let path = b"etc/odoo.conf".to_vec();
        let entry =
            Entry { path, kind, mode: 0o600, uid: 0, gid: 0, mtime, xattrs: Vec::new(), change: None, note: None };
        writer.begin_file(entry, Chunking::DOCUMENT).await.unwrap();
        writer.data("the administrator is the thief".as_bytes().into()).await.unwrap();
        writer.end_file(Finish::default()).await.unwrap();
        writer.end_tree().await.unwrap();
        let draft = PointDraft { started: Timestamp::now(), details: PointDetails::default(), wal: None };
        writer.commit(draft).await.unwrap();
    }

    /// An old point under a name that says that it is the newest.
    pub async fn replay_old_point(&self, thief: &Account) {
        let points = self.owner.versions("demo-group/clinic/points/").await;
        let old = points.iter().find(|version| version.key.ends_with(&self.points[0])).unwrap();
        let first = self.first_version(&old.key).await;
        let bytes = thief.get(&old.key, &first).await;
        let key = format!("demo-group/clinic/points/20991231T235959Z-{}", self.points[0]);
        thief.put(&key, bytes).await.unwrap();
    }

    /// The version that was there before the attack.
    async fn first_version(&self, key: &str) -> String {
        let versions = self.owner.versions(key).await; // of each key the newest first
        versions.iter().rfind(|version| version.key == key && !version.marker).unwrap().version.clone()
    }

    /// The next backup finds what is stored behind versions and markers, and stores next to nothing again.
    pub fn backup_goes_on(&self) {
        let answer: Value = serde_json::from_str(&self.site.succeed(&["backup", "clinic", "--json"])).unwrap();
        let sum = |name: &str| -> u64 {
            answer["trees"].as_array().unwrap().iter().map(|tree| tree[name].as_u64().unwrap()).sum()
        };
        assert!(sum("new_bytes") * 4 < sum("reused_bytes"), "packs were stored again: {answer:#}");
    }

    /// The whole ladder from the attacked bucket, with the reader's credential.
    pub fn drill_passes_and_tells(&self) {
        let identity = self.site.identity();
        let output =
            self.site.run_as("reader", &["drill", "clinic", "--identity", identity.to_str().unwrap(), "--json"]);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
        assert_eq!(answer["outcome"], "passed", "{answer:#}");
        let checks = answer["checks"].as_array().unwrap();
        let check = |id: &str| checks.iter().find(|check| check["id"] == id).unwrap();
        assert_eq!(check("point.locks")["verdict"]["outcome"], "passed", "{answer:#}");
        let signs = check("point.signs")["observed"].as_str().unwrap();
        assert!(signs.contains("delete markers") && signs.contains("newer versions"), "{signs}");
    }
}
