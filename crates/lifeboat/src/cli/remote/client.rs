//! Requests to a daemon: with a token, within bounds, and with its own words where it refuses.

use std::{error::Error as _, fs, time::Duration};

use lifeboat_engine::keys::read_secret_file;
use lifeboat_model::{config::reading::is_loopback, secret::Secret};
use reqwest::{Certificate, Response, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use url::Url;

use super::DaemonArgs;
use crate::{
    exit::Exit,
    failure::{Advise as _, Failure, Result},
};

/// Until somebody answers at all.
const CONNECT: Duration = Duration::from_secs(10);
/// Between two pieces of an answer: a daemon that has nothing to tell sends a sign of life every few seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// No answer is longer.
const LONGEST: usize = 64 << 20;

/// A daemon, and the right to ask it.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Secret>,
}

/// How a daemon refuses.
#[derive(Deserialize)]
struct Refusal {
    error: Words,
}

#[derive(Deserialize)]
struct Words {
    message: String,
    hint: Option<String>,
    next: Option<String>,
}

impl Client {
    /// Nothing is sent yet.
    pub fn new(args: &DaemonArgs) -> Result<Client> {
        let Some(base) = args.daemon.clone() else { return Err(super::RunsCommand::without_daemon()) };
        let token = args.token_file.as_deref().map(read_secret_file).transpose()?;
        if base.scheme() != "https" && !is_loopback(&base) && token.is_some() {
            return Err(Failure::new(Exit::Usage, format!("a token would go to {base} for everybody to read"))
                .safe("nothing was sent")
                .hint("use https, or a tunnel to the daemon's own loopback"));
        }
        // No other part of the program may have chosen who does the cryptography.
        let _ = rustls::crypto::ring::default_provider().install_default(); // an error says that it is chosen
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .redirect(reqwest::redirect::Policy::none());
        // What this very host tells itself passes no proxy, which would read the token.
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        if let Some(file) = &args.daemon_ca {
            let failed = || format!("cannot use the certificates in {}", file.display());
            let text = fs::read(file).context(failed())?;
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(&text).context(failed())?);
        }
        Ok(Client { http: builder.build()?, base, token })
    }

    fn url(&self, path: &str) -> Result<Url> {
        let mut base = self.base.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        base.join(&format!("api/v1/{path}")).context(format!("{path} is no run"))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response).await)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut why = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            why.push(error.to_string());
            cause = error.source();
        }
        let why = if why.is_empty() { error.to_string() } else { why.join(": ") };
        Failure::new(Exit::Unavailable, why)
            .context(format!("the daemon at {} does not answer", self.base))
            .hint("is it running, and is this its address? systemctl status lifeboat-daemon")
    }

    async fn refused(&self, response: Response) -> Failure {
        let status = response.status();
        let exit = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Key,
            StatusCode::NOT_FOUND => Exit::NotFound,
            StatusCode::CONFLICT => Exit::Busy,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Exit::Unavailable,
            status if status.is_client_error() => Exit::Usage,
            _ => Exit::Failed,
        };
        let words = read(response).await.ok().and_then(|body| serde_json::from_slice::<Refusal>(&body).ok());
        let refused = format!("the daemon at {} refused ({status})", self.base);
        let mut failure = match words {
            Some(Refusal { error }) => {
                let mut failure = Failure::new(exit, error.message).context(refused);
                (failure.hint, failure.next) = (error.hint, error.next);
                failure
            }
            None => Failure::new(exit, refused),
        };
        if status == StatusCode::UNAUTHORIZED && self.token.is_none() {
            failure = failure.hint("give a token with --token-file or LIFEBOAT_TOKEN_FILE");
        }
        failure
    }

    /// One document.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let body = read(self.send(self.http.get(url)).await?).await?;
        serde_json::from_slice(&body).context(format!("the answer of {} is not understood", self.base))
    }

    /// A document that is a list, or has one field that is.
    pub async fn list<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<T>> {
        let mut answer: Value = self.get(path, query).await?;
        let list = match answer.get_mut(path) {
            Some(list) => list.take(),
            None => answer,
        };
        serde_json::from_value(list).context(format!("the answer of {} is not understood", self.base))
    }

    /// Asks for something to be done.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let body = read(self.send(self.http.post(self.url(path)?).json(body)).await?).await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).context(format!("the answer of {} is not understood", self.base))
    }

    /// Events from behind this number on.
    pub async fn events(&self, run: &str, last: Option<&str>) -> Result<Response> {
        let request = self.http.get(self.url(&format!("runs/{run}/events"))?);
        let request = request.header(header::ACCEPT, "text/event-stream");
        self.send(match last {
            Some(last) => request.header("Last-Event-ID", last),
            None => request,
        })
        .await
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        if body.len() + piece.len() > LONGEST {
            return Err(Failure::new(Exit::Failed, "the daemon's answer is too long"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: &str, token: Option<std::path::PathBuf>) -> DaemonArgs {
        DaemonArgs { daemon: Some(url.parse().unwrap()), token_file: token, ..DaemonArgs::default() }
    }

    #[test]
    fn a_token_is_not_sent_in_the_clear() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "lbt_x\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        for (url, is_sent) in [
            ("https://backup.example.org", true),
            ("http://127.0.0.1:7420", true),
            ("http://[::1]:7420", true),
            ("http://backup.example.org", false),
            ("http://127.0.0.1.example.org", false),
        ] {
            assert_eq!(Client::new(&args(url, Some(file.clone()))).is_ok(), is_sent, "{url}");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let open = Client::new(&args("https://backup.example.org", Some(file)));
        assert_eq!(open.err().unwrap().exit, Exit::Key);
    }

    /// A proxy of the environment would read what this host tells itself. In a process of its own: the environment is everybody's.
    #[test]
    fn no_proxy_is_asked_for_this_very_host() {
        const INSIDE: &str = "LIFEBOAT_TEST_ASKS";
        let ask = |url: &str| {
            let client = Client::new(&args(url, None)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { client.http.get(url).send().await.map(drop) })
        };
        if let Ok(url) = std::env::var(INSIDE) {
            let _ = ask(&url);
            return;
        }
        let (proxy, daemon) = (std::net::TcpListener::bind("127.0.0.1:0"), std::net::TcpListener::bind("127.0.0.1:0"));
        let (proxy, daemon) = (proxy.unwrap(), daemon.unwrap());
        let mut asking = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cli::remote::client::tests::no_proxy_is_asked_for_this_very_host"])
            .env(INSIDE, format!("http://{}/", daemon.local_addr().unwrap()))
            .env("http_proxy", format!("http://{}", proxy.local_addr().unwrap()))
            .env_remove("no_proxy")
            .env_remove("NO_PROXY")
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let (sender, reached) = std::sync::mpsc::channel();
        for (name, listener) in [("the proxy", proxy), ("the daemon", daemon)] {
            let sender = sender.clone();
            std::thread::spawn(move || listener.accept().map(|_| sender.send(name)));
        }
        assert_eq!(reached.recv_timeout(Duration::from_secs(30)), Ok("the daemon"));
        asking.wait().unwrap();
    }

    #[test]
    fn addresses_keep_the_path_of_a_proxy() {
        let client = Client::new(&args("https://example.org/lifeboat", None)).unwrap();
        assert_eq!(client.url("runs/1").unwrap().as_str(), "https://example.org/lifeboat/api/v1/runs/1");
    }
}
