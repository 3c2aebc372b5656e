//! The journal of a run, or of an incident, as a file: a line of JSON for each [`Line`], durable before the next thing is done.
//!
//! Each line names the SHA-256 of the line before it, so that a journal that somebody has changed, cut in its middle or put together is
//! no journal. A last line without its end was being written when the machine died: what it would have said was not relied on, and
//! it is removed. One executor has the file at a time. The texts of lines are the same wherever they lie, so a file can be made of
//! what another host has kept elsewhere ([`Chain::adopt`]).

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    marker::PhantomData,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::{
    event::{Event, Line},
    execute::Journal,
};

/// Of the line before the first.
const NONE: &str = "";
/// Longer than any run: what is longer is no journal.
const LONGEST: u64 = 256 << 20;

/// A line as it stands in the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "E: Serialize", deserialize = "E: DeserializeOwned"))]
struct Stored<E> {
    /// SHA-256 of the line before, without its line end, in hexadecimal; empty in the first.
    before: String,
    #[serde(flatten)]
    line: Line<E>,
}

/// Why a journal cannot be used.
#[derive(Debug)]
pub enum Unusable {
    /// The file system says no.
    Io(PathBuf, io::Error),
    /// Another executor has it.
    Busy(PathBuf),
    /// It is not what an executor wrote.
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        number: u64,
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Unusable::Busy(path) => write!(f, "{}: another process executes this run", path.display()),
            Unusable::Damaged { path, number, why } => write!(f, "{}:{number}: {why}", path.display()),
        }
    }
}

impl std::error::Error for Unusable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Unusable::Io(_, error) => Some(error),
            Unusable::Busy(_) | Unusable::Damaged { .. } => None,
        }
    }
}

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The journal of a run in a file.
pub type FileJournal = Chain<Event>;

/// A journal in a file, of whatever happens.
pub struct Chain<E> {
    file: Arc<File>,
    path: PathBuf,
    /// User and host of the executor.
    who: String,
    clock: Clock,
    number: u64,
    before: String,
    of: PhantomData<fn(E)>,
}

/// What was read of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<E> {
    /// The lines.
    pub lines: Vec<Line<E>>,
    /// SHA-256 of the last, in hexadecimal: as each names the one before it, it is that of them all. Empty without any.
    pub head: String,
    /// Their length in the file.
    whole: u64,
}

impl<E: Serialize + DeserializeOwned + Send + Sync> Chain<E> {
    /// A new one; the file must not be there.
    pub fn create(path: &Path, who: &str, clock: Clock) -> Result<Self, Unusable> {
        let failed = |error| Unusable::Io(path.to_owned(), error);
        let file =
            OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        lock(&file, path)?;
        // A file that is not in its folder after a crash was never there.
        sync_folder(path).map_err(failed)?;
        let (file, path, who) = (Arc::new(file), path.to_owned(), who.to_owned());
        Ok(Chain { file, path, who, clock, number: 0, before: NONE.into(), of: PhantomData })
    }

    /// One that is there, to be gone on with, and its lines.
    pub fn open(path: &Path, who: &str, clock: Clock) -> Result<(Self, Vec<Line<E>>), Unusable> {
        let failed = |error| Unusable::Io(path.to_owned(), error);
        let mut file = OpenOptions::new().read(true).append(true).open(path).map_err(failed)?;
        lock(&file, path)?;
        let Read { lines, head, whole } = read(&mut file, path)?;
        if file.metadata().map_err(failed)?.len() > whole {
            file.set_len(whole).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        let (number, file, path, who) = (lines.len() as u64, Arc::new(file), path.to_owned(), who.to_owned());
        Ok((Chain { file, path, who, clock, number, before: head, of: PhantomData }, lines))
    }

    /// The lines of a journal, whoever is writing it.
    pub fn look(path: &Path) -> Result<Vec<Line<E>>, Unusable> {
        Self::read(path).map(|read| read.lines)
    }

    /// The same, and the digest over all of them.
    pub fn read(path: &Path) -> Result<Read<E>, Unusable> {
        let mut file = File::open(path).map_err(|error| Unusable::Io(path.to_owned(), error))?;
        read(&mut file, path)
    }

    /// The texts of the lines of a file, without their ends.
    pub fn texts(path: &Path) -> Result<Vec<Vec<u8>>, Unusable> {
        let mut file = File::open(path).map_err(|error| Unusable::Io(path.to_owned(), error))?;
        let whole = read::<E>(&mut file, path)?.whole;
        let mut bytes = Vec::new();
        let again = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(whole).read_to_end(&mut bytes));
        again.map_err(|error| Unusable::Io(path.to_owned(), error))?;
        Ok(bytes
            .split_inclusive(|byte| *byte == b'\n')
            .filter_map(|text| text.strip_suffix(b"\n"))
            .map(<[u8]>::to_vec)
            .collect())
    }

    /// Reads the texts of lines, as they are kept elsewhere; `place` is where, for errors.
    pub fn check<T: AsRef<[u8]>>(texts: &[T], place: &Path) -> Result<Read<E>, Unusable> {
        let mut reader = Reader::new(place);
        texts.iter().try_for_each(|text| reader.take(text.as_ref()))?;
        Ok(reader.read)
    }

    /// Makes the file of a journal of such texts, whole or not at all; the file must not be there.
    pub fn adopt<T: AsRef<[u8]>>(path: &Path, texts: &[T]) -> Result<(), Unusable> {
        let failed = |error| Unusable::Io(path.to_owned(), error);
        Self::check(texts, path)?;
        let draft = path.with_extension("draft");
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft);
        let mut file = written.map_err(failed)?;
        for text in texts {
            file.write_all(text.as_ref()).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        // Unlike a renaming, this takes no other file's place.
        let linked = fs::hard_link(&draft, path);
        fs::remove_file(&draft).map_err(failed)?;
        linked.and_then(|()| sync_folder(path)).map_err(failed)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many lines it has.
    pub fn lines(&self) -> u64 {
        self.number
    }

    /// SHA-256 of its last line, in hexadecimal; empty without any.
    pub fn head(&self) -> &str {
        &self.before
    }

    /// Writes a line; `who` is whoever said it, none for the executor itself. It is durable then.
    pub async fn add(&mut self, who: Option<&str>, event: E) -> Result<Line<E>, String> {
        let at = (self.clock)();
        self.add_at(at, who, event).await
    }

    /// The same of what was said earlier, and could not be written then.
    pub async fn add_at(&mut self, at: Timestamp, who: Option<&str>, event: E) -> Result<Line<E>, String> {
        let line = Line { number: self.number + 1, at, who: who.unwrap_or(&self.who).to_owned(), event };
        let stored = Stored { before: self.before.clone(), line };
        let text = serde_json::to_string(&stored).map_err(|error| error.to_string())?;
        let digest = digest(text.as_bytes());
        let file = Arc::clone(&self.file);
        let written = tokio::task::spawn_blocking(move || {
            (&*file).write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_data())
        });
        let written = written.await.map_err(|error| error.to_string())?;
        written.map_err(|error| format!("cannot write {}: {error}", self.path.display()))?;
        (self.number, self.before) = (stored.line.number, digest);
        Ok(stored.line)
    }
}

#[async_trait]
impl Journal for FileJournal {
    async fn append(&mut self, who: Option<&str>, event: Event) -> Result<Line, String> {
        self.add(who, event).await
    }
}

fn digest(text: &[u8]) -> String {
    hex::encode(Sha256::digest(text))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder).and_then(|folder| folder.sync_all()))
}

fn lock(file: &File, path: &Path) -> Result<(), Unusable> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Unusable::Busy(path.to_owned()),
        TryLockError::Error(error) => Unusable::Io(path.to_owned(), error),
    })
}

/// Takes line by line what must follow from each other.
struct Reader<'p, E> {
    path: &'p Path,
    read: Read<E>,
}

impl<'p, E: DeserializeOwned> Reader<'p, E> {
    fn new(path: &'p Path) -> Self {
        Reader { path, read: Read { lines: Vec::new(), head: NONE.to_owned(), whole: 0 } }
    }

    fn take(&mut self, text: &[u8]) -> Result<(), Unusable> {
        let number = self.read.lines.len() as u64 + 1;
        let damaged = |why: String| Unusable::Damaged { path: self.path.to_owned(), number, why };
        let stored: Stored<E> =
            serde_json::from_slice(text).map_err(|error| damaged(format!("no line of a journal: {error}")))?;
        if stored.before != self.read.head || stored.line.number != number {
            return Err(damaged("does not follow the line before it: the journal was changed".to_owned()));
        }
        self.read.whole += text.len() as u64 + 1;
        self.read.head = digest(text);
        self.read.lines.push(stored.line);
        Ok(())
    }
}

fn read<E: DeserializeOwned>(file: &mut File, path: &Path) -> Result<Read<E>, Unusable> {
    let failed = |error| Unusable::Io(path.to_owned(), error);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        let why = format!("is longer than {LONGEST} bytes: no journal");
        return Err(Unusable::Damaged { path: path.to_owned(), number: 1, why });
    }
    let mut reader = Reader::new(path);
    for text in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(text) = text.strip_suffix(b"\n") else { break };
        reader.take(text)?;
    }
    Ok(reader.read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        Arc::new(|| Timestamp::UNIX_EPOCH)
    }

    async fn three(path: &Path) {
        let mut journal = FileJournal::create(path, "root@rescue", clock()).unwrap();
        for step in ["one", "two", "three"] {
            let event = Event::Started { step: step.into(), attempt: 1 };
            journal.append((step == "two").then_some("ann"), event).await.unwrap();
        }
    }

    fn steps(lines: &[Line]) -> Vec<&str> {
        lines.iter().filter_map(|line| line.event.step()).collect()
    }

    #[tokio::test]
    async fn lines_come_back_and_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        three(&path).await;
        let (mut journal, lines) = FileJournal::open(&path, "eve@other", clock()).unwrap();
        assert_eq!(steps(&lines), ["one", "two", "three"]);
        assert_eq!(
            lines.iter().map(|line| line.who.as_str()).collect::<Vec<_>>(),
            ["root@rescue", "ann", "root@rescue"]
        );
        assert_eq!(journal.append(None, Event::Resumed).await.unwrap().number, 4);
        assert!(matches!(FileJournal::open(&path, "eve@other", clock()), Err(Unusable::Busy(_))));
        assert!(matches!(FileJournal::create(&path, "eve@other", clock()), Err(Unusable::Io(..))));
        assert_eq!(FileJournal::look(&path).unwrap().len(), 4, "looking needs no lock");
    }

    /// Cut at any byte, as by a power cut: the lines that are whole are there, and it can be gone on with.
    #[tokio::test]
    async fn cut_anywhere_it_is_a_shorter_journal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        three(&path).await;
        let whole = fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let (mut journal, lines) = FileJournal::open(&path, "root@rescue", clock()).unwrap();
            let ends = whole[..length].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(lines.len(), ends, "{length}");
            journal.append(None, Event::Resumed).await.unwrap();
            drop(journal);
            assert_eq!(FileJournal::look(&path).unwrap().len(), ends + 1, "{length}");
        }
    }

    /// Texts that were kept elsewhere make the same file, and never in another's place.
    #[tokio::test]
    async fn a_journal_can_be_adopted() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("run.jsonl"), folder.path().join("other.jsonl"));
        three(&path).await;
        let bytes = fs::read(&path).unwrap();
        let texts: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()).collect();
        FileJournal::adopt(&other, &texts).unwrap();
        assert_eq!(fs::read(&other).unwrap(), bytes);
        let (journal, lines) = FileJournal::open(&other, "eve@other", clock()).unwrap();
        assert_eq!((journal.lines(), lines.len()), (3, 3));
        assert_eq!(journal.head(), FileJournal::check(&texts, &path).unwrap().head);
        assert!(matches!(FileJournal::adopt(&other, &texts[..1]), Err(Unusable::Io(..))), "it is there");
        let bad = folder.path().join("bad.jsonl");
        assert!(matches!(FileJournal::adopt(&bad, &texts[1..]), Err(Unusable::Damaged { .. })) && !bad.exists());
    }

    #[tokio::test]
    async fn what_was_changed_is_no_journal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        three(&path).await;
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let changes = [
            text.replacen("\"one\"", "\"own\"", 1),
            format!("{}\n{}\n", lines[0], lines[2]),
            format!("{}\n{}\n{}\n", lines[1], lines[0], lines[2]),
            format!("{}\n\n{}\n", lines[0], lines[1]),
            format!("{}\n", lines[1]),
        ];
        for changed in changes {
            fs::write(&path, &changed).unwrap();
            let refused = FileJournal::look(&path).unwrap_err();
            assert!(matches!(refused, Unusable::Damaged { .. }), "{changed}: {refused}");
        }
    }
}
