//! Any text gives a configuration or an error: never a panic, never more problems than can be read.

use proptest::prelude::*;

use super::super::diagnose::PROBLEMS_MAX;
use super::parse;
use crate::config::DEFAULT;

/// Lines such as stand in a configuration, with values that mostly do not belong there.
fn line() -> impl Strategy<Value = String> {
    let table = prop::sample::select(vec![
        "[gateway]",
        "[clock]",
        "[mqtt]",
        "[mqtt.broker]",
        "[lattice]",
        "[lattice.leaf]",
        "[lattice.direct]",
        "[journal]",
        "[outbox]",
        "[uplink]",
        "[mqtt.clients]",
        "[[component]]",
        "[[listener]]",
        "[[user]]",
        "[[stream]]",
        "[stream]",
        "[[gateway]]",
        "[stream.labels]",
        "[[lattice.leaf]]",
    ]);
    let key = prop::sample::select(vec![
        "name",
        "data_dir",
        "url",
        "keep_alive",
        "inflight_max",
        "mode",
        "hub",
        "listen",
        "commit_interval",
        "bytes_max",
        "path",
        "config",
        "topics",
        "qos",
        "decode",
        "fields",
        "packed",
        "time",
        "series",
        "labels",
        "reduce",
        "lane",
        "full",
        "component",
        "payload_bytes_max",
        "expect_per_second",
        "stream",
        "gateway",
        "topcis",
        "\"\"",
        "a.b",
        "packet_bytes_max",
        "bind",
        "tls",
        "anonymous",
        "publish",
        "listener",
    ]);
    let value = prop::sample::select(vec![
        "1",
        "-1",
        "0",
        "1.5",
        "nan",
        "-inf",
        "99999999999999999999",
        "0xff",
        "true",
        "\"\"",
        "\"press\"",
        "\"1s\"",
        "\"64KiB\"",
        "[]",
        "[\"a/#\"]",
        "[\"#/a\", 1]",
        "[[]]",
        "{}",
        "{ a = 1 }",
        "{ field = \"ts\", format = \"s\" }",
        "[{ name = \"press\" }]",
        "{ sample = \"f32\", rate = 0.0 }",
        "1979-05-27",
        "\"direct\"",
        "\"127.0.0.1:1883\"",
        "{ certificate = \"c\" }",
        "[\"{user}/{client}\"]",
        "\"mqtt://h\"",
        "\"{topic.9}\"",
        "\"packed\"",
        "=",
        "\"",
    ]);
    prop_oneof![
        1 => table.prop_map(str::to_owned),
        4 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => "\\PC{0,30}",
    ]
}

fn examine(text: &str) -> Result<(), TestCaseError> {
    if let Err(error) = parse(text, "frond.toml") {
        prop_assert!(!error.problems.is_empty(), "refused without a reason");
        prop_assert!(error.problems.len() <= 2 * PROBLEMS_MAX + 2);
        prop_assert!(!error.to_string().contains("(default)"), "{error}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_lines_give_an_answer(lines in prop::collection::vec(line(), 0..24)) {
        // Goal: no configuration crashes the gateway. Method: known words in wrong places.
        examine(&lines.join("\n"))?;
    }

    #[test]
    fn any_damage_to_the_default_gives_an_answer(at in 0..DEFAULT.len(), cut in 0..40usize, patch in "\\PC{0,12}") {
        // Goal: as above, for what editors and bad flash do. Method: replace a piece of the default.
        let text: String = DEFAULT.chars().take(at).chain(patch.chars()).chain(DEFAULT.chars().skip(at + cut)).collect();
        examine(&text)?;
    }

    #[test]
    fn any_text_gives_an_answer(text in any::<String>()) {
        // Goal: as above, for what is no configuration at all. Method: arbitrary text.
        examine(&text)?;
    }
}

#[test]
fn a_flood_of_problems_is_cut_off() {
    // Goal: a file of the wrong kind does not fill the screen or the day. Method: ten thousand unknown keys.
    let text: String = (0..10_000).map(|n| format!("key_{n} = {n}\n")).collect();
    let error = parse(&text, "frond.toml").expect_err("nothing of it is known");
    assert_eq!(error.problems.len(), PROBLEMS_MAX + 1);
    let last = error.problems.iter().find(|problem| problem.at.is_none()).expect("one is about the file");
    assert_eq!(last.to_string(), "frond.toml: there are more problems; mend these first");
}

#[test]
fn deep_nesting_is_refused() {
    // Goal: no recursion without a bound. Method: far more brackets than the parser takes.
    let text = format!("stream = {}1{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(parse(&text, "frond.toml").is_err_and(|error| !error.problems.is_empty()));
}

#[test]
fn files_from_other_systems_are_read() {
    // Goal: an editor's line ends and byte order mark do not matter. Method: both, and the line of a problem behind them.
    let name = |text: &str| parse(text, "frond.toml").map(|config| config.gateway.name);
    assert_eq!(name("\u{feff}[gateway]\r\nname = \"g\"\r\n").as_deref(), Ok("g"));
    let error = parse("\u{feff}[gateway]\r\n\r\nnam = 1\r\n", "frond.toml").expect_err("unknown key");
    assert_eq!(error.to_string(), "frond.toml:3: gateway: unknown key 'nam'; did you mean 'name'?");
}
