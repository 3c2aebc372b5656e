//! Docker and the images that drills run on.

use std::collections::BTreeSet;

use lifeboat_drill::sandbox::Docker;
use lifeboat_model::{config::InstanceConfig, id::Instance};

use super::{Finding, Grade};
use crate::{failure::Failure, wire::environment};

/// Looks at the engine, then at each image once. An image that is not here is pulled, as the drill would.
pub async fn look(instances: &[(&Instance, &InstanceConfig)]) -> Vec<Finding> {
    let images: BTreeSet<(&str, &str)> = instances
        .iter()
        .flat_map(|(_, instance)| {
            [("postgres", instance.drill.postgres_image.as_str()), ("odoo", instance.drill.odoo_image.as_str())]
        })
        .collect();
    let docker = match Docker::connect(environment("DOCKER_HOST").as_deref()).await {
        Ok(docker) => docker,
        Err(error) => {
            let mend = "start Docker, and let this user reach its socket; on a host without drills: lifeboat doctor --no-drill";
            let engine = Finding::failed("docker.engine", words(error), mend);
            let unseen = |(role, image): &(&str, &str)| {
                Finding::wrong(Grade::NotChecked, format!("docker.image.{role}"), (*image).to_owned(), "")
            };
            return std::iter::once(engine).chain(images.iter().map(unseen)).collect();
        }
    };
    let mut findings = vec![Finding::ok("docker.engine", "answers")];
    for (role, image) in images {
        let check = format!("docker.image.{role}");
        findings.push(match docker.image(role, image).await {
            Ok(found) => Finding::ok(check, format!("{image} is {}", found.id.get(..19).unwrap_or(&found.id))),
            Err(error) => Finding::failed(check, words(error), format!("docker pull {image}, or build it")),
        });
    }
    findings
}

/// An error and its causes on one line.
fn words(error: lifeboat_drill::Error) -> String {
    Failure::from(error).messages().join(": ")
}
