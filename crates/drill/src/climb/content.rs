//! Rungs 6 to 9: what is in the promoted server, and making it harmless.

use std::time::Duration;

use lifeboat_evidence::drill::Worker;
use lifeboat_odoo::{attachments, modules};
use tokio_postgres::Client;

use super::{Climb, Places, prepare::Prepared, replay::Replayed, serve::merge};
use crate::{
    checks,
    error::{Error, Result, with_causes},
    ladder::{self, Answer},
    odoo::{self, Layout},
    run::DrillRequest,
    source::Fetched,
};

/// A harmless copy, and what Odoo needs to know of it.
pub(super) struct Ready {
    /// By database.
    pub installed: Vec<(String, Vec<modules::Module>)>,
    /// What the image runs.
    pub program: odoo::Program,
}

impl Climb {
    /// Rungs 6 to 9.
    pub(super) async fn content(
        &mut self,
        request: &DrillRequest,
        prepared: &mut Prepared,
        replayed: &mut Replayed,
        places: &Places,
    ) -> Result<Option<Ready>> {
        let installed = self.data(request, prepared, replayed).await?;
        if self.is_found(request) || self.is_asked(request) {
            return Ok(None);
        }
        self.damage_addons(request, prepared, replayed, places).await?;
        self.neutralise(request, prepared, replayed, places, installed).await
    }

    /// Rungs 6, 7 and 8, which are independent of each other.
    async fn data(
        &mut self,
        request: &DrillRequest,
        prepared: &mut Prepared,
        replayed: &Replayed,
    ) -> Result<Vec<(String, Vec<modules::Module>)>> {
        self.begin_phase("check data");
        let timing = self.timing.clone();
        let isolation = prepared.isolation.take();
        let Prepared { fetched, layout, postgres, user, .. } = &*prepared;
        let Replayed { server, clients } = replayed;
        let mut reports = Vec::new();
        let mut comparison = self.comparison.clone();
        let is_compared = self.ladder.has(&ladder::DIGESTS);
        let limit = request.config.timeout.0 / 2;
        let (amcheck, digests, attachments, isolation, installed) = tokio::join!(
            timing.program(
                Worker::Postgres,
                "pg_amcheck",
                ladder::AMCHECK.ask(checks::structure::amcheck(postgres, *user, server, limit))
            ),
            async {
                if is_compared {
                    return None;
                }
                let compared = checks::data::compare(server, fetched.witness.as_ref(), &mut comparison);
                Some(timing.during(Worker::Postgres, "digests", ladder::DIGESTS.ask(compared)).await)
            },
            timing.during(
                Worker::Own,
                "hash attachments",
                ladder::ATTACHMENTS.ask(verify_attachments(clients, layout, fetched, &mut reports))
            ),
            async {
                match isolation {
                    Some(proof) => timing
                        .during(Worker::Own, "prove isolation", proof)
                        .await
                        .unwrap_or_else(|error| Err(Error::Task(error.to_string()))),
                    None => Err(Error::NotNeeded),
                }
            },
            list_modules(clients),
        );
        self.comparison = comparison;
        self.note_attachments(&reports);
        for check in [Some(amcheck), digests, Some(attachments)].into_iter().flatten() {
            self.ladder.record(check);
        }
        self.record_isolation(isolation);
        let installed = installed?;
        self.versions.modules = Some(installed.iter().map(|(_, modules)| modules.len() as u64).sum());
        Ok(installed)
    }

    /// Rung 9. Nothing of Odoo has loaded the database until here.
    async fn neutralise(
        &mut self,
        request: &DrillRequest,
        prepared: &Prepared,
        replayed: &mut Replayed,
        places: &Places,
        installed: Vec<(String, Vec<modules::Module>)>,
    ) -> Result<Option<Ready>> {
        self.begin_phase("neutralise");
        let odoo = &prepared.odoo;
        let probed = match odoo {
            Ok(odoo) => odoo.probed.clone(),
            Err(error) => Err(with_causes(error)),
        };
        let image = match odoo {
            Ok(_) => checks::boot::image(&request.config.odoo_image, &probed, &installed),
            // An engine without the image says nothing of the backup.
            Err(error) => Answer::impossible(error),
        };
        self.ladder.record(ladder::IMAGE.answered(image, Duration::ZERO));
        let usable =
            if self.ladder.passed(&ladder::IMAGE) { odoo.as_ref().ok().zip(probed.as_ref().ok()) } else { None };
        self.versions.odoo = probed.as_ref().ok().map(|program| program.version.clone());
        // Nothing of the database has been changed until here.
        let target = checks::target::confirm(&replayed.server, &places.settings, &replayed.clients);
        self.ladder.record(ladder::TARGET.ask(target).await);
        if !self.ladder.passed(&ladder::TARGET) {
            return Ok(self.stop_at(&ladder::TARGET));
        }
        let (role, password) = replayed.server.odoo_role(&request.databases).await?;
        if let Some((odoo, program)) = usable {
            let host = prepared.postgres.address.to_string();
            let database = odoo::Database { host, role: &role, password: &password, names: &request.databases };
            odoo::write_settings(&places.work, odoo.user, program, &database)?;
        }
        let mut neutralised = Vec::new();
        for ((database, client), (_, modules)) in replayed.clients.iter_mut().zip(&installed) {
            let has_command = modules::major(modules).is_ok_and(|major| major.facts().neutralize_command);
            let limit = request.config.timeout.0.saturating_sub(self.begun.elapsed()).max(Duration::from_secs(120));
            let own = usable.filter(|_| has_command).map(|(odoo, program)| checks::neutralise::OwnProgram {
                container: &odoo.container,
                user: odoo.user,
                program,
                limit,
            });
            let worker = if own.is_some() { Worker::Odoo } else { Worker::Postgres };
            let applying = ladder::NEUTRALISE.ask(checks::neutralise::apply(own, database, client));
            neutralised.push(self.timing.program(worker, "neutralise", applying).await);
        }
        self.ladder.record(merge(&ladder::NEUTRALISE, neutralised));
        let asserting = ladder::ASSERT.ask(checks::neutralise::assert(&replayed.clients));
        self.ladder.record(self.timing.during(Worker::Postgres, "assert", asserting).await);
        if !self.ladder.passed(&ladder::ASSERT) {
            let id = ladder::ASSERT.id;
            self.ladder.stop(format!("{id} did not pass: Odoo is not started on data that is not neutralised"));
            return Ok(None);
        }
        if !self.ladder.passed(&ladder::ISOLATION) {
            return Ok(self.stop_at(&ladder::ISOLATION));
        }
        match usable {
            Some((_, program)) => Ok(Some(Ready { installed, program: program.clone() })),
            None => Ok(self.stop_at(&ladder::IMAGE)),
        }
    }
}

/// Every database's rows against its folder.
pub(crate) async fn verify_attachments(
    clients: &[(String, Client)],
    layout: &Layout,
    fetched: &Fetched,
    reports: &mut Vec<(String, attachments::Report)>,
) -> Result<Answer> {
    for (database, client) in clients {
        let folder = layout.of_database(database);
        let known = fetched.known_missing.iter().filter_map(|name| layout.below_database(name, database));
        let place = checks::attachments::Place { folder, known_missing: known.map(str::to_owned).collect() };
        reports.push((database.clone(), checks::attachments::verify(client, place).await?));
    }
    Ok(checks::attachments::judge(reports))
}

async fn list_modules(clients: &[(String, Client)]) -> Result<Vec<(String, Vec<modules::Module>)>> {
    let mut lists = Vec::with_capacity(clients.len());
    for (database, client) in clients {
        lists.push((database.clone(), modules::installed(client).await?));
    }
    Ok(lists)
}
