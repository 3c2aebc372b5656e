//! Somebody who asks for something.

use std::collections::BTreeSet;

use axum::{extract::FromRequestParts, http::request::Parts};
use lifeboat_model::id::Tenant;

use super::{Refused, sessions::same};
use crate::{
    daemon::Scope,
    settings::{Grant, Role, Tenants},
};

/// Somebody who asks, and what they may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Their name: of the token, or at the identity provider.
    pub who: String,
    /// What they may, and where.
    pub grants: Vec<Grant>,
    /// How they are known.
    pub how: How,
}

/// How somebody is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// By a token of ours.
    Token,
    /// By an access token of the identity provider.
    Oidc,
    /// By a session of the dashboard. Its forms carry `csrf` in a hidden field of that name.
    Session {
        /// What a form must send.
        csrf: String,
    },
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Status, points, runs, schedules, storage, metrics: every role.
    Look,
    /// Start and cancel runs: operators.
    Act,
    /// Sign off and approve: approvers.
    Approve,
    /// Statements of evidence: operators, approvers and auditors.
    Evidence,
    /// Who did what, and who was refused: auditors.
    Activity,
}

impl Need {
    /// The roles that do.
    pub fn roles(self) -> &'static [Role] {
        match self {
            Need::Look => &Role::ALL,
            Need::Act => &[Role::Operator],
            Need::Approve => &[Role::Approver],
            Need::Evidence => &[Role::Operator, Role::Approver, Role::Auditor],
            Need::Activity => &[Role::Auditor],
        }
    }

    /// The roles, for people: `operator, approver or auditor`.
    pub(super) fn words(self) -> String {
        let words: Vec<_> = self.roles().iter().map(|role| role.word()).collect();
        match words.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }
}

impl Caller {
    /// Where they may do this; refused if nowhere.
    pub fn scope(&self, need: Need) -> Result<Scope, Refused> {
        let mut named = BTreeSet::new();
        for grant in self.grants.iter().filter(|grant| need.roles().contains(&grant.role)) {
            match &grant.tenants {
                Tenants::All => return Ok(Scope::all()),
                Tenants::Some(tenants) => named.extend(tenants.iter().cloned()),
            }
        }
        if named.is_empty() { Err(Refused::forbidden(need)) } else { Ok(Scope(Tenants::Some(named))) }
    }

    /// Whether they may do this there. A tenant that they may not look at does not exist for them, whatever they ask for.
    pub fn may(&self, need: Need, tenant: &Tenant) -> Result<(), Refused> {
        if !self.scope(Need::Look)?.has(tenant) {
            return Err(Refused::not_found());
        }
        if !self.scope(need).is_ok_and(|scope| scope.has(tenant)) {
            return Err(Refused::forbidden(need).in_tenant(tenant));
        }
        Ok(())
    }

    /// Whether a form was ours: it carries what only this session's pages have. Tokens need none: no browser sends them.
    pub fn check_csrf(&self, sent: &str) -> Result<(), Refused> {
        match &self.how {
            How::Session { csrf } if !same(csrf, sent) => Err(Refused::foreign_form()),
            How::Session { .. } | How::Token | How::Oidc => Ok(()),
        }
    }

    /// What a form of the dashboard must carry in its hidden field `csrf`; none where no session is.
    pub fn csrf(&self) -> Option<&str> {
        match &self.how {
            How::Session { csrf } => Some(csrf),
            How::Token | How::Oidc => None,
        }
    }
}

/// What the gate found out: handed from it to handlers in the request.
#[derive(Debug, Clone)]
pub(super) struct Found(pub(super) Result<Caller, Refused>);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Refused> {
        match parts.extensions.get::<Found>() {
            Some(found) => found.0.clone(),
            None => Err(Refused::not_signed_in()),
        }
    }
}
