//! Passwords that are guessed.

use tokio::task::JoinSet;

use super::Beside;
use super::raw::{Heard, Raw, connect_as};
use crate::listener_rig::Gateway;
use crate::listener_sensor::Sensor;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_passwords_is_slow_and_does_not_keep_sensors_out() {
    // Goal: failed logins are limited and counted in the log, and cost the others nothing. Method: a sensor with a password;
    // 2,000 guesses from the same address, known and unknown names; the sensor's user logs in once more meanwhile.
    let hash = frond::ingest::listener::password::Hash::of(b"secret").unwrap();
    let users = "[[listener]]\nname = \"local\"\nanonymous = \"never\"\n\
                 [[user]]\nname = \"good\"\npassword_hash_file = \"{folder}/hash\"\npublish = [\"plant/{client}/state\"]\n";
    let gateway =
        Gateway::start_with(users, |folder| std::fs::write(folder.join("hash"), hash.as_str()).unwrap())
            .await;
    let mut sensor = Sensor::start(gateway.port, "good", Some(("good", "secret")));
    sensor.acknowledged(100).await;
    let before = gateway.memory();
    let mut beside = Beside { gateway, sensor, before, worst: 0 };
    let at = beside.at();
    let mut guesses: JoinSet<[usize; 2]> = JoinSet::new();
    for worker in 0..20 {
        guesses.spawn(async move {
            let mut refused = [0; 2];
            for n in 0..100 {
                let name = if n % 2 == 0 { "good".to_owned() } else { format!("user-{worker}-{n}") };
                let Ok(mut raw) = Raw::open(at).await else { continue };
                let _ = raw.send(&connect_as(&format!("guess-{worker}"), &name, &n.to_string())).await;
                match raw.hear().await {
                    Heard::Packet(ack) if ack[3] == 4 || ack[3] == 5 => refused[0] += 1,
                    Heard::Packet(ack) if ack[3] == 3 => refused[1] += 1,
                    Heard::Packet(ack) => panic!("let in: {ack:?}"),
                    Heard::Closed => {}
                }
            }
            refused
        });
    }
    beside.sensor.acknowledged(50).await;
    let mut again = Raw::open(at).await.unwrap();
    again.send(&connect_as("again", "good", "secret")).await.unwrap();
    assert_eq!(again.hear().await, Heard::Packet(vec![0x20, 2, 0, 0]));
    beside.weigh();
    let (mut wrong, mut limited) = (0, 0);
    while let Some(refused) = guesses.join_next().await {
        let [one, other] = refused.unwrap();
        wrong += one;
        limited += other;
    }
    println!("{wrong} guesses were checked or refused as wrong, {limited} refused unseen");
    assert!(wrong < 200 && limited > 1500, "{wrong} wrong, {limited} limited");
    beside.gateway.logged("logins are refused").await;
    beside.judge("guessing passwords", 20).await;
}
