use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::*;
use crate::config::{Caps, Decode, Fields, FullPolicy, Packed, PackedType, Reduce, TimeFormat, TimeSource};
use crate::sample::{Durability, Lane, Nanos, SECOND, SeriesId, Value};
use crate::store::{Command, Newest, SeriesDenied};

const NOW: Nanos = 1_700_000_000 * SECOND;
const ARRIVAL: Arrival =
    Arrival { moment: Moment { arrival: NOW, trusted: Some(NOW) }, timeline: Timeline::Arrival };

fn stream(name: &str, topics: &[&str]) -> config::Stream {
    config::Stream {
        name: name.into(),
        topics: topics.iter().map(|topic| topic.to_string()).collect(),
        qos: 1,
        decode: Decode::Json(Fields::default()),
        time: TimeSource::Arrival,
        series: "{topic}/{field}".into(),
        unit: "bar".into(),
        labels: BTreeMap::from([("hall".into(), "{topic.1}".into()), ("deep".into(), "{topic.7}".into())]),
        component: None,
        reduce: Reduce::Window { length: Duration::from_secs(60), lateness: Duration::from_secs(5) },
        durability: Durability::Reading,
        lane: Lane::Data,
        full: FullPolicy::DropOldest,
        expect_readings_per_second: None,
        expect_series: None,
        caps: Caps {
            payload_bytes_max: 1 << 20,
            depth_max: 8,
            samples_max: 200_000,
            series_max: 3,
            outbox_bytes_max: None,
        },
    }
}

/// An intake with a store behind it that numbers series up to a maximum per stream, and counts questions.
struct Bench {
    intake: Intake,
    asked: Arc<std::sync::atomic::AtomicU64>,
    _store: JoinSet<()>,
}

impl Bench {
    fn new(streams: Vec<config::Stream>) -> Bench {
        let (commands, mut requests) = mpsc::channel(4);
        let asked = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counted = Arc::clone(&asked);
        let series_max = streams[0].caps.series_max;
        let mut store = JoinSet::new();
        store.spawn(async move {
            let mut known: BTreeMap<(StreamId, SeriesEntry), SeriesId> = BTreeMap::new();
            while let Some(Command::Intern { stream, entry, reply }) = requests.recv().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let next = SeriesId(known.len() as u32);
                let full = known.keys().filter(|(s, _)| *s == stream).count() >= series_max;
                let answer = match known.get(&(stream, entry.clone())) {
                    Some(id) => Ok(*id),
                    None if full => Err(SeriesDenied { series_max }),
                    None => Ok(*known.entry((stream, entry)).or_insert(next)),
                };
                let _ = reply.send(answer);
            }
        });
        let newest = watch::channel(Newest::default()).1;
        let streams: Vec<_> = streams.into_iter().enumerate().map(|(n, s)| (StreamId(n as u32), s)).collect();
        let store_handle = Handle { commands, newest, epoch: 0 };
        let intake =
            Intake::new(&streams, |stream| stream.durability == Durability::Reading, store_handle).unwrap();
        Bench { intake, asked, _store: store }
    }

    async fn take(&mut self, topic: &str, payload: &str) -> Taken {
        let taken = self.intake.take(topic, payload.as_bytes(), ARRIVAL).await.unwrap();
        self.intake.count(topic, payload.as_bytes(), ARRIVAL);
        taken
    }

    async fn readings(&mut self, topic: &str, payload: &str) -> Vec<(u32, Value)> {
        match self.take(topic, payload).await {
            Taken::Content { readings, .. } => readings.iter().map(|r| (r.series.0, r.value)).collect(),
            Taken::Unrouted => panic!("{topic} belongs to no stream"),
        }
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn rejected(&self, reason: Reason) -> u64 {
        self.intake.counters.streams[0].rejected(reason)
    }
}

#[tokio::test]
async fn the_store_is_asked_once_per_series() {
    // Goal: known topics and fields cost no question, whatever the order of the fields.
    let mut bench = Bench::new(vec![stream("s", &["a/#"])]);
    assert_eq!(bench.readings("a/1", r#"{"x":1,"y":2}"#).await, [(0, Value::Int(1)), (1, Value::Int(2))]);
    assert_eq!(bench.readings("a/1", r#"{"y":3,"x":4}"#).await, [(1, Value::Int(3)), (0, Value::Int(4))]);
    assert_eq!(bench.readings("a/1", r#"{"y":5,"y":6}"#).await, [(1, Value::Int(5)), (1, Value::Int(6))]);
    assert_eq!(bench.asked(), 2);
    assert_eq!(bench.intake.counters.streams[0].readings.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn a_label_without_its_level_is_left_out() {
    // Goal: what the store is told of a series.
    let stream = Stream::new(StreamId(0), &stream("s", &["a/#"])).unwrap();
    assert_eq!(stream.labels("a/b"), BTreeMap::from([("hall".into(), "b".into())]));
}

#[tokio::test]
async fn a_full_stream_refuses_here_and_serves_what_it_knows() {
    // Goal: one refused name is one question; once all series are known, none is asked for.
    let mut bench = Bench::new(vec![stream("s", &["#"])]);
    for n in 0..2 {
        bench.readings(&format!("t{n}"), "1").await;
    }
    let payload = r#"[{"":1},{"new":2}]"#;
    assert_eq!(bench.readings("t0", payload).await.len(), 2);
    assert_eq!(bench.asked(), 3);
    for n in 3..100 {
        assert_eq!(bench.readings(&format!("t{n}"), r#"{"p":1,"q":2}"#).await, []);
    }
    assert_eq!((bench.asked(), bench.rejected(Reason::TooManySeries)), (3, 194));
    assert_eq!(bench.readings("t1", "7").await, [(1, Value::Int(7))]);
}

#[tokio::test]
async fn more_topics_than_are_remembered_are_still_served() {
    // Goal: the cache is cleared when full, counted, and everything known stays known. Method: a topic more than fit,
    // ten times over the fields of one of them.
    let mut bench = Bench::new(vec![stream("s", &["#"])]);
    assert_eq!(bench.readings("t0", "1").await, [(0, Value::Int(1))]);
    for n in 0..TOPICS_MAX {
        bench.take(&format!("flood/{n}"), "{}").await;
    }
    assert_eq!(bench.intake.counters.topics_cleared.load(Ordering::Relaxed), 1);
    assert!(bench.intake.topics.known.len() < TOPICS_MAX);
    assert_eq!(bench.readings("t0", "2").await, [(0, Value::Int(2))]);
    assert_eq!((bench.asked(), bench.rejected(Reason::Empty)), (1, TOPICS_MAX as u64));
    for n in 0..=FIELDS_MAX / 50_000 {
        let fields: Vec<String> = (0..50_000).map(|f| format!(r#""{n}-{f}":1"#)).collect();
        bench.take("wide", &format!("{{{}}}", fields.join(","))).await;
    }
    assert!(bench.intake.topics.fields <= FIELDS_MAX);
    assert_eq!(bench.readings("t0", "3").await, [(0, Value::Int(3))]);
}

#[tokio::test]
async fn what_belongs_elsewhere_is_not_taken() {
    // Goal: no stream, another door's stream, no topic at all; each counted in its place or nowhere.
    let mut other = stream("other", &["w/#"]);
    other.durability = Durability::Window;
    let mut bench = Bench::new(vec![stream("s", &["a"]), other]);
    assert_eq!(bench.take("w/x", "1").await, Taken::Unrouted);
    assert_eq!(bench.take("nobody", "1").await, Taken::Unrouted);
    assert_eq!(bench.take("a/+", "1").await, Taken::Unrouted);
    let counters = &bench.intake.counters;
    assert_eq!(counters.unrouted.rejected(Reason::Unrouted), 1);
    assert_eq!(counters.unrouted.rejected(Reason::InvalidTopic), 1);
    assert_eq!(counters.streams[1].messages.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_rejected_payload_is_kept_for_the_operator() {
    // Goal: the reason, the beginning, and which stream; a text beside numbers is not worth keeping.
    let mut bench = Bench::new(vec![stream("s", &["a"])]);
    bench.take("a", r#"{"v":1,"unit":"bar"}"#).await;
    bench.take("a", r#"{"v":"#).await;
    bench.take("a", r#"{"v":1e999,"w":2,"unit":"x"}"#).await;
    let specimens = bench.intake.specimens();
    let kept: Vec<_> =
        specimens.borrow().of(Some(0)).map(|s| (s.reason, s.time, s.payload.clone())).collect();
    assert_eq!(
        kept,
        [
            (Reason::Malformed, NOW, br#"{"v":"#.to_vec()),
            (Reason::NotFinite, NOW, br#"{"v":1e999,"w":2,"unit":"x"}"#.to_vec()),
        ]
    );
}

#[tokio::test]
async fn the_timeline_says_whose_clock_it_is() {
    // Goal: a time field makes it the sensor's; else it is that of the stamp.
    let mut timed = stream("timed", &["t"]);
    timed.time = TimeSource::Field { field: "ts".into(), format: TimeFormat::Seconds };
    let mut packed = stream("packed", &["p"]);
    packed.decode = Decode::Packed(Packed { sample: PackedType::I16, rate: 10.0, scale: 1.0 });
    let mut bench = Bench::new(vec![timed, packed]);
    let Taken::Content { timeline, readings, .. } = bench.take("t", r#"{"ts":5,"v":1}"#).await else {
        panic!()
    };
    assert_eq!((timeline, readings[0].time), (Timeline::Sensor, 5 * SECOND));
    let Taken::Content { timeline, readings, .. } = bench.take("p", "abcd").await else { panic!() };
    assert_eq!(timeline, Timeline::Arrival);
    assert_eq!(readings.iter().map(|r| r.time).collect::<Vec<_>>(), [NOW - SECOND / 10, NOW]);
}
