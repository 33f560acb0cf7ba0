use std::collections::VecDeque;

use super::*;

/// A path with one bottleneck and an endless queue in front of it, in virtual time.
struct Path {
    rate: f64,
    rtt: Duration,
    /// When the bottleneck is free again.
    free_at: Instant,
    /// Whether what waits is packed into one block that arrives as a whole, as leaf connections do.
    packing: bool,
}

/// What a run came to.
struct Outcome {
    acked: u64,
    queueing: Vec<Duration>,
}

impl Path {
    fn new(bits_per_second: f64, rtt_ms: u64, now: Instant) -> Path {
        Path { rate: bits_per_second / 8.0, rtt: Duration::from_millis(rtt_ms), free_at: now, packing: false }
    }

    /// When a row sent now is acknowledged, and how long it stands in the queue.
    fn send(&mut self, bytes: u64, now: Instant) -> (Instant, Duration) {
        let start = self.free_at.max(now);
        self.free_at = start + Duration::from_secs_f64(bytes as f64 / self.rate);
        (self.free_at + self.rtt, start - now)
    }
}

/// Sends as much as the window allows for `seconds`; counts what is acknowledged and queued after the first `warm`.
fn drain(
    window: &mut Window,
    path: &mut Path,
    sizes: &[u64],
    start: Instant,
    seconds: u64,
    warm: u64,
) -> Outcome {
    let mut now = start;
    let end = start + Duration::from_secs(seconds);
    let measured = start + Duration::from_secs(warm);
    let mut flying: VecDeque<(Instant, Sending, u64)> = VecDeque::new();
    let mut outcome = Outcome { acked: 0, queueing: Vec::new() };
    let mut next = sizes.iter().cycle();
    let mut size = *next.next().expect("sizes are given");
    while now < end {
        let first_of_block = flying.len();
        let idle = path.free_at <= now;
        while window.allows(size, Urgency::Ordinary) {
            let (acked_at, queueing) = path.send(size, now);
            flying.push_back((acked_at, window.sent(size, now), size));
            if now >= measured {
                outcome.queueing.push(queueing);
            }
            size = *next.next().expect("it cycles");
        }
        if path.packing && !idle {
            let last = flying.back().map(|(acked_at, ..)| *acked_at);
            flying.iter_mut().skip(first_of_block).for_each(|row| row.0 = last.expect("it is not empty"));
        }
        let (acked_at, sending, bytes) = flying.pop_front().expect("one row is always allowed");
        now = acked_at;
        window.acked(sending, now);
        if now >= measured && now < end {
            outcome.acked += bytes;
        }
    }
    for (_, sending, _) in flying {
        window.forget(sending);
    }
    outcome
}

// Goal: the link is used and not flooded, whatever it is. Method: simulated paths from 64 kbit/s to 100 Mbit/s, 1 ms to
// 600 ms, with small, large and mixed rows; the bottleneck's queue is known exactly.
#[test]
fn the_window_fills_every_link_and_builds_no_queue() {
    for bits in [64e3, 256e3, 1e6, 10e6, 100e6] {
        for rtt in [1, 20, 200, 600] {
            for sizes in [&[1_000][..], &[16_000], &[32_000], &[400, 32_000, 2_000, 900]] {
                for packing in [false, true] {
                    let start = Instant::now();
                    let mut window = Window::new(64 << 20, start);
                    let mut path = Path { packing, ..Path::new(bits, rtt, start) };
                    let outcome = drain(&mut window, &mut path, sizes, start, 60, 20);
                    let used = outcome.acked as f64 / (path.rate * 40.0);
                    let largest = *sizes.iter().max().expect("sizes are given") as f64 / path.rate;
                    let queued = outcome.queueing.iter().max().expect("rows were sent").as_secs_f64();
                    let bound =
                        (3.0 * rtt as f64 / 1e3).max(0.4) + 0.1 + if packing { 3.0 } else { 2.0 } * largest;
                    let case =
                        format!("{bits} bit/s, {rtt} ms, {sizes:?}: used {used:.3}, queued {queued:.3} s");
                    assert!(used >= 0.8, "{case}");
                    assert!(queued <= bound, "{case}, bound {bound:.3}, packing {packing}");
                }
            }
        }
    }
}

// Goal: a link that becomes ten times slower, or longer, or better, is followed. Method: change the path under a running
// window, give it time, and judge the last part.
#[test]
fn the_window_follows_a_path_that_changes() {
    for (before, after) in [((10e6, 20), (1e6, 20)), ((10e6, 20), (10e6, 600)), ((1e6, 300), (20e6, 30))] {
        let start = Instant::now();
        let mut window = Window::new(4 << 20, start);
        let mut path = Path::new(before.0, before.1, start);
        drain(&mut window, &mut path, &[8_000], start, 30, 10);
        let changed = path.free_at.max(start + Duration::from_secs(31));
        let mut path = Path::new(after.0, after.1, changed);
        let outcome = drain(&mut window, &mut path, &[8_000], changed, 120, 60);
        let used = outcome.acked as f64 / (path.rate * 60.0);
        let queued = outcome.queueing.iter().max().expect("rows were sent").as_secs_f64();
        assert!(used >= 0.8, "{before:?} to {after:?}: used {used:.3}");
        assert!(
            queued < (3.0 * after.1 as f64 / 1e3).max(0.4) + 0.2,
            "{before:?} to {after:?}: queued {queued:.3} s"
        );
    }
}

// Goal: a standing queue is cut at once. Method: fill the window on a fast path, then acknowledge a second late.
#[test]
fn late_acknowledgements_halve_the_window_once_per_round_trip() {
    let start = Instant::now();
    let mut window = Window::new(1 << 20, start);
    let first = window.sent(1_000, start);
    window.acked(first, start + Duration::from_millis(10));
    let at = start + Duration::from_millis(20);
    let ahead = window.sent(1_000, at);
    let sendings: Vec<_> = (0..60).map(|_| window.sent(1_000, at)).collect();
    for sending in sendings {
        window.acked(sending, at + Duration::from_secs(1));
    }
    assert_eq!(window.bytes(), WINDOW_START / 2);
    window.forget(ahead);
    assert_eq!(window.in_flight(), 0);
}

// Goal: the bounds hold. Method: a perfect path for a while, then hopeless acknowledgements.
#[test]
fn the_window_stays_between_one_row_and_its_maximum() {
    let start = Instant::now();
    let mut window = Window::new(200_000, start);
    let mut path = Path::new(1e9, 50, start);
    drain(&mut window, &mut path, &[10_000], start, 20, 1);
    assert_eq!(window.bytes(), 200_000);
    let mut now = start + Duration::from_secs(60);
    for _ in 0..40 {
        let sendings = [window.sent(10_000, now), window.sent(10_000, now)];
        now += Duration::from_secs(5);
        for sending in sendings {
            window.acked(sending, now);
        }
    }
    assert_eq!(window.in_flight(), 0);
    assert!(window.allows(1 << 20, Urgency::Ordinary), "one row is always allowed");
    let _ = window.sent(1 << 20, now);
    assert!(!window.allows(10_000, Urgency::Ordinary));
}

// Goal: an alarm does not wait for a full window. Method: fill it with ordinary rows, then ask for both.
#[test]
fn an_alarm_goes_beyond_a_full_window() {
    let start = Instant::now();
    let mut window = Window::new(1 << 20, start);
    while window.allows(4_000, Urgency::Ordinary) {
        let _ = window.sent(4_000, start);
    }
    assert!(window.allows(4_000, Urgency::Alarm));
    for _ in 0..100 {
        if window.allows(4_000, Urgency::Alarm) {
            let _ = window.sent(4_000, start);
        }
    }
    assert!(window.in_flight() <= WINDOW_START + ALARM_HEADROOM + 4_000);
}
