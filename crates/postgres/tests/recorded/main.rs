//! Base backups as real servers sent them, replayed by a server that only speaks the login: whole, cut off anywhere, and
//! with what else a server may say on the way; and WAL as real servers wrote it. And one that is gone. No Docker.

mod farewell;
mod wal;

use anyhow::{Context as _, Result};
use lifeboat_model::lsn::Lsn;
use lifeboat_postgres::{
    BackupEvent, BaseBackupOptions, ConnectOptions, Error, Replication, TlsMode,
    manifest::{self, Manifest},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const V13: &[u8] = include_bytes!("13-base-backup.bin");
const V17: &[u8] = include_bytes!("17-base-backup.bin");
const BOTH: [(&str, &[u8]); 2] = [("13.16", V13), ("17.11", V17)];

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short messages");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// The positions right behind each message.
fn ends(recording: &[u8]) -> Vec<usize> {
    let mut ends = vec![0];
    let mut at = 0;
    while at < recording.len() {
        let length: [u8; 4] = recording[at + 1..at + 5].try_into().expect("four bytes");
        at += 1 + u32::from_be_bytes(length) as usize;
        ends.push(at);
    }
    ends
}

/// The recording with a message put before the nth message of a kind.
fn with(recording: &[u8], kind: u8, nth: usize, inserted: &[u8]) -> Vec<u8> {
    let starts = ends(recording);
    let at = starts.iter().filter(|at| recording.get(**at) == Some(&kind)).nth(nth).expect("a message of this kind");
    [&recording[..*at], inserted, &recording[*at..]].concat()
}

/// The recording without the nth message of a kind.
fn without(recording: &[u8], kind: u8, nth: usize) -> Vec<u8> {
    let ends = ends(recording);
    let index = (0..ends.len() - 1).filter(|index| recording[ends[*index]] == kind).nth(nth).expect("such a message");
    [&recording[..ends[index]], &recording[ends[index + 1]..]].concat()
}

/// The recording without the message behind the tar header of a file.
fn without_content(recording: &[u8], name: &[u8]) -> Vec<u8> {
    let ends = ends(recording);
    let is_header = |pair: &[usize]| {
        recording[pair[0]..pair[1]]
            .get(5..)
            .is_some_and(|body| body.starts_with(name) || body.starts_with(&[b"d", name].concat()))
    };
    let index = ends.windows(2).position(is_header).expect("the header");
    [&recording[..ends[index + 1]], &recording[ends[index + 2]..]].concat()
}

fn error(code: &str, routine: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{code}\0Mprüfsumme\0R{routine}\0\0").as_bytes())
}

fn warning(text: &str, routine: &str) -> Vec<u8> {
    message(b'N', format!("SWARNUNG\0VWARNING\0C01000\0M{text}\0R{routine}\0\0").as_bytes())
}

/// Lets one client in without a password.
async fn greet(client: &mut TcpStream, version: &str) -> Result<()> {
    let length = client.read_u32().await?;
    client.read_exact(&mut vec![0; length as usize - 4]).await?;
    let version = format!("server_version\0{version} (Debian)\0");
    let greeting = [
        message(b'R', &[0, 0, 0, 0]),
        message(b'S', version.as_bytes()),
        message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]),
        message(b'Z', b"I"),
    ];
    Ok(client.write_all(&greeting.concat()).await?)
}

/// Lets one client in, and answers its first command with these bytes.
async fn serve(mut client: TcpStream, version: &str, answer: &[u8]) -> Result<()> {
    greet(&mut client, version).await?;
    assert_eq!(client.read_u8().await?, b'Q');
    let length = client.read_u32().await?;
    client.read_exact(&mut vec![0; length as usize - 4]).await?;
    // The client may have seen enough and be gone.
    let _ = client.write_all(answer).await;
    let _ = client.shutdown().await;
    Ok(())
}

/// What came, as lines; and the manifest.
struct Told {
    lines: Vec<String>,
    manifest: Vec<u8>,
    end: Result<(Lsn, u32), Error>,
}

async fn replay(version: &str, answer: &[u8]) -> Result<Told> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let mut options = ConnectOptions::new("127.0.0.1", listener.local_addr()?.port(), "lifeboat");
    options.tls = TlsMode::Disable;
    let (version, answer) = (version.to_owned(), answer.to_owned());
    let server = tokio::spawn(async move { serve(listener.accept().await?.0, &version, &answer).await });
    let replication = Replication::connect(&options).await?;
    let mut backup = replication.base_backup(BaseBackupOptions::default()).await?;
    let mut told = Told { lines: vec![], manifest: vec![], end: Ok((Lsn(0), 0)) };
    let mut content = Vec::new();
    loop {
        match backup.next().await {
            Ok(Some(BackupEvent::Data(bytes))) => content.extend_from_slice(&bytes),
            Ok(Some(BackupEvent::Manifest(bytes))) => told.manifest.extend_from_slice(&bytes),
            Ok(Some(BackupEvent::Finished { end, timeline })) => told.end = Ok((end, timeline)),
            Ok(Some(BackupEvent::Started { start, timeline, tablespaces, .. })) => {
                let locations: Vec<_> = tablespaces.iter().map(|one| format!("{} {}", one.oid, one.location)).collect();
                told.lines.push(format!("start {start} {timeline} {}", locations.join(",")));
            }
            Ok(Some(BackupEvent::File { path, size, .. })) => {
                told.lines.push(format!("file {} {size}", String::from_utf8(path)?));
            }
            Ok(Some(BackupEvent::EndFile)) => {
                told.lines.push(format!("content {}", std::mem::take(&mut content).len()))
            }
            Ok(Some(BackupEvent::Directory { path, .. })) => {
                told.lines.push(format!("dir {}", String::from_utf8(path)?))
            }
            Ok(Some(BackupEvent::Symlink { path, target, .. })) => {
                told.lines.push(format!("link {} {}", String::from_utf8(path)?, String::from_utf8(target)?));
            }
            Ok(None) => break,
            Err(error) => {
                told.end = Err(error);
                break;
            }
        }
    }
    drop(backup);
    server.await??;
    Ok(told)
}

#[tokio::test]
async fn recordings() -> Result<()> {
    for (version, recording) in BOTH {
        let told = replay(version, recording).await?;
        let (end, timeline) = told.end?;
        let expected = if version == "13.16" { Lsn(0x200_0100) } else { Lsn(0x200_0120) };
        assert_eq!((end, timeline), (expected, 1), "{version}");
        let major = &version[..2];
        assert_eq!(told.lines[0], format!("start 0/2000028 1 16384 /tmp/rec/{major}/ts"));
        assert!(told.lines[1].starts_with(&format!("dir pg_tblspc/16384/PG_{major}_")), "{:?}", told.lines[1]);
        assert!(told.lines.contains(&format!("link pg_tblspc/16384 /tmp/rec/{major}/ts")));
        let at = told.lines.iter().position(|line| line == "file PG_VERSION 3").context("no PG_VERSION")?;
        assert_eq!(told.lines[at + 1], "content 3");
        assert!(told.lines.iter().any(|line| line.starts_with("file backup_label 2")), "{:?}", told.lines);
        let Manifest { summary, files } = manifest::parse(told.manifest.as_slice())?;
        assert_eq!(summary.version, if version == "13.16" { 1 } else { 2 });
        assert_eq!(summary.wal_ranges[0].end, end);
        assert!(files.len() > 900 && files.iter().all(|file| file.checksum.is_some()), "{}", files.len());
    }
    Ok(())
}

#[tokio::test]
async fn a_cut_anywhere_is_never_a_backup() -> Result<()> {
    for (version, recording) in BOTH {
        let ends = ends(recording);
        let cuts = ends.iter().rev().skip(1).take(12).chain(ends.iter().step_by(7)).copied();
        let cuts = cuts.filter(|cut| *cut < recording.len());
        for cut in cuts.chain([3, recording.len() / 2, recording.len() - 1]) {
            let told = replay(version, &recording[..cut]).await?;
            assert!(matches!(told.end, Err(Error::ConnectionLost { .. })), "{version} cut at {cut}: {:?}", told.end);
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_error_after_the_copy_fails_the_backup() -> Result<()> {
    for (version, recording) in BOTH {
        // As a server does it: warnings while it copies, the end position, then the error instead of the last message.
        let named = warning("Prüfsumme falsch in »base/1/1259«, Block 7", "sendFile");
        let summed = warning("3 Fehler insgesamt", "perform_base_backup");
        let warned = with(recording, b'c', 0, &[named, summed].concat());
        let told = replay(version, &warned).await?;
        assert!(told.end.is_ok(), "warnings alone are no failure");
        let failed = with(&without(&warned, b'C', 3), b'Z', 0, &error("XX001", "perform_base_backup"));
        match replay(version, &failed).await?.end {
            Err(Error::ChecksumFailure { count, examples, .. }) => {
                assert_eq!(count, 3);
                assert!(examples[0].contains("Block 7"));
            }
            other => panic!("{version}: {other:?}"),
        }
        // Any other error at the same place; and one that ends the session.
        let failed = with(recording, b'Z', 0, &error("53100", "x"));
        assert!(
            matches!(replay(version, &failed).await?.end, Err(Error::Statement { cause, .. }) if cause.code == "53100")
        );
        let shut_down = with(recording, b'c', 0, &error("57P01", "ProcessInterrupts"));
        let cut =
            ends(&shut_down).into_iter().find(|end| shut_down[*end..].starts_with(b"c")).context("no end of copy")?;
        assert!(matches!(replay(version, &shut_down[..cut]).await?.end, Err(Error::ServerUnavailable { .. })));
    }
    Ok(())
}

#[tokio::test]
async fn what_is_missing_or_out_of_order_is_refused() -> Result<()> {
    for (version, recording) in BOTH {
        let check = async |answer: Vec<u8>, what: &str| -> Result<()> {
            let end = replay(version, &answer).await?.end;
            assert!(matches!(end, Err(Error::Protocol { .. })), "{version}, {what}: {end:?}");
            Ok(())
        };
        check(without(recording, b'D', 0), "no start position").await?;
        check(without(recording, b'D', 3), "no end position").await?;
        check(without(recording, b'D', 1), "an archive that is not in the list").await?;
        check(without_content(recording, b"backup_label\0"), "a hole in an archive").await?;
        check(with(recording, b'Z', 0, &message(b'W', &[0, 0, 0])), "a stream").await?;
        check(with(recording, b'd', 40, &message(b'D', &[0, 0])), "a row in a copy").await?;
        check(with(recording, b'd', 0, &message(b'd', b"x?")), "a piece of no kind").await?;
        check(with(recording, b'd', 9, &message(b'd', &[b'd'; 600])), "no tar header").await?;
    }
    // 13: without the copy of the manifest.
    let mut no_manifest = V13.to_vec();
    let copies: Vec<usize> = ends(V13).into_iter().filter(|at| matches!(V13.get(*at), Some(b'H' | b'c'))).collect();
    let last = ends(V13).into_iter().find(|at| *at > copies[5]).context("an end")?;
    no_manifest.drain(copies[4]..last);
    assert!(matches!(replay("13.16", &no_manifest).await?.end, Err(Error::Protocol { .. })));
    Ok(())
}

#[tokio::test]
async fn unknown_versions_are_refused() -> Result<()> {
    for version in ["12.22", "9.6.24", "19.1", "EnterpriseDB"] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let mut options = ConnectOptions::new("127.0.0.1", listener.local_addr()?.port(), "lifeboat");
        options.tls = TlsMode::Disable;
        let server = tokio::spawn(async move { serve(listener.accept().await?.0, version, &[]).await });
        let error = Replication::connect(&options).await.expect_err("it was accepted");
        assert!(matches!(&error, Error::UnsupportedVersion { .. }) && error.to_string().contains(version), "{error}");
        server.abort();
    }
    Ok(())
}
