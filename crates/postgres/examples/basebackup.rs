//! Takes a base backup, throws the bytes away and prints how fast they came: for tuning.
//!
//! `PGPASSWORD=… cargo run --release -p lifeboat-postgres --example basebackup -- HOST PORT USER [disable|require]`
#![allow(clippy::print_stdout, reason = "an example for people")]

use std::time::Instant;

use anyhow::{Context as _, bail};
use lifeboat_model::secret::Secret;
use lifeboat_postgres::{BackupEvent, BaseBackupOptions, ConnectOptions, Replication, TlsMode};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, user, rest @ ..] = arguments.as_slice() else {
        bail!("usage: basebackup HOST PORT USER [disable|require]");
    };
    let mut options = ConnectOptions::new(host, port.parse().context("PORT")?, user);
    options.password = std::env::var("PGPASSWORD").ok().map(Secret::new);
    options.tls = match rest.first().map(String::as_str) {
        None | Some("disable") => TlsMode::Disable,
        Some("require") => TlsMode::Require,
        Some(other) => bail!("unknown TLS mode {other}"),
    };
    let began = Instant::now();
    let replication = Replication::connect(&options).await?;
    println!("PostgreSQL {}", replication.server_version_text());
    let mut backup = replication.base_backup(BaseBackupOptions::default()).await?;
    let (mut files, mut bytes, mut manifest, mut first) = (0u64, 0u64, 0u64, None);
    while let Some(event) = backup.next().await? {
        match event {
            BackupEvent::Started { start, timeline, tablespaces, .. } => {
                first = Some(Instant::now());
                println!("starts at {start} on timeline {timeline}, {} extra tablespaces", tablespaces.len());
            }
            BackupEvent::File { .. } => files += 1,
            BackupEvent::Data(data) => bytes += data.len() as u64,
            BackupEvent::Manifest(data) => manifest += data.len() as u64,
            BackupEvent::Finished { end, .. } => println!("ends at {end}"),
            BackupEvent::Directory { .. } | BackupEvent::Symlink { .. } | BackupEvent::EndFile => {}
        }
    }
    let seconds = first.map_or(0.0, |first| first.elapsed().as_secs_f64());
    println!(
        "{files} files, {bytes} bytes, manifest {manifest} bytes in {seconds:.2} s: {:.0} MB/s ({:.2} s with the checkpoint)",
        bytes as f64 / 1e6 / seconds,
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
