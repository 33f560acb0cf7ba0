//! The command line.

pub mod hub;
pub mod recall;
pub mod receipts;
pub mod rows;
pub mod server;
pub mod tail;
