//! Time stamps, from an authority made with `openssl ts`. Part of the testbed's tests, as it needs `openssl`.

use std::{fs, path::Path, process::Command};

use lifeboat_evidence::{
    audit::{Audit, Word},
    ledger::place,
};
use lifeboat_verify::timestamp::{Authority, name_of};
use tempfile::TempDir;

use crate::world::{World, key, sound, write, wrong};

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
            assert!(matches!(answer, lifeboat_evidence::audit::Stamp::Refused(_)), "byte {at}: {answer:?}");
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
