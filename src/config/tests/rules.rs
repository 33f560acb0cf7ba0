//! What the tables about the gateway refuse, and in which words.

use super::{doubted, refused, stream, valid};

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    // Goal: a slip is mended in one look. Method: slips at the top, in a table, in a stream, in an inline table.
    assert_eq!(refused("\n\njurnal = 1"), ["frond.toml:3: unknown key 'jurnal'; did you mean 'journal'?"]);
    assert_eq!(
        refused("[journal]\n\ncomit_interval = \"1s\""),
        ["frond.toml:3: journal: unknown key 'comit_interval'; did you mean 'commit_interval'?"]
    );
    assert_eq!(
        refused("[[stream]]\nname = \"press\"\ntopcis = [\"a\"]"),
        ["frond.toml:3: stream \"press\": unknown key 'topcis'; did you mean 'topics'?"]
    );
    assert_eq!(
        refused(&stream("reduce = { windw = \"1s\" }")),
        ["frond.toml:4: stream \"press\": reduce: unknown key 'windw'; did you mean 'window'?"]
    );
}

#[test]
fn an_unknown_key_without_a_near_one_lists_what_is_known() {
    // Goal: who cannot guess is told. Method: a key unlike any other.
    assert_eq!(
        refused("[clock]\nntp = true"),
        ["frond.toml:2: clock: unknown key 'ntp'; known are trust, synchronized_file"]
    );
}

#[test]
fn an_unknown_word_names_the_nearest_known_one() {
    // Goal: words are treated like keys. Method: a slip and a word unlike any other.
    assert_eq!(
        refused("[lattice]\nmode = \"lead\""),
        ["frond.toml:2: lattice.mode: unknown word 'lead'; did you mean 'leaf'?"]
    );
    assert_eq!(
        refused("gateway.log = \"verbose\""),
        ["frond.toml:1: gateway.log: unknown word 'verbose'; known are error, warn, info, debug, trace"]
    );
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
    // Goal: one run of `frond check` is enough. Method: eight problems of different layers of the examination.
    let text = "[journal]\ncomit_interval = \"1s\"\ncommit_interval = \"5ms\"\n[mqtt.broker]\nurl = \"mqtts://x\"\n\
                [[stream]]\nname = \"press\"\ntopics = [\"a/#/b\", 7]\nqos = 3\ndurability = \"windw\"\n\
                time = { field = \"x\", format = \"iso\" }\n";
    assert_eq!(
        refused(text),
        [
            "frond.toml:2: journal: unknown key 'comit_interval'; did you mean 'commit_interval'?",
            "frond.toml:3: journal.commit_interval: 5ms is outside 10ms to 1m",
            "frond.toml:5: mqtt.broker.url: the broker door speaks plain MQTT to a broker on this machine or site and has \
             no TLS: use mqtt://, and reach a remote broker through a bridge of the local one",
            "frond.toml:8: stream \"press\": topics: 'a/#/b' is not a topic filter: '#' must be the last level",
            "frond.toml:8: stream \"press\": topics: 7 is not text in quotes",
            "frond.toml:9: stream \"press\": qos: 3 is outside 0 to 1",
            "frond.toml:10: stream \"press\": durability: unknown word 'windw'; did you mean 'window'?",
            "frond.toml:11: stream \"press\": time.format: unknown word 'iso'; known are rfc3339, s, ms, ns",
        ]
    );
}

#[test]
fn a_problem_has_line_column_and_key() {
    // Goal: editors can jump to it. Method: a value behind other characters, some of two bytes.
    let error = super::parse("# ä\nclock = { trust = \"nver\" }", "x").expect_err("unknown word");
    let problem = &error.problems[0];
    assert_eq!((problem.file.as_str(), problem.key.as_str()), ("x", "clock.trust"));
    let at = problem.at.expect("it has a place");
    assert_eq!((at.line, at.column), (2, 19));
}

#[test]
fn what_is_not_toml_is_reported_alone() {
    // Goal: nothing that merely follows from a broken document is reported. Method: a broken line and an unknown key.
    assert_eq!(
        refused("a = \n[nothing]"),
        ["frond.toml:1: string values must be quoted, expected literal string"]
    );
    assert_eq!(refused("gateway.name = \"a\"\ngateway.name = \"b\""), ["frond.toml:2: duplicate key"]);
}

#[test]
fn a_value_of_the_wrong_type_is_refused_in_words_of_toml() {
    // Goal: no names of Rust types. Method: each kind of value in each wrong place.
    assert_eq!(refused("gateway = 1"), ["frond.toml:1: gateway: 1 is not a table"]);
    assert_eq!(
        refused("[gateway]\ndata_dir = 1"),
        ["frond.toml:2: gateway.data_dir: 1 is not text in quotes"]
    );
    assert_eq!(refused("gateway.log = 1"), ["frond.toml:1: gateway.log: 1 is not a word in quotes"]);
    assert_eq!(
        refused("mqtt.broker.inflight_max = \"1\""),
        ["frond.toml:1: mqtt.broker.inflight_max: \"1\" is not a whole number"]
    );
    assert_eq!(
        refused("lattice.leaf.allow_plaintext = 1"),
        ["frond.toml:1: lattice.leaf.allow_plaintext: 1 is not true or false"]
    );
    assert_eq!(refused("stream = 1"), ["frond.toml:1: stream: 1 is not an array"]);
    assert_eq!(refused("stream = [1]"), ["frond.toml:1: stream: 1 is not a [[stream]] table"]);
    assert_eq!(refused("[stream]\nname = \"x\""), ["frond.toml:1: stream: a table is not an array"]);
    assert_eq!(
        refused("gateway.name = 2024-01-01"),
        ["frond.toml:1: gateway.name: a date is not text in quotes"]
    );
    assert_eq!(
        refused("outbox.bytes_max = 99999999999999999999"),
        [
            "frond.toml:1: outbox.bytes_max: a whole number beyond 64 bits is not a number of bytes or a size such as \
          \"64KiB\", \"256MiB\" or \"1.6GB\""
        ]
    );
}

#[test]
fn durations_and_sizes_need_a_unit_that_is_known() {
    // Goal: the message shows the form. Method: near misses.
    let duration = "is not a duration such as \"250ms\", \"1s\", \"15m\", \"24h\" or \"30d\"";
    for (said, shown) in [("5", "5"), ("\"5\"", "\"5\""), ("\"1 s\"", "\"1 s\""), ("\"1h30m\"", "\"1h30m\"")]
    {
        let text = format!("outbox.age_max = {said}");
        assert_eq!(refused(&text), [format!("frond.toml:1: outbox.age_max: {shown} {duration}")]);
    }
    let size = "is not a number of bytes or a size such as \"64KiB\", \"256MiB\" or \"1.6GB\"";
    for (said, shown) in [("-1", "-1"), ("1.5", "1.5"), ("\"1 MB\"", "\"1 MB\""), ("\"1.5B\"", "\"1.5B\"")] {
        let text = format!("outbox.bytes_max = {said}");
        assert_eq!(refused(&text), [format!("frond.toml:1: outbox.bytes_max: {shown} {size}")]);
    }
}

#[test]
fn a_long_value_is_not_repeated_in_full() {
    // Goal: a message stays a line. Method: a kilobyte where a duration should be.
    let message = refused(&format!("outbox.age_max = \"{}\"", "x".repeat(1000))).remove(0);
    assert!(message.starts_with("frond.toml:1: outbox.age_max: \"xxxx") && message.len() < 250, "{message}");
}

#[test]
fn the_gateways_name_must_be_a_token() {
    // Goal: it can stand in a subject. Method: a dot, nothing, too much; the longest that is allowed.
    let not = |name: &str| {
        format!("frond.toml:1: gateway.name: '{name}' is not a name: 1 to 64 of A-Z a-z 0-9 _ -")
    };
    for name in ["a.b", "", "a b", "ä", "*"] {
        assert_eq!(refused(&format!("gateway.name = \"{name}\"")), [not(name)]);
    }
    let long = "x".repeat(65);
    assert_eq!(refused(&format!("gateway.name = \"{long}\"")), [not(&long)]);
    assert_eq!(valid(&format!("gateway.name = \"{}\"", &long[1..])).gateway.name, long[1..]);
}

#[test]
fn a_gateway_needs_a_name_of_some_kind() {
    // Goal: two nameless gateways never share subjects. Method: no name, no host name.
    let nowhere = super::Surroundings::default();
    let problems = super::inspect_text("", "frond.toml", &nowhere).problems;
    let messages: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "frond.toml: gateway: the gateway has no name and the host name cannot stand in for it; set gateway.name"
        ]
    );
    let strange = super::Surroundings { host_name: Some("gw.plant ä\n".to_owned()), ..nowhere };
    let config = super::inspect_text("", "frond.toml", &strange).config.expect("the host name stands in");
    assert_eq!(config.gateway.name, "gw-plant--");
}

#[test]
fn the_databases_must_not_lie_in_the_cache() {
    // Goal: emptying the cache loses nothing. Method: the same folder, and one below; a neighbour is fine.
    let text = |data: &str| format!("[gateway]\ndata_dir = \"{data}\"\ncache_dir = \"/c\"");
    let message = "frond.toml:3: gateway.cache_dir: the cache may be deleted at any time and must not contain gateway.data_dir";
    assert_eq!(refused(&text("/c")), [message]);
    assert_eq!(refused(&text("/c/data")), [message]);
    valid(&text("/cd"));
}

#[test]
fn paths_are_text() {
    // Goal: an empty or broken path is not taken for the current folder. Method: both.
    let message = "frond.toml:1: gateway.run_dir: must be 1 to 4095 characters without control characters";
    assert_eq!(refused("gateway.run_dir = \"\""), [message]);
    assert_eq!(refused("gateway.run_dir = \"a\\nb\""), [message]);
}

#[test]
fn numbers_stay_within_their_documented_bounds() {
    // Goal: each documented range is the one that holds. Method: one below, one above, and both ends.
    let cases = [
        ("mqtt.broker.keep_alive", "\"1s\"", "\"18h\"", "\"0s\"", "\"19h\"", "1s to 18h"),
        ("mqtt.broker.inflight_max", "1", "65535", "0", "65536", "1 to 65535"),
        ("mqtt.broker.packet_bytes_max", "327688", "268435460", "1", "268435461", "1KiB to 268435460B"),
        ("mqtt.clients.sessions_max", "1", "100000", "0", "100001", "1 to 100000"),
        ("mqtt.clients.session_expiry_max", "\"1s\"", "\"365d\"", "\"0s\"", "\"366d\"", "1s to 365d"),
        ("mqtt.clients.subscriptions_max", "1", "4096", "0", "4097", "1 to 4096"),
        ("mqtt.clients.queue_messages_max", "1", "1048576", "0", "1048577", "1 to 1048576"),
        ("mqtt.clients.queue_bytes_max", "\"1KiB\"", "\"256MiB\"", "1", "\"257MiB\"", "1KiB to 256MiB"),
        ("mqtt.clients.retained_max", "0", "1048576", "-1", "1048577", "0 to 1048576"),
        ("mqtt.clients.retained_bytes_max", "0", "\"256MiB\"", "", "\"257MiB\"", "0B to 256MiB"),
        ("journal.commit_interval", "\"10ms\"", "\"10s\"", "\"9ms\"", "\"61s\"", "10ms to 1m"),
        ("journal.commit_interval_max", "\"1s\"", "\"1m\"", "\"9ms\"", "\"61s\"", "10ms to 1m"),
        ("journal.commit_readings_max", "1", "1048576", "0", "1048577", "1 to 1048576"),
        ("journal.checkpoint_interval", "\"5s\"", "\"1h\"", "\"500ms\"", "\"2h\"", "1s to 1h"),
        ("journal.checkpoint_interval_min", "\"10ms\"", "\"1m\"", "\"1ms\"", "\"2h\"", "10ms to 1h"),
        ("journal.ring_bytes_max", "0", "\"16TiB\"", "", "\"17TiB\"", "0B to 16TiB"),
        ("journal.wear_bytes_per_day", "0", "\"16TiB\"", "", "\"17TiB\"", "0B to 16TiB"),
        ("outbox.bytes_max", "\"1MiB\"", "\"16TiB\"", "1", "\"17TiB\"", "1MiB to 16TiB"),
        ("outbox.age_max", "\"1m\"", "\"3650d\"", "\"59s\"", "\"3651d\"", "1m to 3650d"),
        ("uplink.ack_timeout", "\"1s\"", "\"10m\"", "\"999ms\"", "\"11m\"", "1s to 10m"),
        ("uplink.inflight_bytes_max", "\"64KiB\"", "\"256MiB\"", "65535", "\"257MiB\"", "64KiB to 256MiB"),
        ("uplink.backlog_share_percent", "5", "95", "4", "96", "5 to 95"),
        ("slot.confirm_after", "\"1s\"", "\"1h\"", "\"0s\"", "\"61m\"", "1s to 1h"),
        ("uplink.recall_bytes_per_second", "\"1KiB\"", "\"1GiB\"", "1", "\"2GiB\"", "1KiB to 1GiB"),
    ];
    for (key, least, most, below, above, range) in cases {
        valid(&format!("{key} = {least}"));
        valid(&format!("{key} = {most}"));
        for outside in [below, above].into_iter().filter(|value| !value.is_empty()) {
            let messages = refused(&format!("{key} = {outside}"));
            let start = format!("frond.toml:1: {key}: ");
            let ending = format!(" is outside {range}");
            assert!(
                messages.iter().any(|m| m.starts_with(&start) && m.ends_with(&ending)),
                "{key}: {messages:?}"
            );
        }
    }
}

#[test]
fn intervals_must_fit_each_other() {
    // Goal: a longest is not shorter than a shortest. Method: each pair, with either key left at its default.
    assert_eq!(
        refused("[journal]\ncommit_interval = \"20s\"\ncommit_interval_max = \"15s\""),
        ["frond.toml:3: journal.commit_interval_max: 15s is less than journal.commit_interval, which is 20s"]
    );
    assert_eq!(
        refused("[journal]\ncommit_interval = \"20s\""),
        ["frond.toml:2: journal.commit_interval_max: 10s is less than journal.commit_interval, which is 20s"]
    );
    assert_eq!(
        refused("[journal]\ncheckpoint_interval = \"2s\""),
        [
            "frond.toml:2: journal.checkpoint_interval: 2s is less than journal.checkpoint_interval_min, which is 5s"
        ]
    );
}

#[test]
fn the_broker_door_takes_mqtt_urls_only() {
    // Goal: nobody believes to have TLS. Method: mqtts, other schemes, secrets in the URL, no URL at all.
    let url = |url: &str| format!("mqtt.broker.url = \"{url}\"");
    let tls = "frond.toml:1: mqtt.broker.url: the broker door speaks plain MQTT to a broker on this machine or site and \
               has no TLS: use mqtt://, and reach a remote broker through a bridge of the local one";
    assert_eq!(refused(&url("mqtts://broker:8883")), [tls]);
    assert_eq!(refused(&url("ssl://broker:8883")), [tls]);
    let form =
        |url| format!("frond.toml:1: mqtt.broker.url: '{url}' is not a URL of the form mqtt://host:port");
    for wrong in
        ["tcp://broker", "broker:1883", "mqtt://", "mqtt://broker:0", "mqtt://broker/path", "mqtt://br oker"]
    {
        assert_eq!(refused(&url(wrong)), [form(wrong)]);
    }
    assert_eq!(
        refused(&url("mqtt://me:secret@broker")),
        [
            "frond.toml:1: mqtt.broker.url: a URL must not hold a user or password; set username and password_file"
        ]
    );
    let broker = valid(&url("mqtt://[::1]")).broker.expect("it has a URL");
    assert_eq!((broker.host.as_str(), broker.port), ("::1", 1883));
    assert_eq!(valid("").broker, None);
}

#[test]
fn a_password_needs_a_user_name() {
    // Goal: what MQTT cannot express is refused (3.1.1, 3.1.2.9). Method: one without the other, both ways round.
    assert_eq!(
        refused("mqtt.broker.password_file = \"/p\""),
        [
            "frond.toml:1: mqtt.broker.password_file: needs mqtt.broker.username: MQTT has no password without a user name"
        ]
    );
    valid("mqtt.broker.username = \"u\"");
}

#[test]
fn keep_alive_is_counted_in_seconds() {
    // Goal: no rounding behind the user's back. Method: half a second too much.
    assert_eq!(
        refused("mqtt.broker.keep_alive = \"1500ms\""),
        ["frond.toml:1: mqtt.broker.keep_alive: 1500ms is not a whole number of seconds"]
    );
}

#[test]
fn names_for_the_broker_are_text() {
    // Goal: what the broker would refuse is refused here. Method: empty, and a control character.
    let message = |key| {
        format!("frond.toml:1: mqtt.broker.{key}: must be 1 to 256 characters without control characters")
    };
    assert_eq!(refused("mqtt.broker.client_id = \"\""), [message("client_id")]);
    assert_eq!(refused("mqtt.broker.username = \"a\\u0000\""), [message("username")]);
}

#[test]
fn a_packet_holds_the_largest_payload_and_its_topic() {
    // Goal: no allowed payload closes the connection. Method: the derived default, and one byte less than needed.
    let text = format!("mqtt.broker.url = \"mqtt://h\"\n{}", stream("payload_bytes_max = 1000000"));
    assert_eq!(valid(&text).broker.expect("it has a URL").packet_bytes_max, 1_065_544);
    assert_eq!(valid("mqtt.broker.url = \"mqtt://h\"").broker.expect("a URL").packet_bytes_max, 327_688);
    assert_eq!(
        refused(&format!("mqtt.broker.packet_bytes_max = 1065543\n{text}")),
        [
            "frond.toml:1: mqtt.broker.packet_bytes_max: 1065543 is too small: stream \"press\" takes payloads of 1000000 \
          bytes, which with topic and header need 1065544"
        ]
    );
}

#[test]
fn the_hub_is_not_reached_in_plain_text_by_accident() {
    // Goal: encryption is left out by a decision only. Method: both modes, this machine and another, with the decision.
    for (key, plain, allow) in [
        ("lattice.leaf.hub", "nats-leaf", "lattice.leaf.allow_plaintext"),
        ("lattice.direct.url", "nats", "lattice.direct.allow_plaintext"),
    ] {
        let mode = if key.contains("leaf") { "" } else { "lattice.mode = \"direct\"" };
        let text = format!("{key} = \"{plain}://10.0.0.1\"\n{mode}\n");
        assert_eq!(
            refused(&text),
            [format!(
                "frond.toml:1: {key}: would cross the network without encryption: use tls://, or set {allow} = true"
            )]
        );
        valid(&format!("{text}{allow} = true"));
        valid(&format!("{key} = \"{plain}://127.0.0.1\"\n{mode}\n"));
        valid(&format!("{key} = \"tls://10.0.0.1\"\n{mode}\n"));
    }
}

#[test]
fn hub_urls_have_the_scheme_of_their_mode() {
    // Goal: a client port is not taken for a leaf port. Method: each scheme in the wrong place, and a secret.
    assert_eq!(
        refused("lattice.leaf.hub = \"nats://hub\""),
        [
            "frond.toml:1: lattice.leaf.hub: 'nats://hub' is not a URL of the form tls://host:7422 or nats-leaf://host:7422"
        ]
    );
    assert_eq!(
        refused("lattice.direct.url = \"nats-leaf://hub\""),
        ["frond.toml:1: lattice.direct.url: 'nats-leaf://hub' is not a URL of the form tls://host:4222"]
    );
    assert_eq!(
        refused("lattice.leaf.hub = \"tls://u:p@hub\""),
        ["frond.toml:1: lattice.leaf.hub: a URL must not hold a user or password; set credentials"]
    );
}

#[test]
fn direct_mode_needs_a_url() {
    // Goal: a mode without its key is refused. Method: with the table and without it.
    assert_eq!(refused("lattice.mode = \"direct\""), ["frond.toml:1: lattice.direct: 'url' is missing"]);
    assert_eq!(
        refused("lattice.mode = \"direct\"\n[lattice.direct]\nca = \"/c\""),
        ["frond.toml:2: lattice.direct: 'url' is missing"]
    );
}

#[test]
fn a_client_certificate_has_two_files() {
    // Goal: half a certificate is refused. Method: each half.
    assert_eq!(
        refused("lattice.direct.certificate = \"/c\""),
        ["frond.toml:1: lattice.direct.certificate: needs lattice.direct.key beside it"]
    );
    assert_eq!(
        refused("lattice.direct.key = \"/k\""),
        ["frond.toml:1: lattice.direct.key: needs lattice.direct.certificate beside it"]
    );
}

#[test]
fn the_leaf_listens_on_loopback_only() {
    // Goal: local clients are not asked who they are, so nobody else may be a local client. Method: other addresses.
    for listen in ["0.0.0.0:4222", "10.0.0.1:4222", "127.0.0.1", ":4222", "4222", "hub:4222", "127.0.0.1:0"] {
        let message = format!(
            "frond.toml:1: lattice.leaf.listen: '{listen}' is not a loopback address with a port, such as 127.0.0.1:4222"
        );
        assert_eq!(refused(&format!("lattice.leaf.listen = \"{listen}\"")), [message]);
    }
    valid("lattice.leaf.listen = \"[::1]:4222\"");
}

#[test]
fn tokens_of_subjects_are_names() {
    // Goal: no subject is split by a dot. Method: a dot in each.
    let message =
        |key| format!("frond.toml:1: lattice.{key}: 'a.b' is not a name: 1 to 64 of A-Z a-z 0-9 _ -");
    assert_eq!(refused("lattice.subject = \"a.b\""), [message("subject")]);
    assert_eq!(refused("lattice.jetstream_domain = \"a.b\""), [message("jetstream_domain")]);
}

#[test]
fn what_is_probably_not_meant_is_pointed_out() {
    // Goal: what is legal and useless does not pass in silence. Method: each doubt of the tables once.
    let hub = "lattice.leaf.hub = \"tls://hub\"\n";
    assert_eq!(
        doubted(""),
        [
            "frond.toml: lattice.leaf: lattice.leaf.hub is not set: everything stays in the buffer on this gateway"
        ]
    );
    assert_eq!(
        doubted(&format!("{hub}lattice.direct.url = \"tls://hub\"")),
        ["frond.toml:2: lattice.direct.url: is not used while lattice.mode is \"leaf\""]
    );
    assert_eq!(
        doubted(&format!("{hub}lattice.mode = \"off\"")),
        ["frond.toml:1: lattice.leaf.hub: is not used while lattice.mode is \"off\""]
    );
    assert_eq!(
        doubted(&format!("listener = []\n{hub}{}", stream(""))),
        [
            "frond.toml:1: listener: there are streams, no listener and no mqtt.broker.url: nothing is received"
        ]
    );
    let password = "[mqtt.broker]\nurl = \"mqtt://broker\"\nusername = \"u\"\npassword_file = \"/dev/null\"";
    assert_eq!(
        doubted(&format!("{hub}{password}"))[0],
        "frond.toml:5: mqtt.broker.password_file: the password goes to broker without encryption"
    );
}
