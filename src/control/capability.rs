//! What an artifact's signer lets its component have, beside what it imports: its name, what links grant, secrets. Pure.
//!
//! Decided on the gateway by the gateway's own file, so that it holds offline, and whatever the lattice says. Every refusal
//! names the line of configuration that would allow it. What nobody has signed, and `artifacts.allow_unsigned` lets run,
//! may have what links grant, but write to no device: that changes something in the plant.

use std::collections::BTreeMap;

use super::builtin::Builtin;
use super::command::Pairs;
use super::desired::{Component, Desired, Link};
use crate::artifact::trust::{Policy, Trust};
use crate::config::{Access, LinkEnd, Secret, SecretFile, Signer, is_listed};

/// Names of configurations that are secrets begin with it; wasmCloud's are `SECRET_…`.
pub(super) const SECRET_PREFIX: &str = "SECRET";

/// The one place that secrets come from.
const BACKEND: &str = "frond";

/// What a component may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clearance<'a> {
    id: &'a str,
    /// Nobody vouches for it without.
    signer: Option<&'a Signer>,
}

// === impl Clearance ===

impl<'a> Clearance<'a> {
    /// Of a component whose artifact is trusted like this. Refused when its signer may not sign one of this name.
    pub fn of(policy: &'a Policy, trust: &Trust, id: &'a str) -> Result<Clearance<'a>, String> {
        let signer = policy.signer(trust);
        match signer.and_then(|signer| Some((signer, signer.components.as_ref()?))) {
            Some((signer, list)) if !is_listed(list, id) => {
                let name = &signer.name;
                Err(format!(
                    "signer {name} may not sign component {id}; {id:?} in components of [[signer]] {name:?} would allow it"
                ))
            }
            _ => Ok(Clearance { id, signer }),
        }
    }

    /// Whether a link may grant what it does.
    pub fn link(&self, link: &Link, builtin: Builtin, end: &LinkEnd) -> Result<(), String> {
        let what = format!("link {} of {} ({}:{})", link.name, self.id, link.wit_namespace, link.wit_package);
        let provider = builtin.name();
        if let Some(signer) = self.signer
            && let Some(list) = &signer.providers
            && !is_listed(list, provider)
        {
            let name = &signer.name;
            return Err(format!(
                "{what} leads to {provider}, which components of signer {name} may not use; {provider:?} in providers of \
                 [[signer]] {name:?} would allow it"
            ));
        }
        let LinkEnd::Device { devices, access: Access::Write } = end else { return Ok(()) };
        let granted = self.signer.map_or(&[][..], |signer| &signer.device_write);
        let Some(device) = devices.iter().find(|device| !granted.contains(device)) else { return Ok(()) };
        Err(match self.signer.map(|signer| &signer.name) {
            Some(name) => format!(
                "{what} grants writing to device {device}, which components of signer {name} may not; {device:?} in \
                 device_write of [[signer]] {name:?} would allow it"
            ),
            None => format!(
                "{what} grants writing to device {device}, which a component that nobody has signed may not; sign it, with \
                 {device:?} in device_write of the [[signer]]"
            ),
        })
    }

    /// The secrets that its configurations name, by its own names for them.
    pub fn secrets(
        &self,
        desired: &Desired,
        component: &Component,
        secrets: &[Secret],
    ) -> Result<BTreeMap<String, SecretFile>, String> {
        let named = component.config.iter().filter(|name| is_secret(name));
        named.map(|name| self.secret(desired, name, secrets)).collect()
    }

    fn secret(
        &self,
        desired: &Desired,
        name: &str,
        secrets: &[Secret],
    ) -> Result<(String, SecretFile), String> {
        let item = desired.configs.get(name).ok_or_else(|| format!("there is no configuration {name}"))?;
        let Reference { backend, key, own_name } = Reference::of(name, &item.spec)?;
        if backend != BACKEND {
            return Err(format!(
                "secret {name} is kept by {backend:?}, and a gateway asks no secrets backend, since it works without a link; \
                 keep it on the gateway in a [[secret]], and name it with backend = {BACKEND:?}"
            ));
        }
        let id = self.id;
        let secret = secrets.iter().find(|secret| secret.name == key);
        let secret = secret.ok_or_else(|| {
            format!("this gateway has no secret {key:?}; a [[secret]] with that name would be it")
        })?;
        if !is_listed(&secret.components, id) {
            return Err(format!(
                "secret {key:?} is not for component {id}; {id:?} in components of [[secret]] {key:?} would allow it"
            ));
        }
        let signer = self.signer.map(|signer| &signer.name);
        match (&secret.signers, signer) {
            (Some(list), Some(name)) if !list.contains(name) => Err(format!(
                "secret {key:?} is not for components of signer {name}; {name:?} in signers of [[secret]] {key:?} would allow it"
            )),
            (Some(_), None) => Err(format!(
                "secret {key:?} is for components that its signers have signed, and nobody has signed this"
            )),
            _ => Ok((own_name.to_owned(), secret.file.clone())),
        }
    }
}

/// What a configuration says of a secret.
struct Reference<'a> {
    backend: &'a str,
    key: &'a str,
    /// What the component calls it.
    own_name: &'a str,
}

impl<'a> Reference<'a> {
    fn of(name: &'a str, values: &'a Pairs) -> Result<Reference<'a>, String> {
        let value = |key: &str| values.get(key).map(String::as_str).filter(|text| !text.is_empty());
        let form = || format!("secret {name} is no reference to a secret: it needs backend and key");
        let backend = value("backend").ok_or_else(form)?;
        if backend == BACKEND && value("field").is_some() {
            return Err(format!("secret {name} asks for a field; a secret of a gateway is one value"));
        }
        let own_name = name.strip_prefix(SECRET_PREFIX).unwrap_or(name).trim_start_matches('_');
        Ok(Reference {
            backend,
            key: value("key").ok_or_else(form)?,
            own_name: value("name").unwrap_or(own_name),
        })
    }
}

/// Whether a configuration of this name refers to a secret.
pub(super) fn is_secret(name: &str) -> bool {
    name.starts_with(SECRET_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::trust::Unsigned;
    use crate::control::command::Origin;
    use crate::control::desired::{Change, Key, Spec};

    fn policy() -> Policy {
        let list = |all: &[&str]| Some(all.iter().map(|one| (*one).to_owned()).collect());
        let signer = Signer {
            name: "works".into(),
            key: "A".into(),
            components: list(&["press-*", "oven"]),
            interfaces: None,
            providers: list(&["devices", "mqtt"]),
            device_write: vec!["meter".into()],
        };
        Policy { signers: vec![signer], unsigned: Unsigned::Allowed }
    }

    fn trusted() -> Trust {
        Trust::Trusted("works".into())
    }

    fn link() -> Link {
        Link {
            source_id: "press-1".into(),
            target: "d".into(),
            name: "default".into(),
            wit_namespace: "frond".into(),
            wit_package: "device".into(),
            ..Link::default()
        }
    }

    fn device(name: &str, access: Access) -> LinkEnd {
        LinkEnd::Device { devices: vec!["meter".into(), name.into()], access }
    }

    #[test]
    fn a_signer_signs_the_components_that_it_is_trusted_with() {
        // Goal: a vendor of one component does not become that of another. Method: names within and beyond; nobody's.
        let policy = policy();
        let of = |trust: &Trust, id: &str| Clearance::of(&policy, trust, id).map(|_| ());
        assert_eq!(of(&trusted(), "press-1"), Ok(()));
        assert_eq!(of(&trusted(), "oven"), Ok(()));
        assert_eq!(
            of(&trusted(), "oven-2").unwrap_err(),
            "signer works may not sign component oven-2; \"oven-2\" in components of [[signer]] \"works\" would allow it"
        );
        assert_eq!(of(&Trust::Unsigned, "oven-2"), Ok(()));
    }

    #[test]
    fn links_grant_what_the_signer_may_have_and_writing_only_by_name() {
        // Goal: a lattice that was taken over cannot move anything in the plant by itself. Method: providers and devices
        // within and beyond; nobody's component.
        let policy = policy();
        let works = Clearance::of(&policy, &trusted(), "press-1").unwrap();
        let nobody = Clearance::of(&policy, &Trust::Unsigned, "press-1").unwrap();
        let write = device("meter", Access::Write);
        assert_eq!(works.link(&link(), Builtin::Devices, &write), Ok(()));
        assert_eq!(works.link(&link(), Builtin::Devices, &device("door", Access::Read)), Ok(()));
        assert_eq!(
            works.link(&link(), Builtin::Devices, &device("door", Access::Write)).unwrap_err(),
            "link default of press-1 (frond:device) grants writing to device door, which components of signer works may not; \
             \"door\" in device_write of [[signer]] \"works\" would allow it"
        );
        let store = LinkEnd::KeyValue { bytes_max: 1, keys_max: 1 };
        assert_eq!(
            works.link(&link(), Builtin::KeyValue, &store).unwrap_err(),
            "link default of press-1 (frond:device) leads to keyvalue-sqlite, which components of signer works may not use; \
             \"keyvalue-sqlite\" in providers of [[signer]] \"works\" would allow it"
        );
        assert_eq!(nobody.link(&link(), Builtin::KeyValue, &store), Ok(()));
        assert_eq!(nobody.link(&link(), Builtin::Devices, &device("door", Access::Read)), Ok(()));
        let why = nobody.link(&link(), Builtin::Devices, &write).unwrap_err();
        assert!(why.contains("which a component that nobody has signed may not; sign it"), "{why}");
    }

    #[test]
    fn a_secret_is_given_to_whom_the_gateway_says_and_to_nobody_else() {
        // Goal: who may start components cannot have a secret read by one of their own. Method: the one it is for; another
        // component, another signer, nobody's; references that lead nowhere or elsewhere.
        let policy = policy();
        let secret = |name: &str, components: &[&str], signers: Option<&[&str]>| Secret {
            name: name.into(),
            file: SecretFile { said: name.into(), path: name.into() },
            components: components.iter().map(|one| (*one).to_owned()).collect(),
            signers: signers.map(|all| all.iter().map(|one| (*one).to_owned()).collect()),
        };
        let secrets = [
            secret("db", &["press-*"], None),
            secret("oven", &["oven"], None),
            secret("works", &["*"], Some(&["works"])),
            secret("others", &["*"], Some(&["others"])),
        ];
        let mut desired = Desired::default();
        for (name, values) in [
            ("SECRET_db", &[("backend", "frond"), ("key", "db")][..]),
            ("SECRET_named", &[("backend", "frond"), ("key", "db"), ("name", "token")]),
            ("SECRET_oven", &[("backend", "frond"), ("key", "oven")]),
            ("SECRET_works", &[("backend", "frond"), ("key", "works")]),
            ("SECRET_others", &[("backend", "frond"), ("key", "others")]),
            ("SECRET_none", &[("backend", "frond"), ("key", "none")]),
            ("SECRET_field", &[("backend", "frond"), ("key", "db"), ("field", "x")]),
            ("SECRET_away", &[("backend", "nats-kv"), ("key", "db")]),
            ("SECRET_form", &[("key", "db")]),
            ("plain", &[("backend", "frond")]),
        ] {
            let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            desired.make(&Change::Put(Key::Config(name.into()), Spec::Config(values)), 1, Origin::Site);
        }
        let give = |trust: &Trust, id: &str, names: &[&str]| {
            let config = names.iter().map(|one| (*one).to_owned()).collect();
            let component = Component { config, ..Component::default() };
            let clearance = Clearance::of(&policy, trust, id).unwrap();
            clearance.secrets(&desired, &component, &secrets).map(|all| {
                all.into_iter().map(|(name, file)| format!("{name}={}", file.said)).collect::<Vec<_>>()
            })
        };
        assert_eq!(
            give(&trusted(), "press-1", &["plain", "SECRET_db", "SECRET_named", "SECRET_works"]).unwrap(),
            ["db=db", "token=db", "works=works"]
        );
        assert_eq!(give(&Trust::Unsigned, "press-1", &["SECRET_db"]).unwrap(), ["db=db"]);
        for (trust, name, why) in [
            (trusted(), "SECRET_oven", "\"press-1\" in components of [[secret]] \"oven\" would allow it"),
            (trusted(), "SECRET_others", "\"works\" in signers of [[secret]] \"others\" would allow it"),
            (Trust::Unsigned, "SECRET_works", "nobody has signed this"),
            (trusted(), "SECRET_none", "this gateway has no secret \"none\""),
            (trusted(), "SECRET_field", "is one value"),
            (trusted(), "SECRET_away", "a gateway asks no secrets backend"),
            (trusted(), "SECRET_form", "it needs backend and key"),
            (trusted(), "SECRET_gone", "there is no configuration SECRET_gone"),
        ] {
            let said = give(&trust, "press-1", &[name]).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
