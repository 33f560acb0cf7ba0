//! What waits for a workload: messages of all its links, and requests by HTTP, in the order they came, bounded in number
//! and bytes.
//!
//! Shared by the three parts of one task, which are polled in turn. When full, the oldest or the newest message is
//! dropped and counted; a request that is dropped is answered with 503, and never takes the place of anything else: a
//! client that knows only the page must not cost a message. Nothing outlives the process; what waits for a component that
//! is made anew, from another artifact or with another link, waits for its successor.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::account::{Account, count};
use super::http::Visit;
use crate::config::{self, Overflow};

/// Which way a message came, and an answer to it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// By MQTT, with the correlation data that an answer must carry.
    Mqtt { correlation: Option<Bytes> },
    /// By NATS.
    Nats,
    /// From a timer, which takes no answers.
    Timer,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    pub subject: String,
    pub body: Bytes,
    pub reply_to: Option<String>,
    pub way: Way,
}

/// What waits.
#[derive(Debug)]
pub(super) enum Post {
    Letter(Letter),
    Visit(Box<Visit>),
}

/// The inbox.
#[derive(Debug)]
pub(super) struct Inbox {
    bounds: config::Inbox,
    waiting: Mutex<Waiting>,
    filled: Notify,
    account: Arc<Account>,
}

#[derive(Debug, Default)]
struct Waiting {
    post: VecDeque<Post>,
    bytes: usize,
    /// Whether one was taken that nobody has said to be done.
    is_one_in_hand: bool,
}

// === impl Post ===

impl Post {
    fn bytes(&self) -> usize {
        match self {
            Post::Letter(letter) => letter.bytes(),
            Post::Visit(visit) => visit.bytes,
        }
    }
}

// === impl Letter ===

impl Letter {
    fn bytes(&self) -> usize {
        self.subject.len() + self.body.len() + self.reply_to.as_ref().map_or(0, String::len)
    }
}

// === impl Inbox ===

impl Inbox {
    pub fn new(bounds: config::Inbox, account: Arc<Account>) -> Inbox {
        Inbox { bounds, waiting: Mutex::default(), filled: Notify::new(), account }
    }

    /// Puts a message in, and drops what the bounds do not allow.
    pub fn put(&self, letter: Letter) {
        self.keep(Post::Letter(letter));
    }

    /// Puts a request in, if there is room.
    pub fn receive(&self, visit: Visit) {
        self.keep(Post::Visit(Box::new(visit)));
    }

    /// What was taken last is done with, one way or another.
    pub fn done(&self) {
        self.lock().is_one_in_hand = false;
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().post.len()
    }

    /// Takes everything over from the inbox of a task that has ended, within this one's own bounds. What that task had in
    /// hand went with it, and is lost.
    pub fn take_over(&self, former: &Inbox) {
        let left = std::mem::take(&mut *former.lock());
        if left.is_one_in_hand {
            count(&self.account.received);
            count(&self.account.lost);
        }
        left.post.into_iter().for_each(|post| self.keep(post));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of requests whose clients have gone.
    pub fn clear_gone(&self) {
        let mut waiting = self.lock();
        let Waiting { post, bytes, .. } = &mut *waiting;
        post.retain(|post| match post {
            Post::Visit(visit) if visit.is_gone() => {
                *bytes -= visit.bytes;
                false
            }
            Post::Visit(_) | Post::Letter(_) => true,
        });
    }

    fn keep(&self, post: Post) {
        count(&self.account.received);
        let bytes = post.bytes();
        let mut waiting = self.lock();
        let is_full = |waiting: &Waiting| {
            waiting.post.len() >= self.bounds.messages_max || waiting.bytes + bytes > self.bounds.bytes_max
        };
        let displaces = self.bounds.overflow == Overflow::DropOldest && matches!(post, Post::Letter(_));
        while displaces
            && is_full(&waiting)
            && let Some(oldest) = waiting.post.pop_front()
        {
            waiting.bytes -= oldest.bytes();
            count(&self.account.dropped);
        }
        // Also one that is larger than the whole inbox.
        if is_full(&waiting) {
            return count(&self.account.dropped);
        }
        waiting.bytes += bytes;
        waiting.post.push_back(post);
        self.filled.notify_one();
    }

    /// Puts the message of a timer in, unless its last one still waits: they do not pile up.
    pub fn tick(&self, subject: &str) {
        let waits = {
            let waiting = self.lock();
            let is_it = |letter: &Letter| letter.way == Way::Timer && letter.subject == subject;
            waiting.post.iter().any(|post| matches!(post, Post::Letter(letter) if is_it(letter)))
        };
        if waits {
            return count(&self.account.ticks_missed);
        }
        self.put(Letter { subject: subject.to_owned(), body: Bytes::new(), reply_to: None, way: Way::Timer });
    }

    /// The oldest message. It is in hand until [`Inbox::done`].
    ///
    /// Cancel-safe: a message is taken only when it is returned.
    pub async fn next(&self) -> Post {
        loop {
            let taken = {
                let mut waiting = self.lock();
                let taken = waiting.post.pop_front().inspect(|post| waiting.bytes -= post.bytes());
                waiting.is_one_in_hand |= taken.is_some();
                taken
            };
            match taken {
                Some(post) => return post,
                None => self.filled.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use hyper::Request;
    use std::sync::atomic::Ordering;

    fn letter(n: u8, bytes: usize) -> Letter {
        Letter { subject: String::new(), body: vec![n; bytes].into(), reply_to: None, way: Way::Nats }
    }

    async fn left(overflow: Overflow, sizes: &[usize]) -> (Vec<u8>, u64) {
        let account = Arc::new(Account::default());
        let bounds = config::Inbox { messages_max: 3, bytes_max: 100, overflow };
        let inbox = Inbox::new(bounds, Arc::clone(&account));
        for (n, bytes) in sizes.iter().enumerate() {
            inbox.put(letter(n as u8, *bytes));
        }
        let mut left = Vec::new();
        let dropped = account.dropped.load(Ordering::Relaxed);
        for _ in dropped..sizes.len() as u64 {
            let Post::Letter(letter) = inbox.next().await else { panic!("a request") };
            left.push(letter.body[0]);
        }
        assert_eq!(inbox.waiting.lock().unwrap().bytes, 0);
        (left, dropped)
    }

    #[tokio::test]
    async fn a_full_inbox_drops_its_oldest_or_its_newest_and_counts() {
        // Goal: number and bytes are bounded by either policy. Method: more than fits, by both measures; what is left.
        assert_eq!(left(Overflow::DropOldest, &[1, 1, 1, 1, 1]).await, (vec![2, 3, 4], 2));
        assert_eq!(left(Overflow::DropNewest, &[1, 1, 1, 1, 1]).await, (vec![0, 1, 2], 2));
        assert_eq!(left(Overflow::DropOldest, &[60, 30, 50]).await, (vec![1, 2], 1));
        assert_eq!(left(Overflow::DropNewest, &[60, 30, 50]).await, (vec![0, 1], 1));
        assert_eq!(left(Overflow::DropNewest, &[10, 101, 20]).await, (vec![0, 2], 1));
    }

    #[tokio::test]
    async fn a_successor_takes_over_what_waits_and_counts_what_was_in_hand() {
        // Goal: another version costs no message but the one that was being handled. Method: three messages, the first in hand,
        // and a smaller inbox after that; one that was done with is not lost.
        let bounds = config::Inbox { messages_max: 3, bytes_max: 100, overflow: Overflow::DropNewest };
        let former = Inbox::new(bounds, Arc::default());
        (0..4).for_each(|n| {
            former.put(letter(n, 1));
        });
        former.next().await;
        former.put(letter(4, 1));
        let account = Arc::new(Account::default());
        let small = config::Inbox { messages_max: 2, ..bounds };
        let successor = Inbox::new(small, Arc::clone(&account));
        successor.take_over(&former);
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((read(&account.received), read(&account.lost), read(&account.dropped)), (4, 1, 1));
        assert!(matches!(successor.next().await, Post::Letter(letter) if letter.body[0] == 1));
        successor.done();
        let last = Inbox::new(small, Arc::clone(&account));
        last.take_over(&successor);
        assert_eq!((last.len(), successor.len(), former.len(), read(&account.lost)), (1, 0, 0, 1));
    }

    #[tokio::test]
    async fn a_request_takes_no_message_s_place_and_leaves_none_behind_when_its_client_goes() {
        // Goal: whoever may only look at a page cannot push messages out. Method: an inbox full of messages, one with a
        // request in it whose client goes.
        let account = Arc::new(Account::default());
        let bounds = config::Inbox { messages_max: 2, bytes_max: 100, overflow: Overflow::DropOldest };
        let inbox = Inbox::new(bounds, Arc::clone(&account));
        let visit = || Visit::new(Request::new(Full::default()), 0, 1);
        inbox.put(letter(0, 1));
        let (waiting, answer) = visit();
        inbox.receive(waiting);
        let (refused, mut told) = visit();
        inbox.receive(refused);
        assert!(told.try_recv().is_err(), "dropped without an answer");
        inbox.clear_gone();
        assert_eq!(inbox.waiting.lock().unwrap().post.len(), 2);
        drop(answer);
        inbox.clear_gone();
        inbox.put(letter(1, 1));
        assert_eq!(account.dropped.load(Ordering::Relaxed), 1);
        for n in 0..2 {
            assert!(matches!(inbox.next().await, Post::Letter(letter) if letter.body[0] == n));
        }
        assert_eq!(inbox.waiting.lock().unwrap().bytes, 0);
    }
}
