//! The desired state: values, and how one change alters them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::command::{Origin, Pairs};

/// A component that is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its artifact, as it was given.
    pub reference: String,
    /// Calls at a time. One instance serves them, one after the other; the number is kept for whoever gave it.
    pub limit: u32,
    /// Names of its configurations; of two values for a key the later one counts.
    pub config: Vec<String>,
    /// Kept for whoever gave them.
    pub annotations: Pairs,
    /// What it may take, by wasmCloud's names.
    #[serde(default)]
    pub limits: Option<Pairs>,
}

/// A provider that is to be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Which, as it was given.
    pub reference: String,
    /// Names of its configurations: what its links begin with.
    pub config: Vec<String>,
    /// Kept for whoever gave them.
    pub annotations: Pairs,
}

/// A link. The fields are wasmCloud's, by name and in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Link {
    pub source_id: String,
    pub target: String,
    #[serde(default = "default_name")]
    pub name: String,
    pub wit_namespace: String,
    pub wit_package: String,
    pub interfaces: Vec<String>,
    #[serde(default)]
    pub source_config: Vec<String>,
    #[serde(default)]
    pub target_config: Vec<String>,
}

/// The name of a link that was given none.
pub fn default_name() -> String {
    "default".to_owned()
}

/// What tells links apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LinkKey {
    pub source_id: String,
    pub wit_namespace: String,
    pub wit_package: String,
    pub name: String,
    pub target: String,
}

/// Something with the word that it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item<T> {
    /// Counts all changes of this gateway.
    pub revision: u64,
    /// Who said so.
    pub origin: Origin,
    /// What.
    pub spec: T,
}

/// Everything that is desired beside the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Of the newest change.
    pub revision: u64,
    /// By identifier.
    pub components: BTreeMap<String, Item<Component>>,
    /// What components on probation were before, by identifier.
    #[serde(default)]
    pub formers: BTreeMap<String, Item<Component>>,
    /// By identifier.
    pub providers: BTreeMap<String, Item<Provider>>,
    /// By what tells them apart; in JSON a list.
    #[serde(with = "listed")]
    pub links: BTreeMap<LinkKey, Item<Link>>,
    /// By name.
    pub configs: BTreeMap<String, Item<Pairs>>,
    /// By name.
    pub labels: BTreeMap<String, Item<String>>,
}

/// What the gateway's file says, and nobody else may change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfTheFile {
    /// Components of both kinds, by name.
    pub components: BTreeMap<String, Filed>,
    /// How many of them are for wasmCloud.
    pub workloads: usize,
    /// Labels, and those that tell what the machine is.
    pub labels: Pairs,
}

/// A component that the gateway's file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filed {
    /// Of its code.
    pub path: String,
    /// Whether that file is an operator's or came with the image.
    pub origin: Origin,
}

/// Which item. Also the name of its row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Key {
    Component(String),
    Former(String),
    Provider(String),
    Link(LinkKey),
    Config(String),
    Label(String),
}

/// What an item is. Also the content of its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Spec {
    Component(Component),
    Former(Component),
    Provider(Provider),
    Link(Link),
    Config(Pairs),
    Label(String),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is to be there, like this.
    Put(Key, Spec),
    /// It is not.
    Remove(Key),
}

// === impl Link ===

impl Link {
    /// What tells it from others.
    pub fn key(&self) -> LinkKey {
        LinkKey {
            source_id: self.source_id.clone(),
            wit_namespace: self.wit_namespace.clone(),
            wit_package: self.wit_package.clone(),
            name: self.name.clone(),
            target: self.target.clone(),
        }
    }
}

// === impl Desired ===

impl Desired {
    /// Makes one change. Those that belong together have one revision.
    pub fn make(&mut self, change: &Change, revision: u64, origin: Origin) {
        self.revision = self.revision.max(revision);
        fn item<T: Clone>(spec: &T, revision: u64, origin: Origin) -> Item<T> {
            Item { revision, origin, spec: spec.clone() }
        }
        match change {
            Change::Put(Key::Component(id), Spec::Component(spec)) => {
                self.components.insert(id.clone(), item(spec, revision, origin));
            }
            Change::Put(Key::Former(id), Spec::Former(spec)) => {
                self.formers.insert(id.clone(), item(spec, revision, origin));
            }
            Change::Put(Key::Provider(id), Spec::Provider(spec)) => {
                self.providers.insert(id.clone(), item(spec, revision, origin));
            }
            Change::Put(Key::Link(key), Spec::Link(spec)) => {
                self.links.insert(key.clone(), item(spec, revision, origin));
            }
            Change::Put(Key::Config(name), Spec::Config(spec)) => {
                self.configs.insert(name.clone(), item(spec, revision, origin));
            }
            Change::Put(Key::Label(name), Spec::Label(spec)) => {
                self.labels.insert(name.clone(), item(spec, revision, origin));
            }
            Change::Put(key, spec) => debug_assert!(false, "{key:?} is not the key of {spec:?}"),
            Change::Remove(Key::Component(id)) => drop(self.components.remove(id)),
            Change::Remove(Key::Former(id)) => drop(self.formers.remove(id)),
            Change::Remove(Key::Provider(id)) => drop(self.providers.remove(id)),
            Change::Remove(Key::Link(key)) => drop(self.links.remove(key)),
            Change::Remove(Key::Config(name)) => drop(self.configs.remove(name)),
            Change::Remove(Key::Label(name)) => drop(self.labels.remove(name)),
        }
    }

    /// All labels: of the file, and those that were put.
    pub fn all_labels(&self, file: &OfTheFile) -> Pairs {
        let put = self.labels.iter().map(|(key, item)| (key.clone(), item.spec.clone()));
        // What the file says counts, also where an older word is kept.
        put.chain(file.labels.clone()).collect()
    }

    /// Configurations that something names and that are not there.
    pub fn missing_configs(&self) -> BTreeSet<&str> {
        let components = self.components.values().flat_map(|item| &item.spec.config);
        let providers = self.providers.values().flat_map(|item| &item.spec.config);
        let links = self
            .links
            .values()
            .flat_map(|item| item.spec.source_config.iter().chain(&item.spec.target_config));
        let named = components.chain(providers).chain(links).map(String::as_str);
        named.filter(|name| !self.configs.contains_key(*name)).collect()
    }

    /// Several configurations as one: of two values for a key the later one counts. Says which is not there.
    pub fn merged(&self, names: &[String]) -> Result<Pairs, String> {
        let mut all = Pairs::new();
        for name in names {
            let item = self.configs.get(name).ok_or_else(|| format!("there is no configuration {name}"))?;
            all.extend(item.spec.clone());
        }
        Ok(all)
    }
}

/// Links in JSON: keys of maps are text there.
mod listed {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Item, Link, LinkKey};

    pub fn serialize<S: Serializer>(
        links: &BTreeMap<LinkKey, Item<Link>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        links.values().collect::<Vec<_>>().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<LinkKey, Item<Link>>, D::Error> {
        let links: Vec<Item<Link>> = Vec::deserialize(deserializer)?;
        Ok(links.into_iter().map(|item| (item.spec.key(), item)).collect())
    }
}
