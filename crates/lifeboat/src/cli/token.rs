//! `lifeboat token`: who may come in to the daemon without an identity provider.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use lifeboat_daemon::{
    auth::tokens::{self, NewToken, Token},
    policies,
    settings::{Role, Tenants},
};
use lifeboat_model::{id::Tenant, time::Span};
use serde::Serialize;

use super::{Session, settings::SettingsArgs};
use crate::{
    exit::Exit,
    failure::{self, Failure, Result},
    output::{Answer, Page, Rows, Tone, ago, moment},
};

/// Make, list and revoke tokens for the daemon's API and pages
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TokenCommand {
    #[command(subcommand)]
    verb: TokenVerb,
    #[command(flatten)]
    settings: SettingsArgs,
    /// The file with the tokens' digests [default: as the settings say]
    #[arg(long, value_name = "FILE", global = true)]
    tokens: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat token create ann --role operator --all-tenants --expires 90d > ann.token
  lifeboat token create prometheus --role viewer --tenant clinic-group
  lifeboat token list
  lifeboat token revoke ann

A running daemon knows within a second.";

#[derive(Debug, Subcommand)]
enum TokenVerb {
    Create(Create),
    List,
    Revoke(Revoke),
}

/// Make a token; it is printed once and kept nowhere
///
/// Only its digest goes into the file. Whoever has the token may do what its roles allow, until it expires or is revoked.
#[derive(Debug, Args)]
struct Create {
    /// Whose it is: stands in the log of activity and in evidence
    name: String,
    /// What may be done with it (repeatable)
    #[arg(long, value_enum, value_name = "ROLE", required = true)]
    role: Vec<RoleName>,
    /// Where (repeatable)
    #[arg(long, value_name = "TENANT", required_unless_present = "all_tenants")]
    tenant: Vec<Tenant>,
    /// Everywhere, also where tenants are added later
    #[arg(long, conflicts_with = "tenant")]
    all_tenants: bool,
    /// Until when: 90d, 12h, or a day (its beginning, UTC)
    #[arg(long, value_name = "TIME", default_value = "90d")]
    expires: Expires,
}

/// Revoke a token by its name
#[derive(Debug, Args)]
struct Revoke {
    /// Its name
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleName {
    /// Looks: status, points, runs, schedules
    Viewer,
    /// Looks, starts and cancels runs
    Operator,
    /// Looks, and signs off or approves
    Approver,
    /// Looks at everything, evidence and activity included
    Auditor,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Role {
        match name {
            RoleName::Viewer => Role::Viewer,
            RoleName::Operator => Role::Operator,
            RoleName::Approver => Role::Approver,
            RoleName::Auditor => Role::Auditor,
        }
    }
}

/// A time to come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expires {
    In(Span),
    At(Timestamp),
}

impl std::str::FromStr for Expires {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || "write how long, as 90d, or a day, as 2027-03-31".to_owned();
        if let Ok(time) = text.parse() {
            return Ok(Expires::At(time));
        }
        if let Ok(day) = text.parse::<Date>() {
            return day.to_zoned(TimeZone::UTC).map(|day| Expires::At(day.timestamp())).map_err(|_| wrong());
        }
        text.parse().map(Expires::In).map_err(|_| wrong())
    }
}

impl Expires {
    fn at(self, now: Timestamp) -> Result<Timestamp> {
        match self {
            Expires::At(time) => Ok(time),
            Expires::In(span) => now.checked_add(span.0).map_err(|_| Failure::new(Exit::Usage, "--expires is too far")),
        }
    }
}

#[derive(Serialize)]
struct Created {
    name: String,
    roles: Vec<&'static str>,
    tenants: Vec<String>,
    expires: Timestamp,
    /// To be seen here and never again.
    token: String,
}

impl Answer for Created {
    const SCHEMA: &'static str = "lifeboat.token-create/1";

    fn text(&self, page: &mut Page) {
        page.line(&self.token); // alone, so that it can go into a file
    }
}

#[derive(Serialize)]
struct Listed {
    file: PathBuf,
    tokens: Vec<Row>,
    #[serde(skip)]
    now: Timestamp,
}

#[derive(Serialize)]
struct Row {
    name: String,
    roles: Vec<&'static str>,
    tenants: Vec<String>,
    created: Timestamp,
    expires: Timestamp,
    expired: bool,
}

impl Row {
    fn new(token: Token, now: Timestamp) -> Row {
        Row {
            roles: words(&token.roles),
            tenants: shown(&token.tenants),
            expired: token.expires <= now,
            name: token.name,
            created: token.created,
            expires: token.expires,
        }
    }
}

impl Answer for Listed {
    const SCHEMA: &'static str = "lifeboat.token-list/1";

    fn text(&self, page: &mut Page) {
        if self.tokens.is_empty() {
            page.line(format_args!("No tokens in {}: lifeboat token create NAME --role viewer", self.file.display()));
            return;
        }
        let mut rows = Rows::new(&["token", "roles", "tenants", "made", "expires", ""]);
        for row in &self.tokens {
            let state = if row.expired { (Tone::Bad, "EXPIRED") } else { (Tone::Good, "counts") };
            let (roles, tenants) = (row.roles.join(", "), row.tenants.join(", "));
            let (made, expires) = (ago(self.now, row.created), moment(row.expires));
            let cells = [row.name.as_str(), &roles, &tenants, &made, &expires].map(|text| (Tone::Plain, text));
            rows.row(cells.into_iter().chain([state]));
        }
        page.table(rows);
    }
}

#[derive(Serialize)]
struct Revoked {
    name: String,
    revoked: bool,
}

impl Answer for Revoked {
    const SCHEMA: &'static str = "lifeboat.token-revoke/1";

    fn text(&self, page: &mut Page) {
        match self.revoked {
            true => page.line(format_args!("Revoked: {} opens nothing any more.", self.name)),
            false => page.line(format_args!("There is no token {}: lifeboat token list", self.name)),
        }
    }
}

fn words(roles: &BTreeSet<Role>) -> Vec<&'static str> {
    roles.iter().map(|role| role.word()).collect()
}

fn shown(tenants: &Tenants) -> Vec<String> {
    match tenants {
        Tenants::All => vec!["*".to_owned()],
        Tenants::Some(tenants) => tenants.iter().map(ToString::to_string).collect(),
    }
}

impl TokenCommand {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let file = match &self.tokens {
            Some(file) => file.clone(),
            None => {
                let sources = self.settings.sources(session)?;
                policies::settings(&sources).map_err(failure::of_daemon)?.tokens_file
            }
        };
        match self.verb {
            TokenVerb::Create(create) => {
                let new = NewToken {
                    name: create.name,
                    roles: create.role.into_iter().map(Role::from).collect(),
                    tenants: match create.all_tenants {
                        true => Tenants::All,
                        false => Tenants::Some(create.tenant.into_iter().collect()),
                    },
                    expires: create.expires.at(session.now())?,
                };
                let token = tokens::create(&file, &new, session.now()).map_err(failure::of_daemon)?;
                session.output.show(&Created {
                    roles: words(&new.roles),
                    tenants: shown(&new.tenants),
                    name: new.name,
                    expires: new.expires,
                    token: token.expose().to_owned(),
                })?;
                session.voice.say("this is printed once: keep it like a password, in a file of mode 0600");
                Ok(Exit::Ok)
            }
            TokenVerb::List => {
                let now = session.now();
                let tokens = tokens::list(&file).map_err(failure::of_daemon)?;
                let tokens = tokens.into_iter().map(|token| Row::new(token, now)).collect();
                session.output.show(&Listed { file, tokens, now })?;
                Ok(Exit::Ok)
            }
            TokenVerb::Revoke(Revoke { name }) => {
                let revoked = tokens::revoke(&file, &name).map_err(failure::of_daemon)?;
                session.output.show(&Revoked { name, revoked })?;
                Ok(if revoked { Exit::Ok } else { Exit::NotFound })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_or_how_long() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for (text, at) in [
            ("12h", "2026-11-22T22:00:00Z"),
            ("2027-03-31", "2027-03-31T00:00:00Z"),
            ("2027-03-31T12:00:00+02:00", "2027-03-31T10:00:00Z"),
        ] {
            assert_eq!(text.parse::<Expires>().unwrap().at(now).unwrap(), at.parse::<Timestamp>().unwrap(), "{text}");
        }
        for wrong in ["", "soon", "2027-13-01", "-1h"] {
            assert!(wrong.parse::<Expires>().is_err(), "{wrong}");
        }
    }
}
