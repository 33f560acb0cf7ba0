//! A component that polls a Modbus meter and publishes what it reads.
//!
//! With every message of a timer it reads two holding registers of option `device`, unit `unit`, and publishes them as a
//! reading to option `out`; what goes wrong it publishes to option `answers`. Any other message is an order, answered there:
//! `write ADDRESS VALUE` writes a register, `coils` reads nine coils, `of NAME` reads a register of another device, `level
//! NAME` and `bytes NAME` read a GPIO line and a serial line, `send NAME WORD` writes to a serial line.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package test:gauge;
            world gauge {
                import wasi:config/store@0.2.0-rc.1;
                import frond:device/modbus@0.1.0;
                import frond:device/serial@0.1.0;
                import frond:device/gpio@0.1.0;
                import wasmcloud:messaging/consumer@0.2.0;
                export wasmcloud:messaging/handler@0.2.0;
            }
        ",
        path: ["../../../wit/wasmcloud", "../../../wit/device"],
        world: "test:gauge/gauge",
        generate_all,
    });
    use super::Component;
    export!(Component);
}

use bindings::exports::wasmcloud::messaging::handler::{BrokerMessage, Guest};
use bindings::frond::device::types::Error;
use bindings::frond::device::{gpio, modbus, serial};
use bindings::wasi::config0_2_0_rc_1::store as config;
use bindings::wasmcloud::messaging::consumer;

struct Component;

fn option(name: &str) -> String {
    config::get(name).ok().flatten().unwrap_or_default()
}

fn why(error: Error) -> String {
    match error {
        Error::NotGranted(what) => format!("not granted: {what}"),
        Error::NotThere(_) => "not there".to_owned(),
        Error::Timeout => "timeout".to_owned(),
        Error::Exception(code) => format!("exception {code}"),
        Error::Malformed(_) => "malformed".to_owned(),
        Error::Invalid(what) => format!("invalid: {what}"),
        Error::Busy => "busy".to_owned(),
    }
}

fn publish(subject: &str, body: String) -> Result<(), String> {
    consumer::publish(&BrokerMessage { subject: option(subject), body: body.into_bytes(), reply_to: None })
}

fn order(text: &str, unit: u8) -> Result<String, Error> {
    let mut words = text.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (device, order) = (option("device"), word());
    Ok(match order {
        "write" => {
            let (address, value) = (word().parse().unwrap_or(0), word().parse().unwrap_or(0));
            modbus::write_register(&device, unit, address, value)?;
            "done".to_owned()
        }
        "coils" => {
            let coils = modbus::read_coils(&device, unit, 0, 9)?;
            coils.iter().map(|coil| if *coil { '1' } else { '0' }).collect()
        }
        "of" => format!("{:?}", modbus::read_input_registers(word(), unit, 0, 1)?),
        "level" => format!("{}", gpio::read(word())?),
        "bytes" => String::from_utf8_lossy(&serial::read(word(), 100, 1_000)?).into_owned(),
        "send" => {
            let (line, bytes) = (word(), word());
            serial::discard_input(line)?;
            serial::write(line, bytes.as_bytes())?;
            "sent".to_owned()
        }
        other => format!("what is {other:?}?"),
    })
}

impl Guest for Component {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        let unit = option("unit").parse().unwrap_or(1);
        if message.subject == "timer.poll" {
            return match modbus::read_holding_registers(&option("device"), unit, 0, 2) {
                Ok(read) => publish("out", format!("{{\"volts\": {}, \"amps\": {}}}", read[0], read[1])),
                Err(error) => publish("answers", why(error)),
            };
        }
        let text = String::from_utf8(message.body).map_err(|error| error.to_string())?;
        publish("answers", order(&text, unit).unwrap_or_else(why))
    }
}
