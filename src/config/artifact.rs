//! What is configured of artifacts: where they may come from, whose run, and what their components may have.
//!
//! Values only. What they mean is in `crate::artifact` and `crate::control`; how they are written down is in
//! `config/frond.toml`.

use std::path::PathBuf;

use super::SecretFile;

/// Where components of the lattice come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifacts {
    /// `file://` references lead into one of them. Default `/usr/share/frond/components`, which the image carries.
    pub folders: Vec<PathBuf>,
    /// Bytes of fetched artifacts that are kept, 32 MiB to 16 TiB. Default 256 MiB.
    pub bytes_max: u64,
    /// Whether what nobody trusted has signed runs, too. Default no.
    pub allow_unsigned: bool,
    /// Roots that vouch for registries, instead of the system's.
    pub ca: Option<PathBuf>,
}

/// A registry that more is to be said about than its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Its host, and port if references give one.
    pub name: String,
    /// How it is spoken to. Default [`RegistryScheme::Tls`].
    pub scheme: RegistryScheme,
    /// User name, and the file with the password.
    pub credentials: Option<(String, PathBuf)>,
}

/// How a registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryScheme {
    /// HTTPS.
    Tls,
    /// HTTP: for one on site.
    Plain,
}

/// Somebody whose signature counts, and what components so signed may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// For people.
    pub name: String,
    /// Public key, `A…`.
    pub key: String,
    /// Components that it may sign, by identifier or its beginning and `*`; `None` for any.
    pub components: Option<Vec<String>>,
    /// Interfaces that these may import, such as `wasi:keyvalue/store` or `wasi:keyvalue/*`; `None` for any.
    pub interfaces: Option<Vec<String>>,
    /// Providers that their links may lead to, such as `mqtt`; `None` for any.
    pub providers: Option<Vec<String>>,
    /// Devices that they may write to. Default none.
    pub device_write: Vec<String>,
}

/// A secret of the gateway's, and who may have it. Never what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// What configurations of the lattice call it.
    pub name: String,
    /// Where it is.
    pub file: SecretFile,
    /// Components that may have it, by identifier or its beginning and `*`.
    pub components: Vec<String>,
    /// Signers whose components may have it; `None` for any.
    pub signers: Option<Vec<String>>,
}

/// Whether a text is one of a list: the same, or begins as one that ends in `*` does.
pub fn is_listed(list: &[String], text: &str) -> bool {
    list.iter().any(|one| match one.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => one == text,
    })
}
