//! The tables about the gateway itself: `[gateway]`, `[clock]`, `[journal]`, `[outbox]`, `[uplink]`, and the rules that
//! hold between tables.

use std::time::Duration;

use super::{FileKind, FilePlace, Judge};
use crate::block::ROWS_MAX;
use crate::config::fault::{Doubt, Fault};
use crate::config::names;
use crate::config::raw;
use crate::config::tree::KeyPath;
use crate::config::units::show_duration;
use crate::config::wear;
use crate::config::{
    Clock, Config, Gateway, Journal, LogLevel, Outbox, SOCKET_PATH_MAX, Slot, Trust, Uplink,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// More than any gateway's flash: what is above it is a slip of the pen.
const FLASH_BYTES_MAX: u64 = 1 << 44;

/// The oldest outputs anybody keeps.
const AGE_MAX: Duration = Duration::from_secs(10 * YEAR.as_secs());

impl Judge<'_> {
    pub(super) fn gateway(&mut self, raw: &raw::Gateway) -> Gateway {
        let table = KeyPath::of("gateway");
        let name = match (&raw.name, &self.surroundings.host_name) {
            (Some(name), _) => self.name(&table.key("name"), name),
            (None, host) => host.as_deref().and_then(names::name_from_host).unwrap_or_else(|| {
                if !self.taken_out.contains(&table.key("name")) {
                    self.refuse(&table, Fault::NoName);
                }
                String::new()
            }),
        };
        let gateway = Gateway {
            name,
            data_dir: self.path(&table.key("data_dir"), &raw.data_dir),
            cache_dir: self.path(&table.key("cache_dir"), &raw.cache_dir),
            run_dir: self.path(&table.key("run_dir"), &raw.run_dir),
            log: log_level(raw.log),
        };
        for (key, folder) in [
            ("data_dir", &gateway.data_dir),
            ("cache_dir", &gateway.cache_dir),
            ("run_dir", &gateway.run_dir),
        ] {
            self.name_file(&table.key(key), folder, FileKind::Folder, FilePlace::Known);
        }
        let bytes = gateway.socket().as_os_str().len();
        if bytes > SOCKET_PATH_MAX {
            self.refuse(&table.key("run_dir"), Fault::RunDirTooLong { bytes });
        }
        if gateway.data_dir.starts_with(&gateway.cache_dir) {
            self.refuse(&table.key("cache_dir"), Fault::DataInCache);
        }
        gateway
    }

    pub(super) fn clock(&mut self, raw: &raw::Clock) -> Clock {
        let trust = match raw.trust {
            raw::Trust::Auto => Trust::Auto,
            raw::Trust::Synchronized => Trust::Synchronized,
            raw::Trust::Always => Trust::Always,
        };
        Clock {
            trust,
            synchronized_file: self.path(&KeyPath::of("clock.synchronized_file"), &raw.synchronized_file),
        }
    }

    pub(super) fn journal(&mut self, raw: &raw::Journal) -> Journal {
        let key = |key: &str| KeyPath::of("journal").key(key);
        let ms = Duration::from_millis;
        let journal = Journal {
            commit_interval: self.duration(&key("commit_interval"), raw.commit_interval, ms(10), MINUTE),
            commit_interval_max: self.duration(
                &key("commit_interval_max"),
                raw.commit_interval_max,
                ms(10),
                MINUTE,
            ),
            commit_readings_max: self.whole_number(
                &key("commit_readings_max"),
                raw.commit_readings_max,
                1,
                ROWS_MAX,
            ),
            checkpoint_interval: self.duration(
                &key("checkpoint_interval"),
                raw.checkpoint_interval,
                SECOND,
                HOUR,
            ),
            checkpoint_interval_min: self.duration(
                &key("checkpoint_interval_min"),
                raw.checkpoint_interval_min,
                ms(10),
                HOUR,
            ),
            ring_bytes_max: self.bytes(&key("ring_bytes_max"), raw.ring_bytes_max.0, 0, FLASH_BYTES_MAX),
            wear_bytes_per_day: self.bytes(
                &key("wear_bytes_per_day"),
                raw.wear_bytes_per_day.0,
                0,
                FLASH_BYTES_MAX,
            ),
        };
        self.not_below(
            ("journal.commit_interval_max", journal.commit_interval_max),
            ("journal.commit_interval", journal.commit_interval),
        );
        self.not_below(
            ("journal.checkpoint_interval", journal.checkpoint_interval),
            ("journal.checkpoint_interval_min", journal.checkpoint_interval_min),
        );
        journal
    }

    pub(super) fn outbox(&mut self, raw: &raw::Outbox) -> Outbox {
        let key = |key: &str| KeyPath::of("outbox").key(key);
        let age_max = raw.age_max.map(|age| self.duration(&key("age_max"), age, MINUTE, AGE_MAX));
        Outbox { bytes_max: self.bytes(&key("bytes_max"), raw.bytes_max.0, MIB, FLASH_BYTES_MAX), age_max }
    }

    pub(super) fn slot(&mut self, raw: &raw::Slot) -> Slot {
        let key = KeyPath::of("slot").key("confirm_after");
        Slot { confirm_after: self.duration(&key, raw.confirm_after, SECOND, HOUR) }
    }

    pub(super) fn uplink(&mut self, raw: &raw::Uplink) -> Uplink {
        let key = |key: &str| KeyPath::of("uplink").key(key);
        Uplink {
            ack_timeout: self.duration(&key("ack_timeout"), raw.ack_timeout, SECOND, 10 * MINUTE),
            inflight_bytes_max: self.bytes(
                &key("inflight_bytes_max"),
                raw.inflight_bytes_max.0,
                64 * KIB,
                256 * MIB,
            ),
            backlog_share_percent: self.whole_number(
                &key("backlog_share_percent"),
                raw.backlog_share_percent,
                5,
                95u8,
            ),
            recall_bytes_per_second: self.bytes(
                &key("recall_bytes_per_second"),
                raw.recall_bytes_per_second.0,
                KIB,
                1024 * MIB,
            ),
        }
    }

    /// What can only be said of the whole.
    pub(super) fn whole(&mut self, config: &Config) {
        let shut = config.broker.is_none() && config.site.listeners.is_empty();
        if shut && !config.streams.is_empty() && self.problems.is_empty() {
            self.doubt(&KeyPath::of("listener"), Doubt::NoDoor);
        }
        for (n, stream) in config.streams.iter().enumerate() {
            if stream.caps.outbox_bytes_max.is_some_and(|bytes| bytes > config.outbox.bytes_max) {
                let path = KeyPath::of("stream").item(n).key("outbox_bytes_max");
                self.doubt(&path, Doubt::CapAboveOutbox);
            }
        }
        let expected = wear::estimate(config).bytes_per_day();
        let budget = config.journal.wear_bytes_per_day;
        if budget > 0 && expected > budget {
            let [expected, budget] = [expected, budget].map(|bytes| wear::PerDay(bytes).to_string());
            self.doubt(&KeyPath::of("journal.wear_bytes_per_day"), Doubt::OverBudget { expected, budget });
        }
    }

    /// One duration must not be below another. The message is put down to whichever somebody has written.
    fn not_below(&mut self, upper: (&'static str, Duration), lower: (&'static str, Duration)) {
        if upper.1 >= lower.1 {
            return;
        }
        let path = KeyPath::of(upper.0);
        let (value, least) = (show_duration(upper.1), show_duration(lower.1));
        let fault = Fault::Below { value, other: lower.0, least };
        match self.tree.origin(&path) {
            Some(_) => self.refuse(&path, fault),
            None => {
                let mut problem = super::problem_of(self.tree, &KeyPath::of(lower.0), fault);
                problem.key = upper.0.to_owned();
                self.problems.push(problem);
            }
        }
    }
}

fn log_level(raw: raw::LogLevel) -> LogLevel {
    match raw {
        raw::LogLevel::Error => LogLevel::Error,
        raw::LogLevel::Warn => LogLevel::Warn,
        raw::LogLevel::Info => LogLevel::Info,
        raw::LogLevel::Debug => LogLevel::Debug,
        raw::LogLevel::Trace => LogLevel::Trace,
    }
}
