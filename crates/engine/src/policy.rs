//! The digest of what policy says of an instance's recovery: when it changes, what was rehearsed before is no longer what
//! would be restored, and a drill that rests on it is stale.
//!
//! In it: the instance's own settings and its tier's, as far as they decide what is held, how long, how it is restored and
//! what it is measured against. Not in it: where the source listens and who logs in there, who answers for the instance,
//! the folders, caches and speeds of this host. The text that is digested is canonical: JSON without white space, members in the order
//! of their names, spans in milliseconds, sizes in bytes, `null` for what is not set. Version 1 of it begins with `"v":1`;
//! another choice of settings is another version, and makes what was drilled before it stale once.

use lifeboat_model::{
    config::{
        Config, ConfigCommand, ConfigSources, DrillConfig, InstanceConfig, PostgresConfig, Tier, TierDrill, WalConfig,
        WitnessConfig,
        checks::{OwnCheck, Question, Returned, Rows},
    },
    id::Sha256Digest,
    retention::{LockPolicy, RetentionPolicy},
    time::Span,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// SHA-256 of the canonical text; none where the configuration has no such tier, which the parser refuses.
pub fn digest(config: &Config, instance: &InstanceConfig) -> Option<Sha256Digest> {
    let text = canonical(&settings(instance, config.tier_of(instance)?)).to_string();
    Some(Sha256Digest(Sha256::digest(text).into()))
}

/// All parts are taken apart by name, so that the compiler asks whoever adds a setting whether recovery depends on it.
fn settings(instance: &InstanceConfig, tier: &Tier) -> Value {
    let InstanceConfig {
        tier: name,
        owner: _,
        data_class: _,
        postgres,
        filestore,
        config,
        drill,
        dump: _,
        dependencies: _,
    } = instance;
    json!({
        "v": 1,
        "tier": tier_settings(name.as_str(), tier),
        "postgres": postgres_settings(postgres),
        "filestore": filestore.as_ref().map(|filestore| path(&filestore.path)),
        "config": config.as_ref().map(config_settings),
        "drill": drill_settings(drill),
    })
}

fn tier_settings(name: &str, tier: &Tier) -> Value {
    let Tier { rpo, rto, lock, retention, drill: TierDrill { every, required } } = tier;
    json!({
        "name": name,
        "rpo": millis(*rpo),
        "rto": millis(*rto),
        "lock": lock.map(|LockPolicy { mode, minimum }| json!({"mode": mode.word(), "minimum": millis(minimum)})),
        "retention": retention.as_ref().map(retention_settings),
        "drill": {"every": every.map(millis), "required": required},
    })
}

fn retention_settings(retention: &RetentionPolicy) -> Value {
    let RetentionPolicy { time_zone, last, hourly, daily, weekly, monthly, yearly, pitr, drilled } = retention;
    json!({
        "time_zone": time_zone.name(), "last": last, "hourly": hourly, "daily": daily, "weekly": weekly,
        "monthly": monthly, "yearly": yearly, "pitr": pitr.map(millis), "drilled": drilled,
    })
}

fn postgres_settings(postgres: &PostgresConfig) -> Value {
    let PostgresConfig {
        host: _,
        port: _,
        user: _,
        password: _,
        tls: _,
        root_cert_file: _,
        databases,
        digests,
        wal: WalConfig { slot: _, max_lag, heartbeat },
        witness: WitnessConfig { sample_above, statement_timeout: _, parallel: _, duty_cycle: _, tries: _, standby: _ },
    } = postgres;
    json!({
        "databases": databases,
        "digests": digests,
        "wal": {"max_lag": millis(*max_lag), "heartbeat": heartbeat.map(millis)},
        "sample_above": sample_above.map(|size| size.0),
    })
}

fn config_settings(config: &ConfigSources) -> Value {
    let ConfigSources { paths, commands } = config;
    let command = |ConfigCommand { name, run, timeout: _ }: &ConfigCommand| json!({"name": name, "run": run});
    json!({
        "paths": paths.iter().map(|one| path(one)).collect::<Vec<_>>(),
        "commands": commands.iter().map(command).collect::<Vec<_>>(),
    })
}

fn drill_settings(drill: &DrillConfig) -> Value {
    let DrillConfig { postgres_image, odoo_image, addons, memory: _, timeout: _, required, checks } = drill;
    json!({
        "postgres_image": postgres_image,
        "odoo_image": odoo_image,
        "addons": addons.iter().map(|one| path(one)).collect::<Vec<_>>(),
        "required": required,
        "checks": checks.iter().map(own_check).collect::<Vec<_>>(),
    })
}

fn own_check(check: &OwnCheck) -> Value {
    let OwnCheck { id, purpose: _, database, timeout: _, required, question } = check;
    json!({
        "id": id, "database": database, "required": required,
        "question": asked(question),
    })
}

fn asked(question: &Question) -> Value {
    match question {
        Question::Sql { query, expect } => json!({"sql": query, "expect": match expect {
            Rows::Equal(rows) => json!({"equal": rows}),
            Rows::AtLeast(number) => json!({"at_least": number}),
        }}),
        Question::Rpc { model, method, arguments, keywords, expect } => json!({
            "model": model, "method": method, "arguments": arguments, "keywords": keywords,
            "expect": match expect {
                Returned::Equal(value) => json!({"equal": value}),
                Returned::AtLeast(number) => json!({"at_least": number}),
            },
        }),
        Question::Http { path, status, contains, logged_in } => {
            json!({"path": path, "status": status, "contains": contains, "logged_in": logged_in})
        }
        Question::Command { run, exit, contains } => json!({"run": run, "exit": exit, "contains": contains}),
    }
}

fn millis(span: Span) -> u64 {
    u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX)
}

fn path(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// With the members of every object in the order of their names, whatever the map underneath does.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            Value::Object(sorted.into_iter().map(|(name, value)| (name.clone(), canonical(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lifeboat_model::config::parse;

    use super::*;

    const TEXT: &str = r#"
tenant = "clinics"
[repository]
path = "backups"
[keys]
recovery_recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]
host_identity_file = "keys/host.age"
signing_key_file = "keys/signing"
trusted_keys = ["lifeboat-ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw="]
[tiers.gold]
rpo = "15m"
rto = "4h"
[instances.clinic]
tier = "gold"
owner = "Operations"
[instances.clinic.postgres]
host = "db.example.org"
user = "lifeboat"
databases = ["clinic"]
[instances.clinic.filestore]
path = "/srv/odoo/filestore"
[instances.clinic.drill]
postgres_image = "postgres:17"
odoo_image = "odoo:19"
"#;

    fn digest_of(text: &str) -> Sha256Digest {
        let (config, _) = parse(text, Path::new("/etc/lifeboat/lifeboat.toml")).unwrap();
        let (_, instance) = config.instance("clinic").unwrap();
        digest(&config, instance).unwrap()
    }

    fn changed(old: &str, new: &str) -> Sha256Digest {
        assert_eq!(TEXT.matches(old).count(), 1, "{old:?} must stand once");
        digest_of(&TEXT.replace(old, new))
    }

    #[test]
    fn what_recovery_rests_on_changes_the_digest() {
        let before = digest_of(TEXT);
        for (old, new) in [
            ("\"4h\"", "\"5h\""),
            ("\"15m\"", "\"30m\""),
            ("\"odoo:19\"", "\"odoo:18\""),
            ("[\"clinic\"]", "[\"clinic\", \"more\"]"),
            ("/srv/odoo/filestore", "/srv/other/filestore"),
        ] {
            assert_ne!(changed(old, new), before, "{old} is {new}");
        }
    }

    #[test]
    fn where_the_source_listens_does_not() {
        let before = digest_of(TEXT);
        for (old, new) in [
            ("db.example.org", "db2.example.org"),
            ("\"lifeboat\"", "\"backup\""),
            ("\"Operations\"", "\"Somebody else\""),
            ("\"4h\"", "\"240m\""),
            ("tenant = \"clinics\"\n", "# a remark\ntenant = \"clinics\"\n"),
        ] {
            assert_eq!(changed(old, new), before, "{old} is {new}");
        }
    }

    /// The text of version 1 is for ever: evidence holds its digest.
    #[test]
    fn the_text_is_canonical() {
        let (config, _) = parse(TEXT, Path::new("/etc/lifeboat/lifeboat.toml")).unwrap();
        let (_, instance) = config.instance("clinic").unwrap();
        let text = canonical(&settings(instance, config.tier_of(instance).unwrap())).to_string();
        let expected = concat!(
            r#"{"config":null,"drill":{"addons":[],"checks":[],"odoo_image":"odoo:19","postgres_image":"postgres:17","required":[]},"#,
            r#""filestore":"/srv/odoo/filestore","postgres":{"databases":["clinic"],"digests":true,"sample_above":null,"#,
            r#""wal":{"heartbeat":5000,"max_lag":2000}},"tier":{"drill":{"every":null,"required":[]},"lock":null,"name":"gold","#,
            r#""retention":null,"rpo":900000,"rto":14400000},"v":1}"#,
        );
        assert_eq!(text, expected);
    }
}
