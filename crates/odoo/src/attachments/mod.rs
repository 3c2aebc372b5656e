//! Attachments: rows of `ir_attachment` and where their bytes lie.
//!
//! Odoo puts content into the filestore under its SHA-1 (`<db>/ab/ab12…`), into the row (`db_datas`), behind a URL, or, with
//! extra modules, anywhere else (`s3://…`, `fs://…`). Only the first two are in a backup of database and filestore; the
//! others are counted by kind and reported as *not covered*, never silently passed.
//!
//! Rows are streamed, so memory does not grow with their number.

mod verify;

use futures::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Row};

pub use verify::{Examples, KEPT, Report, VerifyOptions, verify};

use crate::error::{Error, Result};

/// Where the bytes of an attachment lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Location {
    /// In the filestore, under this name relative to the database's folder.
    Filestore(String),
    /// In the row itself.
    Database {
        /// Length of the column.
        len: u64,
    },
    /// Nowhere: an attachment without content.
    Empty,
    /// Behind a URL; Odoo holds no bytes.
    Url,
    /// In a store that another module manages: the prefix before `://`, or the attachment type.
    Elsewhere(String),
}

impl Location {
    /// The kind, as reports count it: `filestore`, `database`, `empty`, `url`, or the foreign prefix (`s3://`).
    pub fn kind(&self) -> String {
        match self {
            Location::Filestore(_) => "filestore".into(),
            Location::Database { .. } => "database".into(),
            Location::Empty => "empty".into(),
            Location::Url => "url".into(),
            Location::Elsewhere(prefix) => prefix.clone(),
        }
    }

    /// Whether a backup of database and filestore holds the bytes.
    pub fn is_covered(&self) -> bool {
        !matches!(self, Location::Elsewhere(_) | Location::Url)
    }
}

/// One row of `ir_attachment`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The row's id.
    pub id: i32,
    /// Where the bytes are.
    pub location: Location,
    /// SHA-1 of the content in hexadecimal, as Odoo recorded it.
    pub checksum: Option<String>,
    /// Length of the content, as Odoo recorded it.
    pub size: Option<u64>,
}

/// The columns are the same in 14.0 to 19.0 (`addons/base/models/ir_attachment.py`).
const COLUMNS: &str = "id, type, store_fname, octet_length(db_datas)::bigint, checksum, file_size::bigint";

impl Attachment {
    fn from_row(row: &Row) -> Result<Attachment> {
        let failed = "read a row of ir_attachment";
        let kind: Option<String> = row.try_get(1).map_err(Error::sql(failed))?;
        let name: Option<String> = row.try_get(2).map_err(Error::sql(failed))?;
        let inline: Option<i64> = row.try_get(3).map_err(Error::sql(failed))?;
        let checksum: Option<String> = row.try_get(4).map_err(Error::sql(failed))?;
        let size: Option<i64> = row.try_get(5).map_err(Error::sql(failed))?;
        Ok(Attachment {
            id: row.try_get(0).map_err(Error::sql(failed))?,
            location: locate(kind.as_deref().unwrap_or("binary"), name.as_deref(), inline),
            checksum: checksum.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
            size: size.and_then(|size| u64::try_from(size).ok()),
        })
    }
}

/// Every row, ordered by filestore name, so that rows that share a file follow each other.
pub async fn stream(client: &Client) -> Result<impl Stream<Item = Result<Attachment>> + use<>> {
    let query = format!("SELECT {COLUMNS} FROM ir_attachment ORDER BY store_fname NULLS FIRST, id");
    rows(client, &query, &[]).await
}

/// What a user would open: the `each` largest, the `each` newest and `each` random attachments of the filestore, without repeats.
/// The random ones are the same for the same `seed`, so that a drill can be asked again.
/// Only attachments that a URL serves as they are: not those of a field (`res_field`), which may be resized or guarded.
pub async fn samples(client: &Client, each: u32, seed: &str) -> Result<Vec<Attachment>> {
    let from = "FROM ir_attachment WHERE type = 'binary' AND store_fname ~ '^[0-9a-f]{2}/[0-9a-f]{40}$' AND checksum IS NOT NULL \
                AND res_field IS NULL AND file_size > 0";
    let query = format!(
        "SELECT {COLUMNS} FROM ir_attachment WHERE id IN ( \
           (SELECT id {from} ORDER BY file_size DESC, id DESC LIMIT $1) UNION \
           (SELECT id {from} ORDER BY id DESC LIMIT $1) UNION \
           (SELECT id {from} ORDER BY md5(id || $2::text), id LIMIT $1)) ORDER BY file_size DESC, id"
    );
    let rows = client.query(&query, &[&i64::from(each), &seed]).await;
    let rows = rows.map_err(Error::sql("choose attachments to fetch"))?;
    rows.iter().map(Attachment::from_row).collect()
}

async fn rows(
    client: &Client,
    query: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<impl Stream<Item = Result<Attachment>> + use<>> {
    let parameters = parameters.iter().copied();
    let stream = client.query_raw(query, parameters).await.map_err(Error::sql("list attachments"))?;
    Ok(stream.map(|row| Attachment::from_row(&row.map_err(Error::sql("list attachments"))?)))
}

/// What type, name and inline length say about the place of the bytes.
fn locate(kind: &str, name: Option<&str>, inline: Option<i64>) -> Location {
    match (kind, name.filter(|name| !name.is_empty()), inline) {
        ("url", None, _) => Location::Url,
        (_, Some(name), _) => match name.split_once("://") {
            Some((scheme, _)) => Location::Elsewhere(format!("{scheme}://")),
            None => Location::Filestore(on_disk(name)),
        },
        (_, None, Some(len)) => Location::Database { len: u64::try_from(len).unwrap_or(0) },
        ("binary", None, None) => Location::Empty,
        (other, None, None) => Location::Elsewhere(other.to_owned()),
    }
}

/// The name as Odoo opens it: `_full_path` drops dots and colons and strips slashes, so that no name leads out of the folder.
fn on_disk(name: &str) -> String {
    let plain: String = name.chars().filter(|c| !matches!(c, '.' | ':')).collect();
    plain.trim_matches(['/', '\\']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_located_by_type_name_and_column() {
        let file = "ab/ab00";
        for (kind, name, inline, expected) in [
            ("binary", Some(file), None, Location::Filestore(file.into())),
            ("binary", Some(file), Some(3), Location::Filestore(file.into())),
            ("binary", None, Some(3), Location::Database { len: 3 }),
            ("binary", None, None, Location::Empty),
            ("url", None, None, Location::Url),
            ("binary", Some("s3://bucket/ab"), None, Location::Elsewhere("s3://".into())),
            ("cloud_storage", None, None, Location::Elsewhere("cloud_storage".into())),
        ] {
            assert_eq!(locate(kind, name, inline), expected, "{kind} {name:?} {inline:?}");
        }
    }

    #[test]
    fn no_name_leads_out_of_the_filestore() {
        assert_eq!(on_disk("../../etc/passwd"), "etc/passwd");
        assert_eq!(on_disk("/ab/ab00"), "ab/ab00");
    }

    #[test]
    fn only_what_a_backup_holds_is_covered() {
        assert!(Location::Database { len: 1 }.is_covered() && Location::Filestore("a".into()).is_covered());
        assert!(!Location::Elsewhere("s3://".into()).is_covered() && !Location::Url.is_covered());
    }
}
