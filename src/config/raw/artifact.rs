//! `[artifacts]`, `[[registry]]`, `[[signer]]` and `[[secret]]`.

use serde::Deserialize;

use super::Bytes;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(in crate::config) struct Artifacts {
    pub folders: Vec<String>,
    pub bytes_max: Bytes,
    pub allow_unsigned: bool,
    pub ca: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a [[registry]] table")]
pub(in crate::config) struct Registry {
    pub name: Option<String>,
    pub plain: Option<bool>,
    pub username: Option<String>,
    pub password_file: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a [[signer]] table")]
pub(in crate::config) struct Signer {
    pub name: Option<String>,
    pub key: Option<String>,
    pub components: Option<Vec<String>>,
    pub interfaces: Option<Vec<String>>,
    pub providers: Option<Vec<String>>,
    pub device_write: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a [[secret]] table")]
pub(in crate::config) struct Secret {
    pub name: Option<String>,
    pub file: Option<String>,
    pub components: Option<Vec<String>>,
    pub signers: Option<Vec<String>>,
}
