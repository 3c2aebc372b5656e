//! `daemon.toml`: what belongs to the daemon and to no tenant. docs/daemon.md describes every key.

mod notify;
mod read;

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use lifeboat_model::{
    config::{LimitsConfig, SecretSource},
    id::{Instance, Tenant, TierName},
    size::ByteRate,
};
use url::Url;

pub(crate) use read::{Draft, Named, TenantFiles, defaults, read};

/// The checked settings. Without a file: one tenant, loopback, no TLS, no notifications.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where API and pages are served; loopback unless there is TLS.
    pub listen: SocketAddr,
    /// What people type into their browser; needed for links in messages and for OIDC.
    pub public_url: Option<Url>,
    /// Certificate and key; none: plain HTTP, allowed on loopback only.
    pub tls: Option<Tls>,
    /// Where the cache of the state and the logs of runs are.
    pub state_dir: PathBuf,
    /// Hashed tokens: a file that `lifeboat token` writes, 0600.
    pub tokens_file: PathBuf,
    /// Sign-in by an identity provider.
    pub oidc: Option<Oidc>,
    /// What all runs together may use.
    pub budget: Budget,
    /// Whom to tell what.
    pub notify: Notify,
    /// How often the facts of each instance are looked up again without anything having happened.
    pub look_every: Duration,
    /// How often PostgreSQL servers, repositories and Docker are asked whether they answer. A thousand of them are asked every 50 s
    /// at most.
    pub probe_every: Duration,
    /// How long short runs may finish when the daemon is stopped; then they are stopped as well.
    pub stop_grace: Duration,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM: the certificate and those that vouch for it.
    pub cert_file: PathBuf,
    /// PEM, mode 0600.
    pub key_file: PathBuf,
}

/// What all runs together may use. Streams are not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Runs at the same time, of all kinds.
    pub runs: usize,
    /// Of these, drills and controls. Those of one host also share `[drills]` of lifeboat.toml.
    pub drills: usize,
    /// Of these, backups, dumps and copies.
    pub backups: usize,
    /// How much of the CPU a run may have beside others: its niceness, 0–19.
    pub nice: u8,
    /// Tiers, the one to be served first in front. Others come after them, in no order.
    pub priority: Vec<TierName>,
    /// What they send to repositories and fetch from there, all together; none: as much as goes through.
    pub line: LimitsConfig,
}

impl Budget {
    /// Of five parts of the line, those that are left to streams where there are any.
    const OF_STREAMS: (u64, u64) = (1, 5);

    /// What one run may use of the line. Runs are processes that know nothing of each other: each gets the same part, as many
    /// parts as there may be runs. What streams need comes first: a fifth is nobody else's.
    pub fn share(&self, beside_streams: bool) -> LimitsConfig {
        let (kept, whole) = if beside_streams { Budget::OF_STREAMS } else { (0, 1) };
        let runs = u64::try_from(self.runs).unwrap_or(u64::MAX).max(1);
        let share = |rate: ByteRate| ByteRate::of(rate.bytes() / whole * (whole - kept) / runs);
        LimitsConfig { upload: self.line.upload.map(share), download: self.line.download.map(share) }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget { runs: 4, drills: 1, backups: 2, nice: 5, priority: Vec::new(), line: LimitsConfig::default() }
    }
}

/// An OpenID Connect provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oidc {
    /// Its issuer; `/.well-known/openid-configuration` is found below it.
    pub issuer: Url,
    /// PEM of the authorities that vouch for it; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Our id there.
    pub client_id: String,
    /// Our secret there; none for a public client (PKCE is used in any case).
    pub client_secret: Option<SecretSource>,
    /// What access tokens of other programs must be meant for; none: the client id.
    pub audience: Option<String>,
    /// The claim with the groups; usually `groups`.
    pub groups_claim: String,
    /// What a group may do.
    pub grants: Vec<GroupGrant>,
}

/// What members of a group may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupGrant {
    /// As the provider names it.
    pub group: String,
    /// What they may do, and where.
    pub grant: Grant,
}

/// A role, and the tenants it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What may be done.
    pub role: Role,
    /// Where.
    pub tenants: Tenants,
}

/// Where a grant counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenants {
    /// Everywhere.
    All,
    /// In these.
    Some(BTreeSet<Tenant>),
}

/// What somebody may do. None includes another, but all may look at the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looks: status, points, runs, schedules.
    Viewer,
    /// Looks, starts and cancels runs.
    Operator,
    /// Looks, and signs off or approves.
    Approver,
    /// Looks at everything, evidence and the log of activity included; changes nothing.
    Auditor,
}

impl Role {
    /// All.
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Operator, Role::Approver, Role::Auditor];

    /// The word in settings, tokens and API.
    pub fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Approver => "approver",
            Role::Auditor => "auditor",
        }
    }
}

/// Whom to tell what.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Notify {
    /// Ways to people.
    pub channels: Vec<Channel>,
    /// Which of them for what; a condition that no route takes goes to all channels.
    pub routes: Vec<Route>,
    /// Pinged while all is well with the daemon itself: whoever misses the ping raises the alarm.
    pub dead_man: Option<DeadMan>,
}

/// A way to people.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// What routes call it.
    pub name: String,
    /// How.
    pub kind: ChannelKind,
    /// At most so many messages an hour; what is held back is summed up in the next.
    pub hourly: u32,
}

/// How a message gets to people.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelKind {
    /// A POST of our own JSON (docs/daemon.md); signed with HMAC-SHA-256 where there is a secret.
    Webhook {
        /// Where.
        url: SecretSource,
        /// For the signature.
        secret: Option<SecretSource>,
    },
    /// A Slack incoming webhook, or whatever takes its form.
    Slack {
        /// Its address: whoever has it can write there.
        url: SecretSource,
    },
    /// PagerDuty Events API v2.
    PagerDuty {
        /// Where; PagerDuty's own address unless named.
        url: Url,
        /// The integration's routing key.
        routing_key: SecretSource,
    },
    /// E-mail by SMTP.
    Mail(Box<Mail>),
}

/// E-mail by SMTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Mail {
    /// Server name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: MailTls,
    /// PEM of the authorities that vouch for it; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Who signs in; none: nobody does.
    pub user: Option<String>,
    /// The password.
    pub password: Option<SecretSource>,
    /// The sender.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
}

/// How an SMTP connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// From the first byte.
    Wrapper,
    /// After STARTTLS, which must be offered.
    StartTls,
    /// Not at all: loopback only.
    None,
}

/// What goes where. An empty list takes everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// Of these tenants.
    pub tenants: Vec<Tenant>,
    /// Of these instances.
    pub instances: Vec<Instance>,
    /// Of these tiers.
    pub tiers: Vec<TierName>,
    /// Of instances with these owners.
    pub owners: Vec<String>,
    /// At least this grave.
    pub severity: Severity,
    /// To these channels.
    pub to: Vec<String>,
}

/// How grave a condition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    #[default]
    Info,
    /// A promise will be broken unless somebody acts.
    Warning,
    /// A promise is broken.
    Critical,
}

/// The dead man's switch.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadMan {
    /// Asked for with GET.
    pub url: SecretSource,
    /// How often.
    pub every: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_share_the_line_and_streams_have_a_part_of_it() {
        let rate = |text: &str| Some(text.parse::<ByteRate>().unwrap());
        let line = LimitsConfig { upload: rate("50 MiB/s"), download: None };
        let budget = Budget { runs: 5, line, ..Budget::default() };
        assert_eq!(budget.share(false), LimitsConfig { upload: rate("10 MiB/s"), download: None });
        assert_eq!(budget.share(true), LimitsConfig { upload: rate("8 MiB/s"), download: None });
        assert_eq!(Budget::default().share(true), LimitsConfig::default());
    }
}
