//! What is due when, and what becomes of runs that were due while nobody was there.

use jiff::{Timestamp, ToSpan as _};
use lifeboat_model::{
    config::Config,
    id::{Instance, Tenant},
    retention::Zone,
    time::Span,
};
use sha2::{Digest as _, Sha256};

use super::{Blackout, Missed, Of, Schedule, When, calendar};

/// A run that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Occurrence {
    /// When the schedule says: with schedule and instance it names the run that must happen once.
    pub due: Timestamp,
    /// When it is to be begun: after the jitter, outside of blackouts. Never before `due`.
    pub at: Timestamp,
}

/// A run that begins no later than this after its time is on time: restarts and full queues take a moment.
const GRACE: Span = Span(std::time::Duration::from_secs(60));

/// More blackouts than this one after another are refused when they are read: they leave no time at all.
const MOST_BLACKOUTS: usize = 64;

impl Schedule {
    /// Whose runs it has: each instance by itself, or `None` for the tenant as a whole.
    pub fn instances(&self, config: &Config) -> Vec<Option<Instance>> {
        let all = config.instances.iter();
        match &self.of {
            Of::Tenant => vec![None],
            Of::All => all.map(|(name, _)| Some(name.clone())).collect(),
            Of::Instances(names) => {
                names.iter().filter(|name| config.instances.contains_key(*name)).cloned().map(Some).collect()
            }
            Of::Tiers(tiers) => {
                all.filter(|(_, instance)| tiers.contains(&instance.tier)).map(|(name, _)| Some(name.clone())).collect()
            }
        }
    }

    /// Whether it has runs of an instance, or with `None` of the tenant as a whole. Asked for each of a thousand, so nothing is
    /// listed.
    pub fn has(&self, config: &Config, instance: Option<&Instance>) -> bool {
        let Some(name) = instance else { return matches!(self.of, Of::Tenant) };
        let Some(instance) = config.instances.get(name) else { return false };
        match &self.of {
            Of::Tenant => false,
            Of::All => true,
            Of::Instances(names) => names.contains(name),
            Of::Tiers(tiers) => tiers.contains(&instance.tier),
        }
    }

    /// What is due by its cron line after one moment and until another, that one included, oldest first. Nothing for
    /// schedules without a line.
    ///
    /// Runs that would be begun at the same moment, because one blackout holds them all back, are one: the newest. So the
    /// answer for a stretch of time is the same whether it is asked for at once or in parts.
    pub fn due(
        &self,
        instance: Option<&Instance>,
        after: Timestamp,
        until: Timestamp,
    ) -> impl Iterator<Item = Occurrence> + use<'_> {
        let jitter = self.jitter_of(instance);
        let cron = match &self.when {
            When::Cron(cron) => Some(cron),
            When::After { .. } | When::Always => None,
        };
        let occurrence = move |due: Timestamp| Occurrence { due, at: self.begin(later(due, jitter)) };
        let mut next = cron.and_then(|cron| cron.next(&self.time_zone, after)).map(occurrence);
        std::iter::from_fn(move || {
            loop {
                let this = next.filter(|this| this.due <= until)?;
                next = cron.and_then(|cron| cron.next(&self.time_zone, this.due)).map(occurrence);
                if next.is_none_or(|next| next.at > this.at) {
                    return Some(this);
                }
            }
        })
    }

    /// The run that follows one of the schedule that this one comes after, given when that one ended.
    pub fn follows(&self, instance: Option<&Instance>, ended: Timestamp) -> Option<Occurrence> {
        let When::After { delay, .. } = &self.when else { return None };
        let due = later(ended, *delay);
        Some(Occurrence { due, at: self.begin(later(due, self.jitter_of(instance))) })
    }

    /// The first moment from this one on that is outside of blackouts: also for what is tried again.
    pub fn begin(&self, from: Timestamp) -> Timestamp {
        let mut at = from;
        for _ in 0..MOST_BLACKOUTS {
            match self.blackouts.iter().filter_map(|blackout| blackout.holds(at, &self.time_zone)).max() {
                Some(end) => at = end,
                None => break,
            }
        }
        at
    }

    /// What becomes of runs that were due while nobody was there, `dues` oldest first: the one that is done, now or at its
    /// time, and those that are not, each with the reason.
    pub fn catch_up(&self, dues: &[Occurrence], now: Timestamp) -> (Option<Occurrence>, Vec<(Occurrence, String)>) {
        let Some((newest, older)) = dues.split_last() else { return (None, Vec::new()) };
        let mut missed: Vec<(Occurrence, String)> = older
            .iter()
            .map(|occurrence| {
                (*occurrence, format!("nobody was at work, and the run due {} stands for it", newest.due))
            })
            .collect();
        let late = Span(now.duration_since(newest.at).unsigned_abs());
        let is_on_time = newest.at >= now || late <= GRACE;
        match self.missed {
            _ if is_on_time => (Some(*newest), missed),
            Missed::Once(within) if later(newest.due, within) >= now => {
                (Some(Occurrence { due: newest.due, at: self.begin(now) }), missed)
            }
            Missed::Once(within) => {
                missed.push((*newest, format!("nobody was at work, and it is caught up within {within} only")));
                (None, missed)
            }
            Missed::Skip => {
                missed.push((*newest, "nobody was at work, and the schedule says to skip it then".to_owned()));
                (None, missed)
            }
        }
    }

    /// Drawn from the names, evenly over the span and the same each time.
    fn jitter_of(&self, instance: Option<&Instance>) -> Span {
        let most = u64::try_from(self.jitter.0.as_millis()).unwrap_or(u64::MAX);
        if most == 0 {
            return Span(std::time::Duration::ZERO);
        }
        let mut hash = Sha256::new();
        let tenant = self.tenant.as_ref().map_or("", Tenant::as_str);
        for name in [tenant, &self.name, instance.map_or("", Instance::as_str)] {
            hash.update(name.as_bytes());
            hash.update([0]); // names have none: no two sets of them are the same bytes
        }
        let drawn = hash.finalize().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        Span(std::time::Duration::from_millis(drawn % most))
    }

    /// When, for people: the cron line with its zone, `after gold-backup`, `always`.
    pub fn words(&self) -> String {
        match &self.when {
            When::Cron(cron) => {
                let days: Vec<String> = cron.days.iter().map(ToString::to_string).collect();
                let on = if days.is_empty() { String::new() } else { format!(" on the {}", days.join(" and the ")) };
                format!("{}{on} ({})", cron.text, self.time_zone)
            }
            When::After { schedule, delay } if delay.0.is_zero() => format!("after {schedule}"),
            When::After { schedule, delay } => format!("{delay} after {schedule}"),
            When::Always => "always".to_owned(),
        }
    }
}

impl Blackout {
    /// When it ends, if a moment is within it.
    ///
    /// It begins the first time that clocks show its beginning and ends the last time that they show its end: on the day on
    /// which an hour comes twice, both passes are dark.
    fn holds(&self, moment: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let rules = zone.rules();
        let today = rules.to_datetime(moment).date();
        // Tomorrow's may have begun already where midnight comes twice.
        let days = [today.yesterday().ok(), Some(today), today.tomorrow().ok()];
        let ends = days.into_iter().flatten().filter(|day| self.days.contains(&day.weekday())).filter_map(|day| {
            let last = if self.to <= self.from { day.tomorrow().ok()? } else { day };
            let from = calendar::earliest(rules, day.to_datetime(self.from))?;
            let to = calendar::latest(rules, last.to_datetime(self.to))?;
            (from <= moment && moment < to).then_some(to)
        });
        ends.max()
    }
}

fn later(time: Timestamp, span: Span) -> Timestamp {
    let millis = i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX);
    time.saturating_add(millis.milliseconds()).unwrap_or(time)
}
