//! `start` and `stop`: containers, a systemd unit, or a Compose project on this host.
//!
//! Both end in a state and not in an event: whether they were done is seen by looking, so a resumed run looks first and twice
//! is as once. Neither removes anything: `stop` leaves containers and volumes where they are. Practice waits until the sandbox's
//! Odoo serves, and stops nothing: a drill ends its sandbox by itself.

use lifeboat_model::{
    config::reading::{Result, Table},
    time::Span,
};

use super::{Act, Again, Effect, Practice, Show};
use crate::{
    template::Template,
    values::{templates, twice},
};

/// What is started or stopped.
#[derive(Debug, Clone, PartialEq)]
pub enum Service {
    /// Containers by name.
    Containers(Vec<Template>),
    /// A systemd unit.
    Unit(Template),
    /// Services of a Compose project.
    Compose {
        /// Its file.
        file: Template,
        /// Only these; empty: all.
        services: Vec<Template>,
    },
}

/// Starts it, and waits until it runs and is healthy where it can say so.
#[derive(Debug, Clone, PartialEq)]
pub struct Start(pub Service);

/// Stops it, and waits until it does not run.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// What.
    pub service: Service,
    /// How long it may take to end by itself, before it is killed.
    pub grace: Option<Span>,
}

impl Service {
    fn read(table: &Table<'_>) -> Result<Service> {
        let containers = table.optional("containers", |value| templates(value).map(Service::Containers));
        let unit = table.optional("unit", |value| Template::of(value).map(Service::Unit));
        let file = table.optional("compose", Template::of);
        let services = table.optional("services", templates);
        let (containers, unit, file, services) = (containers?, unit?, file?, services?);
        if file.is_none() && services.is_some() {
            let place = table.get_hidden("services").map_or_else(|| table.place.clone(), |value| value.place);
            return Err(place.problem("has a meaning with compose only", "add compose = \"…\", or use containers"));
        }
        match (&containers, &unit, &file) {
            (Some(_), Some(_), _) => return Err(twice(table, "unit", "containers")),
            (Some(_), _, Some(_)) => return Err(twice(table, "compose", "containers")),
            (_, Some(_), Some(_)) => return Err(twice(table, "compose", "unit")),
            _ => {}
        }
        let compose = file.map(|file| Service::Compose { file, services: services.unwrap_or_default() });
        let hint = "say what: containers = [\"odoo\"], unit = \"odoo.service\" or compose = \"/srv/odoo/compose.yml\"";
        containers.or(unit).or(compose).ok_or_else(|| table.missing("containers", hint))
    }

    fn words(&self, show: Show<'_>) -> String {
        let all = |list: &[Template]| list.iter().map(show).collect::<Vec<_>>().join(", ");
        match self {
            Service::Containers(names) if names.len() == 1 => format!("container {}", all(names)),
            Service::Containers(names) => format!("containers {}", all(names)),
            Service::Unit(unit) => format!("unit {}", show(unit)),
            Service::Compose { file, services } if services.is_empty() => format!("Compose project {}", show(file)),
            Service::Compose { file, services } => format!("{} of Compose project {}", all(services), show(file)),
        }
    }
}

impl Start {
    pub(crate) fn read(table: &Table<'_>) -> Result<Start> {
        Service::read(table).map(Start)
    }
}

impl Stop {
    pub(crate) fn read(table: &Table<'_>) -> Result<Stop> {
        let service = Service::read(table);
        let grace = table.optional("grace", |value| value.span("1s", "1h"));
        Ok(Stop { service: service?, grace: grace? })
    }
}

const LOOKS: Again = Again::Look("whether it runs is looked at first");

impl Act for Start {
    fn words(&self, show: Show<'_>) -> String {
        format!("start {}", self.0.words(show))
    }

    fn effect(&self) -> Effect {
        Effect::Changes
    }

    fn again(&self) -> Again {
        LOOKS
    }

    fn practice(&self) -> Practice {
        Practice::Instead("the sandbox's PostgreSQL and Odoo")
    }

    fn touches(&self, show: Show<'_>) -> Vec<String> {
        vec![self.0.words(show)]
    }
}

impl Act for Stop {
    fn words(&self, show: Show<'_>) -> String {
        let grace = self.grace.map(|grace| format!(", killed after {grace}")).unwrap_or_default();
        format!("stop {}{grace}", self.service.words(show))
    }

    fn effect(&self) -> Effect {
        Effect::Changes
    }

    fn again(&self) -> Again {
        LOOKS
    }

    fn practice(&self) -> Practice {
        Practice::Not("production is left alone, and a sandbox is ended by its drill")
    }

    fn touches(&self, show: Show<'_>) -> Vec<String> {
        vec![self.service.words(show)]
    }
}
