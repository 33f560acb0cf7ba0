//! What is to run against what runs: the steps from one to the other. Pure.

use std::collections::BTreeMap;

use super::bounds::COMPONENTS_MAX;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<P> {
    /// It is ended.
    Stop(String),
    /// It is begun, like this.
    Start(String, P),
}

/// The steps, all ends before all beginnings: what is given up makes room for what comes. One that is to run differently
/// is ended and begun anew.
pub fn reconcile<P: Clone + PartialEq>(
    wanted: &BTreeMap<String, P>,
    actual: &BTreeMap<String, P>,
) -> Vec<Step<P>> {
    debug_assert!(wanted.len() <= COMPONENTS_MAX, "commands that ask for more are refused");
    let stops = actual.iter().filter(|(id, plan)| wanted.get(*id) != Some(plan));
    let starts = wanted.iter().filter(|(id, plan)| actual.get(*id) != Some(plan));
    stops
        .map(|(id, _)| Step::Stop(id.clone()))
        .chain(starts.map(|(id, plan)| Step::Start(id.clone(), plan.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn perform(mut actual: BTreeMap<String, u8>, steps: Vec<Step<u8>>) -> BTreeMap<String, u8> {
        for step in steps {
            match step {
                Step::Stop(id) => assert!(actual.remove(&id).is_some(), "{id} runs"),
                Step::Start(id, plan) => {
                    assert!(actual.insert(id.clone(), plan).is_none(), "{id} does not run yet");
                    assert!(actual.len() <= COMPONENTS_MAX, "never more at a time than there may be");
                }
            }
        }
        actual
    }

    fn state() -> impl Strategy<Value = BTreeMap<String, u8>> {
        proptest::collection::btree_map("[a-d][0-9]", 0u8..3, 0..=COMPONENTS_MAX)
    }

    proptest! {
        // Goal: from whatever runs, the steps lead to what is wanted, with nothing running twice on the way; afterwards
        // there is nothing left to do, and there are never more than an end and a beginning for each. Method: any two states.
        #[test]
        fn the_steps_lead_to_what_is_wanted_and_then_there_are_none(wanted in state(), actual in state()) {
            let steps = reconcile(&wanted, &actual);
            prop_assert!(steps.len() <= wanted.len() + actual.len());
            let untouched: Vec<_> = actual.iter().filter(|(id, plan)| wanted.get(*id) == Some(plan)).collect();
            for step in &steps {
                let (Step::Stop(id) | Step::Start(id, _)) = step;
                prop_assert!(!untouched.iter().any(|(kept, _)| *kept == id), "{} runs as it should", id);
            }
            let after = perform(actual, steps);
            prop_assert_eq!(&after, &wanted);
            prop_assert_eq!(reconcile(&wanted, &after), []);
        }
    }
}
