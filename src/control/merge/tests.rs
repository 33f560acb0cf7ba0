//! The rule, arrow by arrow; and what holds whatever two ends do.

use proptest::prelude::*;

use super::*;
use crate::control::command::Pairs;
use crate::control::desired::{Component, Link, Provider};

fn values(text: &str) -> Pairs {
    Pairs::from([("k".to_owned(), text.to_owned())])
}

fn config(name: &str, text: Option<&str>) -> Change {
    let key = Key::Config(name.to_owned());
    match text {
        Some(text) => Change::Put(key, Spec::Config(values(text))),
        None => Change::Remove(key),
    }
}

fn told(name: &str, text: Option<&str>) -> Entry {
    let content = text.map_or(Content::Nothing, |text| Content::Config(values(text)));
    Entry { key: EntryKey::Config(name.to_owned()), revision: 1, content }
}

fn link(source: &str, target: &str, configs: &[&str]) -> Link {
    Link {
        source_id: source.to_owned(),
        target: target.to_owned(),
        name: "default".to_owned(),
        wit_namespace: "wasi".to_owned(),
        wit_package: "keyvalue".to_owned(),
        interfaces: vec!["store".to_owned()],
        source_config: configs.iter().map(|name| (*name).to_owned()).collect(),
        ..Link::default()
    }
}

fn links(source: &str, links: Vec<Link>) -> Entry {
    Entry { key: EntryKey::Links(source.to_owned()), revision: 1, content: Content::Links(links) }
}

/// A copy, and what is pending of it.
#[derive(Clone, Default)]
struct Bench {
    desired: Desired,
    pending: Pending,
}

impl Bench {
    /// A change on site while the hub is away.
    fn on_site(&mut self, change: Change) -> Result<(), Refusal> {
        let marks = mark(&self.desired, &self.pending, std::slice::from_ref(&change))?;
        for (key, base) in marks {
            match base {
                Some(base) => drop(self.pending.insert(key, base)),
                None => drop(self.pending.remove(&key)),
            }
        }
        self.desired.make(&change, self.desired.revision + 1, Origin::Site);
        Ok(())
    }

    /// Takes what the hub tells, and returns what the history says.
    fn hear(&mut self, entries: &[Entry]) -> Vec<String> {
        let merged = merge(&self.desired, &self.pending, entries);
        let mut said = Vec::new();
        for turn in merged.turns {
            for change in &turn.changes {
                self.desired.make(change, self.desired.revision + 1, turn.origin);
            }
            turn.settled.iter().for_each(|key| drop(self.pending.remove(key)));
            said.push(turn.text);
        }
        said
    }

    fn config(&self, name: &str) -> Option<String> {
        self.desired.configs.get(name).map(|item| item.spec["k"].clone())
    }
}

#[test]
fn what_the_hub_tells_is_held_and_told_once() {
    // Goal: the plain way, and no word about nothing: flash is written for what changed only. Method: an entry, the same
    // again, another, its deletion.
    let mut bench = Bench::default();
    assert_eq!(bench.hear(&[told("c", Some("1"))]), ["the lattice: configuration c has 1 values"]);
    assert!(bench.hear(&[told("c", Some("1"))]).is_empty());
    bench.hear(&[told("c", Some("2"))]);
    assert_eq!(bench.config("c").as_deref(), Some("2"));
    assert_eq!(bench.desired.configs["c"].origin, Origin::Lattice);
    assert_eq!(bench.hear(&[told("c", None)]), ["the lattice: configuration c is gone"]);
    assert_eq!((bench.config("c"), bench.hear(&[told("c", None)])), (None, vec![]));
}

#[test]
fn a_change_on_site_is_written_where_the_hub_has_what_it_had() {
    // Goal: the first line of the rule. Method: change, removal and addition on site; the hub tells what it had, and each is
    // still to be written; then what was written, and each is settled.
    let mut bench = Bench::default();
    bench.hear(&[told("a", Some("1")), told("b", Some("1"))]);
    bench.on_site(config("a", Some("2"))).unwrap();
    bench.on_site(config("b", None)).unwrap();
    bench.on_site(config("c", Some("2"))).unwrap();
    assert!(bench.hear(&[told("a", Some("1")), told("b", Some("1")), told("c", None)]).is_empty());
    let offered = offers(&bench.desired, &bench.pending);
    let names: Vec<_> = offered.iter().map(|offer| (name(&offer.key), offer.ours.is_some())).collect();
    let expected = [("a", true), ("c", true), ("b", false)];
    assert_eq!(names, expected.map(|(name, is_there)| (format!("configuration {name}"), is_there)));
    let said = bench.hear(&[told("a", Some("2")), told("b", None), told("c", Some("2"))]);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said.iter().all(|text| text.contains("the lattice has the change made on site")), "{said:?}");
    assert!(bench.pending.is_empty());
    assert_eq!((bench.config("a").as_deref(), bench.config("b")), (Some("2"), None));
}

#[test]
fn what_the_hub_changed_meanwhile_wins_and_the_history_says_so() {
    // Goal: the last line of the rule. Method: both ends change a configuration, both in every way.
    let ways = [Some("1"), Some("2"), Some("3"), None];
    let way = |n: usize| ways[n % ways.len()];
    for (before, ours, theirs) in (0..64).map(|n| (way(n), way(n / 4), way(n / 16))) {
        let mut bench = Bench::default();
        bench.hear(&[told("c", before)]);
        if bench.config("c").as_deref() != ours {
            bench.on_site(config("c", ours)).unwrap();
        }
        let was_pending = !bench.pending.is_empty();
        assert_eq!(was_pending, before != ours);
        let said = bench.hear(&[told("c", theirs)]);
        let case = format!("{before:?} {ours:?} {theirs:?}: {said:?}");
        match (was_pending, theirs) {
            (true, theirs) if theirs == ours => {
                assert!(said[0].contains("has the change made on site"), "{case}");
                assert_eq!(bench.config("c").as_deref(), ours, "{case}");
            }
            (true, theirs) if theirs == before => {
                assert!(said.is_empty() && bench.pending.len() == 1, "{case}");
                assert_eq!(bench.config("c").as_deref(), ours, "{case}");
                continue;
            }
            (true, _) => {
                assert!(said[0].contains("is dropped"), "{case}");
                assert_eq!(bench.config("c").as_deref(), theirs, "{case}");
            }
            (false, _) => assert_eq!(bench.config("c").as_deref(), theirs, "{case}"),
        }
        assert!(bench.pending.is_empty(), "{case}");
    }
}

#[test]
fn a_change_that_is_changed_back_is_pending_no_longer() {
    // Goal: what the lattice has need not be written to it. Method: there and back, by a value and by a removal.
    let mut bench = Bench::default();
    bench.hear(&[told("c", Some("1"))]);
    for way in [Some("2"), None] {
        bench.on_site(config("c", way)).unwrap();
        assert_eq!(bench.pending.len(), 1);
        bench.on_site(config("c", Some("1"))).unwrap();
        assert!(bench.pending.is_empty());
    }
}

#[test]
fn two_links_of_one_component_changed_at_two_ends_both_stay() {
    // Goal: the rule is by item, not by entry. Method: a link more at each end of one component.
    let mut bench = Bench::default();
    bench.hear(&[links("s", vec![link("s", "a", &[])])]);
    let ours = link("s", "b", &[]);
    bench.on_site(Change::Put(Key::Link(ours.key()), Spec::Link(ours.clone()))).unwrap();
    bench.hear(&[links("s", vec![link("s", "a", &[]), link("s", "c", &[])])]);
    let targets: Vec<_> = bench.desired.links.keys().map(|key| key.target.as_str()).collect();
    assert_eq!((targets, bench.pending.len()), (vec!["a", "b", "c"], 1));
    let said = bench.hear(&[links("s", vec![link("s", "a", &[]), ours, link("s", "c", &[])])]);
    assert_eq!((said.len(), bench.pending.len(), bench.desired.links.len()), (1, 0, 3));
    bench.hear(&[links("s", vec![])]);
    assert!(bench.desired.links.is_empty());
}

#[test]
fn scope_is_what_concerns_this_gateway_and_nothing_else_is_held() {
    // Goal: a lattice's other components cost nothing. Method: a component, a provider, their links and what these name, items
    // put on site, names that no bucket can have; then what is out of scope is let go, and what is pending is not.
    let mut bench = Bench::default();
    let component = Component { config: vec!["cc".into(), "a b".into()], ..Component::default() };
    let provider = Provider { config: vec!["pc".into()], ..Provider::default() };
    for change in [
        Change::Put(Key::Component("c".into()), Spec::Component(component)),
        Change::Put(Key::Provider("p".into()), Spec::Provider(provider)),
        Change::Put(Key::Link(link("c", "p", &["lc"]).key()), Spec::Link(link("c", "p", &["lc"]))),
        Change::Put(Key::Link(link("other", "x", &[]).key()), Spec::Link(link("other", "x", &[]))),
        config("cc", Some("1")),
        config("stray", Some("1")),
    ] {
        bench.desired.make(&change, 1, Origin::Lattice);
    }
    bench.desired.make(&config("site", Some("1")), 1, Origin::Site);
    bench.on_site(config("stray2", Some("1"))).unwrap();
    bench.desired.configs.get_mut("stray2").unwrap().origin = Origin::Lattice;
    let scope = scope(&bench.desired, bench.pending.keys());
    let shown: Vec<String> = scope.iter().map(EntryKey::to_string).collect();
    assert_eq!(
        shown,
        [
            "links of c",
            "links of p",
            "configuration cc",
            "configuration lc",
            "configuration pc",
            "configuration site",
            "configuration stray2"
        ]
    );
    let gone: Vec<String> = prune(&bench.desired, &bench.pending).iter().map(words).collect();
    assert_eq!(gone, ["link default of other to x (wasi:keyvalue) is gone", "configuration stray is gone"]);
    for name in ["", ".", "a.", ".a", "a..b", "a b", "a*", ">", "ü", &"x".repeat(257)] {
        assert!(!EntryKey::Config(name.to_owned()).is_possible(), "{name}");
    }
    assert!(EntryKey::Config("a.b/c=d-e_f".into()).is_possible());
}

#[test]
fn what_is_put_on_site_while_others_write_it_or_the_hub_is_read_is_not_let_go() {
    // Goal: what was put on site, and what the hub has as this site put it, stays. Method: the hub tells of a write before it
    // acknowledges it, so the copy has it as the lattice's: it is put on site all the same. Two others come while the hub is
    // read, in nobody's scope when that began: what goes then is what the lattice has changed.
    let mut bench = Bench::default();
    bench.hear(&[told("same", Some("1")), told("theirs", Some("1"))]);
    assert!(is_news(&bench.desired, &config("same", Some("1")), Origin::Site));
    assert!(!is_news(&bench.desired, &config("same", Some("1")), Origin::Lattice));
    assert!(is_news(&bench.desired, &config("same", Some("2")), Origin::Lattice));
    assert!(!is_news(&bench.desired, &config("none", None), Origin::Site));
    let ours = link("x", "y", &[]);
    for change in [config("same", Some("1")), Change::Put(Key::Link(ours.key()), Spec::Link(ours))] {
        bench.desired.make(&change, 1, Origin::Site);
        assert!(
            !is_news(&bench.desired, &change, Origin::Site)
                && !is_news(&bench.desired, &change, Origin::Lattice)
        );
    }
    assert_eq!(prune(&bench.desired, &bench.pending), [config("theirs", None)]);
}

#[test]
fn the_rule_holds_across_a_lattice_of_the_gateways_own() {
    // Goal: what others deleted meanwhile stays deleted, and what was changed here meets the rule. Method: out of the lattice
    // and into it again; between, one is changed here, one there, one at both ends, one is taken away here and one is put.
    let mut bench = Bench::default();
    bench.hear(&["away", "both", "gone", "mine"].map(|name| told(name, Some("1"))));
    let left = bases(&bench.desired, &bench.pending);
    for (name, value) in [("away", None), ("both", Some("2")), ("mine", Some("2")), ("new", Some("2"))] {
        bench.desired.make(&config(name, value), 1, Origin::Site);
    }
    bench.pending = join(&bench.desired, &left);
    let there =
        [("away", Some("1")), ("both", Some("3")), ("gone", None), ("mine", Some("1")), ("new", None)];
    let said = bench.hear(&there.map(|(name, value)| told(name, value)));
    let dropped = "configuration both: the change made on site is dropped, the lattice has another one than this gateway knew of";
    assert_eq!(said, [dropped, "the lattice: configuration gone is gone"]);
    let offered = offers(&bench.desired, &bench.pending);
    let offered: Vec<_> = offered.iter().map(|offer| (name(&offer.key), offer.ours.is_some())).collect();
    let expected = [("mine", true), ("new", true), ("away", false)];
    assert_eq!(offered, expected.map(|(name, is_there)| (format!("configuration {name}"), is_there)));
    assert_eq!((bench.config("mine").as_deref(), bench.config("gone")), (Some("2"), None));
    // The first time the lattice is known to have had nothing.
    let first = join(&bench.desired, &Pending::new());
    assert_eq!(first.len(), 3);
    assert!(first.values().all(|base| *base == Base::of(None)));
}

#[test]
fn what_cannot_be_read_or_is_too_much_is_passed_over_and_what_was_held_stays() {
    // Goal: a controller's slip stops no machine. Method: good words, then bad ones about the same: unreadable, of another
    // source, of another kind, more bytes than a gateway takes.
    let mut bench = Bench::default();
    bench.hear(&[told("c", Some("1")), links("s", vec![link("s", "a", &[])])]);
    let before = bench.desired.clone();
    let huge = Pairs::from([("k".to_owned(), "x".repeat(bounds::CONFIG_BYTES_MAX))]);
    let bad = [
        Entry { content: Content::Unreadable("no JSON"), ..told("c", None) },
        Entry { content: Content::Links(vec![]), ..told("c", None) },
        Entry { content: Content::Config(huge), ..told("c", None) },
        Entry { content: Content::Unreadable("no JSON"), ..links("s", vec![]) },
    ];
    for entry in bad {
        let merged = merge(&bench.desired, &bench.pending, std::slice::from_ref(&entry));
        assert!(merged.turns.is_empty(), "{entry:?}");
        assert!(merged.passed_over[&entry.key].is_some(), "{entry:?}");
    }
    assert_eq!(bench.desired, before);
    let foreign = links("s", vec![link("s", "a", &[]), link("other", "a", &[])]);
    let merged = merge(&bench.desired, &bench.pending, std::slice::from_ref(&foreign));
    assert!(merged.turns.is_empty() && merged.passed_over[&foreign.key].is_some());
    let many = (0..=bounds::LINKS_MAX).map(|n| link("s", &n.to_string(), &[])).collect();
    let merged = merge(&bench.desired, &bench.pending, &[links("s", many)]);
    assert!(merged.passed_over.values().all(Option::is_some));
}

#[test]
fn no_more_changes_wait_than_there_may_be() {
    // Goal: the bound. Method: one too many; another about an item that waits already is fine.
    let mut bench = Bench::default();
    for n in 0..PENDING_MAX {
        bench.on_site(config(&n.to_string(), Some("1"))).unwrap();
    }
    assert!(matches!(bench.on_site(config("more", Some("1"))), Err(Refusal::Full { .. })));
    bench.on_site(config("0", Some("2"))).unwrap();
}

/// What can happen to one of three configurations.
#[derive(Debug, Clone)]
enum Move {
    Site(usize, Option<u8>),
    Hub(usize, Option<u8>),
    /// The link is there for a moment, and breaks after so many writes have been acknowledged, one of them perhaps unheard.
    Meet(usize, bool),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let value = || proptest::option::of(0u8..3);
    let one = prop_oneof![
        (0usize..3, value()).prop_map(|(item, value)| Move::Site(item, value)),
        (0usize..3, value()).prop_map(|(item, value)| Move::Hub(item, value)),
        (0usize..4, any::<bool>()).prop_map(|(writes, heard)| Move::Meet(writes, heard)),
    ];
    proptest::collection::vec(one, 0..40)
}

proptest! {
    // Goal: a lattice of the gateway's own is to the rule what a hub is that is away. Method: any changes on site, then any
    // others in a lattice of its own, or on site without one; what is pending afterwards is the same.
    #[test]
    fn what_is_changed_in_a_lattice_of_its_own_is_pending_as_if_the_hub_had_been_away(
        before in proptest::collection::vec((0usize..3, proptest::option::of(0u8..3)), 0..8),
        after in proptest::collection::vec((0usize..3, proptest::option::of(0u8..3)), 0..8),
    ) {
        let mut bench = Bench::default();
        bench.hear(&[told("a", Some("0")), told("b", Some("1"))]);
        let mut own: Option<(Desired, Pending)> = None;
        for (turn, (item, value)) in before.iter().chain(&after).enumerate() {
            if turn == before.len() {
                own = Some((bench.desired.clone(), bases(&bench.desired, &bench.pending)));
            }
            let value = value.map(|value| value.to_string());
            let name = ["a", "b", "c"][*item];
            if bench.config(name) != value {
                let change = config(name, value.as_deref());
                if let Some((desired, _)) = &mut own {
                    desired.make(&change, 1, Origin::Lattice);
                }
                bench.on_site(change).unwrap();
            }
        }
        let (desired, left) =
            own.unwrap_or_else(|| (bench.desired.clone(), bases(&bench.desired, &bench.pending)));
        prop_assert_eq!(join(&desired, &left), bench.pending);
    }

    // Goal: whatever both ends do, and wherever the link breaks, one undisturbed meeting makes them agree; nothing is pending
    // then, and an item that only one end has touched since they last agreed has that end's value. Method: any moves, against
    // two gateways and a hub by the rule.
    #[test]
    fn both_ends_agree_after_one_undisturbed_meeting(moves in moves()) {
        let names = ["a", "b", "c"];
        let text = |value: Option<u8>| value.map(|value| value.to_string());
        let mut hub: BTreeMap<&str, String> = BTreeMap::new();
        let mut gateways = [Bench::default(), Bench::default()];
        let word = |hub: &BTreeMap<&str, String>| -> Vec<Entry> {
            names.iter().map(|name| told(name, hub.get(name).map(String::as_str))).collect()
        };
        for (turn, step) in moves.iter().chain([&Move::Meet(9, true), &Move::Meet(9, true), &Move::Meet(9, true)]).enumerate() {
            match step {
                Move::Site(item, value) => {
                    let gateway = &mut gateways[turn % 2];
                    let (name, value) = (names[*item], text(*value));
                    if gateway.config(name) != value {
                        gateway.on_site(config(name, value.as_deref())).unwrap();
                    }
                }
                Move::Hub(item, value) => {
                    match text(*value) {
                        Some(value) => drop(hub.insert(names[*item], value)),
                        None => drop(hub.remove(names[*item])),
                    }
                }
                Move::Meet(writes, heard) => {
                    for gateway in &mut gateways {
                        gateway.hear(&word(&hub));
                        let offered = offers(&gateway.desired, &gateway.pending);
                        for (count, offer) in offered.iter().enumerate().take(*writes) {
                            let Key::Config(name) = &offer.key else { unreachable!() };
                            let name = names.into_iter().find(|known| known == name).unwrap();
                            let theirs = hub.get(name).map(|text| Spec::Config(values(text)));
                            if judge(&offer.base, offer.ours.as_ref(), theirs.as_ref()) == Verdict::Ours {
                                match &offer.ours {
                                    Some(Spec::Config(values)) => drop(hub.insert(name, values["k"].clone())),
                                    _ => drop(hub.remove(name)),
                                }
                            }
                            if *heard || count + 1 < *writes {
                                gateway.hear(&[told(name, hub.get(name).map(String::as_str))]);
                            }
                        }
                    }
                }
            }
        }
        for gateway in &mut gateways {
            prop_assert!(gateway.pending.is_empty());
            for name in names {
                prop_assert_eq!(gateway.config(name), hub.get(name).cloned());
            }
        }
    }
}
