//! The parts of the daemon, each begun again when it ends although nobody said so: one that fails must not take the others
//! with it, and must not be gone without a word.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Daemon, view::Trouble};

/// The first pause, doubled each time.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(60);
/// A part that went on for so long begins with the first pause again.
const STEADY: Duration = Duration::from_secs(300);

/// Keeps a part going until it is cancelled.
pub(crate) async fn keep<F>(
    daemon: Arc<Daemon>,
    part: &'static str,
    cancel: CancellationToken,
    begin: impl Fn(Arc<Daemon>, CancellationToken) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut pause = FIRST;
    let trouble = format!("part {part}");
    loop {
        let since = Instant::now();
        let mut task = tokio::spawn(begin(Arc::clone(&daemon), cancel.clone()));
        let steady = async {
            tokio::time::sleep(STEADY).await;
            daemon.troubles.end(None, &trouble);
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = &mut task => ended,
            () = steady => continue, // never: it only takes the trouble back
        };
        if cancel.is_cancelled() {
            return;
        }
        let why = match ended {
            Ok(()) => "it ended".to_owned(),
            Err(error) if error.is_panic() => "it panicked: the lines before this one say where".to_owned(),
            Err(error) => error.to_string(),
        };
        if since.elapsed() >= STEADY {
            pause = FIRST;
        }
        tracing::error!(part, "a part of the daemon is not at work ({why}); it is begun again in {pause:?}");
        daemon.troubles.begin(Trouble {
            tenant: None,
            of: trouble.clone(),
            since: daemon.now(),
            text: format!("the daemon's own {part} failed: {why}"),
            next: Some("look at the daemon's log, and report this".to_owned()),
        });
        if cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;
    use crate::{testing, work};

    fn told(daemon: &Daemon, part: &str) -> Option<String> {
        let of = format!("part {part}");
        daemon.troubles.all().into_iter().find(|trouble| trouble.of == of).map(|trouble| trouble.text)
    }

    async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
        let began = std::time::Instant::now();
        while !is().await {
            assert!(began.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_panics_is_told_and_begun_again_ever_more_seldom() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = testing::daemon(folder.path(), Arc::new(|| {}));
        let begun = Arc::new(Mutex::new(Vec::new()));
        let (seen, cancel) = (Arc::clone(&begun), CancellationToken::new());
        let begin = move |_, cancel: CancellationToken| {
            let seen = Arc::clone(&seen);
            async move {
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(Instant::now());
                    seen.len()
                };
                match number {
                    1..=8 => panic!("on purpose, the {number}th time"),
                    9 => {} // it ends although nobody said so
                    10 => {
                        tokio::time::sleep(STEADY + FIRST).await;
                        panic!("on purpose, after a while");
                    }
                    _ => cancel.cancelled().await,
                }
            }
        };
        let kept = tokio::spawn(keep(Arc::clone(&daemon), "clerk", cancel.clone(), begin));
        let count = async |many: usize| until("it is begun", async || begun.lock().unwrap().len() >= many).await;
        count(2).await;
        assert!(told(&daemon, "clerk").unwrap().contains("it panicked"), "{:?}", told(&daemon, "clerk"));
        count(10).await;
        assert!(told(&daemon, "clerk").unwrap().ends_with("it ended"), "{:?}", told(&daemon, "clerk"));
        tokio::time::sleep(STEADY).await;
        assert_eq!(told(&daemon, "clerk"), None, "it goes on again");
        count(11).await;
        assert!(told(&daemon, "clerk").is_some());
        tokio::time::sleep(STEADY).await;
        assert_eq!(told(&daemon, "clerk"), None);
        let begun = begun.lock().unwrap().clone();
        let pauses: Vec<u64> = begun.windows(2).map(|two| two[1].duration_since(two[0]).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, STEADY.as_secs() + 2]);
        cancel.cancel();
        kept.await.unwrap();
        assert_eq!(told(&daemon, "clerk"), None, "an end that is asked for is no trouble");
    }

    /// The dispatcher holds the lead and the desk: both are free for its next life. Time is not paused: the state has a thread of
    /// its own, and paused time runs ahead to the end of everybody's patience while that is asked.
    #[tokio::test]
    async fn a_dispatcher_that_panics_works_again() {
        let folder = tempfile::tempdir().unwrap();
        let turns = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&turns);
        let alive = move || assert_ne!(seen.fetch_add(1, Ordering::SeqCst), 2, "on purpose, in the third turn");
        let daemon = testing::daemon(folder.path(), Arc::new(alive));
        let cancel = CancellationToken::new();
        let kept = tokio::spawn(keep(Arc::clone(&daemon), "dispatcher", cancel.clone(), work::run));
        let takes = async || {
            let (verb, who) = (crate::job::Verb::Audit, "ann".to_owned());
            let asked = work::Asked { tenant: "acme".parse().unwrap(), instance: None, verb, who };
            matches!(daemon.start(asked).await, Ok(_) | Err(work::Refused::Already(_)))
        };
        until("it takes a run", takes).await;
        until("it is told", async || told(&daemon, "dispatcher").is_some()).await;
        until("it takes runs again", takes).await;
        until("its fourth turn", async || turns.load(Ordering::SeqCst) > 3).await;
        cancel.cancel();
        kept.await.unwrap();
    }
}
