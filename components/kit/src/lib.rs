//! What the components here have in common: their options, and their states as bytes.

pub mod bytes;
pub mod linear;
pub mod options;
