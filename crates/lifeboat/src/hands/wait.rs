//! `wait`: for time, or until something is so. What has passed since the step began for the first time counts.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_model::time::Span;
use lifeboat_runbook::{
    action::wait::{For, Wait},
    execute::{Acting, Outputs},
};

use super::{Tools, act as ask};

/// A clock may jump: the time that is waited for is looked at again and again.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn act(wait: &Wait, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    match &wait.0 {
        For::Time(time) => {
            let span: Span = acting.course.fill(time).parse().map_err(|error| format!("{error}"))?;
            let since = acting.since.unwrap_or_else(|| (tools.clock)());
            let until = since.checked_add(span.0).map_err(|error| error.to_string())?;
            sleep_until(until, tools).await;
        }
        For::Moment(moment) => {
            let until: Timestamp = acting.course.fill(moment).parse().map_err(|error| format!("{error}"))?;
            sleep_until(until, tools).await;
        }
        For::Passes { check, every } => {
            let mut told = String::new();
            while let Err(why) = ask(check, acting, tools).await {
                if why != told {
                    (tools.talk)(&format!("not yet: {}", tools.masks.mask(&why)));
                    told = why;
                }
                tokio::time::sleep(every.0).await;
            }
        }
    }
    Ok(Outputs::new())
}

async fn sleep_until(moment: Timestamp, tools: &Tools) {
    loop {
        let left = moment.duration_since((tools.clock)());
        if !left.is_positive() {
            return;
        }
        tokio::time::sleep(left.unsigned_abs().min(LOOK)).await;
    }
}
