//! `kubernetes`: scales a workload, applies a manifest, or waits for a condition.
//!
//! All three say what must be and not what must happen, so twice is as once. Practice sends them to the server as a dry run,
//! which checks names, rights and manifests and changes nothing; a wait is left out.

use lifeboat_model::config::reading::{Result, Table};

use super::{Act, Again, Effect, Practice, Show};
use crate::{
    template::Template,
    values::{Secret, secret, twice},
};

/// Something in a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Kubernetes {
    /// What.
    pub verb: Verb,
    /// The context of the kubeconfig; none: its own.
    pub context: Option<Template>,
    /// The namespace; none: the context's.
    pub namespace: Option<Template>,
    /// The kubeconfig; none: that of the user who runs this.
    pub kubeconfig: Option<Secret>,
}

/// What is done there.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    /// So many of these: `deployment/odoo`.
    Scale {
        /// Kind and name.
        workload: Template,
        /// How many.
        replicas: u32,
    },
    /// What stands in this file.
    Apply(Template),
    /// Until this is so: `available`.
    Wait {
        /// Kind and name.
        object: Template,
        /// The condition.
        condition: Template,
    },
}

impl Kubernetes {
    pub(crate) fn read(table: &Table<'_>) -> Result<Kubernetes> {
        let verb = verb(table);
        let context = table.optional("context", Template::of);
        let namespace = table.optional("namespace", Template::of);
        let kubeconfig = secret(table, "kubeconfig");
        Ok(Kubernetes { verb: verb?, context: context?, namespace: namespace?, kubeconfig: kubeconfig? })
    }
}

fn verb(table: &Table<'_>) -> Result<Verb> {
    let replicas = table.optional("replicas", |value| value.whole(0, 10_000));
    let scale = table.optional("scale", Template::of);
    let apply = table.optional("apply", |value| Template::of(value).map(Verb::Apply));
    let condition = table.optional("condition", Template::of);
    let object = table.optional("wait_for", Template::of);
    let (replicas, scale, apply, condition, object) = (replicas?, scale?, apply?, condition?, object?);
    match (scale, apply, object) {
        (Some(_), Some(_), _) => Err(twice(table, "apply", "scale")),
        (Some(_), _, Some(_)) => Err(twice(table, "wait_for", "scale")),
        (_, Some(_), Some(_)) => Err(twice(table, "wait_for", "apply")),
        (Some(workload), None, None) => {
            let replicas = replicas.and_then(|replicas| u32::try_from(replicas).ok());
            let replicas = replicas.ok_or_else(|| table.missing("replicas", "say how many: replicas = 0"))?;
            Ok(Verb::Scale { workload, replicas })
        }
        (None, Some(apply), None) => Ok(apply),
        (None, None, Some(object)) => {
            let condition =
                condition.ok_or_else(|| table.missing("condition", "say until when: condition = \"available\""))?;
            Ok(Verb::Wait { object, condition })
        }
        (None, None, None) => {
            let hint = "say what: scale = \"deployment/odoo\" with replicas, apply = \"file.yaml\", or wait_for";
            Err(table.missing("scale", hint))
        }
    }
}

impl Act for Kubernetes {
    fn words(&self, show: Show<'_>) -> String {
        let place = self.namespace.as_ref().map(|name| format!(" in {}", show(name))).unwrap_or_default();
        match &self.verb {
            Verb::Scale { workload, replicas } => format!("scale {} to {replicas}{place}", show(workload)),
            Verb::Apply(file) => format!("apply {}{place}", show(file)),
            Verb::Wait { object, condition } => format!("wait until {} is {}{place}", show(object), show(condition)),
        }
    }

    fn effect(&self) -> Effect {
        if matches!(self.verb, Verb::Wait { .. }) { Effect::Nothing } else { Effect::Changes }
    }

    fn again(&self) -> Again {
        Again::Harmless
    }

    fn practice(&self) -> Practice {
        match self.verb {
            Verb::Wait { .. } => Practice::Not("nothing was changed that could be waited for"),
            _ => Practice::Instead("a dry run at the server"),
        }
    }

    fn touches(&self, show: Show<'_>) -> Vec<String> {
        match &self.verb {
            Verb::Scale { workload, .. } => vec![show(workload)],
            Verb::Apply(file) => vec![format!("what {} describes", show(file))],
            Verb::Wait { .. } => Vec::new(),
        }
    }
}
