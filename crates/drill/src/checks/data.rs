//! Rung 7: row counts and digests of every table against those of the source.
//!
//! What the comparison is worth depends on how the source's digests were taken, so its kind is recorded with the answer. An
//! exact witness is compared while replay is paused at its position: there the restored tables must be equal. The witness of
//! a quiet source, as the first release took it, is compared at the point's end. Where there is nothing exact to compare with
//! (*inexact*), or where a table changed its shape while the source was read (*inconclusive*), that is said: it is no pass.
//!
//! A difference names database, table, both values and the blocks; of a small table, the rows. Their values are masked, unless
//! somebody asks. Evidence is told counts, never a name or a value.

mod rows;

use lifeboat_engine::details::{Comparison as Taken, Witness, WitnessKind};
use lifeboat_evidence::drill::{Comparison, ExactComparison};
use lifeboat_model::lsn::Lsn;
use lifeboat_postgres::{
    digest::{self, DatabaseDigest, Difference},
    witness::unseen_commits,
};
use tokio_postgres::Client;

pub(crate) use rows::Values;

use crate::{
    checks::some,
    error::{Error, Result},
    ladder::Answer,
    postgres::Server,
};

/// The last record ends where the next may begin; between them is a page's header at most.
const PAGE: u64 = 8192;

/// Compares every database that the witness knows, on a promoted server; says in `kind` what the comparison was.
pub(crate) async fn compare(server: &Server, witness: Option<&Witness>, kind: &mut Comparison) -> Result<Answer> {
    let mut not_compared = |why: String| {
        *kind = Comparison::None { why: why.clone() };
        Ok(Answer::not_executed(why))
    };
    let Some(witness) = witness else { return not_compared(NO_DIGESTS.to_owned()) };
    if let Taken::NotExact { why } = &witness.comparison {
        return not_compared(inexact(why));
    }
    if let Some(why) = nothing_to_compare(witness) {
        return not_compared(why);
    }
    if let Taken::Exact { lsn, .. } = &witness.comparison
        && let Some(why) = ended_elsewhere(server, witness, *lsn).await?
    {
        return not_compared(why);
    }
    let mut seen = Seen::default();
    for (database, source) in &witness.databases {
        let answer = async {
            let mut clients = Vec::new();
            for _ in 0..sessions() {
                clients.push(server.connect(database).await?);
            }
            seen.look(&clients, database, source, Values::Masked).await
        };
        // The source could be digested: that the restored database cannot is a difference.
        if let Err(error) = answer.await {
            return Ok(Answer::broken(&error));
        }
    }
    match &witness.comparison {
        Taken::Exact { lsn, from, .. } => {
            *kind = Comparison::ExactWitness(seen.compared(*lsn, *from));
            Ok(seen.answer(&format!("exact witness at {lsn}, promoted there")))
        }
        _ => {
            *kind = Comparison::QuietSource { tables: seen.tables, rows: seen.rows };
            Ok(seen.answer("quiet source"))
        }
    }
}

/// Compares an exact witness with a server whose replay is paused at the witness's position.
pub(crate) async fn compare_paused(
    server: &Server,
    witness: &Witness,
    values: Values,
    kind: &mut Comparison,
) -> Result<Answer> {
    let mut not_compared = |why: String| {
        *kind = Comparison::None { why: why.clone() };
        Ok(Answer::not_executed(why))
    };
    let Taken::Exact { lsn, from, .. } = &witness.comparison else {
        return not_compared("the witness has no exact position".to_owned());
    };
    if let Some(why) = nothing_to_compare(witness) {
        return not_compared(why);
    }
    let mut seen = Seen::default();
    for (database, source) in &witness.databases {
        let mut clients = Vec::new();
        for _ in 0..sessions() {
            match server.connect_paused(database).await {
                Ok(client) => clients.push(client),
                Err(error) => return Ok(Answer::broken(&error)),
            }
        }
        let Some(client) = clients.first() else { continue };
        if let Some(why) = elsewhere(client, *lsn).await? {
            return not_compared(why);
        }
        if *from == WitnessKind::Primary
            && let Some(why) = unseen(client, source).await?
        {
            return not_compared(why);
        }
        if let Err(error) = seen.look(&clients, database, source, values).await {
            return Ok(Answer::broken(&error));
        }
    }
    *kind = Comparison::ExactWitness(seen.compared(*lsn, *from));
    Ok(seen.answer(&format!("exact witness at {lsn}")))
}

/// Sessions that digest at the same time: the restored server has nothing else to do.
fn sessions() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4))
}

const NO_DIGESTS: &str = "the point holds no digests of its source";

fn inexact(why: &str) -> String {
    format!("witness inexact: {why}")
}

fn nothing_to_compare(witness: &Witness) -> Option<String> {
    if witness.databases.is_empty() {
        return Some(NO_DIGESTS.to_owned());
    }
    let without = witness.databases.iter().find(|(_, source)| source.tables.is_empty());
    without.map(|(database, _)| format!("the source digested no table of database \"{database}\""))
}

/// Why the server is not where the witness was taken, if so: before it, rows are missing that are not lost.
async fn elsewhere(client: &Client, wanted: Lsn) -> Result<Option<String>> {
    const PLACE: &str = "SELECT pg_is_in_recovery() AND pg_is_wal_replay_paused(), \
                         coalesce(pg_last_wal_replay_lsn(), '0/0')::text";
    let row = client.query_one(PLACE, &[]).await.map_err(Error::sql("ask where replay is paused"))?;
    let (paused, place): (Option<bool>, String) = (row.get(0), row.get(1));
    let place: Lsn = place.parse().unwrap_or_default();
    Ok(misplaced(paused == Some(true), place, wanted))
}

fn misplaced(paused: bool, place: Lsn, wanted: Lsn) -> Option<String> {
    if !paused {
        return Some(format!("replay is not paused at the witness's position {wanted}"));
    }
    let there = place <= wanted && wanted.0 - place.0 < PAGE;
    (!there).then(|| format!("replay is paused at {place}, not at the witness's position {wanted}"))
}

/// The same of a server that was promoted, as in a negative control: damage needs one that can be written to. Whether the
/// witness is exact cannot be decided there any more, since transaction ids are given again.
async fn ended_elsewhere(server: &Server, witness: &Witness, wanted: Lsn) -> Result<Option<String>> {
    const HISTORY: &str =
        "SELECT pg_read_file('pg_wal/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) || '.history')";
    let Some(database) = witness.databases.keys().next() else { return Ok(Some(NO_DIGESTS.to_owned())) };
    let client = server.connect(database).await?;
    let row = client.query_one(HISTORY, &[]).await.map_err(Error::sql("ask where replay ended"))?;
    let ended = ended_at(row.get(0)).unwrap_or_default();
    Ok(misplaced(true, ended, wanted).map(|_| {
        format!("the witness is of {wanted}, and the restore neither paused nor ended there (it ended at {ended})")
    }))
}

/// Where the old timeline ended: the last line of the history names it.
fn ended_at(history: &str) -> Option<Lsn> {
    let line = history.lines().rfind(|line| line.starts_with(|c: char| c.is_ascii_digit()))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Decides once more, with what the restored server knows, whether the witness is exact.
async fn unseen(client: &Client, source: &DatabaseDigest) -> Result<Option<String>> {
    let Some(snapshot) = &source.snapshot else {
        return Ok(Some(inexact("its snapshot is not recorded")));
    };
    let unseen = unseen_commits(client, snapshot).await?;
    let why = format!("{unseen} transactions before its position were not visible in its snapshot");
    Ok((unseen > 0).then(|| inexact(&format!("{why}; the backup is not to blame, and the next takes a new one"))))
}

/// What was seen of all databases.
#[derive(Debug, Default)]
struct Seen {
    tables: u64,
    rows: u64,
    sampled: u64,
    wrong: Vec<String>,
    unread: Vec<String>,
    inconclusive: Vec<String>,
}

impl Seen {
    fn compared(&self, lsn: Lsn, from: WitnessKind) -> ExactComparison {
        let from = match from {
            WitnessKind::Primary => "primary",
            WitnessKind::Standby => "standby",
        };
        let not_compared = (self.unread.len() + self.inconclusive.len()) as u64;
        let Seen { tables, rows, sampled, .. } = *self;
        ExactComparison { tables, rows, lsn, sampled, not_compared, from: from.to_owned() }
    }

    async fn look(
        &mut self,
        clients: &[Client],
        database: &str,
        source: &DatabaseDigest,
        values: Values,
    ) -> Result<()> {
        let restored = digest::run_like(clients, Some(source), &digest::Options::default()).await?;
        self.count(database, source);
        for difference in digest::compare(source, &restored) {
            let Some(client) = clients.first() else { continue };
            let rows = rows::of_difference(client, &difference, source, &restored, values).await?;
            self.wrong.push(told(database, &difference, &rows));
        }
        self.wrong.extend(unreadable(database, source, &restored));
        Ok(())
    }

    fn count(&mut self, database: &str, source: &DatabaseDigest) {
        self.tables += source.tables.len() as u64;
        self.rows += source.rows();
        self.sampled += source.sampled().count() as u64;
        self.unread.extend(source.unread().map(|(name, why)| format!("{database}: {name}: {why}")));
        self.inconclusive.extend(source.inconclusive.iter().map(|(name, why)| format!("{database}: {name}: {why}")));
    }

    fn answer(self, what: &str) -> Answer {
        let Seen { tables, rows, sampled, wrong, unread, inconclusive } = self;
        let of_sample = match sampled {
            0 => String::new(),
            count => format!(" ({count} of them in a sample of their blocks)"),
        };
        if !wrong.is_empty() {
            let count = wrong.len();
            return Answer::failed(format!("{what}: {}", some(&wrong, count as u64)))
                .in_public(format!("{what}: {count} of {tables} tables or sequences differ{of_sample}"));
        }
        let equal = format!("{what}: {tables} tables{of_sample}, {rows} rows, every digest equal");
        let (mut private, mut public) = (Vec::new(), Vec::new());
        for (list, why) in [
            (unread, "were not digested at the source"),
            (inconclusive, "are inconclusive (they changed while the source was read)"),
        ] {
            if !list.is_empty() {
                private.push(format!("{} {why}: {}", list.len(), some(&list, list.len() as u64)));
                public.push(format!("{} {why}", list.len()));
            }
        }
        if private.is_empty() {
            return Answer::passed(equal);
        }
        Answer::not_executed(format!("{equal}, but {}", private.join("; and ")))
            .in_public(format!("{equal}, but {}", public.join("; and ")))
    }
}

fn told(database: &str, difference: &Difference, rows: &[String]) -> String {
    let Difference { name, source, restored, ranges, .. } = difference;
    let mut text = format!("{database}: {name}: source {source}, restored {restored}");
    for (what, list) in [("", ranges.as_slice()), ("rows ", rows)] {
        if !list.is_empty() {
            text += &format!("; {what}{}", list.join(", "));
        }
    }
    text
}

/// Tables that the source could read and the restored database cannot.
fn unreadable(database: &str, source: &DatabaseDigest, restored: &DatabaseDigest) -> Vec<String> {
    let unread = restored.left_out.iter();
    let unread = unread.filter(|(name, _)| source.tables.contains_key(*name) || source.sequences.contains_key(*name));
    unread.map(|(name, why)| format!("{database}: {name} cannot be read: {why}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_model::check::Verdict;
    use lifeboat_postgres::digest::{Sample, Sequence, TableDigest};

    fn digest(rows: u64, left_out: &[&str]) -> DatabaseDigest {
        let table = TableDigest { rows, sums: ["1".into(), "2".into()], ..TableDigest::default() };
        DatabaseDigest {
            tables: [("public.t".to_owned(), table)]
                .into_iter()
                .filter(|(name, _)| !left_out.contains(&name.as_str()))
                .collect(),
            left_out: left_out.iter().map(|&name| (name.to_owned(), "timeout".to_owned())).collect(),
            ..DatabaseDigest::default()
        }
    }

    fn answer(source: &DatabaseDigest, wrong: &[&str]) -> Answer {
        let mut seen = Seen { wrong: wrong.iter().map(|&wrong| wrong.to_owned()).collect(), ..Seen::default() };
        seen.count("demo", source);
        seen.answer("exact witness at 0/7")
    }

    #[test]
    fn a_table_that_the_source_could_not_digest_is_named() {
        let mut source = digest(3, &["public.secret"]);
        for (name, why) in [
            ("public.cache", "unlogged: a restore empties it"),
            ("public.far", "a foreign table: its rows are elsewhere"),
            ("public.view", "a materialized view without data"),
        ] {
            source.left_out.insert(name.into(), why.into());
        }
        let mut seen = Seen::default();
        seen.count("demo", &source);
        assert_eq!(seen.unread, ["demo: public.secret: timeout"]);
    }

    #[test]
    fn only_what_is_all_equal_passes() {
        assert_eq!(answer(&digest(3, &[]), &[]).verdict, Verdict::Passed);
        for doubtful in ["unread", "inconclusive"] {
            let mut source = digest(3, &[]);
            match doubtful {
                "unread" => drop(source.left_out.insert("public.u".into(), "timeout".into())),
                _ => drop(source.inconclusive.insert("public.u".into(), "truncated".into())),
            }
            let answer = answer(&source, &[]);
            let Verdict::NotExecuted(why) = answer.verdict else { panic!("{doubtful} is no pass") };
            assert!(why.contains("demo: public.u"), "{why}");
            assert!(!answer.public.unwrap().contains("public.u"), "evidence counts and names nothing");
        }
        let wrong = answer(&digest(3, &[]), &["demo: public.t: source 3 rows"]);
        assert!(matches!(wrong.verdict, Verdict::Failed(_)) && !wrong.public.unwrap().contains("public.t"));
    }

    #[test]
    fn a_sample_is_said_to_be_one() {
        let mut source = digest(3, &[]);
        source.tables.get_mut("public.t").unwrap().sample = Some(Sample { blocks: 64, of: 1000 });
        let answer = answer(&source, &[]);
        assert!(answer.observed.contains("1 of them in a sample"), "{}", answer.observed);
    }

    #[test]
    fn a_table_that_cannot_be_read_any_more_is_a_difference() {
        let lost = |source: &DatabaseDigest, restored: &DatabaseDigest| unreadable("demo", source, restored).len();
        assert_eq!(lost(&digest(3, &[]), &digest(3, &[])), 0);
        assert_eq!(lost(&digest(3, &[]), &digest(3, &["public.t"])), 1);
        assert_eq!(lost(&digest(3, &["public.t"]), &digest(3, &["public.t"])), 0);
        let mut source = digest(3, &["public.s"]);
        source.left_out.clear();
        source.sequences.insert("public.s".into(), Sequence::At(1));
        assert_eq!(lost(&source, &digest(3, &["public.s"])), 1);
    }

    #[test]
    fn a_server_that_is_elsewhere_is_not_compared() {
        let wanted = Lsn(0x10_0000);
        assert_eq!(misplaced(true, wanted, wanted), None);
        assert_eq!(misplaced(true, Lsn(wanted.0 - 24), wanted), None, "a page header lies between");
        assert!(misplaced(true, Lsn(wanted.0 - 8192), wanted).is_some(), "rows would be missing");
        assert!(misplaced(true, Lsn(wanted.0 + 8), wanted).is_some());
        assert!(misplaced(false, wanted, wanted).is_some());
        let history = "1\t0/5000060\tno recovery target specified\n2\t0/7000000\tbefore LSN 0/7000000\n";
        assert_eq!((ended_at(history), ended_at("")), (Some(Lsn(0x700_0000)), None));
    }
}
