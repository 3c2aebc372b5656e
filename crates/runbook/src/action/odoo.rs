//! `odoo`: asks an Odoo whether people can log in, whether it is healthy, or which modules it has.
//!
//! It looks and changes nothing, so it is repeated at will. Practice asks the sandbox's Odoo.

use lifeboat_model::config::reading::{Result, Table, Value};

use super::{Act, Again, Effect, Practice, Show, http::url, minutes};
use crate::{
    template::Template,
    values::{Secret, one_of, secret},
};

/// A question to Odoo.
#[derive(Debug, Clone, PartialEq)]
pub struct Odoo {
    /// Where it is.
    pub url: Template,
    /// What is asked.
    pub check: Check,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// Whether this user can log in.
    Login {
        /// The database.
        database: Template,
        /// The user.
        user: Template,
        /// Its password.
        password: Secret,
    },
    /// Whether it says that it is healthy (`/web/health`).
    Health,
    /// Whether modules are installed.
    Modules {
        /// The database.
        database: Template,
        /// The user.
        user: Template,
        /// Its password.
        password: Secret,
        /// The modules.
        modules: Vec<String>,
    },
}

impl Odoo {
    pub(crate) fn read(table: &Table<'_>) -> Result<Odoo> {
        let url = table.required("url", "add url = \"https://…\"", url);
        let words = [("login", 0), ("health", 1), ("modules", 2)];
        let hint = "say what is asked: login, health or modules";
        let check = match table.required("check", hint, |value| one_of(value, &words)) {
            Ok(1) => Ok(Check::Health),
            Ok(word) => logged_in(table, word == 2),
            Err(reported) => Err(reported),
        };
        Ok(Odoo { url: url?, check: check? })
    }
}

fn logged_in(table: &Table<'_>, asks_modules: bool) -> Result<Check> {
    let database = table.required("database", "name the database", Template::of);
    let user = table.required("user", "name the user who logs in", Template::of);
    let password = match secret(table, "password") {
        Ok(Some(password)) => Ok(password),
        Ok(None) => Err(table.missing("password_file", "name the file that holds the user's password")),
        Err(reported) => Err(reported),
    };
    if !asks_modules {
        return Ok(Check::Login { database: database?, user: user?, password: password? });
    }
    let hint = "name the modules that must be installed";
    let text = |value: &Value<'_>| value.filled().map(str::to_owned);
    let modules = table.required("modules", hint, |value| value.filled_list_of(hint, text));
    Ok(Check::Modules { database: database?, user: user?, password: password?, modules: modules? })
}

impl Act for Odoo {
    fn outputs(&self) -> &'static [&'static str] {
        &["version"]
    }

    fn words(&self, show: Show<'_>) -> String {
        let url = show(&self.url);
        match &self.check {
            Check::Health => format!("ask {url} whether it is healthy"),
            Check::Login { user, database, .. } => {
                format!("log in to {url}, database {}, as {}", show(database), show(user))
            }
            Check::Modules { modules, .. } => format!("ask {url} whether {} are installed", modules.join(", ")),
        }
    }

    fn effect(&self) -> Effect {
        Effect::Nothing
    }

    fn again(&self) -> Again {
        Again::Harmless
    }

    fn practice(&self) -> Practice {
        Practice::Instead("the Odoo in the sandbox")
    }

    fn limit(&self) -> Option<lifeboat_model::time::Span> {
        Some(minutes(2))
    }
}
