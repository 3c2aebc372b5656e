//! From files to checked policies. Every file is read once: what is parsed is what the digest is of. Problems of all files
//! are told together.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use lifeboat_engine::named;
use lifeboat_model::config::{self, Config, FileCheck, Problem, RepositoryConfig, Warning, reading::Spot};
use sha2::{Digest as _, Sha256};

use super::{Policies, PolicyFile, Site};
use crate::{
    daemon::Sources,
    schedule,
    settings::{self, Draft, Named, Settings, TenantFiles},
};

/// What was read so far.
#[derive(Default)]
struct Reading {
    files: Vec<PolicyFile>,
    folders: Vec<PathBuf>,
    problems: Vec<Problem>,
}

/// What [`read`] makes of the files.
pub(super) struct Read {
    pub(super) policies: Option<Policies>,
    pub(super) problems: Vec<Problem>,
    /// Of settings and schedules; those of configurations are also kept with their site.
    pub(super) warnings: Vec<Warning>,
}

pub(super) fn read(sources: &Sources) -> Read {
    let mut reading = Reading::default();
    let mut warnings = Vec::new();
    let draft = reading.settings(sources);
    let mut sites = Vec::new();
    for tenant in draft.iter().flat_map(|draft| &draft.tenants) {
        sites.extend(reading.site(tenant, &mut warnings));
    }
    if let Some(draft) = &draft {
        warnings.extend(draft.warnings.iter().cloned());
        reading.look_at(&draft.files);
        reading.apart(&sites);
        // Names in a configuration that is not understood would be missed as well.
        if sites.len() == draft.tenants.len() {
            reading.known(&draft.names, &sites);
        }
    }
    let Reading { mut files, mut folders, problems } = reading;
    files.sort();
    files.dedup();
    folders.sort();
    let policies = draft.filter(|_| problems.is_empty()).map(|draft| {
        let mut settings = draft.settings;
        if settings.state_dir == Path::new("") {
            let first = sites.first().map(|(_, site)| site.config.engine.state_dir.join("daemon"));
            settings.state_dir = first.unwrap_or_default();
        }
        let sites = sites.into_iter().map(|(_, site)| (site.config.tenant.clone(), Arc::new(site))).collect();
        Policies { settings, sites, files, folders }
    });
    Read { policies, problems, warnings }
}

/// The settings alone.
pub(super) fn settings(sources: &Sources) -> Result<Settings, Vec<Problem>> {
    let mut reading = Reading::default();
    let draft = reading.settings(sources);
    match draft {
        Some(draft) if reading.problems.is_empty() => Ok(draft.settings),
        _ => Err(reading.problems),
    }
}

impl Reading {
    /// A file's text; its digest is remembered.
    fn text(&mut self, path: &Path, named_at: &Spot) -> Option<String> {
        let mut refuse = |message: String, hint: &str| {
            self.problems.push(named_at.problem(message, hint));
            None
        };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let hint = match error.kind() {
                    io::ErrorKind::NotFound => "correct the path, or make the file",
                    io::ErrorKind::PermissionDenied => "change its owner, or run as its owner",
                    _ => "",
                };
                return refuse(format!("cannot read {}: {error}", path.display()), hint);
            }
        };
        self.files.push(PolicyFile { path: path.to_owned(), sha256: hex::encode(Sha256::digest(&bytes)) });
        match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(_) => refuse(format!("{} is not text in UTF-8", path.display()), "save it as UTF-8"),
        }
    }

    /// `daemon.toml`; without one, the settings of one tenant whose configuration is named.
    fn settings(&mut self, sources: &Sources) -> Option<Draft> {
        let alone = |config: PathBuf, at: Spot| TenantFiles { config, schedules: None, at };
        let Some(file) = &sources.settings else {
            let config = sources.config.clone().unwrap_or_else(|| PathBuf::from("lifeboat.toml"));
            let settings = settings::defaults(config.parent().unwrap_or(Path::new("")));
            let at = file_spot(&config);
            return Some(Draft::plain(settings, alone(config, at)));
        };
        let text = self.text(file, &file_spot(file))?;
        match settings::read(&text, file) {
            Ok(mut draft) => {
                if draft.tenants.is_empty() {
                    let beside = file.parent().unwrap_or(Path::new("")).join("lifeboat.toml");
                    draft.tenants.push(alone(sources.config.clone().unwrap_or(beside), file_spot(file)));
                }
                Some(draft)
            }
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    /// A tenant's configuration and schedules.
    fn site(&mut self, tenant: &TenantFiles, warnings: &mut Vec<Warning>) -> Option<(Spot, Site)> {
        let text = self.text(&tenant.config, &tenant.at);
        let beside = tenant.config.parent().unwrap_or(Path::new("")).join("schedules");
        let folder = tenant.schedules.clone().unwrap_or(beside);
        let schedules = self.schedules(&folder, tenant.schedules.is_some());
        self.folders.push(folder.clone());
        let (config, config_warnings) = match text.map(|text| config::parse(&text, &tenant.config)) {
            Some(Ok(parsed)) => parsed,
            Some(Err(problems)) => {
                self.problems.extend(problems);
                self.problems.extend(schedule::problems(&schedules));
                return None;
            }
            None => {
                self.problems.extend(schedule::problems(&schedules));
                return None;
            }
        };
        let found = match schedule::read(&schedules, &config) {
            Ok(found) => found,
            Err(problems) => {
                self.problems.extend(problems);
                schedule::Found::default()
            }
        };
        self.look_at(&found.files);
        let mut own = found.warnings;
        if schedules.is_empty() {
            let message = format!("there is no schedule in {}: nothing is done by itself", folder.display());
            own.push(file_spot(&tenant.config).problem(message, "copy those of the tiers in use from schedules/"));
        }
        let texts = config_warnings.iter().chain(&own).map(ToString::to_string).collect();
        warnings.extend(own);
        let digest = self.files.iter().find(|file| file.path == tenant.config).map(|file| file.sha256.clone());
        let site = Site {
            config_file: tenant.config.clone(),
            config,
            config_digest: digest.unwrap_or_default(),
            warnings: texts,
            schedules: found.schedules,
        };
        Some((tenant.at.clone(), site))
    }

    /// The texts of all `*.toml` in a folder, by name. One that nobody named need not be there.
    fn schedules(&mut self, folder: &Path, is_named: bool) -> Vec<(PathBuf, String)> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            // That a folder is missing which somebody named is found with the other paths.
            Err(error) if is_named || error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                let message = format!("cannot read the folder: {error}");
                self.problems.push(file_spot(folder).problem(message, "change its owner, or run as its owner"));
                return Vec::new();
            }
        };
        let is_schedule = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Editors leave hidden files beside what they write.
            name.ends_with(".toml") && !name.starts_with('.')
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_schedule).collect();
        paths.sort();
        let read = |path: PathBuf| self.text(&path, &file_spot(&path)).map(|text| (path, text));
        paths.into_iter().filter_map(read).collect()
    }

    fn look_at(&mut self, files: &[FileCheck]) {
        self.problems.extend(files.iter().filter_map(named::problem));
    }

    /// No two tenants share a name or a repository.
    fn apart(&mut self, sites: &[(Spot, Site)]) {
        for (index, (at, site)) in sites.iter().enumerate() {
            for (_, other) in &sites[..index] {
                let file = other.config_file.display();
                if site.config.tenant == other.config.tenant {
                    let message = format!("the tenant \"{}\" is in {file} as well", site.config.tenant);
                    self.problems.push(at.problem(message, "name each tenant once"));
                } else if let Some(place) = shared(&site.config, &other.config) {
                    let message = format!("{place} is a repository of \"{}\" ({file}) as well", other.config.tenant);
                    let hint = "give each tenant a prefix of its own: keys, credentials and locks never cross tenants";
                    self.problems.push(at.problem(message, hint));
                }
            }
        }
    }

    /// Names in the settings that only a tenant's configuration gives.
    fn known(&mut self, names: &[(Named, Spot)], sites: &[(Spot, Site)]) {
        let configs = || sites.iter().map(|(_, site)| &site.config);
        for (name, at) in names {
            let (what, name, known): (_, _, Vec<&str>) = match name {
                Named::Tenant(name) => ("tenant", name, configs().map(|config| config.tenant.as_str()).collect()),
                Named::Instance(name) => (
                    "instance",
                    name,
                    configs().flat_map(|config| config.instances.keys().map(|it| it.as_str())).collect(),
                ),
                Named::Tier(name) => {
                    ("tier", name, configs().flat_map(|config| config.tiers.keys().map(|it| it.as_str())).collect())
                }
            };
            if !known.contains(&name.as_str()) {
                let hint = match config::reading::nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("known: {}", known.join(", ")),
                };
                self.problems.push(at.problem(format!("no {what} \"{name}\""), hint));
            }
        }
    }
}

/// The file as a whole.
fn file_spot(file: &Path) -> Spot {
    Spot { file: file.to_owned(), line: None, key: String::new() }
}

/// A place that is one tenant's primary and in use by the other as well. Two may copy to one place: below it, each has a
/// folder of its own, and nobody leads there.
fn shared(one: &Config, other: &Config) -> Option<String> {
    let copies = |config: &Config| config.copies.iter().map(|copy| place(&copy.repository)).collect::<Vec<_>>();
    let (first, second) = (place(&one.repository), place(&other.repository));
    let is_shared = first == second || copies(other).contains(&first);
    match is_shared {
        true => Some(first),
        false => copies(one).contains(&second).then_some(second),
    }
}

/// The same text for the same place.
fn place(repository: &RepositoryConfig) -> String {
    let endpoint = |url: &Option<url::Url>| url.as_ref().map(|url| format!(" at {url}")).unwrap_or_default();
    match repository {
        RepositoryConfig::Local { path } => format!("directory {}", real(path).display()),
        RepositoryConfig::S3(s3) => format!("s3://{}/{}{}", s3.bucket, s3.prefix, endpoint(&s3.endpoint)),
        RepositoryConfig::Gcs(gcs) => format!("gs://{}/{}{}", gcs.bucket, gcs.prefix, endpoint(&gcs.endpoint)),
        RepositoryConfig::Azure(azure) => {
            format!("azure://{}/{}/{}{}", azure.account, azure.container, azure.prefix, endpoint(&azure.endpoint))
        }
    }
}

/// Without links and `..`, as far as it is there: the folder itself may be made later.
pub(crate) fn real(path: &Path) -> PathBuf {
    let existing = path.ancestors().find_map(|above| {
        let folder = if above == Path::new("") { Path::new(".") } else { above };
        Some(fs::canonicalize(folder).ok()?.join(path.strip_prefix(above).ok()?))
    });
    existing.unwrap_or_else(|| path.to_owned())
}
