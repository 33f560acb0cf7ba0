//! Which row goes next: alarms, then what was made since the link came up, then the backlog; and nobody starves.
//!
//! ```text
//!             ┌ alarm ─────────────── first, but leaves ALARM_YIELD_PERCENT of the bytes to data that waits
//!  next row ──┤
//!             └ data ──┬ live ─────── first, but leaves the backlog its configured share while it waits
//!                      └ backlog ──── the share it is sure of, and all that the others leave
//! ```
//! Sharing is by credit in bytes: whoever goes first while another waits earns the other one credit in proportion, and
//! the other one goes as soon as its credit pays for its row. Credit is lost when the waiting side runs empty, so that
//! nobody saves it up. Pure; lives in the uplink's task; nothing to lose with the power.

/// Bytes that alarms leave to waiting data: enough for live data to move under an alarm flood, little enough that an
/// alarm's lane keeps nine tenths of the link.
pub const ALARM_YIELD_PERCENT: u64 = 10;

/// Most credit that is kept: one message of the largest size a NATS server takes by default, 1 MiB.
const CREDIT_BYTES_MAX: u64 = 1 << 20;

/// What a row is, to the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Of the alarm lane.
    Alarm,
    /// Of the data lane, made since the link came up.
    Live,
    /// Of the data lane, waiting since before the link came up.
    Backlog,
}

/// The size of each class's next row; `None` when it has nothing to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heads {
    /// Alarm lane.
    pub alarm: Option<u64>,
    /// Live rows.
    pub live: Option<u64>,
    /// Backlog.
    pub backlog: Option<u64>,
}

/// The shares and who is owed how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lanes {
    backlog_share_percent: u64,
    data_credit: u64,
    backlog_credit: u64,
}

// === impl Class ===

impl Class {
    /// All classes.
    pub const ALL: [Class; 3] = [Class::Alarm, Class::Live, Class::Backlog];
}

// === impl Lanes ===

impl Lanes {
    /// `backlog_share_percent` is 5 to 95, as configured.
    pub fn new(backlog_share_percent: u8) -> Lanes {
        let share = u64::from(backlog_share_percent).clamp(5, 95);
        Lanes { backlog_share_percent: share, data_credit: 0, backlog_credit: 0 }
    }

    /// The class whose head goes next.
    pub fn next(&self, heads: Heads) -> Option<Class> {
        let data = self.next_data(heads);
        match (heads.alarm, data) {
            (Some(_), Some((_, size))) if self.data_credit >= size => data.map(|(class, _)| class),
            (Some(_), _) => Some(Class::Alarm),
            (None, data) => data.map(|(class, _)| class),
        }
    }

    /// Books a row of `bytes` that went out when the heads (itself included) were `heads`.
    pub fn sent(&mut self, class: Class, bytes: u64, heads: Heads) {
        let data_waits = heads.live.is_some() || heads.backlog.is_some();
        match class {
            Class::Alarm if data_waits => {
                self.data_credit = earned(self.data_credit, bytes, ALARM_YIELD_PERCENT, data_size(heads));
            }
            Class::Alarm => {}
            Class::Live | Class::Backlog if heads.alarm.is_some() => {
                self.data_credit = self.data_credit.saturating_sub(bytes);
            }
            Class::Live | Class::Backlog => self.data_credit = 0,
        }
        match (class, heads.backlog) {
            (Class::Live, Some(size)) => {
                self.backlog_credit = earned(self.backlog_credit, bytes, self.backlog_share_percent, size);
            }
            (Class::Backlog, _) => self.backlog_credit = self.backlog_credit.saturating_sub(bytes),
            (_, None) => self.backlog_credit = 0,
            (Class::Alarm, Some(_)) => {}
        }
    }

    fn next_data(&self, heads: Heads) -> Option<(Class, u64)> {
        match (heads.live, heads.backlog) {
            (Some(_), Some(backlog)) if self.backlog_credit >= backlog => Some((Class::Backlog, backlog)),
            (Some(live), _) => Some((Class::Live, live)),
            (None, Some(backlog)) => Some((Class::Backlog, backlog)),
            (None, None) => None,
        }
    }
}

/// Credit after the first in line sent `bytes` and leaves `percent` of the total to the waiting side, whose next row is
/// of `size`: it must always be able to save enough for that.
fn earned(credit: u64, bytes: u64, percent: u64, size: u64) -> u64 {
    let earning = (bytes * percent).div_ceil(100 - percent);
    credit.saturating_add(earning).min(CREDIT_BYTES_MAX.max(size))
}

/// The larger data head: credit may grow to what either of them costs.
fn data_size(heads: Heads) -> u64 {
    heads.live.unwrap_or(0).max(heads.backlog.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE_MAX: u64 = 40_000;

    fn sizes() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(100..SIZE_MAX, 400)
    }

    // Goal: the plain order. Method: all three wait and nobody is owed anything.
    #[test]
    fn alarms_go_before_live_rows_and_live_rows_before_the_backlog() {
        let lanes = Lanes::new(25);
        let all = Heads { alarm: Some(10), live: Some(10), backlog: Some(10) };
        assert_eq!(lanes.next(all), Some(Class::Alarm));
        assert_eq!(lanes.next(Heads { alarm: None, ..all }), Some(Class::Live));
        assert_eq!(lanes.next(Heads { alarm: None, live: None, ..all }), Some(Class::Backlog));
        assert_eq!(lanes.next(Heads::default()), None);
    }

    // Goal: credit is not saved up while the backlog is empty. Method: live traffic alone, then a backlog appears.
    #[test]
    fn an_empty_backlog_earns_nothing() {
        let mut lanes = Lanes::new(50);
        for _ in 0..1000 {
            lanes.sent(Class::Live, 1000, Heads { live: Some(1000), ..Heads::default() });
        }
        assert_eq!(lanes.next(Heads { alarm: None, live: Some(10), backlog: Some(10) }), Some(Class::Live));
    }

    // Goal: a row larger than the credit cap is still sent one day. Method: a giant backlog row against small live ones.
    #[test]
    fn a_giant_row_does_not_wait_for_ever() {
        let mut lanes = Lanes::new(5);
        let heads = Heads { alarm: None, live: Some(1000), backlog: Some(8 << 20) };
        let turns = (0..1_000_000).take_while(|_| {
            let class = lanes.next(heads).expect("two heads wait");
            lanes.sent(class, 1000, heads);
            class == Class::Live
        });
        assert!(turns.count() < 200_000);
    }

    proptest! {
        // Goal: while everybody waits, the backlog gets its share of the data bytes and data its share of all bytes, at
        // every moment up to one row. Method: random sizes, greedy draining, running sums compared after every row.
        #[test]
        fn waiting_classes_get_their_share_at_every_moment(
            share in 5u8..=95, alarm in sizes(), live in sizes(), backlog in sizes(), alarms in any::<bool>(),
        ) {
            let mut lanes = Lanes::new(share);
            let (mut a, mut l, mut b) = (0usize, 0usize, 0usize);
            let mut bytes = [0u64; 3];
            while a < alarm.len() && l < live.len() && b < backlog.len() {
                let heads = Heads { alarm: alarms.then_some(alarm[a]), live: Some(live[l]), backlog: Some(backlog[b]) };
                let class = lanes.next(heads).expect("heads wait");
                let size = match class {
                    Class::Alarm => { a += 1; alarm[a - 1] }
                    Class::Live => { l += 1; live[l - 1] }
                    Class::Backlog => { b += 1; backlog[b - 1] }
                };
                lanes.sent(class, size, heads);
                bytes[class as usize] += size;
                let data = bytes[1] + bytes[2];
                let owed_backlog = data * u64::from(share) / 100;
                prop_assert!(bytes[2] + 2 * SIZE_MAX >= owed_backlog, "backlog {} of {}", bytes[2], data);
                let owed_live = data * u64::from(100 - share) / 100;
                prop_assert!(bytes[1] + 2 * SIZE_MAX >= owed_live, "live {} of {}", bytes[1], data);
                if alarms {
                    let all = bytes[0] + data;
                    prop_assert!(data + 2 * SIZE_MAX >= all * ALARM_YIELD_PERCENT / 100, "data {data} of {all}");
                    prop_assert!(bytes[0] + 2 * SIZE_MAX >= all * (100 - ALARM_YIELD_PERCENT) / 100);
                }
            }
        }

        // Goal: no turn is wasted and nobody is chosen who has nothing. Method: random heads.
        #[test]
        fn only_waiting_classes_are_chosen(
            steps in prop::collection::vec((any::<[bool; 3]>(), 1u64..SIZE_MAX), 1..300), share in 5u8..=95,
        ) {
            let mut lanes = Lanes::new(share);
            for (present, size) in steps {
                let heads = Heads {
                    alarm: present[0].then_some(size),
                    live: present[1].then_some(size),
                    backlog: present[2].then_some(size),
                };
                match lanes.next(heads) {
                    Some(class) => {
                        prop_assert!(present[class as usize]);
                        lanes.sent(class, size, heads);
                    }
                    None => prop_assert_eq!(heads, Heads::default()),
                }
            }
        }
    }
}
