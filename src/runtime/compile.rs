//! Compiling, in a child process: our own binary as `frond compile IN OUT`.
//!
//! A compiler needs far more memory than what it compiles, and a component is other people's input. The child
//! may use [`ADDRESS_SPACE_BYTES`] and [`TIME_MAX`], and when it ends all of it is given back. What it says on standard
//! error is the reason when it fails.

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::platform::{limits, spawn};
use crate::runtime::Cause;
use crate::runtime::host::AddressSpace;

/// Address space of the child. A component of 150 KB takes 25 MiB, and it grows with the largest function; what does not
/// fit is refused here, and not by the system's last resort, which would take the gateway.
const ADDRESS_SPACE_BYTES: u64 = 1 << 30;

/// Longest a compilation may take, on the clock and of processor time. 150 KB take half a second of a desktop core; this
/// leaves the largest `.wasm` on a core a tenth as fast a fair chance.
const TIME_MAX: Duration = Duration::from_secs(300);

/// How often progress is logged.
const PROGRESS: Duration = Duration::from_secs(5);

/// Most that is kept of what the child says.
const REASON_BYTES_MAX: usize = 4096;

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CompileError {
    /// The child could not be started.
    #[error("cannot start the compiler {}", compiler.display())]
    Start { compiler: PathBuf, source: io::Error },
    /// It refused, and said why.
    #[error("the component does not compile: {reason}")]
    Refused { reason: String },
    /// It was killed: signal 6 is memory, 9 processor time.
    #[error("the compiler was ended by signal {signal}: {reason}")]
    Killed { signal: i32, reason: String },
    /// It took too long.
    #[error("the component was not compiled within {} s", TIME_MAX.as_secs())]
    TooLong,
    /// The `.wasm` changed meanwhile.
    #[error("the component's file changed while it was compiled")]
    Changed,
}

/// Why the child failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ChildError {
    /// This binary has no compiler.
    #[error("this frond was built without the compiler; give it components that are compiled already")]
    NoCompiler,
    /// The limits could not be set.
    #[error("cannot limit memory and time")]
    Limits(#[source] io::Error),
    /// The `.wasm` cannot be read.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The result cannot be written.
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The compiler does not run here.
    #[error("cannot set up the compiler")]
    Engine(#[source] Cause),
    /// It is no component, or a broken one.
    #[error("not a valid component")]
    Component(#[source] Cause),
}

/// Compiles `wasm` to `out` with the binary `compiler`. `name` is for the log.
pub(super) fn compile(name: &str, compiler: &Path, wasm: &Path, out: &Path) -> Result<(), CompileError> {
    let start = |source| CompileError::Start { compiler: compiler.to_owned(), source };
    let started = Instant::now();
    tracing::info!(component = name, "compiling component");
    let mut command = Command::new(compiler);
    command
        .arg("compile")
        .args([wasm, out])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    // A gateway that ends leaves no compiler behind.
    spawn::bind_to_parent(&mut command);
    let mut child = command.spawn().map_err(start)?;
    let stderr = child.stderr.take().expect("standard error is piped");
    let ended = listen(stderr).map_err(start)?;
    let reason = loop {
        match ended.recv_timeout(PROGRESS) {
            Ok(reason) => break reason,
            Err(RecvTimeoutError::Disconnected) => break String::new(),
            Err(RecvTimeoutError::Timeout) if started.elapsed() >= TIME_MAX => {
                end(&mut child);
                return Err(CompileError::TooLong);
            }
            Err(RecvTimeoutError::Timeout) => {
                tracing::info!(
                    component = name,
                    seconds = started.elapsed().as_secs(),
                    "still compiling component"
                );
            }
        }
    };
    let status = child.wait().map_err(start)?;
    outcome(status, reason)?;
    tracing::info!(component = name, ms = started.elapsed().as_millis() as u64, "compiled component");
    Ok(())
}

fn outcome(status: ExitStatus, reason: String) -> Result<(), CompileError> {
    match status.signal() {
        None if status.success() => Ok(()),
        None => Err(CompileError::Refused { reason }),
        Some(signal) => Err(CompileError::Killed { signal, reason }),
    }
}

/// Reads what the child says until it ends, on a thread of its own: the standard library cannot wait for either with a
/// limit.
fn listen(mut stderr: ChildStderr) -> io::Result<mpsc::Receiver<String>> {
    let (said, ended) = mpsc::sync_channel(1);
    let read = move || {
        let mut text = Vec::new();
        let _ = stderr.by_ref().take(REASON_BYTES_MAX as u64).read_to_end(&mut text);
        // The rest is let go, so that the child does not wait for us.
        let _ = io::copy(&mut stderr, &mut io::sink());
        let text = String::from_utf8_lossy(&text).trim().replace(char::is_control, " ");
        let _ = said.send(text);
    };
    thread::Builder::new().name("frond-compile".into()).spawn(read)?;
    Ok(ended)
}

fn end(child: &mut Child) {
    // It may have ended by itself meanwhile; waited for it must be in either case.
    let _ = child.kill();
    let _ = child.wait();
}

/// The child: compiles `input` to `output` under its limits. The binary calls this for its hidden subcommand `compile`,
/// before it starts any thread, and prints the error with its causes on standard error.
///
/// When `output` is a folder, code and check sum are put there under the names the cache would give them: an image brings
/// its components so.
pub fn child(input: &Path, output: &Path) -> Result<(), ChildError> {
    // As the gateway has it, which started this with no limit but its own.
    let space = AddressSpace::here();
    limits::confine(ADDRESS_SPACE_BYTES, TIME_MAX).map_err(ChildError::Limits)?;
    let read = |source| ChildError::Read { path: input.to_owned(), source };
    let wasm = std::fs::read(input).map_err(read)?;
    precompile(&wasm, output, space)
}

#[cfg(feature = "compile")]
fn precompile(wasm: &[u8], output: &Path, space: AddressSpace) -> Result<(), ChildError> {
    let engine = crate::runtime::host::engine(space).map_err(ChildError::Engine)?;
    let code = engine.precompile_component(wasm).map_err(|error| ChildError::Component(error.into()))?;
    let written = if output.is_dir() {
        crate::runtime::artifact::shelve(output, &engine, wasm, &code)
    } else {
        std::fs::write(output, code)
    };
    written.map_err(|source| ChildError::Write { path: output.to_owned(), source })
}

#[cfg(not(feature = "compile"))]
fn precompile(_wasm: &[u8], _output: &Path, _space: AddressSpace) -> Result<(), ChildError> {
    Err(ChildError::NoCompiler)
}
