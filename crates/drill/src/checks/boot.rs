//! Rung 10: the image fits, the modules are there, the registry loads, and the log has nothing to hide.

use std::{collections::BTreeSet, path::PathBuf};

use lifeboat_odoo::{
    boot_log,
    modules::{self, Difference, Module},
    versions::series,
};

use tokio_postgres::Client;

use crate::{
    checks::some,
    error::{Error, Result},
    ladder::Answer,
    odoo::Program,
};

/// The image's series against every database's.
pub(crate) fn image(
    image: &str,
    probed: &std::result::Result<Program, String>,
    databases: &[(String, Vec<Module>)],
) -> Answer {
    let program = match probed {
        Ok(program) => program,
        Err(why) => return Answer::failed(why.clone()).in_public(format!("image {image} has no Odoo that runs")),
    };
    let available = series(&program.version).unwrap_or_default();
    let mut wrong = Vec::new();
    for (database, installed) in databases {
        match modules::database_series(installed) {
            Ok(needed) if needed == available => {}
            Ok(needed) => {
                wrong.push(format!("image {image} has Odoo {available}, database \"{database}\" needs {needed}"));
            }
            Err(error) => wrong.push(format!("database \"{database}\": {error}")),
        }
    }
    if wrong.is_empty() { Answer::passed(program.version.clone()) } else { Answer::failed(wrong.join("; ")) }
}

/// Installed modules against those in the image and the restored addons.
pub(crate) fn modules(program: &Program, databases: &[(String, Vec<Module>)], missing_addons: &[PathBuf]) -> Answer {
    let (mut missing, mut other, mut installed) = (BTreeSet::new(), BTreeSet::new(), 0);
    for (_, modules) in databases {
        let Difference { missing: gone, other_version } = modules::compare(modules, &program.available);
        installed += modules.len();
        missing.extend(gone);
        other.extend(
            other_version.into_iter().map(|(name, database, image)| {
                format!("{name} is {database} in the database and {image} in the image")
            }),
        );
    }
    let mut wrong = Vec::new();
    if !missing_addons.is_empty() {
        let paths: Vec<String> = missing_addons.iter().map(|path| path.display().to_string()).collect();
        wrong.push(format!("addons folders not in the config backup: {}", paths.join(", ")));
    }
    if !missing.is_empty() {
        wrong.push(format!("missing: {}", missing.into_iter().collect::<Vec<_>>().join(", ")));
    }
    if !other.is_empty() {
        let other: Vec<String> = other.into_iter().collect();
        wrong.push(some(&other, other.len() as u64));
    }
    match wrong.is_empty() {
        true => Answer::passed(format!("{installed} installed, all available ({} in reach)", program.available.len())),
        false => Answer::failed(wrong.join("; ")),
    }
}

/// How many sessions somebody else than us, and that is Odoo, has with each database of the sandbox's server.
pub(crate) async fn sessions(clients: &[(String, Client)]) -> Result<Vec<(String, i64)>> {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' \
                 AND application_name <> current_setting('application_name')";
    let mut sessions = Vec::with_capacity(clients.len());
    for (database, client) in clients {
        let row = client.query_one(query, &[]).await.map_err(Error::sql("count Odoo's sessions"))?;
        sessions.push((database.clone(), row.get(0)));
    }
    Ok(sessions)
}

/// Whether the registry of every database was loaded, from the sandbox's server, and HTTP is served.
pub(crate) fn registry(
    serves: bool,
    log: &boot_log::Report,
    databases: &[String],
    sessions: &[(String, i64)],
) -> Answer {
    let missing: Vec<String> = databases.iter().filter(|name| !log.loaded(name)).cloned().collect();
    if let Some((database, _)) = sessions.iter().find(|(_, count)| *count == 0) {
        return Answer::failed(format!(
            "Odoo has no session with {database} of the sandbox: where did it load it from?"
        ));
    }
    if serves && missing.is_empty() {
        let times: Vec<String> =
            log.registries.iter().map(|(name, seconds)| format!("{name} in {seconds:.1} s")).collect();
        return Answer::passed(format!("registry loaded: {}; HTTP served", times.join(", ")));
    }
    let findings: Vec<String> = log.findings.iter().map(|finding| finding.text.clone()).collect();
    let last = some(&findings, log.found);
    let what = match serves {
        false => "Odoo ended before it served".to_owned(),
        true => format!("registry not loaded: {}", missing.join(", ")),
    };
    Answer::failed(format!("{what}; its log: {last}")).in_public(what)
}

/// The whole log, the requests of the use rung included; whether its end has been seen is `settled`.
pub(crate) fn log(report: &boot_log::Report, settled: bool) -> Answer {
    if report.lines == 0 {
        return Answer::not_executed("Odoo printed nothing");
    }
    if report.found == 0 && !settled {
        return Answer::not_executed(format!(
            "the end of Odoo's log did not come; nothing found in {} lines",
            report.lines
        ));
    }
    if report.found == 0 {
        return Answer::passed(format!("{} lines, nothing found", report.lines));
    }
    let findings: Vec<String> = report
        .findings
        .iter()
        .map(|finding| format!("line {}: {}: {}", finding.line, finding.kind.describe(), finding.text))
        .collect();
    let mut kinds: Vec<&str> = report.findings.iter().map(|finding| finding.kind.describe()).collect();
    kinds.dedup();
    Answer::failed(some(&findings, report.found)).in_public(format!("{} lines: {}", report.found, kinds.join(", ")))
}
