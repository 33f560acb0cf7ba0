//! What `[[device]]` and links to devices refuse, and in which words; and what they come to.

use std::time::Duration;

use super::{doubted, refused, valid};
use crate::config::{
    Access, Bias, Device, DeviceEnd, Direction, GpioLine, LinkEnd, Parity, Polarity, SerialLine,
};

const RTU: &str = "[[device]]\nname = \"meter\"\nkind = \"modbus-rtu\"\npath = \"/dev/null\"\nbaud = 9600\n";
const GPIO: &str = "[[device]]\nname = \"door\"\nkind = \"gpio\"\nchip = \"/dev/zero\"\nline = 17\n";

fn link(target: &str) -> String {
    format!(
        "[[component]]\nname = \"c\"\nkind = \"wasmcloud\"\npath = \"/dev/null\"\n\
         [[component.link]]\ninterface = \"wasmcloud:messaging/handler\"\nprovider = \"timer\"\n\
         source_config = {{ every = \"1s\" }}\n\
         [[component.link]]\ninterface = \"frond:device\"\n{target}\n"
    )
}

#[test]
fn devices_of_every_kind_have_the_documented_defaults() {
    // Goal: what config/frond.toml says is what counts. Method: the smallest of each kind, and one with every key.
    let second = Duration::from_secs(1);
    let smallest = valid(&format!(
        "{RTU}{GPIO}[[device]]\nname = \"inverter\"\nkind = \"modbus-tcp\"\naddress = \"10.0.0.7\"\n\
         [[device]]\nname = \"scale\"\nkind = \"serial\"\npath = \"/dev/tty\"\nbaud = 115200\n"
    ));
    let line =
        |path: &str, baud, parity| SerialLine { path: path.into(), baud, data_bits: 8, parity, stop_bits: 1 };
    let device = |name: &str, end| Device { name: name.to_owned(), timeout: second, end };
    let gpio = GpioLine {
        chip: "/dev/zero".into(),
        line: 17,
        direction: Direction::Input,
        polarity: Polarity::ActiveHigh,
        bias: Bias::AsIs,
    };
    let inverter = DeviceEnd::ModbusTcp { host: "10.0.0.7".to_owned(), port: 502 };
    assert_eq!(
        smallest.devices,
        [
            device("meter", DeviceEnd::ModbusRtu(line("/dev/null", 9_600, Parity::Even))),
            device("door", DeviceEnd::Gpio(gpio.clone())),
            device("inverter", inverter),
            device("scale", DeviceEnd::Serial(line("/dev/tty", 115_200, Parity::None))),
        ]
    );
    let full = valid(&format!(
        "{GPIO}direction = \"out\"\ninitial = true\nactive_low = true\nbias = \"pull-down\"\ntimeout = \"250ms\"\n\
         [[device]]\nname = \"old\"\nkind = \"serial\"\npath = \"/dev/tty\"\nbaud = 300\nparity = \"odd\"\ndata_bits = 7\n\
         stop_bits = 2\n"
    ));
    let gpio = GpioLine {
        direction: Direction::Output(true),
        polarity: Polarity::ActiveLow,
        bias: Bias::PullDown,
        ..gpio
    };
    let timeout = Duration::from_millis(250);
    assert_eq!(full.devices[0], Device { name: "door".to_owned(), timeout, end: DeviceEnd::Gpio(gpio) });
    let old =
        SerialLine { path: "/dev/tty".into(), baud: 300, data_bits: 7, parity: Parity::Odd, stop_bits: 2 };
    assert_eq!(full.devices[1], device("old", DeviceEnd::Serial(old)));
}

#[test]
fn a_link_grants_reading_unless_it_says_more() {
    // Goal: nobody writes to a plant by default. Method: both.
    for (write, access) in
        [("", Access::Read), (", write = false", Access::Read), (", write = true", Access::Write)]
    {
        let config =
            valid(&format!("{RTU}{}", link(&format!("target_config = {{ devices = [\"meter\"]{write} }}"))));
        let end = LinkEnd::Device { devices: vec!["meter".to_owned()], access };
        assert_eq!(config.workloads[0].links[1].end, end);
    }
}

#[test]
fn what_no_device_could_be_is_refused() {
    // Goal: a slip is found before the gateway starts. Method: each kind of slip, by the end of its message.
    let with = |more: &str| format!("{RTU}{more}");
    for (text, end) in [
        ("[[device]]\nname = \"meter\"".to_owned(), "'kind' is missing"),
        ("[[device]]\nname = \"x\"\nkind = \"gpio\"\nline = 1".to_owned(), "'chip' is missing"),
        ("[[device]]\nname = \"x\"\nkind = \"gpio\"\nchip = \"/dev/zero\"".to_owned(), "'line' is missing"),
        ("[[device]]\nname = \"x\"\nkind = \"modbus-tcp\"".to_owned(), "'address' is missing"),
        ("[[device]]\nname = \"x\"\nkind = \"serial\"\npath = \"/dev/null\"".to_owned(), "'baud' is missing"),
        (
            "[[device]]\nname = \"x\"\nkind = \"modbus-tcp\"\naddress = \"10.0.0.7:0\"".to_owned(),
            "is not a host with or without a port, such as 10.0.0.7 or meter.plant:502",
        ),
        (with("data_bits = 7"), "7 is outside 8 to 8"),
        (with("stop_bits = 3"), "3 is outside 1 to 2"),
        (with("line = 3"), "its keys are name, kind, timeout, path, baud, data_bits, parity, stop_bits"),
        (with("timeout = \"1ms\""), "1ms is outside 10ms to 1m"),
        (format!("{GPIO}initial = true"), "means nothing without direction = \"out\""),
        (
            format!("{RTU}{}", RTU.replace("meter", "other")),
            "is what device \"meter\" is already; name that one in both links",
        ),
        (
            format!("{GPIO}{}", GPIO.replace("door", "other")),
            "is what device \"door\" is already; name that one in both links",
        ),
        (format!("{RTU}{RTU}"), "this name is taken on line 1; give one of the two another name"),
        (format!("{RTU}{}", link("")), "'devices' is missing"),
        (
            format!("{RTU}{}", link("target_config = { devices = [\"metre\"] }")),
            "there is no device 'metre'; did you mean 'meter'?",
        ),
        (
            format!(
                "{RTU}{}",
                link("source_config = { every = \"1s\" }\ntarget_config = { devices = [\"meter\"] }")
            ),
            "means nothing with this interface; target_config does",
        ),
    ] {
        let refusals = refused(&text);
        assert!(refusals.len() == 1 && refusals[0].ends_with(end), "{refusals:#?}");
    }
    // Lines of one chip have an owner each.
    let neighbour = GPIO.replace("door", "other").replace("17", "18");
    assert_eq!(valid(&format!("{GPIO}{neighbour}")).devices.len(), 2);
}

#[test]
fn a_device_file_that_cannot_be_used_is_a_warning() {
    // Goal: whoever checks a configuration learns of it, and a gateway starts all the same. Method: a file that is not there,
    // beside one that is.
    let text = format!("{GPIO}{}", RTU.replace("/dev/null", "/dev/no-such-port"));
    let warnings = doubted(&text);
    assert!(
        !warnings.iter().any(|warning| warning.contains("/dev/")),
        "only a look at the disk can tell: {warnings:?}"
    );
    let folder = tempfile::tempdir().expect("a folder for the test");
    let file = folder.path().join("frond.toml");
    std::fs::write(&file, format!("gateway.name = \"g\"\nlattice.mode = \"off\"\n{text}"))
        .expect("it is the test's own");
    let inspection = crate::config::inspect(&crate::config::Paths::beside(&file));
    let said: Vec<String> = inspection.warnings.iter().map(ToString::to_string).collect();
    let devices: Vec<&String> = said.iter().filter(|warning| warning.contains("/dev/")).collect();
    assert!(
        matches!(&devices[..], [one] if one.contains("'/dev/no-such-port' cannot be used from here")),
        "{said:?}"
    );
}
