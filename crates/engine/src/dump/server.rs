//! What a server says before anything is dumped from it: its version and its databases.

use lifeboat_postgres::{ConnectOptions, sql};
use tokio::time::timeout;

use super::DumpError;
use crate::error::{Error, Result};

/// The server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `host:port`.
    pub place: String,
    /// `server_version_num`.
    pub version: u32,
    /// Cluster identity, where the role may ask for it.
    pub system_id: Option<String>,
    /// Databases that accept connections, in the order of their names; templates are left out.
    pub databases: Vec<Database>,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Bytes on the server; 0 where the role may not ask.
    pub bytes: u64,
}

impl Server {
    /// The major version.
    pub fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// The databases with these names, in the order of names, each once.
    pub fn choose(&self, names: &[String]) -> Result<Vec<&Database>> {
        let mut chosen = Vec::with_capacity(names.len());
        for name in names {
            let found = self.databases.iter().find(|database| database.name == *name);
            chosen.push(found.ok_or_else(|| DumpError::UnknownDatabase {
                name: name.clone(),
                place: format!("the server {}", self.place),
                known: self.databases.iter().map(|database| database.name.clone()).collect(),
            })?);
        }
        chosen.sort_by(|a, b| a.name.cmp(&b.name));
        chosen.dedup();
        Ok(chosen)
    }
}

/// Asks the server, by way of the first of `databases` that lets us in.
pub async fn look(options: &ConnectOptions, databases: &[String]) -> Result<Server> {
    let mut refused = None;
    for database in databases.iter().map(String::as_str).chain(["postgres"]) {
        match sql::connect(options, database).await {
            Ok(client) => {
                let asked = timeout(options.connect_timeout, ask(options, &client)).await;
                let late = |_| lifeboat_postgres::Error::Timeout {
                    server: options.server(),
                    during: "asking for the databases",
                    after: options.connect_timeout,
                };
                return asked.map_err(late)?;
            }
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.map_or_else(|| Error::Task("no database to ask".to_owned()), Error::from))
}

async fn ask(options: &ConnectOptions, client: &tokio_postgres::Client) -> Result<Server> {
    let failed = |statement: &'static str| move |error| sql::statement_error(options, statement, error);
    let version = client.query_one("SELECT current_setting('server_version_num')::int", &[]).await;
    let version: i32 = version.map_err(failed("SHOW server_version_num"))?.get(0);
    let list = "SELECT datname, CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) ELSE 0 END \
                FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname COLLATE \"C\"";
    let rows = client.query(list, &[]).await.map_err(failed("a list of the databases"))?;
    let database = |row: &tokio_postgres::Row| Database {
        name: row.get(0),
        bytes: u64::try_from(row.get::<_, i64>(1)).unwrap_or_default(),
    };
    // Not every role may ask for it; a dump does without.
    let identity = client.query_one("SELECT system_identifier::text FROM pg_control_system()", &[]).await;
    Ok(Server {
        place: options.server(),
        version: u32::try_from(version).unwrap_or_default(),
        system_id: identity.ok().map(|row| row.get(0)),
        databases: rows.iter().map(database).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_database_is_told_with_the_known_ones() {
        let database = |name: &str| Database { name: name.into(), bytes: 0 };
        let databases = vec![database("north"), database("south")];
        let server = Server { place: "db:5432".into(), version: 170_006, system_id: None, databases };
        let names = |chosen: Vec<&Database>| chosen.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        let twice = ["south".to_owned(), "north".into(), "south".into()];
        assert_eq!(names(server.choose(&twice).unwrap()), ["north", "south"]);
        let error = server.choose(&["nort".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("\"nort\"") && error.contains("north, south"), "{error}");
    }
}
