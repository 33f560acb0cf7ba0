//! The component's exports: one [`Blocks`], since the gateway makes one instance and calls it from one thread.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::blocks::{Announced, Blocks, Row};
use crate::features::Features;
use crate::settings::Settings;
use crate::snapshot;

use self::bindings::exports::frond::telemetry::processor::{Batch, Output, Series};
use self::bindings::exports::frond::telemetry::{processor, state};
use self::bindings::frond::telemetry::log::{self, Level};
use self::bindings::frond::telemetry::registry;
use self::bindings::frond::telemetry::types::Readings;

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/frond-telemetry.wit",
        world: "stateful",
    });
    use super::Component;
    export!(Component);
}

struct Component;

/// The instance.
struct Instance {
    blocks: Blocks,
    /// Numbers of the features' series; `None` when the gateway gives none.
    registered: BTreeMap<String, Option<u32>>,
    said_too_many: bool,
}

thread_local! {
    static INSTANCE: RefCell<Option<Instance>> = const { RefCell::new(None) };
}

fn with<T>(work: impl FnOnce(&mut Instance) -> T) -> T {
    INSTANCE.with_borrow_mut(|instance| {
        work(instance.as_mut().expect("the gateway configures before anything else"))
    })
}

// === impl Component ===

impl processor::Guest for Component {
    fn configure(options: Vec<(String, String)>) -> Result<(), String> {
        let blocks = Blocks::new(Settings::parse(&options)?);
        INSTANCE.set(Some(Instance { blocks, registered: BTreeMap::new(), said_too_many: false }));
        Ok(())
    }

    fn announce(series: Vec<Series>) {
        with(|instance| {
            for Series { id, name, unit, .. } in series {
                let announced = instance.blocks.announce(id, name, unit);
                if announced == Announced::OneTooMany && !std::mem::replace(&mut instance.said_too_many, true)
                {
                    let line = "more series than a snapshot can hold blocks of: the others pass as they came; use a smaller block";
                    log::write(Level::Warn, line);
                }
            }
        });
    }

    fn process(readings: Batch) -> Output {
        let readings = with(|instance| instance.process(readings));
        Output { readings, alarms: Vec::new() }
    }
}

impl state::Guest for Component {
    fn snapshot() -> Vec<u8> {
        with(|instance| snapshot::encode(&instance.blocks.state()))
    }

    fn restore(bytes: Vec<u8>) -> Result<(), String> {
        let state = snapshot::decode(&bytes)?;
        with(|instance| instance.blocks.restore(state));
        Ok(())
    }
}

// === impl Instance ===

impl Instance {
    fn process(&mut self, batch: Batch) -> Readings {
        let mut out =
            Batch { series: vec![], times: vec![], values: vec![], integer_rows: vec![], integers: vec![] };
        let mut whole = batch.integer_rows.iter().zip(&batch.integers).peekable();
        let mut untouched = true;
        for row in 0..batch.series.len() {
            let (id, time, value) = (batch.series[row], batch.times[row], batch.values[row]);
            let integer = whole.next_if(|(at, _)| **at as usize == row).map(|(_, integer)| *integer);
            match self.blocks.take(id, time, value) {
                Row::Foreign => {
                    if let Some(integer) = integer {
                        out.integer_rows.push(out.series.len() as u32);
                        out.integers.push(integer);
                    }
                    push(&mut out, id, time, value);
                }
                Row::Gathered => untouched = false,
                Row::Full { name, unit, features } => {
                    untouched = false;
                    let (name, unit) = (name.to_owned(), unit.to_owned());
                    for (feature, unit, value) in self.named(&unit, features) {
                        if let Some(id) = self.number(format!("{name}/{feature}"), unit) {
                            push(&mut out, id, time, value);
                        }
                    }
                }
            }
        }
        if untouched { Readings::Unchanged } else { Readings::Replaced(out) }
    }

    /// Name, unit and value of each feature.
    fn named<'a>(&self, unit: &'a str, features: Features) -> Vec<(String, &'a str, f64)> {
        let Features { rms, peak, crest, kurtosis, bands } = features;
        let plain =
            [("rms", unit, rms), ("peak", unit, peak), ("crest", "", crest), ("kurtosis", "", kurtosis)];
        let mut named: Vec<_> = plain.map(|(name, unit, value)| (name.to_owned(), unit, value)).into();
        let bands = self.blocks.settings().bands.iter().zip(bands);
        named.extend(bands.filter_map(|(band, rms)| Some((format!("band.{}", band.name), unit, rms?))));
        named
    }

    /// The number of a feature's series. Asked for once; without one the feature is left out, which is said once.
    fn number(&mut self, name: String, unit: &str) -> Option<u32> {
        if let Some(known) = self.registered.get(&name) {
            return *known;
        }
        let number = registry::register(&name, unit);
        if let Err(why) = &number {
            log::write(Level::Warn, &format!("{name} is left out: {why}"));
        }
        *self.registered.entry(name).or_insert(number.ok())
    }
}

fn push(out: &mut Batch, id: u32, time: i64, value: f64) {
    out.series.push(id);
    out.times.push(time);
    out.values.push(value);
}
