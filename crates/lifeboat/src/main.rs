//! `lifeboat`: backs up live Odoo systems and proves that they come back.
//!
//! **In:** arguments, environment, `lifeboat.toml`. **Out:** data on standard output, talk on standard error, an exit code.
//! This crate alone prints, reads the environment, looks at the clock and decides how to end; everything else is in the
//! crates below. Read on: [`cli`] (a file a verb), [`wire`] (configuration → store, keys, connections), [`failure`]
//! (errors → hints), [`exit`].

use std::{process::ExitCode, time::Duration};

use clap::Parser;

mod checks;
mod child;
mod cli;
mod exit;
mod failure;
mod hands;
mod incidents;
mod kept;
mod keyfile;
mod log;
mod output;
mod passphrase;
mod progress;
mod runner;
mod signals;
mod supervisor;
mod wire;

use cli::{Cli, Session};
use exit::Exit;
use failure::Failure;

/// How long work that was told to stop may take for tearing down before the program ends anyway.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Threads for work that blocks.
const BLOCKING: usize = 12;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return usage(&told),
    };
    let voice = log::start(&cli);
    match run(cli, &voice) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            voice.failure(&failure);
            failure.exit.into()
        }
    }
}

/// `--help` and `--version` are answers, everything else that clap has to say is a usage error.
fn usage(told: &clap::Error) -> ExitCode {
    let exit = if told.use_stderr() { Exit::Usage } else { Exit::Ok };
    let _ = told.print(); // nowhere is left to tell that the terminal is gone
    exit.into()
}

fn run(cli: Cli, voice: &log::Voice) -> failure::Result<Exit> {
    let _alive = child::begin(&cli.global.child)?;
    if cli.verb.may_start_containers() {
        // A daemon's or an administrator's 077 would lock the sandbox out; its folder lets nobody else in, and what is secret
        // has a mode of its own.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    }
    // Few threads, because every one that allocates gets an arena of the allocator's with buffers it does not give back.
    // Enough for what blocks at the same time: one walk, workers, uploads to a folder, a restore's placing.
    let is_urgent = cli.verb.is_urgent();
    let runtime = tokio::runtime::Builder::new_multi_thread().max_blocking_threads(BLOCKING).enable_all().build()?;
    let ended = runtime.block_on(async {
        let signals = signals::watch(voice)?;
        if cli.global.child.until_stdin_closes {
            signals::watch_stdin(&signals.cancel, voice);
        }
        let session = Session::new(&cli.global, voice.clone(), signals.cancel.clone(), is_urgent);
        tokio::select! {
            ended = cli.verb.run(&session) => match ended {
                // Work that was told to stop may name any error; what counts is why it stopped.
                Err(failure) if signals.cancel.is_cancelled() => Err(Failure { exit: Exit::Interrupted, ..failure }),
                ended => ended,
            },
            () = signals.insisted() => Err(Failure::new(Exit::Interrupted, "stopped before tearing down was done")
                .hint("containers of an unfinished drill are found by label and removed by the next drill")),
        }
    });
    runtime.shutdown_timeout(LAST_WORDS);
    ended
}
