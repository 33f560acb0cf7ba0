//! `wasmcloud:messaging/consumer` and `wasi:keyvalue`, as a component sees them: where its links lead, and what they allow.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::PublishProperties;
use wasmtime::component::Resource;

use super::account::count;
use super::bindings::wasi::keyvalue::store::{Error, KeyResponse};
use super::bindings::wasi::keyvalue::{atomics, batch, store};
use super::bindings::wasmcloud::messaging::types::BrokerMessage;
use super::bindings::wasmcloud::messaging::{consumer, types};
use super::grants::subject_matches;
use super::inbox::Way;
use super::keyvalue::{Answer, Ask, Bucket, KeepError};
use super::postbox::BODY_BYTES_MAX;
use super::room::Room;
use crate::config::{LinkEnd, Target};
use crate::ingest::topic;

/// Longest a component waits for an answer, whatever it asks; its deadline ends the call anyway.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

const STORE: &str = "wasi:keyvalue/store";
const ATOMICS: &str = "wasi:keyvalue/atomics";
const BATCH: &str = "wasi:keyvalue/batch";

impl types::Host for Room {}

impl consumer::Host for Room {
    async fn request(
        &mut self,
        subject: String,
        body: Vec<u8>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<BrokerMessage, String>> {
        let patience = Duration::from_millis(timeout_ms.into()).min(PATIENCE_MAX);
        let answer = match self.allowed(&body) {
            Err(refusal) => Err(refusal),
            Ok(()) => self.ask(subject, body, patience).await,
        };
        count(if answer.is_ok() { &self.tools.account.requests } else { &self.tools.account.refused });
        Ok(answer)
    }

    async fn publish(&mut self, message: BrokerMessage) -> wasmtime::Result<Result<(), String>> {
        let sent = match self.allowed(&message.body) {
            Err(refusal) => Err(refusal),
            Ok(()) => self.send(message).await,
        };
        count(if sent.is_ok() { &self.tools.account.published } else { &self.tools.account.refused });
        Ok(sent)
    }
}

// === impl Room ===

impl Room {
    fn allowed(&self, body: &[u8]) -> Result<(), String> {
        if body.len() > BODY_BYTES_MAX {
            return Err(format!("a message has at most {BODY_BYTES_MAX} bytes"));
        }
        match self.tools.may_send() {
            true => Ok(()),
            false => Err("more messages a second than messages_out_per_second".to_owned()),
        }
    }

    async fn send(&mut self, message: BrokerMessage) -> Result<(), String> {
        let BrokerMessage { subject, body, reply_to } = message;
        // An answer goes back the way the question came, whichever link is chosen.
        let back = self.back.as_ref().filter(|back| back.subject == subject).map(|back| back.way.clone());
        if let Some(way) = &back {
            self.may_answer(way, &subject)?;
        }
        match (back, self.target()) {
            (Some(Way::Nats), _) => self.tools.lattice.publish(subject, reply_to, body).await,
            (Some(Way::Mqtt { correlation }), _) => {
                let properties = PublishProperties {
                    response_topic: reply_to,
                    correlation_data: correlation,
                    ..Default::default()
                };
                self.tools.postbox.publish(&subject, 1, false, body, properties)
            }
            (None | Some(Way::Timer), None) => Err("there is no link of this name to publish by".to_owned()),
            (None | Some(Way::Timer), Some(Target::Nats { subjects })) => {
                allowed_subject(subjects, &subject)?;
                self.tools.lattice.publish(subject, reply_to, body).await
            }
            (None | Some(Way::Timer), Some(Target::Mqtt { topics, qos, retain, map })) => {
                let topic = map.get(&subject).cloned().unwrap_or(subject);
                allowed_topic(topics, &topic)?;
                let properties = PublishProperties { response_topic: reply_to, ..Default::default() };
                self.tools.postbox.publish(&topic, *qos, *retain, body, properties)
            }
        }
    }

    /// Whether an answer may go where the question wants it. Whoever asked chose that place: without a look at the links
    /// he could have a component publish where he may not himself. Inboxes of NATS are for nothing but answers.
    fn may_answer(&self, way: &Way, place: &str) -> Result<(), String> {
        let is_allowed = self.tools.links.iter().any(|link| match (way, &link.end) {
            (Way::Nats, LinkEnd::Target(Target::Nats { subjects })) => {
                allowed_subject(subjects, place).is_ok()
            }
            (Way::Mqtt { .. }, LinkEnd::Target(Target::Mqtt { topics, .. })) => {
                allowed_topic(topics, place).is_ok()
            }
            _ => false,
        });
        match is_allowed || *way == Way::Nats && place.starts_with("_INBOX.") {
            true => Ok(()),
            false => Err(format!("no link allows an answer to {place:?}")),
        }
    }

    async fn ask(
        &mut self,
        subject: String,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<BrokerMessage, String> {
        let answer = match self.target() {
            None => return Err("there is no link of this name to ask by".to_owned()),
            Some(Target::Nats { subjects }) => {
                allowed_subject(subjects, &subject)?;
                self.tools.lattice.request(subject, body, patience).await?
            }
            Some(Target::Mqtt { topics, qos, map, .. }) => {
                let topic = map.get(&subject).cloned().unwrap_or(subject);
                allowed_topic(topics, &topic)?;
                self.tools.postbox.request(&topic, *qos, body, patience).await?
            }
        };
        Ok(BrokerMessage { subject: answer.subject, body: answer.body.to_vec(), reply_to: answer.reply_to })
    }

    async fn keep(
        &mut self,
        interface: &str,
        bucket: &Resource<Bucket>,
        ask: Ask,
    ) -> wasmtime::Result<Result<Answer, Error>> {
        let writes = matches!(ask, Ask::Set { .. } | Ask::Delete { .. } | Ask::Increment { .. });
        let bucket = self.table.get(bucket)?;
        let Some(place) = self.place(interface, &bucket.name) else { return Ok(Err(Error::AccessDenied)) };
        let answer = self.tools.keeper.ask(place, ask).await;
        match &answer {
            Ok(_) if writes => count(&self.tools.account.writes),
            Err(KeepError::Bytes { .. } | KeepError::Keys { .. }) => count(&self.tools.account.over_quota),
            _ => {}
        }
        Ok(answer.map_err(|error| Error::Other(error.to_string())))
    }

    async fn values(
        &mut self,
        interface: &str,
        bucket: &Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Option<Vec<u8>>>, Error>> {
        let answer = self.keep(interface, bucket, Ask::Get { keys }).await?;
        Ok(answer.map(|answer| match answer {
            Answer::Values(values) => values,
            Answer::Done | Answer::Keys(..) | Answer::Sum(_) => Vec::new(),
        }))
    }
}

impl store::Host for Room {
    async fn open(&mut self, identifier: String) -> wasmtime::Result<Result<Resource<Bucket>, Error>> {
        // As on the lattice, opening touches nothing: which link counts is decided when the bucket is used.
        Ok(Ok(self.table.push(Bucket { name: identifier })?))
    }
}

impl store::HostBucket for Room {
    async fn get(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        let values = self.values(STORE, &bucket, vec![key]).await?;
        Ok(values.map(|mut values| values.pop().flatten()))
    }

    async fn set(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let done = self.keep(STORE, &bucket, Ask::Set { pairs: vec![(key, value)] }).await?;
        Ok(done.map(|_| ()))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.keep(STORE, &bucket, Ask::Delete { keys: vec![key] }).await?.map(|_| ()))
    }

    async fn exists(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<bool, Error>> {
        let values = self.values(STORE, &bucket, vec![key]).await?;
        Ok(values.map(|values| values.first().is_some_and(Option::is_some)))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> wasmtime::Result<Result<KeyResponse, Error>> {
        let answer = self.keep(STORE, &bucket, Ask::List { after: cursor.unwrap_or(0) }).await?;
        Ok(answer.map(|answer| match answer {
            Answer::Keys(keys, cursor) => KeyResponse { keys, cursor },
            Answer::Values(_) | Answer::Done | Answer::Sum(_) => {
                KeyResponse { keys: Vec::new(), cursor: None }
            }
        }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for Room {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: u64,
    ) -> wasmtime::Result<Result<u64, Error>> {
        let answer = self.keep(ATOMICS, &bucket, Ask::Increment { key, delta }).await?;
        Ok(answer.and_then(|answer| match answer {
            Answer::Sum(sum) => Ok(sum),
            Answer::Values(_) | Answer::Done | Answer::Keys(..) => Err(Error::NoSuchStore),
        }))
    }
}

impl batch::Host for Room {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Option<(String, Vec<u8>)>>, Error>> {
        let values = self.values(BATCH, &bucket, keys.clone()).await?;
        let paired = |values: Vec<Option<Vec<u8>>>| {
            keys.into_iter().zip(values).map(|(key, value)| value.map(|value| (key, value))).collect()
        };
        Ok(values.map(paired))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        pairs: Vec<(String, Vec<u8>)>,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.keep(BATCH, &bucket, Ask::Set { pairs }).await?.map(|_| ()))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.keep(BATCH, &bucket, Ask::Delete { keys }).await?.map(|_| ()))
    }
}

fn allowed_subject(subjects: &[String], subject: &str) -> Result<(), String> {
    match subjects.iter().any(|pattern| subject_matches(pattern, subject)) {
        true => Ok(()),
        false => Err(format!("the link does not allow the subject {subject:?}")),
    }
}

fn allowed_topic(topics: &[String], name: &str) -> Result<(), String> {
    let is_topic = topic::validate_topic(name).is_ok();
    match is_topic && topics.iter().any(|filter| topic::matches(filter, name)) {
        true => Ok(()),
        false => Err(format!("the link does not allow the topic {name:?}")),
    }
}
