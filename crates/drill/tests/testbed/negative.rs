//! Negative controls: a copy damaged in one way must fail at the rung that is there for it.

use std::sync::Arc;

use async_trait::async_trait;
use lifeboat_drill::{
    Result,
    source::{OwnCopy, Sabotage},
};
use lifeboat_model::check::{Outcome, Verdict};
use tokio_postgres::Client;

use crate::origin::{
    ODOO_IMAGE, POSTGRES_IMAGE, Testbed, addons, check, drill, enabled, failed, nothing_left, request, shell, work_root,
};

/// Runs a shell command in the folder of the restored data.
struct Break {
    command: String,
}

#[async_trait]
impl Sabotage for Break {
    fn describe(&self) -> String {
        self.command.clone()
    }

    async fn placed(&self, copy: &OwnCopy<'_>) -> Result<()> {
        let folder = copy.restored.display();
        shell(&format!("cd '{folder}' && {}", self.command)).expect("the damage is done");
        Ok(())
    }
}

/// Changes a row after replay.
struct ChangeRow;

#[async_trait]
impl Sabotage for ChangeRow {
    fn describe(&self) -> String {
        "one row of res_partner".into()
    }

    async fn replayed(&self, _: &OwnCopy<'_>, clients: &[(String, Client)]) -> Result<()> {
        let changed = clients[0]
            .1
            .execute("UPDATE res_partner SET comment = 'changed' WHERE id = (SELECT min(id) FROM res_partner)", &[]);
        assert_eq!(changed.await.expect("the row is changed"), 1);
        Ok(())
    }
}

/// The first failure must be `id`, and its text must hold `words`.
async fn fails_at(sabotage: impl Sabotage + 'static, id: &str, words: &str) {
    let work = work_root();
    let mut request = request(work.path());
    request.sabotage = Some(Arc::new(sabotage));
    let report = drill(request).await;
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!(failed(&report).first(), Some(&id));
    assert!(check(&report, id).observed.contains(words), "{}", check(&report, id).observed);
    assert!(report.sabotage.is_some());
    nothing_left(&report, work.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_filestore_file_is_found() {
    if enabled() {
        let command = "rm -v \"$(find filestore/demo -type f -path '*/[0-9a-f][0-9a-f]/*' | sort | head -1)\"";
        fails_at(Break { command: command.into() }, "attachments.filestore", "missing").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_filestore_file_is_found() {
    if enabled() {
        let command = "f=$(find filestore/demo -type f -size +1k -path '*/[0-9a-f][0-9a-f]/*' | sort | head -1); \
                       printf 'X' | dd of=\"$f\" bs=1 seek=100 conv=notrunc";
        fails_at(Break { command: command.into() }, "attachments.filestore", "corrupt").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_is_found() {
    if enabled() {
        fails_at(ChangeRow, "data.digests", "res_partner").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_relation_file_is_found() {
    if enabled() {
        let command = "f=$(find pgdata/base -type f -size +64k -name '[0-9]*' | sort | tail -1); \
                       printf 'XXXX' | dd of=\"$f\" bs=1 seek=9000 conv=notrunc";
        fails_at(Break { command: command.into() }, "files.manifest", "checksum").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_addon_is_found() {
    if enabled() {
        let addon = addons().join("lifeboat_testbed_note");
        let command = format!("rm -r 'config/paths{}'", addon.display());
        fails_at(Break { command }, "boot.modules", "lifeboat_testbed_note").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_wal_is_found() {
    if enabled() {
        let command = "rm pgdata/pg_wal/0000000?????????????????";
        fails_at(Break { command: command.into() }, "files.manifest", "").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_odoo_is_named() {
    if !enabled() {
        return;
    }
    let work = work_root();
    let mut request = request(work.path());
    request.config.odoo_image = POSTGRES_IMAGE.into();
    let report = drill(request).await;
    assert_eq!(failed(&report), ["boot.image"]);
    assert!(check(&report, "boot.image").observed.contains(POSTGRES_IMAGE));
    assert!(matches!(check(&report, "boot.registry").verdict, Verdict::NotExecuted(_)));
    assert_eq!(check(&report, "neutralise.assert").verdict, Verdict::Passed, "ours alone neutralise as well");
    nothing_left(&report, work.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_another_major_is_named() {
    if !enabled() {
        return;
    }
    let tag = format!("lifeboat-drill-test/odoo:18-{}", std::process::id());
    let release = "/usr/lib/python3/dist-packages/odoo/release.py";
    let dockerfile = format!(
        "FROM {ODOO_IMAGE}\\nUSER root\\nRUN sed -i 's/^version_info = (19,/version_info = (18,/' {release}\\nUSER odoo\\n"
    );
    shell(&format!("printf \"{dockerfile}\" | docker build -q -t {tag} -")).expect("the image is built");
    let work = work_root();
    let mut request = request(work.path());
    request.config.odoo_image = tag.clone();
    let report = drill(request).await;
    shell(&format!("docker rmi {tag}")).expect("the image is removed");
    assert_eq!(failed(&report), ["boot.image"]);
    let observed = &check(&report, "boot.image").observed;
    assert!(observed.contains("has Odoo 18.0") && observed.contains("needs 19.0"), "{observed}");
    nothing_left(&report, work.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_does_not_exist_is_named() {
    if !enabled() {
        return;
    }
    let work = work_root();
    let mut request = request(work.path());
    request.config.odoo_image = "lifeboat.invalid/odoo:19".into();
    let report = drill(request).await;
    assert_eq!((report.outcome, failed(&report)), (Outcome::Incomplete, vec![]), "it says nothing of the backup");
    let verdict = &check(&report, "boot.image").verdict;
    assert!(
        matches!(verdict, Verdict::NotExecuted(why) if why.contains("docker pull lifeboat.invalid/odoo:19")),
        "{verdict:?}"
    );
    nothing_left(&report, work.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_be_fetched_fails_at_fetch() {
    if !enabled() {
        return;
    }
    let work = work_root();
    let mut request = request(work.path());
    request.source = Arc::new(Testbed::unreadable());
    let report = drill(request).await;
    assert_eq!(failed(&report), ["fetch.place"]);
    assert!(check(&report, "fetch.place").observed.contains("pack"));
    nothing_left(&report, work.path());
}
