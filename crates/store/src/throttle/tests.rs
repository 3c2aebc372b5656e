//! With tokio's clock, which stands still while there is something to do, rates are exact. Real stores are measured from below
//! alone: so many bytes took at least so long.

use std::{collections::HashMap, time::Instant as RealInstant};

use lifeboat_model::secret::Secret;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    Key, Store,
    local::LocalStore,
    s3::{Limits, S3Options, S3Store},
};

const MIB: u64 = 1 << 20;

fn bucket(rate: u64) -> Arc<Bucket> {
    Arc::new(Bucket::new(ByteRate::of(rate)))
}

async fn take_all(bucket: &Bucket, bytes: u64) {
    let piece = bucket.piece() as u64;
    for start in (0..bytes).step_by(piece as usize) {
        bucket.take((bytes - start).min(piece) as usize).await;
    }
}

fn is_about(span: Duration, seconds: f64) -> bool {
    (span.as_secs_f64() - seconds).abs() < seconds * 0.1
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_held() {
    for rate in [64 << 10, MIB, 50 * MIB, 1 << 30] {
        let (bucket, begun) = (bucket(rate), Instant::now());
        take_all(&bucket, 10 * rate).await;
        assert!(is_about(begun.elapsed(), 10.0), "{rate} bytes a second: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn no_second_carries_much_more_than_the_rate() {
    let bucket = bucket(MIB);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let begun = Instant::now();
    take_all(&bucket, MIB).await;
    assert!(begun.elapsed() >= Duration::from_secs(1) - SAVED, "{:?} after an hour of rest", begun.elapsed());
    take_all(&bucket, MIB).await;
    assert!(begun.elapsed() >= Duration::from_secs(2) - SAVED);
}

#[tokio::test(start_paused = true)]
async fn many_requests_share_it_evenly() {
    let (bucket, begun) = (bucket(MIB), Instant::now());
    let requests = [4, 1, 4].map(|mib| {
        let bucket = Arc::clone(&bucket);
        tokio::spawn(async move {
            take_all(&bucket, mib * MIB).await;
            begun.elapsed()
        })
    });
    let [first, short, last] = requests;
    assert!(is_about(short.await.unwrap(), 3.0), "a short one waits for no long one");
    assert!(is_about(first.await.unwrap(), 9.0));
    assert!(is_about(last.await.unwrap(), 9.0));
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_waiting_has_taken_nothing() {
    let (bucket, begun) = (bucket(MIB), Instant::now());
    for _ in 0..100 {
        let gone = tokio::time::timeout(Duration::from_millis(1), bucket.take(MIB as usize)).await;
        assert!(gone.is_err());
    }
    bucket.take(MIB as usize).await;
    assert!(begun.elapsed() <= Duration::from_millis(1100), "{:?}", begun.elapsed());
}

/// Of several answers that are read one after the other, those behind the first lie unread while it is worked on; what works on it
/// asks the store as well.
#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_keeps_nobody_from_their_turn() {
    let (bucket, begun) = (bucket(MIB), Instant::now());
    let mut unread = [Box::pin(bucket.take(MIB as usize)), Box::pin(bucket.take(MIB as usize))];
    for body in &mut unread {
        assert!(futures::poll!(body).is_pending());
    }
    let other = tokio::time::timeout(Duration::from_secs(60), bucket.take(MIB as usize)).await;
    assert!(other.is_ok() && is_about(begun.elapsed(), 3.0), "{:?}", begun.elapsed());
    futures::future::join_all(unread).await;
    assert!(is_about(begun.elapsed(), 3.0), "their turns have come meanwhile: {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn waiting_for_ones_turn_is_no_slowness() {
    let limit = Duration::from_secs(2);
    let throttle = Throttle::new(Some(ByteRate::of(MIB)), None);
    let body = || throttle.outgoing(SdkBody::from(Bytes::from(vec![0; 10 << 20])));
    let read = |body: SdkBody| async {
        let mut stream = http_body_util::BodyStream::new(body);
        let mut len = 0;
        while let Some(frame) = futures::StreamExt::next(&mut stream).await {
            len += frame.unwrap().into_data().unwrap().len();
        }
        len
    };
    let begun = Instant::now();
    let sent = within(limit, async {
        // A part of it has a limit of its own.
        within(Duration::from_secs(1), async { read(body()).await }).await
    });
    assert_eq!(sent.await.flatten(), Some(10 << 20));
    assert!(is_about(begun.elapsed(), 10.0), "{:?}", begun.elapsed());
    let stuck = async {
        read(body()).await;
        std::future::pending::<()>().await;
    };
    let begun = Instant::now();
    assert_eq!(within(limit, stuck).await, None);
    assert!(is_about(begun.elapsed(), 12.0), "what is slow besides is noticed: {:?}", begun.elapsed());
}

/// Two seconds' worth, without what may have been saved up.
const BYTES: usize = 2 << 20;
const RATE: u64 = MIB;
const LEAST: Duration = Duration::from_millis(1750);

fn slow(up: bool) -> Throttle {
    let rate = Some(ByteRate::of(RATE));
    if up { Throttle::new(rate, None) } else { Throttle::new(None, rate) }
}

fn content() -> Bytes {
    (0..BYTES).map(|place| (place / 7) as u8).collect()
}

/// Puts with one store and gets with the other; answers how long each took.
async fn there_and_back(up: &dyn Store, down: &dyn Store) -> (Duration, Duration) {
    let key = Key::new("packs/ab/one").unwrap();
    let begun = RealInstant::now();
    up.put(&key, content()).await.unwrap();
    let (sent, begun) = (begun.elapsed(), RealInstant::now());
    assert_eq!(down.get(&key, None, None).await.unwrap(), content());
    (sent, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_keeps_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = |up| LocalStore::open(folder.path(), true).unwrap().with_throttle(slow(up));
    let (sent, fetched) = there_and_back(&store(true), &store(false)).await;
    assert!(sent >= LEAST && fetched >= LEAST, "{BYTES} bytes out in {sent:?}, in in {fetched:?}");
}

/// A write that nobody waits for any more ends at its next piece, and leaves nothing.
#[test]
fn what_is_given_up_ends() {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::new("packs/ab/two").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = LocalStore::open(folder.path(), true).unwrap().with_throttle(slow(true));
        let put = store.put(&key, Bytes::from(vec![0; 64 << 20]));
        assert!(tokio::time::timeout(Duration::from_millis(100), put).await.is_err(), "a minute's worth");
    });
    let begun = RealInstant::now();
    drop(runtime); // waits for its threads
    assert!(begun.elapsed() < Duration::from_secs(30), "it went on for {:?}", begun.elapsed());
    assert!(!folder.path().join("packs/ab/two").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_to_it() {
    let endpoint = serve().await;
    let (up, down) = tokio::join!(connect(&endpoint, slow(true)), connect(&endpoint, slow(false)));
    let (sent, fetched) = there_and_back(&up, &down).await;
    assert!(sent >= LEAST && fetched >= LEAST, "{BYTES} bytes out in {sent:?}, in in {fetched:?}");
}

async fn connect(endpoint: &str, throttle: Throttle) -> S3Store {
    let options = S3Options {
        endpoint: Some(endpoint.parse().unwrap()),
        bucket: "backup".into(),
        prefix: String::new(),
        region: "us-east-1".into(),
        access_key: Secret::new("access"),
        secret_key: Secret::new("secret"),
        ca_file: None,
        path_style: true,
        multipart_threshold: S3Options::MULTIPART_THRESHOLD,
        // Shorter than the body may take: what it waits for here is not the server.
        limits: Limits {
            throttle,
            attempt: Duration::from_millis(1500),
            slowest_rate: 1 << 40,
            retry: crate::retry::Policy::ONCE,
            ..Limits::default()
        },
    };
    S3Store::connect(options).await.unwrap()
}

/// A bucket without versions, on loopback, for as long as the runtime lives.
async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let objects = Arc::<Mutex<HashMap<String, Vec<u8>>>>::default();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let objects = Arc::clone(&objects);
            tokio::spawn(async move {
                let mut stream = BufStream::new(client);
                while answer(&mut stream, &objects).await.is_some() {}
            });
        }
    });
    endpoint
}

async fn answer(stream: &mut BufStream<TcpStream>, objects: &Mutex<HashMap<String, Vec<u8>>>) -> Option<()> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_lowercase()),
        }
    }
    let header = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if header("expect:").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
        stream.flush().await.ok()?;
    }
    let mut body = vec![0; header("content-length:").and_then(|len| len.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let mut words = lines[0].split(' ');
    let (method, path) = (words.next()?, words.next()?.to_owned());
    let found = match method {
        "get" if path.contains('?') && !path.contains("x-id") => Some(b"<VersioningConfiguration/>".to_vec()),
        "get" => objects.lock().unwrap().get(path.split('?').next()?).cloned(),
        _ => {
            objects.lock().unwrap().insert(path.split('?').next()?.to_owned(), body);
            Some(Vec::new())
        }
    };
    let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
    let found = found.unwrap_or_default();
    stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", found.len()).as_bytes()).await.ok()?;
    stream.write_all(&found).await.ok()?;
    stream.flush().await.ok()
}
