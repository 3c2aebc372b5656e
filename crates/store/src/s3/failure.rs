//! What a server's refusal means, and what a person can do about it.

use std::{error::Error as StdError, io};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::Bucket;
use crate::Error;

/// Codes that mean "not now", whatever their HTTP status.
const PASSING: [&str; 12] = [
    // The body was changed on its way.
    "BadDigest",
    "InvalidDigest",
    "XAmzContentSHA256Mismatch",
    "InternalError",
    "OperationAborted",
    "ConditionalRequestConflict",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
];
const WRONG_CREDENTIALS: [&str; 5] =
    ["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "AuthorizationHeaderMalformed"];
const FULL: [&str; 4] = ["QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "InsufficientCapacity"];

/// Layers of the SDK that say nothing by themselves.
const LAYERS: [&str; 4] = ["dispatch failure", "io error", "client error (Connect)", "request failed"];

/// Marks a refusal that is about a missing right, not about who asks.
const MISSING_RIGHT: &str = "AccessDenied";

pub(super) fn is_missing_right(reason: &str) -> bool {
    reason.starts_with(MISSING_RIGHT)
}

impl Bucket {
    /// Sorts an answer of the SDK by what a caller can do about it. `key` is the key (or bucket) as people know it.
    pub(super) fn failure<E>(&self, operation: &'static str, key: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        match (&error, status) {
            (SdkError::ServiceError(service), Some(status)) => {
                let refusal = service.err().meta();
                self.refused(operation, key, status, refusal.code().unwrap_or_default(), refusal.message())
            }
            (SdkError::ConstructionFailure(_), _) => {
                Error::Other { operation, key: key.to_owned(), reason: causes(&error) }
            }
            _ => self.no_answer(operation, key, &error),
        }
    }

    fn no_answer(&self, operation: &'static str, key: &str, error: &(dyn StdError + 'static)) -> Error {
        if let Some(certificate) = certificate_fault(error) {
            let reason = format!(
                "its certificate is not accepted ({certificate}); check the endpoint's name, and set ca_file to the \
                 authority that issued it"
            );
            return Error::Unusable { store: self.describe(), reason };
        }
        let reason = format!("{} did not answer: {}", self.endpoint, causes(error));
        Error::Unavailable { operation, key: key.to_owned(), reason }
    }

    /// Sorts a refusal. HEAD answers have no body and so no code: only the status tells.
    fn refused(&self, operation: &'static str, key: &str, status: u16, code: &str, message: Option<&str>) -> Error {
        let key = key.to_owned();
        let words = if code.is_empty() { format!("HTTP {status}") } else { code.to_owned() };
        let reason = match message.filter(|text| !text.is_empty()) {
            Some(message) => format!("{words}: {message}"),
            None => words,
        };
        let unusable = |reason: String| Error::Unusable { store: self.describe(), reason };
        match (code, status) {
            ("NoSuchBucket", _) => {
                unusable("the bucket does not exist; create it, or correct bucket and endpoint".into())
            }
            ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
            | (_, 301) => unusable(format!("the bucket lies elsewhere; correct region or endpoint ({reason})")),
            ("RequestTimeTooSkewed", _) => unusable(
                "this machine's clock and the server's differ too much to sign requests; set the clock (NTP)".into(),
            ),
            ("NoSuchKey" | "NoSuchVersion", _) => Error::NotFound { key },
            ("PreconditionFailed", _) | (_, 412) if operation == "put" => Error::AlreadyExists { key },
            (code, _) if PASSING.contains(&code) => self.unavailable(operation, key, reason),
            (code, 507) | (code, _) if FULL.contains(&code) || status == 507 => Error::Full { key, reason },
            (code, _) if WRONG_CREDENTIALS.contains(&code) => {
                Error::Denied { operation, key, reason: format!("{reason}; check access_key and secret_key") }
            }
            (_, 401 | 403) => Error::Denied { operation, key, reason },
            (_, 404) => Error::NotFound { key },
            (_, 408 | 429 | 500 | 502 | 503 | 504) => self.unavailable(operation, key, reason),
            _ => Error::Other { operation, key, reason },
        }
    }

    fn unavailable(&self, operation: &'static str, key: String, reason: String) -> Error {
        Error::Unavailable { operation, key, reason: format!("{} answered {reason}", self.endpoint) }
    }
}

/// The chain of causes in one line, without the layers that only repeat the next.
pub(super) fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        cause = error.source();
        if cause.is_some() && LAYERS.contains(&text.as_str()) {
            continue;
        }
        match texts.last_mut() {
            Some(last) if last.contains(&text) => {}
            Some(last) if text.contains(last.as_str()) => *last = text,
            _ => texts.push(text),
        }
    }
    texts.join(": ")
}

/// The TLS layer hides its error inside I/O errors, whose `source` skips what they hold.
fn certificate_fault(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(rustls::Error::InvalidCertificate(fault)) = error.downcast_ref() {
        return Some(fault.to_string());
    }
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    held.and_then(|held| certificate_fault(held)).or_else(|| error.source().and_then(certificate_fault))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::connect;

    fn kind(error: &Error) -> &'static str {
        match error {
            Error::NotFound { .. } => "not found",
            Error::AlreadyExists { .. } => "already exists",
            Error::Denied { .. } => "denied",
            Error::Full { .. } => "full",
            Error::Unavailable { .. } => "unavailable",
            Error::Unusable { .. } => "unusable",
            _ => "other",
        }
    }

    #[test]
    fn refusals_are_sorted_by_what_to_do_about_them() {
        let bucket = connect::bucket(&connect::tests::options("http://localhost:1")).unwrap();
        let cases = [
            (404, "NoSuchBucket", "unusable", "does not exist"),
            (403, "RequestTimeTooSkewed", "unusable", "clock"),
            (301, "PermanentRedirect", "unusable", "region"),
            (400, "AuthorizationHeaderMalformed", "unusable", "region"),
            (403, "AccessDenied", "denied", "AccessDenied"),
            (403, "InvalidAccessKeyId", "denied", "access_key"),
            (403, "SignatureDoesNotMatch", "denied", "secret_key"),
            (403, "", "denied", "HTTP 403"),
            (404, "NoSuchKey", "not found", ""),
            (404, "NoSuchVersion", "not found", ""),
            (404, "", "not found", ""),
            (412, "PreconditionFailed", "already exists", ""),
            (412, "", "already exists", ""),
            (409, "ConditionalRequestConflict", "unavailable", ""),
            (503, "SlowDown", "unavailable", "SlowDown"),
            (500, "", "unavailable", "HTTP 500"),
            (400, "RequestTimeout", "unavailable", ""),
            (400, "BadDigest", "unavailable", ""),
            (507, "", "full", ""),
            (403, "QuotaExceeded", "full", ""),
            (400, "InvalidArgument", "other", "InvalidArgument: words"),
        ];
        for (status, code, expected, says) in cases {
            let error = bucket.refused("put", "points/one", status, code, Some("words"));
            assert_eq!(kind(&error), expected, "{status} {code}: {error}");
            assert!(error.to_string().contains(says), "{status} {code}: {error}");
        }
        let error = bucket.refused("get", "points/one", 412, "PreconditionFailed", None);
        assert_eq!(kind(&error), "other", "only a put is told that its key is taken");
    }
}
