//! Any payload, through every decoder: no panic, and what comes out keeps the promises of `ingest::decode`.
//!
//! The first byte chooses decoder and time source, the rest is the payload. JSON is also judged by serde_json.

#![no_main]

use std::cell::RefCell;

use frond::config::{Caps, Decode, Fields, Packed, PackedType, TimeFormat, TimeSource};
use frond::ingest::Reason;
use frond::ingest::decode::{Batch, Decoder, FIELD_BYTES_MAX, Moment, TIME_END};
use libfuzzer_sys::fuzz_target;

const SAMPLES_MAX: usize = 1_000;

thread_local! {
    static BATCH: RefCell<Batch> = RefCell::default();
}

fn decoder(choice: u8) -> Decoder {
    let fields = Fields {
        only: if choice & 1 == 0 { vec![] } else { vec!["a".into(), "a.b".into(), "0".into()] },
        samples: (choice & 2 != 0).then(|| "a".into()),
    };
    let decode = match (choice >> 2) & 7 {
        0..=2 => Decode::Json(fields),
        3 | 4 => Decode::Cbor(fields),
        5 => Decode::Number,
        6 => Decode::Packed(Packed { sample: PackedType::I16, rate: 1_000.0, scale: 1.0 }),
        _ => Decode::Packed(Packed { sample: PackedType::F64, rate: 1e-9, scale: 1e300 }),
    };
    let field = |format| TimeSource::Field { field: "t".into(), format };
    let time = match choice >> 5 {
        0..=2 => TimeSource::Arrival,
        3 => field(TimeFormat::Rfc3339),
        4 => field(TimeFormat::Seconds),
        5 => field(TimeFormat::Milliseconds),
        6 => field(TimeFormat::Nanoseconds),
        _ => TimeSource::Field { field: "0".into(), format: TimeFormat::Seconds },
    };
    let caps = Caps {
        payload_bytes_max: 1 << 16,
        depth_max: 32,
        samples_max: SAMPLES_MAX,
        series_max: 1,
        outbox_bytes_max: None,
    };
    Decoder::new(&decode, &time, &caps)
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, payload)) = data.split_first() else { return };
    let moment = Moment { arrival: 1_700_000_000_000_000_000, trusted: None };
    BATCH.with_borrow_mut(|batch| {
        let result = decoder(choice).decode(payload, moment, batch);
        assert!(batch.rows().len() <= SAMPLES_MAX);
        assert!(result.is_ok() || batch.rows().is_empty());
        assert!(!batch.rows().is_empty() || !batch.tally().is_clean(), "something is always said");
        for row in batch.rows() {
            assert!((0..TIME_END).contains(&row.time));
            assert!(row.value.as_f64().is_finite());
            assert!(batch.field(row.field as usize).len() <= FIELD_BYTES_MAX);
        }
        // What serde_json takes for JSON is none that we call broken.
        if (choice >> 2) & 7 <= 2 && serde_json::from_slice::<serde_json::Value>(payload).is_ok() {
            assert_ne!(result, Err(Reason::Malformed));
        }
    });
});
