//! How often a login may fail: buckets that failures empty and time fills.
//!
//! ```text
//!             failure            bucket empty
//!   fresh ──────────────▶ used ────────────────▶ refused unseen
//!     ▲                     │ ▲                        │
//!     └──── full again ─────┘ └────── a token later ───┘
//! ```
//! Each attempt looks at two buckets: that of its address and user together, and that of its address. The first is small,
//! so that guessing one password is slow; the second is larger, so that a room full of sensors behind one address is not
//! locked out by one of them.
//! Pure; the entrance's task owns it. Lost with the process. Bounded: when [`ENTRIES_MAX`] buckets are in use the fullest
//! goes, which is the one least missed.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Buckets kept: 4,096 × about 48 bytes are 200 KiB.
pub const ENTRIES_MAX: usize = 4096;

/// Failures of one user from one address at a go, and how soon one more: 5 slips of a technician, then 8,640 a day.
const USER: Rate = Rate { burst: 5.0, refill: Duration::from_secs(10) };
/// Failures from one address at a go, and how soon one more: a cabinet of 50 sensors with a wrong password, then one a
/// second, each of which costs the gateway a check of some tens of milliseconds.
const ADDRESS: Rate = Rate { burst: 50.0, refill: Duration::from_secs(1) };

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: f64,
    refill: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
    rate: Rate,
}

/// Which bucket. Users are remembered by a keyed hash: their names come from the network and may be long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    network: u64,
    user: Option<u64>,
}

/// Counts failures.
#[derive(Debug, Default)]
pub struct Limiter {
    buckets: HashMap<Key, Bucket>,
    hasher: RandomState,
}

// === impl Limiter ===

impl Limiter {
    /// Whether an attempt may be looked at.
    pub fn allows(&self, address: IpAddr, user: &str, now: Instant) -> bool {
        let left = |key: Key| self.buckets.get(&key).is_none_or(|bucket| bucket.tokens(now) >= 1.0);
        left(self.key(address, Some(user))) && left(self.key(address, None))
    }

    /// An attempt has failed, or is about to be looked at: it costs a token of both buckets.
    pub fn spend(&mut self, address: IpAddr, user: &str, now: Instant) {
        for (key, rate) in [(self.key(address, Some(user)), USER), (self.key(address, None), ADDRESS)] {
            if !self.buckets.contains_key(&key) {
                self.make_room(now);
            }
            let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: rate.burst, at: now, rate });
            bucket.tokens = (bucket.tokens(now) - 1.0).max(0.0);
            bucket.at = now;
        }
    }

    /// The attempt has not failed after all: the tokens are given back.
    pub fn give_back(&mut self, address: IpAddr, user: &str, now: Instant) {
        for key in [self.key(address, Some(user)), self.key(address, None)] {
            if let Some(bucket) = self.buckets.get_mut(&key) {
                bucket.tokens = (bucket.tokens(now) + 1.0).min(bucket.rate.burst);
                bucket.at = now;
            }
        }
    }

    /// Buckets in use.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether nothing has failed lately.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    fn make_room(&mut self, now: Instant) {
        if self.buckets.len() < ENTRIES_MAX {
            return;
        }
        self.buckets.retain(|_, bucket| bucket.tokens(now) < bucket.rate.burst);
        if self.buckets.len() < ENTRIES_MAX {
            return;
        }
        let fullness = |bucket: &Bucket| bucket.tokens(now) / bucket.rate.burst;
        let fullest =
            self.buckets.iter().max_by(|a, b| fullness(a.1).total_cmp(&fullness(b.1))).map(|(key, _)| *key);
        if let Some(key) = fullest {
            self.buckets.remove(&key);
        }
    }

    fn key(&self, address: IpAddr, user: Option<&str>) -> Key {
        let network = match address.to_canonical() {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            // A host has a network of 2^64 addresses to itself.
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64 | 1 << 63,
        };
        Key { network, user: user.map(|user| self.hasher.hash_one(user)) }
    }
}

// === impl Bucket ===

impl Bucket {
    fn tokens(&self, now: Instant) -> f64 {
        let waited = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + waited / self.rate.refill.as_secs_f64()).min(self.rate.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn failures(limiter: &mut Limiter, address: IpAddr, user: &str, now: Instant) -> usize {
        (0..1000)
            .take_while(|_| {
                let allowed = limiter.allows(address, user, now);
                if allowed {
                    limiter.spend(address, user, now);
                }
                allowed
            })
            .count()
    }

    #[test]
    fn guessing_one_password_is_slow_and_waits_are_short_for_others() {
        // Goal: the stated rates. Method: guess until refused, wait, guess again; another user and another address.
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        assert_eq!(failures(&mut limiter, HOME, "press", now), 5);
        assert_eq!(failures(&mut limiter, HOME, "press", now + Duration::from_secs(9)), 0);
        assert_eq!(failures(&mut limiter, HOME, "press", now + Duration::from_secs(30)), 3);
        assert!(limiter.allows(HOME, "oven", now), "another user from the same address");
        let elsewhere = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
        assert!(limiter.allows(elsewhere, "press", now), "the same user from another address");
    }

    #[test]
    fn an_address_that_tries_many_users_is_slowed_too() {
        // Goal: unknown names cost no more than known ones. Method: a new name each time.
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        let tried = (0..1000).take_while(|n| failures_once(&mut limiter, &n.to_string(), now)).count();
        assert_eq!(tried, 50);
        let later = now + Duration::from_secs(10);
        let tried = (0..1000).take_while(|n| failures_once(&mut limiter, &format!("x{n}"), later)).count();
        assert_eq!(tried, 10);
    }

    fn failures_once(limiter: &mut Limiter, user: &str, now: Instant) -> bool {
        let allowed = limiter.allows(HOME, user, now);
        if allowed {
            limiter.spend(HOME, user, now);
        }
        allowed
    }

    #[test]
    fn a_login_that_succeeds_costs_nothing() {
        // Goal: sensors that come and go are never limited. Method: a thousand good logins.
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        for _ in 0..1000 {
            assert!(failures_once(&mut limiter, "press", now));
            limiter.give_back(HOME, "press", now);
        }
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_least_suspicious_first() {
        // Goal: bounded memory, and a flood of addresses does not wash an attacker away. Method: empty one bucket, then
        // come from 10,000 addresses.
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        assert_eq!(failures(&mut limiter, HOME, "press", now), 5);
        for n in 0..10_000u32 {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(n << 8));
            limiter.spend(address, "press", now);
            assert!(limiter.len() <= ENTRIES_MAX);
        }
        assert!(!limiter.allows(HOME, "press", now));
    }

    #[test]
    fn an_ipv6_host_has_one_bucket_for_its_network() {
        // Goal: 2^64 addresses are one attacker. Method: two addresses of a network, one of another.
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        failures(&mut limiter, address("fd00:0:0:1::1"), "press", now);
        assert!(!limiter.allows(address("fd00:0:0:1:ffff::9"), "press", now));
        assert!(limiter.allows(address("fd00:0:0:2::1"), "press", now));
        assert!(limiter.allows(address("::1"), "press", now));
        failures(&mut limiter, HOME, "press", now);
        assert!(
            !limiter.allows(address("::ffff:10.0.0.1"), "press", now),
            "mapped addresses are the IPv4 ones"
        );
    }
}
