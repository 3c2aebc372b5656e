//! Who runs `pg_dump`: a program on this host, or another layer that has one elsewhere (in a container, for example).
//!
//! It must be of the server's own major version: an older one refuses the server, and what a newer one writes may not go back
//! into that server. No password is ever an argument or in the environment: the program finds it in a file that only this
//! user can read, and that is gone when the dump has ended.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use lifeboat_postgres::{ConnectOptions, TlsMode};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

use super::DumpError;
use crate::error::Result;

/// A program that gives nothing for so long hangs; while tables are copied there is always something to give.
pub const STALL: Duration = Duration::from_secs(30 * 60);

/// How long a table's lock is waited for: longer, and a dump would stand in line before a `VACUUM FULL` for a night.
const LOCK_WAIT: &str = "--lock-wait-timeout=120000";

/// Of the program's standard error, so much is kept for the message.
const WORDS: usize = 4 << 10;

/// Bytes read from the program at a time.
const READ: usize = 256 << 10;

/// The bytes of one dump. The stream's end means that the program has ended well; an error is its last item.
pub type DumpStream = BoxStream<'static, Result<Bytes>>;

/// Runs `pg_dump`, in its own archive format and uncompressed.
#[async_trait::async_trait]
pub trait Dumper: Send + Sync {
    /// What runs, for people: a path or an image.
    fn place(&self) -> &str;

    /// What the program says of itself, for example `pg_dump (PostgreSQL) 17.6`.
    fn version(&self) -> &str;

    /// Begins to dump one database.
    async fn start(&self, database: &str) -> Result<DumpStream>;
}

/// Refuses a program of another major version.
pub fn check_major(dumper: &dyn Dumper, major: u32) -> Result<(), DumpError> {
    if major_of(dumper.version()) == Some(major) {
        return Ok(());
    }
    let (program, version) = (dumper.place().to_owned(), dumper.version().to_owned());
    Err(DumpError::WrongMajor { program, version, major })
}

/// The major version in `pg_dump (PostgreSQL) 17.6 (Debian 17.6-1)`.
pub fn major_of(version: &str) -> Option<u32> {
    let rest = version.split_once("(PostgreSQL)")?.1.trim_start();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The program's arguments, without the program. They hold no secret.
pub fn arguments(options: &ConnectOptions, database: &str) -> Vec<String> {
    let value = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    // As a connection string, so that a database called `a=b` is one.
    let target = format!(
        "host={} port={} user={} dbname={}",
        value(&options.host),
        options.port,
        value(&options.user),
        value(database)
    );
    let mut arguments: Vec<String> =
        ["--format=custom", "--compress=0", "--no-password", LOCK_WAIT, "--dbname"].map(str::to_owned).to_vec();
    arguments.push(target);
    arguments
}

/// What libpq is told by its environment: how the connection is protected, and where files lie.
pub fn environment(options: &ConnectOptions, pass_file: &str, root_cert: Option<&str>) -> Vec<(&'static str, String)> {
    vec![
        ("PGSSLMODE", options.tls.word().to_owned()),
        // Without a file of ours there must be none at all: libpq would verify by one in the home folder.
        ("PGSSLROOTCERT", root_cert.unwrap_or("/nonexistent").to_owned()),
        ("PGGSSENCMODE", "disable".to_owned()),
        ("PGPASSFILE", pass_file.to_owned()),
        ("PGCONNECT_TIMEOUT", options.connect_timeout.as_secs().max(2).to_string()),
        ("PGAPPNAME", format!("{} dump", options.application_name)),
        ("LC_ALL", "C".to_owned()),
    ]
}

/// The line of a password file that fits every server; empty where there is no password.
pub fn pass_line(options: &ConnectOptions) -> String {
    let Some(password) = &options.password else { return String::new() };
    format!("*:*:*:*:{}\n", password.expose().replace('\\', "\\\\").replace(':', "\\:"))
}

/// Files with the authorities that a host trusts, as distributions keep them.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file with the authorities that the server's certificate is verified by; none where it is not verified.
pub fn authorities(options: &ConnectOptions) -> Result<Option<PathBuf>, DumpError> {
    match (options.tls, &options.root_cert) {
        (TlsMode::Disable | TlsMode::Require, _) => Ok(None),
        (_, Some(path)) => Ok(Some(path.clone())),
        (_, None) => {
            let found = BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file());
            let none = || DumpError::NoAuthorities { looked: BUNDLES.map(str::to_owned).to_vec() };
            found.map(Some).ok_or_else(none)
        }
    }
}

/// A `pg_dump` on this host.
pub struct LocalProgram {
    path: PathBuf,
    shown: String,
    version: String,
    options: ConnectOptions,
}

impl LocalProgram {
    /// The program at `path`, whatever its version.
    pub async fn at(path: &Path, options: &ConnectOptions) -> Result<LocalProgram, DumpError> {
        let shown = path.display().to_string();
        let start = |source| DumpError::Start { program: shown.clone(), source };
        let asked = Command::new(path).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
        let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
        let output = timeout(Duration::from_secs(30), asked).await.map_err(late).and_then(|ran| ran).map_err(start)?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if major_of(&version).is_none() {
            return Err(start(std::io::Error::other("it does not say that it is a pg_dump of PostgreSQL")));
        }
        Ok(LocalProgram { path: path.to_owned(), shown, version, options: options.clone() })
    }

    /// Looks in the usual places for one of this major version.
    pub async fn find(major: u32, options: &ConnectOptions) -> Result<LocalProgram, DumpError> {
        let mut looked = Vec::new();
        for place in [
            format!("/usr/lib/postgresql/{major}/bin/pg_dump"),
            format!("/usr/pgsql-{major}/bin/pg_dump"),
            format!("/usr/local/opt/postgresql@{major}/bin/pg_dump"),
            "/usr/local/pgsql/bin/pg_dump".to_owned(),
            "pg_dump".to_owned(), // whatever is on the PATH
        ] {
            match Self::at(Path::new(&place), options).await {
                Ok(program) if major_of(&program.version) == Some(major) => return Ok(program),
                Ok(program) => looked.push(format!("{place}: {}", program.version)),
                Err(_) => looked.push(place),
            }
        }
        Err(DumpError::NoProgram { major, looked })
    }
}

#[async_trait::async_trait]
impl Dumper for LocalProgram {
    fn place(&self) -> &str {
        &self.shown
    }

    fn version(&self) -> &str {
        &self.version
    }

    async fn start(&self, database: &str) -> Result<DumpStream> {
        let pass_file = pass_file(&self.options)?;
        let root_cert = authorities(&self.options)?;
        let root_cert = root_cert.as_ref().map(|path| path.display().to_string());
        let environment = environment(&self.options, &pass_file.path().display().to_string(), root_cert.as_deref());
        let mut child = Command::new(&self.path)
            .args(arguments(&self.options, database))
            // Nothing that libpq would take from here instead: no PGHOST, no PGOPTIONS, no service file, no home.
            .env_clear()
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| DumpError::Start { program: self.shown.clone(), source })?;
        let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(crate::Error::Task("pg_dump was started without its output".to_owned()));
        };
        let running = Running {
            program: self.shown.clone(),
            database: database.to_owned(),
            child,
            output,
            words: tokio::spawn(last_words(errors)),
            _pass_file: pass_file,
        };
        Ok(Box::pin(futures::stream::try_unfold(Some(running), next)))
    }
}

/// A password file that only we can read; removed when it is dropped.
fn pass_file(options: &ConnectOptions) -> Result<NamedTempFile, DumpError> {
    let made = NamedTempFile::with_prefix("lifeboat-pass-").and_then(|mut file| {
        file.write_all(pass_line(options).as_bytes())?;
        Ok(file)
    });
    made.map_err(|source| DumpError::File { action: "write a password file in", path: std::env::temp_dir(), source })
}

struct Running {
    program: String,
    database: String,
    child: Child,
    output: tokio::process::ChildStdout,
    words: JoinHandle<String>,
    _pass_file: NamedTempFile,
}

async fn next(state: Option<Running>) -> Result<Option<(Bytes, Option<Running>)>> {
    let Some(mut running) = state else { return Ok(None) };
    let stalled = |_| DumpError::Stalled { database: running.database.clone(), after: STALL };
    let mut buffer = BytesMut::with_capacity(READ);
    let read = timeout(STALL, running.output.read_buf(&mut buffer)).await.map_err(stalled)?;
    let read = read.map_err(|source| DumpError::Output { program: running.program.clone(), source })?;
    if read > 0 {
        return Ok(Some((buffer.freeze(), Some(running))));
    }
    let ended = timeout(STALL, running.child.wait()).await.map_err(stalled)?;
    let status = ended.map_err(|source| DumpError::Output { program: running.program.clone(), source })?;
    match status.success() {
        true => Ok(None),
        false => Err(failed(running, status).await.into()),
    }
}

async fn failed(running: Running, status: ExitStatus) -> DumpError {
    let words = running.words.await.unwrap_or_default();
    DumpError::Failed { database: running.database, status: status.to_string(), words: one_line(&words) }
}

/// The last lines of a program's words as one.
pub fn one_line(words: &str) -> String {
    let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines[lines.len().saturating_sub(4)..].join(" | ") {
        words if words.is_empty() => "it said nothing".to_owned(),
        words => words,
    }
}

/// Reads to the end, so that the program never waits for a reader, and keeps the end.
async fn last_words(mut errors: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = errors.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        if kept.len() > WORDS {
            kept.drain(..kept.len() - WORDS);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use lifeboat_model::secret::Secret;

    use super::*;

    fn options() -> ConnectOptions {
        let password = Some(Secret::new(r"a:b\c"));
        ConnectOptions { password, ..ConnectOptions::new("db.example", 5432, "o'neil") }
    }

    #[test]
    fn versions() {
        assert_eq!(major_of("pg_dump (PostgreSQL) 17.6 (Debian 17.6-0+deb13u1)"), Some(17));
        assert_eq!(major_of("pg_dump (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_of("mysqldump 8"), None);
    }

    #[test]
    fn no_secret_is_an_argument_or_in_the_environment() {
        let options = options();
        let arguments = arguments(&options, r"a'b\=c").join(" ");
        assert!(arguments.contains(r"user='o\'neil' dbname='a\'b\\=c'"), "{arguments}");
        let environment = format!("{:?}", environment(&options, "/pass", Some("/root.crt")));
        for text in [arguments, environment] {
            assert!(!text.contains("a:b") && !text.contains(r"b\c"), "{text}");
        }
        assert_eq!(pass_line(&options), "*:*:*:*:a\\:b\\\\c\n");
    }

    #[tokio::test]
    async fn a_program_that_fails_is_an_error_after_its_bytes() {
        use futures::StreamExt as _;
        let script = tempfile::tempdir().unwrap();
        let path = script.path().join("pg_dump");
        let text = "#!/bin/sh\n[ \"$1\" = --version ] && echo 'pg_dump (PostgreSQL) 17.1' && exit\n\
                    printf PGDMP; echo 'pg_dump: error: no' >&2; exit 3\n";
        lifeboat_testkit::folder::put_program(&path, text);
        let options = ConnectOptions { tls: TlsMode::Disable, ..options() };
        let program = LocalProgram::at(&path, &options).await.unwrap();
        assert!(check_major(&program, 17).is_ok());
        assert!(matches!(check_major(&program, 16), Err(DumpError::WrongMajor { .. })));
        let mut stream = program.start("x").await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "PGDMP");
        let error = stream.next().await.unwrap().unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("error: no"), "{error}");
        assert!(stream.next().await.is_none());
    }
}
