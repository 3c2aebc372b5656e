//! A database as production has it: everything that is dangerous is switched on, nobody could log in, books are secured. A drill
//! of it passes; and what is damaged or stays on is found at the rung that is there for it.

use std::{path::Path, sync::Arc, time::Duration};

use lifeboat_drill::report::DrillReport;
use lifeboat_model::{
    check::{Outcome, Verdict},
    config::checks::{OwnCheck, Question, Rows},
    time::Span,
};
use tokio_postgres::Client;

use crate::origin::{
    DATABASE, Golden, ODOO_IMAGE, Server, Testbed, addons, check, copy_out, drill, enabled, failed, nothing_left,
    request, shell, work_root,
};

/// A journal in strict mode with posted invoices, if the seed has none: Odoo alone can compute its hashes.
const SECURE: &str = "\
if not env['account.move'].search_count([('inalterable_hash', '!=', False)]):
    sales = env['account.journal'].search([('type', '=', 'sale')], order='id', limit=1)
    journal = env['account.journal'].create({'name': 'Secured sales', 'code': 'LBH', 'type': 'sale', 'company_id': sales.company_id.id,
        'default_account_id': sales.default_account_id.id, 'restrict_mode_hash_table': True})
    for partner in env['res.partner'].search([('is_company', '=', True)], order='id', limit=3):
        move = env['account.move'].create({'move_type': 'out_invoice', 'journal_id': journal.id, 'partner_id': partner.id,
            'invoice_line_ids': [(0, 0, {'name': 'Secured line', 'quantity': 1, 'price_unit': 125.0})]})
        move.action_post()
    env.cr.commit()
";

/// Nobody of the database can log in, pages are others than Odoo's, and there is more than one company, one of them archived.
const STRANGE: &str = "
UPDATE res_users SET active = false, totp_secret = 'JBSWY3DPEHPK3PXP' WHERE id = 2;
INSERT INTO ir_config_parameter (key, value) VALUES ('auth_totp.policy', 'all_required'), ('web.base.url.freeze', 'True'),
    ('report.url', 'https://erp.example.org'), ('sendgrid.api_key', 'SG.live');
UPDATE ir_config_parameter SET value = 'https://erp.example.org' WHERE key = 'web.base.url';
UPDATE res_company SET active = false WHERE id = 3;
UPDATE res_lang SET active = true WHERE code = 'fr_FR';
UPDATE res_partner SET lang = 'fr_FR' WHERE lang IS NOT NULL;
UPDATE res_lang SET active = false WHERE code = 'en_US';
UPDATE ir_default d SET json_value = '\"fr_FR\"' FROM ir_model_fields f WHERE f.id = d.field_id AND f.model = 'res.partner' AND f.name = 'lang';
INSERT INTO ir_ui_view (name, key, type, mode, priority, active, inherit_id, arch_db)
    SELECT 'single sign-on', 'clinic.login', 'qweb', 'extension', 99, true, id,
           '{\"en_US\": \"<data><xpath expr=''//form'' position=''replace''><p>single sign-on only</p></xpath></data>\"}'
      FROM ir_ui_view WHERE key = 'web.login' AND mode = 'primary';
INSERT INTO ir_mail_server (name, smtp_host, smtp_port, smtp_encryption, smtp_authentication, smtp_user, smtp_pass, active)
    VALUES ('relay', 'smtp.example.org', 587, 'starttls', 'login', 'mail', 'secret', true);
INSERT INTO fetchmail_server (name, active, state, server, server_type, \"user\", password)
    VALUES ('inbox', true, 'done', 'imap.example.org', 'imap', 'mail', 'secret');
UPDATE payment_provider SET state = 'enabled';
UPDATE ir_cron SET active = true;
";

/// Somebody's triggers take no change, so that a scheduled action, a mail server and payment providers stay on.
const STUBBORN: &str = "
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER keep BEFORE UPDATE ON ir_cron FOR EACH ROW EXECUTE FUNCTION keep();
CREATE TRIGGER keep BEFORE UPDATE ON ir_mail_server FOR EACH ROW EXECUTE FUNCTION keep();
CREATE TRIGGER keep BEFORE UPDATE ON payment_provider FOR EACH ROW EXECUTE FUNCTION keep();
";

/// One secured entry says something else than when it was posted; an extension has a version that the image does not know, and a
/// function is in a library that the image does not have.
const DAMAGE: &str = "
UPDATE account_move_line SET name = 'something else' WHERE id = (SELECT min(l.id) FROM account_move_line l
    JOIN account_move m ON m.id = l.move_id WHERE m.inalterable_hash IS NOT NULL AND l.display_type = 'product');
UPDATE pg_extension SET extversion = '9.9' WHERE extname = 'pg_trgm';
UPDATE pg_proc SET probin = '$libdir/clinic_gone' WHERE proname = 'strict_word_similarity_dist_op';
";

fn secure_books(server: &Server) {
    let command = format!(
        "docker run --rm -i --network host -e HOST=127.0.0.1 -e PORT={} -e USER=odoo -e PASSWORD=any -v '{}':/mnt/extra-addons:ro \
         {ODOO_IMAGE} odoo shell -d {DATABASE} --no-http --data-dir=/tmp/data <<'PROGRAM'\n{SECURE}\nPROGRAM",
        server.port,
        addons().display(),
    );
    shell(&command).expect("the books are secured");
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.expect("the database is changed");
}

/// A copy, its own addon with statements of its own for a copy in a sandbox.
async fn copy(server: &Server, root: &Path, name: &str) -> Arc<Golden> {
    let copy = copy_out(server, &root.join(name)).await.expect("a copy");
    let folder = copy.folder.join("config/paths").join(addons().strip_prefix("/").expect("an absolute path"));
    let file = folder.join("lifeboat_testbed_note/data/neutralize.sql");
    let sql =
        "INSERT INTO ir_config_parameter (key, value) VALUES ('lifeboat_testbed.is_neutralized', 'by its own file');";
    std::fs::write(file, sql).expect("the addon has a file");
    copy
}

async fn rehearse(copy: &Arc<Golden>) -> DrillReport {
    let work = work_root();
    let mut request = request(work.path());
    request.source = Arc::new(Testbed::of(copy));
    request.config.checks.push(OwnCheck {
        id: "own.neutralised".into(),
        purpose: "the addon's own statements have run".into(),
        database: None,
        timeout: Span(Duration::from_secs(30)),
        required: false,
        question: Question::Sql {
            query: "SELECT value FROM ir_config_parameter WHERE key = 'lifeboat_testbed.is_neutralized'".into(),
            expect: Rows::Equal(vec![vec!["by its own file".into()]]),
        },
    });
    let report = drill(request).await;
    nothing_left(&report, work.path());
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn production_is_made_harmless_and_used_and_what_is_wrong_with_it_is_found() {
    if !enabled() {
        return;
    }
    let root = work_root();
    let server = Server::start(root.path(), "production").expect("a server of our own");
    secure_books(&server);
    let client = server.connect().await.expect("it answers");

    run(&client, STRANGE).await;
    let report = rehearse(&copy(&server, root.path(), "strange").await).await;
    assert_eq!((failed(&report), report.outcome), (vec![], Outcome::Passed));
    for id in ["use.login", "use.records", "use.assets", "books.integrity", "own.neutralised", "neutralise.target"] {
        assert_eq!(check(&report, id).verdict, Verdict::Passed, "{id}");
    }
    assert!(check(&report, "use.attachments").observed.contains(&format!("by seed {}", report.run)));

    run(&client, DAMAGE).await;
    let report = rehearse(&copy(&server, root.path(), "damaged").await).await;
    assert_eq!(failed(&report), ["boot.extensions", "books.integrity"]);
    let observed = &check(&report, "boot.extensions").observed;
    assert!(
        observed.contains("pg_trgm is 9.9 in the database") && observed.contains("$libdir/clinic_gone"),
        "{observed}"
    );
    let observed = &check(&report, "books.integrity").observed;
    assert!(observed.contains("corrupted") && observed.contains("Secured sales"), "{observed}");

    run(&client, STUBBORN).await;
    let report = rehearse(&copy(&server, root.path(), "stubborn").await).await;
    assert_eq!(failed(&report), ["neutralise.assert"]);
    let observed = &check(&report, "neutralise.assert").observed;
    for id in ["jobs.crons", "mail.servers", "payment.providers", "services.credentials"] {
        assert!(observed.contains(id), "{id}: {observed}");
    }
    assert!(matches!(check(&report, "boot.registry").verdict, Verdict::NotExecuted(_)), "Odoo was not started on it");
}
