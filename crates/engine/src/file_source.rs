//! The filestore and the configuration, captured into trees of a point.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
    process::Stdio,
};

use bytes::{Bytes, BytesMut};
use lifeboat_model::config::{ConfigCommand, ConfigSources};
use lifeboat_repo::{
    tree::{Entry, EntryKind, TreeKind},
    writer::{Chunking, Finish, TreeStats, Writer},
};
use tokio::{io::AsyncReadExt as _, process::Command, sync::mpsc};

use crate::{
    details::SourceNotes,
    error::{Error, Result},
    files::{
        tree_order,
        walk::{Captured, Previous, Walk, WalkError},
    },
};

/// Items between the walking thread and the writer; with reads of 256 KiB this bounds what waits to 16 MiB.
const QUEUE: usize = 64;

/// Entries of the previous tree sent to the walk at a time.
const BATCH: usize = 256;

/// Kept output of a command may not grow beyond this.
const MOST_OUTPUT: u64 = 256 << 20;

/// Links named one by one; their number is always told.
const NAMED_LINKS: usize = 20;

/// Captures a filestore folder. Odoo makes no links in it: where there is one, what it leads to is not covered.
pub async fn filestore(writer: &mut Writer, root: &Path, notes: &mut SourceNotes) -> Result<TreeStats> {
    let root = root.to_owned();
    writer.begin_tree(TreeKind::Filestore).await?;
    capture(writer, TreeKind::Filestore, notes, move |walk| walk.tree(&root)).await?;
    Ok(writer.end_tree().await?)
}

/// Captures configured paths and the output of configured commands.
pub async fn config(writer: &mut Writer, sources: &ConfigSources, notes: &mut SourceNotes) -> Result<TreeStats> {
    writer.begin_tree(TreeKind::Config).await?;
    writer.entry(made_folder(b"commands")).await?;
    for command in &sources.commands {
        keep_output(writer, command, notes).await?;
    }
    writer.entry(made_folder(b"paths")).await?;
    let mut paths = sources.paths.clone();
    paths.sort_by(|a, b| tree_order(&stored_path(a), &stored_path(b)));
    for path in &paths {
        if let Ok(target) = fs::read_link(path) {
            let remark = format!(
                "{} is a link to {}: only the link is kept, name the target in config.paths too",
                path.display(),
                target.display()
            );
            notes.remarks.push(remark);
        }
    }
    capture(writer, TreeKind::Config, notes, move |walk| walk_paths(walk, &paths)).await?;
    Ok(writer.end_tree().await?)
}

/// Each path with the folders above it, in tree order, nothing twice.
fn walk_paths(walk: &mut Walk, paths: &[PathBuf]) -> std::result::Result<(), WalkError> {
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    let mut captured: Vec<&PathBuf> = Vec::new();
    for path in paths {
        if captured.iter().any(|done| path.starts_with(done)) {
            continue;
        }
        let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|folder| folder.parent().is_some()).collect();
        above.reverse();
        for folder in above {
            if folders.insert(folder.to_owned()) {
                walk.directory(folder, &stored_path(folder))?;
            }
        }
        // A configured path that is not there is a mistake to mend, not a file that happened to vanish.
        fs::symlink_metadata(path).map_err(|source| WalkError::Unreadable { path: path.clone(), source })?;
        walk.subtree(path, &stored_path(path))?;
        captured.push(path);
    }
    Ok(())
}

/// `/etc/odoo` is kept as `paths/etc/odoo`, also where it is written as `/etc//odoo/`.
fn stored_path(path: &Path) -> Vec<u8> {
    let mut stored = b"paths".to_vec();
    for part in path.components() {
        if let Component::Normal(name) = part {
            stored.push(b'/');
            stored.extend_from_slice(name.as_bytes());
        }
    }
    stored
}

fn made_folder(path: &[u8]) -> Entry {
    made(path, EntryKind::Directory, 0o755)
}

fn made(path: &[u8], kind: EntryKind, mode: u32) -> Entry {
    Entry {
        path: path.to_owned(),
        kind,
        mode,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        ..Entry::default()
    }
}

/// Walks on a blocking thread and feeds the writer.
async fn capture(
    writer: &mut Writer,
    kind: TreeKind,
    notes: &mut SourceNotes,
    work: impl FnOnce(&mut Walk) -> std::result::Result<(), WalkError> + Send + 'static,
) -> Result<()> {
    let previous = previous(writer, kind);
    let mut links = 0_usize;
    let (out, mut items) = mpsc::channel(QUEUE);
    let walking = tokio::task::spawn_blocking(move || work(&mut Walk { previous, out }));
    let mut current = Vec::new();
    while let Some(item) = items.recv().await {
        match item {
            Captured::Entry(entry) => {
                if kind == TreeKind::Filestore && matches!(entry.kind, EntryKind::Symlink { .. }) {
                    links += 1;
                    notes.remarks.extend((links <= NAMED_LINKS).then(|| link_remark(&entry)));
                }
                writer.entry(entry).await?;
            }
            Captured::Begin(entry) => {
                current.clone_from(&entry.path);
                writer.begin_file(entry, Chunking::DOCUMENT).await?;
            }
            Captured::Data(bytes) => writer.data(bytes).await?,
            Captured::Hole(len) => writer.hole(len).await?,
            Captured::End(note) => {
                if let Some(why) = &note {
                    notes.file_changed(kind.word(), &current, why);
                }
                writer.end_file(Finish { changed: note.is_some(), note, ..Finish::default() }).await?;
            }
            Captured::Skipped { path, why } => notes.file_skipped(kind.word(), &path, &why),
        }
    }
    walking.await.map_err(|error| Error::Task(error.to_string()))??;
    if links > NAMED_LINKS {
        notes.remarks.push(format!("the filestore has {links} links in all: what they lead to is not covered"));
    }
    Ok(())
}

fn link_remark(entry: &Entry) -> String {
    let name = String::from_utf8_lossy(&entry.path);
    format!(
        "{name} in the filestore is a link: only the link is kept, what it leads to is not covered; configure the real folder"
    )
}

/// The previous point's tree, sent to the walk in batches.
fn previous(writer: &Writer, kind: TreeKind) -> Previous {
    let Some(mut cursor) = writer.previous(kind) else { return Previous::none() };
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut batch = Vec::with_capacity(BATCH);
        // A tree that cannot be read to its end only means that the rest is read from disk again.
        while let Ok(Some(entry)) = cursor.next().await {
            if matches!(entry.kind, EntryKind::File { .. }) {
                batch.push(entry);
            }
            if batch.len() == BATCH
                && sender.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).await.is_err()
            {
                return;
            }
        }
        let _ = sender.send(batch).await;
    });
    Previous::from_channel(receiver)
}

/// Keeps the standard output of a command as `commands/<name>`. A command that fails is noted; the backup goes on.
async fn keep_output(writer: &mut Writer, command: &ConfigCommand, notes: &mut SourceNotes) -> Result<()> {
    let path = format!("commands/{}", command.name).into_bytes();
    let file = made(&path, EntryKind::File { size: 0, extents: Vec::new() }, 0o600);
    writer.begin_file(file, Chunking::DOCUMENT).await?;
    let outcome = tokio::time::timeout(command.timeout.0, pipe_output(writer, command)).await;
    let failure = match outcome {
        Err(_) => Some(format!("did not end within {}", command.timeout)),
        Ok(Err(error @ (Error::Repo(_) | Error::Store(_)))) => return Err(error),
        Ok(Err(error)) => Some(crate::with_causes(&error)),
        Ok(Ok(None)) => None,
        Ok(Ok(Some(why))) => Some(why),
    };
    if let Some(why) = &failure {
        notes.failed_commands.push(format!("{}: {why}", command.name));
    }
    writer.end_file(Finish { note: failure, ..Finish::default() }).await?;
    Ok(())
}

async fn pipe_output(writer: &mut Writer, command: &ConfigCommand) -> Result<Option<String>> {
    let (program, arguments) = command.run.split_first().ok_or_else(|| Error::Task("empty command".to_owned()))?;
    let start = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = match start {
        Ok(child) => child,
        Err(error) => return Ok(Some(format!("cannot start {program}: {error}"))),
    };
    let Some(mut output) = child.stdout.take() else { return Ok(Some("gave no output".to_owned())) };
    let mut kept = 0;
    loop {
        let mut buffer = BytesMut::with_capacity(64 << 10);
        if output.read_buf(&mut buffer).await.map_err(Error::io("cannot read output of", program))? == 0 {
            break;
        }
        kept += buffer.len() as u64;
        if kept > MOST_OUTPUT {
            return Ok(Some(format!("wrote more than {MOST_OUTPUT} bytes; the rest was cut")));
        }
        writer.data(Bytes::from(buffer)).await?;
    }
    let status = child.wait().await.map_err(Error::io("cannot wait for", program))?;
    Ok((!status.success()).then(|| format!("ended with {status}")))
}
