//! A restored folder as volumes of Docker: PGDATA and Odoo's data folder, bound where they lie, so that nothing is copied.
//!
//! A volume's name is what containers know, so an existing one is never changed unasked: bound to this very folder it is kept, any
//! other is refused. To replace one it has to be removed, and with it what it holds, so that is done last, when everything is
//! restored; a container that uses it, running or not, forbids it.

use std::path::{Path, PathBuf};

use lifeboat_model::id::RunId;

use crate::{
    error::{Error, Result},
    odoo::Layout,
    sandbox::{Docker, Image, User},
};

/// A volume, and the folder that it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// The folder, absolute.
    pub folder: PathBuf,
}

/// Whether the volumes can be made, or be replaced, as things are.
pub async fn check(docker: &Docker, wanted: &[Wanted], replace: bool) -> Result<()> {
    for Wanted { name, folder } in wanted {
        let users = docker.users_of(&[name], &[folder]).await?;
        if let Some(user) = users.iter().find(|user| user.running) {
            return Err(Error::InUse {
                volume: name.clone(),
                next: format!("docker stop {}", user.name),
                by: user.name.clone(),
            });
        }
        let Some(there) = docker.volume(name).await? else { continue };
        if is_bound(there.device.as_deref(), folder) {
            continue;
        }
        if !replace {
            return Err(Error::VolumeThere { volume: name.clone() });
        }
        if !users.is_empty() {
            let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
            let next = format!("docker rm {}", names.join(" "));
            return Err(Error::InUse { volume: name.clone(), by: names.join(", "), next });
        }
    }
    Ok(())
}

/// Makes them. What [`check`] forbids is forbidden still.
pub async fn make(docker: &Docker, wanted: &[Wanted], replace: bool) -> Result<()> {
    check(docker, wanted, replace).await?;
    for Wanted { name, folder } in wanted {
        match docker.volume(name).await? {
            Some(there) if is_bound(there.device.as_deref(), folder) => continue,
            Some(_) => docker.remove_volume(name).await?,
            None => {}
        }
        docker.bind_volume(name, folder).await?;
        // The engine gives back one that is there still, or again, and says nothing.
        let made = docker.volume(name).await?;
        if !made.is_some_and(|made| is_bound(made.device.as_deref(), folder)) {
            return Err(Error::VolumeThere { volume: name.clone() });
        }
    }
    Ok(())
}

fn is_bound(device: Option<&str>, folder: &Path) -> bool {
    device.is_some_and(|device| Path::new(device) == folder)
}

/// The user that the image's `name` (`postgres`, `odoo`) is: whom its files have to belong to.
pub async fn owner(docker: &Docker, image: &str, name: &'static str, run: RunId) -> Result<User> {
    let image: Image = docker.image(name, image).await?;
    docker.user_of(&image, name, &run.to_string()).await
}

/// Gives folders to their users, off the async threads.
pub async fn give(user: User, folders: Vec<PathBuf>) -> Result<()> {
    let work = move || folders.iter().filter(|folder| folder.exists()).try_for_each(|folder| user.own(folder));
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Task(error.to_string()))?
}

/// What Odoo is given as its data folder: its filestore lies below.
const DATA: &str = "odoo-data";
/// Says where the restored filestore went.
const NOTE: &str = ".lifeboat-odoo-data";

/// Odoo's data folder of a restore.
pub fn data_folder(folder: &Path) -> PathBuf {
    folder.join(DATA)
}

/// Moves the restored filestore to where Odoo looks for it in its data folder. Gives whether it was one database's own folder.
pub fn arrange(folder: &Path, databases: &[String]) -> Result<bool> {
    let root = folder.join("filestore");
    let layout = Layout::find(folder, databases, &[]);
    let below = match (&layout.filestore, &layout.single) {
        (Some(found), _) if *found != root => DATA.to_owned(),
        (None, Some((database, _))) => format!("{DATA}/filestore/{database}"),
        _ => format!("{DATA}/filestore"),
    };
    let place = folder.join(&below);
    if !root.exists() {
        std::fs::create_dir_all(folder.join(DATA).join("filestore")).map_err(Error::io("cannot create", &place))?;
        return Ok(false);
    }
    if let Some(parent) = place.parent() {
        std::fs::create_dir_all(parent).map_err(Error::io("cannot create", parent))?;
    }
    let note = folder.join(NOTE);
    std::fs::write(&note, &below).map_err(Error::io("cannot write", &note))?;
    std::fs::rename(&root, &place).map_err(Error::io("cannot move the filestore to", &place))?;
    Ok(layout.single.is_some())
}

/// Moves it back, for a restore that goes on in the same folder.
pub fn put_back(folder: &Path) -> Result<()> {
    let (note, root) = (folder.join(NOTE), folder.join("filestore"));
    let Ok(below) = std::fs::read_to_string(&note) else { return Ok(()) };
    let place = folder.join(below.trim());
    let is_ours = Path::new(below.trim()).starts_with(DATA) && !below.contains("..");
    if is_ours && place.is_dir() && !root.exists() {
        std::fs::rename(&place, &root).map_err(Error::io("cannot move the filestore back to", &root))?;
    }
    std::fs::remove_file(&note).map_err(Error::io("cannot remove", &note))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the filestore is after it was arranged, and that it comes back.
    fn arranged(made: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(made);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "x").unwrap();
        arrange(folder.path(), &["demo".to_owned()]).unwrap();
        assert!(folder.path().join(expected).is_file(), "{made}");
        put_back(folder.path()).unwrap();
        assert!(file.is_file(), "{made}");
        put_back(folder.path()).unwrap();
    }

    #[test]
    fn the_filestore_lies_where_odoo_looks_for_it() {
        let expected = "odoo-data/filestore/demo/ab/ab12";
        arranged("filestore/demo/ab/ab12", expected);
        arranged("filestore/filestore/demo/ab/ab12", expected);
        arranged("filestore/ab/ab12", expected);
    }

    #[test]
    fn a_volume_of_another_folder_is_another() {
        assert!(is_bound(Some("/srv/a/pgdata"), Path::new("/srv/a/pgdata")));
        assert!(!is_bound(Some("/srv/b/pgdata"), Path::new("/srv/a/pgdata")) && !is_bound(None, Path::new("/srv/a")));
    }
}
