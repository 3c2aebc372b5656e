//! DSSE v1 envelopes (<https://github.com/secure-systems-lab/dsse>): payload, payload type, signatures.
//!
//! The signature is over the *pre-authentication encoding* of type and payload bytes, so no canonical JSON is needed and
//! a payload cannot be passed off as another type. The key id is a hint and is never believed.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use lifeboat_model::signature::{PublicKey, SigningKey};
use serde::{Deserialize, Serialize};

use crate::{error::Error, statement::Statement};

/// The payload type of an in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// A drill's statement has tens of kilobytes; this bounds what a hostile file can make us read.
pub const MAX_BYTES: usize = 16 << 20;
/// Each signature is tried with each trusted key.
const MAX_SIGNATURES: usize = 16;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// What a trusted key has signed.
pub(crate) struct Opened {
    pub payload: Vec<u8>,
    pub key: PublicKey,
}

/// Signs a statement; gives the bytes of a `.dsse.json` file.
pub fn seal(statement: &Statement, key: &SigningKey) -> Vec<u8> {
    seal_payload(&statement.to_json(), key)
}

fn seal_payload(payload: &[u8], key: &SigningKey) -> Vec<u8> {
    let sig = STANDARD.encode(key.sign(&pre_authentication_encoding(PAYLOAD_TYPE, payload)));
    let envelope = Envelope {
        payload: STANDARD.encode(payload),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: vec![Signature { keyid: key.public().id(), sig }],
    };
    let mut bytes = serde_json::to_vec(&envelope).expect("texts and lists of texts always serialize");
    bytes.push(b'\n');
    bytes
}

/// `DSSEv1 <length of type> <type> <length of payload> <payload>`: the bytes that are signed.
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload, if a trusted key has signed it.
pub(crate) fn open(bytes: &[u8], trusted: &[PublicKey]) -> Result<Opened, Error> {
    let envelope = parse(bytes)?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(Error::PayloadType(envelope.payload_type.chars().take(200).collect()));
    }
    let payload = decode(&envelope.payload, "payload")?;
    let signed = pre_authentication_encoding(&envelope.payload_type, &payload);
    for signature in &envelope.signatures {
        let sig = decode(&signature.sig, "signature")?;
        if let Some(key) = trusted.iter().find(|key| key.verify(&signed, &sig).is_ok()) {
            return Ok(Opened { payload, key: *key });
        }
    }
    Err(refusal(&envelope.signatures, trusted))
}

fn parse(bytes: &[u8]) -> Result<Envelope, Error> {
    if bytes.len() > MAX_BYTES {
        return Err(Error::TooLarge(bytes.len()));
    }
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| {
        if error.is_data() { Error::NotDsse(error.to_string()) } else { Error::NotJson(error.to_string()) }
    })?;
    if envelope.signatures.len() > MAX_SIGNATURES {
        return Err(Error::NotDsse(format!("more than {MAX_SIGNATURES} signatures")));
    }
    Ok(envelope)
}

/// The specification allows both alphabets.
fn decode(text: &str, what: &str) -> Result<Vec<u8>, Error> {
    let decoded = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
    decoded.map_err(|_| Error::NotDsse(format!("the {what} is not base64")))
}

/// Tells a changed statement from one that others have signed.
fn refusal(signatures: &[Signature], trusted: &[PublicKey]) -> Error {
    let is_trusted = |signature: &&Signature| trusted.iter().any(|key| key.id() == signature.keyid);
    match signatures.iter().find(is_trusted) {
        Some(signature) => Error::SignatureMismatch(signature.keyid.clone()),
        None => Error::NoTrustedSignature(signatures.iter().map(|signature| shown(&signature.keyid)).collect()),
    }
}

/// A key id from a file that nobody vouches for.
fn shown(keyid: &str) -> String {
    if keyid.is_empty() {
        "without id".to_owned()
    } else {
        keyid.chars().take(80).flat_map(char::escape_debug).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_seed(&[7; 32])
    }

    /// The specification's own example (protocol.md, "Test Vectors").
    #[test]
    fn pre_authentication_encoding_is_the_specifications() {
        let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
        assert_eq!(pre_authentication_encoding("", b""), b"DSSEv1 0  0 ");
    }

    #[test]
    fn any_flipped_bit_is_refused_or_changes_nothing() {
        let trusted = [key().public()];
        let good = seal_payload(b"{\"a\":1}", &key());
        let mut refused = 0;
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                match open(&bad, &trusted) {
                    Ok(opened) => assert_eq!(opened.payload, b"{\"a\":1}", "byte {at} bit {bit}"),
                    Err(_) => refused += 1,
                }
            }
        }
        // What may be flipped: the key id (a hint, 16 bytes) and the white space at the end.
        assert!(refused > (good.len() - 40) * 8, "{refused} of {}", good.len() * 8);
        for end in 0..good.len() - 1 {
            assert!(open(&good[..end], &trusted).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        let trusted = [key().public()];
        let other = SigningKey::from_seed(&[8; 32]);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let good = text(seal_payload(b"{}", &key()));
        let refused = |text: &str| open(text.as_bytes(), &trusted).map(|_| ()).unwrap_err();
        assert!(matches!(refused(""), Error::NotJson(_)));
        assert!(matches!(refused("{"), Error::NotJson(_)));
        assert!(matches!(refused("[]"), Error::NotDsse(_)));
        assert!(matches!(refused("{\"payload\":\"\"}"), Error::NotDsse(_)));
        assert!(matches!(refused(&format!("{good}{good}")), Error::NotJson(_)));
        assert_eq!(refused(&good.replace("vnd.in-toto+json", "json")), Error::PayloadType("application/json".into()));
        assert!(matches!(refused(&good.replace("\"e30=\"", "\"e30\"")), Error::NotDsse(_)));
        assert_eq!(refused(&good.replace("e30=", "e31=")), Error::NotDsse("the payload is not base64".into()));
        assert_eq!(refused(&good.replace("e30=", "e319")), Error::SignatureMismatch(key().public().id()));
        assert_eq!(refused(&text(seal_payload(b"{}", &other))), Error::NoTrustedSignature(vec![other.public().id()]));
        let unsigned = format!("{{\"payload\":\"e30=\",\"payloadType\":\"{PAYLOAD_TYPE}\",\"signatures\":[]}}");
        assert_eq!(refused(&unsigned), Error::NoTrustedSignature(vec![]));
        let duplicated = good.replacen("{\"payload\":", "{\"payload\":\"\",\"payload\":", 1);
        assert!(matches!(refused(&duplicated), Error::NotDsse(_)));
        assert!(matches!(open(good.as_bytes(), &[]), Err(Error::NoTrustedSignature(_))));
    }

    fn url_safe(envelope: &str) -> String {
        let mut envelope = parse(envelope.as_bytes()).unwrap();
        let sig = &mut envelope.signatures[0].sig;
        assert!(sig.contains(['+', '/']), "this signature is the same in both alphabets");
        *sig = sig.replace('+', "-").replace('/', "_");
        serde_json::to_string(&envelope).unwrap()
    }

    #[test]
    fn foreign_details_are_tolerated() {
        let trusted = [key().public()];
        let good = String::from_utf8(seal_payload(b"{}", &key())).unwrap();
        let id = key().public().id();
        for same in [
            good.replacen('{', "{\"later\":[1],", 1),
            good.replace(&id, ""),
            good.replace(&format!("\"keyid\":\"{id}\","), ""),
            good.replace(&id, "someone-else"),
            good.replacen("\"signatures\":[", "\"signatures\":[{\"keyid\":\"x\",\"sig\":\"AAAA\"},", 1),
            url_safe(&good),
        ] {
            assert_eq!(
                open(same.as_bytes(), &trusted).unwrap_or_else(|e| panic!("{e}: {same}")).payload,
                b"{}",
                "{same}"
            );
        }
    }
}
