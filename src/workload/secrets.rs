//! `wasmcloud:secrets`: what the configuration gives to a component from the service's credentials, or from files.
//!
//! Read when the component is opened, by the thread that opens it, and kept with its code in memory for as long as that
//! lives; each opening reads anew. Nothing of a value gets into a log line, a status or an error from here: the types
//! that hold one show nothing of it. What the component does with it afterwards is the component's affair, the lines it
//! writes to the log included.
//! One that is missing makes the component absent, with a reason that says how to provide it; it is tried again like
//! any component that cannot be opened. Nothing is written. Bounds: [`SECRET_BYTES_MAX`], and as many as the
//! configuration takes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use wasmtime::component::Resource;

use super::account::count;
use super::bindings::wasmcloud::secrets::store::{SecretValue, SecretsError};
use super::bindings::wasmcloud::secrets::{reveal, store};
use super::room::Room;
use crate::config::SecretFile;

/// Largest secret: a key with its chain of certificates has some 8 KiB; 32 of the largest are 2 MiB.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// The secrets of one component, by its own names for them.
#[derive(Debug, Default)]
pub(super) struct Secrets(BTreeMap<String, Value>);

/// A secret. `Debug` shows nothing of it.
#[derive(Clone)]
struct Value(SecretValue);

/// A handle to a secret.
#[derive(Debug)]
pub struct Secret {
    name: String,
}

/// Why a secret is not to be had.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SecretError {
    #[error("secret {name:?} cannot be read; {advice}")]
    Read { name: String, advice: String, source: io::Error },
    #[error("secret {name:?} is empty: {path}")]
    Empty { name: String, path: PathBuf },
    #[error("secret {name:?} has more than {SECRET_BYTES_MAX} bytes: {path}")]
    Large { name: String, path: PathBuf },
}

// === impl Secrets ===

impl Secrets {
    /// Reads all of them, or says which is not to be had.
    pub fn read(files: &BTreeMap<String, SecretFile>) -> Result<Secrets, SecretError> {
        let read = |(name, file): (&String, &SecretFile)| Ok((name.clone(), read_one(name, file)?));
        Ok(Secrets(files.iter().map(read).collect::<Result<_, _>>()?))
    }
}

fn read_one(name: &str, file: &SecretFile) -> Result<Value, SecretError> {
    let (name, path) = (name.to_owned(), file.path.clone());
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes));
    if let Err(source) = read {
        return Err(SecretError::Read { name, advice: advice(file), source });
    }
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(SecretError::Large { name, path });
    }
    let value = Value::of(bytes);
    match value.is_empty() {
        true => Err(SecretError::Empty { name, path }),
        false => Ok(value),
    }
}

/// What somebody can do so that it is there.
fn advice(file: &SecretFile) -> String {
    let (said, path) = (&file.said, file.path.display());
    match Path::new(said).is_relative() {
        true => format!(
            "give the service the credential {said:?} (LoadCredential={said}:FILE in its unit, systemd.exec(5)); it is \
             looked for as {path}"
        ),
        false => format!("put it into the file {path}, where frond may read it"),
    }
}

// === impl Value ===

impl Value {
    /// Text without the line breaks at its end, which editors leave there; anything that is no text as it is.
    fn of(bytes: Vec<u8>) -> Value {
        Value(match String::from_utf8(bytes) {
            Ok(mut text) => {
                text.truncate(text.trim_end_matches(['\r', '\n']).len());
                SecretValue::String(text)
            }
            Err(error) => SecretValue::Bytes(error.into_bytes()),
        })
    }

    fn is_empty(&self) -> bool {
        match &self.0 {
            SecretValue::String(text) => text.is_empty(),
            SecretValue::Bytes(bytes) => bytes.is_empty(),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(…)")
    }
}

// === impl Room ===

impl store::Host for Room {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Resource<Secret>, SecretsError>> {
        match self.secrets.0.contains_key(&key) {
            true => Ok(Ok(self.table.push(Secret { name: key })?)),
            false => Ok(Err(SecretsError::NotFound)),
        }
    }
}

impl store::HostSecret for Room {
    async fn drop(&mut self, secret: Resource<Secret>) -> wasmtime::Result<()> {
        self.table.delete(secret)?;
        Ok(())
    }
}

impl reveal::Host for Room {
    async fn reveal(&mut self, secret: Resource<Secret>) -> wasmtime::Result<SecretValue> {
        let Secret { name } = self.table.get(&secret)?;
        // A handle is only made for a secret that is there, and secrets live as long as the instance.
        let Value(value) = self.secrets.0.get(name).expect("secrets do not change while an instance lives");
        count(&self.tools.account.revealed);
        Ok(value.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn files(folder: &Path, names: &[&str]) -> BTreeMap<String, SecretFile> {
        let file = |name: &&str| SecretFile { said: (*name).to_owned(), path: folder.join(name) };
        names.iter().map(|name| (format!("its-{name}"), file(name))).collect()
    }

    #[test]
    fn text_is_text_anything_else_is_bytes_and_neither_is_shown() {
        // Goal: an editor's line break does not end up in a password, a binary key stays as it is, Debug is silent.
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("word"), "hunter\u{fc}2\r\n").unwrap();
        fs::write(folder.path().join("key"), b"\xff\x00hunter\n").unwrap();
        let secrets = Secrets::read(&files(folder.path(), &["word", "key"])).unwrap();
        let SecretValue::String(word) = &secrets.0["its-word"].0 else { panic!("text") };
        assert_eq!(word, "hunter\u{fc}2");
        let SecretValue::Bytes(key) = &secrets.0["its-key"].0 else { panic!("bytes") };
        assert_eq!(key, b"\xff\x00hunter\n");
        let shown = format!("{secrets:?}");
        assert!(shown.contains("its-key") && !shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn a_secret_that_is_not_there_is_named_with_what_to_do() {
        // Goal: the sentence is one to act on, and says nothing of a value. Method: missing as a credential and as a file,
        // empty, and too large.
        let folder = tempfile::tempdir().unwrap();
        let refusal = |names: &[&str]| {
            let error = Secrets::read(&files(folder.path(), names)).unwrap_err();
            crate::platform::log::chain(&error).to_string()
        };
        let said = refusal(&["plant-key"]);
        for part in ["\"its-plant-key\"", "\"plant-key\"", "LoadCredential=plant-key:FILE", "No such file"] {
            assert!(said.contains(part), "{said}");
        }
        let missing = SecretFile { said: "/none/key".into(), path: "/none/key".into() };
        let error = Secrets::read(&BTreeMap::from([("a".to_owned(), missing)])).unwrap_err();
        assert!(error.to_string().ends_with("put it into the file /none/key, where frond may read it"));
        fs::write(folder.path().join("empty"), "\n").unwrap();
        assert!(refusal(&["empty"]).contains("is empty"));
        fs::write(folder.path().join("large"), vec![b'x'; SECRET_BYTES_MAX as usize + 1]).unwrap();
        let said = refusal(&["large"]);
        assert!(said.contains("more than 65536 bytes") && !said.contains("xxx"), "{said}");
    }
}
