//! One way out over HTTP: no redirects, no proxies, ten seconds, and nothing of an answer that is longer than a line.

use std::time::Duration;

use reqwest::{StatusCode, header::HeaderMap};
use url::Url;

use super::Failure;
use crate::error::with_causes;

/// For a whole request.
pub(in crate::notify) const TIMEOUT: Duration = Duration::from_secs(10);
/// So much of an answer is read at most.
const MOST: usize = 4096;

/// A client for all channels.
#[derive(Clone)]
pub(in crate::notify) struct Http(reqwest::Client);

impl Http {
    pub fn new() -> Result<Http, Failure> {
        let unusable =
            |error: &dyn std::error::Error| Failure::Unusable(format!("no HTTP client: {}", with_causes(error)));
        let tls = crate::tls::client_config(None).map_err(|error| unusable(&error))?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(tls)
            .connect_timeout(TIMEOUT)
            .timeout(TIMEOUT)
            .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| unusable(&error))?;
        Ok(Http(client))
    }

    /// Sends a body; only an answer of 2xx is a good one.
    pub async fn post(&self, url: Url, headers: HeaderMap, body: Vec<u8>) -> Result<(), Failure> {
        self.take(self.0.post(url).headers(headers).body(body)).await
    }

    /// Asks for something, only to have asked.
    pub async fn get(&self, url: Url) -> Result<(), Failure> {
        self.take(self.0.get(url)).await
    }

    async fn take(&self, request: reqwest::RequestBuilder) -> Result<(), Failure> {
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut read = 0;
        while read < MOST {
            match response.chunk().await {
                Ok(Some(bytes)) => read += bytes.len(),
                Ok(None) => break,
                // The status is the answer; what was behind it is not needed.
                Err(_) if status.is_success() => break,
                Err(error) => return Err(unreachable(error)),
            }
        }
        if status.is_success() { Ok(()) } else { Err(Failure::Refused(answered(status))) }
    }
}

/// Without the address.
fn unreachable(error: reqwest::Error) -> Failure {
    let what = if error.is_timeout() { "no answer within 10 s" } else { "no answer" };
    Failure::Unreachable(format!("{what}: {}", with_causes(&error.without_url())))
}

/// What an answer means for whoever set it up. What the server wrote is not repeated: it could repeat a secret.
fn answered(status: StatusCode) -> String {
    let meaning = match status.as_u16() {
        300..=399 => "it sends elsewhere, and redirects are not followed: configure the final address",
        401 | 403 => "it does not believe us: look at secret or key",
        404 | 410 => "there is nobody at this address: look at it",
        408 | 425 | 429 => "it wants us to wait",
        400..=499 => "it does not understand us",
        _ => "it has trouble of its own",
    };
    format!("the answer was {}: {meaning}", status.as_u16())
}
