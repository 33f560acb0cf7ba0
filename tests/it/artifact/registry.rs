//! Artifacts from a registry: one that does what the specification says, and what bad links and bad people make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};

use data_encoding::{BASE64, HEXLOWER};
use frond::artifact::registry::{Credentials, Image, Registries, RegistryError, Told, WireError};
use frond::artifact::store::{Kept, StoreError};
use frond::artifact::{Version, desk};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Keeper, PATIENCE, content};

/// What the double does beside, or instead of, what it should.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// Wants a token, which it gives to this name and password.
    pub account: Option<(&'static str, &'static str)>,
    /// Wants name and password itself.
    pub basic: Option<(&'static str, &'static str)>,
    /// Sends blobs from there.
    pub elsewhere: Option<String>,
    /// Ends a blob after so many bytes of an answer.
    pub cut_after: Option<usize>,
    /// Knows no ranges.
    pub whole_only: bool,
    /// Sends this blob instead.
    pub other_blob: Option<Vec<u8>>,
    /// Sends this manifest instead.
    pub manifest: Option<Vec<u8>>,
    /// Sends everybody there for a token.
    pub realm: Option<String>,
    /// Never stops sending a manifest.
    pub endless: bool,
}

/// A registry with one image, `plant/press:1`.
pub struct Shop {
    port: u16,
    manner: Arc<Mutex<Manner>>,
    /// The lines that came: first line, range and credentials.
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

fn sum(bytes: &[u8]) -> String {
    format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(bytes)))
}

fn manifest(blob: &[u8]) -> Vec<u8> {
    let layer =
        serde_json::json!({ "mediaType": "application/wasm", "digest": sum(blob), "size": blob.len() });
    serde_json::json!({ "schemaVersion": 2, "config": {}, "layers": [layer] }).to_string().into_bytes()
}

// === impl Shop ===

impl Shop {
    pub async fn open(blob: Vec<u8>, manner: Manner) -> Shop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (manner, asked) = (Arc::new(Mutex::new(manner)), Arc::<Mutex<Vec<String>>>::default());
        let mut tasks = JoinSet::new();
        let (rules, book) = (Arc::clone(&manner), Arc::clone(&asked));
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (manner, book, blob) = (rules.lock().unwrap().clone(), Arc::clone(&book), blob.clone());
                clients.spawn(async move { serve(client, port, &blob, &manner, &book).await });
            }
        });
        Shop { port, manner, asked, _tasks: tasks }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    pub fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }
}

/// One question of one client.
async fn serve(mut client: TcpStream, port: u16, blob: &[u8], manner: &Manner, book: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}: ")));
        line.map(|line| line[name.len() + 2..].to_owned())
    };
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let (range, who) = (header("range"), header("authorization"));
    book.lock().unwrap().push(format!(
        "{path} {} {}",
        range.as_deref().unwrap_or("-"),
        who.as_deref().unwrap_or("-")
    ));

    let basic = |(name, password): (&str, &str)| {
        format!("Basic {}", BASE64.encode(format!("{name}:{password}").as_bytes()))
    };
    let answer = |status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let wants =
        |challenge: &str| answer("401 Unauthorized", &format!("WWW-Authenticate: {challenge}\r\n"), b"");
    let own = format!("http://127.0.0.1:{port}/token");
    let realm = manner.realm.clone().unwrap_or(own);
    let mut out = if path.starts_with("/token") {
        match manner.account {
            Some(account) if who != Some(basic(account)) => answer("401 Unauthorized", "", b""),
            _ => answer("200 OK", "", br#"{"token":"let-me-in"}"#),
        }
    } else if (manner.account.is_some() || manner.realm.is_some())
        && who.as_deref() != Some("Bearer let-me-in")
    {
        wants(&format!("Bearer realm=\"{realm}\",service=\"shop\""))
    } else if manner.basic.is_some_and(|account| who != Some(basic(account))) {
        wants("Basic realm=\"shop\"")
    } else if path == "/v2/plant/press/manifests/1" || path.starts_with("/v2/plant/press/manifests/sha256:") {
        if manner.endless {
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while client.write_all(&[b' '; 4096]).await.is_ok() {}
            return;
        }
        answer("200 OK", "", &manner.manifest.clone().unwrap_or_else(|| manifest(blob)))
    } else if path == format!("/v2/plant/press/blobs/{}", sum(blob)) || path == "/elsewhere" {
        if let Some(place) = manner.elsewhere.as_ref().filter(|_| path != "/elsewhere") {
            answer("307 Temporary Redirect", &format!("Location: {place}\r\n"), b"")
        } else {
            let bytes = manner.other_blob.as_deref().unwrap_or(blob);
            let from = range
                .as_deref()
                .and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
            match from.filter(|_| !manner.whole_only) {
                Some(from) => {
                    let range =
                        format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
                    answer("206 Partial Content", &range, &bytes[from..])
                }
                None => answer("200 OK", "", bytes),
            }
        }
    } else {
        answer("404 Not Found", "", b"")
    };
    if let Some(after) = manner.cut_after.filter(|_| path.contains("blobs")) {
        let body = out.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        out.truncate(body + after);
    }
    let _ = client.write_all(&out).await;
    let _ = client.shutdown().await;
}

/// A gateway's end of it.
struct Till {
    folder: TempDir,
    keeper: Keeper,
    registries: Registries,
    told: Option<watch::Sender<Told>>,
}

impl Till {
    fn open(shops: &[&Shop]) -> Till {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Keeper::open(folder.path());
        let mut registries = Registries::new(None);
        registries.plain = shops.iter().map(|shop| shop.host()).collect();
        Till { folder, keeper, registries, told: None }
    }

    async fn fetch(&self, shop: &Shop, version: &Version) -> Result<Kept, RegistryError> {
        let host = shop.host();
        let image = Image { host: &host, repository: "plant/press", version };
        let fetch = self.registries.fetch(image, "press", self.keeper.desk(), BTreeSet::new());
        timeout(PATIENCE, fetch).await.expect("a fetch ends")
    }

    async fn read(&self) -> Vec<u8> {
        fs::read(self.keeper.desk().find("press".into()).await.unwrap().expect("it is kept").1).unwrap()
    }

    /// By a file of the site's.
    fn know(&mut self, shop: &Shop, username: &str, password: &str) {
        let file = self.folder.path().join("password");
        fs::write(&file, format!("{password}\n")).unwrap();
        self.registries.logins = BTreeMap::from([(shop.host(), (username.into(), file))]);
    }

    /// By the lattice.
    fn hear(&mut self, shop: &Shop, username: &str, password: &str) {
        let credentials = Credentials { username: username.into(), password: password.into() };
        let (told, heard) = watch::channel(BTreeMap::from([(shop.host(), credentials)]));
        (self.registries.told, self.told) = (heard, Some(told));
    }
}

fn one() -> Version {
    Version::Tag("1".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_fetched_by_tag_and_by_digest_with_and_without_credentials() {
    // Goal: the usual registries work. Method: open; with a token for anybody, for an account, with a password; blobs that
    // are elsewhere, where no credentials may go. Passwords from a file and from the lattice, whose word comes second.
    let blob = content(1, 700_000);
    let cases = [
        (Manner::default(), None),
        (Manner { account: Some(("plant", "geheim")), ..Manner::default() }, Some("geheim")),
        (Manner { basic: Some(("plant", "geheim")), ..Manner::default() }, Some("geheim")),
    ];
    for (manner, password) in cases {
        for version in [one(), Version::Digest(sum(&manifest(&blob)))] {
            let store = Shop::open(blob.clone(), Manner::default()).await;
            let elsewhere = Some(format!("http://{}/elsewhere", store.host()));
            let shop = Shop::open(blob.clone(), Manner { elsewhere, ..manner.clone() }).await;
            let mut till = Till::open(&[&shop, &store]);
            if let Some(password) = password {
                let error = till.fetch(&shop, &version).await.unwrap_err();
                assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
                till.hear(&shop, "plant", "wrong");
                let error = till.fetch(&shop, &version).await.unwrap_err();
                assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
                match version {
                    Version::Tag(_) => till.know(&shop, "plant", password),
                    Version::Digest(_) => till.hear(&shop, "plant", password),
                }
            }
            till.fetch(&shop, &version).await.unwrap();
            assert_eq!(till.read().await, blob);
            assert_eq!(store.asked(), ["/elsewhere - -"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_cut_again_and_again_arrives_whole() {
    // Goal: every attempt brings the end nearer, with ranges and without. Method: a registry that ends each answer early,
    // by 1.3 MB of 5; then one that knows no ranges sends all of it.
    let blob = content(2, 5_000_000);
    let cut = Manner { cut_after: Some(1_300_000), ..Manner::default() };
    let shop = Shop::open(blob.clone(), cut.clone()).await;
    let till = Till::open(&[&shop]);
    let mut attempts = 0;
    let kept = loop {
        attempts += 1;
        match till.fetch(&shop, &one()).await {
            Ok(kept) => break kept,
            Err(RegistryError::Wire { source: WireError::Ended(_) | WireError::Short, .. }) => {}
            Err(error) => panic!("attempt {attempts}: {error}"),
        }
        assert!(attempts < 10, "it does not come nearer: {:?}", shop.asked());
    };
    assert_eq!((kept.bytes, till.read().await), (5_000_000, blob.clone()));
    assert!(attempts > 3, "{attempts}");
    let asked = shop.asked();
    assert!(asked.iter().filter(|line| line.contains("bytes=")).count() == attempts - 1, "{asked:?}");

    let till = Till::open(&[&shop]);
    assert!(till.fetch(&shop, &one()).await.is_err());
    shop.set(Manner { whole_only: true, ..Manner::default() });
    till.fetch(&shop, &one()).await.unwrap();
    assert_eq!(till.read().await, blob);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_lies_is_refused() {
    // Goal: nothing is kept that is not what was asked for. Method: another blob of the same length; another manifest for a
    // digest; one without end; one that is none; a realm and a redirect without TLS.
    let blob = content(3, 300_000);
    let shop = Shop::open(blob.clone(), Manner::default()).await;
    let till = Till::open(&[&shop]);
    let pinned = Version::Digest(sum(&manifest(&blob)));

    shop.set(Manner { other_blob: Some(content(4, 300_000)), ..Manner::default() });
    let error = till.fetch(&shop, &pinned).await.unwrap_err();
    let other = matches!(&error, RegistryError::Desk(desk::DeskError::Store(StoreError::Other { .. })));
    assert!(other, "{error:?}");
    shop.set(Manner { manifest: Some(manifest(&content(5, 10))), ..Manner::default() });
    assert!(matches!(till.fetch(&shop, &pinned).await, Err(RegistryError::Lie { .. })));
    shop.set(Manner { endless: true, ..Manner::default() });
    let error = till.fetch(&shop, &one()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Wire { source: WireError::Long { .. }, .. }), "{error}");
    shop.set(Manner { manifest: Some(b"<html>".to_vec()), ..Manner::default() });
    assert!(matches!(till.fetch(&shop, &one()).await, Err(RegistryError::Manifest(_))));
    for manner in [
        Manner { realm: Some("http://auth.example/token".into()), ..Manner::default() },
        Manner { elsewhere: Some("http://cdn.example/blob".into()), ..Manner::default() },
    ] {
        shop.set(manner);
        let error = till.fetch(&shop, &one()).await.unwrap_err();
        assert!(matches!(error, RegistryError::Wire { source: WireError::Plain { .. }, .. }), "{error}");
    }
    shop.set(Manner { elsewhere: Some("/v2/plant/press/blobs/none".into()), ..Manner::default() });
    assert!(matches!(till.fetch(&shop, &one()).await, Err(RegistryError::Missing { .. })));
    let none = Version::Tag("2".into());
    assert!(matches!(till.fetch(&shop, &none).await, Err(RegistryError::Missing { .. })));
    assert!(till.keeper.desk().find("press".into()).await.unwrap().is_none());

    shop.set(Manner::default());
    till.fetch(&shop, &pinned).await.unwrap();
    assert_eq!(till.read().await, blob);
    drop(till.folder);
}
