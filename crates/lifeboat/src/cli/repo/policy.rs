//! `lifeboat repo policy`: the IAM policy of a role, for the configured bucket and prefix.

use clap::{Args, ValueEnum};
use lifeboat_model::config::RepositoryConfig;
use lifeboat_store::probe::{Role, policy};

use crate::{
    cli::{Session, place::Place},
    exit::Exit,
    failure::{Failure, Result},
    output::write_stdout,
};

/// Print the rights that a role's credential needs, as IAM JSON
///
/// Give each host the credential of its role: a thief on the backup host can then add objects and remove none. The
/// policy is made from the configuration alone; nothing is asked of the bucket.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Policy {
    /// Who the credential is for
    #[arg(long, value_enum)]
    role: RoleName,
    /// Only this configuration's tenant, where several share the repository; its owner makes the repository first
    #[arg(long)]
    tenant_only: bool,
    /// Make it a bucket policy for this principal (repeatable)
    #[arg(long, value_name = "ARN")]
    principal: Vec<String>,
    #[command(flatten)]
    place: Place,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat repo policy --role writer > writer.json
  lifeboat repo policy --role pruner --principal arn:aws:iam::123456789012:user/lifeboat-pruner

A bucket has one policy: join the statements of all roles. On Ceph, users are arn:aws:iam:::user/NAME.";

/// The roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleName {
    /// The backup host: adds objects and extends locks; deletes nothing but leases
    Writer,
    /// Restores, drills and verifies: reads, and adds evidence
    Reader,
    /// Prunes: deletes versions whose lock has ended, never evidence; renews locks
    Pruner,
    /// Puts and releases legal holds
    Holder,
}

impl Policy {
    /// Runs it.
    pub fn run(self, session: &Session) -> Result<Exit> {
        let config = self.place.load(session)?.config;
        let RepositoryConfig::S3(bucket) = &config.repository else {
            return Err(Failure::new(Exit::Config, format!("repository {} is no S3 bucket", config.repository_name))
                .hint(elsewhere(&config.repository)));
        };
        let role = match self.role {
            RoleName::Writer => Role::Writer,
            RoleName::Reader => Role::DrillReader,
            RoleName::Pruner => Role::Pruner,
            RoleName::Holder => Role::Holder,
        };
        let tenant = self.tenant_only.then_some(&config.tenant);
        let mut policy = policy(role, &bucket.bucket, &bucket.prefix, tenant);
        if !self.principal.is_empty() {
            for statement in policy["Statement"].as_array_mut().into_iter().flatten() {
                statement["Principal"] = serde_json::json!({ "AWS": self.principal });
            }
        }
        write_stdout(&format!("{policy:#}\n"))?;
        Ok(Exit::Ok)
    }
}

/// Where the rights are given that no IAM policy of S3 speaks of.
fn elsewhere(repository: &RepositoryConfig) -> &'static str {
    match repository {
        RepositoryConfig::Gcs(_) => {
            "rights are given at Google Cloud Storage: a role for the service account, on this bucket; nothing that is \
             kept there is immutable for this version"
        }
        RepositoryConfig::Azure(_) => {
            "rights are given at Azure: a role on this container, or what the shared access signature allows; nothing \
             that is kept there is immutable for this version"
        }
        RepositoryConfig::Local { .. } | RepositoryConfig::S3(_) => {
            "rights to a directory are the operating system's; nothing there is immutable"
        }
    }
}
