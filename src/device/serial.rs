//! A serial line, byte by byte. What comes while nobody reads is kept, the newest [`KEPT_BYTES_MAX`] of it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serial2_tokio::{CharSize, FlowControl, Parity, SerialPort, Settings, StopBits};
use tokio::time::{Instant, timeout, timeout_at};

use super::rtu::HUNG_UP;
use super::{Account, After, Answer, Refusal};
use crate::config::{self, SerialLine};

/// Bytes that wait to be read: five seconds at 115,200 baud.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// Bytes of one write: what the kernel takes at once.
const WRITTEN_BYTES_MAX: usize = 4_096;
/// Bytes taken from the kernel at a time.
const CHUNK_BYTES: usize = 4_096;

/// The line.
pub(super) struct Serial {
    port: SerialPort,
    patience: Duration,
    kept: VecDeque<u8>,
    account: Arc<Account>,
}

/// Opens a port and sets it.
pub(super) fn open(line: &SerialLine) -> io::Result<SerialPort> {
    let port = SerialPort::open(&line.path, |mut settings: Settings| {
        settings.set_raw();
        settings.set_baud_rate(line.baud)?;
        settings.set_char_size(if line.data_bits == 7 { CharSize::Bits7 } else { CharSize::Bits8 });
        settings.set_parity(match line.parity {
            config::Parity::None => Parity::None,
            config::Parity::Odd => Parity::Odd,
            config::Parity::Even => Parity::Even,
        });
        settings.set_stop_bits(if line.stop_bits == 2 { StopBits::Two } else { StopBits::One });
        settings.set_flow_control(FlowControl::None);
        Ok(settings)
    })?;
    // Of a time when somebody else may have had it.
    port.discard_buffers()?;
    Ok(port)
}

/// How long a character takes on a line.
pub(super) fn character(line: &SerialLine) -> Duration {
    let parity = u32::from(line.parity != config::Parity::None);
    let bits = 1 + u32::from(line.data_bits) + parity + u32::from(line.stop_bits);
    Duration::from_secs(1) * bits / line.baud
}

pub(super) fn judge_read(bytes_max: usize) -> Result<(), Refusal> {
    match (1..=KEPT_BYTES_MAX).contains(&bytes_max) {
        true => Ok(()),
        false => Err(Refusal::Invalid("between 1 and 65536 bytes are read at a time")),
    }
}

pub(super) fn judge_write(bytes: &[u8]) -> Result<(), Refusal> {
    match (1..=WRITTEN_BYTES_MAX).contains(&bytes.len()) {
        true => Ok(()),
        false => Err(Refusal::Invalid("between 1 and 4096 bytes are written at a time")),
    }
}

// === impl Serial ===

impl Serial {
    pub fn open(line: &SerialLine, patience: Duration, account: Arc<Account>) -> io::Result<Serial> {
        Ok(Serial { port: open(line)?, patience, kept: VecDeque::new(), account })
    }

    pub async fn read(&mut self, bytes_max: usize, until: Instant) -> (Result<Answer, Refusal>, After) {
        if self.kept.is_empty()
            && let Ok(Err(why)) = timeout_at(until, self.hear()).await
        {
            return lost(why);
        }
        let bytes = self.kept.drain(..bytes_max.min(self.kept.len())).collect();
        (Ok(Answer::Bytes(bytes)), After::Sound)
    }

    pub async fn write(&mut self, bytes: &[u8]) -> (Result<Answer, Refusal>, After) {
        match timeout(self.patience, self.port.write_all(bytes)).await {
            Ok(Ok(())) => (Ok(Answer::Done), After::Sound),
            Ok(Err(error)) => lost(error.to_string()),
            Err(_) => (Err(Refusal::Timeout), After::Lost("the line takes no bytes".to_owned())),
        }
    }

    pub fn discard_input(&mut self) -> (Result<Answer, Refusal>, After) {
        self.kept.clear();
        match self.port.discard_input_buffer() {
            Ok(()) => (Ok(Answer::Done), After::Sound),
            Err(error) => lost(error.to_string()),
        }
    }

    /// Keeps what comes, until the port is lost.
    ///
    /// Cancel-safe: see [`Serial::hear`].
    pub async fn idle(&mut self) -> String {
        loop {
            if let Err(why) = self.hear().await {
                return why;
            }
        }
    }

    /// Waits for bytes and keeps them.
    ///
    /// Cancel-safe: bytes are kept as soon as they are read.
    async fn hear(&mut self) -> Result<(), String> {
        let mut chunk = [0; CHUNK_BYTES];
        match self.port.read(&mut chunk).await {
            Ok(0) => Err(HUNG_UP.to_owned()),
            Ok(count) => {
                self.kept.extend(&chunk[..count]);
                let over = self.kept.len().saturating_sub(KEPT_BYTES_MAX);
                self.kept.drain(..over);
                self.account.count_dropped(over);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

fn lost(why: String) -> (Result<Answer, Refusal>, After) {
    (Err(Refusal::NotThere(why.clone())), After::Lost(why))
}
