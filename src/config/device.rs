//! Devices wired to the gateway, resolved.
//!
//! Values only. What they mean is in `crate::device`; how they are written down is in `config/frond.toml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// A `[[device]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What links call it.
    pub name: String,
    /// How long an answer may take, 10 ms to 60 s. Default 1 s.
    pub timeout: Duration,
    /// What it is.
    pub end: DeviceEnd,
}

/// What a device is, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceEnd {
    /// Modbus slaves on a serial line.
    ModbusRtu(SerialLine),
    /// A Modbus server, or a gateway to slaves behind it.
    ModbusTcp {
        /// Name or address.
        host: String,
        /// Default 502.
        port: u16,
    },
    /// A serial line, byte by byte.
    Serial(SerialLine),
    /// A line of a GPIO chip.
    Gpio(GpioLine),
}

/// A serial port and how it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialLine {
    /// Its device file.
    pub path: PathBuf,
    /// Bits a second, 50 to 4,000,000.
    pub baud: u32,
    /// 7 or 8. Default 8, and always 8 with Modbus.
    pub data_bits: u8,
    /// Default even with Modbus, as its specification says, and none otherwise.
    pub parity: Parity,
    /// 1 or 2. Default 1.
    pub stop_bits: u8,
}

/// Parity of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Parity {
    None,
    Odd,
    Even,
}

/// A line of a GPIO chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpioLine {
    /// The chip's device file.
    pub chip: PathBuf,
    /// Its number on the chip.
    pub line: u32,
    /// Which way.
    pub direction: Direction,
    /// Which level counts as active.
    pub polarity: Polarity,
    /// Resistor.
    pub bias: Bias,
}

/// Which way a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It is read. The default.
    Input,
    /// It is driven, with this level at first: `true` is active.
    Output(bool),
}

/// Which level of a line counts as active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Polarity {
    ActiveHigh,
    ActiveLow,
}

/// Resistor of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// Whatever it is. The default.
    AsIs,
    /// None.
    Disabled,
    /// To the supply.
    PullUp,
    /// To ground.
    PullDown,
}

// === impl Device ===

impl Device {
    /// Its device file, if it has one.
    pub fn path(&self) -> Option<&Path> {
        match &self.end {
            DeviceEnd::ModbusRtu(line) | DeviceEnd::Serial(line) => Some(&line.path),
            DeviceEnd::Gpio(line) => Some(&line.chip),
            DeviceEnd::ModbusTcp { .. } => None,
        }
    }

    /// As `kind` says it.
    pub fn kind(&self) -> &'static str {
        match self.end {
            DeviceEnd::ModbusRtu(_) => "modbus-rtu",
            DeviceEnd::ModbusTcp { .. } => "modbus-tcp",
            DeviceEnd::Serial(_) => "serial",
            DeviceEnd::Gpio(_) => "gpio",
        }
    }
}
