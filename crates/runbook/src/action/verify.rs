//! `verify`: climbs rungs of the drill's ladder, by the same code, on the recovered system.
//!
//! It looks and changes nothing, so it is repeated at will. A rung that could not run is not a pass. Practice climbs
//! the same rungs in the sandbox.

use lifeboat_model::config::reading::{Result, Table};

use super::{Act, Again, Effect, Practice, Show, http::url, minutes};
use crate::{
    error::Placed,
    step::placed,
    template::Template,
    values::{Secret, name, one_of, secret},
};

/// A part of the ladder.
#[derive(Debug, Clone, PartialEq)]
pub struct Verify {
    /// The instance that was recovered.
    pub instance: Template,
    /// Which rungs.
    pub rungs: Vec<&'static str>,
    /// The step that restored it: what must be found is known from there.
    pub restored_by: Placed<String>,
    /// Odoo's filestore, where it was put elsewhere than it was restored.
    pub filestore: Option<Template>,
    /// Where the recovered Odoo answers, for `boot` and `use`.
    pub url: Option<Template>,
    /// Who logs in, for `use` and `books`: somebody who exists, as nobody is made a user in production.
    pub person: Option<Person>,
}

/// A user of Odoo.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// The login.
    pub user: Template,
    /// The password.
    pub password: Secret,
}

/// The rungs that make sense on a recovered system, by the names that a drill gives them.
pub const RUNGS: [&str; 8] = ["files", "replay", "structure", "data", "attachments", "boot", "use", "books"];

impl Verify {
    pub(crate) fn read(table: &Table<'_>) -> Result<Verify> {
        let instance = table.required("instance", "name the instance, or write \"{{instance}}\"", Template::of);
        let hint = "name the rungs, for example [\"structure\", \"data\", \"attachments\", \"boot\", \"use\"]";
        let known = RUNGS.map(|rung| (rung, rung));
        let rungs = table.required("rungs", hint, |value| value.filled_list_of(hint, |value| one_of(value, &known)));
        let hint = "name the earlier step that restored it: what must be found is known from there";
        let restored_by = table.required("restored_by", hint, |value| placed(value, name));
        let filestore = table.optional("filestore", Template::of);
        let url = table.optional("url", url);
        let user = table.optional("user", Template::of);
        let password = secret(table, "password");
        let person = match (user?, password?) {
            (Some(user), Some(password)) => Some(Person { user, password }),
            (Some(_), None) => {
                return Err(table.missing("password_file", "name the file that holds the user's password"));
            }
            (None, Some(_)) => return Err(table.missing("user", "name the user who logs in")),
            (None, None) => None,
        };
        Ok(Verify {
            instance: instance?,
            rungs: rungs?,
            restored_by: restored_by?,
            filestore: filestore?,
            url: url?,
            person,
        })
    }
}

impl Act for Verify {
    fn outputs(&self) -> &'static [&'static str] {
        &["checks", "newest-commit", "rpo-seconds"]
    }

    fn words(&self, show: Show<'_>) -> String {
        format!("verify {}: {}", show(&self.instance), self.rungs.join(", "))
    }

    fn effect(&self) -> Effect {
        Effect::Nothing
    }

    fn again(&self) -> Again {
        Again::Harmless
    }

    fn practice(&self) -> Practice {
        Practice::Instead("what was restored into the sandbox")
    }

    fn limit(&self) -> Option<lifeboat_model::time::Span> {
        Some(minutes(4 * 60))
    }
}
