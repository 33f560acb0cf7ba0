//! One binary of tests against real peers on loopback.

mod ingest;
mod peers;
