//! What every page needs to know besides its view: who reads it, when, and what does not work.

use jiff::Timestamp;
use lifeboat_model::id::Tenant;
use maud::{Markup, html};

use crate::{
    auth::{Caller, Need},
    settings::{Grant, Tenants},
    view::Trouble,
};

/// What a page knows of its reader and its moment.
#[derive(Debug, Clone)]
pub struct PageContext {
    /// When the page was made.
    pub now: Timestamp,
    /// Who reads it; none before sign-in.
    pub reader: Option<Caller>,
    /// Where in the navigation it is.
    pub place: Place,
    /// What does not work with the daemon now, as far as this reader may know.
    pub troubles: Vec<Trouble>,
    /// When the data that it shows was looked at, where that is not the moment of the page.
    pub looked: Option<Timestamp>,
}

/// A part of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// All instances, and what belongs to one.
    Overview,
    /// The calendar.
    Schedules,
    /// What people follow, and what became of it.
    Runbooks,
    /// What is stored.
    Storage,
    /// Signed statements.
    Evidence,
    /// Who did what.
    Activity,
    /// Nowhere: sign-in, errors.
    None,
}

impl PageContext {
    /// A page of this place.
    pub fn at(self, place: Place) -> PageContext {
        PageContext { place, ..self }
    }

    /// Whether the reader may start and cancel runs of a tenant.
    pub fn operates(&self, tenant: &str) -> bool {
        let Ok(tenant) = tenant.parse::<Tenant>() else { return false };
        self.reader.as_ref().is_some_and(|reader| reader.may(Need::Act, &tenant).is_ok())
    }

    /// Whether the reader may do this anywhere.
    pub fn may(&self, need: Need) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.scope(need).is_ok())
    }

    /// The hidden field that every form carries.
    pub(super) fn csrf(&self) -> Markup {
        html! {
            @if let Some(csrf) = self.reader.as_ref().and_then(Caller::csrf) { input type="hidden" name="csrf" value=(csrf); }
        }
    }
}

/// `operator`, or `operator of northern; auditor`.
pub(super) fn roles(reader: &Caller) -> String {
    let of = |grant: &Grant| match &grant.tenants {
        Tenants::All => grant.role.word().to_owned(),
        Tenants::Some(tenants) => {
            let names: Vec<&str> = tenants.iter().map(Tenant::as_str).collect();
            format!("{} of {}", grant.role.word(), names.join(", "))
        }
    };
    let mut words: Vec<String> = reader.grants.iter().map(of).collect();
    words.dedup();
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::How, settings::Role};

    #[test]
    fn a_role_counts_where_it_was_granted() {
        let north: Tenant = "north".parse().unwrap();
        let grants = vec![
            Grant { role: Role::Operator, tenants: Tenants::Some([north].into()) },
            Grant { role: Role::Viewer, tenants: Tenants::All },
        ];
        let reader = Caller { who: "ann".into(), grants, how: How::Session { csrf: "c\"1".into() } };
        assert_eq!(roles(&reader), "operator of north; viewer");
        let context = PageContext {
            now: Timestamp::UNIX_EPOCH,
            reader: Some(reader),
            place: Place::None,
            troubles: Vec::new(),
            looked: None,
        };
        assert_eq!(context.csrf().into_string(), "<input type=\"hidden\" name=\"csrf\" value=\"c&quot;1\">");
        assert!(context.may(Need::Evidence) && !context.may(Need::Activity));
        assert!(context.operates("north") && !context.operates("south") && !context.operates("No Tenant"));
        let nobody = PageContext { reader: None, ..context };
        assert!(!nobody.operates("north"));
    }
}
