//! The demonstration from the outside, and one data folder for one gateway.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use frond::cli::demo::Random;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::site::{QUICK, Role, STREAM, Site};

/// A demonstration of eight seconds has ended within this time.
const DEMO_MAX: Duration = Duration::from_secs(90);
/// Demonstrations interrupted.
const ROUNDS: u64 = 4;

fn demo(temporary: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_frond"))
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Processes whose ancestor is `root`, by pid and start time: a number may be given again.
fn descendants(root: u32) -> BTreeSet<(u32, String)> {
    let mut found: BTreeSet<(u32, String)> = BTreeSet::new();
    let all: Vec<(u32, u32, String)> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| {
            let (parent, started) = stat(pid)?;
            Some((pid, parent, started))
        })
        .collect();
    loop {
        let more: Vec<_> = all
            .iter()
            .filter(|(_, parent, _)| *parent == root || found.iter().any(|(pid, _)| pid == parent))
            .map(|(pid, _, started)| (*pid, started.clone()))
            .filter(|child| !found.contains(child))
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Parent and start time of a process that is not yet dead.
fn stat(pid: u32) -> Option<(u32, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    (fields[0] != "Z").then(|| Some((fields[1].parse().ok()?, fields[19].to_owned())))?
}

#[tokio::test]
async fn ctrl_c_at_any_moment_leaves_no_process_and_no_folder() {
    // Goal: exit code 130, every child gone, nothing in the temporary folder. Method: SIGINT after a random time, again and
    // again; the children that were there a moment before are looked for by pid.
    let mut random = Random::new(u64::from(std::process::id()));
    let mut children_seen = 0;
    for round in 0..ROUNDS {
        let temporary = tempfile::tempdir().unwrap();
        let mut child = demo(temporary.path(), &["--machines", "2", "--seconds", "30", "--json"]);
        let pid = child.id().unwrap();
        // The moment is the point: nothing is waited for, a random time passes. Before the signal is listened to, there is
        // nothing to leave behind.
        let nap = Duration::from_millis(150) + Duration::from_secs_f64(4.0 * random.unit());
        sleep(nap).await;
        let children = descendants(pid);
        children_seen += children.len();
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGINT).unwrap();
        let output = timeout(Duration::from_secs(10), child.wait()).await.expect("it ends in time").unwrap();
        assert_eq!(output.code(), Some(130), "round {round}, after {nap:?}");
        let left: Vec<_> = children
            .iter()
            .filter(|(pid, started)| stat(*pid).is_some_and(|now| now.1 == *started))
            .collect();
        assert!(left.is_empty(), "round {round}, after {nap:?}: {left:?} live on");
        let files: Vec<_> =
            std::fs::read_dir(temporary.path()).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(files.is_empty(), "round {round}, after {nap:?}: {files:?}");
    }
    assert!(children_seen >= 4, "some rounds had children");
}

#[tokio::test]
async fn a_short_demonstration_loses_nothing() {
    // Goal: exit code 0, and a verdict without loss, from the shortest demonstration. Method: run it.
    let temporary = tempfile::tempdir().unwrap();
    let child = demo(temporary.path(), &["--machines", "3", "--seconds", "8", "--json"]);
    succeed(child).await;
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "the folder is removed");
}

#[tokio::test]
async fn a_short_replay_loses_nothing() {
    // Goal: exit code 0, and a verdict without loss, from a recording. Method: twenty minutes of two columns, in eight seconds.
    let temporary = tempfile::tempdir().unwrap();
    let mut csv = String::from("time;level;flow\n");
    for row in 0..1_200 {
        csv.push_str(&format!("{};{};{}\n", 1_600_000_000 + row, row % 37, f64::from(row) * 0.25));
    }
    let file = temporary.path().join("pump.csv");
    std::fs::write(&file, csv).unwrap();
    let child = demo(temporary.path(), &["--replay", file.to_str().unwrap(), "--seconds", "8", "--json"]);
    succeed(child).await;
}

async fn succeed(child: Child) {
    let output = timeout(DEMO_MAX, child.wait_with_output()).await.expect("it ends in time").unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}\n{told}");
    let verdict: serde_json::Value = serde_json::from_str(&said).unwrap();
    let of = |name: &str| verdict["verdict"][name].as_u64().unwrap();
    assert!(of("sent") > 0);
    assert_eq!((of("lost"), of("counted_twice")), (0, 0), "{said}");
}

#[tokio::test]
async fn a_second_gateway_on_the_same_data_is_refused() {
    // Goal: it ends with exit code 1 and says whose the folder is; the first goes on. Method: start it twice.
    let (site, _books) = Site::start(&format!("{QUICK}{STREAM}")).await;
    let second = Command::new(env!("CARGO_BIN_EXE_frond"))
        .args(["run", "--config", "frond.toml"])
        .current_dir(&site.folder)
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_secs(10), second).await.expect("it ends in time").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let first = format!("process {}", site.pid(Role::Gateway));
    assert!(said.contains("is in use by another frond") && said.contains(&first), "{said}");
    site.wait_for_doors().await;
}
