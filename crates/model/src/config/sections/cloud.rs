//! `[repository.gcs]` and `[repository.azure]`: places that are used without locks.

use url::Url;

use crate::config::{
    checked::{AzureConfig, AzureSecret, GcsConfig},
    files::FileKind,
    source::{Result, Table, Value},
};

use super::repository::{address, prefix, required_secret};

pub(super) fn gcs(value: &Value<'_>) -> Result<GcsConfig> {
    let table = value.table()?;
    let endpoint = table.optional("endpoint", gcs_endpoint);
    let bucket = table.required("bucket", "add bucket = \"…\"", bucket);
    let prefix = table.optional("prefix", prefix);
    let service_account = required_secret(&table, "service_account");
    let ca_file = table.optional("ca_file", |value| value.path(FileKind::Readable));
    table.finish();
    Ok(GcsConfig {
        endpoint: endpoint?,
        bucket: bucket?,
        prefix: prefix?.unwrap_or_default(),
        service_account: service_account?,
        ca_file: ca_file?,
    })
}

pub(super) fn azure(value: &Value<'_>) -> Result<AzureConfig> {
    let table = value.table()?;
    let endpoint = table.optional("endpoint", |value| {
        address(value, "https://account.blob.core.windows.net", "access_key_file or sas_file")
    });
    let account = table.required("account", "add account = \"…\", the storage account's name", account);
    let container = table.required("container", "add container = \"…\"", container);
    let prefix = table.optional("prefix", prefix);
    let credential = azure_secret(&table);
    let ca_file = table.optional("ca_file", |value| value.path(FileKind::Readable));
    table.finish();
    Ok(AzureConfig {
        endpoint: endpoint?,
        account: account?,
        container: container?,
        prefix: prefix?.unwrap_or_default(),
        credential: credential?,
        ca_file: ca_file?,
    })
}

fn azure_secret(table: &Table<'_>) -> Result<AzureSecret> {
    let (key, sas) = (table.secret("access_key"), table.secret("sas"));
    match (key?, sas?) {
        (Some(key), None) => Ok(AzureSecret::AccessKey(key)),
        (None, Some(sas)) => Ok(AzureSecret::Sas(sas)),
        (Some(_), Some(_)) => Err(table.place.problem("access_key and sas are both set", "keep one of the two")),
        (None, None) => Err(table.missing(
            "sas_file",
            "add sas_file = \"…\" (mode 0600) or sas_env = \"…\", a shared access signature; or access_key_file or \
             access_key_env",
        )),
    }
}

fn gcs_endpoint(value: &Value<'_>) -> Result<Url> {
    let url = address(value, "https://storage.googleapis.com", "service_account_file")?;
    if url.path() != "/" {
        let hint = "write scheme, host and port alone; bucket and prefix have keys of their own";
        return Err(value.place.problem("holds more than the service's address", hint));
    }
    Ok(url)
}

/// Letters and digits at both ends; `inner` in between as well.
fn name(value: &Value<'_>, lengths: std::ops::RangeInclusive<usize>, inner: &str) -> Option<String> {
    let text = value.filled().ok()?;
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = text.chars().all(|c| edge(c) || inner.contains(c)) && text.starts_with(edge) && text.ends_with(edge);
    (fits && lengths.contains(&text.len())).then(|| text.to_owned())
}

fn bucket(value: &Value<'_>) -> Result<String> {
    let hint = "use 3 to 222 of a-z, 0-9, '-', '_' and '.', starting and ending with a letter or digit";
    name(value, 3..=222, "-_.").ok_or_else(|| value.place.problem("not a bucket name", hint))
}

fn account(value: &Value<'_>) -> Result<String> {
    let hint = "use 3 to 24 of a-z and 0-9, as it stands before \".blob.core.windows.net\"";
    name(value, 3..=24, "").ok_or_else(|| value.place.problem("not the name of a storage account", hint))
}

fn container(value: &Value<'_>) -> Result<String> {
    let hint = "use 3 to 63 of a-z, 0-9 and '-', starting and ending with a letter or digit";
    name(value, 3..=63, "-").ok_or_else(|| value.place.problem("not a container name", hint))
}
