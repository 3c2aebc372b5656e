//! Folders with policies, daemons as processes, and what the state says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};

pub const LOG: &str = "effects";

/// A `lifeboat.toml` with so many instances of each tier: `gold-0`, `silver-0`, ….
pub fn config(tiers: &[(&str, usize)]) -> String {
    let mut text = r#"tenant = "acme"
[repository]
path = "backups"
[keys]
recovery_recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]
host_identity_file = "host.age"
signing_key_file = "signing"
trusted_keys = ["lifeboat-ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw="]
[engine]
state_dir = "engine"
"#
    .to_owned();
    for (tier, count) in tiers {
        text.push_str(&format!("[tiers.{tier}]\nrpo = \"1h\"\nrto = \"4h\"\n"));
        for number in 0..*count {
            text.push_str(&format!(
                r#"[instances.{tier}-{number}]
tier = "{tier}"
postgres = {{ host = "127.0.0.1", port = 9, user = "lifeboat", databases = ["odoo"], tls = "disable" }}
drill = {{ postgres_image = "postgres:17", odoo_image = "odoo:19" }}
"#
            ));
        }
    }
    text
}

/// The settings of one of the folder's daemons.
pub fn settings(folder: &Path, name: &str, budget: &str) {
    let text = format!(
        "listen = \"127.0.0.1:0\"\nstate_dir = \"state-{name}\"\nstop_grace = \"1s\"\n[budget]\n{budget}\n[[tenant]]\nconfig = \"lifeboat.toml\"\n"
    );
    fs::write(folder.join(format!("{name}.toml")), text).unwrap();
}

pub fn schedules(folder: &Path, text: &str) {
    fs::create_dir_all(folder.join("schedules")).unwrap();
    fs::write(folder.join("schedules/all.toml"), text).unwrap();
}

/// Where a daemon writes its troubles.
pub fn troubles(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("troubles-{name}"))
}

/// A daemon as a process. Dropped, it is killed.
pub struct Running(pub Child);

impl Running {
    pub fn begin(folder: &Path, name: &str) -> Running {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.arg("daemon").arg(folder).arg(name).stdin(Stdio::null());
        Running(command.spawn().unwrap())
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// As `systemctl stop` does it.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let since = Instant::now();
        let status = loop {
            match self.0.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
            assert!(since.elapsed() < Duration::from_secs(30), "the daemon does not stop");
        };
        assert!(status.success(), "{status}");
    }

    /// Resident memory in KiB.
    pub fn memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.parse().ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is so, and says what was not.
pub fn until<T>(what: &str, mut is: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = is() {
            return found;
        }
        assert!(since.elapsed() < Duration::from_secs(40), "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A run in the state.
#[derive(Debug, Clone)]
pub struct Row {
    pub schedule: String,
    pub instance: String,
    pub due: String,
    pub attempt: u32,
    pub verb: String,
    pub ended: Option<jiff::Timestamp>,
    pub outcome: Option<String>,
    pub reason: Option<String>,
}

/// All scheduled runs of a daemon's state.
pub fn rows(folder: &Path, name: &str) -> Vec<Row> {
    let file = folder.join(format!("state-{name}/daemon.sqlite"));
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    let sql =
        "SELECT schedule, instance, due, attempt, verb, ended, outcome, reason FROM runs WHERE schedule IS NOT NULL";
    let mut statement = connection.prepare(sql).unwrap();
    let time = |micros: i64| jiff::Timestamp::from_microsecond(micros).unwrap();
    let rows = statement.query_map([], |row| {
        let instance: String = row.get(1)?;
        Ok(Row {
            schedule: row.get(0)?,
            instance: if instance.is_empty() { "-".to_owned() } else { instance },
            due: time(row.get(2)?).to_string(),
            attempt: row.get(3)?,
            verb: row.get(4)?,
            ended: row.get::<_, Option<i64>>(5)?.map(time),
            outcome: row.get(6)?,
            reason: row.get(7)?,
        })
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}
