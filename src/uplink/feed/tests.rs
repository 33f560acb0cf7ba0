use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::outbox::SubjectKey;
use crate::sample::StreamId;

fn row(id: u64, lane: Lane, bytes: usize) -> OutRow {
    OutRow {
        id,
        subject: SubjectKey { stream: StreamId(1), lane },
        seq: id,
        dropped: 0,
        clock_correction: None,
        body: Bytes::from(vec![0; bytes]),
    }
}

/// A store that forgets nothing: what it answers to a request.
fn answer(rows: &[OutRow], fetch: Fetch) -> Vec<OutRow> {
    let mut bytes = 0;
    let all = rows.iter().filter(|row| row.subject.lane == fetch.lane && row.id > fetch.after);
    all.take_while(|row| {
        bytes += row.body.len();
        bytes == row.body.len() || bytes <= FETCH_BYTES
    })
    .cloned()
    .collect()
}

fn newest(rows: &[OutRow]) -> Newest {
    let of = |lane| rows.iter().filter(|row| row.subject.lane == lane).map(|row| row.id).max().unwrap_or(0);
    Newest { alarm: of(Lane::Alarm), data: of(Lane::Data) }
}

proptest! {
    // Goal: whatever the order of new rows, fetches, late pages, splits and repetitions, every row is handed out once as
    // new, in order within its class, and the memory bound holds. Method: a random walk over a store that never deletes.
    #[test]
    fn every_row_is_fetched_once(steps in prop::collection::vec((0u8..8, 1usize..60_000), 1..300)) {
        let mut feeds = Feeds::default();
        let mut rows: Vec<OutRow> = Vec::new();
        let mut taken: Vec<u64> = Vec::new();
        let mut repeated: Vec<(Class, OutRow)> = Vec::new();
        let mut pending: Vec<Fetch> = Vec::new();
        for (step, bytes) in steps {
            match step {
                0 | 1 => {
                    let lane = if bytes % 5 == 0 { Lane::Alarm } else { Lane::Data };
                    rows.push(row(rows.len() as u64 + 1, lane, bytes));
                }
                2 | 3 => pending.extend(Class::ALL.into_iter().filter_map(|class| feeds.want(class, newest(&rows)))),
                4 => if !pending.is_empty() {
                    let fetch = pending.remove(bytes % pending.len());
                    feeds.page(fetch, answer(&rows, fetch), |_| true);
                },
                5 => feeds.split(newest(&rows).data),
                6 => {
                    let class = Class::ALL[bytes % 3];
                    if let Some((row, turn)) = feeds.take(class) {
                        if turn == Turn::First {
                            taken.push(row.id);
                        }
                        repeated.push((class, row));
                    }
                }
                _ => if let Some((class, row)) = repeated.pop() {
                    feeds.again(class, row);
                },
            }
            prop_assert!(feeds.held() <= HELD_BYTES_MAX + 3 * 60_000);
        }
        for fetch in pending {
            feeds.page(fetch, answer(&rows, fetch), |_| true);
        }
        loop {
            let fetches: Vec<Fetch> =
                Class::ALL.into_iter().filter_map(|class| feeds.want(class, newest(&rows))).collect();
            for fetch in &fetches {
                feeds.page(*fetch, answer(&rows, *fetch), |_| true);
            }
            let mut idle = fetches.is_empty();
            for class in Class::ALL {
                while let Some((row, turn)) = feeds.take(class) {
                    idle = false;
                    if turn == Turn::First {
                        taken.push(row.id);
                    }
                }
            }
            if idle {
                break;
            }
        }
        for class in Class::ALL {
            prop_assert!(feeds.is_exhausted(class, newest(&rows)));
        }
        taken.sort_unstable();
        prop_assert_eq!(taken, (1..=rows.len() as u64).collect::<Vec<_>>());
    }
}

// Goal: rows from before the link came up are backlog, later ones live. Method: three rows, a split, two more.
#[test]
fn the_split_parts_backlog_from_live_rows() {
    let mut feeds = Feeds::default();
    let mut rows: Vec<OutRow> = (1..=3).map(|id| row(id, Lane::Data, 10)).collect();
    feeds.split(3);
    rows.extend([row(4, Lane::Data, 10), row(5, Lane::Data, 10)]);
    for class in Class::ALL {
        if let Some(fetch) = feeds.want(class, newest(&rows)) {
            feeds.page(fetch, answer(&rows, fetch), |_| true);
        }
    }
    let mut ids = |class| std::iter::from_fn(|| feeds.take(class)).map(|(row, _)| row.id).collect::<Vec<_>>();
    assert_eq!(ids(Class::Backlog), [1, 2, 3]);
    assert_eq!(ids(Class::Live), [4, 5]);
    assert_eq!(ids(Class::Alarm), [0; 0]);
}

// Goal: rows that are passed over are not taken for the end of the store. Method: a first page of which nothing is wanted.
#[test]
fn a_page_of_unwanted_rows_is_not_the_end() {
    let mut feeds = Feeds::default();
    let rows: Vec<OutRow> = (1..=8).map(|id| row(id, Lane::Data, 100_000)).collect();
    feeds.split(8);
    let fetch = feeds.want(Class::Backlog, newest(&rows)).expect("there is a backlog");
    let first = answer(&rows, fetch);
    assert_eq!(first.len(), 2);
    feeds.page(fetch, first, |_| false);
    assert!(!feeds.has_passed(Class::Backlog, 8) && !feeds.is_exhausted(Class::Backlog, newest(&rows)));
    let fetch = feeds.want(Class::Backlog, newest(&rows)).expect("the rest");
    feeds.page(fetch, answer(&rows, fetch), |_| true);
    assert_eq!(feeds.take(Class::Backlog).map(|(row, _)| row.id), Some(3));
}
