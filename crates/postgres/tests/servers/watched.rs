//! What a status asks a server: who streams from it, and how long its certificate is good.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use lifeboat_model::lsn::Lsn;
use lifeboat_postgres::{
    Error, Replication, TlsMode,
    certificate::{self, Endpoint},
    sql, standbys,
};
use lifeboat_testkit::postgres::{Options, make_authority};
use tokio::time::{Instant, sleep, timeout};

use crate::clusters::{self, ROLE};

const PATIENCE: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_found_and_its_lag_shown() -> Result<()> {
    for major in clusters::versions() {
        let server = clusters::server(major, &Options::default())?;
        let options = clusters::options(&server);
        let client = sql::connect(&options, "postgres").await?;
        let looked = || standbys::look(&client, "lifeboat_clinic");
        assert_eq!(looked().await?, standbys::Standbys::default(), "{major}: nobody streams");

        // Our own stream, a base backup and a session that only asks are no standbys.
        let mut replication = Replication::connect(&options).await?;
        replication.identify_system().await?;
        assert_eq!(looked().await?, standbys::Standbys::default(), "{major}: it has not begun to stream");
        replication.create_physical_slot("lifeboat_clinic", false).await?;
        let identity = replication.identify_system().await?;
        let mut own = replication.start_wal(identity.flush, identity.timeline, Some("lifeboat_clinic")).await?;
        let _ = timeout(Duration::from_secs(1), own.next()).await;
        assert_eq!(looked().await?, standbys::Standbys::default(), "{major}: it is ourselves");

        let standby = server.standby("spare")?;
        server.wait_for_replay(&standby)?;
        let found = looked().await?;
        assert_eq!((found.found.len(), found.hidden), (0, 1), "{major}: the role may not see it: {found:?}");
        server.psql("postgres", &format!("GRANT pg_read_all_stats TO {ROLE}"))?;
        let found = looked().await?;
        let [one] = &found.found[..] else { anyhow::bail!("{major}: {found:?}") };
        assert_eq!((one.state.as_str(), one.sync_state.as_str(), found.hidden), ("streaming", "async", 0), "{one:?}");
        assert!(one.replayed > Some(Lsn(0)) && !one.name.is_empty() && one.address.is_some(), "{one:?}");

        // It receives and does not replay: the lag grows with the time that passes.
        standby.psql("postgres", "SELECT pg_wal_replay_pause()")?;
        standby.wait_for("SELECT pg_get_wal_replay_pause_state()", "paused")?;
        server.psql("postgres", "CREATE TABLE much AS SELECT md5(g::text) FROM generate_series(1, 5000) g")?;
        let begin = Instant::now();
        let lag = loop {
            server.psql("postgres", "SELECT pg_logical_emit_message(true, 'x', 'y')")?;
            let found = looked().await?;
            let one = found.found.first().context("it is gone")?;
            if let Some(lag) = one.lag.filter(|lag| *lag > Duration::from_secs(3)) {
                assert!(one.lag_bytes > Some(100_000), "{major}: {one:?}");
                break lag;
            }
            ensure!(begin.elapsed() < PATIENCE, "{major}: no lag is told: {one:?}");
            sleep(Duration::from_millis(300)).await;
        };
        assert!(lag < begin.elapsed() + Duration::from_secs(5), "{major}: {lag:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_certificate_is_read_whoever_signed_it() -> Result<()> {
    let Some(major) = clusters::any_version() else { return Ok(()) };
    let server = clusters::server(major, &Options { tls: true, ..Options::default() })?;
    let end = end_of(&server.root().join("server.crt"))?;
    let endpoint = |host: &str, tls, root_cert| Endpoint {
        host: host.to_owned(),
        port: server.port(),
        tls,
        root_cert,
        is_postgres: true,
    };
    let authority = Some(server.ca_file());
    let shown = certificate::look(&endpoint("localhost", TlsMode::VerifyFull, authority.clone())).await?;
    assert_eq!((shown.not_after, &shown.not_trusted), (end, &None));
    let by_address = endpoint("127.0.0.1", TlsMode::VerifyFull, authority.clone());
    let shown = certificate::look(&by_address).await?;
    assert!(shown.not_after == end && shown.not_trusted.as_ref().is_some_and(|why| why.contains("name")), "{shown:?}");
    let shown = certificate::look(&Endpoint { tls: TlsMode::VerifyCa, ..by_address }).await?;
    assert_eq!((shown.not_after, &shown.not_trusted), (end, &None));
    let shown = certificate::look(&endpoint("localhost", TlsMode::VerifyFull, None)).await?;
    assert!(shown.not_after == end && shown.not_trusted.is_some(), "nobody knows that authority: {shown:?}");
    let shown = certificate::look(&endpoint("127.0.0.1", TlsMode::Require, None)).await?;
    assert_eq!((shown.not_after, &shown.not_trusted), (end, &None), "nothing is demanded of it");

    // What begins with TLS at once, as an object store does.
    let folder = tempfile::tempdir()?;
    let crt = make_authority(folder.path(), "store")?;
    let store = TlsServer::start(folder.path())?;
    let own = Endpoint {
        port: store.port,
        is_postgres: false,
        ..endpoint("localhost", TlsMode::VerifyFull, Some(crt.clone()))
    };
    let begin = Instant::now();
    let shown = loop {
        match certificate::look(&own).await {
            Ok(shown) => break shown,
            Err(error) => ensure!(begin.elapsed() < PATIENCE, "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(shown.not_after, end_of(&crt)?);
    assert!(shown.not_trusted.is_some(), "an authority is no server, and this one has no name: {shown:?}");

    let plain = clusters::server(major, &Options::default())?;
    let error =
        certificate::look(&Endpoint { port: plain.port(), ..endpoint("localhost", TlsMode::Require, None) }).await;
    assert!(matches!(error, Err(Error::TlsRefused { .. })), "{error:?}");
    Ok(())
}

/// As openssl reads it.
fn end_of(crt: &Path) -> Result<Timestamp> {
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"])
        .arg(crt)
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let text = text.trim().strip_prefix("notAfter=").context("no date")?;
    Ok(text.replacen(' ', "T", 1).parse()?)
}

struct TlsServer {
    process: Child,
    port: u16,
}

impl TlsServer {
    fn start(folder: &Path) -> Result<TlsServer> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new("openssl")
            .args(["s_server", "-quiet", "-accept", &port.to_string(), "-cert", "store.crt", "-key", "store.key"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(TlsServer { process, port })
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
