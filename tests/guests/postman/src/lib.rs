//! A component for wasmCloud that answers messages, and misbehaves when one says so.
//!
//! The first word of a message says what it does, the rest is its argument: `echo` answers (to `reply-to`, or to the subject
//! of option `out`), `ask` requests an answer and passes it on, `flood` publishes so many messages and tells how many were
//! taken, `trap`, `loop`, `grow`, `recurse` and `bad-text` end it, `fail` returns an error, `sleep` waits for a minute, `print`
//! writes a line to its standard output and one to its standard error, `to` publishes to another subject.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package test:postman;
            world postman {
                import wasi:logging/logging@0.1.0-draft;
                import wasi:config/runtime@0.2.0-draft;
                import wasmcloud:messaging/consumer@0.2.0;
                export wasmcloud:messaging/handler@0.2.0;
            }
        ",
        path: "../../../wit/wasmcloud",
        world: "test:postman/postman",
        generate_all,
    });
    use super::Component;
    export!(Component);
}

use bindings::exports::wasmcloud::messaging::handler::{BrokerMessage, Guest};
use bindings::wasi::config0_2_0_draft::runtime;
use bindings::wasi::logging::logging::{Level, log};
use bindings::wasmcloud::messaging::consumer;

struct Component;

/// As deep as it goes.
fn depth(so_far: u64) -> u64 {
    if std::hint::black_box(so_far) == 0 { 0 } else { depth(so_far + 1) + std::hint::black_box(1) }
}

impl Guest for Component {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        let text = String::from_utf8(message.body).map_err(|error| error.to_string())?;
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let out = runtime::get("out").ok().flatten().unwrap_or_default();
        let say = |subject: String, body: String| {
            consumer::publish(&BrokerMessage { subject, body: body.into_bytes(), reply_to: None })
        };
        match word {
            "echo" => say(message.reply_to.unwrap_or(out), format!("{} {rest}", message.subject)),
            "ask" => {
                let answer = consumer::request(rest, b"echo question", 5_000);
                let text = answer.map(|answer| String::from_utf8_lossy(&answer.body).into_owned());
                say(out, text.unwrap_or_else(|error| format!("error: {error}")))
            }
            "print" => {
                println!("out: {rest}");
                eprintln!("err: {rest}");
                Ok(())
            }
            "bad-text" => {
                // SAFETY: nothing here looks at it; it goes out as it is, which is what the test is for.
                say(unsafe { String::from_utf8_unchecked(vec![0xff, 0xfe]) }, String::new())
            }
            "recurse" => Err(format!("{}", depth(1))),
            "to" => say(rest.to_owned(), "where it may not go".to_owned()),
            "flood" => {
                let taken = (0..rest.parse().unwrap_or(0))
                    .filter(|_| say(out.clone(), "flood".into()).is_ok())
                    .count();
                (0..1_000).for_each(|n| log(Level::Info, "flood", &format!("line {n}")));
                std::thread::sleep(std::time::Duration::from_millis(1_100));
                say(out, format!("taken {taken}"))
            }
            "loop" => loop {
                std::hint::black_box(rest);
            },
            "grow" => {
                let mut all: Vec<Vec<u8>> = Vec::new();
                loop {
                    all.push(std::hint::black_box(vec![1; 1 << 20]));
                }
            }
            "sleep" => {
                std::thread::sleep(std::time::Duration::from_secs(60));
                Ok(())
            }
            "fail" => Err(rest.to_owned()),
            "trap" => panic!("as it was told"),
            other => Err(format!("what is {other:?}?")),
        }
    }
}
