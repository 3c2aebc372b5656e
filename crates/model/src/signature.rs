//! Ed25519 signatures over public bytes (RFC 8032), for recovery points and evidence.
//!
//! Text forms: a public key is `lifeboat-ed25519:` + base64 of 32 bytes; a signing key is
//! `LIFEBOAT-ED25519-SECRET:` + base64 of the 32-byte seed. Strict verification only
//! (no small-order keys, canonical signatures).

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey as DalekSigningKey, VerifyingKey as DalekVerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::secret::Secret;

const PUBLIC_PREFIX: &str = "lifeboat-ed25519:";
const SECRET_PREFIX: &str = "LIFEBOAT-ED25519-SECRET:";

/// Why a key or signature was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The text is not a public key of ours.
    #[error("not a Lifeboat public key: expected \"{PUBLIC_PREFIX}\" and 44 base64 characters")]
    PublicKey,
    /// The text is not a signing key of ours. The text itself is never repeated.
    #[error("not a Lifeboat signing key: expected \"{SECRET_PREFIX}\" and 44 base64 characters")]
    SigningKey,
    /// The signature does not fit the key and the bytes.
    #[error("signature does not verify")]
    Mismatch,
}

/// The private half. Its seed is wiped when dropped and never printed.
#[derive(Clone)]
pub struct SigningKey(DalekSigningKey);

impl SigningKey {
    /// From 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(DalekSigningKey::from_bytes(seed))
    }

    /// The text form, for a key file with mode 0600.
    pub fn to_secret_text(&self) -> Secret {
        Secret::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(Zeroizing::new(self.0.to_bytes()))))
    }

    /// Reads the text form; white space around it is ignored.
    pub fn from_secret_text(text: &Secret) -> Result<Self, SignatureError> {
        let encoded = text.expose().trim().strip_prefix(SECRET_PREFIX).ok_or(SignatureError::SigningKey)?;
        let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| SignatureError::SigningKey)?);
        let seed: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| SignatureError::SigningKey)?;
        Ok(Self::from_seed(seed))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs the bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(public {})", self.public())
    }
}

/// The public half: pinned in the configuration, given to auditors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(DalekVerifyingKey);

impl PublicKey {
    /// First 16 hexadecimal digits of the SHA-256 of the 32 key bytes: a name, not a proof.
    pub fn id(&self) -> String {
        hex::encode(&Sha256::digest(self.0.as_bytes())[..8])
    }

    /// The raw 32 bytes (RFC 8032).
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Checks a signature, strictly.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| SignatureError::Mismatch)?;
        self.0.verify_strict(message, &signature).map_err(|_| SignatureError::Mismatch)
    }
}

impl FromStr for PublicKey {
    type Err = SignatureError;
    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let encoded = text.trim().strip_prefix(PUBLIC_PREFIX).ok_or(SignatureError::PublicKey)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SignatureError::PublicKey)?;
        let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| SignatureError::PublicKey)?;
        DalekVerifyingKey::from_bytes(bytes).map(Self).map_err(|_| SignatureError::PublicKey)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = SignatureError;
    fn try_from(text: String) -> Result<Self, SignatureError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusal() {
        let key = SigningKey::from_seed(&[7; 32]);
        let again = SigningKey::from_secret_text(&key.to_secret_text()).unwrap();
        let public: PublicKey = key.public().to_string().parse().unwrap();
        let signature = again.sign(b"point");
        public.verify(b"point", &signature).unwrap();
        assert_eq!(public.verify(b"paint", &signature), Err(SignatureError::Mismatch));
        let other = SigningKey::from_seed(&[8; 32]).public();
        assert_eq!(other.verify(b"point", &signature), Err(SignatureError::Mismatch));
    }

    #[test]
    fn debug_hides_the_seed() {
        let key = SigningKey::from_seed(&[7; 32]);
        let secret = key.to_secret_text();
        assert!(!format!("{key:?}").contains(&secret.expose()[SECRET_PREFIX.len()..]));
    }
}
