use std::collections::BTreeMap;

use proptest::prelude::*;

use super::routes::{ROUTE_HITS_MAX, ROUTE_TOPIC_BYTES_MAX, ROUTES_MAX};
use super::*;

const ROOMY: Bounds = Bounds { per_client: 1000, total: 100_000 };

fn options(qos: u8) -> Options {
    Options { qos, ..Options::default() }
}

fn tree(filters: &[(u32, &str, u8)]) -> Tree<u32> {
    let mut tree = Tree::new(ROOMY);
    for (client, filter, qos) in filters {
        tree.subscribe(*client, filter, options(*qos)).unwrap();
    }
    tree
}

fn hits(tree: &mut Tree<u32>, topic: &str) -> Vec<(u32, u8)> {
    let mut hits = Vec::new();
    tree.route(topic, None, |_| true, &mut hits);
    hits.iter().map(|hit| (hit.client, hit.qos)).collect()
}

#[test]
fn wildcards_match_as_the_standard_says() {
    // Goal: MQTT 5, 4.7.1 and 4.7.2. Method: the standard's examples, one client for each filter.
    let matched = |filter: &str, topic: &str| !hits(&mut tree(&[(1, filter, 1)]), topic).is_empty();
    for topic in
        ["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"]
    {
        assert!(matched("sport/tennis/player1/#", topic), "{topic}");
    }
    assert!(matched("sport/#", "sport"));
    assert!(matched("sport/tennis/+", "sport/tennis/player1"));
    assert!(!matched("sport/tennis/+", "sport/tennis/player1/ranking"));
    assert!(!matched("sport/+", "sport"));
    assert!(matched("sport/+", "sport/"));
    assert!(matched("+/+", "/finance"));
    assert!(matched("/+", "/finance"));
    assert!(!matched("+", "/finance"));
    assert!(!matched("#", "$SYS/uptime"));
    assert!(!matched("+/monitor/Clients", "$SYS/monitor/Clients"));
    assert!(matched("$SYS/#", "$SYS/uptime"));
    assert!(matched("$SYS/monitor/+", "$SYS/monitor/Clients"));
    assert!(matched("a//b", "a//b") && !matched("a//b", "a/b"));
}

#[test]
fn a_client_with_overlapping_subscriptions_gets_a_message_once() {
    // Goal: one copy, of the highest quality, with all identifiers (MQTT 5, 3.3.4). Method: three filters of one client
    // and one of another.
    let mut tree = tree(&[(2, "a/b", 0)]);
    for (filter, qos, identifier) in [("a/#", 0, Some(7)), ("a/b", 1, None), ("+/b", 0, Some(9))] {
        let options = Options { qos, identifier, ..Options::default() };
        tree.subscribe(1, filter, options).unwrap();
    }
    let mut found = Vec::new();
    tree.route("a/b", None, |_| true, &mut found);
    let mut identifiers = found[0].identifiers.clone();
    identifiers.sort();
    assert_eq!((found.len(), found[0].client, found[0].qos), (2, 1, 1));
    assert_eq!(identifiers, [7, 9]);
    assert_eq!((found[1].client, found[1].qos), (2, 0));
}

#[test]
fn no_local_spares_the_publisher_and_nobody_else() {
    // Goal: MQTT 5, 3.8.3.1. Method: the same filter with it and without, published by one of the two.
    let mut tree = tree(&[(2, "a", 1)]);
    tree.subscribe(1, "a", Options { no_local: true, ..options(1) }).unwrap();
    let mut found = Vec::new();
    tree.route("a", Some(1), |_| true, &mut found);
    assert_eq!(found.iter().map(|hit| hit.client).collect::<Vec<_>>(), [2]);
    tree.route("a", Some(2), |_| true, &mut found);
    assert_eq!(found.iter().map(|hit| hit.client).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_shared_subscription_goes_round_those_that_can_take() {
    // Goal: each message to one member, in turn, absent ones left out while others are there. Method: three members, one
    // of which cannot; then none; a second group beside them.
    let mut tree =
        tree(&[(1, "$share/g/a", 1), (2, "$share/g/a", 1), (3, "$share/g/a", 1), (4, "$share/h/#", 0)]);
    let mut round = |can: fn(u32) -> bool| {
        let mut found = Vec::new();
        tree.route("a", None, can, &mut found);
        found.iter().map(|hit| hit.client).filter(|client| *client < 4).collect::<Vec<_>>()
    };
    let turns: Vec<_> = (0..6).flat_map(|_| round(|_| true)).collect();
    assert_eq!(turns, [1, 2, 3, 1, 2, 3]);
    let turns: Vec<_> = (0..4).flat_map(|_| round(|client| client != 2)).collect();
    assert_eq!(turns, [1, 3, 1, 3]);
    let turns: Vec<_> = (0..3).flat_map(|_| round(|_| false)).collect();
    assert_eq!(turns, [1, 2, 3], "somebody keeps it");
    let mut found = Vec::new();
    tree.route("a", None, |_| true, &mut found);
    assert_eq!(found.len(), 2, "one of each group");
    tree.subscribe(1, "a", options(0)).unwrap();
    tree.route("a", None, |client| client == 1 || client == 4, &mut found);
    let copies = found.iter().filter(|hit| hit.client == 1).count();
    assert_eq!(copies, 2, "a share and a subscription of its own are two");
}

#[test]
fn filters_that_cannot_be_are_refused() {
    // Goal: nothing invalid enters the tree. Method: each fault once.
    let mut tree = Tree::new(ROOMY);
    for filter in ["$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/#/a"] {
        assert_eq!(tree.subscribe(1, filter, options(0)), Err(Refused::Share), "{filter}");
    }
    for filter in ["", "a/#/b", "a+", "#a", "a\0"] {
        let refused = tree.subscribe(1, filter, options(0));
        assert!(matches!(refused, Err(Refused::Filter(_))), "{filter:?}: {refused:?}");
    }
    assert_eq!(tree.subscribe(1, &"a/".repeat(LEVELS_MAX), options(0)), Err(Refused::Size));
    assert_eq!(tree.subscribe(1, &"a".repeat(FILTER_BYTES_MAX + 1), options(0)), Err(Refused::Size));
    assert!(tree.is_empty() && tree.root.is_empty());
}

#[test]
fn subscriptions_stay_within_their_bounds_and_changing_one_needs_no_room() {
    // Goal: no client takes another's room, and none is locked out of what it has. Method: both bounds, reached.
    let mut tree = Tree::new(Bounds { per_client: 2, total: 3 });
    for (client, filter) in [(1, "a"), (1, "b"), (2, "a")] {
        assert_eq!(tree.subscribe(client, filter, options(0)), Ok(Subscribed::New));
    }
    assert_eq!(tree.subscribe(1, "c", options(0)), Err(Refused::Client(2)));
    assert_eq!(tree.subscribe(2, "b", options(0)), Err(Refused::Total));
    assert_eq!(tree.subscribe(1, "a", options(1)), Ok(Subscribed::Replaced));
    assert_eq!(hits(&mut tree, "a"), [(1, 1), (2, 0)]);
    assert!(tree.unsubscribe(1, "a") && !tree.unsubscribe(1, "a"));
    assert_eq!(tree.subscribe(2, "b", options(0)), Ok(Subscribed::New));
}

#[test]
fn the_tree_is_bounded_in_levels_whatever_is_subscribed_to() {
    // Goal: a flood of deep, different filters costs what the constant says. Method: subscribe until refused; end all.
    let mut tree = Tree::new(Bounds { per_client: usize::MAX, total: usize::MAX });
    let deep = "x/".repeat(LEVELS_MAX - 2);
    let mut made = 0u32;
    while tree.subscribe(made, &format!("{made}/{deep}y"), options(0)).is_ok() {
        made += 1;
    }
    assert!((500..=NODES_MAX as u32 / 100).contains(&made), "{made}");
    assert!(tree.nodes <= NODES_MAX);
    for client in 0..made {
        assert_eq!(tree.forget(client), 1);
    }
    assert!(tree.root.is_empty(), "nothing is left behind");
    assert_eq!((tree.nodes, tree.filter_bytes, tree.len()), (0, 0, 0));
}

#[test]
fn what_is_remembered_of_topics_is_bounded_and_ends_with_the_next_change() {
    // Goal: neither topics nor subscribers fill the memory, and nobody is missed. Method: more topics than are kept, each
    // with forty subscribers; then a change; long topics.
    let filters: Vec<_> = (0..40).map(|client| (client, "#", 0)).collect();
    let mut tree = tree(&filters);
    for n in 0..3_000 {
        assert_eq!(hits(&mut tree, &n.to_string()).len(), 40);
        assert!(tree.routes.hits <= ROUTE_HITS_MAX && tree.routes.by_topic.len() <= ROUTES_MAX);
    }
    assert_eq!(hits(&mut tree, "2999").len(), 40);
    assert!(tree.unsubscribe(7, "#"));
    assert_eq!(hits(&mut tree, "2999").len(), 39);
    assert_eq!(hits(&mut tree, &"x".repeat(1000)).len(), 39);
    assert!(tree.routes.by_topic.keys().all(|topic| topic.len() <= ROUTE_TOPIC_BYTES_MAX));
}

#[test]
fn thousands_of_filters_are_searched_by_level() {
    // Goal: the time of a message does not depend on the number of filters. Method: count the seats that are looked at.
    let mut tree = Tree::new(ROOMY);
    for n in 0..5_000u32 {
        tree.subscribe(n, &format!("plant/{n}/+/temp"), options(0)).unwrap();
    }
    let mut looked_at = 0;
    tree.root.visit(Some("plant/77/a/temp"), Wildcards::Match, &mut |_| looked_at += 1);
    assert_eq!(looked_at, 1);
    assert_eq!(hits(&mut tree, "plant/77/a/temp"), [(77, 0)]);
}

fn levels() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => "[ab]", 1 => Just("+".to_owned()), 1 => Just(String::new()), 1 => Just("$x".to_owned())];
    (prop::collection::vec(level, 1..5), prop::bool::weighted(0.3)).prop_map(|(levels, hash)| {
        let text = levels.join("/");
        if hash { format!("{text}/#") } else { text }
    })
}

fn filters() -> impl Strategy<Value = String> {
    prop_oneof![8 => levels(), 1 => Just("#".to_owned()), 2 => levels().prop_map(|f| format!("$share/g/{f}"))]
}

fn topics() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof![4 => "[ab]", 1 => Just(String::new()), 1 => Just("$x".to_owned())],
        1..6,
    )
    .prop_map(|levels| levels.join("/"))
    .prop_filter("a topic is not empty", |topic| !topic.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_finds_what_a_list_finds(
        steps in prop::collection::vec((0u32..6, filters(), 0u8..3, 0u8..4), 0..60),
        topics in prop::collection::vec(topics(), 1..20),
    ) {
        // Goal: who gets a message is right for any history of subscriptions. Method: a list of them as the model.
        let mut tree = Tree::new(ROOMY);
        let mut model: BTreeMap<(u32, String), u8> = BTreeMap::new();
        for (client, filter, qos, what) in steps {
            if parse(&filter).is_err() {
                prop_assert!(tree.subscribe(client, &filter, options(qos)).is_err());
                continue;
            }
            match what {
                0 => {
                    let known = model.remove(&(client, filter.clone())).is_some();
                    prop_assert_eq!(tree.unsubscribe(client, &filter), known);
                }
                1 => {
                    let before = model.len();
                    model.retain(|(other, _), _| *other != client);
                    prop_assert_eq!(tree.forget(client), before - model.len());
                }
                _ => {
                    let known = model.insert((client, filter.clone()), qos).is_some();
                    let outcome = if known { Subscribed::Replaced } else { Subscribed::New };
                    prop_assert_eq!(tree.subscribe(client, &filter, options(qos)), Ok(outcome));
                }
            }
        }
        prop_assert_eq!(tree.len(), model.len());
        for topic in topics {
            let mut expected: BTreeMap<u32, u8> = BTreeMap::new();
            let mut groups: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
            for ((client, filter), qos) in &model {
                let asked = parse(filter).unwrap();
                if !topic::matches(asked.filter, &topic) {
                    continue;
                }
                match asked.group {
                    None => {
                        let highest = expected.entry(*client).or_insert(*qos);
                        *highest = (*highest).max(*qos);
                    }
                    Some(_) => groups.entry(asked.filter).or_default().push(*client),
                }
            }
            let mut found = Vec::new();
            tree.route(&topic, None, |_| true, &mut found);
            let singles: BTreeMap<u32, u8> =
                found.iter().take(expected.len()).map(|hit| (hit.client, hit.qos)).collect();
            prop_assert_eq!(&singles, &expected, "{}", topic);
            let mut again = Vec::new();
            tree.route(&topic, None, |_| true, &mut again);
            prop_assert_eq!(&again[..expected.len()], &found[..expected.len()], "what is remembered is the same");
            let shared = &found[expected.len()..];
            prop_assert_eq!(shared.len(), groups.len(), "one of each group that matches: {}", topic);
            for hit in shared {
                prop_assert!(groups.values().any(|members| members.contains(&hit.client)));
            }
        }
        for client in 0..6 {
            tree.forget(client);
        }
        prop_assert!(tree.root.is_empty() && tree.nodes == 0 && tree.filter_bytes == 0);
    }

    #[test]
    fn any_text_is_a_filter_or_refused(text in "\\PC{0,40}|[a+#/$]{0,12}|\\$share/[a+#/]{0,12}") {
        // Goal: no filter breaks the tree. Method: arbitrary text, and text rich in special characters.
        let mut tree = Tree::new(ROOMY);
        if tree.subscribe(1, &text, options(1)).is_ok() {
            prop_assert!(tree.unsubscribe(1, &text));
        }
        prop_assert!(tree.root.is_empty());
    }
}
