//! Weeks of alarms in a moment: the state machine with a clock that is set.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use lifeboat_model::config::SecretSource;

use super::{
    Condition, Memory, Message, Outgoing, Seen, Watched, What, conditions,
    testing::{channel, condition},
};
use crate::{
    settings::{Channel, ChannelKind, Notify, Severity},
    view::Trouble,
};

/// A daemon's notifications, second by second.
struct Day {
    memory: Memory,
    notify: Notify,
    now: Timestamp,
    ids: u32,
    got: Vec<(String, Message)>,
    /// Channels that are away.
    away: BTreeSet<String>,
}

impl Day {
    fn new(channels: Vec<Channel>) -> Day {
        let notify = Notify { channels, routes: Vec::new(), dead_man: None };
        let now = Timestamp::constant(1_795_400_000, 0);
        Day { memory: Memory::default(), notify, now, ids: 0, got: Vec::new(), away: BTreeSet::new() }
    }

    /// So many seconds with these conditions; turns every 2 s, looks every 10.
    fn pass(&mut self, seconds: i64, conditions: &[Condition]) {
        self.pass_seen(seconds, &Seen { conditions: conditions.to_vec(), ..Seen::default() });
    }

    fn pass_seen(&mut self, seconds: i64, seen: &Seen) {
        for second in (0..seconds).step_by(2) {
            if second % 10 == 0 {
                self.memory.see(seen, &self.notify, self.now);
            }
            let ids = &mut self.ids;
            self.memory.compose(&self.notify, self.now, || {
                *ids += 1;
                format!("m{ids}")
            });
            for Outgoing { channel, message, .. } in self.memory.due(&BTreeSet::new(), self.now) {
                if self.away.contains(&channel) {
                    self.memory.failed(&message.id, "away", self.now);
                } else {
                    self.memory.delivered(&message.id);
                    self.got.push((channel, message));
                }
            }
            self.now += SignedDuration::from_secs(2);
        }
    }

    /// `kill -9`, and a start from what was on the disk.
    fn restart(&mut self) {
        let rows = self.memory.rows();
        let again = Memory::from_rows(rows);
        assert_eq!(again, self.memory, "nothing is lost");
        self.memory = again;
    }

    fn took(&mut self) -> Vec<(String, Message)> {
        std::mem::take(&mut self.got)
    }

    fn told(&mut self) -> Vec<What> {
        self.took().iter().flat_map(|(_, message)| message.notices.iter().map(|notice| notice.what)).collect()
    }
}

fn rpo(severity: Severity) -> Condition {
    condition("acme", "clinic", "rpo", severity)
}

#[test]
fn a_condition_is_told_once_then_reminded_of_then_resolved() {
    let mut day = Day::new(vec![channel("ops", 20)]);
    day.pass(600, &[rpo(Severity::Warning)]);
    assert_eq!(day.told(), [What::Begins]);
    day.pass(23 * 3600, &[rpo(Severity::Warning)]);
    assert_eq!(day.told(), []);
    day.pass(3600, &[rpo(Severity::Warning)]);
    assert_eq!(day.told(), [What::Reminder]);
    day.pass(60, &[rpo(Severity::Critical)]);
    assert_eq!(day.told(), [What::Graver]);
    day.pass(4 * 3600 + 60, &[rpo(Severity::Critical)]);
    assert_eq!(day.told(), [What::Reminder]);
    day.pass(110, &[]);
    assert_eq!(day.told(), [], "gone for less than two minutes");
    day.pass(60, &[]);
    assert_eq!(day.told(), [What::Resolved]);
    day.pass(24 * 3600, &[]);
    assert_eq!(day.told(), []);
    assert!(day.memory.known.is_empty(), "nothing is kept for ever");
}

#[test]
fn what_comes_and_goes_is_told_ever_more_seldom() {
    let mut day = Day::new(vec![channel("ops", 1000)]);
    for _ in 0..30 {
        day.pass(30, &[rpo(Severity::Critical)]);
        day.pass(30, &[]);
    }
    assert_eq!(day.told(), [What::Begins], "half a minute away is not away");
    day.pass(180, &[]);
    assert_eq!(day.told(), [What::Resolved]);
    let mut notices = 0;
    for _ in 0..40 {
        day.pass(150, &[rpo(Severity::Critical)]);
        day.pass(150, &[]);
        notices += day.told().iter().filter(|what| **what == What::Begins).count();
    }
    assert!((1..=2).contains(&notices), "{notices}");
}

#[test]
fn a_restart_in_the_middle_tells_nobody_twice_and_forgets_nobody() {
    let mut day = Day::new(vec![channel("ops", 20)]);
    day.pass(4, &[rpo(Severity::Warning)]);
    assert_eq!(day.told(), [], "it waits for others");
    day.restart();
    day.pass(20, &[rpo(Severity::Warning)]);
    assert_eq!(day.told(), [What::Begins]);
    day.restart();
    day.pass(600, &[rpo(Severity::Warning)]);
    assert_eq!(day.told(), []);
    day.pass(60, &[]);
    day.restart();
    day.pass(100, &[]);
    assert_eq!(day.told(), [What::Resolved]);
    // Written down and not sent: the message is the same one after the restart.
    day.away.insert("ops".to_owned());
    day.pass(20, &[rpo(Severity::Critical)]);
    let id = day.memory.out.keys().next().cloned().unwrap();
    day.restart();
    day.away.clear();
    day.pass(60, &[rpo(Severity::Critical)]);
    let got = day.took();
    assert_eq!((got.len(), &got[0].1.id), (1, &id));
}

#[test]
fn a_flood_of_a_thousand_is_a_few_messages() {
    let flood: Vec<_> =
        (0..1000).map(|number| condition("acme", &format!("i{number}"), "rpo", Severity::Critical)).collect();
    let mut incidents = channel("pager", 20);
    incidents.kind = ChannelKind::PagerDuty {
        url: "https://events.example/v2/enqueue".parse().unwrap(),
        routing_key: SecretSource::Env("KEY".into()),
    };
    let mut day = Day::new(vec![channel("ops", 20), incidents]);
    day.pass(10, &flood[..1]);
    // They come in over two minutes, as looks find them.
    for part in 1..=10 {
        day.pass(12, &flood[..part * 100]);
    }
    day.pass(120, &flood);
    let got = day.took();
    let of = |name: &str| got.iter().filter(|(channel, _)| channel == name).collect::<Vec<_>>();
    assert!(of("ops").len() <= 7, "{}", of("ops").len());
    assert!(of("pager").len() <= 7, "{}", of("pager").len());
    for name in ["ops", "pager"] {
        let count: u64 =
            of(name).iter().map(|(_, message)| message.notices.len() as u64 + message.more.values().sum::<u64>()).sum();
        assert_eq!(count, 1000, "each is counted once on {name}");
    }
    assert!(got.iter().all(|(_, message)| message.notices.len() <= 50));
    // All but one come back: the incident that it is part of stays open.
    let opened: BTreeSet<_> = of("pager").iter().map(|(_, message)| message.thread.clone()).collect();
    day.pass(400, &flood[999..]);
    let resolved: BTreeSet<_> = day
        .took()
        .into_iter()
        .filter(|(channel, message)| channel == "pager" && message.is_resolved())
        .map(|(_, message)| message.thread)
        .collect();
    assert_eq!(opened.difference(&resolved).count(), 1);
    day.pass(400, &[]);
    let last: Vec<_> = day.took().into_iter().filter(|(channel, _)| channel == "pager").collect();
    assert_eq!(last.len(), 1);
    assert!(opened.contains(&last[0].1.thread) && !resolved.contains(&last[0].1.thread));
}

#[test]
fn the_hourly_limit_holds_back_and_sums_up_and_lets_grave_things_through() {
    let mut day = Day::new(vec![channel("ops", 8)]);
    let warnings: Vec<_> =
        (0..60).map(|number| condition("acme", &format!("i{number}"), "copy", Severity::Warning)).collect();
    for count in 1..=60 {
        day.pass(50, &warnings[..count]); // 50 minutes
    }
    let got = day.took();
    assert_eq!(got.len(), 6, "a quarter is kept for what is critical");
    let mut all = warnings.clone();
    all.push(rpo(Severity::Critical));
    day.pass(60, &all);
    let got = day.took();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].1.notices[0].condition, rpo(Severity::Critical), "the gravest stands first");
    assert!(got[0].1.notices.len() > 40, "what was held back is in it");
}

#[test]
fn what_came_and_went_while_a_channel_was_away_is_counted_and_not_told() {
    let mut day = Day::new(vec![channel("ops", 20), channel("mail", 20)]);
    day.away.insert("mail".to_owned());
    day.pass(30, &[rpo(Severity::Critical)]);
    assert_eq!(day.memory.failing().keys().collect::<Vec<_>>(), ["mail"]);
    let other = condition("acme", "shop", "drill", Severity::Warning);
    day.pass(300, &[rpo(Severity::Critical), other]);
    day.pass(600, &[rpo(Severity::Critical)]);
    day.away.clear();
    day.took();
    day.pass(700, &[rpo(Severity::Critical)]);
    let got = day.took();
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!((got[0].0.as_str(), got[0].1.notices.len()), ("mail", 1));
    assert!(day.memory.failing().is_empty());
}

#[test]
fn a_channel_that_never_comes_back_neither_grows_nor_is_forgotten() {
    let mut day = Day::new(vec![channel("ops", 20)]);
    day.away.insert("ops".to_owned());
    for hour in 0..100 {
        let one = condition("acme", &format!("i{}", hour % 7), "rpo", Severity::Critical);
        day.pass(3600, &[one]);
    }
    assert_eq!(day.memory.out.len(), 1);
    assert!(day.memory.rows().values().map(String::len).sum::<usize>() < 64 << 10);
    day.away.clear();
    day.pass(1200, &[rpo(Severity::Critical)]);
    let given_up: u64 = day.took().iter().map(|(_, message)| message.given_up).sum();
    assert_eq!(given_up, 1, "after three days");
}

#[test]
fn what_cannot_be_seen_is_neither_repeated_nor_taken_back() {
    let mut day = Day::new(vec![channel("ops", 20)]);
    day.pass(60, &[rpo(Severity::Critical)]);
    assert_eq!(day.told(), [What::Begins]);
    let blind = Seen { blind: [("acme".to_owned(), "clinic".to_owned())].into(), ..Seen::default() };
    day.pass_seen(7200, &blind);
    assert_eq!(day.told(), []);
    let elsewhere = Seen { elsewhere: ["acme".to_owned()].into(), ..Seen::default() };
    day.pass_seen(7200, &elsewhere);
    assert_eq!(day.told(), []);
    day.pass(300, &[]);
    assert_eq!(day.told(), [What::Resolved]);
}

#[test]
fn an_answer_refers_to_its_alarm() {
    let mut day = Day::new(vec![channel("ops", 20)]);
    day.pass(60, &[rpo(Severity::Critical)]);
    let alarm = day.took().remove(0).1;
    assert_eq!((&alarm.thread, alarm.references.len()), (&alarm.id, 0));
    day.pass(300, &[]);
    let answer = day.took().remove(0).1;
    assert_eq!((&answer.thread, &answer.references), (&alarm.id, &vec![alarm.id.clone()]));
    assert_ne!(answer.id, alarm.id);
}

#[test]
fn a_lead_that_is_lost_is_told_and_one_that_another_has_is_not() {
    let now = Timestamp::constant(1_795_400_000, 0);
    let trouble = |of: &str| Trouble {
        tenant: Some("acme".to_owned()),
        of: of.to_owned(),
        since: now,
        text: "nothing is begun for acme, as the lead is lost: no answer".to_owned(),
        next: None,
    };
    let repository = trouble("repository main");
    let alone = conditions(&[], &[], &[trouble("lead"), repository.clone()], now);
    assert!(alone.elsewhere.is_empty() && alone.conditions.len() == 2, "{alone:?}");
    assert!(alone.conditions[0].title.starts_with("nothing is begun for acme"), "{alone:?}");
    let other = conditions(&[], &[], &[trouble("leader"), repository], now);
    assert!(other.elsewhere.contains("acme") && other.conditions.is_empty(), "{other:?}");
}

#[test]
fn a_dependency_is_told_of_its_instance_and_whom_to_call() {
    let now = Timestamp::constant(1_795_400_000, 0);
    let clinic = Watched { tenant: "acme", instance: "clinic", tier: "gold", owner: Some("Dr. Weiss"), facts: None };
    let trouble = Trouble {
        tenant: Some("acme".to_owned()),
        of: "dependency sign-in of clinic".to_owned(),
        since: now,
        text: "identity at https://id.example.org does not answer: refused".to_owned(),
        next: Some("IT service desk, 4711".to_owned()),
    };
    let told = conditions(&[clinic], &[], &[trouble], now).conditions.remove(0);
    assert_eq!(told.title, "clinic may not work: sign-in, which it needs, does not answer");
    assert_eq!((told.instance.as_deref(), told.tier.as_deref()), (Some("clinic"), Some("gold")), "its routes take it");
    assert_eq!((told.severity, told.next.as_deref()), (Severity::Warning, Some("IT service desk, 4711")));
}

#[test]
fn a_clock_that_ran_ahead_and_was_put_right_silences_nobody() {
    let ahead = SignedDuration::from_hours(10 * 24);
    let mut day = Day::new(vec![channel("ops", 1), channel("mail", 20)]);
    day.away.insert("mail".to_owned());
    day.now += ahead;
    day.pass(60, &[rpo(Severity::Warning)]);
    assert_eq!(day.told(), [What::Begins]);
    day.now -= ahead;
    day.away.clear();
    day.pass(1200, &[rpo(Severity::Warning)]);
    assert_eq!(day.told(), [What::Begins], "the other channel carries it as soon as it works");
    day.pass(3600, &[rpo(Severity::Critical)]);
    assert_eq!(day.told(), [What::Graver, What::Graver], "an hour later the first may carry another");
    day.pass(24 * 3600, &[rpo(Severity::Warning)]);
    assert_eq!(day.told(), [What::Reminder, What::Reminder]);
    day.pass(4000, &[]);
    assert_eq!(day.told(), [What::Resolved, What::Resolved]);
}
