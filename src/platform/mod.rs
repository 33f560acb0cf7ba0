//! What Frond asks of the operating system. The only place, with `runtime/artifact.rs`, for `nix`, `libc`, systemd and
//! `unsafe`; everything above it is plain Rust.

pub mod clock;
pub mod vfs;
