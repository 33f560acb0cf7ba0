//! The world of `wasi:` that a workload sees: no files, no sockets, no arguments, no environment; it may sleep.

use wasmtime_wasi::WasiCtx;

use crate::runtime::voice::{Level, Voice};

/// Most random bytes in one request: a key or a seed, not a file.
const RANDOM_BYTES_MAX: u64 = 64 * 1024;

/// An empty world, whose output goes to `voice`. Unlike a telemetry processor's, whose batches are replayed, its hash
/// maps are seeded at random.
pub(super) fn context(voice: &Voice) -> WasiCtx {
    let mut builder = WasiCtx::builder();
    builder
        .stdout(voice.output(Level::Info))
        .stderr(voice.output(Level::Warn))
        .max_random_size(RANDOM_BYTES_MAX);
    builder.build()
}
