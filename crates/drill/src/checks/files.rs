//! Rung 4: restored files against the server's own `backup_manifest`, before PostgreSQL touches them.

use std::time::Duration;

use crate::{
    error::Result,
    ladder::Answer,
    postgres::PGDATA,
    sandbox::{Container, User},
};

/// PostgreSQL's own `pg_verifybackup`, an implementation independent of ours.
pub(crate) async fn manifest(container: &Container, user: User, limit: Duration) -> Result<Answer> {
    let ran = container.run(&user.spec(), &["pg_verifybackup", "--quiet", PGDATA], limit).await?;
    Ok(match ran.is_ok() {
        true => Answer::passed("pg_verifybackup: backup successfully verified"),
        false => Answer::failed(format!("pg_verifybackup: {}", ran.tail())),
    })
}
