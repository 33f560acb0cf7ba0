//! `frond component put`: has a component run on a gateway, from an artifact, and says what becomes of it.
//!
//! What was answered is kept, whether anybody waits here or not: fetching and compiling go on at the gateway, and what does
//! not work is taken back there.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cli::desired::{overview, say};
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::status::GatewayArgs;
use crate::console::{self, Request};
use crate::control::{Command, Component, Overview, Present, Replacing, Told};

/// Between two looks. What does not work is taken back well within one.
const LOOK: Duration = Duration::from_millis(500);
/// Longest that it is looked at: an artifact of 32 MiB takes so long at half a Mbit/s.
const FOLLOW_MAX: Duration = Duration::from_secs(600);
/// Newest lines of the history among which the reason is.
const LINES: u32 = 20;

/// Arguments of `frond component put`.
#[derive(Debug, clap::Args)]
pub struct PutArgs {
    /// What links call it
    id: String,
    /// Its artifact, such as file:///usr/share/frond/components/desk.wasm
    reference: String,
    /// Calls at a time; 0 takes it away
    #[arg(long, default_value_t = 1)]
    limit: u32,
    /// A configuration for it; once for each
    #[arg(long, value_name = "CONFIGURATION")]
    with: Vec<String>,
    /// Do not wait until it runs, or does not
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// How it fares.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    /// This is what happens.
    Busy(&'static str),
    /// It runs; the version before it is back should it fail.
    Runs { former: Option<String> },
    /// It is to run and does not, for this reason, if that lasts.
    Waits(String),
    /// Something else is desired of it again.
    TakenBack,
}

/// Puts it. The exit code is 0 when it runs, and [`Exit::Degraded`] while it waits for somebody.
pub(super) async fn run(args: PutArgs) -> anyhow::Result<Exit> {
    let PutArgs { id, reference, limit, with, detach, gateway } = args;
    let component = Component { reference: reference.clone(), limit, config: with, ..Component::default() };
    let command = Command::Scale { id: id.clone(), component, replacing: Replacing::Allowed };
    match say(&gateway, command).await? {
        Exit::Ok if !detach && limit > 0 => follow(&gateway, &id, &reference).await,
        exit => Ok(exit),
    }
}

async fn follow(gateway: &GatewayArgs, id: &str, reference: &str) -> anyhow::Result<Exit> {
    let deadline = Instant::now() + FOLLOW_MAX;
    let mut before = None;
    while Instant::now() < deadline {
        let progress = progress(&overview(gateway).await?, id, reference);
        match &progress {
            Progress::Runs { former: None } => {
                output::line("it runs");
                return Ok(Exit::Ok);
            }
            Progress::Runs { former: Some(former) } => {
                output::line(format_args!("it runs, on probation; {former} is back should it fail"));
                return Ok(Exit::Ok);
            }
            Progress::TakenBack => {
                let why = why(gateway, id).await?;
                eprintln!("frond: {why}; what was before is desired again");
                return Ok(Exit::Failure);
            }
            // Seen twice, it is not about to be taken back.
            Progress::Waits(why) if before.as_ref() == Some(&progress) => {
                output::line(format_args!("it waits, and is tried again by itself: {why}"));
                return Ok(Exit::Degraded);
            }
            Progress::Waits(_) => {}
            Progress::Busy(what) if before.as_ref() != Some(&progress) => eprintln!("{what} …"),
            Progress::Busy(_) => {}
        }
        before = Some(progress);
        sleep(LOOK).await;
    }
    output::line("it is still on its way; `frond component ls` says how it fares");
    Ok(Exit::Degraded)
}

fn progress(overview: &Overview, id: &str, reference: &str) -> Progress {
    let is_wanted = overview.desired.components.get(id).is_some_and(|item| item.spec.reference == reference);
    let Some(present) = overview.components.iter().find(|one| one.id == id).filter(|_| is_wanted) else {
        return Progress::TakenBack;
    };
    let Present { state, reason, former, .. } = present;
    if present.reference != reference {
        return Progress::Busy("its artifact is fetched and compiled, and the version before goes on");
    }
    match (state.as_str(), reason) {
        ("ready", _) => Progress::Runs { former: former.clone() },
        ("fetching", _) => Progress::Busy("its artifact is fetched and compiled"),
        (_, None) => Progress::Busy("it is opened"),
        (_, Some(why)) => Progress::Waits(why.clone()),
    }
}

/// What the gateway's history says of it.
async fn why(gateway: &GatewayArgs, id: &str) -> anyhow::Result<String> {
    let lines: Vec<Told> = console::ask(&gateway.socket()?, Request::History { newest: LINES }).await?;
    let begins = format!("component {id} is ");
    let line = lines.into_iter().map(|line| line.text).find(|text| text.starts_with(&begins));
    Ok(line.unwrap_or_else(|| format!("component {id} is not desired like this any more")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Change, Desired, Key, Origin, Spec};

    fn overview(desired: Option<&str>, present: &str, state: &str, reason: Option<&str>) -> Overview {
        let mut all = Desired::default();
        if let Some(reference) = desired {
            let spec = Component { reference: reference.into(), limit: 1, ..Component::default() };
            all.make(&Change::Put(Key::Component("press".into()), Spec::Component(spec)), 1, Origin::Site);
        }
        let present = Present {
            id: "press".into(),
            reference: present.into(),
            limit: 1,
            annotations: Default::default(),
            limits: None,
            origin: Origin::Site,
            revision: 1,
            state: state.into(),
            reason: reason.map(str::to_owned),
            former: (state == "ready").then(|| "old".to_owned()),
            is_here: true,
            provenance: None,
        };
        let components = desired.map(|_| present).into_iter().collect();
        Overview { desired: all, labels: Default::default(), components, troubles: Vec::new(), copy: None }
    }

    #[test]
    fn whoever_waits_is_told_of_what_was_asked_for_and_of_nothing_before_it() {
        // Goal: a version that still runs is not taken for the new one, and what is gone is seen. Method: each standing.
        let seen = |desired, present, state, reason| {
            progress(&overview(desired, present, state, reason), "press", "new")
        };
        assert!(matches!(seen(Some("new"), "old", "ready", None), Progress::Busy(_)));
        assert!(matches!(seen(Some("new"), "new", "fetching", None), Progress::Busy(_)));
        assert!(matches!(seen(Some("new"), "new", "opening", None), Progress::Busy(_)));
        assert_eq!(seen(Some("new"), "new", "ready", None), Progress::Runs { former: Some("old".into()) });
        assert_eq!(seen(Some("new"), "new", "absent", Some("why")), Progress::Waits("why".into()));
        assert_eq!(seen(Some("old"), "old", "ready", None), Progress::TakenBack);
        assert_eq!(seen(None, "old", "ready", None), Progress::TakenBack);
    }
}
