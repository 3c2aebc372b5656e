//! Speed and memory of the stored format on a local folder. One process a phase, so that each shows its own peak:
//! `throughput <folder> <path>…` backs the paths up twice, `throughput <folder>` then restores them, to nowhere and to
//! `<folder>/restored`.

#![allow(clippy::print_stdout)]

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Instant,
};

use jiff::Timestamp;
use lifeboat_model::{id::RepositoryId, secret::Secret, signature::SigningKey};
use lifeboat_repo::{
    point::{PointDetails, PointSelector},
    progress::Silent,
    reader::{Reader, ReaderOptions, Sink, Wanted},
    repository::{InstanceRepo, Repository},
    seal::Identity,
    tree::{Entry, EntryKind, TreeKind},
    writer::{Chunking, Finish, PointDraft, Writer, WriterKeys, WriterOptions},
};
use lifeboat_store::local::LocalStore;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Creates files; `None`: forgets them.
struct Folder(Option<PathBuf>, Mutex<HashMap<Vec<u8>, Arc<File>>>);

impl Folder {
    fn file(&self, path: &[u8], root: &Path) -> io::Result<Arc<File>> {
        if let Some(file) = self.1.lock().expect("no panic").get(path) {
            return Ok(file.clone());
        }
        let target = root.join(String::from_utf8_lossy(path).trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("inside the folder"))?;
        let file = Arc::new(File::create(target)?);
        self.1.lock().expect("no panic").insert(path.to_vec(), file.clone());
        Ok(file)
    }
}

impl Sink for Folder {
    fn begin(&self, _: &Entry) -> io::Result<Wanted> {
        Ok(Wanted::All)
    }

    fn write(&self, path: &[u8], offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |root| self.file(path, root)?.write_all_at(bytes, offset))
    }

    fn end(&self, entry: &Entry) -> io::Result<()> {
        if let (Some(root), EntryKind::File { size, .. }) = (&self.0, &entry.kind) {
            self.file(&entry.path, root)?.set_len(*size)?;
            self.1.lock().expect("no panic").remove(&entry.path);
        }
        Ok(())
    }
}

fn files(path: &Path, list: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        let mut names: Vec<PathBuf> =
            fs::read_dir(path)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>()?;
        names.sort();
        return names.iter().try_for_each(|name| files(name, list));
    }
    list.push(path.to_owned());
    Ok(())
}

fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) >> 10
}

fn report(what: &str, bytes: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let speed = bytes as f64 / 1e6 / seconds;
    println!("{what:<10} {seconds:7.2} s  {speed:8.1} MB/s  peak {} MiB", peak_mib());
}

async fn back_up(writer: &mut Writer, list: &[PathBuf]) -> Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    writer.begin_tree(TreeKind::Database).await?;
    for path in list {
        let mut file = File::open(path)?;
        let kind = EntryKind::File { size: 0, extents: Vec::new() };
        let name = path.to_string_lossy().trim_start_matches('/').as_bytes().to_vec();
        let chunking = if file.metadata()?.len() > 4 << 20 { Chunking::RELATION } else { Chunking::DOCUMENT };
        writer.begin_file(Entry { path: name, kind, ..Entry::default() }, chunking).await?;
        loop {
            let len = file.read(&mut buffer)?;
            if len == 0 {
                break;
            }
            bytes += len as u64;
            writer.data_from(&buffer[..len]).await?;
        }
        writer.end_file(Finish::default()).await?;
    }
    let stats = writer.end_tree().await?;
    println!("{stats:?}");
    Ok(bytes)
}

/// The keys of the example, kept beside its repository.
fn keys(folder: &Path) -> Result<(Identity, Identity)> {
    let key = |name: &str| -> Result<Identity> {
        let path = folder.join(name);
        if !path.exists() {
            fs::write(&path, Identity::generate().to_secret_text().expose())?;
        }
        Ok(Identity::from_secret_text(&Secret::new(fs::read_to_string(path)?))?)
    };
    Ok((key("recovery")?, key("host")?))
}

async fn back_up_twice(folder: &Path, repo: &InstanceRepo, list: &[PathBuf]) -> Result<()> {
    let (recovery, host) = keys(folder)?;
    let signing = SigningKey::from_seed(&[1; 32]);
    let keys = WriterKeys { recipients: vec![recovery.recipient()], host, signing, trusted: vec![] };
    let options = WriterOptions {
        level: std::env::var("LEVEL").ok().and_then(|level| level.parse().ok()).unwrap_or(3),
        pack_size: 16 << 20,
        workers: 0,
        uploads: 3,
        cache_dir: folder.join("cache"),
        software: "throughput".into(),
        clock: Arc::new(Timestamp::now),
    };
    for run in ["first", "again"] {
        let began = Instant::now();
        let mut writer = Writer::begin(repo.clone(), keys.clone(), options.clone(), Arc::new(Silent)).await?;
        let bytes = back_up(&mut writer, list).await?;
        let draft = PointDraft { started: Timestamp::now(), details: PointDetails::default(), wal: None };
        let made = writer.commit(draft).await?;
        report(run, bytes, began);
        println!("{:?}", made.header.sizes);
    }
    Ok(())
}

async fn restore(folder: &Path, repo: &InstanceRepo) -> Result<()> {
    let (recovery, _) = keys(folder)?;
    let point = repo.find_point(&PointSelector::Latest, &[SigningKey::from_seed(&[1; 32]).public()]).await?;
    for (what, target) in [("read", None), ("restore", Some(folder.join("restored")))] {
        let began = Instant::now();
        let options = ReaderOptions::default();
        let identities = std::slice::from_ref(&recovery);
        let reader = Reader::open(repo.clone(), &point, identities, options, Arc::new(Silent)).await?;
        let sink = Arc::new(Folder(target, Mutex::default()));
        let restored = reader.restore_tree(TreeKind::Database, sink, None).await?;
        report(what, restored.bytes, began);
        println!("{} bytes written, {} fetched, {} damaged", restored.bytes, restored.fetched, restored.damage.len());
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().ok_or("usage: throughput <folder> [<path>…]")?;
    let mut list = Vec::new();
    for path in arguments {
        files(&path, &mut list)?;
    }
    let store = Arc::new(LocalStore::open(&folder.join("repository"), true)?);
    let repository = Repository::init(store, RepositoryId([1; 16]), Timestamp::now()).await?;
    let repo = repository.instance(&"tenant".parse()?, &"instance".parse()?);
    if list.is_empty() { restore(&folder, &repo).await } else { back_up_twice(&folder, &repo, &list).await }
}
