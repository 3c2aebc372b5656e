//! Sequences: read many in one statement, since there are as many as tables.

use std::collections::BTreeMap;

use super::{Sequence, catalog::SequenceName, read::Reader};
use crate::error::Result;

/// So many in one statement.
const AT_ONCE: usize = 100;
const NO_RIGHT: &str = "permission denied for sequence: GRANT SELECT, or pg_read_all_data";

/// What sequences showed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reached {
    /// The value up to which WAL has promised numbers.
    pub(crate) reach: BTreeMap<String, i64>,
    /// What was not read, and why.
    pub(crate) refused: BTreeMap<String, String>,
}

/// Reads what the role may read. Sequences are not transactional: a snapshot changes nothing.
pub(crate) async fn read(reader: &Reader<'_>, names: &[SequenceName]) -> Result<Reached> {
    let mut reached = Reached::default();
    let mut wanted = Vec::new();
    for sequence in names {
        match sequence {
            SequenceName { left_out: Some(why), .. } => {
                drop(reached.refused.insert(sequence.name.clone(), (*why).to_owned()));
            }
            SequenceName { readable: false, .. } => {
                drop(reached.refused.insert(sequence.name.clone(), NO_RIGHT.into()));
            }
            _ => wanted.push(sequence),
        }
    }
    for some in wanted.chunks(AT_ONCE) {
        if reached.add(reader, some).await?.is_some() {
            // One of them is refused: which?
            for one in some {
                if let Some(cause) = reached.add(reader, &[one]).await? {
                    reached.refused.insert(one.name.clone(), cause);
                }
            }
        }
    }
    Ok(reached)
}

impl Reached {
    /// Reads some; gives the server's words if it refuses.
    async fn add(&mut self, reader: &Reader<'_>, some: &[&SequenceName]) -> Result<Option<String>> {
        let one = |(index, sequence): (usize, &&SequenceName)| {
            let (quoted, increment) = (&sequence.quoted, sequence.increment);
            format!("SELECT {index}::text, (last_value::numeric + log_cnt * {increment}::numeric)::text FROM {quoted}")
        };
        let statement: Vec<String> = some.iter().enumerate().map(one).collect();
        let rows = match reader.rows(&statement.join(" UNION ALL ")).await? {
            Ok(rows) => rows,
            Err(cause) => return Ok(Some(cause)),
        };
        for row in &rows {
            let index = row.get(0).and_then(|index| index.parse::<usize>().ok());
            let reach = row.get(1).and_then(|reach| reach.parse::<i128>().ok());
            if let (Some(sequence), Some(reach)) = (index.and_then(|index| some.get(index)), reach) {
                let reach = reach.clamp(i64::MIN.into(), i64::MAX.into());
                self.reach.insert(sequence.name.clone(), i64::try_from(reach).unwrap_or_default());
            }
        }
        Ok(None)
    }
}

/// What a restore may show of a sequence that was read before a snapshot, after it, and once more later. Numbers that
/// went back, or began again, can say nothing.
pub(crate) fn bounds(
    sequence: &SequenceName,
    before: Option<i64>,
    between: Option<i64>,
    after: Option<i64>,
) -> std::result::Result<Sequence, &'static str> {
    let (Some(before), Some(between), Some(after)) = (before, between, after) else {
        return Err("made or dropped while the snapshot was taken");
    };
    let forward = |from: i64, to: i64| if sequence.increment > 0 { from <= to } else { from >= to };
    if !forward(before, between) || !forward(between, after) {
        return Err("set back while the snapshot was taken");
    }
    if sequence.cycles && before != after {
        return Err("it may have begun again (CYCLE) while the snapshot was taken");
    }
    Ok(Sequence::Between { before, after })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_moves_between_its_bounds_or_says_nothing() {
        let mut sequence = SequenceName {
            name: "public.s".into(),
            quoted: "public.s".into(),
            increment: 1,
            cycles: false,
            left_out: None,
            readable: true,
        };
        assert_eq!(bounds(&sequence, Some(1), Some(33), Some(33)), Ok(Sequence::Between { before: 1, after: 33 }));
        assert!(bounds(&sequence, Some(33), Some(1), Some(40)).is_err(), "setval");
        assert!(bounds(&sequence, Some(33), None, Some(40)).is_err());
        sequence.increment = -1;
        assert_eq!(bounds(&sequence, Some(-1), Some(-1), Some(-33)), Ok(Sequence::Between { before: -1, after: -33 }));
        sequence.cycles = true;
        assert!(bounds(&sequence, Some(-1), Some(-1), Some(-33)).is_err());
        assert!(bounds(&sequence, Some(-1), Some(-1), Some(-1)).is_ok());
    }
}
