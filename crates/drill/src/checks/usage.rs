//! Rung 11: Odoo is used as a person uses it: log in, read, open attachments, look at a page, print an invoice.

use std::{collections::HashMap, time::Duration};

use lifeboat_odoo::{
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

/// What the database says before Odoo is asked: the expectation comes from another path than the answer.
pub(crate) struct Expected {
    partners: HashMap<i64, Option<String>>,
    samples: Vec<Attachment>,
    invoice: Option<i32>,
}

/// Reads the expectations by SQL.
pub(crate) async fn expect(client: &Client) -> Result<Expected> {
    let rows = client.query("SELECT id::bigint, name FROM res_partner WHERE active", &[]).await;
    let rows = rows.map_err(Error::sql("list partners"))?;
    let invoice =
        "SELECT id FROM account_move WHERE move_type = 'out_invoice' AND state = 'posted' ORDER BY id DESC LIMIT 1";
    let exists = client.query_one("SELECT to_regclass('account_move') IS NOT NULL", &[]).await;
    let exists: bool = exists.map_err(Error::sql("look for invoices"))?.get(0);
    let invoice = match exists {
        true => client.query_opt(invoice, &[]).await.map_err(Error::sql("look for an invoice"))?,
        false => None,
    };
    Ok(Expected {
        partners: rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
        samples: attachments::samples(client, SAMPLES).await?,
        invoice: invoice.map(|row| row.get(0)),
    })
}

/// Opens the session.
pub(crate) async fn login(base: &Url, database: &str, login: &SandboxLogin) -> Result<(Session, Answer)> {
    let session = Session::login(base.clone(), database, login, REQUEST).await?;
    let answer = Answer::when(
        session.user() == Some(i64::from(login.id)),
        format!("{database}: user {} has a session", login.id),
    );
    Ok((session, answer))
}

/// Partners as Odoo gives them must be those of the table.
pub(crate) async fn records(session: &Session, database: &str, expected: &Expected) -> Result<Answer> {
    let read = session.search_read("res.partner", json!([]), &["id", "name"], PARTNERS).await?;
    if read.is_empty() {
        return Ok(Answer::failed(format!(
            "{database}: Odoo shows no partner, the table has {}",
            expected.partners.len()
        )));
    }
    let differs = |record: &&serde_json::Value| {
        let name = record["name"].as_str().map(str::to_owned);
        let known = record["id"].as_i64().and_then(|id| expected.partners.get(&id));
        known.map(|known| known.clone().unwrap_or_default()) != Some(name.unwrap_or_default())
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

/// The chosen attachments over HTTP.
pub(crate) async fn content(session: &Session, database: &str, expected: &Expected) -> Result<Answer> {
    if expected.samples.is_empty() {
        return Ok(Answer::not_executed(format!("{database} has no attachment in the filestore to fetch")));
    }
    let (mut bytes, mut wrong) = (0, Vec::new());
    for sample in &expected.samples {
        match session.attachment(sample.id).await {
            Ok(fetched) if Some(&fetched.sha1) == sample.checksum.as_ref() => bytes += fetched.len,
            Ok(fetched) => {
                wrong.push(format!("attachment {}: {} bytes with SHA-1 {}", sample.id, fetched.len, fetched.sha1))
            }
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) => wrong.push(format!("attachment {}: {error}", sample.id)),
        }
    }
    Ok(match wrong.is_empty() {
        true => {
            Answer::passed(format!("{database}: {} fetched, {bytes} bytes, every SHA-1 equal", expected.samples.len()))
        }
        false => Answer::failed(format!("{database}: {}", some(&wrong, wrong.len() as u64))).in_public(format!(
            "{database}: {} of {} attachments differ",
            wrong.len(),
            expected.samples.len()
        )),
    })
}

/// The stylesheet that the login page names.
pub(crate) async fn assets(base: &Url, database: &str) -> Result<Answer> {
    let visitor = Session::new(base.clone(), REQUEST)?;
    let page = visitor.page(&format!("/web/login?db={}", encode(database))).await?;
    let Some(path) = asset(&page) else {
        return Ok(Answer::not_executed("the login page names no stylesheet"));
    };
    let fetched = visitor.fetch(&path).await?;
    Ok(Answer::when(fetched.len > 0, format!("{path}: {} bytes", fetched.len)))
}

/// The first `/web/assets/….css` of a page.
fn asset(page: &str) -> Option<String> {
    let start = page.match_indices("/web/").map(|(at, _)| &page[at..]);
    start
        .map(|rest| rest.split(['"', '\'']).next().unwrap_or_default())
        .find(|path| path.contains("assets") && path.ends_with(".css"))
        .map(str::to_owned)
}

fn encode(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect()
}

/// The newest posted invoice as PDF, where the image can make one.
pub(crate) async fn invoice(
    session: &Session,
    container: &Container,
    user: User,
    expected: &Expected,
) -> Result<Answer> {
    let Some(id) = expected.invoice else { return Ok(Answer::not_executed("no posted invoice")) };
    let probe = container.run(&user.spec(), &["wkhtmltopdf", "--version"], Duration::from_secs(20)).await?;
    if !probe.is_ok() {
        return Ok(Answer::not_executed("the image has no wkhtmltopdf"));
    }
    let fetched = session.fetch(&format!("/report/pdf/account.report_invoice/{id}")).await?;
    let is_pdf = fetched.content_type.starts_with("application/pdf") && fetched.len > 0;
    Ok(Answer::when(is_pdf, format!("invoice {id}: {} bytes of {}", fetched.len, fetched.content_type)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stylesheet_is_found_in_the_page() {
        let page = r#"<a href="/web/login"><link href="/web/assets/1/ab12/web.assets_frontend.min.css"/>"#;
        assert_eq!(asset(page).as_deref(), Some("/web/assets/1/ab12/web.assets_frontend.min.css"));
        assert_eq!(asset("<p>no</p>"), None);
    }

    #[test]
    fn database_names_are_encoded() {
        assert_eq!(encode("a b&c"), "a+b%26c");
    }
}
