//! Which channels carry a condition. What is said of a tenant never gets to a channel that routes give to other tenants only.

use std::collections::BTreeSet;

use super::Condition;
use crate::settings::{Notify, Route};

/// The channels of a condition; an empty set: routes leave it out on purpose, or no channel may carry it ([`is_unheard`]).
pub(super) fn channels(notify: &Notify, condition: &Condition) -> BTreeSet<String> {
    let taking: Vec<_> = notify.routes.iter().filter(|route| takes(route, condition)).collect();
    let named: BTreeSet<&String> = if taking.is_empty() {
        notify.channels.iter().map(|channel| &channel.name).filter(|name| may_carry(notify, name, condition)).collect()
    } else {
        // A severity is a wish not to hear of less: no other channel is sought for what lies below.
        taking.into_iter().filter(|route| condition.severity >= route.severity).flat_map(|route| &route.to).collect()
    };
    let own = condition.key.strip_prefix("//channel ");
    let is_there = |name: &&String| notify.channels.iter().any(|channel| channel.name == **name);
    // A channel that fails is told of over the others.
    named.into_iter().filter(is_there).filter(|name| Some(name.as_str()) != own).cloned().collect()
}

/// Whether a condition reaches nobody although nobody wished that.
pub(super) fn is_unheard(notify: &Notify, condition: &Condition) -> bool {
    let is_own = condition.key.starts_with("//channel ");
    !notify.channels.is_empty()
        && !is_own
        && !notify.routes.iter().any(|route| takes(route, condition))
        && channels(notify, condition).is_empty()
}

/// Whether a route is about it, however grave it is.
fn takes(route: &Route, condition: &Condition) -> bool {
    fn has<T: AsRef<str>>(wanted: &[T], found: Option<&String>) -> bool {
        wanted.is_empty() || found.is_some_and(|found| wanted.iter().any(|one| one.as_ref() == found))
    }
    let tenants: Vec<_> = route.tenants.iter().map(|tenant| tenant.as_str()).collect();
    let instances: Vec<_> = route.instances.iter().map(|instance| instance.as_str()).collect();
    let tiers: Vec<_> = route.tiers.iter().map(|tier| tier.as_str()).collect();
    has(&tenants, condition.tenant.as_ref())
        && has(&instances, condition.instance.as_ref())
        && has(&tiers, condition.tier.as_ref())
        && has(&route.owners, condition.owner.as_ref())
}

/// Whether a channel may carry what no route takes: routes do not keep it for other tenants.
fn may_carry(notify: &Notify, channel: &str, condition: &Condition) -> bool {
    let mut naming = notify.routes.iter().filter(|route| route.to.iter().any(|name| name == channel)).peekable();
    naming.peek().is_none()
        || naming.any(|route| {
            let tenant = condition.tenant.as_deref();
            route.tenants.is_empty() || route.tenants.iter().any(|name| Some(name.as_str()) == tenant)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        notify::testing::{channel, condition},
        settings::Severity,
    };

    fn routes(routes: Vec<Route>) -> Notify {
        let channels = ["ops", "acme", "zeta"].map(|name| channel(name, 10)).to_vec();
        Notify { channels, routes, dead_man: None }
    }

    fn to(notify: &Notify, tenant: &str, severity: Severity) -> Vec<String> {
        channels(notify, &condition(tenant, "clinic", "rpo", severity)).into_iter().collect()
    }

    fn route(tenants: &[&str], severity: Severity, to: &str) -> Route {
        let tenants = tenants.iter().map(|tenant| tenant.parse().unwrap()).collect();
        Route { tenants, severity, to: vec![to.to_owned()], ..Route::default() }
    }

    #[test]
    fn what_no_route_takes_goes_everywhere_but_to_other_tenants() {
        assert_eq!(to(&routes(vec![]), "acme", Severity::Info), ["acme", "ops", "zeta"]);
        let notify = routes(vec![route(&["zeta"], Severity::Info, "zeta")]);
        assert_eq!(to(&notify, "acme", Severity::Info), ["acme", "ops"]);
        assert_eq!(to(&notify, "zeta", Severity::Info), ["zeta"]);
    }

    #[test]
    fn a_severity_is_a_wish_not_to_hear_of_less() {
        let notify = routes(vec![route(&["acme"], Severity::Critical, "ops")]);
        assert_eq!(to(&notify, "acme", Severity::Critical), ["ops"]);
        assert!(to(&notify, "acme", Severity::Warning).is_empty());
        assert!(!is_unheard(&notify, &condition("acme", "clinic", "rpo", Severity::Warning)));
    }

    #[test]
    fn a_channel_is_not_told_of_its_own_failure() {
        let mut own = condition("", "", "channel ops", Severity::Warning);
        own.tenant = None;
        own.instance = None;
        assert_eq!(channels(&routes(vec![]), &own).into_iter().collect::<Vec<_>>(), ["acme", "zeta"]);
        own.key = "//docker".to_owned();
        let kept = ["ops", "acme", "zeta"].map(|name| route(&["acme"], Severity::Info, name)).to_vec();
        assert!(is_unheard(&routes(kept), &own), "all channels are kept for a tenant");
    }
}
