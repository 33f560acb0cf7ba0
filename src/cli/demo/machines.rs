//! Simulated machines: what a plant sends, with its faults, from a seed.
//!
//! Each machine has five series: a temperature that drifts, a pressure that steps, a part counter, a vibration that is
//! noise, a valve that is open or shut. Some messages are sent twice, some out of order, some minutes late; now and then
//! a machine is silent. The same seed gives the same plant.

/// One MQTT message of a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// Topic.
    pub topic: String,
    /// JSON payload.
    pub payload: String,
    /// Milliseconds since the epoch, the payload's time stamp.
    pub time_ms: i64,
    /// Fields of the payload: name and value.
    pub values: Vec<(String, f64)>,
    /// It only serves to close the windows before it, and is in no account.
    pub closing: bool,
}

/// A small generator of pseudo-random numbers (xorshift64*), so that a seed means the same everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

/// One machine.
#[derive(Debug, Clone)]
pub struct Machine {
    name: String,
    random: Random,
    temperature: f64,
    pressure: f64,
    parts: i64,
    valve: bool,
    silent: u32,
    /// A message held back, to be sent after the next one.
    held: Option<Sent>,
}

// === impl Random ===

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Uniform in 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
}

// === impl Machine ===

impl Machine {
    /// Machine number `number` of the plant with this seed.
    pub fn new(seed: u64, number: usize) -> Machine {
        let mut random = Random::new(seed ^ ((number as u64 + 1) << 20));
        let temperature = 40.0 + 20.0 * random.unit();
        Machine {
            name: format!("press-{number:02}"),
            temperature,
            pressure: 3.0,
            parts: (random.unit() * 1e6) as i64,
            valve: false,
            silent: 0,
            held: None,
            random,
        }
    }

    /// What the machine sends at this time: nothing, one message, or several.
    pub fn step(&mut self, time_ms: i64) -> Vec<Sent> {
        if self.silent > 0 {
            self.silent -= 1;
            return self.held.take().into_iter().collect();
        }
        if self.random.chance(0.002) {
            self.silent = 20 + (self.random.unit() * 40.0) as u32;
        }
        let sent = self.measure(time_ms);
        if self.held.is_none() && self.random.chance(0.01) {
            self.held = Some(sent);
            return Vec::new();
        }
        let mut all = vec![sent.clone()];
        if self.random.chance(0.01) {
            all.push(sent);
        }
        all.extend(self.held.take());
        if self.random.chance(0.002) {
            // Beside the grid, so that it repeats nobody's time: late, and new.
            let late = self.measure(time_ms - 120_001);
            all.push(late);
        }
        all
    }

    /// One last message, so that everything before it is in closed windows, and the count of late readings is reported.
    pub fn finish(&mut self, time_ms: i64) -> Vec<Sent> {
        let mut all: Vec<Sent> = self.held.take().into_iter().collect();
        all.push(self.measure(time_ms));
        all
    }

    fn measure(&mut self, time_ms: i64) -> Sent {
        let random = &mut self.random;
        self.temperature += 0.2 * (random.unit() - 0.5);
        if random.chance(0.01) {
            self.temperature += 5.0 * (random.unit() - 0.5);
        }
        if random.chance(0.02) {
            self.pressure = 2.0 + (random.unit() * 8.0).round() * 0.5;
        }
        if random.chance(0.3) {
            self.parts += 1;
        }
        if random.chance(0.05) {
            self.valve = !self.valve;
        }
        let round = |value: f64, to: f64| (value / to).round() * to;
        let temperature = round(self.temperature, 0.1);
        let pressure = round(self.pressure, 0.01);
        let vibration = round(2.0 * (random.unit() + random.unit() + random.unit() - 1.5), 0.001);
        let payload = format!(
            r#"{{"ts":{time_ms},"temperature":{temperature:.1},"pressure":{pressure:.2},"parts":{},"vibration":{vibration:.3},"valve":{}}}"#,
            self.parts, self.valve
        );
        let values = vec![
            ("temperature".to_owned(), temperature),
            ("pressure".to_owned(), pressure),
            ("parts".to_owned(), self.parts as f64),
            ("vibration".to_owned(), vibration),
            ("valve".to_owned(), f64::from(u8::from(self.valve))),
        ];
        Sent { topic: format!("plant/{}/state", self.name), payload, time_ms, values, closing: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_plant_with_all_its_faults() {
        // Goal: reproducible, and each kind of fault occurs: duplicates, out of order, late, gaps.
        let run = |seed| {
            let mut machine = Machine::new(seed, 3);
            (0..5_000).map(|t| machine.step(1_000_000 + t * 100)).collect::<Vec<_>>()
        };
        let plant = run(7);
        assert_eq!(plant, run(7));
        assert_ne!(plant, run(8));
        let sent: Vec<&Sent> = plant.iter().flatten().collect();
        assert!(sent.windows(2).any(|w| w[0] == w[1]), "a message sent twice");
        assert!(sent.windows(2).any(|w| w[1].time_ms < w[0].time_ms && w[1].time_ms > w[0].time_ms - 60_000));
        assert!(sent.windows(2).any(|w| w[1].time_ms < w[0].time_ms - 60_000), "a late message");
        assert!(plant.windows(15).any(|w| w.iter().all(Vec::is_empty)), "a gap");
    }
}
