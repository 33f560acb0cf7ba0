//! `[artifacts]`, `[[registry]]`, `[[signer]]` and `[[secret]]`.

use super::{FileKind, FilePlace, Judge};
use crate::artifact::keys;
use crate::config::artifact::{Artifacts, Registry, RegistryScheme, Secret, Signer};
use crate::config::diagnose::nearest;
use crate::config::fault::{Doubt, Fault};
use crate::config::names;
use crate::config::raw;
use crate::config::tree::KeyPath;
use crate::config::{Config, SecretFile};

/// Folders of components; the image has one.
const FOLDERS_MAX: usize = 16;
/// Registries, signers, secrets: a plant has a handful.
const REGISTRIES_MAX: usize = 16;
const SIGNERS_MAX: usize = 32;
const SECRETS_MAX: usize = 64;
/// Entries of a list of a signer or secret, and their length: interfaces are the longest.
const ENTRIES_MAX: usize = 64;
const ENTRY_CHARS_MAX: usize = 256;
/// The largest artifact has 32 MiB.
const BYTES_MIN: u64 = 32 << 20;
const BYTES_MAX: u64 = 1 << 44;

impl Judge<'_> {
    pub(super) fn artifacts(&mut self, raw: &raw::Artifacts) -> Artifacts {
        let key = |key: &str| KeyPath::of("artifacts").key(key);
        let folders = key("folders");
        self.count(&folders, raw.folders.len(), FOLDERS_MAX);
        if raw.allow_unsigned {
            self.doubt(&key("allow_unsigned"), Doubt::Unsigned);
        }
        Artifacts {
            folders: raw.folders.iter().map(|folder| self.path(&folders, folder)).collect(),
            bytes_max: self.bytes(&key("bytes_max"), raw.bytes_max.0, BYTES_MIN, BYTES_MAX),
            allow_unsigned: raw.allow_unsigned,
            ca: raw.ca.as_ref().map(|file| self.credential(&key("ca"), file, FileKind::Certificate)),
        }
    }

    pub(super) fn registries(&mut self, raw: &[raw::Registry]) -> Vec<Registry> {
        let table = KeyPath::of("registry");
        self.count(&table, raw.len(), REGISTRIES_MAX);
        let each = raw.iter().enumerate();
        each.map(|(n, raw)| self.registry(&table.item(n), raw)).collect()
    }

    fn registry(&mut self, table: &KeyPath, raw: &raw::Registry) -> Registry {
        let name = raw.name.clone().unwrap_or_default();
        match &raw.name {
            None => self.missing(table, "name"),
            Some(name) if name.contains('/') || names::host_port(name).is_none() => {
                self.refuse(&table.key("name"), Fault::RegistryHost { host: name.clone() });
            }
            Some(_) => {}
        }
        let scheme = match raw.plain {
            Some(true) => RegistryScheme::Plain,
            _ => RegistryScheme::Tls,
        };
        let path = table.key("password_file");
        let password = raw.password_file.as_ref().map(|file| self.credential(&path, file, FileKind::Secret));
        match (&raw.username, &password) {
            (Some(_), None) => self.missing(table, "password_file"),
            (None, Some(_)) => self.missing(table, "username"),
            (Some(_), Some(_)) if scheme == RegistryScheme::Plain && !is_loopback(&name) => {
                self.doubt(&path, Doubt::PasswordInClear { host: name.clone() });
            }
            _ => {}
        }
        let username = raw.username.as_ref().map(|name| self.text(&table.key("username"), name, 256));
        Registry { name, scheme, credentials: username.zip(password) }
    }

    pub(super) fn signers(&mut self, raw: &[raw::Signer]) -> Vec<Signer> {
        let table = KeyPath::of("signer");
        self.count(&table, raw.len(), SIGNERS_MAX);
        let mut signers: Vec<Signer> = Vec::new();
        for (n, raw) in raw.iter().enumerate() {
            let table = table.item(n);
            let signer = self.signer(&table, raw);
            if let Some(other) = signers.iter().find(|one| one.key == signer.key && !one.key.is_empty()) {
                self.refuse(&table.key("key"), Fault::SameKey { other: other.name.clone() });
            }
            signers.push(signer);
        }
        signers
    }

    fn signer(&mut self, table: &KeyPath, raw: &raw::Signer) -> Signer {
        let key = match &raw.key {
            None => {
                self.missing(table, "key");
                String::new()
            }
            Some(text) => keys::account(text).unwrap_or_else(|| {
                self.refuse(&table.key("key"), Fault::SignerKey);
                String::new()
            }),
        };
        let device_write = self.entries(table, "device_write", raw.device_write.as_ref()).unwrap_or_default();
        for name in &device_write {
            if !self.device_names.contains(name) {
                let nearest = nearest(name, self.device_names.iter().map(String::as_str)).map(str::to_owned);
                self.refuse(&table.key("device_write"), Fault::NoDevice { name: name.clone(), nearest });
            }
        }
        Signer {
            name: self.element_name(table, raw.name.as_deref()),
            key,
            components: self.entries(table, "components", raw.components.as_ref()),
            interfaces: self.entries(table, "interfaces", raw.interfaces.as_ref()),
            providers: self.entries(table, "providers", raw.providers.as_ref()),
            device_write,
        }
    }

    pub(super) fn secrets_table(&mut self, raw: &[raw::Secret], signers: &[Signer]) -> Vec<Secret> {
        let table = KeyPath::of("secret");
        self.count(&table, raw.len(), SECRETS_MAX);
        let each = raw.iter().enumerate();
        each.map(|(n, raw)| self.secret(&table.item(n), raw, signers)).collect()
    }

    fn secret(&mut self, table: &KeyPath, raw: &raw::Secret, signers: &[Signer]) -> Secret {
        let said = raw.file.clone().unwrap_or_default();
        let path = match &raw.file {
            Some(file) => self.credential(&table.key("file"), file, FileKind::Secret),
            None => {
                self.missing(table, "file");
                Default::default()
            }
        };
        if raw.components.is_none() {
            self.missing(table, "components");
        }
        let allowed = self.entries(table, "signers", raw.signers.as_ref());
        for name in allowed.iter().flatten() {
            if !signers.iter().any(|signer| signer.name == *name) {
                self.refuse(&table.key("signers"), Fault::NoSigner { name: name.clone() });
            }
        }
        Secret {
            name: self.element_name(table, raw.name.as_deref()),
            file: SecretFile { said, path },
            components: self.entries(table, "components", raw.components.as_ref()).unwrap_or_default(),
            signers: allowed,
        }
    }

    fn entries(&mut self, table: &KeyPath, key: &str, list: Option<&Vec<String>>) -> Option<Vec<String>> {
        let path = table.key(key);
        let list = list?;
        self.count(&path, list.len(), ENTRIES_MAX);
        Some(list.iter().map(|text| self.text(&path, text, ENTRY_CHARS_MAX)).collect())
    }

    /// Folders that a person named are looked for.
    pub(super) fn artifact_folders(&mut self, config: &Config) {
        let path = KeyPath::of("artifacts.folders");
        if self.tree.origin(&path).is_some() {
            for folder in &config.artifacts.folders {
                self.name_file(&path, folder, FileKind::Folder, FilePlace::Known);
            }
        }
    }
}

fn is_loopback(name: &str) -> bool {
    names::host_port(name).is_some_and(|(host, _)| names::is_loopback(&host))
}
