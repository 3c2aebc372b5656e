//! Tells the browser what to do, in the DevTools protocol over its pipe (`--remote-debugging-pipe`): JSON messages, each ended
//! by a zero byte (<https://chromedevtools.github.io/devtools-protocol/>).
//!
//! A page is not done when it is loaded: the web client then fetches what it shows. So it is asked until it shows its menu
//! and an action, or the patience is over, and the picture is of whatever is there.

use std::{io, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::Instant,
};
use url::Url;

use crate::error::{Error, Result};

/// A longer message is none: a picture of a megapixel has some hundred kilobytes.
const LONGEST: u64 = 32 << 20;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(150);
/// For what is drawn last, after the page says that it is there.
const SETTLE: Duration = Duration::from_millis(400);
/// Whether the web client shows its menu and an action. The names are the same in 14.0 to 19.0
/// (`addons/web/static/src`, `.o_main_navbar` and `.o_action_manager`).
const SHOWN: &str = "document.readyState === 'complete' && document.querySelector('.o_main_navbar') !== null \
                     && document.querySelector('.o_action_manager > *') !== null";

/// A picture, and whether it is of what was waited for.
#[derive(Debug)]
pub(super) struct Shot {
    pub png: Vec<u8>,
    /// The web client showed its menu and an action.
    pub shown: bool,
}

/// A browser at the other end of a pipe.
pub(super) struct Devtools<W, R> {
    input: W,
    output: R,
    last: u64,
}

impl<W: AsyncWrite + Unpin, R: AsyncBufRead + Unpin> Devtools<W, R> {
    pub fn new(input: W, output: R) -> Self {
        Devtools { input, output, last: 0 }
    }

    /// Opens the page, waits for what it shows, and takes the picture.
    pub async fn shoot(mut self, page: &Url, patience: Duration) -> Result<Shot> {
        let target = self.call("Target.createTarget", json!({"url": "about:blank"}), None).await?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call("Target.attachToTarget", attach, None).await?;
        let session = attached["sessionId"].as_str().ok_or_else(|| unexpected("no session"))?.to_owned();
        self.call("Page.navigate", json!({"url": page.as_str()}), Some(&session)).await?;
        let shown = self.await_page(&session, patience).await?;
        let taken = self.call("Page.captureScreenshot", json!({"format": "png"}), Some(&session)).await?;
        let data = taken["data"].as_str().ok_or_else(|| unexpected("no picture"))?;
        let png = BASE64_STANDARD.decode(data).map_err(|error| unexpected(error.to_string()))?;
        Ok(Shot { png, shown })
    }

    async fn await_page(&mut self, session: &str, patience: Duration) -> Result<bool> {
        let deadline = Instant::now() + patience;
        loop {
            let asked = json!({"expression": SHOWN, "returnByValue": true});
            // A page that is just being replaced has nothing to ask.
            let answer = self.call("Runtime.evaluate", asked, Some(session)).await.unwrap_or(Value::Null);
            let shown = answer.pointer("/result/value") == Some(&Value::Bool(true));
            if shown || Instant::now() >= deadline {
                tokio::time::sleep(SETTLE).await;
                return Ok(shown);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks, and passes over everything that is no answer to it.
    async fn call(&mut self, method: &str, params: Value, session: Option<&str>) -> Result<Value> {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).await.map_err(pipe)?;
        self.input.flush().await.map_err(pipe)?;
        loop {
            let mut bytes = Vec::new();
            (&mut self.output).take(LONGEST).read_until(0, &mut bytes).await.map_err(pipe)?;
            if bytes.pop() != Some(0) {
                return Err(unexpected("it ended, or said more than anything can be"));
            }
            let mut answer: Value = serde_json::from_slice(&bytes).map_err(|error| unexpected(error.to_string()))?;
            if answer["id"] != self.last {
                continue;
            }
            return match answer.get("error") {
                Some(error) => Err(unexpected(format!("{method}: {}", error["message"]))),
                None => Ok(answer["result"].take()),
            };
        }
    }
}

fn unexpected(what: impl Into<String>) -> Error {
    Error::Output { program: "the browser".to_owned(), detail: what.into() }
}

fn pipe(error: io::Error) -> Error {
    unexpected(error.to_string())
}
