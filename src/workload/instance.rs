//! One instance: a wasmtime store, and calls into it that give way and end by their deadline.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use wasmtime::Store;

use super::bindings::exports::wasmcloud::messaging::handler;
use super::bindings::wasmcloud::messaging::types::BrokerMessage;
use super::inbox::Letter;
use super::opener::Code;
use super::room::{Return, Room, Tools};
use crate::runtime::Fault;

/// After so many ticks of the epoch (10 ms each) a call gives way to other tasks.
const TICKS_AT_A_TIME: u64 = 1;

/// Most bytes taken over from a component in one call: some thirty of the largest messages.
const TAKEN_BYTES_MAX: usize = 8 << 20;

/// Longest reason of a trap that is logged.
const REASON_BYTES_MAX: usize = 512;

/// The instance.
pub(super) struct Instance {
    store: Store<Room>,
    guest: handler::Guest,
    deadline: Duration,
    /// Time that calls took of the thread they ran on, waiting not included.
    spent: Duration,
}

// === impl Instance ===

impl Instance {
    /// Makes an instance; nothing but its start functions has run.
    ///
    /// Cancel-safe: what was begun is dropped.
    pub async fn start(code: &Code, tools: &Arc<Tools>, deadline: Duration) -> Result<Instance, Fault> {
        let mut store =
            Store::new(code.pre.engine(), Room::new(Arc::clone(tools), Arc::clone(&code.secrets)));
        store.limiter(|room| &mut room.meter);
        store.set_hostcall_fuel(TAKEN_BYTES_MAX);
        store.set_epoch_deadline(TICKS_AT_A_TIME);
        store.epoch_deadline_async_yield_and_update(TICKS_AT_A_TIME);
        let started = timeout(deadline, code.pre.instantiate_async(&mut store)).await;
        let loaded = match started {
            Err(_) => return Err(Fault::Deadline),
            Ok(started) => started.and_then(|instance| code.handler.load(&mut store, &instance)),
        };
        match loaded {
            Ok(guest) => Ok(Instance { store, guest, deadline, spent: Duration::ZERO }),
            Err(error) => Err(fault(&error, &store)),
        }
    }

    /// Hands a message over. After a fault the instance is of no use any more.
    ///
    /// Cancel-safe in so far as a call that is dropped unwinds the component; the instance must be dropped with it.
    pub async fn handle(&mut self, letter: Letter) -> Result<Result<(), String>, Fault> {
        let back = letter.reply_to.clone().map(|subject| Return { subject, way: letter.way.clone() });
        self.store.data_mut().begin(back);
        self.store.set_epoch_deadline(TICKS_AT_A_TIME);
        let message =
            BrokerMessage { subject: letter.subject, body: letter.body.to_vec(), reply_to: letter.reply_to };
        let called = {
            let mut call = pin!(self.guest.call_handle_message(&mut self.store, &message));
            let timed = poll_fn(|context| {
                let begun = Instant::now();
                let polled = call.as_mut().poll(context);
                self.spent += begun.elapsed();
                polled
            });
            timeout(self.deadline, timed).await
        };
        match called {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(fault(&error, &self.store)),
            Err(_) => Err(Fault::Deadline),
        }
    }

    /// What calls have taken of the thread since this was asked.
    pub fn spent(&mut self) -> Duration {
        std::mem::take(&mut self.spent)
    }
}

fn fault(error: &wasmtime::Error, store: &Store<Room>) -> Fault {
    if store.data().meter.has_refused() {
        return Fault::Memory;
    }
    let mut reason = format!("{error:#}").replace(char::is_control, " ");
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    Fault::Trap(reason)
}
