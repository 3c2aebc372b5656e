//! Directory trees, captured and put back. What captures and what puts back sit side by side: whoever changes what
//! [`walk`] reads sees what [`place`] must write.

pub mod place;
pub mod walk;

use std::{cmp::Ordering, path::Path};

use rustix::fs::OFlags;

/// The order of a stored file tree: depth first, siblings by byte value. A directory comes right before its content.
///
/// Names never hold `/` or NUL, so comparing whole paths with `/` as the smallest byte is the same as comparing
/// name by name.
pub fn tree_order(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.iter().map(rank).cmp(b.iter().map(rank))
}

/// Flags for `open` that make it fail on a link, and not wait for the other side of a pipe.
pub(crate) fn no_follow() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0)
}

/// Whether a folder lies at this path itself, not behind a link.
pub(crate) fn is_real_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_depth_first() {
        let sorted: [&[u8]; 6] = [b"a", b"a/b", b"a/b/c", b"a/c", b"a-b", b"b"];
        for pair in sorted.windows(2) {
            assert_eq!(tree_order(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
    }
}
