//! Modbus slaves on a serial line: one master, frames kept apart by silence, and nothing late taken for the next answer.
//!
//! An answer on this line says whose it is and to which function, not to which request. So after a request without an
//! answer, or with a broken one, the master listens and forgets what it hears until the line is quiet ([`Rtu::settle`]): as
//! long again as it has waited, or until what came late has ended. What comes between requests is forgotten as well. An
//! answer that is later than twice the device's `timeout`, to a request for as many registers of the same kind from the same
//! unit, cannot be told from the right one by anybody.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use serial2_tokio::SerialPort;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_modbus::Slave;
use tokio_modbus::client::Client as _;

use super::modbus::{self, GARBLED, Query};
use super::{After, Answer, Refusal, serial};
use crate::config::SerialLine;

/// Above this speed the silence between frames is 1.75 ms, whatever the speed (Modbus over serial line V1.02, 2.5.1.1).
const SILENCE_FIXED_ABOVE: u32 = 19_200;
const SILENCE_MIN: Duration = Duration::from_micros(1_750);
/// A frame that has begun and does not go on for this long, or ten characters, is over. USB adapters pass bytes on every
/// 16 ms, and a busy machine takes them later.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// A frame has 256 bytes.
const FRAME_BYTES: usize = 256;

/// The line.
pub(super) struct Rtu {
    port: SerialPort,
    patience: Duration,
    /// Between the end of one frame and the beginning of the next.
    silence: Duration,
    /// After which a frame is over.
    pause: Duration,
    /// When the line may be used again.
    free_at: Instant,
    /// The request before had bytes for an answer, but no answer.
    heard_something: bool,
}

/// The line as the library sees it, for one request. Counts what was heard.
#[derive(Debug)]
struct Ear {
    port: SerialPort,
    heard: Arc<AtomicUsize>,
}

// === impl Rtu ===

impl Rtu {
    /// Opens the port and sets it.
    pub fn open(line: &SerialLine, patience: Duration) -> io::Result<Rtu> {
        let port = serial::open(line)?;
        let character = serial::character(line);
        let silence = match line.baud {
            baud if baud > SILENCE_FIXED_ABOVE => SILENCE_MIN,
            _ => character * 7 / 2,
        };
        let pause = PAUSE_MIN.max(character * 10);
        // What a slave is still saying is not for us.
        Ok(Rtu { port, patience, silence, pause, free_at: Instant::now() + silence, heard_something: false })
    }

    pub async fn call(&mut self, unit: u8, query: &Query) -> (Result<Answer, Refusal>, After) {
        self.heard_something = false;
        sleep_until(self.free_at).await;
        let heard = Arc::new(AtomicUsize::new(0));
        let ear = self.port.discard_input_buffer().and_then(|()| self.port.try_clone());
        let mut context = match ear {
            Ok(port) => {
                tokio_modbus::client::rtu::attach_slave(Ear { port, heard: Arc::clone(&heard) }, Slave(unit))
            }
            Err(error) => return lost(&error),
        };
        let called = tokio::select! {
            biased;
            called = timeout(self.patience, context.call(query.request())) => called.ok(),
            () = garbled(&heard, self.pause) => None,
        };
        self.free_at = Instant::now() + self.silence;
        self.heard_something = heard.load(Ordering::Relaxed) > 0;
        match called.map(|heard| modbus::judge(query, heard)) {
            None if self.heard_something => (Err(Refusal::Malformed(GARBLED)), After::Unsettled),
            None => (Err(Refusal::Timeout), After::Unsettled),
            Some(Ok(Err(refusal @ Refusal::Malformed(_)))) => (Err(refusal), After::Unsettled),
            Some(Ok(answer)) => (answer, After::Sound),
            Some(Err(error)) => lost(&error),
        }
    }

    /// Listens until nothing late can be expected any more, and forgets it.
    pub async fn settle(&mut self) -> Result<(), String> {
        // Something has come already: only its end is waited for.
        let wait = if self.heard_something { self.pause } else { self.patience.max(self.pause) };
        let latest = Instant::now() + self.patience * 2 + self.pause;
        let mut until = Instant::now() + wait;
        let mut bytes = [0; FRAME_BYTES];
        // On a line that is never quiet it is left at that: what is asked next fails, and is settled again.
        while Instant::now() < latest
            && let Ok(read) = timeout_at(until.min(latest), self.port.read(&mut bytes)).await
        {
            match read {
                Ok(0) => return Err(HUNG_UP.to_owned()),
                Ok(_) => until = Instant::now() + self.pause,
                Err(error) => return Err(error.to_string()),
            }
        }
        self.free_at = Instant::now() + self.silence;
        Ok(())
    }

    /// Forgets what comes while nothing is asked, until the port is lost.
    ///
    /// Cancel-safe: bytes that were read are of no use anyway.
    pub async fn idle(&mut self) -> String {
        let mut bytes = [0; FRAME_BYTES];
        loop {
            match self.port.read(&mut bytes).await {
                Ok(0) => return HUNG_UP.to_owned(),
                Ok(_) => self.free_at = Instant::now() + self.silence,
                Err(error) => return error.to_string(),
            }
        }
    }
}

/// Said of a port that has come to its end.
pub(super) const HUNG_UP: &str = "the port has hung up";

fn lost(error: &io::Error) -> (Result<Answer, Refusal>, After) {
    let why = match error.kind() {
        io::ErrorKind::BrokenPipe => HUNG_UP.to_owned(),
        _ => error.to_string(),
    };
    (Err(Refusal::NotThere(why.clone())), After::Lost(why))
}

/// Ends when bytes have come, and then none for so long that no frame can be made of them any more.
async fn garbled(heard: &AtomicUsize, pause: Duration) {
    let mut before = 0;
    loop {
        sleep(pause).await;
        let now = heard.load(Ordering::Relaxed);
        if now > 0 && now == before {
            return;
        }
        before = now;
    }
}

// === impl Ear ===

impl AsyncRead for Ear {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.port).poll_read(context, buffer);
        self.heard.fetch_add(buffer.filled().len() - before, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Ear {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.port).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port).poll_shutdown(context)
    }
}
