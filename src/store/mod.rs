//! The SQLite thread.

mod handle;

pub use handle::*;
