//! The task that holds the connection and finds out whether the hub takes our rows.
//!
//! In leaf mode the connection to the nats-server on this machine stays up while the leaf link is down, so being
//! connected proves nothing. The truth is whether JetStream answers: the link asks it which stream takes our subjects,
//! every [`PROBE_INTERVAL`] while it is not up, and every [`PROBE_INTERVAL_UP`] and whenever the uplink doubts while it
//! is. States are drawn in [`super::state`]; each change is one line in the log that says what to do.
//!
//! State: this task owns the connection and the `watch` of [`LinkState`]. Nothing survives a restart, nothing has to. A
//! new client means a new connection: subscriptions of the old one are gone.

use std::time::Duration;

use async_nats::{Client, ClientError, Event, ServerError};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::api::{Api, ApiError};
use super::dial::{Reconnect, Target, delay, random_unit};
use super::leaf;
use super::state::{LeafFact, LinkState, Trouble};
use crate::config::{Config, LatticeMode};
use crate::sample::Lane;

/// How often JetStream is asked for while it does not answer: half of the two seconds within which the first byte follows
/// the link.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How often while it does: some 600 bytes a minute, a megabyte a day. While rows flow their acknowledgements tell.
const PROBE_INTERVAL_UP: Duration = Duration::from_secs(60);

/// Questions under way at a time: one a second for as long as an answer may take, and one for a doubt.
const PROBES_MAX: usize = 8;

/// Events of the connection that wait for this task.
const EVENTS_MAX: usize = 64;

/// How long the leaf's word that its link is up is believed while JetStream is missing: the question crosses the link,
/// two kilobytes with its answers. The word that it is down costs nothing and is asked for with every probe.
const LEAF_FRESH: Duration = Duration::from_secs(10);

/// How long a server's word that it denies a subject explains missing answers.
const DENIAL_FRESH: Duration = Duration::from_secs(10);

/// The task.
#[derive(Debug)]
pub struct Link {
    target: Option<Target>,
    domain: Option<String>,
    /// One subject pattern for each lane; each must have a stream.
    patterns: Vec<String>,
    state: watch::Sender<LinkState>,
    client: watch::Sender<Option<Client>>,
    connections: watch::Sender<u64>,
    doubts: mpsc::Receiver<()>,
}

/// What others have of the link. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LinkHandle {
    /// Where the link stands.
    pub state: watch::Receiver<LinkState>,
    /// The present connection. After a change, subscriptions are to be made anew.
    pub client: watch::Receiver<Option<Client>>,
    /// Counts connections, also those that a client made anew by itself: whoever was told something may have missed it.
    pub connections: watch::Receiver<u64>,
    doubts: mpsc::Sender<()>,
    domain: Option<String>,
}

struct Probe {
    asked: Instant,
    trouble: Option<Trouble>,
    /// What the leaf said, when, if it was asked or remembered.
    leaf: Option<(Instant, LeafFact)>,
}

/// One connection's probes.
struct Session {
    api: Api,
    connected: bool,
    leaf: Option<(Instant, LeafFact)>,
    probes: FuturesUnordered<BoxFuture<'static, Probe>>,
    next_probe: Instant,
    answered: Option<Instant>,
    denied: Option<(Instant, String)>,
}

// === impl LinkHandle ===

impl LinkHandle {
    /// The API of the hub's JetStream over `client`.
    pub fn api(&self, client: Client) -> Api {
        Api::new(client, self.domain.as_deref())
    }

    /// Asks the link to look at once: something that should have been answered was not.
    pub fn doubt(&self) {
        // One doubt waiting is as good as many.
        let _ = self.doubts.try_send(());
    }
}

// === impl Link ===

impl Link {
    /// The task and what others have of it.
    pub fn new(config: &Config) -> (Link, LinkHandle) {
        let lattice = &config.lattice;
        let initial = match lattice.mode {
            LatticeMode::Off => LinkState::Off,
            LatticeMode::Leaf(_) | LatticeMode::Direct(_) => LinkState::Connecting,
        };
        let (state, state_seen) = watch::channel(initial);
        let (client, client_seen) = watch::channel(None);
        let (connections, connections_seen) = watch::channel(0);
        let (doubts_sender, doubts) = mpsc::channel(1);
        let pattern = |lane: Lane| format!("{}.{}.{}.*", lattice.subject, config.gateway.name, lane.token());
        let link = Link {
            target: Target::configured(lattice, &config.gateway.name),
            domain: lattice.jetstream_domain.clone(),
            patterns: vec![pattern(Lane::Alarm), pattern(Lane::Data)],
            state,
            client,
            connections,
            doubts,
        };
        let handle = LinkHandle {
            state: state_seen,
            client: client_seen,
            connections: connections_seen,
            doubts: doubts_sender,
            domain: lattice.jetstream_domain.clone(),
        };
        (link, handle)
    }

    /// Runs until `stop`. Nothing that happens to the link ends it.
    pub async fn run(mut self, stop: CancellationToken) {
        let Some(target) = self.target.clone() else {
            info!("the link is off; everything stays in the outbox");
            stop.cancelled().await;
            return;
        };
        let mut attempt = 0u32;
        while !stop.is_cancelled() {
            let (events_sender, events) = mpsc::channel(EVENTS_MAX);
            let dialled = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                dialled = target.dial(events_sender, Reconnect::Dial) => dialled,
            };
            match dialled {
                Ok(client) => {
                    attempt = 0;
                    self.hold(client, events, &stop).await;
                    self.client.send_replace(None);
                    if !stop.is_cancelled() {
                        self.enter(LinkState::Connecting);
                    }
                }
                Err(trouble) if trouble.is_refusal() => self.enter(LinkState::Refused(trouble)),
                Err(trouble) => self.enter(LinkState::Retrying(trouble)),
            }
            attempt = attempt.saturating_add(1);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep(delay(attempt, target.delay_max(), random_unit())) => {}
            }
        }
    }

    /// Holds one connection until it ends for good.
    async fn hold(&mut self, client: Client, mut events: mpsc::Receiver<Event>, stop: &CancellationToken) {
        let mut session = Session::new(Api::new(client.clone(), self.domain.as_deref()));
        self.enter(LinkState::LocalOnly { since: Instant::now(), reason: Trouble::Unprobed });
        self.client.send_replace(Some(client));
        self.connections.send_modify(|count| *count += 1);
        loop {
            let may_probe = session.connected && session.probes.len() < PROBES_MAX;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = events.recv() => match event {
                    Some(event) => if self.take_event(event, &mut session) == Life::Over { return },
                    None => return,
                },
                Some(probe) = session.probes.next() => self.take_probe(probe, &mut session),
                doubt = self.doubts.recv(), if session.connected => {
                    if doubt.is_none() {
                        return;
                    }
                    session.next_probe = Instant::now();
                }
                () = sleep_until(session.next_probe), if may_probe => {
                    session.ask(self.patterns.clone(), self.domain.clone(), self.is_leaf());
                    session.next_probe = Instant::now() + self.probe_interval();
                }
            }
        }
    }

    fn take_event(&mut self, event: Event, session: &mut Session) -> Life {
        debug!(%event, "connection event");
        match event {
            Event::Connected if !session.connected => {
                session.connected = true;
                session.next_probe = Instant::now();
                self.connections.send_modify(|count| *count += 1);
                self.enter(LinkState::LocalOnly { since: Instant::now(), reason: Trouble::Unprobed });
            }
            Event::Disconnected => {
                session.connected = false;
                session.probes.clear();
                self.enter(LinkState::Connecting);
            }
            Event::Closed | Event::ClientError(ClientError::MaxReconnects) => return Life::Over,
            Event::ServerError(ServerError::Other(text))
                if text.to_lowercase().contains("permissions violation") =>
            {
                session.denied = Some((Instant::now(), text.clone()));
                let trouble = Trouble::Denied(text);
                warn!(what = %trouble, todo = %trouble.advice(), "the server denies a subject");
            }
            _ => {}
        }
        Life::GoesOn
    }

    fn take_probe(&mut self, probe: Probe, session: &mut Session) {
        let before = std::mem::replace(&mut session.leaf, probe.leaf).map(|(_, fact)| fact);
        let Some(trouble) = probe.trouble else {
            session.answered = session.answered.max(Some(probe.asked));
            let next = self.state.borrow().probed(None, Instant::now());
            self.enter(next);
            return;
        };
        // A question lost long ago says nothing when a later one was answered.
        if session.answered.is_some_and(|answered| answered >= probe.asked) {
            return;
        }
        let trouble =
            if self.is_leaf() { session.explain(trouble, before) } else { session.explain_silence(trouble) };
        let next = self.state.borrow().probed(Some(trouble), Instant::now());
        session.next_probe = session.next_probe.min(Instant::now() + PROBE_INTERVAL);
        self.enter(next);
    }

    fn is_leaf(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.peer == super::dial::Peer::Leaf)
    }

    fn probe_interval(&self) -> Duration {
        if self.state.borrow().is_up() { PROBE_INTERVAL_UP } else { PROBE_INTERVAL }
    }

    fn enter(&self, next: LinkState) {
        let changed = *self.state.borrow() != next;
        if changed {
            log(&next);
            self.state.send_replace(next);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Life {
    GoesOn,
    Over,
}

// === impl Session ===

impl Session {
    fn new(api: Api) -> Session {
        Session {
            api,
            connected: true,
            leaf: None,
            probes: FuturesUnordered::new(),
            next_probe: Instant::now(),
            answered: None,
            denied: None,
        }
    }

    fn ask(&mut self, patterns: Vec<String>, domain: Option<String>, is_leaf: bool) {
        let (api, known) = (self.api.clone(), self.fresh_leaf());
        self.probes.push(Box::pin(async move {
            let asked = Instant::now();
            let error = match unbound(&api, &patterns).await {
                Ok(subjects) if subjects.is_empty() => return Probe { asked, trouble: None, leaf: None },
                Ok(subjects) => {
                    return Probe { asked, trouble: Some(Trouble::NoStream { subjects }), leaf: None };
                }
                Err(error) => error,
            };
            let leaf = match known {
                Some(known) => Some(known),
                None if is_leaf && error == ApiError::NoResponders => {
                    Some((asked, leaf::ask(api.client()).await))
                }
                None => None,
            };
            let fact = leaf.map_or(LeafFact::Unknown, |(_, fact)| fact);
            Probe { asked, trouble: Some(Trouble::of_probe(&error, fact, domain.as_deref())), leaf }
        }));
    }

    fn fresh_leaf(&self) -> Option<(Instant, LeafFact)> {
        self.leaf.filter(|(at, fact)| {
            matches!(fact, LeafFact::Up | LeafFact::UpWithJetStream) && at.elapsed() < LEAF_FRESH
        })
    }

    /// A leaf link that has just come up needs a moment to learn what the hub answers to.
    fn explain(&self, trouble: Trouble, leaf_before: Option<LeafFact>) -> Trouble {
        match (&trouble, leaf_before) {
            (Trouble::NoJetStream { .. } | Trouble::WrongDomain { .. }, None) => Trouble::Unprobed,
            (Trouble::NoJetStream { .. } | Trouble::WrongDomain { .. }, Some(LeafFact::Down)) => {
                Trouble::LeafDown
            }
            _ => self.explain_silence(trouble),
        }
    }

    /// Silence has a better explanation when the server has just said that it denies a subject.
    fn explain_silence(&self, trouble: Trouble) -> Trouble {
        match (&trouble, &self.denied) {
            (Trouble::Silent, Some((at, text))) if at.elapsed() < DENIAL_FRESH => {
                Trouble::Denied(text.clone())
            }
            _ => trouble,
        }
    }
}

/// The patterns that no stream at the hub takes.
async fn unbound(api: &Api, patterns: &[String]) -> Result<Vec<String>, ApiError> {
    let mut missing = Vec::new();
    for pattern in patterns {
        if api.stream_names(pattern).await?.is_empty() {
            missing.push(pattern.clone());
        }
    }
    Ok(missing)
}

fn log(state: &LinkState) {
    match (state, state.trouble()) {
        (LinkState::Up { .. }, _) => info!("link up: the hub takes our rows"),
        (LinkState::Refused(_), Some(trouble)) => {
            error!(what = %trouble, todo = %trouble.advice(), "link refused");
        }
        (_, Some(Trouble::Unprobed)) => debug!("connected, asking for JetStream"),
        (_, Some(trouble)) => warn!(what = %trouble, todo = %trouble.advice(), "link down"),
        (_, None) => info!(state = state.word(), "link"),
    }
}
