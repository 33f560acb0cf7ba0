//! From the desired state to what the workloads are made from: components with their links, as the file would have them.
//! Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::builtin::Builtin;
use super::capability::{Clearance, is_secret};
use super::command::Refusal;
use super::desired::{Component, Desired, Link};
use super::grants::{Direction, Surroundings, grant, oddity};
use crate::artifact::obtain::Obtained;
use crate::config::workload::LINKS_MAX;
use crate::config::{self, Workload};

/// Bytes of memory and milliseconds of a call that limits may say; as in the file.
const MEMORY: (u64, u64) = (1 << 20, 1 << 30);
/// Seconds.
const TIME: (u64, u64) = (1, 60);

/// What a component is made from. Two that are equal need not be made twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Its artifact, as it was given.
    pub reference: String,
    /// As if the file had it.
    pub workload: Workload,
}

/// A component's plan, once its artifact is there; or why it may not have what it would be given.
pub fn plan(
    desired: &Desired,
    surroundings: &Surroundings,
    id: &str,
    component: &Component,
    artifact: &Obtained,
) -> Result<Plan, String> {
    let clearance = Clearance::of(&surroundings.policy, &artifact.trust, id)?;
    let mut made = config::Component::of(id.to_owned(), artifact.path.clone());
    made.digest = Some(artifact.digest.to_string());
    let plain: Vec<String> = component.config.iter().filter(|name| !is_secret(name)).cloned().collect();
    made.config = desired.merged(&plain)?;
    let mut workload = Workload::of(made);
    workload.secrets = clearance.secrets(desired, component, &surroundings.secrets)?;
    let limit = |name, range| limit(component, name, range).map_err(|refusal| refusal.to_string());
    if let Some(bytes) = limit("max_memory_limit", MEMORY)? {
        workload.component.memory_bytes_max = bytes;
    }
    if let Some(seconds) = limit("max_execution_time", TIME)? {
        workload.component.deadline = Duration::from_secs(seconds);
    }
    for item in desired.links.values() {
        if item.spec.source_id != id && item.spec.target != id {
            continue;
        }
        // A link that grants nothing is told of by `troubles`; what the component misses it is told when it is opened.
        if let Ok((builtin, end, _)) = end(desired, surroundings, &item.spec)
            && workload.links.len() < LINKS_MAX
        {
            clearance.link(&item.spec, builtin, &end)?;
            workload.links.push(config::Link { name: item.spec.name.clone(), end });
        }
    }
    Ok(Plan { reference: component.reference.clone(), workload })
}

/// Links that lead nowhere, and those that say something in vain, with the reason.
pub fn troubles(desired: &Desired, surroundings: &Surroundings) -> Vec<(Link, String)> {
    let mut troubles = Vec::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for item in desired.links.values() {
        let link = &item.spec;
        match end(desired, surroundings, link) {
            Err(why) => troubles.push((link.clone(), why)),
            Ok((_, _, odd)) => {
                let is_provider = desired.providers.contains_key(&link.source_id);
                let component = if is_provider { &link.target } else { &link.source_id };
                let count = counts.entry(component).or_default();
                *count += 1;
                if *count > LINKS_MAX {
                    troubles.push((link.clone(), format!("component {component} has {LINKS_MAX} others")));
                }
                troubles.extend(odd.map(|why| (link.clone(), why)));
            }
        }
    }
    troubles
}

/// The provider, what the link grants, and what it says in vain.
fn end(
    desired: &Desired,
    surroundings: &Surroundings,
    link: &Link,
) -> Result<(Builtin, config::LinkEnd, Option<String>), String> {
    let (source, target) = (desired.providers.get(&link.source_id), desired.providers.get(&link.target));
    let (provider, direction, names) = match (source, target) {
        (Some(provider), None) => (provider, Direction::In, &link.source_config),
        (None, Some(provider)) => (provider, Direction::Out, &link.target_config),
        (Some(_), Some(_)) => return Err("both ends are providers".to_owned()),
        (None, None) => {
            return Err(format!(
                "neither {} nor {} is a provider of this gateway; components are not linked to each other here",
                link.source_id, link.target
            ));
        }
    };
    let builtin = Builtin::of(&provider.spec.reference).map_err(|refusal| refusal.to_string())?;
    if let Some(name) = provider.spec.config.iter().chain(names).find(|name| is_secret(name)) {
        return Err(format!("{name} is a secret, and providers of a gateway take none"));
    }
    let mut values = desired.merged(&provider.spec.config)?;
    values.extend(desired.merged(names)?);
    let package = format!("{}:{}", link.wit_namespace, link.wit_package);
    let end = grant(builtin, direction, &package, &values, surroundings)?;
    Ok((builtin, end, oddity(builtin, &package, &link.interfaces, &values)))
}

/// A limit that was given.
fn limit(
    component: &Component,
    name: &'static str,
    (least, most): (u64, u64),
) -> Result<Option<u64>, Refusal> {
    let Some(value) = component.limits.as_ref().and_then(|limits| limits.get(name)) else { return Ok(None) };
    match value.parse().ok().filter(|number| (least..=most).contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(Refusal::Limit { limit: name, value: value.clone(), least, most }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::command::{Origin, Pairs};
    use crate::control::desired::{Change, Key, Provider, Spec};

    #[test]
    fn a_link_that_says_something_in_vain_grants_and_is_shown_with_it() {
        // Goal: a misspelt key is neither hidden nor an end to what works. Method: a link with one, and what it is made into.
        let provider =
            Provider { reference: "frond+builtin://keyvalue-sqlite".into(), ..Provider::default() };
        let link = Link {
            source_id: "press".into(),
            target: "kv".into(),
            wit_namespace: "wasi".into(),
            wit_package: "keyvalue".into(),
            interfaces: vec!["store".into()],
            target_config: vec!["small".into()],
            ..Link::default()
        };
        let mut desired = Desired::default();
        for change in [
            Change::Put(Key::Provider("kv".into()), Spec::Provider(provider)),
            Change::Put(Key::Link(link.key()), Spec::Link(link.clone())),
            Change::Put(
                Key::Config("small".into()),
                Spec::Config(Pairs::from([("key_max".into(), "3".into())])),
            ),
        ] {
            desired.make(&change, 1, Origin::Site);
        }
        let surroundings = Surroundings::default();
        let said = troubles(&desired, &surroundings);
        let why = "\"key_max\" is no option of keyvalue-sqlite; it has bytes_max, keys_max";
        assert_eq!(said, [(link.clone(), why.to_owned())]);
        assert!(matches!(end(&desired, &surroundings, &link), Ok((Builtin::KeyValue, _, _))));
    }
}
