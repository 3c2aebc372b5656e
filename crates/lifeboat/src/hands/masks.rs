//! Secrets stay out of journals: whatever a step has read as a secret is struck out of what it gives, and so is what looks like one.

use std::sync::{Mutex, PoisonError};

use lifeboat_model::{
    config::reading::{is_private_key, is_url_with_login},
    secret::Secret,
};
use lifeboat_runbook::execute::Outputs;
use url::{Position, Url};

/// What stands in place of a secret.
const STRUCK: &str = "***";
/// A shorter one would strike out half of the text, and tell by that what it is.
const SHORTEST: usize = 4;
/// A part of a secret URL that is shorter is a word like `production`, unless it has digits among its letters.
const LONG: usize = 20;
/// And one with digits that is shorter than this is a version or a number.
const OF_URL: usize = 9;
/// Around the lines of a private key.
const BEGIN: &str = "-----BEGIN";
const END: &str = "-----END";

/// The secrets of a run.
#[derive(Default)]
pub struct Masks {
    known: Mutex<Vec<Secret>>,
}

impl Masks {
    /// From now on this is struck out.
    pub fn hide(&self, secret: &Secret) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for line in secret.expose().lines().map(str::trim).filter(|line| line.len() >= SHORTEST) {
            if !known.iter().any(|one| one.expose() == line) {
                known.push(Secret::new(line));
            }
        }
        // The longest first: one may be the beginning of another.
        known.sort_by_key(|one| std::cmp::Reverse(one.expose().len()));
    }

    /// A URL that is itself a secret: whoever answers may repeat any part of it.
    pub fn hide_url(&self, url: &str) {
        self.hide(&Secret::new(url));
        let Ok(url) = url.trim().parse::<Url>() else { return };
        let pairs = url.query_pairs().map(|(_, value)| value.into_owned());
        let parts = url.path_segments().into_iter().flatten().map(str::to_owned);
        for part in parts.chain(pairs).filter(|part| may_be_secret(part)) {
            self.hide(&Secret::new(part));
        }
        let whole = &url[Position::BeforePath..Position::AfterQuery];
        if whole.len() >= OF_URL {
            self.hide(&Secret::new(whole));
        }
    }

    /// The text without secrets. It has to be whole: of a secret that was cut nothing is known.
    pub fn mask(&self, text: &str) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let text = known.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose(), STRUCK));
        let mut lines = Vec::new();
        let mut in_key = false;
        for line in text.split('\n') {
            let is_end = line.contains(END) && is_private_key(line);
            match (in_key, is_private_key(line)) {
                (true, _) => in_key = !is_end,
                // The rest of a key whose beginning was cut off.
                (false, true) if is_end && !line.contains(BEGIN) => lines = vec![STRUCK.to_owned()],
                (false, true) => {
                    lines.push(STRUCK.to_owned());
                    in_key = line.contains(BEGIN) && !is_end;
                }
                (false, false) => {
                    let words = line.split(' ').map(|word| if is_url_with_login(word) { STRUCK } else { word });
                    lines.push(words.collect::<Vec<_>>().join(" "));
                }
            }
        }
        lines.join("\n")
    }

    /// What a step gave, without secrets.
    pub fn mask_outcome(&self, done: Result<Outputs, String>) -> Result<Outputs, String> {
        match done {
            Ok(outputs) => Ok(outputs.into_iter().map(|(name, value)| (name, self.mask(&value))).collect()),
            Err(why) => Err(self.mask(&why)),
        }
    }
}

/// Words are not struck out: folders and names that later steps go by are made of them.
fn may_be_secret(part: &str) -> bool {
    let has = |is: fn(&u8) -> bool| part.as_bytes().iter().any(is);
    part.len() >= LONG || part.len() >= OF_URL && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_as_a_secret_is_struck_out() {
        let masks = Masks::default();
        masks.hide(&Secret::new("hunter22"));
        masks.hide(&Secret::new("hunter22-and-more\nsecond line"));
        masks.hide(&Secret::new("ab"));
        let told = "login hunter22 failed, hunter22-and-more too; second line; ab\nsee https://ann:pw@db.example/x now";
        assert_eq!(masks.mask(told), "login *** failed, *** too; ***; ab\nsee *** now");
        let outputs = Outputs::from([("output".to_owned(), "it is hunter22".to_owned())]);
        assert_eq!(masks.mask_outcome(Ok(outputs)).unwrap()["output"], "it is ***");
        assert_eq!(masks.mask_outcome(Err("hunter22".to_owned())).unwrap_err(), "***");
    }

    #[test]
    fn a_private_key_is_struck_out_to_its_end() {
        let masks = Masks::default();
        let (begin, end) = ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----");
        assert_eq!(masks.mask(&format!("one\n{begin}\nMIIEv\nQIBAD\n{end}\ntwo")), "one\n***\ntwo");
        assert_eq!(masks.mask(&format!("one\n{begin}\nMIIEv")), "one\n***", "its end was cut off");
        assert_eq!(masks.mask(&format!("MIIEv\n{end}\ntwo")), "***\ntwo", "its beginning was cut off");
        assert_eq!(masks.mask(&format!("{{\"key\": \"{begin}\\nMIIEv\\n{end}\"}}\ntwo")), "***\ntwo");
    }

    #[test]
    fn no_part_of_a_secret_url_is_told() {
        let masks = Masks::default();
        masks.hide_url("https://hooks.example/services/T0000/B00000001/token4token?key=in-the-url-1\n");
        for told in [
            "Cannot POST /services/T0000/B00000001/token4token?key=in-the-url-1",
            "no token4token here",
            "key in-the-url-1",
            "https://hooks.example/services/T0000/B00000001/token4token?key=in-the-url-1",
        ] {
            let masked = masks.mask(told);
            assert!(masked.contains("***"), "{masked}");
            for part in ["token4token", "in-the-url-1", "B00000001"] {
                assert!(!masked.contains(part), "{masked}");
            }
        }
        assert_eq!(masks.mask("POST /services"), "POST /services");
        masks.hide_url("https://lb.example/api/instances/production/drain");
        let folder = "/srv/restore/production";
        assert_eq!(masks.mask(folder), folder, "later steps go by names");
    }
}
