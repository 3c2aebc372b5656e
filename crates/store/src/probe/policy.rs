//! What each role may do with a bucket, as IAM JSON: an identity policy as it stands, and a bucket policy once each
//! statement names its `Principal`.
//!
//! A role gets what its verbs truly ask for and nothing else. Nobody may bypass governance or hand out rights, nobody may
//! touch the bucket itself (policy, versioning, Object Lock, lifecycle), and the writer can remove nothing but leases:
//!
//! | role | adds | removes | locks |
//! |---|---|---|---|
//! | writer | objects | leases | puts and extends |
//! | reader | evidence | – | those of its evidence |
//! | pruner | leases, evidence | versions whose lock has ended, evidence never | puts and extends |
//! | holder | evidence | – | legal holds, those of its evidence |
//!
//! All may list versions and read objects (sealed), locks and holds: a lock that may not be read proves nothing.
//!
//! **What servers make of it**, and why some rights are denied outright:
//!
//! * Ceph 18 lets *every* credential that may delete, or may put a retention, bypass governance by saying so in the
//!   request, unless `s3:BypassGovernanceRetention` is denied. Without the denial a governance lock holds nobody there.
//! * On Ceph 18 whoever put an object owns it, and owners may set legal holds and rights of access whatever the policy
//!   leaves out; only a denial takes that away. (The bucket's owner, on the other hand, cannot even read it, unless a
//!   policy says so.)
//! * AWS wants `s3:PutObjectRetention` for a put that carries a retention, and `s3:PutObjectLegalHold` for one that
//!   carries a hold. Ceph 18 wants only `s3:PutObject` for either: a thief with the writer's credential can put *new*
//!   objects under a hold there, which costs room and destroys nothing.
//! * A writer can lock for longer than anybody wants. On AWS the condition key
//!   `s3:object-lock-remaining-retention-days` bounds that; Ceph 18 does not know it, so it is not printed.
//! * HEAD says nothing of a lock to who lacks `s3:GetObjectRetention`; so everybody has it.

use lifeboat_model::id::Tenant;
use serde_json::{Value, json};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The backup host: backs up, streams WAL, extends locks, copies.
    Writer,
    /// Restores, drills and verifies, and records that it did.
    DrillReader,
    /// Prunes, and renews locks.
    Pruner,
    /// Puts and releases legal holds.
    Holder,
}

const READ: [&str; 4] = ["s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention", "s3:GetObjectLegalHold"];
const LIST: [&str; 2] = ["s3:ListBucket", "s3:ListBucketVersions"];
const ASK: [&str; 2] = ["s3:GetBucketVersioning", "s3:GetBucketObjectLockConfiguration"];
const WRITE: [&str; 4] =
    ["s3:PutObject", "s3:PutObjectRetention", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"];

/// The policy of a role for a repository at `prefix` in `bucket`; with `tenant`, for that tenant's part of it alone.
pub fn policy(role: Role, bucket: &str, prefix: &str, tenant: Option<&Tenant>) -> Value {
    let scope = Scope::new(bucket, prefix, tenant);
    let mut statements = scope.for_all();
    if role != Role::Holder {
        statements.push(scope.no_holds());
    }
    statements.extend(match role {
        Role::Writer => vec![
            allow("AddObjects", &WRITE, &[scope.objects("*")]),
            allow("GiveBackLeases", &["s3:DeleteObject", "s3:DeleteObjectVersion"], &[scope.of_instances("lease/*")]),
        ],
        Role::DrillReader => vec![scope.add_evidence()],
        Role::Pruner => vec![
            scope.add_evidence(),
            allow("TakeLeases", &WRITE[..2], &[scope.of_instances("lease/*")]),
            allow("ExtendLocks", &["s3:PutObjectRetention"], &[scope.objects("*")]),
            allow("RemoveVersions", &["s3:DeleteObjectVersion"], &[scope.objects("*")]),
            scope.keep_evidence(),
        ],
        Role::Holder => {
            vec![scope.add_evidence(), allow("Hold", &["s3:PutObjectLegalHold"], &[scope.objects("*")])]
        }
    });
    json!({ "Version": "2012-10-17", "Statement": statements })
}

fn statement(effect: &str, sid: &str, actions: &[&str], resources: &[String]) -> Value {
    json!({ "Sid": sid, "Effect": effect, "Action": actions, "Resource": resources })
}

fn allow(sid: &str, actions: &[&str], resources: &[String]) -> Value {
    statement("Allow", sid, actions, resources)
}

/// The part of a bucket that a role is about.
struct Scope {
    bucket: String,
    /// The repository's root in the bucket; empty, or ends with `/`.
    root: String,
    /// The tenant's folder, or the root.
    folder: String,
    one_tenant: bool,
}

impl Scope {
    fn new(bucket: &str, prefix: &str, tenant: Option<&Tenant>) -> Self {
        let prefix = prefix.trim_matches('/');
        let root = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let folder = tenant.map_or_else(|| root.clone(), |tenant| format!("{root}{tenant}/"));
        Self { bucket: format!("arn:aws:s3:::{bucket}"), root, folder, one_tenant: tenant.is_some() }
    }

    fn objects(&self, pattern: &str) -> String {
        format!("{}/{}{pattern}", self.bucket, self.folder)
    }

    /// What lies under every instance: `<tenant>/<instance>/…`.
    fn of_instances(&self, pattern: &str) -> String {
        self.objects(&if self.one_tenant { format!("*/{pattern}") } else { format!("*/*/{pattern}") })
    }

    fn evidence(&self) -> String {
        self.objects(if self.one_tenant { "evidence/*" } else { "*/evidence/*" })
    }

    fn repository(&self) -> String {
        format!("{}/{}lifeboat.json", self.bucket, self.root)
    }

    fn for_all(&self) -> Vec<Value> {
        let mut list = allow("List", &LIST, std::slice::from_ref(&self.bucket));
        if !self.root.is_empty() || self.one_tenant {
            let prefixes = [format!("{}*", self.folder), format!("{}lifeboat.json", self.root)];
            list["Condition"] = json!({ "StringLike": { "s3:prefix": prefixes } });
        }
        let mut objects = vec![self.objects("*")];
        if self.one_tenant {
            objects.push(self.repository());
        }
        let bypass = ["s3:BypassGovernanceRetention", "s3:PutObjectAcl", "s3:PutObjectVersionAcl"];
        let denied = statement("Deny", "NoBypass", &bypass, &[self.objects("*")]);
        vec![denied, allow("Ask", &ASK, std::slice::from_ref(&self.bucket)), list, allow("Read", &READ, &objects)]
    }

    /// Holds are put and released by one role alone.
    fn no_holds(&self) -> Value {
        statement("Deny", "NoHolds", &["s3:PutObjectLegalHold"], &[self.objects("*")])
    }

    fn add_evidence(&self) -> Value {
        allow("AddEvidence", &WRITE[..2], &[self.evidence()])
    }

    /// Evidence outlives the data, and the repository's own description goes last.
    fn keep_evidence(&self) -> Value {
        statement("Deny", "KeepEvidence", &["s3:DeleteObject*"], &[self.evidence(), self.repository()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 4] = [Role::Writer, Role::DrillReader, Role::Pruner, Role::Holder];

    /// All actions allowed, with their resources.
    fn allowed(role: Role, tenant: Option<&Tenant>) -> Vec<(String, String)> {
        let policy = policy(role, "vault", "/clinic/", tenant);
        let mut found = Vec::new();
        for statement in policy["Statement"].as_array().unwrap() {
            if statement["Effect"] == "Allow" {
                for action in statement["Action"].as_array().unwrap() {
                    for resource in statement["Resource"].as_array().unwrap() {
                        found.push((action.as_str().unwrap().to_owned(), resource.as_str().unwrap().to_owned()));
                    }
                }
            }
        }
        found
    }

    #[test]
    fn nobody_touches_the_bucket_or_bypasses_a_lock() {
        for role in ROLES {
            for (action, resource) in allowed(role, None) {
                let harmless =
                    !action.contains("Bypass") && !action.starts_with("s3:PutBucket") && !action.contains('*');
                assert!(harmless && resource.starts_with("arn:aws:s3:::vault"), "{role:?}: {action} on {resource}");
                assert!(!action.contains("LegalHold") || action.contains("Get") || role == Role::Holder, "{role:?}");
            }
        }
    }

    #[test]
    fn what_ceph_would_grant_unasked_is_denied() {
        for role in ROLES {
            let text = policy(role, "vault", "clinic", None).to_string();
            let denied = text.split("\"Effect\":\"Deny\"").count() - 1;
            let expected = if role == Role::Pruner { 3 } else { 2 - usize::from(role == Role::Holder) };
            assert_eq!(denied, expected, "{role:?}: {text}");
            assert!(text.contains("s3:BypassGovernanceRetention"), "{role:?}");
        }
    }

    #[test]
    fn who_deletes_what() {
        let deletes = |role| -> Vec<(String, String)> {
            allowed(role, None).into_iter().filter(|(action, _)| action.contains("Delete")).collect()
        };
        let lease = "arn:aws:s3:::vault/clinic/*/*/lease/*".to_owned();
        assert_eq!(
            deletes(Role::Writer),
            [("s3:DeleteObject".to_owned(), lease.clone()), ("s3:DeleteObjectVersion".to_owned(), lease)]
        );
        assert!(deletes(Role::DrillReader).is_empty() && deletes(Role::Holder).is_empty());
        let all = ("s3:DeleteObjectVersion".to_owned(), "arn:aws:s3:::vault/clinic/*".to_owned());
        assert_eq!(deletes(Role::Pruner), [all]);
    }

    #[test]
    fn a_tenants_role_sees_no_other_tenant() {
        let tenant: Tenant = "acme".parse().unwrap();
        for role in ROLES {
            for (action, resource) in allowed(role, Some(&tenant)) {
                let own = resource.starts_with("arn:aws:s3:::vault/clinic/acme/");
                let known = resource == "arn:aws:s3:::vault" || resource == "arn:aws:s3:::vault/clinic/lifeboat.json";
                assert!(own || known, "{role:?}: {action} on {resource}");
            }
            let policy = policy(role, "vault", "clinic", Some(&tenant));
            let prefixes = json!(["clinic/acme/*", "clinic/lifeboat.json"]);
            assert_eq!(policy["Statement"][2]["Condition"]["StringLike"]["s3:prefix"], prefixes);
        }
    }
}
