//! Neutralising: everything that is dangerous is seen before and gone after, and what does not go is seen.

use std::collections::BTreeSet;

use lifeboat_model::check::Verdict;
use lifeboat_odoo::neutralise::{self, Asserted};
use tokio_postgres::Client;

use crate::site::{database, number, server};

const PRODUCTION: &str = include_str!("production.sql");

fn failed(answers: &[Asserted]) -> BTreeSet<&str> {
    let failed = answers.iter().filter(|answer| matches!(answer.verdict, Verdict::Failed(_)));
    failed.map(|answer| answer.id.as_str()).collect()
}

/// A trigger of somebody's that takes no change: what we switch off stays on.
async fn refuse_changes(client: &Client, table: &str) {
    let trigger = format!(
        "CREATE OR REPLACE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
         CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION keep()"
    );
    client.batch_execute(&trigger).await.unwrap();
}

#[tokio::test]
async fn everything_dangerous_is_seen_and_switched_off() {
    let Some(server) = server() else { return };
    let mut client = database(&server, "production", PRODUCTION).await;
    let before = neutralise::assert(&client).await.unwrap();
    let all: BTreeSet<&str> = before.iter().map(|answer| answer.id.as_str()).collect();
    assert_eq!(failed(&before), all, "every assertion has something to find here");

    let applied = neutralise::apply(&mut client).await.unwrap();
    let absent: Vec<_> = applied.iter().filter(|one| one.rows.is_none()).map(|one| &one.id).collect();
    assert!(absent.is_empty(), "every statement is tried here: {absent:?}");
    let after = neutralise::assert(&client).await.unwrap();
    assert!(after.iter().all(|answer| answer.verdict == Verdict::Passed), "{:?}", failed(&after));

    let again = neutralise::apply(&mut client).await.unwrap();
    let changed: Vec<_> = again.iter().filter(|one| one.rows != Some(0)).map(|one| one.id.as_str()).collect();
    // Two rows that are written as they must be, whatever they were.
    assert_eq!(changed, ["flag", "address.base"]);

    for (query, left) in [
        ("SELECT count(*) FROM ir_mail_server WHERE active", 1),
        ("SELECT count(*) FROM res_users WHERE password = 'kept'", 1),
        ("SELECT count(*) FROM account_move WHERE access_token = 'portal'", 1),
        ("SELECT count(*) FROM queue_job WHERE state = 'done'", 1),
        ("SELECT count(*) FROM ir_config_parameter WHERE key = 'database.secret' AND value = 'own'", 1),
        ("SELECT count(*) FROM ir_config_parameter WHERE key LIKE 'auth_%' AND value <> ''", 2),
        ("SELECT count(*) FROM clinic_mail_relay WHERE smtp_host = 'invalid'", 1),
    ] {
        assert_eq!(number(&client, query).await, left, "{query}");
    }
}

#[tokio::test]
async fn what_stays_on_is_named() {
    let Some(server) = server() else { return };
    for (index, (table, ids)) in [
        ("ir_cron", &["jobs.crons"][..]),
        ("ir_mail_server", &["mail.servers", "mail.credentials", "services.credentials"]),
        ("fetchmail_server", &["fetchmail.servers", "fetchmail.credentials", "services.credentials"]),
        ("payment_provider", &["payment.providers", "services.credentials"]),
        ("payment_acquirer", &["payment.acquirers", "services.credentials"]),
        ("queue_job", &["jobs.queue"]),
        ("ir_act_server", &["webhooks.actions"]),
        ("fs_file_gc", &["storage.doomed"]),
        ("res_company", &["services.credentials", "services.production", "services.test"]),
        ("clinic_mail_relay", &["services.hosts"]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = database(&server, &format!("kept{index}"), PRODUCTION).await;
        refuse_changes(&client, table).await;
        neutralise::apply(&mut client).await.unwrap();
        let after = neutralise::assert(&client).await.unwrap();
        assert_eq!(failed(&after), ids.iter().copied().collect(), "{table}");
    }
}

#[tokio::test]
async fn a_database_without_the_modules_has_nothing_to_ask() {
    let Some(server) = server() else { return };
    let mut client = database(&server, "bare", "CREATE TABLE ir_cron (id serial, active boolean)").await;
    let applied = neutralise::apply(&mut client).await.unwrap();
    let ran: Vec<_> = applied.iter().filter(|one| one.rows.is_some()).map(|one| one.id.as_str()).collect();
    assert_eq!(ran, ["jobs.crons"]);
    let answers = neutralise::assert(&client).await.unwrap();
    let passed: Vec<_> = answers.iter().filter(|one| one.verdict.is_passed()).map(|one| one.id.as_str()).collect();
    assert_eq!(passed, ["jobs.crons"]);
}
