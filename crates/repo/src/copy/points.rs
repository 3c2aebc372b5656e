//! Points, newest first: their objects, and when all of them are there, the point.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};
use lifeboat_store::Retention;

use super::{
    CopiedPoint, Copying, Side,
    transfer::{Check, Identity, Item, Sent, blame, place},
};
use crate::{
    error::{Error, Result},
    lease::Claim,
    point::{ObjectRef, Point, PointRef},
    repository::marker_key,
    seal,
};

impl Copying<'_> {
    pub(super) async fn points(&self, claim: &Claim) -> Result<()> {
        for reference in self.from.list_points().await?.iter().rev() {
            if !(self.options.points)(reference) {
                self.state().report.left += 1;
                continue;
            }
            match self.present.get(&reference.key) {
                Some(held) if held.len != reference.len => {
                    let what = format!("it has {} bytes, {} were written", held.len, reference.len);
                    self.problem(Side::Copy, &reference.key, &what, Some(reference.id));
                }
                // It was published when all that it names had been found there, by a run that remembered it.
                Some(_) if self.present.holds(&reference.key, &complete(reference)) => self.state().report.there += 1,
                _ => self.point(claim, reference).await?,
            }
        }
        Ok(())
    }

    async fn point(&self, claim: &Claim, reference: &PointRef) -> Result<()> {
        let point = match self.from.read_point(reference, self.trusted).await {
            Ok(point) => point,
            Err(error) => {
                let Some(what) = blame(&error) else { return Err(error) };
                self.problem(Side::Source, &reference.key, &what, Some(reference.id));
                return Ok(());
            }
        };
        let retention = self.to.locks().map(|locks| locks.of_point(point.header.finished));
        // A prune of the copy may have removed, before this run had the lease, what a listing had shown. What is missing
        // now, under the lease, is sent again; a second time is no accident.
        for _ in 0..2 {
            if !self.objects(&point, retention).await? {
                return self.gone_meanwhile(&point).await;
            }
            if self.all_there(&point).await? {
                claim.recheck().await?;
                return self.publish(&point, retention).await;
            }
        }
        let what = "objects that it names vanish from the copy";
        self.problem(Side::Copy, &reference.key, what, Some(reference.id));
        Ok(())
    }

    /// Asks the copy for each object that the point names; whether all are there. What is not is forgotten.
    async fn all_there(&self, point: &Point) -> Result<bool> {
        let mut complete = true;
        let jobs = point.header.objects.iter().map(|object| self.head(object));
        self.each(jobs, |sent| {
            complete &= *sent == Sent::There;
            true // all that is missing is to be sent again
        })
        .await?;
        Ok(complete)
    }

    fn head<'s>(&'s self, object: &'s ObjectRef) -> BoxFuture<'s, Result<Sent>> {
        async move {
            match self.to.store().head(&object.key, None).await {
                Ok(info) if info.len == object.len => Ok(Sent::There),
                Ok(_) | Err(lifeboat_store::Error::NotFound { .. }) => {
                    self.present.forget(&object.key);
                    Ok(Sent::Bad)
                }
                Err(error) => Err(error.into()),
            }
        }
        .boxed()
    }

    /// Copies what the point names; whether all of it is there.
    async fn objects(&self, point: &Point, retention: Option<Retention>) -> Result<bool> {
        let mut complete = true;
        let jobs = point.header.objects.iter().map(|object| self.object(point, object, retention));
        self.each(jobs, |sent| {
            complete &= *sent != Sent::Bad;
            complete // what is missing leaves the point out; its other objects would go for nothing
        })
        .await?;
        Ok(complete)
    }

    fn object<'s>(
        &'s self,
        point: &'s Point,
        object: &'s ObjectRef,
        retention: Option<Retention>,
    ) -> BoxFuture<'s, Result<Sent>> {
        async move {
            let ObjectRef { key, len, version, .. } = object.clone();
            let named = object.clone();
            let check: Check = Arc::new(move |file| named.check(file));
            let identity = Identity::Digest(object.sha256);
            let sent = self.send(Item { key, version, len, retention, identity }, check).await?;
            if sent == Sent::Bad
                && let Some((side, what)) = self.known_problem(&object.key)
            {
                self.problem(side, &object.key, &what, Some(point.header.point));
            }
            Ok(sent)
        }
        .boxed()
    }

    /// A point that a prune has removed meanwhile lacks objects, and is no problem: the problems that speak of it alone are
    /// forgotten.
    async fn gone_meanwhile(&self, point: &Point) -> Result<()> {
        match self.from.store().head(&point.key, point.version.as_ref()).await {
            Err(lifeboat_store::Error::NotFound { .. }) => {
                let id = point.header.point;
                self.progress.note(&format!("point {id} was removed while it was copied"));
                self.state().problems.retain(|_, problem| problem.points != [id]);
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    /// Writes the point. Its bytes are read once more, so that they need not be held while its objects are copied.
    async fn publish(&self, point: &Point, retention: Option<Retention>) -> Result<()> {
        let (key, version, len) = (point.key.clone(), point.version.clone(), point.len);
        let (named, sha256) = (key.clone(), point.sha256);
        let check: Check = Arc::new(move |file| match seal::digest(file) == sha256 {
            true => Ok(()),
            false => Err(Error::damaged(&named, "its bytes are not those of the source's point")),
        });
        let identity = Identity::Digest(sha256);
        self.lock_marker(retention).await?;
        let sent = self.send(Item { key: key.clone(), version, len, retention, identity }, check).await?;
        let id = point.header.point;
        if sent == Sent::Bad {
            if let Some((side, what)) = self.known_problem(&key) {
                self.problem(side, &key, &what, Some(id));
            }
            return Ok(());
        }
        self.present.found(&key, &complete(&point.reference()));
        if sent == Sent::There {
            self.state().report.there += 1;
            return Ok(());
        }
        let (finished, received) = (point.header.finished, point.modified);
        let locked_until = retention.map(|retention| retention.until);
        self.progress.note(&format!("point {id} is complete in the copy"));
        self.state().report.copied.push(CopiedPoint { id, finished, key, sha256, locked_until, received });
        Ok(())
    }

    /// Without the marker nothing opens: it stays as long as any point.
    async fn lock_marker(&self, retention: Option<Retention>) -> Result<()> {
        let Some(retention) = retention else { return Ok(()) };
        if self.state().marker_until < Some(retention.until) {
            let marker = marker_key();
            match self.to.store().extend_lock(&marker, None, retention).await {
                Ok(()) => {}
                Err(error) if error.is_transient() => return Err(error.into()),
                // A marker that was locked less firmly once: it keeps no point out, and is told.
                Err(error) => self.problem(Side::Copy, &marker, &format!("its lock: {error}"), None),
            }
            self.state().marker_until = Some(retention.until);
        }
        Ok(())
    }
}

/// As it is remembered that a point and all that it names was found.
fn complete(reference: &PointRef) -> Vec<u8> {
    let PointRef { version, len, modified, .. } = reference;
    [b"complete, ".to_vec(), place(version.as_ref(), *len, *modified)].concat()
}
