//! The two facts of an X.509 certificate that rustls does not give: which hash its signature uses (for channel binding,
//! RFC 5929) and when it is valid (for a certificate that is pinned by itself). A small DER reader, no more.

use rustls_pki_types::UnixTime;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const EXPLICIT_VERSION: u8 = 0xa0;

// Contents of the object identifiers, DER without tag and length.
const RSA_PREFIX: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01]; // 1.2.840.113549.1.1
const ECDSA_SHA2_PREFIX: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03]; // 1.2.840.10045.4.3
const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];

/// One element: its tag, its content, and what follows it.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |len, digit| (len << 8) | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

fn expect(input: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(input)?;
    (tag == wanted).then_some((content, rest))
}

/// The `tls-server-end-point` channel binding: the certificate hashed with the hash of its own signature, where MD5 and
/// SHA-1 become SHA-256. `None` where the signature names no hash of its own (Ed25519, RSA-PSS): then none is defined.
pub(crate) fn end_point_binding(der: &[u8]) -> Option<Vec<u8>> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (_to_be_signed, rest) = expect(certificate, SEQUENCE)?;
    let (algorithm, _) = expect(rest, SEQUENCE)?;
    let (oid, _) = expect(algorithm, OID)?;
    if oid == ECDSA_SHA1 {
        return Some(Sha256::digest(der).to_vec());
    }
    let rsa = oid.strip_prefix(RSA_PREFIX);
    match (rsa, oid.strip_prefix(ECDSA_SHA2_PREFIX)) {
        (Some([4 | 5 | 11]), _) | (_, Some([2])) => Some(Sha256::digest(der).to_vec()),
        (Some([12]), _) | (_, Some([3])) => Some(Sha384::digest(der).to_vec()),
        (Some([13]), _) | (_, Some([4])) => Some(Sha512::digest(der).to_vec()),
        _ => None,
    }
}

/// Whether the certificate is valid at this time; `None` where its dates cannot be read.
pub(crate) fn is_valid_at(der: &[u8], now: UnixTime) -> Option<bool> {
    let now = i64::try_from(now.as_secs()).ok()?;
    Some(validity(der)?.contains(&now))
}

/// From when until when it is valid, in seconds since 1970; `None` where its dates cannot be read.
pub(crate) fn validity(der: &[u8]) -> Option<std::ops::RangeInclusive<i64>> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut fields, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, rest)) = expect(fields, EXPLICIT_VERSION) {
        fields = rest;
    }
    for _serial_signature_issuer in 0..3 {
        fields = element(fields)?.2;
    }
    let (validity, _) = expect(fields, SEQUENCE)?;
    let (tag, not_before, rest) = element(validity)?;
    let (end_tag, not_after, _) = element(rest)?;
    Some(seconds(tag, not_before)?..=seconds(end_tag, not_after)?)
}

/// `YYMMDDHHMMSSZ` (years 1950–2049) or `YYYYMMDDHHMMSSZ` as seconds since 1970.
fn seconds(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i16>().ok();
    let (year, at) = match tag {
        UTC_TIME => (number(0..2).map(|year| if year >= 50 { 1900 + year } else { 2000 + year })?, 2),
        GENERALIZED_TIME => (number(0..4)?, 4),
        _ => return None,
    };
    let part = |index: usize| i8::try_from(number(at + 2 * index..at + 2 * index + 2)?).ok();
    let time = jiff::civil::DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?, 0).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Wraps content into one element; all lengths here are short.
    fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag, u8::try_from(content.len()).unwrap()];
        out.extend_from_slice(content);
        out
    }

    fn certificate(oid: &[u8]) -> Vec<u8> {
        let mut fields = wrap(EXPLICIT_VERSION, &wrap(0x02, &[2]));
        fields.extend(wrap(0x02, &[9]));
        fields.extend(wrap(SEQUENCE, &[]));
        fields.extend(wrap(SEQUENCE, &[]));
        let mut dates = wrap(UTC_TIME, b"250102030405Z");
        dates.extend(wrap(GENERALIZED_TIME, b"20510102030405Z"));
        fields.extend(wrap(SEQUENCE, &dates));
        let mut content = wrap(SEQUENCE, &fields);
        content.extend(wrap(SEQUENCE, &wrap(OID, oid)));
        wrap(SEQUENCE, &content)
    }

    #[test]
    fn binding_follows_the_signature_hash() {
        let length = |oid: &[u8]| end_point_binding(&certificate(oid)).map(|hash| hash.len());
        assert_eq!(length(&[RSA_PREFIX, &[11]].concat()), Some(32));
        assert_eq!(length(&[RSA_PREFIX, &[5]].concat()), Some(32));
        assert_eq!(length(&[RSA_PREFIX, &[13]].concat()), Some(64));
        assert_eq!(length(&[ECDSA_SHA2_PREFIX, &[3]].concat()), Some(48));
        assert_eq!(length(&[0x2b, 0x65, 0x70]), None, "Ed25519 names no hash");
        assert_eq!(end_point_binding(b"\x30\x84\xff"), None);
    }

    #[test]
    fn validity() {
        let der = certificate(ECDSA_SHA1);
        let at = |text: &str| {
            let time: jiff::Timestamp = text.parse().unwrap();
            is_valid_at(&der, UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.as_second()).unwrap())))
        };
        assert_eq!(at("2025-01-02T03:04:04Z"), Some(false));
        assert_eq!(at("2025-01-02T03:04:05Z"), Some(true));
        assert_eq!(at("2051-01-02T03:04:06Z"), Some(false));
        assert_eq!(is_valid_at(&der[..der.len() - 20], UnixTime::since_unix_epoch(Duration::ZERO)), None);
    }
}
