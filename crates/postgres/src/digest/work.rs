//! The tables of a database, shared among sessions.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use futures::future::try_join_all;

use super::{
    DatabaseDigest,
    catalog::Relation,
    layout::Layout,
    read::{Read, Reader, into},
};
use crate::error::Result;

/// Tables that wait, small ones first: if time runs out, most are done.
struct Work<L> {
    waiting: Mutex<VecDeque<Relation>>,
    found: Mutex<DatabaseDigest>,
    layout: L,
}

/// Digests the tables by all readers at once. How a table is cut is asked when its length is known.
pub(crate) async fn tables<L>(readers: &[Reader<'_>], relations: &[Relation], layout: L) -> Result<DatabaseDigest>
where
    L: Fn(&Relation) -> Layout,
{
    let mut found = DatabaseDigest::default();
    let mut waiting = Vec::new();
    for relation in relations {
        match relation.left_out() {
            Some(why) => into(&mut found, relation.name.clone(), Read::LeftOut(why.to_owned())),
            None => waiting.push(relation.clone()),
        }
    }
    waiting.sort_by_key(|relation| relation.blocks);
    let work = Work { waiting: Mutex::new(waiting.into()), found: Mutex::new(found), layout };
    try_join_all(readers.iter().map(|reader| work.run(reader))).await?;
    Ok(work.found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl<L: Fn(&Relation) -> Layout> Work<L> {
    fn next(&self) -> Option<Relation> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<()> {
        while let Some(relation) = self.next() {
            let name = relation.name.clone();
            let read = reader.table(relation, &self.layout).await?;
            into(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner), name, read);
        }
        Ok(())
    }
}
