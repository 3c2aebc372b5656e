//! `lifeboat key rotate`: a new key in the place of an old one, without losing what the old one opens or vouches for.

use std::path::PathBuf;

use clap::Args;
use lifeboat_engine::{
    keys::{read_identity, read_signing_key},
    record,
};
use lifeboat_evidence::{Act, act::KeyRotation};
use lifeboat_model::{check::Outcome, config::KeysConfig};
use lifeboat_repo::seal::Recipient;
use serde::Serialize;

use super::{
    edit::{Change, Edited, path_in},
    generate::Protection,
};
use crate::{
    cli::Session,
    exit::Exit,
    failure::{Failure, Result},
    keyfile::{self, KeyKind},
    output::{Answer, Page},
    wire::{self, Loaded},
};

/// Make a new key in the place of one, and say what to change in lifeboat.toml
///
/// Nothing that was stored is touched: old objects stay sealed to the old recipients until they are copied with
/// `lifeboat copy --reencrypt`, and old signatures stay valid.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat key rotate recovery --passphrase --out /media/key/recovery-2.identity --retire age1… --write
  lifeboat key rotate host --out /etc/lifeboat/keys/host-2.identity --write
  lifeboat key rotate signing --out /etc/lifeboat/keys/signing-2.key --write")]
pub struct Rotate {
    /// Which key
    kind: KeyKind,
    /// The new key's file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    protection: Protection,
    /// Seal new backups no longer to this recovery recipient (repeatable); without it the new one is added
    #[arg(long, value_name = "RECIPIENT")]
    retire: Vec<Recipient>,
    /// Why, for the evidence
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Change lifeboat.toml (its comments stay), and keep the rotation as evidence
    #[arg(long)]
    write: bool,
}

#[derive(Serialize)]
struct Rotated {
    kind: KeyKind,
    file: PathBuf,
    public: String,
    before: Vec<String>,
    after: Vec<String>,
    config: PathBuf,
    changes: Vec<Change>,
    /// Whether the configuration was changed.
    written: bool,
    /// The key of the evidence.
    evidence: Option<String>,
    /// What it means for what is stored.
    consequences: Vec<String>,
}

impl Answer for Rotated {
    const SCHEMA: &'static str = "lifeboat.key-rotation/1";

    fn text(&self, page: &mut Page) {
        page.field("new key", self.file.display());
        page.field("public part", &self.public);
        page.gap();
        let done = if self.written { "Changed" } else { "To be changed by hand, or run with --write:" };
        page.line(format_args!("{done} in [keys] of {}", self.config.display()));
        self.changes.iter().for_each(|change| page.line(format_args!("  {}", change.words())));
        page.gap();
        self.consequences.iter().for_each(|line| page.line(format_args!("- {line}")));
        page.gap();
        match &self.evidence {
            Some(key) => page.field("evidence", key),
            None if self.written => page.line("Not kept as evidence: there is no repository yet."),
            None => page.line("Not kept as evidence: nothing was changed yet."),
        }
    }
}

/// What a rotation does to the configuration.
struct Plan {
    before: Vec<String>,
    after: Vec<String>,
    changes: Vec<Change>,
    consequences: Vec<String>,
}

impl Rotate {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        if self.kind != KeyKind::Recovery && !self.retire.is_empty() {
            return Err(Failure::new(Exit::Usage, "--retire is for recovery recipients"));
        }
        let loaded = wire::load_config(session)?;
        if keyfile::is_taken(&self.out) {
            return Err(keyfile::exists(&self.out));
        }
        // Asked first: nothing is half done when it cannot be reached.
        let repository = match wire::open_for_reading(&loaded).await {
            Ok((repository, _)) => Some(repository),
            Err(failure) if failure.exit == Exit::NotFound => None,
            Err(failure) => return Err(failure),
        };
        let key = self.protection.generate(self.kind, session)?;
        let file = path_in(&loaded.file, &self.out)?;
        let plan = match self.kind {
            KeyKind::Recovery => recovery(&loaded.config.keys, &key.public, &self.retire)?,
            KeyKind::Host => host(&loaded, &key.public, file)?,
            KeyKind::Signing => signing(&loaded.config.keys, &key.public, file)?,
        };
        let edited = Edited::new(&loaded.file, &plan.changes)?;
        key.write(&self.out)?;
        let (config, mut evidence) = (loaded.file.clone(), None);
        if self.write {
            edited.write()?;
            if let Some(repository) = repository {
                let context = wire::context(session, loaded, repository, "key rotate");
                let role = self.kind.word().to_owned();
                let (before, after) = (plan.before.clone(), plan.after.clone());
                let act = Act::KeyRotation(KeyRotation { role, before, after, reason: self.reason });
                let kept = record::keep_act(&context, None, session.now(), Outcome::Passed, act).await;
                let kept = kept.map_err(|error| {
                    Failure::from(error)
                        .safe("the key was made and the configuration changed; only the evidence is missing")
                })?;
                evidence = Some(kept.0.to_string());
            }
        }
        session.output.show(&Rotated {
            kind: self.kind,
            file: self.out,
            public: key.public,
            before: plan.before,
            after: plan.after,
            config,
            changes: plan.changes,
            written: self.write,
            evidence,
            consequences: plan.consequences,
        })?;
        Ok(Exit::Ok)
    }
}

fn recovery(keys: &KeysConfig, public: &str, retired: &[Recipient]) -> Result<Plan> {
    const LIST: &str = "recovery_recipients";
    let before = keys.recovery_recipients.clone();
    let retired: Vec<String> = retired.iter().map(ToString::to_string).collect();
    if let Some(unknown) = retired.iter().find(|one| !before.contains(one)) {
        return Err(Failure::new(Exit::Usage, format!("{unknown} is none of keys.recovery_recipients"))
            .safe("nothing was made or changed")
            .next("lifeboat key status"));
    }
    let mut after: Vec<String> = before.iter().filter(|one| !retired.contains(one)).cloned().collect();
    after.push(public.to_owned());
    let mut changes = vec![Change::Add { list: LIST, value: public.to_owned() }];
    changes.extend(retired.iter().map(|one| Change::Remove { list: LIST, value: one.clone() }));
    let mut consequences = vec![
        format!("New backups are sealed to {}.", after.join(", ")),
        format!("What is stored stays sealed to {}: keep their identities.", before.join(", ")),
        "The next backup stores everything anew: what the new identity cannot open is not used again.".to_owned(),
        "To have the old points open for the new identity: lifeboat copy --reencrypt into another repository."
            .to_owned(),
    ];
    if !retired.is_empty() {
        let lines = "A retired identity still opens every older point. Destroy it only when none of them is needed, or all were copied.";
        consequences.push(lines.to_owned());
    }
    consequences.push("Bring the new identity off this machine, to two places, and rehearse it after the next backup: lifeboat key rehearse".to_owned());
    Ok(Plan { before, after, changes, consequences })
}

fn host(loaded: &Loaded, public: &str, file: String) -> Result<Plan> {
    let keys = &loaded.config.keys;
    let before = read_identity(&keys.host_identity_file)?.recipient().to_string();
    let old = path_in(&loaded.file, &keys.host_identity_file)?;
    let changes = vec![
        Change::Add { list: "former_host_identity_files", value: old.clone() },
        Change::Set { key: "host_identity_file", value: file },
    ];
    let consequences = vec![
        "New indexes, trees and listings are sealed to the new identity.".to_owned(),
        format!(
            "{old} stays in use for what was sealed to it, so that the next backup finds what is stored. It opens listings, never data."
        ),
        "To be rid of the former identity, remove its line: the next backup then stores everything anew.".to_owned(),
    ];
    Ok(Plan { before: vec![before], after: vec![public.to_owned()], changes, consequences })
}

fn signing(keys: &KeysConfig, public: &str, file: String) -> Result<Plan> {
    let before = read_signing_key(&keys.signing_key_file)?.public().to_string();
    let changes = vec![
        Change::Add { list: "trusted_keys", value: public.to_owned() },
        Change::Set { key: "signing_key_file", value: file },
    ];
    let consequences = vec![
        "New points and evidence are signed with the new key. Add its public part wherever points or evidence are verified.".to_owned(),
        format!("{before} stays trusted for what it signed. Was it stolen, revoke it: lifeboat key revoke --key {before} --reason …"),
        "The old key's file is not needed any more: remove it.".to_owned(),
    ];
    Ok(Plan { before: vec![before], after: vec![public.to_owned()], changes, consequences })
}
