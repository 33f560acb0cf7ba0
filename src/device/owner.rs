//! The task that owns one device: it opens the port, does what is asked in turn, and opens it again when it is lost.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::account::{Account, Standing, View};
use super::gpio::Gpio;
use super::rtu::Rtu;
use super::serial::Serial;
use super::tcp::Tcp;
use super::{After, Answer, Ask, Handle, Kind, REQUESTS_MAX, Refusal, Request};
use crate::config::{Device, DeviceEnd};

/// First and longest pause before a device that is not there is tried again: a plug that was pulled comes back in seconds,
/// and a cabinet without power should not fill the log.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Requests in a row without a sound answer after which a port is opened anew: USB adapters hang.
const UNSETTLED_MAX: u32 = 5;

/// The task.
#[derive(Debug)]
pub struct Owner {
    device: Device,
    requests: mpsc::Receiver<Request>,
    account: Arc<Account>,
    standing: watch::Sender<Standing>,
}

/// Why a port is left.
enum Leave {
    /// Another one is likely to do: it is opened at once.
    Stale,
    /// It has never worked, for this reason: the next is opened after a pause.
    Broken(String),
}

/// An open port.
enum Port {
    Rtu(Rtu),
    Tcp(Tcp),
    Serial(Serial),
    Gpio(Gpio),
}

// === impl Owner ===

impl Owner {
    /// The task, how it is asked, and where its status is read from.
    pub(super) fn new(device: Device) -> (Owner, Handle, View) {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let account = Arc::new(Account::default());
        let (standing, seen) = watch::channel(Standing::Opening);
        let handle = Handle { kind: Kind::of(&device.end), requests: sender, account: Arc::clone(&account) };
        let view = View {
            name: device.name.clone(),
            kind: device.kind(),
            account: Arc::clone(&account),
            standing: seen,
        };
        (Owner { device, requests, account, standing }, handle, view)
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.device.name
    }

    /// Runs until stopped. Nothing that the device does ends it.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        // Cancel-safe: components, which ask, have been stopped before.
        stop.run_until_cancelled(self.serve()).await;
        Ok(())
    }

    async fn serve(&mut self) {
        let mut pause = PAUSE_MIN;
        let mut is_first = true;
        loop {
            if !std::mem::take(&mut is_first) {
                self.account.count_reopening();
            }
            let opened = match Port::open(&self.device, &self.account).await {
                Ok(port) => {
                    self.ready();
                    self.work(port).await
                }
                Err(why) => Leave::Broken(why),
            };
            let Leave::Broken(mut why) = opened else {
                pause = PAUSE_MIN;
                continue;
            };
            why.truncate(why.floor_char_boundary(REASON_BYTES_MAX));
            self.absent(&why);
            self.refuse_until(Instant::now() + pause, &why).await;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    fn ready(&self) {
        if self.standing.send_replace(Standing::Ready) != Standing::Ready {
            tracing::info!(device = self.device.name, "device is there");
        }
    }

    fn absent(&self, why: &str) {
        if !matches!(self.standing.send_replace(Standing::Absent(why.to_owned())), Standing::Absent(_)) {
            tracing::warn!(device = self.device.name, why, "device is not there, trying again");
        }
    }

    /// Does what is asked until the port is of no use any more.
    async fn work(&mut self, mut port: Port) -> Leave {
        let (mut unsettled, mut has_worked) = (0, false);
        let broken = |why, has_worked| if has_worked { Leave::Stale } else { Leave::Broken(why) };
        loop {
            // Cancel-safe: a request is taken whole, and what is heard meanwhile is kept or of no use.
            let request = tokio::select! {
                biased;
                request = self.requests.recv() => request,
                why = port.idle() => return broken(why, has_worked),
            };
            let Some(Request { ask, until, mut reply }) = request else {
                return std::future::pending().await;
            };
            // Nobody waits for it any more: what is not wanted is not done.
            if reply.is_closed() || until <= Instant::now() {
                continue;
            }
            // Cancel-safe: whoever asked has gone or gives up; the line is settled as after any answer that did not come.
            let (answer, after) = tokio::select! {
                done = port.serve(ask) => done,
                () = reply.closed() => (Err(Refusal::Timeout), port.after_cut()),
            };
            let _ = reply.send(answer);
            match after {
                After::Sound => (unsettled, has_worked) = (0, true),
                After::Stale => return Leave::Stale,
                After::Lost(why) => return broken(why, has_worked),
                After::Unsettled => {
                    unsettled += 1;
                    if let Err(why) = port.settle().await {
                        return broken(why, has_worked);
                    }
                    if unsettled >= UNSETTLED_MAX {
                        return Leave::Stale;
                    }
                }
            }
        }
    }

    /// While the device is not there, everybody is told at once.
    async fn refuse_until(&mut self, until: Instant, why: &str) {
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                request = self.requests.recv() => match request {
                    Some(request) => {
                        let _ = request.reply.send(Err(Refusal::NotThere(why.to_owned())));
                    }
                    None => return std::future::pending().await,
                },
            }
        }
    }
}

/// Longest reason that is told.
const REASON_BYTES_MAX: usize = 200;

// === impl Port ===

impl Port {
    async fn open(device: &Device, account: &Arc<Account>) -> Result<Port, String> {
        let at = |path: &std::path::Path, error: std::io::Error| format!("{}: {error}", path.display());
        match &device.end {
            DeviceEnd::ModbusRtu(line) => {
                Rtu::open(line, device.timeout).map(Port::Rtu).map_err(|error| at(&line.path, error))
            }
            DeviceEnd::ModbusTcp { host, port } => {
                Tcp::open(host, *port, device.timeout).await.map(Port::Tcp)
            }
            DeviceEnd::Serial(line) => Serial::open(line, device.timeout, Arc::clone(account))
                .map(Port::Serial)
                .map_err(|error| at(&line.path, error)),
            DeviceEnd::Gpio(line) => Gpio::open(line).map(Port::Gpio),
        }
    }

    async fn serve(&mut self, ask: Ask) -> (Result<Answer, Refusal>, After) {
        match (self, ask) {
            (Port::Rtu(rtu), Ask::Modbus { unit, query }) => rtu.call(unit, &query).await,
            (Port::Tcp(tcp), Ask::Modbus { unit, query }) => tcp.call(unit, &query).await,
            (Port::Serial(serial), Ask::Read { bytes_max, until }) => serial.read(bytes_max, until).await,
            (Port::Serial(serial), Ask::Write(bytes)) => serial.write(&bytes).await,
            (Port::Serial(serial), Ask::DiscardInput) => serial.discard_input(),
            (Port::Gpio(gpio), Ask::Level) => gpio.level(),
            (Port::Gpio(gpio), Ask::SetLevel(level)) => gpio.set_level(level),
            (Port::Gpio(gpio), Ask::Edge { until }) => gpio.edge(until).await,
            // Refused before it was queued.
            _ => (Err(Refusal::Invalid("it is another kind of device")), After::Sound),
        }
    }

    /// What has become of it when a request was cut off.
    fn after_cut(&self) -> After {
        match self {
            Port::Rtu(_) => After::Unsettled,
            Port::Tcp(_) => After::Stale,
            Port::Serial(_) | Port::Gpio(_) => After::Sound,
        }
    }

    /// Waits until nothing late can be taken for an answer any more. Fails with the reason if the port is lost meanwhile.
    async fn settle(&mut self) -> Result<(), String> {
        match self {
            Port::Rtu(rtu) => rtu.settle().await,
            Port::Tcp(_) | Port::Serial(_) | Port::Gpio(_) => Ok(()),
        }
    }

    /// Ends with the reason when the port is lost while nothing is asked.
    ///
    /// Cancel-safe: see what it is made of.
    async fn idle(&mut self) -> String {
        match self {
            Port::Rtu(rtu) => rtu.idle().await,
            Port::Serial(serial) => serial.idle().await,
            // A broken connection shows with the next request; the kernel ends no request by itself.
            Port::Tcp(_) | Port::Gpio(_) => std::future::pending().await,
        }
    }
}
