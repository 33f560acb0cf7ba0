//! Crashes, and what becomes of a deployment when the files under it change.

use std::collections::BTreeSet;
use std::fs;

use frond::runtime::{Answer, How, Stage, Standing};

use super::bring_to_work;
use super::rig::{COUNT, Kept, Life, Site, TRIGGER, additions, counted, outputs, relabelled, wasm};

/// How a deployment goes on after its switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Confirmed,
    Fails,
}

/// A whole deployment, in batches of one reading; returns what was on flash.
fn record(site: &mut Site, end: End) -> Vec<Kept> {
    let mut life = site.start(None);
    life.feed(site, &[1.0]);
    assert!(matches!(life.deploy(wasm("successor")), Answer::Done(_)));
    bring_to_work(site, &mut life);
    life.feed(site, &[1.0]);
    if end == End::Fails {
        life.feed(site, &[TRIGGER]);
    }
    life.until_ended();
    life.feed(site, &[2.0]);
    // Alone so that there is a checkpoint after the files were swept.
    life.feed(site, &[COUNT]);
    life.stop()
}

#[test]
fn a_crash_at_any_moment_of_a_deployment_loses_no_reading_and_counts_none_twice() {
    // Goal: whichever checkpoint was the last, the next start is in the phase that it says, or with the old version, and
    // goes on from there: every reading is worked on once, by either version, and every batch is once in the state. Method:
    // from every checkpoint of two deployments, with the files as they were then and when the next one came, the rest of
    // the journal is worked on by another process.
    for end in [End::Confirmed, End::Fails] {
        let probation = if end == End::Fails { "probation = \"1h\"" } else { "" };
        let mut site = Site::new("misbehave", probation, "");
        let kept = record(&mut site, end);
        assert_eq!(counted(&site, &outputs(&kept)), site.groups() as f64);
        assert!(kept.len() >= 4, "opened, switched, ended, stopped: {}", kept.len());
        let mut stages = BTreeSet::new();
        for at in 0..kept.len() {
            for shelf in [&kept[at].shelf, &kept[(at + 1).min(kept.len() - 1)].shelf] {
                let last = Kept { shelf: shelf.clone(), ..kept[at].clone() };
                let mut life = site.start(Some(&last));
                let told = life.until("the component", |_| true).deployment;
                stages.extend(told.map(|told| format!("{:?}", told.stage)));
                life.catch_up(&site);
                let mut whole = kept[..=at].to_vec();
                whole.extend(life.stop());
                let rows = outputs(&whole);
                let added = additions(&site, &rows);
                assert!(added.iter().all(|added| [1.0, 2.0].contains(added)), "{end:?} {at}: {added:?}");
                assert_eq!(counted(&site, &rows), site.groups() as f64, "{end:?} {at}");
            }
        }
        let begun = stages.contains("Opening") || stages.contains("Trial");
        assert!(
            begun && stages.contains("Probation") && stages.contains("Current"),
            "{end:?}: only {stages:?}"
        );
    }
}

/// A site whose deployment is in this stage, and its last checkpoint.
fn in_stage(stage: Stage) -> (Site, Vec<Kept>) {
    let mut site = Site::new("misbehave", "probation = \"1h\"", "");
    let mut life = site.start(None);
    life.feed(&mut site, &[1.0]);
    assert!(matches!(life.deploy(wasm("successor")), Answer::Done(_)));
    life.until_stage(Stage::Trial);
    if stage == Stage::Probation {
        bring_to_work(&mut site, &mut life);
    }
    let kept = life.stop();
    (site, kept)
}

/// Starts from the last checkpoint, feeds, and ends with a count; returns what has left in all.
fn go_on(site: &mut Site, mut kept: Vec<Kept>, meet: impl FnOnce(&mut Site, &mut Life)) -> Vec<(i64, f64)> {
    let mut life = site.start(kept.last());
    meet(site, &mut life);
    life.feed(site, &[COUNT]);
    kept.extend(life.stop());
    outputs(&kept)
}

#[test]
fn a_checkpoint_before_the_first_group_is_at_the_position_of_the_last() {
    // Goal: a start without readings takes nothing back: a lower position would have groups worked on again. The story: the
    // pipeline began at 0, and an order, or windows that close by silence, made a checkpoint there. Method: an order.
    let (site, kept) = in_stage(Stage::Trial);
    let position = kept.last().unwrap().checkpoint.pos;
    assert!(position > 0);
    let mut life = site.start(kept.last());
    life.until_stage(Stage::Trial);
    let after = life.stop();
    assert!(!after.is_empty(), "the trial has begun anew");
    assert!(after.iter().all(|one| one.checkpoint.pos == position));
}

#[test]
fn an_order_that_a_crash_forestalls_is_told_of() {
    // Goal: nobody waits for what was forgotten. Method: the first checkpoint that knows of an order, before anything was open.
    let mut site = Site::new("misbehave", "", "");
    let kept = record(&mut site, End::Confirmed);
    for at in 0..kept.len() {
        let mut life = site.start(Some(&Kept { shelf: Default::default(), ..kept[at].clone() }));
        let Some(told) = life.until("the component", |_| true).deployment else {
            life.stop();
            continue;
        };
        assert_eq!((told.begun, told.last, told.stage), (1, Some(How::Refused), Stage::Current));
        let why = told.last_why.unwrap();
        assert!(why.contains("ended before it was open; deploy it again"), "{why}");
        life.catch_up(&site);
        let mut whole = kept[..=at].to_vec();
        whole.extend(life.stop());
        assert!(additions(&site, &outputs(&whole)).iter().all(|added| *added == 1.0));
        return;
    }
    panic!("no checkpoint knows of the order");
}

#[test]
fn a_trial_begins_anew_after_a_restart_and_a_probation_goes_on() {
    // Goal: the phase is in the checkpoint, with both versions and both states. Method: a restart on trial, which is then
    // passed; one on probation, after which the new version fails.
    let (mut site, kept) = in_stage(Stage::Trial);
    let rows = go_on(&mut site, kept, |site, life| {
        bring_to_work(site, life);
        life.feed(site, &[3.0]);
    });
    assert_eq!(additions(&site, &rows).last(), Some(&2.0));
    assert_eq!(counted(&site, &rows), site.groups() as f64);

    let (mut site, kept) = in_stage(Stage::Probation);
    let rows = go_on(&mut site, kept, |site, life| {
        let left = life.until_stage(Stage::Probation).left_s.unwrap();
        assert!((3_000..3_600).contains(&left), "{left}");
        life.feed(site, &[3.0]);
        life.feed(site, &[TRIGGER]);
        assert_eq!(life.until_ended().last, Some(How::RolledBack));
    });
    assert_eq!(additions(&site, &rows)[7..], [2.0, 1.0]);
    assert_eq!(counted(&site, &rows), site.groups() as f64);
}

#[test]
fn the_configuration_counts_more_than_a_deployment_once_it_names_another_file() {
    // Goal: an image that brings a new version, or somebody who edits, is the newer word; the state goes on, and nothing is
    // left of what was deployed. Method: another content at the configured path, on trial and on probation; the same content
    // under another path changes nothing.
    for stage in [Stage::Trial, Stage::Probation] {
        let (mut site, kept) = in_stage(stage);
        fs::write(site.configured_file(), relabelled("misbehave")).unwrap();
        let rows = go_on(&mut site, kept, |site, life| {
            assert_eq!(life.until_ended().last, Some(How::Superseded));
            life.feed(site, &[3.0]);
        });
        assert_eq!(additions(&site, &rows).last(), Some(&1.0), "{stage:?}");
        assert_eq!(counted(&site, &rows), site.groups() as f64, "{stage:?}");
    }
    let (mut site, kept) = in_stage(Stage::Probation);
    let moved = site.folder.path().join("moved.wasm");
    fs::rename(site.configured_file(), &moved).unwrap();
    site.config.components[0].path = moved;
    let rows = go_on(&mut site, kept, |site, life| {
        life.until_stage(Stage::Probation);
        life.feed(site, &[3.0]);
    });
    assert_eq!(additions(&site, &rows).last(), Some(&2.0));
}

#[test]
fn a_component_that_is_no_longer_configured_leaves_nothing() {
    // Goal: what was deployed of it is forgotten, and its files go. Method: a restart without it, and another component so
    // that there is somebody to sweep; then with it again.
    let (mut site, kept) = in_stage(Stage::Probation);
    assert_eq!(site.files().len(), 1);
    site.config.components[0].name = "other".to_owned();
    site.config.streams[0].component = Some("other".to_owned());
    let mut life = site.start(kept.last());
    life.feed(&mut site, &[3.0]);
    let without = life.stop();
    site.config.components[0].name = "guest".to_owned();
    site.config.streams[0].component = Some("guest".to_owned());
    let mut life = site.start(without.last());
    life.feed(&mut site, &[4.0]);
    let guest = life.until("the component", |_| true);
    assert_eq!(guest.deployment, None);
    let last = life.stop();
    assert!(last.last().unwrap().shelf.is_empty(), "its files are gone");
}

#[test]
fn a_deployed_file_that_is_damaged_is_never_run() {
    // Goal: on probation the old version is back, with its state; a confirmed one is complained of, its state kept, and it is
    // taken when it is deployed again. Method: a flipped bit before a restart, in both.
    let damage = |kept: &mut Vec<Kept>| {
        for bytes in kept.last_mut().unwrap().shelf.values_mut() {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
    };
    let (mut site, mut kept) = in_stage(Stage::Probation);
    damage(&mut kept);
    let rows = go_on(&mut site, kept, |site, life| {
        let ended = life.until_ended();
        assert_eq!(ended.last, Some(How::RolledBack));
        assert!(ended.last_why.unwrap().contains("is damaged"));
        life.feed(site, &[3.0]);
    });
    assert_eq!(additions(&site, &rows).last(), Some(&1.0));
    assert_eq!(counted(&site, &rows), site.groups() as f64);

    let mut site = Site::new("misbehave", "fallback = \"hold\"", "");
    let mut kept = record(&mut site, End::Confirmed);
    damage(&mut kept);
    let rows = go_on(&mut site, kept, |site, life| {
        let absent = life.until("a complaint", |stats| stats.standing == Standing::Absent);
        assert!(absent.absent.unwrap().contains("deploy the version again"));
        site.journal(&[3.0]);
        life.catch_up(site);
        assert!(matches!(life.deploy(wasm("successor")), Answer::Done(_)));
        life.until("it is at work", |stats| stats.standing == Standing::Running);
    });
    let committed = site.committed();
    assert_eq!(rows.len(), committed.len());
    assert_eq!(counted(&site, &rows), site.groups() as f64);
}
