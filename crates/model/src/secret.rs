//! A text that neither prints nor serializes, and is wiped when dropped.

use std::fmt;

use zeroize::Zeroizing;

/// A password or private key. Only [`Secret::expose`] gives the text, so a reader can find every use.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself: for handing to a server, never for a message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn never_prints() {
        assert!(!format!("{:?}", super::Secret::new("hunter2")).contains("hunter2"));
    }
}
