//! What the service manager is told: ready, alive, stopping, and a line for people. Nothing happens without one.
//!
//! Owns nothing but the socket of the moment. A message that cannot be sent is logged and forgotten: what follows from it,
//! such as a restart by the watchdog, is the service manager's to decide. Children must not speak for this process: remove
//! [`VARIABLES`] from their environment.

use std::time::Duration;

use sd_notify::NotifyState;

use super::log::chain;

/// What the service manager puts into the environment for us alone.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// The gateway does its job from here on.
pub fn ready() {
    send(NotifyState::Ready);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    send(NotifyState::Status(line));
}

/// The gateway is about to end, as it was asked to.
pub fn stopping() {
    send(NotifyState::Stopping);
}

/// Feeds the watchdog. For the supervisor only: it knows whether every critical task has beaten.
pub fn alive() {
    send(NotifyState::Watchdog);
}

/// How often the watchdog wants to be fed: half its limit. None without one.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn send(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(error = %chain(&error), "the service manager does not listen");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::platform::child;

    #[test]
    fn the_service_manager_hears_what_is_said() {
        // Goal: the protocol, and the watchdog's interval. Method: a socket in the service manager's place, this test's own
        // program as the service.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let variables = [(VARIABLES[0], path.to_str().unwrap()), (VARIABLES[2], "3000000")];
        let output = child::run("platform::notify::tests::a_service", &variables);
        assert!(String::from_utf8_lossy(&output.stdout).contains("interval Some(1.5s)"));
        for expected in ["READY=1\n", "STATUS=link down, 5 MB buffered\n", "WATCHDOG=1\n", "STOPPING=1\n"] {
            let mut bytes = [0; 100];
            let length = socket.recv(&mut bytes).unwrap();
            assert_eq!(std::str::from_utf8(&bytes[..length]).unwrap(), expected);
        }
    }

    #[test]
    fn a_service() {
        // Goal: none of its own; the child of the test above. Without a service manager nothing happens.
        ready();
        status("link down, 5 MB buffered");
        alive();
        stopping();
        println!("interval {:?}", watchdog_interval());
    }
}
