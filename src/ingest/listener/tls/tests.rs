use std::path::PathBuf;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConnection};

use super::*;

fn throwaway(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/throwaway_tls").join(name)
}

fn listener_tls(clients: ClientCertificates) -> ListenerTls {
    ListenerTls { certificate: throwaway("server.pem"), key: throwaway("server-key.pem"), clients }
}

/// A client that trusts the throw-away authority, with a certificate or without.
fn client(with_certificate: bool) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&throwaway("ca.pem")).unwrap());
    if with_certificate {
        let key = PrivateKeyDer::from_pem_file(throwaway("client-key.pem")).unwrap();
        builder.with_client_auth_cert(certificates(&throwaway("client.pem")).unwrap(), key).unwrap()
    } else {
        builder.with_no_client_auth()
    }
}

/// Shakes hands in memory. Returns the names the server sees.
fn shake(server: ServerConfig, client: ClientConfig) -> Result<Vec<String>, rustls::Error> {
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let host = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), host).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!server.is_handshaking());
    Ok(server.peer_certificates().and_then(|chain| chain.first()).map(names).unwrap_or_default())
}

#[test]
fn clients_show_certificates_as_the_listener_says() {
    // Goal: the three settings. Method: handshakes in memory with a certificate and without, and with a stranger's roots.
    let known = || throwaway("ca.pem");
    let server = |clients| load(&listener_tls(clients)).unwrap();
    assert_eq!(shake(server(ClientCertificates::None), client(true)), Ok(vec![]));
    let shown = vec!["client".to_owned(), "press-7".to_owned()];
    assert_eq!(shake(server(ClientCertificates::Optional(known())), client(true)), Ok(shown.clone()));
    assert_eq!(shake(server(ClientCertificates::Optional(known())), client(false)), Ok(vec![]));
    assert_eq!(shake(server(ClientCertificates::Required(known())), client(true)), Ok(shown));
    assert!(shake(server(ClientCertificates::Required(known())), client(false)).is_err());
    let stranger = ClientCertificates::Optional(throwaway("stranger.pem"));
    assert!(
        shake(server(stranger), client(true)).is_err(),
        "a certificate that is shown must be vouched for"
    );
}

#[test]
fn files_that_cannot_be_used_are_named() {
    // Goal: whoever mends it knows which file. Method: each fault once.
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    let good = || listener_tls(ClientCertificates::None);
    let refused = |tls: ListenerTls| load(&tls).expect_err("it cannot be used");
    let missing = refused(ListenerTls { certificate: folder.path().join("no.pem"), ..good() });
    assert!(matches!(&missing, TlsError::Read { path, .. } if path.ends_with("no.pem")), "{missing}");
    let none = refused(ListenerTls { certificate: empty.clone(), ..good() });
    assert!(matches!(&none, TlsError::Empty { wanted: "certificate", .. }), "{none}");
    let none = refused(ListenerTls { key: empty, ..good() });
    assert!(matches!(&none, TlsError::Empty { wanted: "private key", .. }), "{none}");
    let pem = refused(ListenerTls { certificate: broken.clone(), ..good() });
    assert!(matches!(&pem, TlsError::Pem { path, .. } if *path == broken), "{pem}");
    let pair = refused(ListenerTls { key: throwaway("client-key.pem"), ..good() });
    assert!(matches!(pair, TlsError::Pair { .. }), "{pair}");
}

#[test]
fn changed_files_are_read_and_broken_ones_leave_the_old() {
    // Goal: certificates change without a restart, and a slip costs nothing. Method: replace the files with good ones,
    // broken ones, and good ones again.
    let folder = tempfile::tempdir().unwrap();
    let place = |from: &str, to: &str| {
        // By renaming, as tools that renew certificates do.
        std::fs::copy(throwaway(from), folder.path().join("new")).unwrap();
        std::fs::rename(folder.path().join("new"), folder.path().join(to)).unwrap();
    };
    place("server.pem", "c.pem");
    place("server-key.pem", "k.pem");
    let tls = ListenerTls {
        certificate: folder.path().join("c.pem"),
        key: folder.path().join("k.pem"),
        clients: ClientCertificates::None,
    };
    let config = crate::config::parse("[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"", "t").unwrap();
    let plain = config.site.listeners[0].clone();
    let with_tls = Listener { tls: Some(tls), ..plain.clone() };
    let same = |a: &Option<Arc<ServerConfig>>, b: &Option<Arc<ServerConfig>>| {
        Arc::ptr_eq(a.as_ref().unwrap(), b.as_ref().unwrap())
    };
    let (mut renewal, currents) = Renewal::new(&[plain, with_tls]);
    assert!(currents[0].is_none());
    let mut current = currents[1].clone().unwrap();
    renewal.look();
    assert!(!current.has_changed().unwrap(), "nothing has changed");
    place("server.pem", "c.pem");
    renewal.look();
    assert!(current.has_changed().unwrap(), "another file, be it the same inside");
    let in_use = current.borrow_and_update().clone();
    place("client-key.pem", "k.pem");
    renewal.look();
    std::fs::remove_file(folder.path().join("k.pem")).unwrap();
    renewal.look();
    assert!(!current.has_changed().unwrap() && same(&in_use, &current.borrow()));
    place("server-key.pem", "k.pem");
    renewal.look();
    assert!(current.has_changed().unwrap());
}

#[test]
fn files_that_are_broken_at_the_start_are_used_once_they_are_mended() {
    // Goal: a slip does not keep the gateway from its other work, nor open a door without TLS. Method: begin without a key.
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("k.pem");
    let tls = ListenerTls { key: key.clone(), ..listener_tls(ClientCertificates::None) };
    let config = crate::config::parse("[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"", "t").unwrap();
    let listener = Listener { tls: Some(tls), ..config.site.listeners[0].clone() };
    let (mut renewal, currents) = Renewal::new(&[listener]);
    let current = currents[0].as_ref().expect("it has TLS, be it unusable");
    assert!(current.borrow().is_none());
    std::fs::copy(throwaway("server-key.pem"), &key).unwrap();
    renewal.look();
    assert!(current.borrow().is_some());
}

#[test]
fn common_names_are_read_from_names_of_any_shape() {
    // Goal: no certificate breaks the reader. Method: names by hand, cut off everywhere, and of odd types.
    let attribute = |oid: &[u8], tag: u8, text: &[u8]| {
        let mut pair = vec![OBJECT_IDENTIFIER, oid.len() as u8];
        pair.extend(oid);
        pair.extend([tag, text.len() as u8]);
        pair.extend(text);
        let mut set = vec![SET, pair.len() as u8 + 2, SEQUENCE, pair.len() as u8];
        set.extend(pair);
        set
    };
    let mut name = attribute(&[0x55, 4, 10], 0x0c, b"Works");
    name.extend(attribute(&COMMON_NAME, 0x13, b"press-7"));
    name.extend(attribute(&COMMON_NAME, 0x0c, "Öfen".as_bytes()));
    name.extend(attribute(&COMMON_NAME, 0x1e, b"\0x"));
    name.extend(attribute(&COMMON_NAME, 0x0c, b"\xff"));
    assert_eq!(common_names(&name), ["press-7", "Öfen"]);
    for end in 0..name.len() {
        common_names(&name[..end]);
        let mut bent = name.clone();
        bent[end] ^= 0x80;
        common_names(&bent);
    }
    assert_eq!(common_names(&[SET, 0x82, 0xff]), Vec::<String>::new());
    assert_eq!(names(&CertificateDer::from(vec![1, 2, 3])), Vec::<String>::new());
}
