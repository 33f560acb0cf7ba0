//! Components that come from elsewhere, whole: fetched, judged, kept, run again without anybody; and what they may have.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use async_nats::jetstream::{self, object_store};
use data_encoding::{BASE64URL_NOPAD, HEXUPPER};
use frond::artifact::detached;
use frond::control::Present;
use frond::lattice::Api;
use frond::platform::fault;
use frond::runtime::Digest;
use nkeys::KeyPair;
use serde_json::{Value, json};
use sha2::Digest as _;

use super::rig::{PATIENCE, Rig, controller, listen};
use super::work::link_press;
use crate::artifact::registry::{Manner, Shop};
use crate::nats::eventually;
use crate::whole::site::Role;
use crate::workload::{Client, guest};

/// The rule that nobody's components run but those of this key.
fn works(key: &KeyPair, more: &str) -> String {
    let key = key.public_key();
    format!("[artifacts]\nallow_unsigned = false\n[[signer]]\nname = \"works\"\nkey = \"{key}\"\n{more}")
}

/// A guest, made longer by a section that means nothing.
fn padded(name: &str, bytes: usize) -> Vec<u8> {
    let mut wasm = fs::read(guest(name)).unwrap();
    let mut section = b"\x07padding".to_vec();
    section.extend((0..bytes).map(|n| (n as u8).wrapping_mul(29).wrapping_add((n >> 8) as u8)));
    wasm.push(0);
    let mut left = section.len();
    while left >= 0x80 {
        wasm.push(left as u8 | 0x80);
        left >>= 7;
    }
    wasm.push(left as u8);
    wasm.extend(section);
    wasm
}

fn signature(key: &KeyPair, wasm: &[u8]) -> String {
    detached::sign(key, &Digest::of(wasm)).unwrap()
}

/// What `wash claims sign` does.
fn with_claims(mut wasm: Vec<u8>, key: &KeyPair) -> Vec<u8> {
    let hash = HEXUPPER.encode(&sha2::Sha256::digest(&wasm));
    let body = json!({
        "jti": "1", "iat": 1_700_000_000, "iss": key.public_key(), "sub": KeyPair::new_module().public_key(),
        "wascap": { "name": "press", "hash": hash, "tags": ["plant", "a"], "rev": 7, "ver": "0.3.0", "prov": false },
        "wascap_revision": 3,
    });
    let part = |json: &Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let signed = format!("{}.{}", part(&json!({ "typ": "jwt", "alg": "Ed25519" })), part(&body));
    let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(&key.sign(signed.as_bytes()).unwrap()));
    let section = [b"\x0dwasmcloud_jwt", token.as_bytes()].concat();
    let bytes = section.len();
    assert!((1 << 7..1 << 14).contains(&bytes), "a length of two bytes");
    wasm.extend([0, bytes as u8 | 0x80, (bytes >> 7) as u8]);
    wasm.extend(section);
    wasm
}

fn flip(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 8;
    fs::write(path, bytes).unwrap();
}

fn folder(rig: &Rig) -> PathBuf {
    rig.site.folder.join("data/artifacts")
}

async fn present(rig: &Rig, id: &str) -> Present {
    rig.overview().await.components.into_iter().find(|one| one.id == id).expect("it is desired")
}

async fn reason(rig: &Rig, id: &str, part: &str) {
    let what = format!("{id} says {part}");
    eventually(&what, PATIENCE, async || {
        present(rig, id).await.reason.is_some_and(|reason| reason.contains(part))
    })
    .await;
}

fn scale(id: &str, reference: &str, config: &[&str]) -> Value {
    json!({ "component_id": id, "component_ref": reference, "count": 1, "config": config })
}

/// A hub with an object store, reached through the leaf node.
async fn parts(rig: &mut Rig) -> object_store::ObjectStore {
    rig.site.run(Role::Hub).await;
    let hub = rig.site.hub_client().await;
    let config = object_store::Config { bucket: "parts".into(), ..object_store::Config::default() };
    let bucket = jetstream::new(hub).create_object_store(config).await.unwrap();
    let api = Api::new(rig.client.clone(), Some("hub"));
    eventually("the hub is reached", PATIENCE, async || api.stream_info("OBJ_parts", ">").await.is_ok())
        .await;
    bucket
}

async fn put(bucket: &object_store::ObjectStore, name: &str, bytes: &[u8]) {
    bucket.put(name, &mut &bytes[..]).await.unwrap();
}

/// A press that runs from the hub's object store, signed.
async fn press(rig: &mut Rig, key: &KeyPair, wasm: &[u8]) {
    let bucket = parts(rig).await;
    rig.done("component.scale.HOST", &scale("press", "nats://nowhere/press.wasm", &[])).await;
    let told = rig.data("component_scale_failed").await;
    assert!(told["error"].as_str().unwrap().ends_with("the hub has no object store nowhere"), "{told}");
    put(&bucket, "press.wasm", wasm).await;
    put(&bucket, "press.wasm.sig", signature(key, wasm).as_bytes()).await;
    link_press(rig).await;
    rig.config("press", json!({ "out": "press/out" })).await;
    rig.done("component.scale.HOST", &scale("press", "nats://parts/press.wasm", &["press"])).await;
    rig.data("component_scaled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artifact_of_the_hub_starts_with_everything_down_and_not_with_a_flipped_bit() {
    // Goal: once fetched, nobody is needed; what is damaged is not run, is said, and is mended as soon as the hub is there.
    // Method: a signed component from the hub's object store; a bit flipped under it while it runs; the gateway alone; hub
    // and leaf node back; the gateway alone again.
    let key = KeyPair::new_account();
    let mut rig = Rig::start(&works(&key, "")).await;
    let wasm = padded("postman", 300_000);
    press(&mut rig, &key, &wasm).await;
    assert_eq!(rig.request("press.in", "echo a").await, "press.in a");
    let digest = Digest::of(&wasm);
    let listed = rig.site.frond(&["component", "ls", "--config", "frond.toml"]).await;
    assert!(listed.contains(&format!("  sha256:{digest}, signed by works\n")), "{listed}");
    let kept = folder(&rig).join(format!("{digest}.wasm"));

    flip(&kept);
    assert_eq!(rig.request("press.in", "echo b").await, "press.in b", "what runs goes on");
    for role in [Role::Gateway, Role::Leaf, Role::Hub] {
        rig.site.kill(role).await;
    }
    rig.site.run(Role::Gateway).await;
    reason(&rig, "press", "is not kept here, and there is no link to fetch it by").await;
    rig.site.logged(&["ERROR", "was damaged on flash and is not run", "press.wasm"]).await;
    assert!(!kept.exists(), "it is thrown away");

    rig.site.run(Role::Hub).await;
    rig.site.run(Role::Leaf).await;
    rig.state("press", "ready").await;
    assert_eq!(fs::read(&kept).unwrap(), wasm);
    for role in [Role::Gateway, Role::Leaf, Role::Hub] {
        rig.site.kill(role).await;
    }
    rig.site.run(Role::Gateway).await;
    rig.state("press", "ready").await;
    rig.site.run(Role::Leaf).await;
    rig.client = controller(&rig.site).await;
    assert_eq!(rig.request("press.in", "echo c").await, "press.in c");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_artifact_is_exchanged_for_no_other_until_somebody_on_site_wishes_it() {
    // Goal: a reference goes on meaning what it meant, and there is a way on. Method: another component under its name at the
    // hub, and a bit flipped; the lattice asks for it again; then somebody on site does, at first by a slip.
    let key = KeyPair::new_account();
    let mut rig = Rig::start(&works(&key, "")).await;
    let (wasm, other) = (padded("postman", 1_000), padded("postman", 2_000));
    press(&mut rig, &key, &wasm).await;
    let hub = rig.site.hub_client().await;
    let bucket = jetstream::new(hub).get_object_store("parts").await.unwrap();
    put(&bucket, "press.wasm", &other).await;
    put(&bucket, "press.wasm.sig", signature(&key, &other).as_bytes()).await;
    rig.site.kill(Role::Gateway).await;
    flip(&folder(&rig).join(format!("{}.wasm", Digest::of(&wasm))));
    rig.events = listen(&rig.client).await;
    rig.site.run(Role::Gateway).await;
    rig.told("host_started", |_| true).await;
    let (before, now) = (Digest::of(&wasm), Digest::of(&other));
    let why = format!(
        "SHA-256 {}, was damaged, and its source has another content now, {}",
        before.short(),
        now.short()
    );
    reason(&rig, "press", &why).await;
    assert_eq!(present(&rig, "press").await.state, "absent");
    let reference = "nats://parts/press.wasm";
    rig.done("component.scale.HOST", &scale("press", reference, &["press"])).await;
    let told = rig.data("component_scale_failed").await;
    assert!(told["error"].as_str().unwrap().contains(&why), "{told}");

    let put = |with| ["component", "put", "press", reference, "--with", with, "--config", "frond.toml"];
    let said = rig.site.frond(&put("nothing")).await;
    assert!(!said.contains("it runs"), "{said}");
    reason(&rig, "press", &why).await;
    let said = rig.site.frond(&put("press")).await;
    assert!(said.ends_with("it runs\n"), "{said}");
    let listed = rig.site.frond(&["component", "ls", "--config", "frond.toml"]).await;
    assert!(listed.contains(&format!("  sha256:{now}, signed by works\n")), "{listed}");
    let history = rig.site.frond(&["history", "--config", "frond.toml"]).await;
    assert!(history.contains("was damaged, and may have another content from now on"), "{history}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_signer_may_not_have_is_refused_with_the_line_that_would_allow_it() {
    // Goal: the gateway's file decides, whatever the lattice says, and without it, too. Method: nobody's component; one whose
    // name, then one whose link, is beyond its signer; the gateway alone; the line that was named, in a drop-in.
    let key = KeyPair::new_account();
    let mut rig =
        Rig::start(&works(&key, "components = [\"press\"]\nproviders = [\"mqtt\", \"messaging-nats\"]\n"))
            .await;
    link_press(&rig).await;
    rig.config("press", json!({ "out": "press/out" })).await;
    let reference = rig.file("clerk");
    rig.done("component.scale.HOST", &scale("press", &reference, &["press"])).await;
    let told = rig.data("component_scale_failed").await;
    let error = told["error"].as_str().unwrap();
    assert!(error.contains("nobody has signed it; sign it with the key of a [[signer]]"), "{error}");

    let wasm = fs::read(guest("clerk")).unwrap();
    rig.site.write("components/clerk.wasm.sig", &signature(&key, &wasm));
    rig.done("component.scale.HOST", &scale("oven", &reference, &["press"])).await;
    let told = rig.data("component_scale_failed").await;
    assert_eq!(
        told["error"],
        "signer works may not sign component oven; \"oven\" in components of [[signer]] \"works\" would allow it"
    );
    rig.link("press", "kv", "wasi:keyvalue", "store", json!([])).await;
    rig.done("component.scale.HOST", &scale("press", &reference, &["press"])).await;
    let told = rig.data("component_scale_failed").await;
    let beyond = "\"keyvalue-sqlite\" in providers of [[signer]] \"works\" would allow it";
    assert!(told["error"].as_str().unwrap().ends_with(beyond), "{told}");

    let put = ["component", "put", "press", &reference, "--with", "press", "--config", "frond.toml"];
    assert_eq!(rig.site.frond(&put).await, "kept\n", "and taken back");
    rig.site.kill(Role::Leaf).await;
    rig.site.kill(Role::Gateway).await;
    rig.site.write(
        "conf.d/z-more.toml",
        "[[signer]]\nname = \"works\"\nproviders = [\"mqtt\", \"messaging-nats\", \"keyvalue-sqlite\"]\n",
    );
    rig.site.run(Role::Gateway).await;
    eventually("the gateway takes it", PATIENCE, async || rig.site.frond(&put).await.ends_with("it runs\n"))
        .await;
    rig.site.kill(Role::Gateway).await;
    rig.site.write("conf.d/z-more.toml", "");
    rig.site.run(Role::Gateway).await;
    reason(&rig, "press", beyond).await;
    assert_eq!(present(&rig, "press").await.state, "absent", "offline, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_of_the_gateway_gets_to_the_component_it_is_for_and_nowhere_else() {
    // Goal: the lattice names secrets and never sees one. Method: a component that tells a secret's hash; another component,
    // another backend, a secret for a provider; then everything that the gateway says is searched for the value.
    const VALUE: &str = "sehr-geheim-4711";
    let toml = "[[secret]]\nname = \"db\"\nfile = \"db-token\"\ncomponents = [\"press\"]\n";
    let mut rig = Rig::start(toml).await;
    rig.site.write("conf.d/db-token", &format!("{VALUE}\n"));
    fs::copy(guest("guard"), rig.site.folder.join("components/guard.wasm")).unwrap();
    link_press(&rig).await;
    rig.config("press", json!({ "out": "press/out" })).await;
    rig.config("SECRET_db", json!({ "name": "token", "backend": "frond", "key": "db" })).await;
    rig.config("SECRET_far", json!({ "name": "token", "backend": "nats-kv", "key": "db" })).await;
    let reference = rig.file("guard");
    let mut site = Client::subscribe(rig.mqtt, &["press/out"]).await;
    for (id, config, why) in [
        ("press", ["press", "SECRET_far"], "a gateway asks no secrets backend"),
        ("oven", ["press", "SECRET_db"], "\"oven\" in components of [[secret]] \"db\" would allow it"),
    ] {
        rig.done("component.scale.HOST", &scale(id, &reference, &config)).await;
        let told = rig.data("component_scale_failed").await;
        assert!(told["error"].as_str().unwrap().contains(why), "{told}");
    }
    rig.done("component.scale.HOST", &scale("press", &reference, &["press", "SECRET_db"])).await;
    let told = rig.data("component_scaled").await;
    rig.site
        .wait("both at the listener", |status| {
            status.listener.as_ref().is_some_and(|clients| clients.connected >= 2)
        })
        .await;
    let fnv = |text: &str| {
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    };
    let expected = format!("text {} {:x}", VALUE.len(), fnv(VALUE));
    assert_eq!(site.ask("orders/a", "look token").await, expected);
    rig.config("press", json!({ "out": "press/out", "more": "x" })).await;
    let status = rig.site.wait("a status", |_| true).await;
    let history = rig.site.frond(&["history", "--json", "--config", "frond.toml"]).await;
    let overview = serde_json::to_string(&rig.overview().await).unwrap();
    let asked = [
        told.to_string(),
        rig.inventory().await.to_string(),
        rig.ask("config.get.SECRET_db", &Value::Null).await.to_string(),
        format!("{status:?}"),
        history,
        overview,
        rig.site.log(),
    ];
    assert!(asked.iter().all(|text| !text.is_empty() && !text.contains(VALUE)), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_of_a_registry_needs_credentials_once_and_tells_whose_it_is() {
    // Goal: oci:// as wash and wadm drive it: credentials from the lattice in memory only, claims told everywhere, and no
    // registry at the next boot. Method: a registry of the test's own without TLS that wants a password.
    let key = KeyPair::new_account();
    let wasm = with_claims(fs::read(guest("postman")).unwrap(), &key);
    let manner = Manner { account: Some(("plant", "geheim-4711")), ..Manner::default() };
    let shop = Shop::open(wasm, manner).await;
    let host = shop.host();
    let plain = format!("[[registry]]\nname = \"{host}\"\nplain = true\n");
    let mut rig = Rig::start(&format!("{}{plain}", works(&key, ""))).await;
    link_press(&rig).await;
    rig.config("press", json!({ "out": "press/out" })).await;
    let reference = format!("oci://{host}/plant/press:1");
    rig.done("component.scale.HOST", &scale("press", &reference, &["press"])).await;
    let told = rig.data("component_scale_failed").await;
    assert!(told["error"].as_str().unwrap().contains("lets this gateway not have manifest 1"), "{told}");

    let mut credentials = json!({});
    credentials[&host] = json!({ "registryType": "oci", "username": "plant", "password": "geheim-4711" });
    assert_eq!(rig.done("registry.put", &credentials).await, "successfully put registries");
    let many: serde_json::Map<String, Value> =
        (0..17).map(|n| (format!("host-{n}"), json!({ "password": "x" }))).collect();
    let answer = rig.ask("registry.put", &Value::Object(many)).await;
    assert_eq!(answer["message"], "a gateway takes 16 registries with credentials at most");
    rig.done("component.scale.HOST", &scale("press", &reference, &["press"])).await;
    let told = rig.data("component_scaled").await;
    assert_eq!(
        (&told["image_ref"], &told["claims"]["issuer"]),
        (&json!(reference), &json!(key.public_key()))
    );
    assert_eq!(told["claims"]["revision"], 7);
    let claims = rig.ask("claims.get", &Value::Null).await["response"].take();
    let subject = told["public_key"].as_str().unwrap();
    assert_eq!(
        claims,
        json!([{
            "call_alias": "", "iss": key.public_key(), "issuer": key.public_key(), "name": "press", "rev": "7",
            "revision": "7", "sub": subject, "subject": subject, "tags": "plant,a", "version": "0.3.0",
        }])
    );
    let line = rig.inventory().await["components"][0].take();
    assert_eq!((&line["name"], &line["revision"]), (&json!("press"), &json!(7)));

    drop(shop);
    rig.site.kill(Role::Leaf).await;
    rig.site.kill(Role::Gateway).await;
    rig.site.run(Role::Gateway).await;
    rig.state("press", "ready").await;
    let everything = [rig.site.log(), rig.site.frond(&["history", "--json", "--config", "frond.toml"]).await];
    assert!(everything.iter().all(|text| !text.contains("geheim-4711")), "passwords are never written down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_anywhere_on_an_artifacts_way_costs_nothing_but_time() {
    // Goal: the folder of artifacts is whole after every cut, and what is desired runs. Method: a component of three MiB whose
    // artifact is missing, or damaged; the gateway dies at each point of its way in and out; then it starts again.
    let key = KeyPair::new_account();
    let mut rig = Rig::start(&works(&key, "")).await;
    let wasm = padded("postman", 3 << 20);
    press(&mut rig, &key, &wasm).await;
    let digest = Digest::of(&wasm);
    let kept = folder(&rig).join(format!("{digest}.wasm"));
    for point in fault::ARTIFACT_POINTS {
        rig.site.kill(Role::Gateway).await;
        match point {
            "artifact.removed" => flip(&kept),
            _ => fs::remove_dir_all(folder(&rig)).unwrap(),
        }
        rig.site.run_with(Role::Gateway, &[(fault::VARIABLE, point)]).await;
        let ended = rig.site.ended(Role::Gateway).await;
        assert_eq!(ended.signal(), Some(9), "{point}: {}", rig.site.log());
        rig.site.run(Role::Gateway).await;
        rig.state("press", "ready").await;
        assert_eq!(fs::read(&kept).unwrap(), wasm, "{point}");
        let files: Vec<_> =
            fs::read_dir(folder(&rig)).unwrap().flatten().map(|file| file.file_name()).collect();
        assert_eq!(
            files.len(),
            2,
            "{point}: an artifact and its note, and nothing that was left half made: {files:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_run_never_makes_room_and_what_is_not_does() {
    // Goal: the bound holds, and a running component is never emptied for another. Method: a bound of 32 MiB, two artifacts of
    // 20; the second is refused until the first is stopped.
    let key = KeyPair::new_account();
    let rule = works(&key, "").replace("[artifacts]\n", "[artifacts]\nbytes_max = \"32MiB\"\n");
    let mut rig = Rig::start(&rule).await;
    let wasm = padded("postman", 20 << 20);
    press(&mut rig, &key, &wasm).await;
    let kept = folder(&rig).join(format!("{}.wasm", Digest::of(&wasm)));
    let other = padded("postman", (20 << 20) + 1);
    let hub = rig.site.hub_client().await;
    let bucket = jetstream::new(hub).get_object_store("parts").await.unwrap();
    put(&bucket, "other.wasm", &other).await;
    put(&bucket, "other.wasm.sig", signature(&key, &other).as_bytes()).await;
    let second = scale("second", "nats://parts/other.wasm", &["press"]);
    rig.done("component.scale.HOST", &second).await;
    let told = rig.data("component_scale_failed").await;
    assert!(told["error"].as_str().unwrap().contains("the artifacts in use leave no room"), "{told}");
    assert!(kept.exists());
    rig.site.kill(Role::Gateway).await;
    rig.events = listen(&rig.client).await;
    rig.site.run(Role::Gateway).await;
    rig.told("host_started", |_| true).await;
    rig.state("press", "ready").await;
    rig.scale("press", "nats://parts/press.wasm", 0).await;
    rig.done("component.scale.HOST", &second).await;
    rig.data("component_scaled").await;
    assert!(!kept.exists(), "nobody needed it");
}
