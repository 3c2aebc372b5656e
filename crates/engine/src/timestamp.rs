//! Time stamps of the ledger's checkpoints (RFC 3161): an authority's word that a checkpoint was there at a time.
//!
//! Whoever has the signing key could make up a ledger and date it back; with an authority's tokens he could not. One is asked for
//! after each checkpoint, by plain HTTP: a digest goes out, and what comes back is signed. It never holds up the work for
//! more than [`PATIENCE`], and never fails it. Only whether the answer is about the question is looked at here: who
//! verifies evidence verifies the token (`lifeboat evidence verify`, `openssl ts -verify`).

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt as _;
use lifeboat_model::id::Tenant;
use lifeboat_repo::{
    ledger::LedgerStore,
    repository::{EvidenceRef, Repository},
};
use sha2::{Digest as _, Sha256};

use crate::{context::Context, error::Result};

/// The longest that anybody waits for an authority.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A token has some kilobytes, certificates included.
const LONGEST: usize = 64 << 10;
const FOLDER: &str = "ledger/timestamps/";

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unstamped {
    /// It did not answer, or not with a token.
    #[error("the time-stamping authority at {url} gave no token: {why}")]
    NoToken {
        /// Where it was asked.
        url: String,
        /// Why.
        why: String,
    },
    /// It could not be kept.
    #[error("the token could not be kept")]
    NotKept(#[source] Box<crate::Error>),
}

/// What a token is called, below `<tenant>/evidence/`.
pub fn name_of(size: u64) -> String {
    format!("{FOLDER}{size:012}.tsr")
}

fn size_of(name: &str) -> Option<u64> {
    let size = name.strip_prefix(FOLDER)?.strip_suffix(".tsr")?.parse().ok()?;
    (name_of(size) == name).then_some(size)
}

/// All tokens, by the size of the checkpoint that they are about.
pub async fn tokens(repository: &Repository, tenant: &Tenant) -> Result<BTreeMap<u64, EvidenceRef>> {
    let store = repository.ledger(tenant);
    let mut listed = store.list(FOLDER, "");
    let mut found = BTreeMap::new();
    while let Some(reference) = listed.try_next().await? {
        if let Some(size) = size_of(store.name(&reference)) {
            found.insert(size, reference);
        }
    }
    Ok(found)
}

/// A token's bytes; none of one that is longer than any: it will not verify.
pub async fn read(repository: &Repository, tenant: &Tenant, token: &EvidenceRef) -> Result<Bytes> {
    if token.len > LONGEST as u64 {
        return Ok(Bytes::new());
    }
    Ok(repository.ledger(tenant).get(token, LONGEST as u64).await?)
}

/// Asks the configured authority for a token about a checkpoint, and keeps it. Says in a warning why there is none.
pub(crate) async fn stamp(context: &Context, store: &LedgerStore, size: u64, note: &str) {
    let Some(configured) = &context.config.evidence.timestamps else { return };
    let url = configured.url.as_str();
    let asked = tokio::time::timeout(PATIENCE, ask(url, note.as_bytes())).await;
    let token = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
    let kept = match token {
        Ok(token) => keep(store, size, note, token).await.map_err(|error| Unstamped::NotKept(Box::new(error))),
        Err(why) => Err(Unstamped::NoToken { url: url.to_owned(), why }),
    };
    if let Err(error) = kept {
        tracing::warn!("checkpoint {size} of the ledger has no time stamp: {error}; the next one is stamped again");
    }
}

/// A token is about bytes: it is kept where those bytes are what stands in the checkpoint's place.
async fn keep(store: &LedgerStore, size: u64, note: &str, token: Bytes) -> Result<()> {
    use lifeboat_evidence::ledger::place;
    for name in [place::checkpoint(size), place::other_checkpoint(size, note)] {
        let Some(found) = store.find(&name).await? else { continue };
        if found.len == note.len() as u64 && store.get(&found, found.len).await? == note.as_bytes() {
            store.claim(&name_of(size), token).await?;
            return Ok(());
        }
    }
    tracing::debug!(size, "another host has put this checkpoint, and has it stamped");
    Ok(())
}

async fn ask(url: &str, data: &[u8]) -> std::result::Result<Bytes, String> {
    let mut nonce = [0; 8];
    getrandom::fill(&mut nonce).map_err(|error| error.to_string())?;
    nonce[0] = nonce[0] & 0x7f | 0x40; // positive, and of full length in DER
    let digest: [u8; 32] = Sha256::digest(data).into();
    // Another crate of the same program may have given reqwest TLS, and then it wants to know whose cryptography.
    let _ = rustls::crypto::ring::default_provider().install_default(); // an error says that it is chosen
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(|error| error.to_string())?;
    let request = client.post(url).header("Content-Type", "application/timestamp-query").body(query(&digest, &nonce));
    let mut response = request.send().await.map_err(|error| crate::with_causes(&error))?;
    if !response.status().is_success() {
        return Err(format!("it answered {}", response.status()));
    }
    let mut token = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| crate::with_causes(&error))? {
        token.extend_from_slice(&chunk);
        if token.len() > LONGEST {
            return Err(format!("its answer is longer than {LONGEST} bytes"));
        }
    }
    match answers(&token, &digest, &nonce) {
        true => Ok(token.into()),
        false => Err("its answer is not a granted token for what was asked".to_owned()),
    }
}

/// `TimeStampReq` in DER: version 1, SHA-256 and the digest, the nonce, and the wish to get the authority's certificate.
fn query(digest: &[u8; 32], nonce: &[u8; 8]) -> Vec<u8> {
    const SHA256: [u8; 15] = [0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00];
    let imprint = [&[0x30, 0x31], SHA256.as_slice(), &[0x04, 0x20], digest].concat();
    let body = [&[0x02, 0x01, 0x01], imprint.as_slice(), &[0x02, 0x08], nonce, &[0x01, 0x01, 0xff]].concat();
    [&[0x30, body.len() as u8], body.as_slice()].concat()
}

/// Whether a `TimeStampResp` says that it was granted, and holds the digest and the nonce.
fn answers(token: &[u8], digest: &[u8], nonce: &[u8]) -> bool {
    let holds = |what: &[u8]| token.windows(what.len()).any(|window| window == what);
    granted(token) == Some(true) && holds(digest) && holds(nonce)
}

/// `PKIStatusInfo.status`: 0 is granted, 1 granted with modifications.
fn granted(token: &[u8]) -> Option<bool> {
    let response = inside(token, 0x30)?;
    let status = inside(response, 0x30)?;
    Some(matches!(inside(status, 0x02)?, [0 | 1]))
}

/// The content of the DER element that stands at the beginning, if it is of this kind.
fn inside(bytes: &[u8], kind: u8) -> Option<&[u8]> {
    let (&[found, first], rest) = bytes.split_first_chunk::<2>()?;
    if found != kind {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        _ => return None,
    };
    rest.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `openssl ts -query -data note -sha256 -cert` writes, but for the nonce.
    #[test]
    fn the_query_is_openssls() {
        let query = query(&[7; 32], &[0x41; 8]);
        let expected = concat!(
            "3043020101",
            "3031300d060960864801650304020105000420",
            "0707070707070707070707070707070707070707070707070707070707070707",
            "02084141414141414141",
            "0101ff",
        );
        assert_eq!(hex::encode(query), expected);
    }

    #[test]
    fn only_a_granted_token_about_the_question_answers() {
        let about = |status: u8, digest: &[u8], nonce: &[u8]| {
            let status = [0x30, 0x03, 0x02, 0x01, status];
            let body = [status.as_slice(), &[0x04, 32], digest, &[0x02, 0x08], nonce].concat();
            [&[0x30, 0x81, body.len() as u8], body.as_slice()].concat()
        };
        let good = about(0, &[7; 32], &[9; 8]);
        assert!(answers(&good, &[7; 32], &[9; 8]));
        assert!(answers(&about(1, &[7; 32], &[9; 8]), &[7; 32], &[9; 8]));
        assert!(!answers(&about(2, &[7; 32], &[9; 8]), &[7; 32], &[9; 8]));
        assert!(!answers(&about(0, &[8; 32], &[9; 8]), &[7; 32], &[9; 8]));
        assert!(!answers(&about(0, &[7; 32], &[8; 8]), &[7; 32], &[9; 8]));
        for end in 0..8 {
            assert!(!answers(&good[..end], &[7; 32], &[9; 8]));
        }
        assert!(!answers(b"<html>no</html>", &[7; 32], &[9; 8]));
    }

    #[test]
    fn names() {
        assert_eq!(size_of(&name_of(12)), Some(12));
        assert_eq!(size_of("ledger/timestamps/12.tsr"), None);
    }
}
