//! Ctrl-C and SIGTERM. The first asks the work to stop and tear down, the second ends the program at once. To a run of the
//! daemon, or of a runbook, the end of standard input says the same as the first: it is gone, however it ended.

use std::io::{self, Read as _};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::{failure::Result, log::Voice};

/// What the signals have said so far.
pub struct Signals {
    /// Cancelled by the first signal.
    pub cancel: CancellationToken,
    count: watch::Receiver<u32>,
}

/// Listens from now on.
pub fn watch(voice: &Voice) -> Result<Signals> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let cancel = CancellationToken::new();
    let (sender, count) = watch::channel(0);
    let (told, voice) = (cancel.clone(), voice.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if !told.is_cancelled() {
                voice.say("stopping: tearing down what was begun (once more: stop at once)");
            }
            told.cancel();
            sender.send_modify(|count| *count += 1);
        }
    });
    Ok(Signals { cancel, count })
}

/// Cancels when standard input ends. A thread of its own: a read that waits for ever would keep the runtime from ending.
pub fn watch_stdin(cancel: &CancellationToken, voice: &Voice) {
    let (told, voice) = (cancel.clone(), voice.clone());
    std::thread::spawn(move || {
        let (mut stdin, mut buffer) = (io::stdin().lock(), [0; 512]);
        loop {
            match stdin.read(&mut buffer) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        if !told.is_cancelled() {
            voice.say("stopping: whoever started this is gone, or wants no more of it");
        }
        told.cancel();
    });
}

impl Signals {
    /// Waits for the second signal.
    pub async fn insisted(&self) {
        let mut count = self.count.clone();
        if count.wait_for(|count| *count >= 2).await.is_err() {
            std::future::pending::<()>().await; // the listener is gone: no second signal will come
        }
    }
}
