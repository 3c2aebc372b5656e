//! Which moments can be reached, and the gaps between. Reads names, headers and small documents; opens no WAL.

use clap::Args;
use jiff::Timestamp;
use lifeboat_engine::{
    keys::host_identity,
    recovery::{self, Moment, Window},
};
use lifeboat_model::{id::Instance, time::Span};
use serde::Serialize;

use crate::{
    cli::{Session, identity::IdentityArgs, place::Place},
    exit::Exit,
    failure::Result,
    output::{Answer, Page, Rows, Tone, ago, count},
    wire,
};

/// Show the moments that can be reached: from when to when, and where a gap is
///
/// Any commit between the two can be brought back with restore --at, --lsn or --restore-point. Times are the server's own, of
/// its commits.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  lifeboat points windows\n  lifeboat points windows clinic --json\n  lifeboat points windows clinic --identity /media/key/recovery.identity   on another machine"
)]
pub struct Windows {
    /// Only this instance
    instance: Option<Instance>,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Shown {
    instances: Vec<OfInstance>,
    #[serde(skip)]
    now: Timestamp,
}

#[derive(Serialize)]
struct OfInstance {
    instance: String,
    windows: Vec<Row>,
    gaps: Vec<Gap>,
    /// What does not verify, and was passed over.
    passed_over: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    from: At,
    to: At,
    timeline: u32,
    system_id: String,
    /// From these points, oldest first.
    points: Vec<String>,
    /// More of the log is held, but not what comes next: the window grows no more, and a backup must begin another.
    cut: bool,
}

#[derive(Serialize)]
struct At {
    time: Timestamp,
    lsn: String,
}

/// Moments in between cannot be reached.
#[derive(Serialize)]
struct Gap {
    from: At,
    to: At,
}

impl From<Moment> for At {
    fn from(moment: Moment) -> At {
        At { time: moment.time, lsn: moment.lsn.to_string() }
    }
}

impl From<&Window> for Row {
    fn from(window: &Window) -> Row {
        Row {
            from: window.from.into(),
            to: window.to.into(),
            timeline: window.timeline,
            system_id: window.system_id.to_string(),
            points: window.points.iter().map(ToString::to_string).collect(),
            cut: window.is_cut,
        }
    }
}

/// Where one window ends before the next begins. Windows that overlap, as those of two timelines may, have none between.
fn gaps(windows: &[Window]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut reached: Option<Moment> = None;
    for window in windows {
        if let Some(before) = reached.filter(|before| before.time < window.from.time) {
            gaps.push(Gap { from: before.into(), to: window.from.into() });
        }
        reached = reached.into_iter().chain([window.to]).max_by_key(|moment| moment.time);
    }
    gaps
}

impl Windows {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = self.place.load(session)?;
        let (repository, config) = wire::open_for_reading(&loaded).await?;
        let names = wire::instances(self.instance.as_ref(), config);
        // The host's own identity opens what has to be read; on another machine a recovery identity does.
        let identities = match host_identity(&config.keys) {
            Ok(own) if self.identity.identity.is_empty() => vec![own],
            _ => wire::recovery_identities(&self.identity, config)?,
        };
        let mut shown = Shown { instances: Vec::new(), now: session.now() };
        for name in names {
            let repo = repository.instance(&config.tenant, &name);
            let found = recovery::windows(&repo, &config.keys.trusted_keys, &identities).await?;
            if found.windows.is_empty() {
                config.instance(name.as_str())?; // a mistyped name is told
            }
            shown.instances.push(OfInstance {
                instance: name.to_string(),
                gaps: gaps(&found.windows),
                windows: found.windows.iter().map(Row::from).collect(),
                passed_over: found.skipped,
            });
        }
        let is_sound = shown.instances.iter().all(|one| one.passed_over.is_empty());
        session.output.show(&shown)?;
        Ok(if is_sound { Exit::Ok } else { Exit::CheckFailed })
    }
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.points-windows/1";

    fn text(&self, page: &mut Page) {
        let mut rows = Rows::new(&["instance", "from", "to", "age", "timeline", "LSNs", "points", ""]).numbers(&[4, 6]);
        for of in &self.instances {
            let mut gaps = of.gaps.iter().peekable();
            for window in &of.windows {
                while let Some(gap) = gaps.next_if(|gap| gap.to.time <= window.from.time) {
                    let length = gap.to.time.duration_since(gap.from.time).unsigned_abs();
                    let text = format!("GAP of {}", Span(length));
                    let (from, to) = (exact(gap.from.time), exact(gap.to.time));
                    let cells = [of.instance.as_str(), &from, &to, "", "", "", ""];
                    let cells = cells.into_iter().map(|text| (Tone::Plain, text));
                    rows.row(cells.chain([(Tone::Bad, text.as_str())]));
                }
                let lsns = format!("{} – {}", window.from.lsn, window.to.lsn);
                rows.plain([
                    of.instance.as_str(),
                    &exact(window.from.time),
                    &exact(window.to.time),
                    &ago(self.now, window.to.time),
                    &window.timeline.to_string(),
                    &lsns,
                    &window.points.len().to_string(),
                    if window.cut { "CUT" } else { "" },
                ]);
            }
        }
        page.table(rows);
        for of in &self.instances {
            if of.windows.is_empty() {
                page.line(format_args!("No moment of {} can be reached: it has no recovery point.", of.instance));
            }
            for why in &of.passed_over {
                page.line(format_args!("{} {why}", Tone::Bad.paint("passed over:")));
            }
        }
        if self.instances.iter().flat_map(|of| of.windows.last()).any(|window| window.cut) {
            let text = "log that came later is held, and nothing leads to it. Make a backup now.";
            page.line(format_args!("{} {text}", Tone::Bad.paint("CUT:")));
        }
        let gaps = self.instances.iter().map(|of| of.gaps.len() as u64).sum();
        if gaps > 0 {
            page.line(format_args!(
                "{}: no moment in it can be brought back. A backup made now ends one.",
                Tone::Bad.paint(&count(gaps, "gap", "gaps"))
            ));
        }
    }
}

/// To the microsecond, so that the text can be given to `--at`.
fn exact(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use lifeboat_model::{id::PointId, lsn::Lsn};

    use super::*;

    fn window(timeline: u32, from: &str, to: &str) -> Window {
        let moment = |time: &str| Moment { lsn: Lsn(1), time: format!("2026-11-21T{time}:00Z").parse().unwrap() };
        Window {
            system_id: 7,
            timeline,
            from: moment(from),
            to: moment(to),
            points: vec![PointId([1; 8])],
            is_cut: false,
        }
    }

    #[test]
    fn a_gap_is_what_no_window_covers() {
        let found = |windows: &[Window]| gaps(windows).len();
        assert_eq!(found(&[]), 0);
        assert_eq!(found(&[window(1, "10:00", "11:00"), window(1, "12:00", "13:00")]), 1);
        assert_eq!(found(&[window(1, "10:00", "12:30"), window(2, "12:00", "13:00")]), 0);
        let nested = [window(1, "10:00", "15:00"), window(2, "11:00", "12:00"), window(2, "14:00", "16:00")];
        assert_eq!(found(&nested), 0, "the second ends within the first");
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        let time: Timestamp = "2026-11-21T14:03:10.123456Z".parse().unwrap();
        assert_eq!(exact(time).parse::<Timestamp>().unwrap(), time);
    }
}
