//! Which blocks of a table are read, and in what pieces their sums are kept.

use super::{Sample, TableDigest, catalog::Relation, read::FEW_ROWS};

/// A table's digest has at most this many ranges.
const MOST_RANGES: u64 = 64;
/// A range is at least this many blocks: 512 KiB.
const LEAST_BLOCKS: u64 = 64;
/// A statement reads at most this many blocks (16 MiB), so that pauses and limits take hold.
const STEP: u64 = 2048;
/// Tables up to this many blocks may have few rows.
const FEW: u64 = 256;

/// A range of blocks; without an end, to the end of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) first: u64,
    pub(crate) end: Option<u64>,
}

/// How a table is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// In order; one range is the whole table.
    pub(crate) ranges: Vec<Blocks>,
    pub(crate) sample: Option<Sample>,
    /// Whether the rows' own hashes are kept, if they are few.
    pub(crate) places: bool,
    /// The table's length, as far as it matters for steps.
    blocks: u64,
}

impl Layout {
    /// The whole table, or a sample of it where it is larger than `sample_above` bytes.
    pub(crate) fn new(relation: &Relation, block_size: u64, sample_above: Option<u64>) -> Layout {
        let blocks = relation.blocks;
        if !relation.in_ranges {
            let ranges = vec![Blocks { first: 0, end: None }];
            return Layout { ranges, sample: None, places: false, blocks: 0 };
        }
        let most = sample_above.map_or(u64::MAX, |most| most / block_size);
        if blocks > most && blocks > MOST_RANGES {
            return Layout::sample(&relation.name, blocks, most);
        }
        let size = blocks.div_ceil(MOST_RANGES).next_power_of_two().max(LEAST_BLOCKS);
        let starts = (0..blocks.max(1)).step_by(usize::try_from(size).unwrap_or(usize::MAX));
        let mut ranges: Vec<Blocks> = starts.map(|first| Blocks { first, end: Some(first + size) }).collect();
        if let Some(last) = ranges.last_mut() {
            last.end = None;
        }
        Layout { places: ranges.len() == 1 || blocks <= FEW, ranges, sample: None, blocks }
    }

    /// One piece of each 64th of the table, at a place that depends on the table's name alone.
    fn sample(name: &str, blocks: u64, most: u64) -> Layout {
        let stratum = blocks / MOST_RANGES;
        let size = (most / MOST_RANGES).clamp(1, stratum);
        let place = |index: u64| {
            let first = index * stratum + seeded(name, index) % (stratum - size + 1);
            Blocks { first, end: Some(first + size) }
        };
        let ranges: Vec<Blocks> = (0..MOST_RANGES).map(place).collect();
        let sample = Some(Sample { blocks: size * MOST_RANGES, of: blocks });
        Layout { ranges, sample, places: false, blocks }
    }

    /// As another digest of the same blocks was read, or the whole table.
    pub(crate) fn like(like: Option<&TableDigest>, relation: &Relation, block_size: u64) -> Layout {
        let Some(like) = like.filter(|_| relation.in_ranges) else { return Layout::new(relation, block_size, None) };
        let mut ranges: Vec<Blocks> =
            like.ranges.iter().map(|range| Blocks { first: range.first, end: range.end }).collect();
        if ranges.is_empty() {
            ranges.push(Blocks { first: 0, end: None });
        }
        let places = like.rows <= FEW_ROWS && like.sample.is_none();
        Layout { ranges, sample: like.sample, places, blocks: relation.blocks }
    }

    /// The statements of one range.
    pub(crate) fn steps(&self, range: Blocks) -> Vec<Blocks> {
        let end = range.end.unwrap_or(self.blocks).max(range.first + 1);
        let firsts = (range.first..end).step_by(STEP as usize);
        let mut steps: Vec<Blocks> = firsts.map(|first| Blocks { first, end: Some((first + STEP).min(end)) }).collect();
        if let Some(last) = steps.last_mut() {
            last.end = range.end;
        }
        steps
    }
}

/// FNV-1a: the same place in every witness of a table, so that samples can be compared over time.
fn seeded(name: &str, index: u64) -> u64 {
    let bytes = name.bytes().chain(index.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(blocks: u64, sample_above: Option<u64>) -> Layout {
        Layout::new(&Relation::example("public.t", blocks), 8192, sample_above)
    }

    #[test]
    fn ranges_are_few_and_cover_the_table_without_overlap() {
        for blocks in [0, 1, 63, 64, 65, 4096, 4097, 1_000_000, 4_294_967_294] {
            let layout = layout(blocks, None);
            assert!((1..=64).contains(&layout.ranges.len()), "{blocks}: {}", layout.ranges.len());
            assert_eq!(layout.ranges[0].first, 0);
            for pair in layout.ranges.windows(2) {
                assert_eq!(pair[0].end, Some(pair[1].first));
            }
            assert_eq!(layout.ranges.last().unwrap().end, None);
            assert!(layout.sample.is_none());
        }
        assert_eq!(layout(64, None).ranges.len(), 1, "a small table has one range");
    }

    #[test]
    fn steps_cover_a_range_and_the_last_is_as_open_as_it() {
        let layout = layout(1_000_000, None);
        let last = *layout.ranges.last().unwrap();
        let steps = layout.steps(last);
        assert_eq!((steps[0].first, steps.last().unwrap().end), (last.first, None));
        let first = layout.steps(layout.ranges[0]);
        assert_eq!(first.len(), 8);
        assert!(first.windows(2).all(|pair| pair[0].end == Some(pair[1].first)));
        assert_eq!(first.last().unwrap().end, layout.ranges[0].end);
        let beyond = Blocks { first: 2_000_000, end: None };
        assert_eq!(layout.steps(beyond), [beyond], "a restored table may be shorter");
    }

    #[test]
    fn a_sample_is_spread_the_same_each_time_and_said_to_be_one() {
        let sampled = layout(1_000_000, Some(64 << 20));
        assert_eq!(sampled, layout(1_000_000, Some(64 << 20)));
        assert_eq!(sampled.sample, Some(Sample { blocks: 8192, of: 1_000_000 }));
        assert!(sampled.ranges.windows(2).all(|pair| pair[0].end.unwrap() <= pair[1].first), "{sampled:?}");
        assert!(sampled.ranges.iter().all(|range| range.end.unwrap() <= 1_000_000));
        assert!(layout(8192, Some(64 << 20)).sample.is_none(), "not larger");
        assert_eq!(layout(100, Some(0)).sample, Some(Sample { blocks: 64, of: 100 }));
    }

    #[test]
    fn a_layout_is_repeated_from_a_digest() {
        let first = layout(10_000, Some(8 << 20));
        let range = |blocks: &Blocks| super::super::RangeDigest {
            first: blocks.first,
            end: blocks.end,
            rows: 0,
            sums: Default::default(),
        };
        let digest = TableDigest {
            ranges: first.ranges.iter().map(range).collect(),
            sample: first.sample,
            ..TableDigest::default()
        };
        let again = Layout::like(Some(&digest), &Relation::example("public.t", 9_000), 8192);
        assert_eq!((again.ranges, again.sample), (first.ranges, first.sample));
    }
}
