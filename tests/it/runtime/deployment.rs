//! Another version of a component at work: tried, switched, confirmed or taken back, and in no case a reading lost or
//! counted twice, nor a batch missing from the state.
//!
//! The old version, `misbehave`, adds 1 to every value, the new one, `successor`, adds 2, so that every reading that has left
//! tells who worked on it. Both count batches in their state, which is asked for at the end.

mod crash;
mod power;
pub(super) mod rig;

use frond::runtime::{Answer, How, Inheritance, Order, Stage};

use rig::{COUNT, Site, TRIGGER, additions, counted, outputs, relabelled, wasm};

/// What a sound trial and its end have in common: three batches, and the switch.
fn bring_to_work(site: &mut Site, life: &mut rig::Life) {
    life.until_stage(Stage::Trial);
    for n in 0..3 {
        life.feed(site, &[f64::from(n), 5.0]);
    }
    life.until_stage(Stage::Probation);
}

#[test]
fn a_sound_version_takes_over_with_the_state_and_every_reading_counts_once() {
    // Goal: one change, at one moment, from the old to the new version; no batch is missing from the state or in it twice;
    // the pipeline is held up for less than a commit interval; what was deployed is there after a restart. Method: batches
    // before, during the trial, on probation, after it, and after a restart.
    let mut site = Site::new("misbehave", "", "");
    let mut life = site.start(None);
    for n in 0..10 {
        life.feed(&mut site, &[f64::from(n); 7]);
    }
    assert!(matches!(life.deploy(wasm("successor")), Answer::Done(_)));
    bring_to_work(&mut site, &mut life);
    life.feed(&mut site, &[1.0, 2.0]);
    let stats = life.until("the end of the probation", |stats| {
        stats.deployment.as_ref().is_some_and(|one| one.last == Some(How::Confirmed))
    });
    let deployment = stats.deployment.clone().unwrap();
    assert_eq!((deployment.begun, deployment.confirmed, deployment.stage), (1, 1, Stage::Current));
    assert!(deployment.deployed);
    let interval = site.config.journal.commit_interval;
    assert!(u128::from(deployment.switch_us.unwrap()) < interval.as_micros(), "{deployment:?}");
    println!("the switch took {} us", deployment.switch_us.unwrap());
    let total = site.committed().len() as u64;
    assert_eq!((stats.readings_in, stats.readings_out, stats.passed_by), (total, total, 0), "{stats:?}");
    life.feed(&mut site, &[3.0]);
    let mut kept = life.stop();

    let mut life = site.start(kept.last());
    life.feed(&mut site, &[4.0]);
    life.feed(&mut site, &[COUNT]);
    assert!(life.until_stage(Stage::Current).deployed, "it is there after a restart");
    kept.extend(life.stop());
    let rows = outputs(&kept);
    let added = additions(&site, &rows);
    assert!(added.is_sorted() && added.first() == Some(&1.0) && added.last() == Some(&2.0), "{added:?}");
    assert_eq!(counted(&site, &rows), site.groups() as f64, "batches in the state");
    assert_eq!(site.files().len(), 1, "one version is kept");
}

#[test]
fn a_version_that_cannot_be_opened_never_touches_the_stream() {
    // Goal: whatever is wrong with a file or with what it does at its start, the old version does not notice, and the
    // operator is told. Method: each kind, one after the other.
    let whole = wasm("successor");
    let cut = whole[..whole.len() / 2].to_vec();
    let options = |mode: &str| format!("successor = \"{mode}\"");
    for (mode, file, said) in [
        ("", b"not wasm at all".to_vec(), "does not compile"),
        ("", b"\0asm\x01\0\0\0".to_vec(), "does not compile"),
        ("", b"\0asm\x0d\0\x01\0".to_vec(), "does not fit the contract"),
        ("", cut, "does not compile"),
        ("", wasm("ungranted"), "which is not granted"),
        ("", wasm("misbehave"), "at work already"),
        ("", wasm("limits"), "refuses its configuration"),
        ("refuse", whole.clone(), "refuses its configuration"),
        ("refuse-state", whole.clone(), "does not know such a state"),
        ("trap-in-restore", whole.clone(), "does not take the state of the old one: trap"),
        ("loop-in-restore", whole.clone(), "longer than its deadline"),
    ] {
        let mut site = Site::new("misbehave", "deadline = \"2s\"", &options(mode));
        let mut life = site.start(None);
        life.feed(&mut site, &[1.0]);
        assert!(matches!(life.deploy(file), Answer::Done(_)));
        let ended = life.until_ended();
        assert_eq!((ended.last, ended.refused, ended.deployed), (Some(How::Refused), 1, false), "{said}");
        let why = ended.last_why.unwrap();
        assert!(why.contains(said), "{why:?} does not say {said:?}");
        life.feed(&mut site, &[COUNT]);
        let kept = life.stop();
        assert_eq!(counted(&site, &outputs(&kept)), 2.0, "{said}");
        assert_eq!(additions(&site, &outputs(&kept)), [1.0], "{said}");
    }
}

#[test]
fn a_version_that_fails_on_trial_never_is_at_work() {
    // Goal: its first failure ends it, and costs the stream nothing but its deadline, once. Method: each kind of failure in
    // the second batch of the trial; and what shows when its state is asked for.
    for (mode, said) in [
        ("trap", "trap"),
        ("loop", "longer than its deadline"),
        ("grow", "more memory"),
        ("not-finite", "does not hold"),
        ("trap-in-snapshot", "trap"),
        ("huge-snapshot", "larger than state_bytes_max"),
    ] {
        let mut site = Site::new("misbehave", "deadline = \"2s\"", &format!("successor = \"{mode}\""));
        let mut life = site.start(None);
        life.feed(&mut site, &[1.0]);
        assert!(matches!(life.deploy(wasm("successor")), Answer::Done(_)));
        life.until_stage(Stage::Trial);
        life.feed(&mut site, &[2.0]);
        life.feed(&mut site, &[TRIGGER, 4.0]);
        life.feed(&mut site, &[5.0]);
        let ended = life.until_ended();
        assert_eq!((ended.last, ended.refused), (Some(How::Refused), 1), "{mode}");
        let why = ended.last_why.unwrap();
        assert!(why.contains(said), "{mode}: {why:?} does not say {said:?}");
        life.feed(&mut site, &[COUNT]);
        let stats = life.until("the component", |_| true);
        let total = site.committed().len() as u64;
        assert_eq!((stats.readings_in, stats.passed_by, stats.traps), (total, 0, 0), "{mode}");
        let kept = life.stop();
        let rows = outputs(&kept);
        assert_eq!(additions(&site, &rows), [1.0; 5], "{mode}");
        assert_eq!(counted(&site, &rows), site.groups() as f64, "{mode}");
    }
}

#[test]
fn a_version_that_fails_on_probation_is_replaced_by_the_old_one_as_if_it_had_never_gone() {
    // Goal: the batch on which it fails is worked on by the old version, once, and that has every batch in its state. Method:
    // each kind of failure, in a batch of more than one call's readings, whose first call succeeds.
    for (mode, said) in [
        ("trap", "trap"),
        ("loop", "longer than its deadline"),
        ("grow", "more memory"),
        ("not-finite", "does not hold"),
    ] {
        let mut site = Site::new(
            "misbehave",
            "deadline = \"2s\"\nprobation = \"1h\"",
            &format!("successor = \"{mode}\""),
        );
        let mut life = site.start(None);
        life.feed(&mut site, &[1.0]);
        assert!(matches!(life.deploy(wasm("successor")), Answer::Done(_)));
        bring_to_work(&mut site, &mut life);
        life.feed(&mut site, &[1.0, 2.0]);
        let mut rows = vec![1.0; 8_192];
        rows.extend([2.0, TRIGGER, 3.0]);
        life.feed(&mut site, &rows);
        let ended = life.until_ended();
        assert_eq!(
            (ended.last, ended.rolled_back, ended.deployed),
            (Some(How::RolledBack), 1, false),
            "{mode}"
        );
        let why = ended.last_why.unwrap();
        assert!(why.contains(said), "{mode}: {why:?} does not say {said:?}");
        life.feed(&mut site, &[7.0, 8.0]);
        life.feed(&mut site, &[COUNT]);
        let stats = life.until("the component", |_| true);
        let total = site.committed().len() as u64;
        assert_eq!((stats.readings_out, stats.passed_by, stats.dropped), (total, 0, 0), "{mode}: {stats:?}");
        let kept = life.stop();
        let rows = outputs(&kept);
        let added = additions(&site, &rows);
        let mut expected = vec![1.0; 1 + 6];
        expected.extend([2.0; 2]);
        expected.resize(added.len(), 1.0);
        assert_eq!(added, expected, "{mode}");
        // A batch of 8,195 readings is two of the component's.
        assert_eq!(counted(&site, &rows), site.groups() as f64 + 1.0, "{mode}");
    }
}

#[test]
fn what_a_version_on_trial_registers_is_not_kept() {
    // Goal: a trial leaves nothing in the store. Method: one that makes a series of its own, on trial and then at work.
    let mut site = Site::new("misbehave", "", "successor = \"derive\"");
    let mut life = site.start(None);
    life.feed(&mut site, &[1.0]);
    assert!(matches!(life.deploy(wasm("successor")), Answer::Done(_)));
    life.until_stage(Stage::Trial);
    for _ in 0..3 {
        life.feed(&mut site, &[TRIGGER]);
    }
    assert!(!site.has_series("made/1"));
    life.until_stage(Stage::Probation);
    life.feed(&mut site, &[TRIGGER]);
    assert!(site.has_series("made/1"));
    assert_eq!(additions(&site, &outputs(&life.stop())), [1.0, 1.0, 1.0, 1.0, 2.0]);
}

#[test]
fn an_operator_may_take_a_version_back_while_it_is_not_confirmed() {
    // Goal: a word ends a deployment wherever it is; orders that make no sense are refused, with the reason. Method: on trial,
    // on probation, and when there is nothing.
    let mut site = Site::new("misbehave", "probation = \"1h\"", "");
    let mut life = site.start(None);
    life.feed(&mut site, &[1.0]);
    let refused = |answer: Answer, said: &str| {
        let Answer::Refused(why) = answer else { panic!("not refused: {said}") };
        assert!(why.contains(said), "{why:?} does not say {said:?}");
    };
    refused(life.roll_back(), "no deployment of component guest is under way");
    refused(life.order(Order::Rollback { component: "nobody".into() }), "no component nobody");
    assert!(matches!(life.deploy(wasm("successor")), Answer::Done(_)));
    life.until_stage(Stage::Trial);
    refused(life.deploy(wasm("successor")), "is under way");
    assert!(matches!(life.roll_back(), Answer::Done(_)));
    assert_eq!(life.until_ended().rolled_back, 1);

    assert!(matches!(life.deploy(wasm("successor")), Answer::Done(_)));
    bring_to_work(&mut site, &mut life);
    life.feed(&mut site, &[1.0]);
    assert!(matches!(life.roll_back(), Answer::Done(_)));
    let ended = life.until("the old one", |stats| {
        stats.deployment.as_ref().is_some_and(|one| one.stage == Stage::Current && one.rolled_back == 2)
    });
    assert_eq!(ended.deployment.unwrap().last_why.unwrap(), "an operator has taken it back");
    life.feed(&mut site, &[COUNT]);
    let rows = outputs(&life.stop());
    assert_eq!(additions(&site, &rows), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0]);
    assert_eq!(counted(&site, &rows), site.groups() as f64);
}

#[test]
fn a_version_that_knows_another_state_may_begin_without_one() {
    // Goal: what is refused with the state is taken without, if somebody says so. Method: both.
    let mut site = Site::new("misbehave", "", "successor = \"refuse-state\"");
    let mut life = site.start(None);
    life.feed(&mut site, &[1.0]);
    assert!(matches!(life.deploy(wasm("successor")), Answer::Done(_)));
    assert!(life.until_ended().last_why.unwrap().contains("--fresh-state"));
    assert!(matches!(life.deploy_with(wasm("successor"), Inheritance::Fresh), Answer::Done(_)));
    bring_to_work(&mut site, &mut life);
    life.feed(&mut site, &[COUNT]);
    assert_eq!(counted(&site, &outputs(&life.stop())), 1.0);
}

#[test]
fn a_shipped_component_goes_on_in_the_middle_of_its_window() {
    // Goal: what comes of a window that was open at the switch, or through a failed probation, is what would have come
    // without. Method: the downsampler, undisturbed; replaced by itself under another digest; replaced by one that fails.
    let options = "series = \"*: 1s\"";
    let feed = |site: &mut Site, life: &mut rig::Life, values: std::ops::Range<i32>| {
        values.for_each(|n| life.feed(site, &[f64::from((n * 37) % 100)]));
    };
    let mut undisturbed = Site::new("downsample", "", options);
    let mut life = undisturbed.start(None);
    feed(&mut undisturbed, &mut life, 0..45);
    let expected = outputs(&life.stop());
    assert!(expected.len() >= 12, "{expected:?}");

    let mut replaced = Site::new("downsample", "", options);
    let mut life = replaced.start(None);
    feed(&mut replaced, &mut life, 0..15);
    assert!(matches!(life.deploy(relabelled("downsample")), Answer::Done(_)));
    life.until_stage(Stage::Trial);
    feed(&mut replaced, &mut life, 15..19);
    life.until_stage(Stage::Probation);
    feed(&mut replaced, &mut life, 19..45);
    assert_eq!(outputs(&life.stop()), expected);

    let mut failed = Site::new("downsample", "", options);
    let mut life = failed.start(None);
    feed(&mut failed, &mut life, 0..11);
    assert!(matches!(life.deploy(wasm("successor")), Answer::Done(_)));
    life.until_stage(Stage::Trial);
    feed(&mut failed, &mut life, 11..14);
    life.until_stage(Stage::Probation);
    feed(&mut failed, &mut life, 14..17);
    assert!(matches!(life.roll_back(), Answer::Done(_)));
    feed(&mut failed, &mut life, 17..45);
    let mut rows = outputs(&life.stop());
    // What the other version gave while it was at work is beside it.
    let others = failed.committed().into_iter().skip(14).take(3).map(|(time, value)| (time, value + 2.0));
    for other in others {
        let at = rows.iter().position(|row| *row == other).expect("it was at work");
        rows.remove(at);
    }
    assert_eq!(rows, expected);
}
