//! What Frond asks of the operating system. The only place, with `runtime/artifact.rs`, for `nix`, `libc`, systemd and
//! `unsafe`; everything above it is plain Rust.

#[cfg(test)]
mod child;
pub mod clock;
pub mod device;
pub mod disk;
pub mod fault;
pub mod files;
pub mod limits;
pub mod lock;
pub mod log;
#[expect(unsafe_code, reason = "the allocator is told by a C function")]
pub mod memory;
pub mod notify;
pub mod ports;
pub mod process;
pub mod roots;
pub mod signals;
#[expect(unsafe_code, reason = "what a child does before exec can only be said in an unsafe closure")]
pub mod spawn;
pub mod terminal;
pub mod vfs;
