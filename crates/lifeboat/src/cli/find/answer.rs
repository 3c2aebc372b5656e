//! What `find-corruption` answers.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_drill::find::{End, Found, Lost, Moment, Narrowed, Probe, Verdict};
use serde::Serialize;

use super::FindCorruption;
use crate::{
    exit::Exit,
    output::{Answer, Page, Rows, Tone, count, seconds},
};

/// So much of a value is shown to people.
const SHOWN: usize = 60;
/// Tables that are named to people.
const NAMED: usize = 40;

#[derive(Serialize)]
pub struct Answered {
    instance: String,
    database: String,
    sql: String,
    expect: String,
    /// `found`, `never-false`, `always-false`, `no-answer`.
    outcome: &'static str,
    /// How near good and bad are: `neighbouring-commits`, `resolution`, `not-held`, `not-executed`.
    narrowed: Option<&'static str>,
    last_good: Option<Edge>,
    first_bad: Option<Edge>,
    /// Between the two.
    between_seconds: Option<f64>,
    probes: Vec<Probed>,
    lost: Option<Undone>,
    /// Why it is not known what going back would lose.
    lost_not_compared: Option<String>,
    remarks: Vec<String>,
    next: Vec<String>,
    seconds: f64,
    /// Whether no moment beyond the one that decided had to be left out.
    #[serde(skip)]
    whole: bool,
    /// What commands that go on from here must say as well.
    #[serde(skip)]
    place: String,
}

/// A moment that bounds the interval.
#[derive(Serialize)]
struct Edge {
    /// Good: the check held with every commit until then. Bad: it did not hold any more with the commit of then.
    time: Timestamp,
    lsn: Option<String>,
    newest_commit: Option<Timestamp>,
    /// Good: when the next commit ended, where the log told.
    next_commit: Option<Timestamp>,
    /// Which probe, from 1 on.
    probe: usize,
    point: Option<String>,
}

#[derive(Serialize)]
struct Probed {
    /// `point`, `time` or `latest`.
    kind: &'static str,
    time: Timestamp,
    point: Option<String>,
    restored: Option<String>,
    answer: Option<String>,
    /// `good`, `bad`, `not-executed`.
    verdict: &'static str,
    why: Option<String>,
    newest_commit: Option<Timestamp>,
    lsn: Option<String>,
    seconds: f64,
}

/// What is in the newest moment and not in the last good one, or the other way round.
#[derive(Serialize)]
struct Undone {
    tables: Vec<Table>,
    same_tables: u64,
    not_compared: Vec<Left>,
}

#[derive(Serialize)]
struct Table {
    table: String,
    good_rows: Option<u64>,
    newest_rows: Option<u64>,
    /// Rows that were added since, less those that were removed; 0 where rows were changed.
    more_rows: i64,
}

#[derive(Serialize)]
struct Left {
    what: String,
    why: String,
}

/// A moment in words.
pub fn named(moment: &Moment) -> String {
    match moment {
        Moment::Point(id, time) => format!("recovery point {id} of {}", exact(*time)),
        Moment::Time(time) => exact(*time),
        Moment::Latest(time) => format!("the latest moment held, {}", exact(*time)),
    }
}

/// A value that may be long or of several lines.
pub fn short(value: &str) -> String {
    let mut text: String = value.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if value.chars().count() > SHOWN {
        text.push('…');
    }
    text
}

/// To the microsecond, so that the text can be given to `--at`.
fn exact(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

impl From<&Probe> for Probed {
    fn from(probe: &Probe) -> Probed {
        let (kind, point) = match &probe.moment {
            Moment::Point(id, _) => ("point", Some(id.to_string())),
            Moment::Time(_) => ("time", None),
            Moment::Latest(_) => ("latest", None),
        };
        let (verdict, why) = match &probe.verdict {
            Verdict::Good => ("good", None),
            Verdict::Bad => ("bad", None),
            Verdict::NotExecuted(why) => ("not-executed", Some(why.clone())),
        };
        Probed {
            kind,
            time: probe.moment.time(),
            point,
            restored: probe.restored.clone(),
            answer: probe.answer.clone(),
            verdict,
            why,
            newest_commit: probe.newest_commit,
            lsn: probe.lsn.map(|lsn| lsn.to_string()),
            seconds: probe.took.as_secs_f64(),
        }
    }
}

impl From<Lost> for Undone {
    fn from(lost: Lost) -> Undone {
        let rows = |rows: Option<u64>| i64::try_from(rows.unwrap_or(0)).unwrap_or(i64::MAX);
        let tables = lost.tables.into_iter().map(|table| Table {
            more_rows: rows(table.newest) - rows(table.good),
            table: table.name,
            good_rows: table.good,
            newest_rows: table.newest,
        });
        let mut not_compared: Vec<Left> = lost.not_compared.into_iter().map(|(what, why)| Left { what, why }).collect();
        for (what, why) in [
            ("sequences", "they count on, and lose nothing"),
            ("other databases of the cluster", "this one was asked about"),
            ("filestore", "files are never rewritten: restore brings back those of the moment"),
        ] {
            not_compared.push(Left { what: what.to_owned(), why: why.to_owned() });
        }
        Undone { tables: tables.collect(), same_tables: lost.same, not_compared }
    }
}

impl Answered {
    /// Of a search that came to its end.
    pub fn new(asked: &FindCorruption, found: Found, took: Duration) -> Answered {
        let edge = |place: Option<usize>, time: Option<Timestamp>| {
            let (place, time) = (place?, time?);
            let probe = found.probes.get(place)?;
            let point = if let Moment::Point(id, _) = &probe.moment { Some(id.to_string()) } else { None };
            let (lsn, newest_commit) = (probe.lsn.map(|lsn| lsn.to_string()), probe.newest_commit);
            Some(Edge { time, lsn, newest_commit, next_commit: probe.next_commit, probe: place + 1, point })
        };
        let (outcome, narrowed, whole) = match found.end {
            End::Found(narrowed) => ("found", Some(narrowed), true),
            End::NeverFalse { whole } => ("never-false", None, whole),
            End::AlwaysFalse { whole } => ("always-false", None, whole),
            End::NoAnswer => ("no-answer", None, false),
        };
        let (last_good, first_bad) = (edge(found.last_good, found.good_until), edge(found.first_bad, found.bad_from));
        let between = last_good.as_ref().zip(first_bad.as_ref());
        let between_seconds = between.map(|(good, bad)| bad.time.duration_since(good.time).as_secs_f64());
        let probes: Vec<Probed> = found.probes.iter().map(Probed::from).collect();
        let (lost, lost_not_compared) = match found.lost {
            Some(Ok(lost)) => (Some(Undone::from(lost)), None),
            Some(Err(why)) => (None, Some(why)),
            None => (None, None),
        };
        let mut answered = Answered {
            instance: asked.instance.to_string(),
            database: asked.database.clone(),
            sql: asked.sql.clone(),
            expect: asked.expect.clone(),
            outcome,
            narrowed: narrowed.map(word),
            last_good,
            first_bad,
            between_seconds,
            probes,
            lost,
            lost_not_compared,
            remarks: found.remarks,
            next: Vec::new(),
            seconds: took.as_secs_f64(),
            whole,
            place: asked.place.words(),
        };
        answered.next = answered.commands();
        answered
    }

    /// What a script sees.
    pub fn exit(&self) -> Exit {
        match (self.outcome, self.narrowed) {
            ("found", Some("not-held" | "not-executed")) => Exit::Incomplete,
            ("found", _) => Exit::Ok,
            ("never-false", _) if self.whole => Exit::NotFound,
            ("always-false", _) if self.whole => Exit::CheckFailed,
            _ => Exit::Incomplete,
        }
    }

    fn commands(&self) -> Vec<String> {
        let (instance, database, place) = (&self.instance, &self.database, &self.place);
        let moment = match &self.last_good {
            Some(Edge { point: Some(point), .. }) => format!("--point {point}"),
            Some(good) => format!("--at {}", exact(good.time)),
            None => String::new(),
        };
        match self.outcome {
            "found" => vec![
                format!("lifeboat restore {instance} {moment} --database {database} --to {database}.dump{place}"),
                format!("lifeboat restore {instance} {moment} --to DIR{place}"),
                format!("lifeboat drill {instance} {moment}{place}"),
            ],
            _ => vec![format!("lifeboat points windows {instance}{place}")],
        }
    }

    fn verdict(&self, page: &mut Page) {
        let probes = count(self.probes.len() as u64, "probe", "probes");
        let took = seconds(self.seconds);
        match self.outcome {
            "found" => {
                page.line(format_args!(
                    "{} in {} of {}: {probes} in {took}",
                    Tone::Good.paint("found:"),
                    self.database,
                    self.instance
                ));
            }
            "never-false" => {
                page.line(format_args!(
                    "{} it gives {} at the newest moment that could be asked: {probes} in {took}",
                    Tone::Doubtful.paint("nothing to find:"),
                    self.expect
                ));
                page.line(
                    "If production shows the fault now, it is not in what is held yet: wait for the log (lifeboat wal",
                );
                page.line("status), make a backup, or write a check that the fault makes fail.");
            }
            "always-false" => {
                page.line(format_args!(
                    "{} it does not give {} at the oldest moment that could be asked: {probes} in {took}",
                    Tone::Bad.paint("not found:"),
                    self.expect
                ));
                page.line(
                    "It began to fail before. Look further back (an earlier --after, or a copy that keeps longer:",
                );
                page.line("--repository), or see whether the check is right for that time at all.");
            }
            _ => {
                page.line(format_args!(
                    "{} no moment could be asked: {probes} in {took}",
                    Tone::Bad.paint("not executed:")
                ));
            }
        }
        if !self.whole && self.outcome != "no-answer" {
            page.line("Moments beyond it were not executed, so it is not said of them.");
        }
    }

    fn edges(&self, page: &mut Page) {
        let of = |edge: &Edge| {
            let lsn = edge.lsn.as_ref().map_or_else(String::new, |lsn| format!(", LSN {lsn}"));
            let point = edge.point.as_ref().map_or_else(String::new, |point| format!(", recovery point {point}"));
            format!("{}{lsn}{point} (probe {})", exact(edge.time), edge.probe)
        };
        if let Some(good) = &self.last_good {
            page.field("last good moment", of(good));
        }
        if let Some(bad) = &self.first_bad {
            page.field("first bad moment", of(bad));
        }
        let Some(between) = self.between_seconds else { return };
        let why = match self.narrowed {
            Some("neighbouring-commits") => "no other commit lies between them: that commit did it",
            Some("resolution") => "as near as was asked for; a smaller --resolution goes on",
            Some("not-held") => "what lies between cannot be brought back: this is the narrowest that is proven",
            _ => "what lies between could not be executed: this is the narrowest that is proven",
        };
        page.field("between them", format_args!("{}; {why}", seconds(between)));
    }

    fn undone(&self, page: &mut Page) {
        if let Some(why) = &self.lost_not_compared {
            page.heading("What going back would lose");
            page.line(format_args!("{} {why}", Tone::Doubtful.paint("not compared:")));
        }
        let Some(lost) = &self.lost else { return };
        page.heading("What going back would lose (the last good moment against the newest)");
        let mut rows = Rows::new(&["table", "good", "newest", ""]).numbers(&[1, 2]);
        for table in lost.tables.iter().take(NAMED) {
            let number = |rows: Option<u64>| rows.map_or_else(|| "not there".to_owned(), |rows| rows.to_string());
            let words = match (table.good_rows, table.newest_rows, table.more_rows) {
                (None, _, _) => "the table would be gone".to_owned(),
                (_, None, _) => "the table would come back".to_owned(),
                (_, _, 0) => "rows were changed, as many".to_owned(),
                (_, _, more @ 1..) => format!("{} more", count(more.unsigned_abs(), "row", "rows")),
                (_, _, less) => format!("{} fewer: they would come back", count(less.unsigned_abs(), "row", "rows")),
            };
            rows.plain([table.table.as_str(), &number(table.good_rows), &number(table.newest_rows), &words]);
        }
        page.table(rows);
        if lost.tables.len() > NAMED {
            page.line(format_args!("… {} in all; --json names them", lost.tables.len()));
        }
        let same = count(lost.same_tables, "other table is", "other tables are");
        page.line(format_args!("{same} the same, row by row. The commit that did the damage is among what is lost."));
        for left in &lost.not_compared {
            page.line(format_args!("not compared: {} ({})", left.what, left.why));
        }
    }
}

impl Answer for Answered {
    const SCHEMA: &'static str = "lifeboat.find-corruption/1";

    fn text(&self, page: &mut Page) {
        self.verdict(page);
        self.edges(page);
        page.heading("Probes");
        let mut rows = Rows::new(&["", "moment", "answer", "", "took"]).numbers(&[0, 4]);
        for (at, probe) in self.probes.iter().enumerate() {
            let moment = match (&probe.point, probe.kind) {
                (Some(point), _) => format!("{} point {point}", exact(probe.time)),
                (None, "latest") => format!("{} latest", exact(probe.time)),
                _ => exact(probe.time),
            };
            let answer = probe.answer.as_deref().map(short).or_else(|| probe.why.clone()).unwrap_or_default();
            let tone = match probe.verdict {
                "good" => Tone::Good,
                "bad" => Tone::Bad,
                _ => Tone::Doubtful,
            };
            let (number, took) = ((at + 1).to_string(), seconds(probe.seconds));
            let plain = |text| (Tone::Plain, text);
            rows.row([
                plain(number.as_str()),
                plain(moment.as_str()),
                plain(answer.as_str()),
                (tone, probe.verdict),
                plain(took.as_str()),
            ]);
        }
        page.table(rows);
        self.undone(page);
        for remark in &self.remarks {
            page.field("note", remark);
        }
        page.heading("Next");
        self.next.iter().for_each(|command| page.line(format_args!("  {command}")));
    }
}

fn word(narrowed: Narrowed) -> &'static str {
    match narrowed {
        Narrowed::Neighbours => "neighbouring-commits",
        Narrowed::Resolution => "resolution",
        Narrowed::NotHeld => "not-held",
        Narrowed::NotExecuted => "not-executed",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use lifeboat_drill::find::LostTable;
    use lifeboat_model::{id::PointId, lsn::Lsn};
    use serde_json::json;

    use super::*;
    use crate::{cli::Cli, output::Output};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn probe(moment: Moment, answer: &str, verdict: Verdict) -> Probe {
        Probe {
            moment,
            restored: Some("recovery point".to_owned()),
            base: None,
            answer: Some(answer.to_owned()),
            verdict,
            newest_commit: Some(at(10)),
            next_commit: None,
            lsn: Some(Lsn(0x1_0000_0028)),
            took: Duration::from_secs(3),
        }
    }

    fn answered(end: End) -> Answered {
        let line =
            ["lifeboat", "find-corruption", "clinic", "--database", "odoo", "--sql", "SELECT 1", "--expect", "0"];
        let crate::cli::Verb::FindCorruption(asked) = Cli::try_parse_from(line).unwrap().verb else {
            panic!("{line:?}")
        };
        let lost = Lost {
            tables: vec![LostTable { name: "public.move".to_owned(), good: Some(3), newest: Some(5) }],
            same: 7,
            ..Lost::default()
        };
        let found = Found {
            end,
            probes: vec![
                probe(Moment::Latest(at(99)), "400", Verdict::Bad),
                probe(Moment::Point(PointId([7; 8]), at(5)), "0", Verdict::Good),
                probe(Moment::Time(at(50)), "", Verdict::NotExecuted("no answer within 1 s".to_owned())),
                probe(Moment::Time(at(20)), "0", Verdict::Good),
            ],
            last_good: Some(3),
            first_bad: Some(0),
            good_until: Some(at(20)),
            bad_from: Some(at(21)),
            lost: Some(Ok(lost)),
            remarks: Vec::new(),
        };
        Answered::new(&asked, found, Duration::from_secs(12))
    }

    #[test]
    fn what_a_script_reads_and_what_a_person_reads() {
        let found = answered(End::Found(Narrowed::Neighbours));
        let value = serde_json::to_value(&found).unwrap();
        assert_eq!((&value["outcome"], &value["narrowed"]), (&json!("found"), &json!("neighbouring-commits")));
        assert_eq!((&value["last_good"]["probe"], &value["last_good"]["lsn"]), (&json!(4), &json!("1/28")));
        assert_eq!((&value["between_seconds"], &value["lost"]["tables"][0]["more_rows"]), (&json!(1.0), &json!(2)));
        assert_eq!(value["probes"][2]["verdict"], "not-executed");
        let text = Output::new(false).render(&found);
        for words in ["that commit did it", "2 rows more", "7 other tables are the same", "not compared: sequences"] {
            assert!(text.contains(words), "no {words:?} in {text}");
        }
        assert!(text.contains("lifeboat drill clinic --at 1970-01-01T00:00:20.000000Z"), "{text}");
    }

    #[test]
    fn what_was_not_executed_is_no_success() {
        let exit = |end| answered(end).exit();
        assert_eq!(exit(End::Found(Narrowed::Resolution)), Exit::Ok);
        assert_eq!(exit(End::Found(Narrowed::NotExecuted)), Exit::Incomplete);
        assert_eq!(exit(End::Found(Narrowed::NotHeld)), Exit::Incomplete);
        assert_eq!(exit(End::NeverFalse { whole: true }), Exit::NotFound);
        assert_eq!(exit(End::AlwaysFalse { whole: true }), Exit::CheckFailed);
        for end in [End::NeverFalse { whole: false }, End::AlwaysFalse { whole: false }, End::NoAnswer] {
            assert_eq!(exit(end), Exit::Incomplete, "{end:?}");
        }
    }
}
