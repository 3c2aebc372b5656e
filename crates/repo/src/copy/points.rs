//! Points, newest first: their objects, and when all of them are there, the point.

use futures::{FutureExt as _, future::BoxFuture};
use lifeboat_store::Retention;

use super::{
    CopiedPoint, Copying, Side,
    transfer::{Check, Item, Sent, blame},
};
use crate::{
    error::{Error, Result},
    lease::Claim,
    point::{ObjectRef, Point, PointRef},
    seal,
};

impl Copying<'_> {
    pub(super) async fn points(&self, claim: &Claim) -> Result<()> {
        for reference in self.from.list_points().await?.iter().rev() {
            let len = reference.len;
            if !(self.options.points)(reference) {
                self.state().report.left += 1;
                continue;
            }
            match self.present.get(&reference.key) {
                Some(held) if held.len == len => self.state().report.there += 1,
                Some(held) => {
                    let what = format!("it has {} bytes, {len} were written", held.len);
                    self.problem(Side::Copy, &reference.key, &what, Some(reference.id));
                }
                None => self.point(claim, reference, len).await?,
            }
        }
        Ok(())
    }

    async fn point(&self, claim: &Claim, reference: &PointRef, len: u64) -> Result<()> {
        let point = match self.from.read_point(reference, self.trusted).await {
            Ok(point) => point,
            Err(error) => {
                let Some(what) = blame(&error) else { return Err(error) };
                self.problem(Side::Source, &reference.key, &what, Some(reference.id));
                return Ok(());
            }
        };
        let retention = self.to.locks().map(|locks| locks.of_point(point.header.finished));
        if !self.objects(&point, retention).await? {
            return self.gone_meanwhile(&point).await;
        }
        claim.recheck().await?;
        self.publish(&point, len, retention).await
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
            let check: Check = Box::new(move |file| named.check(file));
            let sent = self.send(Item { key, version, len, retention }, check).await?;
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
    async fn publish(&self, point: &Point, len: u64, retention: Option<Retention>) -> Result<()> {
        let (key, version) = (point.key.clone(), point.version.clone());
        let (named, sha256) = (key.clone(), point.sha256);
        let check: Check = Box::new(move |file| match seal::digest(file) == sha256 {
            true => Ok(()),
            false => Err(Error::damaged(&named, "its bytes are others than a moment ago")),
        });
        let sent = self.send(Item { key: key.clone(), version, len, retention }, check).await?;
        let id = point.header.point;
        if sent == Sent::Bad {
            if let Some((side, what)) = self.known_problem(&key) {
                self.problem(side, &key, &what, Some(id));
            }
            return Ok(());
        }
        let (finished, received) = (point.header.finished, point.modified);
        let locked_until = retention.map(|retention| retention.until);
        self.progress.note(&format!("point {id} is complete in the copy"));
        self.state().report.copied.push(CopiedPoint { id, finished, key, sha256, locked_until, received });
        Ok(())
    }
}
