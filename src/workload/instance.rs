//! One instance: a wasmtime store, and calls into it that give way and end by their deadline.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::oneshot;
use tokio::task::unconstrained;
use tokio::time::timeout;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use super::bindings::exports::wasmcloud::messaging::handler;
use super::bindings::wasmcloud::messaging::types::BrokerMessage;
use super::http::{Refusal, Visit, deliver};
use super::inbox::Letter;
use super::opener::Code;
use super::room::{Return, Room, Tools};
use crate::runtime::{Fault, reason};

/// After so many ticks of the epoch (10 ms each) a call gives way to other tasks.
const TICKS_AT_A_TIME: u64 = 1;

/// Most bytes taken over from a component in one call: some thirty of the largest messages.
const TAKEN_BYTES_MAX: usize = 8 << 20;

/// Cannot happen: what a link brings is asked for when the component is opened.
const NOT_CALLED: &str = "it does not export what its links want to call";

/// The instance.
pub(super) struct Instance {
    store: Store<Room>,
    guest: Option<handler::Guest>,
    pages: Option<incoming_handler::Guest>,
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
            Ok(started) => started.and_then(|instance| {
                let guest = code.handler.as_ref().map(|code| code.load(&mut store, &instance)).transpose()?;
                let pages = code.pages.as_ref().map(|code| code.load(&mut store, &instance)).transpose()?;
                Ok((guest, pages))
            }),
        };
        match loaded {
            Ok((guest, pages)) => Ok(Instance { store, guest, pages, deadline, spent: Duration::ZERO }),
            Err(error) => Err(fault(&error, &store)),
        }
    }

    /// Hands a message over. After a fault the instance is of no use any more.
    ///
    /// Cancel-safe in so far as a call that is dropped unwinds the component; the instance must be dropped with it.
    pub async fn handle(&mut self, letter: Letter) -> Result<Result<(), String>, Fault> {
        let Some(guest) = &self.guest else { return Ok(Err(NOT_CALLED.to_owned())) };
        let back = letter.reply_to.clone().map(|subject| Return { subject, way: letter.way.clone() });
        self.store.data_mut().begin(back);
        self.store.set_epoch_deadline(TICKS_AT_A_TIME);
        let message =
            BrokerMessage { subject: letter.subject, body: letter.body.to_vec(), reply_to: letter.reply_to };
        let call = timed(guest.call_handle_message(&mut self.store, &message), &mut self.spent);
        match timeout(self.deadline, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(fault(&error, &self.store)),
            Err(_) => Err(Fault::Deadline),
        }
    }

    /// Has a request answered. What the component gives of an answer is passed on while it works, and what is not there
    /// when its call is over does not come. After a fault the instance is of no use any more.
    ///
    /// Cancel-safe as `handle` is; the request is answered with 503 then.
    pub async fn answer(&mut self, visit: Visit) -> Result<Result<(), String>, Fault> {
        let Some(pages) = &self.pages else { return Ok(Err(NOT_CALLED.to_owned())) };
        let Visit { request, answer_bytes_max, mut reply, .. } = visit;
        self.store.data_mut().begin(None);
        self.store.set_epoch_deadline(TICKS_AT_A_TIME);
        let (give, given) = oneshot::channel();
        let mut http = self.store.data_mut().http();
        let made = http.new_incoming_request(Scheme::Http, request);
        let made = made.and_then(|request| Ok((request, http.new_response_outparam(give)?)));
        let called = match made {
            Err(error) => Ok((Err(error), None)),
            Ok((request, out)) => {
                let call = timed(pages.call_handle(&mut self.store, request, out), &mut self.spent);
                // Not bounded by what a task may do at a time: what is there at the end of the call has to come along.
                let mut delivery = pin!(unconstrained(deliver(given, &mut reply, answer_bytes_max)));
                timeout(self.deadline, beside(call, delivery.as_mut())).await
            }
        };
        let fault = match called {
            Ok((Ok(()), Some(delivered))) => {
                reply.give(Err(Refusal::Failed));
                return Ok(delivered);
            }
            Ok((Ok(()), None)) => {
                reply.give(Err(Refusal::Failed));
                return Ok(Err("it left its answer unfinished".to_owned()));
            }
            Ok((Err(error), _)) => fault(&error, &self.store),
            Err(_) => Fault::Deadline,
        };
        let late = matches!(fault, Fault::Deadline);
        reply.give(Err(if late { Refusal::Late } else { Refusal::Failed }));
        Err(fault)
    }

    /// What calls have taken of the thread since this was asked.
    pub fn spent(&mut self) -> Duration {
        std::mem::take(&mut self.spent)
    }
}

/// A call, with the time that it takes of the thread added to `spent`.
async fn timed<T>(call: impl Future<Output = T>, spent: &mut Duration) -> T {
    let mut call = pin!(call);
    poll_fn(|context| {
        let begun = Instant::now();
        let polled = call.as_mut().poll(context);
        *spent += begun.elapsed();
        polled
    })
    .await
}

/// A call, and what goes on beside it, which gets no further than it can when the call is over.
async fn beside<T, U>(
    call: impl Future<Output = T>,
    mut other: impl Future<Output = U> + Unpin,
) -> (T, Option<U>) {
    let mut call = pin!(call);
    let mut done = None;
    loop {
        tokio::select! {
            biased;
            called = &mut call => {
                return match done {
                    Some(done) => (called, Some(done)),
                    None => (called, other.now_or_never()),
                };
            }
            ended = &mut other, if done.is_none() => done = Some(ended),
        }
    }
}

fn fault(error: &wasmtime::Error, store: &Store<Room>) -> Fault {
    if store.data().meter.has_refused() {
        return Fault::Memory;
    }
    Fault::Trap(reason(error))
}
