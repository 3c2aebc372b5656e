//! The rungs, a file each: what is asked, in the order of the ladder. Each gives answers; none decides whether to go on.

pub(crate) mod attachments;
pub(crate) mod books;
pub(crate) mod boot;
pub(crate) mod data;
pub(crate) mod extensions;
pub(crate) mod files;
pub(crate) mod neutralise;
pub(crate) mod own;
pub(crate) mod replay;
pub(crate) mod structure;
pub(crate) mod target;
pub(crate) mod usage;

/// The first few of a list, and how many more there are.
pub(crate) fn some(items: &[String], total: u64) -> String {
    const SHOWN: usize = 3;
    let shown = items.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    match total.saturating_sub(items.len().min(SHOWN) as u64) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}
