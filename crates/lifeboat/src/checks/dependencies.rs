//! What an instance cannot work without: whether it answers from this host. A backup does not need it; whoever brings the system back
//! does.

use futures::{StreamExt as _, stream};
use lifeboat_daemon::look::dependency::{Asker, Way};
use lifeboat_model::{config::InstanceConfig, id::Instance};

use super::{Finding, Grade};

/// Asked at the same time.
const AT_ONCE: usize = 16;

/// Asks each once.
pub async fn look(name: &Instance, instance: &InstanceConfig) -> Vec<Finding> {
    if instance.dependencies.is_empty() {
        return Vec::new();
    }
    let asker = match Asker::new() {
        Ok(asker) => asker,
        Err(why) => return vec![Finding::wrong(Grade::NotChecked, "dependency", why, "").of(name.as_str())],
    };
    let asker = &asker;
    let asking = instance.dependencies.iter().map(|(dependency, of)| async move {
        let (check, address) = (format!("dependency.{dependency}"), &of.address);
        let finding = match Way::of(of) {
            Err(why) => Finding::wrong(Grade::Warning, check, format!("{address} is not checked: {why}"), ""),
            Ok(way) => match asker.ask(&way).await {
                Ok(()) => Finding::ok(check, format!("{address} answers")),
                Err(why) => {
                    let note = of
                        .note
                        .clone()
                        .unwrap_or_else(|| "look whether it runs and can be reached from here".to_owned());
                    Finding::wrong(Grade::Warning, check, format!("{address} does not answer: {why}"), note)
                }
            },
        };
        finding.of(name.as_str())
    });
    stream::iter(asking).buffered(AT_ONCE).collect().await
}
