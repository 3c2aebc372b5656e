//! The status as a monitoring plugin tells it: one line with performance data, and the exit codes of Nagios, Icinga and
//! whatever else runs such plugins.

use std::fmt::Write as _;

use lifeboat_engine::status::State;

use super::{Row, Session, Shown};
use crate::{
    exit::Exit,
    failure::Result,
    output::{count, write_stdout},
};

/// Nobody reads more of them in a line.
const REASONS: usize = 3;

/// Prints the line, whatever became of the look.
pub fn run(shown: Result<Shown>, session: &Session) -> Result<Exit> {
    if session.cancel.is_cancelled() {
        return shown.map(|_| Exit::Interrupted);
    }
    let (line, code) = match &shown {
        Ok(shown) => (line(shown), code(shown.worst())),
        Err(failure) => (format!("LIFEBOAT UNKNOWN - {}", one_line(&failure.messages().join(": "))), 3),
    };
    write_stdout(&format!("{line}\n"))?;
    Ok(Exit::Plugin(code))
}

fn code(state: State) -> u8 {
    match state {
        State::Protected => 0,
        State::AtRisk => 1,
        State::Unprotected => 2,
    }
}

fn line(shown: &Shown) -> String {
    let worst = shown.worst();
    let word = match worst {
        State::Protected => "OK",
        State::AtRisk => "WARNING",
        State::Unprotected => "CRITICAL",
    };
    let instances = &shown.instances;
    let of = |state: State| instances.iter().filter(|row| row.judged.state == state).count() as u64;
    let mut text = match instances.as_slice() {
        [] => "no instance is configured".to_owned(),
        [row] => format!("{} is {}", row.facts.instance, plain(worst)),
        _ if worst == State::Protected => {
            format!("{} protected", count(of(worst), "instance", "instances"))
        }
        _ => {
            let bad = [State::Unprotected, State::AtRisk].map(|state| (of(state), plain(state)));
            let bad = bad.iter().filter(|(many, _)| *many > 0).map(|(many, word)| format!("{many} {word}"));
            format!(
                "{} of {}",
                bad.collect::<Vec<_>>().join(", "),
                count(instances.len() as u64, "instance", "instances")
            )
        }
    };
    // The gravest of each first, then what else there is.
    let mut reasons: Vec<(State, usize, &Row)> = Vec::new();
    for row in instances {
        reasons.extend(row.judged.reasons.iter().enumerate().map(|(index, reason)| (reason.state, index, row)));
    }
    reasons.sort_by_key(|(state, index, _)| (std::cmp::Reverse(*state), *index));
    let told = reasons.iter().take(REASONS).map(|(_, index, row)| {
        let reason = &row.judged.reasons[*index].text;
        if instances.len() == 1 { reason.clone() } else { format!("{}: {reason}", row.facts.instance) }
    });
    let told: Vec<String> = told.collect();
    if !told.is_empty() {
        let _ = write!(text, ": {}", told.join("; ")); // writing to a String cannot fail
    }
    if reasons.len() > REASONS {
        let _ = write!(text, "; and {} more", reasons.len() - REASONS);
    }
    format!("LIFEBOAT {word} - {} | {}", one_line(&text), data(shown))
}

fn plain(state: State) -> &'static str {
    match state {
        State::Protected => "protected",
        State::AtRisk => "at risk",
        State::Unprotected => "unprotected",
    }
}

/// `'label'=value[unit];warn;crit;min`
fn data(shown: &Shown) -> String {
    let mut parts = Vec::new();
    for row in &shown.instances {
        let (name, facts) = (&row.facts.instance, &row.facts);
        if let Some(exposed) = row.judged.exposure_seconds {
            parts.push(format!("'{name}_exposure'={exposed:.0}s;{:.0};;0", facts.targets.rpo_seconds));
        }
        if let Some(drill) = &facts.drill {
            let age = shown.now.duration_since(drill.started).as_secs_f64().max(0.0);
            parts.push(format!("'{name}_drill_age'={age:.0}s;;;0"));
            if let Some(rto) = drill.rto_seconds {
                parts.push(format!("'{name}_rto'={rto:.0}s;{:.0};;0", facts.targets.rto_seconds));
            }
        }
        if facts.storage.not_known.is_none() {
            parts.push(format!("'{name}_stored'={}B;;;0", facts.storage.bytes));
        }
    }
    parts.join(" ")
}

/// What monitoring takes for its own is taken out: line ends, and the bar before performance data.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(one_line("no\n answer | at\tall"), "no answer / at all");
    }

    #[test]
    fn codes_are_those_of_plugins() {
        assert_eq!([State::Protected, State::AtRisk, State::Unprotected].map(code), [0, 1, 2]);
    }
}
