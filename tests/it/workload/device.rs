//! Components that use devices, on a whole gateway: from a Modbus meter to the hub, and what they may not.

use frond::block::{Envelope, Rows};
use frond::sample::Value;
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Client, PATIENCE, component, link, of, ready, source, start, target};
use crate::nats::free_port;
use crate::slave::{Mood, Slave, ends, terminal};
use crate::whole::site::{QUICK, Role, Site, complains};

const STREAM: &str = "[[stream]]\nname = \"meters\"\ntopics = [\"plant/+/meter\"]\nreduce = { window = \"1s\", lateness = \"1s\" }\n";

fn timer(every: &str) -> String {
    link(
        "wasmcloud:messaging/handler",
        &format!("name = \"poll\"\nprovider = \"timer\"\nsource_config = {{ every = \"{every}\" }}"),
    )
}

fn devices(names: &str, more: &str) -> String {
    link("frond:device", &format!("target_config = {{ devices = [{names}]{more} }}"))
}

/// A gauge that polls device `meter` and takes orders.
fn gauge(name: &str, every: &str, device_link: &str) -> String {
    let config = format!(
        "deadline = \"20s\"\nconfig = {{ device = \"meter\", unit = \"3\", out = \"plant/{name}/meter\", answers = \"{name}/said\" }}\n"
    );
    let topics = format!("topics = [\"plant/{name}/meter\", \"{name}/said\"]");
    let links = timer(every)
        + &source("mqtt", &format!("topics = [\"{name}/order\"]"))
        + &target("mqtt", &topics)
        + device_link;
    component(name, "gauge", &format!("{config}{links}"))
}

fn rtu(path: &std::path::Path) -> String {
    format!(
        "[[device]]\nname = \"meter\"\nkind = \"modbus-rtu\"\npath = \"{}\"\nbaud = 115200\nparity = \"none\"\ntimeout = \"400ms\"\n",
        path.display()
    )
}

fn tcp(name: &str, port: u16) -> String {
    format!(
        "[[device]]\nname = \"{name}\"\nkind = \"modbus-tcp\"\naddress = \"127.0.0.1:{port}\"\ntimeout = \"400ms\"\n"
    )
}

#[tokio::test]
async fn registers_of_a_meter_reach_the_hub_and_go_on_after_it_was_unplugged() {
    // Goal: from a Modbus meter to durable telemetry with nothing but configuration and a component. Method: a meter on a
    // terminal, polled by a timer, its registers as readings of a stream in windows at the hub; then the terminal goes, and
    // another comes.
    let folder = tempfile::TempDir::new().unwrap();
    let tty = folder.path().join("tty");
    let mut slave = Slave::serial(&tty);
    let port = free_port();
    let listener = format!("[[listener]]\nname = \"site\"\nbind = \"127.0.0.1:{port}\"\n");
    let polls = gauge("west", "50ms", &devices("\"meter\"", ""));
    let mut site = Site::prepare(&format!("{QUICK}{STREAM}{listener}{}{polls}", rtu(&tty))).await;
    let mut books = site.open().await;
    let window = |envelope: &Envelope, name: &str, value: i64| match &envelope.rows {
        Rows::Windows { rows, .. } => rows.iter().any(|row| {
            envelope.series[&row.series].name == name
                && (row.min, row.max) == (Value::Int(value), Value::Int(value))
                && row.count > 3
        }),
        _ => false,
    };
    books.until("volts", |message| window(&message.envelope, "plant/west/meter/volts", 1_000)).await;
    books.until("amps", |message| window(&message.envelope, "plant/west/meter/amps", 1_001)).await;
    let shown = site.frond(&["status", "--config", "frond.toml"]).await;
    assert!(shown.contains("meter: ready (modbus-rtu); "), "{shown}");

    slave.unplug().await;
    let status =
        site.wait("a complaint", |status| complains(status, &["device meter", "is not there"])).await;
    assert_eq!(of(&status, "west").restarts, 0, "the component goes on");
    slave.plug();
    // It is open before it has answered.
    site.wait("the meter again, without a complaint", |status| {
        status.devices["meter"].state == "ready" && !complains(status, &["device meter"])
    })
    .await;
    // What the pipeline has counted is told with a delay: readings count from when the slave has been asked again.
    let asked = slave.asked();
    let status = site.wait("questions again", |_| slave.asked() > asked + 10).await;
    assert!(!complains(&status, &["device meter"]), "{:?}", status.complaints);
    let readings = status.pipeline.readings;
    site.wait("readings again", |status| status.pipeline.readings > readings + 20).await;
    let ended = site.stop(Role::Gateway, Signal::SIGTERM).await;
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn a_component_may_do_with_devices_what_its_links_say_and_no_more() {
    // Goal: reading is not writing, and one device is not another. Method: orders to a component that may only read, and to
    // one that may write, both on one meter over TCP.
    let (slave, other) = (Slave::tcp().await, Slave::tcp().await);
    let reader = gauge("reader", "1h", &devices("\"meter\"", ""));
    let writer = gauge("writer", "1h", &devices("\"meter\"", ", write = true"));
    let devices = tcp("meter", slave.port()) + &tcp("other", other.port());
    let (site, port) = start(&format!("{devices}{reader}{writer}")).await;
    for name in ["reader", "writer"] {
        ready(&site, name).await;
    }
    site.wait("the components at the listener", |status| {
        status.listener.as_ref().is_some_and(|clients| clients.connected >= 2)
    })
    .await;
    let mut client = Client::subscribe(port, &["reader/said", "writer/said"]).await;
    for (name, order, answer) in [
        ("reader", "coils", "100100100"),
        (
            "reader",
            "write 5 7",
            "not granted: writing to device \"meter\"; target_config.write = true in the [[component.link]] that names it \
             grants it",
        ),
        (
            "reader",
            "of other",
            "not granted: device \"other\"; target_config.devices of a [[component.link]] with interface = \"frond:device\" \
             grants it",
        ),
        ("reader", "level meter", "invalid: it is a Modbus device"),
        ("reader", "bytes meter", "invalid: it is a Modbus device"),
        ("writer", "write 5 7", "done"),
        ("writer", "of meter", "[1000]"),
    ] {
        assert_eq!(client.ask(&format!("{name}/order"), order).await, answer, "{name}: {order}");
    }
    assert_eq!((slave.written(5), other.asked()), (Some(7), 0));
    for (mood, said) in [
        (Mood::Silent, "timeout"),
        (Mood::Exception(4), "exception 4"),
        (Mood::Noise, "malformed"),
        (Mood::Sound, "100100100"),
    ] {
        slave.be(mood);
        site.wait("an open connection", |status| status.devices["meter"].state == "ready").await;
        let heard = async {
            // A connection that broke as soon as it was used is not made anew at once.
            loop {
                let answer = client.ask("reader/order", "coils").await;
                if answer != "not there" {
                    return answer;
                }
            }
        };
        assert_eq!(tokio::time::timeout(PATIENCE, heard).await.unwrap(), said);
    }
    let status = site.wait("a status", |_| true).await;
    let meter = &status.devices["meter"];
    assert_eq!((meter.timeouts, meter.exceptions, meter.malformed), (1, 1, 1), "{meter:?}");
    assert_eq!(of(&status, "reader").restarts + of(&status, "writer").restarts, 0);
}

#[tokio::test]
async fn a_component_talks_over_a_serial_line() {
    // Goal: bytes go both ways between a component and what hangs on a line, as its link allows. Method: the other end of a
    // terminal; a component that may write, and one that may not.
    let folder = tempfile::TempDir::new().unwrap();
    let tty = folder.path().join("tty");
    let (master, _held) = terminal(&tty);
    let (mut reads, mut writes) = ends(master);
    let scale = format!(
        "[[device]]\nname = \"scale\"\nkind = \"serial\"\npath = \"{}\"\nbaud = 115200\nparity = \"none\"\n",
        tty.display()
    );
    let talker = gauge("talker", "1h", &devices("\"scale\"", ", write = true"));
    let reader = gauge("reader", "1h", &devices("\"scale\"", ""));
    let (site, port) = start(&format!("{scale}{talker}{reader}")).await;
    for name in ["talker", "reader"] {
        ready(&site, name).await;
    }
    site.wait("the line", |status| status.devices["scale"].state == "ready").await;
    site.wait("the components at the listener", |status| {
        status.listener.as_ref().is_some_and(|clients| clients.connected >= 2)
    })
    .await;
    let mut client = Client::subscribe(port, &["talker/said", "reader/said"]).await;
    assert_eq!(client.ask("talker/order", "send scale weigh").await, "sent");
    let mut heard = [0; 5];
    tokio::time::timeout(PATIENCE, reads.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(&heard, b"weigh");
    writes.write_all(b"12.50 kg").await.unwrap();
    assert_eq!(client.ask("talker/order", "bytes scale").await, "12.50 kg");
    let refused = client.ask("reader/order", "send scale weigh").await;
    assert!(refused.starts_with("not granted: writing to device \"scale\""), "{refused}");
}

#[tokio::test]
async fn a_slow_device_is_an_error_and_not_the_end_of_its_component_nor_of_its_neighbour() {
    // Goal: a component learns of a device that is too slow for it before its deadline ends it, and one beside it on another
    // device notices nothing. Method: a slave that is silent, with a timeout far beyond the deadline, so that a call which
    // comes back by itself was told before; meanwhile the neighbour polls ten times a second.
    let (slow, quick) = (Slave::tcp().await, Slave::tcp().await);
    slow.be(Mood::Silent);
    let impatient = gauge("impatient", "100ms", &devices("\"meter\"", ""))
        .replace("deadline = \"20s\"", "deadline = \"10s\"");
    let neighbour = gauge("neighbour", "100ms", &devices("\"quick\"", ""))
        .replace("device = \"meter\"", "device = \"quick\"");
    let devices = tcp("meter", slow.port()).replace("timeout = \"400ms\"", "timeout = \"60s\"")
        + &tcp("quick", quick.port()).replace("timeout = \"400ms\"", "timeout = \"10s\"");
    let (site, _) = start(&format!("{STREAM}{devices}{impatient}{neighbour}")).await;
    let status = site
        .wait_for(3 * PATIENCE, "calls that were told in time, beside a neighbour's", |status| {
            of(status, "impatient").handled >= 2 && of(status, "neighbour").handled > 50
        })
        .await;
    let (impatient, meter) = (of(&status, "impatient"), &status.devices["meter"]);
    assert!(meter.timeouts >= 2 && meter.not_there == 0, "{meter:?}");
    assert!(impatient.ticks_missed > 10, "ticks do not pile up: {impatient:?}");
    let (neighbour, quick) = (of(&status, "neighbour"), &status.devices["quick"]);
    assert_eq!((neighbour.lost, neighbour.restarts), (0, 0), "{neighbour:?}");
    assert_eq!((quick.timeouts, quick.not_there, quick.malformed), (0, 0, 0), "{quick:?}");
}

#[tokio::test]
async fn importing_devices_without_a_link_is_refused_with_the_line_that_grants_it() {
    // Goal: what is missing is said before a plant runs. Method: `frond check` on the gauge without its link, and on a device
    // file that is not there.
    let device = rtu(std::path::Path::new("/dev/no-such-port"));
    let (site, _) = start(&format!("{device}{}", gauge("west", "1s", ""))).await;
    let said = site.frond(&["check", "--config", "frond.toml"]).await;
    for text in [
        "component west: imports frond:device/",
        "is not granted; [[component.link]] with interface = \"frond:device\" grants it",
        "'/dev/no-such-port' cannot be used from here: there is no such file",
    ] {
        assert!(said.contains(text), "{said}");
    }
    site.wait("a refused component", |status| of(status, "west").state == "absent").await;
    site.wait("an absent device", |status| complains(status, &["device meter", "no-such-port"])).await;
}
