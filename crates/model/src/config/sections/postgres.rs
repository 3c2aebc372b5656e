//! `[instances.<name>.postgres]`: how to reach the cluster.

use std::net::IpAddr;

use crate::config::{
    checked::{PostgresConfig, StandbyConfig, TlsMode, WalConfig, WitnessConfig},
    files::FileKind,
    nearest::nearest,
    source::{Result, Value},
};

/// Where PostgreSQL listens unless it is told otherwise.
const DEFAULT_PORT: u16 = 5432;
/// PostgreSQL cuts longer names (NAMEDATALEN).
const LONGEST_NAME: usize = 63;

pub(super) fn read(value: &Value<'_>) -> Result<PostgresConfig> {
    let table = value.table()?;
    let host = table.required("host", "add host = \"…\"", host);
    let port = table.optional("port", port);
    let user = table.required("user", "add user = \"…\", a role with REPLICATION and pg_read_all_data", |value| {
        value.filled().map(str::to_owned)
    });
    let password = table.secret("password");
    let tls = table.optional("tls", tls);
    let root_cert_file = table.optional("root_cert_file", |value| value.path(FileKind::Readable));
    let databases =
        table.required("databases", "add databases = [\"…\"] with the names of the Odoo databases", |value| {
            value.filled_list_of("name the Odoo databases", database)
        });
    let digests = table.optional("digests", Value::flag);
    let wal = table.optional("wal", wal);
    let witness = table.optional("witness", witness);
    table.finish();
    let postgres = PostgresConfig {
        host: host?,
        port: port?.unwrap_or(DEFAULT_PORT),
        user: user?,
        password: password?,
        // The default is the only mode in which nobody can stand in between.
        tls: tls?.unwrap_or_default(),
        root_cert_file: root_cert_file?,
        databases: databases?,
        // A backup whose tables cannot be compared after a restore proves less: off is a choice for very large sources.
        digests: digests?.unwrap_or(true),
        wal: wal?.unwrap_or_default(),
        witness: witness?.unwrap_or_default(),
    };
    let place = table.get("tls").map_or_else(|| table.place.clone(), |value| value.place);
    if !is_loopback(&postgres.host) {
        match postgres.tls {
            TlsMode::Disable => place.warn(
                "the whole database travels in plain text to this host",
                "use tls = \"verify-full\" with root_cert_file",
            ),
            TlsMode::Require => place.warn(
                "encrypted, but to whoever answers: the server's certificate is not checked",
                "use tls = \"verify-full\" with root_cert_file",
            ),
            TlsMode::VerifyCa | TlsMode::VerifyFull => {}
        }
    }
    Ok(postgres)
}

fn wal(value: &Value<'_>) -> Result<WalConfig> {
    let table = value.table()?;
    let slot = table.optional("slot", slot);
    let max_lag = table.optional("max_lag", |value| value.span("100ms", "1h"));
    let heartbeat = table.optional("heartbeat", |value| match value.text() {
        Ok("off") => Ok(None),
        _ => value.span("500ms", "1h").map(Some),
    });
    table.finish();
    let default = WalConfig::default();
    Ok(WalConfig {
        slot: slot?,
        max_lag: max_lag?.unwrap_or(default.max_lag),
        heartbeat: heartbeat?.unwrap_or(default.heartbeat),
    })
}

fn slot(value: &Value<'_>) -> Result<String> {
    let text = value.filled()?;
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    if text.len() <= LONGEST_NAME && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(value.place.problem("not the name of a replication slot", "use 1 to 63 of a-z, 0-9 and _"))
}

fn witness(value: &Value<'_>) -> Result<WitnessConfig> {
    let table = value.table()?;
    let statement_timeout = table.optional("statement_timeout", |value| value.span("1s", "1d"));
    let parallel = table.optional("parallel", |value| value.whole(1, 16));
    let duty_cycle = table.optional("duty_cycle", |value| value.whole(1, 100));
    let sample_above = table.optional("sample_above", |value| value.size("16 MiB", "1024 TiB"));
    let tries = table.optional("tries", |value| value.whole(1, 100));
    let standby = table.optional("standby", standby);
    table.finish();
    let default = WitnessConfig::default();
    // The ranges fit the types.
    Ok(WitnessConfig {
        statement_timeout: statement_timeout?.unwrap_or(default.statement_timeout),
        parallel: parallel?.and_then(|number| usize::try_from(number).ok()).unwrap_or(default.parallel),
        duty_cycle: duty_cycle?.and_then(|number| u8::try_from(number).ok()).unwrap_or(default.duty_cycle),
        sample_above: sample_above?,
        tries: tries?.and_then(|number| u32::try_from(number).ok()).unwrap_or(default.tries),
        standby: standby?,
    })
}

fn standby(value: &Value<'_>) -> Result<StandbyConfig> {
    let table = value.table()?;
    let host = table.required("host", "add host = \"…\", the standby's address", host);
    let port = table.optional("port", port);
    table.finish();
    Ok(StandbyConfig { host: host?, port: port?.unwrap_or(DEFAULT_PORT) })
}

fn host(value: &Value<'_>) -> Result<String> {
    let text = value.filled()?;
    let problem = |message, hint| Err(value.place.problem(message, hint));
    if text.contains("://") || text.contains('@') || text.contains('=') {
        return problem(
            "holds more than a host",
            "write the host name or address alone; user, port and databases have keys of their own",
        );
    }
    if text.contains('/') {
        return problem("is a path", "write a host name or address; connections go over TCP");
    }
    if text.contains(char::is_whitespace) || text.contains(',') {
        return problem("is not one host", "write one host name or address");
    }
    if text.contains(':') && text.parse::<IpAddr>().is_err() {
        return problem(
            "is not a host name or address",
            "write the port in port = …, and an IPv6 address without brackets",
        );
    }
    Ok(text.to_owned())
}

fn port(value: &Value<'_>) -> Result<u16> {
    // The range fits the type.
    Ok(u16::try_from(value.whole(1, 65535)?).unwrap_or(DEFAULT_PORT))
}

fn tls(value: &Value<'_>) -> Result<TlsMode> {
    let text = value.filled()?;
    let words = TlsMode::ALL.map(TlsMode::word);
    let known = || format!("use one of: {}", words.join(", "));
    let hint = || nearest(text, words.into_iter()).map_or_else(known, |near| format!("did you mean \"{near}\"?"));
    TlsMode::ALL.into_iter().find(|mode| mode.word() == text).ok_or_else(|| value.place.problem("no such mode", hint()))
}

/// A name that is also the name of a folder in the filestore.
fn database(value: &Value<'_>) -> Result<String> {
    let text = value.filled()?;
    if text.len() > LONGEST_NAME || text.starts_with('.') || text.contains('/') {
        let hint = "write the name as `psql -l` shows it: at most 63 bytes, without '/' and not starting with '.'";
        return Err(value.place.problem("not the name of an Odoo database", hint));
    }
    Ok(text.to_owned())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
