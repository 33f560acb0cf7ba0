//! The wire between the leaf node and the hub, with a switch in it.

use std::net::SocketAddr;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{self, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Connections carried at a time; a leaf node needs one.
const CONNECTIONS_MAX: usize = 8;

/// A TCP relay that can be cut: existing connections are closed and new ones refused until it is restored.
#[derive(Debug)]
pub struct Link {
    listener: TcpListener,
    target: SocketAddr,
    switch: watch::Receiver<bool>,
}

// === impl Link ===

impl Link {
    /// Listens on a free loopback port for connections to `target`. The sender is the switch: `true` is connected.
    pub async fn bind(target: SocketAddr) -> io::Result<(Link, SocketAddr, watch::Sender<bool>)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (sender, switch) = watch::channel(true);
        Ok((Link { listener, target, switch }, address, sender))
    }

    /// Relays until the switch is dropped.
    pub async fn run(mut self) {
        let mut relays = FuturesUnordered::new();
        loop {
            tokio::select! {
                changed = self.switch.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if !*self.switch.borrow_and_update() {
                        relays.clear();
                    }
                }
                accepted = self.listener.accept(), if relays.len() < CONNECTIONS_MAX => {
                    let Ok((mut near, _)) = accepted else { continue };
                    if *self.switch.borrow() {
                        relays.push(relay(near, self.target));
                    } else {
                        let _ = near.shutdown().await;
                    }
                }
                Some(()) = relays.next(), if !relays.is_empty() => {}
            }
        }
    }
}

async fn relay(mut near: TcpStream, target: SocketAddr) {
    if let Ok(mut far) = TcpStream::connect(target).await {
        // Either side's end is the end of both; why does not matter to a wire.
        let _ = io::copy_bidirectional(&mut near, &mut far).await;
    }
}
