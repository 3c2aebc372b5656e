//! Time stamps, from an authority made with `openssl ts`. Part of the testbed's tests, as it needs `openssl`.

use std::{fs, path::Path, process::Command};

use lifeboat_evidence::{
    audit::{Audit, Auditor, Demand, Stamp, Weight, Word},
    ledger::place::{self, Place},
};
use lifeboat_verify::timestamp::{Authority, name_of};
use tempfile::TempDir;

use crate::world::{World, finding, key, sound, write, wrong};

/// An authority: a root, a certificate for time stamps signed by it, and what `openssl ts` wants to know.
struct Tsa(TempDir);

const CONFIG: &str = "\
[req]
distinguished_name = dn
[dn]
[root]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign
[stamping]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[tsa]
default_tsa = here
[here]
serial = serial
signer_cert = tsa.pem
signer_key = tsa.key
certs = ca.pem
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
signer_digest = sha256
ess_cert_id_alg = sha256
";

fn openssl(folder: &Path, words: &str) {
    let output = Command::new("openssl").args(words.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Tsa {
    fn make() -> Tsa {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        write(at, "tsa.cnf", CONFIG.as_bytes());
        write(at, "serial", b"01\n");
        openssl(
            at,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=root -days 30 -config tsa.cnf -extensions root",
        );
        openssl(
            at,
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tsa.key -out tsa.csr -subj /CN=tsa -config tsa.cnf",
        );
        openssl(
            at,
            "x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out tsa.pem -days 30 -extfile tsa.cnf -extensions stamping",
        );
        Tsa(folder)
    }

    /// A token about these bytes, of now.
    fn stamp(&self, data: &[u8]) -> Vec<u8> {
        let at = self.0.path();
        write(at, "data", data);
        openssl(at, "ts -query -data data -sha256 -cert -out query");
        openssl(at, "ts -reply -config tsa.cnf -queryfile query -out token");
        fs::read(at.join("token")).unwrap()
    }

    fn authority(&self) -> Authority {
        Authority { ca_file: self.0.path().join("ca.pem") }
    }
}

/// Acts of now, so that an authority of now can stamp them.
fn stamped(tsa: &Tsa) -> World {
    let mut world = World::empty(key(7));
    for _ in 0..2 {
        let now = jiff::Timestamp::now();
        world.hold(&jiff::Timestamp::from_second(now.as_second()).unwrap().to_string());
        let token = tsa.stamp(&world.kept());
        world.files.insert(name_of(world.tree.size()), token);
    }
    world
}

fn audit(world: &World, authority: Option<&Authority>) -> Audit {
    lifeboat_verify::audit(world.written().path(), world.trust(), &[], authority, &mut |_| {}).unwrap()
}

#[test]
fn tokens_are_verified_with_the_authoritys_certificates() {
    if std::env::var("LIFEBOAT_TESTBED").is_err() {
        return;
    }
    let tsa = Tsa::make();
    let world = stamped(&tsa);
    let believed = audit(&world, Some(&tsa.authority()));
    sound(&believed);
    assert_eq!(believed.time_stamps, 2);
    // Without certificates nobody can tell, and the audit says so.
    let untold = audit(&world, None);
    assert!(untold.believed() && untold.time_stamps == 0);
    assert!(untold.not_executed.iter().any(|left| left.what.contains("time stamps of 2")), "{untold:#?}");
    // Another authority, a token about something else, a changed one, none at all.
    wrong(&audit(&world, Some(&Tsa::make().authority())), Word::TimeStamp, "time stamp 1");
    let mut swapped = world.clone();
    swapped.files.insert(name_of(1), world.files[&name_of(2)].clone());
    wrong(&audit(&swapped, Some(&tsa.authority())), Word::TimeStamp, "time stamp 1");
    let mut junk = world.clone();
    junk.files.insert(name_of(2), b"junk".to_vec());
    wrong(&audit(&junk, Some(&tsa.authority())), Word::TimeStamp, "time stamp 2");
    let mut orphan = world.clone();
    orphan.files.insert(name_of(7), world.files[&name_of(2)].clone());
    wrong(&audit(&orphan, Some(&tsa.authority())), Word::TimeStamp, "time stamp 7");
}

/// Some bytes of a token (the authority's own certificate beside the one that is trusted, for one) may carry no meaning:
/// a change either is refused or leaves the same checkpoint stamped at the same time.
#[test]
fn a_changed_token_says_nothing_else() {
    if std::env::var("LIFEBOAT_TESTBED").is_err() {
        return;
    }
    let tsa = Tsa::make();
    let world = stamped(&tsa);
    let (folder, outside) = (world.written(), tempfile::tempdir().unwrap());
    let data = folder.path().join(place::checkpoint(2));
    let token = &world.files[&name_of(2)];
    let verify = |bytes: &[u8]| {
        let path = write(outside.path(), "token", bytes);
        lifeboat_verify::timestamp::verify(&path, &data, &tsa.authority()).unwrap()
    };
    let good = verify(token);
    let mut refused = 0;
    for at in (0..token.len()).step_by(7) {
        let mut changed = token.clone();
        changed[at] ^= 1 << (at % 8);
        let answer = verify(&changed);
        if answer != good {
            assert!(matches!(answer, Stamp::Refused(_)), "byte {at}: {answer:?}");
            refused += 1;
        }
    }
    assert!(refused > token.len() / 7 * 3 / 4, "{refused} of {}", token.len() / 7);
}

/// A ledger that was made up later: the authority saw its checkpoints long after what its entries say.
#[test]
fn a_ledger_that_is_dated_back_is_betrayed_by_its_time_stamps() {
    if std::env::var("LIFEBOAT_TESTBED").is_err() {
        return;
    }
    let tsa = Tsa::make();
    let mut world = World::empty(key(7));
    world.hold("2026-01-01T10:00:00Z");
    let token = tsa.stamp(&world.kept());
    world.files.insert(name_of(1), token);
    let audit = audit(&world, Some(&tsa.authority()));
    wrong(&audit, Word::BackDated, "time stamp 1");
}

/// The same token with a text that nobody has signed: `PKIStatusInfo.statusString`.
fn with_status_text(token: &[u8], text: &str) -> Vec<u8> {
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
    let (status, rest) = (&token[4..9], &token[9..]);
    assert_eq!(status, [0x30, 3, 2, 1, 0], "granted, and no text");
    let text = [&[0x0c, length(text.as_bytes())], text.as_bytes()].concat();
    let status = [&status[2..], &[0x30, length(&text)], &text].concat();
    let body = [&[0x30, length(&status)], status.as_slice(), rest].concat();
    [&[0x30, 0x82], u16::try_from(body.len()).unwrap().to_be_bytes().as_slice(), &body].concat()
}

#[test]
fn only_what_the_authority_has_signed_says_when() {
    if std::env::var("LIFEBOAT_TESTBED").is_err() {
        return;
    }
    let tsa = Tsa::make();
    let mut world = World::empty(key(7));
    world.hold("2024-11-22T07:15:00Z");
    let token = tsa.stamp(&world.kept());
    let outside = tempfile::tempdir().unwrap();
    let data = write(outside.path(), "data", &world.kept());
    let verify = |token: &[u8]| {
        let path = write(outside.path(), "token", token);
        lifeboat_verify::timestamp::verify(&path, &data, &tsa.authority()).unwrap()
    };
    let good = verify(&token);
    assert!(matches!(good, Stamp::Verified(_)), "{good:?}");
    // While the certificates are valid, so that they do not betray it.
    let other = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48);
    let text = other.strftime("x\nTime stamp: %b %d %H:%M:%S %Y GMT\n").to_string();
    assert_eq!(verify(&with_status_text(&token, &text)), good);
    let forged = with_status_text(&token, "x\nTime stamp: Nov 22 07:16:00 2024 GMT");
    world.files.insert(name_of(1), forged);
    wrong(&audit(&world, Some(&tsa.authority())), Word::BackDated, "time stamp 1");
}

/// Whoever makes a ledger up leaves its time stamps out.
#[test]
fn an_auditor_who_asks_for_time_stamps_is_told_that_there_are_none() {
    let authority = Authority { ca_file: "/nowhere/ca.pem".into() };
    let world = World::small();
    let asked = audit(&world, Some(&authority));
    finding(&asked, Word::TimeStamp, "ledger", Weight::Doubt);
    assert!(asked.believed() && !asked.convincing(), "{asked:#?}");
    sound(&audit(&world, None));
    // Into a copy none is carried.
    let mut copy = Auditor::new(world.trust(), Demand::LedgerOfPrimary);
    for (name, bytes) in &world.files {
        match place::parse(name) {
            Some(Place::Checkpoint(size)) => copy.checkpoint(size, bytes),
            Some(Place::Entry(index)) => copy.entry(index, bytes),
            _ => drop(copy.statement(name, bytes, None)),
        }
    }
    copy.expect_time_stamps();
    let copy = copy.finish();
    sound(&copy);
    assert!(copy.not_executed.iter().any(|left| left.what == "the time of entries 0 to 2"), "{copy:#?}");
    // That there is no ledger is said already.
    let empty = audit(&World::empty(key(7)), Some(&authority));
    assert!(!empty.findings.has(Word::TimeStamp), "{empty:#?}");
}

#[test]
fn entries_behind_the_last_time_stamp_are_named() {
    if std::env::var("LIFEBOAT_TESTBED").is_err() {
        return;
    }
    let tsa = Tsa::make();
    let mut world = stamped(&tsa);
    let unstamped = |audit: &Audit| {
        let left = audit.not_executed.iter().find(|left| left.why.contains("no time stamp covers"));
        left.map(|left| left.what.clone())
    };
    assert_eq!(unstamped(&audit(&world, Some(&tsa.authority()))), None);
    for _ in 0..2 {
        let now = jiff::Timestamp::now();
        world.hold(&jiff::Timestamp::from_second(now.as_second()).unwrap().to_string());
    }
    let audited = audit(&world, Some(&tsa.authority()));
    // The next checkpoint may be about to be stamped.
    sound(&audited);
    assert_eq!(unstamped(&audited).as_deref(), Some("the time of entries 2 to 3"));
    assert_eq!(unstamped(&audit(&world, None)), None, "it is said that none was looked at");
}
