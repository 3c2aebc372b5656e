//! A cluster of its own with one database.

use lifeboat_testkit::{
    postgres::{Options, Postgres, SUPERUSER, versions},
    testbed,
};
use tokio_postgres::{Client, NoTls};

/// None where real servers are not wanted.
pub fn server() -> Option<Postgres> {
    if !testbed::enabled() {
        return None;
    }
    let major = versions().into_iter().next().expect("PostgreSQL is installed");
    let trust = vec!["local all all trust".to_owned(), "host all all 127.0.0.1/32 trust".to_owned()];
    Some(Postgres::start(major, &Options { hba: trust, ..Options::default() }).unwrap())
}

/// A new database with these tables.
pub async fn database(server: &Postgres, name: &str, tables: &str) -> Client {
    server.psql("postgres", &format!("CREATE DATABASE {name}")).unwrap();
    let address = format!("host=127.0.0.1 port={} user={SUPERUSER} dbname={name}", server.port());
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(tables).await.unwrap();
    client
}

/// The only column of the only row.
pub async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}
