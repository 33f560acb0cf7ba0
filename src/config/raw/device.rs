//! `[[device]]`.

use serde::Deserialize;

use super::Span;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a [[device]] table")]
pub(in crate::config) struct Device {
    pub name: Option<String>,
    pub kind: Option<DeviceKind>,
    pub timeout: Option<Span>,
    pub path: Option<String>,
    pub baud: Option<i64>,
    pub data_bits: Option<i64>,
    pub parity: Option<Parity>,
    pub stop_bits: Option<i64>,
    pub address: Option<String>,
    pub chip: Option<String>,
    pub line: Option<i64>,
    pub direction: Option<Direction>,
    pub active_low: Option<bool>,
    pub bias: Option<Bias>,
    pub initial: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum DeviceKind {
    ModbusRtu,
    ModbusTcp,
    Serial,
    Gpio,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Parity {
    None,
    Odd,
    Even,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Direction {
    In,
    Out,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Bias {
    AsIs,
    Disabled,
    PullUp,
    PullDown,
}
