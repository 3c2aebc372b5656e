//! Names and ids. Names are chosen by people, ids are random bytes brought by the caller.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is not a valid name or id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 1–63 characters of `a-z`, `0-9` and `-`, starting with a letter or digit.
    #[error("\"{0}\" is not a valid name: use 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit")]
    Name(String),
    /// Not the right number of hexadecimal digits.
    #[error("\"{0}\" is not a valid id: expected {1} hexadecimal digits")]
    Hex(String, usize),
}

fn is_name(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().all(|c| allowed(c) || c == b'-')
        && text.bytes().next().is_some_and(allowed)
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                if is_name(text) { Ok(Self(text.to_owned())) } else { Err(IdError::Name(text.to_owned())) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes; the text form has twice as many hexadecimal digits.
            pub const LEN: usize = $len;
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError::Hex(text.to_owned(), $len * 2))?;
                Ok(Self(bytes))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

name!(
    /// The owner that instances belong to.
    Tenant
);
name!(
    /// One protected Odoo system.
    Instance
);
name!(
    /// The name of a recovery class in the configuration.
    TierName
);
name!(
    /// What an instance calls something that it needs.
    DependencyName
);

hex_id!(
    /// A repository, chosen at random when it is created.
    RepositoryId, 16
);
hex_id!(
    /// A pack, index, tree or key object, chosen at random by its one writer.
    ObjectId, 16
);
hex_id!(
    /// A recovery point. People may shorten it to any unique prefix.
    PointId, 8
);
hex_id!(
    /// A run of backup, restore or drill, for logs, labels and evidence.
    RunId, 8
);
hex_id!(
    /// A chunk: keyed BLAKE3 of its bytes, so that it tells nothing about them.
    ChunkId, 32
);
hex_id!(
    /// A SHA-256 digest of public bytes (ciphertext, statements).
    Sha256Digest, 32
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!("clinic-1".parse::<Instance>().unwrap().as_str(), "clinic-1");
        for bad in ["", "-a", "A", "a/b", "a b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<Instance>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hex_ids_round_trip() {
        let id = PointId([0xab; 8]);
        assert_eq!(id.to_string().parse::<PointId>().unwrap(), id);
        assert!("abcd".parse::<PointId>().is_err());
        assert!("zz".repeat(8).parse::<PointId>().is_err());
    }
}
