//! Raw readings for whoever asks: first the ring, then what is still in hot rows.

use crate::block::{self, Envelope, Rows, WireClock};
use crate::journal::ring;
use crate::sample::{Reading, SeriesId, StreamId, Timeline};

use super::thread::{Store, read_hot};
use super::{RecallPage, RecallQuery, RecallRefused};

/// Cursors from here on stand for the hot rows, each for one page of them.
const HOT: u64 = 1 << 62;
/// Readings in one page: encoded, far below the megabyte a NATS message may have.
pub const PAGE_READINGS_MAX: usize = 32_768;

// === impl Store ===

impl Store {
    /// One page of a recall. A damaged block is counted and skipped.
    pub(super) fn recall(
        &mut self,
        query: &RecallQuery,
    ) -> rusqlite::Result<Result<RecallPage, RecallRefused>> {
        if query.from >= query.to {
            return Ok(Err(RecallRefused::EmptyWindow));
        }
        let Some(stream) = self.names.find_stream(&query.stream) else {
            return Ok(Err(RecallRefused::NoStream));
        };
        let series: Vec<SeriesId> =
            query.series.iter().filter_map(|name| self.names.find_series(stream, name)).collect();
        if series.is_empty() && !query.series.is_empty() {
            return Ok(Err(RecallRefused::NoSeries));
        }
        let window = (query.from, query.to);
        if query.after < HOT
            && let Some(found) = ring::find(&self.db, stream, window, query.after)?
        {
            if found.readings.is_none() {
                self.stats.damaged += 1;
                tracing::error!(
                    block = found.id,
                    "a block of the raw ring is damaged; its readings are lost"
                );
            }
            let readings = ring::select(found.readings.unwrap_or_default(), &series, window);
            return Ok(Ok(self.page(stream, found.timeline, readings, Some(found.id))));
        }
        let turn = query.after.saturating_sub(HOT);
        let mut pages = self.hot_readings(stream, &series, window)?;
        if pages.is_empty() {
            return Ok(Ok(RecallPage { body: None, clock_correction: None, next: None }));
        }
        let turn = usize::try_from(turn).unwrap_or(usize::MAX).min(pages.len() - 1);
        let next = (turn + 1 < pages.len()).then_some(HOT + turn as u64 + 1);
        let (timeline, readings) = pages.swap_remove(turn);
        Ok(Ok(self.page(stream, timeline, readings, next)))
    }

    /// What hot rows hold of the stream, in pages of one timeline each.
    fn hot_readings(
        &self,
        stream: StreamId,
        series: &[SeriesId],
        window: (i64, i64),
    ) -> rusqlite::Result<Vec<(Timeline, Vec<Reading>)>> {
        let mut pages: Vec<(Timeline, Vec<Reading>)> = Vec::new();
        for pos in self.slots.positions() {
            let Ok((_, messages)) = read_hot(&self.db, &self.slots, pos)? else { continue };
            for message in messages.into_iter().filter(|m| m.stream == stream) {
                let readings = ring::select(message.readings, series, window);
                match pages.iter_mut().find(|(timeline, _)| *timeline == message.timeline) {
                    Some((_, page)) => page.extend(readings),
                    None => pages.push((message.timeline, readings)),
                }
            }
        }
        pages.retain(|(_, readings)| !readings.is_empty());
        let mut chunks = Vec::new();
        for (timeline, mut readings) in pages {
            readings.sort_by_key(|r| (r.series, r.time));
            chunks.extend(readings.chunks(PAGE_READINGS_MAX).map(|chunk| (timeline, chunk.to_vec())));
        }
        Ok(chunks)
    }

    fn page(
        &self,
        stream: StreamId,
        timeline: Timeline,
        readings: Vec<Reading>,
        next: Option<u64>,
    ) -> RecallPage {
        let (clock, clock_correction) = match timeline {
            Timeline::Sensor => (WireClock::Sensor, None),
            Timeline::Arrival => (WireClock::Arrival, None),
            Timeline::Boot(id) => {
                let boot = self.names.boot_entry(id);
                let name = boot.map_or_else(String::new, |boot| boot.boot.clone());
                (WireClock::Estimated { boot: name }, boot.and_then(|boot| boot.correction))
            }
        };
        if readings.is_empty() {
            return RecallPage { body: None, clock_correction, next };
        }
        let series = readings
            .iter()
            .map(|r| r.series)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .filter_map(|id| Some((id, self.names.entry(id)?.entry.clone())))
            .collect();
        let envelope = Envelope {
            stream: self.names.stream_name(stream).to_owned(),
            clock,
            series,
            rows: Rows::Raw(readings),
        };
        RecallPage { body: Some(block::encode_envelope(&envelope).into()), clock_correction, next }
    }
}
