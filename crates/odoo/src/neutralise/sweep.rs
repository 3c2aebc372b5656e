//! What no list of ours can name: the columns that localisations and modules of third parties keep their credentials and
//! switches in. Odoo 16 and later know their own (each module's `data/neutralize.sql`); 14.0 and 15.0 know none, and no version
//! knows those of a module that brings no such file. They are found by name, in tables that configure services, never in tables of
//! business data, where a `password` may be anything and rows are many.

use tokio_postgres::{Client, GenericClient};

use crate::error::{Error, Result};

/// What is searched for, and what is put there.
#[derive(Debug, Clone, Copy)]
pub struct Sweep {
    /// Stable id, `area.what`.
    pub id: &'static str,
    /// What must hold afterwards, one line.
    pub purpose: &'static str,
    /// Tables, as a regular expression of PostgreSQL.
    tables: &'static str,
    /// Columns, the same.
    columns: &'static str,
    /// Whether they are texts; else they are Booleans.
    texts: bool,
    /// What is put there, an SQL literal.
    value: &'static str,
}

/// Tables that configure services: Odoo's own, and third parties' by what such tables are called.
const SERVICES: &str = "^(payment_provider|payment_acquirer|pos_payment_method|delivery_carrier|ir_mail_server|fetchmail_server|\
    res_company|website|fs_storage|account_online_link|account_online_provider|social_account|social_media|account_journal|\
    account_edi_proxy_client_user|certificate_certificate|certificate_key|\
    .*_backend|.*(sftp|ftp|smtp|imap|sms|whatsapp|telegram|gateway|connector|webservice).*)$";

/// Every sweep, in order.
pub const SWEEPS: &[Sweep] = &[
    Sweep {
        id: "services.credentials",
        purpose: "no service has credentials",
        tables: SERVICES,
        columns: "(passw(or)?d|_pass|secret|secretkey|websitekey|token|salt|credentials?|api_?key|shakey_(in|out)|\
                  (secret|private|access|signature|replacement|hmac|merchant|transaction|client|publishable|consumer|encryption|webhook|public|\
                  notification|session|pos)_key)$",
        texts: true,
        value: "NULL",
    },
    Sweep {
        id: "services.hosts",
        purpose: "no other mail or file server is configured",
        // Odoo's own are switched off by name.
        tables: "^(?!ir_mail_server$|fetchmail_server$)",
        columns: "^(smtp|imap|pop3?|s?ftp|amqp|mqtt)_(host|server|hostname|url)$",
        texts: true,
        value: "'invalid'",
    },
    Sweep {
        id: "services.production",
        purpose: "no service is in its production environment",
        tables: SERVICES,
        columns: "(^|_)prod(uction)?_env(ironment)?$",
        texts: false,
        value: "false",
    },
    Sweep {
        id: "services.test",
        purpose: "every service is in its test environment",
        tables: SERVICES,
        columns: "(_test_env(ironment)?|_use_test_env|_test_mode|_staging_mode|_demo_env)$",
        texts: false,
        value: "true",
    },
];

/// One table and its columns.
#[derive(Debug)]
struct Found {
    table: String,
    columns: Vec<String>,
}

/// Puts the value into every column found; gives the rows changed, none where there is no such column.
pub(super) async fn apply(client: &impl GenericClient, sweep: &Sweep) -> Result<Option<u64>> {
    let found = find(client, sweep).await?;
    let mut rows = None;
    for found in found {
        let set: Vec<String> =
            found.columns.iter().map(|column| format!("{} = {}", quote(column), sweep.value)).collect();
        let statement =
            format!("UPDATE {} SET {} WHERE {}", quote(&found.table), set.join(", "), differs(sweep, &found));
        let changed = client.execute(&statement, &[]).await;
        let changed = changed.map_err(Error::sql(format!("neutralise {} in {}", sweep.id, found.table)))?;
        rows = Some(rows.unwrap_or(0) + changed);
    }
    Ok(rows)
}

/// How many rows still have another value, none where there is no such column.
pub(super) async fn count(client: &Client, sweep: &Sweep) -> Result<Option<i64>> {
    let mut count = None;
    for found in find(client, sweep).await? {
        let query = format!("SELECT count(*) FROM {} WHERE {}", quote(&found.table), differs(sweep, &found));
        let failed = || Error::sql(format!("assert {} in {}", sweep.id, found.table));
        let row = client.query_one(&query, &[]).await.map_err(failed())?;
        count = Some(count.unwrap_or(0) + row.try_get::<_, i64>(0).map_err(failed())?);
    }
    Ok(count)
}

/// Columns that may be empty, where empty is what is put there: what must hold something is not emptied but would be an error.
async fn find(client: &impl GenericClient, sweep: &Sweep) -> Result<Vec<Found>> {
    let query = "SELECT c.table_name::text, array_agg(c.column_name::text ORDER BY c.ordinal_position) \
                   FROM information_schema.columns c \
                   JOIN information_schema.tables t USING (table_schema, table_name) \
                  WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE' AND c.is_generated = 'NEVER' \
                    AND c.table_name ~ $1 AND c.column_name ~ $2 \
                    AND ($3 AND c.data_type IN ('character varying', 'text') OR NOT $3 AND c.data_type = 'boolean') \
                    AND ($4 OR c.is_nullable = 'YES') \
                  GROUP BY c.table_name ORDER BY c.table_name";
    let (empties, failed) = (sweep.value != "NULL", || Error::sql(format!("look for {}", sweep.id)));
    let rows = client.query(query, &[&sweep.tables, &sweep.columns, &sweep.texts, &empties]).await;
    let read = |row: &tokio_postgres::Row| {
        Ok(Found { table: row.try_get(0).map_err(failed())?, columns: row.try_get(1).map_err(failed())? })
    };
    rows.map_err(failed())?.iter().map(read).collect()
}

/// Whether a row has something else. A switch that nobody has set and a host that nobody has named are left alone.
fn differs(sweep: &Sweep, found: &Found) -> String {
    let condition = |column: &String| match sweep.value {
        "NULL" => format!("{} IS NOT NULL", quote(column)),
        "true" => format!("{} IS NOT TRUE", quote(column)),
        value => format!("{} <> {value}", quote(column)),
    };
    found.columns.iter().map(condition).collect::<Vec<_>>().join(" OR ")
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
