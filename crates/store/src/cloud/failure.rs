//! What a service's refusal means, and what a person can do about it.

use std::{error::Error as StdError, io};

use object_store::client::HttpError;

use super::{Place, http::Heard};
use crate::Error;

/// Codes that mean "not now", whatever their status.
const PASSING: [&str; 8] = [
    "ContainerBeingDeleted",
    "AccountBeingCreated",
    "InternalError",
    "OperationTimedOut",
    "RequestTimeout",
    "ServerBusy",
    "SlowDown",
    // The body was changed on its way.
    "Md5Mismatch",
];
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "ContainerDisabled"];
const FULL: [&str; 4] = ["QuotaExceeded", "AccountLimitExceeded", "InsufficientStorage", "StorageQuotaExceeded"];
/// Policies that were set up at the service: nothing that we could read, but a delete meets them.
const PROTECTED: [&str; 5] = [
    "BlobImmutableDueToPolicy",
    "BlobImmutableDueToLegalHold",
    "RetentionPolicyNotMet",
    "ObjectUnderActiveHold",
    "retention policy",
];

/// The service's words for a refusal, read from what `object_store` tells.
#[derive(Default)]
struct Refusal {
    code: String,
    message: String,
}

impl Place {
    /// Sorts a failure by what a caller can do about it. `key` is the key (or bucket) as people know it.
    pub(super) fn failure(
        &self,
        operation: &'static str,
        key: &str,
        error: &object_store::Error,
        heard: &Heard,
    ) -> Error {
        if let Some(fault) = certificate_fault(error) {
            let reason = format!(
                "its certificate is not accepted ({fault}); check the endpoint's name, and set ca_file to the authority \
                 that issued it"
            );
            return Error::Unusable { store: self.describe(), reason };
        }
        if let Some(transport) = find::<HttpError>(error) {
            let whom = if heard.host.is_empty() || heard.host == self.host { &self.endpoint } else { &heard.host };
            let reason = format!("{whom} did not answer: {}", own_words(transport));
            return Error::Unavailable { operation, key: key.to_owned(), reason };
        }
        let text = error.to_string();
        let mut refusal = Refusal::read(&text);
        if let Some(code) = &heard.code {
            refusal.code.clone_from(code);
        }
        let status = part_status(&text).or(heard.status).unwrap_or_default();
        if !heard.host.is_empty() && heard.host != self.host {
            return self.no_token(operation, key, status, &heard.host, &refusal);
        }
        if status < 300 {
            // An answer that makes no sense, or no request at all.
            return Error::Other { operation, key: key.to_owned(), reason: own_words(error) };
        }
        self.refused(operation, key, status, &refusal)
    }

    fn no_token(&self, operation: &'static str, key: &str, status: u16, host: &str, refusal: &Refusal) -> Error {
        let (key, reason) = (key.to_owned(), format!("{host} gave no token: {}", refusal.words(status)));
        match status {
            408 | 429 | 500.. => Error::Unavailable { operation, key, reason },
            _ => Error::Denied { operation, key, reason: format!("{reason}; check the service account's key") },
        }
    }

    fn refused(&self, operation: &'static str, key: &str, status: u16, refusal: &Refusal) -> Error {
        let (key, reason, code) = (key.to_owned(), refusal.words(status), refusal.code.as_str());
        let unavailable = |key, reason| {
            let reason = format!("{} answered {reason}", self.endpoint);
            Error::Unavailable { operation, key, reason }
        };
        if NO_BUCKET.contains(&code) || (status == 404 && operation == "open") {
            let reason = "the bucket or container does not exist; create it, or correct name and endpoint".into();
            return Error::Unusable { store: self.describe(), reason };
        }
        if operation == "delete" && PROTECTED.iter().any(|word| reason.contains(word)) {
            return Error::Locked { key, until: None };
        }
        if PASSING.contains(&code) {
            return unavailable(key, reason);
        }
        if FULL.contains(&code) || status == 507 {
            return Error::Full { key, reason };
        }
        match (status, operation) {
            (409 | 412, "put") => Error::AlreadyExists { key },
            (412, "get") => Error::Damaged { key, reason: "it was replaced while it was being read".into() },
            (416, "get") => Error::Damaged { key, reason: "the bytes asked for do not lie inside the object".into() },
            (404, _) => Error::NotFound { key },
            (401, _) => Error::Denied { operation, key, reason: format!("{reason}; check the credential") },
            (403, _) if matches!(code, "AuthenticationFailed" | "AuthorizationFailure") => {
                let reason = format!("{reason}; check access_key or sas, and this machine's clock");
                Error::Denied { operation, key, reason }
            }
            (403, _) => Error::Denied { operation, key, reason },
            (409, _) | (408 | 429 | 500.., _) => unavailable(key, reason),
            _ => Error::Other { operation, key, reason },
        }
    }
}

impl Refusal {
    /// Both services answer XML with a code and a message; a token's issuer answers JSON.
    fn read(text: &str) -> Refusal {
        let element = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            let (content, _) = rest.split_once("</")?;
            Some(content.lines().next().unwrap_or_default().trim().to_owned())
        };
        let json = || {
            let (_, rest) = text.split_once("\"error_description\"")?;
            Some(rest.split('"').nth(1)?.to_owned())
        };
        let message = element("Message").or_else(json).unwrap_or_default();
        Refusal { code: element("Code").unwrap_or_default(), message }
    }

    fn words(&self, status: u16) -> String {
        let code = if self.code.is_empty() { format!("HTTP {status}") } else { self.code.clone() };
        if self.message.is_empty() { code } else { format!("{code}: {}", self.message) }
    }
}

/// Azure deletes in batches, and a batch succeeds where its parts fail: `… for key x: Conflict (code: 409)`.
fn part_status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("(code: ")?;
    rest.split_once(')')?.0.parse().ok()
}

/// The first error of this kind in the chain.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    error.downcast_ref().or_else(|| error.source().and_then(find))
}

/// The innermost cause: the layers above it repeat it, and name addresses.
pub(super) fn own_words(error: &(dyn StdError + 'static)) -> String {
    match error.source() {
        Some(cause) => own_words(cause),
        None => error.to_string(),
    }
}

/// The TLS layer hides its error inside I/O errors, whose `source` skips what they hold.
fn certificate_fault(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(rustls::Error::InvalidCertificate(fault)) = error.downcast_ref() {
        return Some(fault.to_string());
    }
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    held.and_then(|held| certificate_fault(held)).or_else(|| error.source().and_then(certificate_fault))
}
