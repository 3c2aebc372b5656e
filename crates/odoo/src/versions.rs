//! Facts that differ between Odoo majors, as one table, each with its source.
//!
//! Sources are files of <https://github.com/odoo/odoo> on the branch of the major that is named (`14.0` to `19.0`). What is said
//! of 14.0 and 19.0 was also seen to hold on the running program, from Debian's packages odoo-14 14.0.0+dfsg.2-7+deb11u2 and
//! odoo-19 19.0.0+dfsg; the tests drill both.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A supported major version of Odoo, 14 to 19.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Major(u8);

/// What a major can do and how its tables are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The major.
    pub major: u8,
    /// `odoo neutralize -d <database>` exists, and each module brings its `data/neutralize.sql`.
    /// Source: `odoo/cli/neutralize.py`, there from 16.0 on; 14.0 and 15.0 have no such file.
    pub neutralize_command: bool,
    /// `GET /web/health` answers without touching a database.
    /// Source: route `/web/health` in `addons/web/controllers/main.py` (15.0) and `home.py` (16.0 and later); 14.0's `main.py`
    /// has none and answers 404.
    pub health_endpoint: bool,
    /// The table of payment providers.
    /// Source: `addons/payment/models/payment_acquirer.py` (14.0, 15.0), `payment_provider.py` (16.0 and later).
    pub payment_table: &'static str,
    /// Results of the inalterability check carry `status` (`verified`, `corrupted`, `no_data`).
    /// Source: `addons/account/models/company.py`, `_check_hash_integrity`: 18.0 and 19.0 have it; before, only `msg_cover`
    /// and `first_hash` tell the cases apart.
    pub books_status: bool,
    /// The option that names the port of the long-polling worker.
    /// Source: `odoo/tools/config.py`: from 16.0 on `--gevent-port`, with `--longpolling-port` as its deprecated alias.
    pub gevent_option: &'static str,
    /// The log says `Registry loaded in 1.2s` once a database is ready to serve.
    /// Source: `odoo/modules/registry.py`, `Registry.new` (19.0: `odoo/orm/registry.py`), from 15.0 on. 14.0's last word on it
    /// is `Modules loaded.`, from `odoo/modules/loading.py`, `load_modules`, which the others say before theirs.
    pub registry_line: bool,
}

/// One row per major.
pub const FACTS: [Facts; 6] = [
    Facts {
        major: 14,
        neutralize_command: false,
        health_endpoint: false,
        payment_table: "payment_acquirer",
        books_status: false,
        gevent_option: "--longpolling-port",
        registry_line: false,
    },
    Facts {
        major: 15,
        neutralize_command: false,
        health_endpoint: true,
        payment_table: "payment_acquirer",
        books_status: false,
        gevent_option: "--longpolling-port",
        registry_line: true,
    },
    row(16, false),
    row(17, false),
    row(18, true),
    row(19, true),
];

const fn row(major: u8, books_status: bool) -> Facts {
    Facts {
        major,
        neutralize_command: true,
        health_endpoint: true,
        payment_table: "payment_provider",
        books_status,
        gevent_option: "--gevent-port",
        registry_line: true,
    }
}

/// The web client's page for whoever is logged in. Source: `addons/web/controllers/main.py` (14.0, 15.0) and `home.py` (16.0 and
/// later): 18.0 and 19.0 show it as `/odoo` and still answer on `/web`.
pub const WEB_CLIENT: &str = "/web";
/// Opens a session with `{db, login, password}` as JSON-RPC. Source: `addons/web/controllers/session.py` (`main.py` in 14.0, 15.0).
pub const SESSION_ENDPOINT: &str = "/web/session/authenticate";
/// Calls a public model method. Source: `addons/web/controllers/dataset.py`, same in 14.0 to 19.0.
pub const CALL_ENDPOINT: &str = "/web/dataset/call_kw";
/// The setting that says a database was neutralised. Source: `addons/base/data/neutralize.sql`, 16.0 and later; we set it everywhere.
pub const NEUTRALISED_PARAMETER: &str = "database.is_neutralized";

impl Major {
    /// From a module version such as `19.0.1.3`, a series such as `saas~18.2`, or `odoo --version`'s `Odoo Server 19.0-20250101`.
    pub fn parse(text: &str) -> Result<Major> {
        let error = || Error::Version(text.trim().chars().take(80).collect());
        let start = text.find(|c: char| c.is_ascii_digit()).ok_or_else(error)?;
        let digits: String = text[start..].chars().take_while(char::is_ascii_digit).collect();
        let major: u8 = digits.parse().map_err(|_| error())?;
        if FACTS.iter().any(|facts| facts.major == major) { Ok(Major(major)) } else { Err(error()) }
    }

    /// The number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The facts of this major.
    pub fn facts(self) -> &'static Facts {
        let index = usize::from(self.0 - FACTS[0].major);
        &FACTS[index]
    }
}

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// `19.0` out of `19.0.1.3` or `Odoo Server 19.0-20251121`; `saas~18.2` out of `saas~18.2.1.0`.
pub fn series(text: &str) -> Option<String> {
    let text = text.trim().strip_prefix("Odoo Server ").unwrap_or(text.trim());
    let saas = text.starts_with("saas~") || text.starts_with("saas-");
    let numbers = if saas { &text[5..] } else { text };
    let mut parts = numbers.split(|c: char| !c.is_ascii_digit());
    let (major, minor) = (parts.next()?, parts.next()?);
    if major.is_empty() || minor.is_empty() {
        return None;
    }
    Some(if saas { format!("saas~{major}.{minor}") } else { format!("{major}.{minor}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majors_are_read_from_every_form() {
        for (text, major) in [("19.0.1.3", 19), ("saas~18.2.1.0", 18), ("Odoo Server 14.0-20221106\n", 14)] {
            assert_eq!(Major::parse(text).unwrap().number(), major, "{text}");
        }
        for bad in ["", "base", "13.0.1.0", "20.0", "999.0"] {
            assert!(Major::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn series_is_the_first_two_numbers() {
        for (text, expected) in [
            ("19.0.1.3", "19.0"),
            ("Odoo Server 19.0-2025", "19.0"),
            ("saas~18.2.1.0", "saas~18.2"),
            ("saas-18.2", "saas~18.2"),
        ] {
            assert_eq!(series(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(series("psql (PostgreSQL)"), None);
    }

    #[test]
    fn every_major_finds_its_own_row() {
        for facts in FACTS {
            assert_eq!(Major::parse(&format!("{}.0", facts.major)).unwrap().facts(), &facts);
        }
    }
}
