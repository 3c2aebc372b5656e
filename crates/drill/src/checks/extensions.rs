//! Rung 10: the sandbox's PostgreSQL has what the databases use of it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use lifeboat_odoo::extensions::{self, Extension};
use tokio_postgres::Client;

use crate::{checks::some, error::Result, ladder::Answer};

/// Opens sessions with the databases of a server.
#[async_trait]
pub(crate) trait Sessions: Sync {
    /// One of its own.
    async fn open(&self, database: &str) -> Result<Client>;
}

/// Extensions and libraries of every database, in sessions of their own: see `extensions::missing_libraries`.
pub(crate) async fn available(server: &dyn Sessions, databases: &[String]) -> Result<Answer> {
    let (mut present, mut wrong) = (BTreeSet::new(), Vec::new());
    for database in databases {
        let client = server.open(database).await?;
        for extension in extensions::installed(&client).await? {
            match extension.is_available() {
                true => drop(present.insert(format!("{} {}", extension.name, extension.version))),
                false => wrong.push(describe(database, &extension)),
            }
        }
        let missing = extensions::missing_libraries(&client).await?;
        wrong.extend(missing.into_iter().map(|library| format!("{database}: there is no library {library}")));
    }
    Ok(match wrong.is_empty() {
        true => Answer::passed(present.into_iter().collect::<Vec<_>>().join(", ")),
        false => Answer::failed(some(&wrong, wrong.len() as u64)),
    })
}

fn describe(database: &str, extension: &Extension) -> String {
    let Extension { name, version, available } = extension;
    match available.is_empty() {
        true => format!("{database}: PostgreSQL's image has no extension {name}"),
        false => format!("{database}: {name} is {version} in the database and {} in the image", available.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_instead_is_named() {
        let extension = |available: &[&str]| Extension {
            name: "postgis".into(),
            version: "3.4".into(),
            available: available.iter().map(|&version| version.to_owned()).collect(),
        };
        assert_eq!(describe("a", &extension(&[])), "a: PostgreSQL's image has no extension postgis");
        assert!(describe("a", &extension(&["3.3", "3.5"])).ends_with("3.4 in the database and 3.3, 3.5 in the image"));
    }
}
