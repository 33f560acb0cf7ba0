//! A component for wasmCloud that knows secrets and does not tell them.
//!
//! The first word of a message says what it does with the secret that the second names: `look` publishes whether it is text
//! or bytes, its length and a hash of it, `get` publishes whether there is one, `trap` has it in its memory and ends.
//! Answers go to the subject of option `out`.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package test:guard;
            world guard {
                import wasi:config/store@0.2.0-rc.1;
                import wasmcloud:messaging/consumer@0.2.0;
                import wasmcloud:secrets/store@0.1.0-draft;
                import wasmcloud:secrets/reveal@0.1.0-draft;
                export wasmcloud:messaging/handler@0.2.0;
            }
        ",
        path: "../../../wit/wasmcloud",
        world: "test:guard/guard",
        generate_all,
    });
    use super::Component;
    export!(Component);
}

use bindings::exports::wasmcloud::messaging::handler::{BrokerMessage, Guest};
use bindings::wasi::config0_2_0_rc_1::store as config;
use bindings::wasmcloud::messaging::consumer;
use bindings::wasmcloud::secrets::reveal::reveal;
use bindings::wasmcloud::secrets::store::{self, SecretValue, SecretsError};

struct Component;

/// FNV-1a: nobody reads the secret off it, and a test can work it out.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn look(name: &str) -> String {
    match store::get(name).map(|secret| reveal(&secret)) {
        Ok(SecretValue::String(text)) => format!("text {} {:x}", text.len(), hash(text.as_bytes())),
        Ok(SecretValue::Bytes(bytes)) => format!("bytes {} {:x}", bytes.len(), hash(&bytes)),
        Err(SecretsError::NotFound) => "not found".to_owned(),
        Err(SecretsError::Upstream(text) | SecretsError::Io(text)) => text,
    }
}

impl Guest for Component {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        let text = String::from_utf8(message.body).map_err(|error| error.to_string())?;
        let answer = match text.split_once(' ') {
            Some(("look", name)) => look(name),
            Some(("get", name)) => if store::get(name).is_ok() { "there" } else { "not there" }.to_owned(),
            Some(("trap", name)) => {
                let secret = store::get(name).map(|secret| reveal(&secret));
                std::hint::black_box(&secret).as_ref().expect("it was given one");
                std::process::abort()
            }
            _ => "what?".to_owned(),
        };
        let out = config::get("out").ok().flatten().unwrap_or_default();
        consumer::publish(&BrokerMessage { subject: out, body: answer.into_bytes(), reply_to: None })
    }
}
