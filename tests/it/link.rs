//! The link's states against real servers: each trouble is told from the others, and says what to do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use frond::config::LatticeMode;
use frond::lattice::{LinkState, Trouble};
use frond::sample::Lane;

use crate::gateway::{EPOCH, Gateway, Hub, PATIENCE, config, direct_mode, leaf_mode};
use crate::nats::{DOMAIN, JetStream, NatsServer, eventually, free_port, nats_version};
use crate::store::StoreDouble;

async fn trouble(gateway: &Gateway, what: &str, is: impl Fn(&Trouble) -> bool) {
    eventually(what, PATIENCE, async || gateway.state().trouble().is_some_and(&is)).await;
    let trouble = gateway.state().trouble().cloned().expect("it was there");
    assert!(!trouble.advice().is_empty());
}

// Goal: from nothing to a working link, each missing piece has its own state. Method: add one piece after another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_missing_piece_has_a_state_of_its_own() {
    let (leaf_client, hub_client, hub_leaf) = (free_port(), free_port(), free_port());
    let store = StoreDouble::new(EPOCH);
    store.push(Lane::Data, "vibration", 100);
    let gateway = Gateway::start(&config(leaf_mode(leaf_client)), &store);
    trouble(&gateway, "no server", |trouble| matches!(trouble, Trouble::NoServer { .. })).await;

    let _leaf = NatsServer::leaf_at(leaf_client, hub_leaf);
    trouble(&gateway, "no leaf link", |trouble| *trouble == Trouble::LeafDown).await;

    let domain = Some(DOMAIN.to_owned());
    let bare = NatsServer::hub_at(hub_client, hub_leaf, JetStream::Off);
    trouble(&gateway, "no JetStream", |trouble| *trouble == Trouble::NoJetStream { domain: domain.clone() })
        .await;
    drop(bare);
    trouble(&gateway, "no leaf link again", |trouble| *trouble == Trouble::LeafDown).await;

    let hub = NatsServer::hub_at(hub_client, hub_leaf, JetStream::On);
    let subjects = vec!["frond.press-7.alarm.*".to_owned(), "frond.press-7.data.*".to_owned()];
    trouble(&gateway, "no stream", |trouble| *trouble == Trouble::NoStream { subjects: subjects.clone() })
        .await;
    assert_eq!(store.len(), 1);

    Hub::connect(&hub).await.make_stream().await;
    gateway.up().await;
    store.drained(PATIENCE).await;
    gateway.stop().await;
}

// Goal: a hub that has JetStream under another domain is not called a hub without. Method: ask for the wrong domain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_domain_is_not_a_missing_jetstream() {
    let hub_leaf = free_port();
    let _hub = NatsServer::hub(hub_leaf, JetStream::On);
    let leaf = NatsServer::leaf(hub_leaf);
    let mut config = config(leaf_mode(leaf.port));
    config.lattice.jetstream_domain = None;
    let gateway = Gateway::start(&config, &StoreDouble::new(EPOCH));
    // The hub's servers do not hear the leaf's question there.
    let expected = match nats_version().starts_with("2.10.") {
        true => Trouble::NoJetStream { domain: None },
        false => Trouble::WrongDomain { domain: None },
    };
    trouble(&gateway, "wrong domain", |trouble| *trouble == expected).await;
    gateway.stop().await;
}

// Goal: without a leaf the same code works against the hub. Method: direct mode, no domain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_mode_needs_no_leaf() {
    let hub = NatsServer::hub(free_port(), JetStream::On);
    let mut config = config(direct_mode(&hub.url()));
    config.lattice.jetstream_domain = None;
    let store = StoreDouble::new(EPOCH);
    let gateway = Gateway::start(&config, &store);
    trouble(&gateway, "no stream", |trouble| matches!(trouble, Trouble::NoStream { .. })).await;
    let test = Hub::connect(&hub).await;
    test.make_stream().await;
    store.push(Lane::Data, "vibration", 100);
    store.drained(PATIENCE).await;
    test.holds_exactly(&store).await;
    gateway.stop().await;
}

// Goal: refused credentials are a refusal, not a network problem, and are tried again. Method: a hub that wants a token,
// replaced by one that does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_credentials_are_a_refusal() {
    let port = free_port();
    let strict = NatsServer::start(port, "authorization { token: sesame }\n");
    let mut config = config(direct_mode(&strict.url()));
    config.lattice.jetstream_domain = None;
    let gateway = Gateway::start(&config, &StoreDouble::new(EPOCH));
    trouble(&gateway, "refused", |trouble| *trouble == Trouble::Credentials { file: None }).await;
    assert!(matches!(gateway.state(), LinkState::Refused(_)));
    drop(strict);
    trouble(&gateway, "nobody there", |trouble| matches!(trouble, Trouble::Unreachable { .. })).await;
    let _open = NatsServer::start(port, "jetstream { store_dir: \"FOLDER/js\" }\n");
    trouble(&gateway, "no stream", |trouble| matches!(trouble, Trouble::NoStream { .. })).await;
    gateway.stop().await;
}

// Goal: a credentials file that is missing or is none is said by name. Method: a path to nowhere, then nonsense.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unusable_credentials_file_is_named() {
    let hub = NatsServer::hub(free_port(), JetStream::On);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("gateway.creds");
    let mut config = config(direct_mode(&hub.url()));
    let LatticeMode::Direct(direct) = &mut config.lattice.mode else { panic!("it is direct") };
    direct.credentials = Some(file.clone());
    let gateway = Gateway::start(&config, &StoreDouble::new(EPOCH));
    let named = |trouble: &Trouble| matches!(trouble, Trouble::CredentialsFile { file: named, .. } if *named == file.display().to_string());
    trouble(&gateway, "no file", named).await;
    let before = gateway.state();
    std::fs::write(&file, "not credentials").expect("the folder is writable");
    eventually("another cause", PATIENCE, async || gateway.state() != before).await;
    trouble(&gateway, "no credentials in it", named).await;
    gateway.stop().await;
}

// Goal: off is off. Method: no server, no attempt, no trouble.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_off_stays_off() {
    let store = StoreDouble::new(EPOCH);
    store.push(Lane::Data, "vibration", 100);
    let gateway = Gateway::start(&config(LatticeMode::Off), &store);
    assert_eq!(gateway.state(), LinkState::Off);
    gateway.stop().await;
    assert_eq!(store.len(), 1);
}

// Goal: a server that accepts connections and says nothing is given up in time. Method: a listener that never speaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mute_server_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("a bound listener has an address").port();
    let gateway = Gateway::start(&config(leaf_mode(port)), &StoreDouble::new(EPOCH));
    let patience = Duration::from_secs(15);
    eventually("it is given up", patience, async || {
        matches!(gateway.state().trouble(), Some(Trouble::NoServer { .. }))
    })
    .await;
    gateway.stop().await;
}

/// Where the certificates are.
fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/throwaway_tls").join(name)
}

// Goal: TLS with a client certificate works, and each way to get it wrong is a refusal that names TLS. Method: a hub that
// wants client certificates; a stranger's root, no certificate, and then all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_used_and_its_failures_are_refusals() {
    // As main does; another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let port = free_port();
    let hub = format!(
        "jetstream {{ store_dir: \"FOLDER/js\" }}\n\
         tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n",
        pem("server.pem"),
        pem("server-key.pem"),
        pem("ca.pem")
    );
    let _hub = NatsServer::start(port, &hub);
    let attempt = |ca: &str, certificate: Option<(PathBuf, PathBuf)>| {
        let mut config = config(direct_mode(&format!("tls://127.0.0.1:{port}")));
        config.lattice.jetstream_domain = None;
        let LatticeMode::Direct(direct) = &mut config.lattice.mode else { panic!("it is direct") };
        direct.ca = Some(pem(ca));
        direct.client_certificate = certificate;
        Gateway::start(&config, &StoreDouble::new(EPOCH))
    };
    let certificate = || Some((pem("client.pem"), pem("client-key.pem")));
    let is_tls = |trouble: &Trouble| matches!(trouble, Trouble::Tls { .. });

    let gateway = attempt("stranger.pem", certificate());
    trouble(&gateway, "a stranger's certificate", is_tls).await;
    gateway.stop().await;

    let gateway = attempt("ca.pem", None);
    trouble(&gateway, "no certificate", is_tls).await;
    gateway.stop().await;

    let gateway = attempt("ca.pem", certificate());
    trouble(&gateway, "no stream", |trouble| matches!(trouble, Trouble::NoStream { .. })).await;
    gateway.stop().await;
}
