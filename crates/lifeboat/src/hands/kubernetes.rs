//! `kubernetes`: by `kubectl`, as a person would.

use lifeboat_runbook::{
    action::kubernetes::{Kubernetes, Verb},
    execute::{Acting, Outputs},
    values::Secret,
};
use tokio::process::Command;

use super::{Tools, program};

/// `is_rehearsal`: the server checks names, rights and manifests, and changes nothing.
pub(super) async fn act(
    kubernetes: &Kubernetes,
    acting: &Acting<'_>,
    tools: &Tools,
    is_rehearsal: bool,
) -> Result<Outputs, String> {
    let mut command = Command::new("kubectl");
    let options = [("--context", &kubernetes.context), ("--namespace", &kubernetes.namespace)];
    for (option, value) in options.iter().filter_map(|(option, value)| Some((option, value.as_ref()?))) {
        command.arg(format!("{option}={}", acting.course.fill(value)));
    }
    match &kubernetes.kubeconfig {
        Some(Secret::File(path)) => {
            let path = tools.path(&acting.course.fill(path));
            command.env("KUBECONFIG", path);
        }
        Some(Secret::Env(name)) => {
            let path = std::env::var_os(name).ok_or_else(|| format!("the variable {name} is not set"))?;
            command.env("KUBECONFIG", path);
        }
        None => {}
    }
    match &kubernetes.verb {
        Verb::Scale { workload, replicas } => {
            command.args(["scale", &format!("--replicas={replicas}")]).arg(acting.course.fill(workload));
        }
        Verb::Apply(file) => {
            command.arg("apply").arg(format!("--filename={}", acting.course.fill(file)));
        }
        Verb::Wait { object, condition } => {
            // The step's own limit counts: kubectl would give up after 30 s.
            command.arg("wait").arg(format!("--for=condition={}", acting.course.fill(condition)));
            command.arg("--timeout=168h").arg(acting.course.fill(object));
        }
    }
    if is_rehearsal {
        command.arg("--dry-run=server");
    }
    let ended = program::run(command, &tools.slot(&acting.id), tools).await?;
    match ended.code() {
        Some(0) => Ok(Outputs::new()),
        _ => Err(format!("kubectl {}", ended.tail())),
    }
}
