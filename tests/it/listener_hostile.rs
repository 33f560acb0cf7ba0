//! Clients that mean harm, or are broken, beside a sensor that misses nothing: every message of its is acknowledged and in
//! the journal, it is never thrown out, and the gateway's memory stays within bounds.
//!
//! Each test prints what the sensor saw (`--nocapture`).

mod connections;
mod logins;
mod packets;
mod raw;
mod subscribers;

use std::net::SocketAddr;

use tokio::task::JoinSet;

use crate::listener_rig::Gateway;
use crate::listener_sensor::{Notes, Sensor};

/// What hostile clients may make the gateway grow by, beside what it holds for each connection.
const GROWTH_MAX: u64 = 24 << 20;
/// What a connection may cost, whatever its client does short of filling its queue or a packet.
const CONNECTION_BYTES: u64 = 20 << 10;

/// A gateway, its sensor, and what it weighed before the attack.
struct Beside {
    gateway: Gateway,
    sensor: Sensor,
    before: u64,
    worst: u64,
}

impl Beside {
    async fn start(toml: &str) -> Beside {
        let gateway = Gateway::start(toml).await;
        let mut sensor = Sensor::start(gateway.port, "good", None);
        sensor.acknowledged(100).await;
        let before = gateway.memory();
        Beside { gateway, sensor, before, worst: 0 }
    }

    fn at(&self) -> SocketAddr {
        self.gateway.address()
    }

    fn weigh(&mut self) {
        self.worst = self.worst.max(self.gateway.memory());
    }

    /// Ends the attack: the sensor goes on for a while, and then the books are compared.
    async fn judge(mut self, what: &str, connections: u64) -> Notes {
        self.weigh();
        self.sensor.acknowledged(50).await;
        self.weigh();
        let notes = self.sensor.finish().await;
        let grown = self.worst.saturating_sub(self.before);
        println!(
            "{what}: {} sent, {} acknowledged, {} reconnects, PUBACK p50 {:?} p99 {:?}, memory {} + {} KiB",
            notes.sent,
            notes.acknowledged,
            notes.reconnects,
            notes.waits[notes.waits.len() / 2],
            notes.p99(),
            self.before >> 10,
            grown >> 10,
        );
        assert_eq!((notes.acknowledged, notes.reconnects), (notes.sent, 0));
        self.gateway.journalled(notes.sent).await;
        assert!(grown <= GROWTH_MAX + connections * CONNECTION_BYTES, "grew by {} KiB", grown >> 10);
        self.gateway.stop().await;
        notes
    }
}

/// Does something for a number of clients, side by side.
async fn crowd<F: Future<Output = ()> + Send + 'static>(count: usize, one: impl Fn(usize) -> F) {
    let mut tasks: JoinSet<()> = (0..count).map(one).collect();
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Numbers without a pattern (splitmix64), the same in every run.
fn noise(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
