//! Order, restarts, signs of life; with paused time, but for threads.

use std::convert::Infallible;
use std::sync::Mutex;

use tokio::time::timeout;

use super::*;

const MS: Duration = Duration::from_millis(1);

#[derive(Debug, thiserror::Error)]
#[error("broker is gone")]
struct Gone {
    #[source]
    source: std::fmt::Error,
}

fn gone() -> Gone {
    Gone { source: std::fmt::Error }
}

fn broken() -> Result<(), Gone> {
    panic!("slot {}", 7);
}

/// What happened, with the time since the start of the test.
#[derive(Clone)]
struct Diary {
    started: Instant,
    entries: Arc<Mutex<Vec<(u64, String)>>>,
}

impl Diary {
    fn new() -> Self {
        Self { started: Instant::now(), entries: Arc::default() }
    }

    fn note(&self, text: impl Into<String>) {
        let at = self.started.elapsed().as_millis() as u64;
        self.entries.lock().unwrap().push((at, text.into()));
    }

    fn texts(&self) -> Vec<String> {
        self.entries.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
    }

    fn times(&self) -> Vec<u64> {
        self.entries.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }
}

async fn until_stopped(stop: CancellationToken) -> Result<(), Infallible> {
    stop.cancelled().await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn stages_stop_one_after_the_other_whatever_the_order_they_were_started_in() {
    // Goal: sources first, outbox last. Method: tasks that need a while to stop; each stage is asked only when the one before
    // has ended.
    let diary = Diary::new();
    let mut tasks = Tasks::new();
    for (name, stage) in [
        ("store", Stage::Store),
        ("broker", Stage::Source),
        ("clock", Stage::Support),
        ("listener", Stage::Source),
        ("reduce", Stage::Pipeline),
        ("uplink", Stage::Uplink),
    ] {
        let diary = diary.clone();
        tasks.essential(name, stage, |stop| async move {
            stop.cancelled().await;
            diary.note(format!("{stage:?} asked"));
            sleep(100 * MS).await;
            diary.note(format!("{stage:?} ended"));
            Ok::<(), Gone>(())
        });
    }
    assert_eq!(tasks.stop().await, Stopped::default());
    let mut expected = Vec::new();
    for (stage, tasks) in Stage::ORDER.into_iter().zip([2, 1, 1, 1, 1]) {
        expected.extend(std::iter::repeat_n(format!("{stage:?} asked"), tasks));
        expected.extend(std::iter::repeat_n(format!("{stage:?} ended"), tasks));
    }
    assert_eq!(diary.texts(), expected);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_stop_is_reported_and_holds_up_nobody_for_longer_than_its_grace() {
    // Goal: deadlines. Method: one task that ignores its token, one that fails on the way out, one that is well behaved.
    let started = Instant::now();
    let mut tasks = Tasks::new();
    tasks.essential("deaf", Stage::Source, |_| std::future::pending::<Result<(), Gone>>());
    tasks.essential("failing", Stage::Uplink, |stop| async move {
        stop.cancelled().await;
        Err(gone())
    });
    tasks.essential("store", Stage::Store, until_stopped);
    let stopped = tasks.stop().await;
    assert_eq!(stopped.overran, ["deaf"]);
    let how = End::Failed("broker is gone: an error occurred when formatting an argument".to_owned());
    assert_eq!(stopped.failed, [Ended { name: "failing", how }]);
    assert_eq!(started.elapsed(), Stage::Source.grace());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_essential_task_is_told_however_it_ends() {
    // Goal: no silent deaths. Method: a task that returns, one that fails, one that panics.
    let mut tasks = Tasks::new();
    tasks.essential("store", Stage::Store, until_stopped);
    tasks.essential("returns", Stage::Source, |_| async { Ok::<(), Gone>(()) });
    assert_eq!(tasks.ended().await, Ended { name: "returns", how: End::Done });
    tasks.essential("fails", Stage::Source, |_| async { Err(gone()) });
    assert!(matches!(tasks.ended().await, Ended { name: "fails", how: End::Failed(_) }));
    tasks.essential("panics", Stage::Source, |_| async { broken() });
    assert_eq!(tasks.ended().await, Ended { name: "panics", how: End::Panicked("slot 7".to_owned()) });
    assert_eq!(tasks.stop().await, Stopped::default(), "what has ended before is not reported again");
}

#[tokio::test(start_paused = true)]
async fn pauses_double_up_to_the_longest_and_begin_again_after_a_good_run() {
    // Goal: the back-off. Method: a task that fails at once seven times, two of them by a panic, then runs for a while, then
    // fails again; the times of its starts.
    let diary = Diary::new();
    let mut tasks = Tasks::new();
    let restarts = tasks.restarts();
    let backoff = Backoff { first: 100 * MS, max: 1_000 * MS };
    let starts = diary.clone();
    tasks.restarted("broker", Stage::Source, backoff, move |stop| {
        let start = starts.texts().len();
        starts.note("started");
        assert!(start != 2, "while it is being made");
        async move {
            match start {
                3 => panic!("while it runs"),
                7 => sleep(5_000 * MS).await,
                9 => stop.cancelled().await,
                _ => {}
            }
            Err(gone())
        }
    });
    sleep(60_000 * MS).await;
    let pauses = [0, 100, 200, 400, 800, 1_000, 1_000, 1_000, 5_000 + 100, 200];
    let expected: Vec<u64> = pauses
        .iter()
        .scan(0, |at, pause| {
            Some({
                *at += pause;
                *at
            })
        })
        .collect();
    assert_eq!(diary.times(), expected);
    assert_eq!(restarts.load(Ordering::Relaxed), 9);
    assert_eq!(tasks.stop().await.failed.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_does_not_hold_up_the_stop() {
    // Goal: stopping during a pause. Method: a task in a pause of an hour.
    let started = Instant::now();
    let mut tasks = Tasks::new();
    let backoff = Backoff { first: 3_600_000 * MS, max: 3_600_000 * MS };
    tasks.restarted("broker", Stage::Source, backoff, |_| async { Err(gone()) });
    sleep(MS).await;
    assert_eq!(tasks.stop().await, Stopped::default());
    assert_eq!(started.elapsed(), MS);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_does_not_beat_within_its_limit_is_overdue_until_it_does() {
    // Goal: stuck tasks are found. Method: two beats with limits of their own, one of which is touched.
    let mut tasks = Tasks::new();
    let journal = tasks.beat("journal", 1_000 * MS);
    let _uplink = tasks.beat("uplink", 5_000 * MS);
    sleep(1_000 * MS).await;
    assert_eq!(tasks.overdue(), []);
    sleep(MS).await;
    assert_eq!(tasks.overdue(), [Overdue { name: "journal", silent: 1_001 * MS }]);
    journal.clone().touch();
    assert_eq!(tasks.overdue(), []);
    sleep(5_000 * MS).await;
    assert_eq!(tasks.overdue().iter().map(|overdue| overdue.name).collect::<Vec<_>>(), ["journal", "uplink"]);
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_is_fed_only_while_nothing_is_overdue() {
    // Goal: a hanging task brings the service manager in. Method: count the feedings while a task beats, while it hangs, and
    // while everything stops.
    let mut tasks = Tasks::new();
    let beat = tasks.beat("journal", 1_500 * MS);
    let fed = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&fed);
    let watchdog = tasks.watchdog().feeding(1_000 * MS, move || _ = count.fetch_add(1, Ordering::Relaxed));
    tasks.essential("watchdog", Stage::Support, |stop| watchdog.run(stop));
    tasks.essential("slow", Stage::Source, |stop| async move {
        stop.cancelled().await;
        sleep(2_500 * MS).await;
        Ok::<(), Gone>(())
    });
    for _ in 0..10 {
        sleep(1_000 * MS).await;
        beat.touch();
    }
    let while_beating = fed.load(Ordering::Relaxed);
    assert!((10..=11).contains(&while_beating), "{while_beating}");
    sleep(10_000 * MS).await;
    let while_hanging = fed.load(Ordering::Relaxed) - while_beating;
    assert!(while_hanging <= 2, "{while_hanging}");
    tasks.stop().await;
    assert!(fed.load(Ordering::Relaxed) >= while_beating + while_hanging + 2);
}

#[tokio::test]
async fn threads_are_watched_like_tasks() {
    // Goal: the store's thread cannot die unnoticed. Method: a thread that panics is told; one that waits for its token is
    // stopped; threads bear their names.
    let mut tasks = Tasks::new();
    tasks
        .thread("store", Stage::Store, |_| {
            assert_eq!(std::thread::current().name(), Some("store"));
            broken()
        })
        .unwrap();
    let ended = timeout(Duration::from_secs(10), tasks.ended()).await.unwrap();
    assert_eq!(ended, Ended { name: "store", how: End::Panicked("slot 7".to_owned()) });
    let runtime = tokio::runtime::Handle::current();
    tasks
        .thread("ticker", Stage::Support, move |stop| {
            runtime.block_on(stop.cancelled());
            Err(gone())
        })
        .unwrap();
    let stopped = tasks.stop().await;
    assert_eq!((stopped.overran.len(), stopped.failed[0].name), (0, "ticker"));
}

#[tokio::test]
async fn dropping_the_list_asks_everything_to_stop() {
    // Goal: nothing outlives an early return. Method: a task that says so on its way out.
    let (said, heard) = tokio::sync::oneshot::channel();
    let mut tasks = Tasks::new();
    tasks.essential("broker", Stage::Source, |stop| async move {
        stop.cancelled().await;
        said.send(()).unwrap();
        Ok::<(), Gone>(())
    });
    drop(tasks);
    timeout(Duration::from_secs(10), heard).await.unwrap().unwrap();
}

#[tokio::test]
#[should_panic(expected = "two tasks are named broker")]
async fn names_are_unique() {
    // Goal: a name in a log line is one task. Method: use one twice.
    let mut tasks = Tasks::new();
    tasks.essential("broker", Stage::Source, until_stopped);
    tasks.essential("broker", Stage::Uplink, until_stopped);
}
