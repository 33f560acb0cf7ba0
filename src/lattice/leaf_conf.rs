//! The configuration of the nats-server that is this gateway's leaf node, from `config/nats-leaf.conf` and ours.
//!
//! Pure. The template is documentation first: values stand between two `@`, a line whose value is not set is left out,
//! and `#<part>` to `#</part>` encloses what is left out as a whole. Every value is quoted, so none can bring in more
//! than itself.

use std::path::Path;

use crate::config::{Config, LatticeMode, Leaf};

/// The documented template.
pub const TEMPLATE: &str = include_str!("../../config/nats-leaf.conf");

/// The first line of what is rendered. A file that begins otherwise is not ours to replace.
pub const MARK: &str = "# Written by frond leaf-conf at every start: change frond.toml, not this file. For nats-server 2.10 or newer.";

/// Largest message, the NATS default.
const PAYLOAD_BYTES_MAX: u64 = 1 << 20;

/// Least of `max_pending`: eight of the largest messages.
const PENDING_BYTES_LEAST: u64 = 8 * PAYLOAD_BYTES_MAX;

/// `max_pending` in windows of the uplink: the window itself, as much again for recall and control, and double that,
/// because senders are slowed down from three quarters of it on.
const PENDING_WINDOWS: u64 = 4;

/// Why there is nothing to render.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafConfError {
    /// This gateway has no leaf node.
    #[error("lattice.mode is \"{mode}\": this gateway has no leaf node")]
    NoLeaf {
        /// The mode.
        mode: &'static str,
    },
    /// A path is not text, or contains control characters, and cannot be written down.
    #[error("{key} cannot be written into the configuration of nats-server")]
    Unwritable {
        /// The key.
        key: &'static str,
    },
}

/// Renders the configuration.
pub fn render(config: &Config) -> Result<String, LeafConfError> {
    let leaf = match &config.lattice.mode {
        LatticeMode::Leaf(leaf) => leaf,
        LatticeMode::Off => return Err(LeafConfError::NoLeaf { mode: "off" }),
        LatticeMode::Direct(_) => return Err(LeafConfError::NoLeaf { mode: "direct" }),
    };
    let values = values(config, leaf)?;
    let mut text = String::with_capacity(TEMPLATE.len());
    text.push_str(MARK);
    text.push('\n');
    let mut left_out: Option<String> = None;
    for line in TEMPLATE.lines() {
        match (&left_out, line.trim().strip_prefix("#<").and_then(|mark| mark.strip_suffix('>'))) {
            (Some(end), Some(mark)) if mark == end => left_out = None,
            (Some(_), _) => {}
            (None, Some(mark)) if mark.starts_with('/') || wanted(mark, leaf) => {}
            (None, Some(mark)) => left_out = Some(format!("/{mark}")),
            (None, None) => {
                if let Some(line) = fill(line, &values) {
                    text.push_str(&line);
                    text.push('\n');
                }
            }
        }
    }
    Ok(text)
}

/// A placeholder and what takes its place, if anything.
type Values = [(&'static str, Option<String>); 7];

fn values(config: &Config, leaf: &Leaf) -> Result<Values, LeafConfError> {
    let pending = config.uplink.inflight_bytes_max.saturating_mul(PENDING_WINDOWS).max(PENDING_BYTES_LEAST);
    let hub = leaf.hub.as_ref().map(|hub| quote("lattice.leaf.hub", hub)).transpose()?;
    Ok([
        ("@server_name@", Some(quote("gateway.name", &config.gateway.name)?)),
        ("@listen@", Some(quote("lattice.leaf.listen", &leaf.listen)?)),
        ("@max_payload@", Some(PAYLOAD_BYTES_MAX.to_string())),
        ("@max_pending@", Some(pending.to_string())),
        ("@hub@", hub),
        ("@credentials@", quote_path("lattice.leaf.credentials", leaf.credentials.as_deref())?),
        ("@ca@", quote_path("lattice.leaf.ca", leaf.ca.as_deref())?),
    ])
}

/// Whether a marked part of the template applies.
fn wanted(part: &str, leaf: &Leaf) -> bool {
    match part {
        "hub" => leaf.hub.is_some(),
        // Certificates are named only for a hub that has to show one.
        "tls" => leaf.ca.is_some() || leaf.hub.as_ref().is_some_and(|hub| hub.starts_with("tls://")),
        _ => false,
    }
}

/// A line with its placeholder filled in; `None` when there is nothing to fill it with.
fn fill(line: &str, values: &Values) -> Option<String> {
    match values.iter().find(|(placeholder, _)| line.contains(placeholder)) {
        Some((placeholder, value)) => value.as_ref().map(|value| line.replace(placeholder, value)),
        None => Some(line.to_owned()),
    }
}

fn quote_path(key: &'static str, path: Option<&Path>) -> Result<Option<String>, LeafConfError> {
    path.map(|path| quote(key, path.to_str().ok_or(LeafConfError::Unwritable { key })?)).transpose()
}

/// Text in double quotes, in which nats-server knows no variables, only escapes.
fn quote(key: &'static str, text: &str) -> Result<String, LeafConfError> {
    if text.chars().any(char::is_control) {
        return Err(LeafConfError::Unwritable { key });
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn rendered(text: &str) -> String {
        let config = parse(text, "t").expect("the test's configuration is valid");
        render(&config).expect("it has a leaf node")
    }

    fn settings(text: &str) -> String {
        let said = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with('#');
        text.lines().filter(said).map(|line| format!("{}\n", line.trim())).collect()
    }

    #[test]
    fn everything_set_is_rendered() {
        // Goal: each key of [lattice.leaf] arrives where nats-server looks for it. Method: all keys, compared as text.
        let text = "gateway.name = \"gw-1\"\n[lattice.leaf]\nlisten = \"127.0.0.1:4333\"\nhub = \"tls://hub.example\"\n\
                    credentials = \"/c/hub.creds\"\nca = \"/c/ca.pem\"\n[uplink]\ninflight_bytes_max = \"8MiB\"";
        let expected = "server_name: \"gw-1\"\nlisten: \"127.0.0.1:4333\"\nlogtime: false\nping_interval: \"6s\"\n\
                        ping_max: 2\nmax_payload: 1048576\nmax_pending: 33554432\nwrite_deadline: \"60s\"\n\
                        max_connections: 64\nleafnodes {\nreconnect: \"1s\"\nremotes: [\n{\n\
                        url: \"tls://hub.example:7422\"\ncompression: off\nfirst_info_timeout: \"10s\"\n\
                        credentials: \"/c/hub.creds\"\ntls {\ntimeout: 10\nca_file: \"/c/ca.pem\"\n}\n}\n]\n}\n";
        assert_eq!(settings(&rendered(text)), expected);
    }

    #[test]
    fn what_is_not_set_is_left_out() {
        // Goal: no empty value, no half block. Method: the default, and a hub on this machine.
        let text = settings(&rendered(""));
        assert!(!text.contains("leafnodes") && !text.contains('@'), "{text}");
        assert!(text.contains("max_pending: 16777216\n"), "{text}");
        let text = settings(&rendered("lattice.leaf.hub = \"nats-leaf://127.0.0.1\""));
        assert!(text.contains("url: \"nats-leaf://127.0.0.1:7422\"\n"), "{text}");
        assert!(!text.contains("tls") && !text.contains("credentials"), "{text}");
    }

    #[test]
    fn a_tls_hub_is_never_spoken_to_in_the_clear() {
        // Goal: nats-server takes tls:// in a URL for a hint; the block makes it a demand. Method: the rendered text.
        assert!(settings(&rendered("lattice.leaf.hub = \"tls://hub\"")).contains("tls {\n"));
    }

    #[test]
    fn a_gateway_without_a_leaf_has_no_leaf_conf() {
        // Goal: the service learns that there is nothing to run. Method: the other modes.
        let of = |text| render(&parse(text, "t").expect("valid"));
        assert_eq!(of("lattice.mode = \"off\""), Err(LeafConfError::NoLeaf { mode: "off" }));
        let direct = "lattice.mode = \"direct\"\nlattice.direct.url = \"tls://hub\"";
        assert_eq!(of(direct), Err(LeafConfError::NoLeaf { mode: "direct" }));
    }

    #[test]
    fn values_cannot_break_out_of_their_quotes() {
        // Goal: a path is a path, whatever is in it. Method: quotes, backslashes, and what cannot be written.
        assert_eq!(quote("k", r#"a"b\c"#), Ok(r#""a\"b\\c""#.to_owned()));
        assert_eq!(quote("k", "a\nb"), Err(LeafConfError::Unwritable { key: "k" }));
    }

    #[test]
    fn the_template_uses_every_placeholder_and_no_other() {
        // Goal: template and code agree. Method: collect what stands between two @ in the template.
        let config = parse("", "t").expect("the default is valid");
        let LatticeMode::Leaf(leaf) = &config.lattice.mode else { panic!("the default has a leaf") };
        let known: Vec<_> =
            values(&config, leaf).expect("writable").into_iter().map(|(name, _)| name).collect();
        let lines = TEMPLATE.lines().filter(|line| !line.trim().starts_with('#'));
        let used: Vec<_> = lines.filter_map(|line| line.find('@').map(|at| &line[at..])).collect();
        assert_eq!(used, known);
    }
}
