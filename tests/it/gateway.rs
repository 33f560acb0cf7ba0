//! The cloud side of a gateway on its own: link, uplink and recall over a store double, and what the hub holds of it.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{Config as StreamConfig, DiscardPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use frond::config::{
    Clock, Config, Direct, Gateway as GatewayConfig, Journal, Lattice, LatticeMode, Leaf, LogLevel, Outbox,
    Slot, Trust, Uplink as UplinkConfig,
};
use frond::lattice::{Link, LinkHandle, LinkState};
use frond::sample::Lane;
use frond::uplink::message::{Origin, Stamp};
use frond::uplink::{Settings, Status, Uplink, UplinkHandle};
use futures_util::StreamExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::nats::{DOMAIN, NatsServer, eventually};
use crate::store::StoreDouble;

/// Name of the gateway in every test.
pub const NAME: &str = "press-7";

/// Epoch of every test's store.
pub const EPOCH: u32 = 0x00c0_ffee;

/// Long enough for whatever is expected of servers on loopback.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration with this mode and a short acknowledgement timeout.
pub fn config(mode: LatticeMode) -> Config {
    Config {
        gateway: GatewayConfig {
            name: NAME.into(),
            data_dir: "/nonexistent".into(),
            cache_dir: "/nonexistent".into(),
            run_dir: "/nonexistent".into(),
            log: LogLevel::Info,
        },
        clock: Clock { trust: Trust::Always, synchronized_file: "/nonexistent".into() },
        broker: None,
        site: frond::config::parse("listener = []", "the test").expect("a configuration").site,
        lattice: Lattice {
            mode,
            subject: "frond".into(),
            jetstream_domain: Some(DOMAIN.into()),
            host: frond::config::parse("", "the test").expect("a configuration").lattice.host,
        },
        journal: Journal {
            commit_interval: Duration::from_secs(1),
            commit_interval_max: Duration::from_secs(10),
            commit_readings_max: 16_384,
            checkpoint_interval: Duration::from_secs(60),
            checkpoint_interval_min: Duration::from_secs(5),
            ring_bytes_max: 1 << 20,
            wear_bytes_per_day: 0,
        },
        outbox: Outbox { bytes_max: 1 << 30, age_max: None },
        uplink: UplinkConfig {
            ack_timeout: Duration::from_secs(2),
            inflight_bytes_max: 4 << 20,
            backlog_share_percent: 25,
            recall_bytes_per_second: 256 << 10,
        },
        slot: Slot { confirm_after: Duration::from_secs(300) },
        artifacts: frond::config::parse("", "the test").expect("a configuration").artifacts,
        registries: Vec::new(),
        signers: Vec::new(),
        secrets: Vec::new(),
        devices: Vec::new(),
        component_files: Default::default(),
        components: Vec::new(),
        workloads: Vec::new(),
        streams: Vec::new(),
    }
}

/// Through a leaf that listens on `port`.
pub fn leaf_mode(port: u16) -> LatticeMode {
    LatticeMode::Leaf(Leaf { listen: format!("127.0.0.1:{port}"), hub: None, credentials: None, ca: None })
}

/// Straight to a hub.
pub fn direct_mode(url: &str) -> LatticeMode {
    LatticeMode::Direct(Direct { url: url.into(), credentials: None, ca: None, client_certificate: None })
}

/// With `FROND_TEST_LOG` set, frond's own log goes to the test's output.
fn show_log() {
    if std::env::var_os("FROND_TEST_LOG").is_some() {
        let frond = tracing_subscriber::filter::Targets::new().with_target("frond", tracing::Level::DEBUG);
        let output = tracing_subscriber::fmt::layer().with_test_writer();
        let _ = tracing_subscriber::registry().with(output.with_filter(frond)).try_init();
    }
}

/// A running link and uplink.
pub struct Gateway {
    /// The link.
    pub link: LinkHandle,
    /// The uplink.
    pub uplink: UplinkHandle,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

// === impl Gateway ===

impl Gateway {
    /// Starts both.
    pub fn start(config: &Config, store: &StoreDouble) -> Gateway {
        show_log();
        let mut tasks = JoinSet::new();
        let stop = CancellationToken::new();
        let (link, link_handle) = Link::new(config);
        let handle = store.serve(&mut tasks);
        let (uplink, uplink_handle) = Uplink::new(Settings::of(config), handle, link_handle.clone());
        tasks.spawn(link.run(stop.child_token()));
        let token = stop.child_token();
        tasks.spawn(async move {
            let end = uplink.run(token.clone()).await;
            // In a crash the tasks die one after another.
            assert!(end.is_ok() || !token.is_cancelled(), "{end:?}");
        });
        Gateway { link: link_handle, uplink: uplink_handle, stop, tasks }
    }

    /// SIGKILL and power cut in one: the tasks are gone in the middle of whatever they did, and so is what the store has
    /// not committed.
    pub async fn crash(mut self, store: &StoreDouble) {
        self.tasks.shutdown().await;
        store.crash();
    }

    /// An orderly end of link and uplink.
    pub async fn stop(mut self) {
        self.stop.cancel();
        for _ in 0..2 {
            self.tasks.join_next().await.expect("two tasks").expect("no panic");
        }
    }

    /// The link's state.
    pub fn state(&self) -> LinkState {
        self.link.state.borrow().clone()
    }

    /// The uplink's status.
    pub fn status(&self) -> Status {
        self.uplink.status.borrow().clone()
    }

    /// Waits until the link is up.
    pub async fn up(&self) {
        eventually("the link is up", PATIENCE, async || self.state().is_up()).await;
    }
}

/// The test's own connection to a hub.
pub struct Hub {
    /// JetStream there.
    pub jetstream: Context,
}

// === impl Hub ===

impl Hub {
    /// Connects.
    pub async fn connect(server: &NatsServer) -> Hub {
        let client = async_nats::connect(server.url()).await.expect("the hub listens");
        Hub { jetstream: jetstream::new(client) }
    }

    /// A stream for gateways, whose duplicate window is too short to help.
    pub fn stream_config() -> StreamConfig {
        StreamConfig {
            name: "FROND".into(),
            subjects: vec!["frond.*.data.*".into(), "frond.*.alarm.*".into()],
            storage: StorageType::File,
            duplicate_window: Duration::from_millis(100),
            discard: DiscardPolicy::New,
            ..StreamConfig::default()
        }
    }

    /// Makes that stream.
    pub async fn make_stream(&self) {
        self.jetstream.create_stream(Hub::stream_config()).await.expect("the stream can be made");
    }

    /// Stores a row as if the gateway had sent it.
    pub async fn store_by_hand(&self, lane: Lane, stream: &str, seq: u64) {
        self.store_by_hand_of(EPOCH, lane, stream, seq).await;
    }

    /// As [`Hub::store_by_hand`], of any epoch.
    pub async fn store_by_hand_of(&self, epoch: u32, lane: Lane, stream: &str, seq: u64) {
        let origin = Origin { gateway: NAME.into(), lane, stream: stream.into(), epoch };
        let stamp = Stamp { origin, seq, dropped: 0, clock_correction: None };
        let subject = stamp.origin.subject("frond");
        let ack = self.jetstream.publish_with_headers(subject, stamp.headers(), "by hand".into()).await;
        ack.expect("it is published").await.expect("it is acknowledged");
    }

    /// Whether JetStream at the hub answers through this client of the leaf.
    pub async fn reaches_jetstream(leaf: &async_nats::Client) -> bool {
        let request = async_nats::Request::new().timeout(Some(Duration::from_millis(500)));
        leaf.send_request(format!("$JS.{DOMAIN}.API.INFO"), request).await.is_ok()
    }

    /// How often each (lane, stream, seq) is in the stream.
    pub async fn counts(&self) -> BTreeMap<(Lane, String, u64), u32> {
        self.counts_of("FROND").await
    }

    /// As [`Hub::counts`], of another stream.
    pub async fn counts_of(&self, stream: &str) -> BTreeMap<(Lane, String, u64), u32> {
        let mut counts = BTreeMap::new();
        for stamp in self.stamps_of(stream).await {
            assert_eq!((stamp.origin.gateway.as_str(), stamp.origin.epoch), (NAME, EPOCH));
            *counts.entry((stamp.origin.lane, stamp.origin.stream, stamp.seq)).or_default() += 1;
        }
        counts
    }

    /// Every message, in order.
    pub async fn stamps(&self) -> Vec<Stamp> {
        self.stamps_of("FROND").await
    }

    async fn stamps_of(&self, stream: &str) -> Vec<Stamp> {
        let stream = self.jetstream.get_stream(stream).await.expect("the stream is there");
        let config = pull::Config {
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::None,
            headers_only: true,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.expect("a consumer can be made");
        let mut left = consumer.cached_info().num_pending;
        let mut stamps = Vec::new();
        while left > 0 {
            let mut batch =
                consumer.fetch().max_messages(500).messages().await.expect("a batch can be asked for");
            while let Some(message) = batch.next().await {
                let message = message.expect("a message");
                left = left.saturating_sub(1);
                stamps.push(Stamp::read(&message.subject, message.headers.as_ref()).expect("one of ours"));
            }
        }
        stamps
    }

    /// Everything that was pushed is there, and exactly once.
    pub async fn holds_exactly(&self, store: &StoreDouble) {
        let counts = self.counts().await;
        let mut wrong = Vec::new();
        for row in store.everything() {
            let count = counts.get(&row).copied().unwrap_or(0);
            if count != 1 {
                wrong.push((row, count));
            }
        }
        assert!(wrong.is_empty(), "not there exactly once: {wrong:?}");
        assert_eq!(counts.len(), store.everything().len());
    }
}
