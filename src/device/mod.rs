//! Devices wired to the gateway: Modbus, serial lines, GPIO. One owner each; components ask it.
//!
//! ```text
//!  workload ──Request──▶ queue ──▶ Owner ──▶ port
//!      ▲               (bounded)     │
//!      └──────────── answer ─────────┘
//!
//!  Owner:   opening ──▶ ready ──lost before it worked──▶ absent ──pause──▶ opening
//!              ▲         │ ▲ │                            (refuses at once, with the reason)
//!              │no answer│ │ └─stale, or lost after it worked─▶ opening
//!              │         ▼ │quiet
//!              └─five─ settling (what comes late is heard and forgotten)
//! ```
//! A task for each `[[device]]` owns its port ([`Owner`]). It does what is asked one after the other, whoever asks. What a
//! component may ask is decided before ([`crate::workload`]); who is believed is decided in [`modbus`].
//! Power loss: nothing is kept. When full: a queue of [`REQUESTS_MAX`] refuses further requests as busy; bytes of a serial
//! line that nobody reads are dropped from the oldest on; both are counted in [`Account`].

mod account;
mod gpio;
mod modbus;
mod owner;
mod rtu;
mod serial;
mod tcp;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

pub use account::{Account, DeviceStatus, View};
pub use modbus::Query;
pub use owner::Owner;

use crate::config::DeviceEnd;

/// Requests waiting for one device: one from each of sixteen components, which wait for their answers.
pub const REQUESTS_MAX: usize = 16;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// Something of a Modbus slave.
    Modbus {
        /// Which.
        unit: u8,
        /// What.
        query: Query,
    },
    /// Bytes that have come by a serial line, waiting for the first of them until then.
    Read {
        /// Most of them.
        bytes_max: usize,
        /// Until when.
        until: Instant,
    },
    /// These bytes are to be written to it.
    Write(Vec<u8>),
    /// What has come by it and was not read is to be forgotten.
    DiscardInput,
    /// The level of a GPIO line.
    Level,
    /// An output is to have this level.
    SetLevel(bool),
    /// The next edge of an input.
    Edge {
        /// Waited for until then.
        until: Instant,
    },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Coils or inputs, or one level.
    Bits(Vec<bool>),
    /// Registers.
    Words(Vec<u16>),
    /// Bytes of a serial line.
    Bytes(Vec<u8>),
    /// An edge: `true` is rising.
    Edge(Option<bool>),
    /// It is done.
    Done,
}

/// Why something was not done. Texts are what a component is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The port cannot be opened, or was lost.
    #[error("it is not there: {0}")]
    NotThere(String),
    /// Nothing came in time, or its turn did not.
    #[error("no answer in time")]
    Timeout,
    /// The slave's own word.
    #[error("exception {0}")]
    Exception(u8),
    /// What came was no answer.
    #[error("{0}")]
    Malformed(&'static str),
    /// The question makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// The queue is full.
    #[error("too many requests wait for it")]
    Busy,
}

/// A request on its way to an owner.
#[derive(Debug)]
struct Request {
    ask: Ask,
    /// Not begun after this.
    until: Instant,
    reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// How the owner of one device is asked.
#[derive(Debug, Clone)]
struct Handle {
    kind: Kind,
    requests: mpsc::Sender<Request>,
    account: Arc<Account>,
}

/// What a device takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ModbusRtu,
    ModbusTcp,
    Serial,
    Gpio,
}

/// All devices of the gateway, by name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Devices {
    handles: Arc<BTreeMap<String, Handle>>,
}

/// What has become of a port after a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum After {
    /// Nothing.
    Sound,
    /// Something late may come, and must not be taken for the answer to what is asked next.
    Unsettled,
    /// Likewise, and only a new connection can tell.
    Stale,
    /// It is of no use any more, because of this.
    Lost(String),
}

// === impl Kind ===

impl Kind {
    fn of(end: &DeviceEnd) -> Kind {
        match end {
            DeviceEnd::ModbusRtu(_) => Kind::ModbusRtu,
            DeviceEnd::ModbusTcp { .. } => Kind::ModbusTcp,
            DeviceEnd::Serial(_) => Kind::Serial,
            DeviceEnd::Gpio(_) => Kind::Gpio,
        }
    }

    /// Refuses what a device of this kind cannot do, before it has to wait for that.
    fn judge(self, ask: &Ask) -> Result<(), Refusal> {
        match (self, ask) {
            (Kind::ModbusRtu, Ask::Modbus { unit, query }) => {
                if !modbus::is_slave(*unit) {
                    return Err(Refusal::Invalid("units on a serial line are 1 to 247"));
                }
                query.judge()
            }
            (Kind::ModbusTcp, Ask::Modbus { query, .. }) => query.judge(),
            (Kind::Serial, Ask::Read { bytes_max, .. }) => serial::judge_read(*bytes_max),
            (Kind::Serial, Ask::Write(bytes)) => serial::judge_write(bytes),
            (Kind::Serial, Ask::DiscardInput)
            | (Kind::Gpio, Ask::Level | Ask::SetLevel(_) | Ask::Edge { .. }) => Ok(()),
            (Kind::ModbusRtu | Kind::ModbusTcp, _) => Err(Refusal::Invalid("it is a Modbus device")),
            (Kind::Serial, _) => Err(Refusal::Invalid("it is a serial line")),
            (Kind::Gpio, _) => Err(Refusal::Invalid("it is a GPIO line")),
        }
    }
}

// === impl Devices ===

impl Devices {
    /// Of the handles that [`Owner::new`] gives.
    fn of(handles: BTreeMap<String, Handle>) -> Devices {
        Devices { handles: Arc::new(handles) }
    }

    /// Asks a device, and waits for the answer until then.
    ///
    /// Cancel-safe in so far as what was not begun is not done when nobody waits for it any more.
    pub async fn ask(&self, name: &str, ask: Ask, until: Instant) -> Result<Answer, Refusal> {
        let Some(handle) = self.handles.get(name) else {
            return Err(Refusal::Invalid("there is no [[device]] of this name"));
        };
        handle.account.count_request();
        let answered = match handle.kind.judge(&ask) {
            Ok(()) => handle.ask(ask, until).await,
            Err(refusal) => Err(refusal),
        };
        handle.account.count_outcome(answered.as_ref().err());
        answered
    }
}

// === impl Handle ===

impl Handle {
    async fn ask(&self, ask: Ask, until: Instant) -> Result<Answer, Refusal> {
        let (reply, answer) = oneshot::channel();
        let gone = || Refusal::NotThere("the gateway is stopping".to_owned());
        self.requests.try_send(Request { ask, until, reply }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Refusal::Busy,
            mpsc::error::TrySendError::Closed(_) => gone(),
        })?;
        match timeout_at(until, answer).await {
            Ok(answer) => answer.map_err(|_| gone())?,
            Err(_) => Err(Refusal::Timeout),
        }
    }
}

/// The owners of all devices, how they are asked, and where their status is read from.
pub fn owners(devices: &[crate::config::Device]) -> (Vec<Owner>, Devices, Vec<View>) {
    let (mut owners, mut handles, mut views) = (Vec::new(), BTreeMap::new(), Vec::new());
    for device in devices {
        let (owner, handle, view) = Owner::new(device.clone());
        owners.push(owner);
        handles.insert(device.name.clone(), handle);
        views.push(view);
    }
    (owners, Devices::of(handles), views)
}
