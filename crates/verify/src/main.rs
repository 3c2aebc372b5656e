//! `lifeboat-verify`: is this directory of evidence to be believed? It needs the directory and public keys, and nothing
//! else: no configuration, no network, no Lifeboat.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program; what it says is its answer")]

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use jiff::Timestamp;
use lifeboat_evidence::audit::{Audit, Trust, Weight};
use lifeboat_model::signature::PublicKey;
use lifeboat_verify::timestamp::Authority;
use serde_json::{Value, json};

/// Verify an exported directory of evidence, offline
///
/// Checks every signature, that every statement is in the ledger and every entry has its statement, and that every signed
/// checkpoint is the root of the entries up to it. Finds what was edited, removed, added, re-ordered, forked, dated back or
/// signed by others. Take the public keys from somewhere else than the directory.
#[derive(Debug, Parser)]
#[command(name = "lifeboat-verify", version, after_help = AFTER)]
struct Arguments {
    /// The directory: an export, or a copy of the <tenant>/evidence/ folder of a repository
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// A public key to believe (repeatable)
    #[arg(long, value_name = "PUBLIC-KEY", required = true)]
    key: Vec<PublicKey>,
    /// A key that is not believed for what came later (repeatable): the public key, `=`, and a time
    #[arg(long, value_name = "PUBLIC-KEY=TIME", value_parser = revoked)]
    revoked: Vec<(PublicKey, Timestamp)>,
    /// A checkpoint that was kept elsewhere, which this ledger must continue (repeatable)
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    /// Certificates (PEM) of the authority that has stamped checkpoints; needs the openssl command
    #[arg(long, value_name = "FILE")]
    tsa_ca: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const AFTER: &str = "\
Exit codes: 0 believed; 1 could not be read; 2 wrong arguments; 4 something is wrong; 5 nothing is wrong, and something
stays in doubt.

Example:
  lifeboat-verify evidence-2026 --key lifeboat-ed25519:… --against checkpoint-kept-by-us";

/// As `lifeboat` uses them.
const FAILED: u8 = 1;
const WRONG: u8 = 4;
const DOUBT: u8 = 5;

fn revoked(text: &str) -> Result<(PublicKey, Timestamp), String> {
    // A key ends in `=` itself: the time is what follows the last one.
    let (key, time) = text.rsplit_once('=').ok_or("expected PUBLIC-KEY=TIME")?;
    let key = key.parse().map_err(|error| format!("{error}"))?;
    Ok((key, time.parse().map_err(|error| format!("not a time such as 2026-11-22T08:00:00Z: {error}"))?))
}

fn main() -> ExitCode {
    let Arguments { directory, key, revoked, against, tsa_ca, json } = Arguments::parse();
    let trust = Trust { keys: key, revoked, origin: None };
    let authority = tsa_ca.map(|ca_file| Authority { ca_file });
    match lifeboat_verify::audit(&directory, trust, &against, authority.as_ref(), &mut |_| {}) {
        Ok(audit) => {
            if json {
                println!("{}", document(&audit))
            } else {
                tell(&audit)
            }
            ExitCode::from(code(&audit))
        }
        Err(error) => {
            eprintln!("error: {error}: {}", error.source);
            ExitCode::from(FAILED)
        }
    }
}

fn code(audit: &Audit) -> u8 {
    match audit.findings.worst() {
        Some(Weight::Wrong) => WRONG,
        Some(Weight::Doubt) => DOUBT,
        _ => 0,
    }
}

fn document(audit: &Audit) -> Value {
    json!({ "schema": "lifeboat.verify-directory/1", "believed": audit.believed(), "audit": audit })
}

fn tell(audit: &Audit) {
    for finding in audit.findings.listed() {
        let weight = match finding.weight {
            Weight::Wrong => "WRONG ",
            Weight::Doubt => "DOUBT ",
            Weight::Notice => "notice",
        };
        println!("{weight} {}: {}: {}", finding.word.word(), finding.of, finding.detail);
    }
    for (word, count) in audit.findings.counts() {
        println!("{count} × {}", word.word());
    }
    for left in &audit.not_executed {
        println!("not executed: {}: {}", left.what, left.why);
    }
    let Audit { statements, proven, entries, checkpoints, size, time_stamps, .. } = audit;
    println!(
        "{statements} statements, {proven} proven; {entries} entries, {size} of them signed; {checkpoints} checkpoints, \
         {time_stamps} of them stamped by an authority"
    );
    if let (Some(origin), Some(root)) = (&audit.origin, &audit.root) {
        println!("ledger {origin}, root {root}");
    }
    for rehearsal in &audit.rehearsals {
        println!(
            "newest drill of {} that passed: {:.0}, run {}",
            rehearsal.instance, rehearsal.finished, rehearsal.run
        );
    }
    let verdict = match code(audit) {
        WRONG => "NOT BELIEVED: it is not as it was left",
        DOUBT => "nothing is wrong with it, and something stays in doubt",
        _ => "believed",
    };
    println!("{verdict}");
}
