//! `[repository]`: a folder, or a bucket; or `[[repository]]`, a section for the primary and one for each copy.

use url::Url;

use crate::{
    config::{
        checked::{AzureConfig, Config, CopyConfig, CopyLock, RepositoryConfig, S3Config, SecretSource},
        files::FileKind,
        source::{Place, Result, Table, Value},
        value::{is_loopback, is_url_with_login},
    },
    id::TierName,
    price::Price,
};

use super::{cloud, tiers};

/// A price list's GB is a GiB with most services, and bytes are counted in GiB here.
const PRICE: &str = "price_per_gb_month";

/// What S3-compatible services expect in a signature when they know no regions.
const DEFAULT_REGION: &str = "us-east-1";

pub(super) struct Repositories {
    pub(super) name: String,
    pub(super) price: Option<Price>,
    pub(super) primary: RepositoryConfig,
    pub(super) copies: Vec<CopyConfig>,
}

/// One section, or one for each with name and role.
pub(super) fn read(value: &Value<'_>) -> Result<Repositories> {
    if !value.is_list() {
        let table = value.table()?;
        let name = table.optional("name", name);
        let price = table.optional(PRICE, Value::parse);
        let primary = place(&table);
        let name = name?.unwrap_or_else(|| Config::PRIMARY.to_owned());
        return Ok(Repositories { name, price: price?, primary: primary?, copies: Vec::new() });
    }
    let entries: Vec<(Place<'_>, Result<Entry>)> =
        value.list()?.iter().map(|value| (value.place.clone(), entry(value))).collect();
    let mut read = Vec::new();
    let mut failed = None;
    for (place, entry) in entries {
        match entry {
            Ok(entry) => read.push((place, entry)),
            Err(reported) => failed = Some(reported),
        }
    }
    match failed {
        Some(reported) => Err(reported),
        None => together(value, read),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Primary,
    Copy,
}

struct Entry {
    role: Role,
    price: Option<Price>,
    copy: CopyConfig,
}

fn entry(value: &Value<'_>) -> Result<Entry> {
    let table = value.table()?;
    let name = table.required("name", "add name = \"…\", what commands and reports call this repository", name);
    let role = table.required("role", "add role = \"primary\" or role = \"copy\"", role);
    let lock = table.optional("lock", copy_lock);
    let price = table.optional(PRICE, Value::parse);
    let repository = place(&table);
    let (role, lock, price) = (role?, lock?, price?);
    if let (Role::Copy, Some(value)) = (role, table.get(PRICE)) {
        let hint = "give it to the primary: what is stored there is what is counted";
        return Err(value.place.problem("the cost of a copy is not told", hint));
    }
    if let (Role::Primary, Some(_), Some(value)) = (role, lock, table.get("lock")) {
        return Err(value
            .place
            .problem("the primary is locked as each tier says", "remove it, and see [tiers.<name>.lock]"));
    }
    Ok(Entry { role, price, copy: CopyConfig { name: name?, repository: repository?, lock } })
}

/// Exactly one primary, and no two with the same name or place.
fn together(value: &Value<'_>, entries: Vec<(Place<'_>, Entry)>) -> Result<Repositories> {
    let mut failed = None;
    for (index, (place, entry)) in entries.iter().enumerate() {
        let before = || entries[..index].iter().map(|(_, entry)| entry);
        if before().any(|other| other.copy.name == entry.copy.name) {
            failed = Some(place.problem("another repository has the same name", "give each a name of its own"));
        }
        if let Some(other) = before().find(|other| same_place(&other.copy.repository, &entry.copy.repository)) {
            let message = format!("lies in the same place as \"{}\"", other.copy.name);
            failed = Some(place.problem(message, "a copy that goes with the original is none: use another place"));
        }
        if entry.role == Role::Primary && before().any(|other| other.role == Role::Primary) {
            failed =
                Some(place.problem("there is a primary already", "backups go to one repository: make this a copy"));
        }
    }
    let price = entries.iter().find_map(|(_, entry)| entry.price.clone());
    let (primary, copies): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().map(|(_, entry)| entry).partition(|entry| entry.role == Role::Primary);
    match (failed, primary.into_iter().next()) {
        (Some(reported), _) => Err(reported),
        (None, None) => Err(value
            .place
            .problem("none of them is the primary", "give the one that backups go to role = \"primary\"")),
        (None, Some(primary)) => Ok(Repositories {
            name: primary.copy.name,
            price,
            primary: primary.copy.repository,
            copies: copies.into_iter().map(|entry| entry.copy).collect(),
        }),
    }
}

fn same_place(one: &RepositoryConfig, other: &RepositoryConfig) -> bool {
    match (one, other) {
        (RepositoryConfig::Local { path: one }, RepositoryConfig::Local { path: other }) => {
            one.starts_with(other) || other.starts_with(one)
        }
        (RepositoryConfig::S3(one), RepositoryConfig::S3(other)) => {
            let nested = one.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&one.prefix);
            let service = |s3: &S3Config| (s3.endpoint.clone(), s3.endpoint.is_none().then(|| s3.region.clone()));
            service(one) == service(other) && one.bucket == other.bucket && nested
        }
        (RepositoryConfig::Gcs(one), RepositoryConfig::Gcs(other)) => {
            let nested = one.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&one.prefix);
            one.endpoint == other.endpoint && one.bucket == other.bucket && nested
        }
        (RepositoryConfig::Azure(one), RepositoryConfig::Azure(other)) => {
            let nested = one.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&one.prefix);
            let container =
                |azure: &AzureConfig| (azure.endpoint.clone(), azure.account.clone(), azure.container.clone());
            container(one) == container(other) && nested
        }
        _ => false,
    }
}

fn place(table: &Table<'_>) -> Result<RepositoryConfig> {
    let path = table.optional("path", |value| value.path(FileKind::Created));
    let s3 = table.optional("s3", s3);
    let gcs = table.optional("gcs", cloud::gcs);
    let azure = table.optional("azure", cloud::azure);
    table.finish();
    let places = [
        path?.map(|path| ("path", RepositoryConfig::Local { path })),
        s3?.map(|s3| ("s3", RepositoryConfig::S3(s3))),
        gcs?.map(|gcs| ("gcs", RepositoryConfig::Gcs(gcs))),
        azure?.map(|azure| ("azure", RepositoryConfig::Azure(azure))),
    ];
    let mut places = places.into_iter().flatten();
    match (places.next(), places.next()) {
        (Some((_, place)), None) => Ok(place),
        (Some((one, _)), Some((other, _))) => {
            Err(table.place.problem(format!("{one} and {other} are both set"), "keep one of the two"))
        }
        (None, _) => {
            Err(table.place.problem("names no place", "add path = \"/srv/lifeboat\" or a [repository.s3] section"))
        }
    }
}

fn name(value: &Value<'_>) -> Result<String> {
    let text = value.filled()?;
    let checked = text.parse::<TierName>(); // the same form as all names that people choose
    checked.map(|name| name.to_string()).map_err(|error| value.place.problem(error.to_string(), ""))
}

fn role(value: &Value<'_>) -> Result<Role> {
    match value.filled()? {
        "primary" => Ok(Role::Primary),
        "copy" => Ok(Role::Copy),
        _ => Err(value.place.problem("not a role", "use \"primary\" (backups go there) or \"copy\"")),
    }
}

fn copy_lock(value: &Value<'_>) -> Result<CopyLock> {
    match value.filled()? {
        "none" => Ok(CopyLock::None),
        _ => tiers::lock_mode(value).map(CopyLock::Mode),
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

pub(super) fn required_secret(table: &Table<'_>, name: &str) -> Result<SecretSource> {
    let hint = format!("add {name}_file = \"…\" (mode 0600) or {name}_env = \"…\"");
    table.secret(name)?.ok_or_else(|| table.missing(&format!("{name}_file"), &hint))
}

fn endpoint(value: &Value<'_>) -> Result<Url> {
    let url = address(value, "https://s3.example.org", "access_key_file and secret_key_file")?;
    if url.path() != "/" {
        let hint = "write scheme, host and port alone; bucket and prefix have keys of their own";
        return Err(value.place.problem("holds more than the service's address", hint));
    }
    Ok(url)
}

/// A service's address, perhaps with a path; a login in it is refused, with the keys that one is named by.
pub(super) fn address(value: &Value<'_>, example: &str, login: &str) -> Result<Url> {
    let text = value.filled()?;
    if is_url_with_login(text) {
        let hint = format!("use {login}; change the secret if others have seen this file");
        return Err(value.place.problem("holds a user name or password", hint));
    }
    let example = format!("write it like \"{example}\"");
    let url = Url::parse(text).map_err(|_| value.place.problem("not a URL", &example))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(value.place.problem("not an http or https URL", example));
    }
    if url.query().is_some() || url.fragment().is_some() {
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
pub(super) fn prefix(value: &Value<'_>) -> Result<String> {
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
