//! What all components share: the engine, the imports, and the thread that ends calls which take too long.
//!
//! There is no pool of slots, and stacks are small: all of it works where the address space is limited to 1 GiB. There a
//! linear memory reserves 16 MiB (the default grant) and its bounds are checked in code. Where nothing limits the address
//! space, a memory reserves all that a component could address, 4 GiB of nothing, and the processor checks: spectra take a
//! quarter less time. The settings are part of what a compiled component is keyed by: changing one makes the
//! cache start anew.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Engine};

use crate::platform::limits;
use crate::runtime::bindings::frond::telemetry::{commands, log, registry};
use crate::runtime::instance::Room;
use crate::runtime::{Cause, wasi};

/// How often the epoch moves on: the resolution of deadlines. A hundred wake-ups a second are 0.05 % of a small core.
pub(super) const EPOCH_TICK: Duration = Duration::from_millis(10);

/// Address space a linear memory gets at once where there is little; up to here it grows in place. The default of
/// `memory_bytes_max`.
const MEMORY_RESERVATION_BYTES: u64 = 16 << 20;

/// Address space added when a memory outgrows its reservation and has to move. With none, an allocator that grows by
/// 64 KiB would copy all memory each time: 128 GiB of copies on the way from 16 to 128 MiB, instead of 2.
const MEMORY_RESERVATION_FOR_GROWTH_BYTES: u64 = 4 << 20;

/// Unmapped space around a memory. One check serves neighbouring accesses within it.
const MEMORY_GUARD_BYTES: u64 = 64 << 10;

/// Stack of wasm code: half of wasmtime's default, four times what `components/` are linked with.
const WASM_STACK_BYTES: usize = 256 << 10;

/// Stack of a call, host functions included: they are left as much again.
const CALL_STACK_BYTES: usize = 512 << 10;

/// Stack of the epoch thread, which calls nothing.
const TICKER_STACK_BYTES: usize = 64 << 10;

/// How much address space there is for memories of components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressSpace {
    /// 4 GiB each.
    Ample,
    /// What they need.
    Scarce,
}

/// What all components share. Dropping it stops its thread.
pub struct Host {
    pub(crate) engine: Engine,
    pub(super) linker: Linker<Room>,
    _ticker: Ticker,
}

/// Why there is no host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// wasmtime does not run here.
    #[error("cannot set up the component engine")]
    Engine(#[source] Cause),
    /// Two imports contradict each other.
    #[error("cannot set up what components may import")]
    Imports(#[source] Cause),
    /// No thread could be started.
    #[error("cannot start the thread that ends long calls")]
    Ticker(#[source] io::Error),
}

struct Ticker {
    /// Its end is the sign to stop.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

// === impl AddressSpace ===

impl AddressSpace {
    /// That of this process, and of one that it starts to compile.
    pub(super) fn here() -> AddressSpace {
        if limits::is_address_space_limited() { AddressSpace::Scarce } else { AddressSpace::Ample }
    }
}

// === impl Host ===

impl Host {
    /// Sets up engine and imports, and starts the epoch thread.
    pub fn new() -> Result<Host, HostError> {
        let engine = engine(AddressSpace::here()).map_err(HostError::Engine)?;
        let linker = linker(&engine).map_err(|error| HostError::Imports(error.into()))?;
        let ticker = Ticker::start(engine.clone()).map_err(HostError::Ticker)?;
        Ok(Host { engine, linker, _ticker: ticker })
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// The engine, set up alike in the gateway and in the process that compiles for it.
pub(super) fn engine(space: AddressSpace) -> Result<Engine, Cause> {
    let mut config = Config::new();
    if space == AddressSpace::Scarce {
        config
            .memory_reservation(MEMORY_RESERVATION_BYTES)
            .memory_reservation_for_growth(MEMORY_RESERVATION_FOR_GROWTH_BYTES)
            .memory_guard_size(MEMORY_GUARD_BYTES);
    }
    config
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(CALL_STACK_BYTES)
        .epoch_interruption(true)
        .concurrency_support(false)
        .generate_address_map(false);
    // One compilation serves all boards: without a target the code would be for the processor at hand, and what an image
    // brings along would be for the build machine's. Components are loops over columns; what newer cores add is atomics.
    #[cfg(all(feature = "compile", target_arch = "aarch64", target_env = "gnu"))]
    config.target("aarch64-unknown-linux-gnu")?;
    Ok(Engine::new(&config)?)
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<Room>> {
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker)?;
    commands::add_to_linker::<Room, HasSelf<Room>>(&mut linker, |room| room)?;
    log::add_to_linker::<Room, HasSelf<Room>>(&mut linker, |room| room)?;
    registry::add_to_linker::<Room, HasSelf<Room>>(&mut linker, |room| room)?;
    Ok(linker)
}

/// What compiled code is good for: it names wasmtime's version, its settings and the processor's features.
#[cfg(feature = "compile")]
pub(super) fn compatibility(engine: &Engine) -> Option<String> {
    use sha2::{Digest, Sha256};
    use std::hash::{Hash, Hasher};

    /// A hasher whose result means the same in every process.
    struct Fingerprint(Sha256);

    impl Hasher for Fingerprint {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            let digest = self.0.clone().finalize();
            digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        }
    }

    let mut hasher = Fingerprint(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    Some(format!("{:016x}", hasher.finish()))
}

/// Without the compiler this cannot be known: whatever there is for a component is tried, and wasmtime refuses what does
/// not fit.
#[cfg(not(feature = "compile"))]
pub(super) fn compatibility(_engine: &Engine) -> Option<String> {
    None
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// === impl Ticker ===

impl Ticker {
    fn start(engine: Engine) -> io::Result<Ticker> {
        let (stop, stopped) = mpsc::channel();
        let tick = move || {
            while stopped.recv_timeout(EPOCH_TICK) == Err(RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        };
        let thread =
            thread::Builder::new().name("frond-epoch".into()).stack_size(TICKER_STACK_BYTES).spawn(tick)?;
        Ok(Ticker { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked, and if it had there would be nothing to do about it here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticking_thread_ends_with_the_host() {
        // Goal: nothing is left behind. Method: the thread holds the engine; once it has ended nobody does.
        let engine = engine(AddressSpace::Scarce).unwrap();
        let ticker = Ticker::start(engine.clone()).unwrap();
        let weak = engine.weak();
        drop(engine);
        assert!(weak.upgrade().is_some());
        drop(ticker);
        assert!(weak.upgrade().is_none());
    }
}
