//! The HTTP client that `object_store` sends through: the one that S3 has, with the same TLS, and an ear on each answer's
//! head.
//!
//! `object_store`'s errors hide the status, and no answer of it shows the `Date`. Whoever sends within [`listening`]
//! gets both of the last answer that came.

use std::{
    future::Future,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_s3::config::{AsyncSleep, Sleep};
use aws_smithy_http_client::{
    Connector,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::{HttpConnector as SendOut, HttpConnectorSettings};
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt as _;
use jiff::{Timestamp, fmt::rfc2822};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    },
};

use crate::{s3::Limits, throttle::Throttle};

/// What an answer's head said.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    /// Whom the last request went to.
    pub(super) host: String,
    /// What it answered; none while no answer has come.
    pub(super) status: Option<u16>,
    /// Azure names its refusals in a header, also where there is no body.
    pub(super) code: Option<String>,
    /// Its clock.
    pub(super) date: Option<Timestamp>,
}

tokio::task_local! {
    static EAR: Arc<Mutex<Heard>>;
}

/// Does the work, and tells what was heard of the last answer meanwhile.
pub(super) async fn listening<T>(work: impl Future<Output = T>) -> (T, Heard) {
    let ear = Arc::<Mutex<Heard>>::default();
    let done = EAR.scope(Arc::clone(&ear), work).await;
    let heard = ear.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (done, heard)
}

fn note(heard: Heard) {
    // Without an ear, as where a body is being read, nobody asked.
    let _ = EAR.try_with(|ear| *ear.lock().unwrap_or_else(PoisonError::into_inner) = heard);
}

/// Gives `object_store` a client that was made already; bodies keep to the throttle.
#[derive(Debug, Clone)]
pub(super) struct Sender(Arc<Connector>, Throttle);

impl Sender {
    /// One for `http` and `https`: a token's issuer has the latter in any case.
    pub(super) fn new(ca_file: Option<&PathBuf>, limits: &Limits) -> Result<Self, String> {
        let settings = HttpConnectorSettings::builder().connect_timeout(limits.connect).build();
        let connector = Connector::builder()
            .connector_settings(settings)
            .sleep_impl(TokioTimer)
            .pool_idle_timeout(limits.stall)
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(crate::s3::tls(ca_file)?);
        Ok(Self(Arc::new(connector.build()), limits.throttle.clone()))
    }
}

/// Lets the connector's time limits run by tokio's clock.
#[derive(Debug)]
struct TokioTimer;

impl AsyncSleep for TokioTimer {
    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(tokio::time::sleep(duration))
    }
}

impl HttpConnector for Sender {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Sender {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        note(Heard { host: host.clone(), ..Heard::default() });
        let malformed = |error| HttpError::new(HttpErrorKind::Unknown, error);
        let request =
            request.map(|body| self.1.outgoing(SdkBody::from_body_1_x(body))).try_into().map_err(malformed)?;
        let answer = SendOut::call(self.0.as_ref(), request).await;
        let answer = answer.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let answer = answer.try_into_http1x().map_err(malformed)?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        note(Heard {
            host,
            status: Some(answer.status().as_u16()),
            code: header("x-ms-error-code").map(str::to_owned),
            date: header("date").and_then(|text| rfc2822::parse(text).ok()).map(|date| date.timestamp()),
        });
        let broken = |error| HttpError::new_boxed(HttpErrorKind::Interrupted, error);
        Ok(answer.map(|body| HttpResponseBody::new(self.1.incoming(body).map_err(broken))))
    }
}
