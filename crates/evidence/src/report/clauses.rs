//! Which evidence of a period supports which demand of a law or standard, and what it does not show.
//!
//! The demands are told in our own words; the text of the law or standard decides. That a clause is listed says nothing about
//! whether somebody conforms to it: that is an auditor's judgement, and most of it lies outside of what a program can see.

use lifeboat_model::check::Outcome;
use serde::Serialize;

use super::{
    period::{InstancePeriod, Ledger, Period, Status},
    words::{count, span},
};

/// One demand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Clause {
    /// The law or standard.
    pub source: &'static str,
    /// Its number.
    pub number: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// What it asks for, in our words.
    pub asks: &'static str,
    /// What this period's evidence has for it; empty: nothing.
    pub supported_by: Vec<String>,
    /// What has to be shown otherwise.
    pub not_shown: Vec<String>,
}

const HIPAA: &str = "HIPAA Security Rule, 45 CFR";
const SOC2: &str = "SOC 2, Trust Services Criteria";
const ISO27001: &str = "ISO/IEC 27001:2022, Annex A";
const ISO22301: &str = "ISO 22301:2019";

/// All of them, with what this period has for each.
pub(super) fn clauses(period: &Period) -> Vec<Clause> {
    let facts = Facts::of(period);
    vec![
        Clause {
            source: HIPAA,
            number: "164.308(a)(7)(ii)(A)",
            title: "Data backup plan",
            asks: "Exact copies of electronic protected health information are made, and can be retrieved.",
            supported_by: said([facts.backups(), facts.exact(), facts.proofs(), facts.copies()]),
            not_shown: [
                facts.not_covered(),
                vec![
                    "that these instances are all systems that hold protected health information".to_owned(),
                    "the written plan and its approval".to_owned(),
                ],
            ]
            .concat(),
        },
        Clause {
            source: HIPAA,
            number: "164.308(a)(7)(ii)(B)",
            title: "Disaster recovery plan",
            asks: "There are procedures by which any loss of data is restored.",
            supported_by: said([facts.restored(), facts.rto(), facts.predicted()]),
            not_shown: texts(&[
                "the written plan: who decides, who is called, in which order systems come back",
                "a restore in place of production: rehearsals end in a sandbox",
                "what lies around Odoo: network, names, identities, workstations",
            ]),
        },
        Clause {
            source: HIPAA,
            number: "164.308(a)(7)(ii)(C)",
            title: "Emergency mode operation plan",
            asks: "Critical processes go on, and information stays protected, while the emergency lasts.",
            supported_by: Vec::new(),
            not_shown: texts(&[
                "how work goes on without Odoo, and who may see what meanwhile: no drill looks at that",
                "access in an emergency (164.312(a)(2)(ii))",
            ]),
        },
        Clause {
            source: HIPAA,
            number: "164.308(a)(7)(ii)(D)",
            title: "Testing and revision procedures",
            asks: "Contingency plans are tested periodically, and revised.",
            supported_by: said([facts.rehearsed(), facts.rhythm(), facts.controls(), facts.actions()]),
            not_shown: texts(&["that the text of the plan was revised after what the drills found"]),
        },
        Clause {
            source: SOC2,
            number: "A1.2",
            title: "Backup and recovery infrastructure",
            asks: "Backup processes and recovery infrastructure are designed, operated, maintained and monitored so that \
                   objectives are met.",
            supported_by: said([facts.backups(), facts.proofs(), facts.copies(), facts.ledger()]),
            not_shown: texts(&[
                "environmental protections of the places where the copies are",
                "who approves changes of the backup's configuration (its digest stands in every statement)",
            ]),
        },
        Clause {
            source: SOC2,
            number: "A1.3",
            title: "Tests of recovery",
            asks: "Recovery procedures are tested so that objectives are met.",
            supported_by: said([facts.rehearsed(), facts.rpo(), facts.rto(), facts.controls(), facts.signed()]),
            not_shown: texts(&["tests of people: who is on call, whether they reach each other, what they decide"]),
        },
        Clause {
            source: ISO27001,
            number: "A.8.13",
            title: "Information backup",
            asks: "Copies of information, software and systems are kept and regularly tested, as a policy on backup says.",
            supported_by: said([facts.backups(), facts.rehearsed(), facts.rhythm(), facts.exact()]),
            not_shown: [
                facts.not_covered(),
                texts(&["the policy on backup itself, and that it covers what the business needs"]),
            ]
            .concat(),
        },
        Clause {
            source: ISO22301,
            number: "8.5",
            title: "Exercise programme",
            asks: "A programme of exercises and tests shows over time that continuity strategies work; results are reported \
                   and acted upon.",
            supported_by: said([facts.rehearsed(), facts.rhythm(), facts.signed(), facts.actions()]),
            not_shown: texts(&[
                "exercises with the people and partners who would take part in an emergency",
                "that the scenarios follow from a business impact analysis",
            ]),
        },
    ]
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn said<const N: usize>(facts: [Option<String>; N]) -> Vec<String> {
    facts.into_iter().flatten().collect()
}

/// What can be said of a period, each in a sentence, or not at all.
struct Facts<'p> {
    period: &'p Period,
}

impl<'p> Facts<'p> {
    fn of(period: &'p Period) -> Self {
        Facts { period }
    }

    fn sum(&self, of: impl Fn(&InstancePeriod) -> u64) -> u64 {
        self.period.instances.iter().map(of).sum()
    }

    fn backups(&self) -> Option<String> {
        let made = self.period.sums.backups;
        let instances = self.sum(|of| u64::from(of.backups.made > 0));
        (made > 0).then(|| {
            let points = count(made, "recovery point", "recovery points");
            format!("{points} of {} were made and signed", count(instances, "instance", "instances"))
        })
    }

    fn exact(&self) -> Option<String> {
        let exact = self.sum(|of| of.rehearsals.iter().filter(|one| one.exact && is_passed(one)).count() as u64);
        (exact > 0).then(|| {
            let rehearsals = count(exact, "passed rehearsal", "passed rehearsals");
            format!("{rehearsals} compared the restored data with the source, table by table, at an exact moment")
        })
    }

    fn restored(&self) -> Option<String> {
        let passed = self.period.sums.passed;
        let instances = self.sum(|of| u64::from(of.rehearsals.iter().any(is_passed)));
        (passed > 0).then(|| {
            let restored = count(passed, "full restore", "full restores");
            format!("{restored} of {} ended with a served login", count(instances, "instance", "instances"))
        })
    }

    fn rehearsed(&self) -> Option<String> {
        let sums = &self.period.sums;
        (sums.rehearsals > 0).then(|| {
            let done = count(sums.rehearsals, "rehearsal", "rehearsals");
            format!("{done}: {} passed, {} failed, {} incomplete", sums.passed, sums.failed, sums.incomplete)
        })
    }

    fn rhythm(&self) -> Option<String> {
        let sums = &self.period.sums;
        let due = count(sums.due, "rehearsal was due", "rehearsals were due");
        (sums.due > 0).then(|| format!("{due}, {} not done in time", sums.missed))
    }

    fn measure(&self, name: &str, of: fn(&InstancePeriod) -> &super::period::Measured) -> Option<String> {
        let measured = self.period.instances.iter().map(of);
        let met: u64 = measured.clone().map(|one| one.met).sum();
        let missed: u64 = measured.clone().map(|one| one.missed).sum();
        let worst = measured.filter_map(|one| one.worst_seconds).max_by(f64::total_cmp)?;
        Some(format!("{name} measured {} times: {met} within its target, worst {}", met + missed, span(worst)))
    }

    fn rpo(&self) -> Option<String> {
        self.measure("RPO", |of| &of.rpo)
    }

    fn rto(&self) -> Option<String> {
        self.measure("RTO", |of| &of.rto)
    }

    fn predicted(&self) -> Option<String> {
        let predicted = |of: &InstancePeriod| of.rehearsals.last().is_some_and(|last| last.predicted_seconds.is_some());
        let instances = self.sum(|of| u64::from(predicted(of)));
        (instances > 0).then(|| {
            let instances = count(instances, "instance", "instances");
            format!("for {instances} the time of a restore of production is predicted from measured rates")
        })
    }

    fn controls(&self) -> Option<String> {
        let sums = &self.period.sums;
        (sums.controls > 0).then(|| {
            let done = count(sums.controls, "negative control", "negative controls");
            format!("{done} with damage made on purpose: in {} exactly the right checks failed", sums.controls_passed)
        })
    }

    fn actions(&self) -> Option<String> {
        let all = || self.period.instances.iter().flat_map(|of| &of.exceptions);
        let answered = all().filter(|one| one.status != Status::Open).count() as u64;
        let total = all().count() as u64;
        (total > 0).then(|| {
            let found = count(total, "deviation", "deviations");
            format!("{found} found, {answered} of them answered for or over")
        })
    }

    fn signed(&self) -> Option<String> {
        let accepted = self.period.sums.accepted;
        let signed = count(accepted, "rehearsal", "rehearsals");
        (accepted > 0).then(|| format!("{signed} accepted by a person, by name and role"))
    }

    fn acts(&self, kind: &str) -> u64 {
        self.sum(|of| of.acts.get(kind).copied().unwrap_or(0))
    }

    fn proofs(&self) -> Option<String> {
        let proofs = self.acts("verify");
        (proofs > 0).then(|| format!("locks and versions were read back {}", times(proofs)))
    }

    fn copies(&self) -> Option<String> {
        let copies = self.acts("copy");
        (copies > 0).then(|| format!("recovery points were copied to another repository {}", times(copies)))
    }

    fn ledger(&self) -> Option<String> {
        match &self.period.ledger {
            Ledger::Executed { entries, findings, .. } if findings.is_empty() && *entries > 0 => {
                Some(format!("the ledger of evidence is whole: {}", count(*entries, "entry", "entries")))
            }
            _ => None,
        }
    }

    /// Once each, whatever instances it is of.
    fn not_covered(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for of in &self.period.instances {
            for gap in &of.not_covered {
                let text = format!("{} of {}: not in the backups", gap.what, of.instance);
                if !found.contains(&text) && found.len() < 20 {
                    found.push(text);
                }
            }
        }
        found
    }
}

fn is_passed(one: &super::period::Rehearsal) -> bool {
    one.outcome == Outcome::Passed
}

fn times(number: u64) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
}
