//! How much may be desired, and what names look like. Pure.
//!
//! All of it is in memory, in every snapshot by reference, and in `state.db`: at the very worst 2.5 MiB, of which
//! configuration is the most.

use super::command::Refusal;
use crate::artifact::registry;
use crate::config::is_name;

/// Components of the lattice: as many as the file may configure; each is a task, a connection and its memory.
pub const COMPONENTS_MAX: usize = 16;
/// Providers: there are six kinds, and an application has one of each or two.
pub const PROVIDERS_MAX: usize = 32;
/// Links: sixteen for each component, as in the file. At 2 KiB each they fit into one NATS message.
pub const LINKS_MAX: usize = 256;
/// Named configurations: four for each component and provider, and some.
pub const CONFIGS_MAX: usize = 256;
/// Bytes of one configuration, names and values, and of all together.
pub const CONFIG_BYTES_MAX: usize = 64 << 10;
/// Values of one configuration: each costs some 80 bytes of memory beside its own.
pub const CONFIG_VALUES_MAX: usize = 1_024;
/// See [`CONFIG_BYTES_MAX`].
pub const CONFIG_BYTES_ALL_MAX: usize = 1 << 20;
/// Labels, with their names and values.
pub const LABELS_MAX: usize = 64;
/// Bytes of a label, its name or its value.
pub const LABEL_BYTES_MAX: usize = 256;
/// Names in a list of configurations: links and components name one or two.
pub const CONFIG_NAMES_MAX: usize = 32;
/// Annotations of a component or provider, and their bytes: wadm sends four of some 60 B.
pub const ANNOTATIONS_MAX: usize = 32;
/// See [`ANNOTATIONS_MAX`].
pub const ANNOTATION_BYTES_MAX: usize = 4 << 10;
/// Bytes of a reference to an artifact: a path may have 4,095, a registry's 255 in each part.
pub const REFERENCE_BYTES_MAX: usize = 4_096;
/// Bytes of any other name: identifiers of providers, links, interfaces, configurations.
pub const NAME_BYTES_MAX: usize = 256;
/// Interfaces of a link.
pub const INTERFACES_MAX: usize = 16;
/// Registries that the lattice may tell credentials of, and their bytes: tokens have some KiB. They are in memory only.
pub const REGISTRIES_MAX: usize = 16;
/// See [`REGISTRIES_MAX`].
pub const CREDENTIALS_BYTES_MAX: usize = 8 << 10;
/// Lines of the history: a month of thirty a day.
pub const HISTORY_ROWS_MAX: u32 = 1_000;
/// Bytes of a line's text; with [`HISTORY_ROWS_MAX`] that is 512 KiB.
pub const HISTORY_TEXT_BYTES_MAX: usize = 512;

/// The identifier of a component: it becomes a folder, a topic and an MQTT client identifier.
pub(super) fn component_id(id: &str) -> Result<(), Refusal> {
    match is_name(id) {
        true => Ok(()),
        false => Err(Refusal::ComponentId { id: shorten(id) }),
    }
}

/// Any other name: one to [`NAME_BYTES_MAX`] bytes without control characters.
pub(super) fn name(what: &'static str, name: &str) -> Result<(), Refusal> {
    match (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control) {
        true => Ok(()),
        false => Err(Refusal::Name { what }),
    }
}

/// The name of a configuration: one token of a subject, or nobody could ask for it.
pub(super) fn config_name(text: &str) -> Result<(), Refusal> {
    name("a configuration", text)?;
    match text.contains(['.', '*', '>', ' ']) {
        true => Err(Refusal::ConfigName),
        false => Ok(()),
    }
}

/// A list of configurations.
pub(super) fn config_names(names: &[String]) -> Result<(), Refusal> {
    count("names of configurations in one list", names.len(), CONFIG_NAMES_MAX)?;
    names.iter().try_for_each(|text| name("a configuration", text))
}

/// A reference to an artifact.
pub(super) fn reference(text: &str) -> Result<(), Refusal> {
    match (1..=REFERENCE_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control) {
        true => Ok(()),
        false => Err(Refusal::Reference),
    }
}

/// Names and values that are kept for whoever sent them.
pub(super) fn annotations<'a>(
    pairs: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<(), Refusal> {
    let sizes: Vec<usize> = pairs.into_iter().map(|(name, value)| name.len() + value.len()).collect();
    count("annotations or limits", sizes.len(), ANNOTATIONS_MAX)?;
    count("bytes of annotations or limits", sizes.iter().sum(), ANNOTATION_BYTES_MAX)
}

/// Credentials of registries.
pub(super) fn registries(all: &registry::Told) -> Result<(), Refusal> {
    count("registries with credentials", all.len(), REGISTRIES_MAX)?;
    all.iter().try_for_each(|(host, credentials)| {
        name("a registry", host)?;
        let bytes = credentials.username.len() + credentials.password.len();
        count("bytes of credentials", bytes, CREDENTIALS_BYTES_MAX)
    })
}

/// Refuses more than there may be.
pub(super) fn count(what: &'static str, count: usize, count_max: usize) -> Result<(), Refusal> {
    match count <= count_max {
        true => Ok(()),
        false => Err(Refusal::Full { what, count_max }),
    }
}

/// What of a name fits into a sentence.
fn shorten(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}
