//! What is different in a negative control: where the damage is done, and that the climb ends once a check has failed.

use lifeboat_engine::recovery::staging::Staged;
use lifeboat_model::size::ByteSize;

use super::{Climb, Places, prepare::Prepared, replay::Replayed};
use crate::{
    error::{Error, Result},
    odoo,
    run::DrillRequest,
    source::{Fetched, OwnCopy},
};

impl DrillRequest {
    /// What a sabotage may damage.
    pub(super) fn own_copy<'a>(&'a self, places: &'a Places, fetched: &'a Fetched) -> OwnCopy<'a> {
        OwnCopy { restored: &places.restored, databases: &self.databases, addons: &self.config.addons, fetched }
    }
}

impl DrillRequest {
    /// Whether anything of Odoo is asked: a control that ends below has no container for it, nor any proof of isolation.
    pub(super) fn needs_odoo(&self) -> bool {
        self.sabotage.as_ref().is_none_or(|sabotage| sabotage.needs_odoo())
    }

    /// What each container may have: two share what the sandbox has.
    pub(super) fn memory_of_each(&self) -> ByteSize {
        let containers = if self.needs_odoo() { 2 } else { 1 };
        ByteSize(self.config.memory.0 / containers)
    }
}

impl Climb {
    /// Ends a control that has no use for Odoo, where nothing has failed: what had to see the damage has answered.
    pub(super) fn is_asked(&mut self, request: &DrillRequest) -> bool {
        let asked = !request.needs_odoo();
        if asked {
            self.ladder.stop(Error::NotNeeded.to_string());
        }
        asked
    }

    /// Whether a control ends here: a check of this rung or of one below has failed. What comes above would be asked on data
    /// that is known to be damaged, and would say nothing of what finds the damage.
    pub(super) fn is_found(&mut self, request: &DrillRequest) -> bool {
        let found = request.sabotage.is_some() && self.ladder.any_failed();
        if found {
            self.ladder.stop("a check has failed: a negative control goes no further");
        }
        found
    }

    /// Before rung 5, once all of the log is in place; gives what was brought.
    pub(super) async fn damage_log(
        &mut self,
        request: &DrillRequest,
        prepared: &Prepared,
        places: &Places,
    ) -> Result<Option<Result<Staged>>> {
        let Some(sabotage) = request.sabotage.as_ref().filter(|sabotage| sabotage.damages_log()) else {
            return Ok(None);
        };
        let staged = request.source.staged().await;
        sabotage.logged(&request.own_copy(places, &prepared.fetched)).await?;
        Ok(Some(staged))
    }

    /// Before rung 10. Odoo's image is asked again, as it has been asked before the damage.
    pub(super) async fn damage_addons(
        &mut self,
        request: &DrillRequest,
        prepared: &mut Prepared,
        replayed: &Replayed,
        places: &Places,
    ) -> Result<()> {
        let Some(sabotage) = request.sabotage.as_ref().filter(|sabotage| sabotage.damages_addons()) else {
            return Ok(());
        };
        sabotage.booting(&request.own_copy(places, &prepared.fetched), &replayed.clients).await?;
        let image = self.images.iter().find(|image| image.role == "odoo");
        if let (Ok(odoo), Some(image)) = (&mut prepared.odoo, image) {
            odoo.probed = odoo::probe(&odoo.container, image, odoo.user, &prepared.layout, &self.timing).await?;
        }
        Ok(())
    }
}
