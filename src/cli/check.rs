//! `frond check`: says what a configuration comes to, and what is wrong with it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::exit::Exit;
use super::trial::{self, Trial};
use crate::config::wear::{self, Estimate, PerDay};
use crate::config::{
    Anonymous, Config, Decode, Finding, Framing, Inspection, LinkEnd, Listener, Paths, Reduce, Stream,
    inspect, show_duration,
};
use crate::sample::Durability;

/// Arguments of `frond check`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// Configuration file; the conf.d beside it is read, too [default: /etc/frond/frond.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Do not open the components; opening compiles each, which takes a second or two
    #[arg(long)]
    pub skip_components: bool,
}

/// Checks a configuration. Exits 0 when it is valid (warnings or not), 78 when it is refused.
pub fn check(args: &CheckArgs) -> Exit {
    let inspection = inspect(&paths(args.config.as_deref()));
    let mut out = io::stdout().lock();
    let trial = inspection
        .config
        .as_ref()
        .filter(|_| !args.skip_components)
        .map(trial::open_components)
        .unwrap_or_default();
    let printed = match args.json {
        true => writeln!(out, "{:#}", report_json(&inspection, &trial)),
        false => report_text(&inspection, &trial, &mut out),
    };
    match (printed, &inspection.config) {
        (_, None) => Exit::Config,
        (Ok(()), Some(_)) if !trial.unopened.is_empty() => Exit::Config,
        (Ok(()), Some(_)) => Exit::Ok,
        // Whoever read standard output has gone; there is nobody left to tell.
        (Err(_), Some(_)) => Exit::Failure,
    }
}

/// The configuration a command works with. What is wrong or doubtful goes to `complaints`.
pub fn load_or_explain(config: Option<&Path>, complaints: &mut impl Write) -> Result<Config, Exit> {
    let inspection = inspect(&paths(config));
    let lines = inspection.problems.iter().map(ToString::to_string);
    let lines = lines.chain(inspection.warnings.iter().map(|warning| format!("{warning} (warning)")));
    for line in lines {
        // If nobody reads the complaints, the exit code still tells.
        let _ = writeln!(complaints, "{line}");
    }
    inspection.into_config().map_err(|_| Exit::Config)
}

fn paths(config: Option<&Path>) -> Paths {
    config.map_or_else(Paths::system, Paths::beside)
}

fn report_text(
    inspection: &Inspection,
    Trial { unopened, unused }: &Trial,
    out: &mut impl Write,
) -> io::Result<()> {
    match inspection.files.as_slice() {
        [] => writeln!(out, "no file read: the default counts")?,
        files => {
            let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
            writeln!(out, "read {}", files.join(", "))?;
        }
    }
    for problem in &inspection.problems {
        writeln!(out, "{problem}")?;
    }
    for warning in &inspection.warnings {
        writeln!(out, "{warning} (warning)")?;
    }
    for (name, what) in unused {
        writeln!(out, "component {name:?}: {what} (warning)")?;
    }
    for (name, why) in unopened {
        writeln!(out, "component {name:?} cannot be opened: {why}")?;
    }
    let count = inspection.problems.len() + unopened.len();
    let Some(config) = inspection.config.as_ref().filter(|_| unopened.is_empty()) else {
        return writeln!(out, "refused: {count} problem{}", if count == 1 { "" } else { "s" });
    };
    let estimate = wear::estimate(config);
    if !config.streams.is_empty() {
        writeln!(out)?;
        table(config, &estimate, out)?;
    }
    writeln!(out)?;
    doors(config, out)?;
    totals(config, &estimate, out)
}

/// One line for each way in, and for each component that moves something.
fn doors(config: &Config, out: &mut impl Write) -> io::Result<()> {
    if let Some(broker) = &config.broker {
        writeln!(out, "broker door: {}:{}", broker.host, broker.port)?;
    }
    for listener in &config.site.listeners {
        let nameless = match listener.anonymous {
            Anonymous::Never => "no anonymous clients",
            Anonymous::Loopback => "anonymous clients from this machine",
            Anonymous::Always => "anonymous clients from anywhere",
        };
        let (name, bind, how) = (&listener.name, listener.bind, spoken(listener));
        writeln!(out, "listener {name}: {bind}, {how}, {} users, {nameless}", config.site.users.len())?;
    }
    let way = way(config);
    for component in config.components.iter().filter(|component| !component.commands.is_empty()) {
        let (name, topics, rate) =
            (&component.name, component.commands.join(" "), component.commands_per_second);
        writeln!(out, "component {name}: commands to {way}, {topics}, {rate} a second")?;
    }
    for workload in &config.workloads {
        for link in &workload.links {
            if let LinkEnd::HttpSource(source) = &link.end {
                writeln!(out, "component {}: {}, http", workload.component.name, source.address)?;
            }
        }
    }
    Ok(())
}

/// Where commands go.
fn way(config: &Config) -> &'static str {
    match (config.site.listeners.is_empty(), &config.broker) {
        (false, _) => "the listener",
        (true, Some(_)) => "the broker",
        (true, None) => "nobody",
    }
}

fn spoken(listener: &Listener) -> &'static str {
    match (&listener.tls, listener.framing) {
        (None, Framing::Mqtt) => "plain",
        (None, Framing::WebSocket) => "plain websocket",
        (Some(_), Framing::Mqtt) => "tls",
        (Some(_), Framing::WebSocket) => "tls websocket",
    }
}

fn listener_json(listener: &Listener) -> Value {
    json!({
        "name": listener.name,
        "bind": listener.bind.to_string(),
        "spoken": spoken(listener),
        "anonymous": match listener.anonymous {
            Anonymous::Never => "never",
            Anonymous::Loopback => "loopback",
            Anonymous::Always => "always",
        },
    })
}

fn totals(config: &Config, estimate: &Estimate, out: &mut impl Write) -> io::Result<()> {
    let unknown = estimate.streams.iter().filter(|stream| stream.bytes_per_day.is_none()).count();
    let budget = match config.journal.wear_bytes_per_day {
        0 => "no budget".to_owned(),
        bytes => format!("budget {}", PerDay(bytes)),
    };
    let wear = match estimate.bytes_per_day() {
        0 if unknown > 0 => "unknown wear".to_owned(),
        bytes => format!("expected wear {} a day", PerDay(bytes)),
    };
    write!(out, "gateway {}: valid; {wear}, {budget}", config.gateway.name)?;
    match unknown {
        0 => writeln!(out),
        1 => writeln!(out, "; 1 stream without expect_per_second is not counted"),
        n => writeln!(out, "; {n} streams without expect_per_second are not counted"),
    }
}

const COLUMNS: [&str; 8] =
    ["stream", "topics", "decode", "series", "reduce", "durability", "lane", "wear a day"];

/// One row for each stream; the columns are as wide as their widest cell.
fn table(config: &Config, estimate: &Estimate, out: &mut impl Write) -> io::Result<()> {
    let rows = config.streams.iter().zip(&estimate.streams);
    let rows = rows.map(|(stream, wear)| cells(stream, wear.bytes_per_day));
    let rows: Vec<[String; 8]> = std::iter::once(COLUMNS.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn cells(stream: &Stream, wear: Option<u64>) -> [String; 8] {
    let series = match &stream.component {
        Some(component) => format!("{} via {component}", stream.series),
        None => stream.series.clone(),
    };
    let reduce = match &stream.reduce {
        Reduce::None => "none".to_owned(),
        Reduce::Window { length, lateness } => {
            format!("{} +{}", show_duration(*length), show_duration(*lateness))
        }
    };
    [
        stream.name.clone(),
        stream.topics.join(" "),
        decode(stream),
        series,
        reduce,
        durability(stream.durability).to_owned(),
        stream.lane.token().to_owned(),
        wear.map_or_else(|| "unknown".to_owned(), |bytes| PerDay(bytes).to_string()),
    ]
}

fn decode(stream: &Stream) -> String {
    match &stream.decode {
        Decode::Json(_) => "json".to_owned(),
        Decode::Cbor(_) => "cbor".to_owned(),
        Decode::Number => "number".to_owned(),
        Decode::Packed(packed) => format!("packed {}/s", packed.rate),
    }
}

fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Reading => "reading",
        Durability::Window => "window",
        Durability::None => "none",
    }
}

fn report_json(inspection: &Inspection, Trial { unopened, unused }: &Trial) -> Value {
    let named = |told: &[(String, String)]| {
        told.iter().map(|(name, what)| json!({ "name": name, "what": what })).collect::<Vec<_>>()
    };
    let streams = inspection.config.as_ref().map(|config| {
        let estimate = wear::estimate(config);
        let rows = config.streams.iter().zip(&estimate.streams);
        rows.map(|(stream, wear)| stream_json(stream, wear.bytes_per_day)).collect::<Vec<_>>()
    });
    let config = inspection.config.as_ref();
    json!({
        "valid": config.is_some() && unopened.is_empty(),
        "unopened_components": named(unopened),
        "unused_keys": named(unused),
        "commands": config.map(|config| config.components.iter().filter(|component| !component.commands.is_empty()).map(|component| json!({
            "component": component.name, "to": way(config), "topics": component.commands, "per_second": component.commands_per_second,
        })).collect::<Vec<_>>()),
        "files": inspection.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
        "problems": inspection.problems.iter().map(finding_json).collect::<Vec<_>>(),
        "warnings": inspection.warnings.iter().map(finding_json).collect::<Vec<_>>(),
        "gateway": config.map(|config| &config.gateway.name),
        "wear_bytes_per_day_budget": config.map(|config| config.journal.wear_bytes_per_day),
        "wear_bytes_per_day_expected": config.map(|config| wear::estimate(config).bytes_per_day()),
        "listeners": config.map(|config| config.site.listeners.iter().map(listener_json).collect::<Vec<_>>()),
        "users": config.map(|config| config.site.users.len()),
        "streams": streams,
    })
}

fn finding_json<K: std::fmt::Display>(finding: &Finding<K>) -> Value {
    json!({
        "file": finding.file,
        "line": finding.at.map(|at| at.line),
        "column": finding.at.map(|at| at.column),
        "key": finding.key,
        "what": finding.what.to_string(),
    })
}

fn stream_json(stream: &Stream, wear: Option<u64>) -> Value {
    let reduce = match &stream.reduce {
        Reduce::None => Value::Null,
        Reduce::Window { length, lateness } => {
            json!({ "window_ms": length.as_millis() as u64, "lateness_ms": lateness.as_millis() as u64 })
        }
    };
    json!({
        "name": stream.name,
        "topics": stream.topics,
        "decode": decode(stream),
        "series": stream.series,
        "component": stream.component,
        "reduce": reduce,
        "durability": durability(stream.durability),
        "lane": stream.lane.token(),
        "wear_bytes_per_day": wear,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(text: &str) -> (tempfile::TempDir, Inspection) {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let file = folder.path().join("frond.toml");
        std::fs::write(&file, text).expect("a folder of the test's own");
        let inspection = inspect(&Paths::beside(&file));
        (folder, inspection)
    }

    fn printed(text: &str) -> String {
        let (folder, inspection) = inspected(text);
        let mut out = Vec::new();
        report_text(&inspection, &Trial::default(), &mut out).expect("memory takes everything");
        let text = String::from_utf8(out).expect("it is text");
        text.replace(&format!("{}/", folder.path().display()), "")
    }

    const VALID: &str = "gateway.name = \"gw\"\nmqtt.broker.url = \"mqtt://localhost\"\nlattice.mode = \"off\"\n\
                         [[stream]]\nname = \"press\"\ntopics = [\"plant/press/#\", \"x\"]\nexpect_per_second = 100\n\
                         [[stream]]\nname = \"vibration\"\ntopics = [\"v/+\"]\ndecode = \"packed\"\nlane = \"alarm\"\n\
                         packed = { sample = \"f32\", rate = 25600 }\nreduce = \"none\"\n";

    #[test]
    fn a_valid_configuration_is_shown_as_a_table() {
        // Goal: the operator sees what a configuration comes to. Method: the whole text, spelt out.
        let expected = "read frond.toml\n\
            \n\
            stream     topics           decode          series           reduce  durability  lane   wear a day\n\
            press      plant/press/# x  json            {topic}/{field}  1m +5s  reading     data   86.5 MB\n\
            vibration  v/+              packed 25600/s  {topic}/{field}  none    reading     alarm  unknown\n\
            \n\
            broker door: localhost:1883\n\
            gateway gw: valid; expected wear 86.5 MB a day, budget 1.64 GB; 1 stream without expect_per_second is not counted\n";
        assert_eq!(printed(VALID), expected);
    }

    #[test]
    fn a_refused_configuration_lists_every_problem_and_warning() {
        // Goal: one run is enough. Method: two problems and a warning, as text and as JSON.
        let text = "gateway.name = \"gw\"\nlattice.mode = \"of\"\n[outbox]\nage = \"1d\"\n[lattice.direct]\nurl = \"tls://hub\"";
        let expected = "read frond.toml\n\
            frond.toml:2: lattice.mode: unknown word 'of'; did you mean 'off'?\n\
            frond.toml:4: outbox: unknown key 'age'; known are bytes_max, age_max\n";
        let said = printed(text);
        assert!(said.starts_with(expected) && said.ends_with("\nrefused: 2 problems\n"), "{said}");
        let (_folder, inspection) = inspected(text);
        let json = report_json(&inspection, &Trial::default());
        assert_eq!(json["valid"], false);
        assert_eq!(json["problems"][1]["line"], 4);
        assert_eq!(json["problems"][1]["column"], 1);
        assert_eq!(json["problems"][1]["key"], "outbox");
        assert_eq!(json["streams"], Value::Null);
    }

    #[test]
    fn json_says_what_the_table_says() {
        // Goal: scripts need not read the table. Method: the fields of one stream.
        let (_folder, inspection) = inspected(VALID);
        let json = report_json(&inspection, &Trial::default());
        assert_eq!((&json["valid"], &json["gateway"]), (&json!(true), &json!("gw")));
        assert_eq!(json["wear_bytes_per_day_expected"], json["streams"][0]["wear_bytes_per_day"]);
        assert_eq!(json["streams"][0]["reduce"], json!({ "window_ms": 60_000, "lateness_ms": 5000 }));
        assert_eq!(json["streams"][1]["wear_bytes_per_day"], Value::Null);
    }

    #[test]
    fn listeners_are_shown_with_what_they_let_in() {
        // Goal: nobody opens a door without seeing it. Method: the usual listener, and one with every word, both ways.
        let said = printed("gateway.name = \"gw\"\nlattice.mode = \"off\"");
        assert!(
            said.contains(
                "\nlistener local: 127.0.0.1:1883, plain, 0 users, anonymous clients from this machine\n"
            ),
            "{said}"
        );
        let text = "gateway.name = \"gw\"\nlattice.mode = \"off\"\n[[listener]]\nname = \"a\"\nbind = \"[::]:8883\"\n\
                    anonymous = \"never\"\nwebsocket = true\ntls = { certificate = \"/c\", key = \"/k\" }";
        assert!(
            printed(text).contains("\nlistener a: [::]:8883, tls websocket, 0 users, no anonymous clients\n")
        );
        let (_folder, inspection) = inspected(text);
        let expected =
            json!({ "name": "a", "bind": "[::]:8883", "spoken": "tls websocket", "anonymous": "never" });
        assert_eq!(report_json(&inspection, &Trial::default())["listeners"][0], expected);
    }

    #[test]
    fn what_a_component_may_move_is_shown() {
        // Goal: nobody lets something be moved without seeing it. Method: one component that may, both ways.
        let text =
            format!("{VALID}[[component]]\nname = \"guard\"\npath = \"/g\"\ncommands = [\"a/set\", \"b/+\"]");
        let text = format!("listener = []\n{text}");
        assert!(
            printed(&text).contains("\ncomponent guard: commands to the broker, a/set b/+, 10 a second\n")
        );
        let (_folder, inspection) = inspected(&text);
        let expected =
            json!({ "component": "guard", "to": "the broker", "topics": ["a/set", "b/+"], "per_second": 10 });
        let trial = Trial { unused: vec![("guard".into(), "told".into())], ..Trial::default() };
        let json = report_json(&inspection, &trial);
        assert_eq!((&json["commands"][0], &json["unused_keys"][0]["what"]), (&expected, &json!("told")));
        let mut out = Vec::new();
        report_text(&inspection, &trial, &mut out).expect("memory takes everything");
        assert!(String::from_utf8_lossy(&out).contains("component \"guard\": told (warning)\n"));
    }

    #[test]
    fn exit_codes_tell_valid_from_refused() {
        // Goal: scripts can rely on the code. Method: a valid file, a refused one, and one that is not there.
        let (folder, _) = inspected(VALID);
        let args = |name: &str| CheckArgs {
            config: Some(folder.path().join(name)),
            json: true,
            skip_components: false,
        };
        assert_eq!(check(&args("frond.toml")), Exit::Ok);
        assert_eq!(check(&args("missing.toml")), Exit::Config);
        std::fs::write(folder.path().join("frond.toml"), "x = 1").expect("a folder of the test's own");
        assert_eq!(check(&args("frond.toml")), Exit::Config);
    }

    #[test]
    fn commands_explain_why_they_do_not_start() {
        // Goal: whoever reads the journal of the service sees it. Method: both outcomes with their complaints.
        let (folder, _) = inspected(VALID);
        let file = folder.path().join("frond.toml");
        let mut complaints = Vec::new();
        assert!(load_or_explain(Some(&file), &mut complaints).is_ok_and(|config| config.streams.len() == 2));
        assert_eq!(complaints, b"");
        std::fs::write(&file, "x = 1").expect("a folder of the test's own");
        assert_eq!(load_or_explain(Some(&file), &mut complaints), Err(Exit::Config));
        assert!(String::from_utf8_lossy(&complaints).contains("frond.toml:1: unknown key 'x'"));
    }

    #[test]
    fn its_arguments_are_consistent() {
        // Goal: no conflict among the arguments is found only when somebody uses them. Method: clap's own examination.
        <CheckArgs as clap::Args>::augment_args(clap::Command::new("frond")).debug_assert();
    }
}
