//! One request, from its subject and payload to its answer: what is asked is read from the snapshot, what is to change is
//! handed to control.

use std::collections::BTreeMap;

use super::envelope::{failure, response, success};
use super::host::{REQUEST_BYTES_MAX, Settings};
use super::inventory::{ComponentLine, Inventory, Ping, ProviderLine, uptime_human};
use super::request::{self, Auction};
use super::subject::{Address, Auctions, Operation};
use crate::artifact::claims::Claims;
use crate::control::{Builtin, Command, ControlHandle, Link, Origin, Pairs, Shown};
use crate::lattice::shared::{ReadError, Reader};
use crate::platform::clock;
use crate::sample::{Nanos, SECOND};

/// What it takes to answer.
#[derive(Debug)]
pub(super) struct Desk {
    pub settings: Settings,
    /// Public key of the host.
    pub id: String,
    pub control: ControlHandle,
    /// On the boot's clock.
    pub started: Nanos,
    /// Answers questions about the whole lattice, if it is shared.
    pub reader: Option<Reader>,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is answered with this.
    Reply(Vec<u8>),
    /// It is not answered: an auction without a bid.
    Silence,
    /// As a reply; and the host is to stop.
    Stop(Vec<u8>),
}

// === impl Desk ===

impl Desk {
    pub fn address(&self) -> Address<'_> {
        let Settings { prefix, lattice, .. } = &self.settings;
        Address { prefix, lattice, host: &self.id }
    }

    /// Answers.
    ///
    /// Cancel-safe in so far as a command that was handed over is obeyed all the same.
    pub async fn answer(&self, subject: &str, payload: &[u8]) -> Answer {
        let Some(operation) = self.address().operation(subject) else {
            return Answer::Reply(failure("unsupported subject"));
        };
        if payload.len() > REQUEST_BYTES_MAX {
            let sentence = format!("a request has {REQUEST_BYTES_MAX} bytes at most");
            return Answer::Reply(failure(&sentence));
        }
        if let Some(reader) = &self.reader
            && let Some(answer) = read(reader, &operation).await
        {
            return Answer::Reply(answer);
        }
        let shown = self.control.shown.borrow().clone();
        let command = match operation {
            Operation::HostPing => return Answer::Reply(response(self.ping(&shown))),
            Operation::HostGet => return Answer::Reply(response(self.inventory(&shown))),
            Operation::HostStop => {
                return match request::stop_host(payload, &self.id) {
                    Ok(()) => Answer::Stop(success("successfully handled stop host")),
                    Err(sentence) => Answer::Reply(failure(&sentence)),
                };
            }
            Operation::ComponentAuction => return self.bid_for_component(&shown, payload),
            Operation::ProviderAuction => return self.bid_for_provider(&shown, payload),
            Operation::LinkGet => {
                let links: Vec<&Link> = shown.desired.links.values().map(|item| &item.spec).collect();
                return Answer::Reply(response(links));
            }
            Operation::ConfigGet { name } => {
                return Answer::Reply(match shown.desired.configs.get(name) {
                    Some(item) => response(&item.spec),
                    None => success("Configuration not found"),
                });
            }
            Operation::ClaimsGet => return Answer::Reply(response(claims(&shown))),
            Operation::RegistryPut => {
                let told = request::put_registries(payload);
                let told = told.and_then(|told| {
                    self.control.tell_credentials(told).map_err(|refusal| refusal.to_string())
                });
                return Answer::Reply(match told {
                    Ok(()) => success("successfully put registries"),
                    Err(sentence) => failure(&sentence),
                });
            }
            Operation::ComponentScale => request::scale(payload),
            Operation::ComponentUpdate => request::update(payload),
            Operation::ProviderStart => request::start_provider(payload),
            Operation::ProviderStop => request::stop_provider(payload),
            Operation::LabelPut => request::put_label(payload),
            Operation::LabelDel => request::delete_label(payload),
            Operation::LinkPut => request::put_link(payload),
            Operation::LinkDel => request::delete_link(payload),
            Operation::ConfigPut { name } => request::put_config(name, payload),
            Operation::ConfigDel { name } => Ok(Command::DeleteConfig { name: name.to_owned() }),
        };
        Answer::Reply(match command {
            Err(sentence) => failure(&sentence),
            Ok(command) => match self.control.command(command, Origin::Lattice).await {
                Ok(message) => success(&message),
                Err(refusal) => failure(&refusal.to_string()),
            },
        })
    }

    /// What runs here.
    pub fn inventory(&self, shown: &Shown) -> Inventory<'_> {
        let here = shown.components().into_iter().filter(|component| component.is_here);
        let providers = shown.desired.providers.iter();
        let uptime = self.uptime();
        Inventory {
            components: here.map(ComponentLine::of).collect(),
            providers: providers.map(|(id, item)| ProviderLine::of(id, &item.spec)).collect(),
            host_id: &self.id,
            friendly_name: &self.settings.friendly_name,
            labels: shown.labels(),
            version: self.settings.version,
            uptime_human: uptime_human(uptime),
            uptime_seconds: uptime,
        }
    }

    fn ping(&self, shown: &Shown) -> Ping<'_> {
        let Settings { friendly_name, lattice, version, url, js_domain, .. } = &self.settings;
        let uptime = self.uptime();
        Ping {
            rpc_host: url.as_deref(),
            ctl_host: url.as_deref(),
            friendly_name,
            id: &self.id,
            js_domain: js_domain.as_deref(),
            labels: shown.labels(),
            lattice,
            uptime_human: uptime_human(uptime),
            uptime_seconds: uptime,
            version,
        }
    }

    fn bid_for_component(&self, shown: &Shown, payload: &[u8]) -> Answer {
        let auction = match request::component_auction(payload) {
            Ok(auction) => auction,
            Err(sentence) => return Answer::Reply(failure(&sentence)),
        };
        // Clients of version 3.0.1 send the reference where the identifier belongs; neither may be here.
        let is_here = |name: &String| {
            shown.desired.components.contains_key(name) || shown.file.components.contains_key(name)
        };
        if self.settings.auctions == Auctions::Off
            || !suits(&shown.labels(), &auction.constraints)
            || is_here(&auction.id)
        {
            return Answer::Silence;
        }
        let Auction { reference, id, constraints } = auction;
        Answer::Reply(response(serde_json::json!({
            "component_ref": reference, "component_id": id, "host_id": self.id, "constraints": constraints,
        })))
    }

    fn bid_for_provider(&self, shown: &Shown, payload: &[u8]) -> Answer {
        let auction = match request::provider_auction(payload) {
            Ok(auction) => auction,
            Err(sentence) => return Answer::Reply(failure(&sentence)),
        };
        // No bid for what would be refused: another host of the lattice may have it.
        if self.settings.auctions == Auctions::Off
            || !suits(&shown.labels(), &auction.constraints)
            || shown.desired.providers.contains_key(&auction.id)
            || Builtin::of(&auction.reference).is_err()
        {
            return Answer::Silence;
        }
        let Auction { reference, id, constraints } = auction;
        Answer::Reply(response(serde_json::json!({
            "host_id": self.id, "provider_ref": reference, "provider_id": id, "constraints": constraints,
        })))
    }

    fn uptime(&self) -> u64 {
        u64::try_from((clock::boottime() - self.started) / SECOND).unwrap_or(0)
    }
}

/// What embedded claims say of the components that run; each of them once.
fn claims(shown: &Shown) -> Vec<Pairs> {
    let running = shown.running.values().filter_map(|running| running.artifact.claims.as_ref());
    let by_subject: BTreeMap<&str, &Claims> =
        running.map(|claims| (claims.subject.as_str(), claims)).collect();
    by_subject.into_values().map(claims_map).collect()
}

/// Under the names of wasmCloud's hosts, some of them twice.
fn claims_map(claims: &Claims) -> Pairs {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let revision = claims.revision.unwrap_or_default().to_string();
    let pairs = [
        ("call_alias", text(&claims.call_alias)),
        ("iss", claims.issuer.clone()),
        ("issuer", claims.issuer.clone()),
        ("name", text(&claims.name)),
        ("rev", revision.clone()),
        ("revision", revision),
        ("sub", claims.subject.clone()),
        ("subject", claims.subject.clone()),
        ("tags", claims.tags.join(",")),
        ("version", text(&claims.version)),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The answer to a question about the whole of a shared lattice; nothing if it is no such question.
async fn read(reader: &Reader, operation: &Operation<'_>) -> Option<Vec<u8>> {
    let failed = |error: ReadError| failure(&error.to_string());
    Some(match operation {
        Operation::LinkGet => reader.links().await.map_or_else(failed, response),
        Operation::ClaimsGet => reader.claims().await.map_or_else(failed, response),
        Operation::ConfigGet { name } => match reader.config(name).await {
            Ok(Some(values)) => response(values),
            Ok(None) => success("Configuration not found"),
            Err(error) => failed(error),
        },
        _ => return None,
    })
}

/// Whether the labels are as an auction wants them.
fn suits(labels: &Pairs, constraints: &Pairs) -> bool {
    constraints.iter().all(|(key, value)| labels.get(key) == Some(value))
}
