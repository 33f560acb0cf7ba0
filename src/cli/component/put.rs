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
use crate::control::{Command, Component, Item, Overview, Present, Replacing, Told};

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
    /// It is not desired like this any more.
    Gone(Left),
}

/// What is desired instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Another,
}

/// Puts it. The exit code is 0 when it runs, and [`Exit::Degraded`] while it waits for somebody.
pub(super) async fn run(args: PutArgs) -> anyhow::Result<Exit> {
    let PutArgs { id, reference, limit, with, detach, gateway } = args;
    let wanted = Component { reference, limit, config: with, ..Component::default() };
    let (component, replacing) = (wanted.clone(), Replacing::Allowed);
    let command = Command::Scale { id: id.clone(), component, replacing };
    match say(&gateway, command).await? {
        Exit::Ok if !detach && limit > 0 => follow(&gateway, &id, &wanted).await,
        exit => Ok(exit),
    }
}

async fn follow(gateway: &GatewayArgs, id: &str, wanted: &Component) -> anyhow::Result<Exit> {
    let deadline = Instant::now() + FOLLOW_MAX;
    let mut before = None;
    while Instant::now() < deadline {
        let progress = progress(&overview(gateway).await?, id, wanted);
        match &progress {
            Progress::Runs { former: None } => {
                output::line("it runs");
                return Ok(Exit::Ok);
            }
            Progress::Runs { former: Some(former) } => {
                output::line(format_args!("it runs, on probation; {former} is back should it fail"));
                return Ok(Exit::Ok);
            }
            Progress::Gone(left) => {
                eprintln!("frond: {}", why(gateway, id, *left).await?);
                return Ok(Exit::Failure);
            }
            // Seen twice, it is not about to be taken back.
            Progress::Waits(why) if before.as_ref() == Some(&progress) => {
                output::entry(format_args!("it waits, and is tried again by itself: {why}"));
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

fn progress(overview: &Overview, id: &str, wanted: &Component) -> Progress {
    let Some(Item { spec, .. }) = overview.desired.components.get(id) else {
        return Progress::Gone(Left::Nothing);
    };
    // Without any it keeps those it had.
    let is_configured = wanted.config.is_empty() || spec.config == wanted.config;
    let is_it = is_configured && (&spec.reference, spec.limit) == (&wanted.reference, wanted.limit);
    let Some(present) = overview.components.iter().find(|one| one.id == id).filter(|_| is_it) else {
        return Progress::Gone(Left::Another);
    };
    let Present { state, reason, former, is_behind, .. } = present;
    match (state.as_str(), reason) {
        (_, Some(why)) if *is_behind => Progress::Waits(why.clone()),
        _ if *is_behind => {
            Progress::Busy("its artifact is fetched and compiled, and what was before goes on")
        }
        ("ready", _) => Progress::Runs { former: former.clone() },
        ("fetching", _) => Progress::Busy("its artifact is fetched and compiled"),
        (_, None) => Progress::Busy("it is opened"),
        (_, Some(why)) => Progress::Waits(why.clone()),
    }
}

/// What the gateway's history says of it.
async fn why(gateway: &GatewayArgs, id: &str, left: Left) -> anyhow::Result<String> {
    let lines: Vec<Told> = console::ask(&gateway.socket()?, Request::History { newest: LINES }).await?;
    Ok(account(id, left, lines.into_iter().map(|line| line.text)))
}

/// The newest of the history's lines about it, the newest first, and what is desired now.
fn account(id: &str, left: Left, mut lines: impl Iterator<Item = String>) -> String {
    let begins = [format!("component {id} is "), format!("component {id} has failed ")];
    let is_about_it = |line: &String| begins.iter().any(|begin| line.starts_with(begin));
    match (lines.find(is_about_it), left) {
        (Some(line), Left::Another) if line.contains(" is taken back: ") => {
            format!("{line}; what was before is desired again")
        }
        (Some(line), Left::Nothing) if line.contains(" is taken back: ") => {
            format!("{line}; it is not desired any more")
        }
        (Some(line), _) => format!("something else was asked for since: {line}"),
        (None, _) => format!("component {id} is not desired like this any more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Change, Desired, Key, Origin, Spec};

    fn component(reference: &str) -> Component {
        Component { reference: reference.into(), limit: 1, ..Component::default() }
    }

    fn overview(desired: Option<&str>, is_behind: bool, state: &str, reason: Option<&str>) -> Overview {
        let mut all = Desired::default();
        if let Some(reference) = desired {
            let spec = Spec::Component(component(reference));
            all.make(&Change::Put(Key::Component("press".into()), spec), 1, Origin::Site);
        }
        let present = Present {
            id: "press".into(),
            reference: "as it runs".into(),
            limit: 1,
            config: Vec::new(),
            annotations: Default::default(),
            limits: None,
            origin: Origin::Site,
            revision: 1,
            state: state.into(),
            reason: reason.map(str::to_owned),
            former: (state == "ready").then(|| "old".to_owned()),
            is_here: true,
            is_behind,
            provenance: None,
        };
        let components = desired.map(|_| present).into_iter().collect();
        Overview { desired: all, labels: Default::default(), components, troubles: Vec::new(), copy: None }
    }

    #[test]
    fn whoever_waits_is_told_of_what_was_asked_for_and_of_nothing_before_it() {
        // Goal: what still runs as it was before is not taken for what was asked for, and what is gone is seen. Method: each
        // standing; a reference that stays with a configuration that does not.
        let seen = |desired, is_behind, state, reason| {
            progress(&overview(desired, is_behind, state, reason), "press", &component("new"))
        };
        assert!(matches!(seen(Some("new"), true, "ready", None), Progress::Busy(_)));
        assert!(matches!(seen(Some("new"), false, "fetching", None), Progress::Busy(_)));
        assert!(matches!(seen(Some("new"), false, "opening", None), Progress::Busy(_)));
        assert_eq!(seen(Some("new"), true, "ready", Some("why")), Progress::Waits("why".into()));
        assert_eq!(seen(Some("new"), false, "ready", None), Progress::Runs { former: Some("old".into()) });
        assert_eq!(seen(Some("new"), false, "absent", Some("why")), Progress::Waits("why".into()));
        assert_eq!(seen(Some("old"), false, "ready", None), Progress::Gone(Left::Another));
        assert_eq!(seen(None, false, "ready", None), Progress::Gone(Left::Nothing));
        let wanted = Component { config: vec!["more".into()], ..component("new") };
        let mut had = overview(Some("new"), false, "ready", None);
        assert_eq!(progress(&had, "press", &wanted), Progress::Gone(Left::Another));
        had.desired.make(
            &Change::Put(Key::Component("press".into()), Spec::Component(wanted)),
            2,
            Origin::Site,
        );
        assert!(matches!(progress(&had, "press", &component("new")), Progress::Runs { .. }), "it keeps them");
    }

    #[test]
    fn the_reason_is_the_newest_line_about_it_and_none_of_another_kind() {
        // Goal: nobody is told that something was taken back that was not. Method: histories, the newest line first.
        let told = |left, lines: &[&str]| account("press", left, lines.iter().map(|line| (*line).to_owned()));
        let back = "component press is taken back: it is no WebAssembly component";
        let others = "component pressing is taken back: no";
        assert_eq!(told(Left::Another, &[others, back]), format!("{back}; what was before is desired again"));
        assert_eq!(told(Left::Nothing, &[back]), format!("{back}; it is not desired any more"));
        let failed = "component press has failed its probation and is taken back: trap";
        assert_eq!(told(Left::Another, &[failed]), format!("{failed}; what was before is desired again"));
        let run = "component press is to run file:///b at 1";
        assert_eq!(told(Left::Another, &[run, back]), format!("something else was asked for since: {run}"));
        assert_eq!(told(Left::Nothing, &[others]), "component press is not desired like this any more");
    }
}
