//! The operating system: the only place that calls it by more than the standard library.

pub mod limits;
