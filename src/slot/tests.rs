//! The arrows of the module's picture, and the record that outlives them.

use std::time::Duration;

use super::*;

const LONG: Duration = Duration::from_secs(300);

fn record(confirmed: Slot, fallback: bool) -> Option<Record> {
    Some(Record { confirmed, fallback })
}

#[test]
fn a_slot_is_on_trial_until_the_record_names_it() {
    // Goal: what is not on record is not confirmed. Method: every pair of booted and recorded slot.
    for booted in [Slot::A, Slot::B] {
        assert_eq!(Standing::of(booted, None), Standing::Trial(booted), "a new card");
        assert_eq!(Standing::of(booted, record(booted, false)), Standing::Confirmed(booted));
        assert_eq!(Standing::of(booted, record(booted.other(), true)), Standing::Trial(booted));
    }
}

#[test]
fn a_trial_is_confirmed_only_after_unbroken_health() {
    // Goal: a gateway that falters begins its trial anew. Method: the decision at its edges.
    assert_eq!(step(None, LONG), Step::Begin);
    assert_eq!(step(Some(Duration::ZERO), LONG), Step::Wait(LONG));
    assert_eq!(step(Some(LONG - Duration::from_secs(1)), LONG), Step::Wait(Duration::from_secs(1)));
    assert_eq!(step(Some(LONG), LONG), Step::Confirm);
}

#[test]
fn what_was_confirmed_before_can_be_gone_back_to_until_it_is_written_to() {
    // Goal: `rollback` never leads to a slot that holds half a system. Method: a gateway's life, step by step.
    let first = Record::confirming(None, Slot::A);
    assert_eq!(first, Record { confirmed: Slot::A, fallback: false }, "slot b is empty");
    let second = Record::confirming(Some(first.installing()), Slot::B);
    assert_eq!(second, Record { confirmed: Slot::B, fallback: true });
    assert_eq!(
        second.installing(),
        Record { confirmed: Slot::B, fallback: false },
        "slot a is being written"
    );
    assert_eq!(Record::confirming(Some(second), Slot::B), second, "confirmed twice");
}

#[test]
fn the_record_survives_and_its_first_letter_is_the_slot() {
    // Goal: the initramfs reads one letter; nothing else of the format binds it. Method: through a file and back.
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Record::load(folder.path()).unwrap(), None);
    for (confirmed, fallback, text) in [(Slot::A, false, "a"), (Slot::B, true, "b a"), (Slot::A, true, "a b")]
    {
        let record = Record { confirmed, fallback };
        record.store(folder.path()).unwrap();
        assert_eq!(Record::load(folder.path()).unwrap(), Some(record));
        assert_eq!(std::fs::read_to_string(folder.path().join("slot/confirmed")).unwrap().trim(), text);
    }
    for damaged in ["", "c", "\0\0\0", "ab"] {
        assert_eq!(Record::parse(damaged), None, "{damaged:?}");
    }
}

#[test]
fn the_booted_slot_is_what_the_initramfs_wrote() {
    // Goal: only its two words count. Method: what it writes, and what it does not.
    assert_eq!(booted_by("FROND_SLOT=a\n"), Some(Slot::A));
    assert_eq!(booted_by("FROND_SLOT=b\n"), Some(Slot::B));
    assert_eq!(booted_by("FROND_SLOT=\n"), None);
    assert_eq!(booted_by(""), None);
}
