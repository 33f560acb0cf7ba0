//! uplink
pub mod answer;
pub mod feed;
pub mod flight;
pub mod floors;
pub mod lanes;
pub mod message;
pub mod mode;
pub mod seqset;
pub mod window;
