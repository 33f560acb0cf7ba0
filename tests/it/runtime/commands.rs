//! Commands of components: who may give which, and when they leave. `valve` gives one for every reading above 80.

use std::time::Duration;

use frond::config;
use frond::runtime::command::AGE_MAX;
use frond::runtime::{Answer, Host, OpenError, Outcome, Processor, Reason, Stage, Standing};

use super::deployment::rig::{Site, relabelled};
use super::{Done, compiler, component, count, float, process, shared_cache};

/// `valve` with topics that it may use.
fn valve(commands: &[&str], options: &[(&str, &str)]) -> config::Component {
    let commands = commands.iter().map(|topic| (*topic).to_owned()).collect();
    config::Component { commands, ..component("valve", options) }
}

fn open(host: &Host, component: &config::Component) -> Result<Processor, OpenError> {
    Processor::open(host, component, compiler(), &shared_cache())
}

fn said(done: &Done) -> Vec<(&str, &str)> {
    let text = |payload| std::str::from_utf8(payload).unwrap();
    done.commands.iter().map(|command| (command.topic.as_str(), text(&command.payload))).collect()
}

#[test]
fn what_may_give_no_command_is_refused_with_the_line_that_would_allow_it() {
    // Goal: nothing moves without a line in the configuration, and no call before the first batch moves anything. Method: no
    // topics; then a command while it is configured.
    let host = Host::new().unwrap();
    let refused = open(&host, &valve(&[], &[])).unwrap_err().to_string();
    let told = "component valve: imports frond:telemetry/commands@0.1.1, which is not granted: commands = [\"TOPIC\"] in its \
                [[component]] would grant it";
    assert_eq!(refused, told);
    let early = open(&host, &valve(&["#"], &[("configure", "open")])).unwrap_err().to_string();
    assert!(early.ends_with("commands are given in process and tick only"), "{early}");
}

#[test]
fn commands_come_with_the_results_of_their_call_and_only_where_they_may_go() {
    // Goal: those of a call that fails are gone, those beyond topics and rate are told of and counted. Method: two readings;
    // a trap behind a command; a topic of somebody else; more than the rate.
    let host = Host::new().unwrap();
    let mut guest = open(&host, &valve(&["own/+/set"], &[])).unwrap();
    let done = process(&mut guest, 0, &[float(1, 1, 81.0), float(1, 2, 5.0), float(1, 3, 90.5)]);
    assert_eq!(said(&done), [("own/valve/set", "close 81"), ("own/valve/set", "close 90.5")]);
    let trapped = process(&mut guest, 1, &[float(1, 4, 82.0), float(1, 5, 666.0)]);
    assert_eq!((trapped.outcome, said(&trapped)), (Outcome::PassedThrough(Reason::Trap), vec![]));
    assert_eq!(count(&guest, |c| &c.commands), 2);

    let mut guest = open(&host, &valve(&["own/+/set"], &[("topic", "their/valve/set")])).unwrap();
    let done = process(&mut guest, 0, &[float(1, 1, 81.0)]);
    assert_eq!(said(&done), []);
    assert_eq!(
        done.alarms[0].message,
        "commands of its [[component]] does not allow the topic \"their/valve/set\""
    );

    assert_eq!(guest.last_refusal(), Some(done.alarms[0].message.as_str()), "the operator is told, too");

    let slow = config::Component { commands_per_second: 1, ..valve(&["#"], &[("times", "12")]) };
    let mut guest = open(&host, &slow).unwrap();
    let done = process(&mut guest, 0, &[float(1, 1, 81.0)]);
    assert_eq!((done.commands.len(), done.alarms.len()), (10, 2), "ten seconds' worth");
    assert_eq!(done.alarms[0].message, "more commands a second than commands_per_second");
    let done = process(&mut guest, 3, &[float(1, 2, 81.0)]);
    assert_eq!((done.commands.len(), count(&guest, |c| &c.commands_refused)), (3, 2 + 9));
}

#[test]
fn a_command_leaves_once_the_state_behind_it_is_on_flash_and_never_again() {
    // Goal: at most once, whatever the power does. Method: a command on a reading, one of a tick; the power goes as soon as
    // each has left. Its reading is not worked on again, and the tick not made again.
    let mut site = Site::new("valve", "commands = [\"own/#\"]", "");
    let mut life = site.start(None);
    life.feed(&mut site, &[95.0]);
    let command = life.command();
    assert_eq!((command.component.as_str(), command.topic.as_str()), ("guest", "own/valve/set"));
    assert_eq!(Some(command.since), life.since, "its age is that of the reading on flash");
    let found = life.last();
    life.stop();
    let mut life = site.start(found.as_ref());
    life.catch_up(&site);
    life.feed(&mut site, &[96.0]);
    assert_eq!(life.command().payload, b"close 96");
    let stats = life.wait("the count", |stats| stats.components["guest"].commands == 1);
    assert_eq!((stats.commands_late, stats.commands_dropped), (0, 0));
    life.stop();

    let site = Site::new("valve", "timer = \"500ms\"\ncommands = [\"own/#\"]", "tick-at = \"2\"");
    let mut life = site.start(None);
    assert_eq!(life.command().payload, b"tick");
    let found = life.last();
    life.stop();
    let mut life = site.start(found.as_ref());
    life.until("three ticks", |stats| stats.ticks >= 3);
    assert!(life.given.try_recv().is_err(), "the second tick was before the power went");
    life.stop();
}

#[test]
fn what_is_worked_on_again_moves_nothing() {
    // Goal: a command whose checkpoint the power cut off is late, and whoever needs it sees that nothing moved. Method: a
    // start from before a reading that is in the journal still; then a new reading.
    let mut site = Site::new("valve", "commands = [\"own/#\"]", "");
    site.journal(&[95.0]);
    let mut life = site.start(None);
    life.catch_up(&site);
    let stats = life.wait("the count", |stats| stats.commands_late == 1);
    assert_eq!(stats.components["guest"].commands, 1);
    life.feed(&mut site, &[96.0]);
    assert_eq!(life.command().payload, b"close 96");
    life.stop();
}

#[test]
fn what_had_to_wait_moves_nothing_late() {
    // Goal: a component that was away and gets what was held back does not act on it. Method: it traps on a reading alone,
    // and another one comes in the pause that follows; then one that it gets at once.
    let keys = "commands = [\"own/#\"]\nfallback = \"hold\"";
    let mut site = Site::new("valve", keys, "");
    let mut life = site.start(None);
    life.feed(&mut site, &[91.0]);
    assert_eq!(life.command().payload, b"close 91", "held readings that need not wait are not late");
    site.journal(&[666.0]);
    site.journal(&[92.0]);
    life.catch_up(&site);
    let late = life.wait("the count", |stats| stats.commands_late == 1);
    assert!(late.components["guest"].traps >= 1);
    life.until("nothing held", |stats| stats.held == 0);
    life.feed(&mut site, &[93.0]);
    assert_eq!(life.command().payload, b"close 93");
    life.stop();
}

#[test]
fn a_command_does_not_wait_for_a_checkpoint_that_nobody_hurries() {
    // Goal: one that is given while another checkpoint is on its way leaves at once all the same. Method: a store that
    // takes its time; a reading whose output wants a checkpoint; then a command.
    let mut site = Site::new("valve", "commands = [\"own/#\"]", "");
    site.config.journal.checkpoint_interval_min = Duration::from_millis(100);
    site.is_slow = true;
    let mut life = site.start(None);
    life.until("a component", |stats| stats.standing == Standing::Running);
    life.feed(&mut site, &[1.0]);
    life.wait("a checkpoint that nobody hurries", |stats| stats.checkpoints == 1);
    life.feed(&mut site, &[95.0]);
    assert_eq!(life.command().payload, b"close 95");
    assert!(life.since.is_some_and(|since| since.elapsed() < AGE_MAX));
    life.stop();
}

#[test]
fn an_instance_that_fails_takes_its_commands_with_it() {
    // Goal: no command without the state behind it. Method: a batch that is two calls, of which the second fails, so that
    // the component goes on from before the first; a state that is larger than it may be.
    let mut site = Site::new("valve", "commands = [\"own/#\"]", "");
    let mut life = site.start(None);
    let mut values = vec![1.0; 8_193];
    (values[0], values[8_192]) = (91.0, 666.0);
    life.feed(&mut site, &values);
    let stats = life.wait("the count", |stats| stats.commands_dropped == 1);
    assert_eq!((stats.components["guest"].commands, stats.components["guest"].traps), (1, 1));
    life.until("another instance", |stats| stats.standing == Standing::Running);
    life.feed(&mut site, &[92.0]);
    assert_eq!(life.command().payload, b"close 92");
    life.stop();

    let keys = "commands = [\"own/#\"]\nstate_bytes_max = \"1KiB\"";
    let mut site = Site::new("valve", keys, "state = \"2000\"");
    let mut life = site.start(None);
    life.feed(&mut site, &[91.0]);
    let stats = life.wait("the count", |stats| stats.commands_dropped == 1);
    assert!(stats.components["guest"].snapshots_rejected >= 1);
    assert!(life.given.try_recv().is_err());
    life.stop();
}

#[test]
fn of_two_versions_one_moves_things() {
    // Goal: neither a trial nor the version before gives a command. Method: the same code beside itself, on trial, then on
    // probation.
    let mut site = Site::new("valve", "commands = [\"own/#\"]\nprobation = \"1h\"", "");
    let mut life = site.start(None);
    life.feed(&mut site, &[1.0]);
    assert!(matches!(life.deploy(relabelled("valve")), Answer::Done(_)));
    life.until_stage(Stage::Trial);
    for value in [91.0, 92.0, 93.0] {
        life.feed(&mut site, &[value]);
    }
    life.until_stage(Stage::Probation);
    for value in [94.0, 95.0] {
        life.feed(&mut site, &[value]);
    }
    for value in ["91", "92", "93", "94", "95"] {
        assert_eq!(life.command().payload, format!("close {value}").into_bytes());
    }
    life.stop();
}
