//! Single databases out of a cluster: dumped from the live server by an image's `pg_dump`.

mod image;

pub use image::{ImageProgram, Owner};
