//! The file that `lifeboat init` writes: everything that is needed, nothing that is not, each with its reason.

use crate::{
    config::WalConfig,
    id::{Instance, Tenant},
    signature::PublicKey,
};

/// What is known when the file is written. Paths may be relative to the file's folder.
#[derive(Debug, Clone)]
pub struct StarterValues {
    /// The owner of the instances.
    pub tenant: Tenant,
    /// The folder of the repository.
    pub repository: String,
    /// `age1…`, at least one.
    pub recovery_recipients: Vec<String>,
    /// Where the host's age identity was written.
    pub host_identity_file: String,
    /// Where the signing key was written.
    pub signing_key_file: String,
    /// Public half of the signing key.
    pub trusted_key: PublicKey,
    /// Name of the example instance.
    pub instance: Instance,
    /// Caches and working files; without it, the default.
    pub state_dir: Option<String>,
}

/// The text of a commented starter file. It parses without a problem.
pub fn starter(values: &StarterValues) -> String {
    let StarterValues { tenant, instance, trusted_key, .. } = values;
    let slot = WalConfig::default().slot_name(instance);
    let recipients: Vec<String> =
        values.recovery_recipients.iter().map(|recipient| format!("    {},\n", quoted(recipient))).collect();
    let state_dir = match &values.state_dir {
        Some(path) => format!("state_dir = {}", quoted(path)),
        None => "# state_dir = \"/var/lib/lifeboat\"".to_owned(),
    };
    format!(
        r#"# Lifeboat. Check this file with: lifeboat config check
# Secrets never stand in here, only the files or environment variables that hold them.

tenant = "{tenant}"

# Where backups and evidence are kept. A folder is not immutable: an intruder on this host can delete it.
[repository]
path = {repository}
# price_per_gb_month = "0.023 USD"       # what storage costs there; the page of what is stored tells the cost then

# A bucket instead of a folder:
# [repository.s3]
# endpoint = "https://s3.example.org"    # leave out for AWS
# bucket = "lifeboat"
# prefix = "production"
# region = "eu-central-1"
# access_key_file = "/etc/lifeboat/s3-access-key"
# secret_key_file = "/etc/lifeboat/s3-secret-key"
# ca_file = "/etc/lifeboat/s3-ca.pem"    # when the certificate is from your own authority

# Or a store of Google's or Microsoft's, which is not immutable, as no lock can be put there (docs/storage.md), as section
# repository.gcs with bucket and service_account_file, or repository.azure with account, container and sas_file.

[keys]
# Backups can be opened only with the identity of one of these. Keep the identities off this host, in two places.
recovery_recipients = [
{recipients}]
# Opens indexes, so that nothing is stored twice; opens no data.
host_identity_file = {host_identity_file}
# Signs backups and evidence.
signing_key_file = {signing_key_file}
# Whose backups and evidence are believed: the public halves.
trusted_keys = ["{trusted_key}"]

# Copies in other places (`lifeboat copy`): write [[repository]] instead of [repository], and give each a name and a role,
# "primary" or "copy".

# How much work may be lost (rpo), and how long until people work again (rto).
[tiers.standard]
rpo = "24h"
rto = "4h"

# Nobody can delete what is locked, an intruder with this host's credentials neither. Needs a bucket with object lock.
# [tiers.standard.lock]
# mode = "compliance"                    # or "governance": who has a special right can delete early
# minimum = "14d"                        # whatever is kept stays locked for about so long from now

# What `lifeboat prune` keeps; without this section, everything. The first point of each hour, day, week, month and year.
# [tiers.standard.retention]
# time_zone = "Europe/Berlin"            # whose days count
# last = 3                               # the newest so many, whatever their age
# hourly = 24
# daily = 7
# weekly = 5
# monthly = 12
# yearly = 7
# pitr = "7d"                            # every moment of so long can be restored
# drilled = 2                            # so many points that passed a drill; the last that passed is always kept

# How its instances are rehearsed: reports tell drills that were due, and a drill without a required check is incomplete.
# [tiers.standard.drill]
# every = "7d"
# required = ["data.digests", "use.invoice"]

# How long evidence is locked, where tiers have locks.
# [evidence]
# retain = "2192d"
# Who stamps the ledger with the time (RFC 3161): then it cannot be made up later and dated back.
# [evidence.timestamps]
# url = "http://timestamp.example.org"
# ca_file = "/etc/lifeboat/tsa-ca.pem"   # its certificates, for verification

# One section for each Odoo system. Replace the example's values.
[instances.{instance}]
tier = "standard"
# owner = "Operations, +49 30 1234567"
# data_class = "health"                  # one word of your own for the kind of data in it, for logs

[instances.{instance}.postgres]
host = "localhost"
port = 5432
# CREATE ROLE lifeboat LOGIN REPLICATION PASSWORD '…'; GRANT pg_read_all_data TO lifeboat;
user = "lifeboat"
password_file = "/etc/lifeboat/{instance}-postgres-password"    # mode 0600
# tls = "verify-full"                    # the default; or verify-ca, require, disable
# root_cert_file = "/etc/lifeboat/postgres-ca.pem"
databases = ["odoo"]
# digests = true                         # digest every table at each backup, for drills to compare

# WAL between base backups, held in the repository seconds after its commit: lifeboat wal stream {instance}
# [instances.{instance}.postgres.wal]
# slot = "{slot}"               # set max_slot_wal_keep_size at the server, so that a slot cannot fill its disk
# max_lag = "2s"                         # how long WAL waits at most before it is sent
# heartbeat = "5s"                       # a commit without a change, so that an idle system has a proof; or "off"

# What the digests may cost the source.
# [instances.{instance}.postgres.witness]
# statement_timeout = "30m"              # for one table
# parallel = 1                           # sessions at the same time
# duty_cycle = 100                       # percent of the time that a session works
# sample_above = "64 GiB"                # larger tables are sampled, and recorded as a sample
# standby = {{ host = "standby.example.org", port = 5432 }}

[instances.{instance}.filestore]
path = "/var/lib/odoo/filestore"

# What else a restore needs: files, folders, and commands whose output is kept.
[instances.{instance}.config]
paths = ["/etc/odoo"]
# [[instances.{instance}.config.commands]]
# name = "containers.json"
# run = ["docker", "inspect", "odoo"]
# timeout = "60s"

# The images that the instance runs on; drills use them in a sandbox with no way out.
[instances.{instance}.drill]
postgres_image = "postgres:17"
odoo_image = "odoo:19"
# addons = ["/etc/odoo/addons"]          # folders in config.paths that Odoo needs
# memory = "2 GiB"
# timeout = "30m"
# required = ["boot.log"]                # checks that must have run
# [[instances.{instance}.drill.checks]]      # checks of your own: sql, rpc, http or run
# id = "own.invoices"
# sql = "SELECT count(*) FROM account_move"
# at_least = 1000
# timeout = "30s"

# [instances.{instance}.dump]
# program = "auto"                       # pg_dump of this host, else of postgres_image; "image", or the path of one

# What the instance cannot work without: runbooks are held against this map. Kinds: postgresql, redis, object-storage, dns,
# ingress, identity, integration, mail, other.
# [instances.{instance}.dependencies.sign-in]
# kind = "identity"
# address = "https://id.example.org"
# note = "IT service desk, +49 30 7654321; staff can work with local passwords for a day"

# What all drills on this host may use together: more wait for their turn.
# [drills]
# concurrent = 2
# memory = "8 GiB"                       # the sum of their instances' drill.memory

[engine]
{state_dir}
# compression_level = 3                  # zstd, 1 to 19
# pack_size = "16 MiB"
# workers = 0                            # 0: one per core
# uploads = 3

# How much of the line to the repository one command may use. Streams and restores are not held back.
# [limits]
# upload = "50 MiB/s"                    # or as lines are sold: "400 Mbit/s"
# download = "100 MiB/s"
"#,
        repository = quoted(&values.repository),
        recipients = recipients.concat(),
        host_identity_file = quoted(&values.host_identity_file),
        signing_key_file = quoted(&values.signing_key_file),
    )
}

/// A TOML text with whatever it needs escaped.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
