//! What decoding costs: nanoseconds per payload and per reading, beside serde_json on the same bytes in the same run.
//!
//! `cargo bench --bench decode`. Each case runs in rounds of about 50 ms; the fastest of nine is printed, since
//! everything that disturbs makes it slower.

use std::hint::black_box;
use std::time::{Duration, Instant};

use frond::config::{
    self, Caps, Decode, Fields, FullPolicy, Packed, PackedType, Reduce, TimeFormat, TimeSource,
};
use frond::ingest::decode::{Batch, Decoder, Moment};
use frond::ingest::intake::{Arrival, Intake, Taken};
use frond::ingest::seen::{Delivery, Seen, Sight};
use frond::ingest::topic::Routes;
use frond::sample::{DoorId, Durability, Lane, Message, SeriesId, StreamId, Timeline};
use frond::store::{Command, Handle, Newest};
use futures_util::FutureExt;
use serde::de::IgnoredAny;
use tokio::sync::{mpsc, watch};

const ROUND: Duration = Duration::from_millis(50);
const ROUNDS: usize = 9;

fn nanos(mut work: impl FnMut()) -> f64 {
    let mut count = 1u32;
    loop {
        let begun = Instant::now();
        (0..count).for_each(|_| work());
        if begun.elapsed() >= ROUND / 10 || count >= 1 << 30 {
            count = (f64::from(count) * ROUND.as_secs_f64() / begun.elapsed().as_secs_f64()) as u32 + 1;
            break;
        }
        count *= 2;
    }
    let round = || {
        let begun = Instant::now();
        (0..count).for_each(|_| work());
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(count)
    };
    std::iter::repeat_with(round).take(ROUNDS).fold(f64::INFINITY, f64::min)
}

fn decoder(decode: Decode, time: TimeSource) -> Decoder {
    let caps = Caps {
        payload_bytes_max: 1 << 20,
        depth_max: 16,
        samples_max: 65_536,
        series_max: 1,
        outbox_bytes_max: None,
    };
    Decoder::new(&decode, &time, &caps)
}

fn case(name: &str, decoder: &Decoder, payload: &[u8], json: bool) {
    let (mut batch, moment) =
        (Batch::default(), Moment { arrival: 1_709_294_400_000_000_000, trusted: None });
    decoder.decode(payload, moment, &mut batch).expect("the payloads here are valid");
    let readings = batch.rows().len();
    let ours = nanos(|| {
        let _ = decoder.decode(black_box(payload), moment, &mut batch);
        black_box(&batch);
    });
    print!(
        "{name:<34} {:>6} B {readings:>5} readings {ours:>10.0} ns {:>7.1} ns/reading",
        payload.len(),
        ours / readings as f64
    );
    if json {
        let tree = nanos(|| {
            black_box(serde_json::from_slice::<serde_json::Value>(black_box(payload)).is_ok());
        });
        let skip = nanos(|| {
            black_box(serde_json::from_slice::<IgnoredAny>(black_box(payload)).is_ok());
        });
        print!("   serde_json: tree {tree:>8.0} ns, skipping {skip:>8.0} ns");
    }
    println!();
}

fn main() {
    let arrival = || decoder(Decode::Json(Fields::default()), TimeSource::Arrival);
    let timed =
        |format| decoder(Decode::Json(Fields::default()), TimeSource::Field { field: "ts".into(), format });
    let w1 = br#"{"value":23.4375,"seq":1234567,"ok":true}"#;
    case("json, W1", &arrival(), w1, true);
    let rfc = br#"{"ts":"2024-03-01T12:00:00.123Z","value":23.4375}"#;
    case("json, RFC 3339", &timed(TimeFormat::Rfc3339), rfc, true);
    let millis = br#"{"ts":1709294400123,"value":23.4375}"#;
    case("json, milliseconds", &timed(TimeFormat::Milliseconds), millis, true);
    let nested = br#"{"motor":{"rpm":1480,"temp":{"a":61.25,"b":60.5}},"unit":"C","ok":true,"n":null}"#;
    case("json, nested", &arrival(), nested, true);
    let samples: Vec<String> = (0..100)
        .map(|n| format!(r#"{{"ts":{},"x":{}.25,"y":{n},"z":-0.{n:03}}}"#, 1_709_294_400_123i64 + n, n * 7))
        .collect();
    let list = format!("[{}]", samples.join(","));
    case("json, 100 samples of 3", &timed(TimeFormat::Milliseconds), list.as_bytes(), true);
    case("number", &decoder(Decode::Number, TimeSource::Arrival), b"23.4375", false);
    let mut cbor = Vec::new();
    let mut e = minicbor::Encoder::new(&mut cbor);
    e.map(3)
        .and_then(|e| e.str("value")?.f64(23.4375)?.str("seq")?.u32(1_234_567)?.str("ok")?.bool(true))
        .expect("fits");
    case("cbor, W1", &decoder(Decode::Cbor(Fields::default()), TimeSource::Arrival), &cbor, false);
    let packed = Packed { sample: PackedType::I16, rate: 10_000.0, scale: 0.01 };
    let block: Vec<u8> = (0..1_000i16).flat_map(i16::to_le_bytes).collect();
    case("packed, 1000 x i16", &decoder(Decode::Packed(packed), TimeSource::Arrival), &block, false);

    let filters: Vec<Vec<String>> = (0..20).map(|n| vec![format!("plant/line{n}/+/telemetry/#")]).collect();
    let routes = Routes::new(filters.iter().map(Vec::as_slice));
    let last = nanos(|| {
        black_box(routes.first(black_box("plant/line19/press/telemetry/a")));
    });
    println!("first of 20 streams, uncached: {last:.0} ns when it is the last");
    message(w1);
}

/// All that a door does to a message in steady state, network and acknowledgement apart.
fn message(payload: &[u8]) {
    let (commands, mut requests) = mpsc::channel(4);
    let newest = watch::channel(Newest::default()).1;
    let stream = config::Stream {
        name: "w1".into(),
        topics: vec!["plant/+/+".into()],
        qos: 1,
        decode: Decode::Json(Fields::default()),
        time: TimeSource::Arrival,
        series: "{topic}/{field}".into(),
        unit: String::new(),
        labels: Default::default(),
        component: None,
        reduce: Reduce::None,
        durability: Durability::Reading,
        lane: Lane::Data,
        full: FullPolicy::DropOldest,
        expect_readings_per_second: None,
        expect_series: None,
        caps: Caps {
            payload_bytes_max: 1 << 18,
            depth_max: 16,
            samples_max: 65_536,
            series_max: 10_000,
            outbox_bytes_max: None,
        },
    };
    let store = Handle { commands, newest, epoch: 0 };
    let mut intake = Intake::new(&[(StreamId(0), stream)], |_| true, store).expect("valid");
    let topics: Vec<String> = (0..1_000).map(|n| format!("plant/press{}/sensor{}", n / 10, n % 10)).collect();
    let arrival = Arrival { moment: Moment { arrival: 1, trusted: Some(1) }, timeline: Timeline::Arrival };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let answer = async {
        let mut next = 0;
        while let Some(command) = requests.recv().await {
            let Command::Intern { reply, .. } = command else { continue };
            next += 1;
            let _ = reply.send(Ok(SeriesId(next)));
        }
    };
    let learn = async {
        for topic in &topics {
            intake.take(topic, payload, arrival).await.expect("the store answers");
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = answer => {}
            () = learn => {}
        }
    });
    let (mut seen, mut ticket, mut at) = (Seen::new(4_000, []), 0, 0);
    let cost = nanos(|| {
        at = (at + 1) % topics.len();
        let topic = topics[at].as_str();
        let taken =
            intake.take(topic, payload, arrival).now_or_never().expect("nothing is new").expect("no store");
        intake.count(topic, payload, arrival);
        let Taken::Content { stream, timeline, readings } = taken else { return };
        ticket += 1;
        let pkid = (ticket % 65_535) as u16 + 1;
        let message = Message {
            door: DoorId(0),
            ticket,
            session: frond::sample::SessionId::NONE,
            pkid,
            stream,
            timeline,
            readings,
        };
        let identity = message.identity().expect("QoS 1");
        if seen.judge(Delivery::First, identity, |known| known <= ticket) == Sight::Fresh {
            seen.enter(identity, ticket, |known| known <= ticket);
        }
        black_box(message);
    });
    println!("a W1 message through intake and table of copies, 1,000 topics: {cost:.0} ns");
}
