//! `frond demo`: a plant, a gateway and a cloud on one machine, for about a minute, with the faults they must survive.
//!
//! ```text
//!  0 %          25 %              45 %               65 %                            100 %
//!  │ all well    │ leaf link cut   │ gateway killed   │ link restored                 │ machines stop
//!  │             │ (buffering)     │ and restarted    │ (backlog drains, live first)  │ ─▶ wait until all is told ─▶ verdict
//! ```
//! Everything runs in one folder and ends with this process: the children are bound to it, the folder is removed. Then
//! the ledger of what was acknowledged to the machines, by the gateway's own listener or by a broker, is compared with what the hub holds. The exit code is 0
//! only if nothing is lost and nothing counted twice.

mod ledger;
mod link;
mod machines;
mod plant;
mod replay;
mod sender;
mod tally;
mod view;

pub use ledger::{Holdings, Ledger, Verdict, Window};
pub use link::Link;
pub use machines::{Machine, Random, Sent};
pub use plant::{Door, Plant, PlantError, Ports, Programs};
pub use replay::Recording;
pub use sender::{SenderError, Source, Tally, run as send_until};
pub use tally::{HubTally, consume, ensure_stream};

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::console;

use view::{Frame, View};

use super::exit::Exit;
use super::output;
use super::render::bytes;

/// Machines that share one MQTT connection.
const MACHINES_PER_CLIENT: usize = 5;
/// How often each machine measures.
const MEASURE_EVERY: Duration = Duration::from_millis(100);
/// Time the gateway gets, after the machines have stopped, to tell the hub everything.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// Time within which the gateway must notice that its link was cut.
const CUT_FELT_MAX: Duration = Duration::from_secs(30);
/// Attempts to find ports that nobody takes between choosing and listening.
const PORT_ATTEMPTS: usize = 5;
/// How often the gateway is asked how it is.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Windows of simulated machines.
const WINDOW: Duration = Duration::from_secs(5);
/// Windows of a replayed recording, in its own time.
const REPLAY_WINDOW: Duration = Duration::from_secs(60);

/// Arguments of `frond demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// How long the machines send, at least 8 s: three turns and the calm between them
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(8..=86_400))]
    seconds: u64,
    /// Simulated machines, five series each, ten messages a second each (1 to 500)
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    machines: u16,
    /// Replay a recording instead: a CSV file whose first column is the time.
    #[arg(long, value_name = "FILE.csv")]
    replay: Option<PathBuf>,
    /// Rows of the recording per second; so many that it takes `--seconds` when not given.
    #[arg(long, requires = "replay")]
    rows_per_second: Option<f64>,
    /// A component for the readings to pass through.
    #[arg(long, value_name = "FILE.wasm")]
    component: Option<PathBuf>,
    /// Seed of the simulated machines.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Show the other door: machines publish to a mosquitto, which the gateway reads from.
    #[arg(long)]
    broker: bool,
    /// Use this folder, and keep it.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Print the verdict as JSON, and no view.
    #[arg(long)]
    json: bool,
}

/// The folder of the demonstration; removed at the end unless it was asked for.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    keep: bool,
}

/// What happens when, as a part of the whole.
#[derive(Debug, Clone, Copy)]
enum Turn {
    CutLink,
    KillGateway,
    RestoreLink,
}

const SCRIPT: [(f64, Turn); 3] =
    [(0.25, Turn::CutLink), (0.45, Turn::KillGateway), (0.65, Turn::RestoreLink)];

/// Runs the demonstration. `stop` is Ctrl-C: everything ends, without a verdict.
pub async fn run(args: DemoArgs, stop: CancellationToken) -> anyhow::Result<Exit> {
    let folder = Folder::make(args.folder.clone())?;
    let sources = sources(&args)?;
    let toml = gateway_toml(&args)?;
    let door = if args.broker { Door::Broker } else { Door::Listener };
    let (mut plant, link, switch) = start_plant(&folder, door, &toml).await?;
    let ports = plant.ports;
    let tally = RefCell::new(Tally::default());
    let hub = RefCell::new(HubTally::default());
    let ending = CancellationToken::new();
    let outcome = {
        let consume = consume(ports.hub, &hub, &ending);
        let play = play(&args, &mut plant, &switch, sources, (&tally, &hub), &stop);
        tokio::pin!(consume, play);
        let wire = link.run();
        tokio::pin!(wire);
        tokio::select! {
            outcome = &mut play => outcome,
            failed = &mut consume => failed.and_then(|()| anyhow::bail!("the hub's consumer ended early")),
            () = &mut wire => anyhow::bail!("the wire to the hub ended early"),
        }
    };
    let logs = outcome.is_err().then(|| plant::tail(&folder.path.join("frond.log")));
    plant.stop().await;
    let outcome = outcome.with_context(|| format!("the gateway's last words:\n{}", logs.unwrap_or_default()));
    let Some(finished) = outcome? else {
        eprintln!("stopped; nothing is left running");
        return Ok(Exit::Interrupted);
    };
    let (tally, hub) = (tally.into_inner(), hub.into_inner());
    drop(folder);
    report(&args, &finished, &tally, &hub)
}

/// Everything but the gateway, running, with the wire to the hub and its switch.
async fn start_plant(
    folder: &Folder,
    door: Door,
    toml: &str,
) -> anyhow::Result<(Plant, Link, watch::Sender<bool>)> {
    let mut attempt = 1;
    loop {
        let ports = Ports::pick()?;
        let hub_leaf = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.hub_leaf));
        let (link, uplink, switch) = Link::bind(hub_leaf).await.context("cannot listen on loopback")?;
        let mut plant = Plant::prepare(&folder.path, Programs::find(door)?, ports, uplink, toml)?;
        match plant.start_peers().await {
            Ok(()) => return Ok((plant, link, switch)),
            Err(PlantError::PortTaken { .. }) if attempt < PORT_ATTEMPTS => {
                plant.stop().await;
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What is known at the end beside the tallies.
#[derive(Debug)]
struct Finished {
    verdict: Verdict,
    settled: bool,
}

async fn play(
    args: &DemoArgs,
    plant: &mut Plant,
    switch: &watch::Sender<bool>,
    sources: Vec<Source>,
    (tally, hub): (&RefCell<Tally>, &RefCell<HubTally>),
    stop: &CancellationToken,
) -> anyhow::Result<Option<Finished>> {
    plant.start_gateway(&[]).await?;
    let sending = CancellationToken::new();
    let port = plant.ports.broker;
    // Machines begin when the door is open: a broker keeps nothing for a gateway it does not know yet.
    plant.wait_for_door().await?;
    let senders = sources
        .into_iter()
        .enumerate()
        .map(|(number, source)| sender::run(port, format!("machines-{number}"), source, tally, &sending));
    let senders = futures_util::future::try_join_all(senders);
    let acts = act(args, plant, switch, (tally, hub), &sending, stop);
    let (sent, finished) = futures_util::future::join(senders, acts).await;
    sent?;
    finished
}

/// Drives the script and the view until the verdict.
async fn act(
    args: &DemoArgs,
    plant: &mut Plant,
    switch: &watch::Sender<bool>,
    (tally, hub): (&RefCell<Tally>, &RefCell<HubTally>),
    sending: &CancellationToken,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Finished>> {
    let guard = sending.clone().drop_guard();
    let total = Duration::from_secs(args.seconds);
    let started = Instant::now();
    let mut script = SCRIPT.iter().peekable();
    let mut phase = "all well";
    let mut view = (!args.json).then(View::new);
    let mut next_draw = started;
    let mut stopped_sending = None;
    let mut cut = None;
    loop {
        let elapsed = started.elapsed();
        if cut.is_none()
            && let Some((_, turn)) = script.next_if(|(part, _)| elapsed >= total.mul_f64(*part))
        {
            phase = perform(*turn, plant, switch).await?;
            cut = matches!(turn, Turn::CutLink).then(Instant::now);
        }
        if elapsed >= total && stopped_sending.is_none() {
            phase = "machines stopped, the gateway tells the rest";
            sending.cancel();
            stopped_sending = Some(Instant::now());
        }
        anyhow::ensure!(!plant.gateway_ended(), "the gateway ended by itself");
        let gateway = ask(plant).await;
        // A cut that the gateway does not notice would prove nothing: the script goes on once it has.
        if let Some(since) = cut {
            if gateway.as_ref().is_some_and(|gateway| gateway.link != "up") {
                cut = None;
            } else {
                anyhow::ensure!(
                    since.elapsed() < CUT_FELT_MAX,
                    "the link was cut, and the gateway still reaches the hub"
                );
            }
        }
        if let Some(since) = stopped_sending {
            let told = tally.borrow().unacknowledged == 0
                && gateway.as_ref().is_some_and(|g| g.buffered_bytes == 0)
                && balanced(&tally.borrow(), &hub.borrow());
            if told || since.elapsed() > SETTLE_MAX {
                drop(guard);
                let verdict = verdict(&tally.borrow(), &hub.borrow());
                return Ok(Some(Finished { verdict, settled: told }));
            }
        }
        if let Some(view) = &mut view
            && Instant::now() >= next_draw
        {
            let (tally, hub) = (tally.borrow(), hub.borrow());
            view.draw(Frame {
                elapsed,
                total,
                sent: tally.published,
                windows: hub.holdings.windows(),
                raw_bytes: tally.raw_bytes,
                cloud_bytes: hub.bytes,
                gateway,
                wire: *switch.borrow(),
                phase,
            });
            next_draw = Instant::now() + view.pause();
        }
        if stop.run_until_cancelled(tokio::time::sleep(ASK_EVERY)).await.is_none() {
            return Ok(None);
        }
    }
}

async fn perform(
    turn: Turn,
    plant: &mut Plant,
    switch: &watch::Sender<bool>,
) -> anyhow::Result<&'static str> {
    match turn {
        Turn::CutLink => {
            switch.send_replace(false);
            Ok("link cut")
        }
        Turn::KillGateway => {
            plant.kill_gateway().await;
            plant.start_gateway(&[]).await?;
            Ok("link cut; gateway killed with SIGKILL, started again")
        }
        Turn::RestoreLink => {
            switch.send_replace(true);
            Ok("link restored")
        }
    }
}

fn verdict(tally: &Tally, hub: &HubTally) -> Verdict {
    tally.ledger.compare(&hub.holdings)
}

fn balanced(tally: &Tally, hub: &HubTally) -> bool {
    let verdict = verdict(tally, hub);
    verdict.lost == 0 && verdict.arrived + verdict.late >= verdict.sent
}

async fn ask(plant: &Plant) -> Option<view::Gateway> {
    let status: console::Status = console::ask(&plant.socket(), console::Request::Status).await.ok()?;
    Some(view::Gateway {
        buffered_bytes: status.store.outbox_bytes,
        link: status.link.state,
        written_bytes: status.store.written_bytes,
        readings: status.store.readings,
    })
}

fn sources(args: &DemoArgs) -> anyhow::Result<Vec<Source>> {
    if let Some(path) = &args.replay {
        let recording = Recording::read(path)?;
        let rows_per_second =
            args.rows_per_second.unwrap_or(recording.rows.len() as f64 / args.seconds as f64).max(0.001);
        let behind_ms = i64::try_from(REPLAY_WINDOW.as_millis()).expect("a minute fits") * 3;
        return Ok(vec![Source::Recording { recording, rows_per_second, behind_ms }]);
    }
    let machines: Vec<Machine> =
        (0..usize::from(args.machines)).map(|n| Machine::new(args.seed, n)).collect();
    Ok(machines
        .chunks(MACHINES_PER_CLIENT)
        .map(|machines| Source::Machines { machines: machines.to_vec(), every: MEASURE_EVERY })
        .collect())
}

fn gateway_toml(args: &DemoArgs) -> anyhow::Result<String> {
    let window = if args.replay.is_some() { REPLAY_WINDOW } else { WINDOW };
    let mut toml = String::new();
    let mut stream = format!(
        "[[stream]]\nname = \"machines\"\ntopics = [\"plant/+/state\"]\ndecode = \"json\"\n\
         time = {{ field = \"ts\", format = \"ms\" }}\nreduce = {{ window = \"{}s\", lateness = \"2s\" }}\n",
        window.as_secs()
    );
    if let Some(path) = &args.component {
        let path = std::path::absolute(path).context("cannot resolve the component's path")?;
        anyhow::ensure!(
            path.is_file(),
            "there is no component at {}; `just guests` builds it",
            path.display()
        );
        toml.push_str(&format!(
            "[[component]]\nname = \"limits\"\npath = \"{}\"\nconfig = {{ high = \"*/temperature: 58, hysteresis 1\" }}\n",
            path.display()
        ));
        stream.push_str("component = \"limits\"\n");
    }
    toml.push_str("[journal]\ncheckpoint_interval_min = \"1s\"\n");
    toml.push_str(&stream);
    Ok(toml)
}

fn report(args: &DemoArgs, finished: &Finished, tally: &Tally, hub: &HubTally) -> anyhow::Result<Exit> {
    let verdict = &finished.verdict;
    let good = verdict.lost == 0 && verdict.counted_twice == 0 && finished.settled && verdict.sent > 0;
    let ratio = tally.raw_bytes as f64 / hub.bytes.max(1) as f64;
    if args.json {
        let json = serde_json::json!({
            "verdict": verdict, "settled": finished.settled, "raw_bytes": tally.raw_bytes,
            "cloud_bytes": hub.bytes, "ratio": ratio, "alarms": hub.alarms, "repeated_blocks": hub.repeated,
        });
        output::line(json);
    } else {
        output::line("");
        output::line(format_args!(
            "  sent and acknowledged   {:>12} readings, and {} sent twice on purpose",
            verdict.sent, verdict.repeated
        ));
        output::line(format_args!(
            "  at the hub              {:>12} in {} windows, {} alarms",
            verdict.arrived, verdict.windows, hub.alarms
        ));
        output::line(format_args!(
            "  late                    {:>12} kept on the gateway, in no window",
            verdict.late
        ));
        output::line(format_args!("  recognised as repeats   {:>12}", verdict.recognised));
        output::line(format_args!("  lost                    {:>12}", verdict.lost));
        output::line(format_args!("  counted twice           {:>12}", verdict.counted_twice));
        output::line(format_args!(
            "  bytes to the cloud      {:>12} for {} raw: 1/{ratio:.0}",
            bytes(hub.bytes),
            bytes(tally.raw_bytes)
        ));
        if !finished.settled {
            output::line(format_args!(
                "  the gateway did not tell the hub everything within {} s",
                SETTLE_MAX.as_secs()
            ));
        }
    }
    Ok(if good { Exit::Ok } else { Exit::Failure })
}

// === impl Folder ===

impl Folder {
    fn make(asked: Option<PathBuf>) -> anyhow::Result<Folder> {
        let keep = asked.is_some();
        let path =
            asked.unwrap_or_else(|| std::env::temp_dir().join(format!("frond-demo-{}", std::process::id())));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut found =
            std::fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::ensure!(
            found.next().is_none(),
            "{} is not empty: what an earlier run left there would be counted again; give another folder",
            path.display()
        );
        let path = std::path::absolute(&path).context("cannot resolve the demonstration's folder")?;
        Ok(Folder { path, keep })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // The children are gone by now; what cannot be removed is in the temporary folder anyway.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
