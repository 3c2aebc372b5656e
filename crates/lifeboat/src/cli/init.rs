//! `lifeboat init`: a commented starter file and the three keys, and in plain words what must leave the machine.

use std::path::{Path, PathBuf};

use clap::Args;
use lifeboat_model::{
    config::{StarterValues, starter},
    id::{Instance, Tenant},
};
use lifeboat_repo::seal::Recipient;
use serde::Serialize;

use super::Session;
use crate::{
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    keyfile::{self, KeyKind, NewKey},
    output::{Answer, Page, Tone},
};

const CONFIG: &str = "lifeboat.toml";
const KEYS: &str = "keys";

/// Write a commented lifeboat.toml and make the keys
///
/// Makes DIR/lifeboat.toml and, in the folder DIR/keys (mode 0700), three key files (mode 0600): the recovery identity,
/// which opens every backup and must leave this machine; the host identity, which opens listings but no data; the
/// signing key. Writes over nothing.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Init {
    /// Folder for lifeboat.toml and keys/
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Who owns the instances
    #[arg(long, value_name = "NAME", default_value = "main")]
    tenant: Tenant,
    /// Name of the first instance
    #[arg(long, value_name = "NAME", default_value = "odoo")]
    instance: Instance,
    /// Folder of the repository, as it shall stand in the file
    #[arg(long, value_name = "PATH", default_value = "repository")]
    repository: String,
    /// Folder for caches and working files, as it shall stand in the file [default: /var/lib/lifeboat]
    #[arg(long, value_name = "PATH")]
    state_dir: Option<String>,
    /// Seal to this public key, whose identity is kept elsewhere already, and make no recovery identity (repeatable)
    #[arg(long, value_name = "AGE1…", value_parser = recipient)]
    recipient: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat init /etc/lifeboat --tenant hospital --instance clinic
  lifeboat init --recipient age1…                the recovery identity exists already, elsewhere";

fn recipient(text: &str) -> std::result::Result<String, String> {
    text.parse::<Recipient>().map(|recipient| recipient.to_string()).map_err(|error| error.to_string())
}

#[derive(Serialize)]
struct Made {
    config: PathBuf,
    /// What must be taken off this machine; none when recipients were given.
    recovery_identity_file: Option<PathBuf>,
    host_identity_file: PathBuf,
    signing_key_file: PathBuf,
    recovery_recipients: Vec<String>,
    host_recipient: String,
    signing_public_key: String,
}

impl Answer for Made {
    const SCHEMA: &'static str = "lifeboat.init/1";

    fn text(&self, page: &mut Page) {
        page.line("Made:");
        page.field("  configuration", self.config.display());
        if let Some(file) = &self.recovery_identity_file {
            page.field("  recovery identity", file.display());
        }
        page.field("  host identity", self.host_identity_file.display());
        page.field("  signing key", self.signing_key_file.display());
        page.heading("Public parts (no secrets; they stand in the configuration)");
        page.field("  sealed to", self.recovery_recipients.join(", "));
        page.field("  host", &self.host_recipient);
        page.field("  signatures", &self.signing_public_key);
        if let Some(file) = &self.recovery_identity_file {
            self.take_away(page, file);
        }
        page.heading("Next");
        page.line(format_args!("  1. Replace the example's values in {}.", self.config.display()));
        page.line(format_args!("  2. lifeboat --config {} config check", self.config.display()));
        page.line(format_args!("  3. lifeboat --config {} doctor", self.config.display()));
    }
}

impl Made {
    fn take_away(&self, page: &mut Page, file: &Path) {
        let file = file.display();
        page.heading(Tone::Bad.paint("TAKE THE RECOVERY IDENTITY OFF THIS MACHINE"));
        page.line(format_args!("  {file} opens every backup. Without it no backup can be opened, by anybody;"));
        page.line("  with it here, whoever takes this machine reads them all.");
        page.line("  1. Copy it to at least two safe places that do not share a fate with this machine");
        page.line("     (a safe, a password manager, another site's vault).");
        page.line(format_args!(
            "     With each keep a copy of {}, once it is filled in: it holds no secret,",
            self.config.display()
        ));
        page.line("     and a new machine needs the address, the tenant and the trusted keys in it.");
        page.line("  2. Test each copy where it lies: lifeboat key show FILE   must print");
        page.line(format_args!("     {}", self.recovery_recipients.join(", ")));
        page.line(format_args!("  3. Delete it here: shred -u {file}"));
    }
}

impl Init {
    /// Runs it.
    pub fn run(self, session: &Session) -> Result<Exit> {
        let dir = if self.dir == Path::new(".") { PathBuf::new() } else { self.dir }; // `lifeboat.toml`, not `./lifeboat.toml`
        let (config, keys) = (dir.join(CONFIG), dir.join(KEYS));
        let files = ["recovery.identity", "host.identity", "signing.key"].map(|name| keys.join(name));
        refuse_existing(&config, &files)?;
        let now = session.now();
        let recovery = match self.recipient.is_empty() {
            true => Some(NewKey::generate(KeyKind::Recovery, now)?),
            false => None,
        };
        let (host, signing) = (NewKey::generate(KeyKind::Host, now)?, NewKey::generate(KeyKind::Signing, now)?);
        let recipients = recovery.as_ref().map_or(self.recipient, |key| vec![key.public.clone()]);
        let text = starter(&StarterValues {
            tenant: self.tenant,
            repository: self.repository,
            recovery_recipients: recipients.clone(),
            host_identity_file: format!("{KEYS}/host.identity"),
            signing_key_file: format!("{KEYS}/signing.key"),
            trusted_key: signing.public.parse()?,
            instance: self.instance,
            state_dir: self.state_dir,
        });
        let [recovery_file, host_file, signing_file] = files;
        keyfile::make_folder(&keys)?;
        let written = [(recovery.as_ref(), &recovery_file), (Some(&host), &host_file), (Some(&signing), &signing_file)];
        for (key, file) in written.into_iter().filter_map(|(key, file)| key.map(|key| (key, file))) {
            key.write(file).hint("what was made so far is of no use alone: remove it and run `lifeboat init` again")?;
        }
        keyfile::write_new(&config, 0o644, &text)?; // last: a configuration never names keys that are not there
        let recovery_identity_file = recovery.map(|_| recovery_file);
        session.output.show(&Made {
            config,
            recovery_identity_file,
            host_identity_file: host_file,
            signing_key_file: signing_file,
            recovery_recipients: recipients,
            host_recipient: host.public,
            signing_public_key: signing.public,
        })?;
        Ok(Exit::Ok)
    }
}

/// All or nothing: a new key beside an old configuration would seal to nobody's recovery identity.
fn refuse_existing(config: &Path, keys: &[PathBuf]) -> Result<()> {
    let taken: Vec<String> = std::iter::once(config)
        .chain(keys.iter().map(PathBuf::as_path))
        .filter(|path| keyfile::is_taken(path))
        .map(|path| path.display().to_string())
        .collect();
    if taken.is_empty() {
        return Ok(());
    }
    let verb = if taken.len() == 1 { "exists" } else { "exist" };
    Err(Failure::new(Exit::Failed, format!("{} {verb}, and nothing is written over", taken.join(", ")))
        .safe("nothing was written")
        .hint("name another folder: lifeboat init DIR; for a single missing key: lifeboat key generate")
        .next(format!("lifeboat --config {} config check", config.display())))
}
