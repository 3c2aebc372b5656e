//! From spans of the log to the segment files that a server asks for.

use lifeboat_model::lsn::{Lsn, segment_file_name};

use super::super::staging::{Segment, Span};

/// The spans up to a position on their path.
pub(super) fn cut(spans: &[Span], end: Lsn) -> Vec<Span> {
    let before = spans.iter().filter(|span| span.first < end);
    before.map(|span| Span { last: span.last.min(end), ..*span }).collect()
}

/// The segment files from the one that holds `from` on, each named after the newest timeline in it, as the server looks
/// for it.
pub(super) fn segments(spans: &[Span], from: Lsn, size: u64) -> Vec<Segment> {
    let Some(end) = spans.last().map(|span| span.last) else { return Vec::new() };
    if end <= from {
        return Vec::new();
    }
    let numbers = from.segment(size)..=Lsn(end.0 - 1).segment(size);
    numbers
        .filter_map(|number| {
            let (start, behind) = (Lsn(number * size), Lsn((number + 1) * size));
            let parts: Vec<Span> = spans
                .iter()
                .filter(|span| span.first < behind && span.last > start)
                .map(|span| Span { first: span.first.max(start), last: span.last.min(behind), ..*span })
                .collect();
            let timeline = parts.last()?.timeline;
            Some(Segment { name: segment_file_name(timeline, number, size), start, parts })
        })
        .collect()
}
