//! `daemon.toml`, as people write it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use lifeboat_model::{
    config::{
        FileCheck, FileKind, LimitsConfig, Problem, SecretSource, Warning,
        reading::{self, Place, Reported, Result, Spot, Table, Value, is_loopback, is_url_with_login, nearest},
    },
    id::{Tenant, TierName},
    size::ByteRate,
};
use url::Url;

use super::{Budget, Grant, GroupGrant, Notify, Oidc, Role, Settings, Tenants, Tls, notify};

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7420);
const DEFAULT_LOOK_EVERY: Duration = Duration::from_secs(5 * 60);
/// Told within a minute, also where somebody takes eight seconds not to answer.
const DEFAULT_PROBE_EVERY: Duration = Duration::from_secs(25);
/// Short runs end within it; a service manager waits longer than this before it kills.
const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(20);

/// The file, before the configurations are known that it names.
#[derive(Debug)]
pub(crate) struct Draft {
    /// With an empty `state_dir` where none is named.
    pub(crate) settings: Settings,
    pub(crate) tenants: Vec<TenantFiles>,
    /// Names that only the tenants' configurations know, and where they stand.
    pub(crate) names: Vec<(Named, Spot)>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) files: Vec<FileCheck>,
}

impl Draft {
    /// Of one tenant, without a file.
    pub(crate) fn plain(settings: Settings, tenant: TenantFiles) -> Draft {
        Draft { settings, tenants: vec![tenant], names: Vec::new(), warnings: Vec::new(), files: Vec::new() }
    }
}

/// Where a tenant's policies are.
#[derive(Debug, Clone)]
pub(crate) struct TenantFiles {
    pub(crate) config: PathBuf,
    pub(crate) schedules: Option<PathBuf>,
    pub(crate) at: Spot,
}

/// A name that somebody else gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    Tenant(String),
    Instance(String),
    Tier(String),
}

/// Without a file: defaults, with the folder that files without a path of their own are put in.
pub(crate) fn defaults(folder: &Path) -> Settings {
    Settings {
        listen: DEFAULT_LISTEN,
        public_url: None,
        tls: None,
        state_dir: PathBuf::new(),
        tokens_file: folder.join("tokens.toml"),
        oidc: None,
        budget: Budget::default(),
        notify: Notify::default(),
        look_every: DEFAULT_LOOK_EVERY,
        probe_every: DEFAULT_PROBE_EVERY,
        stop_grace: DEFAULT_STOP_GRACE,
    }
}

pub(crate) fn read(text: &str, file: &Path) -> std::result::Result<Draft, Vec<Problem>> {
    let found = reading::document(text, file, whole)?;
    let (settings, tenants, names) = found.value;
    Ok(Draft { settings, tenants, names, warnings: found.warnings, files: found.files })
}

type Whole = (Settings, Vec<TenantFiles>, Vec<(Named, Spot)>);

fn whole(table: &Table<'_>) -> Result<Whole> {
    let default = defaults(&table.place.source.resolve(""));
    let mut names = Vec::new();
    let listen = table.optional("listen", |value| {
        let text = value.filled()?;
        let hint = "write address and port: \"127.0.0.1:7420\", or \"[::1]:7420\"";
        text.parse::<SocketAddr>().map_err(|_| value.place.problem("not an address to listen on", hint))
    });
    let public_url = table.optional("public_url", public_url);
    let tls = table.optional("tls", tls);
    let state_dir = table.optional("state_dir", |value| value.path(FileKind::Created));
    let tokens_file = table.optional("tokens_file", |value| Ok(table.place.source.resolve(value.filled()?)));
    let look_every = table.optional("look_every", |value| value.span("10s", "1h"));
    let probe_every = table.optional("probe_every", |value| value.span("1s", "45s"));
    let stop_grace = table.optional("stop_grace", |value| value.span("1s", "1h"));
    let budget = table.optional("budget", |value| budget(value, &mut names));
    let oidc = table.optional("oidc", |value| oidc(value, &mut names));
    let notify = table.optional("notify", |value| notify::read(value, &mut names));
    let tenants = table.optional("tenant", tenants);
    table.finish();
    let (tls, public_url, oidc) = (tls?, public_url?, oidc?);
    let listen = listen?.unwrap_or(default.listen);
    let spot = |name: &str| table.get_hidden(name).map_or_else(|| table.place.clone(), |value| value.place);
    if tls.is_none() && !listen.ip().is_loopback() {
        let hint =
            "add [tls] with cert_file and key_file, or listen on 127.0.0.1 behind a proxy that has a certificate";
        return Err(spot("listen").problem("tokens and sessions would travel in plain text to other hosts", hint));
    }
    if oidc.is_some() && public_url.is_none() {
        let hint = "add public_url = \"https://…\": the provider sends people back to it";
        return Err(spot("oidc").problem("sign-in needs public_url", hint));
    }
    let settings = Settings {
        listen,
        public_url,
        tls,
        state_dir: state_dir?.unwrap_or_default(),
        tokens_file: tokens_file?.unwrap_or(default.tokens_file),
        oidc,
        budget: budget?.unwrap_or_default(),
        notify: notify?.unwrap_or_default(),
        look_every: look_every?.map_or(default.look_every, |span| span.0),
        probe_every: probe_every?.map_or(default.probe_every, |span| span.0),
        stop_grace: stop_grace?.map_or(default.stop_grace, |span| span.0),
    };
    Ok((settings, tenants?.unwrap_or_default(), names))
}

fn tenants(value: &Value<'_>) -> Result<Vec<TenantFiles>> {
    if !value.is_list() {
        return Err(value.wrong_type("a list of sections", "write [[tenant]], once for each"));
    }
    let read = |item: &Value<'_>| {
        let table = item.table()?;
        let path = |value: &Value<'_>| Ok(value.place.source.resolve(value.filled()?));
        let config = table.required("config", "add config = \"…/lifeboat.toml\"", path);
        let schedules = table.optional("schedules", |value| value.path(FileKind::Directory));
        table.finish();
        Ok(TenantFiles { config: config?, schedules: schedules?, at: item.place.spot() })
    };
    let read: Vec<Result<TenantFiles>> = value.list()?.iter().map(read).collect();
    read.into_iter().collect()
}

fn tls(value: &Value<'_>) -> Result<Tls> {
    let table = value.table()?;
    let cert =
        table.required("cert_file", "add cert_file = \"…\", a PEM file", |value| value.path(FileKind::Readable));
    let key = table.required("key_file", "add key_file = \"…\", a PEM file with mode 0600", |value| {
        value.path(FileKind::Secret)
    });
    table.finish();
    Ok(Tls { cert_file: cert?, key_file: key? })
}

fn budget(value: &Value<'_>, names: &mut Vec<(Named, Spot)>) -> Result<Budget> {
    let table = value.table()?;
    let default = Budget::default();
    let number = |name: &str, least, most| {
        let number = table.optional(name, |value| value.whole(least, most));
        number.map(|number| number.and_then(|number| usize::try_from(number).ok()))
    };
    let (runs, drills, backups) = (number("runs", 1, 256), number("drills", 0, 256), number("backups", 0, 256));
    let nice = number("nice", 0, 19);
    let rate = |name: &str| table.optional(name, |value| value.rate(LimitsConfig::LEAST, LimitsConfig::MOST));
    let (upload, download) = (rate("upload"), rate("download"));
    let priority = table.optional("priority", |value| {
        remember(value, Named::Tier, names)?;
        value.list_of(Value::parse::<TierName>)
    });
    table.finish();
    let runs = runs?.unwrap_or(default.runs);
    // Fewer runs than the default of a part: the part shrinks with them.
    let part = |name: &str, part: Option<usize>, default: usize| match part {
        Some(part) if part > runs => {
            let place = table.get_hidden(name).map_or_else(|| table.place.clone(), |value| value.place);
            Err(place.problem(format!("is more than all runs together, {runs}"), "lower it, or raise runs"))
        }
        part => Ok(part.unwrap_or(default.min(runs))),
    };
    let line = LimitsConfig { upload: upload?, download: download? };
    let (drills, backups) = (part("drills", drills?, default.drills), part("backups", backups?, default.backups));
    let nice = nice?.and_then(|nice| u8::try_from(nice).ok()).unwrap_or(default.nice);
    let priority = priority?.unwrap_or_default();
    let budget = Budget { runs, drills: drills?, backups: backups?, nice, priority, line };
    // Beside streams or not: a schedule that comes later must not make the settings wrong.
    let share = budget.share(true);
    for (name, share) in [("upload", share.upload), ("download", share.download)] {
        if share.is_some_and(|share| LimitsConfig::LEAST.parse().is_ok_and(|least: ByteRate| share < least)) {
            let place = table.get_hidden(name).map_or_else(|| table.place.clone(), |value| value.place);
            let message = format!("leaves less than {} for each of {runs} runs beside streams", LimitsConfig::LEAST);
            return Err(place.problem(message, "raise it, or lower runs"));
        }
    }
    Ok(budget)
}

fn oidc(value: &Value<'_>, names: &mut Vec<(Named, Spot)>) -> Result<Oidc> {
    let table = value.table()?;
    let text = |value: &Value<'_>| value.filled().map(str::to_owned);
    let issuer = table.required("issuer", "add issuer = \"https://…\"", |value| address(value, true));
    let ca_file = table.optional("ca_file", |value| value.path(FileKind::Readable));
    let client_id = table.required("client_id", "add client_id, as the provider knows this daemon", text);
    let client_secret = table.secret("client_secret");
    let audience = table.optional("audience", text);
    let groups_claim = table.optional("groups_claim", text);
    let grants = table.required("grant", "add [[oidc.grant]] with group, role and tenants", |value| {
        let read: Vec<Result<GroupGrant>> = value.list()?.iter().map(|item| group_grant(item, names)).collect();
        read.into_iter().collect::<Result<Vec<_>>>()
    });
    table.finish();
    Ok(Oidc {
        issuer: issuer?,
        ca_file: ca_file?,
        client_id: client_id?,
        client_secret: client_secret?,
        audience: audience?,
        groups_claim: groups_claim?.unwrap_or_else(|| "groups".to_owned()),
        grants: grants?,
    })
}

fn group_grant(value: &Value<'_>, names: &mut Vec<(Named, Spot)>) -> Result<GroupGrant> {
    let table = value.table()?;
    let group = table
        .required("group", "add group = \"…\", as the provider names it", |value| value.filled().map(str::to_owned));
    let role = table.required("role", "add role = \"viewer\"; or operator, approver, auditor", role);
    let tenants =
        table.required("tenants", "add tenants = [\"…\"], or \"*\" for all", |value| tenants_of(value, names));
    table.finish();
    Ok(GroupGrant { group: group?, grant: Grant { role: role?, tenants: tenants? } })
}

fn role(value: &Value<'_>) -> Result<Role> {
    let text = value.filled()?;
    Role::ALL.into_iter().find(|role| role.word() == text).ok_or_else(|| {
        let words = Role::ALL.map(Role::word);
        let hint = match nearest(text, words.into_iter()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("use one of: {}", words.join(", ")),
        };
        value.place.problem("not a role", hint)
    })
}

fn tenants_of(value: &Value<'_>, names: &mut Vec<(Named, Spot)>) -> Result<Tenants> {
    if value.is_text() {
        return match value.filled()? {
            "*" => Ok(Tenants::All),
            _ => Err(value.place.problem("not a list of tenants", "write [\"…\"], or \"*\" for all")),
        };
    }
    remember(value, Named::Tenant, names)?;
    let tenants = value.filled_list_of("name at least one tenant, or write \"*\" for all", Value::parse::<Tenant>);
    Ok(Tenants::Some(tenants?.into_iter().collect()))
}

/// Remembers the names in a list, to be looked up when those are known who give them.
pub(super) fn remember(value: &Value<'_>, of: fn(String) -> Named, names: &mut Vec<(Named, Spot)>) -> Result<()> {
    for item in value.list()? {
        names.push((of(item.filled()?.to_owned()), item.place.spot()));
    }
    Ok(())
}

/// Scheme, host and port, and perhaps a path: pages are put below it.
fn public_url(value: &Value<'_>) -> Result<Url> {
    let url = address(value, false)?;
    if url.scheme() == "http" && !is_loopback(&url) {
        value.place.warn("people would sign in over plain text", "use https");
    }
    Ok(url)
}

/// An http or https URL without a login, a query or a fragment; `guarded`: https unless it is this host.
pub(super) fn address(value: &Value<'_>, guarded: bool) -> Result<Url> {
    let text = value.filled()?;
    if is_url_with_login(text) {
        let hint = "remove it; change the password if others have seen this file";
        return Err(value.place.problem("holds a user name or password", hint));
    }
    let wrong = || value.place.problem("not an http or https URL", "write it like \"https://lifeboat.example.org\"");
    let url = Url::parse(text).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wrong());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(value.place.problem("holds more than an address", "remove what stands behind ? or #"));
    }
    if guarded && url.scheme() == "http" && !is_loopback(&url) {
        return Err(value.place.problem("goes to another host in plain text", "use https"));
    }
    Ok(url)
}

/// A secret that must be there.
pub(super) fn required_secret(table: &Table<'_>, name: &str) -> Result<SecretSource> {
    let hint = format!("add {name}_file = \"…\" (mode 0600) or {name}_env = \"…\"");
    table.secret(name)?.ok_or_else(|| table.missing(&format!("{name}_file"), &hint))
}

/// One of some words, with what each means.
pub(super) fn one_of<T: Copy>(value: &Value<'_>, what: &str, known: &[(&str, T)]) -> Result<T> {
    let text = value.filled()?;
    if let Some((_, found)) = known.iter().find(|(word, _)| *word == text) {
        return Ok(*found);
    }
    Err(unknown_word(&value.place, what, text, &known.iter().map(|(word, _)| *word).collect::<Vec<_>>()))
}

pub(super) fn unknown_word(place: &Place<'_>, what: &str, text: &str, known: &[&str]) -> Reported {
    let hint = match nearest(text, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("use one of: {}", known.join(", ")),
    };
    place.problem(format!("not {what}"), hint)
}
