//! What a step of a runbook does to the world: a file an action.
//!
//! A step is what a person would have typed. Where Lifeboat itself does it, this very program is started as a process of its own
//! ([`program`]); everything else is asked of the engine, the server or the program that a person would have asked.
//! Nothing is remembered here: whether a step was done is seen by looking, so that any executor can take a run up.
//!
//! **Never here:** which step is next (`lifeboat_runbook::course`), who is asked, where lines are kept.

mod answers;
mod command;
mod dns;
mod http;
mod kubernetes;
mod masks;
mod notify;
mod odoo;
pub mod practice;
mod program;
mod promote;
mod restore;
mod service;
mod sql;
mod verify;
mod wait;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use lifeboat_daemon::settings::Channel;
use lifeboat_engine::keys;
use lifeboat_model::{
    config::{self, Config, SecretSource},
    secret::Secret,
};
use lifeboat_runbook::{
    action::Action,
    execute::{Acting, Finish, Hands, Outputs},
    template::Template,
    values,
};
use url::Url;

use crate::wire;

pub use masks::Masks;
pub use practice::Sandbox;
pub use program::Left;

/// What every step may need.
pub struct Tools {
    /// Where the configuration is. Every step reads it by itself, as a process of its own would: a step before it may have led the way to
    /// another server. None: there is none, and what needs it says so.
    pub config_file: Option<PathBuf>,
    /// The run's id.
    pub run: String,
    /// A folder of this run on this host, mode 0700: locks of its steps, empty folders for its programs.
    pub folder: PathBuf,
    /// Why processes are started, for evidence.
    pub started_by: String,
    /// Ways to people, from the daemon's settings where there are such.
    pub channels: Vec<Channel>,
    /// Where the daemon's pages are, for messages.
    pub public_url: Option<Url>,
    /// What is lost is counted back from here: when the incident began, else when the run did.
    pub reference: Timestamp,
    /// Tells the time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Says something to whoever watches.
    pub talk: Arc<dyn Fn(&str) + Send + Sync>,
    /// What stands in for production; none: it is real.
    pub practice: Option<practice::Sandbox>,
    /// Every secret that a step of this run has read: none of them gets into a journal.
    pub masks: Masks,
    /// What steps that were stopped have left behind, until it is over.
    pub left: Left,
}

impl Tools {
    /// A file or folder name for a step: `call/step` is one.
    fn slot(&self, step: &str) -> PathBuf {
        self.folder.join(step.replace('/', "."))
    }

    /// Reads a secret that a block names, and sees to it that it is never written down.
    fn secret(&self, secret: &values::Secret, acting: &Acting<'_>) -> Result<Secret, String> {
        let source = match secret {
            values::Secret::File(path) => SecretSource::File(self.path(&acting.course.fill(path))),
            values::Secret::Env(name) => SecretSource::Env(name.clone()),
        };
        let read = keys::read_secret(&source, &wire::environment).map_err(|error| error.to_string())?;
        self.masks.hide(&read);
        Ok(read)
    }

    /// A path of a runbook: from the folder in which the run was started.
    fn path(&self, text: &str) -> PathBuf {
        Path::new(text).to_owned()
    }

    /// The configuration as it is now, or why there is none.
    fn config(&self) -> Result<Config, String> {
        let unusable = |why: String| format!("there is no usable lifeboat.toml ({why}): lifeboat config check");
        let Some(file) = &self.config_file else { return Err(unusable("none was found".to_owned())) };
        let text = fs::read_to_string(file).map_err(|error| unusable(error.to_string()))?;
        match config::parse(&text, file) {
            Ok((config, _)) => Ok(config),
            Err(problems) => Err(unusable(problems.first().map(ToString::to_string).unwrap_or_default())),
        }
    }
}

/// A file of a slot.
fn of_slot(slot: &Path, what: &str) -> PathBuf {
    let mut name = slot.as_os_str().to_owned();
    name.push(format!(".{what}"));
    name.into()
}

/// All of them filled in.
fn fill_all(acting: &Acting<'_>, templates: &[Template]) -> Vec<String> {
    templates.iter().map(|template| acting.course.fill(template)).collect()
}

/// Does things to production.
pub struct Real {
    /// What it needs.
    pub tools: Tools,
}

#[async_trait]
impl Hands for Real {
    async fn act(&self, acting: &Acting<'_>) -> Result<Outputs, String> {
        let done = act(acting.action, acting, &self.tools).await;
        self.tools.masks.mask_outcome(done)
    }

    async fn was_done(&self, acting: &Acting<'_>) -> Result<Option<Outputs>, String> {
        let looked = was_done(acting, &self.tools).await;
        looked.map_err(|why| self.tools.masks.mask(&why))
    }

    async fn settle(&self, acting: &Acting<'_>) {
        self.tools.left.settle(&self.tools.slot(&acting.id), &self.tools).await;
    }

    async fn not_practised(&self, acting: &Acting<'_>) -> Option<String> {
        self.tools.practice.as_ref()?.not_practised(acting.action, acting).await
    }

    async fn finish(&self, is_over: bool) -> Finish {
        match &self.tools.practice {
            Some(sandbox) => sandbox.finish(is_over, &self.tools).await,
            None => Finish::default(),
        }
    }
}

/// Does what an action says. An action of its own, as one that is asked (`check`, `until`) is not the step's.
pub(crate) fn act<'a>(
    action: &'a Action,
    acting: &'a Acting<'_>,
    tools: &'a Tools,
) -> BoxFuture<'a, Result<Outputs, String>> {
    async move {
        if let Some(sandbox) = &tools.practice {
            return sandbox.act(action, acting, tools).await;
        }
        match action {
            Action::Restore(restore) => restore::act(restore, acting, tools).await,
            Action::Start(start) => service::start(&start.0, acting, tools).await,
            Action::Stop(stop) => service::stop(stop, acting, tools).await,
            Action::Promote(promote) => promote::act(promote, acting, tools).await,
            Action::Sql(sql) => sql::act(sql, acting, tools).await,
            Action::Http(http) => http::act(http, acting, tools).await,
            Action::Odoo(odoo) => odoo::act(odoo, acting, tools).await,
            Action::Command(command) => command::act(command, acting, tools).await,
            Action::Dns(dns) => dns::act(dns, acting, tools).await,
            Action::Webhook(webhook) => http::call(webhook, acting, tools).await,
            Action::Kubernetes(kubernetes) => kubernetes::act(kubernetes, acting, tools, false).await,
            Action::Verify(verify) => verify::act(verify, acting, tools).await,
            Action::Notify(notify) => notify::act(notify, acting, tools).await,
            Action::Wait(wait) => wait::act(wait, acting, tools).await,
            Action::Decide(decide) => answers::act(decide, acting, tools).await,
            // The executor asks people and runs runbooks by itself.
            Action::Approve(_) | Action::Manual(_) | Action::Runbook(_) => {
                Err(format!("a defect of ours: {} was to be done by a program", action.word()))
            }
        }
    }
    .boxed()
}

/// Whether an executor that is no more has done it. What it started itself may still be at work: that is waited for.
async fn was_done(acting: &Acting<'_>, tools: &Tools) -> Result<Option<Outputs>, String> {
    if tools.practice.is_some() {
        return Err("its sandbox is gone: begin a new practice".to_owned());
    }
    program::wait_for_earlier(&tools.slot(&acting.id), tools).await?;
    match acting.action {
        // What is there and right is kept: doing it again is how to look.
        Action::Restore(_) => Ok(None),
        Action::Start(start) => service::is_started(&start.0, acting, tools).await,
        Action::Stop(stop) => service::is_stopped(stop, acting, tools).await,
        Action::Promote(promote) => promote::was_done(promote, acting, tools).await,
        Action::Sql(sql) => sql::was_done(sql, acting, tools).await,
        Action::Http(http) => http::was_done(http, acting, tools).await,
        Action::Command(command) => command::was_done(command, acting, tools).await,
        Action::Dns(dns) => dns::was_done(dns, acting, tools).await,
        other => Err(format!("a defect of ours: whether {} was done was to be looked at", other.word())),
    }
}
