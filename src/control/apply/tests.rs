//! Every command, hit and missed; and what holds whatever is asked for.

use proptest::prelude::*;

use super::*;
use crate::control::command::Pairs;
use crate::control::desired::Filed;

fn pairs(list: &[(&str, &str)]) -> Pairs {
    list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn component(reference: &str, limit: u32) -> Component {
    Component { reference: reference.to_owned(), limit, ..Component::default() }
}

fn start(id: &str, reference: &str, limit: u32, replacing: Replacing) -> Command {
    Command::Scale { id: id.to_owned(), component: component(reference, limit), replacing }
}

fn link(source: &str, target: &str, interface: &str) -> Link {
    Link {
        source_id: source.to_owned(),
        target: target.to_owned(),
        name: "default".to_owned(),
        wit_namespace: "wasi".to_owned(),
        wit_package: "keyvalue".to_owned(),
        interfaces: vec![interface.to_owned()],
        ..Link::default()
    }
}

/// A gateway with what the file says, and what was commanded.
struct Bench {
    desired: Desired,
    file: OfTheFile,
}

impl Bench {
    fn new() -> Bench {
        let file = OfTheFile {
            components: [
                ("filed".to_owned(), Filed { path: "/f.wasm".into(), origin: Origin::LocalFile }),
                ("built".to_owned(), Filed { path: "/b.wasm".into(), origin: Origin::Image }),
            ]
            .into(),
            workloads: 1,
            labels: pairs(&[("site", "plant-1")]),
        };
        Bench { desired: Desired::default(), file }
    }

    fn ask(&mut self, command: &Command) -> Decision {
        let decision = apply(&self.desired, &self.file, command);
        self.desired = decision.after(&self.desired, Origin::Lattice);
        decision
    }

    fn says(&mut self, command: &Command) -> String {
        let decision = self.ask(command);
        decision.answer.unwrap_or_else(|refusal| format!("refused: {refusal}"))
    }
}

#[test]
fn a_component_is_started_scaled_updated_and_stopped() {
    // Goal: what is desired, answered and to be told after each command of its life. Method: the commands in their order;
    // annotations and configuration are those of the first, by hand nobody gives any.
    use Replacing::{Allowed, NotAllowed};
    let mut bench = Bench::new();
    let mut first = component("file:///a.wasm", 1);
    first.annotations = pairs(&[("by", "wadm")]);
    first.config = vec!["c".into()];
    let decision =
        bench.ask(&Command::Scale { id: "press".into(), component: first.clone(), replacing: NotAllowed });
    assert_eq!((decision.answer, decision.events), (Ok(String::new()), vec![]));
    let work = decision.work.unwrap();
    assert_eq!(
        (work.limit, work.reference.as_str(), &work.annotations),
        (1, "file:///a.wasm", &first.annotations)
    );
    assert_eq!(bench.desired.components["press"].revision, 1);

    assert_eq!(bench.says(&start("press", "file:///a.wasm", 5, NotAllowed)), "");
    let kept = &bench.desired.components["press"];
    assert_eq!((kept.spec.limit, &kept.spec.annotations, kept.revision), (5, &first.annotations, 2));
    assert_eq!(kept.spec.config, first.config);
    assert_eq!(
        bench.says(&start("press", "file:///b.wasm", 5, NotAllowed)),
        "Requested to scale existing component to a different image reference: file:///a.wasm != file:///b.wasm. The \
         component will be scaled but the image reference will not be updated. If you meant to update this component to a \
         new image ref, use the update command."
    );
    assert_eq!(bench.desired.components["press"].spec.reference, "file:///a.wasm");
    assert_eq!(bench.desired.revision, 2, "it was so already");
    assert_eq!(
        bench.says(&start("press", "file:///b.wasm", 5, Allowed)),
        "Requested to scale existing component, with a changed image reference: file:///a.wasm != file:///b.wasm. The \
         component will be scaled, and the image reference will be updated afterwards."
    );
    assert_eq!(bench.desired.components["press"].spec.reference, "file:///b.wasm");

    let update = |id: &str, reference: &str| Command::Update {
        id: id.into(),
        reference: reference.into(),
        annotations: None,
    };
    assert_eq!(
        bench.says(&update("press", "file:///b.wasm")),
        "component press already updated to file:///b.wasm"
    );
    assert_eq!(
        bench.says(&update("press", "file:///c.wasm")),
        "component press updating from file:///b.wasm to file:///c.wasm"
    );
    assert_eq!(bench.says(&update("other", "file:///c.wasm")), "refused: component other not found");
    assert!(bench.says(&start("press", "", 1, NotAllowed)).starts_with("refused: a reference has"));
    let decision = bench.ask(&start("press", "", 0, NotAllowed));
    let work = decision.work.unwrap();
    assert_eq!(
        (work.limit, work.reference.as_str(), &work.annotations),
        (0, "file:///c.wasm", &first.annotations)
    );
    assert!(bench.desired.components.is_empty());
    let decision = bench.ask(&start("press", "file:///c.wasm", 0, NotAllowed));
    assert_eq!((decision.changes, decision.work.unwrap().limit), (vec![], 0), "told again, changed nothing");
}

#[test]
fn a_component_belongs_to_the_scaler_that_asked_last() {
    // Goal: wadm's update of an image is one, in either order of its two commands, and whoever has no scaler is obeyed as
    // ever. Method: a new scaler asks and the old one stops; the other way round; a stop by hand.
    let by = |scaler: &str, reference: &str, limit: u32| {
        let mut component = component(reference, limit);
        component.annotations =
            pairs(&[("wasmcloud.dev/managed-by", "wadm"), ("wasmcloud.dev/scaler", scaler)]);
        Command::Scale { id: "press".into(), component, replacing: Replacing::NotAllowed }
    };
    let mut bench = Bench::new();
    bench.ask(&by("old", "file:///a.wasm", 1));
    let work = bench.ask(&by("new", "file:///b.wasm", 5)).work.unwrap();
    assert_eq!((work.reference.as_str(), work.limit), ("file:///b.wasm", 5));
    let late = bench.ask(&by("old", "file:///a.wasm", 0));
    assert_eq!((&late.answer, &late.changes, &late.work), (&Ok(String::new()), &vec![], &None));
    let [Event::ComponentScaled(told)] = late.events.as_slice() else { panic!("{:?}", late.events) };
    assert_eq!((told.reference.as_str(), told.limit), ("file:///a.wasm", 0));
    assert_eq!(told.annotations["wasmcloud.dev/scaler"], "old");
    let kept = &bench.desired.components["press"].spec;
    assert_eq!((kept.reference.as_str(), kept.limit), ("file:///b.wasm", 5));
    assert_eq!(kept.annotations["wasmcloud.dev/scaler"], "new");

    bench.ask(&by("new", "file:///b.wasm", 0));
    assert!(bench.desired.components.is_empty(), "its own");
    bench.ask(&by("newest", "file:///c.wasm", 2));
    bench.ask(&start("press", "file:///c.wasm", 0, Replacing::NotAllowed));
    assert!(bench.desired.components.is_empty(), "by hand");
}

#[test]
fn providers_are_the_gateways_own() {
    // Goal: built-ins start and stop, binaries are refused and told why. Method: each answer and event.
    let mut bench = Bench::new();
    let start = |id: &str, reference: &str| Command::StartProvider {
        id: id.into(),
        provider: Provider { reference: reference.into(), ..Provider::default() },
    };
    assert_eq!(bench.says(&start("mqtt", "frond+builtin://mqtt")), "successfully started provider");
    assert_eq!(
        bench.says(&start("nats", "wasmcloud+builtin://messaging-nats")),
        "successfully started provider"
    );
    assert_eq!(
        bench.says(&start("mqtt", "frond+builtin://mqtt")),
        "refused: provider with that ID is already running"
    );
    for reference in ["ghcr.io/wasmcloud/http-server:0.26.0", "file:///p.par.gz", "wasmcloud+builtin://mqtt"]
    {
        let decision = bench.ask(&start("p", reference));
        let error = decision.answer.unwrap_err().to_string();
        assert!(error.contains("frond+builtin://keyvalue-sqlite"), "{error}");
        let event = Event::ProviderStartFailed { id: "p".into(), reference: reference.into(), error };
        assert_eq!((decision.events, decision.changes), (vec![event], vec![]));
    }
    // A link says "mqtt" and no more, so it can be one thing only.
    let taken = |id: &str, what: &str| {
        format!(
            "refused: {id:?} is a {what} here already, and links could not tell them apart; take another identifier"
        )
    };
    let component = |id: &str| super::tests::start(id, "file:///a.wasm", 1, Replacing::Allowed);
    assert_eq!(bench.says(&component("mqtt")), taken("mqtt", "provider"));
    bench.says(&component("press"));
    for id in ["press", "filed"] {
        assert_eq!(bench.says(&start(id, "frond+builtin://timer")), taken(id, "component"));
    }
    let stop = Command::StopProvider { id: "mqtt".into() };
    assert_eq!(bench.says(&stop), "successfully stopped provider");
    assert_eq!(bench.says(&stop), "refused: provider with that ID is not running");
}

#[test]
fn links_need_their_configurations_and_one_target() {
    // Goal: the checks, the sentences and the idempotence of wasmCloud's hosts. Method: a link without its configuration,
    // with it, again, to another target with the same and with another interface; deletions.
    let mut bench = Bench::new();
    let mut first = link("press", "kv", "store");
    first.target_config = vec!["small".into(), "SECRET_key".into()];
    let put = |link: &Link| Command::PutLink { link: link.clone() };
    let decision = bench.ask(&put(&first));
    let error = "Failed to validate configuration and secrets. Configuration small not found in config store. Secret \
                 reference SECRET_key not found in config store. ";
    assert_eq!(decision.answer.unwrap_err().to_string(), error);
    assert_eq!(decision.events, [Event::LinkSetFailed { link: first.clone(), error: error.into() }]);
    for name in ["small", "SECRET_key"] {
        let values = pairs(&[("keys_max", "3")]);
        assert_eq!(bench.says(&Command::PutConfig { name: name.into(), values }), "successfully put config");
    }
    assert_eq!(bench.says(&put(&first)), "successfully set link");
    let revision = bench.desired.revision;
    assert_eq!(bench.says(&put(&first)), "successfully set link");
    assert_eq!(bench.desired.revision, revision);
    assert_eq!(
        bench.says(&put(&link("press", "elsewhere", "store"))),
        "refused: link already exists with different target, consider deleting the existing link or using a different link name"
    );
    assert_eq!(bench.says(&put(&link("press", "elsewhere", "atomics"))), "successfully set link");
    let delete = |source: &str| Command::DeleteLink {
        source_id: source.into(),
        name: "default".into(),
        wit_namespace: "wasi".into(),
        wit_package: "keyvalue".into(),
    };
    assert_eq!(bench.says(&delete("nobody")), "successfully deleted link (spec doesn't exist)");
    for left in [1, 0] {
        assert_eq!(bench.says(&delete("press")), "successfully deleted link");
        assert_eq!(bench.desired.links.len(), left, "one at a time");
    }
}

#[test]
fn what_the_file_says_is_changed_in_the_file() {
    // Goal: neither the lattice nor the site takes what the file owns, and labels of the machine are nobody's. Method: each
    // command that might.
    let mut bench = Bench::new();
    let label = |key: &str| Command::PutLabel { key: key.into(), value: "x".into() };
    let delete = |key: &str| Command::DeleteLabel { key: key.into() };
    let image = start("built", "file:///x.wasm", 1, Replacing::Allowed);
    assert_eq!(
        bench.ask(&image).answer.unwrap_err().to_string(),
        "component built is set by the gateway's image and changes with it"
    );
    for command in [start("filed", "file:///x.wasm", 1, Replacing::Allowed), label("site"), delete("site")] {
        let refused = bench.says(&command);
        assert!(
            refused.ends_with("is set by the gateway's own configuration file and is changed there"),
            "{refused}"
        );
    }
    for key in ["hostcore.os", "HostCore.arch"] {
        assert_eq!(bench.says(&label(key)), "refused: hostcore.* labels cannot be set dynamically");
    }
    assert_eq!(bench.says(&label("line")), "successfully put label");
    assert_eq!(bench.desired.all_labels(&bench.file), pairs(&[("line", "x"), ("site", "plant-1")]));
    assert_eq!(bench.says(&delete("line")), "successfully deleted label");
    assert_eq!(bench.says(&delete("line")), "successfully deleted label (no such label)");
}

#[test]
fn nothing_is_taken_beyond_its_bound() {
    // Goal: every list and text is bounded, with a sentence. Method: fill each up and ask for one more; ask for too long
    // ones; what was there can still be changed.
    let mut bench = Bench::new();
    let name = |n: usize| format!("n{n}");
    let full = |said: String| assert!(said.starts_with("refused: a gateway takes "), "{said}");
    // The file has one of the sixteen.
    for n in 1..bounds::COMPONENTS_MAX {
        assert_eq!(bench.says(&start(&name(n), "file:///a", 1, Replacing::Allowed)), "");
    }
    full(bench.says(&start("more", "file:///a", 1, Replacing::Allowed)));
    assert_eq!(bench.says(&start("n1", "file:///a", 2, Replacing::Allowed)), "");
    let label = |n: usize| Command::PutLabel { key: name(n), value: "x".into() };
    (0..bounds::LABELS_MAX).for_each(|n| assert_eq!(bench.says(&label(n)), "successfully put label"));
    full(bench.says(&label(bounds::LABELS_MAX)));
    let config = |n: usize, bytes: usize| Command::PutConfig {
        name: name(n),
        values: pairs(&[("k", &"v".repeat(bytes))]),
    };
    full(bench.says(&config(0, bounds::CONFIG_BYTES_MAX)));
    for n in 0..16 {
        assert_eq!(bench.says(&config(n, bounds::CONFIG_BYTES_MAX - 1)), "successfully put config");
    }
    full(bench.says(&config(16, 0)));
    for n in 0..bounds::LINKS_MAX {
        let put = Command::PutLink { link: link(&name(n), "kv", "store") };
        assert_eq!(bench.says(&put), "successfully set link");
    }
    full(bench.says(&Command::PutLink { link: link("more", "kv", "store") }));
    for id in ["", "a.b", "a/b", "ü", &"x".repeat(65)] {
        let said = bench.says(&start(id, "file:///a", 1, Replacing::Allowed));
        assert!(said.contains("1 to 64 of A-Z a-z 0-9 _ -"), "{said}");
    }
    for name in ["a.b", "a*", "", "a b", "a\nb"] {
        let put = Command::PutConfig { name: name.into(), values: Pairs::new() };
        assert!(bench.says(&put).starts_with("refused: "), "{name:?}");
    }
}

/// With what a command is about. A component and a provider may not have one identifier: both are ends of links.
fn commands() -> impl Strategy<Value = (String, Command)> {
    let id = "[a-e]";
    let put = (id, 0u32..3, "[xy]").prop_map(|(id, limit, reference)| {
        (format!("end {id}"), start(&id, &reference, limit, Replacing::Allowed))
    });
    let update = (id, "[xy]").prop_map(|(id, reference)| {
        (format!("end {id}"), Command::Update { id, reference, annotations: None })
    });
    let label =
        (id, "[xy]").prop_map(|(key, value)| (format!("label {key}"), Command::PutLabel { key, value }));
    let unlabel = id.prop_map(|key| (format!("label {key}"), Command::DeleteLabel { key }));
    let config = (id, "[xy]").prop_map(|(name, value)| {
        (format!("config {name}"), Command::PutConfig { name, values: pairs(&[("k", &value)]) })
    });
    let linked = (id, "[xy]").prop_map(|(source, target)| {
        (format!("link {source}"), Command::PutLink { link: link(&source, &target, "store") })
    });
    let provider = id.prop_map(|id| {
        let provider = Provider { reference: "frond+builtin://mqtt".into(), ..Provider::default() };
        (format!("end {id}"), Command::StartProvider { id, provider })
    });
    let stopped = id.prop_map(|id| (format!("end {id}"), Command::StopProvider { id }));
    prop_oneof![put, update, label, unlabel, config, linked, provider, stopped]
}

/// Without revisions, which count in the order of arrival.
fn content(mut desired: Desired) -> Desired {
    desired.revision = 0;
    desired.components.values_mut().for_each(|item| item.revision = 0);
    desired.providers.values_mut().for_each(|item| item.revision = 0);
    desired.links.values_mut().for_each(|item| item.revision = 0);
    desired.configs.values_mut().for_each(|item| item.revision = 0);
    desired.labels.values_mut().for_each(|item| item.revision = 0);
    desired
}

proptest! {
    // Goal: a command said twice is said once, a refused one changes nothing, and revisions only grow. Method: any sequence.
    #[test]
    fn commands_are_idempotent_and_refusals_change_nothing(commands in proptest::collection::vec(commands(), 0..40)) {
        let mut bench = Bench::new();
        for (_, command) in commands {
            let before = bench.desired.clone();
            let decision = bench.ask(&command);
            prop_assert!(decision.answer.is_ok() || bench.desired == before);
            prop_assert_eq!(bench.desired.revision, before.revision + u64::from(!decision.changes.is_empty()));
            let once = bench.desired.clone();
            bench.ask(&command);
            prop_assert_eq!(&bench.desired, &once, "{:?} twice", command);
        }
    }

    // Goal: commands about different things do not depend on their order. Method: any two, both ways, from any state.
    #[test]
    fn the_order_of_commands_about_different_names_does_not_matter(
        before in proptest::collection::vec(commands(), 0..20),
        one in commands(),
        other in commands(),
    ) {
        prop_assume!(one.0 != other.0);
        let mut bench = Bench::new();
        before.iter().for_each(|(_, command)| drop(bench.ask(command)));
        let begun = bench.desired.clone();
        let mut after = |first: &Command, second: &Command| {
            bench.desired = begun.clone();
            let answers = [bench.says(first), bench.says(second)];
            (content(bench.desired.clone()), answers)
        };
        let (forth, [one_first, other_second]) = after(&one.1, &other.1);
        let (back, [other_first, one_second]) = after(&other.1, &one.1);
        prop_assert_eq!(forth, back);
        prop_assert_eq!((one_first, other_second), (one_second, other_first));
    }
}
