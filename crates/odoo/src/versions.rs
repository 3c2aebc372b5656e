//! Facts that differ between Odoo majors, as one table, each with its source.

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
    /// Source: `odoo/cli/neutralize.py`, new in 16.0 (release notes "Neutralize a database"); absent in 14.0 and 15.0.
    pub neutralize_command: bool,
    /// `GET /web/health` answers without touching a database.
    /// Source: `addons/web/controllers/home.py` (15.0: `main.py`), route `/web/health`; 14.0 answers 404.
    pub health_endpoint: bool,
    /// The table of payment providers. Source: 16.0 renamed `payment.acquirer` to `payment.provider`.
    pub payment_table: &'static str,
    /// Results of the inalterability check carry `status` (`verified`, `corrupted`, `no_data`).
    /// Source: `addons/account/models/company.py`, `_check_hash_integrity`: 18.0 and 19.0 have it; before, only `msg_cover`
    /// and `first_hash` tell the cases apart.
    pub books_status: bool,
    /// The option that names the port of the long-polling worker.
    /// Source: `odoo/tools/config.py`: 16.0 renamed `--longpolling-port` to `--gevent-port`.
    pub gevent_option: &'static str,
}

/// One row per major.
pub const FACTS: [Facts; 6] = [
    row(14, false, false, "payment_acquirer", false, "--longpolling-port"),
    row(15, false, true, "payment_acquirer", false, "--longpolling-port"),
    row(16, true, true, "payment_provider", false, "--gevent-port"),
    row(17, true, true, "payment_provider", false, "--gevent-port"),
    row(18, true, true, "payment_provider", true, "--gevent-port"),
    row(19, true, true, "payment_provider", true, "--gevent-port"),
];

const fn row(
    major: u8,
    neutralize_command: bool,
    health_endpoint: bool,
    payment_table: &'static str,
    books_status: bool,
    gevent_option: &'static str,
) -> Facts {
    Facts { major, neutralize_command, health_endpoint, payment_table, books_status, gevent_option }
}

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
