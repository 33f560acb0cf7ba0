use proptest::prelude::*;

use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const AFAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

fn rules(publish: &[&str], subscribe: &[&str]) -> TopicRules {
    let owned = |rules: &[&str]| rules.iter().map(|rule| (*rule).to_owned()).collect();
    TopicRules { publish: owned(publish), subscribe: owned(subscribe) }
}

fn account(name: &str, password: Option<&str>, certificate: Option<&str>) -> Account {
    Account {
        name: name.into(),
        hashes: password.map(|password| Hash::of(password.as_bytes()).unwrap()).into_iter().collect(),
        certificate: certificate.map(str::to_owned),
        rules: rules(&["plant/{user}/#"], &[]),
    }
}

fn users(accounts: Vec<Account>) -> Users {
    Users::new(accounts, rules(&["#"], &["#"]), [7; 32])
}

fn nameless() -> Credentials {
    Credentials {
        address: AFAR,
        anonymous: Anonymous::Loopback,
        client: "c".to_owned(),
        name: None,
        password: None,
        certificate: Vec::new(),
    }
}

fn named(name: &str, password: &str) -> Credentials {
    Credentials { name: Some(name.to_owned()), password: Some(password.into()), ..nameless() }
}

/// Admits, checking on the spot. `None` as the first of the pair: nothing was checked.
fn enter(users: &mut Users, credentials: Credentials) -> (Option<bool>, Result<Pass, Refusal>) {
    let now = Instant::now();
    match users.admit(credentials, now) {
        Admission::Granted(pass) => (None, Ok(pass)),
        Admission::Refused(refusal) => (None, Err(refusal)),
        Admission::Check(check) => {
            let right = check.run();
            (Some(right), users.checked(check, right, now))
        }
    }
}

#[test]
fn the_right_password_enters_and_is_checked_slowly_only_once() {
    // Goal: a thousand sensors come back quickly, and a wrong password is never quick. Method: right, right, wrong, right.
    let mut users = users(vec![account("press", Some("secret"), None)]);
    let (checked, pass) = enter(&mut users, named("press", "secret"));
    assert_eq!((checked, pass.unwrap().user.as_deref()), (Some(true), Some("press")));
    assert!(matches!(enter(&mut users, named("press", "secret")), (None, Ok(_))));
    assert_eq!(enter(&mut users, named("press", "Secret")), (Some(false), Err(Refusal::Proof)));
    assert!(matches!(enter(&mut users, named("press", "secret")), (None, Ok(_))));
}

#[test]
fn an_unknown_name_costs_as_much_as_a_wrong_password() {
    // Goal: nobody learns which names exist. Method: both are checked, and refused in the same words; so are a user
    // without a password and a name without one.
    let mut users =
        users(vec![account("press", Some("secret"), None), account("oven", None, Some("oven.cert"))]);
    for (name, password) in [("nobody", "secret"), ("press", "x"), ("oven", "nobody"), ("oven", "")] {
        assert_eq!(enter(&mut users, named(name, password)), (Some(false), Err(Refusal::Proof)), "{name}");
    }
    let bare = Credentials { password: None, ..named("press", "") };
    assert_eq!(enter(&mut users, bare), (Some(false), Err(Refusal::Proof)));
}

#[test]
fn guessing_is_limited_and_does_not_lock_out_who_was_proven() {
    // Goal: login brute force is slow, and a sensor at the attacker's address that was in before gets in again.
    // Method: guess until refused unseen; then the right password, proven and not proven.
    let mut users = users(vec![account("press", Some("secret"), None), account("oven", Some("hot"), None)]);
    assert!(enter(&mut users, named("press", "secret")).1.is_ok());
    let guesses: Vec<_> = (0..8).map(|n| enter(&mut users, named("press", &n.to_string())).1).collect();
    assert_eq!(guesses[..5], vec![Err(Refusal::Proof); 5]);
    assert_eq!(guesses[5..], vec![Err(Refusal::Limited); 3]);
    assert!(enter(&mut users, named("press", "secret")).1.is_ok(), "proven before");
    assert!(enter(&mut users, named("oven", "hot")).1.is_ok(), "another user");
    let elsewhere = Credentials { address: HERE, ..named("press", "9") };
    assert_eq!(enter(&mut users, elsewhere).1, Err(Refusal::Proof), "another address is not refused unseen");
}

#[test]
fn a_changed_password_counts_at_once() {
    // Goal: what was proven with the old hash is worth nothing. Method: change it between two logins, and while a check
    // runs; two hashes while it is being changed.
    let mut users = users(vec![account("press", Some("old"), None)]);
    assert!(enter(&mut users, named("press", "old")).1.is_ok());
    let [old, new] = ["old", "new"].map(|password| Hash::of(password.as_bytes()).unwrap());
    users.set_hashes("press", vec![old, new.clone()]);
    assert!(enter(&mut users, named("press", "old")).1.is_ok());
    assert!(enter(&mut users, named("press", "new")).1.is_ok());
    let now = Instant::now();
    let Admission::Check(begun) = users.admit(named("press", "old"), now) else { panic!("to be checked") };
    let right = begun.run();
    users.set_hashes("press", vec![new]);
    assert!(right);
    assert_eq!(users.checked(begun, right, now), Err(Refusal::Proof));
    assert!(enter(&mut users, named("press", "old")).1.is_err());
    assert!(enter(&mut users, named("press", "new")).1.is_ok());
}

#[test]
fn a_certificate_stands_for_its_user_and_no_other() {
    // Goal: no password is needed with a certificate, and a name beside it must be the same. Method: each case.
    let mut users =
        users(vec![account("press", Some("secret"), None), account("oven", None, Some("oven.cert"))]);
    let shown = |name: Option<&str>, certificate: &str| Credentials {
        name: name.map(str::to_owned),
        certificate: vec!["other name".to_owned(), certificate.to_owned()],
        ..nameless()
    };
    let user = |outcome: (Option<bool>, Result<Pass, Refusal>)| outcome.1.map(|pass| pass.user);
    let oven = Ok(Some("oven".into()));
    assert_eq!(user(enter(&mut users, shown(None, "oven.cert"))), oven);
    assert_eq!(user(enter(&mut users, shown(Some("oven"), "oven.cert"))), oven);
    assert_eq!(user(enter(&mut users, shown(Some("press"), "oven.cert"))), Err(Refusal::OtherUser));
    assert_eq!(user(enter(&mut users, shown(None, "unknown.cert"))), Err(Refusal::Anonymous));
    let both = Credentials { password: Some(b"secret".to_vec()), ..shown(Some("press"), "unknown.cert") };
    assert_eq!(
        user(enter(&mut users, both)),
        Ok(Some("press".into())),
        "a certificate of nobody is no obstacle"
    );
}

#[test]
fn anonymous_clients_come_in_where_the_listener_says_so() {
    // Goal: the three words of the configuration. Method: each, from this machine and from afar, mapped addresses too.
    let mut users = users(vec![account("press", Some("secret"), None)]);
    let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
    for (anonymous, address, let_in) in [
        (Anonymous::Never, HERE, false),
        (Anonymous::Loopback, HERE, true),
        (Anonymous::Loopback, mapped, true),
        (Anonymous::Loopback, AFAR, false),
        (Anonymous::Always, AFAR, true),
    ] {
        let outcome = enter(&mut users, Credentials { anonymous, address, ..nameless() }).1;
        let expected = if let_in { Ok(None) } else { Err(Refusal::Anonymous) };
        assert_eq!(outcome.map(|pass| pass.user), expected, "{anonymous:?} {address}");
    }
}

#[test]
fn without_users_a_name_is_not_looked_at() {
    // Goal: sensors with left-over credentials work on an open door, and no others. Method: a name, on both kinds of door.
    let mut users = users(Vec::new());
    let here = Credentials { address: HERE, ..named("left", "over") };
    assert_eq!(enter(&mut users, here).1.map(|pass| pass.user), Ok(None));
    assert_eq!(enter(&mut users, named("left", "over")).1, Err(Refusal::Anonymous));
}

#[test]
fn rules_are_filled_with_user_and_client() {
    // Goal: a sensor is confined to its own topics. Method: what is inside and outside of two rules.
    let rules = rules(&["plant/{user}/#", "log/{client}"], &["command/{user}/+", "shared/#"]);
    let permissions = Permissions::fill(&rules, Some("press"), "p-1");
    for topic in ["plant/press", "plant/press/temp", "log/p-1"] {
        assert!(permissions.may_publish(topic), "{topic}");
    }
    for topic in ["plant/oven/temp", "plant", "log/p-2", "command/press/go", "$SYS/x"] {
        assert!(!permissions.may_publish(topic), "{topic}");
    }
    for filter in ["command/press/go", "command/press/+", "shared/a/#"] {
        assert!(permissions.may_subscribe(filter), "{filter}");
    }
    for filter in ["command/+/go", "command/press/#", "#", "+/press/go", "plant/press/temp"] {
        assert!(!permissions.may_subscribe(filter), "{filter}");
    }
}

#[test]
fn a_client_identifier_cannot_widen_a_rule() {
    // Goal: identifiers are chosen by clients. Method: wildcards, slashes, nothing, braces, a leading '$'.
    let rules = rules(&["a/{client}/b", "{client}", "plain"], &["a/{client}/#"]);
    for client in ["+", "#", "x/y", "", "a\0", "{user}"] {
        let permissions = Permissions::fill(&rules, Some("u"), client);
        assert_eq!(permissions.publish, ["plain".into()], "{client:?}");
        assert!(permissions.subscribe.is_empty());
    }
    let system = Permissions::fill(&rules, Some("u"), "$SYS");
    assert!(!system.may_publish("$SYS") && system.may_publish("a/$SYS/b"));
    let anonymous = Permissions::fill(
        &super::TopicRules { publish: vec!["{user}/x".to_owned()], subscribe: vec![] },
        None,
        "c",
    );
    assert!(!anonymous.may_publish("/x"), "anonymous has no name");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_identifier_reaches_beyond_its_rule(client in "\\PC{0,12}|[+#/${}a]{0,6}", topic in "[ab/$]{1,8}") {
        // Goal: whatever the identifier, a rule for it stays below its fixed levels. Method: any identifier, any topic.
        let rules = rules(&["own/{client}/x"], &["own/{client}/#"]);
        let permissions = Permissions::fill(&rules, Some("u"), &client);
        prop_assert!(!permissions.may_publish(&topic));
        prop_assert!(!permissions.may_subscribe("own/#") && !permissions.may_subscribe("own/+/x"));
        prop_assert!(!permissions.may_subscribe("#") && !permissions.may_subscribe(&topic));
    }
}
