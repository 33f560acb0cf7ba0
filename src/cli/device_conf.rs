//! `frond device-conf`: writes the drop-in by which systemd lets the service reach the devices of the configuration, and no
//! others.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::check::load_or_explain;
use super::exit::Exit;
use super::output;
use crate::config::{Device, DeviceEnd};

/// Who may use serial ports on Debian.
const SERIAL_GROUP: &str = "dialout";

/// Arguments of `frond device-conf`.
#[derive(Debug, Clone, clap::Args)]
pub struct DeviceConfArgs {
    /// Configuration file; the conf.d beside it is read, too [default: /etc/frond/frond.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Prints it. The exit code is [`Exit::NotApplicable`] when the configuration names no device file.
pub fn device_conf(args: &DeviceConfArgs) -> Exit {
    let config = match load_or_explain(args.config.as_deref(), &mut std::io::stderr()) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    match render(&config.devices) {
        Some(text) => {
            output::lines(text);
            Exit::Ok
        }
        None => {
            eprintln!("frond: the configuration names no device file");
            Exit::NotApplicable
        }
    }
}

/// The drop-in, if one is needed.
fn render(devices: &[Device]) -> Option<String> {
    let mut allowed = BTreeSet::new();
    let mut has_serial = false;
    for device in devices {
        match &device.end {
            DeviceEnd::ModbusRtu(line) | DeviceEnd::Serial(line) => {
                has_serial = true;
                allowed.extend(rules(&line.path));
            }
            DeviceEnd::Gpio(line) => allowed.extend(rules(&line.chip)),
            DeviceEnd::ModbusTcp { .. } => {}
        }
    }
    if allowed.is_empty() {
        return None;
    }
    let mut text =
        "# What frond.toml names as [[device]]; written by `frond device-conf`.\n[Service]\n".to_owned();
    // DevicePolicy=closed stays: of all that is in /dev then, the unit may open what follows.
    text.push_str("PrivateDevices=no\n");
    for rule in allowed {
        let _ = writeln!(text, "DeviceAllow={rule} rw");
    }
    if has_serial {
        let _ = writeln!(text, "SupplementaryGroups={SERIAL_GROUP}");
    }
    Some(text)
}

/// What systemd calls a device file. It passes over one that is not there when the service starts: adapters that are plugged
/// in later, and chips whose driver comes later, are allowed by their kind.
fn rules(path: &Path) -> Vec<String> {
    let text = path.display().to_string();
    let is_kind = |kind: &str| text.starts_with(&format!("/dev/{kind}"));
    let kinds: &[&str] = match () {
        () if text.starts_with("/dev/serial/") => &["ttyUSB", "ttyACM"],
        () if is_kind("gpiochip") => &["gpiochip"],
        () if is_kind("ttyUSB") => &["ttyUSB"],
        () if is_kind("ttyACM") => &["ttyACM"],
        () => return vec![text.replace('%', "%%")],
    };
    kinds.iter().map(|kind| format!("char-{kind}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn drop_in(toml: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("frond.toml");
        std::fs::write(&file, format!("gateway.name = \"gw-1\"\n{toml}")).unwrap();
        let config: Config = load_or_explain(Some(&file), &mut Vec::new()).unwrap();
        render(&config.devices)
    }

    #[test]
    fn the_service_may_reach_what_is_named_and_nothing_else() {
        // Goal: each device file once, adapters and chips by their kind, groups only where they are needed, and nothing for a gateway
        // without device files. Method: the text.
        let serial = |name: &str, kind: &str, path: &str| {
            format!("[[device]]\nname = \"{name}\"\nkind = \"{kind}\"\npath = \"{path}\"\nbaud = 9600\n")
        };
        let gpio = |name: &str, line: u8| {
            format!(
                "[[device]]\nname = \"{name}\"\nkind = \"gpio\"\nchip = \"/dev/gpiochip0\"\nline = {line}\n"
            )
        };
        let tcp = "[[device]]\nname = \"inverter\"\nkind = \"modbus-tcp\"\naddress = \"10.0.0.7\"\n";
        assert_eq!((drop_in(""), drop_in(tcp)), (None, None));
        let head = "# What frond.toml names as [[device]]; written by `frond device-conf`.\n[Service]\nPrivateDevices=no\n";
        let lines = gpio("door", 17) + &gpio("lamp", 18);
        assert_eq!(drop_in(&lines).unwrap(), format!("{head}DeviceAllow=char-gpiochip rw\n"));
        let ports = serial("meter", "modbus-rtu", "/dev/ttyS1")
            + &serial("scale", "serial", "/dev/serial/by-id/usb-scale%1")
            + tcp;
        let allowed = "DeviceAllow=/dev/ttyS1 rw\nDeviceAllow=char-ttyACM rw\nDeviceAllow=char-ttyUSB rw\n";
        assert_eq!(drop_in(&ports).unwrap(), format!("{head}{allowed}SupplementaryGroups=dialout\n"));
    }
}
