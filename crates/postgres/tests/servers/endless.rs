//! A stream over days: servers that stop, fall and are replaced while it runs.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use lifeboat_model::lsn::{Lsn, segment_file_name};
use lifeboat_postgres::{
    ConnectOptions, Error, Replication, WalStream, slot, sql, timeline,
    wal::{WalDecoder, WalEvent},
};
use lifeboat_testkit::{
    postgres::{Options, Postgres},
    proxy::{Fault, Proxy},
};
use tokio::time::timeout;

use crate::clusters;

const SEGMENT: u64 = 16 << 20;
const LIMIT: Duration = Duration::from_secs(60);
const SLOT: &str = "endless";

/// What came over any number of connections.
struct Received {
    start: Lsn,
    bytes: Vec<u8>,
    decoder: WalDecoder,
    commits: usize,
}

impl Received {
    fn new(start: Lsn) -> Received {
        Received { start, bytes: Vec::new(), decoder: WalDecoder::new(start, SEGMENT), commits: 0 }
    }

    fn position(&self) -> Lsn {
        Lsn(self.start.0 + self.bytes.len() as u64)
    }

    /// Takes what is there, up to a position at least, or up to what ends the stream.
    async fn take(&mut self, stream: &mut WalStream, until: Lsn) -> Result<Option<Error>> {
        while self.position() < until {
            match timeout(LIMIT, stream.next()).await.context("the stream is silent")? {
                Ok(Some(chunk)) => {
                    assert_eq!(chunk.start, self.position());
                    self.decoder.feed(chunk.start, &chunk.bytes, &mut |event| {
                        self.commits += usize::from(matches!(event, WalEvent::Commit(_)));
                    })?;
                    self.bytes.extend_from_slice(&chunk.bytes);
                }
                Ok(None) => return Ok(None),
                Err(error) => return Ok(Some(error)),
            }
        }
        Ok(None)
    }

    /// Compares with the segment files of a server.
    fn assert_equals_files(&self, server: &Postgres, timeline: u32) -> Result<()> {
        let mut at = self.start;
        while at < self.position() {
            let end = Lsn(self.position().0.min(at.segment_start(SEGMENT).0 + SEGMENT));
            let name = segment_file_name(timeline, at.segment(SEGMENT), SEGMENT);
            let file = fs::read(server.data_dir().join("pg_wal").join(&name)).context(name)?;
            let part = &self.bytes[(at.0 - self.start.0) as usize..(end.0 - self.start.0) as usize];
            assert!(&file[(at.0 % SEGMENT) as usize..][..part.len()] == part, "WAL from {at} to {end} differs");
            at = end;
        }
        Ok(())
    }
}

async fn stream(options: &ConnectOptions, from: Lsn, timeline: u32) -> Result<WalStream> {
    Ok(Replication::connect(options).await?.start_wal(from, timeline, Some(SLOT)).await?)
}

async fn begin(options: &ConnectOptions) -> Result<(WalStream, Received)> {
    let mut replication = Replication::connect(options).await?;
    replication.create_physical_slot(SLOT, false).await?;
    let client = sql::connect(options, "postgres").await?;
    let restart = slot::look(&client, SLOT).await?.and_then(|slot| slot.restart).context("no position")?;
    let from = restart.segment_start(SEGMENT);
    Ok((replication.start_wal(from, 1, Some(SLOT)).await?, Received::new(from)))
}

fn flush_position(server: &Postgres) -> Result<Lsn> {
    Ok(server.flush_lsn()?.parse()?)
}

/// A server that is shut down waits until all that it has sent is acknowledged, and asks for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_shutdown_loses_nothing() -> Result<()> {
    for major in clusters::versions() {
        let conf = vec!["wal_keep_size = 1GB".to_owned()];
        let mut server = clusters::server(major, &Options { conf, ..Options::default() })?;
        let options = clusters::options(&server);
        let (mut stream, mut received) = begin(&options).await?;
        server.pgbench_init("postgres", 1)?;
        received.take(&mut stream, flush_position(&server)?).await?;
        stream.acknowledge(received.position());
        server.psql("postgres", "UPDATE pgbench_branches SET bbalance = 1")?;

        let mut requests = stream.requests();
        requests.mark_unchanged();
        server.signal("INT")?;
        // All WAL comes, with the last checkpoint; then the server asks, and stays up.
        let asked = async {
            tokio::select! {
                changed = requests.changed() => changed.map_err(anyhow::Error::from),
                ended = received.take(&mut stream, Lsn(u64::MAX)) => anyhow::bail!("it did not wait: {ended:?}"),
            }
        };
        timeout(LIMIT, asked).await.context("the server does not ask")??;
        assert!(server.is_running(), "{major}: what was sent is not acknowledged");
        stream.acknowledge(received.position());
        let acknowledge_all = async {
            loop {
                let next = Lsn(received.position().0 + 1);
                if let Some(error) = received.take(&mut stream, next).await? {
                    return Ok::<_, anyhow::Error>(error);
                }
                stream.acknowledge(received.position());
            }
        };
        let ended = timeout(LIMIT, acknowledge_all).await.context("the server does not stop")??;
        let position = received.position();
        assert!(matches!(&ended, Error::ServerStopped { end, .. } if *end == position), "{major}: {ended:?}");
        assert!(ended.is_transient());
        server.stop().ok();
        received.assert_equals_files(&server, 1)?;

        server.resume()?;
        let checkpoint: Lsn = server.psql("postgres", "SELECT checkpoint_lsn FROM pg_control_checkpoint()")?.parse()?;
        assert!(checkpoint < position, "{major}: the last checkpoint at {checkpoint} was not received");
        let mut stream = self::stream(&options, position, 1).await?;
        server.psql("postgres", "UPDATE pgbench_branches SET bbalance = 2")?;
        let commits = received.commits;
        assert!(received.take(&mut stream, flush_position(&server)?).await?.is_none());
        assert!(received.commits > commits);
    }
    Ok(())
}

/// A network that is cut, and one that swallows everything without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_network_is_noticed() -> Result<()> {
    let Some(major) = clusters::any_version() else { return Ok(()) };
    let server = clusters::server(major, &Options::default())?;
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], server.port()))).await;
    let options = ConnectOptions { port: proxy.address().port(), ..clusters::options(&server) };
    let (mut stream, mut received) = begin(&options).await?;
    for fault in [Fault::CutRequest(0), Fault::SwallowReply] {
        received.take(&mut stream, flush_position(&server)?).await?;
        // The next status, which is what the client sends while it streams.
        let struck = proxy.struck();
        proxy.arm("r", fault);
        stream.acknowledge(received.position());
        while proxy.struck() == struck {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.psql("postgres", "SELECT pg_switch_wal()")?;
        let error = received.take(&mut stream, Lsn(u64::MAX)).await?.context("the stream goes on")?;
        assert!(error.is_transient(), "{error:?}");
        if fault == Fault::SwallowReply {
            assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        }
        drop(stream);
        server.wait_for("SELECT count(*) FROM pg_stat_replication", "0")?;
        stream = self::stream(&options, received.position(), 1).await?;
    }
    received.take(&mut stream, flush_position(&server)?).await?;
    received.assert_equals_files(&server, 1)
}

/// A shutdown does not wait for ever for a receiver that cannot store what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_does_not_wait_for_storage_that_is_away() -> Result<()> {
    let Some(major) = clusters::any_version() else { return Ok(()) };
    let mut server = clusters::server(major, &Options::default())?;
    let options = clusters::options(&server);
    let (mut stream, mut received) = begin(&options).await?;
    received.take(&mut stream, flush_position(&server)?).await?;
    stream.acknowledge(received.position());
    // From now on nothing is acknowledged.
    server.pgbench_init("postgres", 1)?;
    received.take(&mut stream, flush_position(&server)?).await?;
    server.signal("INT")?;
    let error = received.take(&mut stream, Lsn(u64::MAX)).await?.context("the stream goes on")?;
    assert!(matches!(error, Error::ReceiverStalled { .. }), "{error:?}");
    let mut tries = 0;
    while server.is_running() {
        tries += 1;
        assert!(tries < 300, "the server still waits");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.stop().ok();
    server.resume()?;
    let client = sql::connect(&options, "postgres").await?;
    let kept = slot::look(&client, SLOT).await?.and_then(|slot| slot.restart).context("no position")?;
    assert!(kept < received.position(), "what was not stored is still there");
    let mut stream = self::stream(&options, received.position(), 1).await?;
    server.psql("postgres", "CREATE TABLE done (x int)")?;
    assert!(received.take(&mut stream, flush_position(&server)?).await?.is_none());
    Ok(())
}

/// Load, while the server is stopped at once again and again: what came before goes on where it ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_after_each_fall() -> Result<()> {
    for major in clusters::versions() {
        let conf = vec!["wal_keep_size = 1GB".to_owned()];
        let mut server = clusters::server(major, &Options { conf, ..Options::default() })?;
        let options = clusters::options(&server);
        server.pgbench_init("postgres", 1)?;
        let (mut stream, mut received) = begin(&options).await?;
        for round in 0..4 {
            let load = server.pgbench(&["-n", "-c", "4", "-T", "60", "postgres"])?;
            let until = Lsn(received.position().0 + (2 << 20));
            assert!(received.take(&mut stream, until).await?.is_none());
            stream.acknowledge(received.position());
            if round % 2 == 0 {
                server.stop_immediate()?;
                load.stop()?;
                server.resume()?;
            } else {
                server.psql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")?;
                load.stop()?;
            }
            let error = received.take(&mut stream, Lsn(u64::MAX)).await?.context("the stream goes on")?;
            assert!(error.is_transient(), "{major}: {error:?}");
            let busy = |slot: slot::Slot| slot.active;
            let client = sql::connect(&options, "postgres").await?;
            while slot::look(&client, SLOT).await?.is_some_and(busy) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            stream = self::stream(&options, received.position(), 1).await?;
        }
        server.psql("postgres", "CREATE TABLE done (x int)")?;
        assert!(received.take(&mut stream, flush_position(&server)?).await?.is_none());
        let told: usize = server.psql("postgres", "SELECT count(*) FROM pgbench_history")?.parse()?;
        assert!(received.commits > told, "{major}: {} commits for {told} rows", received.commits);
        received.assert_equals_files(&server, 1)?;
    }
    Ok(())
}

/// The standby that is streamed from becomes the primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_is_followed() -> Result<()> {
    for major in clusters::versions() {
        let mut primary = clusters::server(major, &Options::default())?;
        primary.pgbench_init("postgres", 1)?;
        let standby = primary.standby("standby")?;
        let options = clusters::options(&standby);
        primary.wait_for_replay(&standby)?;
        standby.create_slot(SLOT)?;
        let client = sql::connect(&options, "postgres").await?;
        let restart = slot::look(&client, SLOT).await?.and_then(|slot| slot.restart).context("no position")?;
        let from = restart.segment_start(SEGMENT);
        let mut stream = self::stream(&options, from, 1).await?;
        let mut received = Received::new(from);
        primary.pgbench(&["-n", "-c", "2", "-t", "50", "postgres"])?.finish()?;
        let flushed = flush_position(&primary)?;
        received.take(&mut stream, flushed).await?;
        stream.acknowledge(received.position());
        primary.stop_immediate()?;
        standby.promote()?;
        standby.psql("postgres", "UPDATE pgbench_branches SET bbalance = 3")?;

        assert!(received.take(&mut stream, Lsn(u64::MAX)).await?.is_none(), "{major}: the timeline ends in order");
        let ended = stream.stop().await?;
        let (next, switch) = ended.next_timeline.context("no next timeline")?;
        assert_eq!((next, switch), (2, received.position()), "{major}");
        let mut replication = ended.replication;
        assert_eq!(replication.identify_system().await?.timeline, 2);
        let (_, history) = replication.timeline_history(2).await?;
        assert_eq!(timeline::parse_history(&history)?[0].end, switch);

        // The new timeline's first segment begins with the old one's bytes.
        let begin = switch.segment_start(SEGMENT);
        let mut stream = replication.start_wal(begin, 2, Some(SLOT)).await?;
        let mut newer = Received::new(begin);
        assert!(newer.take(&mut stream, flush_position(&standby)?).await?.is_none());
        let shared = (begin.0 - received.start.0) as usize;
        let old = &received.bytes[shared..];
        assert!(newer.bytes.starts_with(old), "{major}: the new timeline does not continue the old");
        newer.assert_equals_files(&standby, 2)?;
        assert!(newer.commits > 0);
    }
    Ok(())
}
