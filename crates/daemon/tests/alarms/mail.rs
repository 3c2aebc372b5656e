//! Mail through a real SMTP server with STARTTLS and a password, which goes away and comes back.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use lifeboat_testkit::testbed;

use super::site::{Site, within};

struct Server(Child);

impl Server {
    fn start(site: &Site, port: u16) -> Server {
        let packages = testbed::state_dir().join("smtp/usr/lib/python3/dist-packages");
        assert!(packages.exists(), "{} is missing; run testbed/packages smtp", packages.display());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alarms/smtp.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(port.to_string())
            .args([site.path("letters"), site.path("server.pem"), site.path("server.key")])
            .env("PYTHONPATH", packages)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Server(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn certificate(site: &Site) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .arg("-keyout")
        .arg(site.path("server.key"))
        .arg("-out")
        .arg(site.path("server.pem"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn letters(site: &Site) -> Vec<String> {
    let mut files: Vec<_> = fs::read_dir(site.path("letters")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "eml"));
    files.sort_by_key(|file| fs::metadata(file).unwrap().modified().unwrap());
    files.iter().map(|file| fs::read_to_string(file).unwrap().replace("\r\n ", " ").replace("\r\n", "\n")).collect()
}

fn header<'a>(letter: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    letter.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_sealed_threaded_and_outlast_a_server_that_is_away() {
    if !testbed::enabled() {
        return;
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let site = Arc::new(Site::new(&format!(
        "[notify.channels.mail]\nkind = \"mail\"\nhost = \"localhost\"\nport = {port}\nca_file = \"server.pem\"\n\
         user = \"lifeboat\"\npassword_file = \"password\"\nfrom = \"Lifeboat <lifeboat@example.org>\"\n\
         to = [\"ops@example.org\", \"Ann <ann@example.org>\"]\n"
    )));
    certificate(&site);
    fs::create_dir(site.path("letters")).unwrap();
    site.write("password", "wrong");
    let server = Server::start(&site, port);
    let served = site.serve().await;
    served.breaks("docker");
    within("a wrong password is a trouble", async || served.lacks("channel mail").then_some(())).await;
    assert!(letters(&site).is_empty());
    site.write("password", "letter-secret");
    within("a letter", async || (letters(&site).len() == 1).then_some(())).await;
    let alarm = letters(&site).remove(0);
    assert_eq!(header(&alarm, "X-Recipients"), "ops@example.org ann@example.org");
    assert!(header(&alarm, "Subject").starts_with("[warning] nothing can be rehearsed"), "{alarm}");
    assert!(alarm.contains("text/plain") && alarm.contains("text/html") && alarm.contains("docker does not answer"));
    assert_eq!(header(&alarm, "Auto-Submitted"), "auto-generated");
    // The server goes away; what ends then is told when it is back, and refers to the alarm.
    drop(server);
    served.mends("docker");
    within("the server is missed", async || served.lacks("channel mail").then_some(())).await;
    served.stop().await;
    let served = site.serve().await;
    let _server = Server::start(&site, port);
    within("the end is told", async || (letters(&site).len() == 2).then_some(())).await;
    let end = letters(&site).remove(1);
    assert!(header(&end, "Subject").starts_with("[resolved] no longer: nothing can be rehearsed"), "{end}");
    assert_eq!(header(&end, "References"), header(&alarm, "Message-ID"));
    assert_eq!(header(&end, "In-Reply-To"), header(&alarm, "Message-ID"));
    within("nothing is missed", async || (!served.lacks("channel mail")).then_some(())).await;
    served.stop().await;
}
