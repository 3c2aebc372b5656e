//! A picture of what the logged-in user sees, by a headless Chromium of the host, where there is one.
//!
//! The pages come out of the backup: they may name any address and run any script. So the browser is shut in: it runs as
//! nobody in namespaces of its own, with a network that has no way but to [`gate`], which goes to the sandbox's Odoo alone;
//! its files are in memory and gone with it. Where it cannot be shut in so ([`browser`]), there is no picture.
//!
//! The picture may show personal data. Evidence has its digest; who makes the drill decides where the picture goes.

mod browser;
mod devtools;
mod gate;

use std::{fmt, sync::Arc, time::Duration};

use lifeboat_model::id::Sha256Digest;
use lifeboat_odoo::{rpc::Session, versions::WEB_CLIENT};
use url::Url;

use crate::{
    error::{Error, Result},
    ladder::Answer,
};
use gate::Gate;

/// From the start of the browser to the whole picture.
const LIMIT: Duration = Duration::from_secs(15);
/// How long the page may take until it shows something.
const PATIENCE: Duration = Duration::from_secs(10);
/// What every PNG begins with.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A picture, as a PNG.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// The file.
    pub png: Vec<u8>,
    /// Its digest.
    pub sha256: Sha256Digest,
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({} bytes, SHA-256 {})", self.png.len(), self.sha256)
    }
}

/// Takes the picture of the page after login. What keeps the browser from its work says nothing of the backup: not executed.
pub(crate) async fn take(session: &Session, base: &Url, database: &str) -> Result<(Option<Picture>, Answer)> {
    let kit = match browser::Kit::find() {
        Ok(kit) => kit,
        Err(why) => return Ok((None, Answer::not_executed(why))),
    };
    let cookie = session.cookie().ok_or_else(|| Error::Task("a session without a cookie".to_owned()))?;
    let gate = Arc::new(Gate::new(base, cookie)?);
    let page = base.join(WEB_CLIENT).map_err(|_| Error::Task(format!("{base} is no address")))?;
    let shot = tokio::time::timeout(LIMIT, browser::shoot(&kit, &page, &gate, PATIENCE)).await;
    let (png, shown) = match shot {
        Ok(Ok(shot)) if shot.png.starts_with(PNG) => (shot.png, shot.shown),
        Ok(Ok(_)) => return Ok((None, Answer::not_executed("the browser gave something else than a picture"))),
        Ok(Err(error)) => return Ok((None, Answer::impossible(&error))),
        Err(_) => {
            let why = format!("the browser gave no picture within {} s", LIMIT.as_secs());
            return Ok((None, Answer::not_executed(why)));
        }
    };
    let picture = Picture { sha256: digest(&png), png };
    let answer = judge(database, &picture, shown, &gate);
    Ok((Some(picture), answer))
}

/// What the page shows, and what the browser asked for.
fn judge(database: &str, picture: &Picture, shown: bool, gate: &Gate) -> Answer {
    let seen = gate.seen();
    let kept_in = match seen.refused {
        0 => String::new(),
        count => format!("; {count} requests to other addresses refused"),
    };
    let what = format!("{database}: {} bytes, SHA-256 {}{kept_in}", picture.png.len(), picture.sha256);
    match (seen.login, shown) {
        (true, _) => Answer::failed(format!("{what}; it shows the login page")),
        (false, true) => Answer::passed(what),
        // A slow host is no damage: the checks beside this one tell whether Odoo works.
        (false, false) => Answer::not_executed(format!("the web client showed nothing in time; {what}")),
    }
}

fn digest(png: &[u8]) -> Sha256Digest {
    use sha2::Digest as _;
    Sha256Digest(sha2::Sha256::digest(png).into())
}

#[cfg(test)]
mod tests;
