//! Every reason not to be let in is told apart, and says what to do.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use lifeboat_model::secret::Secret;
use lifeboat_postgres::{ConnectOptions, Error, Replication, TlsMode, sql};
use lifeboat_testkit::postgres::{self, Options};

use crate::clusters::{self, ROLE};

async fn refused(options: &ConnectOptions) -> Error {
    let error = Replication::connect(options).await.expect_err("it let us in");
    let text = format!("{error} {error:?}");
    for secret in [clusters::ROLE_PASSWORD, "wrong-secret"] {
        assert!(!text.contains(secret), "a secret in: {text}");
    }
    error
}

macro_rules! assert_refused {
    ($options:expr, $pattern:pat) => {{
        let error = refused($options).await;
        assert!(matches!(error, $pattern), "{error:?}");
        error
    }};
}

#[tokio::test]
async fn logins() -> Result<()> {
    for major in clusters::versions() {
        let server = clusters::server(major, &Options::default())?;
        let good = clusters::options(&server);
        let mut session = Replication::connect(&good).await?;
        assert_eq!(session.server_version() / 10_000, major);
        let identity = session.identify_system().await?;
        let control = server.psql("postgres", "SELECT system_identifier FROM pg_control_system()")?;
        assert_eq!((identity.system_id.to_string(), identity.timeline), (control, 1));
        let error = session.timeline_history(1).await.unwrap_err();
        assert!(matches!(error, Error::Statement { .. }), "{error}");
        assert_eq!(session.wal_segment_size().await?, 16 << 20, "the session goes on after an error");
        session.close().await;

        let wrong = ConnectOptions { password: Some(Secret::new("wrong-secret")), ..good.clone() };
        assert_refused!(&wrong, Error::WrongPassword { .. });
        assert!(matches!(sql::connect(&wrong, "postgres").await, Err(Error::WrongPassword { .. })));
        assert_refused!(&ConnectOptions { password: None, ..good.clone() }, Error::PasswordMissing { .. });
        assert!(matches!(
            sql::connect(&ConnectOptions { password: None, ..good.clone() }, "postgres").await,
            Err(Error::PasswordMissing { .. })
        ));
        assert_refused!(&ConnectOptions { user: "nobody".into(), ..good.clone() }, Error::WrongPassword { .. });

        server.psql("postgres", &format!("ALTER ROLE {ROLE} NOREPLICATION"))?;
        assert_refused!(&good, Error::NoReplicationRight { .. });
        server.psql("postgres", &format!("ALTER ROLE {ROLE} REPLICATION NOLOGIN"))?;
        assert_refused!(&good, Error::LoginRefused { .. });
        server.psql("postgres", &format!("ALTER ROLE {ROLE} LOGIN"))?;

        server.write_hba(&["local all all trust".into(), "host all all all scram-sha-256".into()])?;
        server.psql("postgres", "SELECT pg_reload_conf()")?;
        let error = assert_refused!(&good, Error::NoHbaEntry { .. });
        assert!(error.to_string().contains("host replication lifeboat"), "{error}");
        let no_database = sql::connect(&good, "no such database").await.unwrap_err();
        assert!(matches!(&no_database, Error::Statement { cause, .. } if cause.code == "3D000"), "{no_database}");

        assert_refused!(&ConnectOptions { tls: TlsMode::Require, ..good.clone() }, Error::TlsRefused { .. });
    }
    Ok(())
}

#[tokio::test]
async fn nobody_there() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut options = ConnectOptions::new("127.0.0.1", listener.local_addr()?.port(), "x");
    options.tls = TlsMode::Disable;
    options.connect_timeout = Duration::from_millis(300);
    let silent = refused(&options).await;
    assert!(matches!(silent, Error::Timeout { .. }) && silent.is_transient(), "{silent:?}");
    drop(listener);
    let error = assert_refused!(&options, Error::Unreachable { .. });
    assert!(error.is_transient());
    options.host = "no-such-host.invalid".into();
    options.connect_timeout = Duration::from_secs(20);
    assert_refused!(&options, Error::Unreachable { .. } | Error::Timeout { .. });
    Ok(())
}

#[tokio::test]
async fn tls_modes() -> Result<()> {
    for major in clusters::versions() {
        let tls = Options {
            tls: true,
            hba: vec!["local all all trust".into(), HOSTSSL_ALL.into(), HOSTSSL.into()],
            ..Options::default()
        };
        let server = clusters::server(major, &tls)?;
        let stranger = postgres::make_authority(server.root(), "stranger")?;
        let with = |host: &str, tls: TlsMode, root_cert: Option<std::path::PathBuf>| ConnectOptions {
            host: host.into(),
            tls,
            root_cert,
            ..clusters::options(&server)
        };
        let ca = || Some(server.ca_file());
        let full = with("localhost", TlsMode::VerifyFull, ca());
        for good in [
            full.clone(),
            with("127.0.0.1", TlsMode::VerifyCa, ca()),
            with("127.0.0.1", TlsMode::Require, None),
            // The server's own certificate, pinned.
            with("localhost", TlsMode::VerifyFull, Some(server.root().join("server.crt"))),
        ] {
            let mut session = Replication::connect(&good).await?;
            session.identify_system().await?;
            let client = sql::connect(&good, "postgres").await?;
            let row = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await?;
            assert!(row.get::<_, bool>(0));
        }
        assert_refused!(&with("127.0.0.1", TlsMode::VerifyFull, ca()), Error::TlsHostname { .. });
        assert_refused!(
            &with("127.0.0.1", TlsMode::VerifyFull, Some(server.root().join("server.crt"))),
            Error::TlsHostname { .. }
        );
        for mode in [TlsMode::VerifyCa, TlsMode::VerifyFull] {
            assert_refused!(&with("localhost", mode, Some(stranger.clone())), Error::TlsUntrusted { .. });
        }
        assert_refused!(
            &with("localhost", TlsMode::VerifyCa, Some("/nonexistent".into())),
            Error::RootCertificate { .. }
        );
        let key = Some(server.root().join("ca.key"));
        assert_refused!(&with("localhost", TlsMode::VerifyCa, key), Error::RootCertificate { .. });
        let plain = assert_refused!(&with("127.0.0.1", TlsMode::Disable, None), Error::NoHbaEntry { .. });
        assert!(plain.server_error().is_some());

        // A backup over TLS.
        let folder = tempfile::tempdir()?;
        clusters::copy(&full, &folder.path().join("copy")).await?;
    }
    Ok(())
}

const HOSTSSL: &str = "hostssl replication all all scram-sha-256";
const HOSTSSL_ALL: &str = "hostssl all all all scram-sha-256";

/// An address of this machine that is not loopback; nothing is sent.
fn own_address() -> Result<String> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.connect(("192.0.2.1", 9))?;
    Ok(socket.local_addr()?.ip().to_string())
}

#[tokio::test]
async fn readable_passwords_are_given_only_in_private() -> Result<()> {
    let Some(major) = clusters::any_version() else { return Ok(()) };
    let address = own_address()?;
    for method in ["md5", "password"] {
        let mut options = Options { tls: true, ..Options::default() };
        options.conf = vec!["listen_addresses = '*'".into(), "password_encryption = md5".into()];
        options.hba = vec![
            "local all all trust".into(),
            format!("host all all all {method}"),
            format!("host replication all all {method}"),
        ];
        let server = clusters::server(major, &options)?;
        let open = ConnectOptions { host: address.clone(), ..clusters::options(&server) };
        assert_refused!(&open, Error::InsecureAuthentication { .. });
        Replication::connect(&ConnectOptions { tls: TlsMode::Require, ..open.clone() }).await?;
        Replication::connect(&clusters::options(&server)).await?;
        let wrong = ConnectOptions { password: Some(Secret::new("wrong-secret")), ..clusters::options(&server) };
        assert_refused!(&wrong, Error::WrongPassword { .. });
    }
    Ok(())
}

#[tokio::test]
async fn unix_sockets() -> Result<()> {
    let Some(major) = clusters::any_version() else { return Ok(()) };
    let server = clusters::server(
        major,
        &Options { conf: vec!["unix_socket_permissions = 0777".into()], ..Options::default() },
    )?;
    let host = server.root().display().to_string();
    let options = ConnectOptions { host, password: None, tls: TlsMode::VerifyFull, ..clusters::options(&server) };
    assert!(Replication::connect(&options).await?.identify_system().await?.system_id > 0);
    sql::connect(&options, "postgres").await?.simple_query("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn senders() -> Result<()> {
    for major in clusters::versions() {
        let conf = ["wal_level = minimal", "max_wal_senders = 0"].map(str::to_owned).to_vec();
        let server = clusters::server(major, &Options { conf, ..Options::default() })?;
        assert_refused!(&clusters::options(&server), Error::WalLevelMinimal { .. });

        let conf = vec!["max_wal_senders = 1".to_owned()];
        let server = clusters::server(major, &Options { conf, ..Options::default() })?;
        let first = Replication::connect(&clusters::options(&server)).await?;
        let error = assert_refused!(&clusters::options(&server), Error::NoFreeWalSender { .. });
        assert!(error.is_transient());
        first.close().await;
    }
    Ok(())
}
