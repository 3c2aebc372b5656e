//! Credentials of production that lie in a backup are not seen from inside the sandbox.

use std::{fs, path::Path, sync::Arc};

use async_trait::async_trait;
use lifeboat_drill::{
    DrillRequest, Result,
    source::{Fetched, Selected, Source},
};
use lifeboat_model::check::Verdict;

use crate::origin::{Testbed, addons, check, drill, enabled, nothing_left, request, work_root};

/// The testbed's copy, with what careless people leave in configuration folders.
struct Careless(Testbed);

const PLANTED: [(&str, &str); 6] = [
    (".env", "ODOO_DB_PASSWORD=hunter2\n"),
    (".git/config", "[remote \"origin\"]\n\turl = https://x:hunter2@git.example.org/addons.git\n"),
    ("deploy/odoo.conf", "[options]\nadmin_passwd = hunter2\n"),
    ("deploy/tls.pem", "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"),
    ("deploy/id_ed25519", "hunter2\n"),
    ("deploy/mail.ini", "[smtp]\nsmtp_password = hunter2\n"),
];

#[async_trait]
impl Source for Careless {
    async fn select(&self) -> Result<Selected> {
        self.0.select().await
    }

    async fn fetch(&self, selected: &Selected, to: &Path) -> Result<Fetched> {
        let fetched = self.0.fetch(selected, to).await?;
        let paths = to.join("config/paths");
        let folder = paths.join(addons().strip_prefix("/").unwrap());
        for (name, text) in PLANTED {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        // Outside of the addons: no container sees it at all.
        fs::create_dir_all(paths.join("etc/odoo")).unwrap();
        fs::write(paths.join("etc/odoo/odoo.conf"), "db_password = hunter2\n").unwrap();
        Ok(fetched)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_credentials_are_hidden_and_counted() {
    if !enabled() {
        return;
    }
    let work = work_root();
    let report = drill(DrillRequest { source: Arc::new(Careless(Testbed::new())), ..request(work.path()) }).await;
    let hidden = check(&report, "sandbox.secrets");
    assert_eq!(hidden.verdict, Verdict::Passed, "{hidden:?}");
    for (name, _) in PLANTED {
        let name = name.split('/').next_back().map(|last| if last == "config" { ".git" } else { last }).unwrap();
        assert!(
            report.notes.iter().any(|note| note.contains("credential") && note.contains(name)),
            "{name}: {:?}",
            report.notes
        );
    }
    // Evidence is told how many, not which.
    let public: Vec<String> = report.evidence_checks.iter().map(|check| format!("{check:?}")).collect();
    let words = [public.as_slice(), report.public_notes.as_slice()].concat().join("\n");
    assert!(!words.contains("hunter2") && !words.contains("id_ed25519") && !words.contains("mail.ini"), "{words}");
    assert_eq!(check(&report, "use.login").verdict, Verdict::Passed, "the addons still work");
    nothing_left(&report, work.path());
}
