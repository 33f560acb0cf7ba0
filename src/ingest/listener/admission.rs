//! Who is let in: from the first byte of a connection to CONNACK.
//!
//! Owns nothing beyond the connection it is given; what is agreed with a client ([`Terms`]) goes into its session, which
//! the desk keeps. Power loss: a client that was let in and heard of it finds its session again if it asked for one.
//! When full: CONNECT may have [`CONNECT_BYTES_MAX`], and whoever is not through in time is dropped by
//! [`super::connection`]; refusals are told where the protocol can, and counted.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mqtt_proto::v5;
use tokio::time::Instant;
use tracing::debug;

use super::codec::{self, Connect, Version};
use super::conn::Conn;
use super::connection::Reader;
use super::desk::{Entrant, Opened};
use super::reason::Reason;
use super::site::{Port, Site};
use super::talk::{ALIASES_MAX, Talk};
use super::tls;
use super::users::{Credentials, Pass, Refusal};
use super::ws::{self, Frames, Opening};
use crate::config::Framing;
use crate::ingest::account::add;

/// Largest CONNECT: a will and a login.
const CONNECT_BYTES_MAX: usize = 64 << 10;
/// Messages a client may be sent before it has acknowledged one.
const DELIVERIES_MAX: u16 = 64;

/// Reads CONNECT and lets the client in, or answers why not.
pub async fn admit(
    site: &Rc<Site>,
    port: &Port,
    reader: &mut Reader,
    mut conn: Conn,
    peer: SocketAddr,
) -> Option<(Rc<Conn>, Talk)> {
    if port.config.framing == Framing::WebSocket {
        upgrade(port, reader, &mut conn).await?;
    }
    let frame = loop {
        match codec::frame(&reader.rest, CONNECT_BYTES_MAX.min(port.config.packet_bytes_max as usize)) {
            Ok(Some(frame)) => break frame,
            // What was in a WebSocket that has ended is not waited for.
            Ok(None) if conn.ending().is_some() => return None,
            Ok(None) => {}
            Err(_) => return None,
        }
        reader.read_connect(&conn).await.ok()?;
    };
    let connect = match frame.decode_connect(&reader.rest) {
        Ok(Ok(connect)) => connect,
        Ok(Err(level)) => {
            // Who speaks another version may understand the answer of one that is spoken here.
            // A bridge of mosquitto's marks its version with the highest bit, and understands the answer of version 3.
            let refusal: &[u8] =
                if level < 4 || level & 0x80 != 0 { &[0x20, 2, 0, 1] } else { &[0x20, 3, 0, 0x84, 0] };
            conn.send(refusal);
            return None;
        }
        Err(_) => return None,
    };
    reader.rest.drain(..frame.end);
    conn.version = connect.version;
    let refuse = |conn: &Conn, reason: Reason| {
        debug!(%peer, %reason, client = &*connect.client, "client not let in");
        add(&site.counters.refused, 1);
        conn.send(&refusal(connect.version, reason));
        None
    };
    let client = match client_of(&connect) {
        Ok(client) => client,
        Err(reason) => return refuse(&conn, reason),
    };
    let name = connect.user.as_deref();
    if let Some(secret) = &port.secret {
        return match secret.admits(name, connect.password.as_deref()) {
            Some(pass) => seat(site, port, conn, &connect, (client, pass)),
            None => refuse(&conn, Reason::NotAuthorized),
        };
    }
    let credentials = Credentials {
        address: peer.ip(),
        anonymous: port.config.anonymous,
        client: client.to_string(),
        name: connect.user.as_deref().map(str::to_owned),
        password: connect.password.as_deref().map(<[u8]>::to_vec),
        certificate: conn.certificate().map(|certificate| tls::names(&certificate)).unwrap_or_default(),
    };
    let pass = match site.entrance.enter(credentials).await {
        Ok(pass) => pass,
        Err(refused) => return refuse(&conn, reason_of(refused)),
    };
    seat(site, port, conn, &connect, (client, pass))
}

/// Gives a client that is let in its place at the desk, and tells it.
fn seat(
    site: &Rc<Site>,
    port: &Port,
    mut conn: Conn,
    connect: &Connect,
    (client, pass): (Arc<str>, Pass),
) -> Option<(Rc<Conn>, Talk)> {
    let terms = Terms::of(connect, port, site);
    conn.packet_max = connect.properties.max_packet_size.map_or(usize::MAX, |max| max as usize);
    conn.receive_max = port.config.receive_max.into();
    conn.patience = terms.patience;
    conn.heard.set(Instant::now());
    let conn = Rc::new(conn);
    let entrant = Entrant {
        connect,
        client: Arc::clone(&client),
        pass,
        conn: Rc::clone(&conn),
        expiry_s: terms.expiry_s,
        window: usize::from(connect.properties.receive_max.unwrap_or(u16::MAX).min(DELIVERIES_MAX)),
    };
    let now = Instant::now();
    let opened = site.desk.borrow_mut().open(entrant, now);
    let opened = match opened {
        Ok(opened) => opened,
        Err(reason) => {
            debug!(%reason, client = &*client, "client has no place");
            add(&site.counters.refused, 1);
            conn.send(&refusal(connect.version, reason));
            return None;
        }
    };
    add(&site.counters.connects, 1);
    conn.send(&connack(connect, &client, &opened, port, &terms));
    site.desk.borrow_mut().resume(opened.key, now);
    site.pass_on();
    Some((conn, Talk::new(opened, port.config.packet_bytes_max as usize)))
}

/// Opens the WebSocket that a client's packets come in.
async fn upgrade(port: &Port, reader: &mut Reader, conn: &mut Conn) -> Option<()> {
    loop {
        match ws::open(&reader.rest) {
            Opening::More => reader.read_connect(conn).await.ok()?,
            Opening::Refused(answer) => {
                conn.send(answer);
                return None;
            }
            Opening::Accepted { used, answer } => {
                conn.send(&answer);
                let early = reader.rest.split_off(used);
                reader.rest.clear();
                conn.set_frames(Frames::new(port.config.packet_bytes_max as usize));
                conn.peel(&early, &mut reader.rest).ok()?;
                return Some(());
            }
        }
    }
}

/// The client's identifier, or a new one for a client that has none.
fn client_of(connect: &Connect) -> Result<Arc<str>, Reason> {
    if connect.properties.auth_method.is_some() {
        return Err(Reason::BadMethod);
    }
    if connect.properties.receive_max == Some(0) || connect.properties.max_packet_size == Some(0) {
        return Err(Reason::ProtocolError);
    }
    if !connect.client.is_empty() {
        return Ok(Arc::clone(&connect.client));
    }
    if connect.version == Version::V3 && !connect.clean {
        return Err(Reason::ClientIdentifier);
    }
    Ok(super::site::fresh_client().into())
}

fn reason_of(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::Proof => Reason::BadLogin,
        Refusal::Anonymous | Refusal::OtherUser => Reason::NotAuthorized,
        Refusal::Limited | Refusal::Busy => Reason::ServerBusy,
    }
}

/// What is agreed with a client.
struct Terms {
    expiry_s: u32,
    patience: Option<Duration>,
    /// Version 5, where it is another than the client asked for.
    keep_alive_s: Option<u16>,
}

// === impl Terms ===

impl Terms {
    fn of(connect: &Connect, port: &Port, site: &Site) -> Terms {
        let expiry_max = u32::try_from(site.clients.session_expiry_max.as_secs()).unwrap_or(u32::MAX);
        let keep_alive_max = u16::try_from(port.config.keep_alive_max.as_secs()).unwrap_or(u16::MAX);
        let asked = connect.keep_alive_s;
        let (expiry_s, keep_alive_s) = match connect.version {
            Version::V3 => (if connect.clean { 0 } else { expiry_max }, asked),
            Version::V5 => {
                let expiry_s = connect.properties.session_expiry_interval.unwrap_or(0).min(expiry_max);
                let is_longer = asked == 0 || asked > keep_alive_max;
                (expiry_s, if is_longer && keep_alive_max < u16::MAX { keep_alive_max } else { asked })
            }
        };
        Terms {
            expiry_s,
            // Half as long again as was agreed, as the standard has it.
            patience: (keep_alive_s > 0).then(|| Duration::from_secs(keep_alive_s.into()) * 3 / 2),
            keep_alive_s: (keep_alive_s != asked).then_some(keep_alive_s),
        }
    }
}

fn refusal(version: Version, reason: Reason) -> Vec<u8> {
    match version {
        Version::V3 => vec![0x20, 2, 0, reason.connack_v3()],
        Version::V5 => vec![0x20, 3, 0, reason as u8, 0],
    }
}

fn connack(connect: &Connect, client: &Arc<str>, opened: &Opened, port: &Port, terms: &Terms) -> Vec<u8> {
    let present = u8::from(opened.session_present);
    if connect.version == Version::V3 {
        return vec![0x20, 2, present, 0];
    }
    let asked = connect.properties.session_expiry_interval.unwrap_or(0);
    let properties = v5::ConnackProperties {
        session_expiry_interval: (asked != terms.expiry_s).then_some(terms.expiry_s),
        receive_max: Some(port.config.receive_max),
        max_packet_size: Some(port.config.packet_bytes_max),
        assigned_client_id: connect.client.is_empty().then(|| Arc::clone(client)),
        topic_alias_max: Some(ALIASES_MAX),
        server_keep_alive: terms.keep_alive_s,
        ..Default::default()
    };
    let mut ack = v5::Connack::new(opened.session_present, v5::ConnectReasonCode::Success);
    ack.properties = properties;
    v5::Packet::Connack(ack).encode().map(|packet| packet.as_ref().to_vec()).unwrap_or_default()
}
