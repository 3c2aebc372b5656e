//! `http` and `webhook`: one request each, and what must be answered.

use std::time::Duration;

use lifeboat_runbook::{
    action::{
        http::Http,
        webhook::{Place, Webhook},
    },
    execute::{Acting, Outputs},
    template::Template,
    values::Secret,
};
use reqwest::{Client, Method, Response};

use super::Tools;

/// Of an answer so much is looked at.
const READ: usize = 64 << 10;
/// Of an answer so much is kept.
const KEPT: usize = 2_000;
/// The step's own limit counts; this one frees what nobody waits for.
const LONGEST: Duration = Duration::from_secs(3600);

/// What is sent.
struct Request<'r> {
    method: &'r str,
    url: String,
    headers: &'r [(String, Template)],
    bearer: Option<&'r Secret>,
    body: Option<&'r Template>,
    /// The same for every try of a step: a system that honours it does nothing twice.
    once: Option<String>,
}

pub(super) async fn act(http: &Http, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    ask(http, acting.course.fill(&http.url), acting, tools).await
}

/// The same at another address.
pub(super) async fn ask(http: &Http, url: String, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    let (headers, bearer, body) = (&http.headers, http.bearer.as_ref(), http.body.as_ref());
    let request = Request { method: http.method, url: url.clone(), headers, bearer, body, once: None };
    let (status, body) = send(request, acting, tools).await?;
    expect(&url, status, &http.status, &body, tools)?;
    if let Some(wanted) = http.contains.as_ref().map(|text| acting.course.fill(text))
        && !body.contains(&wanted)
    {
        return Err(format!("{url}: the answer does not hold \"{wanted}\": {}", shortened(&body, tools)));
    }
    Ok(outputs(status, &body, tools))
}

pub(super) async fn was_done(http: &Http, acting: &Acting<'_>, tools: &Tools) -> Result<Option<Outputs>, String> {
    let Some(probe) = &http.done_when else { return Ok(None) };
    let (url, bearer) = (acting.course.fill(probe), http.bearer.as_ref());
    let request = Request { method: "GET", url, headers: &http.headers, bearer, body: None, once: None };
    let (status, _) = send(request, acting, tools).await?;
    // What was answered then is lost with the executor that asked.
    Ok((status == 200).then(Outputs::new))
}

pub(super) async fn call(webhook: &Webhook, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    let (url, shown) = match &webhook.url {
        Place::Url(url) => (acting.course.fill(url), acting.course.fill(url)),
        Place::Secret(secret) => {
            let url = tools.secret(secret, acting)?;
            tools.masks.hide_url(url.expose());
            (url.expose().to_owned(), "the URL of its file".to_owned())
        }
    };
    let once = Some(once(&tools.run, acting));
    let (headers, bearer, body) = (&webhook.headers, webhook.bearer.as_ref(), webhook.body.as_ref());
    let request = Request { method: webhook.method, url, headers, bearer, body, once };
    let (status, body) = send(request, acting, tools).await?;
    expect(&shown, status, &webhook.status, &body, tools)?;
    Ok(outputs(status, &body, tools))
}

/// The same for every try, another for what takes it back, and for what is done anew after that.
fn once(run: &str, acting: &Acting<'_>) -> String {
    let round = if acting.round > 0 { format!("-{}", acting.round) } else { String::new() };
    let undo = if acting.undoing { "-undo" } else { "" };
    format!("{run}-{}{round}{undo}", acting.id.replace('/', "."))
}

fn expect(url: &str, status: u16, expected: &[u16], body: &str, tools: &Tools) -> Result<(), String> {
    if expected.contains(&status) {
        return Ok(());
    }
    let expected: Vec<String> = expected.iter().map(u16::to_string).collect();
    Err(format!("{url} answered {status} and not {}: {}", expected.join(" or "), shortened(body, tools)))
}

fn outputs(status: u16, body: &str, tools: &Tools) -> Outputs {
    Outputs::from([("status".to_owned(), status.to_string()), ("body".to_owned(), shortened(body, tools))])
}

/// Masked first: nothing is known of a secret that was cut.
fn shortened(body: &str, tools: &Tools) -> String {
    tools.masks.mask(body).chars().take(KEPT).collect()
}

async fn send(request: Request<'_>, acting: &Acting<'_>, tools: &Tools) -> Result<(u16, String), String> {
    let _ = rustls::crypto::ring::default_provider().install_default(); // an error says that it is chosen
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(20))
        .timeout(LONGEST)
        .build()
        .map_err(|error| told(&error))?;
    let method: Method = request.method.parse().map_err(|_| format!("{} is no method", request.method))?;
    let mut asked = client.request(method, &request.url);
    for (name, value) in request.headers {
        asked = asked.header(name, acting.course.fill(value));
    }
    if let Some(bearer) = request.bearer {
        asked = asked.bearer_auth(tools.secret(bearer, acting)?.expose());
    }
    if let Some(once) = request.once {
        asked = asked.header("Idempotency-Key", once);
    }
    if let Some(body) = request.body {
        asked = asked.body(acting.course.fill(body));
    }
    let answer = asked.send().await.map_err(|error| told(&error))?;
    let status = answer.status().as_u16();
    Ok((status, read(answer).await?))
}

/// The beginning of an answer.
async fn read(mut answer: Response) -> Result<String, String> {
    let mut body = Vec::new();
    while body.len() < READ
        && let Some(piece) = answer.chunk().await.map_err(|error| told(&error))?
    {
        body.extend_from_slice(&piece[..piece.len().min(READ - body.len())]);
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// With its causes, and without the URL: it may be a secret.
fn told(error: &reqwest::Error) -> String {
    let mut words = match error.url() {
        Some(url) => url.host_str().unwrap_or("the server").to_owned(),
        None => "the request".to_owned(),
    };
    let mut cause = std::error::Error::source(error);
    let mut causes = Vec::new();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    let kind = if error.is_timeout() { "did not answer in time" } else { "could not be asked" };
    words = format!("{words} {kind}");
    match causes.last() {
        Some(last) => format!("{words}: {last}"),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lifeboat_runbook::{course::Course, document::Document, plan::Mode};

    use super::*;

    /// A system that honours the key gives the stored answer to what it has had before: so only to another try of the same.
    #[test]
    fn the_same_is_told_once_and_its_opposite_as_well() {
        let text = "# T\n```toml\n[runbook]\nid = \"t\"\nsummary = \"s\"\n```\n## Drain\n```toml\naction = \"webhook\"\n\
                    url = \"https://lb/drain\"\nundo = { action = \"webhook\", url = \"https://lb/enable\" }\n```\n";
        let document = Document::parse(text).unwrap_or_else(|findings| panic!("{findings:?}"));
        let course = Course::new(&document, Mode::Real, BTreeMap::new(), "r", "now");
        let (_, step) = course.step_of("drain").expect("a step");
        let key = |attempt, undoing, round| {
            let (id, action, since) = ("call/drain".to_owned(), &step.action, None);
            once("r", &Acting { id, action, attempt, since, failed: None, undoing, round, course: &course })
        };
        assert_eq!(key(1, false, 0), "r-call.drain");
        assert_eq!(key(2, false, 0), key(1, false, 0));
        let keys = [key(1, false, 0), key(1, true, 0), key(1, false, 1), key(1, true, 1)];
        let different: std::collections::BTreeSet<&String> = keys.iter().collect();
        assert_eq!(different.len(), 4, "{keys:?}");
    }
}
