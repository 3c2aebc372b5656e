//! Rung 6: heaps and indexes, by PostgreSQL's own `pg_amcheck` over the container's socket.

use std::time::Duration;

use crate::{
    error::Result,
    ladder::Answer,
    postgres::ROLE,
    sandbox::{Container, User},
};

/// Every database of the cluster, with the check that each heap tuple is in its indexes.
pub(crate) async fn amcheck(container: &Container, user: User, limit: Duration) -> Result<Answer> {
    let command =
        ["pg_amcheck", "--all", "--install-missing", "--heapallindexed", "--jobs=2", "-w", "-h", "/tmp", "-U", ROLE];
    let ran = container.run(&user.spec(), &command, limit).await?;
    Ok(match ran.code {
        0 => Answer::passed("no corruption found"),
        // 2: it ran and found something (PostgreSQL documentation, pg_amcheck, "Notes").
        2 => Answer::failed(format!("pg_amcheck found corruption: {}", ran.tail())),
        code => Answer::not_executed(format!("pg_amcheck ended with code {code}: {}", ran.tail())),
    })
}
