//! The bytes that were signed once must be read and written alike by every later version.

use lifeboat_evidence::{Act, Error, Predicate, Statement, render::render, seal, verify};
use lifeboat_model::{check::Outcome, signature::SigningKey};

use crate::samples::{act, acts, backup, drill, key};

#[track_caller]
fn check_golden(statement: Statement, golden: &str, text: &str) {
    let sealed = seal(&statement, &key());
    let verified = verify(&sealed, &[key().public()]).unwrap();
    assert_eq!(String::from_utf8(verified.payload.clone()).unwrap(), golden.trim_end(), "written as before");
    assert_eq!(verified.statement, statement, "read as written");
    assert_eq!(verified.contradictions, Vec::<String>::new());
    assert_eq!(render(&verified), text, "{}", render(&verified));
}

#[test]
fn backup_statement() {
    check_golden(
        Statement::backup(backup()),
        include_str!("golden/backup-v1.json"),
        include_str!("golden/backup-v1.txt"),
    );
}

#[test]
fn drill_statement() {
    check_golden(Statement::drill(drill()), include_str!("golden/drill-v1.json"), include_str!("golden/drill-v1.txt"));
}

/// One statement of each kind, a line each.
#[test]
fn act_statements() {
    let golden = include_str!("golden/acts-v1.jsonl");
    let texts: Vec<&str> = include_str!("golden/acts-v1.txt").split_inclusive("\n\n").collect();
    assert_eq!((golden.lines().count(), texts.len()), (acts().len(), acts().len()));
    for ((made, golden), text) in acts().into_iter().zip(golden.lines()).zip(texts) {
        check_golden(Statement::act(act(made)), golden, text.strip_suffix('\n').unwrap());
    }
}

/// `FORMAT.md` names every member that is written.
#[test]
fn every_member_is_documented() {
    fn members(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(object) => object.iter().for_each(|(name, value)| {
                found.push(name.clone());
                members(value, found);
            }),
            serde_json::Value::Array(items) => items.iter().for_each(|item| members(item, found)),
            _ => {}
        }
    }
    let format = include_str!("../../FORMAT.md");
    let mut found = Vec::new();
    let acts = include_str!("golden/acts-v1.jsonl").lines();
    for golden in [include_str!("golden/backup-v1.json"), include_str!("golden/drill-v1.json")].into_iter().chain(acts)
    {
        members(&serde_json::from_str(golden).unwrap(), &mut found);
    }
    assert!(found.len() > 80);
    for name in found {
        let named = format.contains(&format!("`{name}`")) || format.contains(&format!(".{name}`"));
        assert!(named, "FORMAT.md does not name `{name}`");
    }
}

#[test]
fn a_key_reads_back_equal_also_within_a_second() {
    let mut predicate = backup();
    predicate.started = "2026-11-21T20:07:32.625Z".parse().unwrap();
    let key = Statement::backup(predicate).storage_key().unwrap();
    assert_eq!(key.to_string().parse::<lifeboat_evidence::EvidenceKey>().unwrap(), key);
}

#[test]
fn storage_keys() {
    assert_eq!(
        Statement::backup(backup()).storage_key().unwrap().to_string(),
        "acme/evidence/20261121T200732Z-clinic-backup-0101010101010101.dsse.json"
    );
    assert_eq!(
        Statement::drill(drill()).storage_key().unwrap().to_string(),
        "acme/evidence/20261121T210000Z-clinic-drill-0606060606060606.dsse.json"
    );
}

#[test]
fn a_drill_without_a_point_is_about_its_configuration() {
    let statement = Statement::drill(lifeboat_evidence::DrillPredicate { point: None, ..drill() });
    assert_eq!(statement.subject[0].name, "lifeboat.toml");
    assert_eq!(statement.subject[0].digest.sha256, drill().config_sha256);
}

#[test]
fn unknown_kinds_are_verified_and_opaque() {
    let predicate = serde_json::json!({"who": "later"});
    let opaque = Predicate::Opaque { predicate_type: "https://lifeboat.dev/evidence/later/v1".into(), predicate };
    let statement = Statement { predicate: opaque, ..Statement::backup(backup()) };
    let verified = verify(&seal(&statement, &key()), &[key().public()]).unwrap();
    assert_eq!(verified.statement, statement);
    assert_eq!(verified.statement.storage_key(), None);
    assert!(render(&verified).contains("not known to this version; the signature is right"));
}

/// Signed by a trusted key, and still nothing that can be read.
#[test]
fn malformed_statements_are_refused() {
    let good = String::from_utf8(Statement::backup(backup()).to_json()).unwrap();
    let cases = [
        ("Statement/v1", "Statement/v9"),
        ("\"run\":\"0101010101010101\"", "\"run\":\"01\""),
        ("\"run\":\"0101010101010101\",", ""),
        ("\"start_lsn\":\"0/2000028\"", "\"start_lsn\":7"),
        ("\"timeline\":1", "\"timeline\":-1"),
        ("\"data_checksums\":\"verified\"", "\"data_checksums\":\"maybe\""),
        ("\"predicateType\"", "\"predicatetype\""),
    ];
    for (old, new) in cases {
        assert_eq!(good.matches(old).count(), 1, "{old}");
        let bad = sealed_text(&good.replace(old, new));
        assert!(matches!(verify(&bad, &[key().public()]), Err(Error::Statement(_))), "{new}");
    }
    let subjectless = Statement { subject: vec![], ..Statement::backup(backup()) };
    assert!(matches!(verify(&seal(&subjectless, &key()), &[key().public()]), Err(Error::Statement(_))));
    // Fields that a later version adds are passed over.
    let later = sealed_text(&good.replace("\"timeline\":1", "\"timeline\":1,\"later\":{}"));
    assert_eq!(verify(&later, &[key().public()]).unwrap().statement, Statement::backup(backup()));
}

/// An envelope as a foreign tool would make it.
fn sealed_text(payload: &str) -> Vec<u8> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let kind = "application/vnd.in-toto+json";
    let signed = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    let sig = STANDARD.encode(key().sign(signed.as_bytes()));
    let envelope =
        serde_json::json!({"payload": STANDARD.encode(payload), "payloadType": kind, "signatures": [{"sig": sig}]});
    serde_json::to_vec(&envelope).unwrap()
}

#[test]
fn contradictions_are_named() {
    let says = |change: &dyn Fn(&mut lifeboat_evidence::DrillPredicate)| {
        let mut drill = drill();
        change(&mut drill);
        Statement::drill(drill).contradictions().join("; ")
    };
    assert_eq!(says(&|_| {}), "");
    assert_eq!(says(&|drill| drill.outcome = Outcome::Incomplete), "it says incomplete, its checks say failed");
    assert_eq!(says(&|drill| drill.outcome = Outcome::Passed), "it says passed, its checks say failed");
    assert_eq!(
        says(&|drill| {
            drill.outcome = Outcome::Passed;
            drill.checks.truncate(1);
            drill.not_executed.clear();
        }),
        "it says passed without the required check boot.log"
    );
    assert_eq!(
        says(&|drill| drill.not_executed.clear()),
        "its list of checks not executed is another than its checks say"
    );
    assert_eq!(
        says(&|drill| drill.newest_commit = drill.rpo_reference),
        "its RPO does not fit the times it is measured between"
    );
    assert_eq!(
        says(&|drill| {
            drill.checks.truncate(1);
            drill.not_executed.clear();
            drill.required.truncate(1);
            drill.outcome = Outcome::Passed;
            drill.sabotage = Some("one byte of a pack was flipped".into());
        }),
        "it says passed on a copy that was damaged on purpose"
    );
    assert_eq!(says(&|drill| drill.targets.rpo_met = Some(true)), "its RPO does not fit its verdict on the target");
    assert_eq!(says(&|drill| drill.rto_seconds = Some(1.0)), "its RTO does not fit its verdict on the target");
    assert_eq!(
        says(&|drill| drill.finished = drill.started - jiff::SignedDuration::from_secs(1)),
        "it finished before it started"
    );
}

#[test]
fn contradictions_of_acts_are_named() {
    let says = |made: Act, outcome: Outcome| {
        let act = lifeboat_evidence::ActPredicate { outcome, ..act(made) };
        Statement::act(act).contradictions().join("; ")
    };
    let mut failing = 0;
    for made in acts() {
        assert_eq!(says(made.clone(), Outcome::Failed), "", "{}", made.kind());
        failing += usize::from(!says(made, Outcome::Passed).is_empty());
    }
    assert_eq!(failing, 10, "of the samples those with something refused, wrong or missing");
    let retain = lifeboat_evidence::act::Retain { objects: 1, extended: 2, ..Default::default() };
    assert_eq!(says(Act::Retain(retain), Outcome::Passed), "its numbers do not add up");
    let nothing = lifeboat_evidence::act::KeyRehearsal {
        name: "safe".into(),
        recipient: None,
        point: None,
        opened: vec![],
        failures: vec![],
    };
    assert_eq!(says(Act::KeyRehearsal(nothing), Outcome::Passed), "it says passed, but nothing was opened");
}

/// A reader that sorts by type must not be told another thing by the content.
#[test]
fn the_type_of_an_act_and_its_kind_are_one() {
    let good = String::from_utf8(Statement::act(act(acts().remove(1))).to_json()).unwrap();
    let bad = sealed_text(&good.replace("evidence/hold/v1", "evidence/release/v1"));
    let refused = verify(&bad, &[key().public()]).unwrap_err();
    assert!(refused.to_string().contains("its act is hold"), "{refused}");
}

#[test]
fn an_act_upon_the_whole_repository_has_its_place() {
    let tenant_wide = lifeboat_evidence::ActPredicate { instance: None, ..act(acts().remove(4)) };
    let statement = Statement::act(tenant_wide);
    let stored = statement.storage_key().unwrap().to_string();
    assert_eq!(stored, "acme/evidence/20261121T230000Z-repository-check-0808080808080808.dsse.json");
    assert_eq!(statement.run().unwrap().2, None);
    let sealed = seal(&statement, &key());
    let mut set = lifeboat_evidence::SetVerifier::new(&[key().public()]);
    assert_eq!(set.add(&stored, &sealed).findings, []);
    assert!(render(&verify(&sealed, &[key().public()]).unwrap()).contains("the whole repository"));
}

#[test]
fn another_key_is_not_believed() {
    let sealed = seal(&Statement::drill(drill()), &key());
    let other = SigningKey::from_seed(&[9; 32]).public();
    assert_eq!(verify(&sealed, &[other]), Err(Error::NoTrustedSignature(vec![key().public().id()])));
    assert!(verify(&sealed, &[other, key().public()]).is_ok());
}

#[test]
fn signed_text_cannot_steer_a_terminal() {
    let mut drill = drill();
    drill.checks[0].observed = "\u{1b}[2Jpassed\nfaked line".into();
    let verified = verify(&seal(&Statement::drill(drill), &key()), &[key().public()]).unwrap();
    let text = render(&verified);
    assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}[2Jpassed\\nfaked line"), "{text}");
}
