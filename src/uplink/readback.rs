//! Asks the hub which of our rows it holds.
//!
//! For every subject in question a consumer without acknowledgements, headers only, reads the subject's messages above a
//! floor and reports their sequences, after everything sent before has certainly been dealt with. Where there is no floor, the subject's last message tells first whether there is
//! anything of our epoch at all. Nothing is kept here; a read-back that is cut short is simply made again. Consumers
//! vanish by themselves at the hub, [`CONSUMER_LIFE`] after they were last used.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::floors::{Birth, ReadBack};
use super::message::read_position;
use super::seqset::SeqSet;
use crate::lattice::{ANSWER_TIMEOUT, Api, ApiError, StreamInfo};
use crate::outbox::SubjectKey;

/// Subjects read at a time: with three round trips each, 50 subjects take a dozen round trips.
const AT_A_TIME: usize = 16;

/// Headers asked for at a time, some 250 bytes each: 64 KB, a second at half a megabit.
const PAGE: u64 = 256;

/// How long the hub keeps a consumer nobody uses.
const CONSUMER_LIFE: Duration = Duration::from_secs(15);

/// What is asked of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// Which.
    pub key: SubjectKey,
    /// Its name at the hub.
    pub subject: String,
    /// Read what is above this; `None`: nothing of it can be there, only the stream is of interest.
    pub above: Option<u64>,
}

#[derive(Serialize)]
struct ConsumerRequest<'a> {
    stream_name: &'a str,
    config: ConsumerConfig<'a>,
}

#[derive(Serialize)]
struct ConsumerConfig<'a> {
    name: &'a str,
    deliver_policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    opt_start_seq: Option<u64>,
    ack_policy: &'static str,
    replay_policy: &'static str,
    filter_subject: &'a str,
    headers_only: bool,
    mem_storage: bool,
    num_replicas: u8,
    inactive_threshold: u64,
}

#[derive(Deserialize)]
struct ConsumerMade {
    num_pending: u64,
}

#[derive(Serialize)]
struct Pull {
    batch: u64,
    no_wait: bool,
}

#[derive(Clone, Copy)]
enum Start {
    At(u64),
    Last,
}

/// Answers all questions, or fails as a whole. `all_subjects` matches every subject of this gateway. The floor each one
/// was read from comes back with it.
pub(super) async fn read_back(
    api: Api,
    all_subjects: String,
    epoch: u32,
    questions: Vec<Question>,
) -> Result<Vec<(u64, ReadBack)>, ApiError> {
    let mut streams = streams_of(&api, &all_subjects, &questions).await?;
    let mut infos: HashMap<String, StreamInfo> = HashMap::new();
    for (stream, question) in streams.iter_mut().zip(&questions) {
        let Some(name) = stream.as_ref().filter(|name| !infos.contains_key(*name)) else { continue };
        match api.wait_behind_rows(&question.subject).await {
            Ok(()) => {
                infos.insert(name.clone(), api.stream_info(name, &all_subjects).await?);
            }
            // The stream takes other subjects of ours, not this one.
            Err(ApiError::NoResponders) => *stream = None,
            Err(error) => return Err(error),
        }
    }
    let (api, infos) = (&api, &infos);
    stream::iter(questions.into_iter().zip(streams))
        .map(|(question, stream)| async move {
            let from = question.above.unwrap_or(0);
            let back = match stream.and_then(|name| infos.get_key_value(&name)) {
                Some((name, info)) => read_subject(api, name, info, epoch, question).await?,
                None => ReadBack { key: question.key, stream: None, upto: 0, found: SeqSet::new() },
            };
            Ok((from, back))
        })
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await
}

/// The stream of each question's subject. Almost always one stream takes them all, and one request tells.
async fn streams_of(
    api: &Api,
    all_subjects: &str,
    questions: &[Question],
) -> Result<Vec<Option<String>>, ApiError> {
    let names = api.stream_names(all_subjects).await?;
    if names.len() <= 1 {
        return Ok(vec![names.into_iter().next(); questions.len()]);
    }
    let subjects: Vec<String> = questions.iter().map(|question| question.subject.clone()).collect();
    stream::iter(subjects)
        .map(|subject| async move { Ok(api.stream_names(&subject).await?.into_iter().next()) })
        .buffered(AT_A_TIME)
        .try_collect()
        .await
}

async fn read_subject(
    api: &Api,
    stream: &str,
    info: &StreamInfo,
    epoch: u32,
    question: Question,
) -> Result<ReadBack, ApiError> {
    let Question { key, subject, above } = question;
    let upto = info.state.last_seq;
    let birth = Birth { name: stream.to_owned(), created: info.created.clone() };
    let mut back = ReadBack { key, stream: Some(birth), upto, found: SeqSet::new() };
    let held = info.state.subjects.as_ref().and_then(|subjects| subjects.get(&subject)).copied().unwrap_or(0);
    // A floor above all there is belongs to an earlier stream of that name.
    let above = above.map(|above| if above > upto { 0 } else { above });
    match above {
        None => return Ok(back),
        Some(above) if held == 0 || above == upto => return Ok(back),
        Some(0) => {
            let last = read(api, stream, &subject, epoch, Start::Last).await?;
            if last.is_empty() {
                return Ok(back);
            }
            back.found = read(api, stream, &subject, epoch, Start::At(info.state.first_seq.max(1))).await?;
        }
        Some(above) => back.found = read(api, stream, &subject, epoch, Start::At(above + 1)).await?,
    }
    Ok(back)
}

/// The sequences of our epoch among the subject's messages from `start` on.
async fn read(api: &Api, stream: &str, subject: &str, epoch: u32, start: Start) -> Result<SeqSet, ApiError> {
    let inbox = api.client().new_inbox();
    let name = inbox.rsplit('.').next().expect("a split has a last part").to_owned();
    let mut found = SeqSet::new();
    let mut pending = make_consumer(api, stream, subject, &name, start).await?;
    if pending == 0 {
        return Ok(found);
    }
    let mut messages = api.client().subscribe(inbox.clone()).await.map_err(|_| ApiError::Disconnected)?;
    while pending > 0 {
        let pull = Pull { batch: pending.min(PAGE), no_wait: true };
        let body = serde_json::to_vec(&pull).expect("a struct of plain numbers");
        let next = api.subject(&format!("CONSUMER.MSG.NEXT.{stream}.{name}"));
        api.client()
            .publish_with_reply(next, inbox.clone(), body.into())
            .await
            .map_err(|_| ApiError::Disconnected)?;
        pending = read_page(&mut messages, epoch, pull.batch, &mut found).await?;
    }
    Ok(found)
}

async fn make_consumer(
    api: &Api,
    stream: &str,
    subject: &str,
    name: &str,
    start: Start,
) -> Result<u64, ApiError> {
    let (deliver_policy, opt_start_seq) = match start {
        Start::At(seq) => ("by_start_sequence", Some(seq)),
        Start::Last => ("last", None),
    };
    let config = ConsumerConfig {
        name,
        deliver_policy,
        opt_start_seq,
        ack_policy: "none",
        replay_policy: "instant",
        filter_subject: subject,
        headers_only: true,
        mem_storage: true,
        num_replicas: 1,
        inactive_threshold: CONSUMER_LIFE.as_nanos() as u64,
    };
    let request = ConsumerRequest { stream_name: stream, config };
    let made: ConsumerMade = api.ask(&format!("CONSUMER.CREATE.{stream}.{name}.{subject}"), &request).await?;
    Ok(made.num_pending)
}

/// Reads up to `batch` messages; returns how many are left after them.
async fn read_page(
    messages: &mut Subscriber,
    epoch: u32,
    batch: u64,
    found: &mut SeqSet,
) -> Result<u64, ApiError> {
    let mut pending = 0;
    for _ in 0..batch {
        let message = match timeout(ANSWER_TIMEOUT, messages.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => return Err(ApiError::Disconnected),
            Err(_) => return Err(ApiError::Silent),
        };
        if let Some(status) = message.status {
            return match status.as_u16() {
                404 | 408 => Ok(0),
                503 => Err(ApiError::NoResponders),
                _ => Err(ApiError::Garbled("a consumer that was taken away")),
            };
        }
        pending = pending_after(&message)?;
        if let Some(Ok((its_epoch, seq))) = message.headers.as_ref().map(read_position)
            && its_epoch == epoch
        {
            found.insert(seq);
        }
    }
    Ok(pending)
}

/// How many messages the consumer has after this one; its reply subject says so.
fn pending_after(message: &Message) -> Result<u64, ApiError> {
    message
        .reply
        .as_ref()
        .and_then(|reply| read_pending(reply))
        .ok_or(ApiError::Garbled("a consumer's message without its position"))
}

/// `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`, or with `<domain>.<account>.`
/// before the stream and whatever later versions put behind.
fn read_pending(reply: &str) -> Option<u64> {
    let parts: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let place = match parts.len() {
        7 => 6,
        9.. => 8,
        _ => return None,
    };
    parts[place].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Goal: both forms of the reply subject are understood. Method: one as nats-server 2.15 sends it, one as ADR-15 says.
    #[test]
    fn the_position_of_a_message_is_read() {
        assert_eq!(read_pending("$JS.ACK.FROND.rb2.1.17.2.1795339646164666903.41"), Some(41));
        assert_eq!(read_pending("$JS.ACK.hub.szMp.FROND.rb2.1.17.2.1795339646164666903.41"), Some(41));
        assert_eq!(read_pending("$JS.ACK.hub.szMp.FROND.rb2.1.17.2.1795339646164666903.41.x.y"), Some(41));
        assert_eq!(read_pending("$JS.ACK.FROND.rb2.1"), None);
        assert_eq!(read_pending("_INBOX.x"), None);
    }
}
