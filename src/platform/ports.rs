//! Ports on loopback for children that must be told where to listen: the demonstration's, and the tests'.
//!
//! Between the choice of a port and the child's listening, somebody else may take it. Ports are therefore chosen below
//! the range the kernel hands out by itself, never twice by one process, and whoever starts a child asks [`listens`]
//! whether it is the child that listens: to connect proves only that somebody does.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where ports are looked for: above those of known services, below 32,768, where Linux begins to hand them out.
const FIRST: u32 = 16_384;
/// How many ports there are from [`FIRST`] on.
const COUNT: u32 = 16_000;
/// `st` of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// The last port looked at, counted from a beginning that differs between processes.
static LAST: AtomicU32 = AtomicU32::new(0);

/// A loopback port that nobody listens on, and that this process has not been given before.
pub fn free() -> io::Result<u16> {
    // A hasher that has hashed nothing is the standard library's random number.
    let beginning = (RandomState::new().build_hasher().finish() as u32) | 1;
    let _ = LAST.compare_exchange(0, beginning, Ordering::Relaxed, Ordering::Relaxed);
    let mut error = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..COUNT {
        let at = LAST.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = u16::try_from(FIRST + at).expect("the range ends below 65,536");
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(cause) => error = cause,
        }
    }
    Err(error)
}

/// Whether the process `pid`, a child of ours, listens on the loopback port. An IPv4 socket is looked for.
pub fn listens(pid: u32, port: u16) -> io::Result<bool> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let sockets: HashSet<String> = table.lines().skip(1).filter_map(|line| listener(line, port)).collect();
    if sockets.is_empty() {
        return Ok(false);
    }
    for file in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(target) = fs::read_link(file?.path()) else { continue };
        if target.to_str().is_some_and(|target| sockets.contains(target)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The socket of a line of `/proc/net/tcp`, as `/proc/PID/fd` names it, if it listens on `port`.
fn listener(line: &str, port: u16) -> Option<String> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let is_ours = state == LISTEN && u16::from_str_radix(local.rsplit_once(':')?.1, 16) == Ok(port);
    is_ours.then(|| format!("socket:[{inode}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_listens_on_its_own_ports_only() {
        // Goal: a socket of ours is found as long as it is open; another process that can be connected to is not taken
        // for the owner. Method: this process, and its parent.
        let port = free().unwrap();
        let ours = std::process::id();
        assert!(!listens(ours, port).unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(listens(ours, port).unwrap());
        assert!(!listens(std::os::unix::process::parent_id(), port).unwrap());
        drop(listener);
        assert!(!listens(ours, port).unwrap());
    }

    #[test]
    fn no_port_is_given_twice() {
        // Goal: tests that run side by side get different ports. Method: many at once, none of them taken.
        let ports: Vec<u16> = (0..200).map(|_| free().unwrap()).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len());
    }
}
