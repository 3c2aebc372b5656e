//! Rung 7 on a system that has gone on: digests of the source at an exact position, against tables that nobody has written since.
//!
//! A drill pauses replay at the witness's position. A recovered server is past it: its log was replayed further, and Odoo may
//! have begun to work. So a table that differs is asked whether it holds a row of a transaction that the witness's snapshot had
//! not seen. If so it was written since, is counted, and is not compared. If not, nothing explains the difference: either side's
//! rows are not what they were. Fewer rows without such a trace may have been deleted since or be lost; nobody can tell, and
//! that is no pass.

use std::time::Duration;

use lifeboat_engine::details::{Comparison, Witness};
use lifeboat_postgres::digest::{self, DatabaseDigest, Difference, Sequence};
use tokio_postgres::Client;

use super::server::Server;
use crate::{
    checks::{extensions::Sessions as _, some},
    error::{Error, Result},
    ladder::Answer,
};

/// What was seen of all databases.
#[derive(Debug, Default)]
struct Seen {
    equal: u64,
    written: Vec<String>,
    untold: Vec<String>,
    wrong: Vec<String>,
}

/// Compares.
pub(super) async fn compare(server: &Server, witness: Option<&Witness>, limit: Duration) -> Result<Answer> {
    let Some(witness) = witness.filter(|witness| !witness.databases.is_empty()) else {
        return Ok(Answer::not_executed("the restore holds no digests of its source"));
    };
    let at = match &witness.comparison {
        Comparison::NotExact { why } => return Ok(Answer::not_executed(format!("witness inexact: {why}"))),
        Comparison::Exact { lsn, .. } => format!("exact witness at {lsn}"),
        Comparison::QuietSource { .. } => "quiet source".to_owned(),
    };
    let mut seen = Seen::default();
    for (database, source) in &witness.databases {
        let snapshot = match (&source.snapshot, &witness.comparison) {
            (Some(snapshot), _) => snapshot.as_str(),
            (None, Comparison::Exact { snapshot, .. } | Comparison::QuietSource { snapshot }) => snapshot.as_str(),
            _ => return Ok(Answer::not_executed("the witness's snapshot is not recorded")),
        };
        let clients = vec![server.open(database).await?, server.open(database).await?];
        let options = digest::Options { statement_timeout: limit };
        let restored = digest::run_like(&clients, Some(source), &options).await?;
        look(&clients[0], (database, source, &restored), snapshot, &mut seen).await?;
    }
    Ok(judge(&at, &seen))
}

async fn look(
    client: &Client,
    (database, source, restored): (&str, &DatabaseDigest, &DatabaseDigest),
    snapshot: &str,
    seen: &mut Seen,
) -> Result<()> {
    let differences = digest::compare(source, restored);
    let lacking = |name: &String| restored.left_out.contains_key(name) || source.inconclusive.contains_key(name);
    let compared = source.tables.keys().filter(|name| !lacking(name)).count();
    let differing = differences.iter().filter(|one| source.tables.contains_key(&one.name)).count();
    seen.equal += compared.saturating_sub(differing) as u64;
    seen.untold.extend(restored.unread().map(|(name, why)| format!("{database}: {name} cannot be read: {why}")));
    for difference in &differences {
        let name = &difference.name;
        let told = format!("{database}: {name}: source {}, restored {}", difference.source, difference.restored);
        if source.sequences.contains_key(name) || restored.sequences.contains_key(name) {
            match went_on(source.sequences.get(name), restored.sequences.get(name)) {
                true => seen.written.push(format!("{database}: {name}")),
                false => seen.wrong.push(told),
            }
            continue;
        }
        match (source.tables.get(name), restored.tables.get(name)) {
            (None, _) => seen.written.push(format!("{database}: {name} (made since)")),
            (Some(_), None) => seen.untold.push(format!("{told} (dropped since, or lost)")),
            (Some(before), Some(after)) => match traces(client, difference, snapshot).await? {
                0 if after.rows < before.rows => seen.untold.push(format!("{told} (deleted since, or lost)")),
                0 => seen.wrong.push(told),
                _ => seen.written.push(format!("{database}: {name}")),
            },
        }
    }
    Ok(())
}

/// A sequence that has given numbers since.
fn went_on(source: Option<&Sequence>, restored: Option<&Sequence>) -> bool {
    let bound = |one: &Sequence| match one {
        Sequence::At(reach) => *reach,
        Sequence::Between { before, after } => *before.min(after),
    };
    match (source, restored) {
        (None, _) => true,
        (Some(source), Some(restored)) => bound(restored) >= bound(source),
        (Some(_), None) => false,
    }
}

/// How many rows are of transactions that the snapshot had not seen. Rows tell 32 bits of an id: what lies less than half of
/// the circle behind the snapshot's end came after it.
async fn traces(client: &Client, difference: &Difference, snapshot: &str) -> Result<i64> {
    let find = "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c \
                JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname || '.' || c.relname = $1 AND c.relkind IN ('r', 'm')";
    let failed = || Error::sql(format!("look for later rows of {}", difference.name));
    let Some(row) = client.query_opt(find, &[&difference.name]).await.map_err(failed())? else { return Ok(0) };
    let quoted: String = row.get(0);
    let count = format!(
        "WITH s AS (SELECT (pg_snapshot_xmax($1::text::pg_snapshot)::text::numeric % 4294967296)::bigint AS top, \
                ARRAY(SELECT (x::text::numeric % 4294967296)::bigint FROM pg_snapshot_xip($1::text::pg_snapshot) x) AS open) \
         SELECT count(*) FROM ONLY {quoted} q, s WHERE q.xmin::text::bigint > 2 AND \
                ((q.xmin::text::bigint - s.top + 4294967296) % 4294967296 < 2147483648 OR q.xmin::text::bigint = ANY(s.open))"
    );
    let row = client.query_one(&count, &[&snapshot]).await.map_err(failed())?;
    Ok(row.get(0))
}

fn judge(at: &str, seen: &Seen) -> Answer {
    let Seen { equal, written, untold, wrong } = seen;
    if !wrong.is_empty() {
        let why = format!("{at}: differ, and nobody has written them since: {}", some(wrong, wrong.len() as u64));
        return Answer::failed(why);
    }
    let since = match written.len() {
        0 => String::new(),
        count => format!(
            "; {count} tables or sequences were written since and are not compared: {}",
            some(written, count as u64)
        ),
    };
    let told = format!("{at}: {equal} tables equal, and nobody has written them since{since}");
    if !untold.is_empty() {
        return Answer::not_executed(format!("{told}; cannot be told: {}", some(untold, untold.len() as u64)));
    }
    match equal {
        0 => Answer::not_executed(format!("{at}: every table was written since{since}")),
        _ => Answer::passed(told),
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::check::Verdict;

    use super::*;

    #[test]
    fn only_what_later_writes_explain_is_let_pass() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let seen = |equal, written: &[&str], untold: &[&str], wrong: &[&str]| Seen {
            equal,
            written: names(written),
            untold: names(untold),
            wrong: names(wrong),
        };
        assert_eq!(judge("w", &seen(3, &["a"], &[], &[])).verdict, Verdict::Passed);
        assert!(matches!(judge("w", &seen(3, &["a"], &[], &["b"])).verdict, Verdict::Failed(why) if why.contains('b')));
        assert!(matches!(judge("w", &seen(3, &[], &["c"], &[])).verdict, Verdict::NotExecuted(_)));
        assert!(matches!(judge("w", &seen(0, &["a"], &[], &[])).verdict, Verdict::NotExecuted(_)));
    }

    #[test]
    fn a_sequence_only_goes_on() {
        let at = Sequence::At;
        assert!(went_on(Some(&at(5)), Some(&at(37))) && went_on(None, Some(&at(1))));
        assert!(!went_on(Some(&at(37)), Some(&at(5))) && !went_on(Some(&at(5)), None));
    }
}
