//! Where each chunk lies: index objects in the repository, and a lookup that needs little memory.
//!
//! Chunk ids are uniform, so the lookup is a few sorted files ([`run`]) with a fan-out table of 65,536 entries in
//! memory and one positioned read a question; what this run stores itself is held in a table that is spilled to
//! another such file when it has grown ([`lookup`]). The files are a cache of the index objects ([`cache`]): lost or
//! damaged, they are built again.

mod cache;
mod lookup;
mod object;
mod places;
mod run;
mod signed;

pub(crate) use cache::{Load, load};
pub(crate) use lookup::{Found, Index, PackMeta};
pub(crate) use object::IndexedPack;
pub(crate) use places::PlaceSet;
pub(crate) use signed::{IndexKeys, seal};
