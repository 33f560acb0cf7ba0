//! The manifest of an image: which of its layers is the component. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::artifact::detached::{ANNOTATION, SIGNATURE_BYTES_MAX};
use crate::runtime::Digest;

/// Manifests that are asked for.
pub(super) const ACCEPTED: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// Layers that are components: as wash 0.x, wkg and others push them.
const LAYERS: [&str; 3] = [
    "application/wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
];

/// The layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    pub(super) signature: Option<String>,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ManifestError {
    #[error("its manifest is no JSON that OCI describes")]
    Garbled,
    #[error("it is an index of several images; refer to the one that is meant by its digest")]
    Index,
    #[error("it has {0} layers that are WebAssembly, where it should have one")]
    Layers(usize),
    #[error("its layer has no SHA-256")]
    Digest,
    #[error(
        "its annotation {ANNOTATION} has {bytes} bytes, more than the {SIGNATURE_BYTES_MAX} a signature may have"
    )]
    Signature { bytes: usize },
}

#[derive(Deserialize)]
struct Manifest {
    layers: Option<Vec<Described>>,
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Described {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
    size: u64,
}

/// The component's layer.
pub(super) fn layer(manifest: &[u8]) -> Result<Layer, ManifestError> {
    let manifest: Manifest = serde_json::from_slice(manifest).map_err(|_| ManifestError::Garbled)?;
    if manifest.manifests.is_some() {
        return Err(ManifestError::Index);
    }
    let layers = manifest.layers.ok_or(ManifestError::Garbled)?;
    let wasm: Vec<&Described> =
        layers.iter().filter(|layer| LAYERS.contains(&layer.media_type.as_str())).collect();
    let [layer] = wasm[..] else { return Err(ManifestError::Layers(wasm.len())) };
    let digest = layer.digest.strip_prefix("sha256:").and_then(Digest::parse);
    let signature = manifest.annotations.unwrap_or_default().remove(ANNOTATION);
    if let Some(text) = signature.as_ref().filter(|text| text.len() > SIGNATURE_BYTES_MAX) {
        return Err(ManifestError::Signature { bytes: text.len() });
    }
    Ok(Layer { digest: digest.ok_or(ManifestError::Digest)?, bytes: layer.size, signature })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(layers: &str) -> Result<Layer, ManifestError> {
        layer(format!("{{\"schemaVersion\":2,\"config\":{{}},\"layers\":[{layers}]}}").as_bytes())
    }

    #[test]
    fn the_one_layer_that_is_a_component_is_found() {
        // Goal: images of every usual tool work, and none is guessed at. Method: each kind of layer; none, two, an index.
        let sum = "ab".repeat(32);
        let one = |kind: &str| format!("{{\"mediaType\":\"{kind}\",\"digest\":\"sha256:{sum}\",\"size\":7}}");
        let found = Ok(Layer { digest: Digest::parse(&sum).unwrap(), bytes: 7, signature: None });
        for kind in LAYERS {
            assert_eq!(of(&one(kind)), found);
            assert_eq!(of(&format!("{},{}", one("text/plain"), one(kind))), found);
        }
        assert_eq!(of(&one("text/plain")), Err(ManifestError::Layers(0)));
        assert_eq!(of(&format!("{0},{0}", one(LAYERS[0]))), Err(ManifestError::Layers(2)));
        assert_eq!(of(&one(LAYERS[0]).replace("sha256", "sha512")), Err(ManifestError::Digest));
        assert_eq!(layer(b"{\"manifests\":[]}"), Err(ManifestError::Index));
        let signed =
            format!("{{\"layers\":[{}],\"annotations\":{{\"{ANNOTATION}\":\"by me\"}}}}", one(LAYERS[0]));
        assert_eq!(layer(signed.as_bytes()).unwrap().signature.as_deref(), Some("by me"));
        let long = signed.replace("by me", &"x".repeat(SIGNATURE_BYTES_MAX + 1));
        assert_eq!(layer(long.as_bytes()), Err(ManifestError::Signature { bytes: SIGNATURE_BYTES_MAX + 1 }));
        for garbage in ["", "{}", "[]", "{\"layers\":7}", "{\"layers\":[{\"size\":-1}]}"] {
            assert_eq!(layer(garbage.as_bytes()), Err(ManifestError::Garbled), "{garbage}");
        }
    }
}
