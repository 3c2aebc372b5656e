//! Policies from files, whole or not at all.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::*;

/// A folder with two tenants and a `daemon.toml`.
struct Folder(TempDir);

const SETTINGS: &str = r#"
listen = "127.0.0.1:7421"
public_url = "https://lifeboat.example.org/"
state_dir = "state"

[budget]
runs = 6
drills = 2
priority = ["gold"]

[oidc]
issuer = "https://id.example.org/realms/main"
client_id = "lifeboat"
client_secret_file = "oidc-secret"

[[oidc.grant]]
group = "operators"
role = "operator"
tenants = ["north"]

[[oidc.grant]]
group = "auditors"
role = "auditor"
tenants = "*"

[notify.channels.chat]
kind = "slack"
url_file = "chat-url"

[notify.channels.night]
kind = "pagerduty"
routing_key_env = "PAGERDUTY_KEY"
hourly = 10

[notify.channels.mail]
kind = "mail"
host = "mail.example.org"
user = "lifeboat"
password_file = "mail-password"
from = "Lifeboat <lifeboat@example.org>"
to = ["ops@example.org"]

[notify.channels.hook]
kind = "webhook"
url_env = "HOOK_URL"
secret_file = "hook-secret"

[[notify.routes]]
tenants = ["south"]
severity = "critical"
to = ["night", "mail"]

[[notify.routes]]
to = ["chat"]

[notify.dead_man]
url_file = "dead-man-url"
every = "2m"

[[tenant]]
config = "north/lifeboat.toml"

[[tenant]]
config = "south/lifeboat.toml"
schedules = "south/plans"
"#;

fn config(tenant: &str) -> String {
    format!(
        r#"tenant = "{tenant}"
[repository]
path = "../backups/{tenant}"
[keys]
recovery_recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]
host_identity_file = "host.age"
signing_key_file = "signing"
trusted_keys = ["lifeboat-ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw="]
[tiers.gold]
rpo = "15m"
rto = "4h"
[instances.clinic]
tier = "gold"
postgres = {{ host = "db", user = "lifeboat", databases = ["clinic"], tls = "disable" }}
drill = {{ postgres_image = "postgres:17", odoo_image = "odoo:19" }}
[engine]
state_dir = "../engine"
"#
    )
}

const SCHEDULE: &str = "[schedule.nightly]\ndo = \"backup\"\ntiers = [\"gold\"]\ncron = \"@daily\"\n";

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("daemon.toml", SETTINGS);
        for (tenant, plans) in [("north", "schedules"), ("south", "plans")] {
            folder.write(&format!("{tenant}/lifeboat.toml"), &config(tenant));
            folder.write(&format!("{tenant}/{plans}/gold.toml"), SCHEDULE);
        }
        for name in ["oidc-secret", "chat-url", "mail-password", "hook-secret", "dead-man-url"] {
            folder.write(name, "secret");
            folder.mode(name, 0o600);
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    #[track_caller]
    fn edit(&self, name: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert_eq!(text.matches(old).count(), 1, "{old:?} stands once in {name}");
        self.write(name, &text.replace(old, new));
    }

    fn sources(&self) -> Sources {
        Sources { settings: Some(self.path("daemon.toml")), config: None }
    }

    fn read(&self) -> Result<Policies, String> {
        read(&self.sources()).map_err(|error| {
            let Error::Unusable { problems, .. } = &error else { panic!("{error}") };
            self.stable(&problems.join("\n"))
        })
    }

    fn stable(&self, text: &str) -> String {
        let user = rustix::process::geteuid().as_raw();
        text.replace(&self.0.path().display().to_string(), "DIR").replace(&format!("uid {user}"), "uid N")
    }

    fn good(&self) -> Policies {
        self.read().unwrap_or_else(|problems| panic!("{problems}"))
    }
}

#[test]
fn two_tenants() {
    let folder = Folder::new();
    let policies = folder.good();
    insta::assert_snapshot!("settings", folder.stable(&format!("{:#?}", policies.settings)));
    let sites: Vec<String> = policies
        .sites
        .iter()
        .map(|(tenant, site)| format!("{tenant}: {} in {}", site.schedules.len(), site.schedules[0].file.display()))
        .collect();
    assert_eq!(
        folder.stable(&sites.join("\n")),
        "north: 1 in DIR/north/schedules/gold.toml\nsouth: 1 in DIR/south/plans/gold.toml"
    );
    let digest = |text: &str| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes()));
    let files: Vec<(String, String)> = policies
        .files
        .iter()
        .map(|file| (folder.stable(&file.path.display().to_string()), file.sha256.clone()))
        .collect();
    let expected = [
        ("DIR/daemon.toml", digest(SETTINGS)),
        ("DIR/north/lifeboat.toml", digest(&config("north"))),
        ("DIR/north/schedules/gold.toml", digest(SCHEDULE)),
        ("DIR/south/lifeboat.toml", digest(&config("south"))),
        ("DIR/south/plans/gold.toml", digest(SCHEDULE)),
    ];
    assert_eq!(files, expected.map(|(path, digest)| (path.to_owned(), digest)));
    assert_eq!(policies.folders, [folder.path("north/schedules"), folder.path("south/plans")]);
    for (tenant, site) in &policies.sites {
        assert_eq!(site.config_digest, digest(&config(tenant.as_str())));
    }
}

/// One configuration, no settings: what most people begin with.
#[test]
fn one_tenant_without_settings() {
    let folder = Folder::new();
    let sources = Sources { settings: None, config: Some(folder.path("north/lifeboat.toml")) };
    let policies = read(&sources).unwrap();
    let settings = &policies.settings;
    assert_eq!(settings.listen.to_string(), "127.0.0.1:7420");
    assert_eq!(settings.tokens_file, folder.path("north/tokens.toml"));
    assert_eq!(settings.state_dir, folder.path("north/../engine/daemon"));
    assert_eq!((settings.tls.as_ref(), settings.oidc.as_ref()), (None, None));
    assert_eq!(policies.sites.len(), 1);
    assert_eq!(policies.sites.values().next().unwrap().schedules.len(), 1);
    // Without schedules it works, and says so.
    fs::remove_dir_all(folder.path("north/schedules")).unwrap();
    let checked = check(&sources);
    assert!(checked.policies.is_some());
    let warnings: Vec<String> = checked.warnings.iter().map(|warning| folder.stable(&warning.to_string())).collect();
    assert_eq!(
        warnings,
        ["DIR/north/lifeboat.toml: there is no schedule in DIR/north/schedules: nothing is done by itself; \
          copy those of the tiers in use from schedules/"]
    );
    // Settings that name no tenant take the configuration beside them.
    folder.write("north/daemon.toml", "[budget]\nruns = 1\n");
    let policies = read(&Sources { settings: Some(folder.path("north/daemon.toml")), config: None }).unwrap();
    assert_eq!((policies.sites.len(), policies.settings.budget.drills, policies.settings.budget.backups), (1, 1, 1));
}

/// Nothing is taken of files of which one is wrong, and everything that is wrong is told.
#[test]
fn all_problems_of_all_files_come_at_once() {
    let folder = Folder::new();
    folder.edit("daemon.toml", "runs = 6", "runs = 1");
    folder.edit("daemon.toml", "to = [\"chat\"]", "to = [\"chatt\"]");
    folder.edit("daemon.toml", "role = \"auditor\"", "role = \"editor\"");
    let settings = folder.read().unwrap_err();
    folder.write("daemon.toml", SETTINGS);
    folder.edit("daemon.toml", "tenants = [\"north\"]", "tenants = [\"nord\"]");
    folder.edit("daemon.toml", "tenants = [\"south\"]", "tenants = [\"south\"]\ntiers = [\"silver\"]");
    folder.mode("mail-password", 0o644);
    fs::remove_file(folder.path("chat-url")).unwrap();
    folder.edit("north/schedules/gold.toml", "@daily", "@dayly");
    let names = folder.read().unwrap_err();
    folder.edit("south/lifeboat.toml", "rpo = \"15m\"", "rpo = 15");
    folder.edit("south/plans/gold.toml", "@daily", "60 * * * *");
    fs::remove_file(folder.path("north/lifeboat.toml")).unwrap();
    let configs = folder.read().unwrap_err();
    insta::assert_snapshot!("problems", [settings, names, configs].join("\n---\n"));
}

#[test]
fn settings_that_would_harm_are_refused() {
    let said = |old: &str, new: &str| {
        let folder = Folder::new();
        folder.edit("daemon.toml", old, new);
        folder.read().map(|policies| format!("taken: {:?}", policies.settings)).unwrap_or_else(|problems| problems)
    };
    let cases = [
        ("127.0.0.1:7421", "0.0.0.0:7421"),
        ("127.0.0.1:7421", "[::]:7421"),
        ("127.0.0.1:7421", "localhost"),
        ("public_url = \"https://lifeboat.example.org/\"\n", ""),
        ("\"https://lifeboat.example.org/\"", "\"https://ann:secret@lifeboat.example.org/\""),
        ("https://id.example.org/realms/main", "http://id.example.org/realms/main"),
        ("client_secret_file = \"oidc-secret\"", "client_secret = \"hunter2\""),
        ("url_file = \"chat-url\"", "url = \"https://hooks.example.org/T0/hunter2\""),
        ("routing_key_env = \"PAGERDUTY_KEY\"", "routing_key = \"hunter2\""),
        ("routing_key_env = \"PAGERDUTY_KEY\"", "routing_key_env = \"PAGERDUTY-KEY\""),
        ("password_file = \"mail-password\"\n", ""),
        ("user = \"lifeboat\"\n", ""),
        ("host = \"mail.example.org\"", "host = \"mail.example.org\"\ntls = \"none\""),
        ("to = [\"ops@example.org\"]", "to = [\"ops\"]"),
        ("kind = \"slack\"", "kind = \"slak\""),
        ("every = \"2m\"", "every = \"1s\""),
        ("tenants = \"*\"", "tenants = \"north\""),
        ("[budget]", "[bugdet]"),
        ("[[tenant]]\nconfig = \"north/lifeboat.toml\"", "[[tenant]]"),
        ("south/plans", "south/none"),
        ("state_dir = \"state\"", "[tls]\ncert_file = \"cert.pem\"\nkey_file = \"oidc-secret\""),
    ];
    let told = cases.map(|(old, new)| said(old, new)).join("\n---\n");
    assert!(!told.contains("hunter2"), "secrets are not repeated:\n{told}");
    insta::assert_snapshot!("refused", told);
}

#[test]
fn other_hosts_need_a_certificate() {
    let folder = Folder::new();
    folder.edit("daemon.toml", "127.0.0.1:7421", "0.0.0.0:7421");
    folder.write("cert.pem", "certificate");
    folder.write("key.pem", "key");
    folder.mode("key.pem", 0o640);
    folder.edit("daemon.toml", "[budget]", "[tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n[budget]");
    let problems = folder.read().unwrap_err();
    assert!(
        problems.contains("tls.key_file: DIR/key.pem has mode 0640: others can read it; run: chmod 0600"),
        "{problems}"
    );
    folder.mode("key.pem", 0o600);
    assert_eq!(folder.good().settings.tls.unwrap().key_file, folder.path("key.pem"));
}

#[test]
fn tenants_share_neither_name_nor_repository() {
    let folder = Folder::new();
    folder.edit("south/lifeboat.toml", "tenant = \"south\"", "tenant = \"north\"");
    folder.edit("daemon.toml", "tenants = [\"south\"]", "tenants = [\"north\"]");
    let names = folder.read().unwrap_err();
    let folder = Folder::new();
    folder.edit("south/lifeboat.toml", "../backups/south", "../backups/north");
    let repositories = folder.read().unwrap_err();
    let folder = Folder::new();
    folder.edit(
        "south/lifeboat.toml",
        "[repository]\npath = \"../backups/south\"",
        "[[repository]]\nname = \"here\"\nrole = \"primary\"\npath = \"../backups/south\"\n\
         [[repository]]\nname = \"there\"\nrole = \"copy\"\npath = \"../backups/north\"",
    );
    let copies = folder.read().unwrap_err();
    insta::assert_snapshot!("shared", [names, repositories, copies].join("\n---\n"));
}

#[test]
fn what_changed_is_told() {
    let folder = Folder::new();
    let old = folder.good();
    assert_eq!(changed(&old, &folder.good()), []);
    folder.write("north/schedules/more.toml", &SCHEDULE.replace("nightly", "hourly"));
    folder.edit("south/lifeboat.toml", "rpo = \"15m\"", "rpo = \"30m\"");
    fs::remove_file(folder.path("south/plans/gold.toml")).unwrap();
    folder.write("north/schedules/.gold.toml.swp", "not a schedule");
    folder.write("north/schedules/README.md", "not a schedule");
    let new = folder.good();
    let changes = changed(&old, &new);
    let told: Vec<(&Path, bool, bool)> =
        changes.iter().map(|change| (change.path.as_path(), change.before.is_some(), change.after.is_some())).collect();
    assert_eq!(
        told,
        [
            (folder.path("north/schedules/more.toml").as_path(), false, true),
            (folder.path("south/lifeboat.toml").as_path(), true, true),
            (folder.path("south/plans/gold.toml").as_path(), true, false),
        ]
    );
    assert!(changes.iter().all(|change| change.before != change.after));
}
