//! Sign-in.

use maud::{Markup, html};

use super::{context::PageContext, layout, parts};

/// The page at `/login`. `problem` says why the last try failed, `to` where to go afterwards, `provider` whether there is an
/// identity provider.
pub fn page(problem: Option<&str>, to: Option<&str>, has_provider: bool, context: &PageContext) -> Markup {
    let to = to.filter(|to| is_here(to));
    let start = match to {
        Some(to) => format!("/auth/start?to={}", parts::encoded(to)),
        None => "/auth/start".to_owned(),
    };
    let body = html! {
        div.login {
            h1 { "Sign in" }
            @if let Some(problem) = problem {
                p.problem role="alert" { (parts::icon(parts::Tone::Bad)) span { (problem) } }
            }
            @if has_provider {
                p { a.button.primary href=(start) { "Sign in with your organisation" } }
                p.or { "or with a token" }
            }
            form method="post" action="/login" {
                @if let Some(to) = to { input type="hidden" name="to" value=(to); }
                label for="token" { "Token" }
                input #token type="password" name="token" required autocomplete="current-password" spellcheck="false"
                    aria-describedby="token-help" autofocus[!has_provider];
                p.soft #token-help { "Begins with " code { "lbt_" } ". Whoever runs this host makes one: " code { "lifeboat token create" } }
                button.primary[!has_provider] type="submit" { "Sign in" }
            }
        }
    };
    layout::page(context, "Sign in", body)
}

/// Why a sign-in failed, by the word in the query: no other text of it is shown.
pub(super) fn problem(word: &str) -> Option<&'static str> {
    match word {
        "token" => Some("This token opens nothing: it is unknown, has expired or was revoked."),
        "oidc" => {
            Some("Your organisation's sign-in does not answer as it should. Try again in a minute, or use a token.")
        }
        "flow" => Some("The sign-in was not finished in time, or not in this browser. Begin again."),
        "too-many" => Some("Too many tries. Wait a minute."),
        _ => None,
    }
}

/// Whether an address is a path of ours: sign-in must send nobody elsewhere.
fn is_here(to: &str) -> bool {
    to.starts_with('/') && !to.starts_with("//") && !to.contains(['\\', '\r', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::context::Place;

    #[test]
    fn sign_in_leads_nowhere_else() {
        let context = PageContext {
            now: jiff::Timestamp::UNIX_EPOCH,
            reader: None,
            place: Place::None,
            troubles: Vec::new(),
            looked: None,
        };
        for to in ["https://evil.example", "//evil.example", "/\\evil.example", "evil"] {
            let shown = page(None, Some(to), true, &context).into_string();
            assert!(!shown.contains("evil"), "{to}: {shown}");
        }
        let shown = page(Some("<i>no</i>"), Some("/runs/1?a=b&c"), true, &context).into_string();
        assert!(shown.contains("/auth/start?to=%2Fruns%2F1%3Fa%3Db%26c") && !shown.contains("<i>"), "{shown}");
        assert!(!page(None, None, false, &context).into_string().contains("/auth/start"));
    }
}
