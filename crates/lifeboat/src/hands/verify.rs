//! `verify`: by `lifeboat verify --recovered`, of the folder that an earlier step has restored. What did not run is no pass.

use lifeboat_runbook::{
    action::verify::Verify,
    execute::{Acting, Outputs},
    template::Name,
    values::Secret,
};
use serde_json::Value;

use super::{Tools, program};

pub(super) async fn act(verify: &Verify, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    let arguments = arguments(verify, acting, tools)?;
    let answered = program::lifeboat(&arguments, &tools.slot(&acting.id), tools).await?;
    let Some(answer) = answered.answer.as_ref().filter(|answer| answer["checks"].is_array()) else {
        return Err(format!("lifeboat verify ended with {:?}: {}", answered.code, answered.words));
    };
    match answered.code {
        Some(0) => Ok(outputs(answer)),
        _ => Err(not_passed(answer)),
    }
}

/// What a person would have typed.
fn arguments(verify: &Verify, acting: &Acting<'_>, tools: &Tools) -> Result<Vec<String>, String> {
    let fill = |template| acting.course.fill(template);
    let step = verify.restored_by.value.as_str();
    let folder = Name::Output { step: step.to_owned(), name: "directory".to_owned() };
    let folder = acting.course.value(&folder).filter(|folder| !folder.is_empty());
    let folder = folder.ok_or_else(|| format!("nothing to verify: {step} has restored nothing"))?;
    let mut arguments = vec!["verify".to_owned(), fill(&verify.instance)];
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    add("--recovered", folder);
    add("--rungs", verify.rungs.join(","));
    add("--reference", tools.reference.to_string());
    if let Some(url) = &verify.url {
        add("--url", fill(url));
    }
    if let Some(filestore) = &verify.filestore {
        add("--filestore", fill(filestore));
    }
    if let Some(person) = &verify.person {
        let Secret::File(file) = &person.password else {
            return Err("the password in a variable cannot be handed on: name its file with password_file".to_owned());
        };
        add("--user", fill(&person.user));
        add("--password-file", fill(file));
    }
    Ok(arguments)
}

fn outputs(answer: &Value) -> Outputs {
    let checks = checks(answer, |_| true).join(", ");
    let newest = answer["newest_commit"].as_str().map(str::to_owned);
    let lost = answer["rpo_seconds"].as_f64().map(|seconds| format!("{seconds:.0}"));
    let all = [("checks", Some(checks)), ("newest-commit", newest), ("rpo-seconds", lost)];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// `data.digests passed` of each.
fn checks(answer: &Value, which: impl Fn(&Value) -> bool) -> Vec<String> {
    let all = answer["checks"].as_array().into_iter().flatten().filter(|check| which(check));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.map(|check| {
        let (id, outcome, why) =
            (text(&check["id"]), text(&check["verdict"]["outcome"]), text(&check["verdict"]["why"]));
        if why.is_empty() { format!("{id} {outcome}") } else { format!("{id} {outcome}: {why}") }
    })
    .collect()
}

/// What failed, and what was not executed.
fn not_passed(answer: &Value) -> String {
    checks(answer, |check| check["verdict"]["outcome"] != "passed").join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_did_not_pass_is_told() {
        let check = |id: &str, verdict: Value| json!({ "id": id, "verdict": verdict });
        let answer = json!({
            "checks": [
                check("structure.amcheck", json!({ "outcome": "passed" })),
                check("data.digests", json!({ "outcome": "not-executed", "why": "no witness" })),
            ],
            "newest_commit": "2026-11-21T14:03:10Z",
            "rpo_seconds": 12.4,
        });
        assert_eq!(not_passed(&answer), "data.digests not-executed: no witness");
        let outputs = outputs(&answer);
        assert_eq!(outputs["rpo-seconds"], "12");
        assert!(outputs["checks"].starts_with("structure.amcheck passed, "));
    }
}
