//! Limits a process puts on itself.

use std::io;
use std::time::Duration;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Limits the address space and the processor time of this process, for good, and turns core dumps off: a dump of a
/// process that ran out of memory would be as large as the limit. A limit that is lower already stays.
pub fn confine(address_space_bytes: u64, processor_time: Duration) -> io::Result<()> {
    lower(Resource::RLIMIT_AS, address_space_bytes)?;
    lower(Resource::RLIMIT_CPU, processor_time.as_secs())?;
    lower(Resource::RLIMIT_CORE, 0)
}

/// Whether the address space of this process, and of those it starts, is limited by more than the processor.
pub fn is_address_space_limited() -> bool {
    // Where the limit cannot be told, there may be one.
    getrlimit(Resource::RLIMIT_AS).map_or(true, |(soft, _)| soft != RLIM_INFINITY)
}

fn lower(resource: Resource, to: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let to = to.min(hard);
    Ok(setrlimit(resource, to, to)?)
}
