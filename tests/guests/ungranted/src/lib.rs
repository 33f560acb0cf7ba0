//! Asks for an import that no gateway grants.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package test:ungranted;
            interface door { open: func(); }
            world ungranted {
                include frond:telemetry/stateless@0.1.1;
                import door;
            }
        ",
        path: "../../../wit/frond-telemetry.wit",
        world: "test:ungranted/ungranted",
        generate_all,
    });
    use super::Component;
    export!(Component);
}

use bindings::exports::frond::telemetry::processor::{Batch, Guest, Output, Series};
use bindings::frond::telemetry::types::Readings;

struct Component;

impl Guest for Component {
    fn configure(_options: Vec<(String, String)>) -> Result<(), String> {
        Ok(())
    }

    fn announce(_series: Vec<Series>) {}

    fn process(_readings: Batch) -> Output {
        bindings::test::ungranted::door::open();
        Output { readings: Readings::Unchanged, alarms: Vec::new() }
    }
}
