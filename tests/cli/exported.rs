//! The ledger of a repository: verified, exported, and what is done to either.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::Command,
    thread,
};

use serde_json::Value;

use crate::{
    program::{Ended, Program, shape},
    repository::add_point,
};

const LEDGER: &str = "repository/hospital/evidence/ledger";

/// A point that was held, released and held: three statements in a ledger.
fn recorded() -> Program {
    let program = Program::initialised();
    let point = add_point(&program, "2026-11-21T10:00:00Z");
    for verb in ["hold", "release", "hold"] {
        act(&program, verb, &point);
    }
    program
}

fn act(program: &Program, verb: &str, point: &str) -> Ended {
    let arguments = ["points", verb, point, "--reason", "an audit"];
    program.run_with(&arguments, &[]).expect(0)
}

fn public(program: &Program) -> String {
    let config = program.read("lifeboat.toml");
    let at = config.find("lifeboat-ed25519:").unwrap();
    config[at..].split('"').next().unwrap().to_owned()
}

fn words(answer: &Value) -> Vec<&str> {
    let listed = answer["audit"]["findings"]["listed"].as_array().unwrap();
    listed.iter().map(|finding| finding["word"].as_str().unwrap()).collect()
}

#[test]
fn a_repositorys_ledger_is_verified() {
    let program = recorded();
    let answer = program.run("evidence verify --json").expect(0).json();
    insta::assert_snapshot!("evidence-verify-repository-json", shape(&answer));
    assert_eq!((&answer["audit"]["proven"], &answer["audit"]["size"]), (&3.into(), &3.into()), "{answer:#}");
    let text = program.run("evidence verify").expect(0).stdout;
    assert!(text.contains("3 entries") && text.contains("not executed: whether the end was cut off"), "{text}");
    // Somebody keeps a checkpoint; the ledger goes on, and then loses its end.
    fs::copy(program.path(LEDGER).join("checkpoints/000000000003"), program.path("kept")).unwrap();
    let against = |code| program.run("evidence verify --against kept --json").expect(code).json();
    assert_eq!(against(0)["audit"]["anchors"], 1);
    let entry = program.read(&format!("{LEDGER}/entries/000000000002"));
    let entry: Value = serde_json::from_str(entry.lines().next().unwrap()).unwrap();
    let statement = entry["statement"].as_str().unwrap();
    for gone in ["ledger/entries/000000000002", "ledger/checkpoints/000000000003", statement] {
        fs::remove_file(program.path("repository/hospital/evidence").join(gone)).unwrap();
    }
    // This host remembers the end; another one would not know.
    let answer = program.run("evidence verify --json").expect(4).json();
    assert_eq!((&answer["audit"]["proven"], words(&answer)), (&2.into(), vec!["cut"]));
    fs::remove_dir_all(program.path("state/ledger")).unwrap();
    assert_eq!(program.run("evidence verify --json").expect(0).json()["audit"]["proven"], 2);
    assert_eq!(words(&against(4)), ["cut"]);
}

#[test]
fn what_is_done_to_a_repositorys_evidence_is_named() {
    let program = recorded();
    let entry = program.path(LEDGER).join("entries/000000000001");
    let good = fs::read(&entry).unwrap();
    fs::remove_file(&entry).unwrap();
    assert!(words(&program.run("evidence verify --json").expect(4).json()).contains(&"gap"));
    fs::write(&entry, String::from_utf8(good.clone()).unwrap().replace("\"index\":1", "\"index\":7")).unwrap();
    assert!(words(&program.run("evidence verify --json").expect(4).json()).contains(&"edited"));
    fs::write(&entry, good).unwrap();
    program.run("evidence verify").expect(0);
    // Without any ledger, as in a repository of an older release, nothing is wrong and nothing is proven; but to whom there was one.
    fs::rename(program.path(LEDGER), program.path("ledger")).unwrap();
    assert!(words(&program.run("evidence verify --json").expect(4).json()).contains(&"cut"));
    fs::remove_dir_all(program.path("state/ledger")).unwrap();
    let answer = program.run("evidence verify --json").expect(5).json();
    assert_eq!((words(&answer), &answer["believed"]), (vec!["not-in-ledger"], &true.into()));
    fs::rename(program.path("ledger"), program.path(LEDGER)).unwrap();
    // A revoked key counts for nothing that came later.
    let key = public(&program);
    let revoked = format!("[[keys.revoked]]\nkey = \"{key}\"\nat = \"2026-01-01T00:00:00Z\"\n\n# How much work");
    program.edit("# How much work", &revoked);
    let answer = program.run("evidence verify --json").expect(4).json();
    assert!(words(&answer).iter().all(|word| *word == "revoked"), "{answer:#}");
    assert_eq!(answer["audit"]["proven"], 0);
    let name = answer["statements"][0]["name"].as_str().unwrap().to_owned();
    let file = format!("evidence verify repository/{name} --json");
    assert_eq!(words(&program.run(&file).expect(4).json()), ["revoked"]);
}

#[test]
fn an_export_is_all_that_an_auditor_needs() {
    let program = recorded();
    fs::write(program.path(LEDGER).join("notes"), "junk").unwrap();
    let answer = program.run("evidence export --to exported --json").expect(0).json();
    insta::assert_snapshot!("evidence-export-json", shape(&answer));
    assert_eq!((&answer["statements"], &answer["ledger_objects"]), (&3.into(), &6.into()), "{answer:#}");
    let again = program.run("evidence export --to exported").expect(2);
    assert!(again.stderr.contains("is not empty"), "{}", again.stderr);
    let key = public(&program);
    for file in ["README.txt", "keys.txt"] {
        assert!(program.read(&format!("exported/{file}")).contains(&key), "{file}");
    }
    assert!(program.read("exported/verify.py").starts_with("#!/usr/bin/env python3"));
    fs::remove_file(program.path("lifeboat.toml")).unwrap();
    let verify = format!("evidence verify exported --key {key}");
    let text = program.run(&verify).expect(0).stdout;
    assert!(text.contains("3 statements: 3 verified") && text.contains("3 statements proven"), "{text}");
    let statement = fs::read_dir(program.path("exported")).unwrap().map(|file| file.unwrap().path());
    let statement = statement.filter(|path| path.to_string_lossy().ends_with(".dsse.json")).max().unwrap();
    fs::remove_file(statement).unwrap();
    let text = program.run(&verify).expect(4).stdout;
    assert!(text.contains("missing:"), "{text}");
}

/// A time-stamping authority made with `openssl ts`, behind as little HTTP as will do.
struct Tsa {
    url: String,
}

const TSA: &str = "\
[req]\ndistinguished_name = dn\n[dn]\n\
[stamping]\nbasicConstraints = critical,CA:false\nextendedKeyUsage = critical,timeStamping\n\
[tsa]\ndefault_tsa = here\n\
[here]\nserial = serial\nsigner_cert = tsa.pem\nsigner_key = tsa.key\ndefault_policy = 1.2.3.4.1\ndigests = sha256\n\
signer_digest = sha256\ness_cert_id_alg = sha256\n";

fn openssl(folder: &Path, words: &str) {
    let output = Command::new("openssl").args(words.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Tsa {
    /// Answers as often as it is asked, in a thread of the test's.
    fn start(folder: &Path) -> Tsa {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("tsa.cnf"), TSA).unwrap();
        fs::write(folder.join("serial"), "01\n").unwrap();
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tsa.key -out tsa.pem";
        openssl(folder, &format!("{new} -subj /CN=tsa -days 30 -config tsa.cnf -extensions stamping"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let folder = folder.to_owned();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                fs::write(folder.join("query"), body(&mut stream)).unwrap();
                openssl(&folder, "ts -reply -config tsa.cnf -queryfile query -out token");
                let token = fs::read(folder.join("token")).unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", token.len());
                stream.write_all(&[head.as_bytes(), &token].concat()).unwrap();
            }
        });
        Tsa { url }
    }
}

fn body(stream: &mut std::net::TcpStream) -> Vec<u8> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).unwrap();
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let length: usize = length.trim().parse().unwrap();
        if request.len() >= end + 4 + length {
            return request[end + 4..].to_vec();
        }
    }
}

fn stamping(program: &Program, url: &str) {
    let section = format!("[evidence.timestamps]\nurl = \"{url}\"\nca_file = \"tsa/tsa.pem\"\n\n[keys]\n");
    program.edit("[keys]\n", &section);
}

/// Needs `openssl`, so it is part of the testbed's tests.
#[test]
fn checkpoints_are_stamped_by_an_authority() {
    if !lifeboat_testkit::testbed::enabled() {
        return;
    }
    let program = recorded();
    let tsa = Tsa::start(&program.path("tsa"));
    stamping(&program, &tsa.url);
    let point = add_point(&program, "2026-11-21T11:00:00Z");
    act(&program, "hold", &point);
    assert!(program.path(LEDGER).join("timestamps/000000000004.tsr").exists());
    let answer = program.run("evidence verify --json").expect(0).json();
    assert_eq!((&answer["audit"]["time_stamps"], &answer["audit"]["proven"]), (&1.into(), &4.into()), "{answer:#}");
    program.run("evidence export --to exported").expect(0);
    let offline = format!("evidence verify exported --key {} --json", public(&program));
    let stamped = program.run(&format!("{offline} --tsa-ca tsa/tsa.pem")).expect(0).json();
    assert_eq!(stamped["audit"]["time_stamps"], 1);
    let untold = program.run(&offline).expect(0).stdout;
    assert!(untold.contains("time stamps of 1 checkpoints"), "{untold}");
    let token = program.path("exported/ledger/timestamps/000000000004.tsr");
    let mut bytes = fs::read(&token).unwrap();
    let middle = bytes.len() / 2;
    bytes.truncate(middle);
    fs::write(&token, bytes).unwrap();
    let answer = program.run(&format!("{offline} --tsa-ca tsa/tsa.pem")).expect(4).json();
    assert_eq!(words(&answer), ["time-stamp"]);
}

/// One that accepts and says nothing, and one that is not there: the act is recorded all the same.
#[test]
fn an_authority_that_does_not_answer_is_told_and_holds_nothing_up() {
    let program = recorded();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    program.write("tsa/tsa.pem", "");
    stamping(&program, &format!("http://{}/", silent.local_addr().unwrap()));
    let point = add_point(&program, "2026-11-21T11:00:00Z");
    let ended = act(&program, "hold", &point);
    assert!(ended.stderr.contains("has no time stamp") && ended.stderr.contains("within 5 s"), "{}", ended.stderr);
    drop(silent);
    let ended = act(&program, "release", &point);
    assert!(ended.stderr.contains("gave no token"), "{}", ended.stderr);
    let answer = program.run("evidence verify --json").expect(5).json();
    assert_eq!(
        (&answer["audit"]["proven"], words(&answer)),
        (&5.into(), vec!["time-stamp"]),
        "none was ever given: {answer:#}"
    );
}
