//! How far a journal is in each repository, and in all of them together.

use tokio::time::Instant;

use super::sending::Pace;

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The repository that has most of it; none: none has answered yet.
    pub place: Option<String>,
    /// Lines that are there.
    pub kept: u64,
    /// Why no more are in any; none: one answers, as far as is known.
    pub away: Option<String>,
    /// Somebody else went on with the run: who, and when.
    pub taken_over: Option<String>,
    /// Each of the repositories, the primary first.
    pub places: Vec<At>,
    /// The run is being taken over with this line, which goes first to these repositories: somebody may be at it there.
    pub taking: Option<(u64, Vec<usize>)>,
}

/// How far it is in one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct At {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is, as people call it; none: it has not answered yet.
    pub place: Option<String>,
    /// It is written to and looked at. Once it is, it stays so: somebody may look for the run there.
    pub used: bool,
    /// Lines that are there.
    pub kept: u64,
    /// Since when it fails, and why.
    pub away: Option<(Instant, String)>,
}

impl At {
    fn answers(&self) -> bool {
        self.used && self.away.is_none()
    }
}

impl State {
    /// Sums up what is known of the repositories.
    pub fn sum(&mut self) {
        let known = self.places.iter().filter(|at| at.place.is_some()).rev();
        if let Some(at) = known.max_by_key(|at| at.kept) {
            (self.place, self.kept) = (at.place.clone(), at.kept);
        }
        let never_there = |at: &At| at.used && at.place.is_none() && at.away.is_some();
        let is_next = |(index, at): (usize, &At)| !at.used && self.places.iter().take(index).all(never_there);
        let nobody = !self.places.iter().any(At::answers) && !self.places.iter().enumerate().any(is_next);
        self.away = if nobody { self.why_away(self.places.len()) } else { None };
    }

    /// Why those before this one cannot be used, if that is so of all.
    pub fn why_away(&self, before: usize) -> Option<String> {
        let away = |at: &At| at.away.as_ref().map(|(_, why)| format!("\"{}\": {why}", at.name));
        let used = self.places.iter().take(before).filter(|at| at.used);
        let reasons = used.map(away).collect::<Option<Vec<String>>>()?;
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Whether a repository is wanted that was not used yet: all before it fail, those that were there for a while.
    pub fn wants(&self, index: usize, pace: Pace) -> bool {
        let given_up =
            |at: &At| at.away.as_ref().is_some_and(|(since, _)| at.place.is_none() || since.elapsed() > pace.other);
        self.places.iter().take(index).all(|at| at.used && given_up(at))
    }

    /// Up to which line a repository may be written: each line goes first to those before it, as far as they answer. Who of two is the
    /// first is told in one repository then, and not in two at the same time.
    pub fn allowed(&self, index: usize) -> u64 {
        let taking = self.taking.as_ref().filter(|(line, first)| !first.is_empty() && !self.has(*line, first));
        let is_before = |(index, _): &(usize, &At)| taking.is_none_or(|(_, first)| first.contains(index));
        let before = self.places.iter().enumerate().take(index).filter(is_before);
        let before = before.filter(|(_, at)| at.answers()).map(|(_, at)| at.kept).min().unwrap_or(u64::MAX);
        match taking {
            Some((line, first)) if !first.contains(&index) => before.min(line - 1),
            _ => before,
        }
    }

    /// Whether so many lines are in every repository that is used and answers.
    pub fn everywhere(&self, lines: u64) -> bool {
        self.places.iter().filter(|at| at.answers()).all(|at| at.kept >= lines)
    }

    /// Whether so many lines are in a repository, and in each of these.
    pub fn has(&self, lines: u64, places: &[usize]) -> bool {
        self.kept >= lines && places.iter().all(|index| self.places.get(*index).is_some_and(|at| at.kept >= lines))
    }

    /// Why it has not: of the first of these that lacks a line.
    pub fn why_not(&self, lines: u64, places: &[usize]) -> String {
        let lacking = places.iter().filter_map(|index| self.places.get(*index)).find(|at| at.kept < lines);
        match (lacking, &self.away) {
            (Some(At { name, away: Some((_, why)), .. }), _) => format!("\"{name}\": {why}"),
            (Some(at), _) => format!("\"{}\" did not take it in time", at.name),
            (None, Some(why)) => why.clone(),
            (None, None) => "it was not taken in time".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(name: &str, used: bool, known: bool, kept: u64, away: bool) -> At {
        let away = away.then(|| (Instant::now(), "no".to_owned()));
        At { name: name.to_owned(), place: known.then(|| format!("{name} there")), used, kept, away }
    }

    #[test]
    fn a_copy_is_used_when_what_is_before_it_fails() {
        let pace = |other| Pace { other, ..Pace::default() };
        let of = |places: Vec<At>| {
            let mut state = State { places, ..State::default() };
            state.sum();
            state
        };
        let waiting = of(vec![at("main", true, true, 3, true), at("copy", false, false, 0, false)]);
        assert!(!waiting.wants(1, pace(Duration::from_secs(60))) && waiting.wants(1, pace(Duration::ZERO)));
        assert_eq!((waiting.kept, waiting.away.as_deref()), (3, Some("\"main\": no")));
        let never_there = of(vec![at("main", true, false, 0, true), at("copy", false, false, 0, false)]);
        assert!(never_there.wants(1, pace(Duration::from_secs(60))));
        assert_eq!(never_there.away, None, "the copy was not asked yet");
        let both = of(vec![at("main", true, true, 3, true), at("copy", true, true, 5, false)]);
        assert_eq!((both.kept, both.place.as_deref(), both.away.as_ref()), (5, Some("copy there"), None));
        assert_eq!((both.allowed(1), both.everywhere(5)), (u64::MAX, true));
        assert!(both.has(5, &[1]) && !both.has(5, &[0, 1]) && both.why_not(5, &[0]).contains("main"));
        let back = of(vec![at("main", true, true, 3, false), at("copy", true, true, 5, false)]);
        let taking = State { taking: Some((6, vec![1])), ..back.clone() };
        assert_eq!((taking.allowed(0), taking.allowed(1)), (5, u64::MAX), "who is at it in the copy is told first");
        assert_eq!((back.allowed(0), back.allowed(1), back.everywhere(5)), (u64::MAX, 3, false));
    }
}
