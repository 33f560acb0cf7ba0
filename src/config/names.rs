//! Small languages within the configuration: names, topic filters, templates of names, URLs. Pure.

use std::net::{IpAddr, Ipv6Addr};

use super::diagnose::nearest;
use super::fault::{FilterFault, TemplateFault};

/// Longest name, label or token: they end up in subjects and in every row's dictionary.
pub(super) const NAME_CHARS_MAX: usize = 64;

/// Longest subject.
const SUBJECT_BYTES_MAX: usize = 1024;

/// Longest template.
pub(super) const TEMPLATE_CHARS_MAX: usize = 512;

/// Whether it can be a token of a subject: 1 to 64 of `A-Z a-z 0-9 _ -`.
pub(crate) fn is_name(name: &str) -> bool {
    is_word(name, |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// As a name, and dots.
pub(super) fn is_label(name: &str) -> bool {
    is_word(name, |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || b == b'.')
}

fn is_word(word: &str, allowed: impl Fn(u8) -> bool) -> bool {
    (1..=NAME_CHARS_MAX).contains(&word.len()) && word.bytes().all(allowed)
}

/// A name made from a host name: other characters become `-`, what is too long is cut.
pub(super) fn name_from_host(host: &str) -> Option<String> {
    let letter = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = host.trim().chars().take(NAME_CHARS_MAX).map(letter).collect();
    is_name(&name).then_some(name)
}

/// Text for people or peers: 1 to `chars_max` characters, no control characters.
pub(super) fn is_text(text: &str, chars_max: usize) -> bool {
    !text.is_empty() && text.chars().count() <= chars_max && !text.chars().any(char::is_control)
}

/// Whether it can be subscribed to at a NATS server: tokens between dots; a queue group may follow, behind `|`.
pub(crate) fn is_subject(subject: &str) -> bool {
    let subject = subject.split_once('|').map_or(subject, |(subject, _)| subject);
    let is_token = |token: &str| !token.is_empty() && !token.contains(char::is_whitespace);
    subject.split('.').all(is_token) && subject.len() <= SUBJECT_BYTES_MAX
}

/// Checks a topic filter (MQTT 3.1.1, 4.7).
pub(crate) fn topic_filter(filter: &str) -> Result<(), FilterFault> {
    if filter.is_empty() {
        return Err(FilterFault::Empty);
    }
    if filter.len() > usize::from(u16::MAX) {
        return Err(FilterFault::Long);
    }
    if filter.contains('\0') {
        return Err(FilterFault::Nul);
    }
    if filter == "$share" || filter.starts_with("$share/") {
        return Err(FilterFault::Shared);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.len() > 1 && level.contains(['#', '+']) {
            return Err(FilterFault::WildcardNotAlone);
        }
        if level == "#" && levels.peek().is_some() {
            return Err(FilterFault::HashNotLast);
        }
    }
    Ok(())
}

/// Whether every topic that matches `narrow` matches `wide`, too. Both are valid filters.
pub(super) fn covers(wide: &str, narrow: &str) -> bool {
    // Wildcards at the start do not match topics that begin with `$` (4.7.2).
    if narrow.starts_with('$') && wide.starts_with(['#', '+']) {
        return false;
    }
    let mut narrow = narrow.split('/');
    for level in wide.split('/') {
        match (level, narrow.next()) {
            // `a/#` matches `a` as well, so it covers whatever is left, and nothing.
            ("#", _) => return true,
            ("+", Some(other)) if other != "#" => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    narrow.next().is_none()
}

/// Whether the placeholder of a field may stand in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldPlaceholder {
    /// In the template of a series' name.
    Allowed,
    /// In a label, which belongs to the whole series.
    Refused,
}

/// Checks a template against the filters of its stream.
pub(super) fn template(text: &str, field: FieldPlaceholder, filters: &[String]) -> Result<(), TemplateFault> {
    if text.is_empty() && field == FieldPlaceholder::Allowed {
        return Err(TemplateFault::Empty);
    }
    if text.chars().count() > TEMPLATE_CHARS_MAX {
        return Err(TemplateFault::Long { chars_max: TEMPLATE_CHARS_MAX });
    }
    if text.chars().any(char::is_control) {
        return Err(TemplateFault::Control);
    }
    placeholders(text, |name| placeholder(name, field, filters))
}

/// Checks the placeholders of a user's topic rule.
pub(super) fn user_template(text: &str) -> Result<(), TemplateFault> {
    placeholders(text, |name| match name {
        "user" | "client" => Ok(()),
        _ => {
            let nearest = nearest(name, ["user", "client"]);
            Err(TemplateFault::Placeholder { name: name.to_owned(), nearest })
        }
    })
}

/// Looks at what stands in braces.
fn placeholders(
    text: &str,
    allowed: impl Fn(&str) -> Result<(), TemplateFault>,
) -> Result<(), TemplateFault> {
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (_, braced) = rest.split_at(at);
        let Some((name, behind)) = braced.strip_prefix('{').and_then(|open| open.split_once('}')) else {
            return Err(TemplateFault::Brace);
        };
        if name.contains('{') {
            return Err(TemplateFault::Brace);
        }
        allowed(name)?;
        rest = behind;
    }
    Ok(())
}

fn placeholder(name: &str, field: FieldPlaceholder, filters: &[String]) -> Result<(), TemplateFault> {
    match (name, name.strip_prefix("topic.").map(str::parse::<usize>)) {
        ("topic", _) => Ok(()),
        ("field", _) if field == FieldPlaceholder::Allowed => Ok(()),
        ("field", _) => Err(TemplateFault::FieldInLabel),
        (_, Some(Ok(level))) => match filters.iter().find(|filter| lacks_level(filter, level)) {
            Some(filter) => Err(TemplateFault::Level { level, filter: filter.clone() }),
            None => Ok(()),
        },
        _ => {
            let nearest = nearest(name, ["topic", "topic.0", "field"]);
            Err(TemplateFault::Placeholder { name: name.to_owned(), nearest })
        }
    }
}

/// Whether no topic of the filter has that level. Behind a `#` there may be any number.
fn lacks_level(filter: &str, level: usize) -> bool {
    !filter.ends_with('#') && filter.split('/').count() <= level
}

/// A URL taken apart: `scheme://host:port`, no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// What is before `://`.
    pub scheme: String,
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// What is behind the last colon, if anything.
    pub port: Option<u16>,
}

/// Why a URL is not an [`Endpoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndpointFault {
    /// A user or password is in it.
    User,
    /// Anything else.
    Form,
}

// === impl Endpoint ===

impl Endpoint {
    /// Takes a URL apart.
    pub fn parse(url: &str) -> Result<Endpoint, EndpointFault> {
        let (scheme, authority) = url.split_once("://").ok_or(EndpointFault::Form)?;
        if authority.contains('@') {
            return Err(EndpointFault::User);
        }
        let (host, port) = host_port(authority).ok_or(EndpointFault::Form)?;
        if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
            return Err(EndpointFault::Form);
        }
        Ok(Endpoint { scheme: scheme.to_owned(), host, port })
    }

    /// Whether it never leaves this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// The URL with a port in it.
    pub fn url(&self, port_default: u16) -> String {
        let port = self.port.unwrap_or(port_default);
        let Endpoint { scheme, host, .. } = self;
        if host.contains(':') {
            format!("{scheme}://[{host}]:{port}")
        } else {
            format!("{scheme}://{host}:{port}")
        }
    }
}

/// Whether a host is this machine, without asking a name server.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`. Port 0 is none that could be dialled.
pub(super) fn host_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, behind) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (address, behind) = bracketed.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, behind)
        }
        None => {
            let (host, behind) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            (!host.is_empty() && host.len() <= 253 && host.bytes().all(allowed)).then_some((host, behind))?
        }
    };
    let port = match behind.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|p| *p > 0)?)
        }
        Some(_) => return None,
        None if behind.is_empty() => None,
        None => return None,
    };
    Some((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn topic_filters_follow_section_4_7() {
        // Goal: exactly the filters of MQTT 3.1.1, 4.7 are taken. Method: the standard's examples, and each fault.
        for filter in [
            "#",
            "+",
            "/",
            "sport/tennis/#",
            "+/tennis/#",
            "sport/+/player1",
            "/+",
            "+/+",
            "$SYS/#",
            "a//b",
            " ",
        ] {
            assert_eq!(topic_filter(filter), Ok(()), "{filter}");
        }
        assert_eq!(topic_filter(""), Err(FilterFault::Empty));
        assert_eq!(topic_filter("sport/tennis#"), Err(FilterFault::WildcardNotAlone));
        assert_eq!(topic_filter("sport+"), Err(FilterFault::WildcardNotAlone));
        assert_eq!(topic_filter("sport/tennis/#/ranking"), Err(FilterFault::HashNotLast));
        assert_eq!(topic_filter("a\0b"), Err(FilterFault::Nul));
        assert_eq!(topic_filter("$share/group/a/#"), Err(FilterFault::Shared));
        assert_eq!(topic_filter(&"a".repeat(65_535)), Ok(()));
        assert_eq!(topic_filter(&"a".repeat(65_536)), Err(FilterFault::Long));
    }

    #[test]
    fn a_filter_covers_what_it_matches_altogether() {
        // Goal: shadowed streams are found, and only those. Method: a table, wildcards against wildcards.
        for (wide, narrow) in [
            ("#", "a/b"),
            ("a/#", "a"),
            ("a/#", "a/+/c"),
            ("a/+", "a/b"),
            ("+/+", "a/+"),
            ("a/#", "a/#"),
            ("a", "a"),
        ] {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [
            ("a/+", "a/#"),
            ("a", "a/b"),
            ("a/b", "a/+"),
            ("+", "a/b"),
            ("#", "$SYS/x"),
            ("a/+", "a"),
            ("a/b/#", "a/#"),
        ] {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }

    #[test]
    fn templates_know_their_placeholders() {
        // Goal: what cannot be filled in is refused before a message comes. Method: each fault once.
        let filters = ["plant/+/temp".to_owned()];
        let series = |text| template(text, FieldPlaceholder::Allowed, &filters);
        assert_eq!(series("{topic}/{field}"), Ok(()));
        assert_eq!(series("{topic.0}-{topic.2}"), Ok(()));
        assert_eq!(series("plain"), Ok(()));
        assert_eq!(series(""), Err(TemplateFault::Empty));
        assert_eq!(series("{topic"), Err(TemplateFault::Brace));
        assert_eq!(series("topic}"), Err(TemplateFault::Brace));
        assert_eq!(series("{a{topic}"), Err(TemplateFault::Brace));
        assert_eq!(series("a\tb"), Err(TemplateFault::Control));
        let placeholder =
            |name: &str, nearest| Err(TemplateFault::Placeholder { name: name.to_owned(), nearest });
        assert_eq!(series("{topik}"), placeholder("topik", Some("topic")));
        assert_eq!(series("{topic.x}"), placeholder("topic.x", Some("topic.0")));
        assert_eq!(series("{}"), placeholder("", None));
        assert_eq!(
            series("{topic.3}"),
            Err(TemplateFault::Level { level: 3, filter: "plant/+/temp".to_owned() })
        );
        assert_eq!(template("{topic.9}", FieldPlaceholder::Allowed, &["a/#".to_owned()]), Ok(()));
        assert_eq!(
            template("{field}", FieldPlaceholder::Refused, &filters),
            Err(TemplateFault::FieldInLabel)
        );
        assert_eq!(template("", FieldPlaceholder::Refused, &filters), Ok(()));
        let chars_max = TEMPLATE_CHARS_MAX;
        assert_eq!(series(&"a".repeat(chars_max + 1)), Err(TemplateFault::Long { chars_max }));
    }

    #[test]
    fn urls_are_taken_apart_or_refused() {
        // Goal: host and port of what is dialled are certain. Method: a table of good and bad URLs.
        let parts = |url| Endpoint::parse(url).map(|e| (e.scheme, e.host, e.port));
        let good = |scheme: &str, host: &str, port| Ok((scheme.to_owned(), host.to_owned(), port));
        assert_eq!(parts("mqtt://127.0.0.1:1883"), good("mqtt", "127.0.0.1", Some(1883)));
        assert_eq!(parts("nats-leaf://hub.example"), good("nats-leaf", "hub.example", None));
        assert_eq!(parts("tls://[::1]:7422"), good("tls", "::1", Some(7422)));
        assert_eq!(parts("tls://user:pw@hub:1"), Err(EndpointFault::User));
        for wrong in [
            "",
            "hub",
            "hub:1",
            "://h",
            "tls://",
            "tls://h:",
            "tls://h:0",
            "tls://h:65536",
            "tls://h:1/x",
            "tls://::1",
            "tls://[::1",
            "tls://[x]:1",
            "tls://h:+1",
            "TLS://h",
            "tls://h x",
            "tls://h\"x",
        ] {
            assert_eq!(parts(wrong), Err(EndpointFault::Form), "{wrong}");
        }
        let url = |url: &str, port| Endpoint::parse(url).map(|e| e.url(port));
        assert_eq!(url("tls://[::1]", 4222), Ok("tls://[::1]:4222".to_owned()));
        assert_eq!(url("tls://h:1", 4222), Ok("tls://h:1".to_owned()));
    }

    #[test]
    fn loopback_is_recognised_without_a_name_server() {
        // Goal: plaintext is allowed on this machine only. Method: a table.
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["hub", "10.0.0.1", "localhost.example", "127.0.0.1.example", "::2", "0.0.0.0"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_host_name_becomes_a_gateway_name() {
        // Goal: every host name but an empty one gives a valid name. Method: a table.
        assert_eq!(name_from_host("gw-7.plant.example\n").as_deref(), Some("gw-7-plant-example"));
        assert_eq!(name_from_host("  "), None);
        assert_eq!(name_from_host(&"x".repeat(99)).map(|n| n.len()), Some(NAME_CHARS_MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn small_languages_never_panic(text in "\\PC{0,40}|[a-z{}./#+:\\[\\]0-9]{0,40}") {
            // Goal: any text gives an answer. Method: arbitrary text and text rich in special characters.
            let _ = topic_filter(&text);
            let _ = covers(&text, "a/+/#") | covers("+/b/#", &text);
            let _ = template(&text, FieldPlaceholder::Allowed, std::slice::from_ref(&text));
            let _ = Endpoint::parse(&text);
            let _ = host_port(&text);
            let _ = name_from_host(&text);
        }
    }
}
