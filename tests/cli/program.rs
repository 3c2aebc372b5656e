//! Runs the built binary in a folder of its own.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// A folder, and the program in it.
pub struct Program {
    folder: tempfile::TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// In an empty folder.
    pub fn new() -> Program {
        Program { folder: tempfile::tempdir().unwrap() }
    }

    /// In a folder with a configuration and keys as `lifeboat init` makes them.
    pub fn initialised() -> Program {
        let program = Program::new();
        program.run("init --tenant hospital --instance clinic --state-dir state").expect(0);
        program
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file (mode 0600) in the folder.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A file's text.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Changes the configuration; `from` must be there.
    pub fn edit(&self, from: &str, to: &str) {
        let text = self.read("lifeboat.toml");
        assert!(text.contains(from), "{from:?} is not in lifeboat.toml");
        self.write("lifeboat.toml", text.replacen(from, to, 1));
    }

    /// Runs `lifeboat` with these words.
    pub fn run(&self, words: &str) -> Ended {
        self.run_with(&words.split_whitespace().collect::<Vec<_>>(), &[])
    }

    /// Runs `lifeboat` with these arguments and environment.
    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
        let output = Command::new(env!("CARGO_BIN_EXE_lifeboat"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Text with everything that differs from run to run replaced.
    pub fn stable(&self, text: &str) -> String {
        let text = text.replace(&*self.folder.path().to_string_lossy(), "DIR");
        text.split_inclusive(|c: char| c.is_whitespace() || c == '"' || c == ',').map(stable_word).collect()
    }
}

/// Keys and digests are random; what kind they are is not.
fn stable_word(word: &str) -> String {
    let core = word.trim_end_matches(|c: char| c.is_whitespace() || c == '"' || c == ',');
    let rest = &word[core.len()..];
    let is_hex = |length| core.len() == length && core.bytes().all(|c| c.is_ascii_hexdigit());
    match core {
        _ if core.starts_with("age1") && core.len() == 62 => format!("age1…{rest}"),
        _ if core.starts_with("lifeboat-ed25519:") && core.len() == 61 => format!("lifeboat-ed25519:…{rest}"),
        _ if is_hex(64) => format!("SHA-256{rest}"),
        _ => word.to_owned(),
    }
}

impl Ended {
    /// Fails unless the run ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ended {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The JSON document on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// Every path of a JSON document with the type at its end: its shape, whatever the values are.
pub fn shape(value: &Value) -> String {
    let mut lines = Vec::new();
    collect(value, String::new(), &mut lines);
    lines.dedup();
    lines.join("\n")
}

fn collect(value: &Value, path: String, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| collect(value, format!("{path}.{name}"), lines))
        }
        Value::Array(items) if !items.is_empty() => collect(&items[0], format!("{path}[]"), lines),
        Value::Array(_) => lines.push(format!("{path}[]")),
        Value::String(_) => lines.push(format!("{path}: text")),
        Value::Number(_) => lines.push(format!("{path}: number")),
        Value::Bool(_) => lines.push(format!("{path}: bool")),
        Value::Null => lines.push(format!("{path}: null")),
    }
}

/// The mode of a file or folder.
pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
