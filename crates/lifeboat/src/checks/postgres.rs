//! An instance's PostgreSQL: can this host reach it with the rights that a backup needs, and is it set up for one.

use lifeboat_engine::context::{Clock, connect_options};
use lifeboat_model::{check::Verdict, config::InstanceConfig, id::Instance};
use lifeboat_postgres::preflight::{self, Need, PreflightItem};

use super::{Finding, Grade};
use crate::wire::environment;

/// Asks the server everything.
pub async fn look(name: &Instance, instance: &InstanceConfig, clock: &Clock) -> Vec<Finding> {
    let connect = match connect_options(&instance.postgres, &environment) {
        Ok(connect) => connect,
        Err(error) => return vec![Finding::failed("postgres.password", error.to_string(), "").of(name.as_str())],
    };
    let postgres = &instance.postgres;
    let mut items = preflight::check(&connect, &postgres.databases, &|| clock()).await;
    if items.iter().any(|item| item.id == "postgres.reachable" && item.ok.is_passed()) {
        let (slot, heartbeat) = (postgres.wal.slot_name(name), postgres.wal.heartbeat.is_some());
        // The database that the streamer asks.
        items.extend(preflight::streaming(&connect, "postgres", &slot, heartbeat).await);
    }
    items.into_iter().map(|item| finding(item).of(name.as_str())).collect()
}

/// What only advises cannot stop a backup: at worst it is a warning.
fn finding(item: PreflightItem) -> Finding {
    let (grade, observed) = match (item.ok, item.need) {
        (Verdict::Passed, _) => return Finding::ok(item.id, item.observed),
        (Verdict::Failed(why), Need::Required) => (Grade::Failed, said(item.observed, why)),
        (Verdict::Failed(why), Need::Advised) => (Grade::Warning, said(item.observed, why)),
        (Verdict::NotExecuted(why), Need::Required) => (Grade::NotChecked, why),
        (Verdict::NotExecuted(why), Need::Advised) => (Grade::Warning, format!("not checked: {why}")),
    };
    Finding::wrong(grade, item.id, observed, item.mend)
}

fn said(observed: String, why: String) -> String {
    match (observed.is_empty(), observed.contains(&why) || why.is_empty()) {
        (true, _) => why,
        (false, true) => observed,
        (false, false) => format!("{observed}: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(ok: Verdict, need: Need) -> PreflightItem {
        let text = |text: &str| text.to_owned();
        PreflightItem {
            id: text("postgres.x"),
            need,
            ok,
            observed: text("off"),
            expected: text("on"),
            mend: text("do"),
        }
    }

    #[test]
    fn grades() {
        let cases = [
            (Verdict::Passed, Need::Required, Grade::Ok),
            (Verdict::Failed("bad".into()), Need::Required, Grade::Failed),
            (Verdict::Failed("bad".into()), Need::Advised, Grade::Warning),
            (Verdict::NotExecuted("no right".into()), Need::Required, Grade::NotChecked),
            (Verdict::NotExecuted("no right".into()), Need::Advised, Grade::Warning),
        ];
        for (ok, need, grade) in cases {
            assert_eq!(finding(item(ok.clone(), need)).grade, grade, "{ok:?}");
        }
        assert_eq!(finding(item(Verdict::Failed("bad".into()), Need::Required)).observed, "off: bad");
    }
}
