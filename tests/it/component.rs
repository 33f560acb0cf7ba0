//! What authors of components use, as a program: `frond component new`, `build`, `inspect`, `test` and `bench`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value as Json;

/// Largest component that ships, as the README says.
const SHIPPED_BYTES_MAX: u64 = 150_000;

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from)
}

fn guest(name: &str) -> PathBuf {
    let path = target().join("guests/wasm32-wasip2/release").join(name).with_extension("wasm");
    assert!(path.exists(), "{} is not there: run `just guests` first", path.display());
    path
}

/// What ships: the members of the components' workspace, but for what they have in common.
fn shipped() -> Vec<String> {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("components/Cargo.toml"));
    let manifest: toml::Table = manifest.unwrap().parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap().iter();
    members.map(|member| member.as_str().unwrap().to_owned()).filter(|member| member != "kit").collect()
}

fn frond(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_frond"));
    // Compiled code is shared between tests, as between an author's runs.
    command.arg("component").args(args).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command.env("CARGO_NET_OFFLINE", "true").env("CARGO_TARGET_DIR", target().join("tmp/author"));
    command.output().unwrap()
}

/// Runs it and gives its exit code, standard output and standard error.
fn said(args: &[&str]) -> (i32, String, String) {
    let output = frond(args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn json(args: &[&str]) -> (i32, Json) {
    let (code, out, errors) = said(args);
    (code, serde_json::from_str(&out).unwrap_or_else(|err| panic!("{err}: {out}{errors}")))
}

#[test]
fn a_new_component_builds_is_inspected_and_tested_as_its_readme_says() {
    // Goal: the five commands of the README work as they stand, offline. Method: all of them in a folder of its own; the rows
    // are those that the template's arithmetic gives.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let (code, out, errors) = said(&["new", "spike-filter", "--path", path]);
    assert_eq!(code, 0, "{out}{errors}");
    let folder = dir.path().join("spike-filter");
    let (code, _, errors) = said(&["new", "spike-filter", "--path", path]);
    assert!(code == 1 && errors.contains("is there already"), "{errors}");

    let tested = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "--quiet"])
        .current_dir(&folder)
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_TARGET_DIR", target().join("tmp/author"))
        .output()
        .unwrap();
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));

    let (code, report) = json(&["build", folder.to_str().unwrap(), "--json"]);
    assert_eq!((code, &report["world"]), (0, &Json::from("frond:telemetry/stateful@0.1.1")), "{report}");
    assert_eq!(report["opens"], true, "{report}");
    assert!(report["wasm_bytes"].as_u64().unwrap() <= SHIPPED_BYTES_MAX, "{report}");
    let wasm = report["file"].as_str().unwrap();

    let readings = folder.join("readings.csv");
    let test = ["test", wasm, "--input", readings.to_str().unwrap(), "--config", "series=*/temperature"];
    let (code, out, errors) = said(&[&test[..], &["--restart-at", "6", "--plot"]].concat());
    assert_eq!(code, 0, "{out}{errors}");
    let found: Vec<&str> = out.lines().skip(1).map(|line| line.split(',').nth(3).unwrap()).collect();
    assert_eq!(found, ["0", "1.5", "1", "1.5", "40", "1.6", "-12", "1.5", "-8", "1.4"]);
    assert!(
        errors.contains("restart after 6 readings, with a snapshot of 21 bytes: the same readings"),
        "{errors}"
    );
    assert!(errors.contains("line4/temperature °C: 5 readings, -12 to 40"), "{errors}");
}

#[test]
fn commands_and_ticks_are_shown_and_none_is_sent() {
    // Goal: an author sees what a component would move, and when its timer would call it. Method: a recording of four
    // seconds, with one reading that closes the valve, and a tick that does; one series that is silent from the second on.
    let dir = tempfile::tempdir().unwrap();
    let recording = dir.path().join("readings.csv");
    std::fs::write(&recording, "time,a,b\n1,50,1\n2,95,\n3,40,\n4,41,\n").unwrap();
    let recording = recording.to_str().unwrap();
    let (valve, watchman) = (guest("valve"), guest("watchman"));
    let test = ["test", valve.to_str().unwrap(), "--input", recording];
    let (code, _, errors) = said(&test);
    assert!(code == 1 && errors.contains("commands = [\"TOPIC\"]"), "{code} {errors}");
    let granted = [&test[..], &["--set", "commands=[\"own/+/set\"]", "--config", "tick-at=2"]].concat();
    let (code, _, errors) = said(&granted);
    assert_eq!(code, 0, "{errors}");
    let told = "commands: 2 given, 0 refused; none is sent from here\n  own/valve/set close 95\n  own/valve/set tick\n";
    assert!(errors.contains(told), "{errors}");

    // A restart gives nobody more than the rate does.
    let fast = dir.path().join("fast.csv");
    let rows: String = (0..300).map(|n| format!("{}.{:02},90\n", n / 100, n % 100)).collect();
    std::fs::write(&fast, format!("time,a\n{rows}")).unwrap();
    let slow = ["--set", "commands=[\"own/+/set\"]", "--set", "commands_per_second=1", "--restart-at", "150"];
    let (code, _, errors) =
        said(&[&["test", valve.to_str().unwrap(), "--input", fast.to_str().unwrap()], &slow[..]].concat());
    assert!(code == 0 && errors.contains("commands: 12 given"), "{errors}");

    let test = ["test", watchman.to_str().unwrap(), "--input", recording];
    let (code, out, errors) = said(&test);
    assert_eq!(code, 0, "{errors}");
    assert!(
        errors.contains("timer: 3 ticks\n") && errors.contains("alarms: 1 raised, 0 cleared"),
        "{errors}"
    );
    assert!(out.contains("b is silent"), "{out}");
    let (code, _, errors) = said(&[&test[..], &["--set", "timer=2s"]].concat());
    assert!(code == 0 && errors.contains("timer: 1 ticks\n"), "{errors}");
    // A gap is silence, and the timer goes on in it.
    let gap = dir.path().join("gap.csv");
    std::fs::write(&gap, "time,a\n1,50\n2,51\n40,52\n").unwrap();
    let (code, out, errors) = said(&["test", watchman.to_str().unwrap(), "--input", gap.to_str().unwrap()]);
    assert!(code == 0 && errors.contains("timer: 39 ticks\n"), "{errors}");
    assert!(errors.contains("alarms: 1 raised, 1 cleared") && out.contains("a is silent"), "{errors} {out}");
    let (code, out, _) = said(&["inspect", watchman.to_str().unwrap()]);
    assert!(code == 0 && out.contains("frond:telemetry/timed@0.1.1"), "{out}");
}

#[test]
fn every_component_that_ships_is_small_and_gets_what_it_asks_for() {
    // Goal: the promises of the README about what ships. Method: `inspect` of each; a component that grows fails here.
    for name in shipped() {
        let file = guest(&name);
        let (code, report) = json(&["inspect", file.to_str().unwrap(), "--json"]);
        assert_eq!((code, &report["opens"]), (0, &Json::from("with options")), "{name}: {report}");
        let world = if name == "calibrate" { "stateless" } else { "stateful" };
        assert_eq!(report["world"], format!("frond:telemetry/{world}@0.1.1"), "{name}");
        let bytes = report["wasm_bytes"].as_u64().unwrap();
        assert!(
            bytes <= SHIPPED_BYTES_MAX,
            "{name} has {bytes} bytes, more than the {SHIPPED_BYTES_MAX} that a component which ships may have"
        );
        let imports = report["imports"].as_array().unwrap();
        assert!(
            !imports.is_empty() && imports.iter().all(|import| import["given"] == true),
            "{name}: {report}"
        );
        assert!(report["memory_bytes"].as_u64().unwrap() >= 64 << 10, "{name}: {report}");
        assert!(report["compiled_bytes"].as_u64().unwrap() > bytes / 2, "{name}: {report}");
    }
    let (code, out, _) = said(&["inspect", guest("limits").to_str().unwrap(), "--config", "high=*: 80"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("processor@0.1.1 (configure, announce, process)"), "{out}");
    assert!(out.contains("\nopens in "), "{out}");
}

#[test]
fn what_a_gateway_would_refuse_is_described_with_what_to_do() {
    // Goal: an author learns from one run what is wrong with a file, and scripts learn it from the exit code. Method: one file
    // of each kind; no message may be wasmtime's alone where we know better.
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let whole = fs::read(guest("limits")).unwrap();
    let huge = file("huge.wasm", &whole);
    fs::File::options().write(true).open(&huge).unwrap().set_len(100 << 20).unwrap();
    for (path, expected, words) in [
        (dir.path().join("none.wasm"), 1, "cannot read"),
        (file("empty.wasm", b""), 1, "is no WebAssembly"),
        (file("text.wasm", b"#!/bin/sh\nexit 0"), 1, "is no WebAssembly"),
        (
            file("core.wasm", b"\0asm\x01\0\0\0"),
            1,
            "is a core module, not a component: build it for wasm32-wasip2",
        ),
        (file("future.wasm", b"\0asm\x0e\0\x01\0"), 1, "WebAssembly of another kind"),
        (file("cut.wasm", &whole[..whole.len() / 2]), 1, "does not compile"),
        (huge, 1, "more than the 33554432 a component may have"),
        (file("other.wasm", b"\0asm\x0d\0\x01\0"), 4, "world unknown: it is for another host"),
        (guest("clerk"), 0, "given by a [[component.link]] with interface = \"wasi:keyvalue\""),
        (guest("ungranted"), 4, "test:ungranted/door (open), REFUSED: this gateway does not have it"),
    ] {
        let (code, out, errors) = said(&["inspect", path.to_str().unwrap()]);
        assert!(code == expected && (out + &errors).contains(words), "{}: {code} {errors}", path.display());
    }
    let limits = guest("limits");
    let limits = limits.to_str().unwrap();
    for (args, expected, words) in [
        (
            vec!["inspect", limits, "--config", "hihg=*: 1"],
            78,
            "does not open with these options: option \"hihg\"",
        ),
        (vec!["inspect", limits, "--config", "high"], 1, "--config \"high\" is not NAME=VALUE"),
        (
            vec!["inspect", limits, "--config", "high=*: 1", "--config", "high=*: 2"],
            1,
            "gives \"high\" twice",
        ),
        (vec!["inspect", limits, "--set", "memroy=1MiB"], 1, "memory_bytes_max"),
        (vec!["inspect", limits, "--set", "deadline=2h"], 1, "deadline"),
    ] {
        let (code, out, errors) = said(&args);
        assert!(
            code == expected && (out.clone() + &errors).contains(words),
            "{args:?}: {code} {out}{errors}"
        );
    }
}

#[test]
fn a_recording_gives_exactly_the_rows_that_a_gateway_would() {
    // Goal: `test` is the runtime with nothing added: values, units, whole numbers, alarms. Method: two shipped components
    // over tables written by hand, compared row by row.
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("readings.csv");
    let heading = "time,time_ns,series,value,unit,alarm,message\n";
    fs::write(&input, "t,p [psi],level [mA],n\n0,100,4,9007199254740993\n0.5,,12,\n2,200,20,1\n").unwrap();
    let input = input.to_str().unwrap();
    let calibrate = guest("calibrate");
    let (code, out, errors) = said(&[
        "test",
        calibrate.to_str().unwrap(),
        "--input",
        input,
        "--prefix",
        "tank/1/",
        "--config",
        "convert=*/p: to bar",
        "--config",
        "table=*/level: 4 = 0, 20 = 4, unit m",
    ]);
    let expected = "\
1970-01-01T00:00:00Z,0,tank/1/p/calibrated,6.89475729316836,bar,,
1970-01-01T00:00:00Z,0,tank/1/level/calibrated,0,m,,
1970-01-01T00:00:00Z,0,tank/1/n,9007199254740993,,,
1970-01-01T00:00:00.5Z,500000000,tank/1/level/calibrated,2,m,,
1970-01-01T00:00:02Z,2000000000,tank/1/p/calibrated,13.78951458633672,bar,,
1970-01-01T00:00:02Z,2000000000,tank/1/level/calibrated,4,m,,
1970-01-01T00:00:02Z,2000000000,tank/1/n,1,,,
";
    assert_eq!((code, out), (0, heading.to_owned() + expected), "{errors}");
    assert!(
        errors.contains("7 readings of 3 series in 2 batches, 7 readings out, 2 series registered"),
        "{errors}"
    );
    assert!(errors.contains("snapshot: none"), "{errors}");

    let limits = guest("limits");
    let rows = dir.path().join("rows.jsonl");
    let run = ["test", limits.to_str().unwrap(), "--input", input, "--config", "high=p: 150", "--json"];
    let (code, out, errors) = said(&[&run[..], &["--output", rows.to_str().unwrap()]].concat());
    assert_eq!(code, 0, "{errors}");
    let summary: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((&summary["alarms_raised"], &summary["readings_out"]), (&1.into(), &7.into()), "{summary}");
    let rows = fs::read_to_string(rows).unwrap();
    let rows: Vec<Json> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 8);
    let alarm = &rows[7];
    assert_eq!((&alarm["kind"], &alarm["message"]), (&"alarm".into(), &"p is 200 psi, above 150".into()));
    assert_eq!((&alarm["active"], &alarm["time_ns"]), (&true.into(), &2_000_000_000_i64.into()));
}

#[test]
fn a_restart_in_the_middle_gives_the_same_and_what_does_not_is_shown() {
    // Goal: snapshot and restore are tried where an author can see them. Method: each component with state over a restless
    // recording, restarted at several places, against its output without; then one that does not take its state back.
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("readings.csv");
    let row =
        |n: u32| format!("{},{},{}\n", f64::from(n) / 7.0, (n * n) % 101, f64::from((n * 31) % 17) / 3.0);
    fs::write(&input, (0..600).fold("time,line/a,line/b\n".to_owned(), |text, n| text + &row(n))).unwrap();
    let input = input.to_str().unwrap();
    for (name, options) in [
        ("limits", &["high=*: 60, hysteresis 20", "rise=*: 4 per 1s, hysteresis 1"][..]),
        ("downsample", &["series=*/a: 3s"][..]),
        ("vibration", &["series=*/b", "block=256", "bands=1-3"][..]),
    ] {
        let file = guest(name);
        let mut run = vec!["test", file.to_str().unwrap(), "--input", input];
        run.extend(options.iter().flat_map(|option| ["--config", option]));
        let (code, without, errors) = said(&run);
        assert!(code == 0 && without.lines().count() > 20, "{name}: {errors}");
        for at in ["1", "500", "777", "1199"] {
            let (code, with, errors) = said(&[&run[..], &["--restart-at", at]].concat());
            // A restart parts a batch, behind which its alarms stand.
            assert_eq!((code, sorted(&with)), (0, sorted(&without)), "{name} at {at}: {errors}");
            assert!(errors.contains(": the same readings and alarms as without"), "{name} at {at}: {errors}");
        }
        let (code, _, errors) = said(&[&run[..], &["--restart-at", "1200"]].concat());
        assert!(code == 1 && errors.contains("comes behind the 1200 readings"), "{errors}");
    }
    let misbehave = guest("misbehave");
    let run = ["test", misbehave.to_str().unwrap(), "--input", input, "--config"];
    let (code, _, errors) = said(&[&run[..], &["mode=trap-in-restore", "--restart-at", "600"]].concat());
    assert!(code == 4 && errors.contains("the component did not take it back: trap"), "{code} {errors}");
    // It counts its batches and forgets them with its state, which `count-at` brings to light.
    let (code, _, errors) = said(
        &[&run[..], &["mode=trap-in-restore", "--config", "count-at=1", "--restart-at", "600", "--json"]]
            .concat(),
    );
    let summary: Json = serde_json::from_str(errors.lines().last().unwrap()).unwrap();
    assert_eq!((code, &summary["sound"]), (4, &false.into()), "{errors}");
    assert!(summary["restart"]["difference"].as_str().unwrap().contains("without a restart"), "{errors}");
}

#[test]
fn a_component_that_fails_in_a_test_costs_no_reading_and_is_told() {
    // Goal: faults are visible in numbers and in the exit code. Method: a trap on one value in the middle of a recording.
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("readings.jsonl");
    let value = |n: i64| if n == 5 { 666 } else { n };
    fs::write(
        &input,
        (0..10).fold(String::new(), |text, n| text + &format!("{{\"ts\":{n},\"a\":{}}}\n", value(n))),
    )
    .unwrap();
    let (code, out, errors) = said(&[
        "test",
        guest("misbehave").to_str().unwrap(),
        "--input",
        input.to_str().unwrap(),
        "--config",
        "mode=trap",
    ]);
    assert_eq!(code, 4, "{out}{errors}");
    assert!(
        errors.contains("faults: 1 traps, 0 deadlines, 0 out of memory; 1 restarts, 1 readings passed by"),
        "{errors}"
    );
    let found: Vec<&str> = out.lines().skip(1).map(|line| line.split(',').nth(3).unwrap()).collect();
    assert_eq!(found, ["1", "2", "3", "4", "5", "666", "7", "8", "9", "10"]);
    let svg = dir.path().join("chart.svg");
    let (code, _, errors) = said(&[
        "test",
        guest("limits").to_str().unwrap(),
        "--input",
        input.to_str().unwrap(),
        "--svg",
        svg.to_str().unwrap(),
        "--config",
        "high=a: 600",
        "--output",
        dir.path().join("rows.csv").to_str().unwrap(),
    ]);
    assert_eq!(code, 0, "{errors}");
    assert!(fs::read_to_string(svg).unwrap().ends_with("</svg>\n"));
}

#[test]
fn a_bench_measures_calls_with_and_without_a_recording() {
    // Goal: the numbers are there and belong together. Method: a second of each; nothing is asserted of how fast it is.
    let limits = guest("limits");
    let run = ["bench", limits.to_str().unwrap(), "--seconds", "1", "--json", "--config"];
    let (code, measured) = json(&[&run[..], &["high=*: 80"]].concat());
    assert_eq!(code, 0, "{measured}");
    let of = |key: &str| measured[key].as_f64().unwrap();
    assert!(of("calls") > 0.0 && of("per_reading_ns") > 0.0 && of("open_ms") > 0.0, "{measured}");
    assert!(of("readings") > 60.0 * of("calls") - 64.0 && of("readings") <= 64.0 * of("calls"), "{measured}");
    let part = |key: &str| measured["batch_us"][key].as_f64().unwrap();
    assert!(part("p50") <= part("p99") && part("p99") <= part("max"), "{measured}");
    assert!(measured["snapshot_bytes"].as_u64().unwrap() > 0 && measured["failed"] == 0, "{measured}");

    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("readings.csv");
    fs::write(&input, "time,a\n0,1\n1,2\n").unwrap();
    let more = ["high=*: 80", "--input", input.to_str().unwrap(), "--batch", "1"];
    let (code, measured) = json(&[&run[..], &more].concat());
    assert_eq!((code, &measured["batch"]), (0, &1.into()), "{measured}");
    assert_eq!(measured["calls"], measured["readings"], "{measured}");
    assert_eq!(said(&["bench", limits.to_str().unwrap()]).0, 78);
}

#[test]
fn a_component_is_signed_by_either_kind_of_key_and_never_by_one_that_others_can_read() {
    // Goal: `sign` writes what gateways take, and a key lies open to nobody. Method: a seed of nkeys and the PEM of RFC 8410's
    // example; `inspect` of what they signed, and of one that was changed since; a key that others may read; no key.
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("limits.wasm");
    std::fs::copy(guest("limits"), &file).unwrap();
    let file = file.to_str().unwrap();
    let own = nkeys::KeyPair::new_account();
    let key = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let seed = key("seed", &own.seed().unwrap(), 0o600);
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
               -----END PRIVATE KEY-----\n";
    let pem = key("pem", pem, 0o600);
    let (_, report) = json(&["inspect", file, "--json"]);
    assert_eq!((&report["signed"]["embedded"], &report["signed"]["beside"]), (&Json::Null, &Json::Null));
    let (code, report) = json(&["sign", file, "--key", &pem, "--json"]);
    let public =
        frond::artifact::keys::account("MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=");
    assert_eq!((code, report["key"].as_str()), (0, public.as_deref()));
    let (code, out, _) = said(&["sign", file, "--key", &seed]);
    assert_eq!(code, 0);
    assert!(out.contains(&format!("signed by {} in {file}.sig", own.public_key())), "{out}");
    let (_, report) = json(&["inspect", file, "--json"]);
    assert_eq!(report["signed"]["beside"]["key"], own.public_key());
    let (_, out, _) = said(&["inspect", file, "--config", "high=*: 80"]);
    assert!(out.contains(&format!("signed beside it by {}\n", own.public_key())), "{out}");

    let signature = std::fs::read_to_string(format!("{file}.sig")).unwrap();
    let digest = frond::runtime::Digest::of(&std::fs::read(file).unwrap());
    assert_eq!(frond::artifact::detached::verify(&signature, &digest).unwrap().key, own.public_key());
    std::fs::write(file, [std::fs::read(file).unwrap(), b"\0\x04\x03new".to_vec()].concat()).unwrap();
    let (_, out, _) = said(&["inspect", file, "--config", "high=*: 80"]);
    assert!(out.contains("is worth nothing, a gateway refuses it: it is not of this content"), "{out}");

    for (key, why) in [
        (key("open", &own.seed().unwrap(), 0o644), "chmod go-rwx it"),
        (key("noise", "SAGEHEIM", 0o600), "holds neither an nkeys seed"),
        (dir.path().join("none").to_str().unwrap().to_owned(), "cannot read the key"),
    ] {
        let (code, _, errors) = said(&["sign", file, "--key", &key]);
        assert!(code == 1 && errors.contains(why) && !errors.contains("GEHEIM"), "{errors}");
    }
}
