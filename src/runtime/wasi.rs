//! What a standard library asks for, and no more: no files, no sockets, no arguments, no environment, no waiting.
//!
//! `wasi:cli`, `wasi:io`, `wasi:clocks` and `wasi:random` are linked because a component built with an ordinary toolchain
//! imports them whether it uses them or not. Two things differ from what a command line would give it. Nothing waits: the
//! clock hands out no timers, so that every wait is over at once and no call outlives its deadline inside the host. And
//! the seed of hash maps is fixed, so that a component that iterates one gives the same results when a batch is replayed.

use wasmtime::component::{HasData, HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::{cli, clocks, io, random, sync};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};
use wasmtime_wasi::{WasiCtx, WasiView};

use crate::runtime::instance::Room;
use crate::runtime::still::{Still, Stillness};
use crate::runtime::voice::{Level, Voice};

/// Of these the one that needs topics in the component's configuration.
pub(super) const COMMANDS: &str = "frond:telemetry/commands";

/// The interfaces that are linked, without their version. Anything else a component imports is refused by name.
pub(super) const GRANTED: [&str; 22] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    COMMANDS,
    "frond:telemetry/log",
    "frond:telemetry/registry",
    "frond:telemetry/types",
];

/// Most random bytes in one request: a key or a seed, not a file.
const RANDOM_BYTES_MAX: u64 = 64 * 1024;

/// Most handles a component may hold. It needs a handful for standard output; each costs the host some 200 bytes.
const HANDLES_MAX: usize = 1024;

/// Any number will do, as long as it stays.
const HASH_SEED: u128 = 0x66726f6e_64207365_65642076_31000000;

/// An empty world, whose output goes to `voice`.
pub(crate) fn context(voice: &Voice) -> WasiCtx {
    let mut builder = WasiCtx::builder();
    builder
        .stdout(voice.output(Level::Info))
        .stderr(voice.output(Level::Warn))
        .insecure_random_seed(HASH_SEED)
        .max_random_size(RANDOM_BYTES_MAX);
    builder.build()
}

/// A table of handles that cannot grow without end.
pub(crate) fn table() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(HANDLES_MAX);
    table
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

/// Links the `wasi:` part of [`GRANTED`].
pub(super) fn link(linker: &mut Linker<Room>) -> wasmtime::Result<()> {
    let l = linker;
    cli::environment::add_to_linker::<Room, WasiCli>(l, Room::cli)?;
    cli::exit::add_to_linker::<Room, WasiCli>(l, Room::cli)?;
    cli::stderr::add_to_linker::<Room, WasiCli>(l, Room::cli)?;
    cli::stdin::add_to_linker::<Room, WasiCli>(l, Room::cli)?;
    cli::stdout::add_to_linker::<Room, WasiCli>(l, Room::cli)?;
    cli::terminal_input::add_to_linker::<Room, WasiCli>(l, Room::cli)?;
    cli::terminal_output::add_to_linker::<Room, WasiCli>(l, Room::cli)?;
    cli::terminal_stderr::add_to_linker::<Room, WasiCli>(l, Room::cli)?;
    cli::terminal_stdin::add_to_linker::<Room, WasiCli>(l, Room::cli)?;
    cli::terminal_stdout::add_to_linker::<Room, WasiCli>(l, Room::cli)?;
    clocks::monotonic_clock::add_to_linker::<Room, HasSelf<Room>>(l, |room| room)?;
    clocks::wall_clock::add_to_linker::<Room, WasiClocks>(l, Room::clocks)?;
    io::error::add_to_linker::<Room, Table>(l, |room| room.ctx().table)?;
    sync::io::poll::add_to_linker::<Room, Stillness>(l, |room| Still(room.ctx().table))?;
    sync::io::streams::add_to_linker::<Room, Stillness>(l, |room| Still(room.ctx().table))?;
    random::insecure::add_to_linker::<Room, WasiRandom>(l, Room::random)?;
    random::insecure_seed::add_to_linker::<Room, WasiRandom>(l, Room::random)?;
    random::random::add_to_linker::<Room, WasiRandom>(l, Room::random)?;
    Ok(())
}

impl clocks::monotonic_clock::Host for Room {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, _when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        wasmtime::bail!("the component asked to sleep, which no component may")
    }

    fn subscribe_duration(&mut self, _when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        wasmtime::bail!("the component asked to sleep, which no component may")
    }
}
