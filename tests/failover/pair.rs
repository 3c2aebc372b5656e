//! A primary and a standby behind one address, clients, and the programs of a site that runbooks call: they give an order, and the test
//! carries it out.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lifeboat_testkit::{
    folder::put_program,
    postgres::{Options, Postgres, SUPERUSER, SUPERUSER_PASSWORD},
};
use serde_json::Value;

use crate::{
    gate::{Gate, Held},
    site::{Site, cluster, loopback, text, until},
    transfers::prepare,
};

/// A whole run, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);
const SLOT: &str = "standby";

/// Leaves an order, and waits until it was carried out.
const PROGRAM: &str = r#"#!/bin/sh
set -e
order="$0.order"
echo "$@" > "$order.new"
mv "$order.new" "$order"
while [ -e "$order" ]; do sleep 0.05; done
"#;

/// Two servers that change sides.
pub struct Pair {
    pub one: Postgres,
    pub two: Postgres,
    pub site: Site,
    /// The address that people, Odoo and Lifeboat use.
    address: SocketAddr,
    front: Option<Gate>,
    /// The way of the log from the first server to the second.
    between: Option<Gate>,
}

impl Pair {
    pub fn new() -> Pair {
        let one = cluster(15, &Options::default());
        prepare(&one);
        let two = one.standby(SLOT).unwrap();
        let open = |port| Gate::start_at(loopback(0), loopback(port), Held::Replies, None);
        let (front, between) = (open(one.port()), open(one.port()));
        let way = format!("ALTER SYSTEM SET primary_conninfo = '{}'", conninfo(between.address().port()));
        two.psql("postgres", &way).unwrap();
        two.psql("postgres", "SELECT pg_reload_conf()").unwrap();
        let address = front.address();
        let site = Site::new(address.port());
        let pair = Pair { one, two, site, address, front: Some(front), between: Some(between) };
        let books = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runbooks");
        std::os::unix::fs::symlink(books, pair.site.at("runbooks")).unwrap();
        fs::write(pair.site.at("superuser-password"), SUPERUSER_PASSWORD).unwrap();
        fs::set_permissions(pair.site.at("superuser-password"), fs::Permissions::from_mode(0o600)).unwrap();
        for name in ["fence", "repoint", "rebuild"] {
            put_program(&pair.program(name), PROGRAM);
        }
        // The standby streams through the gate before anything else happens.
        let streams = format!("SELECT conninfo LIKE '%port={}%' FROM pg_stat_wal_receiver", between_port(&pair));
        pair.two.wait_for(&streams, "t").unwrap();
        pair
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.site.at(name)
    }

    /// A connection string for people.
    pub fn dsn(&self) -> String {
        format!(
            "host=127.0.0.1 port={} user={SUPERUSER} password={SUPERUSER_PASSWORD} dbname=demo connect_timeout=2",
            self.address.port()
        )
    }

    /// From here on the standby gets nothing.
    pub fn cut_between(&mut self) {
        self.between = None;
    }

    /// Nobody gets through any more.
    pub fn close_front(&mut self) {
        self.front = None;
    }

    /// The address leads to the server of this port.
    pub fn point_to(&mut self, port: u16) {
        self.close_front();
        until("the address is free again", || TcpListener::bind(self.address).is_ok());
        self.front = Some(Gate::start_at(self.address, loopback(port), Held::Replies, None));
    }

    /// Makes a server that is off a standby of the other one, by its port.
    fn rebuild(&mut self, port: u16) {
        let is_one = self.one.port() == port;
        let (target, source) = if is_one { (&mut self.one, &self.two) } else { (&mut self.two, &self.one) };
        let data = target.data_dir().to_str().unwrap().to_owned();
        let (server, place) =
            (format!("{} dbname=postgres", conninfo(source.port())), format!("--target-pgdata={data}"));
        let arguments = [place.as_str(), "--source-server", &server, "--write-recovery-conf", "--no-sync"];
        target.run("pg_rewind", &arguments).unwrap();
        let slot = format!(
            "SELECT pg_create_physical_replication_slot('{SLOT}', true)
             WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{SLOT}')"
        );
        source.psql("postgres", &slot).unwrap();
        target.resume().unwrap();
    }

    /// Runs a runbook, carries out the orders of its programs, and gives its answer.
    pub fn run(&mut self, arguments: &[&str]) -> Value {
        self.runbook(&[&["run"], arguments].concat(), 0)
    }

    /// The same, of any command for runbooks, and with this exit code.
    pub fn runbook(&mut self, arguments: &[&str], code: i32) -> Value {
        let mut run = self.site.start(&[&["runbook"], arguments].concat());
        let deadline = Instant::now() + PATIENCE;
        while !run.has_ended() {
            assert!(Instant::now() < deadline, "{arguments:?} has not ended");
            for name in ["fence", "repoint", "rebuild"] {
                let order = self.site.at(&format!("{name}.order"));
                let Ok(words) = fs::read_to_string(&order) else { continue };
                let port = words.split_whitespace().nth(1).unwrap().parse().unwrap();
                self.carry_out(name, port);
                fs::remove_file(order).unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = run.end();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn carry_out(&mut self, order: &str, port: u16) {
        match order {
            "fence" if port == self.one.port() => self.one.stop().unwrap(),
            "fence" => self.two.stop().unwrap(),
            "repoint" => self.point_to(port),
            _ => self.rebuild(port),
        }
    }
}

fn conninfo(port: u16) -> String {
    format!("host=127.0.0.1 port={port} user={SUPERUSER} password={SUPERUSER_PASSWORD}")
}

fn between_port(pair: &Pair) -> u16 {
    pair.between.as_ref().unwrap().address().port()
}
