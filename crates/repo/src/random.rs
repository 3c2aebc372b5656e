//! Random bytes from the operating system.

use std::io;

use crate::error::{Error, Result};

pub(crate) fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|e| Error::Io { what: "drawing random numbers".into(), source: io::Error::other(e) })
}

pub(crate) fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}
