//! Whether a text is an age recipient: one wrong letter in a recovery recipient would be found out at the worst time.

/// Why a text is not a recipient that backups can be sealed to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RecipientError {
    /// It does not begin with `age1`.
    NotAge,
    /// A recipient of a plugin, or of another kind than X25519.
    OtherKind,
    /// Right beginning, wrong length, letters or checksum.
    Mistyped,
}

const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// `age1` and 58 letters: 32 bytes and a checksum, in Bech32 (BIP 173).
pub(super) fn check(text: &str) -> Result<(), RecipientError> {
    let data = text.strip_prefix("age1").ok_or(RecipientError::NotAge)?;
    if data.contains('1') || data.len() > 100 {
        return Err(RecipientError::OtherKind);
    }
    let values: Option<Vec<u32>> =
        data.bytes().map(|letter| LETTERS.iter().position(|known| *known == letter)?.try_into().ok()).collect();
    match values {
        Some(values) if values.len() == 58 && checksum("age", &values) == 1 => Ok(()),
        _ => Err(RecipientError::Mistyped),
    }
}

fn checksum(prefix: &str, values: &[u32]) -> u32 {
    const GENERATORS: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let high = prefix.bytes().map(|byte| u32::from(byte >> 5));
    let low = prefix.bytes().map(|byte| u32::from(byte & 31));
    high.chain([0]).chain(low).chain(values.iter().copied()).fold(1, |sum, value| {
        let next = ((sum & 0x01ff_ffff) << 5) ^ value;
        let generators = GENERATORS.iter().enumerate().filter(|(bit, _)| (sum >> 25) >> bit & 1 == 1);
        generators.fold(next, |next, (_, generator)| next ^ generator)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From age's own documentation.
    const GOOD: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn real_recipients_pass() {
        assert_eq!(check(GOOD), Ok(()));
        assert_eq!(check("age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"), Ok(()));
    }

    #[test]
    fn any_one_wrong_letter_is_found() {
        for at in 4..GOOD.len() {
            let other = if GOOD.as_bytes()[at] == b'q' { "p" } else { "q" };
            let bad = format!("{}{other}{}", &GOOD[..at], &GOOD[at + 1..]);
            assert_eq!(check(&bad), Err(RecipientError::Mistyped), "{bad}");
        }
    }

    #[test]
    fn other_texts_are_told_apart() {
        assert_eq!(check("ssh-ed25519 AAAA"), Err(RecipientError::NotAge));
        assert_eq!(
            check("age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t"),
            Err(RecipientError::OtherKind)
        );
        assert_eq!(check(&GOOD[..60]), Err(RecipientError::Mistyped));
        assert_eq!(check("age1"), Err(RecipientError::Mistyped));
    }
}
