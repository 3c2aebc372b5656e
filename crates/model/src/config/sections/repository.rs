//! `[repository]`: a folder, or a bucket.

use url::{Host, Url};

use crate::config::{
    checked::{RepositoryConfig, S3Config, SecretSource},
    files::FileKind,
    source::{Result, Table, Value},
    value::is_url_with_login,
};

/// What S3-compatible services expect in a signature when they know no regions.
const DEFAULT_REGION: &str = "us-east-1";

pub(super) fn read(value: &Value<'_>) -> Result<RepositoryConfig> {
    let table = value.table()?;
    let path = table.optional("path", |value| value.path(FileKind::Created));
    let s3 = table.optional("s3", s3);
    table.finish();
    match (path?, s3?) {
        (Some(path), None) => Ok(RepositoryConfig::Local { path }),
        (None, Some(s3)) => Ok(RepositoryConfig::S3(s3)),
        (Some(_), Some(_)) => Err(table.place.problem("path and s3 are both set", "keep one of the two")),
        (None, None) => {
            Err(table.place.problem("names no place", "add path = \"/srv/lifeboat\" or a [repository.s3] section"))
        }
    }
}

fn s3(value: &Value<'_>) -> Result<S3Config> {
    let table = value.table()?;
    let endpoint = table.optional("endpoint", endpoint);
    let bucket = table.required("bucket", "add bucket = \"…\"", bucket);
    let prefix = table.optional("prefix", prefix);
    let region = table.optional("region", |value| value.filled().map(str::to_owned));
    let access_key = required_secret(&table, "access_key");
    let secret_key = required_secret(&table, "secret_key");
    let ca_file = table.optional("ca_file", |value| value.path(FileKind::Readable));
    let path_style = table.optional("path_style", Value::flag);
    table.finish();
    let endpoint = endpoint?;
    let region = match (region?, &endpoint) {
        (Some(region), _) => region,
        (None, Some(_)) => DEFAULT_REGION.to_owned(),
        (None, None) => {
            return Err(table.missing("region", "add region = \"eu-central-1\", or the endpoint of another service"));
        }
    };
    Ok(S3Config {
        // Few services besides AWS have a certificate and a DNS name for every bucket.
        path_style: path_style?.unwrap_or(endpoint.is_some()),
        endpoint,
        bucket: bucket?,
        prefix: prefix?.unwrap_or_default(),
        region,
        access_key: access_key?,
        secret_key: secret_key?,
        ca_file: ca_file?,
    })
}

fn required_secret(table: &Table<'_>, name: &str) -> Result<SecretSource> {
    let hint = format!("add {name}_file = \"…\" (mode 0600) or {name}_env = \"…\"");
    table.secret(name)?.ok_or_else(|| table.missing(&format!("{name}_file"), &hint))
}

fn endpoint(value: &Value<'_>) -> Result<Url> {
    let text = value.filled()?;
    if is_url_with_login(text) {
        let hint = "use access_key_file and secret_key_file; change the secret if others have seen this file";
        return Err(value.place.problem("holds a user name or password", hint));
    }
    let example = "write it like \"https://s3.example.org\"";
    let url = Url::parse(text).map_err(|_| value.place.problem("not a URL", example))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(value.place.problem("not an http or https URL", example));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        let hint = "write scheme, host and port alone; bucket and prefix have keys of their own";
        return Err(value.place.problem("holds more than the service's address", hint));
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        value.place.warn(
            "requests and their headers travel in plain text to another host",
            "use https, with ca_file if its certificate is from your own authority",
        );
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn bucket(value: &Value<'_>) -> Result<String> {
    let text = value.filled()?;
    let edges = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inner = |c: char| edges(c) || c == '-' || c == '.';
    if (3..=63).contains(&text.len()) && text.chars().all(inner) && text.starts_with(edges) && text.ends_with(edges) {
        return Ok(text.to_owned());
    }
    Err(value.place.problem(
        "not a bucket name",
        "use 3 to 63 of a-z, 0-9, '-' and '.', starting and ending with a letter or digit",
    ))
}

/// Without `/` at the beginning and with one at the end, or empty.
fn prefix(value: &Value<'_>) -> Result<String> {
    let text = value.text()?.trim_matches('/');
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let safe = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    match text {
        "" => Ok(String::new()),
        text if text.split('/').all(plain) && text.chars().all(safe) => Ok(format!("{text}/")),
        _ => Err(value
            .place
            .problem("not a usable prefix", "use letters, digits, '-', '_', '.' and single '/' between names")),
    }
}
