//! What the listener door's tables say, refuse and doubt.

use std::path::Path;

use super::{doubted, refused, valid};
use crate::config::{
    Anonymous, ClientCertificates, Framing, LISTENER_BIND, ListenerTls, TopicRules, load_file,
};

const HUB: &str = "lattice.leaf.hub = \"tls://hub\"\n";

fn listener(more: &str) -> String {
    format!("[[listener]]\nname = \"lan\"\nbind = \"10.0.0.1:1883\"\n{more}")
}

fn user(more: &str) -> String {
    format!("[[user]]\nname = \"press\"\n{more}")
}

#[test]
fn without_a_word_about_doors_there_is_a_listener_on_loopback() {
    // Goal: a gateway receives out of the box, and never takes a broker's port. Method: no door, a broker, an empty list.
    let usual = valid("").site.listeners;
    assert_eq!(usual.len(), 1);
    assert_eq!((usual[0].bind, usual[0].anonymous), (LISTENER_BIND, Anonymous::Loopback));
    assert!(LISTENER_BIND.ip().is_loopback());
    let written = valid("[[listener]]\nname = \"local\"\nbind = \"127.0.0.1:1883\"").site.listeners;
    assert_eq!(usual, written, "the same as the one that is written with its needed keys");
    assert!(valid("mqtt.broker.url = \"mqtt://h\"").site.listeners.is_empty());
    assert!(valid("listener = []").site.listeners.is_empty());
    let both = valid(&format!("mqtt.broker.url = \"mqtt://h\"\n{}", listener("")));
    assert_eq!((both.broker.is_some(), both.site.listeners.len()), (true, 1), "two doors");
}

#[test]
fn a_listener_says_what_it_takes() {
    // Goal: every key reaches the resolved listener. Method: each set to something else than its default.
    let text = listener(
        "websocket = true\nanonymous = \"never\"\nconnections_max = 5\nreceive_max = 7\nkeep_alive_max = \"1m\"\n\
         packet_bytes_max = \"1MiB\"\n\
         tls = { certificate = \"/c\", key = \"/k\", client_ca = \"/r\", client_certificate = \"required\" }",
    );
    let listener = valid(&text).site.listeners.remove(0);
    assert_eq!((listener.framing, listener.anonymous), (Framing::WebSocket, Anonymous::Never));
    assert_eq!((listener.connections_max, listener.receive_max, listener.packet_bytes_max), (5, 7, 1 << 20));
    assert_eq!(listener.keep_alive_max.as_secs(), 60);
    let clients = ClientCertificates::Required("/r".into());
    assert_eq!(listener.tls, Some(ListenerTls { certificate: "/c".into(), key: "/k".into(), clients }));
}

#[test]
fn listeners_stay_within_their_bounds() {
    // Goal: each documented range is the one that holds. Method: one below and one above each.
    for (key, range, outside) in [
        ("connections_max", "1 to 65536", ["0", "65537"]),
        ("receive_max", "1 to 65535", ["0", "65536"]),
        ("keep_alive_max", "1s to 18h", ["\"500ms\"", "\"19h\""]),
    ] {
        for value in outside {
            let shown = value.trim_matches('"');
            let start = format!("frond.toml:4: listener \"lan\": {key}: {shown} is outside {range}");
            assert_eq!(refused(&listener(&format!("{key} = {value}")))[0], start);
        }
    }
    let half = refused(&listener("keep_alive_max = \"1500ms\""));
    assert_eq!(
        half,
        ["frond.toml:4: listener \"lan\": keep_alive_max: 1500ms is not a whole number of seconds"]
    );
    let small = refused(&listener("packet_bytes_max = 2000\n[[stream]]\nname = \"s\"\ntopics = [\"a\"]"));
    assert!(small[0].starts_with("frond.toml:4: listener \"lan\": packet_bytes_max: 2000 is too small"));
}

#[test]
fn a_listener_needs_a_name_and_an_address_of_its_own() {
    // Goal: what cannot be bound is refused beforehand. Method: each mistake once.
    assert_eq!(refused("[[listener]]\nname = \"a\""), ["frond.toml:1: listener \"a\": 'bind' is missing"]);
    let nameless = refused("[[listener]]\nbind = \"127.0.0.1:1\"");
    assert_eq!(nameless, ["frond.toml:1: listener: 'name' is missing"]);
    for bind in ["1883", "127.0.0.1", "localhost:1883", "::1:1883", "127.0.0.1:65536"] {
        let message = format!(
            "frond.toml:3: listener \"a\": bind: '{bind}' is not an address with a port, such as 127.0.0.1:1883, \
             0.0.0.0:8883 or [::]:8883"
        );
        assert_eq!(refused(&format!("[[listener]]\nname = \"a\"\nbind = \"{bind}\"")), [message]);
    }
    let twins = format!("{}[[listener]]\nname = \"b\"\nbind = \"10.0.0.1:1883\"", listener(""));
    assert_eq!(
        refused(&twins),
        ["frond.toml:6: listener \"b\": bind: listener \"lan\" has the same address"]
    );
    valid("[[listener]]\nname = \"a\"\nbind = \"[::1]:0\"\n[[listener]]\nname = \"b\"\nbind = \"[::1]:0\"");
}

#[test]
fn tls_has_all_the_files_it_needs() {
    // Goal: half of a TLS set-up is refused. Method: each half.
    let tls = |tls: &str| refused(&listener(&format!("tls = {{ {tls} }}")));
    assert_eq!(tls("key = \"/k\""), ["frond.toml:4: listener \"lan\": tls: 'certificate' is missing"]);
    assert_eq!(tls("certificate = \"/c\""), ["frond.toml:4: listener \"lan\": tls: 'key' is missing"]);
    assert_eq!(
        tls("certificate = \"/c\", key = \"/k\", client_certificate = \"required\""),
        [
            "frond.toml:4: listener \"lan\": tls.client_certificate: needs client_ca beside it: without roots no client \
             certificate can be checked"
        ]
    );
}

#[test]
fn a_user_can_log_in_somehow_and_has_a_name_that_fits_into_topics() {
    // Goal: no user that nobody can be, no name that widens a rule. Method: each mistake once.
    assert_eq!(
        refused(&user("publish = [\"a\"]")),
        ["frond.toml:1: user \"press\": needs password_hash_file or certificate: nobody could log in"]
    );
    for name in ["a/b", "+", "#", "$x", ""] {
        let text = format!("[[user]]\nname = \"{name}\"\npassword_hash_file = \"/p\"\npublish = [\"a\"]");
        let message = format!(
            "frond.toml:2: user \"{name}\": name: '{name}' is not the name of a user: 1 to 256 characters, no '/', '+' or \
             '#', no '$' in front"
        );
        assert_eq!(refused(&text), [message]);
    }
    let two = "[[user]]\nname = \"a\"\ncertificate = \"x\"\npublish = [\"a\"]\n\
               [[user]]\nname = \"b\"\ncertificate = \"x\"\npublish = [\"a\"]";
    assert_eq!(
        refused(two),
        ["frond.toml:7: user \"b\": certificate: the certificate already stands for user \"a\""]
    );
}

#[test]
fn rules_are_filters_with_placeholders() {
    // Goal: a rule that could never match, or matches more than it says, is refused. Method: each fault once.
    let rule = |rule: &str| refused(&user(&format!("password_hash_file = \"/p\"\npublish = [\"{rule}\"]")));
    let start = "frond.toml:4: user \"press\": publish: ";
    assert_eq!(rule("a/#/b"), [format!("{start}'a/#/b' is not a topic filter: '#' must be the last level")]);
    assert_eq!(
        rule("a/{usr}"),
        [format!("{start}'a/{{usr}}' is not a template: unknown placeholder {{usr}}; did you mean 'user'?")]
    );
    assert_eq!(rule("a/{user"), [format!("{start}'a/{{user' is not a template: a brace has no partner")]);
    let good = valid(&user("password_hash_file = \"/p\"\npublish = [\"a/{user}/{client}-x/#\"]"));
    assert_eq!(good.site.users[0].rules.publish, ["a/{user}/{client}-x/#"]);
    assert!(good.site.users[0].rules.subscribe.is_empty(), "what is not allowed is forbidden");
}

#[test]
fn anonymous_is_a_user_with_rules_and_nothing_else() {
    // Goal: what nameless clients may do can be narrowed. Method: its rules, and a password for it.
    let narrowed = valid("[[user]]\nname = \"anonymous\"\npublish = [\"plant/#\"]").site;
    assert_eq!(narrowed.anonymous, TopicRules { publish: vec!["plant/#".to_owned()], subscribe: Vec::new() });
    assert!(narrowed.users.is_empty());
    for key in ["password_hash_file", "certificate"] {
        let text = format!("[[user]]\nname = \"anonymous\"\n{key} = \"/p\"");
        assert_eq!(
            refused(&text),
            [format!(
                "frond.toml:3: user \"anonymous\": {key}: means nothing for \"anonymous\", which stands for clients that \
                 log in with nothing"
            )]
        );
    }
}

#[test]
fn open_and_closed_doors_are_pointed_out() {
    // Goal: what lets in everybody, or nobody, does not pass in silence. Method: each doubt once, and a door without.
    let doubts = |text: &str| doubted(&format!("{HUB}{text}"));
    let lan = "frond.toml:2: listener \"lan\"";
    assert_eq!(
        doubts(&listener("anonymous = \"always\"")),
        [
            "frond.toml:5: listener \"lan\": anonymous: whoever reaches 10.0.0.1:1883 may enter without a password"
        ]
    );
    let nobody = "nobody may enter: there is no [[user]], and anonymous clients are not let in from where they can come";
    assert_eq!(doubts(&listener("")), [format!("{lan}: {nobody}")]);
    let file = tempfile::NamedTempFile::new().expect("a file for the test");
    std::fs::write(file.path(), "hash\n").expect("the test's own file");
    let hash = format!("password_hash_file = \"{}\"\npublish = [\"a\"]", file.path().display());
    let with_user = format!("{}{}", listener(""), user(&hash));
    assert_eq!(
        doubts(&with_user)[0],
        format!("{lan}: passwords come to 10.0.0.1:1883 without encryption; set tls")
    );
    let networks = listener("").replace("10.0.0.1", "0.0.0.0");
    let message = "listens on 0.0.0.0:1883, and lets in nobody but anonymous clients of this machine: no [[user]] can log in \
                   here; bind 127.0.0.1, or add users";
    assert_eq!(doubts(&networks), [format!("{lan}: {message}")]);
    let certified = user("certificate = \"x\"\npublish = [\"a\"]");
    let message =
        "nobody may enter: users have certificates only, and this listener has no tls with client_ca";
    assert!(doubts(&format!("{}{certified}", listener(""))).contains(&format!("{lan}: {message}")));
    let certificate = format!("{HUB}{}", user("certificate = \"x\"\npublish = [\"a\"]"));
    let message = "frond.toml:4: user \"press\": certificate: no listener has tls with client_ca: the certificate is never looked at";
    assert_eq!(doubted(&certificate), [message]);
    let idle = user("certificate = \"x\"");
    assert!(doubts(&idle)[0].ends_with("may neither publish nor subscribe; set publish or subscribe"));
}

#[test]
fn listeners_and_users_are_merged_by_name() {
    // Goal: an addition moves a listener or narrows a user. Method: a main file and one addition.
    let folder = tempfile::tempdir().expect("a folder for the test");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("a folder of the test's own");
    };
    std::fs::create_dir(folder.path().join("conf.d")).expect("a folder of the test's own");
    let main = format!("{}{}", listener(""), user("certificate = \"x\"\npublish = [\"a\"]"));
    write("frond.toml", &format!("gateway.name = \"g\"\n{main}"));
    write(
        "conf.d/site.toml",
        "[[listener]]\nname = \"lan\"\nbind = \"10.0.0.2:1883\"\n[[listener]]\nname = \"b\"\nbind = \"10.0.0.3:1\"\n\
         [[user]]\nname = \"press\"\nsubscribe = [\"b\"]\n",
    );
    let site = load_file(Path::new(&folder.path().join("frond.toml"))).expect("valid").site;
    let names: Vec<_> = site.listeners.iter().map(|listener| listener.name.as_str()).collect();
    assert_eq!((names, site.listeners[0].bind.to_string()), (vec!["lan", "b"], "10.0.0.2:1883".to_owned()));
    assert_eq!(site.users[0].rules.publish, ["a"]);
    assert_eq!(site.users[0].rules.subscribe, ["b"]);
}
