//! Configurations that something names and that are not there: told again and again, as deleted. Pure.
//!
//! wadm takes away what an application was before after it has put what it is to become. A configuration that both have by the
//! same name is then gone (wasmCloud#4704), and wadm takes no notice of that while it waits for a component. It gives the
//! configuration back when it hears of it later; a gateway that told it once only would begin without it after the next cut.

use super::event::Notice;
use crate::control::{Desired, Event, Pairs};

/// Told at a time; the others once these are there. With providers and a heartbeat they fit into what may wait to be sent.
const TOLD_MAX: usize = 16;

/// What is to be told.
pub(super) fn notices(desired: &Desired) -> Vec<Notice> {
    let gone = desired.missing_configs().into_iter().take(TOLD_MAX);
    let event = |name: &str| Event::ConfigDeleted { name: name.to_owned() };
    gone.map(|name| Notice::of(&event(name), "", &Pairs::new())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Change, Component, Key, Link, Origin, Provider, Spec};

    #[test]
    fn every_name_that_leads_nowhere_is_told_once() {
        // Goal: components, providers and both ends of links count; what is there does not, nor a name twice. Method: one of
        // each, with a configuration that is there; then more than are told at a time.
        let mut desired = Desired::default();
        let mut put = |key: Key, spec: Spec| desired.make(&Change::Put(key, spec), 1, Origin::Lattice);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let component = Component { config: names(&["here", "a", "b"]), ..Component::default() };
        put(Key::Component("c".into()), Spec::Component(component));
        let provider = Provider { config: names(&["b", "c"]), ..Provider::default() };
        put(Key::Provider("p".into()), Spec::Provider(provider));
        let link =
            Link { source_config: names(&["d"]), target_config: names(&["e", "here"]), ..Link::default() };
        put(Key::Link(link.key()), Spec::Link(link));
        put(Key::Config("here".into()), Spec::Config(Pairs::new()));
        let told = |desired: &Desired| -> Vec<String> {
            notices(desired).iter().map(|notice| format!("{} {}", notice.kind, notice.data)).collect()
        };
        let expected =
            ["a", "b", "c", "d", "e"].map(|name| format!(r#"config_deleted {{"config_name":"{name}"}}"#));
        assert_eq!(told(&desired), expected);
        let many: Vec<String> = (0..40).map(|n| format!("m{n}")).collect();
        let component = Component { config: many, ..Component::default() };
        desired.make(
            &Change::Put(Key::Component("d".into()), Spec::Component(component)),
            2,
            Origin::Lattice,
        );
        assert_eq!(told(&desired).len(), TOLD_MAX);
    }
}
