//! Why an envelope is not believed.

/// The first thing that is wrong with an envelope. Reading it again does not help; getting it again might.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are no JSON text.
    #[error("not JSON ({0}); the file is damaged or is something else")]
    NotJson(String),
    /// JSON, but no DSSE envelope.
    #[error("not a DSSE envelope ({0}); expected payload, payloadType and signatures")]
    NotDsse(String),
    /// Larger than any statement of ours.
    #[error("the envelope has {0} bytes, more than the {limit} that evidence may have", limit = crate::envelope::MAX_BYTES)]
    TooLarge(usize),
    /// An envelope around something else.
    #[error("the payload is \"{0}\", expected \"{expected}\"", expected = crate::envelope::PAYLOAD_TYPE)]
    PayloadType(String),
    /// Signed by others, or by nobody.
    #[error("no signature by a trusted key; it is signed by {}; check that you trust the right public key", signers(.0))]
    NoTrustedSignature(Vec<String>),
    /// A signature names a trusted key and does not fit: the statement was changed after it was signed.
    #[error("the signature by key {0} does not fit: the statement was changed after it was signed")]
    SignatureMismatch(String),
    /// Signed by a trusted key, and still not a statement that can be read.
    #[error("signed, but not a statement that this version can read ({0})")]
    Statement(String),
}

fn signers(keys: &[String]) -> String {
    match keys {
        [] => "nobody".to_owned(),
        keys => format!("key {}", keys.join(", ")),
    }
}
