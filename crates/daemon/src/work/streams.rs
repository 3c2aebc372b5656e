//! Streams: what goes on always. Begun when this daemon leads, begun again when they end, after a pause that grows while they
//! end at once.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use lifeboat_model::{id::Tenant, time::Span};

use super::plan::Key;
use crate::{
    job::Verb,
    policies::Site,
    schedule::{Schedule, When},
};

/// The longest pause.
const LONGEST: SignedDuration = SignedDuration::from_mins(5);
/// The shortest pause.
const SHORTEST: Duration = Duration::from_secs(1);
/// A stream that went on for this long is not one that ends at once.
const STEADY: SignedDuration = SignedDuration::from_mins(10);

struct Stream {
    verb: Verb,
    pause: Span,
    begun: Option<Timestamp>,
    rests_until: Timestamp,
    ended_at_once: u32,
}

/// All streams of the tenants that this daemon works for.
#[derive(Default)]
pub(super) struct Streams(BTreeMap<Key, Stream>);

impl Streams {
    /// Brings the streams of a tenant in accord with its policies.
    pub fn renew(&mut self, tenant: &Tenant, site: &Site) {
        let mut wanted = BTreeMap::new();
        for schedule in site.schedules.iter().filter(|schedule| schedule.when == When::Always) {
            for instance in schedule.instances(&site.config) {
                wanted.insert(Key { tenant: tenant.clone(), schedule: schedule.name.clone(), instance }, schedule);
            }
        }
        self.0.retain(|key, _| key.tenant != *tenant || wanted.contains_key(key));
        for (key, schedule) in wanted {
            let Schedule { verb, retry_after, .. } = schedule;
            let stream = self.0.entry(key).or_insert_with(|| Stream {
                verb: verb.clone(),
                pause: *retry_after,
                begun: None,
                rests_until: Timestamp::MIN,
                ended_at_once: 0,
            });
            (stream.verb, stream.pause) = (verb.clone(), *retry_after);
        }
    }

    /// Nothing of this tenant streams here any more.
    pub fn forget(&mut self, tenant: &Tenant) {
        self.0.retain(|key, _| key.tenant != *tenant);
    }

    /// Whether a stream is to go on.
    pub fn has(&self, key: &Key) -> bool {
        self.0.contains_key(key)
    }

    /// Those that have rested, but for the open ones.
    pub fn wanted(&self, now: Timestamp, is_open: impl Fn(&Key) -> bool) -> Vec<(Key, Verb)> {
        let rested = self.0.iter().filter(|(key, stream)| stream.rests_until <= now && !is_open(key));
        rested.map(|(key, stream)| (key.clone(), stream.verb.clone())).collect()
    }

    /// When the next one has rested.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.values().map(|stream| stream.rests_until).filter(|rests| *rests > now).min()
    }

    /// It was begun.
    pub fn begun(&mut self, key: &Key, now: Timestamp) {
        if let Some(stream) = self.0.get_mut(key) {
            stream.begun = Some(now);
        }
    }

    /// It ended: it rests for its pause, twice as long each time that it ends at once.
    pub fn ended(&mut self, key: &Key, now: Timestamp) {
        let Some(stream) = self.0.get_mut(key) else { return };
        let is_steady = stream.begun.is_some_and(|begun| now.duration_since(begun) >= STEADY);
        stream.ended_at_once = if is_steady { 0 } else { stream.ended_at_once.saturating_add(1) };
        let factor = 1_u32 << stream.ended_at_once.saturating_sub(1).min(16);
        let pause = SignedDuration::try_from(stream.pause.0.max(SHORTEST).saturating_mul(factor)).unwrap_or(LONGEST);
        stream.rests_until = now.checked_add(pause.min(LONGEST)).unwrap_or(now);
    }

    /// It need not rest: what it is about has changed.
    pub fn wake(&mut self, key: &Key) {
        self.wake_all(|one| one == key);
    }

    /// None of these need rest.
    pub fn wake_all(&mut self, which: impl Fn(&Key) -> bool) {
        for (_, stream) in self.0.iter_mut().filter(|(key, _)| which(key)) {
            (stream.rests_until, stream.ended_at_once) = (Timestamp::MIN, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: i64 = 30;

    fn key(instance: &str) -> Key {
        Key { tenant: "acme".parse().unwrap(), schedule: "stream".into(), instance: Some(instance.parse().unwrap()) }
    }

    fn streams(pause: &str) -> Streams {
        let stream = || Stream {
            verb: Verb::Stream,
            pause: pause.parse().unwrap(),
            begun: None,
            rests_until: Timestamp::MIN,
            ended_at_once: 0,
        };
        Streams(["clinic", "shop"].map(|instance| (key(instance), stream())).into())
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_400_000 + second).unwrap()
    }

    /// Begins a stream, ends it so many seconds later, and tells the pause.
    fn goes_on_for(streams: &mut Streams, now: &mut i64, seconds: i64) -> i64 {
        assert!(is_wanted(streams, *now), "it has rested");
        streams.begun(&key("clinic"), second(*now));
        *now += seconds;
        streams.ended(&key("clinic"), second(*now));
        let rests = streams.next(second(*now)).unwrap();
        assert!(!is_wanted(streams, *now) && !is_wanted(streams, rests.as_second() - 1_795_400_000 - 1));
        let pause = rests.duration_since(second(*now)).as_secs();
        *now += pause;
        pause
    }

    fn is_wanted(streams: &Streams, now: i64) -> bool {
        streams.wanted(second(now), |_| false).iter().any(|(wanted, _)| *wanted == key("clinic"))
    }

    #[test]
    fn the_pause_grows_while_a_stream_ends_at_once_and_is_bounded() {
        let (mut streams, mut now) = (streams("30s"), 0);
        let pauses: Vec<i64> = (0..60).map(|_| goes_on_for(&mut streams, &mut now, 1)).collect();
        assert_eq!(pauses[..5], [PAUSE, 2 * PAUSE, 4 * PAUSE, 8 * PAUSE, 300]);
        assert!(pauses[5..].iter().all(|pause| *pause == 300), "{pauses:?}");
        // The other one is not in it.
        assert!(streams.wanted(second(0), |_| false).iter().any(|(wanted, _)| *wanted == key("shop")));
        // However long its schedule's own pause is, it is tried again within five minutes; and never in a circle.
        assert_eq!(goes_on_for(&mut self::streams("2h"), &mut 0, 1), 300);
        assert_eq!(goes_on_for(&mut self::streams("0s"), &mut 0, 1), 1);
    }

    #[test]
    fn a_stream_that_went_on_for_a_while_begins_with_the_first_pause_again() {
        let (mut streams, mut now) = (streams("30s"), 0);
        for _ in 0..5 {
            goes_on_for(&mut streams, &mut now, 1);
        }
        assert_eq!(goes_on_for(&mut streams, &mut now, 599), 300, "that is not steady yet");
        assert_eq!(goes_on_for(&mut streams, &mut now, 600), PAUSE);
        assert_eq!(goes_on_for(&mut streams, &mut now, 1), PAUSE, "the first that ends at once");
        assert_eq!(goes_on_for(&mut streams, &mut now, 1), 2 * PAUSE);
    }

    #[test]
    fn what_is_about_something_else_now_need_not_rest() {
        let (mut streams, mut now) = (streams("30s"), 0);
        for _ in 0..5 {
            goes_on_for(&mut streams, &mut now, 1);
        }
        streams.begun(&key("clinic"), second(now));
        streams.ended(&key("clinic"), second(now));
        streams.wake(&key("clinic"));
        assert!(is_wanted(&streams, now));
        assert_eq!(goes_on_for(&mut streams, &mut now, 1), PAUSE);
        // One that goes on is not begun beside itself.
        let beside = streams.wanted(second(now), |open| *open == key("clinic"));
        assert!(beside.iter().all(|(wanted, _)| *wanted != key("clinic")));
    }
}
