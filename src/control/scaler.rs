//! wadm's scalers: each asks for its own part of an application, and knows what is its own by an annotation. Pure.
//!
//! When an application gets another image, wadm has a new scaler ask for the component, and the old one stop it, in either
//! order and within milliseconds. A host that obeys word by word keeps the old image, since a scale changes none, and then
//! stops it; wadm notices half a minute later. Here a component belongs to whichever scaler asked last.

use super::command::Pairs;

/// The annotation that says which scaler asked.
const SCALER: &str = "wasmcloud.dev/scaler";

/// Whether a component that one scaler asked for is now another's word.
pub(super) fn is_another(before: &Pairs, asked: &Pairs) -> bool {
    matches!((before.get(SCALER), asked.get(SCALER)), (Some(one), Some(other)) if one != other)
}
