//! Writing a kit. Its list of sums comes last: a kit that was not finished does not check.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    pin::pin,
};

use futures::TryStreamExt as _;
use lifeboat_drill::sandbox::Docker;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::{
    config::SECRETS,
    contents::{Contents, PROGRAM},
    manifest,
};
use crate::{
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    wire,
};

/// The list of sums, as `sha256sum -c` reads it.
pub const SUMS: &str = "SHA256SUMS";

/// In the folder while it is no kit: the names of what is being written, and of what an older kit has left.
const UNFINISHED: &str = "KIT-UNFINISHED";

/// The archive of images, as `docker load` reads it.
pub const IMAGES: &str = "images.tar";

/// Writes all but the images, which are there or are not meant to be, and the list of sums. Secrets that people put into an
/// older kit are left alone.
pub fn write(contents: &Contents, to: &Path) -> Result<()> {
    let failed = |name: &str| format!("cannot write {}", to.join(name).display());
    let mut sums = BTreeMap::new();
    for (name, bytes) in &contents.files {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap_or(to)).context(failed(name))?;
        put(&path, &mut bytes.as_slice(), 0o644).context(failed(name))?;
        sums.insert(name.clone(), hex::encode(Sha256::digest(bytes)));
    }
    let mut program = File::open(&contents.program).context("cannot read the program that runs")?;
    put(&to.join(PROGRAM), &mut program, 0o755).context(failed(PROGRAM))?;
    // Read back: a stick that swallows bytes is found here and not at night.
    for name in [PROGRAM, IMAGES].into_iter().filter(|name| to.join(name).exists()) {
        sums.insert(name.to_owned(), sha256_of(&to.join(name)).context(failed(name))?);
    }
    if sums.get(PROGRAM) != Some(&sha256_of(&contents.program).context("cannot read the program that runs")?) {
        return Err(Failure::new(Exit::Failed, format!("{} is not what was written", to.join(PROGRAM).display()))
            .hint("the disk or the stick is bad: use another one"));
    }
    let secrets = to.join(SECRETS);
    fs::create_dir_all(&secrets).context(failed(SECRETS))?;
    // A file system of a stick may know no modes; the files in it are checked when they are used.
    let _ = fs::set_permissions(&secrets, fs::Permissions::from_mode(0o700));
    let list: String = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
    put(&to.join(SUMS), &mut list.as_bytes(), 0o644).context(failed(SUMS))?;
    remove(&to.join(UNFINISHED))
}

/// An engine that has all the images.
pub async fn engine_with(images: &[String]) -> Result<Docker> {
    let docker = Docker::connect(wire::environment("DOCKER_HOST").as_deref()).await?;
    for image in images {
        if image.contains('@') {
            return Err(Failure::new(Exit::Usage, format!("the image {image} is named by its digest alone"))
                .hint(
                    "docker load gives back names, and no digests: name it by a tag, or write the kit without --images",
                )
                .safe("nothing was written"));
        }
        if docker.image_id(image).await?.is_none() {
            return Err(Failure::new(Exit::NotFound, format!("the image {image} is not on this host"))
                .hint("fetch it, or write the kit without --images")
                .safe("nothing was written")
                .next(format!("docker pull {image}")));
        }
    }
    Ok(docker)
}

/// Writes the images.
pub async fn save(docker: &Docker, images: &[String], to: &Path) -> Result<()> {
    let path = to.join(IMAGES);
    let failed = || format!("cannot write {}", path.display());
    let names: Vec<&str> = images.iter().map(String::as_str).collect();
    let mut pieces = pin!(docker.save_images(&names));
    let mut file = tokio::fs::File::create(&path).await.context(failed())?;
    while let Some(piece) = pieces.try_next().await? {
        file.write_all(&piece).await.context(failed())?;
    }
    file.sync_all().await.context(failed())
}

/// Makes the folder, if it is new. It may be empty, an older kit, which goes, or one that was not finished; nothing else goes.
pub fn make_room(contents: &Contents, to: &Path) -> Result<()> {
    fs::create_dir_all(to).context(format!("cannot make {}", to.display()))?;
    let mut entries = fs::read_dir(to).context(format!("cannot list {}", to.display()))?;
    let is_empty = entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found"));
    let is_kit = [manifest::FILE, SUMS, UNFINISHED].iter().any(|name| to.join(name).is_file());
    if !is_empty && !is_kit {
        return Err(Failure::new(Exit::Failed, format!("{} is not empty, and no kit", to.display()))
            .hint("name a new folder for the kit")
            .safe("nothing was written"));
    }
    let read = |name: &str| fs::read_to_string(to.join(name)).unwrap_or_default();
    let (sums, unfinished) = (read(SUMS), read(UNFINISHED));
    let old: BTreeSet<&str> = listed(&sums).chain(listed(&unfinished)).map(|(_, name)| name).collect();
    let new = contents.files.keys().map(String::as_str).chain([PROGRAM, IMAGES]);
    let names: String = old.iter().copied().chain(new).map(|name| format!("-  {name}\n")).collect();
    let marker = to.join(UNFINISHED);
    put(&marker, &mut names.as_bytes(), 0o644).context(format!("cannot write {}", marker.display()))?;
    // Without its list it is no kit any more, until the new one is whole.
    old.iter().chain([&SUMS]).try_for_each(|name| remove(&to.join(name)))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Sums and names of a list. A name that leads out of the kit is none.
pub fn listed(list: &str) -> impl Iterator<Item = (&str, &str)> {
    let plain = |name: &&str| Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    list.lines().filter_map(|line| line.split_once("  ")).filter(move |(_, name)| plain(name))
}

fn put(path: &Path, from: &mut impl io::Read, mode: u32) -> io::Result<()> {
    let mut file = File::create(path)?;
    io::copy(from, &mut file)?;
    file.flush()?;
    let _ = file.set_permissions(fs::Permissions::from_mode(mode)); // not every file system has modes
    file.sync_all()
}

/// SHA-256 of a file, in hexadecimal.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..length]);
    }
}
