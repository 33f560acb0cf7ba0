//! What a component asks for, read from its bytes. Pure.

use std::collections::BTreeSet;

use wasmparser::{Parser, Payload};

/// Most imports that are looked at; a component of wasmCloud has some thirty.
pub const IMPORTS_MAX: usize = 1_024;

/// Why it cannot be said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ImportsError {
    #[error("it is no WebAssembly component: {0}")]
    Wasm(String),
    #[error("it imports more than {IMPORTS_MAX} things")]
    Many,
}

/// The interfaces that a component imports, without their versions: `wasi:keyvalue/store`.
pub fn of(wasm: &[u8]) -> Result<BTreeSet<String>, ImportsError> {
    let garbled = |error: wasmparser::BinaryReaderError| ImportsError::Wasm(error.to_string());
    let mut found = BTreeSet::new();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(garbled)? {
            Payload::Version { encoding: wasmparser::Encoding::Module, .. } if depth == 0 => {
                return Err(ImportsError::Wasm("it is a core module".to_owned()));
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let name = import.map_err(garbled)?.name.name;
                    found.insert(name.split_once('@').map_or(name, |(name, _)| name).to_owned());
                    if found.len() > IMPORTS_MAX {
                        return Err(ImportsError::Many);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}
