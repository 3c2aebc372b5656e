//! Which file of a cluster that is not running holds which table.
//!
//! Read from the files themselves: `pg_filenode.map` names the files of `pg_database` and `pg_class`, whose first columns have
//! lain in the same places from PostgreSQL 14 to 18 (`pg_class.h`: `relname` at 4, `relam` at 84, `relfilenode` at 88,
//! `reltablespace` at 92). Only row versions that a hint calls committed and not deleted are believed.

use std::{
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use lifeboat_postgres::pages::{BLOCKS_PER_SEGMENT, PAGE};

use super::folder::Folder;
use crate::error::{Error, Result};

const PG_DATABASE: u32 = 1262;
const PG_CLASS: u32 = 1259;
/// Objects of users have at least this id.
const FIRST_USER: u32 = 16384;
/// The access method of ordinary tables.
const HEAP: u32 = 2;
const MAP_MAGIC: u32 = 0x0059_2717;
/// The catalog of a database with very many tables; more is not looked through.
const MOST_BLOCKS: u32 = BLOCKS_PER_SEGMENT;

const XMIN_COMMITTED: u16 = 0x0100;
const XMAX_INVALID: u16 = 0x0800;

/// A table's first file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// Its name.
    pub name: String,
    /// Below PGDATA, as the manifest has it.
    pub file: String,
}

impl Table {
    /// Below the copy.
    pub fn path(&self) -> PathBuf {
        Path::new("pgdata").join(&self.file)
    }
}

/// Those of the wanted tables that there are, by name. Empty where the database's files lie in a tablespace.
pub(super) fn tables(folder: &Folder, database: &str, wanted: &[&str]) -> Result<Vec<Table>> {
    let Some(databases) = mapped(folder, "global", PG_DATABASE)? else { return Ok(Vec::new()) };
    let mut oid = None;
    rows(folder, &format!("global/{databases}"), &mut |row| {
        if name_at(row, 4) == Some(database) {
            oid = number(row, 0);
        }
    })?;
    let Some(oid) = oid else { return Ok(Vec::new()) };
    let home = format!("base/{oid}");
    let Some(classes) = mapped(folder, &home, PG_CLASS)? else { return Ok(Vec::new()) };
    let mut found: Vec<Table> = Vec::new();
    rows(folder, &format!("{home}/{classes}"), &mut |row| {
        let Some((name, class)) = name_at(row, 4).zip(class(row)) else { return };
        if wanted.contains(&name) && class.is_plain() {
            found.push(Table { name: name.to_owned(), file: format!("{home}/{}", class.file) });
        }
    })?;
    found.sort_by(|one, other| one.name.cmp(&other.name));
    // A name that two schemas have says nothing.
    let names: Vec<String> = found.iter().map(|table| table.name.clone()).collect();
    found.retain(|table| names.iter().filter(|name| **name == table.name).count() == 1);
    Ok(found)
}

struct Class {
    oid: u32,
    method: u32,
    file: u32,
    tablespace: u32,
}

impl Class {
    fn is_plain(&self) -> bool {
        self.oid >= FIRST_USER && self.method == HEAP && self.tablespace == 0 && self.file != 0
    }
}

fn class(row: &[u8]) -> Option<Class> {
    Some(Class { oid: number(row, 0)?, method: number(row, 84)?, file: number(row, 88)?, tablespace: number(row, 92)? })
}

/// The file of a relation that is found without a catalog.
fn mapped(folder: &Folder, home: &str, oid: u32) -> Result<Option<u32>> {
    let path = Path::new("pgdata").join(home).join("pg_filenode.map");
    let Ok(mut file) = folder.file(&path) else { return Ok(None) };
    let mut map = Vec::new();
    file.read_to_end(&mut map).map_err(Error::io("cannot read", path))?;
    if number(&map, 0) != Some(MAP_MAGIC) {
        return Ok(None);
    }
    let count = number(&map, 4).unwrap_or_default() as usize;
    let pairs = map[8..].as_chunks::<8>().0.iter().take(count);
    let found = pairs.map(|pair| (number(pair, 0), number(pair, 4))).find(|(known, _)| *known == Some(oid));
    Ok(found.and_then(|(_, file)| file))
}

/// Every row of a table that is surely there.
fn rows(folder: &Folder, file: &str, each: &mut dyn FnMut(&[u8])) -> Result<()> {
    let path = Path::new("pgdata").join(file);
    let file = folder.file(&path)?;
    for block in 0..blocks(&file).map_err(Error::io("cannot read", &path))?.min(MOST_BLOCKS) {
        let page = page(&file, block).map_err(Error::io("cannot read", &path))?;
        live_rows(&page).for_each(&mut *each);
    }
    Ok(())
}

/// How many whole pages a file has.
pub(super) fn blocks(file: &std::fs::File) -> std::io::Result<u32> {
    Ok(u32::try_from(file.metadata()?.len() / PAGE as u64).unwrap_or(u32::MAX))
}

/// One page of it.
pub(super) fn page(file: &std::fs::File, block: u32) -> std::io::Result<Box<[u8; PAGE]>> {
    let mut page = Box::new([0; PAGE]);
    file.read_exact_at(page.as_mut_slice(), u64::from(block) * PAGE as u64)?;
    Ok(page)
}

/// The columns of the rows of a page that are surely there.
pub(super) fn live_rows(page: &[u8; PAGE]) -> impl Iterator<Item = &[u8]> {
    let lower = usize::from(short(page, 12).unwrap_or_default()).clamp(24, PAGE);
    let (items, _) = page[24..lower].as_chunks::<4>();
    items.iter().filter_map(|item| {
        let item = u32::from_le_bytes(*item);
        let (offset, state, len) = ((item & 0x7fff) as usize, (item >> 15) & 3, (item >> 17) as usize);
        let row = (state == 1).then(|| page.get(offset..offset + len)).flatten()?;
        let (mask, columns) = (short(row, 20)?, usize::from(*row.get(22)?));
        let is_live = mask & XMIN_COMMITTED != 0 && mask & XMAX_INVALID != 0;
        is_live.then(|| row.get(columns..)).flatten()
    })
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A column of type `name`.
fn name_at(row: &[u8], at: usize) -> Option<&str> {
    let bytes = row.get(at..at + 64)?;
    std::str::from_utf8(bytes.split(|byte| *byte == 0).next()?).ok()
}
