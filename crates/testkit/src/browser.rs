//! A real browser without a window, spoken to over its pipe (Chrome DevTools Protocol): two descriptors, JSON texts that end with
//! a zero byte. No port is opened and no driver is needed.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// A page of many drills is printed within seconds; a browser that hangs must not hang the tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one page.
pub struct Browser {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<Value>,
    session: String,
    serial: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// The program, if there is one.
    pub fn program() -> Option<&'static str> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        names
            .into_iter()
            .find(|name| Command::new(name).arg("--version").output().is_ok_and(|ran| ran.status.success()))
    }

    /// Starts it. Descriptors 3 and 4 are its pipe; the shell puts our pipes there.
    pub fn start(program: &str) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null", program])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--hide-scrollbars", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let requests = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            loop {
                let mut text = Vec::new();
                match output.read_until(0, &mut text) {
                    Ok(length) if length > 1 => text.truncate(length - 1),
                    _ => break,
                }
                let Ok(answer) = serde_json::from_slice(&text) else { break };
                if sender.send(answer).is_err() {
                    break;
                }
            }
        });
        let mut browser = Browser { child, requests, answers, session: String::new(), serial: 0, _profile: profile };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"}));
        let attached = browser.ask("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true}));
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        browser.ask("Page.enable", json!({}));
        browser.ask("Network.enable", json!({}));
        browser
    }

    /// Sends a request and waits for its answer; events are passed over.
    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        let id = self.send(method, parameters);
        loop {
            let answer = self.receive(method);
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    fn send(&mut self, method: &str, parameters: Value) -> u64 {
        self.serial += 1;
        let mut request = json!({"id": self.serial, "method": method, "params": parameters});
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        self.requests.write_all(format!("{request}\0").as_bytes()).unwrap();
        self.requests.flush().unwrap();
        self.serial
    }

    fn receive(&mut self, waiting: &str) -> Value {
        self.answers.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the browser did not answer {waiting}"))
    }

    /// Opens a file at this width; gives the addresses of everything that was asked for.
    pub fn open(&mut self, file: &Path, width: u32, dark: bool) -> Vec<String> {
        self.go(&format!("file://{}", file.display()), width, dark)
    }

    /// Opens an address at this width; gives the addresses of everything that was asked for.
    pub fn go(&mut self, url: &str, width: u32, dark: bool) -> Vec<String> {
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500});
        self.ask("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.ask("Emulation.setEmulatedMedia", json!({"media": "", "features": feature}));
        let id = self.send("Page.navigate", json!({ "url": url }));
        let (mut asked, mut is_loaded, mut is_answered) = (Vec::new(), false, false);
        while !(is_loaded && is_answered) {
            let event = self.receive("Page.navigate");
            is_answered |= event["id"] == id;
            is_loaded |= event["method"] == "Page.loadEventFired";
            if event["method"] == "Network.requestWillBeSent" {
                asked.push(event["params"]["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
        }
        asked
    }

    /// Whether pages may run scripts.
    pub fn allow_scripts(&mut self, allowed: bool) {
        self.ask("Emulation.setScriptExecutionDisabled", json!({ "value": !allowed }));
    }

    /// Forgets who was signed in.
    pub fn forget(&mut self) {
        self.ask("Network.clearBrowserCookies", json!({}));
    }

    /// Waits until an expression in the page is true; a page that is just being loaded has no answer yet.
    #[track_caller]
    pub fn wait(&mut self, expression: &str) {
        let start = Instant::now();
        loop {
            let parameters = json!({"expression": format!("Boolean({expression})"), "returnByValue": true});
            let id = self.send("Runtime.evaluate", parameters);
            let answer = loop {
                let answer = self.receive("Runtime.evaluate");
                if answer["id"] == id {
                    break answer;
                }
            };
            if answer["result"]["result"]["value"] == true {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "the page never came to: {expression}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Clicks on what an expression finds, as soon as it is there: a page that loads itself again may just be without it.
    #[track_caller]
    pub fn click(&mut self, expression: &str) {
        self.wait(&format!("(() => {{ const found = {expression}; found?.click(); return found; }})()"));
    }

    /// Presses a key, as a person at the keyboard.
    pub fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let parameters = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.ask("Input.dispatchKeyEvent", parameters);
        }
    }

    /// Lays the opened page out as on paper of this width.
    pub fn as_paper(&mut self, width: u32) {
        let metrics = json!({"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", metrics);
        self.ask("Emulation.setEmulatedMedia", json!({"media": "print", "features": []}));
    }

    /// The value of an expression in the page, or of what it promises. The page's own policy forbids scripts; the debugger's is not the page's.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.ask("Runtime.evaluate", parameters);
        assert!(answer["exceptionDetails"].is_null(), "{}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// A picture of the page's upper part.
    pub fn screenshot(&mut self, height: u32) -> Vec<u8> {
        let width = self.value("document.documentElement.clientWidth");
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let parameters = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let answer = self.ask("Page.captureScreenshot", parameters);
        STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()
    }

    /// The page as PDF, of the size that its own style sheet asks for.
    pub fn print(&mut self) -> Vec<u8> {
        let parameters = json!({"printBackground": false, "preferCSSPageSize": true});
        let answer = self.ask("Page.printToPDF", parameters);
        STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
