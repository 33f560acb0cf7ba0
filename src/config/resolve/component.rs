//! `[[component]]`, with the defaults of its keys: no layer lies below it.

use std::path::PathBuf;
use std::time::Duration;

use super::{FileKind, FilePlace, Judge};
use crate::config::fault::Fault;
use crate::config::raw::{self, Kind, Span};
use crate::config::tree::KeyPath;
use crate::config::{Component, Workload};

/// Most components: at the least memory of 1 MiB each they would fill the smallest board.
const COMPONENTS_MAX: usize = 64;
/// Most settings of a component, and the longest.
const SETTINGS_MAX: usize = 32;
const SETTING_CHARS_MAX: usize = 64 * 1024;

const MEMORY_BYTES: u64 = 16 << 20;
const DEADLINE: Duration = Duration::from_millis(500);

impl Judge<'_> {
    pub(super) fn components(&mut self, raw: &[raw::Component]) -> (Vec<Component>, Vec<Workload>) {
        let table = KeyPath::of("component");
        self.count(&table, raw.len(), COMPONENTS_MAX);
        let (mut components, mut workloads) = (Vec::new(), Vec::new());
        for (n, raw) in raw.iter().enumerate() {
            let table = table.item(n);
            let component = self.component(&table, raw);
            if raw.kind == Some(Kind::Wasmcloud) {
                workloads.push(self.workload(&table, raw, component));
            } else {
                self.no_workload(&table, raw);
                components.push(component);
            }
        }
        (components, workloads)
    }

    fn component(&mut self, table: &KeyPath, raw: &raw::Component) -> Component {
        let key = |key: &str| table.key(key);
        let memory = raw.memory_bytes_max.map_or(MEMORY_BYTES, |bytes| bytes.0);
        let usual = if raw.kind == Some(Kind::Wasmcloud) { super::workload::DEADLINE } else { DEADLINE };
        let deadline = raw.deadline.unwrap_or(Span(usual));
        let path = match &raw.path {
            Some(path) => {
                let path = self.path(&key("path"), path);
                self.name_file(&key("path"), &path, FileKind::Component, FilePlace::Known);
                path
            }
            None => {
                self.missing(table, "path");
                PathBuf::new()
            }
        };
        self.count(&key("config"), raw.config.len(), SETTINGS_MAX);
        for (name, setting) in &raw.config {
            if setting.chars().count() > SETTING_CHARS_MAX {
                self.refuse(&key("config").key(name), Fault::Text { chars_max: SETTING_CHARS_MAX });
            }
        }
        Component {
            name: self.element_name(table, raw.name.as_deref()),
            path,
            memory_bytes_max: self.bytes(&key("memory_bytes_max"), memory, 1 << 20, 1 << 30),
            deadline: self.duration(
                &key("deadline"),
                deadline,
                Duration::from_millis(1),
                Duration::from_secs(60),
            ),
            config: raw.config.clone(),
        }
    }
}
