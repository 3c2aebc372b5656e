//! `lifeboat export`: one database with its attachments as the zip that Odoo's own database manager takes.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use lifeboat_drill::extract::{
    NewFile, Restored,
    archive::{self, Exported},
};
use lifeboat_model::id::Instance;
use serde::Serialize;

use super::{
    Session,
    extract::{self, Source, Wanted},
    identity::IdentityArgs,
    moment::MomentArgs,
    place::Place,
};
use crate::{
    exit::Exit,
    failure::Result,
    output::{Answer, Page, Tone, bytes, count, seconds},
};

/// Export one database with its attachments as a zip for Odoo's database manager
///
/// manifest.json, dump.sql and filestore/, as Odoo's own backup has them, of any moment that is held: restored into a sandbox, taken
/// out, torn down. The zip is plaintext, and the data in it is as it was: nothing is neutralised.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Export {
    /// The instance
    instance: Instance,
    /// The database
    #[arg(long, value_name = "NAME")]
    database: String,
    /// A new file
    #[arg(long, value_name = "FILE")]
    odoo_zip: PathBuf,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    moment: MomentArgs,
    #[command(flatten)]
    place: Place,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat export clinic --database north --odoo-zip /srv/north.zip
  lifeboat export clinic --database north --odoo-zip /srv/north.zip --at 2026-11-21T14:03:10+01:00
  odoo db load north_copy /srv/north.zip --neutralize       (Odoo 19; before: /web/database/manager)

Exit codes: 0 whole, 5 files of attachments are missing, 6 no such database.";

#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    source: Source,
    file: PathBuf,
    complete: bool,
    bytes: u64,
    dump_bytes: u64,
    files: u64,
    file_bytes: u64,
    odoo_series: String,
    modules: u64,
    /// What the database's attachments name and the zip does not hold.
    lacking: Vec<String>,
    /// Attachments that are in neither database nor filestore, by kind.
    elsewhere: BTreeMap<String, u64>,
}

impl Done {
    /// Gives the zip its name first: nothing is told of a file that is not there.
    fn new(source: Source, file: PathBuf, exported: Exported) -> Result<Self> {
        exported.file.publish()?;
        Ok(Done {
            source,
            file,
            complete: exported.lacking.is_empty(),
            bytes: exported.bytes,
            dump_bytes: exported.dump_bytes,
            files: exported.files,
            file_bytes: exported.file_bytes,
            odoo_series: exported.series,
            modules: exported.modules,
            lacking: exported.lacking,
            elsewhere: exported.elsewhere,
        })
    }
}

impl Answer for Done {
    const SCHEMA: &'static str = "lifeboat.export/1";

    fn text(&self, page: &mut Page) {
        let word = if self.complete { Tone::Good.paint("exported:") } else { Tone::Bad.paint("INCOMPLETE:") };
        let Source { instance, database, seconds: took, .. } = &self.source;
        let (file, took) = (self.file.display(), seconds(*took));
        page.line(format_args!("{word} {database} of {instance} as {file}, {}, in {took}", bytes(self.bytes)));
        self.source.text(page);
        let modules = count(self.modules, "module", "modules");
        page.field("Odoo", format_args!("{}, {modules}", self.odoo_series));
        page.field("dump.sql", bytes(self.dump_bytes));
        let files = count(self.files, "file", "files");
        page.field("filestore", format_args!("{files}, {}", bytes(self.file_bytes)));
        for lack in &self.lacking {
            page.line(format_args!("{} {lack}", Tone::Bad.paint("not in it:")));
        }
        for (kind, attachments) in &self.elsewhere {
            let attachments = count(*attachments, "attachment", "attachments");
            page.field(
                "note",
                format_args!("{attachments} of kind {kind}: neither in the database nor in the filestore"),
            );
        }
        page.gap();
        page.line(
            "The zip is plaintext, and nothing in it is neutralised: a copy that is started sends mail and runs jobs.",
        );
    }
}

impl Export {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = self.place.load(session)?;
        let (_, instance) = loaded.config.instance(self.instance.as_str())?;
        // The filestore's level is told by the databases that have folders in it.
        let mut databases = instance.postgres.databases.clone();
        if !databases.contains(&self.database) {
            databases.push(self.database.clone());
        }
        let file = NewFile::create(&self.odoo_zip)?;
        let wanted = Wanted {
            instance: &self.instance,
            database: &self.database,
            moment: &self.moment,
            identity: &self.identity,
            place: &self.place,
        };
        let database = self.database.as_str();
        let work = async move |restored: &Restored| archive::odoo_zip(restored, database, &databases, file).await;
        let (exported, source) = extract::run(session, &wanted, "export", work).await?;
        let done = Done::new(source, self.odoo_zip.clone(), exported)?;
        session.output.show(&done)?;
        Ok(if done.complete { Exit::Ok } else { Exit::Incomplete })
    }
}
