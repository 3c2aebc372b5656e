//! One configuration, seen from each of its repositories.

use super::{
    checked::{Config, CopyLock},
    nearest::nearest,
};

/// No such repository in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no repository \"{name}\" in the configuration; {}", known_repositories(name, known))]
pub struct UnknownRepository {
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub known: Vec<String>,
}

fn known_repositories(name: &str, known: &[String]) -> String {
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("it has: {}", known.join(", ")),
    }
}

impl Config {
    /// The same configuration with another repository in the place of the primary, which locks as that copy does. What
    /// works on a primary so works on a copy. What is remembered of it has a folder of its own: a copy has the id of its
    /// primary, and what holds of the one need not hold of the other.
    pub fn at(&self, name: &str) -> Result<Config, UnknownRepository> {
        if name == self.repository_name {
            return Ok(self.clone());
        }
        let Some(copy) = self.copies.iter().find(|copy| copy.name == name) else {
            let known = self.repository_names().map(ToOwned::to_owned).collect();
            return Err(UnknownRepository { name: name.to_owned(), known });
        };
        let (repository, repository_name) = (copy.repository.clone(), copy.name.clone());
        let mut config = Config { repository, repository_name, copies: Vec::new(), ..self.clone() };
        config.engine.state_dir = config.engine.state_dir.join("copies").join(name);
        for tier in config.tiers.values_mut() {
            match (copy.lock, &mut tier.lock) {
                (Some(CopyLock::None), lock) => *lock = None,
                (Some(CopyLock::Mode(mode)), Some(lock)) => lock.mode = mode,
                _ => {}
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        config::{RepositoryConfig, parse},
        retention::LockMode,
    };

    fn config(lock: &str) -> Config {
        let public = crate::signature::SigningKey::from_seed(&[1; 32]).public();
        let text = format!(
            r#"
tenant = "hospital"
[[repository]]
name = "main"
role = "primary"
[repository.s3]
bucket = "near"
region = "here"
access_key_file = "a"
secret_key_file = "s"
[[repository]]
name = "offsite"
role = "copy"
{lock}
[repository.s3]
bucket = "far"
region = "there"
access_key_file = "a"
secret_key_file = "s"
[keys]
recovery_recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]
host_identity_file = "host"
signing_key_file = "signing"
trusted_keys = ["{public}"]
[tiers.gold]
rpo = "15m"
rto = "1h"
[tiers.gold.lock]
mode = "compliance"
minimum = "14d"
[instances.clinic]
tier = "gold"
[instances.clinic.postgres]
host = "db"
user = "lifeboat"
databases = ["clinic"]
[instances.clinic.drill]
postgres_image = "postgres:17"
odoo_image = "odoo:19"
"#
        );
        parse(&text, Path::new("/etc/lifeboat.toml")).unwrap_or_else(|problems| panic!("{problems:?}")).0
    }

    fn mode(config: &Config) -> Option<LockMode> {
        config.tiers.values().next().and_then(|tier| tier.lock).map(|lock| lock.mode)
    }

    #[test]
    fn a_copy_stands_in_for_the_primary_with_its_own_locks() {
        let cases = [
            ("", Some(LockMode::Compliance)),
            ("lock = \"governance\"", Some(LockMode::Governance)),
            ("lock = \"none\"", None),
        ];
        for (lock, expected) in cases {
            let config = config(lock);
            let copy = config.at("offsite").unwrap();
            assert_eq!(mode(&copy), expected, "{lock}");
            assert!(matches!(&copy.repository, RepositoryConfig::S3(s3) if s3.bucket == "far"));
            assert_eq!((copy.repository_name.as_str(), copy.copies.len()), ("offsite", 0));
            assert_eq!(copy.engine.state_dir, config.engine.state_dir.join("copies/offsite"));
            assert_eq!(mode(&config), Some(LockMode::Compliance), "the primary's stay");
            assert_eq!(config.at("main").unwrap(), config);
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_those_that_exist() {
        let error = config("").at("offside").unwrap_err();
        assert!(error.to_string().contains("did you mean \"offsite\"?"), "{error}");
        let error = config("").at("moon-base").unwrap_err();
        assert!(error.to_string().ends_with("it has: main, offsite"), "{error}");
    }
}
