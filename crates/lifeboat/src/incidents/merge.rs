//! One journal of an incident, whoever writes into it and wherever.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use bytes::Bytes;
use lifeboat_engine::{
    context::Clock,
    journal::{Appended, Journals, Name},
    with_causes,
};
use lifeboat_runbook::{event::Line, incident::Happened, journal::Unusable};

use super::Notes;

/// How often others may be first in a row.
const TRIES: usize = 50;

/// Makes this host's file and the repository the same: what others wrote comes first, and what only this host has, behind it.
pub(super) async fn merge(
    journals: &Journals,
    name: Name,
    folder: &Path,
    path: &Path,
    who: &str,
    clock: &Clock,
) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    for _ in 0..TRIES {
        let there = journals.read(name, 1).await.map_err(|error| with_causes(&error))?;
        let there: Vec<Vec<u8>> = there.into_iter().map(Vec::from).collect();
        rebase(path, &there, who, clock).await?;
        if push(journals, name, path, there.len()).await? {
            return Ok(());
        }
    }
    Err("others write all the time".to_owned())
}

/// Sends what the repository lacks; whether nobody else was first.
async fn push(journals: &Journals, name: Name, path: &Path, there: usize) -> Result<bool, String> {
    let own = Notes::texts(path).map_err(words)?;
    for (number, text) in (1..).zip(own).skip(there) {
        let put = journals.append(name, number, Bytes::from(text)).await;
        if let Appended::Taken(_) = put.map_err(|error| with_causes(&error))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Lines that only this host has are kept aside until they stand behind the others': cut off in between, nothing is lost.
async fn rebase(path: &Path, there: &[Vec<u8>], who: &str, clock: &Clock) -> Result<(), String> {
    let aside = path.with_extension("aside");
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    if !path.exists() {
        return if there.is_empty() { Ok(()) } else { Notes::adopt(path, there).map_err(words) };
    }
    add_again(path, &aside, who, clock).await?; // of somebody who was cut off
    let own = Notes::texts(path).map_err(words)?;
    let common = own.iter().zip(there).take_while(|(own, there)| own == there).count();
    if common == there.len() {
        return Ok(());
    }
    // Nobody on this host is writing a note: the file is not to be taken from under them.
    let held = Notes::open(path, who, clock.clone()).map_err(words)?;
    fs::copy(path, &aside).and_then(|_| File::open(&aside)?.sync_all()).map_err(failed)?;
    let adopted = path.with_extension("adopted");
    let _ = fs::remove_file(&adopted);
    Notes::adopt(&adopted, there).map_err(words)?;
    fs::rename(&adopted, path).map_err(failed)?;
    drop(held);
    add_again(path, &aside, who, clock).await
}

/// What lies aside and is not in the file comes to its end, as of when it was said.
async fn add_again(path: &Path, aside: &Path, who: &str, clock: &Clock) -> Result<(), String> {
    if !aside.exists() {
        return Ok(());
    }
    let (mut notes, known) = Notes::open(path, who, clock.clone()).map_err(words)?;
    // Cut off while it was copied, it is a shorter one, and the file is still whole.
    for line in Notes::look(aside).map_err(words)? {
        if !known.iter().any(|known| is_same(known, &line)) {
            notes.add_at(line.at, Some(&line.who), line.event).await?;
        }
    }
    fs::remove_file(aside).map_err(|error| format!("{}: {error}", aside.display()))
}

fn is_same(one: &Line<Happened>, other: &Line<Happened>) -> bool {
    (one.at, &one.who, &one.event) == (other.at, &other.who, &other.event)
}

fn words(error: Unusable) -> String {
    error.to_string()
}
