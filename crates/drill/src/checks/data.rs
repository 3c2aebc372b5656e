//! Rung 7: row counts and digests of every table against those of the source.
//!
//! What the comparison is worth depends on how the source's digests were taken, so its kind is recorded with the answer: with
//! a quiet source equal is equal; with a busy one there is nothing to compare with, and that is said.

use lifeboat_engine::details::{Comparison as Taken, Witness};
use lifeboat_evidence::drill::Comparison;
use lifeboat_postgres::digest::{self, DatabaseDigest};

use crate::{checks::some, error::Result, ladder::Answer, postgres::Server};

/// Compares every database that the witness knows; says in `kind` what the comparison was.
pub(crate) async fn compare(server: &Server, witness: Option<&Witness>, kind: &mut Comparison) -> Result<Answer> {
    let mut not_compared = |why: &str| {
        *kind = Comparison::None { why: why.to_owned() };
        Ok(Answer::not_executed(why))
    };
    let Some(witness) = witness else { return not_compared("the point holds no digests of its source") };
    if let Taken::NotExact { why } = &witness.comparison {
        return not_compared(&format!("there is no exact digest to compare with: {why}"));
    }
    if witness.databases.is_empty() {
        return not_compared("the point holds no digests of its source");
    }
    if let Some((database, _)) = witness.databases.iter().find(|(_, source)| source.tables.is_empty()) {
        return not_compared(&format!("the source digested no table of database \"{database}\""));
    }
    let (mut tables, mut rows, mut wrong) = (0, 0, Vec::new());
    for (database, source) in &witness.databases {
        // The source could be digested: that the restored database cannot is a difference.
        let client = match server.connect(database).await {
            Ok(client) => client,
            Err(error) => return Ok(Answer::broken(&error)),
        };
        let restored = match digest::run(&client, &digest::Options::default()).await {
            Ok(restored) => restored,
            Err(error) => return Ok(Answer::broken(&error.into())),
        };
        tables += source.tables.len() as u64;
        rows += source.rows();
        wrong.extend(differences(database, source, &restored));
    }
    *kind = Comparison::QuietSource { tables, rows };
    let seen = format!("quiet source: {tables} tables, {rows} rows, every digest equal");
    let unread = unread(&witness.databases);
    Ok(match wrong.len() {
        0 if !unread.is_empty() => Answer::not_executed(format!(
            "{tables} tables are equal, but {} were not digested at the source: {}",
            unread.len(),
            some(&unread, unread.len() as u64)
        ))
        .in_public(format!("{tables} tables are equal, but {} were not digested at the source", unread.len())),
        0 => Answer::passed(seen),
        count => Answer::failed(format!("quiet source: {}", some(&wrong, count as u64)))
            .in_public(format!("quiet source: {count} of {tables} tables or sequences differ")),
    })
}

/// Tables that the source could not digest, and why. Those that a restore has no rows of are none of them.
fn unread<'a>(databases: impl IntoIterator<Item = (&'a String, &'a DatabaseDigest)>) -> Vec<String> {
    const WITHOUT_ROWS: [&str; 3] = ["unlogged", "a foreign table", "a materialized view without data"];
    let mut unread = Vec::new();
    for (database, source) in databases {
        let left = source.left_out.iter().filter(|(_, why)| !WITHOUT_ROWS.iter().any(|known| why.starts_with(known)));
        unread.extend(left.map(|(name, why)| format!("{database}: {name}: {why}")));
    }
    unread
}

/// Digests that differ, and tables that the source could read and the restored database cannot.
fn differences(database: &str, source: &DatabaseDigest, restored: &DatabaseDigest) -> Vec<String> {
    let differ = digest::compare(source, restored);
    let mut wrong: Vec<String> = differ
        .into_iter()
        .map(|one| format!("{database}: {}: source {}, restored {}", one.name, one.source, one.restored))
        .collect();
    let unread = restored.left_out.iter().filter(|(name, _)| source.tables.contains_key(*name));
    wrong.extend(unread.map(|(name, why)| format!("{database}: {name} cannot be read: {why}")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_postgres::digest::TableDigest;

    fn digest(rows: u64, left_out: &[&str]) -> DatabaseDigest {
        let table = TableDigest { rows, sums: ["1".into(), "2".into()] };
        DatabaseDigest {
            tables: [("public.t".to_owned(), table)]
                .into_iter()
                .filter(|(name, _)| !left_out.contains(&name.as_str()))
                .collect(),
            left_out: left_out.iter().map(|&name| (name.to_owned(), "timeout".to_owned())).collect(),
            ..DatabaseDigest::default()
        }
    }

    #[test]
    fn a_table_that_the_source_could_not_digest_is_named() {
        let mut source = digest(3, &["public.secret"]);
        for (name, why) in [
            ("public.cache", "unlogged: a restore empties it"),
            ("public.far", "a foreign table: its rows are elsewhere"),
            ("public.view", "a materialized view without data"),
        ] {
            source.left_out.insert(name.into(), why.into());
        }
        let databases = [("demo".to_owned(), source)];
        let found = unread(databases.iter().map(|(name, digest)| (name, digest)));
        assert_eq!(found, ["demo: public.secret: timeout"]);
    }

    #[test]
    fn a_table_that_cannot_be_read_any_more_is_a_difference() {
        assert_eq!(differences("demo", &digest(3, &[]), &digest(3, &[])), [] as [String; 0]);
        assert_eq!(differences("demo", &digest(3, &[]), &digest(4, &[])).len(), 1);
        assert_eq!(differences("demo", &digest(3, &[]), &digest(3, &["public.t"])).len(), 1);
        assert_eq!(differences("demo", &digest(3, &["public.t"]), &digest(3, &["public.t"])).len(), 0);
    }
}
