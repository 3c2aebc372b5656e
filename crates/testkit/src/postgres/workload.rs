//! `pgbench` in the background, with its own or with a test's script.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};

use super::{Postgres, SUPERUSER};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A running `pgbench`. Dropping it ends it.
#[derive(Debug)]
pub struct Workload {
    child: Child,
    /// Where its container's id is, if it runs in one.
    container: Option<PathBuf>,
    output: PathBuf,
}

impl Postgres {
    /// Makes pgbench's tables.
    pub fn pgbench_init(&self, database: &str, scale: u32) -> Result<()> {
        self.run("pgbench", &["-i", "-q", "-s", &scale.to_string(), database]).map(drop)
    }

    /// Writes a script for `pgbench -f` where this server's programs find it.
    pub fn script(&self, name: &str, text: &str) -> Result<String> {
        let path = self.root.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// Starts pgbench in the background, for example with `&["-n", "-c", "16", "-T", "60", "postgres"]`. It speaks over
    /// the Unix socket, as the superuser.
    pub fn pgbench(&self, arguments: &[&str]) -> Result<Workload> {
        let root = self.root.path();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let output = root.join(format!("pgbench-{number}.log"));
        let container = self.programs.image.as_ref().map(|_| root.join(format!("pgbench-{number}.cid")));
        let mut command = match &container {
            Some(id) => {
                let user = format!("PGUSER={SUPERUSER}");
                let (host, port) = (format!("PGHOST={}", root.display()), format!("PGPORT={}", self.port));
                let id = id.display().to_string();
                self.programs.command("pgbench", root, &["--cidfile", &id, "-e", &user, "-e", &host, "-e", &port])
            }
            None => {
                let mut command = self.programs.command("pgbench", root, &[]);
                command.env("PGHOST", root).env("PGPORT", self.port.to_string()).env("PGUSER", SUPERUSER);
                command
            }
        };
        let log = File::create(&output)?;
        let child = command.args(arguments).stdout(log.try_clone()?).stderr(Stdio::from(log)).spawn()?;
        Ok(Workload { child, container, output })
    }
}

impl Workload {
    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end, and gives what it wrote; an error if it failed.
    pub fn finish(mut self) -> Result<String> {
        let status = self.child.wait()?;
        let text = self.written();
        ensure!(status.success(), "pgbench failed ({status}): {text}");
        Ok(text)
    }

    /// Ends it now, or notes how it ended before, and gives what it wrote.
    pub fn stop(mut self) -> Result<(ExitStatus, String)> {
        self.kill();
        let status = self.child.wait().context("waiting for pgbench")?;
        Ok((status, self.written()))
    }

    fn written(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    fn kill(&mut self) {
        let id = self.container.as_ref().and_then(|path| fs::read_to_string(path).ok());
        match (id.filter(|id| !id.is_empty()), self.is_running()) {
            (_, false) => {}
            (Some(id), true) => drop(Command::new("docker").args(["kill", &id]).output()),
            (None, true) => drop(self.child.kill()),
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}
