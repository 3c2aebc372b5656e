//! Held against a log in which one commit does the damage: whatever cannot be asked, what is said is true.

use proptest::{collection::btree_set, prelude::*};

use super::*;

fn at(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap()
}

/// A log, points in it, and the commit from which on the check fails.
#[derive(Debug, Clone)]
struct World {
    commits: Vec<i64>,
    /// Positions in the log: so many commits are in the point.
    points: Vec<usize>,
    /// The first bad commit; none where there are fewer commits.
    breaks: usize,
    /// Every n-th moment cannot be asked; 0: all can.
    fails: i64,
    resolution: i64,
    /// Nothing between these can be brought back by time.
    gap: Option<(i64, i64)>,
}

impl World {
    fn state(&self, place: Place) -> usize {
        match place {
            Place::Latest => self.commits.len(),
            Place::Point(at) => self.points[at],
            Place::Time(time) => self.commits.partition_point(|commit| *commit <= time.as_microsecond()),
        }
    }

    fn fails(&self, place: Place) -> bool {
        let number = match place {
            Place::Latest => 1,
            Place::Point(at) => at as i64,
            Place::Time(time) => time.as_microsecond(),
        };
        let held = match (place, self.gap) {
            (Place::Time(time), Some((from, to))) => !(from..to).contains(&time.as_microsecond()),
            _ => true,
        };
        !held || (self.fails > 0 && number.wrapping_mul(2_654_435_761) % self.fails == 0)
    }

    fn hear(&self, place: Place) -> Heard {
        let state = self.state(place);
        let newest = at(self.commits[..state].last().copied().unwrap_or(0));
        let is_time = |place| if let Place::Time(time) = place { Some(time) } else { None };
        match (self.fails(place), state > self.breaks) {
            (true, _) => Heard::NotExecuted,
            (false, true) => Heard::Bad { newest },
            (false, false) => Heard::Good {
                until: is_time(place).unwrap_or(newest),
                next: is_time(place).and_then(|_| self.commits.get(state)).map(|next| at(*next)),
            },
        }
    }

    fn field(&self) -> Field {
        let last = *self.commits.last().unwrap();
        let time = |state: usize| at(self.commits[..state].last().copied().unwrap_or(0));
        let points = self.points.iter().enumerate();
        let mut stations: Vec<Station> =
            points.map(|(n, &state)| Station { place: Place::Point(n), time: time(state), span: Some(0) }).collect();
        stations.push(Station { place: Place::Latest, time: at(last), span: None });
        let spans = match self.gap {
            None => vec![(at(0), at(last))],
            Some((from, to)) => vec![(at(0), at(from)), (at(to), at(last.max(to)))],
        };
        Field { stations, spans, resolution: Duration::from_micros(self.resolution.unsigned_abs()) }
    }

    /// Runs to the end; how it ended, and how often it asked.
    fn run(&self) -> (Search, End, Vec<Place>) {
        let mut search = Search::new(self.field());
        let mut asked = Vec::new();
        loop {
            match search.next() {
                Next::End(end) => return (search, end, asked),
                Next::Ask(place) => {
                    assert!(!asked.contains(&place), "{place:?} was asked before");
                    asked.push(place);
                    assert!(asked.len() < 400, "it does not end: {asked:?}");
                    search.told(place, self.hear(place));
                }
            }
        }
    }
}

prop_compose! {
    fn worlds(failing: bool)(
        commits in btree_set(1_i64..4_000_000, 1..60),
        points in btree_set(0_usize..60, 1..9),
        breaks in 0_usize..61,
        fails in 2_i64..6,
        resolution in prop_oneof![Just(0_i64), 1_i64..2_000_000],
        gap in prop::option::of((0_i64..2_000_000, 1_i64..1_000_000)),
    ) -> World {
        let commits: Vec<i64> = commits.into_iter().collect();
        let points = points.into_iter().filter(|state| *state <= commits.len()).collect::<Vec<_>>();
        let points = if points.is_empty() { vec![0] } else { points };
        let fails = if failing { fails } else { 0 };
        let gap = gap.filter(|_| failing).map(|(from, length)| (from, from + length));
        World { commits, points, breaks, fails, resolution, gap }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn where_all_can_be_asked_the_commit_is_found(world in worlds(false)) {
        let (search, end, asked) = world.run();
        let oldest_is_bad = world.points[0] > world.breaks;
        if world.breaks >= world.commits.len() {
            prop_assert_eq!(end, End::NeverFalse { whole: true });
            prop_assert_eq!(asked.len(), 1);
        } else if oldest_is_bad {
            prop_assert_eq!(end, End::AlwaysFalse { whole: true });
            prop_assert_eq!(asked.len(), 2);
        } else {
            let (good, bad) = (search.good().unwrap(), search.bad().unwrap());
            let culprit = at(world.commits[world.breaks]);
            prop_assert!(good.time < culprit && culprit <= bad.time, "{good:?} {culprit} {bad:?}");
            match end {
                End::Found(Narrowed::Neighbours) => prop_assert_eq!(bad.time, culprit),
                End::Found(Narrowed::Resolution) => {
                    prop_assert!(micros(bad.time) - micros(low(good)) <= world.resolution);
                }
                end => prop_assert!(false, "{end:?}"),
            }
            // Two ends, the points, 22 bits of time.
            prop_assert!(asked.len() <= 2 + 4 + 22, "{} asked", asked.len());
        }
    }

    #[test]
    fn what_cannot_be_asked_is_never_taken_for_an_answer(world in worlds(true)) {
        let (search, end, _) = world.run();
        if let Some(good) = search.good() {
            prop_assert!(world.state(good.place) <= world.breaks, "{good:?} is bad");
        }
        if let Some(bad) = search.bad() {
            prop_assert!(world.state(bad.place) > world.breaks, "{bad:?} is good");
        }
        match end {
            End::Found(narrowed) => {
                let (good, bad) = (search.good().unwrap(), search.bad().unwrap());
                let culprit = at(world.commits[world.breaks]);
                prop_assert!(good.time < culprit && culprit <= bad.time, "{good:?} {culprit} {bad:?}");
                if narrowed == Narrowed::Neighbours {
                    prop_assert_eq!(bad.time, culprit);
                }
            }
            End::NeverFalse { whole } => {
                prop_assert!(search.good().is_some() && search.bad().is_none());
                prop_assert!(!whole || search.good().unwrap().place == Place::Latest);
            }
            End::AlwaysFalse { whole } => {
                prop_assert!(search.bad().is_some() && search.good().is_none());
                prop_assert!(!whole || search.bad().unwrap().place == Place::Point(0));
            }
            End::NoAnswer => prop_assert!(search.good().is_none() && search.bad().is_none()),
        }
    }

    #[test]
    fn what_is_left_is_not_underestimated_by_much(world in worlds(false)) {
        let search = Search::new(world.field());
        let (_, _, asked) = world.run();
        let resolution = world.resolution.max(1);
        if resolution > 1000 {
            // Points may stand unevenly: then time takes the steps that they save.
            prop_assert!(asked.len() <= search.left() + 7, "{} asked, {} told", asked.len(), search.left());
        }
    }
}

fn simple() -> World {
    let commits = (1..=100).map(|n| n * 1_000_000).collect();
    World { commits, points: vec![10, 90], breaks: 41, fails: 0, resolution: 1_000_000, gap: None }
}

#[test]
fn points_are_asked_before_times() {
    let (_, end, asked) = simple().run();
    assert_eq!(asked[..3], [Place::Latest, Place::Point(0), Place::Point(1)]);
    assert!(matches!(end, End::Found(Narrowed::Neighbours | Narrowed::Resolution)), "{end:?}");
    assert!(asked.len() <= 10, "{asked:?}");
}

#[test]
fn a_gap_is_the_narrowest_interval() {
    let world = World { gap: Some((30_500_000, 60_500_000)), ..simple() };
    let (search, end, _) = world.run();
    assert_eq!(end, End::Found(Narrowed::NotHeld));
    let (good, bad) = (search.good().unwrap(), search.bad().unwrap());
    assert!(good.time >= at(29_000_000) && bad.time <= at(61_500_000), "{good:?} {bad:?}");
}

#[test]
fn where_nothing_answers_it_ends_soon() {
    let mut search = Search::new(simple().field());
    let mut asked = 0;
    while let Next::Ask(place) = search.next() {
        search.told(place, Heard::NotExecuted);
        asked += 1;
    }
    assert_eq!((search.next(), asked), (Next::End(End::NoAnswer), 3));
    let mut search = Search::new(simple().field());
    let mut asked = 0;
    while let Next::Ask(place) = search.next() {
        let heard = if matches!(place, Place::Time(_)) { Heard::NotExecuted } else { simple().hear(place) };
        search.told(place, heard);
        asked += 1;
    }
    assert_eq!((search.next(), asked), (Next::End(End::Found(Narrowed::NotExecuted)), 3 + PATIENCE));
}
