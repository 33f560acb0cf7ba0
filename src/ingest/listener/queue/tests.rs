use std::time::Duration;

use proptest::prelude::*;

use super::*;

const ROOMY: Bounds = Bounds { messages: 1000, bytes: 1 << 20 };

fn entry(quality: Quality, message: u32) -> Entry<u32> {
    Entry { bytes: 36, quality, expires: None, message }
}

fn low(message: u32) -> Entry<u32> {
    entry(Quality::AtMostOnce, message)
}

fn high(message: u32) -> Entry<u32> {
    entry(Quality::AtLeastOnce, message)
}

fn drain(queue: &mut Queue<u32>) -> Vec<u32> {
    let now = Instant::now();
    let mut packet = 0;
    std::iter::from_fn(|| {
        packet += 1;
        queue.take(now, packet).map(|entry| entry.message)
    })
    .collect()
}

#[test]
fn messages_leave_in_the_order_they_came() {
    // Goal: a subscriber sees what was published in order, whatever the qualities. Method: both, mixed.
    let mut queue = Queue::new(ROOMY);
    for entry in [high(1), low(2), low(3), high(4)] {
        queue.push(entry, Presence::Here);
    }
    assert_eq!(drain(&mut queue), [1, 2, 3, 4]);
    assert_eq!((queue.waiting(), queue.in_flight()), (0, 2), "QoS 1 is kept until acknowledged");
    assert!(queue.acknowledge(1) && queue.acknowledge(4) && !queue.acknowledge(4));
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn a_full_queue_drops_the_oldest_of_the_lowest_quality() {
    // Goal: the stated overflow policy. Method: a queue of four, each case.
    let mut queue = Queue::new(Bounds { messages: 4, ..ROOMY });
    for entry in [high(1), low(2), low(3), high(4), high(5), low(6)] {
        queue.push(entry, Presence::Here);
    }
    assert_eq!(queue.dropped().full, 2);
    assert_eq!(drain(&mut queue), [1, 4, 5, 6], "first 2 went, then 3");
    for packet in [1, 2, 3] {
        queue.acknowledge(packet);
    }
    let mut queue = Queue::new(Bounds { messages: 2, ..ROOMY });
    for entry in [high(1), high(2), low(3), high(4)] {
        queue.push(entry, Presence::Here);
    }
    assert_eq!(drain(&mut queue), [2, 4], "3 does not push out a better one, 4 pushes out 1");
    assert_eq!(queue.dropped().full, 2);
}

#[test]
fn bytes_are_bounded_and_what_is_in_flight_counts() {
    // Goal: memory is bounded while a subscriber does not acknowledge. Method: 100 bytes a message, room for three.
    let mut queue = Queue::new(Bounds { messages: 100, bytes: 300 });
    for n in 1..=3 {
        queue.push(high(n), Presence::Here);
    }
    assert!(!queue.can_take(1));
    assert_eq!(drain(&mut queue), [1, 2, 3]);
    queue.push(high(4), Presence::Here);
    assert_eq!((queue.waiting(), queue.dropped().full), (0, 1), "in flight is not dropped");
    assert!(queue.acknowledge(2) && queue.can_take(36));
    queue.push(high(5), Presence::Here);
    assert_eq!(queue.waiting(), 1);
    queue.push(Entry { bytes: 1000, ..high(6) }, Presence::Here);
    assert_eq!(queue.bytes(), 300, "one that cannot fit is not taken, and takes no others with it");
}

#[test]
fn what_is_in_flight_is_sent_again_in_its_order() {
    // Goal: MQTT 5, 4.4. Method: three sent, the second acknowledged, the subscriber gone.
    let mut queue = Queue::new(ROOMY);
    (1..=4).for_each(|n| queue.push(high(n), Presence::Here));
    let now = Instant::now();
    for packet in [10, 11, 12] {
        queue.take(now, packet);
    }
    queue.acknowledge(11);
    let again: Vec<_> = queue.flying().map(|(packet, entry)| (packet, entry.message)).collect();
    assert_eq!(again, [(10, 1), (12, 3)]);
    assert_eq!(queue.waiting(), 1);
}

#[test]
fn absent_subscribers_keep_qos_1_only() {
    // Goal: the session of an absent client holds what it was promised. Method: both qualities while away.
    let mut queue = Queue::new(ROOMY);
    queue.push(low(1), Presence::Away);
    queue.push(high(2), Presence::Away);
    assert_eq!(queue.dropped(), Dropped { away: 1, ..Dropped::default() });
    assert_eq!(drain(&mut queue), [2]);
}

#[test]
fn a_message_that_is_too_old_is_not_sent() {
    // Goal: MQTT 5, 3.3.2.3.3. Method: expiries before, at and after the moment.
    let now = Instant::now();
    let at = |seconds| Some(now + Duration::from_secs(seconds));
    let mut queue = Queue::new(ROOMY);
    for (message, expires) in [(1, at(1)), (2, None), (3, at(5)), (4, at(9))] {
        queue.push(Entry { expires, ..high(message) }, Presence::Here);
    }
    let later = now + Duration::from_secs(5);
    let sent: Vec<_> =
        (0..4).map_while(|packet| queue.take(later, packet)).map(|entry| entry.message).collect();
    assert_eq!(sent, [2, 4]);
    assert_eq!(queue.dropped().expired, 2);
}

#[test]
fn qos_0_passes_what_waits_for_a_packet_identifier() {
    // Goal: a subscriber that does not acknowledge still gets QoS 0. Method: take only those.
    let mut queue = Queue::new(ROOMY);
    for entry in [high(1), low(2), high(3), low(4)] {
        queue.push(entry, Presence::Here);
    }
    let now = Instant::now();
    assert_eq!(queue.next_quality(now), Some(Quality::AtLeastOnce));
    assert_eq!(queue.take_at_most_once(now).map(|entry| entry.message), Some(2));
    assert_eq!(queue.take_at_most_once(now).map(|entry| entry.message), Some(4));
    assert_eq!(queue.take_at_most_once(now), None);
    assert_eq!(drain(&mut queue), [1, 3]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_never_exceeds_its_bounds_and_loses_nothing_uncounted(
        steps in prop::collection::vec((0u8..6, 0u64..400), 0..200),
    ) {
        // Goal: the bounds hold, order is kept, and every message is sent, held or counted. Method: any history.
        let bounds = Bounds { messages: 8, bytes: 2000 };
        let mut queue = Queue::new(bounds);
        let now = Instant::now();
        let (mut pushed, mut sent, mut packet) = (0u32, 0u64, 0u16);
        let (mut last_low, mut last_high) = (0, 0);
        for (what, bytes) in steps {
            match what {
                0..=3 => {
                    pushed += 1;
                    let quality = if what < 2 { Quality::AtMostOnce } else { Quality::AtLeastOnce };
                    let presence = if what % 2 == 0 { Presence::Here } else { Presence::Away };
                    queue.push(Entry { bytes, ..entry(quality, pushed) }, presence);
                }
                4 => {
                    packet += 1;
                    if let Some(entry) = queue.take(now, packet) {
                        sent += 1;
                        let last = if entry.quality == Quality::AtMostOnce { &mut last_low } else { &mut last_high };
                        prop_assert!(entry.message > *last, "order");
                        *last = entry.message;
                    }
                }
                _ => {
                    let oldest = queue.flying().next().map(|(packet, _)| packet);
                    prop_assert!(oldest.is_none_or(|packet| queue.acknowledge(packet)));
                }
            }
            prop_assert!(queue.waiting() + queue.in_flight() <= bounds.messages);
            prop_assert!(queue.bytes() <= bounds.bytes);
            let Dropped { full, expired, away } = queue.dropped();
            prop_assert_eq!(u64::from(pushed), sent + queue.waiting() as u64 + full + expired + away);
        }
    }
}
