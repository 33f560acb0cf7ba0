//! A gateway that is away for longer than wadm remembers a host, and what becomes of its application.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::applications::inventory;
use crate::bus::{Commands, Events};
use crate::controller::{Controller, desk};
use crate::sensor::Sensor;
use crate::site::{Role, Site};

/// Longer than the 70 s of silence after which wadm forgets a host, and the 35 s between its looks for one fit twice.
const AWAY: Duration = Duration::from_secs(90);
/// wadm looks every 35 s, so that a host may be remembered for as long as this.
const FORGOTTEN: Duration = Duration::from_secs(120);
/// wadm waits so long for an event that does not come before it commands again.
const CONVERGED: Duration = Duration::from_secs(60);
/// Heartbeats at which wadm compares, without anything to command.
const BEATS: usize = 3;

/// An application that works and a wadm that is content, and then the gateway gone for [`AWAY`] and wadm's memory of it, too.
struct Outage {
    site: Site,
    wadm: Controller,
    sensor: Sensor,
    before: Value,
}

// === impl Outage ===

impl Outage {
    async fn begin(toml: &str) -> Outage {
        let mut site = Site::prepare(toml).await;
        let wadm = Controller::start(&site).await;
        site.run(Role::Gateway).await;
        wadm.discovers().await;
        wadm.deploy(&desk("v1", &site.reference("desk"), 1, "press/out")).await;
        let mut sensor = Sensor::connect(site.mqtt, &["press/#"]);
        sensor.is_answered("orders/a", "echo before", ("press/out", "orders/a before")).await;
        wadm.reaches("desk", "deployed", CONVERGED).await;
        let before = works(&inventory(&site).await);
        site.kill(Role::Gateway);
        Outage { site, wadm, sensor, before }
    }

    /// Lets the time pass.
    async fn last(&self) {
        let end = Instant::now() + AWAY;
        self.wadm.forgets(FORGOTTEN).await;
        sleep_until(end).await;
    }

    /// wadm is content, there is what was there before, one copy of it answers, and nothing is commanded any more.
    async fn is_over(&mut self, heartbeat: Duration) {
        self.wadm.reaches("desk", "deployed", CONVERGED).await;
        assert_eq!(works(&inventory(&self.site).await), self.before);
        let client = self.site.client().await;
        let (mut events, mut commands) = (Events::watch(&client).await, Commands::watch(&client).await);
        let end = Instant::now() + heartbeat * (BEATS as u32) + heartbeat / 2;
        self.sensor.is_answered_once("press/out").await;
        let commanded = commands.until(end).await;
        assert_eq!(commanded, Vec::<String>::new(), "wadm sends again what it has");
        assert!(
            events.count_until("host_heartbeat", Instant::now()).await >= BEATS,
            "wadm had its occasions"
        );
        let copies = self.wadm.believes("component").await;
        let instances = &copies["desk-press"]["instances"];
        assert_eq!(instances.as_object().unwrap().len(), 1, "{copies}");
        self.wadm.reaches("desk", "deployed", CONVERGED).await;
    }
}

/// What of an inventory stays the same.
fn works(inventory: &Value) -> Value {
    json!([inventory["host_id"], inventory["components"], inventory["providers"]])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_wadm_has_forgotten_comes_back_with_one_copy() {
    // Goal: the worst that a controller can do to a host that comes back, schedule everything anew, ends in one copy and in
    // peace. Method: SIGKILL, 90 s and wadm's forgetting; the gateway answers the sensor by itself; then wadm is content, the
    // inventory is byte for byte what it was, and heartbeats pass without a command.
    let heartbeat = Duration::from_secs(10);
    let mut outage = Outage::begin("[lattice.host]\nheartbeat = \"10s\"\n").await;
    outage.last().await;
    outage.site.run(Role::Gateway).await;
    outage.sensor.is_answered("orders/a", "echo after", ("press/out", "orders/a after")).await;
    outage.is_over(heartbeat).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artifact_that_is_gone_meanwhile_is_waited_for_in_peace() {
    // Goal: a gateway that comes back without its artifact says so, keeps everything else, and is neither given up nor
    // flooded; with the artifact it converges as if nothing had been. Method: as above, and the component's file moved away
    // during the outage; the commands of some heartbeats are counted; then the file is back.
    let heartbeat = Duration::from_secs(5);
    let mut outage = Outage::begin("[lattice.host]\nheartbeat = \"5s\"\n").await;
    let (file, aside) = (outage.site.component("desk"), outage.site.path("aside.wasm"));
    std::fs::rename(&file, &aside).unwrap();
    outage.last().await;
    outage.site.run(Role::Gateway).await;
    outage.wadm.complains("desk", "cannot be read").await;
    outage.site.state("desk-press", "absent").await;
    let mut commands = Commands::watch(&outage.site.client().await).await;
    let after = inventory(&outage.site).await;
    assert_eq!((&json!([]), &outage.before[2]), (&after["components"], &after["providers"]));
    let commanded = commands.until(Instant::now() + heartbeat * BEATS as u32).await;
    let scales = commanded.iter().filter(|command| command.starts_with("component.scale")).count();
    assert_eq!(scales, commanded.len(), "only what does not work is tried again: {commanded:?}");
    assert!((1..=BEATS + 1).contains(&scales), "{scales} attempts in {BEATS} heartbeats");
    std::fs::rename(&aside, &file).unwrap();
    outage.sensor.is_answered("orders/a", "echo after", ("press/out", "orders/a after")).await;
    outage.is_over(heartbeat).await;
}
