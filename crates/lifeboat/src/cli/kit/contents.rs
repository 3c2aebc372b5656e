//! What goes into a kit: gathered and looked through before a byte is written.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use lifeboat_model::config::is_private_key;
use sha2::{Digest as _, Sha256};

use super::{
    config::{self, Portable},
    manifest::{self, Folder, Manifest, Taken},
    readme,
};
use crate::{
    cli::folder::files as files_of,
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    wire::Loaded,
};

/// The program's name in the kit.
pub const PROGRAM: &str = "lifeboat";
/// The configuration's name in the kit.
pub const CONFIG: &str = "lifeboat.toml";
/// A document or a policy is never longer.
const LONGEST: u64 = 4 << 20;

/// The files of a kit, by their paths in it.
pub struct Contents {
    /// All but the program, which is copied.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The program that runs now.
    pub program: PathBuf,
    /// What the kit was made from.
    pub manifest: Manifest,
}

/// Folders beside the configuration that go along, and what is taken from them.
const FOLDERS: [(&str, &str); 2] = [("runbooks", "md"), ("schedules", "toml")];

/// What was asked for.
pub struct Asked {
    /// Where the runbooks are, if not beside the configuration.
    pub runbooks: Option<PathBuf>,
    /// Whether the images go along.
    pub images: bool,
    /// The name of this machine.
    pub host: String,
    /// The time.
    pub now: Timestamp,
}

/// Gathers it.
pub fn gather(loaded: &Loaded, asked: &Asked) -> Result<Contents> {
    let (text, mut sources) = (read(&loaded.file)?, Vec::new());
    sources.push(taken(&loaded.file, &text));
    let text = String::from_utf8_lossy(&text).into_owned();
    let portable = config::portable(&text, &loaded.file, loaded.config.files())
        .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let mut files = BTreeMap::from([(CONFIG.to_owned(), portable.text.clone().into_bytes())]);
    for (from, to) in &portable.copies {
        let bytes = read(from)?;
        sources.push(taken(from, &bytes));
        files.insert(to.clone(), bytes);
    }
    let beside = loaded.file.parent().unwrap_or(Path::new(""));
    let mut folders = Vec::new();
    for (name, extension) in FOLDERS {
        let named = asked.runbooks.as_deref().filter(|_| name == "runbooks");
        let folder = named.map_or_else(|| beside.join(name), Path::to_owned);
        let path = std::path::absolute(&folder).unwrap_or_else(|_| folder.clone());
        folders.push(Folder { path, extension: extension.to_owned() });
        for path in files_of(&folder, extension, named.is_some())? {
            let bytes = read(&path)?;
            sources.push(taken(&path, &bytes));
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(format!("{name}/{file}"), bytes);
        }
    }
    refuse_secrets(&files, &loaded.file)?;
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let manifest = manifest_of(loaded, &portable, (sources, folders), glibc(&program)?, asked);
    let mut json = serde_json::to_vec_pretty(&manifest).context("cannot write down what the kit is made from")?;
    json.push(b'\n');
    files.insert(manifest::FILE.to_owned(), json);
    files.insert("README.md".to_owned(), readme::text(&manifest).into_bytes());
    Ok(Contents { files, program, manifest })
}

fn manifest_of(
    loaded: &Loaded,
    portable: &Portable,
    (sources, source_folders): (Vec<Taken>, Vec<Folder>),
    glibc: String,
    asked: &Asked,
) -> Manifest {
    let config = &loaded.config;
    let drills = config.instances.values().map(|instance| &instance.drill);
    let mut images: Vec<_> =
        drills.flat_map(|drill| [drill.postgres_image.to_string(), drill.odoo_image.to_string()]).collect();
    images.sort();
    images.dedup();
    Manifest {
        schema: manifest::SCHEMA.to_owned(),
        made: asked.now,
        host: asked.host.clone(),
        software: concat!("lifeboat ", env!("CARGO_PKG_VERSION")).to_owned(),
        glibc,
        tenant: config.tenant.clone(),
        instances: config.instances.keys().cloned().collect(),
        images,
        holds_images: asked.images,
        secrets: portable.slots.clone(),
        variables: portable.variables.clone(),
        folders: portable.folders.clone(),
        sources,
        source_folders,
    }
}

/// A kit lies in a drawer, and whoever finds it must not be able to open anything.
fn refuse_secrets(files: &BTreeMap<String, Vec<u8>>, config: &Path) -> Result<()> {
    for (name, bytes) in files {
        let text = String::from_utf8_lossy(bytes);
        if let Some(line) = text.lines().position(is_private_key) {
            let what = format!("{name}:{}: a private key; a kit never holds one", 1 + line);
            let hint = format!("take it out of the file that {name} is made from, beside {}", config.display());
            return Err(Failure::new(Exit::Key, what).hint(hint).safe("nothing was written"));
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let length = fs::metadata(path).context(format!("cannot read {}", path.display()))?.len();
    if length > LONGEST {
        return Err(Failure::new(Exit::Failed, format!("{} is too long for a kit: {length} bytes", path.display())));
    }
    fs::read(path).context(format!("cannot read {}", path.display()))
}

fn taken(path: &Path, bytes: &[u8]) -> Taken {
    let from = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Taken { from, sha256: hex::encode(Sha256::digest(bytes)) }
}

/// The oldest GNU C library that a program runs with: the highest version among the names of its symbols' versions (ELF,
/// `.gnu.version_r`).
fn glibc(program: &Path) -> Result<String> {
    const MARK: &[u8] = b"GLIBC_2.";
    let bytes = fs::read(program).context(format!("cannot read {}", program.display()))?;
    let versions = memchr::memmem::find_iter(&bytes, MARK).filter_map(|at| {
        let digits = bytes.iter().skip(at + MARK.len()).take(3).take_while(|byte| byte.is_ascii_digit());
        digits.fold(None, |number: Option<u32>, digit| Some(number.unwrap_or(0) * 10 + u32::from(digit - b'0')))
    });
    Ok(versions.max().map_or_else(|| "of any version".to_owned(), |minor| format!("2.{minor}")))
}
