//! The gate: every request comes through here before any handler, and every answer on its way out.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Redirect, Response},
};
use jiff::Timestamp;

use super::{
    Auth, Caller, Deed, How, Refused,
    caller::Found,
    headers,
    limits::place,
    oidc, sessions,
    tokens::{self, PREFIX},
};

/// So long a request may take; following a run may take longer.
const LONGEST: Duration = Duration::from_secs(30);

/// The header that programs in a browser send a session's `csrf` in.
const CSRF: &str = "x-csrf";

/// What every request goes through.
pub(crate) async fn gate(State(auth): State<Arc<Auth>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let found = auth.find_out(request.headers(), peer).await;
    let who = match &found {
        Ok(caller) => caller.who.clone(),
        Err(_) => unknown(peer),
    };
    let is_known = found.is_ok();
    let answer = match auth.admit(&found, &request, peer) {
        Err(refused) => refused.into_response(),
        Ok(()) => {
            request.extensions_mut().insert(Found(found));
            request.extensions_mut().insert(Peer(peer));
            if uri.path().ends_with("/events") {
                next.run(request).await
            } else {
                match tokio::time::timeout(LONGEST, next.run(request)).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        Refused::unavailable(format!("this took longer than {} s", LONGEST.as_secs())).into_response()
                    }
                }
            }
        }
    };
    auth.let_out(answer, &method, &uri, (who, is_known)).await
}

/// Somebody that nobody knows.
pub(super) fn unknown(peer: IpAddr) -> String {
    format!("unknown at {}", place(peer))
}

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

impl Auth {
    /// Who asks. Nothing of what was sent is ever told in an answer or a log.
    async fn find_out(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Caller, Refused> {
        let mut sent = headers.get_all(header::AUTHORIZATION).iter();
        if let Some(value) = sent.next() {
            let key = value.to_str().ok().and_then(|text| text.split_once(' '));
            let key = key.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim());
            let found = match key {
                Some(key) if sent.next().is_none() => self.bearer(key).await,
                _ => Err(Refused::not_valid()),
            };
            if found.as_ref().is_err_and(|refused| refused.status == StatusCode::UNAUTHORIZED) {
                self.limits.failure(peer)?;
            }
            return found;
        }
        match sessions::sent(headers, sessions::cookie_name(self.secure())) {
            None => Err(Refused::not_signed_in()),
            Some(cookie) => match self.session(&cookie).await {
                Ok(caller) => caller.ok_or_else(Refused::not_signed_in),
                Err(error) => {
                    tracing::warn!("cannot look up a session: {error}");
                    Err(Refused::unavailable("sessions cannot be looked up at the moment"))
                }
            },
        }
    }

    async fn bearer(&self, key: &str) -> Result<Caller, Refused> {
        if key.starts_with(PREFIX) {
            return self.holder(&tokens::digest(key)).await.ok_or_else(Refused::not_valid);
        }
        match self.daemon.policies().settings.oidc.clone() {
            Some(settings) => oidc::bearer(self, &settings, key).await,
            None => Err(Refused::not_valid()),
        }
    }

    /// Whether the request goes on to its handler.
    fn admit(&self, found: &Result<Caller, Refused>, request: &Request, peer: IpAddr) -> Result<(), Refused> {
        let caller = match found {
            Ok(caller) => caller,
            Err(refused) if refused.status == StatusCode::TOO_MANY_REQUESTS => return Err(refused.clone()),
            Err(_) => {
                self.limits.stranger(peer)?;
                let browser = !request.headers().contains_key(header::AUTHORIZATION);
                return if browser && changes(request.method()) { self.same_origin(request.headers()) } else { Ok(()) };
            }
        };
        self.limits.caller(&caller.who)?;
        if matches!(caller.how, How::Session { .. }) && changes(request.method()) {
            self.same_origin(request.headers())?;
            if request.uri().path().starts_with("/api/") {
                let sent = request.headers().get(CSRF).and_then(|value| value.to_str().ok());
                caller.check_csrf(sent.unwrap_or_default())?;
            }
        }
        Ok(())
    }

    /// Whether a browser says that a page of ours sent this. Programs say nothing.
    fn same_origin(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if headers.contains_key("sec-fetch-site") {
            let own = matches!(text("sec-fetch-site"), Some("same-origin" | "none"));
            return if own { Ok(()) } else { Err(Refused::foreign_form()) };
        }
        if !headers.contains_key(header::ORIGIN) {
            return Ok(());
        }
        let scheme = if self.secure() { "https" } else { "http" };
        let own = text("host").map(|host| format!("{scheme}://{host}"));
        let public = self.daemon.policies().settings.public_url.as_ref().map(|url| url.origin().ascii_serialization());
        let origin = text("origin");
        if origin.is_some() && (origin == own.as_deref() || origin == public.as_deref()) {
            Ok(())
        } else {
            Err(Refused::foreign_form())
        }
    }

    /// Keeps what was refused, draws pages for people, and adds what browsers must know.
    async fn let_out(
        &self,
        mut answer: Response,
        method: &Method,
        uri: &Uri,
        (who, is_known): (String, bool),
    ) -> Response {
        if let Some(refused) = answer.extensions_mut().remove::<Refused>() {
            if is_told(&refused, method) {
                let deed = deed(&refused, method, uri, who);
                if is_known {
                    self.refusals.record(&self.daemon, deed).await;
                } else {
                    // They choose the method and the path, and a new one for each request.
                    let (act, status) = ("requests".to_owned(), refused.status.as_u16().to_string());
                    let kind = Deed { act, detail: Some(status), ..deed.clone() };
                    self.refusals.record_stranger(&self.daemon, deed, kind).await;
                }
            }
            if !is_for_programs(uri.path()) {
                answer = page(&refused, method, uri, self.daemon.now());
            }
        }
        headers::harden(answer.headers_mut(), self.secure());
        answer
    }
}

/// A request that may change something.
fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// What does not exist is told only where somebody wanted to act upon it: others mistype.
fn is_told(refused: &Refused, method: &Method) -> bool {
    match refused.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::NOT_FOUND | StatusCode::CONFLICT => changes(method),
        _ => false,
    }
}

fn deed(refused: &Refused, method: &Method, uri: &Uri, who: String) -> Deed {
    Deed {
        tenant: refused.tenant.clone(),
        who,
        act: format!("{method} {}", uri.path()),
        target: None,
        allowed: false,
        detail: Some(format!("{}: {}", refused.status.as_u16(), refused.message)),
    }
}

fn is_for_programs(path: &str) -> bool {
    path.starts_with("/api/") || matches!(path, "/api" | "/metrics" | "/healthz" | "/readyz")
}

/// For people: to the page to sign in at, or a page that says what is wrong.
fn page(refused: &Refused, method: &Method, uri: &Uri, now: Timestamp) -> Response {
    if refused.status == StatusCode::UNAUTHORIZED && !changes(method) {
        let to = uri.path_and_query().map_or("/", |path| path.as_str());
        let query: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("to", to).finish();
        return Redirect::to(&format!("/login?{query}")).into_response();
    }
    crate::pages::refused(refused, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_not_told_and_refusals_are() {
        let told = |status, method| is_told(&Refused::new(status, ""), &method);
        assert!(told(StatusCode::FORBIDDEN, Method::GET));
        assert!(told(StatusCode::UNAUTHORIZED, Method::GET));
        assert!(told(StatusCode::NOT_FOUND, Method::POST));
        assert!(!told(StatusCode::NOT_FOUND, Method::GET));
        assert!(!told(StatusCode::UNPROCESSABLE_ENTITY, Method::POST));
    }
}
