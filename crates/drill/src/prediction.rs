//! How long a restore of production would take, from what this drill has measured.
//!
//! A drill does everything that an emergency does, and more: it makes a sandbox, reads everything back, compares, neutralises. What
//! is left when that is taken away is the restore: find the point, fetch and place it, start PostgreSQL and replay, start Odoo, log
//! in. The drill has done each of these on the whole point, so each is taken as long as it took, and nothing is scaled up: bytes
//! and rates stand beside it so that somebody else can, for other sizes. A rate is given only where enough bytes went through that
//! fixed costs (connecting, starting programs, reading indexes) do not hide in it.

use std::time::Duration;

use lifeboat_evidence::drill::{PredictedStep, Prediction};
use lifeboat_model::{size::ByteSize, time::Span};

/// Below this the time is mostly fixed cost.
const ENOUGH: u64 = 64 << 20;

/// What a drill has measured of a restore.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Until the point was known to be whole and signed.
    pub select: Duration,
    /// Until everything was in its place.
    pub fetch: Duration,
    /// How much that was.
    pub bytes: u64,
    /// While PostgreSQL started and replayed.
    pub replay: Duration,
    /// How much log, from where the base backup began.
    pub wal: Option<u64>,
    /// From Odoo's start to HTTP.
    pub boot: Duration,
    /// The first login.
    pub login: Duration,
    /// Whether the server was started twice, to be compared on the way.
    pub paused: bool,
}

/// The sum of what a restore has to do, against the target.
pub(crate) fn predict(measured: &Measured, target: Span) -> Prediction {
    let steps = vec![
        step("find the point", measured.select, None),
        step("fetch and place", measured.fetch, Some(measured.bytes)),
        step("start PostgreSQL and replay", measured.replay, measured.wal),
        step("start Odoo", measured.boot, None),
        step("log in", measured.login, None),
    ];
    let seconds = steps.iter().map(|step| step.seconds).sum();
    let met = seconds <= target.0.as_secs_f64();
    let assumptions = assumptions(measured, &steps);
    Prediction { seconds, target_seconds: target.0.as_secs(), met, steps, assumptions }
}

fn step(name: &str, took: Duration, bytes: Option<u64>) -> PredictedStep {
    let seconds = took.as_secs_f64();
    let bytes_per_second = bytes.filter(|bytes| *bytes >= ENOUGH && seconds > 0.0).map(|bytes| bytes as f64 / seconds);
    PredictedStep { name: name.to_owned(), bytes, bytes_per_second, seconds }
}

fn assumptions(measured: &Measured, steps: &[PredictedStep]) -> Vec<String> {
    let mut list = vec![
        "the same class of host, storage and network as in this drill, with nothing else running".to_owned(),
        "PostgreSQL, Odoo and the recovery identity are ready on that host; deciding, and leading people to it, take no time"
            .to_owned(),
        "a restore as in a drill, without the drill's own checks, sandbox and neutralisation".to_owned(),
    ];
    let wal = measured.wal.map(|bytes| format!(", and {} of log up to the moment that was rehearsed", ByteSize(bytes)));
    list.push(format!("sizes as of this point: {}{}", ByteSize(measured.bytes), wal.unwrap_or_default()));
    let rate = |name: &str| steps.iter().find(|step| step.name == name).and_then(|step| step.bytes_per_second);
    list.push(match rate("start PostgreSQL and replay") {
        Some(rate) => {
            let each = Span(Duration::from_secs_f64((1_u64 << 30) as f64 / rate));
            format!("the log grows until the next base backup: each further GiB of it adds about {each}")
        }
        None => {
            "the log grows until the next base backup: too little of it was replayed to know how long more would take"
                .to_owned()
        }
    });
    if rate("fetch and place").is_none() {
        list.push(format!(
            "less than {} were placed: that time is mostly fixed cost, and gives no rate",
            ByteSize(ENOUGH)
        ));
    }
    if measured.paused {
        list.push(
            "PostgreSQL was started twice in the drill, and is started once in a restore: both are counted".to_owned(),
        );
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        Measured {
            select: Duration::from_secs(1),
            fetch: Duration::from_secs(10),
            bytes: 1 << 30,
            replay: Duration::from_secs(4),
            wal: Some(256 << 20),
            boot: Duration::from_secs(3),
            login: Duration::from_secs(2),
            paused: false,
        }
    }

    fn target(seconds: u64) -> Span {
        Span(Duration::from_secs(seconds))
    }

    #[test]
    fn a_restore_is_the_sum_of_its_steps() {
        let prediction = predict(&measured(), target(20));
        assert_eq!((prediction.seconds, prediction.met, prediction.target_seconds), (20.0, true, 20));
        assert!(!predict(&measured(), target(19)).met);
        assert_eq!(prediction.steps[1].bytes_per_second, Some((1_u64 << 30) as f64 / 10.0));
        assert!(prediction.assumptions.iter().any(|one| one.contains("each further GiB of it adds about 16")));
    }

    #[test]
    fn little_data_gives_no_rate() {
        let little = Measured { bytes: 1 << 20, wal: Some(1 << 10), paused: true, ..measured() };
        let prediction = predict(&little, target(60));
        assert!(prediction.steps.iter().all(|step| step.bytes_per_second.is_none()));
        assert_eq!(prediction.steps[1].bytes, Some(1 << 20), "how much it was is said all the same");
        for words in ["gives no rate", "too little of it", "started twice"] {
            assert!(prediction.assumptions.iter().any(|one| one.contains(words)), "{words}");
        }
        let unknown = predict(&Measured { wal: None, ..measured() }, target(60));
        assert_eq!(unknown.steps[2].bytes, None);
    }
}
