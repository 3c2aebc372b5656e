//! Rung 6: heaps and indexes, by PostgreSQL's own `pg_amcheck` over the container's socket.

use std::time::Duration;

use crate::{
    error::{Error, Result},
    ladder::Answer,
    postgres::{ROLE, Server},
    sandbox::{Container, Ran, User},
};

/// Every database of the cluster, with the check that each heap tuple is in its indexes.
pub(crate) async fn amcheck(container: &Container, user: User, server: &Server, limit: Duration) -> Result<Answer> {
    let command =
        ["pg_amcheck", "--all", "--install-missing", "--heapallindexed", "--jobs=2", "-w", "-h", "/tmp", "-U", ROLE];
    let ran = match container.run(&user.spec(), &command, limit).await {
        Err(error @ Error::Timeout { .. }) => {
            end_sessions(server).await?;
            return Err(error);
        }
        other => other?,
    };
    Ok(judge(&ran))
}

/// What its answer means.
pub(crate) fn judge(ran: &Ran) -> Answer {
    match ran.code {
        0 => Answer::passed("no corruption found"),
        // 2: it ran and found something (PostgreSQL documentation, pg_amcheck, "Notes").
        2 => Answer::failed(format!("pg_amcheck found corruption: {}", ran.tail()))
            .in_public("pg_amcheck found corruption"),
        code => Answer::not_executed(format!("pg_amcheck ended with code {code}: {}", ran.tail()))
            .in_public(format!("pg_amcheck ended with code {code}")),
    }
}

/// A check that ran out of time goes on in the server and would block what comes next.
async fn end_sessions(server: &Server) -> Result<()> {
    let query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_amcheck'";
    let client = server.connect("postgres").await?;
    client.batch_execute(query).await.map_err(Error::sql("end the sessions of pg_amcheck"))
}
