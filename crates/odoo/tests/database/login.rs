//! The sandbox's own user, in databases where nobody else could come in.

use lifeboat_odoo::login;

use crate::site::{database, number, server};

/// The administrator is archived and has a second factor, English is off, a module demands a value of every user and allows no
/// value of partners twice, and groups imply others.
const TABLES: &str = "
CREATE TABLE res_lang (id serial, code varchar, active boolean);
INSERT INTO res_lang (code, active) VALUES ('en_US', false), ('fr_FR', true);
CREATE TABLE res_company (id serial, name varchar); INSERT INTO res_company (name) VALUES ('A'), ('B');
CREATE TABLE res_partner (id serial, name varchar, display_name varchar, lang varchar, active boolean, company_id int, commercial_partner_id int,
  autopost_bills varchar NOT NULL, barcode varchar UNIQUE, computed varchar GENERATED ALWAYS AS ('x' || 'y') STORED);
INSERT INTO res_partner (name, active, autopost_bills, barcode) VALUES ('Admin', true, 'ask', '42');
CREATE TABLE res_users (id serial, login varchar NOT NULL UNIQUE, password varchar, partner_id int NOT NULL, company_id int NOT NULL, active boolean,
  share boolean, notification_type varchar NOT NULL, totp_secret varchar, password_write_date timestamp, clinic_role varchar NOT NULL);
INSERT INTO res_users (login, password, partner_id, company_id, active, notification_type, totp_secret, clinic_role)
  VALUES ('__system__', NULL, 1, 2, false, 'email', NULL, 'none'), ('admin', 'hash', 1, 1, false, 'email', 'ABC', 'chief');
CREATE TABLE res_groups (id serial, name varchar); INSERT INTO res_groups (name) VALUES ('user'), ('system'), ('extra'), ('implied'), ('other');
CREATE TABLE res_groups_users_rel (gid int, uid int, PRIMARY KEY (gid, uid)); INSERT INTO res_groups_users_rel VALUES (2, 2), (3, 2), (5, 1);
CREATE TABLE res_groups_implied_rel (gid int, hid int); INSERT INTO res_groups_implied_rel VALUES (3, 4), (4, 3);
CREATE TABLE res_company_users_rel (cid int, user_id int, PRIMARY KEY (cid, user_id));
CREATE TABLE ir_model_data (id serial, module varchar, name varchar, model varchar, res_id int);
INSERT INTO ir_model_data (module, name, model, res_id) VALUES ('base', 'user_admin', 'res.users', 2),
  ('base', 'group_user', 'res.groups', 1), ('base', 'group_system', 'res.groups', 2);
CREATE TABLE ir_config_parameter (id serial, key varchar, value text); INSERT INTO ir_config_parameter (key, value) VALUES ('auth_totp.policy', 'all_required');
";

#[tokio::test]
async fn a_user_is_made_and_nobody_elses_password_is_touched() {
    let Some(server) = server() else { return };
    let mut client = database(&server, "strange", TABLES).await;
    let made = login::prepare(&mut client).await.unwrap();
    let query = "SELECT login, password, active, share, company_id, clinic_role, notification_type, totp_secret, \
                 (SELECT lang FROM res_partner p WHERE p.id = partner_id), partner_id FROM res_users WHERE id = $1";
    let row = client.query_one(query, &[&made.id]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), made.login);
    assert_eq!(row.get::<_, String>(1), made.password.expose());
    assert_eq!((row.get::<_, bool>(2), row.get::<_, bool>(3), row.get::<_, i32>(4)), (true, false, 1));
    assert_eq!((row.get::<_, &str>(5), row.get::<_, &str>(6)), ("chief", "inbox"));
    assert_eq!((row.get::<_, Option<String>>(7), row.get::<_, &str>(8)), (None, "fr_FR"));
    assert_ne!(row.get::<_, i32>(9), 1, "a partner of its own");
    let user = made.id;
    for (query, expected) in [
        (format!("SELECT count(*) FROM res_groups_users_rel WHERE uid = {user} AND gid IN (1, 2, 3, 4)"), 4),
        (format!("SELECT count(*) FROM res_groups_users_rel WHERE uid = {user}"), 4),
        (format!("SELECT count(*) FROM res_company_users_rel WHERE user_id = {user}"), 2),
        ("SELECT count(*) FROM res_users WHERE login = 'admin' AND password = 'hash' AND totp_secret = 'ABC' AND NOT active".into(), 1),
        ("SELECT count(*) FROM ir_config_parameter WHERE key = 'auth_totp.policy'".into(), 0),
        ("SELECT count(*) FROM res_partner WHERE commercial_partner_id = id AND barcode IS NULL".into(), 1),
    ] {
        assert_eq!(number(&client, &query).await, expected, "{query}");
    }
    let other = login::prepare(&mut client).await.unwrap();
    assert!(other.id != made.id && other.login != made.login, "each drill has its own");
}
