//! Rung 11: Odoo is used as a person uses it: log in, read, open attachments, look at pages, print an invoice.

use std::{collections::HashMap, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use lifeboat_odoo::{
    Error as OdooError,
    attachments::{self, Attachment},
    login::SandboxLogin,
    rpc::Session,
};
use serde_json::json;
use tokio_postgres::Client;
use url::Url;

use crate::{
    checks::some,
    error::{Error, Result},
    ladder::Answer,
    sandbox::{Container, User},
};

/// One request.
const REQUEST: Duration = Duration::from_secs(60);
/// How many partners are compared.
const PARTNERS: u32 = 80;
/// How many of the largest, the newest and random attachments are fetched.
pub(crate) const SAMPLES: u32 = 5;
/// Requests at the same time: Odoo's threads share one interpreter.
const AT_ONCE: usize = 4;

/// What the database says before Odoo is asked: the expectation comes from another path than the answer.
pub(crate) struct Expected {
    samples: Vec<Attachment>,
    /// Which random attachments were chosen can be found out again.
    seed: String,
    invoice: Option<i32>,
}

/// Reads the expectations by SQL.
pub(crate) async fn expect(client: &Client, seed: &str) -> Result<Expected> {
    let invoice =
        "SELECT id FROM account_move WHERE move_type = 'out_invoice' AND state = 'posted' ORDER BY id DESC LIMIT 1";
    let exists = client.query_one("SELECT to_regclass('account_move') IS NOT NULL", &[]).await;
    let exists: bool = exists.map_err(Error::sql("look for invoices"))?.get(0);
    let invoice = match exists {
        true => client.query_opt(invoice, &[]).await.map_err(Error::sql("look for an invoice"))?,
        false => None,
    };
    Ok(Expected {
        samples: attachments::samples(client, SAMPLES, seed).await?,
        seed: seed.to_owned(),
        invoice: invoice.map(|row| row.get(0)),
    })
}

/// Opens the session.
pub(crate) async fn login(base: &Url, database: &str, login: &SandboxLogin) -> Result<(Session, Answer)> {
    let session = Session::login(base.clone(), database, login, REQUEST).await?;
    let answer = Answer::when(
        session.user() == Some(i64::from(login.id)),
        format!("{database}: sandbox user {} has a session", login.id),
    );
    Ok((session, answer))
}

/// Partners as Odoo gives them must be those of the table.
pub(crate) async fn records(session: &Session, client: &Client, database: &str) -> Result<Answer> {
    let read = session.search_read("res.partner", json!([]), &["id", "name"], PARTNERS).await?;
    if read.is_empty() {
        let count = client.query_one("SELECT count(*) FROM res_partner WHERE active", &[]).await;
        let count: i64 = count.map_err(Error::sql("count partners"))?.get(0);
        return Ok(Answer::failed(format!("{database}: Odoo shows no partner, the table has {count}")));
    }
    let id = |record: &serde_json::Value| record["id"].as_i64().and_then(|id| i32::try_from(id).ok());
    let ids: Vec<i32> = read.iter().filter_map(id).collect();
    let query = "SELECT id, coalesce(name, '') FROM res_partner WHERE active AND id = ANY($1)";
    let rows = client.query(query, &[&ids]).await.map_err(Error::sql("read partners"))?;
    let known: HashMap<i32, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let differs = |record: &&serde_json::Value| {
        let known = id(record).and_then(|id| known.get(&id));
        known.map(String::as_str) != Some(record["name"].as_str().unwrap_or_default())
    };
    let different: Vec<String> =
        read.iter().filter(differs).map(|record| format!("partner {}", record["id"])).collect();
    Ok(match different.is_empty() {
        true => Answer::passed(format!("{database}: {} partners read, equal to the table", read.len())),
        false => {
            Answer::failed(format!("{database}: differs from the table: {}", some(&different, different.len() as u64)))
        }
    })
}

/// What became of one attachment.
enum Opened {
    Equal(u64),
    /// Its record belongs to nobody whom even an administrator may see: a rule, or a record that is gone.
    Denied,
    Wrong(String),
}

/// The chosen attachments over HTTP.
pub(crate) async fn content(session: &Session, database: &str, expected: &Expected) -> Result<Answer> {
    if expected.samples.is_empty() {
        return Ok(Answer::not_executed(format!("{database} has no attachment in the filestore to fetch")));
    }
    let opening = futures::stream::iter(&expected.samples).map(|sample| open(session, sample));
    let opened: Vec<Opened> = opening.buffered(AT_ONCE).try_collect().await?;
    let (mut equal, mut bytes, mut denied, mut wrong) = (0, 0, 0, Vec::new());
    for one in opened {
        match one {
            Opened::Equal(len) => (equal, bytes) = (equal + 1, bytes + len),
            Opened::Denied => denied += 1,
            Opened::Wrong(why) => wrong.push(why),
        }
    }
    let hidden = if denied > 0 { format!(", {denied} not shown to an administrator") } else { String::new() };
    let chosen = format!("the {SAMPLES} largest, {SAMPLES} newest and {SAMPLES} random by seed {}", expected.seed);
    Ok(match (wrong.is_empty(), equal) {
        (true, 0) => {
            Answer::not_executed(format!("{database}: none of {denied} attachments is shown to an administrator"))
        }
        (true, _) => {
            Answer::passed(format!("{database}: {equal} fetched, {bytes} bytes, every SHA-1 equal{hidden}; {chosen}"))
        }
        (false, _) => Answer::failed(format!("{database}: {}; {chosen}", some(&wrong, wrong.len() as u64))).in_public(
            format!("{database}: {} of {} attachments differ; {chosen}", wrong.len(), expected.samples.len()),
        ),
    })
}

async fn open(session: &Session, sample: &Attachment) -> Result<Opened> {
    Ok(match session.attachment(sample.id).await {
        Ok(fetched) if Some(&fetched.sha1) == sample.checksum.as_ref() => Opened::Equal(fetched.len),
        Ok(fetched) => {
            Opened::Wrong(format!("attachment {}: {} bytes with SHA-1 {}", sample.id, fetched.len, fetched.sha1))
        }
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(error @ OdooError::Status { status: 403 | 404, .. }) => match is_denied(session, sample).await? {
            true => Opened::Denied,
            false => Opened::Wrong(format!("attachment {}: {error}", sample.id)),
        },
        Err(error) => Opened::Wrong(format!("attachment {}: {error}", sample.id)),
    })
}

/// Odoo answers *not found* to whoever may not see something; its models say which it is.
async fn is_denied(session: &Session, sample: &Attachment) -> Result<bool> {
    match session.call("ir.attachment", "read", json!([[sample.id], ["checksum"]]), json!({})).await {
        Ok(_) => Ok(false),
        Err(OdooError::Rpc { name, .. }) => Ok(name.ends_with(".AccessError")),
        Err(error) => Err(error.into()),
    }
}

/// Stylesheets and scripts that the login page and the application name. Odoo makes them from the sources of all modules.
pub(crate) async fn assets(base: &Url, session: &Session, database: &str) -> Result<Answer> {
    let visitor = Session::new(base.clone(), REQUEST)?;
    let address = format!("/web/login?db={}", encode(database));
    let (login, application) = tokio::try_join!(visitor.page(&address), session.page("/web"))?;
    let mut wanted: Vec<(&Session, String)> = Vec::new();
    for kind in [".css", ".js"] {
        wanted.extend(asset(&login, kind).map(|path| (&visitor, path)));
        let Some(path) = asset(&application, kind) else {
            return Ok(Answer::failed(format!("{database}: the page after login names no bundle {kind}")));
        };
        wanted.push((session, path));
    }
    let fetching = futures::stream::iter(wanted).map(|(session, path)| fetch_asset(session, path));
    let fetched: Vec<std::result::Result<u64, String>> = fetching.buffered(AT_ONCE).try_collect().await?;
    let wrong: Vec<String> = fetched.iter().filter_map(|one| one.clone().err()).collect();
    let bytes: u64 = fetched.iter().filter_map(|one| one.as_ref().ok()).sum();
    Ok(match wrong.is_empty() {
        true => Answer::passed(format!("{database}: {} bundles, {bytes} bytes", fetched.len())),
        false => Answer::failed(format!("{database}: {}", some(&wrong, wrong.len() as u64))),
    })
}

/// The length of a bundle, or what is wrong with it.
async fn fetch_asset(session: &Session, path: String) -> Result<std::result::Result<u64, String>> {
    let fetched = match session.fetch(&path).await {
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(error) => return Ok(Err(error.to_string())),
        Ok(fetched) => fetched,
    };
    let right = if path.ends_with(".css") { "css" } else { "javascript" };
    Ok(match fetched.len > 0 && fetched.content_type.contains(right) {
        true => Ok(fetched.len),
        false => Err(format!("{path}: {} bytes of {}", fetched.len, fetched.content_type)),
    })
}

/// The first bundle of a kind that a page names: `/web/assets/….css`, in 14.0 `/web/content/<id>-<digest>/….css`.
fn asset(page: &str, kind: &str) -> Option<String> {
    let start = page.match_indices("/web/").map(|(at, _)| &page[at..]);
    start
        .map(|rest| rest.split(['"', '\'', '?', ' ']).next().unwrap_or_default())
        .find(|path| path.contains("assets") && path.ends_with(kind))
        .map(str::to_owned)
}

pub(crate) fn encode(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect()
}

/// Whether the image can make a PDF at all, and if not, why. It is tried on a page of one word.
pub(crate) async fn printer(container: &Container, user: User) -> std::result::Result<(), String> {
    let script = "command -v wkhtmltopdf >/dev/null || { echo 'the image has no wkhtmltopdf'; exit 3; }; \
                  printf '<p>page</p>' | wkhtmltopdf --quiet - /tmp/lifeboat-page.pdf && head -c 5 /tmp/lifeboat-page.pdf | grep -q '%PDF-'";
    match container.run(&user.spec(), &["sh", "-c", script], Duration::from_secs(30)).await {
        Ok(ran) if ran.is_ok() => Ok(()),
        Ok(ran) if ran.code == 3 => Err(ran.stdout.trim().to_owned()),
        Ok(ran) => Err(format!("wkhtmltopdf does not work in the sandbox: code {}, {}", ran.code, ran.tail())),
        Err(error) => Err(format!("wkhtmltopdf could not be tried: {}", crate::error::with_causes(&error))),
    }
}

/// The newest posted invoice as PDF, where the image can make one; else as a page, which proves the report but not the printing.
pub(crate) async fn invoice(
    session: &Session,
    printer: &std::result::Result<(), String>,
    expected: &Expected,
) -> Result<Answer> {
    let Some(id) = expected.invoice else { return Ok(Answer::not_executed("no posted invoice")) };
    let kind = if printer.is_ok() { "pdf" } else { "html" };
    let fetched = session.fetch(&format!("/report/{kind}/account.report_invoice/{id}")).await?;
    let seen = format!("invoice {id}: {} bytes of {}", fetched.len, fetched.content_type);
    Ok(match printer {
        Ok(()) => Answer::when(fetched.head.starts_with(b"%PDF-"), seen),
        Err(_) if fetched.len == 0 => Answer::failed(seen),
        Err(why) => Answer::not_executed(format!("{why}; the report itself was rendered ({seen})")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_found_in_the_page() {
        let page = r#"<a href="/web/login"><script src="/web/assets/1/ab12/web.assets_web.min.js" defer="defer"></script>
            <link href="/web/assets/1/ab12/web.assets_frontend.min.css"/>"#;
        assert_eq!(asset(page, ".css").as_deref(), Some("/web/assets/1/ab12/web.assets_frontend.min.css"));
        assert_eq!(asset(page, ".js").as_deref(), Some("/web/assets/1/ab12/web.assets_web.min.js"));
        let old = r#"<link type="text/css" href="/web/content/203-7b0a6a3/web.assets_backend.css"/>"#;
        assert_eq!(asset(old, ".css").as_deref(), Some("/web/content/203-7b0a6a3/web.assets_backend.css"));
        assert_eq!(asset("<p>no</p>", ".css"), None);
    }

    #[test]
    fn database_names_are_encoded() {
        assert_eq!(encode("a b&c"), "a+b%26c");
    }
}
