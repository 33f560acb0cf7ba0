//! A component for wasmCloud that keeps values.
//!
//! The first word of a message says what it does: `add` adds to a number and publishes the sum, `put` and `get` write and
//! read, `many` writes and reads three keys in one go, `list` publishes the keys, `fill` writes values of 1,000 bytes until
//! it is refused and publishes why, `by` chooses a link. Answers go to the subject of option `out`.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package test:clerk;
            world clerk {
                import wasi:config/store@0.2.0-rc.1;
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
                import wasi:keyvalue/batch@0.2.0-draft;
                import wasmcloud:bus/lattice@1.0.0;
                import wasmcloud:messaging/consumer@0.2.0;
                export wasmcloud:messaging/handler@0.2.0;
            }
        ",
        path: "../../../wit/wasmcloud",
        world: "test:clerk/clerk",
        generate_all,
    });
    use super::Component;
    export!(Component);
}

use bindings::exports::wasmcloud::messaging::handler::{BrokerMessage, Guest};
use bindings::wasi::config0_2_0_rc_1::store as config;
use bindings::wasi::keyvalue::store::{self, Error};
use bindings::wasi::keyvalue::{atomics, batch};
use bindings::wasmcloud::bus::lattice;
use bindings::wasmcloud::messaging::consumer;

struct Component;

fn why(error: Error) -> String {
    match error {
        Error::NoSuchStore => "no such store".to_owned(),
        Error::AccessDenied => "access denied".to_owned(),
        Error::Other(text) => text,
    }
}

fn work(text: &str) -> Result<String, Error> {
    let mut words = text.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (order, key) = (word(), word());
    let bucket = store::open("ledger")?;
    Ok(match order {
        "add" => atomics::increment(&bucket, key, word().parse().unwrap_or(1))?.to_string(),
        "put" => bucket.set(key, word().as_bytes()).map(|()| "done".to_owned())?,
        "get" => match bucket.get(key)? {
            Some(value) => String::from_utf8_lossy(&value).into_owned(),
            None => "nothing".to_owned(),
        },
        "many" => {
            let keys = ["a", "b", "c"].map(str::to_owned);
            let pairs: Vec<(String, Vec<u8>)> =
                keys.iter().map(|key| (key.clone(), key.clone().into())).collect();
            batch::set_many(&bucket, &pairs)?;
            batch::delete_many(&bucket, &keys[1..2])?;
            let found = batch::get_many(&bucket, &keys)?;
            found.iter().map(|found| if found.is_some() { 'x' } else { '-' }).collect()
        }
        "list" => {
            let mut keys = bucket.list_keys(None)?.keys;
            keys.sort();
            keys.join(",")
        }
        "fill" => {
            for n in 0..10_000 {
                bucket.set(&format!("fill-{n:05}"), &[7; 1_000])?;
            }
            "no end".to_owned()
        }
        "by" => {
            let targets = ["store", "atomics", "batch"]
                .map(|interface| lattice::CallTargetInterface::new("wasi", "keyvalue", interface));
            lattice::set_link_name(key, Vec::from(targets));
            atomics::increment(&bucket, "n", 1)?.to_string()
        }
        other => format!("what is {other:?}?"),
    })
}

impl Guest for Component {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        let text = String::from_utf8(message.body).map_err(|error| error.to_string())?;
        let answer = work(&text).unwrap_or_else(|error| format!("refused: {}", why(error)));
        let out = config::get("out").ok().flatten().unwrap_or_default();
        consumer::publish(&BrokerMessage { subject: out, body: answer.into_bytes(), reply_to: None })
    }
}
