//! What a database needs of its PostgreSQL besides tables: extensions, at the installed version, and the libraries that their
//! functions are in. A server without them starts, replays and serves; the first query that needs one fails.

use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, error::SqlState};

use crate::error::{Error, Result};

/// An installed extension, and what the server has of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// The version in the database.
    pub version: String,
    /// The versions that the server can install; none where it does not know the extension.
    pub available: Vec<String>,
}

impl Extension {
    /// Whether the server has the installed version.
    pub fn is_available(&self) -> bool {
        self.available.contains(&self.version)
    }
}

/// Every installed extension.
pub async fn installed(client: &Client) -> Result<Vec<Extension>> {
    let query = "SELECT e.extname::text, e.extversion::text, \
                        ARRAY(SELECT v.version FROM pg_available_extension_versions v WHERE v.name = e.extname ORDER BY 1) \
                 FROM pg_extension e ORDER BY e.extname";
    let failed = || Error::sql("list extensions");
    let rows = client.query(query, &[]).await.map_err(failed())?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Extension {
            name: row.try_get(0).map_err(failed())?,
            version: row.try_get(1).map_err(failed())?,
            available: row.try_get(2).map_err(failed())?,
        })
    };
    rows.iter().map(read).collect()
}

/// Libraries that functions of the database are in and the server has no file for. Loading one needs a superuser, and some
/// (that want to be preloaded) refuse and may end the session: use one of its own.
pub async fn missing_libraries(client: &Client) -> Result<Vec<String>> {
    let query = "SELECT DISTINCT probin FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang \
                 WHERE l.lanname = 'c' AND probin IS NOT NULL ORDER BY 1";
    let rows = client.query(query, &[]).await.map_err(Error::sql("list libraries"))?;
    let mut missing = Vec::new();
    for row in rows {
        let library: String = row.try_get(0).map_err(Error::sql("list libraries"))?;
        let loaded = client.batch_execute(&format!("LOAD '{}'", library.replace('\'', "''"))).await;
        match loaded {
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_FILE) => missing.push(library),
            // It is there, and has its reasons; but a session that it ended says nothing of the rest.
            Err(error) if error.is_closed() => return Err(Error::sql(format!("load {library}"))(error)),
            _ => {}
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_installed_version_counts() {
        let extension = |version: &str, available: &[&str]| Extension {
            name: "pg_trgm".into(),
            version: version.into(),
            available: available.iter().map(|&version| version.to_owned()).collect(),
        };
        assert!(extension("1.6", &["1.5", "1.6"]).is_available());
        assert!(!extension("1.7", &["1.5", "1.6"]).is_available());
        assert!(!extension("1.6", &[]).is_available());
    }
}
