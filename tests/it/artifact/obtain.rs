//! From a reference to a file that may be run, with real components.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use frond::artifact::detached;
use frond::artifact::examine::ExamineError;
use frond::artifact::object::ObjectError;
use frond::artifact::obtain::{ObtainError, Obtained, Present, Sources};
use frond::artifact::registry::Registries;
use frond::artifact::trust::{Policy, Refusal, Trust, Unsigned};
use frond::config::Signer;
use frond::runtime::Digest;
use nkeys::KeyPair;

use super::registry::{Manner, Shop};
use super::{Keeper, Rig};

fn guest(name: &str) -> Vec<u8> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let path = target.join("guests/wasm32-wasip2/release").join(name).with_extension("wasm");
    fs::read(&path).unwrap_or_else(|_| panic!("{} is not there: run `just guests` first", path.display()))
}

fn policy(key: &KeyPair, interfaces: Option<&[&str]>) -> Policy {
    let interfaces = interfaces.map(|all| all.iter().map(|one| (*one).to_owned()).collect());
    let signer = Signer {
        name: "works".into(),
        key: key.public_key(),
        components: None,
        interfaces,
        providers: None,
        device_write: Vec::new(),
    };
    Policy { signers: vec![signer], unsigned: Unsigned::Refused }
}

fn sources(rig: &Rig, keeper: &Keeper, policy: Policy) -> Sources {
    fs::create_dir_all(own(rig)).unwrap();
    let folders = vec![rig.folder.path().join("none"), own(rig)];
    Sources::new(keeper.desk().clone(), folders, Registries::new(None), policy)
}

/// The folder that `file://` leads into.
fn own(rig: &Rig) -> PathBuf {
    rig.folder.path().join("own")
}

fn online(rig: &Rig) -> Present {
    Present { api: Some(rig.api.clone()), now: Some(1), needed: BTreeSet::new() }
}

fn offline() -> Present {
    Present { api: None, now: None, needed: BTreeSet::new() }
}

fn trusted(obtained: Result<Obtained, ObtainError>, bytes: &[u8]) -> PathBuf {
    let obtained = obtained.unwrap();
    assert_eq!((obtained.trust, &obtained.digest), (Trust::Trusted("works".into()), &Digest::of(bytes)));
    assert_eq!(fs::read(&obtained.path).unwrap(), bytes);
    obtained.path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_trusted_key_has_signed_runs_without_any_link_and_nothing_else_does() {
    // Goal: the policy holds offline, and for artifacts from everywhere. Method: a component in an object store, without a
    // signature, with one; the link gone, the clock unknown; a signer who may not have it import what it does.
    let rig = Rig::start().await;
    let keeper = rig.keeper();
    let (key, wasm) = (KeyPair::new_account(), guest("clerk"));
    rig.put("clerk.wasm", &wasm).await;
    let strict = sources(&rig, &keeper, policy(&key, None));
    let reference = "nats://parts/clerk.wasm";
    let error = strict.obtain(reference, &offline()).await.unwrap_err();
    assert!(matches!(error, ObtainError::Offline { .. }), "{error}");
    let error = strict.obtain(reference, &online(&rig)).await.unwrap_err();
    assert!(matches!(error, ObtainError::Refused { source: Refusal::Unsigned, .. }), "{error}");
    let open = Policy { unsigned: Unsigned::Allowed, ..policy(&key, None) };
    let obtained = sources(&rig, &keeper, open).obtain(reference, &offline()).await.unwrap();
    assert_eq!(obtained.trust, Trust::Unsigned);

    rig.put("signed.wasm", &wasm).await;
    rig.put("signed.wasm.sig", detached::sign(&key, &Digest::of(&wasm)).unwrap().as_bytes()).await;
    let reference = "nats://parts/signed.wasm";
    trusted(strict.obtain(reference, &online(&rig)).await, &wasm);
    trusted(strict.obtain(reference, &offline()).await, &wasm);
    let narrow = sources(&rig, &keeper, policy(&key, Some(&["wasi:c*", "wasi:i*"])));
    let error = narrow.obtain(reference, &offline()).await.unwrap_err();
    let beyond = matches!(&error, ObtainError::Refused { source: Refusal::Interface { import, .. }, .. }
        if import.starts_with("wasi:keyvalue/"));
    assert!(beyond, "{error:?}");
    rig.put("long.wasm", &wasm).await;
    rig.put("long.wasm.sig", &[b'x'; 1_025]).await;
    let error = strict.obtain("nats://parts/long.wasm", &online(&rig)).await.unwrap_err();
    let is_long = ObjectError::Signature { object: "long.wasm.sig".into(), bytes: 1_025 }.to_string();
    assert!(
        matches!(&error, ObtainError::Object { source, .. } if source.to_string() == is_long),
        "{error:?}"
    );
    let other = sources(&rig, &keeper, policy(&KeyPair::new_account(), None));
    let error = other.obtain(reference, &offline()).await.unwrap_err();
    assert!(matches!(error, ObtainError::Refused { source: Refusal::Unknown { .. }, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_flipped_on_flash_is_not_run_and_the_artifact_is_fetched_again() {
    // Goal: what is damaged never gets as far as a file to run. Method: a bit in the middle; without a link, then with one.
    let rig = Rig::start().await;
    let keeper = rig.keeper();
    let (key, wasm) = (KeyPair::new_account(), guest("clerk"));
    rig.put("a.wasm", &wasm).await;
    rig.put("a.wasm.sig", detached::sign(&key, &Digest::of(&wasm)).unwrap().as_bytes()).await;
    let sources = sources(&rig, &keeper, policy(&key, None));
    let path = trusted(sources.obtain("nats://parts/a.wasm", &online(&rig)).await, &wasm);
    for present in [offline(), online(&rig)] {
        let mut flipped = wasm.clone();
        flipped[wasm.len() / 2] ^= 4;
        fs::write(&path, &flipped).unwrap();
        match (sources.obtain("nats://parts/a.wasm", &present).await, &present.api) {
            (Err(error), None) => assert!(matches!(error, ObtainError::Offline { .. }), "{error}"),
            (obtained, _) => drop(trusted(obtained, &wasm)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_the_site_is_judged_like_any_other_and_comes_from_its_folder_only() {
    // Goal: neither a path nor a link leads elsewhere, and a folder is no way around the policy. Method: one of each.
    let rig = Rig::start().await;
    let keeper = rig.keeper();
    let (key, wasm) = (KeyPair::new_account(), guest("clerk"));
    let sources = sources(&rig, &keeper, policy(&key, None));
    let folder = own(&rig);
    fs::write(folder.join("a.wasm"), &wasm).unwrap();
    fs::write(rig.folder.path().join("secret"), &wasm).unwrap();
    std::os::unix::fs::symlink(rig.folder.path().join("secret"), folder.join("out.wasm")).unwrap();
    let obtain =
        async |path: PathBuf| sources.obtain(&format!("file://{}", path.display()), &offline()).await;
    let error = obtain(folder.join("a.wasm")).await.unwrap_err();
    assert!(matches!(error, ObtainError::Refused { source: Refusal::Unsigned, .. }), "{error}");
    fs::write(folder.join("a.wasm.sig"), detached::sign(&key, &Digest::of(&wasm)).unwrap()).unwrap();
    trusted(obtain(folder.join("a.wasm")).await, &wasm);
    fs::write(folder.join("a.wasm.sig"), detached::sign(&key, &Digest::of(b"other")).unwrap()).unwrap();
    let error = obtain(folder.join("a.wasm")).await.unwrap_err();
    assert!(matches!(error, ObtainError::Refused { source: Refusal::Detached(_), .. }), "{error}");
    fs::write(folder.join("a.wasm.sig"), [b'x'; 1_025]).unwrap();
    let error = obtain(folder.join("a.wasm")).await.unwrap_err();
    assert!(matches!(error, ObtainError::Signature { bytes: 1_025, .. }), "{error}");
    for outside in [folder.join("out.wasm"), rig.folder.path().join("secret"), folder.clone()] {
        let error = obtain(outside).await.unwrap_err();
        assert!(matches!(error, ObtainError::Outside { .. }), "{error}");
    }
    fs::write(folder.join("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let error = obtain(folder.join("core.wasm")).await.unwrap_err();
    assert!(matches!(error, ObtainError::Examine { source: ExamineError::Imports(_), .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_over_a_line_that_breaks_again_and_again_is_obtained_at_once() {
    // Goal: whoever asks waits for the end, not for the next interruption; and gives up where nothing comes nearer. Method: a
    // registry that ends each answer after 200 kB of 1.5 MB; then after none.
    let folder = tempfile::tempdir().unwrap();
    let keeper = Keeper::open(folder.path());
    let wasm = [guest("clerk"), b"\0\x80\x80\x60\x07padding".to_vec(), vec![7; (0x60 << 14) - 8]].concat();
    let shop = Shop::open(wasm.clone(), Manner { cut_after: Some(200_000), ..Manner::default() }).await;
    let mut registries = Registries::new(None);
    registries.plain.insert(shop.host());
    let policy = Policy { signers: Vec::new(), unsigned: Unsigned::Allowed };
    let sources = Sources::new(keeper.desk().clone(), Vec::new(), registries, policy);
    let reference = format!("{}/plant/press:1", shop.host());
    let obtained = sources.obtain(&reference, &offline()).await.unwrap();
    assert_eq!(fs::read(&obtained.path).unwrap(), wasm);
    keeper.desk().forget(reference.clone()).await.unwrap();
    shop.set(Manner { cut_after: Some(0), ..Manner::default() });
    let error = sources.obtain(&reference, &offline()).await.unwrap_err();
    assert!(matches!(error, ObtainError::Registry { .. }), "{error}");
}
