//! Which lines of the overview are shown: a query, so that it works without a script and can be sent to somebody.

use std::collections::BTreeSet;

use maud::{Markup, html};
use serde::Deserialize;

use super::parts;
use crate::view::{Line, Overview};

/// What the query asks for. What is not understood asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// `on-call`, `owner`, `executive`, `auditor`.
    #[serde(rename = "as")]
    pub reader: Option<String>,
    /// `protected`, `at-risk`, `unprotected`, `unknown`.
    pub state: Option<String>,
    /// The owner of instances.
    pub tenant: Option<String>,
    /// The recovery class.
    pub tier: Option<String>,
    /// In the name of instance, owner or reason.
    #[serde(rename = "q")]
    pub text: Option<String>,
    /// Which page, from 1.
    #[serde(deserialize_with = "page")]
    pub page: usize,
}

/// A page that is no number is the first.
fn page<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(text.parse().unwrap_or(1))
}

fn given(field: &Option<String>) -> Option<&str> {
    field.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

impl Filter {
    /// Whether a line is asked for.
    pub fn takes(&self, line: &Line) -> bool {
        let is = |asked: &Option<String>, has: &str| given(asked).is_none_or(|asked| asked == has);
        is(&self.state, &line.state) && is(&self.tenant, &line.tenant) && is(&self.tier, &line.tier) && self.says(line)
    }

    fn says(&self, line: &Line) -> bool {
        let Some(text) = given(&self.text) else { return true };
        let text = text.to_lowercase();
        [Some(&line.instance), Some(&line.tenant), line.owner.as_ref(), line.reason.as_ref()]
            .into_iter()
            .flatten()
            .any(|field| field.to_lowercase().contains(&text))
    }

    /// Whether it asks for anything.
    pub fn is_any(&self) -> bool {
        [&self.state, &self.tenant, &self.tier, &self.text].into_iter().any(|field| given(field).is_some())
    }

    fn path(&self) -> String {
        let fields = [
            ("as", &self.reader),
            ("state", &self.state),
            ("tenant", &self.tenant),
            ("tier", &self.tier),
            ("q", &self.text),
        ];
        let mut query: Vec<String> = fields
            .into_iter()
            .filter_map(|(name, field)| Some(format!("{name}={}", parts::encoded(given(field)?))))
            .collect();
        if self.page > 1 {
            query.push(format!("page={}", self.page));
        }
        if query.is_empty() { "/".to_owned() } else { format!("/?{}", query.join("&")) }
    }

    /// The address of another page of the same lines.
    pub fn at_page(&self, page: usize) -> String {
        Filter { page, ..self.clone() }.path()
    }

    /// The address that shows a state alone, or all again.
    pub fn toggle_state(&self, state: &str) -> String {
        let state = (self.state.as_deref() != Some(state)).then(|| state.to_owned());
        Filter { state, page: 1, ..self.clone() }.path()
    }

    /// The address of another reader's view.
    pub fn read_by(reader: Option<&str>) -> String {
        Filter { reader: reader.map(str::to_owned), ..Filter::default() }.path()
    }

    /// The address without any wish.
    pub fn without(&self) -> String {
        Filter { reader: self.reader.clone(), ..Filter::default() }.path()
    }

    /// The form. With few instances it would only be in the way.
    pub fn form(&self, view: &Overview) -> Markup {
        if view.instances.len() < 8 && !self.is_any() {
            return html! {};
        }
        let names = |of: fn(&Line) -> &str| view.instances.iter().map(of).collect::<BTreeSet<&str>>();
        let (tenants, tiers) = (names(|line| &line.tenant), names(|line| &line.tier));
        html! {
            form.filter method="get" action="/" role="search" aria-label="Find instances" {
                @if let Some(reader) = given(&self.reader) { input type="hidden" name="as" value=(reader); }
                @if let Some(state) = given(&self.state) { input type="hidden" name="state" value=(state); }
                label { span { "Find" } input type="search" name="q" value=[given(&self.text)] placeholder="name, owner or reason"; }
                @if tenants.len() > 1 { (select("tenant", "Tenant", &tenants, given(&self.tenant))) }
                @if tiers.len() > 1 { (select("tier", "Tier", &tiers, given(&self.tier))) }
                button type="submit" { "Show" }
                @if self.is_any() { a href=(self.without()) { "Show all" } }
            }
        }
    }
}

pub(super) fn select(name: &str, label: &str, options: &BTreeSet<&str>, chosen: Option<&str>) -> Markup {
    html! {
        label {
            span { (label) }
            select name=(name) {
                option value="" { "all" }
                @for option in options { option value=(option) selected[chosen == Some(*option)] { (option) } }
            }
        }
    }
}
