//! `[instances.<name>.filestore]` and `[instances.<name>.config]`: what is kept besides the cluster.

use std::path::{Path, PathBuf};

use crate::{
    config::{
        checked::{ConfigCommand, ConfigSources, FilestoreConfig},
        files::FileKind,
        source::{Result, Value},
    },
    time::Span,
};

/// Long enough for `kubectl get` on a large cluster; short enough that a hanging command does not hold a backup.
const DEFAULT_COMMAND_TIMEOUT: Span = Span(std::time::Duration::from_secs(60));

pub(super) fn filestore(value: &Value<'_>) -> Result<FilestoreConfig> {
    let table = value.table()?;
    let hint = "add path = \"…\", the folder that holds one folder per database";
    let path = table.required("path", hint, |value| value.path(FileKind::Directory));
    table.finish();
    Ok(FilestoreConfig { path: path? })
}

pub(super) fn config(value: &Value<'_>) -> Result<ConfigSources> {
    let table = value.table()?;
    let paths = table.optional("paths", |value| value.list_of(config_path));
    let commands = table.optional("commands", commands);
    table.finish();
    let sources = ConfigSources { paths: paths?.unwrap_or_default(), commands: commands?.unwrap_or_default() };
    if sources == ConfigSources::default() {
        return Err(table.place.problem("names nothing", "add paths = [\"/etc/odoo\"], or remove the section"));
    }
    Ok(sources)
}

fn config_path(value: &Value<'_>) -> Result<PathBuf> {
    let path = value.absolute(FileKind::Any)?;
    if path == Path::new("/") {
        return Err(value
            .place
            .problem("would take in the whole machine", "name the files and folders that belong to this instance"));
    }
    Ok(path)
}

fn commands(value: &Value<'_>) -> Result<Vec<ConfigCommand>> {
    let mut commands: Vec<ConfigCommand> = Vec::new();
    let mut failed = None;
    for item in value.list()? {
        match command(&item) {
            Ok(command) if commands.iter().any(|other| other.name == command.name) => {
                let message = format!("there is another command named \"{}\"", command.name);
                failed =
                    Some(item.place.problem(message, "the name is the file the output is kept in: give each its own"));
            }
            Ok(command) => commands.push(command),
            Err(reported) => failed = Some(reported),
        }
    }
    failed.map_or(Ok(commands), Err)
}

fn command(value: &Value<'_>) -> Result<ConfigCommand> {
    let table = value.table()?;
    let name = table.required("name", "add name = \"…\", the file that the output is kept in", command_name);
    let hint = "add run = [\"program\", \"argument\"]; no shell is in between";
    let run = table.required("run", hint, arguments);
    let timeout = table.optional("timeout", |value| value.span("1s", "1h"));
    table.finish();
    Ok(ConfigCommand { name: name?, run: run?, timeout: timeout?.unwrap_or(DEFAULT_COMMAND_TIMEOUT) })
}

fn command_name(value: &Value<'_>) -> Result<String> {
    let text = value.filled()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.len() <= 63 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    let hint = "use 1 to 63 of letters, digits, '.', '_' and '-', starting with a letter or digit";
    Err(value.place.problem("not a usable file name", hint))
}

pub(super) fn arguments(value: &Value<'_>) -> Result<Vec<String>> {
    let items = value.list()?;
    if items.is_empty() {
        return Err(value
            .place
            .problem("the list is empty", "write the program and its arguments: [\"program\", \"argument\"]"));
    }
    // An argument may be empty and may stand twice; the program may not be empty.
    let program = items[0].filled();
    let arguments: Vec<Result<&str>> = items.iter().skip(1).map(Value::text).collect();
    let all: Result<Vec<String>> = [program].into_iter().chain(arguments).map(|text| text.map(str::to_owned)).collect();
    let all = all?;
    if all.iter().any(|argument| argument.to_ascii_lowercase().contains("password=")) {
        value.place.warn(
            "an argument seems to hold a password, which every user of this host can see while the command runs",
            "let the program read it from a file",
        );
    }
    Ok(all)
}
