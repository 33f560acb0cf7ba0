//! What `[[component]]` with `kind = "wasmcloud"` refuses, and in which words; and what it comes to.

use std::time::Duration;

use super::{Surroundings, doubted, here, inspect_text, refused, valid};
use crate::config::{
    HttpHost, HttpScheme, HttpSource, HttpTarget, LinkEnd, Overflow, SecretFile, Source, Target,
};

const HANDLER: &str = "[[component.link]]\ninterface = \"wasmcloud:messaging/handler\"\n";

fn component(more: &str) -> String {
    format!("[[component]]\nname = \"desk\"\npath = \"/dev/null\"\nkind = \"wasmcloud\"\n{more}")
}

fn mqtt(more: &str) -> String {
    component(&format!("{HANDLER}provider = \"mqtt\"\nsource_config = {{ topics = [\"orders/#\"] }}\n{more}"))
}

fn blobs(more: &str) -> String {
    mqtt(&format!("[[component.link]]\ninterface = \"wasi:blobstore\"\n{more}"))
}

fn secrets(pairs: &str) -> String {
    let links = mqtt("");
    links.replacen("kind =", &format!("secrets = {{ {pairs} }}\nkind ="), 1)
}

/// The only thing wrong with it.
fn refusal(text: &str) -> String {
    let refusals = refused(text);
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
    refusals[0].clone()
}

#[test]
fn the_smallest_one_has_the_documented_defaults() {
    // Goal: what config/frond.toml shows is what counts. Method: one link, and every value that follows.
    let links =
        ["keyvalue", "blobstore"].map(|name| format!("[[component.link]]\ninterface = \"wasi:{name}\"\n"));
    let config = valid(&mqtt(&links.concat()));
    assert!(config.components.is_empty(), "it is no telemetry processor");
    let [desk] = &config.workloads[..] else { panic!("one component") };
    assert_eq!(desk.component.deadline, Duration::from_secs(5));
    assert_eq!((desk.inbox.messages_max, desk.inbox.bytes_max), (256, 1 << 20));
    assert_eq!((desk.inbox.overflow, desk.messages_out_per_second), (Overflow::DropOldest, 200));
    let topics = vec!["orders/#".to_owned()];
    let source = Source::Mqtt { topics, qos: 1, map: Default::default() };
    assert_eq!((&*desk.links[0].name, &desk.links[0].end), ("default", &LinkEnd::Source(source)));
    assert_eq!(desk.links[1].end, LinkEnd::KeyValue { bytes_max: 1 << 20, keys_max: 10_000 });
    assert_eq!(desk.links[2].end, LinkEnd::Blobs { bytes_max: 64 << 20, objects_max: 1_000 });
}

#[test]
fn secrets_are_files_by_the_components_names_for_them() {
    // Goal: a relative one is a credential where the service has any, and what is said is kept for who has to mend it;
    // a name with a dot in it is a name. Method: both forms, with a credentials folder and without one.
    let text = secrets("api-key = \"plant-key\", \"a.b\" = \"/etc/key\"");
    let file = |said: &str, path: &str| SecretFile { said: said.to_owned(), path: path.into() };
    let config = valid(&text);
    let secrets = &config.workloads[0].secrets;
    assert_eq!((&secrets["api-key"].said[..], &secrets["a.b"]), ("plant-key", &file("/etc/key", "/etc/key")));
    let there = Surroundings { credentials_dir: Some("/run/credentials/frond".into()), ..here() };
    let config = inspect_text(&text, "frond.toml", &there).config.expect("valid");
    let expected = file("plant-key", "/run/credentials/frond/plant-key");
    assert_eq!(config.workloads[0].secrets["api-key"], expected);
    let shown = format!("{:?}", config.workloads[0].secrets);
    assert!(shown.contains("plant-key"), "names are no secret: {shown}");
}

#[test]
fn links_of_every_kind_are_read() {
    // Goal: names, maps and both providers. Method: each written out.
    let config = valid(&mqtt(
        "[[component.link]]\ninterface = \"wasmcloud:messaging/consumer\"\nname = \"up\"\nprovider = \"nats\"\n\
         target_config = { subjects = [\"plant.>\"] }\n\
         [[component.link]]\ninterface = \"wasmcloud:messaging/consumer\"\nprovider = \"mqtt\"\n\
         target_config = { topics = [\"a/+\"], qos = 0, retain = true, map = { \"a.b\" = \"a/b\" } }\n",
    ));
    let links = &config.workloads[0].links;
    let up = LinkEnd::Target(Target::Nats { subjects: vec!["plant.>".to_owned()] });
    assert_eq!((&*links[1].name, &links[1].end), ("up", &up));
    let map = [("a.b".to_owned(), "a/b".to_owned())].into();
    let here = Target::Mqtt { topics: vec!["a/+".to_owned()], qos: 0, retain: true, map };
    assert_eq!(links[2].end, LinkEnd::Target(here));
    let timer =
        format!("{HANDLER}name = \"poll\"\nprovider = \"timer\"\nsource_config = {{ every = \"1s\" }}\n");
    let config = valid(&format!("listener = []\n{}", component(&timer)));
    let every = LinkEnd::Source(Source::Timer { every: Duration::from_secs(1) });
    assert_eq!((&*config.workloads[0].links[0].name, &config.workloads[0].links[0].end), ("poll", &every));
}

/// A component that is asked by HTTP at this address.
fn asked(name: &str, address: &str) -> String {
    format!(
        "[[component]]\nname = \"{name}\"\npath = \"/dev/null\"\nkind = \"wasmcloud\"\n\
         [[component.link]]\ninterface = \"wasi:http/incoming-handler\"\nsource_config = {{ address = \"{address}\" }}\n"
    )
}

#[test]
fn links_by_http_have_the_documented_defaults() {
    // Goal: what config/frond.toml shows is what counts, and a component that only pages are asked of is called. Method: a
    // link of either direction, and every value that follows.
    let outgoing = "[[component.link]]\ninterface = \"wasi:http/outgoing-handler\"\n\
                    target_config = { hosts = [\"API.example.com\", \"http://10.0.0.5:8080\"] }\n";
    let config = valid(&format!("{}{outgoing}", asked("desk", "127.0.0.1:8080")));
    let [desk] = &config.workloads[..] else { panic!("one component") };
    assert_eq!(desk.connections_out_max, 4);
    let source = HttpSource {
        address: "127.0.0.1:8080".parse().unwrap(),
        connections_max: 16,
        body_bytes_max: 256 << 10,
        answer_bytes_max: 1 << 20,
    };
    assert_eq!(desk.links[0].end, LinkEnd::HttpSource(source));
    let host = |scheme, name: &str, port| HttpHost { scheme, name: name.to_owned(), port };
    let hosts =
        vec![host(HttpScheme::Https, "api.example.com", 443), host(HttpScheme::Http, "10.0.0.5", 8080)];
    let target = HttpTarget { hosts, ca: None, answer_bytes_max: 4 << 20 };
    assert_eq!(desk.links[1].end, LinkEnd::HttpTarget(target));
}

#[test]
fn an_address_is_for_one_and_one_for_everybody_is_doubted() {
    // Goal: what the start would fail on is seen before. Method: an address of another component, of a listener, of the
    // leaf node, one that is none, and one that the whole plant reaches.
    let listener = "[[listener]]\nname = \"site\"\nbind = \"0.0.0.0:1884\"\nanonymous = \"always\"\n";
    for (text, end) in [
        (
            asked("a", "127.0.0.1:8080") + &asked("b", "127.0.0.1:8080"),
            "component \"a\" listens there already",
        ),
        (format!("{listener}{}", asked("a", "127.0.0.1:1884")), "listener \"site\" listens there already"),
        (asked("a", "127.0.0.1:4222"), "the leaf node (lattice.leaf.listen) listens there already"),
        (asked("a", "localhost:80"), "such as 127.0.0.1:1883, 0.0.0.0:8883 or [::]:8883"),
        (asked("a", "127.0.0.1:0"), "such as 127.0.0.1:1883, 0.0.0.0:8883 or [::]:8883"),
    ] {
        let said = refusal(&text);
        assert!(said.ends_with(end), "{said}");
    }
    valid(&(asked("a", "127.0.0.1:8080") + &asked("b", "127.0.0.1:8081")));
    let said = doubted(&asked("a", "0.0.0.0:8080"));
    assert!(said.iter().any(|doubt| doubt.contains("the gateway asks for no password")), "{said:?}");
}

#[test]
fn what_could_never_work_is_refused() {
    // Goal: a slip is found before the gateway starts. Method: each kind of slip, by the end of its message.
    for (text, end) in [
        (component(""), "with interface = \"wasmcloud:messaging/handler\" or \"wasi:http/incoming-handler\""),
        (component(HANDLER), "'provider' is missing"),
        (component(&format!("{HANDLER}provider = \"mqtt\"")), "'topics' is missing"),
        (component(&format!("{HANDLER}provider = \"nats\"")), "'subjects' is missing"),
        (mqtt("[[component.link]]\nname = \"x\""), "'interface' is missing"),
        (component("[[component.link]]\ninterface = \"wasi:http/incoming-handler\""), "'address' is missing"),
        (mqtt("[[component.link]]\ninterface = \"wasi:http/outgoing-handler\""), "'hosts' is missing"),
        (
            mqtt(
                "[[component.link]]\ninterface = \"wasi:http/outgoing-handler\"\n\
                 target_config = { hosts = [\"*.example.com\"] }",
            ),
            "and http:// before it for one without TLS",
        ),
        (blobs("target_config = { objects_max = 0 }"), "0 is outside 1 to 100000"),
        (blobs("target_config = { bytes_max = 1 }"), "is outside 64KiB to 1TiB"),
        (
            blobs("source_config = { topics = [\"a\"] }"),
            "means nothing with this interface; target_config does",
        ),
        (component(&format!("{HANDLER}provider = \"timer\"")), "'every' is missing"),
        (
            component(&format!("{HANDLER}provider = \"timer\"\nsource_config = {{ every = \"1ms\" }}")),
            "1ms is outside 10ms to 1d",
        ),
        (
            component(
                &format!("{HANDLER}provider = \"timer\"\nsource_config = {{ every = \"1s\" }}\n").repeat(2),
            ),
            "their messages could not be told apart; name them",
        ),
        (
            mqtt("[[component.link]]\ninterface = \"wasmcloud:messaging/consumer\"\nprovider = \"timer\""),
            "it belongs to interface = \"wasmcloud:messaging/handler\"",
        ),
        (
            mqtt("target_config = { topics = [\"a\"] }"),
            "means nothing with this interface; source_config does",
        ),
        (format!("listener = []\n{}", mqtt("")), "neither a [[listener]] nor mqtt.broker.url"),
        (
            component(&format!("{HANDLER}provider = \"nats\"\nsource_config = {{ subjects = [\"a b\"] }}")),
            "'a b' is not a subject: tokens without spaces, with a '.' between them",
        ),
        (
            "[[component]]\nname = \"c\"\npath = \"/dev/null\"\nsecrets = { a = \"b\" }".to_owned(),
            "means nothing without kind = \"wasmcloud\"",
        ),
        (secrets("\"\" = \"b\""), "must be 1 to 128 characters without control characters"),
        (secrets("a = \"\""), "must be 1 to 4095 characters without control characters"),
        (
            "[[component]]\nname = \"c\"\npath = \"/dev/null\"\noverflow = \"drop-newest\"".to_owned(),
            "means nothing without kind = \"wasmcloud\"",
        ),
    ] {
        let said = refusal(&text);
        assert!(said.ends_with(end), "{said}");
    }
}
