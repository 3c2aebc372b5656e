//! The statements and the assertions, as data. One row, one switch; the order does not matter.

/// One switch to turn off.
#[derive(Debug, Clone, Copy)]
pub struct Statement {
    /// Stable id, `area.what`.
    pub id: &'static str,
    /// Tables and columns (`table.column`) that must exist for it to apply.
    pub needs: &'static [&'static str],
    /// The statement; running it again changes nothing.
    pub sql: &'static str,
}

/// One thing that must hold afterwards.
#[derive(Debug, Clone, Copy)]
pub struct Assertion {
    /// Stable id, `area.what`.
    pub id: &'static str,
    /// What it is for, one line.
    pub purpose: &'static str,
    /// Tables and columns that must exist for it to apply.
    pub needs: &'static [&'static str],
    /// Counts something.
    pub sql: &'static str,
    /// What it must count.
    pub expected: i64,
}

const fn off(id: &'static str, needs: &'static [&'static str], sql: &'static str) -> Statement {
    Statement { id, needs, sql }
}

const fn none(id: &'static str, purpose: &'static str, needs: &'static [&'static str], sql: &'static str) -> Assertion {
    Assertion { id, purpose, needs, sql, expected: 0 }
}

/// Everything we turn off ourselves.
pub const STATEMENTS: &[Statement] = &[
    // Mail out. A server that cannot exist stays active: without any, Odoo falls back to the one of its command line.
    off(
        "mail.servers",
        &["ir_mail_server.smtp_host", "ir_mail_server.active"],
        "UPDATE ir_mail_server SET active = false WHERE active AND smtp_host IS DISTINCT FROM 'invalid'",
    ),
    off(
        "mail.credentials",
        &["ir_mail_server.smtp_user", "ir_mail_server.smtp_pass"],
        "UPDATE ir_mail_server SET smtp_user = NULL, smtp_pass = NULL WHERE smtp_user IS NOT NULL OR smtp_pass IS NOT NULL",
    ),
    off(
        // 15.0 added smtp_authentication, required.
        "mail.fallback",
        &["ir_mail_server.smtp_authentication", "ir_mail_server.smtp_encryption"],
        "INSERT INTO ir_mail_server (name, smtp_host, smtp_port, smtp_encryption, smtp_authentication, active) \
         SELECT 'sandbox: no mail leaves', 'invalid', 1025, 'none', 'login', true \
         WHERE NOT EXISTS (SELECT FROM ir_mail_server WHERE active AND smtp_host = 'invalid')",
    ),
    off(
        // Runs after the row above and finds its server there; on 14.0 it is the one that applies.
        "mail.fallback-14",
        &["ir_mail_server.smtp_encryption", "ir_mail_server.smtp_port"],
        "INSERT INTO ir_mail_server (name, smtp_host, smtp_port, smtp_encryption, active) \
         SELECT 'sandbox: no mail leaves', 'invalid', 1025, 'none', true \
         WHERE NOT EXISTS (SELECT FROM ir_mail_server WHERE active AND smtp_host = 'invalid')",
    ),
    off("mail.queue", &["mail_mail.state"], "UPDATE mail_mail SET state = 'cancel' WHERE state = 'outgoing'"),
    off(
        "mail.templates",
        &["mail_template.mail_server_id"],
        "UPDATE mail_template SET mail_server_id = NULL WHERE mail_server_id IS NOT NULL",
    ),
    off(
        "mail.mailings",
        &["mailing_mailing.state"],
        "UPDATE mailing_mailing SET state = 'draft' WHERE state IN ('in_queue', 'sending')",
    ),
    off(
        "mail.digests",
        &["digest_digest.state"],
        "UPDATE digest_digest SET state = 'deactivated' WHERE state = 'activated'",
    ),
    // Mail in.
    off("fetchmail.servers", &["fetchmail_server.active"], "UPDATE fetchmail_server SET active = false WHERE active"),
    off(
        "fetchmail.credentials",
        &["fetchmail_server.password"],
        "UPDATE fetchmail_server SET password = NULL WHERE password IS NOT NULL",
    ),
    // Other messages.
    off(
        "sms.queue",
        &["sms_sms.state"],
        "UPDATE sms_sms SET state = 'canceled' WHERE state IN ('outgoing', 'process')",
    ),
    off("push.devices", &["mail_push_device"], "DELETE FROM mail_push_device"),
    off("push.queue", &["mail_push"], "DELETE FROM mail_push"),
    off("push.devices-17", &["mail_partner_device"], "DELETE FROM mail_partner_device"),
    off(
        "push.keys",
        &["ir_config_parameter.key"],
        "DELETE FROM ir_config_parameter WHERE key IN \
         ('mail.web_push_vapid_private_key', 'mail.web_push_vapid_public_key', 'mail.sfu_server_key')",
    ),
    // Jobs. The cron threads are off as well; this is the second bolt.
    off("jobs.crons", &["ir_cron.active"], "UPDATE ir_cron SET active = false WHERE active"),
    off("jobs.triggers", &["ir_cron_trigger"], "DELETE FROM ir_cron_trigger"),
    off(
        // `failed` exists in every version of queue_job; `cancelled` does not.
        "jobs.queue",
        &["queue_job.state"],
        "UPDATE queue_job SET state = 'failed' WHERE state IN ('pending', 'enqueued', 'started', 'wait_dependencies')",
    ),
    // Money and parcels.
    off(
        "payment.providers",
        &["payment_provider.state"],
        "UPDATE payment_provider SET state = 'disabled' WHERE state <> 'disabled'",
    ),
    off(
        "payment.acquirers",
        &["payment_acquirer.state"],
        "UPDATE payment_acquirer SET state = 'disabled' WHERE state <> 'disabled'",
    ),
    off(
        "delivery.environment",
        &["delivery_carrier.prod_environment"],
        "UPDATE delivery_carrier SET prod_environment = false WHERE prod_environment",
    ),
    off(
        "delivery.carriers",
        &["delivery_carrier.delivery_type", "delivery_carrier.active"],
        "UPDATE delivery_carrier SET active = false WHERE active AND delivery_type NOT IN ('fixed', 'base_on_rule')",
    ),
    off(
        "iap.tokens",
        &["iap_account.account_token"],
        "UPDATE iap_account SET account_token = 'disabled' WHERE account_token IS DISTINCT FROM 'disabled'",
    ),
    off(
        "edi.proxy",
        &["account_edi_proxy_client_user.active"],
        "UPDATE account_edi_proxy_client_user SET active = false WHERE active",
    ),
    // Calls out and identities.
    off(
        "webhooks.actions",
        &["ir_act_server.webhook_url"],
        "UPDATE ir_act_server SET webhook_url = 'http://invalid' WHERE webhook_url IS NOT NULL",
    ),
    off(
        "identity.oauth",
        &["auth_oauth_provider.enabled"],
        "UPDATE auth_oauth_provider SET enabled = false WHERE enabled",
    ),
    off(
        "identity.ldap",
        &["res_company_ldap.ldap_server"],
        "UPDATE res_company_ldap SET ldap_server = 'invalid' WHERE ldap_server <> 'invalid'",
    ),
    off(
        "calendar.google",
        &["res_users_settings.google_calendar_rtoken", "res_users_settings.google_calendar_token"],
        "UPDATE res_users_settings SET google_calendar_rtoken = NULL, google_calendar_token = NULL \
         WHERE google_calendar_rtoken IS NOT NULL OR google_calendar_token IS NOT NULL",
    ),
    off(
        "calendar.microsoft",
        &["res_users_settings.microsoft_calendar_rtoken", "res_users_settings.microsoft_calendar_token"],
        "UPDATE res_users_settings SET microsoft_calendar_rtoken = NULL, microsoft_calendar_token = NULL \
         WHERE microsoft_calendar_rtoken IS NOT NULL OR microsoft_calendar_token IS NOT NULL",
    ),
    off(
        // Until 16.0 the tokens were on the user.
        "calendar.microsoft-16",
        &["res_users.microsoft_calendar_rtoken", "res_users.microsoft_calendar_token"],
        "UPDATE res_users SET microsoft_calendar_rtoken = NULL, microsoft_calendar_token = NULL \
         WHERE microsoft_calendar_rtoken IS NOT NULL OR microsoft_calendar_token IS NOT NULL",
    ),
    off("website.domains", &["website.domain"], "UPDATE website SET domain = NULL WHERE domain IS NOT NULL"),
    off("website.cdn", &["website.cdn_activated"], "UPDATE website SET cdn_activated = false WHERE cdn_activated"),
    // Storage elsewhere: new attachments must not be written to a production bucket, nor old ones deleted from it.
    off(
        "storage.location",
        &["ir_config_parameter.key", "ir_config_parameter.value"],
        "UPDATE ir_config_parameter SET value = 'file' WHERE key = 'ir_attachment.location' AND value NOT IN ('file', 'db')",
    ),
    off(
        "storage.cloud",
        &["ir_config_parameter.key"],
        "DELETE FROM ir_config_parameter WHERE key = 'cloud_storage_provider'",
    ),
    off(
        "storage.fs-default",
        &["fs_storage.use_as_default_for_attachments"],
        "UPDATE fs_storage SET use_as_default_for_attachments = false WHERE use_as_default_for_attachments",
    ),
    off(
        "storage.fs-credentials",
        &["fs_storage.options"],
        "UPDATE fs_storage SET options = NULL WHERE options IS NOT NULL",
    ),
    // The flag that 16.0 and later show as a ribbon; we set it everywhere.
    off(
        "flag",
        &["ir_config_parameter.key", "ir_config_parameter.value"],
        "INSERT INTO ir_config_parameter (key, value) VALUES ('database.is_neutralized', 'true') \
         ON CONFLICT (key) DO UPDATE SET value = 'true'",
    ),
    off(
        // Reports fetch their styles from here; the production address must not be asked.
        "address.base",
        &["ir_config_parameter.key", "ir_config_parameter.value"],
        "UPDATE ir_config_parameter SET value = 'http://127.0.0.1:8069' WHERE key IN ('web.base.url', 'report.url')",
    ),
];

/// What must hold before Odoo may load the database.
pub const ASSERTIONS: &[Assertion] = &[
    none(
        "mail.servers",
        "no outgoing mail server that could exist is active",
        &["ir_mail_server.active", "ir_mail_server.smtp_host"],
        "SELECT count(*) FROM ir_mail_server WHERE active AND smtp_host IS DISTINCT FROM 'invalid'",
    ),
    none(
        "mail.fallback",
        "an invalid mail server is active, so that none of the command line is used",
        &["ir_mail_server.active", "ir_mail_server.smtp_host"],
        "SELECT (NOT EXISTS (SELECT FROM ir_mail_server WHERE active AND smtp_host = 'invalid'))::int::bigint",
    ),
    none(
        "mail.credentials",
        "no mail server has credentials",
        &["ir_mail_server.smtp_pass"],
        "SELECT count(*) FROM ir_mail_server WHERE smtp_pass IS NOT NULL",
    ),
    none(
        "mail.queue",
        "no mail waits to be sent",
        &["mail_mail.state"],
        "SELECT count(*) FROM mail_mail WHERE state = 'outgoing'",
    ),
    none(
        "fetchmail.servers",
        "no incoming mail server is active",
        &["fetchmail_server.active"],
        "SELECT count(*) FROM fetchmail_server WHERE active",
    ),
    none(
        "sms.queue",
        "no text message waits to be sent",
        &["sms_sms.state"],
        "SELECT count(*) FROM sms_sms WHERE state IN ('outgoing', 'process')",
    ),
    none(
        "push.devices",
        "no device waits for push messages",
        &["mail_push_device"],
        "SELECT count(*) FROM mail_push_device",
    ),
    none(
        "jobs.crons",
        "no scheduled action is active",
        &["ir_cron.active"],
        "SELECT count(*) FROM ir_cron WHERE active",
    ),
    none(
        "jobs.queue",
        "no queued job can start",
        &["queue_job.state"],
        "SELECT count(*) FROM queue_job WHERE state IN ('pending', 'enqueued', 'started', 'wait_dependencies')",
    ),
    none(
        "payment.providers",
        "no payment provider is enabled",
        &["payment_provider.state"],
        "SELECT count(*) FROM payment_provider WHERE state NOT IN ('test', 'disabled')",
    ),
    none(
        "payment.acquirers",
        "no payment acquirer is enabled",
        &["payment_acquirer.state"],
        "SELECT count(*) FROM payment_acquirer WHERE state NOT IN ('test', 'disabled')",
    ),
    none(
        "delivery.environment",
        "no carrier uses its production environment",
        &["delivery_carrier.prod_environment"],
        "SELECT count(*) FROM delivery_carrier WHERE prod_environment",
    ),
    none(
        "iap.tokens",
        "no in-app purchase token works",
        &["iap_account.account_token"],
        "SELECT count(*) FROM iap_account WHERE account_token IS NOT NULL AND account_token NOT LIKE '%disabled'",
    ),
    none(
        "webhooks.actions",
        "no server action calls a webhook",
        &["ir_act_server.webhook_url"],
        "SELECT count(*) FROM ir_act_server WHERE webhook_url LIKE 'http%' AND webhook_url <> 'http://invalid'",
    ),
    none(
        "identity.oauth",
        "no sign-in through an outside provider",
        &["auth_oauth_provider.enabled"],
        "SELECT count(*) FROM auth_oauth_provider WHERE enabled",
    ),
    none(
        "storage.location",
        "attachments are written to the filestore or the database only",
        &["ir_config_parameter.key", "ir_config_parameter.value"],
        "SELECT count(*) FROM ir_config_parameter WHERE key = 'cloud_storage_provider' \
         OR (key = 'ir_attachment.location' AND value NOT IN ('file', 'db'))",
    ),
    none(
        "storage.fs",
        "no outside storage is the default for attachments",
        &["fs_storage.use_as_default_for_attachments"],
        "SELECT count(*) FROM fs_storage WHERE use_as_default_for_attachments",
    ),
    Assertion {
        id: "flag",
        purpose: "the database is marked as neutralised",
        needs: &["ir_config_parameter.key", "ir_config_parameter.value"],
        sql: "SELECT count(*) FROM ir_config_parameter WHERE key = 'database.is_neutralized' AND lower(value) = 'true'",
        expected: 1,
    },
];
