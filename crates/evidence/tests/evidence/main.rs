//! Evidence as others see it: exact bytes, foreign tools, many files.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod golden;
mod openssl;
mod report;
mod samples;
mod sets;
#[path = "../../../../tests/report/year.rs"]
mod year;
