//! A command against the desired state: what changes, what is answered, what is told. Pure.

use super::bounds::{self, count};
use super::builtin::Builtin;
use super::capability::is_secret;
use super::command::{Command, Event, Origin, Pairs, Refusal, Replacing, Scaled};
use super::desired::{Change, Component, Desired, Filed, Key, Link, LinkKey, OfTheFile, Provider, Spec};
use super::scaler;

/// What becomes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What whoever asked is told.
    pub answer: Result<String, Refusal>,
    /// What is changed: nothing if it is refused, or was so already.
    pub changes: Vec<Change>,
    /// What is told once the changes are on flash.
    pub events: Vec<Event>,
    /// What is told once a component runs, or has stopped.
    pub work: Option<Scaled>,
}

// === impl Decision ===

impl Decision {
    fn done(text: impl Into<String>) -> Decision {
        Decision { answer: Ok(text.into()), changes: Vec::new(), events: Vec::new(), work: None }
    }

    fn refused(refusal: Refusal) -> Decision {
        Decision { answer: Err(refusal), ..Decision::done("") }
    }

    fn with(mut self, change: Option<Change>, event: Event) -> Decision {
        self.changes.extend(change);
        self.events.push(event);
        self
    }

    /// The state afterwards.
    pub fn after(&self, desired: &Desired, origin: Origin) -> Desired {
        let mut after = desired.clone();
        for change in &self.changes {
            after.make(change, desired.revision + 1, origin);
        }
        after
    }
}

/// Decides.
pub fn apply(desired: &Desired, file: &OfTheFile, command: &Command) -> Decision {
    let decided = match command {
        Command::Scale { id, component, replacing } => scale(desired, file, id, component, *replacing),
        Command::Update { id, reference, annotations } => {
            update(desired, file, id, reference, annotations.as_ref())
        }
        Command::StartProvider { id, provider } => start_provider(desired, file, id, provider),
        Command::StopProvider { id } => stop_provider(desired, id),
        Command::PutLink { link } => put_link(desired, link),
        Command::DeleteLink { source_id, name, wit_namespace, wit_package } => Ok(delete_link(
            desired,
            LinkKey {
                source_id: source_id.clone(),
                wit_namespace: wit_namespace.clone(),
                wit_package: wit_package.clone(),
                name: name.clone(),
                target: String::new(),
            },
        )),
        Command::PutConfig { name, values } => put_config(desired, name, values),
        Command::DeleteConfig { name } => {
            let change =
                desired.configs.contains_key(name).then(|| Change::Remove(Key::Config(name.clone())));
            Ok(Decision::done("successfully deleted config")
                .with(change, Event::ConfigDeleted { name: name.clone() }))
        }
        Command::PutLabel { key, value } => put_label(desired, file, key, value),
        Command::DeleteLabel { key } => delete_label(desired, file, key),
    };
    decided.unwrap_or_else(|refusal| {
        let refused = Decision::refused(refusal.clone());
        let error = refusal.to_string();
        match command {
            Command::PutLink { link } => {
                refused.with(None, Event::LinkSetFailed { link: link.clone(), error })
            }
            Command::StartProvider { id, provider } if refusal != Refusal::ProviderRuns => refused.with(
                None,
                Event::ProviderStartFailed { id: id.clone(), reference: provider.reference.clone(), error },
            ),
            _ => refused,
        }
    })
}

fn scale(
    desired: &Desired,
    file: &OfTheFile,
    id: &str,
    wanted: &Component,
    replacing: Replacing,
) -> Result<Decision, Refusal> {
    bounds::component_id(id)?;
    not_of_the_file(file, id)?;
    if desired.providers.contains_key(id) && wanted.limit > 0 {
        return Err(Refusal::IdTaken { id: id.to_owned(), what: "provider" });
    }
    // Who stops a component need not say what it was made from.
    if wanted.limit > 0 || !wanted.reference.is_empty() {
        bounds::reference(&wanted.reference)?;
    }
    bounds::config_names(&wanted.config)?;
    bounds::annotations(&wanted.annotations)?;
    bounds::annotations(wanted.limits.iter().flatten())?;
    let before = desired.components.get(id).map(|item| &item.spec);
    let mut after = wanted.clone();
    let mut message = String::new();
    if let Some(before) = before {
        let is_another = scaler::is_another(&before.annotations, &wanted.annotations);
        if is_another && wanted.limit == 0 {
            // It has lost the component already, and is told what it waits for.
            let gone = Event::ComponentScaled(Scaled::of(id, wanted));
            return Ok(Decision::done("").with(None, gone));
        }
        let replacing = if is_another { Replacing::Allowed } else { replacing };
        let (old, new) = (&before.reference, &wanted.reference);
        if old != new && wanted.limit > 0 {
            message = match replacing {
                Replacing::NotAllowed => {
                    after.reference.clone_from(old);
                    kept_reference(old, new)
                }
                Replacing::Allowed => changed_reference(old, new),
            };
        }
        // Whoever scales by hand does not mean to take away what a controller knows its components by, nor what they are
        // configured with: `wash scale` says neither unless it is told to.
        if after.annotations.is_empty() {
            after.annotations.clone_from(&before.annotations);
            if after.config.is_empty() {
                after.config.clone_from(&before.config);
            }
        }
        after.limits = after.limits.or_else(|| before.limits.clone());
        if wanted.limit == 0 {
            after.reference.clone_from(old);
        }
    }
    let change = match (wanted.limit, before) {
        (0, None) => None,
        (0, Some(_)) => Some(Change::Remove(Key::Component(id.to_owned()))),
        _ => {
            count("components", desired.components.len() + usize::from(before.is_none()), {
                bounds::COMPONENTS_MAX.saturating_sub(file.workloads)
            })?;
            put(before, Key::Component(id.to_owned()), &after, Spec::Component)
        }
    };
    let scaled = Scaled::of(id, &after);
    Ok(Decision { changes: change.into_iter().collect(), work: Some(scaled), ..Decision::done(message) })
}

fn update(
    desired: &Desired,
    file: &OfTheFile,
    id: &str,
    reference: &str,
    annotations: Option<&Pairs>,
) -> Result<Decision, Refusal> {
    not_of_the_file(file, id)?;
    let Some(item) = desired.components.get(id) else {
        return Err(Refusal::NoComponent { id: id.to_owned() });
    };
    let before = &item.spec;
    if before.reference == reference {
        return Ok(Decision::done(format!("component {id} already updated to {reference}")));
    }
    bounds::reference(reference)?;
    bounds::annotations(annotations.into_iter().flatten())?;
    let mut after = Component { reference: reference.to_owned(), ..before.clone() };
    if let Some(annotations) = annotations {
        after.annotations.clone_from(annotations);
    }
    let message = format!("component {id} updating from {} to {reference}", before.reference);
    let work = Some(Scaled::of(id, &after));
    let change = put(Some(before), Key::Component(id.to_owned()), &after, Spec::Component);
    Ok(Decision { changes: change.into_iter().collect(), work, ..Decision::done(message) })
}

fn start_provider(
    desired: &Desired,
    file: &OfTheFile,
    id: &str,
    provider: &Provider,
) -> Result<Decision, Refusal> {
    if desired.providers.contains_key(id) {
        return Err(Refusal::ProviderRuns);
    }
    if desired.components.contains_key(id) || file.components.contains_key(id) {
        return Err(Refusal::IdTaken { id: id.to_owned(), what: "component" });
    }
    bounds::name("a provider", id)?;
    bounds::reference(&provider.reference)?;
    bounds::config_names(&provider.config)?;
    bounds::annotations(&provider.annotations)?;
    Builtin::of(&provider.reference)?;
    count("providers", desired.providers.len() + 1, bounds::PROVIDERS_MAX)?;
    let change = Change::Put(Key::Provider(id.to_owned()), Spec::Provider(provider.clone()));
    let event = Event::ProviderStarted { id: id.to_owned(), provider: provider.clone() };
    Ok(Decision::done("successfully started provider").with(Some(change), event))
}

fn stop_provider(desired: &Desired, id: &str) -> Result<Decision, Refusal> {
    let item = desired.providers.get(id).ok_or(Refusal::ProviderRunsNot)?;
    let event = Event::ProviderStopped { id: id.to_owned(), annotations: item.spec.annotations.clone() };
    let change = Change::Remove(Key::Provider(id.to_owned()));
    Ok(Decision::done("successfully stopped provider").with(Some(change), event))
}

fn put_link(desired: &Desired, link: &Link) -> Result<Decision, Refusal> {
    link_fits(desired, link)?;
    let named = link.source_config.iter().chain(&link.target_config);
    let missing: String =
        named.filter(|name| !desired.configs.contains_key(*name)).map(|name| no_config(name)).collect();
    if !missing.is_empty() {
        return Err(Refusal::NoConfig { missing });
    }
    let key = link.key();
    let overlaps = |other: &Link| other.interfaces.iter().any(|name| link.interfaces.contains(name));
    let mut rivals =
        desired.links.iter().filter(|(other, _)| is_same_link(other, &key) && other.target != key.target);
    if rivals.any(|(_, item)| overlaps(&item.spec)) {
        return Err(Refusal::LinkTaken);
    }
    let before = desired.links.get(&key).map(|item| &item.spec);
    let change = put(before, Key::Link(key), link, Spec::Link);
    Ok(Decision::done("successfully set link").with(change, Event::LinkSet(link.clone())))
}

/// Whether a link may be held beside the others.
pub(super) fn link_fits(desired: &Desired, link: &Link) -> Result<(), Refusal> {
    for (what, name) in [
        ("the source of a link", &link.source_id),
        ("the target of a link", &link.target),
        ("a link", &link.name),
        ("a namespace", &link.wit_namespace),
        ("a package", &link.wit_package),
    ] {
        bounds::name(what, name)?;
    }
    count("interfaces in a link", link.interfaces.len(), bounds::INTERFACES_MAX)?;
    link.interfaces.iter().try_for_each(|name| bounds::name("an interface", name))?;
    bounds::config_names(&link.source_config)?;
    bounds::config_names(&link.target_config)?;
    let is_new = !desired.links.contains_key(&link.key());
    count("links", desired.links.len() + usize::from(is_new), bounds::LINKS_MAX)
}

/// `wanted` names no target: the first that matches goes, as elsewhere.
fn delete_link(desired: &Desired, wanted: LinkKey) -> Decision {
    let has_source = desired.links.keys().any(|key| key.source_id == wanted.source_id);
    let found = desired.links.iter().find(|(key, _)| is_same_link(key, &wanted));
    let was = found.map(|(_, item)| item.spec.clone());
    let change = found.map(|(key, _)| Change::Remove(Key::Link(key.clone())));
    let message = match has_source {
        true => "successfully deleted link",
        false => "successfully deleted link (spec doesn't exist)",
    };
    match has_source {
        // Somebody who wonders why nothing is told will find that it was never there.
        false => Decision::done(message),
        true => Decision::done(message).with(change, Event::LinkDeleted { key: wanted, was }),
    }
}

fn put_config(desired: &Desired, name: &str, values: &Pairs) -> Result<Decision, Refusal> {
    bounds::config_name(name)?;
    config_fits(desired, name, values)?;
    let before = desired.configs.get(name).map(|item| &item.spec);
    let change = put(before, Key::Config(name.to_owned()), values, Spec::Config);
    Ok(Decision::done("successfully put config").with(change, Event::ConfigSet { name: name.to_owned() }))
}

/// Whether a configuration may be held beside the others.
pub(super) fn config_fits(desired: &Desired, name: &str, values: &Pairs) -> Result<(), Refusal> {
    let size = |values: &Pairs| values.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    count("values in one configuration", values.len(), bounds::CONFIG_VALUES_MAX)?;
    count("bytes in one configuration", size(values), bounds::CONFIG_BYTES_MAX)?;
    let others = desired.configs.iter().filter(|(other, _)| *other != name);
    let all = others.map(|(_, item)| size(&item.spec)).sum::<usize>() + size(values);
    count("bytes of configuration", all, bounds::CONFIG_BYTES_ALL_MAX)?;
    let is_new = !desired.configs.contains_key(name);
    count("configurations", desired.configs.len() + usize::from(is_new), bounds::CONFIGS_MAX)
}

fn put_label(desired: &Desired, file: &OfTheFile, key: &str, value: &str) -> Result<Decision, Refusal> {
    if key.to_lowercase().starts_with("hostcore.") {
        return Err(Refusal::HostCore);
    }
    label_not_of_the_file(file, key)?;
    bounds::name("a label", key)?;
    count("bytes in a label", value.len(), bounds::LABEL_BYTES_MAX)?;
    let before = desired.labels.get(key).map(|item| &item.spec);
    count("labels", desired.labels.len() + usize::from(before.is_none()), bounds::LABELS_MAX)?;
    let change = put(before, Key::Label(key.to_owned()), &value.to_owned(), Spec::Label);
    Ok(Decision::done("successfully put label").with(change, Event::LabelsChanged))
}

fn delete_label(desired: &Desired, file: &OfTheFile, key: &str) -> Result<Decision, Refusal> {
    label_not_of_the_file(file, key)?;
    match desired.labels.contains_key(key) {
        true => Ok(Decision::done("successfully deleted label")
            .with(Some(Change::Remove(Key::Label(key.to_owned()))), Event::LabelsChanged)),
        false => Ok(Decision::done("successfully deleted label (no such label)")),
    }
}

/// The change, unless it is so already.
fn put<T: Clone + PartialEq>(
    before: Option<&T>,
    key: Key,
    after: &T,
    spec: impl FnOnce(T) -> Spec,
) -> Option<Change> {
    (before != Some(after)).then(|| Change::Put(key, spec(after.clone())))
}

fn is_same_link(one: &LinkKey, other: &LinkKey) -> bool {
    (&one.source_id, &one.wit_namespace, &one.wit_package, &one.name)
        == (&other.source_id, &other.wit_namespace, &other.wit_package, &other.name)
}

fn not_of_the_file(file: &OfTheFile, id: &str) -> Result<(), Refusal> {
    match file.components.get(id) {
        Some(Filed { origin: Origin::Image, .. }) => Err(Refusal::OfTheImage { name: id.to_owned() }),
        Some(_) => Err(Refusal::OfTheFile { what: "component", name: id.to_owned() }),
        None => Ok(()),
    }
}

fn label_not_of_the_file(file: &OfTheFile, key: &str) -> Result<(), Refusal> {
    match file.labels.contains_key(key) {
        true => Err(Refusal::OfTheFile { what: "label", name: key.to_owned() }),
        false => Ok(()),
    }
}

fn no_config(name: &str) -> String {
    let what = if is_secret(name) { "Secret reference" } else { "Configuration" };
    format!("{what} {name} not found in config store. ")
}

/// The sentences of wasmCloud's hosts, which their users know.
fn kept_reference(old: &str, new: &str) -> String {
    format!(
        "Requested to scale existing component to a different image reference: {old} != {new}. The component will be \
         scaled but the image reference will not be updated. If you meant to update this component to a new image ref, \
         use the update command."
    )
}

fn changed_reference(old: &str, new: &str) -> String {
    format!(
        "Requested to scale existing component, with a changed image reference: {old} != {new}. The component will be \
         scaled, and the image reference will be updated afterwards."
    )
}

#[cfg(test)]
mod tests;
