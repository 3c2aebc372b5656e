//! Secrets stay out of journals: whatever a step has read as a secret is struck out of what it gives, and so is what looks like one.

use std::sync::{Mutex, PoisonError};

use lifeboat_model::{
    config::reading::{is_private_key, is_url_with_login},
    secret::Secret,
};
use lifeboat_runbook::execute::Outputs;

/// What stands in place of a secret.
const STRUCK: &str = "***";
/// A shorter one would strike out half of the text, and tell by that what it is.
const SHORTEST: usize = 4;

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

    /// The text without secrets.
    pub fn mask(&self, text: &str) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let text = known.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose(), STRUCK));
        let lines = text.split('\n').map(|line| {
            let words = line.split(' ').map(|word| if is_url_with_login(word) { STRUCK } else { word });
            if is_private_key(line) { STRUCK.to_owned() } else { words.collect::<Vec<_>>().join(" ") }
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What a step gave, without secrets.
    pub fn mask_outcome(&self, done: Result<Outputs, String>) -> Result<Outputs, String> {
        match done {
            Ok(outputs) => Ok(outputs.into_iter().map(|(name, value)| (name, self.mask(&value))).collect()),
            Err(why) => Err(self.mask(&why)),
        }
    }
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
        let key = "-----BEGIN PRIVATE KEY-----";
        assert_eq!(masks.mask(&format!("one\n{key}\ntwo")), "one\n***\ntwo");
        let outputs = Outputs::from([("output".to_owned(), "it is hunter22".to_owned())]);
        assert_eq!(masks.mask_outcome(Ok(outputs)).unwrap()["output"], "it is ***");
        assert_eq!(masks.mask_outcome(Err("hunter22".to_owned())).unwrap_err(), "***");
    }
}
