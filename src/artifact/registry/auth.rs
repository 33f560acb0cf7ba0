//! How a registry asks who is there, and what it is told. Pure.

use data_encoding::BASE64;
use hyper::header::HeaderValue;
use serde::Deserialize;

use super::Credentials;

/// What a registry wants to hear.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password.
    Basic,
    /// A token of somebody else's.
    Bearer(Realm),
}

/// Who gives tokens.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Realm {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
}

/// Name and password, as a header.
pub(super) fn basic(credentials: &Credentials) -> HeaderValue {
    let text = format!("{}:{}", credentials.username, credentials.password);
    secret(&format!("Basic {}", BASE64.encode(text.as_bytes()))).expect("base64 is a header")
}

/// The token in a realm's answer, as a header; `None` when there is none.
pub(super) fn bearer(body: &[u8]) -> Option<HeaderValue> {
    let Given { token, access_token } = serde_json::from_slice(body).ok()?;
    secret(&format!("Bearer {}", token.or(access_token)?))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

// === impl Challenge ===

impl Challenge {
    /// Reads a `WWW-Authenticate`; `None` when it asks for something else.
    pub(super) fn parse(text: &str) -> Option<Challenge> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut realm = Realm::default();
        let mut rest = rest.trim_start();
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match name.trim() {
                "realm" => value.clone_into(&mut realm.realm),
                "service" => realm.service = Some(value.to_owned()),
                "scope" => realm.scope = Some(value.to_owned()),
                _ => {}
            }
            rest = after.trim_start_matches([',', ' ']);
        }
        (!realm.realm.is_empty()).then_some(Challenge::Bearer(realm))
    }
}

// === impl Realm ===

impl Realm {
    /// Where the token is to be had.
    pub(super) fn url(&self, repository: &str) -> String {
        let scope = self.scope.clone().unwrap_or_else(|| format!("repository:{repository}:pull"));
        let mut url = self.realm.clone();
        let service = self.service.iter().map(|service| ("service", service.as_str()));
        for (name, value) in service.chain([("scope", scope.as_str())]) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(name);
            url.push('=');
            url.extend(value.bytes().map(encoded));
        }
        url
    }
}

/// A byte of a query.
fn encoded(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_the_usual_registries_are_understood() {
        // Goal: what registries send leads to the right question. Method: their headers, and some that are none.
        let text = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",\
                    scope=\"repository:plant/limits:pull\"";
        let Some(Challenge::Bearer(realm)) = Challenge::parse(text) else { panic!() };
        assert_eq!(
            realm.url("x"),
            "https://auth.docker.io/token?service=registry.docker.io&scope=repository:plant/limits:pull"
        );
        let Some(Challenge::Bearer(realm)) = Challenge::parse("bearer realm=\"https://a/t?x=1\", error=none")
        else {
            panic!()
        };
        assert_eq!(realm.url("plant/a b"), "https://a/t?x=1&scope=repository:plant/a%20b:pull");
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        for other in ["", "Bearer", "Bearer realm=\"", "Bearer service=\"x\"", "Negotiate abc"] {
            assert_eq!(Challenge::parse(other), None, "{other}");
        }
    }

    #[test]
    fn tokens_become_headers_that_are_not_shown() {
        // Goal: a token is passed on and never logged. Method: both spellings; answers without one.
        for body in [r#"{"token":"abc"}"#, r#"{"access_token":"abc","expires_in":60}"#] {
            let header = bearer(body.as_bytes()).unwrap();
            assert_eq!((header.to_str().unwrap(), header.is_sensitive()), ("Bearer abc", true));
        }
        for body in ["", "{}", "[]", r#"{"token":"a\nb"}"#] {
            assert_eq!(bearer(body.as_bytes()), None, "{body}");
        }
        let credentials = Credentials { username: "u".into(), password: "geheim".into() };
        assert_eq!(basic(&credentials).to_str().unwrap(), "Basic dTpnZWhlaW0=");
        assert!(!format!("{credentials:?} {:?}", basic(&credentials)).contains("geheim"));
    }
}
