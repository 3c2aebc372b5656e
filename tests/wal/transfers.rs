//! Clients that move money between accounts, and keep their own log of what the server has acknowledged: what a restore
//! must have is known without asking the server that it came from.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use jiff::Timestamp;
use lifeboat_testkit::postgres::Postgres;

const ACCOUNTS: i64 = 40;
const BALANCE: i64 = 1000;

/// One transfer as its client saw it.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    pub number: i64,
    pub sent: Timestamp,
    /// None where the answer never came: it may have happened or not.
    pub acknowledged: Option<Timestamp>,
}

/// Running clients.
pub struct Clients {
    first: i32,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Transfer>>>,
}

/// What each client did, in order.
pub struct Logs {
    pub first: i32,
    pub clients: Vec<Vec<Transfer>>,
}

/// Makes the tables.
pub fn prepare(cluster: &Postgres) {
    let sql = format!(
        "CREATE TABLE account AS SELECT id, {BALANCE}::bigint AS balance FROM generate_series(1, {ACCOUNTS}) id;
         ALTER TABLE account ADD PRIMARY KEY (id);
         CREATE TABLE transfer (client int, number bigint, PRIMARY KEY (client, number))"
    );
    cluster.psql("demo", &sql).unwrap();
}

impl Clients {
    /// Starts so many, on the server at this address. Each needs a number that no other has used.
    pub fn start(dsn: &str, first: i32, clients: i32) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (first..first + clients)
            .map(|client| {
                let (stop, dsn) = (stop.clone(), dsn.to_owned());
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(work(client, &dsn, &stop))
                })
            })
            .collect();
        Clients { first, stop, threads }
    }

    /// Ends them, and gives what they did.
    pub fn stop(self) -> Logs {
        self.stop.store(true, Ordering::Relaxed);
        Logs { first: self.first, clients: self.threads.into_iter().map(|thread| thread.join().unwrap()).collect() }
    }
}

async fn work(client: i32, dsn: &str, stop: &AtomicBool) -> Vec<Transfer> {
    let mut log: Vec<Transfer> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        // The server is restarted now and then.
        let Ok((session, connection)) = tokio_postgres::connect(dsn, tokio_postgres::NoTls).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let driver = tokio::spawn(connection);
        while !stop.load(Ordering::Relaxed) {
            let number = log.len() as i64;
            let (from, to) = ((number * 7 + i64::from(client)) % ACCOUNTS + 1, (number * 11) % ACCOUNTS + 1);
            // In one order, so that clients do not lock each other out.
            let (first, second) = (from.min(to), from.max(to));
            let amount = if first == from { -1 } else { 1 };
            let sql = format!(
                "BEGIN; UPDATE account SET balance = balance + {amount} WHERE id = {first}; \
                 UPDATE account SET balance = balance - {amount} WHERE id = {second}; \
                 INSERT INTO transfer VALUES ({client}, {number}); COMMIT"
            );
            let sent = Timestamp::now();
            let done = session.batch_execute(&sql).await;
            let acknowledged = done.is_ok().then(Timestamp::now);
            log.push(Transfer { number, sent, acknowledged });
            if done.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        driver.abort();
    }
    log
}

impl Logs {
    /// From the first to the last acknowledgement.
    pub fn span(&self) -> (Timestamp, Timestamp) {
        let acknowledged = || self.clients.iter().flatten().filter_map(|transfer| transfer.acknowledged);
        (acknowledged().min().unwrap(), acknowledged().max().unwrap())
    }

    pub fn count(&self) -> usize {
        self.clients.iter().map(Vec::len).sum()
    }

    /// A restore to a moment: money is neither made nor lost, what was acknowledged before is there, what was sent after
    /// is not.
    pub fn assert_moment(&self, restored: &Postgres, moment: Timestamp) {
        self.assert_sum(restored, moment);
        for (client, log) in (self.first..).zip(&self.clients) {
            let there = numbers(restored, client);
            for transfer in log {
                let is_there = there.binary_search(&transfer.number).is_ok();
                if transfer.acknowledged.is_some_and(|at| at < moment) {
                    assert!(is_there, "to {moment}: {transfer:?} of client {client} is lost");
                }
                if transfer.sent > moment {
                    assert!(!is_there, "to {moment}: {transfer:?} of client {client} came later");
                }
            }
        }
    }

    /// Nothing older than this is lost.
    pub fn assert_held_until(&self, restored: &Postgres, held: Timestamp) {
        self.assert_sum(restored, held);
        for (client, log) in (self.first..).zip(&self.clients) {
            let there = numbers(restored, client);
            for transfer in log.iter().filter(|transfer| transfer.acknowledged.is_some_and(|at| at <= held)) {
                assert!(there.binary_search(&transfer.number).is_ok(), "held to {held}: {transfer:?} is lost");
            }
        }
    }

    fn assert_sum(&self, restored: &Postgres, moment: Timestamp) {
        let sum = restored.psql("demo", "SELECT sum(balance) FROM account").unwrap();
        assert_eq!(sum, (ACCOUNTS * BALANCE).to_string(), "to {moment}: money was made or lost");
    }
}

/// What a server has of a client.
pub fn numbers(restored: &Postgres, client: i32) -> Vec<i64> {
    let sql = format!("SELECT number FROM transfer WHERE client = {client} ORDER BY 1");
    restored.psql("demo", &sql).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}
