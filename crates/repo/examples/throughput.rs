//! Backs up files or folders into a local repository, restores them to nowhere and to a folder, and prints what it
//! took: `cargo run --release -p lifeboat-repo --example throughput -- <repository folder> <path>…`

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
use lifeboat_model::{id::RepositoryId, signature::SigningKey};
use lifeboat_repo::{
    point::PointDetails,
    progress::Silent,
    reader::{Reader, ReaderOptions, Sink, Wanted},
    repository::Repository,
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

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().ok_or("usage: throughput <repository folder> <path>…")?;
    let mut list = Vec::new();
    for path in arguments {
        files(&path, &mut list)?;
    }
    let store = Arc::new(LocalStore::open(&folder.join("repository"), true)?);
    let repository = Repository::init(store, RepositoryId([1; 16]), Timestamp::now()).await?;
    let repo = repository.instance(&"tenant".parse()?, &"instance".parse()?);
    let (recovery, host) = (Identity::generate(), Identity::generate());
    let keys = WriterKeys {
        recipients: vec![recovery.recipient()],
        host,
        signing: SigningKey::from_seed(&[1; 32]),
        trusted: vec![],
    };
    let level = std::env::var("LEVEL").ok().and_then(|level| level.parse().ok()).unwrap_or(3);
    let options = WriterOptions {
        level,
        pack_size: 16 << 20,
        workers: 0,
        uploads: 3,
        cache_dir: folder.join("cache"),
        software: "throughput".into(),
        clock: Arc::new(Timestamp::now),
    };
    let mut point = None;
    let mut bytes = 0;
    for run in ["first", "again"] {
        let began = Instant::now();
        let mut writer = Writer::begin(repo.clone(), keys.clone(), options.clone(), Arc::new(Silent)).await?;
        bytes = back_up(&mut writer, &list).await?;
        let draft = PointDraft { started: Timestamp::now(), details: PointDetails::default(), wal: None };
        let made = writer.commit(draft).await?;
        report(run, bytes, began);
        println!("{:?}", made.header.sizes);
        point = Some(made);
    }
    let point = point.ok_or("no point")?;
    for (what, target) in [("read", None), ("restore", Some(folder.join("restored")))] {
        let began = Instant::now();
        let options = ReaderOptions::default();
        let reader =
            Reader::open(repo.clone(), &point, std::slice::from_ref(&recovery), options, Arc::new(Silent)).await?;
        let sink = Arc::new(Folder(target, Mutex::default()));
        let restored = reader.restore_tree(TreeKind::Database, sink, None).await?;
        report(what, bytes, began);
        println!("{} bytes written, {} fetched, {} damaged", restored.bytes, restored.fetched, restored.damage.len());
    }
    Ok(())
}
