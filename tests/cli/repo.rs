//! What the place of the backups keeps, and what each credential may do there. On real buckets: the store's own tests.

use std::fs;

use serde_json::Value;

use crate::{
    program::{Program, shape},
    repository::add_point,
};

const BUCKET: &str = "[repository.s3]\nendpoint = \"https://s3.example.org\"\nbucket = \"vault\"\nprefix = \"clinic\"\n\
                      region = \"eu-central-1\"\naccess_key_file = \"none\"\nsecret_key_file = \"none\"\n";
const GOOGLE: &str = "[repository.gcs]\nbucket = \"vault\"\nservice_account_file = \"none\"\n";
const AZURE: &str = "[repository.azure]\naccount = \"clinic\"\ncontainer = \"vault\"\nsas_file = \"none\"\n";
const TIER: &str = "[tiers.standard]\n";

fn verdicts(answer: &Value, verdict: &str) -> Vec<String> {
    let findings = answer["findings"].as_array().unwrap().iter();
    findings.filter(|found| found["verdict"] == verdict).map(|found| found["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_directory_is_not_immutable_and_says_so() {
    let program = Program::initialised();
    add_point(&program, "2026-01-02T10:00:00Z");
    let ended = program.run("repo check").expect(0);
    assert!(ended.stdout.contains("NOT IMMUTABLE: it has no object lock."), "{}", ended.stdout);
    let answer = program.run("repo check --json --intrusive").expect(0).json();
    insta::assert_snapshot!("repo-check-json", shape(&answer));
    assert_eq!(verdicts(&answer, "passed"), ["clock.skew", "versions.overwrite", "put.conditional"]);
    assert_eq!(verdicts(&answer, "failed"), [""; 0]);
    assert_eq!((&answer["immutable"], &answer["demanded"]), (&Value::Bool(false), &Value::Bool(false)));
    assert!(program.path("repository").join(answer["evidence"].as_str().unwrap()).is_file(), "{answer:#}");
    assert_eq!(answer["objects_left"], 0);
    // Where a tier demands locks, a directory is a mistake that the configuration tells.
    program.edit(TIER, &format!("[tiers.standard.lock]\nmode = \"compliance\"\nminimum = \"14d\"\n{TIER}"));
    program.run("repo check --json").expect(3);
}

#[test]
fn before_the_first_backup_there_is_nowhere_to_keep_evidence() {
    let program = Program::initialised();
    fs::create_dir(program.path("repository")).unwrap();
    let answer = program.run("repo check --json").expect(0).json();
    assert!(answer["evidence"].is_null());
    assert!(answer["no_evidence"].as_str().unwrap().contains("no repository here yet"), "{answer:#}");
}

#[test]
fn policies_need_neither_bucket_nor_credentials() {
    let program = Program::initialised();
    let ended = program.run("repo policy --role writer").expect(3);
    assert!(ended.stderr.contains("no S3 bucket"), "{}", ended.stderr);
    assert!(ended.stderr.contains("rights to a directory are the operating system's"), "{}", ended.stderr);
    for (section, service) in [(GOOGLE, "Google Cloud Storage"), (AZURE, "Azure")] {
        let program = Program::initialised();
        program.edit("[repository]\npath = \"repository\"\n", section);
        let told = program.run("repo policy --role writer").expect(3).stderr;
        assert!(
            told.contains(&format!("rights are given at {service}: a role")) && !told.contains("directory"),
            "{told}"
        );
    }
    program.edit("[repository]\npath = \"repository\"\n", BUCKET);
    insta::assert_snapshot!("repo-policy-writer", program.run("repo policy --role writer").expect(0).stdout);
    for role in ["reader", "pruner", "holder"] {
        let user = format!("arn:aws:iam::123456789012:user/{role}");
        let arguments = ["repo", "policy", "--tenant-only", "--role", role, "--principal", &user];
        let policy = program.run_with(&arguments, &[]).expect(0).json();
        for statement in policy["Statement"].as_array().unwrap() {
            assert_eq!(statement["Principal"]["AWS"][0], user.as_str(), "{statement:#}");
            for resource in statement["Resource"].as_array().unwrap() {
                let resource = resource.as_str().unwrap();
                let allowed = ["arn:aws:s3:::vault", "arn:aws:s3:::vault/clinic/lifeboat.json"];
                let own = resource.starts_with("arn:aws:s3:::vault/clinic/hospital/");
                assert!(own || allowed.contains(&resource), "{role}: {resource}");
            }
        }
    }
    program.run("repo policy").expect(2);
}
