//! Components that ask and are asked by HTTP, on a whole gateway: real sockets, real TLS.

use std::sync::atomic::Ordering;

use frond::console::Status;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::hosts::{Host, connect, fetch, send_raw, status_of};
use super::{PATIENCE, component, lattice, link, of, ready, request, source, start, target};
use crate::nats::free_port;
use crate::whole::site::{Role, Site, complains};

/// A link by which it is asked.
fn incoming(port: u16, more: &str) -> String {
    link("wasi:http/incoming-handler", &format!("source_config = {{ address = \"127.0.0.1:{port}\"{more} }}"))
}

/// A link by which it asks.
fn outgoing(config: &str) -> String {
    link("wasi:http/outgoing-handler", &format!("target_config = {{ {config} }}"))
}

/// A dashboard of this name, told what to do by the subject `NAME.in`, with more links behind.
fn dashboard(name: &str, keys: &str, links: &str) -> String {
    let links = source("nats", &format!("subjects = [\"{name}.in\"]"))
        + &target("nats", "subjects = [\"none\"]")
        + &link("wasi:keyvalue", "")
        + links;
    component(name, "dashboard", &format!("{keys}{links}"))
}

/// A link that leads nowhere, for those that ask nobody.
fn nowhere() -> String {
    outgoing("hosts = [\"127.0.0.1:1\"]")
}

#[tokio::test]
async fn a_dashboard_shows_what_its_component_keeps() {
    // Goal: pages come whole, whatever their size, to any client; messages and pages are two sides of one component.
    // Method: values told by message and read by HTTP; a body there and back; a page of 700,000 bytes.
    let port = free_port();
    let links = incoming(port, "") + &nowhere();
    let (site, _) = start(&dashboard("desk", "deadline = \"20s\"\n", &links)).await;
    ready(&site, "desk").await;
    assert_eq!(status_of(port, "/value/press").await, 404);
    let lattice = lattice(&site).await;
    assert_eq!(request(&lattice, "desk.in", "put press 71.5").await, "kept");
    assert_eq!(fetch(port, "/value/press", "").await, Ok((200, "71.5".into())));
    let text = "x".repeat(200_000);
    assert_eq!(fetch(port, "/echo", &text).await, Ok((200, text.into())));
    let (status, page) = fetch(port, "/big/700000", "").await.unwrap();
    assert_eq!((status, page.len()), (200, 700_000));
    let old = send_raw(port, b"GET /value/press HTTP/1.0\r\nhost: a\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n") && old.ends_with("\r\n\r\n71.5"), "{old}");
    let head = send_raw(port, b"HEAD /value/press HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let status = site.wait("seven answers", |status| of(status, "desk").handled == 7).await;
    let desk = of(&status, "desk");
    assert_eq!((desk.received, desk.failed, desk.lost, desk.turned_away), (7, 0, 0, 0), "{desk:?}");
}

#[tokio::test]
async fn requests_go_to_hosts_on_the_list_and_nowhere_else() {
    // Goal: an unmodified component asks what the operator allows, in the clear or with TLS, and nothing else, not by a
    // redirection either. Method: real hosts, one of them not on the list, and one with a certificate that nobody knows.
    let (plain, tls, stranger, other) =
        (Host::plain().await, Host::tls().await, Host::tls().await, Host::plain().await);
    let list = format!(
        "hosts = [\"http://127.0.0.1:{}\", \"localhost:{}\", \"localhost:{}\"], ca = \"roots.pem\", \
         answer_bytes_max = \"50KiB\"",
        plain.port, tls.port, stranger.port
    );
    let config = dashboard("desk", "deadline = \"20s\"\n", &(incoming(free_port(), "") + &outgoing(&list)));
    let mut site = Site::prepare("").await;
    site.write("conf.d/roots.pem", &tls.certificate);
    site.lay_over(&format!("listener = []\n{}{config}", crate::whole::site::QUICK));
    site.run(Role::Leaf).await;
    site.run(Role::Gateway).await;
    ready(&site, "desk").await;
    let lattice = lattice(&site).await;
    let ask = async |order: &str| request(&lattice, "desk.in", order).await;

    let here = format!("http://127.0.0.1:{}", plain.port);
    assert_eq!(ask(&format!("ask {here}/hello")).await, "200 hello");
    assert_eq!(ask(&format!("ask https://localhost:{}/hello", tls.port)).await, "200 hello");
    assert_eq!(ask(&format!("ask {here}/to/https://LOCALHOST:{}/hello", tls.port)).await, "200 hello");
    let denied = [
        format!("ask http://127.0.0.1:{}/hello", other.port),
        format!("ask {here}/to/http://127.0.0.1:{}/hello", other.port),
        format!("ask https://127.0.0.1:{}/hello", tls.port),
        format!("ask http://localhost:{}/hello", tls.port),
        format!("ask http://127.0.0.1:{}@127.0.0.1:{}/hello", plain.port, other.port),
        "ask https://api.example.com/".to_owned(),
    ];
    for order in &denied {
        assert_eq!(ask(order).await, "error: ErrorCode::HttpRequestDenied", "{order}");
    }
    assert_eq!(other.visitors.all.load(Ordering::Relaxed), 0, "nobody came");
    let distrusted = ask(&format!("ask https://localhost:{}/hello", stranger.port)).await;
    assert_eq!(distrusted, "error: ErrorCode::TlsCertificateError");
    for path in ["large", "long"] {
        let long = ask(&format!("ask {here}/{path}")).await;
        assert!(
            long.starts_with("error: ") && long.to_lowercase().replace(' ', "").contains("bodysize"),
            "{long}"
        );
    }
    let endless = ask(&format!("ask {here}/head")).await;
    assert!(endless.contains("HttpResponseHeaderSectionSize"), "{endless}");
    let status = site.wait("all of it", |_| true).await;
    let desk = of(&status, "desk");
    assert_eq!((desk.refused, desk.requests, desk.lost), (denied.len() as u64, 9, 0), "{desk:?}");
}

#[tokio::test]
async fn a_host_that_never_answers_costs_a_component_its_patience_and_nobody_else_anything() {
    // Goal: waiting ends, by the component's wish or its deadline, and connections are bounded. Method: a host that says
    // nothing, one that says one byte, and ten requests at once; a neighbour's messages meanwhile.
    let host = Host::plain().await;
    let here = format!("http://127.0.0.1:{}", host.port);
    let list = format!("hosts = [\"{here}\"]");
    // Waiting is no work: the nine seconds of it here would use up what it may save, half a second, many times over.
    let keys = "deadline = \"4s\"\nconnections_out_max = 2\ncpu_share_percent = 5\n";
    let desk = dashboard("desk", keys, &(incoming(free_port(), "") + &outgoing(&list)));
    let other = dashboard("other", "deadline = \"20s\"\n", &(incoming(free_port(), "") + &nowhere()));
    let (site, _) = start(&format!("{desk}{other}")).await;
    ready(&site, "desk").await;
    ready(&site, "other").await;
    let lattice = lattice(&site).await;
    let ask = async |order: &str| request(&lattice, "desk.in", order).await;
    assert_eq!(ask(&format!("briefly {here}/never")).await, "error: ErrorCode::ConnectionReadTimeout");
    let dripped = ask(&format!("briefly {here}/drip")).await;
    assert!(dripped.starts_with("error: body: "), "{dripped}");
    assert_eq!(ask(&format!("many 8 {here}/slow")).await, "8");
    assert_eq!(host.visitors.most.load(Ordering::Relaxed), 2, "two at a time");
    let told = ask(&format!("ask {here}/never")).await;
    assert!(told.ends_with("Timeout"), "{told}: it is told before its own time is over");

    lattice.publish("desk.in", format!("stubborn {here}/never").into()).await.unwrap();
    let mut asked = 0;
    while of(&site.wait("a status", |_| true).await, "desk").deadlines == 0 {
        assert_eq!(request(&lattice, "other.in", "put a b").await, "kept");
        asked += 1;
    }
    ready(&site, "desk").await;
    assert_eq!(ask(&format!("ask {here}/hello")).await, "200 hello", "its connections are free again");
    let status = site.wait("a status", |_| true).await;
    let (desk, other) = (of(&status, "desk"), of(&status, "other"));
    assert_eq!((desk.restarts, desk.traps, desk.lost), (1, 0, 1), "{desk:?}");
    assert!(desk.unanswered >= 3 && desk.over_share == 0, "{desk:?}");
    assert_eq!((other.handled, other.lost, other.restarts), (asked, 0, 0), "{other:?}");
}

#[tokio::test]
async fn bad_pages_end_their_component_and_bad_clients_their_connection() {
    // Goal: whatever a page or a client does, a neighbour's messages go on, the client is told, and the next page comes.
    // Method: every bad page, then slow, oversize and too many clients, while a neighbour is asked over the lattice.
    let port = free_port();
    let bounds = ", connections_max = 4, body_bytes_max = \"64KiB\", answer_bytes_max = \"256KiB\"";
    let keys = "deadline = \"3s\"\nmemory_bytes_max = \"8MiB\"\nquarantine_failures = 0\n";
    let desk = dashboard("desk", keys, &(incoming(port, bounds) + &nowhere()));
    let other = dashboard("other", "deadline = \"20s\"\n", &(incoming(free_port(), "") + &nowhere()));
    let (site, _) = start(&format!("{desk}{other}")).await;
    ready(&site, "desk").await;
    ready(&site, "other").await;
    let lattice = lattice(&site).await;
    let mut asked = 0;
    for (path, expected) in [
        ("/trap", 502),
        ("/grow", 502),
        ("/loop", 504),
        ("/silent", 502),
        ("/refuse", 502),
        // Cut: what the client has got of it by then is no answer.
        ("/unfinished", 0),
        ("/big/300000", 0),
        ("/big/100000", 200),
    ] {
        let page = async { status_of(port, path).await };
        let neighbour = async {
            assert_eq!(request(&lattice, "other.in", "put a b").await, "kept");
        };
        let (status, ()) = tokio::join!(page, neighbour);
        asked += 1;
        assert_eq!(status, expected, "{path}");
        ready(&site, "desk").await;
    }
    let status = site.wait("a status", |_| true).await;
    let desk = of(&status, "desk");
    assert_eq!((desk.traps, desk.memory_faults, desk.deadlines, desk.restarts), (1, 1, 1, 3), "{desk:?}");
    assert_eq!((desk.lost, desk.failed, desk.handled), (3, 4, 1), "{desk:?}");

    assert_eq!(fetch(port, "/echo", &"x".repeat(70_000)).await.map(|(status, _)| status), Ok(413));
    let head = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(40_000));
    assert!(send_raw(port, head.as_bytes()).await.starts_with("HTTP/1.1 4"));
    assert!(send_raw(port, b"GET / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    assert!(!send_raw(port, b"\x16\x03\x01 no HTTP at all\r\n\r\n").await.contains(" 200 "));
    // Four that say nothing, or not all, hold every place; more are turned away, and the four end by themselves.
    let mut slow: Vec<TcpStream> = Vec::new();
    for said in
        ["", "GET / HTTP/1.1\r\nho", "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nx", ""]
    {
        let mut stream = connect(port).await;
        stream.write_all(said.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let before = of(&site.wait("a status", |_| true).await, "desk").turned_away;
    let flood = async {
        let mut told = 0;
        for _ in 0..100 {
            let heard = send_raw(port, b"").await;
            assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 503 "), "{heard}");
            told += usize::from(!heard.is_empty());
        }
        told
    };
    let neighbour = async {
        for _ in 0..20 {
            assert_eq!(request(&lattice, "other.in", "put a b").await, "kept");
        }
    };
    let (told, ()) = tokio::join!(flood, neighbour);
    // On a machine that is held up, the four may end before all have come.
    assert!(told > 0, "there was no room");
    asked += 20;
    let mut last = Vec::new();
    for stream in &mut slow {
        let mut heard = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut heard)).await.expect("an end").unwrap();
        last.push(heard);
    }
    assert!(last[2].starts_with("HTTP/1.1 408 "), "{last:?}");
    let counted = |status: &Status| of(status, "desk").turned_away >= before + 104;
    site.wait("everyone counted who was turned away", counted).await;
    assert_eq!(status_of(port, "/big/10").await, 200, "there is room again");
    let status = site.wait("a status", |_| true).await;
    let other = of(&status, "other");
    assert_eq!((other.handled, other.lost, other.restarts), (asked, 0, 0), "{other:?}");
}

#[tokio::test]
async fn a_full_inbox_a_client_that_hangs_up_and_a_quarantine_are_told_apart() {
    // Goal: nobody waits for an answer that will not come, and nothing is done for nobody. Method: a page that waits for a
    // host, which the test holds; meanwhile more requests than the inbox holds, then one whose client goes; and a page
    // that ends the component until it is quarantined.
    let (port, host) = (free_port(), Host::plain().await);
    let here = format!("http://127.0.0.1:{}", host.port);
    let keys =
        "deadline = \"50s\"\ninbox_messages_max = 2\noverflow = \"drop-newest\"\nquarantine_failures = 2\n";
    let links = incoming(port, "") + &outgoing(&format!("hosts = [\"{here}\"]"));
    let (site, _) = start(&dashboard("desk", keys, &links)).await;
    ready(&site, "desk").await;
    let held = format!("/fetch/{here}/held");
    let in_hand = async |pages: usize| {
        site.wait("a page in hand", |_| host.visitors.all.load(Ordering::Relaxed) == pages).await;
    };
    let more = async {
        in_hand(1).await;
        let five = std::iter::repeat_with(|| status_of(port, "/big/1")).take(5);
        let let_go = async {
            site.wait("a full inbox", |status| of(status, "desk").dropped == 3).await;
            host.visitors.let_go.notify_one();
        };
        tokio::join!(futures_util::future::join_all(five), let_go).0
    };
    let (first, mut answers) = tokio::join!(status_of(port, &held), more);
    answers.sort_unstable();
    assert_eq!((first, answers), (200, vec![200, 200, 503, 503, 503]), "one in hand, two waiting");
    let gone = async {
        in_hand(2).await;
        let mut stream = connect(port).await;
        stream.write_all(b"GET /trap HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        site.wait("one that waits", |status| of(status, "desk").received == 8).await;
        drop(stream);
        site.wait("one that has gone", |status| of(status, "desk").turned_away == 4).await;
        host.visitors.let_go.notify_one();
    };
    assert_eq!(tokio::join!(status_of(port, &held), gone).0, 200);
    assert_eq!(status_of(port, "/big/1").await, 200, "the trap was for nobody");
    let status = site.wait("a status", |_| true).await;
    assert_eq!((of(&status, "desk").traps, of(&status, "desk").dropped), (0, 3));
    for _ in 0..2 {
        assert_eq!(status_of(port, "/trap").await, 502);
    }
    site.wait("a quarantine", |status| of(status, "desk").state == "quarantined").await;
    assert_eq!(status_of(port, "/big/1").await, 503);
}

#[tokio::test]
async fn an_address_that_is_taken_is_complained_of_and_had_when_it_is_free() {
    // Goal: a port that somebody else has stops nothing but the pages. Method: the port held by the test, and let go.
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let (site, _) = start(&dashboard("desk", "", &(incoming(port, "") + &nowhere()))).await;
    ready(&site, "desk").await;
    let status = site.wait("a complaint", |status| complains(status, &["desk", "by HTTP"])).await;
    assert!(complains(
        &status,
        &[&format!("127.0.0.1:{port} cannot be listened on"), "tried again by itself"]
    ));
    assert_eq!(request(&lattice(&site).await, "desk.in", "put a b").await, "kept");
    drop(taken);
    let free = site.wait("no complaint", |status| of(status, "desk").shut.is_none()).await;
    assert!(!complains(&free, &["by HTTP"]));
    assert_eq!(fetch(port, "/value/a", "").await, Ok((200, "b".into())));
}

#[tokio::test]
async fn asking_by_http_without_a_link_is_refused_and_named() {
    // Goal: as with every other import. Method: `frond check` on a component that asks, and has no link to ask by.
    let (site, _) = start(&dashboard("desk", "", &incoming(free_port(), ""))).await;
    let said = site.frond(&["check", "--config", "frond.toml"]).await;
    let expected = [
        "component desk: imports wasi:http/outgoing-handler@0.2",
        "[[component.link]] with interface = \"wasi:http/outgoing-handler\" grants it",
    ];
    assert!(expected.iter().all(|text| said.contains(text)), "{said}");
    let status = site.wait("a refused component", |status| of(status, "desk").state == "absent").await;
    assert!(complains(&status, &expected));
}
