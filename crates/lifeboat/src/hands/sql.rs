//! `sql`: one statement in one transaction, read-only unless the block says that it changes something.

use lifeboat_engine::context;
use lifeboat_postgres::{ConnectOptions, sql};
use lifeboat_runbook::{
    action::{
        Effect,
        server::{Server, port_of, tls_of},
        sql::{Rows, Sql},
    },
    execute::{Acting, Outputs},
};
use tokio_postgres::{Client, Row, types::Type};

use super::{Masks, Tools, fill_all};

/// Of a value so much is kept.
const KEPT: usize = 2_000;

/// Rows of columns as text.
type Values = Vec<Vec<Option<String>>>;

pub(super) async fn act(statement: &Sql, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    let options = server(&statement.server, acting, tools)?;
    run(statement, &options, acting, &tools.masks).await
}

pub(super) async fn was_done(statement: &Sql, acting: &Acting<'_>, tools: &Tools) -> Result<Option<Outputs>, String> {
    let Some(probe) = &statement.done_when else { return Ok(None) };
    let options = server(&statement.server, acting, tools)?;
    let mut client = connect(&options, &acting.course.fill(&statement.database)).await?;
    let rows = ask(&mut client, &options, probe, &[], true).await?;
    // What it gave then is lost with its executor.
    Ok((first(&rows).as_deref() == Some("t")).then(Outputs::new))
}

/// Runs the statement on this server. What does not give what is expected is rolled back: a statement that hit more rows than it was to
/// hit has not hit them.
pub(super) async fn run(
    statement: &Sql,
    options: &ConnectOptions,
    acting: &Acting<'_>,
    masks: &Masks,
) -> Result<Outputs, String> {
    let mut client = connect(options, &acting.course.fill(&statement.database)).await?;
    let parameters = fill_all(acting, &statement.parameters);
    let is_read_only = statement.effect == Effect::Nothing;
    let expect = |rows: &Values| match &statement.expect {
        None => Ok(()),
        Some(Rows::Equals(text)) => equals(rows, &acting.course.fill(text)),
        Some(Rows::AtLeast(least)) => at_least(rows, *least),
        Some(Rows::Count(wanted)) => count(rows, *wanted),
    };
    let rows = expected(&mut client, options, (&statement.sql, &parameters), is_read_only, expect).await?;
    let value: String = masks.mask(&first(&rows).unwrap_or_default()).chars().take(KEPT).collect();
    Ok(Outputs::from([("value".to_owned(), value), ("rows".to_owned(), rows.len().to_string())]))
}

fn equals(rows: &Values, wanted: &str) -> Result<(), String> {
    let value = first(rows);
    let problem = || format!("expected {wanted}, found {}", value.as_deref().unwrap_or("nothing"));
    if value.as_deref() == Some(wanted) { Ok(()) } else { Err(problem()) }
}

fn at_least(rows: &Values, least: i64) -> Result<(), String> {
    let value = first(rows);
    let number = value.as_deref().and_then(|value| value.parse::<f64>().ok());
    let problem = || format!("expected at least {least}, found {}", value.as_deref().unwrap_or("nothing"));
    if number.is_some_and(|number| number >= least as f64) { Ok(()) } else { Err(problem()) }
}

fn count(rows: &Values, wanted: i64) -> Result<(), String> {
    let is_so = i64::try_from(rows.len()) == Ok(wanted);
    if is_so { Ok(()) } else { Err(format!("expected {wanted} rows, found {}", rows.len())) }
}

/// Where a server is, and as whom it is asked.
pub(super) fn server(server: &Server, acting: &Acting<'_>, tools: &Tools) -> Result<ConnectOptions, String> {
    match server {
        Server::Instance(instance) => {
            let name = acting.course.fill(instance);
            let config = tools.config()?;
            let (_, instance) = config.instance(&name).map_err(|error| error.to_string())?;
            let options = context::connect_options(&instance.postgres, &crate::wire::environment);
            let options = options.map_err(|error| error.to_string())?;
            options.password.iter().for_each(|password| tools.masks.hide(password));
            Ok(options)
        }
        Server::Address { host, port, user, password, tls } => {
            let mut options = ConnectOptions::new(
                acting.course.fill(host),
                port_of(&acting.course.fill(port))?,
                acting.course.fill(user),
            );
            options.password = password.as_ref().map(|password| tools.secret(password, acting)).transpose()?;
            options.tls = tls_of(&acting.course.fill(tls))?;
            Ok(options)
        }
    }
}

/// Opens a session with a database.
pub(super) async fn connect(options: &ConnectOptions, database: &str) -> Result<Client, String> {
    sql::connect(options, database).await.map_err(|error| crate::failure::causes(&error))
}

/// One statement in a transaction of its own; with values as text, whatever type the server takes them for.
pub(super) async fn ask(
    client: &mut Client,
    options: &ConnectOptions,
    statement: &str,
    parameters: &[String],
    is_read_only: bool,
) -> Result<Values, String> {
    expected(client, options, (statement, parameters), is_read_only, |_| Ok(())).await
}

/// The same, committed only where it gave what was expected.
async fn expected(
    client: &mut Client,
    options: &ConnectOptions,
    (statement, parameters): (&str, &[String]),
    is_read_only: bool,
    expect: impl Fn(&Values) -> Result<(), String>,
) -> Result<Values, String> {
    let failed = |error| crate::failure::causes(&sql::statement_error(options, statement, error));
    let transaction = client.build_transaction().read_only(is_read_only).start().await.map_err(failed)?;
    let rows = if parameters.is_empty() {
        let messages = transaction.simple_query(statement).await.map_err(failed)?;
        let rows = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|row| (0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()).collect()
    } else {
        // Values go as text: the server turns them into what the statement needs.
        let typed: Vec<_> =
            parameters.iter().map(|value| (value as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT)).collect();
        let rows = transaction.query_typed(statement, &typed).await.map_err(failed)?;
        rows.iter().map(texts).collect::<Result<_, _>>()?
    };
    if let Err(why) = expect(&rows) {
        transaction.rollback().await.map_err(failed)?;
        return Err(match is_read_only {
            true => why,
            false => format!("{why}; it was rolled back"),
        });
    }
    transaction.commit().await.map_err(failed)?;
    Ok(rows)
}

/// The columns of a row as text.
fn texts(row: &Row) -> Result<Vec<Option<String>>, String> {
    let text = |column: usize| {
        let name = row.columns()[column].name();
        Ok(match *row.columns()[column].type_() {
            Type::BOOL => row.get::<_, Option<bool>>(column).map(|value| if value { "t" } else { "f" }.to_owned()),
            Type::INT2 => row.get::<_, Option<i16>>(column).map(|value| value.to_string()),
            Type::INT4 => row.get::<_, Option<i32>>(column).map(|value| value.to_string()),
            Type::INT8 => row.get::<_, Option<i64>>(column).map(|value| value.to_string()),
            Type::FLOAT4 => row.get::<_, Option<f32>>(column).map(|value| value.to_string()),
            Type::FLOAT8 => row.get::<_, Option<f64>>(column).map(|value| value.to_string()),
            Type::TEXT | Type::VARCHAR | Type::NAME | Type::BPCHAR | Type::UNKNOWN => row.get(column),
            ref other => return Err(format!("column {name} is of type {other}: write {name}::text in the statement")),
        })
    };
    (0..row.len()).map(text).collect()
}

fn first(rows: &[Vec<Option<String>>]) -> Option<String> {
    rows.first()?.first()?.clone()
}
