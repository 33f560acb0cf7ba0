//! What is particular to the machine. (A minimal stand-in for the door's tests, to be replaced by the real module.)

pub mod clock;
