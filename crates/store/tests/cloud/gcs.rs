//! A bucket of Google Cloud Storage as a store, on a stand-in: there is no emulator of its XML interface to be had where
//! these tests must run. It was written from Google's description of the interface, and answers what it does not know
//! with 501. It shows what we send and that we understand the answers described, not what Google answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{TryStreamExt as _, future};
use jiff::{Timestamp, fmt::strtime};
use lifeboat_model::secret::Secret;
use lifeboat_store::{
    Error, Key, Store as _,
    cloud::{CloudOptions, CloudStore, Service},
    retry::Policy,
    suite,
};
use lifeboat_testkit::proxy::{Fault, Proxy};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use url::Url;

/// A page of its listings, so that every longer one goes on.
const PAGE: usize = 10;
const BUCKET: &str = "clinic-backup";

#[derive(Clone)]
struct Object {
    bytes: Bytes,
    tag: String,
    modified: Timestamp,
}

#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, Object>,
    /// Parts by upload and number; the tag of the upload.
    uploads: BTreeMap<String, (String, BTreeMap<u32, Bytes>)>,
    /// What it answers everything with, if it is to refuse: status, code, words.
    refusal: Option<(u16, &'static str, &'static str)>,
    /// Whether it lists a page from its end.
    backwards: bool,
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Bytes,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Answer {
    fn new(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Bytes::new() }
    }

    fn with(mut self, name: &str, value: impl ToString) -> Answer {
        self.headers.push((name.into(), value.to_string()));
        self
    }

    fn body(self, body: impl Into<Bytes>) -> Answer {
        Answer { body: body.into(), ..self }
    }

    fn refusal(status: u16, code: &str, words: &str) -> Answer {
        Answer::new(status)
            .body(format!("<?xml version='1.0'?><Error><Code>{code}</Code><Message>{words}</Message></Error>"))
    }
}

fn decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes()).next().unwrap().1.into_owned()
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", hex::encode(&Sha256::digest(bytes)[..16]))
}

fn rfc1123(time: Timestamp) -> String {
    strtime::format("%a, %d %b %Y %H:%M:%S GMT", time).unwrap()
}

impl Bucket {
    fn answer(&mut self, request: &Request) -> Answer {
        if let Some((status, code, words)) = self.refusal {
            return Answer::refusal(status, code, words);
        }
        let (bucket, name) = request.path[1..].split_once('/').unwrap_or((&request.path[1..], ""));
        if bucket != BUCKET {
            return Answer::refusal(404, "NoSuchBucket", "The specified bucket does not exist.");
        }
        let upload = request.query.get("uploadId");
        match (request.method.as_str(), name, upload) {
            ("GET", "", _) => self.list(request),
            ("PUT", name, None) => self.put(name, request),
            ("POST", _, None) if request.query.contains_key("uploads") => self.begin(request),
            ("PUT", _, Some(upload)) => self.put_part(upload, request),
            ("POST", name, Some(upload)) => self.complete(name, upload, request),
            ("DELETE", _, Some(upload)) => {
                self.uploads.remove(upload);
                Answer::new(204)
            }
            ("DELETE", name, None) if self.objects.remove(name).is_some() => Answer::new(204),
            ("GET" | "HEAD", name, None) if self.objects.contains_key(name) => self.get(&self.objects[name], request),
            ("GET" | "HEAD" | "DELETE", ..) => Answer::refusal(404, "NoSuchKey", "The specified key does not exist."),
            _ => Answer::refusal(501, "NotImplemented", "the stand-in does not know this"),
        }
    }

    fn put(&mut self, name: &str, request: &Request) -> Answer {
        match request.headers.get("x-goog-if-generation-match").map(String::as_str) {
            Some("0") if self.objects.contains_key(name) => {
                return Answer::refusal(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.");
            }
            Some("0") | None => {}
            Some(_) => return Answer::refusal(501, "NotImplemented", "only generation 0"),
        }
        self.keep(name, request.body.clone(), tag(request));
        Answer::new(200).with("ETag", etag(&request.body)).with("x-goog-generation", 1)
    }

    fn keep(&mut self, name: &str, bytes: Bytes, tag: String) {
        self.objects.insert(name.into(), Object { bytes, tag, modified: Timestamp::now() });
    }

    fn get(&self, object: &Object, request: &Request) -> Answer {
        let (len, etag) = (object.bytes.len(), etag(&object.bytes));
        if request.headers.get("if-match").is_some_and(|wanted| *wanted != etag) {
            return Answer::refusal(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.");
        }
        let range = request.headers.get("range").map(|range| {
            let (start, end) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            (start.parse::<usize>().unwrap(), end.parse::<usize>().unwrap() + 1)
        });
        let head = |answer: Answer| {
            let answer = answer.with("ETag", &etag).with("Last-Modified", rfc1123(object.modified));
            answer.with("x-goog-generation", 1).with("x-goog-meta-lifeboatput", &object.tag)
        };
        match range {
            Some((start, _)) if start >= len => {
                Answer::refusal(416, "InvalidRange", "The requested range cannot be satisfied.")
            }
            Some((start, end)) => {
                let end = end.min(len);
                let part = head(Answer::new(206)).with("Content-Range", format!("bytes {start}-{}/{len}", end - 1));
                part.body(object.bytes.slice(start..end))
            }
            None => head(Answer::new(200)).body(object.bytes.clone()),
        }
    }

    fn list(&self, request: &Request) -> Answer {
        assert_eq!(request.query.get("list-type").map(String::as_str), Some("2"));
        let empty = String::new();
        let prefix = request.query.get("prefix").unwrap_or(&empty);
        let after = request.query.get("continuation-token").or(request.query.get("start-after")).unwrap_or(&empty);
        let most = request.query.get("max-keys").map_or(PAGE, |most| most.parse::<usize>().unwrap());
        let mut found = self.objects.iter().filter(|(name, _)| name.starts_with(prefix) && *name > after);
        let mut page: Vec<_> = found.by_ref().take(most).collect();
        if self.backwards {
            page.reverse();
        }
        let mut text = String::from("<?xml version='1.0'?><ListBucketResult>");
        for (name, object) in &page {
            let (len, modified) = (object.bytes.len(), object.modified.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"));
            text += &format!(
                "<Contents><Key>{name}</Key><LastModified>{modified}</LastModified><ETag>\"x\"</ETag><Size>{len}</Size></Contents>"
            );
        }
        if let (Some(_), Some((last, _))) = (found.next(), page.last()) {
            text += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
        }
        Answer::new(200).body(text + "</ListBucketResult>")
    }

    fn begin(&mut self, request: &Request) -> Answer {
        let id = suite::random_name();
        self.uploads.insert(id.clone(), (tag(request), BTreeMap::new()));
        Answer::new(200).body(format!(
            "<?xml version='1.0'?><InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        ))
    }

    fn put_part(&mut self, upload: &str, request: &Request) -> Answer {
        let number = request.query["partNumber"].parse().unwrap();
        let Some((_, parts)) = self.uploads.get_mut(upload) else {
            return Answer::refusal(404, "NoSuchUpload", "The specified upload does not exist.");
        };
        parts.insert(number, request.body.clone());
        Answer::new(200).with("ETag", etag(&request.body))
    }

    fn complete(&mut self, name: &str, upload: &str, request: &Request) -> Answer {
        let Some((tag, parts)) = self.uploads.remove(upload) else {
            return Answer::refusal(404, "NoSuchUpload", "The specified upload does not exist.");
        };
        let asked = String::from_utf8_lossy(&request.body).matches("<PartNumber>").count();
        assert_eq!(asked, parts.len(), "the parts named are those sent");
        let bytes: Bytes = parts.into_values().flatten().collect::<Vec<u8>>().into();
        let etag = etag(&bytes);
        self.keep(name, bytes, tag);
        Answer::new(200).with("x-goog-generation", 1).body(format!(
            "<?xml version='1.0'?><CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
        ))
    }
}

fn tag(request: &Request) -> String {
    request.headers.get("x-goog-meta-lifeboatput").cloned().unwrap_or_default()
}

/// A listening stand-in; it ends with the test.
struct StandIn {
    bucket: Arc<Mutex<Bucket>>,
    address: std::net::SocketAddr,
}

impl StandIn {
    async fn start() -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stand_in = StandIn { bucket: Arc::default(), address: listener.local_addr().unwrap() };
        let bucket = Arc::clone(&stand_in.bucket);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let bucket = Arc::clone(&bucket);
                tokio::spawn(serve(client, bucket));
            }
        });
        stand_in
    }

    fn options(&self) -> CloudOptions {
        let service_account = Secret::new(
            r#"{"disable_oauth": true, "client_email": "", "private_key": "hunter2", "private_key_id": "", "type": "service_account"}"#,
        );
        let service = Service::Gcs { bucket: BUCKET.into(), service_account };
        let endpoint = Some(format!("http://{}", self.address).parse::<Url>().unwrap());
        CloudOptions { endpoint, prefix: "tests".into(), ..CloudOptions::new(service) }
    }

    async fn store(&self) -> CloudStore {
        CloudStore::connect(self.options()).await.unwrap()
    }
}

/// Answers the requests of one connection.
async fn serve(mut client: TcpStream, bucket: Arc<Mutex<Bucket>>) -> Option<()> {
    client.set_nodelay(true).ok()?;
    let (from, mut to) = client.split();
    let mut from = BufReader::new(from);
    loop {
        let request = receive(&mut from).await?;
        let answer = bucket.lock().unwrap().answer(&request);
        let mut head = format!("HTTP/1.1 {} -\r\nDate: {}\r\n", answer.status, rfc1123(Timestamp::now()));
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if answer.status != 204 {
            head += &format!("Content-Length: {}\r\n", answer.body.len());
        }
        to.write_all(format!("{head}\r\n").as_bytes()).await.ok()?;
        if request.method != "HEAD" {
            to.write_all(&answer.body).await.ok()?;
        }
    }
}

async fn receive(from: &mut BufReader<tokio::net::tcp::ReadHalf<'_>>) -> Option<Request> {
    let mut line = String::new();
    from.read_line(&mut line).await.ok().filter(|len| *len > 0)?;
    let (method, rest) = line.split_once(' ')?;
    let target = rest.split_once(' ')?.0.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).await.ok().filter(|len| *len > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let len: usize = headers.get("content-length").map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    from.read_exact(&mut body).await.ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = query.map(|(name, value)| (decoded(name), decoded(value))).collect();
    Some(Request { method: method.to_owned(), path: decoded(path), query, headers, body: body.into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_contract() {
    let stand_in = StandIn::start().await;
    suite::run(&stand_in.store().await).await;
    assert!(stand_in.bucket.lock().unwrap().objects.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_contract_in_small_parts() {
    let stand_in = StandIn::start().await;
    let options = CloudOptions { multipart_threshold: 0, ..stand_in.options() };
    suite::run(&CloudStore::connect(options).await.unwrap()).await;
    assert!(stand_in.bucket.lock().unwrap().uploads.is_empty(), "no upload is left open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_key_is_refused_and_one_of_many_writers_wins() {
    let stand_in = StandIn::start().await;
    let (store, one) = (stand_in.store().await, Key::new("race/one").unwrap());
    let answers = future::join_all((0..8).map(|index| store.put(&one, suite::pattern(index, 10_000)))).await;
    let winners: Vec<u64> = (0..8).filter(|index| answers[*index as usize].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| matches!(answer, Ok(_) | Err(Error::AlreadyExists { .. }))), "{answers:?}");
    assert!(store.get(&one, None, None).await.unwrap() == suite::pattern(winners[0], 10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_through_a_faulty_line_succeeds() {
    let stand_in = StandIn::start().await;
    let proxy = Proxy::start(stand_in.address).await;
    let mut options = stand_in.options();
    options.endpoint.as_mut().unwrap().set_port(Some(proxy.address().port())).unwrap();
    options.multipart_threshold = 400_000;
    options.limits.part = 200_000;
    options.limits.attempt = std::time::Duration::from_secs(3);
    options.limits.retry = Policy { first_wait: std::time::Duration::from_millis(20), ..Policy::default() };
    let (through, straight) = (CloudStore::connect(options).await.unwrap(), stand_in.store().await);
    let (small, large) = (suite::pattern(1, 300_000), suite::pattern(2, 900_000));
    let cases = [
        ("PUT ", Fault::CutReply(0), &small),
        ("PUT ", Fault::CutRequest(100_000), &small),
        ("PUT ", Fault::SwallowReply, &small),
        ("?uploads", Fault::CutReply(0), &large),
        ("partNumber=2", Fault::CutReply(0), &large),
        ("<CompleteMultipartUpload", Fault::CutReply(0), &large),
    ];
    for (index, (request, fault, bytes)) in cases.into_iter().enumerate() {
        let key = Key::new(format!("put/{index}")).unwrap();
        proxy.arm(request, fault);
        through.put(&key, bytes.clone()).await.unwrap_or_else(|e| panic!("{request} {fault:?}: {e}"));
        assert_eq!(proxy.struck(), index as u64 + 1, "{request} {fault:?} struck");
        assert!(straight.get(&key, None, None).await.unwrap() == *bytes, "bytes after {request} {fault:?}");
    }
    assert_eq!(straight.list("").try_collect::<Vec<_>>().await.unwrap().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_sorted_by_what_to_do_about_them() {
    let stand_in = StandIn::start().await;
    let mut options = stand_in.options();
    options.limits.retry = Policy::ONCE;
    let (store, one) = (CloudStore::connect(options).await.unwrap(), Key::new("a/one").unwrap());
    store.put(&one, Bytes::from_static(b"x")).await.unwrap();
    let refuse = |status, code, words| stand_in.bucket.lock().unwrap().refusal = Some((status, code, words));

    refuse(403, "AccessDenied", "backup@clinic does not have storage.objects.create access.");
    let error = store.put(&one, Bytes::new()).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }) && error.to_string().contains("storage.objects.create"), "{error}");
    refuse(403, "RetentionPolicyNotMet", "Object is subject to bucket's retention policy and cannot be deleted yet.");
    let error = store.delete(&one, None).await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    refuse(503, "ServiceUnavailable", "try again");
    let error = store.put(&one, Bytes::new()).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("ServiceUnavailable: try again"), "{error}");
    refuse(429, "SlowDown", "too fast");
    assert!(store.list("").try_collect::<Vec<_>>().await.unwrap_err().is_transient());
    refuse(404, "NoSuchBucket", "gone");
    assert!(matches!(store.put(&one, Bytes::new()).await, Err(Error::Unusable { .. })));
    refuse(403, "AccessDenied", "no");
    // A refusal has a date too.
    assert!(store.clock().await.unwrap().duration_since(Timestamp::now()).as_secs().abs() < 60);
    stand_in.bucket.lock().unwrap().refusal = None;
    assert!(store.get(&one, None, None).await.unwrap() == "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_names_are_passed_over() {
    let stand_in = StandIn::start().await;
    let store = stand_in.store().await;
    store.put(&Key::new("points/one").unwrap(), Bytes::from_static(b"x")).await.unwrap();
    for name in ["tests", "tests-2/points/two", "tests/points/a b", "tests/points/~", "testt"] {
        stand_in.bucket.lock().unwrap().keep(name, Bytes::new(), String::new());
    }
    let found: Vec<_> = store.list("").map_ok(|info| info.key.to_string()).try_collect().await.unwrap();
    assert_eq!(found, ["points/one"]);
}

/// As an Azure account with a hierarchical namespace lists: everything above relies on the order.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_out_of_order_is_refused() {
    let stand_in = StandIn::start().await;
    let store = stand_in.store().await;
    for name in ["points/a", "points/b", "points/c"] {
        store.put(&Key::new(name).unwrap(), Bytes::new()).await.unwrap();
    }
    stand_in.bucket.lock().unwrap().backwards = true;
    let error = store.list("points/").try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(&error, Error::Unusable { reason, .. } if reason.contains("hierarchical namespace")), "{error}");
}
