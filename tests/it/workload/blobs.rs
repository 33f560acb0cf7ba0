//! Objects that a component keeps, on a whole gateway: read, moved, bounded, and whole whatever happens.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::{Client, component, link, meet, of, source, start, target};
use crate::nats::free_port;
use crate::whole::site::{QUICK, Role, Site};

const BLOCK: usize = 4096;
/// Times the gateway is killed while it writes.
const KILLS: usize = 3;
/// Names that want out of their folder, or into each other's files.
const ATTACKS: [&str; 10] = ["../x", "a/b", ".", "..", "/etc/frond", "a\0b", "~0", "A", "a", "%2e"];

fn archivist(links: &str) -> String {
    let messages =
        source("mqtt", "topics = [\"archive/in\"]") + &target("mqtt", "topics = [\"archive/out\"]");
    let config = "deadline = \"60s\"\nconfig = { out = \"archive/out\" }\n";
    component("archivist", "archivist", &format!("{config}{messages}{links}"))
}

fn store(name: &str, bytes_max: usize, objects_max: usize) -> String {
    let bounds = format!("target_config = {{ bytes_max = {bytes_max}, objects_max = {objects_max} }}");
    link("wasi:blobstore", &format!("name = \"{name}\"\n{bounds}"))
}

async fn at_shelf(site: &Site, port: u16) -> Client {
    meet(site, port, "archivist", "archive/out").await
}

async fn ask(client: &mut Client, order: &str, answer: &str) {
    assert_eq!(client.ask("archive/in", order).await, answer, "{order:?}");
}

/// Where the objects of the link "default" are.
fn shelf(site: &Site) -> PathBuf {
    site.folder.join("data/blobs/archivist/default")
}

fn names_in(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[tokio::test]
async fn objects_are_read_by_range_listed_moved_and_bounded() {
    // Goal: every call does what its interface says, in both orders in which components write, a quota refuses with a
    // reason, links are kept apart, an unfinished value changes nothing. Method: a component that says what it sees, and a
    // look at the folder.
    let links = store("default", 64 * BLOCK, 7) + &store("other", 64 * BLOCK, 7);
    let (site, port) = start(&archivist(&links)).await;
    let mut client = at_shelf(&site, port).await;
    let big = format!("150000 {:x}", hash(&vec![b'f'; 150_000]));
    for (order, answer) in [
        ("text photos a hello", "refused: there is no such container"),
        ("make photos", "photos"),
        ("text photos a hello", "done"),
        ("read photos a", "[hello]"),
        ("read photos a 1 3", "[ell]"),
        ("read photos a 3 99", "[lo]"),
        ("read photos a 9 99", "[]"),
        ("read photos a 3 2", "refused: the range ends before it begins"),
        ("read photos none", "refused: there is no such object"),
        ("fill photos big 150000", "done"),
        ("hash photos big", &big),
        ("info photos big", "photos/big 150000 of late"),
        ("spoil photos a", "done"),
        ("read photos a", "[hello]"),
        ("fill photos empty 0", "done"),
        ("hash photos empty", "0 cbf29ce484222325"),
        ("make attic", "attic"),
        ("copy photos a attic b", "done"),
        ("move photos a attic c", "done"),
        ("has photos a", "false"),
        ("has attic c", "true"),
        ("list attic", "1 and c"),
        ("copy photos none attic d", "refused: there is no such object"),
        ("move photos big nowhere d", "refused: there is no such container"),
        ("fill attic more 99000", "refused: more than the 262144 bytes that the link allows (bytes_max)"),
        ("has attic more", "false"),
        ("text attic d 1", "done"),
        ("text attic e 1", "refused: more than the 7 objects that the link allows (objects_max)"),
        ("by other photos", "false"),
        ("by nowhere photos", "refused: no link of this name keeps objects"),
        ("delete attic d", "done"),
        ("delete attic d", "done"),
        ("drop attic", "done"),
        ("drop attic", "refused: there is no such container"),
        ("clear photos", "done"),
        ("list photos", "0 and "),
    ] {
        ask(&mut client, order, answer).await;
    }
    let status = site.wait("a status", |_| true).await;
    let archivist = of(&status, "archivist");
    assert_eq!((archivist.over_quota, archivist.blob_faults, archivist.restarts), (2, 0, 0), "{archivist:?}");
    assert!(archivist.blob_writes >= 12, "{archivist:?}");
    assert_eq!(names_in(&shelf(&site)), ["photos"]);
}

#[tokio::test]
async fn no_name_gets_out_of_the_folder() {
    // Goal: names are strangers' text. Method: those that attack, as objects and as containers; a look at every folder.
    let (site, port) = start(&archivist(&store("default", 1 << 20, 100))).await;
    let mut client = at_shelf(&site, port).await;
    ask(&mut client, "make x", "x").await;
    for name in ATTACKS {
        ask(&mut client, &format!("text x {name} 1{name}"), "done").await;
        ask(&mut client, &format!("make {name}"), name).await;
        ask(&mut client, &format!("text {name} {name} 2{name}"), "done").await;
    }
    for name in ATTACKS {
        ask(&mut client, &format!("read x {name}"), &format!("[1{name}]")).await;
        ask(&mut client, &format!("read {name} {name}"), &format!("[2{name}]")).await;
    }
    let long = "n".repeat(300);
    let refused = "refused: names of containers and objects have 1 to 150 bytes";
    ask(&mut client, &format!("make {long}"), refused).await;
    ask(&mut client, &format!("text x {long} 1"), refused).await;
    assert_eq!(names_in(&site.folder.join("data/blobs")), ["archivist"]);
    assert_eq!(names_in(&site.folder.join("data/blobs/archivist")), ["default"]);
    assert_eq!(names_in(&shelf(&site)).len(), 11);
    assert_eq!(names_in(&shelf(&site).join("x")).len(), 10);
}

#[tokio::test]
async fn a_gateway_killed_while_it_writes_has_the_old_object_or_the_new_one() {
    // Goal: an object is whole, at least as new as what the component was told, leftovers go and the quota is right.
    // Method: objects that are one number over and over, SIGKILL in the middle, a look at the file, and another start; at
    // the end exactly the room that is left can be filled.
    let blocks = 256;
    let (mut site, port) = start(&archivist(&store("default", blocks * BLOCK, 10))).await;
    let mut client = at_shelf(&site, port).await;
    ask(&mut client, "make x", "x").await;
    let mut bytes = 0;
    for round in 0..KILLS {
        client.say("archive/in", "storm x o").await;
        let mut promised = 0;
        while promised < 5 + 3 * round as u64 {
            promised = client.hear().await.1.parse().unwrap();
        }
        site.kill(Role::Gateway).await;
        while let Ok(told) = client.heard.try_recv() {
            promised = String::from_utf8(told.payload.to_vec()).unwrap().parse().unwrap();
        }
        let object = fs::read(shelf(&site).join("x/o")).unwrap();
        let number = u64::from_le_bytes(object[..8].try_into().unwrap());
        assert!(number >= promised, "{number} after {promised}");
        bytes = 8 * (1 + (number as usize * 7_919) % 20_000);
        assert!(object == number.to_le_bytes().repeat(bytes / 8), "object {number} is not whole");
        drop(client);
        site.run(Role::Gateway).await;
        client = at_shelf(&site, port).await;
        assert_eq!(names_in(&shelf(&site)), ["x"], "what was being written is gone");
        ask(&mut client, "info x o", &format!("x/o {bytes} of late")).await;
    }
    let left = blocks - 1 - bytes.div_ceil(BLOCK);
    ask(&mut client, &format!("fill x rest {}", left * BLOCK), "done").await;
    let refused = "refused: more than the 1048576 bytes that the link allows (bytes_max)";
    ask(&mut client, "fill x more 1", refused).await;
    ask(&mut client, "delete x rest", "done").await;
    ask(&mut client, "text x more 1", "done").await;
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_the_component_sees_and_nobody_else_feels() {
    // Goal: the component is told, the fault is counted, nothing is left over, and there is room again when something is
    // removed. Method: a small file system of its own under the objects, in a mount namespace that ends with the gateway.
    let port = free_port();
    let listener = format!("[[listener]]\nname = \"site\"\nbind = \"127.0.0.1:{port}\"\n");
    let config = archivist(&store("default", 64 << 20, 10));
    let mut site = Site::prepare(&format!("{QUICK}{listener}{config}")).await;
    let blobs = site.folder.join("data/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let namespace = if geteuid().is_root() { "--mount" } else { "--mount --map-root-user" };
    let mount = format!(
        "mount -t tmpfs -o size=256k frond-test {} || {{ echo 'this test needs a mount namespace: run it as root, or allow \
         unprivileged user namespaces'; exit 1; }}; exec \"$0\" \"$@\"",
        blobs.display()
    );
    site.wrapper.push("unshare".into());
    site.wrapper.extend(namespace.split(' ').map(str::to_owned));
    site.wrapper.extend(["sh".into(), "-c".into(), mount]);
    site.run(Role::Leaf).await;
    site.run(Role::Gateway).await;
    let mut client = at_shelf(&site, port).await;
    for (order, answer) in [
        ("make x", "x"),
        ("fill x a 100000", "done"),
        ("fill x b 300000", "refused: the gateway's disk is full"),
        ("read x b", "refused: there is no such object"),
        ("fill x b 100000", "done"),
        ("fill x a 100000", "refused: the gateway's disk is full"),
        ("delete x b", "done"),
        ("fill x a 100001", "done"),
        ("info x a", "x/a 100001 of late"),
    ] {
        ask(&mut client, order, answer).await;
    }
    let status = site.wait("a status", |_| true).await;
    let archivist = of(&status, "archivist");
    assert_eq!((archivist.blob_faults, archivist.over_quota, archivist.restarts), (2, 0, 0), "{archivist:?}");
    assert!(status.store.stalled.is_none(), "the journal is on another file system");
}

#[tokio::test]
async fn without_a_link_objects_may_not_be_imported() {
    // Goal: the refusal names the import and the link. Method: `frond check` on a component without its link.
    let site = Site::prepare(&archivist("")).await;
    let said = site.frond(&["check", "--config", "frond.toml"]).await;
    let named = [
        "component archivist: imports wasi:blobstore/",
        "is not granted; [[component.link]] with interface = \"wasi:blobstore\" grants it",
    ];
    assert!(named.iter().all(|text| said.contains(text)), "{said}");
}
