//! Rung 7: row counts and digests of every table against those of the source.
//!
//! What the comparison is worth depends on how the source's digests were taken, so its kind is recorded with the answer: with
//! a quiet source equal is equal; with a busy one there is nothing to compare with, and that is said.

use lifeboat_engine::details::{Comparison as Taken, Witness};
use lifeboat_evidence::drill::Comparison;
use lifeboat_postgres::digest::{self, DatabaseDigest};

use crate::{
    checks::some,
    error::{Result, chain},
    ladder::Answer,
    postgres::Server,
};

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
    let (mut tables, mut rows, mut wrong) = (0, 0, Vec::new());
    for (database, source) in &witness.databases {
        let client = server.connect(database).await?;
        let restored = match digest::run(&client, &digest::Options::default()).await {
            Ok(restored) => restored,
            Err(error) => {
                return not_compared(&format!("database \"{database}\" cannot be digested: {}", chain(&error)));
            }
        };
        tables += source.tables.len() as u64;
        rows += source.rows();
        wrong.extend(differences(database, source, &restored));
    }
    *kind = Comparison::QuietSource { tables, rows };
    let seen = format!("quiet source: {tables} tables, {rows} rows, every digest equal");
    Ok(match wrong.len() {
        0 => Answer::passed(seen),
        count => Answer::failed(format!("quiet source: {}", some(&wrong, count as u64)))
            .in_public(format!("quiet source: {count} of {tables} tables or sequences differ")),
    })
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
    fn a_table_that_cannot_be_read_any_more_is_a_difference() {
        assert_eq!(differences("demo", &digest(3, &[]), &digest(3, &[])), [] as [String; 0]);
        assert_eq!(differences("demo", &digest(3, &[]), &digest(4, &[])).len(), 1);
        assert_eq!(differences("demo", &digest(3, &[]), &digest(3, &["public.t"])).len(), 1);
        assert_eq!(differences("demo", &digest(3, &["public.t"]), &digest(3, &["public.t"])).len(), 0);
    }
}
