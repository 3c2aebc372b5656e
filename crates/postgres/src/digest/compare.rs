//! How two digests of the same database differ, down to ranges of blocks and, in small tables, to rows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{DatabaseDigest, RangeDigest, Sequence, TableDigest};

/// So many ranges and rows of one table are named.
const NAMED: usize = 10;

/// One way in which a restored database is not what the source was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// `schema.relation`.
    pub name: String,
    /// What the source had.
    pub source: String,
    /// What the restored database has.
    pub restored: String,
    /// Where in the table, as far as known: `blocks 64 to 127: 10 rows at the source, 9 restored`.
    #[serde(default)]
    pub ranges: Vec<String>,
    /// The rows of a small table that differ, by their place (`block,item`): of either side.
    #[serde(default)]
    pub places: Vec<String>,
}

/// What differs, in the order of the names, tables before sequences. What either side left out, and what was
/// inconclusive at the source, is not compared: the caller must say so.
pub fn compare(source: &DatabaseDigest, restored: &DatabaseDigest) -> Vec<Difference> {
    let skipped = |name: &String| {
        [source, restored].iter().any(|side| side.left_out.contains_key(name) || side.inconclusive.contains_key(name))
    };
    let mut found = differences(&source.tables, &restored.tables, TableDigest::is_same, TableDigest::told);
    for difference in &mut found {
        if let (Some(source), Some(restored)) =
            (source.tables.get(&difference.name), restored.tables.get(&difference.name))
        {
            difference.ranges = ranges(source, restored);
            difference.places = places(source, restored);
        }
    }
    found.extend(differences(&source.sequences, &restored.sequences, Sequence::admits, Sequence::told));
    found.retain(|difference| !skipped(&difference.name));
    found
}

fn differences<T>(
    source: &BTreeMap<String, T>,
    restored: &BTreeMap<String, T>,
    same: impl Fn(&T, &T) -> bool,
    show: impl Fn(&T) -> String,
) -> Vec<Difference> {
    let names: BTreeSet<&String> = source.keys().chain(restored.keys()).collect();
    let shown = |value: Option<&T>| value.map_or_else(|| "not there".to_owned(), &show);
    let differs = |name: &&String| match (source.get(*name), restored.get(*name)) {
        (Some(source), Some(restored)) => !same(source, restored),
        _ => true,
    };
    let difference = |name: &String| Difference {
        name: name.clone(),
        source: shown(source.get(name)),
        restored: shown(restored.get(name)),
        ranges: Vec::new(),
        places: Vec::new(),
    };
    names.into_iter().filter(differs).map(difference).collect()
}

impl TableDigest {
    /// Whether both have the same rows: ranges only tell where.
    fn is_same(&self, other: &TableDigest) -> bool {
        let blocks = |of: &TableDigest| of.sample.map(|sample| sample.blocks);
        self.rows == other.rows && self.sums == other.sums && blocks(self) == blocks(other)
    }

    fn told(&self) -> String {
        let sample = self
            .sample
            .map_or_else(String::new, |sample| format!(" in a sample of {} of {} blocks", sample.blocks, sample.of));
        format!("{} rows, digest {}/{}{sample}", self.rows, self.sums[0], self.sums[1])
    }
}

impl Sequence {
    /// Whether a restored sequence may show this.
    fn admits(&self, restored: &Sequence) -> bool {
        match (*self, *restored) {
            (Sequence::Between { before, after }, Sequence::At(reach)) => {
                (before.min(after)..=before.max(after)).contains(&reach)
            }
            (source, restored) => source == restored,
        }
    }

    fn told(&self) -> String {
        match self {
            Sequence::At(reach) => format!("reaches {reach}"),
            Sequence::Between { before, after } if before == after => format!("reaches {before}"),
            Sequence::Between { before, after } => format!("reaches {before} to {after}"),
        }
    }
}

fn ranges(source: &TableDigest, restored: &TableDigest) -> Vec<String> {
    let by_first = |table: &TableDigest| -> BTreeMap<u64, RangeDigest> {
        table.ranges.iter().map(|range| (range.first, range.clone())).collect()
    };
    let (source, restored) = (by_first(source), by_first(restored));
    let differ = |(first, one): (&u64, &RangeDigest)| {
        let other = restored.get(first)?;
        if (other.end != one.end) || (one.rows == other.rows && one.sums == other.sums) {
            return None;
        }
        let end = one.end.map_or_else(|| "the end".to_owned(), |end| (end - 1).to_string());
        Some(format!("blocks {first} to {end}: {} rows at the source, {} restored", one.rows, other.rows))
    };
    let mut told: Vec<String> = source.iter().filter_map(differ).collect();
    let more = told.len().saturating_sub(NAMED);
    told.truncate(NAMED);
    if more > 0 {
        told.push(format!("and {more} more ranges"));
    }
    told
}

fn places(source: &TableDigest, restored: &TableDigest) -> Vec<String> {
    let all_known = |table: &TableDigest| table.places.len() as u64 == table.rows;
    if !all_known(source) || !all_known(restored) {
        return Vec::new();
    }
    let all: BTreeSet<&String> = source.places.keys().chain(restored.places.keys()).collect();
    let differs = |place: &&&String| source.places.get(**place) != restored.places.get(**place);
    all.iter().filter(differs).take(NAMED).map(|place| (**place).clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: u64, sum: &str) -> TableDigest {
        TableDigest { rows, sums: [sum.to_owned(), "0".to_owned()], ..TableDigest::default() }
    }

    fn digest(tables: &[(&str, u64, &str)]) -> DatabaseDigest {
        let table = |(name, rows, sum): &(&str, u64, &str)| ((*name).to_owned(), table(*rows, sum));
        DatabaseDigest { tables: tables.iter().map(table).collect(), ..DatabaseDigest::default() }
    }

    #[test]
    fn differences_name_the_table_and_both_values() {
        let source = digest(&[("public.a", 1, "7"), ("public.b", 2, "8"), ("public.c", 3, "9")]);
        assert_eq!(compare(&source, &source), []);
        let restored = digest(&[("public.a", 1, "7"), ("public.b", 2, "-8"), ("public.d", 0, "0")]);
        let found = compare(&source, &restored);
        let names: Vec<&str> = found.iter().map(|difference| difference.name.as_str()).collect();
        assert_eq!(names, ["public.b", "public.c", "public.d"]);
        assert_eq!(found[0].source, "2 rows, digest 8/0");
        assert_eq!(found[1].restored, "not there");
    }

    #[test]
    fn a_difference_names_its_range_and_its_rows() {
        let range = |first, end, rows, sum: &str| RangeDigest { first, end, rows, sums: [sum.into(), "0".into()] };
        let with = |second: &str, place: &str| {
            let mut one = table(5, second);
            one.ranges = vec![range(0, Some(64), 2, "1"), range(64, None, 3, second)];
            one.places = [("0,1", "aa"), ("0,2", "a"), ("70,2", place), ("70,3", "b"), ("70,4", "c")]
                .map(|(at, hash)| (at.into(), hash.into()))
                .into();
            DatabaseDigest { tables: [("public.t".to_owned(), one)].into(), ..DatabaseDigest::default() }
        };
        let found = compare(&with("5", "bb"), &with("6", "cc"));
        assert_eq!(found[0].ranges, ["blocks 64 to the end: 3 rows at the source, 3 restored"]);
        assert_eq!(found[0].places, ["70,2"]);
    }

    #[test]
    fn a_part_is_not_the_whole() {
        let source = digest(&[("public.a", 1, "7")]);
        let mut restored = source.clone();
        restored.tables.get_mut("public.a").unwrap().sample = Some(super::super::Sample { blocks: 1, of: 2 });
        assert_eq!(compare(&source, &restored).len(), 1);
    }

    #[test]
    fn what_is_left_out_or_changed_shape_is_not_compared_and_sequences_are() {
        let mut source = digest(&[("public.a", 1, "7")]);
        let mut restored = digest(&[("public.b", 1, "7")]);
        restored.left_out.insert("public.a".into(), "timed out".into());
        source.doubt("public.b".into(), "truncated");
        source.sequences.insert("public.s".into(), Sequence::At(33));
        source.sequences.insert("public.u".into(), Sequence::Between { before: 33, after: 65 });
        source.sequences.insert("public.v".into(), Sequence::Between { before: -1, after: -33 });
        restored.sequences.insert("public.s".into(), Sequence::At(34));
        restored.sequences.insert("public.u".into(), Sequence::At(65));
        restored.sequences.insert("public.v".into(), Sequence::At(-2));
        let found = compare(&source, &restored);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].source.as_str(), found[0].restored.as_str()), ("reaches 33", "reaches 34"));
        restored.sequences.insert("public.u".into(), Sequence::At(66));
        assert_eq!(compare(&source, &restored)[1].source, "reaches 33 to 65");
    }

    #[test]
    fn digests_of_the_first_release_are_read() {
        let old = r#"{"tables":{"public.t":{"rows":2,"sums":["1","2"]}},"sequences":{"public.s":33},"left_out":{}}"#;
        let read: DatabaseDigest = serde_json::from_str(old).unwrap();
        assert_eq!(read.sequences["public.s"], Sequence::At(33));
        assert_eq!(serde_json::to_string(&read).unwrap(), old, "and are written as they were");
    }
}
