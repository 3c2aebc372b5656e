//! Sessions of people at the dashboard, by the hash of their cookie. What a session holds is the business of `auth`.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{State, to_micros};
use crate::Result;

impl State {
    /// Keeps a session, or keeps it longer.
    pub async fn put_session(&self, hash: &str, session: &str, expires: Timestamp) -> Result<()> {
        let (hash, session) = (hash.to_owned(), session.to_owned());
        self.ask(move |cache| {
            let sql = "INSERT OR REPLACE INTO sessions (hash, expires, session) VALUES (?1, ?2, ?3)";
            cache.connection.execute(sql, params![hash, to_micros(expires), session])
        })
        .await
        .map(drop)
    }

    /// A session that has not expired.
    pub async fn session(&self, hash: &str, now: Timestamp) -> Result<Option<String>> {
        let hash = hash.to_owned();
        self.ask(move |cache| {
            let sql = "SELECT session FROM sessions WHERE hash = ?1 AND expires > ?2";
            let mut statement = cache.connection.prepare_cached(sql)?;
            statement.query_row(params![hash, to_micros(now)], |row| row.get(0)).optional()
        })
        .await
    }

    /// Ends a session.
    pub async fn end_session(&self, hash: &str) -> Result<()> {
        let hash = hash.to_owned();
        self.ask(move |cache| cache.connection.execute("DELETE FROM sessions WHERE hash = ?1", [hash])).await.map(drop)
    }
}

pub(super) fn forget(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM sessions WHERE expires <= ?1", [to_micros(now)])?;
    Ok(())
}
