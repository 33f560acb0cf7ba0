//! Integration tests against real brokers and servers, in one binary so that it is linked once.

mod gateway;
mod link;
mod nats;
mod store;
mod uplink;
