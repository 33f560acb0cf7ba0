//! Integration tests against real brokers and servers, in one binary so that it is linked once.

mod gateway;
mod hub;
mod link;
mod nats;
mod recall;
mod store;
mod uplink;
