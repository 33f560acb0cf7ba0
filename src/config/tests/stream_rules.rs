//! What `[[stream]]` and `[[component]]` refuse, and in which words.

use super::{doubted, refused, stream, valid};
use crate::config::{Decode, FullPolicy, PackedType, Reduce, TimeFormat, TimeSource};

/// A stream with something wrong in its fourth line.
fn refused_stream(more: &str) -> Vec<String> {
    refused(&stream(more))
}

/// Doubts about streams only: those about links are somebody else's.
fn doubted_streams(streams: &str) -> Vec<String> {
    doubted(&format!("lattice.mode = \"off\"\nmqtt.broker.url = \"mqtt://localhost\"\n{streams}"))
}

const PRESS: &str = "frond.toml:4: stream \"press\": ";

#[test]
fn a_stream_needs_a_name_and_topics() {
    // Goal: what has no default must be said. Method: each left out, and an empty list.
    assert_eq!(refused("[[stream]]\ntopics = [\"a\"]"), ["frond.toml:1: stream: 'name' is missing"]);
    let topics = "frond.toml:1: stream \"s\": needs topics = [\"…\"], at least one topic filter";
    assert_eq!(refused("[[stream]]\nname = \"s\""), [topics]);
    assert_eq!(refused("[[stream]]\nname = \"s\"\ntopics = []"), [topics]);
}

#[test]
fn a_streams_name_is_a_token() {
    // Goal: it can be the last token of a subject. Method: a space.
    assert_eq!(
        refused("[[stream]]\nname = \"a b\"\ntopics = [\"a\"]"),
        ["frond.toml:2: stream \"a b\": name: 'a b' is not a name: 1 to 64 of A-Z a-z 0-9 _ -"]
    );
}

#[test]
fn names_are_unique_within_a_file() {
    // Goal: no stream silently overrides another. Method: the same name twice, for streams and components.
    let message = |what| {
        format!("frond.toml:4: {what}: this name is taken on line 1; give one of the two another name")
    };
    let twice = "[[stream]]\nname = \"s\"\ntopics = [\"a\"]\n[[stream]]\nname = \"s\"\ntopics = [\"b\"]";
    assert_eq!(refused(twice), [message("stream \"s\"")]);
    let twice = "[[component]]\nname = \"c\"\npath = \"/a\"\n[[component]]\nname = \"c\"\npath = \"/b\"";
    assert_eq!(refused(twice), [message("component \"c\"")]);
}

#[test]
fn topics_are_topic_filters() {
    // Goal: the broker will take each of them. Method: each fault of 4.7 in a list that spans lines.
    let text = "[[stream]]\nname = \"s\"\ntopics = [\n  \"a/#\",\n  \"a/b#\",\n  \"a/#/b\",\n  \"\",\n  \"$share/g/a\",\n]";
    let message = |line, filter, fault| {
        format!("frond.toml:{line}: stream \"s\": topics: '{filter}' is not a topic filter: {fault}")
    };
    assert_eq!(
        refused(text),
        [
            message(5, "a/b#", "a wildcard must be a whole level, as in a/+/b or a/#"),
            message(6, "a/#/b", "'#' must be the last level"),
            message(7, "", "it is empty"),
            message(8, "$share/g/a", "shared subscriptions ($share) would give readings to somebody else"),
        ]
    );
}

#[test]
fn templates_have_known_placeholders_only() {
    // Goal: a name never has a hole in it. Method: each fault in `series`.
    let message = |said: &str, fault: &str| format!("{PRESS}series: '{said}' is not a template: {fault}");
    let series = |said: &str| refused_stream(&format!("series = \"{said}\""));
    assert_eq!(series("{feild}"), [message("{feild}", "unknown placeholder {feild}; did you mean 'field'?")]);
    assert_eq!(series("{machine}"), [message("{machine}", "unknown placeholder {machine}")]);
    assert_eq!(series("{field"), [message("{field", "a brace has no partner")]);
    assert_eq!(series(""), [message("", "it is empty")]);
    assert_eq!(
        series("{topic.3}"),
        [message("{topic.3}", "there is no level 3 in topics of 'plant/+/press', levels count from 0")]
    );
}

#[test]
fn labels_belong_to_the_series_not_to_a_field() {
    // Goal: a label has one value for a series. Method: {field} in a label, and a name that is none.
    assert_eq!(
        refused_stream("labels = { f = \"{field}\" }"),
        [format!("{PRESS}labels.f: '{{field}}' is not a template: {{field}} cannot stand in a label")]
    );
    assert_eq!(
        refused_stream("labels = { \"a b\" = \"x\" }"),
        [format!("{PRESS}labels.a b: 'a b' is not the name of a label: 1 to 64 of A-Z a-z 0-9 _ - .")]
    );
    let labels =
        valid(&stream("labels = { line = \"{topic.1}\", \"iso.unit\" = \"\" }")).streams.remove(0).labels;
    assert_eq!(labels["line"], "{topic.1}");
}

#[test]
fn a_streams_component_exists() {
    // Goal: no reading waits for a component that never comes. Method: a slip, and no component at all.
    let component = "[[component]]\nname = \"filter\"\npath = \"/f.wasm\"\n";
    assert_eq!(
        refused(&format!("{}\n{component}", stream("component = \"fliter\""))),
        [format!("{PRESS}component: there is no component 'fliter'; did you mean 'filter'?")]
    );
    assert_eq!(refused_stream("component = \"x\""), [format!("{PRESS}component: there is no component 'x'")]);
    valid(&format!("{}\n{component}", stream("component = \"filter\"")));
}

#[test]
fn keys_that_mean_nothing_with_the_decoder_are_refused() {
    // Goal: nobody believes in a key without effect. Method: each such pair.
    let json = "remove it, or use decode = \"json\" or \"cbor\"";
    let refused_with = |decode: &str, key: &str, value: &str, instead: &str| {
        let text = format!("{key} = {value}\ndecode = \"{decode}\"");
        let messages = refused_stream(&text);
        assert_eq!(messages[0], format!("{PRESS}{key}: means nothing with decode = \"{decode}\"; {instead}"));
    };
    refused_with("number", "fields", "[\"a\"]", json);
    refused_with("number", "samples", "\"a\"", json);
    refused_with("packed", "fields", "[\"a\"]\npacked = { sample = \"f32\", rate = 1 }", json);
    refused_with("json", "packed", "{ sample = \"f32\", rate = 1 }", "remove it, or use decode = \"packed\"");
    refused_with("number", "time", "{ field = \"t\", format = \"s\" }", "use time = \"arrival\"");
}

#[test]
fn packed_samples_are_fully_described() {
    // Goal: bytes without a header need every word. Method: each left out, and each value that is none.
    let packed = |packed: &str| refused_stream(&format!("packed = {packed}\ndecode = \"packed\""));
    assert_eq!(
        refused_stream("decode = \"packed\""),
        ["frond.toml:1: stream \"press\": decode = \"packed\" needs packed = { sample = …, rate = … }"]
    );
    assert_eq!(
        packed("{}"),
        [format!("{PRESS}packed: 'sample' is missing"), format!("{PRESS}packed: 'rate' is missing")]
    );
    for (rate, shown) in [("0", "0"), ("-1", "-1"), ("nan", "NaN"), ("inf", "inf"), ("2e9", "2000000000")] {
        let text = format!("{{ sample = \"i16\", rate = {rate} }}");
        assert_eq!(
            packed(&text),
            [format!("{PRESS}packed.rate: {shown} is outside more than 0 to 1000000000")]
        );
    }
    for (scale, shown) in [("0", "0"), ("nan", "NaN"), ("-inf", "-inf")] {
        let text = format!("{{ sample = \"i16\", rate = 1, scale = {scale} }}");
        let message = format!("{PRESS}packed.scale: {shown} is not a factor: a finite number other than 0");
        assert_eq!(packed(&text), [message]);
    }
    assert_eq!(
        packed("{ sample = \"f16\", rate = 1 }"),
        [format!("{PRESS}packed.sample: unknown word 'f16'; did you mean 'i16'?")]
    );
    let text = stream("decode = \"packed\"\npacked = { sample = \"i16\", rate = 25600, scale = 0.5 }");
    let Decode::Packed(packed) = valid(&text).streams.remove(0).decode else { panic!("it is packed") };
    assert_eq!((packed.sample, packed.rate, packed.scale), (PackedType::I16, 25_600.0, 0.5));
}

#[test]
fn a_time_field_has_a_name_and_a_format() {
    // Goal: no format is guessed. Method: each left out, another word, another type.
    let time = |time: &str| refused_stream(&format!("time = {time}"));
    assert_eq!(time("{ field = \"ts\" }"), [format!("{PRESS}time: 'format' is missing")]);
    assert_eq!(time("{ format = \"s\" }"), [format!("{PRESS}time: 'field' is missing")]);
    let form = "\"arrival\" or a table such as { field = \"ts\", format = \"rfc3339\" }";
    assert_eq!(time("\"arival\""), [format!("{PRESS}time: \"arival\" is not {form}")]);
    assert_eq!(time("5"), [format!("{PRESS}time: 5 is not {form}")]);
    for (word, format) in [
        ("rfc3339", TimeFormat::Rfc3339),
        ("s", TimeFormat::Seconds),
        ("ms", TimeFormat::Milliseconds),
        ("ns", TimeFormat::Nanoseconds),
    ] {
        let config = valid(&stream(&format!("time = {{ field = \"a.b\", format = \"{word}\" }}")));
        assert_eq!(config.streams[0].time, TimeSource::Field { field: "a.b".to_owned(), format });
    }
}

#[test]
fn windows_have_bounds() {
    // Goal: the documented range holds. Method: both ends, both sides, and a word that is none.
    let reduce = |reduce: &str| refused_stream(&format!("reduce = {reduce}"));
    assert_eq!(
        reduce("{ window = \"99ms\" }"),
        [format!("{PRESS}reduce.window: 99ms is outside 100ms to 1d")]
    );
    assert_eq!(reduce("{ window = \"25h\" }"), [format!("{PRESS}reduce.window: 25h is outside 100ms to 1d")]);
    assert_eq!(
        reduce("{ lateness = \"25h\" }"),
        [format!("{PRESS}reduce.lateness: 25h is outside 0ms to 1d")]
    );
    let form = "\"none\" or a table such as { window = \"60s\", lateness = \"5s\" }";
    assert_eq!(reduce("\"non\""), [format!("{PRESS}reduce: \"non\" is not {form}")]);
    valid(&stream("reduce = { window = \"100ms\", lateness = \"0s\" }"));
    valid(&stream("reduce = { window = \"24h\", lateness = \"24h\" }"));
    assert_eq!(valid(&stream("reduce = \"none\"")).streams[0].reduce, Reduce::None);
}

#[test]
fn senders_cannot_be_held_back_without_acknowledgements() {
    // Goal: full = "reject" is refused where it could do nothing. Method: both settings it contradicts.
    let message = |because| {
        format!(
            "{PRESS}full: full = \"reject\" withholds acknowledgements, and with {because} there are none to withhold"
        )
    };
    assert_eq!(
        refused_stream("full = \"reject\"\ndurability = \"none\""),
        [message("durability = \"none\"")]
    );
    assert_eq!(refused_stream("full = \"reject\"\nqos = 0"), [message("qos = 0")]);
    assert_eq!(valid(&stream("full = \"reject\"")).streams[0].full, FullPolicy::Reject);
}

#[test]
fn a_streams_caps_have_bounds() {
    // Goal: each documented range is the one that holds. Method: both ends, and one beyond each.
    let cases = [
        ("payload_bytes_max", "1", "\"64MiB\"", "0", "\"65MiB\"", "1B to 64MiB"),
        ("depth_max", "1", "64", "0", "65", "1 to 64"),
        ("samples_max", "1", "1048576", "0", "1048577", "1 to 1048576"),
        ("series_max", "1", "1000000", "0", "1000001", "1 to 1000000"),
        ("outbox_bytes_max", "\"64KiB\"", "\"16TiB\"", "1", "\"17TiB\"", "64KiB to 16TiB"),
        ("expect_per_second", "0", "1e9", "-1.0", "nan", "0 to 1000000000"),
        ("expect_series", "1", "1000000", "0", "1000001", "1 to 1000000"),
        ("qos", "0", "1", "-1", "2", "0 to 1"),
    ];
    for (key, least, most, below, above, range) in cases {
        valid(&stream(&format!("{key} = {least}")));
        valid(&stream(&format!("{key} = {most}")));
        for outside in [below, above] {
            let message = refused_stream(&format!("{key} = {outside}")).remove(0);
            assert!(message.starts_with(&format!("{PRESS}{key}: ")), "{message}");
            assert!(message.ends_with(&format!(" is outside {range}")), "{message}");
        }
    }
}

#[test]
fn texts_of_a_stream_have_bounds() {
    // Goal: nothing unprintable ends up in a row. Method: one too long, one with a control character.
    let unit = refused_stream(&format!("unit = \"{}\"", "x".repeat(65)));
    assert_eq!(unit, [format!("{PRESS}unit: must be 1 to 64 characters without control characters")]);
    let fields = refused_stream("fields = [\"a\\tb\"]");
    assert_eq!(fields, [format!("{PRESS}fields: must be 1 to 1024 characters without control characters")]);
    assert_eq!(valid(&stream("unit = \"\"")).streams[0].unit, "");
}

#[test]
fn there_may_not_be_too_many_of_anything() {
    // Goal: what is compared, kept or printed for each is bounded. Method: one more than allowed.
    let topics: Vec<String> = (0..65).map(|n| format!("\"t/{n}\"")).collect();
    let text = format!("[[stream]]\nname = \"s\"\ntopics = [{}]", topics.join(","));
    assert_eq!(refused(&text), ["frond.toml:3: stream \"s\": topics: 65 are too many, at most 64 are taken"]);
    let labels: Vec<String> = (0..33).map(|n| format!("l{n} = \"\"")).collect();
    let text = refused_stream(&format!("labels = {{ {} }}", labels.join(",")));
    assert_eq!(text, [format!("{PRESS}labels: 33 are too many, at most 32 are taken")]);
    let streams: String =
        (0..257).map(|n| format!("[[stream]]\nname = \"s{n}\"\ntopics = [\"t/{n}\"]\n")).collect();
    assert_eq!(refused(&streams), ["frond.toml:1: stream: 257 are too many, at most 256 are taken"]);
    let filters = |n: usize| (0..64).map(|t| format!("\"t/{n}/{t}\"")).collect::<Vec<_>>().join(",");
    let streams: String =
        (0..33).map(|n| format!("[[stream]]\nname = \"s{n}\"\ntopics = [{}]\n", filters(n))).collect();
    assert_eq!(refused(&streams), ["frond.toml:1: stream: 2112 are too many, at most 2048 are taken"]);
}

#[test]
fn a_component_needs_a_path_and_sane_limits() {
    // Goal: a component that could never run is refused. Method: each key.
    let component = |more: &str| refused(&format!("[[component]]\nname = \"c\"\n{more}"));
    assert_eq!(component(""), ["frond.toml:1: component \"c\": 'path' is missing"]);
    let component = |more: &str| component(&format!("path = \"/c\"\n{more}"));
    let message = |key: &str, what: &str| [format!("frond.toml:4: component \"c\": {key}: {what}")];
    assert_eq!(component("memory_bytes_max = 1"), message("memory_bytes_max", "1B is outside 1MiB to 1GiB"));
    assert_eq!(component("deadline = \"61s\""), message("deadline", "61s is outside 1ms to 1m"));
    assert_eq!(component("cpu_share_percent = 101"), message("cpu_share_percent", "101 is outside 1 to 100"));
    let rate = "readings_in_per_second";
    assert_eq!(component(&format!("{rate} = 0")), message(rate, "0 is outside 1 to 100000000"));
    let rate = "readings_out_per_second";
    assert_eq!(component(&format!("{rate} = -1")), message(rate, "-1 is outside 0 to 100000000"));
    assert_eq!(
        component("alarms_per_second = 10001"),
        message("alarms_per_second", "10001 is outside 0 to 10000")
    );
    assert_eq!(
        component("state_bytes_max = \"2MiB\""),
        message("state_bytes_max", "2MiB is outside 1KiB to 1MiB")
    );
    assert_eq!(component("hold_readings_max = 0"), message("hold_readings_max", "0 is outside 1 to 1048576"));
    assert_eq!(
        component("quarantine_failures = 101"),
        message("quarantine_failures", "101 is outside 0 to 100")
    );
    assert_eq!(
        component("quarantine_within = \"0s\""),
        message("quarantine_within", "0ms is outside 1s to 1d")
    );
    assert_eq!(component("trial = \"2h\""), message("trial", "2h is outside 1s to 1h"));
    assert_eq!(component("trial_batches = 0"), message("trial_batches", "0 is outside 1 to 1000000"));
    assert_eq!(component("probation = \"8d\""), message("probation", "8d is outside 1s to 7d"));
    assert_eq!(
        component("log_lines_per_second = 1001"),
        message("log_lines_per_second", "1001 is outside 0 to 1000")
    );
    assert_eq!(
        component("commands_per_second = 1001"),
        message("commands_per_second", "1001 is outside 0 to 1000")
    );
    let dollar = "'$SYS/x' is not a topic filter: topics that begin with '$' are a broker's own";
    assert_eq!(component("commands = [\"$SYS/x\"]"), message("commands", dollar));
    assert_eq!(component("timer = \"499ms\""), message("timer", "499ms is outside 500ms to 1d"));
    let words = "unknown word 'keep'; known are pass, drop, hold";
    assert_eq!(component("fallback = \"keep\""), message("fallback", words));
    assert_eq!(component("config = { a = 1 }"), message("config.a", "1 is not text in quotes"));
    assert_eq!(refused("[[component]]\npath = \"/c\""), ["frond.toml:1: component: 'name' is missing"]);
}

#[test]
fn a_stream_that_never_gets_anything_is_pointed_out() {
    // Goal: the order of streams is noticed when it matters. Method: the same filter twice, and one within another.
    let two = |first: &str, second: &str| {
        let text = |name, topic| format!("[[stream]]\nname = \"{name}\"\ntopics = [\"{topic}\"]\n");
        doubted_streams(&format!("{}{}", text("a", first), text("b", second)))
    };
    let message = |filter: &str, by: &str| {
        let said = format!("'{filter}' never gets here: stream \"a\" comes first and takes '{by}'");
        [format!("frond.toml:8: stream \"b\": topics: {said}")]
    };
    assert_eq!(two("x/#", "x/#"), message("x/#", "x/#"));
    assert_eq!(two("x/#", "x/+/y"), message("x/+/y", "x/#"));
    assert_eq!(two("x/+/y", "x/#"), [""; 0]);
}

#[test]
fn what_is_probably_not_meant_in_a_stream_is_pointed_out() {
    // Goal: legal and useless does not pass in silence. Method: each doubt once.
    let message = |key: &str, what: &str| [format!("frond.toml:6: stream \"press\": {key}: {what}")];
    assert_eq!(
        doubted_streams(&stream("series = \"{topic}\"")),
        message("series", "without {field} all fields of a payload become one series")
    );
    assert_eq!(doubted_streams(&stream("series = \"{topic}\"\nfields = [\"a\"]")), [""; 0]);
    assert_eq!(doubted_streams(&stream("series = \"{topic}\"\ndecode = \"number\"")), [""; 0]);
    assert_eq!(
        doubted_streams(&stream("outbox_bytes_max = \"1GiB\"")),
        message("outbox_bytes_max", "is more than outbox.bytes_max, which comes first")
    );
    assert_eq!(
        doubted_streams(&format!(
            "journal.wear_bytes_per_day = \"500MB\"\n{}",
            stream("expect_per_second = 1000")
        )),
        [
            "frond.toml:3: journal.wear_bytes_per_day: the streams are expected to write 865 MB a day, more than the \
          budget of 500 MB"
        ]
    );
    assert_eq!(
        doubted_streams("[[component]]\nname = \"c\"\npath = \"/dev/null\"")[0],
        "frond.toml:3: component \"c\": no stream uses this component"
    );
    // Its place is told, whatever stands before it.
    let wasmcloud = "[[component]]\nname = \"w\"\nkind = \"wasmcloud\"\npath = \"/dev/null\"\n\
                     [[component.link]]\ninterface = \"wasmcloud:messaging/handler\"\nprovider = \"mqtt\"\n\
                     source_config = { topics = [\"a\"] }\n";
    assert_eq!(
        doubted_streams(&format!("{wasmcloud}[[component]]\nname = \"c\"\npath = \"/dev/null\"")),
        ["frond.toml:11: component \"c\": no stream uses this component"]
    );
    let component = "[[component]]\nname = \"c\"\npath = \"/dev/null\"\ncommands = [\"a/set\"]";
    assert_eq!(
        doubted(&format!("lattice.mode = \"off\"\nlistener = []\n{component}"))[1],
        "frond.toml:6: component \"c\": commands: there are no listener and no mqtt.broker.url: its commands reach nothing"
    );
    let press = |more: &str| {
        doubted_streams(&format!(
            "{component}\n[[stream]]\nname = \"s\"\ntopics = [\"a/+\"]\ncomponent = \"c\"\n{more}"
        ))
    };
    let message = |what: &str| format!("frond.toml:6: component \"c\": commands: {what}");
    let back =
        message("what it commands to 'a/set' comes back as readings of stream \"s\", which takes 'a/+'");
    let late = message(
        "readings of stream \"s\" have no time of their own: what waited in a sensor or a broker moves things when it comes, however \
         late; set time, and let the component look at it",
    );
    assert_eq!(press(""), [back.clone(), late]);
    assert_eq!(press("time = { field = \"ts\", format = \"ms\" }"), [back]);
}
