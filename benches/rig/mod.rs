//! What the benches share: figures of processes and devices, peers as child processes, tables.
//!
//! CPU time is that of the scheduler's accounts (`/proc/PID/task/*/schedstat`, nanoseconds), memory is PSS, bytes are the
//! sector counters of a loop device of the store's own. Wall clock is used for rates and latencies only.

#![allow(dead_code, reason = "each bench uses a part")]

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::Instant;

pub mod mqtt;
pub mod store;
pub mod wire;

/// A peer that does not listen within this time is not going to.
const START_MAX: Duration = Duration::from_secs(20);

/// A number from the environment, or the bench's own.
pub fn setting(name: &str, own: f64) -> f64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(own)
}

/// Prints what was measured, how busy the machine was, and since when.
pub fn headline(bench: &str, how: &str) {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{bench}: {how}");
    println!("machine: {cores} cores, load {} before the run\n", load.join(" "));
}

/// Prints rows under a heading, columns as wide as they need to be.
pub fn table(title: &str, head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut text = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            text += &if column == 0 { format!("{cell}{pad}") } else { format!("  {pad}{cell}") };
        }
        println!("  {}", text.trim_end());
    };
    println!("{title}");
    line(&head.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>());
    rows.iter().for_each(|row| line(row));
    println!();
}

/// The middle of some figures.
pub fn median(figures: &[f64]) -> f64 {
    percentile(figures, 0.5)
}

/// A percentile, the nearest there is; NaN of nothing.
pub fn percentile(figures: &[f64], part: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len().saturating_sub(1)) as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// CPU time a process has used, seconds. Threads that have ended are not in it: ours live as long as their processes.
pub fn cpu_of(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    tasks.flatten().map(|task| cpu_at(&task.path())).sum()
}

/// CPU time that the calling thread has used, seconds.
pub fn cpu_of_thread() -> f64 {
    cpu_at(Path::new("/proc/thread-self"))
}

fn cpu_at(task: &Path) -> f64 {
    let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Proportional set size of a process, bytes.
pub fn pss_of(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process is ours");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("smaps_rollup has a Pss line");
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().expect("Pss is a number");
    kib * 1_024
}

/// Bytes as MiB.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

/// A loopback port nobody listens on.
pub fn free_port() -> u16 {
    frond::platform::ports::free().expect("a free loopback port")
}

/// Finds a program: by its variable, on the PATH, or where daemons are.
pub fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed, and {variable} does not name it"))
}

/// The component that the benches load; `just guests` makes it.
pub fn limits_wasm() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    let wasm = target.join("guests/wasm32-wasip2/release/limits.wasm");
    assert!(wasm.is_file(), "{} is missing: `just guests` makes it", wasm.display());
    wasm
}

/// A child process, killed and waited for when dropped.
pub struct Peer(Child);

impl Peer {
    /// Starts a program whose words go to a log in `folder`.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Peer {
        let log = File::create(folder.join(format!("{name}.log"))).expect("the folder is writable");
        let other = log.try_clone().expect("a file can be cloned");
        frond::platform::spawn::bind_to_parent(command);
        let command = command.current_dir(folder).stdin(Stdio::null()).stdout(log).stderr(other);
        Peer(command.spawn().unwrap_or_else(|err| panic!("{name} does not start: {err}")))
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself, then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until somebody listens on a loopback port.
pub async fn listens(port: u16) {
    let deadline = Instant::now() + START_MAX;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
        assert!(Instant::now() < deadline, "nobody listens on port {port}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Starts a mosquitto that keeps nothing on disk, in `folder`.
pub async fn mosquitto(folder: &Path) -> (Peer, u16) {
    let port = free_port();
    let conf = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence false\nset_tcp_nodelay true\n\
         max_inflight_messages 4000\nmax_queued_messages 0\nmax_queued_bytes 0\nlog_type error\n"
    );
    let path = folder.join(format!("mosquitto-{port}.conf"));
    fs::write(&path, conf).expect("the folder is writable");
    let mut command = Command::new(program("FROND_MOSQUITTO", "mosquitto"));
    let peer = Peer::start("mosquitto", command.arg("-c").arg(path), folder);
    listens(port).await;
    (peer, port)
}

/// A file system of its own on a loop device: everything that reaches the device is this store's.
pub struct Disk {
    device: String,
    mount: PathBuf,
    _folder: TempDir,
}

/// What reached a device.
#[derive(Clone, Copy, Default)]
pub struct Written {
    pub bytes: u64,
    pub writes: u64,
    pub flushes: u64,
}

impl Disk {
    /// Makes one of so many MiB: ext4 with its defaults, mounted noatime,commit=60. Needs root.
    pub fn make(mib: u64) -> io::Result<Disk> {
        let folder = tempfile::tempdir()?;
        let (image, mount) = (folder.path().join("image"), folder.path().join("mount"));
        File::create(&image)?.set_len(mib << 20)?;
        fs::create_dir(&mount)?;
        let image = image.display().to_string();
        // Nothing of the file system's making is left for later, when it would be counted.
        run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", &image])?;
        let device = run("losetup", &["-f", "--show", &image])?;
        let disk = Disk { device, mount, _folder: folder };
        run("mount", &["-o", "noatime,commit=60", &disk.device, &disk.mount.display().to_string()])?;
        disk.sync()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Writes back what waits in memory, metadata as well.
    pub fn sync(&self) -> io::Result<()> {
        run("sync", &["-f", &self.mount.display().to_string()]).map(drop)
    }

    /// What has reached the device so far.
    pub fn written(&self) -> Written {
        let name = self.device.trim_start_matches("/dev/");
        let text = fs::read_to_string(format!("/sys/block/{name}/stat")).expect("the device is there");
        let fields: Vec<u64> = text.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        Written { bytes: fields[6] * 512, writes: fields[4], flushes: fields.get(15).copied().unwrap_or(0) }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // In the order of making. What fails here is told by the system's own words on standard error.
        let _ = run("umount", &[&self.mount.display().to_string()]);
        let _ = run("losetup", &["-d", &self.device]);
    }
}

impl std::ops::Sub for Written {
    type Output = Written;
    fn sub(self, before: Written) -> Written {
        Written {
            bytes: self.bytes - before.bytes,
            writes: self.writes - before.writes,
            flushes: self.flushes - before.flushes,
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> io::Result<String> {
    let out = Command::new(program).args(arguments).stderr(Stdio::inherit()).output()?;
    if !out.status.success() {
        return Err(io::Error::other(format!("{program} {} failed", arguments.join(" "))));
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// Bytes of all files in a folder.
pub fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size_of(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
