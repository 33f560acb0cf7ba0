//! Commands to what stands on site, from the call that gives them to whoever publishes them.
//!
//! ```text
//! given in a call ─▶ the call ends well ─▶ checkpoint that knows of it ─▶ queue ─▶ MQTT ─▶ acknowledged
//!   │ not allowed       │ it fails            │ power goes               │ full   │ 10 s old   │ refused, or the connection breaks
//!   ▼                   ▼                     ▼                          ▼        ▼            ▼
//!  told why            gone                  gone                       dropped, counted      counted
//! ```
//! At most once, whatever fails: the state in which a component has given a command is on flash before the command leaves, so
//! that nothing that is worked on again gives it again. A checkpoint is taken for it, at most every [`APART`]. An instance that
//! ends before it, or whose state cannot be stored, takes its commands with it: its successor goes on from an older state and
//! decides anew. What had not come so far when power went is given again with its readings, and is late then.
//!
//! Nothing leaves late: of what a command is given on, ten seconds have not passed since it was stored; readings that had to
//! wait for their component, and those that are worked on again after a start, are older than anybody knows. What is lost is
//! given anew by whoever sees that nothing moved.
//!
//! On a rollback the version before goes on from a state of its own, in which it has given what it saw given: a command that the
//! version on probation gave, and that waited for its checkpoint at that moment, is dropped, counted, and given by nobody.
//!
//! Bounds: [`CALL_MAX`] a call, [`TOPIC_BYTES_MAX`] and [`PAYLOAD_BYTES_MAX`], a rate for each component ([`super::quota`]);
//! [`WAITING_MAX`] wait for a checkpoint, as many for one that is written, as many for MQTT.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::ingest::topic;
use crate::runtime::counters::add;

/// A command that is older does not leave.
pub const AGE_MAX: Duration = Duration::from_secs(10);

/// Least time between two checkpoints that are taken for commands alone: each has the state of all components in it.
pub(super) const APART: Duration = Duration::from_millis(250);

/// Between two lines of the log that say that commands are dropped.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Most commands in one call.
const CALL_MAX: usize = 64;

/// Longest topic.
const TOPIC_BYTES_MAX: usize = 512;

/// Longest payload: a setpoint has some bytes, a recipe a few hundred.
const PAYLOAD_BYTES_MAX: usize = 4 << 10;

/// Commands that wait in one place: 1.2 MiB at the very worst.
const WAITING_MAX: usize = 256;

/// A command. Two are the same that say the same, whenever they were given.
#[derive(Debug, Clone)]
pub struct Command {
    /// Who gives it.
    pub component: String,
    /// The MQTT topic.
    pub topic: String,
    /// The message.
    pub payload: Vec<u8>,
    /// When that was stored on which it was given.
    pub since: Instant,
    /// The number of the instance.
    pub(super) instance: u64,
}

/// What became of commands since the start.
#[derive(Debug, Default)]
pub struct CommandAccount {
    /// Acknowledged by whoever has MQTT.
    pub left: AtomicU64,
    /// Dropped because too many waited, the instance that gave them ended before its checkpoint or had a state that is not
    /// taken, its version was rolled back, or the gateway stopped.
    pub dropped: AtomicU64,
    /// Dropped because they could not leave in time.
    pub late: AtomicU64,
    /// Refused by the broker.
    pub refused: AtomicU64,
    /// Sent, but the connection broke before they were acknowledged: nobody knows whether they arrived.
    pub unsure: AtomicU64,
}

/// The way to whoever publishes them.
#[derive(Debug, Clone)]
pub struct CommandSender {
    sender: mpsc::Sender<Command>,
    account: Arc<CommandAccount>,
}

/// Where commands wait for their checkpoint.
#[derive(Debug)]
pub(super) struct Gate {
    sender: CommandSender,
    /// No checkpoint knows of them.
    waiting: Vec<Command>,
    /// One that does is on its way to flash.
    leaving: Vec<Command>,
    /// When the log was last told that some are dropped.
    told: Option<Instant>,
}

/// What an instance gives in one call.
#[derive(Debug)]
pub(super) struct Given {
    component: String,
    /// Of the instance; no two of a process have the same.
    number: u64,
    allowed: Arc<[String]>,
    /// How many more; `None` outside of the calls that may give any.
    room: Option<usize>,
    commands: Vec<Command>,
    refused: usize,
    /// Why the last of these.
    refusal: Option<String>,
}

/// The way from the pipeline to whoever publishes commands.
pub fn channel() -> (CommandSender, mpsc::Receiver<Command>, Arc<CommandAccount>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let account = Arc::<CommandAccount>::default();
    (CommandSender { sender, account: account.clone() }, receiver, account)
}

// === impl Command ===

#[cfg(test)]
impl Command {
    /// To topic `t`, of nobody.
    pub(crate) fn sample(payload: u8, since: Instant) -> Command {
        Command { component: "press".into(), topic: "t".into(), payload: vec![payload], since, instance: 0 }
    }
}

impl PartialEq for Command {
    fn eq(&self, other: &Command) -> bool {
        let Command { component, topic, payload, since: _, instance: _ } = self;
        (component, topic, payload) == (&other.component, &other.topic, &other.payload)
    }
}

impl Eq for Command {}

// === impl Gate ===

impl Gate {
    /// In front of `sender`.
    pub(super) fn before(sender: CommandSender) -> Gate {
        Gate { sender, waiting: Vec::new(), leaving: Vec::new(), told: None }
    }

    /// Takes commands that were given on what was stored at `since`. `None`: too long ago.
    pub(super) fn take(&mut self, commands: Vec<Command>, since: Option<Instant>) {
        let Some(since) = since else { return add(&self.sender.account.late, commands.len()) };
        let room = WAITING_MAX - self.waiting.len();
        self.drop_some(commands.len().saturating_sub(room), "too many wait for a checkpoint");
        self.waiting.extend(commands.into_iter().take(room).map(|command| Command { since, ..command }));
    }

    /// Whether a checkpoint is wanted.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A checkpoint is made, in which is the state of these instances.
    pub(super) fn checkpoint(&mut self, stored: &BTreeSet<u64>) {
        let count = self.waiting.len();
        self.waiting.retain(|command| stored.contains(&command.instance));
        self.drop_some(
            count - self.waiting.len(),
            "the component has failed or was rolled back since, or its state is not taken",
        );
        self.leaving.append(&mut self.waiting);
    }

    /// It is on flash.
    pub(super) fn stored(&mut self) {
        let sender = &self.sender.sender;
        let dropped = self.leaving.drain(..).filter_map(|command| sender.try_send(command).err()).count();
        self.drop_some(dropped, "too many wait for MQTT, or the gateway stops");
    }

    /// The gateway has stopped.
    pub(super) fn close(mut self) {
        self.told = None;
        self.drop_some(self.waiting.len() + self.leaving.len(), "the gateway stops");
    }

    fn drop_some(&mut self, count: usize, why: &str) {
        if count == 0 {
            return;
        }
        add(&self.sender.account.dropped, count);
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            tracing::warn!(count, why, "commands of components are dropped");
        }
    }

    /// What became of them.
    pub(super) fn account(&self) -> &CommandAccount {
        &self.sender.account
    }
}

// === impl Given ===

impl Given {
    /// Of a new instance of a component that may use these topics.
    pub(super) fn by(component: &str, allowed: Arc<[String]>) -> Given {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Given {
            component: component.to_owned(),
            number,
            allowed,
            room: None,
            commands: Vec::new(),
            refused: 0,
            refusal: None,
        }
    }

    /// The number of the instance.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// A call begins that may give so many, or none at all.
    pub(super) fn begin(&mut self, room: Option<usize>) {
        self.room = room;
        self.commands.clear();
    }

    /// What was given in the call.
    pub(super) fn take(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// How many were refused since this was asked last, and why the last of them.
    pub(super) fn take_refused(&mut self) -> (usize, Option<String>) {
        (std::mem::take(&mut self.refused), self.refusal.take())
    }

    /// An error is for the component.
    pub(super) fn give(&mut self, topic: String, payload: Vec<u8>) -> Result<(), String> {
        if let Err(why) = self.judge(&topic, &payload) {
            self.refused += 1;
            self.refusal = Some(why.clone());
            return Err(why);
        }
        let (component, instance, since) = (self.component.clone(), self.number, Instant::now());
        self.commands.push(Command { component, topic, payload, since, instance });
        Ok(())
    }

    fn judge(&self, topic: &str, payload: &[u8]) -> Result<(), String> {
        let room = self.room.ok_or("commands are given in process and tick only")?;
        if topic.len() > TOPIC_BYTES_MAX {
            return Err(format!("a topic has at most {TOPIC_BYTES_MAX} bytes"));
        }
        if topic::validate_topic(topic).is_err() || topic.chars().any(char::is_control) {
            return Err(format!("{topic:?} is no topic"));
        }
        if !self.allowed.iter().any(|filter| topic::matches(filter, topic)) {
            return Err(format!("commands of its [[component]] does not allow the topic {topic:?}"));
        }
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(format!("a command has at most {PAYLOAD_BYTES_MAX} bytes"));
        }
        if self.commands.len() == CALL_MAX {
            return Err(format!("one call gives {CALL_MAX} commands at most"));
        }
        if self.commands.len() >= room {
            return Err("more commands a second than commands_per_second".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_is_refused_with_the_reason_and_the_rest_is_taken() {
        // Goal: topic, size, rate and moment are each looked at. Method: each refusal, then what is taken.
        let mut given = Given::by("press", ["line4/+/set".to_owned()].into());
        let give = |given: &mut Given, topic: &str, bytes| given.give(topic.to_owned(), vec![0; bytes]);
        let refused = |told: Result<(), String>, why: &str| assert!(told.unwrap_err().contains(why), "{why}");
        refused(give(&mut given, "line4/press/set", 1), "in process and tick only");
        given.begin(Some(2));
        refused(give(&mut given, "line5/press/set", 1), "does not allow the topic \"line5/press/set\"");
        refused(give(&mut given, "line4/+/set", 1), "is no topic");
        refused(give(&mut given, "line4/a\nb/set", 1), "is no topic");
        refused(give(&mut given, &format!("line4/{}/set", "x".repeat(512)), 1), "at most 512 bytes");
        refused(give(&mut given, "line4/press/set", 4097), "at most 4096 bytes");
        for _ in 0..2 {
            assert_eq!(give(&mut given, "line4/press/set", 4096), Ok(()));
        }
        refused(give(&mut given, "line4/press/set", 1), "commands_per_second");
        assert_eq!(
            given.take_refused(),
            (7, Some("more commands a second than commands_per_second".to_owned()))
        );
        assert_eq!(given.take_refused(), (0, None));
        let taken = given.take();
        assert_eq!((taken.len(), taken[0].component.as_str()), (2, "press"));
        given.begin(Some(1000));
        for _ in 0..CALL_MAX {
            assert_eq!(give(&mut given, "line4/lamp/set", 0), Ok(()));
        }
        refused(give(&mut given, "line4/lamp/set", 0), "one call gives 64");
        given.begin(None);
        assert_eq!(given.take(), [], "what a call that failed has given is gone");
    }

    #[test]
    fn a_command_waits_for_the_checkpoint_that_knows_of_it() {
        // Goal: none leaves before its state is on flash. Method: one before a checkpoint, one while it is written, the next
        // checkpoint; one of an instance whose state is not in it; one at the end.
        let (sender, mut receiver, account) = channel();
        let mut gate = Gate::before(sender);
        let (now, living) = (Instant::now(), BTreeSet::from([1]));
        gate.take(vec![command("first")], Some(now));
        assert!(gate.is_waiting());
        gate.checkpoint(&living);
        assert!(!gate.is_waiting() && receiver.try_recv().is_err());
        gate.take(vec![command("second")], Some(now));
        gate.stored();
        let left = receiver.try_recv().unwrap();
        assert_eq!((left.topic.as_str(), left.since), ("first", now));
        assert!(receiver.try_recv().is_err() && gate.is_waiting());
        gate.take(vec![Command { instance: 7, ..command("of one that failed") }], Some(now));
        gate.checkpoint(&living);
        gate.stored();
        assert_eq!(receiver.try_recv().unwrap().topic, "second");
        assert!(receiver.try_recv().is_err());
        gate.take(vec![command("third")], Some(now));
        gate.close();
        assert_eq!(account.dropped.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_is_too_late_or_too_much_is_counted() {
        // Goal: the pipeline never waits for MQTT, and nothing leaves on what is old. Method: commands on old readings; more
        // than wait for a checkpoint, and for MQTT; nobody who takes them.
        let (sender, mut receiver, account) = channel();
        let (mut gate, living) = (Gate::before(sender), BTreeSet::from([1]));
        let counts = || [&account.late, &account.dropped].map(|count| count.load(Ordering::Relaxed));
        gate.take(vec![command("t"); 2], None);
        assert!(!gate.is_waiting());
        assert_eq!(counts(), [2, 0]);
        gate.take(vec![command("t"); WAITING_MAX + 3], Some(Instant::now()));
        assert_eq!(counts(), [2, 3]);
        gate.checkpoint(&living);
        gate.take(vec![command("t"); 2], Some(Instant::now()));
        gate.checkpoint(&living);
        gate.stored();
        assert_eq!(counts(), [2, 5]);
        receiver.close();
        gate.take(vec![command("t")], Some(Instant::now()));
        gate.checkpoint(&living);
        gate.stored();
        assert_eq!(counts(), [2, 6]);
    }

    fn command(topic: &str) -> Command {
        Command {
            component: "press".into(),
            topic: topic.into(),
            payload: vec![],
            since: Instant::now(),
            instance: 1,
        }
    }
}
