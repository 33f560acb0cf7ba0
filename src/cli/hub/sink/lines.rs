//! JSON lines, one for each row, and the state file beside them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::{Batch, SinkError};
use crate::cli::receipts::{Receipt, StoredAccount};
use crate::cli::rows::{Block, Form};

/// Version of the state file.
const STATE_VERSION: u32 = 1;

/// A file of lines, or standard output.
pub(super) struct Lines {
    target: Target,
}

enum Target {
    Output,
    File { file: File, path: PathBuf, bytes: u64, accounts: BTreeMap<Key, StoredAccount> },
}

type Key = (String, &'static str, String, u32);

#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    /// Length of the lines.
    bytes: u64,
    accounts: Vec<StoredAccount>,
}

// === impl Lines ===

impl Lines {
    pub(super) fn to_output() -> Lines {
        Lines { target: Target::Output }
    }

    pub(super) fn open(path: PathBuf) -> Result<(Lines, Vec<StoredAccount>), SinkError> {
        let failed = |source| SinkError::File { path: path.clone(), source };
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let state = read_state(&state_path(&path))?;
        let (bytes, accounts) = match state {
            Some(state) if state.bytes <= length => (state.bytes, state.accounts),
            None if length == 0 => (0, Vec::new()),
            Some(_) | None => return Err(SinkError::Mismatch { path }),
        };
        // Lines behind that length were written, but their account was not.
        file.set_len(bytes).map_err(failed)?;
        let known = accounts.iter().map(|account| (key(account), account.clone())).collect();
        Ok((Lines { target: Target::File { file, path, bytes, accounts: known } }, accounts))
    }

    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let mut text = String::new();
        for receipt in &batch.receipts {
            for line in lines(receipt) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        match &mut self.target {
            Target::Output => {
                let mut output = io::stdout().lock();
                output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(SinkError::Output)
            }
            Target::File { file, path, bytes, accounts } => {
                let failed = |source| SinkError::File { path: path.clone(), source };
                file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).map_err(failed)?;
                *bytes += text.len() as u64;
                accounts.extend(batch.accounts.iter().map(|account| (key(account), account.clone())));
                let accounts = accounts.values().cloned().collect();
                write_state(&state_path(path), &State { version: STATE_VERSION, bytes: *bytes, accounts })
            }
        }
    }
}

fn lines(receipt: &Receipt) -> Vec<String> {
    let origin = &receipt.stamp.origin;
    let about: Map<String, Json> = [
        ("gateway", json!(origin.gateway)),
        ("lane", json!(origin.lane.token())),
        ("stream", json!(origin.stream)),
        ("epoch", json!(format!("{:08x}", origin.epoch))),
        ("seq", json!(receipt.stamp.seq)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    Block { envelope: &receipt.envelope, clock_correction: receipt.stamp.clock_correction }
        .lines(Form::Json, &about)
}

fn key(account: &StoredAccount) -> Key {
    (account.gateway.clone(), account.lane.token(), account.stream.clone(), account.epoch)
}

fn state_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".state");
    name.into()
}

fn read_state(path: &Path) -> Result<Option<State>, SinkError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SinkError::File { path: path.to_owned(), source }),
    };
    match serde_json::from_slice::<State>(&text) {
        Ok(state) if state.version == STATE_VERSION => Ok(Some(state)),
        _ => Err(SinkError::State { path: path.to_owned() }),
    }
}

/// Replaces the state file as a whole.
fn write_state(path: &Path, state: &State) -> Result<(), SinkError> {
    let failed = |source| SinkError::File { path: path.to_owned(), source };
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let text = serde_json::to_vec(state).expect("plain values have a JSON form");
    let mut file = File::create(&fresh).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.sync_data()).map_err(failed)?;
    std::fs::rename(&fresh, path).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}
