//! An instance's PostgreSQL: can this host reach it with the rights that a backup needs, and is it set up for one.

use lifeboat_engine::context::connect_options;
use lifeboat_model::{config::InstanceConfig, id::Instance};
use lifeboat_postgres::{ConnectOptions, Replication, sql};

use super::Finding;
use crate::wire::environment;

/// Looks at the server, then at each database.
pub async fn look(name: &Instance, instance: &InstanceConfig) -> Vec<Finding> {
    let connect = match connect_options(&instance.postgres, &environment) {
        Ok(connect) => connect,
        Err(error) => return vec![Finding::failed("postgres.password", error.to_string(), "").of(name.as_str())],
    };
    let mut findings = vec![replication(&connect).await];
    for database in &instance.postgres.databases {
        findings.push(database_opens(&connect, database).await);
    }
    findings.into_iter().map(|finding| finding.of(name.as_str())).collect()
}

/// The messages of the PostgreSQL crate say what to do.
async fn replication(connect: &ConnectOptions) -> Finding {
    const CHECK: &str = "postgres.replication";
    match Replication::connect(connect).await {
        Ok(session) => {
            let observed = format!("PostgreSQL {} lets {} replicate", session.server_version_text(), connect.user);
            session.close().await;
            Finding::ok(CHECK, observed)
        }
        Err(error) => Finding::failed(CHECK, error.to_string(), ""),
    }
}

async fn database_opens(connect: &ConnectOptions, database: &str) -> Finding {
    let check = format!("postgres.database.{database}");
    match sql::connect(connect, database).await {
        Ok(_) => Finding::ok(check, "opens"),
        Err(error) => Finding::failed(check, error.to_string(), ""),
    }
}
