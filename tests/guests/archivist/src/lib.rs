//! A component for wasmCloud that keeps objects.
//!
//! The first word of a message says what it does, the rest are names and numbers, with a space between them. `make`, `drop`
//! and `clear` are about containers, `text` and `fill` write an object of this text or of so many bytes, `spoil` writes one
//! and does not finish it, `read` publishes a range, `hash` the size and a hash of what a stream gives, `list`, `info`,
//! `has`, `delete`, `copy` and `move` do what they say, `by` chooses a link, and `storm` writes one object again and again,
//! telling each time, until it is ended. Answers go to the subject of option `out`.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package test:archivist;
            world archivist {
                import wasi:blobstore/blobstore@0.2.0-draft;
                import wasi:config/store@0.2.0-rc.1;
                import wasmcloud:bus/lattice@1.0.0;
                import wasmcloud:messaging/consumer@0.2.0;
                export wasmcloud:messaging/handler@0.2.0;
            }
        ",
        path: "../../../wit/wasmcloud",
        world: "test:archivist/archivist",
        generate_all,
    });
    use super::Component;
    export!(Component);
}

use bindings::exports::wasmcloud::messaging::handler::{BrokerMessage, Guest};
use bindings::wasi::blobstore::blobstore;
use bindings::wasi::blobstore::types::{IncomingValue, ObjectId, OutgoingValue};
use bindings::wasi::config0_2_0_rc_1::store as config;
use bindings::wasi::io::streams::StreamError;
use bindings::wasmcloud::bus::lattice;
use bindings::wasmcloud::messaging::consumer;

struct Component;

/// Whether a value is finished.
#[derive(PartialEq)]
enum End {
    Finished,
    Spoilt,
}

fn say(text: String) {
    let out = config::get("out").ok().flatten().unwrap_or_default();
    // One that the gateway refuses is counted there.
    let _ = consumer::publish(&BrokerMessage { subject: out, body: text.into_bytes(), reply_to: None });
}

/// FNV-1a, begun with what the pieces before gave.
fn hash(begun: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(begun, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn stream_failed(error: StreamError) -> String {
    match error {
        StreamError::LastOperationFailed(error) => error.to_debug_string(),
        StreamError::Closed => "closed".to_owned(),
    }
}

/// The order that most components have: the object is named before its bytes come.
fn write(container: &str, object: &str, bytes: &[u8], end: End) -> Result<(), String> {
    let value = OutgoingValue::new_outgoing_value();
    let body = value.outgoing_value_write_body().map_err(|()| "no body".to_owned());
    blobstore::get_container(container)?.write_data(object, &value)?;
    let body = body?;
    let written = bytes.chunks(4096).try_for_each(|piece| body.blocking_write_and_flush(piece));
    drop(body);
    if end == End::Spoilt {
        return Ok(());
    }
    let finished = OutgoingValue::finish(value);
    finished.and(written.map_err(stream_failed))
}

/// The other order, without a flush: all bytes first, then the name.
fn write_text(container: &str, object: &str, text: &str) -> Result<(), String> {
    let value = OutgoingValue::new_outgoing_value();
    let body = value.outgoing_value_write_body().map_err(|()| "no body".to_owned())?;
    let permit = body.check_write().map_err(stream_failed)? as usize;
    body.write(&text.as_bytes()[..text.len().min(permit)]).map_err(stream_failed)?;
    drop(body);
    blobstore::get_container(container)?.write_data(object, &value)?;
    OutgoingValue::finish(value)
}

fn read_stream(value: IncomingValue) -> Result<String, String> {
    let (size, body) = (value.size(), IncomingValue::incoming_value_consume_async(value)?);
    let (mut bytes, mut sum) = (0, 0xcbf2_9ce4_8422_2325);
    loop {
        match body.blocking_read(100_000) {
            Ok(piece) => (bytes, sum) = (bytes + piece.len() as u64, hash(sum, &piece)),
            Err(StreamError::Closed) if bytes == size => return Ok(format!("{bytes} {sum:x}")),
            Err(error) => return Err(stream_failed(error)),
        }
    }
}

fn list(container: &str) -> Result<String, String> {
    let names = blobstore::get_container(container)?.list_objects()?;
    let mut all = Vec::new();
    let (skipped, mut is_end) = names.skip_stream_object_names(1)?;
    while !is_end {
        let (some, end) = names.read_stream_object_names(2)?;
        all.extend(some);
        is_end = end;
    }
    Ok(format!("{skipped} and {}", all.join(",")))
}

/// Writes numbers, each an object of that number and nothing else, of a size that changes.
fn storm(container: &str, object: &str) -> Result<String, String> {
    for number in 1_u64.. {
        let bytes = number.to_le_bytes().repeat(1 + (number as usize * 7_919) % 20_000);
        write(container, object, &bytes, End::Finished)?;
        say(number.to_string());
    }
    Ok("no end".to_owned())
}

fn work(text: &str) -> Result<String, String> {
    let mut words = text.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (order, name, object) = (word(), word(), word());
    let id = |container: &str, object: &str| ObjectId { container: container.into(), object: object.into() };
    let container = || blobstore::get_container(name);
    let done = |()| "done".to_owned();
    match order {
        "make" => blobstore::create_container(name)?.info().map(|info| info.name),
        "drop" => blobstore::delete_container(name).map(done),
        "clear" => container()?.clear().map(done),
        "text" => write_text(name, object, word()).map(done),
        "fill" => {
            let bytes = vec![b'f'; word().parse().unwrap_or(0)];
            write(name, object, &bytes, End::Finished).map(done)
        }
        "spoil" => write(name, object, b"spoilt", End::Spoilt).map(done),
        "read" => {
            let (start, end) = (word().parse().unwrap_or(0), word().parse().unwrap_or(u64::MAX));
            let value = container()?.get_data(object, start, end)?;
            let bytes = IncomingValue::incoming_value_consume_sync(value)?;
            Ok(format!("[{}]", String::from_utf8_lossy(&bytes)))
        }
        "hash" => read_stream(container()?.get_data(object, 0, u64::MAX)?),
        "list" => list(name),
        "info" => {
            let info = container()?.object_info(object)?;
            let since = if info.created_at > 1_700_000_000 { "of late" } else { "long ago" };
            Ok(format!("{}/{} {} {since}", info.container, info.name, info.size))
        }
        "has" => container()?.has_object(object).map(|has| has.to_string()),
        "delete" => container()?.delete_object(object).map(done),
        "copy" => blobstore::copy_object(&id(name, object), &id(word(), word())).map(done),
        "move" => blobstore::move_object(&id(name, object), &id(word(), word())).map(done),
        "by" => {
            let targets = ["blobstore", "container"]
                .map(|interface| lattice::CallTargetInterface::new("wasi", "blobstore", interface));
            lattice::set_link_name(name, Vec::from(targets));
            blobstore::container_exists(object).map(|exists| exists.to_string())
        }
        "storm" => storm(name, object),
        other => Err(format!("what is {other:?}?")),
    }
}

impl Guest for Component {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        let text = String::from_utf8(message.body).map_err(|error| error.to_string())?;
        say(work(&text).unwrap_or_else(|error| format!("refused: {error}")));
        Ok(())
    }
}
