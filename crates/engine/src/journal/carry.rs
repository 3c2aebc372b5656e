//! A copy has the journals too: whoever takes a run over may have nothing but the copy.
//!
//! Lines are carried as they are, since each names the digest of the one before it and no line is changed ever. Where the copy
//! has another line, somebody went on there while the primary was away: both stay, and it is told.

use lifeboat_store::Key;

use super::{Appended, Journals, Kind, Name};
use crate::{context::Context, error::Result};

/// Journals that are looked at.
const MOST: usize = 10_000;

/// What became of the journals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carried {
    /// Lines that were copied.
    pub copied: u64,
    /// Lines of which the copy has another.
    pub refused: Vec<(Key, String)>,
}

/// Carries the journals of a tenant from a primary into its copy.
pub(crate) async fn carry(from: &Context, to: &Context) -> Result<Carried> {
    let source = Journals::of_reader(from);
    let mut done = Carried::default();
    let mut copy = None;
    for kind in Kind::ALL {
        let heads = source.heads(kind).await?;
        if heads.is_empty() {
            continue;
        }
        let copy = match &copy {
            Some(copy) => copy,
            None => copy.insert(Journals::of(to).await?),
        };
        let there = copy.heads(kind).await?;
        let lines_of = |name: Name| there.iter().find(|head| head.name == name).map_or(0, |head| head.lines);
        for head in heads.into_iter().take(MOST) {
            let have = lines_of(head.name);
            if have < head.lines {
                one(&source, copy, head.name, have + 1, &mut done).await?;
            }
        }
    }
    Ok(done)
}

async fn one(source: &Journals, copy: &Journals, name: Name, first: u64, done: &mut Carried) -> Result<()> {
    let before = first - 1;
    // Each line names the digest of the one before it: the last tells of all.
    if before > 0 && source.line(name, before).await? != copy.line(name, before).await? {
        done.refused.push((source.store.key(&name.line(before))?, ANOTHER.to_owned()));
        return Ok(());
    }
    for (number, line) in (first..).zip(source.read(name, first).await?) {
        match copy.append(name, number, line).await? {
            Appended::Ours => done.copied += 1,
            Appended::Taken(_) => {
                done.refused.push((source.store.key(&name.line(number))?, ANOTHER.to_owned()));
                break;
            }
        }
    }
    Ok(())
}

const ANOTHER: &str = "the copy has another line here: the run went on in both";
