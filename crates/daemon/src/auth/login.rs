//! Signing in and out at the dashboard. The page to sign in at is drawn by `pages`; what its form and links do is here.

use std::{sync::Arc, time::Duration};

use axum::{
    Form, Router,
    extract::{Query, State, rejection::FormRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;

use super::{
    Auth, Caller, Deed, How, Refused,
    gate::{Peer, unknown},
    oidc::{self, Answer, OidcError},
    record,
    sessions::{self, SignedIn},
    tokens,
};

/// `POST /login`, `POST /logout`, and the two steps at the identity provider.
pub(crate) fn router(auth: Arc<Auth>) -> Router {
    Router::new()
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/auth/start", get(start))
        .route("/auth/callback", get(callback))
        .with_state(auth)
}

#[derive(Deserialize)]
struct Login {
    token: String,
    #[serde(default)]
    to: String,
}

/// With a token in a form.
async fn login(
    State(auth): State<Arc<Auth>>,
    axum::Extension(Peer(peer)): axum::Extension<Peer>,
    headers: HeaderMap,
    form: Result<Form<Login>, FormRejection>,
) -> Response {
    let Ok(Form(login)) = form else {
        return again("token", "/");
    };
    let to = inside(&login.to);
    let sha256 = tokens::digest(login.token.trim());
    let Some(caller) = auth.holder(&sha256).await else {
        let deed = Deed {
            tenant: None,
            who: unknown(peer),
            act: "sign-in".to_owned(),
            target: None,
            allowed: false,
            detail: Some("the token is unknown, expired or revoked".to_owned()),
        };
        failed(&auth, deed).await;
        return again(if auth.limits.failure(peer).is_ok() { "token" } else { "too-many" }, &to);
    };
    match auth.sign_in(&headers, &caller.who, &SignedIn::Token { sha256 }).await {
        Ok(cookie) => with_cookies(Redirect::to(&to).into_response(), [cookie]),
        Err(refused) => refused.into_response(),
    }
}

#[derive(Deserialize)]
struct Logout {
    #[serde(default)]
    csrf: String,
}

async fn logout(
    State(auth): State<Arc<Auth>>,
    caller: Caller,
    headers: HeaderMap,
    form: Result<Form<Logout>, FormRejection>,
) -> Result<Response, Refused> {
    let sent = form.map(|Form(logout)| logout.csrf).unwrap_or_default();
    caller.check_csrf(&sent)?;
    let name = sessions::cookie_name(auth.secure());
    if let (How::Session { .. }, Some(cookie)) = (&caller.how, sessions::sent(&headers, name)) {
        auth.end_session(&cookie).await.map_err(|error| {
            tracing::warn!("cannot end a session: {error}");
            Refused::unavailable("the session cannot be ended at the moment")
        })?;
        record(&auth.daemon, &deed(&caller.who, "sign-out")).await;
    }
    let ended = sessions::set_cookie(name, "", "Strict", auth.secure(), Duration::ZERO);
    Ok(with_cookies(Redirect::to("/login").into_response(), [ended]))
}

#[derive(Deserialize)]
struct Start {
    #[serde(default)]
    to: String,
}

/// Off to the identity provider.
async fn start(
    State(auth): State<Arc<Auth>>,
    axum::Extension(Peer(peer)): axum::Extension<Peer>,
    Query(asked): Query<Start>,
) -> Result<Response, Refused> {
    let to = inside(&asked.to);
    let settings = auth.daemon.policies().settings.oidc.clone().ok_or_else(Refused::not_found)?;
    match oidc::start(&auth, &settings, peer, to.clone()).await {
        Ok((place, cookie)) => {
            // Lax: it has to come along when the identity provider sends the browser back.
            let value = cookie.expose();
            let cookie = sessions::set_cookie(flow_cookie(auth.secure()), value, "Lax", auth.secure(), oidc::LASTS);
            Ok(with_cookies(Redirect::to(place.as_str()).into_response(), [cookie]))
        }
        Err(error) => {
            tracing::warn!("nobody can sign in: {error}");
            Ok(again("oidc", &to))
        }
    }
}

/// Back from there.
async fn callback(
    State(auth): State<Arc<Auth>>,
    axum::Extension(Peer(peer)): axum::Extension<Peer>,
    headers: HeaderMap,
    Query(answer): Query<Answer>,
) -> Result<Response, Refused> {
    let settings = auth.daemon.policies().settings.oidc.clone().ok_or_else(Refused::not_found)?;
    let name = flow_cookie(auth.secure());
    let begun = sessions::sent(&headers, name).unwrap_or_default();
    let over = sessions::set_cookie(name, "", "Lax", auth.secure(), Duration::ZERO);
    match oidc::callback(&auth, &settings, &begun, answer).await {
        Ok((who, signed_in, to)) => {
            let cookie = auth.sign_in(&headers, &who, &signed_in).await?;
            Ok(with_cookies(onwards(&to), [over, cookie]))
        }
        Err(error) => {
            tracing::info!("a sign-in came to nothing: {error}");
            let problem = match error {
                OidcError::Provider { .. } => "oidc",
                OidcError::Token(_) | OidcError::Flow(_) if auth.limits.failure(peer).is_err() => "too-many",
                OidcError::Token(_) | OidcError::Flow(_) => "flow",
            };
            let deed = Deed { allowed: false, detail: Some(error.to_string()), ..deed(&unknown(peer), "sign-in") };
            failed(&auth, deed).await;
            Ok(with_cookies(again(problem, "/"), [over]))
        }
    }
}

impl Auth {
    /// Begins a session and ends the one that this browser had.
    async fn sign_in(&self, headers: &HeaderMap, who: &str, signed_in: &SignedIn) -> Result<HeaderValue, Refused> {
        let name = sessions::cookie_name(self.secure());
        let kept = async {
            if let Some(before) = sessions::sent(headers, name) {
                self.end_session(&before).await?;
            }
            self.begin_session(signed_in).await
        };
        let cookie = kept.await.map_err(|error| {
            tracing::warn!("cannot keep a session: {error}");
            Refused::unavailable("sessions cannot be kept at the moment")
        })?;
        record(&self.daemon, &deed(who, "sign-in")).await;
        Ok(sessions::set_cookie(name, cookie.expose(), "Strict", self.secure(), sessions::LASTS))
    }
}

fn deed(who: &str, act: &str) -> Deed {
    Deed { tenant: None, who: who.to_owned(), act: act.to_owned(), target: None, allowed: true, detail: None }
}

/// A sign-in that failed. Why is of no kind: it may be in the words of whoever tried.
async fn failed(auth: &Auth, deed: Deed) {
    let kind = Deed { detail: None, ..deed.clone() };
    auth.refusals.record_stranger(&auth.daemon, deed, kind).await;
}

fn flow_cookie(secure: bool) -> &'static str {
    if secure { "__Host-lifeboat-sign-in" } else { "lifeboat-sign-in" }
}

/// Back to the page to sign in at, which knows these words: `token`, `oidc`, `flow`, `too-many`.
fn again(problem: &str, to: &str) -> Response {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("problem", problem).append_pair("to", to);
    Redirect::to(&format!("/login?{}", query.finish())).into_response()
}

/// A page of ours, whatever was asked for: nobody is sent elsewhere by a link to the sign-in.
fn inside(to: &str) -> String {
    let plain = to.starts_with('/') && !to.starts_with("//") && !to.contains('\\') && !to.chars().any(char::is_control);
    if plain && to.is_ascii() { to.to_owned() } else { "/".to_owned() }
}

/// A page that goes on by itself. A redirect would not do: after one that began at another site, browsers keep back cookies
/// that are `SameSite=Strict`.
fn onwards(to: &str) -> Response {
    let page = maud::html! {
        (maud::DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "Signed in" } meta http-equiv="refresh" content={ "0;url=" (to) }; }
            body { p { "You are signed in. " a href=(to) { "Go on" } } }
        }
    };
    (StatusCode::OK, Html(page.into_string())).into_response()
}

fn with_cookies<const N: usize>(mut answer: Response, cookies: [HeaderValue; N]) -> Response {
    for cookie in cookies {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_elsewhere() {
        assert_eq!(inside("/runs/1?a=b"), "/runs/1?a=b");
        for elsewhere in
            ["", "//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "javascript:x"]
        {
            assert_eq!(inside(elsewhere), "/", "{elsewhere}");
        }
    }
}
