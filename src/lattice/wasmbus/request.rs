//! Requests: what clients send, and the command it means. Pure.
//!
//! Unknown fields are passed over, as elsewhere: clients of other versions say more. A request that cannot be read is
//! answered with the sentence of wasmCloud's hosts for it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::artifact::registry::{self, Credentials};
use crate::control::{Command, Component, Link, Pairs, Provider, Replacing, default_name};

/// A request for a bid.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Auction {
    /// The artifact.
    #[serde(default, alias = "component_ref", alias = "provider_ref")]
    pub reference: String,
    /// The identifier it would have.
    #[serde(alias = "component_id", alias = "provider_id")]
    pub id: String,
    /// Labels that the host must have.
    pub constraints: Pairs,
}

#[derive(Deserialize)]
struct Scale {
    #[serde(default)]
    component_ref: String,
    component_id: String,
    #[serde(default)]
    annotations: Option<Pairs>,
    #[serde(default)]
    count: u32,
    #[serde(default)]
    component_limits: Option<Pairs>,
    #[serde(default)]
    config: Vec<String>,
    #[serde(default)]
    allow_update: bool,
}

#[derive(Deserialize)]
struct Update {
    #[serde(default)]
    component_id: String,
    #[serde(default)]
    new_component_ref: String,
    #[serde(default)]
    annotations: Option<Pairs>,
}

#[derive(Deserialize)]
struct StartProvider {
    provider_id: String,
    #[serde(default)]
    provider_ref: String,
    #[serde(default)]
    config: Vec<String>,
    #[serde(default)]
    annotations: Option<Pairs>,
}

#[derive(Deserialize)]
struct StopProvider {
    #[serde(default, alias = "provider_ref")]
    provider_id: String,
}

#[derive(Deserialize)]
struct Label {
    key: String,
    value: String,
}

#[derive(Deserialize)]
struct LabelKey {
    key: String,
}

#[derive(Deserialize)]
struct DeleteLink {
    source_id: String,
    #[serde(default = "default_name")]
    name: String,
    wit_namespace: String,
    wit_package: String,
}

#[derive(Deserialize)]
struct StopHost {
    #[serde(default)]
    host_id: String,
}

#[derive(Deserialize)]
struct RegistryLogin {
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    token: Option<String>,
}

type Read<T> = Result<T, String>;

fn read<T: DeserializeOwned>(payload: &[u8], sentence: &str) -> Read<T> {
    serde_json::from_slice(payload).map_err(|_| sentence.to_owned())
}

/// `component.auction`.
pub fn component_auction(payload: &[u8]) -> Read<Auction> {
    read(payload, "failed to deserialize component auction command")
}

/// `provider.auction`.
pub fn provider_auction(payload: &[u8]) -> Read<Auction> {
    read(payload, "failed to deserialize provider auction command")
}

/// `component.scale`.
pub fn scale(payload: &[u8]) -> Read<Command> {
    let Scale { component_ref, component_id, annotations, count, component_limits, config, allow_update } =
        read(payload, "failed to deserialize component scale command")?;
    let component = Component {
        reference: component_ref,
        limit: count,
        config,
        annotations: annotations.unwrap_or_default(),
        limits: component_limits,
    };
    let replacing = if allow_update { Replacing::Allowed } else { Replacing::NotAllowed };
    Ok(Command::Scale { id: component_id, component, replacing })
}

/// `component.update`.
pub fn update(payload: &[u8]) -> Read<Command> {
    let Update { component_id, new_component_ref, annotations } =
        read(payload, "failed to deserialize component update command")?;
    Ok(Command::Update { id: component_id, reference: new_component_ref, annotations })
}

/// `provider.start`.
pub fn start_provider(payload: &[u8]) -> Read<Command> {
    let StartProvider { provider_id, provider_ref, config, annotations } =
        read(payload, "failed to deserialize provider start command")?;
    let provider = Provider { reference: provider_ref, config, annotations: annotations.unwrap_or_default() };
    Ok(Command::StartProvider { id: provider_id, provider })
}

/// `provider.stop`.
pub fn stop_provider(payload: &[u8]) -> Read<Command> {
    let StopProvider { provider_id } = read(payload, "failed to deserialize provider stop command")?;
    Ok(Command::StopProvider { id: provider_id })
}

/// `label.put`.
pub fn put_label(payload: &[u8]) -> Read<Command> {
    let Label { key, value } = read(payload, "failed to deserialize put label request")?;
    Ok(Command::PutLabel { key, value })
}

/// `label.del`.
pub fn delete_label(payload: &[u8]) -> Read<Command> {
    let LabelKey { key } = read(payload, "failed to deserialize delete label request")?;
    Ok(Command::DeleteLabel { key })
}

/// `link.put`.
pub fn put_link(payload: &[u8]) -> Read<Command> {
    let link: Link = read(payload, "failed to deserialize wrpc link definition")?;
    Ok(Command::PutLink { link })
}

/// `link.del`.
pub fn delete_link(payload: &[u8]) -> Read<Command> {
    let DeleteLink { source_id, name, wit_namespace, wit_package } =
        read(payload, "failed to deserialize wrpc link definition")?;
    Ok(Command::DeleteLink { source_id, name, wit_namespace, wit_package })
}

/// `registry.put`. A token is a password without a name, as registries take it; a registry without either says nothing.
pub fn put_registries(payload: &[u8]) -> Read<registry::Told> {
    let told: BTreeMap<String, RegistryLogin> =
        read(payload, "failed to deserialize registries put command")?;
    let login = |(host, login): (String, RegistryLogin)| {
        let RegistryLogin { username, password, token } = login;
        let credentials =
            Credentials { username: username.unwrap_or_default(), password: password.or(token)? };
        Some((host, credentials))
    };
    Ok(told.into_iter().filter_map(login).collect())
}

/// `config.put`.
pub fn put_config(name: &str, payload: &[u8]) -> Read<Command> {
    let values: BTreeMap<String, String> = read(payload, "config data should be a map of string -> string")?;
    Ok(Command::PutConfig { name: name.to_owned(), values })
}

/// `host.stop`: nothing, or an object that names this host or none.
pub fn stop_host(payload: &[u8], host: &str) -> Read<()> {
    if payload.is_empty() {
        return Ok(());
    }
    let StopHost { host_id } = read(payload, "failed to deserialize stop command")?;
    match host_id.is_empty() || host_id == host {
        true => Ok(()),
        false => Err(format!("invalid host_id [{host_id}]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_clients_write_them() {
        // Goal: the field names of section 1.3, and what counts when they are left out. Method: literal JSON, in full and
        // with as little as there may be.
        let annotations = Pairs::from([("a".to_owned(), "b".to_owned())]);
        let full = br#"{"component_ref":"file:///a","component_id":"c","annotations":{"a":"b"},"count":5,"component_limits":{"a":"b"},"host_id":"N","config":["x"],"allow_update":true,"new":1}"#;
        let component = Component {
            reference: "file:///a".into(),
            limit: 5,
            config: vec!["x".into()],
            annotations: annotations.clone(),
            limits: Some(annotations.clone()),
        };
        assert_eq!(
            scale(full),
            Ok(Command::Scale { id: "c".into(), component, replacing: Replacing::Allowed })
        );
        assert_eq!(
            scale(br#"{"component_id":"c"}"#),
            Ok(Command::Scale {
                id: "c".into(),
                component: Component::default(),
                replacing: Replacing::NotAllowed
            })
        );
        assert_eq!(
            update(br#"{"component_id":"c","host_id":"N","new_component_ref":"r","annotations":{"a":"b"}}"#),
            Ok(Command::Update {
                id: "c".into(),
                reference: "r".into(),
                annotations: Some(annotations.clone())
            })
        );
        let provider =
            Provider { reference: "r".into(), config: vec!["x".into()], annotations: annotations.clone() };
        assert_eq!(
            start_provider(br#"{"provider_id":"p","provider_ref":"r","host_id":"N","config":["x"],"annotations":{"a":"b"}}"#),
            Ok(Command::StartProvider { id: "p".into(), provider })
        );
        let stop = Ok(Command::StopProvider { id: "p".into() });
        assert_eq!(stop_provider(br#"{"host_id":"N","provider_id":"p"}"#), stop);
        assert_eq!(stop_provider(br#"{"host_id":"N","provider_ref":"p"}"#), stop);
        let auction = Auction { reference: "r".into(), id: "c".into(), constraints: annotations };
        let asked = br#"{"component_ref":"r","component_id":"c","constraints":{"a":"b"}}"#;
        assert_eq!(component_auction(asked), Ok(auction));
        let asked = br#"{"provider_ref":"r","provider_id":"c","constraints":{}}"#;
        assert_eq!(provider_auction(asked).unwrap().reference, "r");
        let Ok(Command::PutLink { link }) = put_link(
            br#"{"source_id":"s","target":"t","wit_namespace":"wasi","wit_package":"keyvalue","interfaces":["store"]}"#,
        ) else {
            panic!()
        };
        assert_eq!((link.name.as_str(), link.source_config.len()), ("default", 0));
        let deleted = delete_link(br#"{"source_id":"s","name":"n","wit_namespace":"a","wit_package":"b"}"#);
        assert!(matches!(deleted, Ok(Command::DeleteLink { name, .. }) if name == "n"));
        assert!(matches!(put_label(br#"{"key":"k","value":"v"}"#), Ok(Command::PutLabel { .. })));
        assert!(matches!(delete_label(br#"{"key":"k"}"#), Ok(Command::DeleteLabel { .. })));
        assert!(matches!(put_config("c", br#"{"k":"v"}"#), Ok(Command::PutConfig { .. })));
    }

    #[test]
    fn what_cannot_be_read_is_answered_in_the_known_sentences() {
        // Goal: the sentences of wasmCloud's hosts. Method: no JSON, and JSON of another shape, to each.
        let bad = b"{\"a\":1}".as_slice();
        for (said, sentence) in [
            (scale(bad).map(drop), "failed to deserialize component scale command"),
            (update(b"[").map(drop), "failed to deserialize component update command"),
            (start_provider(bad).map(drop), "failed to deserialize provider start command"),
            (stop_provider(b"").map(drop), "failed to deserialize provider stop command"),
            (component_auction(bad).map(drop), "failed to deserialize component auction command"),
            (provider_auction(bad).map(drop), "failed to deserialize provider auction command"),
            (put_label(bad).map(drop), "failed to deserialize put label request"),
            (delete_label(bad).map(drop), "failed to deserialize delete label request"),
            (put_link(bad).map(drop), "failed to deserialize wrpc link definition"),
            (delete_link(bad).map(drop), "failed to deserialize wrpc link definition"),
            (put_config("c", bad).map(drop), "config data should be a map of string -> string"),
            (stop_host(b"1", "N"), "failed to deserialize stop command"),
            (stop_host(br#"{"host_id":"M"}"#, "N"), "invalid host_id [M]"),
        ] {
            assert_eq!(said, Err(sentence.to_owned()));
        }
        for good in [b"".as_slice(), b"{}", br#"{"host_id":"N","timeout":5}"#, br#"{"anything":1}"#] {
            assert_eq!(stop_host(good, "N"), Ok(()));
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(scale(deep.as_bytes()).is_err(), "and the stack is still there");
    }
}
