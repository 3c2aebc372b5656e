//! A session with Odoo over HTTP, as the web client has it: log in at the session endpoint, keep the cookie, call public
//! methods, fetch attachments.
//!
//! Answers are bounded in size and time. No proxy of the environment is used: the server is a sandbox, addressed directly.

use std::{sync::Arc, time::Duration};

use lifeboat_model::secret::Secret;
use reqwest::cookie::{CookieStore as _, Jar};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use url::Url;

use crate::{
    error::{Error, Result, shorten},
    login::SandboxLogin,
    versions::{CALL_ENDPOINT, SESSION_ENDPOINT},
};

/// JSON answers and pages beyond this are refused.
const ANSWER_LIMIT: u64 = 32 << 20;
/// How many first bytes of a content are kept.
const HEAD: usize = 16;
/// A page that sends on and on is none.
const REDIRECTS: usize = 3;

/// An HTTP client for one Odoo server, logged in or not.
#[derive(Debug, Clone)]
pub struct Session {
    client: reqwest::Client,
    jar: Arc<Jar>,
    base: Url,
    user: Option<i64>,
}

/// What came over HTTP, without keeping it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Length of the content.
    pub len: u64,
    /// Its SHA-1 in hexadecimal.
    pub sha1: String,
    /// The content type that Odoo named.
    pub content_type: String,
    /// Its first bytes, at most [`HEAD`]: what kind of file it is, whatever its type says.
    pub head: Vec<u8>,
}

impl Session {
    /// A client without a login; `timeout` is for one whole request.
    pub fn new(base: Url, timeout: Duration) -> Result<Session> {
        let jar = Arc::new(Jar::default());
        // Another crate of the same program may have given reqwest TLS, and then it wants to know whose cryptography.
        let _ = rustls::crypto::ring::default_provider().install_default(); // an error says that it is chosen
        let client = reqwest::Client::builder()
            .no_proxy()
            .cookie_provider(Arc::clone(&jar))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeout.min(Duration::from_secs(10)))
            .timeout(timeout)
            .build()
            .map_err(|source| Error::Http { path: base.to_string(), source })?;
        Ok(Session { client, jar, base, user: None })
    }

    /// Logs in at the session endpoint.
    pub async fn login(base: Url, database: &str, login: &SandboxLogin, timeout: Duration) -> Result<Session> {
        let mut session = Session::new(base, timeout)?;
        let parameters = json!({"db": database, "login": login.login, "password": login.password.expose()});
        let refused =
            |reason: String| Error::Login { login: login.login.clone(), database: database.to_owned(), reason };
        let answer = match session.json_rpc(SESSION_ENDPOINT, SESSION_ENDPOINT, parameters, None).await {
            Err(Error::Rpc { name, message, .. }) => return Err(refused(format!("{name}: {message}"))),
            other => other?,
        };
        let user = answer.get("uid").and_then(Value::as_i64);
        session.user = Some(user.ok_or_else(|| refused("no user id; a second factor is asked for".into()))?);
        Ok(session)
    }

    /// The id of the user who is logged in.
    pub fn user(&self) -> Option<i64> {
        self.user
    }

    /// What it sends as the header `Cookie`, for whoever goes on with the session.
    pub fn cookie(&self) -> Option<Secret> {
        let header = self.jar.cookies(&self.base)?;
        header.to_str().ok().map(Secret::new)
    }

    /// Calls a public method of a model.
    pub async fn call(&self, model: &str, method: &str, arguments: Value, keywords: Value) -> Result<Value> {
        let parameters = json!({"model": model, "method": method, "args": arguments, "kwargs": keywords});
        self.json_rpc(CALL_ENDPOINT, &format!("{model}.{method}"), parameters, None).await
    }

    /// The same for what may take longer than other requests.
    pub async fn call_within(
        &self,
        limit: Duration,
        model: &str,
        method: &str,
        arguments: Value,
        keywords: Value,
    ) -> Result<Value> {
        let parameters = json!({"model": model, "method": method, "args": arguments, "kwargs": keywords});
        self.json_rpc(CALL_ENDPOINT, &format!("{model}.{method}"), parameters, Some(limit)).await
    }

    /// Reads up to `limit` records.
    pub async fn search_read(&self, model: &str, domain: Value, fields: &[&str], limit: u32) -> Result<Vec<Value>> {
        let keywords = json!({"fields": fields, "limit": limit});
        match self.call(model, "search_read", json!([domain]), keywords).await? {
            Value::Array(records) => Ok(records),
            other => Err(Error::unexpected(format!("{model}.search_read"), shorten(&other.to_string(), 80))),
        }
    }

    /// Fetches an attachment's content and hashes it on the way.
    pub async fn attachment(&self, id: i32) -> Result<Fetched> {
        self.fetch(&format!("/web/content/{id}")).await
    }

    /// Fetches a path and hashes its content on the way, holding one buffer at a time.
    pub async fn fetch(&self, path: &str) -> Result<Fetched> {
        let mut response = self.get(path).await?;
        let mut head = Vec::with_capacity(HEAD);
        let header = response.headers().get(reqwest::header::CONTENT_TYPE);
        let content_type = header.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let (mut len, mut hasher) = (0, Sha1::new());
        let failed = |source| Error::Http { path: path.to_owned(), source };
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            len += piece.len() as u64;
            hasher.update(&piece);
            head.extend(piece.iter().take(HEAD - head.len()));
        }
        Ok(Fetched { len, sha1: hex::encode(hasher.finalize()), content_type, head })
    }

    /// Fetches a page as text, and goes where it sends a browser on the same server: `/web` is `/odoo` since 18.0.
    pub async fn page(&self, path: &str) -> Result<String> {
        let failed = |source| Error::Http { path: path.to_owned(), source };
        let mut address = self.address(path)?;
        for _ in 0..=REDIRECTS {
            let response = self.client.get(address.clone()).send().await.map_err(failed)?;
            let location = response.headers().get(reqwest::header::LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| address.join(location).ok());
            match next.filter(|_| response.status().is_redirection()) {
                Some(next) if next.origin() == self.base.origin() => address = next,
                _ => {
                    let body = bounded(path, expect_ok(path, response)?).await?;
                    return Ok(String::from_utf8_lossy(&body).into_owned());
                }
            }
        }
        Err(Error::unexpected(path, format!("more than {REDIRECTS} redirections")))
    }

    /// Asks for a page whatever its status, and gives both.
    pub async fn answer(&self, path: &str) -> Result<(u16, String)> {
        let failed = |source| Error::Http { path: path.to_owned(), source };
        let response = self.client.get(self.address(path)?).send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let body = bounded(path, response).await?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    async fn get(&self, path: &str) -> Result<reqwest::Response> {
        let failed = |source| Error::Http { path: path.to_owned(), source };
        let response = self.client.get(self.address(path)?).send().await.map_err(failed)?;
        expect_ok(path, response)
    }

    async fn json_rpc(&self, path: &str, method: &str, parameters: Value, limit: Option<Duration>) -> Result<Value> {
        let failed = |source| Error::Http { path: path.to_owned(), source };
        let body = json!({"jsonrpc": "2.0", "method": "call", "id": 1, "params": parameters});
        let request = self.client.post(self.address(path)?).json(&body);
        let request = match limit {
            Some(limit) => request.timeout(limit),
            None => request,
        };
        let response = request.send().await.map_err(failed)?;
        let bytes = bounded(path, expect_ok(path, response)?).await?;
        let answer: Value =
            serde_json::from_slice(&bytes).map_err(|error| Error::unexpected(method, error.to_string()))?;
        result_of(method, answer)
    }

    fn address(&self, path: &str) -> Result<Url> {
        self.base.join(path).map_err(|error| Error::unexpected(path, error.to_string()))
    }
}

fn expect_ok(path: &str, response: reqwest::Response) -> Result<reqwest::Response> {
    match response.status().as_u16() {
        200 => Ok(response),
        status => Err(Error::Status { path: path.to_owned(), status }),
    }
}

async fn bounded(path: &str, mut response: reqwest::Response) -> Result<Vec<u8>> {
    let failed = |source| Error::Http { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        if (bytes.len() + piece.len()) as u64 > ANSWER_LIMIT {
            return Err(Error::TooLarge { path: path.to_owned(), limit: ANSWER_LIMIT });
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// `result` out of a JSON-RPC answer, or the exception that Odoo names.
fn result_of(method: &str, mut answer: Value) -> Result<Value> {
    if let Some(error) = answer.get("error") {
        let text = |pointer: &str| error.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let message = [text("/data/message"), text("/message")].into_iter().find(|text| !text.is_empty());
        return Err(Error::Rpc {
            method: method.to_owned(),
            name: text("/data/name"),
            message: shorten(&message.unwrap_or_default(), 300),
        });
    }
    // A method that returns None has no `result` in some versions.
    Ok(answer.get_mut("result").map(Value::take).unwrap_or(Value::Null))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn exceptions_are_named() {
        let answer = json!({"error": {"message": "Odoo Server Error", "data": {"name": "odoo.exceptions.AccessDenied", "message": "Access Denied"}}});
        match result_of("res.users.read", answer) {
            Err(Error::Rpc { name, message, .. }) => {
                assert_eq!((name.as_str(), message.as_str()), ("odoo.exceptions.AccessDenied", "Access Denied"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(result_of("m", json!({"result": [1]})).unwrap(), json!([1]));
        assert_eq!(result_of("m", json!({})).unwrap(), Value::Null);
    }

    /// Answers each connection with the next of the given responses.
    async fn serve(responses: Vec<String>) -> Url {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for response in responses {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 4096];
                let _ = socket.read(&mut buffer).await.unwrap();
                socket.write_all(response.as_bytes()).await.unwrap();
            }
        });
        Url::parse(&format!("http://{address}")).unwrap()
    }

    fn response(status: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn login() -> SandboxLogin {
        SandboxLogin { id: 2, login: "admin".into(), password: lifeboat_model::secret::Secret::new("x") }
    }

    #[tokio::test]
    async fn a_session_without_a_user_is_refused() {
        let base = serve(vec![response("200 OK", r#"{"result": {"uid": null}}"#)]).await;
        let error = Session::login(base, "demo", &login(), Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, Error::Login { .. }), "{error}");
    }

    #[tokio::test]
    async fn content_is_hashed_and_a_redirect_is_no_content() {
        let base = serve(vec![response("200 OK", "hello"), response("303 See Other", "")]).await;
        let session = Session::new(base, Duration::from_secs(5)).unwrap();
        let fetched = session.attachment(7).await.unwrap();
        assert_eq!((fetched.len, fetched.sha1.as_str()), (5, "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"));
        assert_eq!(fetched.head, b"hello");
        assert!(matches!(session.attachment(8).await, Err(Error::Status { status: 303, .. })));
    }

    #[tokio::test]
    async fn a_page_is_followed_on_its_own_server_only() {
        let to = |place: &str| {
            format!("HTTP/1.1 303 See Other\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        };
        let base = serve(vec![to("/odoo"), response("200 OK", "<p>"), to("http://example.invalid/web")]).await;
        let session = Session::new(base, Duration::from_secs(5)).unwrap();
        assert_eq!(session.page("/web").await.unwrap(), "<p>");
        assert!(matches!(session.page("/web").await, Err(Error::Status { status: 303, .. })));
        let base = serve(vec![to("/web"); 5]).await;
        let session = Session::new(base, Duration::from_secs(5)).unwrap();
        assert!(matches!(session.page("/web").await, Err(Error::Unexpected { .. })));
    }
}
