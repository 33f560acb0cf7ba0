//! What the pipeline is made from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config;
use crate::platform::clock::WallClock;
use crate::runtime::command::CommandSender;
use crate::runtime::neighbour::Neighbourhood;
use crate::sample::{BootId, SeriesId, StreamId};
use crate::store;

/// It; the application's wiring fills it in.
#[derive(Debug)]
pub struct Setup {
    /// Streams with their numbers.
    pub streams: Vec<(StreamId, config::Stream)>,
    /// Components.
    pub components: Vec<config::Component>,
    /// The journal's settings.
    pub journal: config::Journal,
    /// State of the last checkpoint.
    pub state: Vec<u8>,
    /// Known series.
    pub series: Vec<(SeriesId, store::Known)>,
    /// Names of all streams, those no longer configured among them.
    pub stream_names: BTreeMap<StreamId, String>,
    /// Known boots.
    pub boots: BTreeMap<BootId, String>,
    /// For series that components register.
    pub store: store::Handle,
    /// The program that compiles components: frond itself.
    pub compiler: PathBuf,
    /// Where compiled components are cached.
    pub cache_dir: PathBuf,
    /// Below it are the components that were deployed.
    pub data_dir: PathBuf,
    /// Where commands of components go.
    pub commands: CommandSender,
    /// The gateway's clock, for what components do of their own accord.
    pub clock: WallClock,
    /// Components that are called elsewhere, if there are any.
    pub around: Option<Neighbourhood>,
    /// Position of the last checkpoint: the groups after it come first.
    pub position: u64,
    /// Position of the last of these; those beyond it are new.
    pub replay: u64,
}
