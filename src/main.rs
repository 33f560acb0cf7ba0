//! Frond.
fn main(){}
