//! A hub that lets in whoever has a credentials file: accounts and users as signed tokens, as NATS's own tools make them.
//!
//! The keys are made for each run. Format of the tokens: `github.com/nats-io/jwt`, version 2.

use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::books::Books;
use super::sensor::Plan;
use super::site::{JetStream, QUICK, Role, STREAM, Site, complains};

/// An operator with one account, and the configuration of a server that knows both.
struct Authority {
    account: KeyPair,
    hub_lines: String,
}

impl Authority {
    fn new() -> Authority {
        let (operator, account, system) =
            (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
        let unlimited = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
            "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1
        });
        let of_account = json!({ "type": "account", "version": 2, "limits": unlimited });
        let plain = json!({ "type": "account", "version": 2, "limits": {
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1
        }});
        let hub_lines = format!(
            "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}\n",
            token(&operator, &operator, json!({ "type": "operator", "version": 2 })),
            system.public_key(),
            account.public_key(),
            token(&operator, &account, of_account),
            system.public_key(),
            token(&operator, &system, plain),
        );
        Authority { account, hub_lines }
    }

    /// Writes the credentials of a new user.
    fn let_in(&self, path: &Path) {
        let user = KeyPair::new_user();
        let claims = json!({
            "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1
        });
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            token(&self.account, &user, claims),
            user.seed().unwrap()
        );
        std::fs::write(path, text).unwrap();
    }
}

/// What `issuer` says of `subject`, signed.
fn token(issuer: &KeyPair, subject: &KeyPair, claims: Value) -> String {
    let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let said = format!(
        "{}.{}",
        part(json!({ "typ": "JWT", "alg": "ed25519-nkey" })),
        part(json!({
            "jti": subject.public_key(), "iat": 1, "iss": issuer.public_key(), "name": "test",
            "sub": subject.public_key(), "nats": claims
        }))
    );
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(said.as_bytes()).unwrap());
    format!("{said}.{signature}")
}

#[tokio::test]
async fn credentials_of_the_hub_s_account_let_the_gateway_in() {
    // Goal: direct mode with a credentials file: those of a stranger are refused with the file's name, those of the hub's
    // account carry everything, without a restart. Method: two authorities, and a hub that knows one of them.
    let (known, stranger) = (Authority::new(), Authority::new());
    let mut site = Site::prepare("").await;
    let file: PathBuf = site.folder.join("gateway.creds");
    stranger.let_in(&file);
    site.lay_over(&format!(
        "{QUICK}{STREAM}[lattice]\nmode = \"direct\"\n[lattice.direct]\nurl = \"nats://127.0.0.1:{}\"\ncredentials = \"{}\"\n",
        site.ports.hub,
        file.display()
    ));
    site.write_hub(JetStream::On, &known.hub_lines);
    for role in [Role::Broker, Role::Hub, Role::Gateway] {
        site.run(role).await;
    }
    site.wait_for_doors().await;
    let refused = site.wait("a refusal", |status| status.link.state == "refused").await;
    assert!(
        complains(&refused, &["does not accept the credentials", "gateway.creds"]),
        "{:?}",
        refused.complaints
    );
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(100).await;
    known.let_in(&file);
    let consumer = site.folder.join("consumer.creds");
    known.let_in(&consumer);
    let client = ConnectOptions::with_credentials_file(&consumer)
        .await
        .unwrap()
        .connect(format!("nats://127.0.0.1:{}", site.ports.hub))
        .await
        .unwrap();
    let mut books = Books::open(client, -1).await;
    site.wait("link up", |status| status.link.state == "up").await;
    books.settle(&sensors.finish().await).await;
}
