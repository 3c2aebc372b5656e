//! Source files: none forgotten, none that prints behind the binary's back, nothing unfinished.

use std::{collections::BTreeSet, path::Path};

use crate::tree::{files, none, read, root, shown};

/// A file that no `mod` names is compiled by nobody, and its tests run never.
#[test]
fn no_source_file_is_orphaned() {
    let mut orphans = Vec::new();
    for folder in [root().join("crates"), root().join("tests")] {
        for file in files(&folder, "rs") {
            if !is_target(&file) && !is_named(&file) {
                orphans.push(shown(&file));
            }
        }
    }
    none("files that no module names", &orphans);
}

/// Roots that cargo finds by itself, or that a manifest names.
fn is_target(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let folder = file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    match name.as_ref() {
        "lib.rs" | "build.rs" => true,
        "main.rs" => folder == "src" || is_declared(file),
        _ => matches!(folder.as_ref(), "tests" | "examples" | "benches" | "bin"),
    }
}

/// `tests/x/main.rs` of a crate is found by cargo; that of the workspace only if the binary's manifest declares it.
fn is_declared(file: &Path) -> bool {
    match file.strip_prefix(root().join("tests")) {
        Err(_) => true,
        Ok(inside) => {
            let path = format!("../../tests/{}", inside.display());
            read(&root().join("crates/lifeboat/Cargo.toml")).contains(&format!("path = \"{path}\""))
        }
    }
}

/// Whether the parent module (`mod.rs`, `main.rs`, `lib.rs` or `<folder>.rs`) says `mod <name>`.
fn is_named(file: &Path) -> bool {
    let Some(mut folder) = file.parent() else { return false };
    let mut name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if name == "mod" {
        name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(above) = folder.parent() else { return false };
        folder = above;
    }
    let parents = ["mod.rs", "main.rs", "lib.rs"].map(|parent| folder.join(parent));
    let declares = |parent: &Path| {
        let text = if parent.is_file() { read(parent) } else { String::new() };
        text.lines().map(str::trim).any(|line| {
            let line = line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub ")).unwrap_or(line);
            line.strip_prefix("mod ").is_some_and(|rest| rest.trim_end_matches(';') == name)
        })
    };
    parents.iter().any(|parent| declares(parent)) || declares(&folder.with_extension("rs")) || is_shared(&name, folder)
}

/// What several test binaries use is named by its path, in each of them.
fn is_shared(name: &str, folder: &Path) -> bool {
    let path = format!("#[path = \"../{name}/mod.rs\"]");
    let mains = files(folder, "rs").into_iter().filter(|file| file.ends_with("main.rs"));
    folder.ends_with("tests") && mains.into_iter().any(|main| read(&main).contains(&path))
}

/// Only binaries speak, the auditor's as well: a library that prints corrupts `--json` and progress bars.
#[test]
fn libraries_do_not_print() {
    let mut wrong = Vec::new();
    for (file, number, line) in library_lines().into_iter().filter(|(file, ..)| file != "crates/verify/src/main.rs") {
        if ["println!(", "eprintln!(", "print!(", "eprint!(", "dbg!("].iter().any(|print| line.contains(print)) {
            wrong.push(format!("{file}:{number}: {}", line.trim()));
        }
    }
    none("libraries that print", &wrong);
}

/// Nothing shipped is a promise instead of code, and no test sleeps under a cover.
#[test]
fn nothing_is_unfinished() {
    let words = ["todo!(", "unimplemented!(", "#[ignore"];
    let mut wrong = Vec::new();
    for folder in ["crates", "tests"] {
        for file in files(&root().join(folder), "rs").iter().filter(|file| !file.ends_with("tidy/sources.rs")) {
            let text = read(file);
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !is_comment(line)) {
                if words.iter().any(|word| line.contains(word)) {
                    wrong.push(format!("{}:{}: {}", shown(file), number + 1, line.trim()));
                }
            }
        }
    }
    none("unfinished code", &wrong);
}

/// Names that say nothing collect everything.
#[test]
fn no_module_is_called_by_a_name_that_says_nothing() {
    let empty: BTreeSet<&str> = ["utils", "util", "common", "manager", "helper", "helpers", "misc"].into();
    let names = files(&root().join("crates"), "rs").into_iter().filter(|file| {
        let names = |part: std::path::Component<'_>| {
            let text = part.as_os_str().to_string_lossy().into_owned();
            empty.contains(text.trim_end_matches(".rs"))
        };
        file.strip_prefix(root()).is_ok_and(|path| path.components().any(names))
    });
    none("modules without a subject", &names.map(|file| shown(&file)).collect::<Vec<_>>());
}

/// Lines of the libraries, without comments and without the tests at the end of a file.
fn library_lines() -> Vec<(String, usize, String)> {
    let mut lines = Vec::new();
    for file in files(&root().join("crates"), "rs") {
        let inside = shown(&file);
        let is_library = !inside.starts_with("crates/lifeboat/") && !inside.starts_with("crates/testkit/");
        if !is_library || !inside.contains("/src/") {
            continue;
        }
        let text = read(&file);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code.lines().enumerate().filter(|(_, line)| !is_comment(line));
        lines.extend(code.map(|(number, line)| (inside.clone(), number + 1, line.to_owned())));
    }
    lines
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}
