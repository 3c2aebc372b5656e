//! The browser, shut in: namespaces for network, mounts and processes of its own, user nobody, files in memory.
//!
//! The network has a loopback device and nothing else. A thread of ours enters it to open the one port that is there, behind
//! which [`Gate`] stands; the sockets of that port stay in that network, the gate's way to Odoo is in ours. The first process of
//! the process namespace ends all others with it, and ends itself with ours (`setpriv --pdeathsig`, `unshare --kill-child`),
//! so nothing is left, however a drill ends.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    os::fd::AsFd as _,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    sync::oneshot,
};
use url::Url;

use super::{
    devtools::{Devtools, Shot},
    gate::{self, Gate},
};
use crate::error::{Error, Result};

/// Names under which distributions have it.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// What shuts it in.
const TOOLS: [&str; 4] = ["unshare", "setpriv", "mount", "ip"];
/// Where programs are; the caller's environment is not asked.
const FOLDERS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// In a network where nothing else listens.
const PORT: u16 = 3128;
/// How much of the browser's complaints is kept.
const WORDS: u64 = 4096;

/// First process of its namespace. Says when the network is there, waits until the gate is open, and from then on its input
/// and output are the browser's: it is told what to do through descriptors 3 and 4 ([`devtools`](super::devtools)).
/// The browser's own sandbox is used where the kernel lets nobody make one.
const SCRIPT: &str = r#"
set -eu
ulimit -c 0
ip link set lo up
mount -t tmpfs -o mode=0700,uid=65534,gid=65534,size=512m,nosuid,nodev tmpfs /tmp
cd /tmp
export HOME=/tmp
nobody='setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --'
own=
$nobody unshare --user true 2>/dev/null || own=--no-sandbox
echo ready
read -r opened
exec $nobody nice -n 5 "$1" $own --headless --disable-gpu --disable-dev-shm-usage --user-data-dir=/tmp/profile \
  --remote-debugging-pipe --proxy-server="http://127.0.0.1:$2" --proxy-bypass-list='<-loopback>' \
  --host-resolver-rules='MAP * ~NOTFOUND, EXCLUDE 127.0.0.1' \
  --webrtc-ip-handling-policy=disable_non_proxied_udp --force-webrtc-ip-handling-policy \
  --disable-quic --dns-prefetch-disable --no-pings --disable-background-networking --disable-component-update \
  --disable-domain-reliability --disable-client-side-phishing-detection --disable-sync --disable-default-apps \
  --disable-extensions --disable-breakpad --no-first-run --no-default-browser-check --hide-scrollbars \
  --window-size=1280,900 about:blank 3<&0 4>&1 >/dev/null </dev/null
"#;

/// A browser, and what shuts it in.
pub(super) struct Kit {
    browser: PathBuf,
}

impl Kit {
    /// Looks for everything; says what is missing.
    pub fn find() -> std::result::Result<Kit, String> {
        let browser = BROWSERS.iter().find_map(|name| find(name));
        let browser = browser.ok_or("no Chromium on this host: chromium, chromium-browser or google-chrome")?;
        if let Some(missing) = TOOLS.iter().find(|name| find(name).is_none()) {
            return Err(format!("no program {missing} on this host, without which the browser cannot be shut in"));
        }
        if !rustix::process::geteuid().is_root() {
            return Err("the browser can be shut in by root alone".to_owned());
        }
        Ok(Kit { browser })
    }
}

fn find(name: &str) -> Option<PathBuf> {
    FOLDERS.split(':').map(|folder| PathBuf::from(folder).join(name)).find(|path| path.is_file())
}

/// Starts the browser with the gate as its only way, and takes a picture of a page once it shows
/// something, or the patience is over. Whoever stops waiting ends it.
pub(super) async fn shoot(kit: &Kit, page: &Url, gate: &Arc<Gate>, patience: Duration) -> Result<Shot> {
    let mut browser = start(kit)?;
    let gone = || Error::Task("the browser's output was taken already".to_owned());
    let mut output = BufReader::new(browser.stdout.take().ok_or_else(gone)?);
    let mut input = browser.stdin.take().ok_or_else(gone)?;
    let complaints = browser.stderr.take().ok_or_else(gone)?;
    let complaints = tokio::spawn(async move {
        let mut words = Vec::new();
        let _ = complaints.take(WORDS).read_to_end(&mut words).await;
        String::from_utf8_lossy(&words).trim().to_owned()
    });

    let io = |what| Error::io(what, kit.browser.clone());
    let mut line = String::new();
    (&mut output).take(64).read_line(&mut line).await.map_err(io("cannot read from"))?;
    if line.trim() != "ready" {
        return Err(failed(browser, complaints.await.unwrap_or_default()).await);
    }
    let listener = listen_inside(browser.id().ok_or_else(gone)?).await?;
    let serving = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(gate::serve(listener, Arc::clone(gate))));
    input.write_all(b"open\n").await.map_err(io("cannot write to"))?;
    let shot = Devtools::new(input, output).shoot(page, patience).await;
    let ended = browser.try_wait().ok().flatten().is_some();
    let _ = browser.start_kill();
    drop(serving);
    match shot {
        Err(_) if ended => Err(failed(browser, complaints.await.unwrap_or_default()).await),
        shot => shot,
    }
}

fn start(kit: &Kit) -> Result<Child> {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child"])
        .args(["--mount-proc", "sh", "-c", SCRIPT, "sh"])
        .arg(&kit.browser)
        .arg(PORT.to_string())
        .env_clear()
        .env("PATH", FOLDERS)
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::io("cannot start", &kit.browser))
}

async fn failed(mut browser: Child, words: String) -> Error {
    let _ = browser.start_kill();
    let code = browser.wait().await.ok().and_then(|status| status.code()).unwrap_or(-1);
    Error::Program { program: "chromium".to_owned(), role: "browser", code: i64::from(code), output: words }
}

/// Opens the port in the network of a process. A thread that went there does not come back: it ends.
async fn listen_inside(process: u32) -> Result<tokio::net::TcpListener> {
    let path = PathBuf::from(format!("/proc/{process}/ns/net"));
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let listener = File::open(&path).and_then(|network| {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))
        });
        let _ = sender.send(listener.map_err(Error::io("cannot open a port in", path)));
    });
    let listener = receiver.await.map_err(|error| Error::Task(error.to_string()))??;
    let failed = || Error::io("cannot listen on", format!("port {PORT}"));
    listener.set_nonblocking(true).map_err(failed())?;
    tokio::net::TcpListener::from_std(listener).map_err(failed())
}
