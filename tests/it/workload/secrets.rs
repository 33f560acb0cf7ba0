//! Secrets: who was given one has it, who was not has not, and nobody else ever sees it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use frond::console::Status;
use nix::sys::signal::Signal;

use super::{Client, PATIENCE, component, meet, of, ready, source, start, start_with, target};
use crate::whole::site::{Role, complains};

const TEXT: &str = "Fr0nd-s3cret-of-the-pl\u{e4}nt";
const BYTES: &[u8] = b"\xfe\xffFr0nd-s3cret-of-the-pl\0nt";

fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn guard(secrets: &str) -> String {
    let links = source("mqtt", "topics = [\"guard/in\"]") + &target("mqtt", "topics = [\"guard/out\"]");
    component(
        "guard",
        "guard",
        &format!("deadline = \"20s\"\nconfig = {{ out = \"guard/out\" }}\n{secrets}\n{links}"),
    )
}

fn write(folder: &Path, name: &str, secret: &[u8]) {
    let path = folder.join(name);
    fs::write(&path, secret).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
}

/// Files below a folder that hold these bytes.
fn that_hold(folder: &Path, bytes: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            that_hold(&entry.path(), bytes, found);
        } else if kind.is_file()
            && fs::read(entry.path()).unwrap().windows(bytes.len()).any(|seen| seen == bytes)
        {
            found.push(entry.path().display().to_string());
        }
    }
}

#[tokio::test]
async fn a_component_has_its_secrets_and_nobody_else_sees_them() {
    // Goal: text and bytes arrive as they are, a name that was not given is not found, and a value is nowhere but in the
    // file it came from. Method: a component that tells a hash of what it was given, uses it, and traps with it in its
    // memory; then every file of the site is searched (log of all levels, status, `frond check`, databases), after a stop.
    let vault = tempfile::tempdir().unwrap();
    write(vault.path(), "plant-key", format!("{TEXT}\n").as_bytes());
    let key = vault.path().join("binary");
    write(vault.path(), "binary", BYTES);
    let secrets = format!("secrets = {{ api-key = \"plant-key\", binary = \"{}\" }}", key.display());
    let toml = format!("[gateway]\nlog = \"trace\"\n{}", guard(&secrets));
    let (mut site, port) =
        start_with(&toml, &[("CREDENTIALS_DIRECTORY", &vault.path().display().to_string())]).await;
    let mut client = meet(&site, port, "guard", "guard/out").await;
    for (order, answer) in [
        ("look api-key", format!("text {} {:x}", TEXT.len(), hash(TEXT.as_bytes()))),
        ("look binary", format!("bytes {} {:x}", BYTES.len(), hash(BYTES))),
        ("look plant-key", "not found".to_owned()),
        ("get api-key", "there".to_owned()),
        ("get ../plant-key", "not there".to_owned()),
    ] {
        assert_eq!(client.ask("guard/in", order).await, answer, "{order}");
    }
    client.say("guard/in", "trap api-key").await;
    let status = site.wait("a trap", |status| of(status, "guard").traps == 1).await;
    assert_eq!(of(&status, "guard").revealed, 3, "the credential's own name shows nothing");
    site.write(
        "status.txt",
        &format!("{status:?}\n{}", site.frond(&["status", "--config", "frond.toml"]).await),
    );
    let checked = site.frond(&["check", "--config", "frond.toml"]).await;
    assert!(!checked.contains("cannot be opened"), "{checked}");
    site.write("check.txt", &checked);
    let config = frond::config::load_file(&site.folder.join("frond.toml")).unwrap();
    site.write("config.txt", &format!("{config:#?}"));
    site.stop(Role::Gateway, Signal::SIGTERM).await;
    assert!(site.log().contains("TRACE") || site.log().contains("DEBUG"), "all levels are in it");
    for value in [TEXT.as_bytes(), BYTES, b"s3cret-of-the-pl"] {
        let mut found = Vec::new();
        that_hold(&site.folder, value, &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}

#[tokio::test]
async fn without_its_secret_a_component_is_absent_with_a_reason_until_it_is_there() {
    // Goal: what is missing is named with what to do, a neighbour works meanwhile, and the component comes by itself.
    // Method: a credential that is put in place later.
    let vault = tempfile::tempdir().unwrap();
    let links = source("mqtt", "topics = [\"orders/#\"]") + &target("mqtt", "topics = [\"postman/out\"]");
    let neighbour = component(
        "neighbour",
        "postman",
        &format!("deadline = \"20s\"\nconfig = {{ out = \"postman/out\" }}\n{links}"),
    );
    let toml = guard("secrets = { api-key = \"plant-key\" }") + &neighbour;
    let (site, port) =
        start_with(&toml, &[("CREDENTIALS_DIRECTORY", &vault.path().display().to_string())]).await;
    ready(&site, "neighbour").await;
    let status = site
        .wait("a refused component", |status| {
            of(status, "guard").state == "absent" && of(status, "guard").reason.is_some()
        })
        .await;
    let named =
        ["component guard", "\"api-key\"", "the credential \"plant-key\"", "LoadCredential=plant-key:FILE"];
    assert!(complains(&status, &named), "{:?}", status.complaints);
    let mut client = Client::subscribe(port, &["postman/out"]).await;
    site.wait("both components at the listener", |status| {
        status.listener.as_ref().is_some_and(|clients| clients.connected >= 3)
    })
    .await;
    assert_eq!(client.ask("orders/a", "echo on").await, "orders/a on");
    write(vault.path(), "plant-key", TEXT.as_bytes());
    // It is tried again after 30 s, and compiled then.
    let is_ready = |status: &Status| of(status, "guard").state == "ready";
    site.wait_for(4 * PATIENCE, "a component that has its secret", is_ready).await;
}

#[tokio::test]
async fn a_component_without_a_secret_may_not_import_them() {
    // Goal: the refusal names the import and the line that grants it. Method: the same component without its secrets.
    let (site, _) = start(&guard("")).await;
    let status = site.wait("a refused component", |status| of(status, "guard").reason.is_some()).await;
    let named = ["component guard: imports wasmcloud:secrets/", "is not granted; secrets = {", "grants it"];
    assert!(complains(&status, &named), "{:?}", status.complaints);
    let said = site.frond(&["check", "--config", "frond.toml"]).await;
    assert!(named.iter().all(|text| said.contains(text)), "{said}");
}
