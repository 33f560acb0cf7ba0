//! Reading what the others start from. The cost does not depend on the backlog: names, one row a subject, the groups since
//! the last checkpoint.

use std::collections::{BTreeMap, VecDeque};

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::journal::seen::Tail;
use crate::journal::slots::Slots;
use crate::journal::wear::Wear;
use crate::journal::{Group, RetainedRow, SessionRow, load_retained, load_sessions, ring};
use crate::outbox::Settled;
use crate::outbox::table::Ledger;
use crate::platform::{clock, vfs};
use crate::sample::{DoorId, Lane, Nanos};

use super::report::written_bytes;
use super::thread::{Store, read_hot};
use super::{Names, Newest, Policy, Start, StoreError, StoreStats, open};

/// What is read from the database.
struct Found {
    names: Names,
    ledger: Ledger,
    ring: ring::Usage,
    slots: Slots,
    checkpoint: u64,
    state: Vec<u8>,
    floor: Option<Nanos>,
    tail: Tail,
    replay: VecDeque<u64>,
    sessions: Vec<SessionRow>,
    last_session: u32,
    retained: Vec<RetainedRow>,
}

// === impl Store ===

impl Store {
    /// Opens the database and reads what the others start from. One that cannot be read is set aside and begun anew.
    pub fn open(policy: Policy) -> Result<(Store, Start), StoreError> {
        let kept = policy.outbox.bytes_max + policy.journal.ring_bytes_max + policy.retained_bytes_max;
        let bound = kept / 4 * 5 + (64 << 20);
        vfs::register()?;
        let (opened, mut found) = open::open(&policy.data_dir, bound, |db| Found::read(db, &policy))?;
        let streams = policy.streams.keys().map(|name| (name.clone(), found.names.stream(name))).collect();
        let boot = found.names.boot(&clock::boot_id()?);
        let newest =
            Newest { alarm: found.ledger.newest(Lane::Alarm), data: found.ledger.newest(Lane::Data) };
        let (newest, newest_out) = watch::channel(newest);
        let stats = StoreStats {
            checkpoint_position: found.checkpoint,
            set_aside: opened.set_aside.as_ref().map(|aside| aside.path.display().to_string()),
            ..StoreStats::default()
        };
        let (stats_out, stats_in) = watch::channel(stats.clone());
        let durable: BTreeMap<DoorId, watch::Sender<u64>> =
            policy.doors.keys().map(|door| (*door, watch::Sender::new(0))).collect();
        let names = &found.names;
        let newest_pos = found.replay.back().copied().unwrap_or(0).max(found.checkpoint);
        let start = Start {
            streams,
            stream_names: names.all_streams().map(|(id, name)| (id, name.to_owned())).collect(),
            boot,
            estimate: names.boot_entry(boot).and_then(|boot| boot.estimate),
            seen: policy.doors.keys().map(|door| (*door, found.tail.of(*door))).collect(),
            sessions: {
                let seen = |row: SessionRow| {
                    let seen = found.tail.of_session(row.id);
                    (row, seen)
                };
                std::mem::take(&mut found.sessions).into_iter().map(seen).collect()
            },
            last_session: found.last_session,
            retained: std::mem::take(&mut found.retained),
            durable: durable.iter().map(|(door, sender)| (*door, sender.subscribe())).collect(),
            floor: found.floor,
            state: std::mem::take(&mut found.state),
            replay: newest_pos,
            series: names.all_series().map(|(id, known)| (id, known.clone())).collect(),
            boots: names.all_boots().map(|(id, boot)| (id, boot.boot.clone())).collect(),
            newest: newest_out,
            stats: stats_in,
            epoch: opened.epoch,
            set_aside: opened.set_aside,
        };
        let journal = &policy.journal;
        let wear =
            Wear::new(journal.wear_bytes_per_day, journal.commit_interval, journal.commit_interval_max);
        let mut store = Store {
            db: opened.db,
            names: found.names,
            ledger: found.ledger,
            ring: found.ring,
            slots: found.slots,
            group: Group::default(),
            tail: found.tail,
            next_pos: newest_pos + 1,
            checkpoint: None,
            urged: false,
            settled: Settled::default(),
            fresh_series: Vec::new(),
            clock: None,
            floor: found.floor,
            boot,
            held: Vec::new(),
            replay: found.replay,
            outgoing: VecDeque::new(),
            late: VecDeque::new(),
            durable,
            newest,
            wear,
            wear_noted: (written_bytes(), Instant::now()),
            stats,
            stats_out,
            deadline: None,
            drops_told: None,
            peers: BTreeMap::new(),
            committed_at: Instant::now(),
            policy,
        };
        store.publish_stats();
        Ok((store, start))
    }
}

// === impl Found ===

impl Found {
    fn read(db: &Connection, policy: &Policy) -> rusqlite::Result<Found> {
        let (checkpoint, state, seen, floor): (u64, Vec<u8>, Vec<u8>, Option<Nanos>) = db
            .query_row("SELECT pos, state, seen, wall_ns FROM checkpoint WHERE id = 0", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?
            .unwrap_or_default();
        let now = Instant::now();
        let mut tail = Tail::decode(&seen, checkpoint, now);
        let (sessions, last_session) = load_sessions(db)?;
        let slots = Slots::load(db, checkpoint)?;
        let replay: VecDeque<u64> = slots.positions().collect();
        for pos in &replay {
            let Ok((forgotten, messages)) = read_hot(db, &slots, *pos)? else { continue };
            forgotten.into_iter().for_each(|door| tail.forget(door));
            for message in &messages {
                let window = policy.doors.get(&message.door).map_or(0, |door| door.window);
                tail.record(*pos, message, window, now);
            }
        }
        tail.retain_sessions(|session| sessions.iter().any(|row| row.id == session));
        Ok(Found {
            names: Names::load(db)?,
            ledger: Ledger::load(db)?,
            ring: ring::usage(db)?,
            slots,
            checkpoint,
            state,
            floor,
            tail,
            replay,
            sessions,
            last_session,
            retained: load_retained(db)?,
        })
    }
}
