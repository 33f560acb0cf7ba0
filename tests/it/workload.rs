//! Components for wasmCloud on a whole gateway: the real listener, a real broker, a real leaf node.

mod blob_power;
mod blobs;
mod commands;
mod device;
pub mod hosts;
mod http;
mod power;
mod secrets;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use frond::block::Rows;
use frond::console::Status;
use frond::sample::Lane;
use frond::workload::WorkloadStatus;
use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::nats::free_port;
use crate::whole::books::{AtHub, Books};
use crate::whole::site::{QUICK, Role, Site};

/// What has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages that a test's client holds.
const HEARD_MAX: usize = 10_000;

pub fn guest(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let path = target.join("guests/wasm32-wasip2/release").join(name).with_extension("wasm");
    assert!(path.exists(), "{} is not there: run `just guests` first", path.display());
    path
}

/// A `[[component]]` of the name and guest, with more keys and links behind it.
fn component(name: &str, wasm: &str, more: &str) -> String {
    let path = guest(wasm);
    format!("[[component]]\nname = \"{name}\"\nkind = \"wasmcloud\"\npath = \"{}\"\n{more}\n", path.display())
}

fn source(provider: &str, config: &str) -> String {
    link("wasmcloud:messaging/handler", &format!("provider = \"{provider}\"\nsource_config = {{ {config} }}"))
}

fn target(provider: &str, config: &str) -> String {
    link(
        "wasmcloud:messaging/consumer",
        &format!("provider = \"{provider}\"\ntarget_config = {{ {config} }}"),
    )
}

fn link(interface: &str, more: &str) -> String {
    format!("[[component.link]]\ninterface = \"{interface}\"\n{more}\n")
}

fn of<'a>(status: &'a Status, name: &str) -> &'a WorkloadStatus {
    &status.workloads[name]
}

/// A client on site.
pub struct Client {
    pub client: AsyncClient,
    heard: mpsc::Receiver<Publish>,
    _task: JoinSet<()>,
}

impl Client {
    /// Connects, and has subscribed when it returns.
    pub async fn subscribe(port: u16, filters: &[&str]) -> Client {
        let mut options = MqttOptions::new(format!("test-{port}"), "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(30));
        let (client, mut eventloop) = AsyncClient::new(options, 1_000);
        for filter in filters {
            client.try_subscribe(*filter, QoS::AtLeastOnce).unwrap();
        }
        let (sender, heard) = mpsc::channel(HEARD_MAX);
        let (acknowledged, mut subscribed) = mpsc::channel(16);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                match eventloop.poll().await {
                    Ok(Event::Incoming(Packet::Publish(publish))) => sender.try_send(publish).unwrap(),
                    Ok(Event::Incoming(Packet::SubAck(_))) => acknowledged.try_send(()).unwrap(),
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        for _ in filters {
            timeout(PATIENCE, subscribed.recv()).await.unwrap().unwrap();
        }
        Client { client, heard, _task: task }
    }

    pub async fn say(&self, topic: &str, text: &str) {
        self.client.publish(topic, QoS::AtLeastOnce, false, text.to_owned()).await.unwrap();
    }

    /// The next message: topic and text.
    pub async fn hear(&mut self) -> (String, String) {
        let publish = timeout(PATIENCE, self.heard.recv()).await.expect("a message").unwrap();
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        (text(&publish.topic), text(&publish.payload))
    }

    /// Says something and hears the answer.
    pub async fn ask(&mut self, topic: &str, text: &str) -> String {
        self.say(topic, text).await;
        self.hear().await.1
    }
}

/// A gateway with a listener on the port returned, and its leaf node.
async fn start(components: &str) -> (Site, u16) {
    start_with(components, &[]).await
}

/// As [`start`], with variables in the gateway's environment.
async fn start_with(components: &str, variables: &[(&str, &str)]) -> (Site, u16) {
    let port = free_port();
    let listener = format!("[[listener]]\nname = \"site\"\nbind = \"127.0.0.1:{port}\"\n");
    let mut site = Site::prepare(&format!("{QUICK}{listener}{components}")).await;
    site.run(Role::Leaf).await;
    site.run_with(Role::Gateway, variables).await;
    (site, port)
}

async fn ready(site: &Site, name: &str) {
    site.wait("a component that runs", |status| {
        status.workloads.get(name).is_some_and(|workload| workload.state == "ready")
    })
    .await;
}

/// A client that hears the only component, which is there.
async fn meet(site: &Site, port: u16, name: &str, topic: &str) -> Client {
    ready(site, name).await;
    let client = Client::subscribe(port, &[topic]).await;
    site.wait("the component at the listener", |status| {
        status.listener.as_ref().is_some_and(|clients| clients.connected >= 2)
    })
    .await;
    client
}

async fn lattice(site: &Site) -> async_nats::Client {
    async_nats::connect(format!("nats://127.0.0.1:{}", site.ports.leaf)).await.unwrap()
}

/// Asks over the lattice until there is an answer: the gateway may still be connecting.
pub async fn request(client: &async_nats::Client, subject: &str, text: &str) -> String {
    let ask = async {
        loop {
            match client.request(subject.to_owned(), text.to_owned().into()).await {
                Ok(answer) => return String::from_utf8(answer.payload.to_vec()).unwrap(),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    timeout(PATIENCE, ask).await.expect("an answer")
}

#[tokio::test]
async fn messages_go_by_mqtt_and_nats_through_a_component_and_back() {
    // Goal: links lead where they say, answers go back the way the question came, nothing goes where no link leads.
    // Method: one component with sources of both kinds and an MQTT target; what a client on site and one of the lattice see.
    let links = source("mqtt", "topics = [\"orders/#\"], map = { \"orders.mapped\" = \"orders/m\" }")
        + &source("nats", "subjects = [\"lattice.in\"]")
        + &target(
            "mqtt",
            "topics = [\"postman/out\", \"asked/+\", \"answers/+\"], map = { \"mapped.out\" = \"postman/out\" }",
        );
    let config = "deadline = \"20s\"\nconfig = { out = \"mapped.out\" }\n";
    let (site, port) = start(&component("postman", "postman", &format!("{config}{links}"))).await;
    ready(&site, "postman").await;
    let mut client = Client::subscribe(port, &["postman/out", "answers/+", "asked/+"]).await;
    assert_eq!(request(&lattice(&site).await, "lattice.in", "echo hi").await, "lattice.in hi");
    // The connection to the listener may come later than that to the lattice.
    site.wait("the component at the listener", |status| {
        status.listener.as_ref().is_some_and(|clients| clients.connected >= 2)
    })
    .await;
    let answer = client.ask("orders/a", "echo hello").await;
    assert_eq!(answer, "orders/a hello");
    assert_eq!(client.ask("orders/m", "echo mapped").await, "orders.mapped mapped");
    let properties = PublishProperties {
        response_topic: Some("answers/7".into()),
        correlation_data: Some(Bytes::from_static(b"c")),
        ..Default::default()
    };
    let question = Bytes::from_static(b"echo back");
    client
        .client
        .publish_with_properties("orders/b", QoS::AtLeastOnce, false, question, properties)
        .await
        .unwrap();
    let answer = timeout(PATIENCE, client.heard.recv()).await.unwrap().unwrap();
    assert_eq!((&*answer.topic, &*answer.payload), (&b"answers/7"[..], &b"orders/b back"[..]));
    assert_eq!(answer.properties.unwrap().correlation_data.as_deref(), Some(&b"c"[..]));

    // Somebody who may not publish to a valve has the component do it.
    let properties = PublishProperties { response_topic: Some("valve/7".into()), ..Default::default() };
    let question = Bytes::from_static(b"echo open");
    client
        .client
        .publish_with_properties("orders/b", QoS::AtLeastOnce, false, question, properties)
        .await
        .unwrap();

    client.say("orders/c", "ask asked/me").await;
    let asked = timeout(PATIENCE, client.heard.recv()).await.unwrap().unwrap();
    let reply = asked.properties.unwrap().response_topic.unwrap();
    client.say(&reply, "an answer").await;
    assert_eq!(client.hear().await.1, "an answer");

    client.say("orders/d", "to forbidden/x").await;
    client.say("orders/d", "fail as asked").await;
    let status = site.wait("three errors", |status| of(status, "postman").failed == 3).await;
    let postman = of(&status, "postman");
    assert_eq!(
        (postman.refused, postman.lost, postman.dropped, postman.restarts),
        (2, 0, 0, 0),
        "the valve, and where it may not go: {postman:?}"
    );
    assert!(site.frond(&["status", "--config", "frond.toml"]).await.contains("postman: ready; "));
}

#[tokio::test]
async fn messages_go_to_subjects_of_the_lattice_and_lines_to_the_log() {
    // Goal: publications and requests go by NATS where a link says so, and nowhere else; what a component prints is in the
    // log. Method: a client of the lattice that hears, answers, and listens where no link leads; the gateway's log.
    let links = source("nats", "subjects = [\"lattice.in\"]")
        + &target("nats", "subjects = [\"lattice.out\", \"lattice.asked\"]");
    let config = "deadline = \"20s\"\nconfig = { out = \"lattice.out\" }\n";
    let (site, _) = start(&component("postman", "postman", &format!("{config}{links}"))).await;
    ready(&site, "postman").await;
    let client = lattice(&site).await;
    let mut heard = client.subscribe("lattice.out").await.unwrap();
    let mut asked = client.subscribe("lattice.asked").await.unwrap();
    assert_eq!(request(&client, "lattice.in", "echo hi").await, "lattice.in hi");

    client.publish("lattice.in", "echo out".into()).await.unwrap();
    let said = timeout(PATIENCE, heard.next()).await.unwrap().unwrap();
    assert_eq!(&said.payload[..], b"lattice.in out");
    client.publish("lattice.in", "ask lattice.asked".into()).await.unwrap();
    let question = timeout(PATIENCE, asked.next()).await.unwrap().unwrap();
    assert_eq!(&question.payload[..], b"echo question");
    client.publish(question.reply.unwrap(), "an answer".into()).await.unwrap();
    let said = timeout(PATIENCE, heard.next()).await.unwrap().unwrap();
    assert_eq!(&said.payload[..], b"an answer");

    client.publish("lattice.in", "to lattice.elsewhere".into()).await.unwrap();
    client.publish("lattice.in", "ask lattice.elsewhere".into()).await.unwrap();
    let said = timeout(PATIENCE, heard.next()).await.unwrap().unwrap();
    assert!(said.payload.starts_with(b"error: "), "{said:?}");
    let status = site.wait("two refusals", |status| of(status, "postman").refused == 2).await;
    assert_eq!((of(&status, "postman").requests, of(&status, "postman").failed), (1, 1));

    client.publish("lattice.in", "print a word".into()).await.unwrap();
    site.logged(&["out: a word", "postman"]).await;
    site.logged(&["err: a word", "postman"]).await;
}

#[tokio::test]
async fn what_is_published_has_the_quality_and_retention_of_its_link() {
    // Goal: `qos` and `retain` of a link do what they say. Method: one component that publishes at QoS 0 and retained, one
    // with what links have by default; what a client hears that was there, and one that comes later.
    let orders = |name: &str| source("mqtt", &format!("topics = [\"orders/{name}\"]"));
    let kept = orders("kept") + &target("mqtt", "topics = [\"out/kept\"], qos = 0, retain = true");
    let sent = orders("sent") + &target("mqtt", "topics = [\"out/sent\"]");
    let postmen = component("kept", "postman", &format!("deadline = \"20s\"\n{kept}"))
        + &component("sent", "postman", &format!("deadline = \"20s\"\n{sent}"));
    let (site, port) = start(&postmen).await;
    for name in ["kept", "sent"] {
        ready(&site, name).await;
    }
    let mut client = Client::subscribe(port, &["out/+"]).await;
    site.wait("the components at the listener", |status| {
        status.listener.as_ref().is_some_and(|clients| clients.connected >= 3)
    })
    .await;
    let seen = |publish: &Publish| (publish.topic.clone(), publish.qos, publish.retain);
    for (name, qos) in [("kept", QoS::AtMostOnce), ("sent", QoS::AtLeastOnce)] {
        client.say(&format!("orders/{name}"), &format!("to out/{name}")).await;
        let heard = timeout(PATIENCE, client.heard.recv()).await.unwrap().unwrap();
        assert_eq!(seen(&heard), (format!("out/{name}").into(), qos, false));
    }
    drop(client);
    // What is retained of both would come in the order of their topics.
    let mut later = Client::subscribe(port, &["out/+"]).await;
    later.say("out/zz", "the end").await;
    let heard = timeout(PATIENCE, later.heard.recv()).await.unwrap().unwrap();
    assert_eq!(seen(&heard), ("out/kept".into(), QoS::AtMostOnce, true));
    assert_eq!(later.hear().await, ("out/zz".to_owned(), "the end".to_owned()));
}

#[tokio::test]
async fn a_component_that_is_given_more_messages_than_it_may_be_works_on_them_later() {
    // Goal: `messages_in_per_second` holds, and costs time and no message. Method: fifteen at once for a component that
    // may have one a second, and may save up ten.
    let links = source("nats", "subjects = [\"slow.in\"]") + &target("nats", "subjects = [\"slow.out\"]");
    let keys =
        format!("deadline = \"20s\"\nmessages_in_per_second = 1\nconfig = {{ out = \"slow.out\" }}\n{links}");
    let (site, _) = start(&component("slow", "postman", &keys)).await;
    ready(&site, "slow").await;
    let client = lattice(&site).await;
    let mut heard = client.subscribe("slow.out").await.unwrap();
    assert_eq!(request(&client, "slow.in", "echo hi").await, "slow.in hi");
    let begun = Instant::now();
    for n in 0..15 {
        client.publish("slow.in", format!("echo {n}").into()).await.unwrap();
    }
    for n in 0..15 {
        let said = timeout(PATIENCE, heard.next()).await.unwrap().unwrap();
        assert_eq!(said.payload, format!("slow.in {n}"));
    }
    assert!(
        begun.elapsed() >= Duration::from_secs(4),
        "{:?}: five were beyond what it had saved",
        begun.elapsed()
    );
    let status = site.wait("a status", |_| true).await;
    assert!(of(&status, "slow").over_rate > 0 && of(&status, "slow").dropped == 0);
}

#[tokio::test]
async fn a_component_that_misbehaves_is_ended_and_its_neighbour_misses_nothing() {
    // Goal: flood, trap, endless loop, endless sleep and hunger for memory cost the component its instance and nobody else
    // anything. Method: each of them, while a neighbour is asked over the lattice; the counters tell which was which.
    let links = source("mqtt", "topics = [\"orders/#\"]") + &target("mqtt", "topics = [\"postman/out\"]");
    let bounds = "deadline = \"3s\"\nmemory_bytes_max = \"8MiB\"\ninbox_messages_max = 4\nmessages_out_per_second = 50\n\
                  config = { out = \"postman/out\" }\n";
    let bad = component("bad", "postman", &format!("{bounds}{links}"));
    let links = source("nats", "subjects = [\"quiet.in\"]") + &target("nats", "subjects = [\"none\"]");
    let neighbour = component("neighbour", "postman", &format!("deadline = \"20s\"\n{links}"));
    let (site, port) = start(&format!("{bad}{neighbour}")).await;
    ready(&site, "bad").await;
    ready(&site, "neighbour").await;
    let mut client = Client::subscribe(port, &["postman/out"]).await;
    let lattice = lattice(&site).await;
    let mut asked = 1;
    assert_eq!(request(&lattice, "quiet.in", "echo 0").await, "quiet.in 0");
    site.wait("the component at the listener", |status| {
        status.listener.as_ref().is_some_and(|clients| clients.connected >= 2)
    })
    .await;

    client.say("orders/a", "flood 5000").await;
    let mut heard = 0;
    let taken = loop {
        match client.hear().await.1.strip_prefix("taken ") {
            None => heard += 1,
            Some(taken) => break taken.parse::<u64>().unwrap(),
        }
    };
    assert!((1..=100).contains(&taken), "{taken} of 5000 at 50 a second");
    assert_eq!(heard, taken, "what was taken has arrived");
    let status = site.wait("a message handled", |status| of(status, "bad").handled == 1).await;
    assert_eq!(of(&status, "bad").refused, 5_000 - taken);
    assert!(of(&status, "bad").log_lines_dropped > 900);

    for (n, order) in ["trap", "loop", "grow", "sleep"].into_iter().enumerate() {
        client.say("orders/a", order).await;
        while of(&site.wait("a status", |_| true).await, "bad").lost < n as u64 + 1 {
            assert_eq!(request(&lattice, "quiet.in", "echo on").await, "quiet.in on");
            asked += 1;
        }
        site.wait_for(PATIENCE, "a new instance", |status| of(status, "bad").state == "ready").await;
    }
    let status = site.wait("a status", |_| true).await;
    let bad = of(&status, "bad");
    assert_eq!((bad.traps, bad.deadlines, bad.memory_faults, bad.restarts), (1, 2, 1, 4), "{bad:?}");
    client.say("orders/a", "sleep").await;
    site.wait("a busy component", |status| of(status, "bad").received == 6).await;
    for n in 0..20 {
        client.say("orders/a", &format!("echo {n}")).await;
    }
    let status = site.wait("an inbox that overflowed", |status| of(status, "bad").received == 26).await;
    assert_eq!(
        of(&status, "bad").dropped,
        16,
        "all but the newest four: while it sleeps, and then backs off, none is taken"
    );
    let neighbour = of(&status, "neighbour");
    assert_eq!((neighbour.handled, neighbour.lost, neighbour.restarts), (asked, 0, 0), "{neighbour:?}");
}

#[tokio::test]
async fn a_component_that_fails_too_often_is_quarantined_until_a_word_or_another_file() {
    // Goal: what `quarantine_failures` promises holds for messages as for readings, and the hub hears of it. Method: two
    // traps; the operator's command; two traps; another file with the same code; two traps, and a kill. What comes
    // meanwhile waits in the inbox.
    let links = source("mqtt", "topics = [\"orders/#\"]") + &target("mqtt", "topics = [\"postman/out\"]");
    let keys =
        format!("quarantine_failures = 2\ndeadline = \"20s\"\nconfig = {{ out = \"postman/out\" }}\n{links}");
    let port = free_port();
    let listener = format!("[[listener]]\nname = \"site\"\nbind = \"127.0.0.1:{port}\"\n");
    let postman = format!(
        "[[component]]\nname = \"postman\"\nkind = \"wasmcloud\"\npath = \"../postman.wasm\"\n{keys}"
    );
    let mut site = Site::prepare(&format!("{QUICK}{listener}{postman}")).await;
    std::fs::copy(guest("postman"), site.folder.join("postman.wasm")).unwrap();
    let mut books = site.open().await;
    ready(&site, "postman").await;
    let mut client = Client::subscribe(port, &["postman/out"]).await;
    site.wait("the component at the listener", |status| {
        status.listener.as_ref().is_some_and(|clients| clients.connected >= 2)
    })
    .await;
    let release = ["component", "release", "postman", "--config", "frond.toml"];
    for (n, ends_by) in ["a word", "another file"].into_iter().enumerate() {
        for trap in 1..=2 {
            client.say("orders/a", "trap").await;
            let lost = (2 * n + trap) as u64;
            site.wait_for(PATIENCE, "a trap", |status| of(status, "postman").lost == lost).await;
        }
        let status = site.wait("a quarantine", |status| of(status, "postman").state == "quarantined").await;
        let says = |text: &str| status.complaints.iter().any(|complaint| complaint.contains(text));
        assert!(says("frond component release postman"), "{:?}", status.complaints);
        site.logged(&["ERROR", "component has failed too often and is not started again", "postman"]).await;
        told(&mut books, "raised", 2 * n + 1).await;
        client.say("orders/a", "echo at last").await;
        site.wait("a message that waits", |status| of(status, "postman").received == 3 * (n as u64 + 1))
            .await;
        if ends_by == "a word" {
            let said = site.frond(&release).await;
            assert!(said.contains("component postman is released"), "{said}");
        } else {
            // The same code under another digest: a section of its own that says nothing.
            let changed = site.folder.join("changed.wasm");
            let code = [std::fs::read(guest("postman")).unwrap(), b"\0\x04\x03new".to_vec()].concat();
            std::fs::write(&changed, code).unwrap();
            std::fs::rename(&changed, site.folder.join("postman.wasm")).unwrap();
        }
        assert_eq!(client.hear().await.1, "orders/a at last");
        assert_eq!(site.frond(&release).await, "", "it is not quarantined any more");
        told(&mut books, "cleared", 2 * n + 2).await;
    }
    for _ in 0..2 {
        client.say("orders/a", "trap").await;
    }
    told(&mut books, "raised", 5).await;
    site.kill(Role::Gateway).await;
    site.run(Role::Gateway).await;
    ready(&site, "postman").await;
    told(&mut books, "cleared", 6).await;
}

/// Waits until the hub was told of as many edges of the alarm about a quarantine, raised and cleared in turn.
async fn told(books: &mut Books, edge: &str, count: usize) {
    let edges = |books: &Books| -> Vec<(bool, String)> {
        let of = |message: &AtHub| match &message.envelope.rows {
            Rows::Alarms(alarms) if message.stamp.origin.lane == Lane::Alarm => {
                assert_eq!(message.envelope.stream, "frond");
                let series = &message.envelope.series;
                assert!(alarms.iter().all(|alarm| series[&alarm.series].name == "frond/component/postman"));
                alarms.iter().map(|alarm| (alarm.active, alarm.message.clone())).collect()
            }
            _ => Vec::new(),
        };
        books.messages.iter().flat_map(of).collect()
    };
    let deadline = Instant::now() + PATIENCE;
    while edges(books).len() < count {
        assert!(
            Instant::now() < deadline,
            "the hub is not told that the alarm is {edge}: {:?}",
            edges(books)
        );
        books.read().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let edges = edges(books);
    assert_eq!(edges.len(), count, "{edges:?}");
    for (n, (active, message)) in edges.iter().enumerate() {
        assert_eq!(*active, n % 2 == 0, "{edges:?}");
        let says = if *active { "has failed too often" } else { "works again" };
        assert!(message.contains("component postman") && message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn a_component_that_takes_all_the_time_gets_its_share_of_it() {
    // Goal: a component that computes whenever it may cannot have more than `cpu_share_percent`. Method: one that computes
    // until its deadline of 200 ms each time, with a hundredth of the time: the first message uses up twice the ten
    // seconds' worth that it may save, so that the second waits for ten seconds.
    let links = source("nats", "subjects = [\"busy.in\"]") + &target("nats", "subjects = [\"none\"]");
    let keys = format!("deadline = \"200ms\"\ncpu_share_percent = 1\nquarantine_failures = 0\n{links}");
    let (site, _) = start(&component("busy", "postman", &keys)).await;
    ready(&site, "busy").await;
    let lattice = lattice(&site).await;
    for _ in 0..3 {
        lattice.publish("busy.in", "loop".into()).await.unwrap();
    }
    lattice.flush().await.unwrap();
    let status = site.wait("a wait for its share", |status| of(status, "busy").over_share > 0).await;
    let busy = of(&status, "busy");
    assert!(busy.received > busy.lost, "messages wait: {busy:?}");
    site.wait_for(PATIENCE, "the next call", |status| of(status, "busy").lost == busy.lost + 1).await;
}

#[tokio::test]
async fn values_stay_within_their_quota_and_survive_restart_and_kill() {
    // Goal: the store, atomics and batch do what they say, a quota refuses with a reason, links are kept apart, and state
    // is there again. Method: a component that says what it sees; the gateway stopped once, and killed once.
    let keyvalue = |name: &str| {
        link(
            "wasi:keyvalue",
            &format!("name = \"{name}\"\ntarget_config = {{ bytes_max = \"20KiB\", keys_max = 100 }}"),
        )
    };
    let links = source("mqtt", "topics = [\"clerk/in\"]")
        + &target("mqtt", "topics = [\"clerk/out\"]")
        + &keyvalue("default")
        + &keyvalue("other");
    let config = "deadline = \"20s\"\nconfig = { out = \"clerk/out\" }\n";
    let (mut site, port) = start(&component("clerk", "clerk", &format!("{config}{links}"))).await;
    let at_desk = async |site: &Site| {
        ready(site, "clerk").await;
        let client = Client::subscribe(port, &["clerk/out"]).await;
        site.wait("the component at the listener", |status| {
            status.listener.as_ref().is_some_and(|clients| clients.connected >= 2)
        })
        .await;
        client
    };
    let mut client = at_desk(&site).await;
    for (order, answer) in [
        ("add n 5", "5"),
        ("add n 2", "7"),
        ("get n", "7"),
        ("get none", "nothing"),
        ("put k v", "done"),
        ("add k 1", "refused: the value is not a number that can be added to"),
        ("many", "x-x"),
        ("list", "a,c,k,n"),
        ("by other", "1"),
        ("by nowhere", "refused: access denied"),
        ("get n", "7"),
        ("fill", "refused: more than the 20480 bytes that the link allows (bytes_max)"),
    ] {
        assert_eq!(client.ask("clerk/in", order).await, answer, "{order}");
    }
    let status = site.wait("a status", |_| true).await;
    assert_eq!(of(&status, "clerk").over_quota, 1);

    site.stop(Role::Gateway, Signal::SIGTERM).await;
    drop(client);
    site.run(Role::Gateway).await;
    let mut client = at_desk(&site).await;
    assert_eq!(client.ask("clerk/in", "add n 1").await, "8");
    assert_eq!(client.ask("clerk/in", "add n 1").await, "9");
    site.kill(Role::Gateway).await;
    drop(client);
    site.run(Role::Gateway).await;
    let mut client = at_desk(&site).await;
    let left: u32 = client.ask("clerk/in", "get n").await.parse().unwrap();
    assert!((7..=9).contains(&left), "{left}: only the newest writes may be taken back");
}

#[tokio::test]
async fn an_import_that_no_link_grants_is_refused_and_named() {
    // Goal: nobody finds out from a running plant what a component may not have. Method: `frond check` and the gateway
    // itself on a component that imports a store without a link to one.
    let links = source("nats", "subjects = [\"clerk.in\"]") + &target("nats", "subjects = [\"clerk.out\"]");
    let (site, _) = start(&component("clerk", "clerk", &links)).await;
    let expected = [
        "component clerk: imports wasi:keyvalue/",
        "is not granted; [[component.link]] with interface = \"wasi:keyvalue\" grants it",
    ];
    let said = site.frond(&["check", "--config", "frond.toml"]).await;
    assert!(expected.iter().all(|text| said.contains(text)), "{said}");
    let status = site.wait("a refused component", |status| of(status, "clerk").state == "absent").await;
    let complaint = status.complaints.iter().find(|complaint| complaint.contains("clerk")).unwrap();
    assert!(expected.iter().all(|text| complaint.contains(text)), "{complaint}");
}

#[tokio::test]
async fn without_a_listener_a_component_speaks_with_the_broker_on_site() {
    // Goal: both doors serve. Method: a gateway whose only MQTT is a mosquitto; the broker is killed and comes back.
    let links = source("mqtt", "topics = [\"orders/#\"]") + &target("mqtt", "topics = [\"postman/out\"]");
    let config = "deadline = \"20s\"\nconfig = { out = \"postman/out\" }\n";
    let postman = component("postman", "postman", &format!("{config}{links}"));
    let mut site = Site::prepare(&format!("{QUICK}{postman}")).await;
    site.run(Role::Broker).await;
    site.run(Role::Gateway).await;
    ready(&site, "postman").await;
    let broker = site.ports.broker;
    let hear = async |order: &str| {
        let mut client = Client::subscribe(broker, &["postman/out"]).await;
        // Whether the component has subscribed is not told: ask until there is an answer.
        let ask = async {
            loop {
                client.say("orders/a", order).await;
                let heard = timeout(Duration::from_millis(500), client.heard.recv()).await;
                if let Ok(Some(answer)) = heard {
                    return String::from_utf8(answer.payload.to_vec()).unwrap();
                }
            }
        };
        timeout(PATIENCE, ask).await.expect("an answer")
    };
    assert_eq!(hear("echo one").await, "orders/a one");
    site.kill(Role::Broker).await;
    site.wait("a lost connection", |status| of(status, "postman").disconnects > 0).await;
    site.run(Role::Broker).await;
    assert_eq!(hear("echo two").await, "orders/a two");
}
