//! Timers of a workload: messages by which it acts of its own accord.
//!
//! The first is due at the start, the others on a grid from there, on the monotonic clock: how long a component takes does
//! not shift them, and setting the wall clock does nothing. One that falls due while the last one of its timer still waits
//! in the inbox is missed and counted ([`super::account::Account::ticks_missed`]), as are those that nobody could look at
//! because the machine was held up. Nothing is made up for, and nothing outlives the process.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::account::Account;
use super::inbox::Inbox;
use crate::config::{Link, LinkEnd, Source};

/// What stands before the link's name in the subject.
const SUBJECT: &str = "timer";

/// All timers of one workload.
#[derive(Debug)]
pub(super) struct Timers {
    timers: Vec<Timer>,
    inbox: Arc<Inbox>,
    account: Arc<Account>,
}

#[derive(Debug)]
struct Timer {
    subject: String,
    every: Duration,
    due: Instant,
}

// === impl Timers ===

impl Timers {
    /// Those that links ask for. Their time begins now.
    pub fn new(links: &[Link], inbox: Arc<Inbox>, account: Arc<Account>) -> Timers {
        let due = Instant::now();
        let timer = |link: &Link| match link.end {
            LinkEnd::Source(Source::Timer { every }) => {
                Some(Timer { subject: format!("{SUBJECT}.{}", link.name), every, due })
            }
            _ => None,
        };
        Timers { timers: links.iter().filter_map(timer).collect(), inbox, account }
    }

    /// Runs until it is dropped.
    ///
    /// Cancel-safe: a message is put into the inbox whole, and a timer that is gone owes nothing.
    pub async fn run(mut self) {
        loop {
            let Some(next) = self.timers.iter_mut().min_by_key(|timer| timer.due) else {
                return std::future::pending().await;
            };
            sleep_until(next.due).await;
            let missed = next.pass(Instant::now());
            self.account.ticks_missed.fetch_add(missed, Ordering::Relaxed);
            self.inbox.tick(&next.subject);
        }
    }
}

// === impl Timer ===

impl Timer {
    /// Goes on to what is due after `now`, and says how many were passed over.
    fn pass(&mut self, now: Instant) -> u64 {
        let late = now.saturating_duration_since(self.due);
        // At least 10 ms and at most years: it fits.
        let passed = u32::try_from(late.as_nanos() / self.every.as_nanos()).unwrap_or(u32::MAX - 1);
        self.due += self.every * (passed + 1);
        u64::from(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Overflow};
    use crate::workload::inbox::Post;

    const EVERY: Duration = Duration::from_millis(100);

    fn link(name: &str, every: Duration) -> Link {
        Link { name: name.into(), end: LinkEnd::Source(Source::Timer { every }) }
    }

    fn set(links: &[Link]) -> (Timers, Arc<Inbox>, Arc<Account>) {
        let account = Arc::new(Account::default());
        let bounds = config::Inbox { messages_max: 8, bytes_max: 1_000, overflow: Overflow::DropOldest };
        let inbox = Arc::new(Inbox::new(bounds, Arc::clone(&account)));
        (Timers::new(links, Arc::clone(&inbox), Arc::clone(&account)), inbox, account)
    }

    #[tokio::test(start_paused = true)]
    async fn timers_keep_their_grid_and_their_names() {
        // Goal: the first message at once, each later one on the grid, and nothing shifts it. Method: two timers, of which
        // the messages are taken late but in time, on a paused clock.
        let (timers, inbox, account) = set(&[link("fast", EVERY), link("slow", 10 * EVERY)]);
        let begun = Instant::now();
        let read = async {
            let mut fast = 0;
            let mut slow = 0;
            while slow < 3 {
                let Post::Letter(letter) = inbox.next().await else { panic!("a request") };
                let due = match &*letter.subject {
                    "timer.fast" => &mut fast,
                    "timer.slow" => &mut slow,
                    other => panic!("{other}"),
                };
                let every = if letter.subject == "timer.fast" { EVERY } else { 10 * EVERY };
                let late = begun.elapsed() - every * *due;
                assert!(late <= Duration::from_millis(65), "{} is {late:?} late", letter.subject);
                *due += 1;
                assert!(letter.body.is_empty() && letter.reply_to.is_none());
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            fast
        };
        let fast = tokio::select! {
            () = timers.run() => unreachable!("timers do not end"),
            fast = read => fast,
        };
        assert!((19..=22).contains(&fast), "{fast} in two seconds");
        assert_eq!(account.ticks_missed.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_falls_due_while_one_waits_is_missed_and_counted() {
        // Goal: a component that is busy for ten periods gets one message afterwards, not ten. Method: nobody takes any for
        // that long; then a machine that was held up between two ticks.
        let (timers, inbox, account) = set(&[link("default", EVERY)]);
        tokio::select! {
            () = timers.run() => unreachable!("timers do not end"),
            () = tokio::time::sleep(EVERY * 10 + EVERY / 2) => {}
        }
        assert!(matches!(inbox.next().await, Post::Letter(letter) if letter.subject == "timer.default"));
        assert!(tokio::time::timeout(EVERY, inbox.next()).await.is_err(), "there was one");
        let missed = account.ticks_missed.load(Ordering::Relaxed);
        assert_eq!((missed, account.received.load(Ordering::Relaxed)), (10, 1));

        let now = Instant::now();
        let mut timer = Timer { subject: String::new(), every: EVERY, due: now };
        assert_eq!(timer.pass(now + EVERY * 7 + EVERY / 2), 7);
        assert_eq!(timer.due, now + EVERY * 8);
    }
}
