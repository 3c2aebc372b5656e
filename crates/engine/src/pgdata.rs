//! Makes restored cluster files startable: WAL in place, recovery configured.
//!
//! Replay is archive recovery from `backup_label` (PostgreSQL documentation, "Recovering Using a Continuous Archive
//! Backup"): all WAL that the point holds lies in `pg_wal`. For a moment behind the point's end, `restore_command` takes
//! what more is needed from [`crate::recovery::staging`]. At the target the server promotes itself to a new timeline.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use lifeboat_model::{
    id::PointId,
    lsn::{Lsn, segment_file_name},
};

use crate::{
    files::{is_real_folder, no_follow},
    recovery::{Settings, staging},
};

/// Writes WAL slices into whole segment files, zero-filled where the point holds nothing.
pub struct WalPlacer {
    folder: PathBuf,
    timeline: u32,
    segment_size: u64,
}

impl WalPlacer {
    /// Places into `pgdata/pg_wal`, which is made if it is missing.
    pub fn new(pgdata: &Path, timeline: u32, segment_size: u64) -> io::Result<Self> {
        let folder = pgdata.join("pg_wal");
        if folder.symlink_metadata().is_ok() && !is_real_folder(&folder) {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "pg_wal of the tree is not a folder"));
        }
        fs::create_dir_all(folder.join("archive_status"))?;
        Ok(Self { folder, timeline, segment_size })
    }

    /// Puts one slice in place. A slice may span segments.
    pub fn place(&self, first: Lsn, bytes: &[u8]) -> io::Result<()> {
        let mut position = first;
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = position.0 - position.segment_start(self.segment_size).0;
            let room = usize::try_from(self.segment_size - offset).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.segment(position)?.write_all_at(now, offset)?;
            position = Lsn(position.0 + now.len() as u64);
            rest = later;
        }
        Ok(())
    }

    fn segment(&self, position: Lsn) -> io::Result<File> {
        let name = segment_file_name(self.timeline, position.segment(self.segment_size), self.segment_size);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow());
        let file = options.open(self.folder.join(name))?;
        if file.metadata()?.len() != self.segment_size {
            file.set_len(self.segment_size)?;
        }
        Ok(file)
    }
}

/// Configures recovery.
pub fn configure_recovery(pgdata: &Path, point: PointId, recovery: &Settings) -> io::Result<()> {
    let auto_conf = pgdata.join("postgresql.auto.conf");
    // Through no link: the tree that was placed here is not trusted that far.
    let ours = || {
        let mut options = OpenOptions::new();
        options.create(true).mode(0o600).custom_flags(no_follow());
        options
    };
    let mut file = ours().append(true).open(&auto_conf)?;
    writeln!(
        file,
        "\n# Added by the restore of recovery point {point}. Remove these lines once this server has promoted itself"
    )?;
    writeln!(file, "# and is production. Archiving and synchronous replication are off until then.")?;
    // A copy must not follow, feed, wait for or archive over what the source did.
    let cut_off = ["archive_cleanup_command", "primary_conninfo", "primary_slot_name", "synchronous_standby_names"];
    let cut_off = cut_off.into_iter().map(|name| (name, String::new()));
    // A standby that was to lag behind would wait here too.
    let ours_alone = [("archive_mode", "off".to_owned()), ("recovery_min_apply_delay", "0".to_owned())];
    for (name, value) in recovery.lines().into_iter().chain(ours_alone).chain(cut_off) {
        writeln!(file, "{name} = '{}'", value.replace('\'', "''"))?;
    }
    match fs::remove_file(pgdata.join("standby.signal")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let signal = ours().write(true).truncate(true).open(pgdata.join("recovery.signal"))?;
    signal.set_permissions(fs::Permissions::from_mode(0o600))
}

/// Puts history files beside the WAL of a recovery that fetches nothing.
pub fn place_histories(pgdata: &Path, histories: &[(String, String)]) -> io::Result<()> {
    for (name, content) in histories {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(no_follow());
        options.open(pgdata.join("pg_wal").join(name))?.write_all(content.as_bytes())?;
    }
    Ok(())
}

/// Gives the files that the restore itself made to the owner of the cluster's files. Only root can; others own them.
pub fn adopt(pgdata: &Path, tablespaces: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(pgdata.join("PG_VERSION"))?;
    let own = |path: &Path| std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()));
    for name in ["", "postgresql.auto.conf", "recovery.signal", "backup_manifest", "pg_wal/archive_status"] {
        let path = pgdata.join(name);
        if path.exists() {
            own(&path)?;
        }
    }
    for folder in ["pg_wal", staging::FOLDER].map(|name| pgdata.join(name)).iter().filter(|path| path.exists()) {
        own(folder)?;
        for entry in fs::read_dir(folder)? {
            own(&entry?.path())?;
        }
    }
    if tablespaces.exists() {
        own(tablespaces)?;
        for entry in fs::read_dir(tablespaces)? {
            own(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_become_whole_segments() {
        let folder = tempfile::tempdir().unwrap();
        let size = 1 << 20;
        let placer = WalPlacer::new(folder.path(), 1, size).unwrap();
        placer.place(Lsn(3 * size - 2), &[1, 2, 3, 4]).unwrap();
        let read = |segment| fs::read(folder.path().join("pg_wal").join(segment_file_name(1, segment, size))).unwrap();
        assert_eq!(read(2).len() as u64, size);
        assert_eq!(read(2)[size as usize - 3..], [0, 1, 2]);
        assert_eq!(read(3)[..3], [3, 4, 0]);
    }

    #[test]
    fn recovery_overrides_what_the_source_had_set() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("postgresql.auto.conf"), "recovery_target_time = '2020-01-01'\n").unwrap();
        configure_recovery(folder.path(), PointId([1; 8]), &Settings::POINT_END).unwrap();
        let text = fs::read_to_string(folder.path().join("postgresql.auto.conf")).unwrap();
        assert!(text.rfind("recovery_target_time = ''") > text.find("recovery_target_time = '2020"));
        assert!(folder.path().join("recovery.signal").exists());
    }
}
