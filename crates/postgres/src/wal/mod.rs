//! WAL: streamed as the server writes it, and cut into slices that end where segments do.

mod segmenter;
mod stream;

pub use segmenter::{Segmenter, WalSlice};
pub use stream::{WalChunk, WalEnd, WalStream};
