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
        "letters.queue",
        &["snailmail_letter.state"],
        "UPDATE snailmail_letter SET state = 'canceled' WHERE state = 'pending'",
    ),
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
        // As in Odoo's own statements: the link is somebody else's now.
        "bank.links",
        &["account_online_link.client_id"],
        "UPDATE account_online_link SET client_id = 'duplicate' WHERE client_id IS DISTINCT FROM 'duplicate'",
    ),
    off(
        "bank.sync",
        &["account_online_link.auto_sync"],
        "UPDATE account_online_link SET auto_sync = false WHERE auto_sync",
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
        "UPDATE ir_act_server SET webhook_url = 'http://invalid' WHERE webhook_url <> 'http://invalid'",
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
    off(
        // 14.0 has Google's on the user as well, 15.0 and 16.0 in a table of their own.
        "calendar.google-14",
        &["res_users.google_calendar_rtoken", "res_users.google_calendar_token"],
        "UPDATE res_users SET google_calendar_rtoken = NULL, google_calendar_token = NULL \
         WHERE google_calendar_rtoken IS NOT NULL OR google_calendar_token IS NOT NULL",
    ),
    off(
        "calendar.google-15",
        &["google_calendar_credentials.calendar_rtoken", "google_calendar_credentials.calendar_token"],
        "UPDATE google_calendar_credentials SET calendar_rtoken = NULL, calendar_token = NULL \
         WHERE calendar_rtoken IS NOT NULL OR calendar_token IS NOT NULL",
    ),
    off(
        // Keys of services that are kept as settings; the database's own secret is nobody else's.
        "settings.secrets",
        &["ir_config_parameter.key", "ir_config_parameter.value"],
        "UPDATE ir_config_parameter SET value = '' WHERE key <> 'database.secret' AND value <> '' \
         AND key ~* '(api_?key|secret|secret_?key|access_?key|private_?key|auth_token|access_token|refresh_token|smtp_pass)$'",
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
    off(
        "storage.fs-environment",
        &["fs_storage.eval_options_from_env"],
        "UPDATE fs_storage SET eval_options_from_env = false WHERE eval_options_from_env",
    ),
    off(
        // fs_attachment deletes from the remote storage what rows of the sandbox no longer name.
        "storage.fs-garbage",
        &["fs_storage.autovacuum_gc"],
        "UPDATE fs_storage SET autovacuum_gc = false WHERE autovacuum_gc",
    ),
    off("storage.fs-doomed", &["fs_file_gc"], "DELETE FROM fs_file_gc"),
    off(
        // OCA's auto_backup would write the copy to a production server.
        "storage.backups",
        &["db_backup.sftp_host"],
        "UPDATE db_backup SET sftp_host = 'invalid' WHERE sftp_host <> 'invalid'",
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
        "fetchmail.credentials",
        "no incoming mail server has a password",
        &["fetchmail_server.password"],
        "SELECT count(*) FROM fetchmail_server WHERE password IS NOT NULL",
    ),
    none(
        "letters.queue",
        "no letter waits to be printed",
        &["snailmail_letter.state"],
        "SELECT count(*) FROM snailmail_letter WHERE state = 'pending'",
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
        "SELECT count(*) FROM payment_provider WHERE state IS DISTINCT FROM 'disabled'",
    ),
    none(
        "payment.acquirers",
        "no payment acquirer is enabled",
        &["payment_acquirer.state"],
        "SELECT count(*) FROM payment_acquirer WHERE state IS DISTINCT FROM 'disabled'",
    ),
    none(
        "delivery.environment",
        "no carrier uses its production environment",
        &["delivery_carrier.prod_environment"],
        "SELECT count(*) FROM delivery_carrier WHERE prod_environment",
    ),
    none(
        "delivery.carriers",
        "no carrier of another company is active",
        &["delivery_carrier.delivery_type", "delivery_carrier.active"],
        "SELECT count(*) FROM delivery_carrier WHERE active AND delivery_type NOT IN ('fixed', 'base_on_rule')",
    ),
    none(
        "bank.links",
        "no bank is asked for statements",
        &["account_online_link.client_id"],
        "SELECT count(*) FROM account_online_link WHERE client_id IS DISTINCT FROM 'duplicate'",
    ),
    none(
        "edi.proxy",
        "no electronic invoice is exchanged",
        &["account_edi_proxy_client_user.active"],
        "SELECT count(*) FROM account_edi_proxy_client_user WHERE active",
    ),
    none(
        "calendar.google",
        "no calendar is synchronised with Google",
        &["res_users_settings.google_calendar_rtoken"],
        "SELECT count(*) FROM res_users_settings WHERE google_calendar_rtoken IS NOT NULL",
    ),
    none(
        "calendar.google-14",
        "no calendar is synchronised with Google",
        &["res_users.google_calendar_rtoken"],
        "SELECT count(*) FROM res_users WHERE google_calendar_rtoken IS NOT NULL",
    ),
    none(
        "calendar.google-15",
        "no calendar is synchronised with Google",
        &["google_calendar_credentials.calendar_rtoken"],
        "SELECT count(*) FROM google_calendar_credentials WHERE calendar_rtoken IS NOT NULL",
    ),
    none(
        "calendar.microsoft-16",
        "no calendar is synchronised with Microsoft",
        &["res_users.microsoft_calendar_rtoken"],
        "SELECT count(*) FROM res_users WHERE microsoft_calendar_rtoken IS NOT NULL",
    ),
    none(
        "settings.secrets",
        "no setting holds the key of a service",
        &["ir_config_parameter.key", "ir_config_parameter.value"],
        "SELECT count(*) FROM ir_config_parameter WHERE key <> 'database.secret' AND value <> '' \
         AND key ~* '(api_?key|secret|secret_?key|access_?key|private_?key|auth_token|access_token|refresh_token|smtp_pass)$'",
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
    none(
        "storage.garbage",
        "nothing is deleted from an outside storage",
        &["fs_storage.autovacuum_gc"],
        "SELECT count(*) FROM fs_storage WHERE autovacuum_gc",
    ),
    none(
        "storage.doomed",
        "no file of an outside storage waits to be deleted",
        &["fs_file_gc"],
        "SELECT count(*) FROM fs_file_gc",
    ),
    none(
        "identity.ldap",
        "nobody's password is sent to a directory server",
        &["res_company_ldap.ldap_server"],
        "SELECT count(*) FROM res_company_ldap WHERE ldap_server <> 'invalid'",
    ),
    Assertion {
        id: "flag",
        purpose: "the database is marked as neutralised",
        needs: &["ir_config_parameter.key", "ir_config_parameter.value"],
        sql: "SELECT count(*) FROM ir_config_parameter WHERE key = 'database.is_neutralized' AND lower(value) = 'true'",
        expected: 1,
    },
];
