//! Damage in the files of the cluster, as the source had it when it was backed up: the manifest agrees with it.
//!
//! - **flipped page**: a bit of a page, behind its header. The page's own checksum is all that knows.
//! - **zeroed page**: a page of zeros is a new page to PostgreSQL: it has no checksum, reading it is no error, and `pg_amcheck`
//!   looks for heap rows in indexes and not the other way round. Only a digest that counts rows knows that some are gone.
//! - **truncated relation**: the same for a table's file that ends early, at the end of a page: shorter tables are no error.
//!
//! Tables are those that every Odoo database has and that change with an upgrade only, so that replay does not put whole pages
//! over the damage; where it has done so all the same, the control was not executed.

use std::{fmt, fs::File, io, os::unix::fs::FileExt as _, path::PathBuf};

use lifeboat_model::lsn::Lsn;
use lifeboat_postgres::{
    amend::amend,
    control::ControlData,
    pages::{self, PAGE},
};
use tokio_postgres::Client;

use super::{catalog, chance::Chance, folder::Folder, nothing, rows};
use crate::{
    error::{Error, Result},
    source::OwnCopy,
};

/// What is done to a table's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    Flip,
    Zero,
    Truncate,
}

/// What was damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Victim {
    harm: Harm,
    table: catalog::Table,
    /// Of a flipped page the damaged one, of a truncated file the first that is gone.
    block: u32,
    /// Where in the page, and which bit.
    place: Option<(usize, u8)>,
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Victim { harm, table: catalog::Table { name, file }, block, place } = self;
        match (harm, place) {
            (Harm::Flip, Some((byte, bit))) => {
                write!(f, "bit {bit} of byte {byte} of page {block} of {name} ({file})")
            }
            (Harm::Truncate, _) => write!(f, "{name} ({file}), cut off at page {block}"),
            _ => write!(f, "page {block} of {name} ({file}), now zeros"),
        }
    }
}

/// Damages a page of a table, or its end.
pub(super) async fn damage(copy: &OwnCopy<'_>, chance: Chance, harm: Harm) -> Result<Victim> {
    let restored = copy.restored.to_owned();
    let digested: Vec<(String, Vec<String>)> =
        copy.databases.iter().map(|name| (name.clone(), copy.digested(name))).collect();
    let working = move || Job { restored, digested, harm }.run(chance);
    tokio::task::spawn_blocking(working).await.map_err(|error| Error::Task(error.to_string()))?
}

struct Job {
    restored: PathBuf,
    /// Tables that were digested at the source, by database.
    digested: Vec<(String, Vec<String>)>,
    harm: Harm,
}

impl Job {
    fn run(self, mut chance: Chance) -> Result<Victim> {
        let pgdata = self.restored.join("pgdata");
        let folder = Folder::open(&self.restored)?;
        if self.harm == Harm::Flip && !ControlData::read(&pgdata)?.has_page_checksums() {
            return nothing("the cluster has no page checksums");
        }
        let judged_before = backup_start(&folder)?;
        for table in chance.clone().shuffled(self.tables(&folder)?) {
            let path = table.path();
            let file = folder.file(&path)?;
            let damaged = self.table(&file, table, judged_before, &mut chance);
            let Some(victim) = damaged.map_err(Error::io("cannot damage", self.restored.join(&path)))? else {
                continue;
            };
            // From its beginning, whatever was read of it.
            let mut content = folder.file(&path)?;
            amend(&pgdata, &victim.table.file, &mut content)?;
            return Ok(victim);
        }
        nothing("no table that every Odoo database has, and that the point has a digest of, can be damaged so")
    }

    fn tables(&self, folder: &Folder) -> Result<Vec<catalog::Table>> {
        let mut tables = Vec::new();
        for (database, digested) in &self.digested {
            let is_wanted = |name: &&&str| self.harm == Harm::Flip || digested.iter().any(|known| known == **name);
            let wanted: Vec<&str> = rows::STEADY.iter().filter(is_wanted).copied().collect();
            tables.extend(catalog::tables(folder, database, &wanted)?);
        }
        Ok(tables)
    }

    fn table(
        &self,
        file: &File,
        table: catalog::Table,
        judged_before: Option<Lsn>,
        chance: &mut Chance,
    ) -> io::Result<Option<Victim>> {
        let blocks = catalog::blocks(file)?;
        let victim = |block, place| Some(Victim { harm: self.harm, table, block, place });
        for block in chance.shuffled((0..blocks).collect()) {
            let mut page = catalog::page(file, block)?;
            if catalog::live_rows(&page).next().is_none() {
                continue;
            }
            match self.harm {
                Harm::Flip => {
                    if !is_judged(&page, block, judged_before) {
                        continue;
                    }
                    let (byte, bit) = flip(&mut page, block, chance);
                    file.write_all_at(page.as_slice(), u64::from(block) * PAGE as u64)?;
                    return Ok(victim(block, Some((byte, bit))));
                }
                Harm::Zero => {
                    file.write_all_at(&[0; PAGE], u64::from(block) * PAGE as u64)?;
                    return Ok(victim(block, None));
                }
                // A table of one page would be empty: that is another damage.
                Harm::Truncate if block > 0 => {
                    file.set_len(u64::from(block) * PAGE as u64)?;
                    return Ok(victim(block, None));
                }
                Harm::Truncate => {}
            }
        }
        Ok(None)
    }
}

/// Whether a wrong checksum of this page counts: what was written after the backup began may be torn, and replay mends it.
fn is_judged(page: &[u8; PAGE], block: u32, before: Option<Lsn>) -> bool {
    let half = |at: usize| u64::from(u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]));
    let lsn = (half(0) << 32) | half(4);
    let stored = u16::from_le_bytes([page[8], page[9]]);
    before.is_none_or(|before| lsn < before.0) && stored == pages::checksum(page, block)
}

/// Flips a bit behind the header, such that the checksum can tell: of 65,535 flips one cannot be told by 16 bits.
fn flip(page: &mut [u8; PAGE], block: u32, chance: &mut Chance) -> (usize, u8) {
    const HEADER: usize = 24;
    loop {
        let byte = HEADER + chance.below((PAGE - HEADER) as u64) as usize;
        let bit = chance.below(8) as u8;
        page[byte] ^= 1 << bit;
        if u16::from_le_bytes([page[8], page[9]]) != pages::checksum(page, block) {
            return (byte, bit);
        }
        page[byte] ^= 1 << bit;
    }
}

/// Where replay begins, as `backup_label` says.
fn backup_start(folder: &Folder) -> Result<Option<Lsn>> {
    use std::io::Read as _;
    let path = std::path::Path::new("pgdata/backup_label");
    let Ok(file) = folder.file(path) else { return Ok(None) };
    let mut label = String::new();
    file.take(1 << 16).read_to_string(&mut label).map_err(Error::io("cannot read", path))?;
    let line = label.lines().find_map(|line| line.strip_prefix("START WAL LOCATION: "));
    Ok(line.and_then(|line| line.split_whitespace().next()?.parse().ok()))
}

/// Whether replay has left the damage as it was: else there is nothing to be found.
pub(super) async fn look_again(copy: &OwnCopy<'_>, clients: &[(String, Client)], victim: &Victim) -> Result<()> {
    if let Some((_, client)) = clients.first() {
        // What replay has in memory, on its disk.
        client.batch_execute("CHECKPOINT").await.map_err(Error::sql("write a checkpoint"))?;
    }
    let (restored, victim) = (copy.restored.to_owned(), victim.clone());
    let looking = move || {
        let path = victim.table.path();
        let file = Folder::open(&restored)?.file(&path)?;
        let blocks = catalog::blocks(&file).map_err(Error::io("cannot read", &path))?;
        let is_there = match victim.harm {
            Harm::Truncate => blocks <= victim.block,
            _ if blocks <= victim.block => true,
            _ => catalog::page(&file, victim.block)
                .map_err(Error::io("cannot read", &path))?
                .iter()
                .all(|byte| *byte == 0),
        };
        match is_there {
            true => Ok(()),
            false => nothing("replay has put the page back: it was written to after the backup began"),
        }
    };
    tokio::task::spawn_blocking(looking).await.map_err(|error| Error::Task(error.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sabotage::Seed;

    fn sound(block: u32, lsn: u32) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        page[4..8].copy_from_slice(&lsn.to_le_bytes());
        page[14] = 32;
        let sum = pages::checksum(&page, block);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    #[test]
    fn a_flipped_bit_changes_the_checksum_and_nothing_of_the_header() {
        for seed in 0..50 {
            let (mut page, before) = (sound(7, 9), sound(7, 9));
            let (byte, _) = flip(&mut page, 7, &mut Seed(seed).of("test"));
            assert!(byte >= 24 && page[..24] == before[..24]);
            assert_eq!(page.iter().zip(&before).map(|(new, old)| (new ^ old).count_ones()).sum::<u32>(), 1);
            assert_ne!(pages::checksum(&page, 7), pages::checksum(&before, 7));
        }
    }

    #[test]
    fn pages_that_replay_mends_are_left_alone() {
        let page = sound(7, 9);
        assert!(is_judged(&page, 7, Some(Lsn(10))) && is_judged(&page, 7, None));
        assert!(!is_judged(&page, 7, Some(Lsn(9))), "written after the backup began");
        assert!(!is_judged(&page, 8, None), "damaged before");
    }
}
