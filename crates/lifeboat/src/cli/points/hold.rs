//! `points hold` and `points release`: a legal hold on a point, put and taken away with a reason.

use clap::Args;
use lifeboat_engine::hold::{self, Held};
use lifeboat_model::id::Instance;
use lifeboat_repo::point::PointSelector;
use serde::Serialize;

use crate::{
    cli::Session,
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::{Answer, Page, Tone, count},
    progress::Meter,
    wire,
};

/// Put a recovery point under legal hold: it stays, whatever retention says
///
/// Where the store has object lock, every object of the point is held there; anywhere else the signed record alone keeps
/// `lifeboat prune` away.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lifeboat points hold 3fa9 --reason \"case 12/2026\"")]
pub struct Hold {
    #[command(flatten)]
    what: What,
}

/// Take a legal hold away: retention decides again
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lifeboat points release 3fa9 --reason \"case 12/2026 is closed\"")]
pub struct Release {
    #[command(flatten)]
    what: What,
}

#[derive(Debug, Args)]
struct What {
    /// 4 to 16 digits of the point's id
    #[arg(value_name = "ID")]
    point: PointSelector,
    /// Only of this instance [default: of any that is configured]
    #[arg(long, value_name = "INSTANCE")]
    instance: Option<Instance>,
    /// Why, for the signed record; kept in clear
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
}

#[derive(Serialize)]
struct Done {
    instance: String,
    point: String,
    held: bool,
    reason: String,
    /// Whether the store itself keeps holds.
    in_store: bool,
    objects: u64,
    shared_objects: u64,
    refused: Vec<Refused>,
    evidence: String,
}

#[derive(Serialize)]
struct Refused {
    key: String,
    why: String,
}

impl Hold {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        run(session, self.what, true).await
    }
}

impl Release {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        run(session, self.what, false).await
    }
}

async fn run(session: &Session, what: What, held: bool) -> Result<Exit> {
    if what.point == PointSelector::Latest {
        return Err(Failure::new(Exit::Usage, "\"latest\" is another point tomorrow: name the point by its id")
            .next("lifeboat points list"));
    }
    let verb = if held { "hold" } else { "release" };
    let loaded = wire::load_config(session)?;
    let (repository, _) = wire::open_for_reading(&loaded).await?;
    let context = wire::context(session, loaded, repository, &format!("lifeboat points {verb}"));
    let meter = Meter::start(&session.voice, format!("points {verb}"));
    let done = hold::run(&context, what.instance.as_ref(), &what.point, held, &what.reason, meter).await;
    let done = done
        .safe("the point stays as long as there is a hold or a record of one")
        .context(format!("cannot {verb} the point"))?;
    let done = Done::new(done, held);
    session.output.show(&done)?;
    Ok(if done.refused.is_empty() { Exit::Ok } else { Exit::CheckFailed })
}

impl Done {
    fn new(done: Held, held: bool) -> Self {
        Done {
            instance: done.instance.to_string(),
            point: done.hold.point.id.to_string(),
            held,
            reason: done.hold.reason,
            in_store: done.in_store,
            objects: done.hold.objects,
            shared_objects: done.hold.shared,
            refused: done
                .hold
                .refused
                .into_iter()
                .map(|refused| Refused { key: refused.key, why: refused.why })
                .collect(),
            evidence: done.evidence.to_string(),
        }
    }
}

impl Answer for Done {
    const SCHEMA: &'static str = "lifeboat.points-hold/1";

    fn text(&self, page: &mut Page) {
        let word = if self.held { "held:" } else { "released:" };
        let tone = if self.refused.is_empty() { Tone::Good } else { Tone::Bad };
        page.line(format_args!("{} point {} of {}", tone.paint(word), self.point, self.instance));
        page.field("reason", &self.reason);
        match self.in_store {
            true => page.field("in the store", count(self.objects, "object", "objects")),
            false => {
                page.field("in the store", "no: it has no legal holds, so the signed record alone keeps prune away")
            }
        }
        if self.shared_objects > 0 {
            page.field(
                "still held",
                count(self.shared_objects, "object of another held point", "objects of other held points"),
            );
        }
        for refused in &self.refused {
            page.line(format_args!("{} {}: {}", Tone::Bad.paint("REFUSED:"), refused.key, refused.why));
        }
        page.field("evidence", &self.evidence);
    }
}
