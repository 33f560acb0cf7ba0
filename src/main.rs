//! Frond.
fn main() {}
