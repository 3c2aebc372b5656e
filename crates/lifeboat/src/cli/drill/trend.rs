//! What the drills before this one have measured: a rehearsal that takes longer each time is told before it is too long.

use jiff::Timestamp;
use lifeboat_engine::{context::Context, record};
use lifeboat_evidence::{
    EvidenceKey, Predicate,
    drill::DrillPredicate,
    report::{self, Direction},
};
use lifeboat_model::{
    check::Outcome,
    id::{Instance, RunId},
};
use serde::Serialize;

use crate::{failure::Result, output::seconds};

/// So many passed drills are looked for.
const WANTED: usize = 10;
/// So many statements are read for them at most: a look back must not cost more than the drill.
const READ: usize = 40;

/// Passed drills of an instance, and where their measures go.
#[derive(Default, Serialize)]
pub struct Trend {
    /// Oldest first; the drill that asks is the last, where it has passed.
    pub drills: Vec<Past>,
    /// From the first second to a served login.
    pub rto: Option<report::Trend>,
    /// What a restore of production was predicted to take.
    pub prediction: Option<report::Trend>,
    /// From the first second to the last.
    pub total: Option<report::Trend>,
}

/// A drill that passed.
#[derive(Clone, Serialize)]
pub struct Past {
    run: RunId,
    started: Timestamp,
    seconds: f64,
    rto_seconds: Option<f64>,
    prediction_seconds: Option<f64>,
}

impl Past {
    /// None unless it was a rehearsal, and passed.
    pub fn of(drill: &DrillPredicate) -> Option<Past> {
        let counts = drill.outcome == Outcome::Passed && drill.sabotage.is_none();
        counts.then(|| Past {
            run: drill.run,
            started: drill.started,
            // Without the time in which it was only held.
            seconds: match &drill.breakdown {
                Some(breakdown) => breakdown.total_ms as f64 / 1000.0,
                None => drill.finished.duration_since(drill.started).as_secs_f64(),
            },
            rto_seconds: drill.rto_seconds,
            prediction_seconds: drill.prediction.as_ref().map(|prediction| prediction.seconds),
        })
    }
}

/// The passed drills before `this`, newest first read, from evidence that is believed.
pub async fn before(context: &Context, instance: &Instance, this: RunId) -> Result<Vec<Past>> {
    let stored = context.repository.list_evidence(&context.config.tenant, "").await?;
    let drills = stored.iter().rev().filter(|evidence| {
        let parts: Option<EvidenceKey> = evidence.key.as_str().parse().ok();
        parts.is_some_and(|parts| parts.kind == "drill" && parts.instance == *instance && parts.run != this)
    });
    let mut past = Vec::new();
    for evidence in drills.take(READ) {
        if past.len() == WANTED {
            break;
        }
        if let Some(verified) = record::believed(context, evidence).await?
            && let Predicate::Drill(drill) = &verified.statement.predicate
        {
            past.extend(Past::of(drill));
        }
    }
    past.reverse();
    Ok(past)
}

impl Trend {
    /// Of these, oldest first.
    pub fn of(drills: Vec<Past>) -> Trend {
        let measures = |of: fn(&Past) -> Option<f64>| {
            let measures: Vec<f64> = drills.iter().filter_map(of).collect();
            report::trend(&measures)
        };
        Trend {
            rto: measures(|past| past.rto_seconds),
            prediction: measures(|past| past.prediction_seconds),
            total: measures(|past| Some(past.seconds)),
            drills,
        }
    }

    /// A line for each measure that there is more than one of.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let named = [("RTO", self.rto), ("prediction", self.prediction), ("drill", self.total)];
        named.into_iter().filter_map(|(name, trend)| Some((name, line(&trend?)))).collect()
    }
}

fn line(trend: &report::Trend) -> String {
    let (newest, usual) = (seconds(trend.newest_seconds), seconds(trend.usual_seconds));
    let words = match trend.direction {
        Direction::Steady => "as usual".to_owned(),
        direction => direction.word().to_owned(),
    };
    format!(
        "{newest}, {words}: median of the {} before {usual}, longest {}",
        trend.measures - 1,
        seconds(trend.worst_seconds)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(seconds: f64, prediction_seconds: Option<f64>) -> Past {
        let run = RunId([1; 8]);
        Past { run, started: Timestamp::UNIX_EPOCH, seconds, rto_seconds: Some(seconds / 2.0), prediction_seconds }
    }

    #[test]
    fn one_drill_has_no_trend() {
        assert!(Trend::of(vec![past(30.0, None)]).lines().is_empty());
        assert!(Trend::default().lines().is_empty());
    }

    #[test]
    fn a_drill_that_took_much_longer_is_told() {
        let trend = Trend::of(vec![past(20.0, None), past(22.0, Some(5.0)), past(60.0, Some(5.5))]);
        let lines = trend.lines();
        let words: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
        assert_eq!(words, ["RTO", "prediction", "drill"]);
        assert!(
            lines[2].1.contains("slower than usual") && lines[2].1.contains("median of the 2 before"),
            "{}",
            lines[2].1
        );
        assert!(lines[1].1.contains("as usual"), "{}", lines[1].1);
    }
}
