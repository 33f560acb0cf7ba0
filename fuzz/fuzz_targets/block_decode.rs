//! Any bytes give a block or an error: once as they are, and once as the body of a block of every kind, with the check
//! sum that belongs to it. What decodes is encoded and decoded again, and must stay what it was.

#![no_main]

use frond::block::{
    Kind, decode_envelope, decode_messages, decode_readings, encode_envelope, encode_messages,
    encode_readings,
};
use frond::reduce::Reducer;
use libfuzzer_sys::fuzz_target;

/// The version that is written; others are refused before anything is looked at.
const VERSION: u8 = 1;

fuzz_target!(|bytes: &[u8]| {
    decode_all(bytes);
    for kind in [Kind::Envelope, Kind::Readings, Kind::Messages, Kind::Reducer] {
        decode_all(&sealed(kind, bytes));
    }
});

fn sealed(kind: Kind, body: &[u8]) -> Vec<u8> {
    let sum = crc32fast::hash(body).to_le_bytes();
    [&[VERSION, kind as u8], &sum[..], body].concat()
}

/// Blocks are compared as bytes, because NaN is not equal to itself.
fn decode_all(bytes: &[u8]) {
    if let Ok(readings) = decode_readings(bytes) {
        let block = encode_readings(&readings);
        assert_eq!(encode_readings(&decode_readings(&block).expect("just encoded")), block);
    }
    if let Ok(messages) = decode_messages(bytes) {
        let block = encode_messages(&messages);
        assert_eq!(encode_messages(&decode_messages(&block).expect("just encoded")), block);
    }
    if let Ok(envelope) = decode_envelope(bytes) {
        let block = encode_envelope(&envelope);
        assert_eq!(encode_envelope(&decode_envelope(&block).expect("just encoded")), block);
    }
    if let Ok(reducer) = Reducer::restore(bytes, 0) {
        let snapshot = reducer.snapshot();
        assert_eq!(Reducer::restore(&snapshot, 0).expect("just taken").snapshot(), snapshot);
    }
}
