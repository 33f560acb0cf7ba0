//! The configuration's promises, by theme: what is refused, what the default says, how files are merged.

mod artifact_rules;
mod defaults;
mod device_rules;
mod layers;
mod rules;
mod site_rules;
mod stream_rules;
mod total;
mod workload_rules;

use super::load::inspect_text;
use super::resolve::Surroundings;
use super::{Config, Inspection, parse};

/// The messages with which a text is refused.
fn refused(text: &str) -> Vec<String> {
    let error = parse(text, "frond.toml").expect_err("the text should be refused");
    error.problems.iter().map(ToString::to_string).collect()
}

/// The messages with which a text is taken.
fn doubted(text: &str) -> Vec<String> {
    let inspection: Inspection = inspect_text(text, "frond.toml", &here());
    assert_eq!(inspection.problems, [], "the text should be taken");
    inspection.warnings.iter().map(ToString::to_string).collect()
}

fn valid(text: &str) -> Config {
    parse(text, "frond.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn here() -> Surroundings {
    Surroundings { host_name: Some("gateway".to_owned()), credentials_dir: None }
}

/// A stream with the keys that must be there, and more.
fn stream(more: &str) -> String {
    format!("[[stream]]\nname = \"press\"\ntopics = [\"plant/+/press\"]\n{more}")
}
