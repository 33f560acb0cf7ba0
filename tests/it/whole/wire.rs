//! The wire between the leaf node and the hub: it can be cut, fall silent, or be slow.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes carried at a time on a slow wire.
const SIP: usize = 512;

/// How the wire is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Everything passes.
    Whole,
    /// Connections are closed, new ones too.
    Cut,
    /// Connections stay, and nothing passes in either direction. No reset, no end.
    Silent,
    /// So many bytes a second pass towards the hub.
    Slow(u64),
}

/// Listens on a free port and carries to `target` for as long as `tasks` lives.
pub async fn lay(target: SocketAddr, tasks: &mut JoinSet<()>) -> (SocketAddr, watch::Sender<Wire>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (switch, state) = watch::channel(Wire::Whole);
    tasks.spawn(async move {
        let mut carried = JoinSet::new();
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let mut state = state.clone();
            carried.spawn(async move {
                let mut now = state.clone();
                tokio::select! {
                    () = carry(near, target, state.clone()) => {}
                    _ = state.wait_for(|wire| *wire == Wire::Cut) => {}
                    _ = now.wait_for(|wire| *wire == Wire::Cut) => {}
                }
            });
        }
    });
    (address, switch)
}

async fn carry(near: TcpStream, target: SocketAddr, wire: watch::Receiver<Wire>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = pass(near_in, far_out, wire.clone(), Toward::Hub) => {}
        () = pass(far_in, near_out, wire, Toward::Leaf) => {}
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Toward {
    Hub,
    Leaf,
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut wire: watch::Receiver<Wire>,
    toward: Toward,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        if wire.wait_for(|wire| *wire != Wire::Silent).await.is_err() {
            return;
        }
        let slow = match *wire.borrow() {
            Wire::Slow(rate) if toward == Toward::Hub => Some(rate),
            _ => None,
        };
        let most = if slow.is_some() { SIP } else { buffer.len() };
        let Ok(read @ 1..) = from.read(&mut buffer[..most]).await else { return };
        if let Some(rate) = slow {
            // A wire that becomes whole meanwhile need not finish its nap.
            let nap = Duration::from_secs_f64(read as f64 / rate as f64);
            let _ = tokio::time::timeout(nap, wire.wait_for(|wire| !matches!(wire, Wire::Slow(_)))).await;
        }
        // What was read before the silence began passes after it.
        if wire.wait_for(|wire| *wire != Wire::Silent).await.is_err()
            || to.write_all(&buffer[..read]).await.is_err()
        {
            return;
        }
    }
}
