//! Room on local disks, where running out would stop a backup half-way.

use std::path::Path;

use lifeboat_model::config::{Config, RepositoryConfig};
use rustix::fs::statvfs;

use super::{Finding, Grade};
use crate::output::bytes;

/// Below this a backup cannot be expected to finish.
const TOO_LITTLE: u64 = 512 << 20;
/// Below this somebody should know.
const LITTLE: u64 = 5 << 30;

/// Looks at the state folder and at a local repository.
pub fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![free("space.state_dir", &config.engine.state_dir)];
    if let RepositoryConfig::Local { path } = &config.repository {
        findings.push(free("space.repository", path));
    }
    findings
}

/// The folder may not be there yet; then the nearest one above it counts, since that is where it would be made.
fn free(check: &str, folder: &Path) -> Finding {
    let above = folder.ancestors().map(|above| if above == Path::new("") { Path::new(".") } else { above });
    let Some(existing) = above.into_iter().find(|above| above.exists()) else {
        return Finding::failed(
            check,
            format!("{} cannot be made", folder.display()),
            "name a folder below one that exists",
        );
    };
    match statvfs(existing) {
        Ok(stat) => grade(check, folder, stat.f_bavail.saturating_mul(stat.f_frsize)),
        Err(error) => Finding::wrong(Grade::NotChecked, check, format!("{}: {error}", folder.display()), ""),
    }
}

fn grade(check: &str, folder: &Path, free: u64) -> Finding {
    let observed = format!("{} free at {}", bytes(free), folder.display());
    let mend = "make room, or name a folder on a larger disk";
    match free {
        _ if free < TOO_LITTLE => Finding::failed(check, observed, mend),
        _ if free < LITTLE => Finding::wrong(Grade::Warning, check, observed, mend),
        _ => Finding::ok(check, observed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grades() {
        let grade = |free| grade("x", Path::new("/x"), free).grade;
        assert_eq!(grade(TOO_LITTLE - 1), Grade::Failed);
        assert_eq!(grade(LITTLE - 1), Grade::Warning);
        assert_eq!(grade(LITTLE), Grade::Ok);
        assert!(free("x", Path::new("/nowhere/that/exists")).observed.contains("free at /nowhere"));
    }
}
