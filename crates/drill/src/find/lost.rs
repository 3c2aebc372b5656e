//! What going back to a moment would undo, table by table.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_postgres::digest::DatabaseDigest;

/// A table that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostTable {
    /// `schema.table`.
    pub name: String,
    /// Rows at the good moment; none: it is not there.
    pub good: Option<u64>,
    /// Rows at the newest moment; none: it is not there.
    pub newest: Option<u64>,
}

/// The difference between two moments of one database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// Tables whose rows are not the same, by name.
    pub tables: Vec<LostTable>,
    /// How many tables are the same, row by row.
    pub same: u64,
    /// What could not be compared, and why.
    pub not_compared: BTreeMap<String, String>,
}

impl Lost {
    /// Between what the good moment holds and what the newest does.
    pub fn between(good: &DatabaseDigest, newest: &DatabaseDigest) -> Lost {
        let mut lost = Lost::default();
        for digest in [good, newest] {
            let unread = digest.unread().map(|(name, why)| (name.to_owned(), why.to_owned()));
            let changed = digest.inconclusive.iter().map(|(name, why)| (name.clone(), why.clone()));
            let part = digest.sampled().map(|name| (name.to_owned(), "only a part of it was read".to_owned()));
            lost.not_compared.extend(unread.chain(changed).chain(part));
        }
        let names: BTreeSet<&String> = good.tables.keys().chain(newest.tables.keys()).collect();
        for name in names.into_iter().filter(|name| !lost.not_compared.contains_key(*name)) {
            let (before, after) = (good.tables.get(name), newest.tables.get(name));
            let is_same = matches!(
                (before, after),
                (Some(before), Some(after)) if before.rows == after.rows && before.sums == after.sums
            );
            match is_same {
                true => lost.same += 1,
                false => lost.tables.push(LostTable {
                    name: name.clone(),
                    good: before.map(|table| table.rows),
                    newest: after.map(|table| table.rows),
                }),
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_postgres::digest::TableDigest;

    use super::*;

    fn digest(tables: &[(&str, u64, &str)]) -> DatabaseDigest {
        let table = |rows: u64, sum: &str| TableDigest {
            rows,
            sums: [sum.to_owned(), sum.to_owned()],
            ..TableDigest::default()
        };
        let tables = tables.iter().map(|(name, rows, sum)| (format!("public.{name}"), table(*rows, sum))).collect();
        DatabaseDigest { tables, ..DatabaseDigest::default() }
    }

    #[test]
    fn rows_that_were_added_changed_or_made_are_named() {
        let good =
            digest(&[("same", 3, "7"), ("grown", 3, "7"), ("edited", 3, "7"), ("gone", 1, "1"), ("torn", 1, "1")]);
        let mut newest = digest(&[("same", 3, "7"), ("grown", 5, "9"), ("edited", 3, "8"), ("made", 2, "2")]);
        newest.left_out.insert("public.torn".to_owned(), "invalid page".to_owned());
        let lost = Lost::between(&good, &newest);
        let table = |name: &str, good, newest| LostTable { name: format!("public.{name}"), good, newest };
        let expected = [
            table("edited", Some(3), Some(3)),
            table("gone", Some(1), None),
            table("grown", Some(3), Some(5)),
            table("made", None, Some(2)),
        ];
        assert_eq!((lost.tables.as_slice(), lost.same), (expected.as_slice(), 1));
        assert_eq!(lost.not_compared.keys().collect::<Vec<_>>(), ["public.torn"]);
    }
}
