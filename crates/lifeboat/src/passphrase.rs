//! Passphrases of identity files: from a file, else typed on the terminal without echo. Never from an argument, where
//! every user of the machine could read them.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use lifeboat_engine::keys::{KeyError, identity::Unlock, read_secret_file};
use lifeboat_model::secret::Secret;
use lifeboat_repo::seal::Ask;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use zeroize::Zeroizing;

const TERMINAL: &str = "/dev/tty";
/// No passphrase is longer; what is typed is kept in memory of this size, so that it never moves.
const LONGEST: usize = 1024;
const INTERRUPT: u8 = 3;
const END: u8 = 4;
/// Why there is no passphrase: Ctrl-C. The run then ends as by any other Ctrl-C.
pub const INTERRUPTED: &str = "stopped by Ctrl-C";
const BACKSPACE: [u8; 2] = [8, 127];

/// Where passphrases come from.
pub struct Passphrases {
    file: Option<PathBuf>,
    /// A pipe can be read once.
    read: Mutex<Option<Secret>>,
}

impl Passphrases {
    /// From this file, else from whoever sits there.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file, read: Mutex::default() }
    }

    /// A new passphrase: typed twice where it is typed.
    pub fn new_one(&self, what: &str) -> Result<Secret, KeyError> {
        let path = PathBuf::from(what);
        if self.file.is_some() {
            return self.passphrase(&path);
        }
        let ask = |prompt: &str| read_hidden(prompt).map_err(|reason| KeyError::Locked { path: path.clone(), reason });
        let first = ask(&format!("New passphrase for {what}: "))?;
        let again = ask("The same again: ")?;
        if first.expose() != again.expose() {
            return Err(KeyError::Locked { path, reason: "the two are not the same; nothing was written" });
        }
        Ok(first)
    }

    fn in_file(&self, file: &Path) -> Result<Secret, KeyError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(secret) = &*read {
            return Ok(secret.clone());
        }
        let whole = read_secret_file(file)?;
        let line = Secret::new(whole.expose().lines().next().unwrap_or_default());
        *read = Some(line.clone());
        Ok(line)
    }
}

impl Unlock for Passphrases {
    fn passphrase(&self, path: &Path) -> Result<Secret, KeyError> {
        match &self.file {
            Some(file) => self.in_file(file),
            None => read_hidden(&format!("Passphrase for {}: ", path.display()))
                .map_err(|reason| KeyError::Locked { path: path.to_owned(), reason }),
        }
    }

    fn ask(&self) -> Arc<dyn Ask> {
        Arc::new(Terminal)
    }
}

/// The person at the terminal, for plugins.
struct Terminal;

impl Ask for Terminal {
    fn show(&self, message: &str) {
        if let Ok(mut terminal) = open() {
            let _ = writeln!(terminal, "{}", printable(message)); // the plugin goes on by itself
        }
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        let no = no.unwrap_or("no");
        let answer = read_line(&format!("{} [y: {}, n: {}] ", printable(message), printable(yes), printable(no)))?;
        Some(answer.trim().eq_ignore_ascii_case("y"))
    }

    fn text(&self, what: &str) -> Option<String> {
        read_line(&format!("{}: ", printable(what)))
    }

    fn secret(&self, what: &str) -> Option<Secret> {
        read_hidden(&format!("{}: ", printable(what))).ok()
    }
}

/// A plugin's words, without what could steer the terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(TERMINAL)
}

fn read_line(prompt: &str) -> Option<String> {
    let mut terminal = open().ok()?;
    write!(terminal, "{prompt}").ok()?;
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.len() < LONGEST && terminal.read(&mut byte).ok()? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).ok()
}

/// Reads what is typed without showing it. Ctrl-C and Ctrl-D end it, and the terminal is left as it was.
fn read_hidden(prompt: &str) -> Result<Secret, &'static str> {
    const NOBODY: &str = "there is no terminal to ask on; give it with --passphrase-file FILE (or /dev/fd/N)";
    let file = open().map_err(|_| NOBODY)?;
    let hidden = Hidden::begin(&file).map_err(|_| NOBODY)?;
    let mut terminal = &file;
    write!(terminal, "{prompt}").map_err(|_| NOBODY)?;
    let typed = type_in(terminal);
    drop(hidden);
    let _ = writeln!(terminal); // the end of the line was not shown either
    let typed = typed?;
    let text = std::str::from_utf8(&typed).map_err(|_| "what was typed is no text")?;
    Ok(Secret::new(text))
}

fn type_in(mut terminal: &File) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    const NONE: &str = "none was typed";
    let mut typed = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut byte = Zeroizing::new([0]);
    while terminal.read(&mut *byte).map_err(|_| NONE)? == 1 {
        match byte[0] {
            b'\n' | b'\r' => return Ok(typed),
            INTERRUPT => return Err(INTERRUPTED),
            END => return Err(NONE),
            key if BACKSPACE.contains(&key) => {
                while typed.pop().is_some_and(|last| last & 0xc0 == 0x80) {} // a whole character
            }
            key if typed.len() < LONGEST => typed.push(key),
            _ => return Err("it is too long"),
        }
    }
    Err(NONE)
}

/// The terminal without echo, until dropped.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn begin(terminal: &'a File) -> rustix::io::Result<Self> {
        let before = termios::tcgetattr(terminal)?;
        let mut quiet = before.clone();
        // Ctrl-C is read as a key, so that the echo comes back before anything ends.
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        termios::tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom};

    use super::*;

    fn typed(keys: &[u8]) -> Result<String, &'static str> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(keys).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        type_in(&file).map(|typed| String::from_utf8(typed.to_vec()).unwrap())
    }

    #[test]
    fn keys_are_taken_as_a_terminal_sends_them() {
        assert_eq!(typed(b"secret\nmore"), Ok("secret".to_owned()));
        assert_eq!(typed("se\u{e9}\u{7f}\u{8}ecret\r".as_bytes()), Ok("secret".to_owned()));
        assert_eq!(typed(b"sec\x03ret\n"), Err(INTERRUPTED));
        for (keys, reason) in [(&b"sec\x04ret\n"[..], "none was typed"), (b"secret", "none was typed")] {
            assert_eq!(typed(keys), Err(reason));
        }
        assert_eq!(typed(&[b'a'; LONGEST + 1]), Err("it is too long"));
    }
}
