//! `frond:device`, as a component sees it: which devices its links name, and what they allow.
//!
//! Who is asked is [`crate::device`]. A call returns a tenth of the component's deadline before that deadline, so that a
//! slow device is an error that the component can deal with, and not its end.

use std::time::Duration;

use tokio::time::Instant;

use super::gateway::frond::device::gpio::Edge;
use super::gateway::frond::device::types::{self, Error};
use super::gateway::frond::device::{gpio, modbus, serial};
use super::room::Room;
use crate::config::{Access, LinkEnd};
use crate::device::{Answer, Ask, Query, Refusal};

/// What a trappable host function gives back.
type Given<T> = wasmtime::Result<Result<T, Error>>;

// === impl Room ===

impl Room {
    /// Whether a link names the device, and allows what is wanted with it.
    fn may_use(&self, device: &str, wanted: Access) -> Result<(), Error> {
        let mut named = false;
        for link in &self.tools.links {
            let LinkEnd::Device { devices, access } = &link.end else { continue };
            if devices.iter().any(|name| name == device) {
                if wanted == Access::Read || *access == Access::Write {
                    return Ok(());
                }
                named = true;
            }
        }
        Err(Error::NotGranted(match named {
            true => format!(
                "writing to device {device:?}; target_config.write = true in the [[component.link]] that names it grants it"
            ),
            false => format!(
                "device {device:?}; target_config.devices of a [[component.link]] with interface = \"frond:device\" grants it"
            ),
        }))
    }

    /// When a call that is still under way must come back.
    fn until(&self) -> Instant {
        self.ends.checked_sub(self.tools.deadline / 10).unwrap_or(self.ends)
    }

    async fn ask_device(&mut self, device: &str, wanted: Access, ask: Ask) -> Result<Answer, Error> {
        self.may_use(device, wanted)?;
        self.tools.devices.ask(device, ask, self.until()).await.map_err(error)
    }

    async fn query(&mut self, device: &str, unit: u8, query: Query) -> Result<Answer, Error> {
        let wanted = if query.is_read() { Access::Read } else { Access::Write };
        self.ask_device(device, wanted, Ask::Modbus { unit, query }).await
    }
}

fn error(refusal: Refusal) -> Error {
    match refusal {
        Refusal::NotThere(why) => Error::NotThere(why),
        Refusal::Timeout => Error::Timeout,
        Refusal::Exception(code) => Error::Exception(code),
        Refusal::Malformed(why) => Error::Malformed(why.to_owned()),
        Refusal::Invalid(why) => Error::Invalid(why.to_owned()),
        Refusal::Busy => Error::Busy,
    }
}

/// An answer of another kind than was asked for, which owners do not give.
fn other() -> Error {
    Error::Malformed("the answer is of another kind".to_owned())
}

fn bits(answer: Result<Answer, Error>) -> Given<Vec<bool>> {
    Ok(answer.and_then(|answer| if let Answer::Bits(bits) = answer { Ok(bits) } else { Err(other()) }))
}

fn words(answer: Result<Answer, Error>) -> Given<Vec<u16>> {
    Ok(answer.and_then(|answer| if let Answer::Words(words) = answer { Ok(words) } else { Err(other()) }))
}

fn done(answer: Result<Answer, Error>) -> Given<()> {
    Ok(answer.and_then(|answer| if answer == Answer::Done { Ok(()) } else { Err(other()) }))
}

impl types::Host for Room {}

impl modbus::Host for Room {
    async fn read_coils(&mut self, device: String, unit: u8, address: u16, count: u16) -> Given<Vec<bool>> {
        bits(self.query(&device, unit, Query::Coils { address, count }).await)
    }

    async fn read_discrete_inputs(
        &mut self,
        device: String,
        unit: u8,
        address: u16,
        count: u16,
    ) -> Given<Vec<bool>> {
        bits(self.query(&device, unit, Query::DiscreteInputs { address, count }).await)
    }

    async fn read_holding_registers(
        &mut self,
        device: String,
        unit: u8,
        address: u16,
        count: u16,
    ) -> Given<Vec<u16>> {
        words(self.query(&device, unit, Query::HoldingRegisters { address, count }).await)
    }

    async fn read_input_registers(
        &mut self,
        device: String,
        unit: u8,
        address: u16,
        count: u16,
    ) -> Given<Vec<u16>> {
        words(self.query(&device, unit, Query::InputRegisters { address, count }).await)
    }

    async fn write_coil(&mut self, device: String, unit: u8, address: u16, value: bool) -> Given<()> {
        done(self.query(&device, unit, Query::WriteCoil { address, value }).await)
    }

    async fn write_register(&mut self, device: String, unit: u8, address: u16, value: u16) -> Given<()> {
        done(self.query(&device, unit, Query::WriteRegister { address, value }).await)
    }

    async fn write_coils(&mut self, device: String, unit: u8, address: u16, values: Vec<bool>) -> Given<()> {
        done(self.query(&device, unit, Query::WriteCoils { address, values }).await)
    }

    async fn write_registers(
        &mut self,
        device: String,
        unit: u8,
        address: u16,
        values: Vec<u16>,
    ) -> Given<()> {
        done(self.query(&device, unit, Query::WriteRegisters { address, values }).await)
    }
}

impl serial::Host for Room {
    async fn read(&mut self, device: String, bytes_max: u32, timeout_ms: u32) -> Given<Vec<u8>> {
        let until = self.waited_for(timeout_ms);
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let answer = self.ask_device(&device, Access::Read, Ask::Read { bytes_max, until }).await;
        Ok(answer.and_then(|answer| if let Answer::Bytes(bytes) = answer { Ok(bytes) } else { Err(other()) }))
    }

    async fn write(&mut self, device: String, bytes: Vec<u8>) -> Given<()> {
        done(self.ask_device(&device, Access::Write, Ask::Write(bytes)).await)
    }

    async fn discard_input(&mut self, device: String) -> Given<()> {
        done(self.ask_device(&device, Access::Read, Ask::DiscardInput).await)
    }
}

impl gpio::Host for Room {
    async fn read(&mut self, device: String) -> Given<bool> {
        let levels = bits(self.ask_device(&device, Access::Read, Ask::Level).await)?;
        Ok(levels.and_then(|levels| levels.first().copied().ok_or_else(other)))
    }

    async fn write(&mut self, device: String, active: bool) -> Given<()> {
        done(self.ask_device(&device, Access::Write, Ask::SetLevel(active)).await)
    }

    async fn wait_for_edge(&mut self, device: String, timeout_ms: u32) -> Given<Option<Edge>> {
        let until = self.waited_for(timeout_ms);
        let answer = self.ask_device(&device, Access::Read, Ask::Edge { until }).await;
        let edge = |is_rising| if is_rising { Edge::Rising } else { Edge::Falling };
        Ok(answer.and_then(|answer| match answer {
            Answer::Edge(came) => Ok(came.map(edge)),
            Answer::Bits(_) | Answer::Words(_) | Answer::Bytes(_) | Answer::Done => Err(other()),
        }))
    }
}

impl Room {
    /// How long a component that names a time is made to wait: a little less than until it must have its answer.
    fn waited_for(&self, timeout_ms: u32) -> Instant {
        let most = self.until().checked_sub(self.tools.deadline / 20).unwrap_or_else(Instant::now);
        (Instant::now() + Duration::from_millis(timeout_ms.into())).min(most)
    }
}
