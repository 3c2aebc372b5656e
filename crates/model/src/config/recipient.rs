//! Whether a text is an age recipient: one wrong letter in a recovery recipient would be found out at the worst time.
//!
//! Recipients are X25519 (`age1…`), a plugin's (`age1name1…`, where only the plugin knows what the letters mean), and SSH
//! public keys. An SSH key's comment is dropped: points name recipients as text, and texts are compared.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Why a text is not a recipient that backups can be sealed to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RecipientError {
    /// Neither `age1…` nor an SSH public key.
    NotAge,
    /// A recipient that must not stand beside others.
    PostQuantum,
    /// An SSH key of a kind that cannot be sealed to.
    SshKind(String),
    /// An RSA key with so many bits.
    RsaBits(usize),
    /// Right beginning, wrong length, letters or checksum.
    Mistyped,
}

const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// Longer ones are no recipients of any plugin.
const LONGEST: usize = 4096;
/// What age seals to.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The recipient in its one form, or why it is none.
pub(super) fn check(text: &str) -> Result<String, RecipientError> {
    let text = text.trim();
    match text.strip_prefix("age1") {
        Some(data) => age(data).map(|()| text.to_owned()),
        None => ssh(text),
    }
}

/// 32 bytes and a checksum, or a plugin's name and whatever it wrote: in Bech32 (BIP 173).
fn age(data: &str) -> Result<(), RecipientError> {
    let (prefix, data) = match data.rsplit_once('1') {
        None => ("age".to_owned(), data),
        Some(("pq" | "tagpq", _)) => return Err(RecipientError::PostQuantum),
        Some((name, data)) => (format!("age1{name}"), data),
    };
    let values: Option<Vec<u32>> =
        data.bytes().map(|letter| LETTERS.iter().position(|known| *known == letter)?.try_into().ok()).collect();
    let values = values.filter(|values| values.len() <= LONGEST).ok_or(RecipientError::Mistyped)?;
    let named = prefix.strip_prefix("age1");
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-._".contains(&b))
    };
    let has_form = named.map_or(values.len() == 58, |name| is_name(name) && values.len() >= 6);
    if has_form && checksum(&prefix, &values) == 1 { Ok(()) } else { Err(RecipientError::Mistyped) }
}

fn ssh(text: &str) -> Result<String, RecipientError> {
    let mut words = text.split_ascii_whitespace();
    let (Some(kind), Some(data)) = (words.next(), words.next()) else {
        return Err(if text.starts_with("ssh-") { RecipientError::Mistyped } else { RecipientError::NotAge });
    };
    if !["ssh-", "ecdsa-", "sk-"].iter().any(|start| kind.starts_with(start)) {
        return Err(RecipientError::NotAge);
    }
    let blob = STANDARD.decode(data).map_err(|_| RecipientError::Mistyped)?;
    let fields = fields(&blob).ok_or(RecipientError::Mistyped)?;
    match (kind, fields.as_slice()) {
        (_, [name, ..]) if *name != kind.as_bytes() => Err(RecipientError::Mistyped),
        ("ssh-ed25519", [_, key]) if key.len() == 32 => Ok(format!("{kind} {data}")),
        ("ssh-rsa", [_, _, modulus]) => {
            let bits = bits(modulus);
            if RSA_BITS.contains(&bits) { Ok(format!("{kind} {data}")) } else { Err(RecipientError::RsaBits(bits)) }
        }
        ("ssh-ed25519" | "ssh-rsa", _) => Err(RecipientError::Mistyped),
        _ => Err(RecipientError::SshKind(kind.to_owned())),
    }
}

/// The fields of an SSH key: each with its length before it.
fn fields(mut blob: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while !blob.is_empty() {
        let (len, rest) = blob.split_first_chunk::<4>()?;
        let (field, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        fields.push(field);
        blob = rest;
    }
    Some(fields)
}

/// Of a number without sign, as SSH writes it.
fn bits(number: &[u8]) -> usize {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    number.get(start).map_or(0, |first| (number.len() - start) * 8 - first.leading_zeros() as usize)
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

    /// An SSH key for tests, of a given kind, with the fields after its name.
    fn ssh_key(kind: &str, rest: &[&[u8]]) -> String {
        let mut blob = Vec::new();
        for field in std::iter::once(&kind.as_bytes()).chain(rest) {
            blob.extend((field.len() as u32).to_be_bytes());
            blob.extend(*field);
        }
        format!("{kind} {}", STANDARD.encode(blob))
    }

    fn rsa(bits: usize) -> String {
        let mut modulus = vec![0xff; bits / 8];
        modulus.insert(0, 0);
        ssh_key("ssh-rsa", &[&[1, 0, 1], &modulus])
    }

    #[test]
    fn real_recipients_pass() {
        for good in [
            GOOD,
            "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg",
            // Of age-plugin-yubikey's documentation, and age's own for keys in hardware.
            "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t",
            "age1tag1qt8lw0ual6avlwmwatk888yqnmdamm7xfd0wak53ut6elz5c4swx2yqdj4e",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN",
            &rsa(2048),
            &rsa(4096),
        ] {
            assert_eq!(check(good).as_deref(), Ok(good));
        }
    }

    #[test]
    fn an_ssh_key_loses_its_comment() {
        let bare = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";
        assert_eq!(check(&format!(" {bare} alice@safe.example \n")).as_deref(), Ok(bare));
    }

    #[test]
    fn any_one_wrong_letter_is_found() {
        let plugin = "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t";
        for (good, start) in [(GOOD, 4), (plugin, 4)] {
            for at in start..good.len() {
                let other = if good.as_bytes()[at] == b'q' { "p" } else { "q" };
                let bad = format!("{}{other}{}", &good[..at], &good[at + 1..]);
                assert_eq!(check(&bad), Err(RecipientError::Mistyped), "{bad}");
            }
        }
    }

    #[test]
    fn other_texts_are_told_apart() {
        assert_eq!(check("hunter2"), Err(RecipientError::NotAge));
        assert_eq!(check("hunter2 and more"), Err(RecipientError::NotAge));
        assert_eq!(check("ssh-ed25519 AAAA"), Err(RecipientError::Mistyped));
        assert_eq!(check("ssh-ed25519"), Err(RecipientError::Mistyped));
        let bare = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";
        assert_eq!(check(&bare[..bare.len() - 4]), Err(RecipientError::Mistyped));
        assert_eq!(check(&bare.replace("ssh-ed25519", "ssh-rsa")), Err(RecipientError::Mistyped));
        assert_eq!(check(&rsa(1024)), Err(RecipientError::RsaBits(1024)));
        assert_eq!(check(&rsa(8192)), Err(RecipientError::RsaBits(8192)));
        let ecdsa = ssh_key("ecdsa-sha2-nistp256", &[b"nistp256", &[4; 65]]);
        assert_eq!(check(&ecdsa), Err(RecipientError::SshKind("ecdsa-sha2-nistp256".to_owned())));
        assert_eq!(check("age1pq1qqqqqqqq"), Err(RecipientError::PostQuantum));
        assert_eq!(check(&GOOD[..60]), Err(RecipientError::Mistyped));
        assert_eq!(check("age1"), Err(RecipientError::Mistyped));
        assert_eq!(check("age11"), Err(RecipientError::Mistyped));
    }
}
