//! Artifacts from elsewhere. Here: from an object store at a hub, over a leaf node, with the store's own client as the one that
//! puts them there.

mod obtain;
mod power;
pub mod registry;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use async_nats::jetstream::{self, object_store};
use frond::artifact::desk::{Desk, DeskHandle};
use frond::artifact::object::{self, ObjectError};
use frond::artifact::store::{Kept, Plan, Store, StoreError};
use frond::lattice::Api;
use frond::runtime::Digest;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::nats::{DOMAIN, FAIR, JetStream, NatsServer, Proxy, Weather, free_port};

/// What has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a piece, as the usual tools cut them.
const PIECE: usize = 128 << 10;
/// Bytes that artifacts may take.
const BYTES_MAX: u64 = 64 << 20;

/// A hub with an object store, and a gateway's end of the link.
struct Rig {
    bucket: object_store::ObjectStore,
    hub: async_nats::Client,
    api: Api,
    proxy: Proxy,
    folder: TempDir,
    _servers: [NatsServer; 2],
}

/// The thread that has the folder.
struct Keeper {
    desk: Option<DeskHandle>,
    thread: Option<JoinHandle<()>>,
}

// === impl Rig ===

impl Rig {
    async fn start() -> Rig {
        let leaf_port = free_port();
        let proxy = Proxy::start(leaf_port).await;
        let hub = NatsServer::hub_behind(proxy.port, leaf_port, JetStream::On);
        let leaf = NatsServer::leaf(proxy.port);
        let client = async_nats::connect(hub.url()).await.unwrap();
        let config = object_store::Config { bucket: "parts".into(), ..object_store::Config::default() };
        let bucket = jetstream::new(client.clone()).create_object_store(config).await.unwrap();
        let api = Api::new(async_nats::connect(leaf.url()).await.unwrap(), Some(DOMAIN));
        let folder = tempfile::tempdir().unwrap();
        let rig = Rig { bucket, hub: client, api, proxy, folder, _servers: [hub, leaf] };
        rig.until_linked().await;
        rig
    }

    async fn until_linked(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.api.stream_info("OBJ_parts", ">").await.is_err() {
            assert!(Instant::now() < deadline, "the leaf node does not reach the hub");
        }
    }

    async fn put(&self, name: &str, bytes: &[u8]) {
        self.bucket.put(name, &mut &bytes[..]).await.unwrap();
    }

    fn keeper(&self) -> Keeper {
        Keeper::open(self.folder.path())
    }

    async fn fetch(&self, keeper: &Keeper, name: &str) -> Result<Kept, ObjectError> {
        let reference = format!("nats://parts/{name}");
        let fetch = object::fetch(&self.api, ("parts", name), &reference, keeper.desk(), BTreeSet::new());
        timeout(PATIENCE, fetch).await.expect("a fetch ends")
    }

    fn is_kept(&self) -> bool {
        let mut files = fs::read_dir(self.folder.path().join("artifacts")).unwrap().flatten();
        files.any(|file| file.path().extension().is_some_and(|extension| extension == "ref"))
    }

    fn part(&self) -> u64 {
        fs::metadata(self.folder.path().join("artifacts/part")).map_or(0, |file| file.len())
    }
}

// === impl Keeper ===

impl Keeper {
    fn open(folder: &Path) -> Keeper {
        let (desk, handle) = Desk::new(Store::open(folder, BYTES_MAX).unwrap());
        let thread = std::thread::spawn(move || desk.run(&CancellationToken::new()).unwrap());
        Keeper { desk: Some(handle), thread: Some(thread) }
    }

    fn desk(&self) -> &DeskHandle {
        self.desk.as_ref().unwrap()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.desk = None;
        self.thread.take().unwrap().join().unwrap();
    }
}

fn content(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n as u8).wrapping_mul(29).wrapping_add((n >> 8) as u8).wrapping_add(seed)).collect()
}

async fn read(keeper: &Keeper, name: &str) -> Vec<u8> {
    let found = keeper.desk().find(format!("nats://parts/{name}")).await.unwrap();
    fs::read(found.expect("it is kept").1).unwrap()
}

fn empty(folder: &Path) -> bool {
    fs::read_dir(folder.join("artifacts")).unwrap().next().is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_is_fetched_over_the_link_and_found_without_it() {
    // Goal: no registry is needed, and once fetched no link either. Method: objects of no, one, and several pieces, with a
    // name that has every kind of character; then the link is cut, and another process asks.
    let rig = Rig::start().await;
    let names = ["a.wasm", "press/limits 2.1.wasm", "größe.wasm"];
    let contents = [content(1, PIECE), content(2, 5 * PIECE + 17), content(3, 1)];
    for (name, bytes) in names.iter().zip(&contents) {
        rig.put(name, bytes).await;
    }
    let keeper = rig.keeper();
    for (name, bytes) in names.iter().zip(&contents) {
        let kept = rig.fetch(&keeper, name).await.unwrap();
        assert_eq!(kept.bytes, bytes.len() as u64);
    }
    rig.proxy.set(Weather { cut: true, ..FAIR });
    drop(keeper);
    let keeper = rig.keeper();
    for (name, bytes) in names.iter().zip(&contents) {
        assert_eq!(read(&keeper, name).await, *bytes, "{name}");
    }
    assert!(keeper.desk().find("nats://parts/other".into()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_cut_at_every_piece_resumes_and_verifies() {
    // Goal: a bad link costs what was not synced and nothing else. Method: an object of 20 pieces over a link of 8 MB/s,
    // given up once so many pieces are there, for every such number; then a new process, which must begin no more than a
    // MiB and a piece before the cut, goes on.
    let rig = Rig::start().await;
    let whole = content(4, 20 * PIECE - 5);
    rig.put("a.wasm", &whole).await;
    rig.proxy.set(Weather { rate: 8_000_000, ..FAIR });
    let reference = "nats://parts/a.wasm";
    let info = rig.bucket.info("a.wasm").await.unwrap();
    let sum = info.digest.unwrap().strip_prefix("SHA-256=").unwrap().to_owned();
    let sum = data_encoding::BASE64URL.decode(sum.as_bytes()).unwrap();
    let plan = Plan {
        reference: reference.into(),
        source: info.nuid,
        bytes: whole.len() as u64,
        digest: Digest::parse(&data_encoding::HEXLOWER.encode(&sum)),
        signature: None,
    };
    let mut resumed = 0;
    for pieces in 0..20 {
        let keeper = rig.keeper();
        let there = async {
            while rig.part() < (pieces * PIECE) as u64 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let first = object::fetch(&rig.api, ("parts", "a.wasm"), reference, keeper.desk(), BTreeSet::new());
        tokio::select! {
            biased;
            () = there => {}
            kept = first => assert_eq!(kept.unwrap().bytes, whole.len() as u64),
        }
        drop(keeper);
        let keeper = rig.keeper();
        if !rig.is_kept() {
            let written = rig.part();
            let from = keeper.desk().begin(plan.clone(), BTreeSet::new()).await.unwrap().bytes;
            assert!(written < from + (1 << 20) + PIECE as u64, "{from} of {written}, cut after {pieces}");
            resumed += u32::from(from > 0);
        }
        rig.fetch(&keeper, "a.wasm").await.unwrap();
        assert_eq!(read(&keeper, "a.wasm").await, whole, "cut after {pieces}");
        keeper.desk().forget(reference.into()).await.unwrap();
        assert!(empty(rig.folder.path()), "cut after {pieces}");
    }
    assert!(resumed > 5, "{resumed} of the cuts were resumed from");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_not_there_is_replaced_or_lies_is_refused_with_a_reason() {
    // Goal: nothing is kept that is not what the store announced. Method: none; a deleted one; one with a piece taken out;
    // one whose announcement names another digest; one that is replaced between two attempts.
    let rig = Rig::start().await;
    let keeper = rig.keeper();
    let error = rig.fetch(&keeper, "none").await.unwrap_err();
    assert!(matches!(error, ObjectError::Missing { .. }), "{error}");
    rig.put("gone", &content(5, 10)).await;
    rig.bucket.delete("gone").await.unwrap();
    let error = rig.fetch(&keeper, "gone").await.unwrap_err();
    assert!(matches!(error, ObjectError::Missing { .. }), "{error}");

    let stream = jetstream::new(rig.hub.clone()).get_stream("OBJ_parts").await.unwrap();
    rig.put("holed", &content(6, 3 * PIECE)).await;
    let pieces = format!("$O.parts.C.{}", rig.bucket.info("holed").await.unwrap().nuid);
    let first = stream.direct_get_first_for_subject(pieces.clone()).await.unwrap();
    stream.delete_message(first.sequence + 1).await.unwrap();
    let error = rig.fetch(&keeper, "holed").await.unwrap_err();
    assert!(matches!(error, ObjectError::Gone), "{error}");

    let honest = rig.bucket.put("liar", &mut &content(7, 10)[..]).await.unwrap();
    let mut lie = serde_json::to_value(&honest).unwrap();
    lie["digest"] = format!("SHA-256={}=", "A".repeat(43)).into();
    let subject = format!("$O.parts.M.{}", data_encoding::BASE64URL.encode(b"liar"));
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Rollup", "sub");
    let context = jetstream::new(rig.hub.clone());
    context.publish_with_headers(subject, headers, lie.to_string().into()).await.unwrap().await.unwrap();
    let error = rig.fetch(&keeper, "liar").await.unwrap_err();
    let other = matches!(
        &error,
        ObjectError::Desk(frond::artifact::desk::DeskError::Store(StoreError::Other { .. }))
    );
    assert!(other, "{error:?}");
    assert!(empty(rig.folder.path()), "nothing of it is left");

    rig.put("new", &content(8, 20 * PIECE)).await;
    rig.proxy.set(Weather { rate: 8_000_000, ..FAIR });
    let reference = "nats://parts/new";
    let fetch = object::fetch(&rig.api, ("parts", "new"), reference, keeper.desk(), BTreeSet::new());
    let half = async {
        while rig.part() < 12 * PIECE as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = half => {}
        kept = fetch => panic!("it was not to be finished: {kept:?}"),
    }
    rig.put("new", &content(9, 20 * PIECE)).await;
    rig.fetch(&keeper, "new").await.unwrap();
    assert_eq!(read(&keeper, "new").await, content(9, 20 * PIECE));
}
