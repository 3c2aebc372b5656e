//! WAL: streamed as the server writes it, cut into slices that end where segments do, and its commits read.

pub mod records;

mod segmenter;
mod stream;

pub use records::{Commit, RestorePoint, WalDecoder, WalEvent};
pub use segmenter::{Segmenter, WalSlice};
pub use stream::{WalChunk, WalEnd, WalStream};
