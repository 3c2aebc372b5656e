//! Standbys, slots, restarts: what happens to a cluster in its life.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{Postgres, SUPERUSER, SUPERUSER_PASSWORD, check};

const WAIT: Duration = Duration::from_secs(60);

impl Postgres {
    /// Makes a standby of this server (`pg_basebackup -R`) that streams through a slot of its own, and starts it. Its
    /// `pg_hba.conf`, roles and settings are this server's.
    pub fn standby(&self, slot: &str) -> Result<Postgres> {
        let mut standby = Postgres::empty(self.major)?;
        let mut command = standby.programs.command("pg_basebackup", standby.root.path(), &[]);
        command.env("PGPASSWORD", SUPERUSER_PASSWORD).args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command.args(["-U", SUPERUSER, "--checkpoint=fast", "--no-sync", "-R", "-C", "-S", slot, "-D"]);
        check(command.arg(&standby.data).output()?, "pg_basebackup")?;
        standby.resume()?;
        Ok(standby)
    }

    /// Makes a standby a primary on a new timeline; returns when it takes writes.
    pub fn promote(&self) -> Result<()> {
        let promoted = self.psql("postgres", "SELECT pg_promote(true, 60)")?;
        ensure!(promoted == "t", "the standby was not promoted:\n{}", self.log());
        self.wait_for("SELECT pg_is_in_recovery()", "f")
    }

    /// Waits until a standby of this server has replayed all WAL of now.
    pub fn wait_for_replay(&self, standby: &Postgres) -> Result<()> {
        let position = self.flush_lsn()?;
        standby.wait_for(&format!("SELECT pg_last_wal_replay_lsn() >= '{position}'"), "t")
    }

    /// Up to where WAL is flushed, as text.
    pub fn flush_lsn(&self) -> Result<String> {
        self.psql("postgres", "SELECT pg_current_wal_flush_lsn()")
    }

    /// Makes a physical slot that keeps WAL from now on.
    pub fn create_slot(&self, name: &str) -> Result<()> {
        self.psql("postgres", &format!("SELECT pg_create_physical_replication_slot('{name}', true)")).map(drop)
    }

    /// Asks again until the answer is the expected one, up to a minute.
    pub fn wait_for(&self, sql: &str, expected: &str) -> Result<()> {
        let deadline = Instant::now() + WAIT;
        loop {
            let answer = self.psql("postgres", sql)?;
            if answer == expected {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{sql}: still {answer}, not {expected}");
            sleep(Duration::from_millis(50));
        }
    }

    /// Fast shutdown, and start.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.resume()
    }

    /// Immediate shutdown: no checkpoint, so that the next start recovers.
    pub fn stop_immediate(&mut self) -> Result<()> {
        self.end("QUIT")
    }
}
