//! The component's exports: one [`Windows`], since the gateway makes one instance and calls it from one thread.

use std::cell::RefCell;

use crate::settings::Settings;
use crate::snapshot;
use crate::windows::{Announced, Reading, Taken, Windows};

use self::bindings::exports::frond::telemetry::processor::{Batch, Output, Series};
use self::bindings::exports::frond::telemetry::{processor, state};
use self::bindings::frond::telemetry::log::{self, Level};
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

thread_local! {
    static WINDOWS: RefCell<Option<Windows>> = const { RefCell::new(None) };
}

fn with<T>(work: impl FnOnce(&mut Windows) -> T) -> T {
    WINDOWS.with_borrow_mut(|windows| {
        work(windows.as_mut().expect("the gateway configures before anything else"))
    })
}

// === impl Component ===

impl processor::Guest for Component {
    fn configure(options: Vec<(String, String)>) -> Result<(), String> {
        WINDOWS.set(Some(Windows::new(Settings::parse(&options)?)));
        Ok(())
    }

    fn announce(series: Vec<Series>) {
        let announced = with(|windows| {
            series
                .iter()
                .filter(|series| windows.announce(series.id, &series.name) == Announced::OneTooMany)
                .count()
        });
        if announced > 0 {
            log::write(
                Level::Warn,
                &format!("{announced} series pass as they come: a snapshot holds no more"),
            );
        }
    }

    fn process(batch: Batch) -> Output {
        let mut out =
            Batch { series: vec![], times: vec![], values: vec![], integer_rows: vec![], integers: vec![] };
        let mut whole = batch.integer_rows.iter().zip(&batch.integers).peekable();
        let mut untouched = true;
        with(|windows| {
            for row in 0..batch.series.len() {
                let integer = whole.next_if(|(at, _)| **at as usize == row).map(|(_, integer)| *integer);
                let reading = Reading { time: batch.times[row], value: batch.values[row], integer };
                let id = batch.series[row];
                let taken = windows.take(id, reading);
                untouched &= taken == Taken::Passes;
                match taken {
                    Taken::Passes => push(&mut out, id, reading),
                    Taken::Held => {}
                    Taken::Closed(window) => {
                        window.readings().into_iter().for_each(|reading| push(&mut out, id, reading));
                    }
                }
            }
        });
        let readings = if untouched { Readings::Unchanged } else { Readings::Replaced(out) };
        Output { readings, alarms: Vec::new() }
    }
}

impl state::Guest for Component {
    fn snapshot() -> Vec<u8> {
        with(|windows| snapshot::encode(&windows.state()))
    }

    fn restore(bytes: Vec<u8>) -> Result<(), String> {
        let state = snapshot::decode(&bytes)?;
        with(|windows| windows.restore(state));
        Ok(())
    }
}

fn push(out: &mut Batch, id: u32, Reading { time, value, integer }: Reading) {
    if let Some(integer) = integer {
        out.integer_rows.push(out.series.len() as u32);
        out.integers.push(integer);
    }
    out.series.push(id);
    out.times.push(time);
    out.values.push(value);
}
