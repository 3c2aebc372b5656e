//! `[notify]`: ways to people, what goes where, and who raises the alarm when the daemon itself is gone.

use lifeboat_model::{
    config::{
        FileKind,
        reading::{Result, Spot, Table, Value, nearest},
    },
    id::{Instance, Tenant, TierName},
};
use url::Url;

use super::{
    Channel, ChannelKind, DeadMan, Mail, MailTls, Notify, Route, Severity,
    read::{Named, address, one_of, remember, required_secret, unknown_word},
};

/// Where PagerDuty takes events (Events API v2).
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";
const DEFAULT_HOURLY: u32 = 30;

const KINDS: [&str; 4] = ["webhook", "slack", "pagerduty", "mail"];
const TLS: [(&str, MailTls); 3] = [("tls", MailTls::Wrapper), ("starttls", MailTls::StartTls), ("none", MailTls::None)];
const SEVERITIES: [(&str, Severity); 3] =
    [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];

pub(super) fn read(value: &Value<'_>, names: &mut Vec<(Named, Spot)>) -> Result<Notify> {
    let table = value.table()?;
    let channels = table.optional("channels", |value| {
        let mut entries = value.table()?.named();
        entries.sort_by_key(|(_, value)| value.place.line);
        let read: Vec<Result<Channel>> = entries.iter().map(|(name, value)| channel(name, value)).collect();
        read.into_iter().collect::<Result<Vec<_>>>()
    });
    let known: Option<Vec<&str>> = channels
        .as_ref()
        .ok()
        .map(|channels| channels.iter().flatten().map(|channel: &Channel| channel.name.as_str()).collect());
    let routes = table.optional("routes", |value| {
        if !value.is_list() {
            return Err(value.wrong_type("a list of sections", "write [[notify.routes]], once for each"));
        }
        let read: Vec<Result<Route>> = value.list()?.iter().map(|item| route(item, known.as_deref(), names)).collect();
        read.into_iter().collect::<Result<Vec<_>>>()
    });
    let dead_man = table.optional("dead_man", dead_man);
    table.finish();
    let (routes, dead_man) = (routes?.unwrap_or_default(), dead_man?);
    Ok(Notify { channels: channels?.unwrap_or_default(), routes, dead_man })
}

fn channel(name: &str, value: &Value<'_>) -> Result<Channel> {
    let table = value.table()?;
    let is_name = name.parse::<Instance>().map_err(|_| {
        value.place.problem("not a valid name", "use 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit")
    });
    let hourly = table.optional("hourly", |value| value.whole(1, 10_000));
    let hint = format!("say how: kind = \"{}\"", KINDS.join("\", \""));
    let kind = table.required("kind", &hint, |value| kind(&table, value));
    // Without its kind, nobody knows which keys it has.
    if kind.is_ok() {
        table.finish();
    }
    is_name?;
    let hourly = hourly?.and_then(|hourly| u32::try_from(hourly).ok()).unwrap_or(DEFAULT_HOURLY);
    Ok(Channel { name: name.to_owned(), kind: kind?, hourly })
}

fn kind(table: &Table<'_>, value: &Value<'_>) -> Result<ChannelKind> {
    match value.filled()? {
        "webhook" => {
            let (url, secret) = (required_secret(table, "url"), table.secret("secret"));
            Ok(ChannelKind::Webhook { url: url?, secret: secret? })
        }
        "slack" => Ok(ChannelKind::Slack { url: required_secret(table, "url")? }),
        "pagerduty" => {
            let url = table.optional("url", |value| address(value, true));
            let routing_key = required_secret(table, "routing_key");
            let hint = "write the address, or leave it out";
            let default = || Url::parse(PAGERDUTY).map_err(|_| table.missing("url", hint));
            Ok(ChannelKind::PagerDuty { url: url?.map_or_else(default, Ok)?, routing_key: routing_key? })
        }
        "mail" => mail(table).map(|mail| ChannelKind::Mail(Box::new(mail))),
        other => Err(unknown_word(&value.place, "a kind of channel", other, &KINDS)),
    }
}

fn mail(table: &Table<'_>) -> Result<Mail> {
    let host = table.required("host", "add host = \"…\", the mail server", |value| value.filled().map(str::to_owned));
    let tls = table.optional("tls", |value| one_of(value, "a way to protect the connection", &TLS));
    let port = table.optional("port", |value| value.whole(1, 65_535));
    let ca_file = table.optional("ca_file", |value| value.path(FileKind::Readable));
    let user = table.optional("user", |value| value.filled().map(str::to_owned));
    let password = table.secret("password");
    let from = table.required("from", "add from = \"lifeboat@example.org\", the sender", mailbox);
    let to = table.required("to", "add to = [\"…\"], who gets it", |value| {
        value.filled_list_of("name at least one recipient", mailbox)
    });
    let (host, tls, user, password) = (host?, tls?.unwrap_or(MailTls::StartTls), user?, password?);
    let at = |name: &str| table.get_hidden(name).map_or_else(|| table.place.clone(), |value| value.place);
    let is_loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if tls == MailTls::None && !is_loopback {
        let hint = "use \"starttls\" or \"tls\"; \"none\" is for a mail server on this host";
        return Err(at("tls").problem("mail would travel in plain text to another host", hint));
    }
    if user.is_some() != password.is_some() {
        let (name, hint) = match user {
            Some(_) => ("user", "add password_file = \"…\" (mode 0600), or remove user"),
            None => ("password_file", "add user = \"…\", or remove the password"),
        };
        return Err(at(name).problem("user and password belong together", hint));
    }
    let default = match tls {
        MailTls::Wrapper => 465,
        MailTls::StartTls => 587,
        MailTls::None => 25,
    };
    let port = port?.and_then(|port| u16::try_from(port).ok()).unwrap_or(default);
    Ok(Mail { host, port, tls, ca_file: ca_file?, user, password, from: from?, to: to? })
}

/// `name@host`, or `Name <name@host>`; the sender of mail reads it once more.
fn mailbox(value: &Value<'_>) -> Result<String> {
    let text = value.filled()?;
    match text.parse::<lettre::message::Mailbox>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(value.place.problem("not a mail address", "write it like \"ops@example.org\"")),
    }
}

fn route(value: &Value<'_>, channels: Option<&[&str]>, names: &mut Vec<(Named, Spot)>) -> Result<Route> {
    let table = value.table()?;
    let tenants = table.optional("tenants", |value| {
        remember(value, Named::Tenant, names)?;
        value.list_of(Value::parse::<Tenant>)
    });
    let instances = table.optional("instances", |value| {
        remember(value, Named::Instance, names)?;
        value.list_of(Value::parse::<Instance>)
    });
    let tiers = table.optional("tiers", |value| {
        remember(value, Named::Tier, names)?;
        value.list_of(Value::parse::<TierName>)
    });
    let owners = table.optional("owners", |value| value.list_of(|item| item.filled().map(str::to_owned)));
    let severity = table.optional("severity", |value| one_of(value, "a severity", &SEVERITIES));
    let to = table.required("to", "add to = [\"…\"], names of channels", |value| {
        value.filled_list_of("name at least one channel", |item| {
            let name = item.filled()?;
            match channels {
                Some(known) if !known.contains(&name) => {
                    let hint = match nearest(name, known.iter().copied()) {
                        Some(near) => format!("did you mean \"{near}\"?"),
                        None => format!("add [notify.channels.{name}]"),
                    };
                    Err(item.place.problem(format!("no channel \"{name}\""), hint))
                }
                _ => Ok(name.to_owned()),
            }
        })
    });
    table.finish();
    Ok(Route {
        tenants: tenants?.unwrap_or_default(),
        instances: instances?.unwrap_or_default(),
        tiers: tiers?.unwrap_or_default(),
        owners: owners?.unwrap_or_default(),
        severity: severity?.unwrap_or_default(),
        to: to?,
    })
}

fn dead_man(value: &Value<'_>) -> Result<DeadMan> {
    let table = value.table()?;
    let url = required_secret(&table, "url");
    let every = table.optional("every", |value| value.span("10s", "24h"));
    table.finish();
    let every = every?.map_or(std::time::Duration::from_secs(60), |span| span.0);
    Ok(DeadMan { url: url?, every })
}
