//! `[[device]]`.

use std::path::PathBuf;
use std::time::Duration;

use super::{FileKind, FilePlace, Judge};
use crate::config::device::{Bias, Device, DeviceEnd, Direction, GpioLine, Parity, Polarity, SerialLine};
use crate::config::fault::Fault;
use crate::config::names;
use crate::config::raw::{self, DeviceKind};
use crate::config::tree::KeyPath;

/// Most devices: each is a task, and a gateway has a handful of ports.
const DEVICES_MAX: usize = 16;
/// Slowest and fastest serial lines there are.
const BAUD_MIN: u32 = 50;
const BAUD_MAX: u32 = 4_000_000;
/// More lines than any chip has.
const LINE_MAX: u32 = 4_095;
/// The port that Modbus has been given.
const MODBUS_PORT: u16 = 502;

const TIMEOUT: Duration = Duration::from_secs(1);
const TIMEOUT_MIN: Duration = Duration::from_millis(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

const SERIAL_KEYS: [&str; 5] = ["path", "baud", "data_bits", "parity", "stop_bits"];
const TCP_KEYS: [&str; 1] = ["address"];
const GPIO_KEYS: [&str; 6] = ["chip", "line", "direction", "active_low", "bias", "initial"];

impl Judge<'_> {
    pub(super) fn devices(&mut self, raw: &[raw::Device]) -> Vec<Device> {
        let table = KeyPath::of("device");
        self.count(&table, raw.len(), DEVICES_MAX);
        let mut devices: Vec<Device> = Vec::new();
        for (n, raw) in raw.iter().enumerate() {
            let table = table.item(n);
            let Some(device) = self.device(&table, raw) else { continue };
            // Lines of one chip are apart; a serial port has one owner.
            let is_same = |other: &&Device| match (&device.end, &other.end) {
                (DeviceEnd::Gpio(one), DeviceEnd::Gpio(other)) => {
                    (&one.chip, one.line) == (&other.chip, other.line)
                }
                (DeviceEnd::Gpio(_), _) | (_, DeviceEnd::Gpio(_)) => false,
                _ => device.path().is_some() && device.path() == other.path(),
            };
            // Two of one name have been refused already.
            let is_other = |other: &&Device| other.name != device.name;
            if let Some(other) = devices.iter().filter(is_other).find(is_same) {
                self.refuse(&table, Fault::SameDevice { other: other.name.clone() });
            }
            devices.push(device);
        }
        devices
    }

    fn device(&mut self, table: &KeyPath, raw: &raw::Device) -> Option<Device> {
        let name = self.element_name(table, raw.name.as_deref());
        self.device_names.push(name.clone());
        let timeout = match raw.timeout {
            Some(timeout) => self.duration(&table.key("timeout"), timeout, TIMEOUT_MIN, TIMEOUT_MAX),
            None => TIMEOUT,
        };
        let Some(kind) = raw.kind else {
            self.missing(table, "kind");
            return None;
        };
        self.keys_of_others(table, raw, kind);
        let end = match kind {
            DeviceKind::ModbusRtu => DeviceEnd::ModbusRtu(self.serial_line(table, raw, kind)),
            DeviceKind::Serial => DeviceEnd::Serial(self.serial_line(table, raw, kind)),
            DeviceKind::ModbusTcp => self.modbus_tcp(table, raw),
            DeviceKind::Gpio => DeviceEnd::Gpio(self.gpio_line(table, raw)),
        };
        Some(Device { name, timeout, end })
    }

    /// Keys that mean nothing to a device of this kind.
    fn keys_of_others(&mut self, table: &KeyPath, raw: &raw::Device, kind: DeviceKind) {
        let own: &[&str] = match kind {
            DeviceKind::ModbusRtu | DeviceKind::Serial => &SERIAL_KEYS,
            DeviceKind::ModbusTcp => &TCP_KEYS,
            DeviceKind::Gpio => &GPIO_KEYS,
        };
        let said = [
            ("path", raw.path.is_some()),
            ("baud", raw.baud.is_some()),
            ("data_bits", raw.data_bits.is_some()),
            ("parity", raw.parity.is_some()),
            ("stop_bits", raw.stop_bits.is_some()),
            ("address", raw.address.is_some()),
            ("chip", raw.chip.is_some()),
            ("line", raw.line.is_some()),
            ("direction", raw.direction.is_some()),
            ("active_low", raw.active_low.is_some()),
            ("bias", raw.bias.is_some()),
            ("initial", raw.initial.is_some()),
        ];
        for (key, _) in said.into_iter().filter(|(key, said)| *said && !own.contains(key)) {
            self.refuse(&table.key(key), Fault::NotWithDevice { keys: own.join(", ") });
        }
    }

    fn serial_line(&mut self, table: &KeyPath, raw: &raw::Device, kind: DeviceKind) -> SerialLine {
        let key = |key: &str| table.key(key);
        let is_modbus = kind == DeviceKind::ModbusRtu;
        let baud = match raw.baud {
            Some(baud) => self.whole_number(&key("baud"), baud, BAUD_MIN, BAUD_MAX),
            None => {
                self.missing(table, "baud");
                BAUD_MIN
            }
        };
        // A frame of Modbus RTU is made of bytes.
        let least = if is_modbus { 8 } else { 7 };
        SerialLine {
            path: self.device_file(table, "path", raw.path.as_deref()),
            baud,
            data_bits: self.whole_number(&key("data_bits"), raw.data_bits.unwrap_or(8), least, 8),
            parity: match raw.parity {
                Some(raw::Parity::None) => Parity::None,
                Some(raw::Parity::Odd) => Parity::Odd,
                Some(raw::Parity::Even) => Parity::Even,
                None if is_modbus => Parity::Even,
                None => Parity::None,
            },
            stop_bits: self.whole_number(&key("stop_bits"), raw.stop_bits.unwrap_or(1), 1, 2),
        }
    }

    fn modbus_tcp(&mut self, table: &KeyPath, raw: &raw::Device) -> DeviceEnd {
        let Some(address) = &raw.address else {
            self.missing(table, "address");
            return DeviceEnd::ModbusTcp { host: String::new(), port: MODBUS_PORT };
        };
        match names::host_port(address) {
            Some((host, port)) => DeviceEnd::ModbusTcp { host, port: port.unwrap_or(MODBUS_PORT) },
            None => {
                self.refuse(&table.key("address"), Fault::HostAndPort { address: address.clone() });
                DeviceEnd::ModbusTcp { host: String::new(), port: MODBUS_PORT }
            }
        }
    }

    fn gpio_line(&mut self, table: &KeyPath, raw: &raw::Device) -> GpioLine {
        let line = match raw.line {
            Some(line) => self.whole_number(&table.key("line"), line, 0, LINE_MAX),
            None => {
                self.missing(table, "line");
                0
            }
        };
        let direction = match raw.direction {
            Some(raw::Direction::Out) => Direction::Output(raw.initial.unwrap_or(false)),
            None | Some(raw::Direction::In) => {
                if raw.initial.is_some() {
                    self.refuse(&table.key("initial"), Fault::InitialOfInput);
                }
                Direction::Input
            }
        };
        GpioLine {
            chip: self.device_file(table, "chip", raw.chip.as_deref()),
            line,
            direction,
            polarity: match raw.active_low {
                Some(true) => Polarity::ActiveLow,
                None | Some(false) => Polarity::ActiveHigh,
            },
            bias: match raw.bias {
                None | Some(raw::Bias::AsIs) => Bias::AsIs,
                Some(raw::Bias::Disabled) => Bias::Disabled,
                Some(raw::Bias::PullUp) => Bias::PullUp,
                Some(raw::Bias::PullDown) => Bias::PullDown,
            },
        }
    }

    fn device_file(&mut self, table: &KeyPath, key: &'static str, said: Option<&str>) -> PathBuf {
        let Some(said) = said else {
            self.missing(table, key);
            return PathBuf::new();
        };
        let path = self.path(&table.key(key), said);
        self.name_file(&table.key(key), &path, FileKind::Device, FilePlace::Known);
        path
    }
}
