-- A system in production, with what every supported version and some well-known modules have: nothing in it is harmless.
CREATE TABLE ir_mail_server (id serial, name varchar NOT NULL, smtp_host varchar, smtp_port int NOT NULL, smtp_user varchar, smtp_pass varchar,
  smtp_encryption varchar NOT NULL, smtp_authentication varchar NOT NULL, google_gmail_refresh_token varchar, active boolean);
INSERT INTO ir_mail_server (name, smtp_host, smtp_port, smtp_user, smtp_pass, smtp_encryption, smtp_authentication, google_gmail_refresh_token, active)
  VALUES ('relay', 'smtp.example.org', 587, 'mail', 'secret', 'starttls', 'login', 'token', true), ('nowhere', NULL, 25, NULL, NULL, 'none', 'login', NULL, true);
CREATE TABLE mail_mail (id serial, state varchar); INSERT INTO mail_mail (state) VALUES ('outgoing'), ('sent');
CREATE TABLE mail_template (id serial, mail_server_id int); INSERT INTO mail_template (mail_server_id) VALUES (1);
CREATE TABLE mailing_mailing (id serial, state varchar); INSERT INTO mailing_mailing (state) VALUES ('in_queue');
CREATE TABLE digest_digest (id serial, state varchar); INSERT INTO digest_digest (state) VALUES ('activated');
CREATE TABLE fetchmail_server (id serial, active boolean, server varchar, password varchar);
INSERT INTO fetchmail_server (active, server, password) VALUES (true, 'imap.example.org', 'secret');
CREATE TABLE snailmail_letter (id serial, state varchar); INSERT INTO snailmail_letter (state) VALUES ('pending'), ('sent');
CREATE TABLE sms_sms (id serial, state varchar); INSERT INTO sms_sms (state) VALUES ('outgoing'), ('process'), ('sent');
CREATE TABLE mail_push_device (id serial); INSERT INTO mail_push_device DEFAULT VALUES;
CREATE TABLE mail_push (id serial); INSERT INTO mail_push DEFAULT VALUES;
CREATE TABLE mail_partner_device (id serial); INSERT INTO mail_partner_device DEFAULT VALUES;
CREATE TABLE ir_config_parameter (id serial, key varchar UNIQUE, value text);
INSERT INTO ir_config_parameter (key, value) VALUES ('database.secret', 'own'), ('web.base.url', 'https://erp.example.org'), ('report.url', 'http://odoo:8069'),
  ('mail.web_push_vapid_private_key', 'key'), ('ir_attachment.location', 's3'), ('cloud_storage_provider', 'azure'),
  ('google_calendar_client_secret', 'secret'), ('sendgrid.api_key', 'SG.1'), ('auth_signup.reset_password', 'True'), ('auth_password_policy.minlength', '8');
CREATE TABLE ir_cron (id serial, active boolean); INSERT INTO ir_cron (active) VALUES (true), (true), (false);
CREATE TABLE ir_cron_trigger (id serial); INSERT INTO ir_cron_trigger DEFAULT VALUES;
CREATE TABLE queue_job (id serial, state varchar); INSERT INTO queue_job (state) VALUES ('pending'), ('enqueued'), ('started'), ('done');
CREATE TABLE payment_provider (id serial, state varchar NOT NULL, stripe_secret_key varchar, adyen_hmac_key varchar, paypal_email_account varchar);
INSERT INTO payment_provider (state, stripe_secret_key) VALUES ('enabled', 'sk_live'), ('test', NULL), ('disabled', NULL);
CREATE TABLE payment_acquirer (id serial, state varchar NOT NULL, ogone_shakey_in varchar, brq_secretkey varchar);
INSERT INTO payment_acquirer (state, ogone_shakey_in) VALUES ('enabled', 'live');
CREATE TABLE pos_payment_method (id serial, adyen_api_key varchar, adyen_test_mode boolean, viva_com_test_mode boolean);
INSERT INTO pos_payment_method (adyen_api_key, adyen_test_mode) VALUES ('live', false);
CREATE TABLE delivery_carrier (id serial, active boolean, delivery_type varchar, prod_environment boolean, ups_passwd varchar);
INSERT INTO delivery_carrier (active, delivery_type, prod_environment, ups_passwd) VALUES (true, 'ups', true, 'secret'), (true, 'fixed', false, NULL);
CREATE TABLE iap_account (id serial, account_token varchar); INSERT INTO iap_account (account_token) VALUES ('live');
CREATE TABLE account_online_link (id serial, client_id varchar, refresh_token varchar, access_token varchar, auto_sync boolean);
INSERT INTO account_online_link (client_id, refresh_token, auto_sync) VALUES ('bank', 'token', true);
CREATE TABLE account_edi_proxy_client_user (id serial, active boolean, refresh_token varchar);
INSERT INTO account_edi_proxy_client_user (active, refresh_token) VALUES (true, 'token');
CREATE TABLE ir_act_server (id serial, webhook_url varchar); INSERT INTO ir_act_server (webhook_url) VALUES ('https://hooks.example.org/1'), (NULL);
CREATE TABLE auth_oauth_provider (id serial, enabled boolean); INSERT INTO auth_oauth_provider (enabled) VALUES (true);
CREATE TABLE res_company_ldap (id serial, ldap_server varchar NOT NULL); INSERT INTO res_company_ldap (ldap_server) VALUES ('ldap.example.org');
CREATE TABLE res_users (id serial, password varchar, google_calendar_rtoken varchar, google_calendar_token varchar,
  microsoft_calendar_rtoken varchar, microsoft_calendar_token varchar);
INSERT INTO res_users (password, google_calendar_rtoken, microsoft_calendar_rtoken) VALUES ('kept', 'token', 'token');
CREATE TABLE res_users_settings (id serial, google_calendar_rtoken varchar, google_calendar_token varchar,
  microsoft_calendar_rtoken varchar, microsoft_calendar_token varchar);
INSERT INTO res_users_settings (google_calendar_rtoken, microsoft_calendar_rtoken) VALUES ('token', 'token');
CREATE TABLE google_calendar_credentials (id serial, calendar_rtoken varchar, calendar_token varchar);
INSERT INTO google_calendar_credentials (calendar_rtoken) VALUES ('token');
CREATE TABLE website (id serial, domain varchar, cdn_activated boolean); INSERT INTO website (domain, cdn_activated) VALUES ('https://example.org', true);
CREATE TABLE fs_storage (id serial, code varchar NOT NULL, options text, eval_options_from_env boolean, autovacuum_gc boolean,
  use_as_default_for_attachments boolean);
INSERT INTO fs_storage (code, options, eval_options_from_env, autovacuum_gc, use_as_default_for_attachments)
  VALUES ('s3', '{"key": "AKIA", "secret": "live"}', true, true, true);
CREATE TABLE fs_file_gc (id serial, store_fname varchar); INSERT INTO fs_file_gc (store_fname) VALUES ('s3://bucket/doomed');
CREATE TABLE db_backup (id serial, sftp_host varchar, sftp_password varchar); INSERT INTO db_backup (sftp_host) VALUES ('backup.example.org');
-- Of localisations and third parties: found by what their columns are called.
CREATE TABLE res_company (id serial, name varchar, l10n_hu_edi_password varchar, l10n_ro_edi_refresh_token varchar,
  l10n_in_edi_production_env boolean, l10n_es_tbai_test_env boolean);
INSERT INTO res_company (name, l10n_hu_edi_password, l10n_ro_edi_refresh_token, l10n_in_edi_production_env, l10n_es_tbai_test_env)
  VALUES ('Clinic', 'secret', 'token', true, false);
CREATE TABLE clinic_mail_relay (id serial, smtp_host varchar NOT NULL, smtp_pass varchar); INSERT INTO clinic_mail_relay (smtp_host) VALUES ('smtp.clinic.example');
CREATE TABLE hl7_backend (id serial, api_key varchar); INSERT INTO hl7_backend (api_key) VALUES ('live');
-- Business data, which is no service: left alone.
CREATE TABLE account_move (id serial, access_token varchar); INSERT INTO account_move (access_token) VALUES ('portal');
