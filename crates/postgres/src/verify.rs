//! Checks a restored PGDATA before anything runs on it: every file against `backup_manifest`, every page against its own
//! checksum. Each file is read once for both, because reading is half of the cost.
//!
//! What `pg_verifybackup` leaves out is left out: the manifest itself, `pg_wal/`, `postgresql.auto.conf` and the signal
//! files. The page checksums must not be judged for pages that were written while the backup ran: replay mends these.
//!
//! Plain blocking code on a bounded number of threads; async callers put it on a blocking thread.

use std::{
    collections::HashSet,
    fs::{self, File},
    hash::{BuildHasher as _, RandomState},
    io::{self, BufReader, Read as _},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use lifeboat_model::lsn::Lsn;
use serde::{Deserialize, Serialize};

use crate::{
    control::ControlData,
    error::{Error, Result},
    manifest::{self, ManifestFile, Summer},
    pages::{self, BLOCKS_PER_SEGMENT, PAGE, PageState, PagesReport},
};

/// How much is read at once: a whole number of pages.
const BUFFER: usize = 128 * PAGE;
/// Files that wait for a thread.
const QUEUE: usize = 256;
const MAX_EXAMPLES: usize = 20;
const MAX_THREADS: usize = 16;
const IGNORED: [&[u8]; 5] =
    [b"backup_manifest", b"pg_wal", b"postgresql.auto.conf", b"recovery.signal", b"standby.signal"];

/// What to check, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Against `backup_manifest`.
    pub manifest: bool,
    /// The page checksums, where the cluster has them.
    pub pages: bool,
    /// Files or folders, relative to PGDATA, that a restore has changed on purpose.
    pub ignore: Vec<Vec<u8>>,
    /// How many threads read; 0: one for each core.
    pub threads: usize,
    /// Set it to end early, with [`Error::Interrupted`].
    pub interrupt: Arc<AtomicBool>,
}

impl Default for Options {
    fn default() -> Self {
        Options { manifest: true, pages: true, ignore: vec![], threads: 0, interrupt: Arc::default() }
    }
}

/// How often something was found, and the first few places.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// How often.
    pub count: u64,
    /// Where: at most 20.
    pub examples: Vec<String>,
}

impl Findings {
    fn add(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(example());
        }
    }

    fn merge(&mut self, other: Findings) {
        self.count += other.count;
        let room = MAX_EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }
}

/// What comparing a directory with its manifest found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestReport {
    /// Files that the manifest lists.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The cluster, where the manifest names it (17 and later).
    pub system_id: Option<u64>,
    /// The WAL that the backup needs.
    pub wal_ranges: Vec<manifest::WalRange>,
    /// Listed and not there.
    pub missing: Findings,
    /// There and not listed.
    pub extra: Findings,
    /// Of another length.
    pub wrong_size: Findings,
    /// Of the right length with other bytes.
    pub wrong_checksum: Findings,
    /// Listed without a checksum: only their length was compared.
    pub without_checksum: u64,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Absent where it was not asked for.
    pub manifest: Option<ManifestReport>,
    /// Absent where it was not asked for, or the cluster has no page checksums (then `no_page_checksums` is true).
    pub pages: Option<PagesReport>,
    /// The cluster was made without page checksums.
    pub no_page_checksums: bool,
    /// Files that could not be read.
    pub unreadable: Findings,
}

impl Report {
    /// Everything that was looked at is as it should be. It does not say *what* was looked at.
    pub fn is_clean(&self) -> bool {
        let manifest = self.manifest.as_ref().is_none_or(|report| {
            let all = [&report.missing, &report.extra, &report.wrong_size, &report.wrong_checksum];
            all.iter().all(|findings| findings.count == 0)
        });
        let pages = self.pages.as_ref().is_none_or(|report| report.bad.count == 0);
        manifest && pages && self.unreadable.count == 0
    }
}

/// Checks a restored directory.
pub fn restored_dir(pgdata: &Path, options: &Options) -> Result<Report> {
    let has_checksums = ControlData::read(pgdata)?.has_page_checksums();
    let looks_at_pages = options.pages && has_checksums;
    let check = Check {
        pgdata,
        backup_start: backup_start(pgdata)?,
        looks_at_pages,
        interrupt: &options.interrupt,
        ignored: IGNORED.iter().map(|path| path.to_vec()).chain(options.ignore.iter().cloned()).collect(),
    };
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(2, usize::from).min(MAX_THREADS),
        threads => threads.min(MAX_THREADS),
    };
    let (work, receiver) = sync_channel(QUEUE);
    let receiver = Mutex::new(receiver);
    let mut report = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| check.work(&receiver))).collect();
        let led = check.lead(work, options.manifest);
        let mut report = Report::default();
        for worker in workers {
            // A panic in a worker is a defect: it must not look like a clean directory.
            report = merged(report, worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        led.map(|lead| merged(report, lead))
    })?;
    if options.interrupt.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    if !options.manifest {
        report.manifest = None;
    }
    if !looks_at_pages {
        report.pages = None;
    }
    report.no_page_checksums = !has_checksums;
    Ok(report)
}

/// One file to look at.
struct Work {
    path: Vec<u8>,
    /// As the manifest lists it; none where there is no manifest to compare with.
    listed: Option<ManifestFile>,
}

struct Check<'a> {
    pgdata: &'a Path,
    backup_start: Option<Lsn>,
    looks_at_pages: bool,
    interrupt: &'a AtomicBool,
    ignored: Vec<Vec<u8>>,
}

impl Check<'_> {
    /// Finds the files to look at, and hands them to the workers.
    fn lead(&self, work: SyncSender<Work>, with_manifest: bool) -> Result<Report> {
        let mut report = ManifestReport::default();
        let mut listed = HashSet::new();
        let hasher = RandomState::new();
        if with_manifest {
            let path = self.pgdata.join("backup_manifest");
            let file = File::open(&path).map_err(|source| Error::Read { path, source })?;
            let summary = manifest::read(BufReader::new(file), &mut |file| {
                // Only hashes are kept: 8 bytes for each file, whatever its name.
                listed.insert(hasher.hash_one(&file.path));
                if !self.is_ignored(&file.path) {
                    self.send(&work, Work { path: file.path.clone(), listed: Some(file) })?;
                }
                Ok(())
            })?;
            report.files = summary.files;
            report.bytes = summary.bytes;
            report.system_id = summary.system_id;
            report.wal_ranges = summary.wal_ranges;
        }
        self.walk(&mut |path| {
            let is_listed = with_manifest && listed.contains(&hasher.hash_one(&path));
            if with_manifest && !is_listed {
                report.extra.add(|| text(&path));
            }
            let has_pages = self.looks_at_pages && pages::relation_segment(&path).is_some();
            if !is_listed && has_pages {
                self.send(&work, Work { path, listed: None })?;
            }
            Ok(())
        })?;
        Ok(Report { manifest: Some(report), ..Report::default() })
    }

    fn send(&self, work: &SyncSender<Work>, item: Work) -> Result<()> {
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        work.send(item).map_err(|_| Error::Interrupted)
    }

    fn is_ignored(&self, path: &[u8]) -> bool {
        self.ignored.iter().any(|ignored| {
            path.strip_prefix(ignored.as_slice()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    }

    /// All files below PGDATA that are not ignored. Links are followed where PostgreSQL has them: in `pg_tblspc`.
    fn walk(&self, on_file: &mut dyn FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
        let mut folders = vec![Vec::new()];
        while let Some(folder) = folders.pop() {
            let at = self.absolute(&folder);
            let failed = |source: io::Error| Error::Read { path: at.clone(), source };
            for entry in fs::read_dir(&at).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let mut path = folder.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(entry.file_name().as_bytes());
                if self.is_ignored(&path) {
                    continue;
                }
                let mut kind = entry.file_type().map_err(failed)?;
                if kind.is_symlink() && folder == b"pg_tblspc" {
                    kind = fs::metadata(entry.path()).map_err(failed)?.file_type();
                }
                if kind.is_dir() { folders.push(path) } else { on_file(path)? }
            }
        }
        Ok(())
    }

    fn absolute(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() {
            return self.pgdata.to_owned();
        }
        self.pgdata.join(std::ffi::OsString::from_vec(path.to_vec()))
    }

    /// One worker: looks at files until there are no more.
    fn work(&self, receiver: &Mutex<Receiver<Work>>) -> Report {
        let mut report = Report { manifest: Some(ManifestReport::default()), ..Report::default() };
        let mut pages = PagesReport::default();
        let mut buffer = vec![0; BUFFER];
        loop {
            let next = match receiver.lock() {
                Ok(receiver) => receiver.recv(),
                Err(_) => break,
            };
            let Ok(work) = next else { break };
            if !self.interrupt.load(Ordering::Relaxed) {
                self.file(&work, &mut buffer, &mut report, &mut pages);
            }
        }
        report.pages = Some(pages);
        report
    }

    fn file(&self, work: &Work, buffer: &mut [u8], report: &mut Report, pages: &mut PagesReport) {
        let Some(against) = report.manifest.as_mut() else { return };
        let name = || text(&work.path);
        let absolute = self.absolute(&work.path);
        let metadata = match fs::metadata(&absolute) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return against.missing.add(name),
            Err(error) => return report.unreadable.add(|| format!("{}: {error}", name())),
        };
        if !metadata.is_file() {
            return report.unreadable.add(|| format!("{}: not a file", name()));
        }
        if let Some(listed) = work.listed.as_ref().filter(|listed| listed.size != metadata.len()) {
            return against
                .wrong_size
                .add(|| format!("{}: {} bytes, expected {}", name(), metadata.len(), listed.size));
        }
        let expected = work.listed.as_ref().and_then(|listed| listed.checksum.as_ref());
        against.without_checksum += u64::from(work.listed.is_some() && expected.is_none());
        let segment = if self.looks_at_pages { pages::relation_segment(&work.path) } else { None };
        if expected.is_none() && segment.is_none() {
            return;
        }
        let mut summer = Summer::like(expected);
        let mut looker = segment.map(|segment| Looker::new(&work.path, segment, self.backup_start));
        let read = self.read(&absolute, buffer, |bytes| {
            summer.update(bytes);
            if let Some(looker) = &mut looker {
                looker.look(bytes, pages);
            }
        });
        match read {
            Ok(bytes) => report.bytes_read += bytes,
            Err(error) => return report.unreadable.add(|| format!("{}: {error}", name())),
        }
        if let Some(looker) = looker {
            looker.finish(pages);
        }
        if !self.interrupt.load(Ordering::Relaxed) && summer.finish().as_ref() != expected {
            against.wrong_checksum.add(name);
        }
    }

    /// Reads a file in full buffers, but for the last one.
    fn read(&self, path: &Path, buffer: &mut [u8], mut on_bytes: impl FnMut(&[u8])) -> io::Result<u64> {
        let mut file = File::open(path)?;
        let mut total = 0;
        while !self.interrupt.load(Ordering::Relaxed) {
            let mut filled = 0;
            while filled < buffer.len() {
                match file.read(&mut buffer[filled..]) {
                    Ok(0) => break,
                    Ok(len) => filled += len,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            on_bytes(&buffer[..filled]);
            total += filled as u64;
            if filled < buffer.len() {
                break;
            }
        }
        Ok(total)
    }
}

/// Looks at the pages of one file.
struct Looker<'a> {
    path: &'a [u8],
    block: u32,
    backup_start: Option<u64>,
    rest: usize,
}

impl<'a> Looker<'a> {
    fn new(path: &'a [u8], segment: u32, backup_start: Option<Lsn>) -> Self {
        let block = segment.wrapping_mul(BLOCKS_PER_SEGMENT);
        Looker { path, block, backup_start: backup_start.map(|lsn| lsn.0), rest: 0 }
    }

    fn look(&mut self, bytes: &[u8], report: &mut PagesReport) {
        let (pages, rest) = bytes.as_chunks::<PAGE>();
        self.rest = rest.len();
        for page in pages {
            let (path, block) = (self.path, self.block);
            self.block = block.wrapping_add(1);
            match pages::look(page, block, self.backup_start) {
                PageState::Good => report.checked += 1,
                PageState::New => report.new += 1,
                PageState::Newer => report.newer += 1,
                PageState::Bad { found, computed } => {
                    report.checked += 1;
                    report
                        .bad
                        .add(|| format!("{} block {block}: checksum {found:04x}, computed {computed:04x}", text(path)));
                }
                PageState::NotEmpty => {
                    report.checked += 1;
                    report.bad.add(|| format!("{} block {block}: marked as new, but not empty", text(path)));
                }
            }
        }
    }

    fn finish(self, report: &mut PagesReport) {
        report.files += 1;
        if self.rest != 0 {
            report.partial.add(|| format!("{}: {} bytes after block {}", text(self.path), self.rest, self.block));
        }
    }
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn merged(mut one: Report, other: Report) -> Report {
    one.bytes_read += other.bytes_read;
    one.unreadable.merge(other.unreadable);
    one.manifest = Some(match (one.manifest, other.manifest) {
        (Some(mut one), Some(other)) => {
            one.files += other.files;
            one.bytes += other.bytes;
            one.system_id = one.system_id.or(other.system_id);
            one.wal_ranges.extend(other.wal_ranges);
            one.missing.merge(other.missing);
            one.extra.merge(other.extra);
            one.wrong_size.merge(other.wrong_size);
            one.wrong_checksum.merge(other.wrong_checksum);
            one.without_checksum += other.without_checksum;
            one
        }
        (one, other) => one.or(other).unwrap_or_default(),
    });
    one.pages = Some(match (one.pages, other.pages) {
        (Some(mut one), Some(other)) => {
            one.files += other.files;
            one.checked += other.checked;
            one.new += other.new;
            one.newer += other.newer;
            one.bad.merge(other.bad);
            one.partial.merge(other.partial);
            one
        }
        (one, other) => one.or(other).unwrap_or_default(),
    });
    one
}

/// Where the WAL of the backup starts, by its label; none in a directory that has run since.
fn backup_start(pgdata: &Path) -> Result<Option<Lsn>> {
    let path = pgdata.join("backup_label");
    let label = match fs::read(&path) {
        Ok(label) => label,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { path, source }),
    };
    let label = String::from_utf8_lossy(&label);
    let line = label.lines().find_map(|line| line.strip_prefix("START WAL LOCATION: "));
    let lsn = line.and_then(|line| line.split(' ').next()).and_then(|lsn| lsn.parse().ok());
    let reason = || format!("{}: no START WAL LOCATION", path.display());
    lsn.map(Some).ok_or_else(|| Error::Invalid { what: "backup_label", reason: reason() })
}
