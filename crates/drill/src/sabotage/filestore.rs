//! Damage in the filestore: what rows of `ir_attachment` name and the backup brought.
//!
//! Nothing below rung 8 knows the filestore: every file that was backed up came back as it was. Odoo itself reads a missing
//! file as an empty one and says so in a line of information. The name of a file is the SHA-1 of its content, so the check that
//! compares every row with its file has to see all three kinds.
//!
//! Only files that a row names, that have content and that the backup did not know to be missing are victims: others may go
//! without anybody's loss.

use std::path::{Path, PathBuf};

use tokio_postgres::Client;

use super::{chance::Chance, folder::Folder, nothing};
use crate::{
    error::{Error, Result},
    odoo::Layout,
    source::OwnCopy,
};

/// Rows whose content is a file of the filestore.
const STORED: &str = "FROM ir_attachment WHERE type = 'binary' AND file_size > 0 \
                      AND store_fname ~ '^[0-9a-f]{2}/[0-9a-f]{40}$'";
/// How many are drawn before it is said that none is there.
const TRIES: usize = 20;
/// How many attachments a stale filestore may lack.
const MOST_STALE: u64 = 40;

const NO_FILES: &str = "no attachment of the database is a file of this filestore";

/// The filestore of one database.
struct Filestore<'a> {
    client: &'a Client,
    copy: Folder,
    /// Below the copy.
    folder: PathBuf,
    known_missing: &'a std::collections::HashSet<String>,
}

impl<'a> Filestore<'a> {
    /// Of a database drawn among those that have one.
    fn draw(copy: &'a OwnCopy<'_>, clients: &'a [(String, Client)], chance: &mut Chance) -> Result<Filestore<'a>> {
        let layout = Layout::find(copy.restored, copy.databases, copy.addons);
        let found = clients.iter().filter_map(|(database, client)| {
            let folder = layout.of_database(database).filter(|folder| folder.is_dir())?;
            Some((client, folder.strip_prefix(copy.restored).ok()?.to_owned()))
        });
        let found: Vec<(&Client, PathBuf)> = found.collect();
        match chance.one(&found) {
            Some((client, folder)) => Ok(Filestore {
                client,
                copy: Folder::open(copy.restored)?,
                folder: folder.clone(),
                known_missing: &copy.fetched.known_missing,
            }),
            None => nothing("no filestore was restored"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(Path::new(name))
    }

    /// Whether a file can be missed: it is there, and the backup did not say that it was not.
    fn is_held(&self, name: &str) -> bool {
        let known = self.known_missing.iter().any(|known| known.ends_with(name));
        !known && self.copy.has(&self.path(name))
    }

    async fn number(&self, query: &str) -> Result<u64> {
        let row = self.client.query_one(query, &[]).await.map_err(Error::sql("count attachments"))?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or_default())
    }

    async fn names(&self, query: &str) -> Result<Vec<String>> {
        let rows = self.client.query(query, &[]).await.map_err(Error::sql("draw an attachment"))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

/// Deletes the file of an attachment.
pub(super) async fn delete(copy: &OwnCopy<'_>, clients: &[(String, Client)], chance: &mut Chance) -> Result<String> {
    let filestore = Filestore::draw(copy, clients, chance)?;
    let count = filestore.number(&format!("SELECT count(*) {STORED}")).await?;
    for _ in 0..TRIES {
        let place = chance.below(count);
        let names = filestore.names(&format!("SELECT store_fname {STORED} ORDER BY id OFFSET {place} LIMIT 1")).await?;
        if let Some(name) = names.iter().find(|name| filestore.is_held(name)) {
            filestore.copy.remove(&filestore.path(name))?;
            return Ok(format!("{}, deleted", filestore.path(name).display()));
        }
    }
    nothing(NO_FILES)
}

/// Gives two attachments each other's content: of the same length where there are such, so that only the SHA-1 can tell.
pub(super) async fn swap(copy: &OwnCopy<'_>, clients: &[(String, Client)], chance: &mut Chance) -> Result<String> {
    let filestore = Filestore::draw(copy, clients, chance)?;
    let alike = format!("SELECT file_size {STORED} GROUP BY file_size HAVING count(DISTINCT store_fname) > 1");
    let sizes = filestore.number(&format!("SELECT count(*) FROM ({alike}) s")).await?;
    let mut pairs = Vec::new();
    if sizes > 0 {
        let place = chance.below(sizes);
        let query = format!(
            "SELECT DISTINCT store_fname {STORED} AND file_size = ({alike} ORDER BY file_size OFFSET {place} LIMIT 1) \
             ORDER BY store_fname LIMIT {TRIES}"
        );
        pairs.push(filestore.names(&query).await?);
    }
    pairs.push(
        filestore.names(&format!("SELECT DISTINCT store_fname {STORED} ORDER BY store_fname LIMIT {TRIES}")).await?,
    );
    for names in pairs {
        let held: Vec<String> = names.into_iter().filter(|name| filestore.is_held(name)).collect();
        if let [one, other, ..] = chance.shuffled(held).as_slice() {
            filestore.copy.swap(&filestore.path(one), &filestore.path(other))?;
            return Ok(format!("{} and {}, swapped", filestore.path(one).display(), filestore.path(other).display()));
        }
    }
    nothing(NO_FILES)
}

/// Takes away what the newest attachments need and older ones do not: the filestore of an earlier day.
pub(super) async fn age(copy: &OwnCopy<'_>, clients: &[(String, Client)], chance: &mut Chance) -> Result<String> {
    let filestore = Filestore::draw(copy, clients, chance)?;
    let count = filestore.number(&format!("SELECT count(*) {STORED}")).await?;
    let newest = 1 + chance.below(count.saturating_sub(1).min(MOST_STALE));
    let query = format!(
        "WITH stored AS (SELECT id, store_fname {STORED}), \
         newest AS (SELECT id, store_fname FROM stored ORDER BY id DESC LIMIT {newest}) \
         SELECT DISTINCT store_fname FROM newest n WHERE NOT EXISTS (SELECT FROM ir_attachment older \
         WHERE older.store_fname = n.store_fname AND older.id < (SELECT min(id) FROM newest)) ORDER BY store_fname"
    );
    let mut removed = 0;
    for name in filestore.names(&query).await? {
        if filestore.is_held(&name) {
            filestore.copy.remove(&filestore.path(&name))?;
            removed += 1;
        }
    }
    match removed {
        0 => nothing("the newest attachments have the files of older ones"),
        _ => Ok(format!("{removed} files of the {newest} newest attachments, deleted")),
    }
}
