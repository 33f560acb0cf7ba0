//! W1, the load that figures are quoted for: 1,000 series, one reading a second each, as sensors send them. A quarter of
//! the series drift, a quarter step, a quarter count and a quarter are noise; values have one decimal (counters none) and
//! times are milliseconds with jitter. Messages arrive in the order of their times, disturbed by the network.

use frond::sample::{DoorId, Message, Nanos, Reading, SECOND, SeriesId, StreamId, Timeline, Value};

/// 2026-03-01T00:00:00Z.
const START: Nanos = 1_772_323_200 * SECOND;

const MILLISECOND: Nanos = SECOND / 1_000;

/// How senders write a whole number of a series that has decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// "21.0", as most languages do.
    AsFloat,
    /// "21", as JavaScript does.
    AsInt,
}

/// A small generator of numbers (SplitMix64): the same data in every run, on every machine.
pub struct Dice(pub u64);

impl Dice {
    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from 0 up to, not including, `sides`.
    pub fn below(&mut self, sides: u64) -> i64 {
        (self.roll() % sides) as i64
    }
}

/// All readings of `series` series over `seconds`, sorted by series and time.
pub fn readings(series: u32, seconds: i64, whole: Whole) -> Vec<Reading> {
    let mut dice = Dice(1);
    let mut readings = Vec::new();
    for number in 0..series {
        let phase = dice.below(1_000);
        let mut level = dice.below(1_000);
        let mut total = dice.below(1 << 24);
        for second in 0..seconds {
            let time = START + second * SECOND + (phase + dice.below(20)) * MILLISECOND;
            let tenths = match number % 4 {
                0 => {
                    level += dice.below(5) - 2;
                    level
                }
                1 => {
                    if dice.below(50) == 0 {
                        level = dice.below(1_000);
                    }
                    level
                }
                2 => {
                    total += dice.below(10);
                    total * 10
                }
                // The sum of four dice is near enough to a bell, with a deviation of 0.6.
                _ => level + dice.below(11) + dice.below(11) + dice.below(11) + dice.below(11),
            };
            let value = match whole {
                _ if number % 4 == 2 => Value::Int(total),
                Whole::AsInt if tenths % 10 == 0 => Value::Int(tenths / 10),
                _ => Value::Float(tenths as f64 / 10.0),
            };
            readings.push(Reading { series: SeriesId(number + 1), time, value });
        }
    }
    readings
}

/// The same as messages of one reading each, in the order of arrival, a group for every second.
pub fn commits(series: u32, seconds: i64, whole: Whole) -> Vec<Vec<Message>> {
    let mut dice = Dice(2);
    let delayed = |reading| (0, reading);
    let mut arrivals: Vec<(Nanos, Reading)> =
        readings(series, seconds, whole).into_iter().map(delayed).collect();
    for (arrival, reading) in &mut arrivals {
        *arrival = reading.time + dice.below(30) * MILLISECOND;
    }
    arrivals.sort_by_key(|(arrival, _)| *arrival);
    let mut groups: Vec<Vec<Message>> = Vec::new();
    let mut pkid = 4_711u16;
    for (ticket, (arrival, reading)) in (1..).zip(arrivals) {
        let group = ((arrival - START) / SECOND) as usize;
        if groups.len() <= group {
            groups.resize(group + 1, Vec::new());
        }
        groups[group].push(Message {
            door: DoorId(0),
            ticket,
            session: frond::sample::SessionId::NONE,
            pkid,
            stream: StreamId(1),
            timeline: Timeline::Sensor,
            readings: vec![reading],
        });
        pkid = pkid % u16::MAX + 1;
    }
    groups
}
