//! Checks a data directory (its pages; its manifest where it has one) and prints how fast it went: for tuning.
//!
//! `cargo run --release -p lifeboat-postgres --example verify -- PGDATA [THREADS]`
#![allow(clippy::print_stdout, reason = "an example for people")]

use std::{hint::black_box, path::Path, time::Instant};

use anyhow::Context as _;
use lifeboat_postgres::{pages, verify};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let pgdata = arguments.next().context("usage: verify PGDATA [THREADS]")?;
    let threads = arguments.next().map_or(Ok(1), |threads| threads.parse())?;
    let pgdata = Path::new(&pgdata);

    let page = [7; pages::PAGE];
    let (began, rounds) = (Instant::now(), 200_000u32);
    for block in 0..rounds {
        black_box(pages::checksum(black_box(&page), block));
    }
    let bytes = f64::from(rounds) * pages::PAGE as f64;
    println!("page checksums alone: {:.1} GB/s", bytes / 1e9 / began.elapsed().as_secs_f64());

    let manifest = pgdata.join("backup_manifest").exists();
    let options = verify::Options { manifest, threads, ..verify::Options::default() };
    let began = Instant::now();
    let report = verify::restored_dir(pgdata, &options)?;
    let seconds = began.elapsed().as_secs_f64();
    let speed = report.bytes_read as f64 / 1e9 / seconds;
    println!("{} bytes in {seconds:.2} s: {speed:.2} GB/s with {threads} thread(s)", report.bytes_read);
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
