//! A disk that is full for real: the data folder is a small file system of its own, in a mount namespace that ends with the
//! gateway.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use nix::unistd::geteuid;

use super::sensor::Plan;
use super::site::{QUICK, Role, STREAM, Site, complains};

/// Size of the file system: too small for the log to be filled ahead, which would take commits for a while yet when the
/// disk is full. What this test writes takes a third of it.
const SIZE: &str = "size=4m";

#[tokio::test]
async fn a_full_disk_stops_acknowledgements_and_is_recovered_from() {
    // Goal: ingest stops acknowledging, says so and what to do, and goes on when there is space. Method: a tmpfs under the
    // gateway, filled to the last byte by a file beside the database, which is then removed.
    let mut site = Site::prepare(&format!("{QUICK}{STREAM}")).await;
    let data = site.folder.join("data");
    std::fs::create_dir(&data).unwrap();
    let namespace = if geteuid().is_root() { "--mount" } else { "--mount --map-root-user" };
    let mount = format!(
        "mount -t tmpfs -o {SIZE} frond-test {} || {{ echo 'this test needs a mount namespace: run it as root, or allow \
         unprivileged user namespaces'; exit 1; }}; exec \"$0\" \"$@\"",
        data.display()
    );
    site.wrapper.push("unshare".into());
    site.wrapper.extend(namespace.split(' ').map(str::to_owned));
    site.wrapper.extend(["sh".into(), "-c".into(), mount]);
    let mut books = site.open().await;
    let mut sensors = Plan::new("a", 5, 20).start(site.ports.broker);
    sensors.acknowledged(200).await;

    let inside = Path::new("/proc").join(site.pid(Role::Gateway).to_string()).join("root");
    let ballast = inside.join(data.strip_prefix("/").unwrap()).join("ballast");
    fill(&ballast);
    let stalled = site.wait("a stall", |status| status.store.stalled.is_some()).await;
    assert!(
        complains(&stalled, &["database cannot be written", "free space on the partition of"]),
        "{:?}",
        stalled.complaints
    );
    site.logged(&["ERROR", "database cannot be written", "free space on the partition of"]).await;
    let acknowledged = site.acknowledged("reading");
    sensors.measured(300).await;
    assert_eq!(site.acknowledged("reading"), acknowledged, "nothing is acknowledged that is not on the disk");
    let attempts = site.status().await.unwrap().store.stalled.expect("still full").attempts;
    site.wait("another attempt", |status| {
        status.store.stalled.as_ref().is_some_and(|s| s.attempts > attempts)
    })
    .await;

    std::fs::remove_file(&ballast).unwrap();
    site.wait("recovery", |status| status.store.stalled.is_none()).await;
    site.logged(&["INFO", "database can be written again; acknowledging"]).await;
    books.settle(&sensors.finish().await).await;
    site.wait("nothing to complain of", |status| status.complaints.is_empty()).await;
}

/// Writes until there is no space left, in steps down to one byte.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for step in [1 << 16, 1 << 12, 1 << 8, 1] {
        let block = vec![0x55; step];
        while file.write_all(&block).is_ok() {}
    }
}
