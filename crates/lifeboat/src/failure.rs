//! From an error to what a person reads and what a script sees: the message and its causes, what is safe, a hint, the
//! next command, and an [`Exit`]. The crates below have typed errors and know no commands; here is the one place that
//! turns those types into advice.

use std::{error::Error as StdError, fmt::Display};

use crate::exit::Exit;

mod classify;

/// An error on its way to the person who started the command.
#[derive(Debug)]
pub struct Failure {
    /// What the program exits with.
    pub exit: Exit,
    /// The message, with its causes.
    pub error: anyhow::Error,
    /// Single findings, where there are several.
    pub details: Vec<String>,
    /// What is as it was, in spite of the failure.
    pub safe: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// The next command to type.
    pub next: Option<String>,
}

/// What every command gives.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure of our own making; foreign errors come in by `?`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure {
            exit,
            error: anyhow::Error::msg(message.into()),
            details: Vec::new(),
            safe: None,
            hint: None,
            next: None,
        }
    }

    /// Says what to do. An earlier, more special hint is kept.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert(hint.into());
        self
    }

    /// Says which command comes next. An earlier one is kept.
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next.get_or_insert(next.into());
        self
    }

    /// Says what is as it was.
    pub fn safe(mut self, safe: impl Into<String>) -> Self {
        self.safe.get_or_insert(safe.into());
        self
    }

    /// Puts what was being done before the message.
    pub fn context(mut self, context: impl Display + Send + Sync + 'static) -> Self {
        self.error = self.error.context(context);
        self
    }

    /// The message, then each cause that adds words to the one before it.
    pub fn messages(&self) -> Vec<String> {
        let mut messages: Vec<String> = Vec::new();
        for cause in self.error.chain() {
            let text = cause.to_string();
            if !messages.last().is_some_and(|last| last.contains(&text)) {
                messages.push(text);
            }
        }
        messages
    }
}

/// An error in one line: its message, then each cause that adds words to the one before it.
pub fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut messages: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !messages.last().is_some_and(|last| last.contains(&text)) {
            messages.push(text);
        }
        next = cause.source();
    }
    messages.join(": ")
}

/// Of the daemon. What is wrong with a policy is told line by line.
pub fn of_daemon(error: lifeboat_daemon::Error) -> Failure {
    use lifeboat_daemon::Error;
    match error {
        Error::Unusable { file, problems } => {
            let message = Error::Unusable { file, problems: Vec::new() }.to_string();
            let failure = Failure { details: problems, ..Failure::new(Exit::Config, message) };
            failure.safe("nothing was done").next("lifeboat schedule check")
        }
        error @ Error::Busy { .. } => Failure { exit: Exit::Busy, ..Failure::from(error) }
            .hint("each daemon has a state folder of its own; stop the other, or wait until it has ended"),
        error @ Error::Listen { .. } => {
            Failure::from(error).hint("free the address, or choose another with --listen or in the settings")
        }
        Error::Engine(error) => Failure::from(error),
        error => Failure::from(error),
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = anyhow::Error::new(error);
        let advice = classify::advice(&error);
        Failure { exit: advice.exit, error, details: Vec::new(), safe: None, hint: advice.hint, next: advice.next }
    }
}

/// Adds words to the failure inside a result, whatever its error type.
pub trait Advise<T> {
    /// See [`Failure::hint`].
    fn hint(self, hint: impl Into<String>) -> Result<T>;
    /// See [`Failure::safe`].
    fn safe(self, safe: impl Into<String>) -> Result<T>;
    /// See [`Failure::context`].
    fn context(self, context: impl Display + Send + Sync + 'static) -> Result<T>;
}

impl<T, E: Into<Failure>> Advise<T> for std::result::Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().hint(hint))
    }

    fn safe(self, safe: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().safe(safe))
    }

    fn context(self, context: impl Display + Send + Sync + 'static) -> Result<T> {
        self.map_err(|error| error.into().context(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let inner = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let failure = Failure::from(inner).context("cannot read /a: no such file").context("cannot load keys");
        assert_eq!(failure.messages(), ["cannot load keys", "cannot read /a: no such file"]);
    }

    #[test]
    fn the_first_hint_is_the_special_one() {
        let failed: Result<()> = Err(Failure::new(Exit::Key, "x").hint("special"));
        let failure = failed.hint("general").unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("special"));
        assert_eq!(failure.exit, Exit::Key);
    }
}
