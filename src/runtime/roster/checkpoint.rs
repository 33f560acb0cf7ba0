//! What of the components goes into a checkpoint, and what becomes of it at the start.

use std::collections::BTreeSet;

use tracing::error;

use super::{Roster, Sweep};
use crate::block;
use crate::platform::log;
use crate::runtime::Processor;
use crate::runtime::deployment::record::Record;
use crate::runtime::hold::Piece;
use crate::runtime::outcome::Restored;
use crate::runtime::seat::Seat;
use crate::runtime::state::Held;
use crate::sample::{Nanos, StreamId};

// === impl Roster ===

impl Roster {
    /// Takes up what the last checkpoint has: snapshots, readings held back, alarms raised. Readings of components that
    /// are no longer configured go on as they are.
    pub(in crate::runtime) fn restore(
        &mut self,
        snapshots: Vec<(String, Vec<u8>)>,
        held: Vec<Held>,
        raised: Vec<(StreamId, String)>,
        now: Nanos,
    ) {
        for (name, snapshot) in snapshots {
            let Some(seat) = self.seats.get_mut(&name) else { continue };
            // That of a version which was taken back while it was opened: what is at work has its own.
            if self.taken_back.remove(&name) {
                continue;
            }
            let Some(snapshot) = self.absent.keep(&name, snapshot) else { continue };
            if let Some(processor) = seat.processor.as_mut() {
                restore_one(&name, processor, snapshot);
            }
        }
        self.taken_back.clear();
        self.try_again(now);
        for Held { component, stream, timeline, block } in held {
            let readings = match block::decode_readings(&block) {
                Ok(readings) => readings,
                Err(err) => {
                    error!(component, error = %log::chain(&err), "readings held back cannot be read and are lost");
                    continue;
                }
            };
            let seat = self.seats.entry(component).or_insert_with(Seat::retired);
            seat.hold.push(stream, timeline, &readings);
        }
        self.raised.extend(raised);
    }

    /// The states to store with a checkpoint.
    pub(in crate::runtime) fn snapshots(&mut self, now: Nanos) -> Vec<(String, Vec<u8>)> {
        let seats = self.seats.iter_mut();
        let mut snapshots: Vec<_> =
            seats.filter_map(|(name, seat)| Some((name.clone(), seat.snapshot(now)?))).collect();
        self.miss(now);
        snapshots.extend(self.absent.snapshots());
        snapshots
    }

    /// The instances whose state is in the last [`Roster::snapshots`], or that have none; of two versions both, the new one has
    /// begun with the state of the old one.
    pub(in crate::runtime) fn stored(&self) -> BTreeSet<u64> {
        let versions = |seat: &'_ Seat| {
            [seat.processor.as_ref(), seat.deployment.predecessor()]
                .map(|one| one.and_then(Processor::stored))
        };
        self.seats.values().flat_map(versions).flatten().collect()
    }

    /// The readings held back, to store with a checkpoint.
    pub(in crate::runtime) fn held(&self) -> Vec<Held> {
        let held = |name: &String, piece: &Piece| Held {
            component: name.clone(),
            stream: piece.stream,
            timeline: piece.timeline,
            block: block::encode_readings(&piece.readings),
        };
        let pieces =
            self.seats.iter().flat_map(|(name, seat)| seat.hold.pieces().map(move |piece| (name, piece)));
        pieces.map(|(name, piece)| held(name, piece)).collect()
    }

    /// The alarms raised, to store with a checkpoint.
    pub(in crate::runtime) fn raised(&self) -> Vec<(StreamId, String)> {
        self.raised.iter().cloned().collect()
    }

    /// The deployments, to store with a checkpoint, after the snapshots.
    pub(in crate::runtime) fn deployments(&mut self, now: Nanos) -> Vec<Record> {
        if self.sweep == Sweep::Wanted {
            self.sweep = Sweep::Soon;
        }
        let current = self.seats.iter().filter(|(_, seat)| seat.is_current());
        current.filter_map(|(name, seat)| seat.deployment.record(name, now)).collect()
    }
}

pub(super) fn restore_one(name: &str, processor: &mut Processor, snapshot: Vec<u8>) {
    if let Restored::SetAside(reason) = processor.restore_from(snapshot) {
        error!(component = name, reason, "component does not take its state back; it starts without");
    }
}
