//! What the codec makes of W1.

#[path = "../../benches/w1/mod.rs"]
mod w1;

use frond::block::{decode_messages, decode_readings, encode_messages, encode_readings};
use frond::sample::Message;

use w1::Whole;

const MODES: [Whole; 2] = [Whole::AsFloat, Whole::AsInt];

#[test]
fn a_reading_of_w1_takes_at_most_two_and_a_half_bytes_in_the_ring() {
    // 1,000 series for a minute, sorted as the pipeline compacts them; DESIGN §7 allows 2.5.
    for whole in MODES {
        let readings = w1::readings(1_000, 60, whole);
        let block = encode_readings(&readings);
        assert_eq!(decode_readings(&block).unwrap(), readings);
        let each = block.len() as f64 / readings.len() as f64;
        assert!(each <= 2.5, "{whole:?}: {each:.2} bytes");
    }
}

#[test]
fn a_message_of_w1_takes_at_most_five_bytes_in_the_journal() {
    // Group commits of a second, a thousand messages of one reading each.
    for whole in MODES {
        let commits = w1::commits(1_000, 10, whole);
        let mut bytes = 0;
        for commit in &commits {
            let block = encode_messages(commit);
            let decoded = decode_messages(&block).unwrap();
            let identities =
                |messages: &[Message]| messages.iter().map(Message::identity).collect::<Vec<_>>();
            assert_eq!(identities(&decoded), identities(commit));
            bytes += block.len();
        }
        let each = bytes as f64 / 10_000.0;
        assert!(each <= 5.0, "{whole:?}: {each:.2} bytes");
    }
}
