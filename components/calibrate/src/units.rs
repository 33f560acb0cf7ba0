//! Units by name, and conversion between those of one kind.
//!
//! Names are as people write them, `m³/h` and `°C`, or with the letters of a keyboard, `m3/h` and `degC`. Small and capital
//! letters differ: a `mW` is not a `MW`.

use std::fmt::Write;

use self::Kind::{
    Acceleration, Angle, ApparentPower, Charge, Conductivity, Current, Density, Energy, Force, Length, Mass,
    MassFlow, Power, Pressure, Ratio, ReactivePower, Resistance, Rotation, Speed, Temperature, Time, Torque,
    Voltage, Volume, VolumeFlow,
};

/// What a unit measures. Units of one kind can be converted into each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Temperature,
    Pressure,
    VolumeFlow,
    MassFlow,
    Length,
    Volume,
    Mass,
    Density,
    Speed,
    Acceleration,
    Rotation,
    Angle,
    Force,
    Torque,
    Energy,
    Power,
    ApparentPower,
    ReactivePower,
    Current,
    Voltage,
    Resistance,
    Charge,
    Conductivity,
    Time,
    Ratio,
}

/// A unit: a value of it is `(value - zero) * numerator / denominator` of the first unit of its kind.
#[derive(Debug, PartialEq)]
pub struct Unit {
    /// Its names, with spaces between them; the first is the one shown.
    names: &'static str,
    kind: Kind,
    numerator: f64,
    denominator: f64,
    zero: f64,
}

/// A way from one unit to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conversion {
    from_zero: f64,
    numerator: f64,
    denominator: f64,
    to_zero: f64,
}

const fn unit(kind: Kind, names: &'static str, numerator: f64, denominator: f64) -> Unit {
    Unit { names, kind, numerator, denominator, zero: 0.0 }
}

const fn scale(names: &'static str, numerator: f64, denominator: f64, zero: f64) -> Unit {
    Unit { names, kind: Temperature, numerator, denominator, zero }
}

/// Metres of an inch and a foot, kilograms of a pound, litres of a gallon (US), newtons of a pound-force: exact by definition.
const INCH: f64 = 0.0254;
const FOOT: f64 = 0.3048;
const POUND: f64 = 0.453_592_37;
const GALLON: f64 = 3.785_411_784;
const POUND_FORCE: f64 = 4.448_221_615_260_5;
/// Standard gravity in m/s², exact by definition.
const GRAVITY: f64 = 9.806_65;
const TURN: f64 = std::f64::consts::TAU;

/// All of them. Factors that are not powers of ten follow from the definitions above, or are those of the international
/// agreements on the unit.
#[rustfmt::skip]
static UNITS: &[Unit] = &[
    scale("degC C", 1.0, 1.0, 0.0), scale("degF F", 5.0, 9.0, 32.0), scale("K", 1.0, 1.0, 273.15),
    scale("degR", 5.0, 9.0, 491.67),
    unit(Pressure, "Pa", 1.0, 1.0), unit(Pressure, "hPa", 100.0, 1.0), unit(Pressure, "kPa", 1e3, 1.0),
    unit(Pressure, "MPa", 1e6, 1.0), unit(Pressure, "mbar", 100.0, 1.0), unit(Pressure, "bar", 1e5, 1.0),
    unit(Pressure, "psi", POUND_FORCE, INCH * INCH), unit(Pressure, "atm", 101_325.0, 1.0),
    unit(Pressure, "at", GRAVITY * 1e4, 1.0), unit(Pressure, "Torr", 101_325.0, 760.0),
    unit(Pressure, "mmHg", 133.322_387_415, 1.0), unit(Pressure, "inHg", 133.322_387_415 * 25.4, 1.0),
    unit(Pressure, "mmH2O", GRAVITY, 1.0), unit(Pressure, "cmH2O", GRAVITY * 10.0, 1.0),
    unit(Pressure, "inH2O", GRAVITY * 25.4, 1.0),
    unit(VolumeFlow, "m3/s", 1.0, 1.0), unit(VolumeFlow, "m3/min", 1.0, 60.0), unit(VolumeFlow, "m3/h", 1.0, 3600.0),
    unit(VolumeFlow, "l/s L/s", 1.0, 1e3), unit(VolumeFlow, "l/min L/min", 1.0, 6e4),
    unit(VolumeFlow, "l/h L/h", 1.0, 3.6e6), unit(VolumeFlow, "ml/min mL/min", 1.0, 6e7),
    unit(VolumeFlow, "gpm", GALLON, 6e4), unit(VolumeFlow, "cfm ft3/min", FOOT * FOOT * FOOT, 60.0),
    unit(MassFlow, "kg/s", 1.0, 1.0), unit(MassFlow, "kg/min", 1.0, 60.0), unit(MassFlow, "kg/h", 1.0, 3600.0),
    unit(MassFlow, "g/s", 1.0, 1e3), unit(MassFlow, "g/min", 1.0, 6e4), unit(MassFlow, "t/h", 1e3, 3600.0),
    unit(MassFlow, "lb/min", POUND, 60.0), unit(MassFlow, "lb/h", POUND, 3600.0),
    unit(Length, "m", 1.0, 1.0), unit(Length, "nm", 1.0, 1e9), unit(Length, "um", 1.0, 1e6),
    unit(Length, "mm", 1.0, 1e3), unit(Length, "cm", 1.0, 100.0), unit(Length, "dm", 1.0, 10.0),
    unit(Length, "km", 1e3, 1.0), unit(Length, "mil", INCH, 1e3), unit(Length, "in", INCH, 1.0),
    unit(Length, "ft", FOOT, 1.0), unit(Length, "yd", 3.0 * FOOT, 1.0), unit(Length, "mi", 5280.0 * FOOT, 1.0),
    unit(Volume, "m3", 1.0, 1.0), unit(Volume, "ml mL", 1.0, 1e6), unit(Volume, "cm3", 1.0, 1e6),
    unit(Volume, "l L dm3", 1.0, 1e3), unit(Volume, "hl hL", 1.0, 10.0), unit(Volume, "gal", GALLON, 1e3),
    unit(Volume, "ft3", FOOT * FOOT * FOOT, 1.0), unit(Volume, "bbl", 42.0 * GALLON, 1e3),
    unit(Mass, "kg", 1.0, 1.0), unit(Mass, "mg", 1.0, 1e6), unit(Mass, "g", 1.0, 1e3), unit(Mass, "t", 1e3, 1.0),
    unit(Mass, "oz", POUND, 16.0), unit(Mass, "lb", POUND, 1.0),
    unit(Density, "kg/m3", 1.0, 1.0), unit(Density, "g/cm3", 1e3, 1.0), unit(Density, "g/l g/L", 1.0, 1.0),
    unit(Density, "kg/l kg/L", 1e3, 1.0), unit(Density, "lb/ft3", POUND, FOOT * FOOT * FOOT),
    unit(Speed, "m/s", 1.0, 1.0), unit(Speed, "mm/s", 1.0, 1e3), unit(Speed, "m/min", 1.0, 60.0),
    unit(Speed, "mm/min", 1.0, 6e4), unit(Speed, "km/h", 1e3, 3600.0), unit(Speed, "in/s", INCH, 1.0),
    unit(Speed, "ft/s", FOOT, 1.0), unit(Speed, "ft/min", FOOT, 60.0), unit(Speed, "mph", 5280.0 * FOOT, 3600.0),
    unit(Acceleration, "m/s2", 1.0, 1.0), unit(Acceleration, "mm/s2", 1.0, 1e3), unit(Acceleration, "gn g0", GRAVITY, 1.0),
    unit(Acceleration, "ft/s2", FOOT, 1.0),
    unit(Rotation, "Hz 1/s rps", 1.0, 1.0), unit(Rotation, "kHz", 1e3, 1.0), unit(Rotation, "1/min rpm min-1", 1.0, 60.0),
    unit(Rotation, "1/h", 1.0, 3600.0), unit(Rotation, "rad/s", 1.0, TURN), unit(Rotation, "deg/s", 1.0, 360.0),
    unit(Angle, "deg", 1.0, 1.0), unit(Angle, "rad", 360.0, TURN), unit(Angle, "mrad", 0.36, TURN), unit(Angle, "rev", 360.0, 1.0),
    unit(Force, "N", 1.0, 1.0), unit(Force, "kN", 1e3, 1.0), unit(Force, "MN", 1e6, 1.0), unit(Force, "kgf", GRAVITY, 1.0),
    unit(Force, "lbf", POUND_FORCE, 1.0),
    unit(Torque, "Nm", 1.0, 1.0), unit(Torque, "mNm", 1.0, 1e3), unit(Torque, "Ncm", 1.0, 100.0), unit(Torque, "kNm", 1e3, 1.0),
    unit(Torque, "lbfft", POUND_FORCE * FOOT, 1.0), unit(Torque, "lbfin", POUND_FORCE * INCH, 1.0),
    unit(Energy, "J", 1.0, 1.0), unit(Energy, "kJ", 1e3, 1.0), unit(Energy, "MJ", 1e6, 1.0), unit(Energy, "GJ", 1e9, 1.0),
    unit(Energy, "Wh", 3600.0, 1.0), unit(Energy, "kWh", 3.6e6, 1.0), unit(Energy, "MWh", 3.6e9, 1.0),
    unit(Energy, "kcal", 4184.0, 1.0), unit(Energy, "BTU", 1_055.055_852_62, 1.0),
    unit(Power, "W", 1.0, 1.0), unit(Power, "mW", 1.0, 1e3), unit(Power, "kW", 1e3, 1.0), unit(Power, "MW", 1e6, 1.0),
    unit(Power, "PS", 75.0 * GRAVITY, 1.0), unit(Power, "hp", 550.0 * POUND_FORCE * FOOT, 1.0),
    unit(Power, "BTU/h", 1_055.055_852_62, 3600.0),
    unit(ApparentPower, "VA", 1.0, 1.0), unit(ApparentPower, "kVA", 1e3, 1.0), unit(ApparentPower, "MVA", 1e6, 1.0),
    unit(ReactivePower, "var", 1.0, 1.0), unit(ReactivePower, "kvar", 1e3, 1.0), unit(ReactivePower, "Mvar", 1e6, 1.0),
    unit(Current, "A", 1.0, 1.0), unit(Current, "uA", 1.0, 1e6), unit(Current, "mA", 1.0, 1e3), unit(Current, "kA", 1e3, 1.0),
    unit(Voltage, "V", 1.0, 1.0), unit(Voltage, "uV", 1.0, 1e6), unit(Voltage, "mV", 1.0, 1e3), unit(Voltage, "kV", 1e3, 1.0),
    unit(Resistance, "ohm", 1.0, 1.0), unit(Resistance, "mohm", 1.0, 1e3), unit(Resistance, "kohm", 1e3, 1.0),
    unit(Resistance, "Mohm", 1e6, 1.0),
    unit(Charge, "Ah", 1.0, 1.0), unit(Charge, "mAh", 1.0, 1e3),
    unit(Conductivity, "S/m", 1.0, 1.0), unit(Conductivity, "uS/cm", 1.0, 1e4), unit(Conductivity, "mS/cm", 1.0, 10.0),
    unit(Time, "s", 1.0, 1.0), unit(Time, "us", 1.0, 1e6), unit(Time, "ms", 1.0, 1e3), unit(Time, "min", 60.0, 1.0),
    unit(Time, "h", 3600.0, 1.0), unit(Time, "d", 86400.0, 1.0),
    unit(Ratio, "1", 1.0, 1.0), unit(Ratio, "% percent", 1.0, 100.0), unit(Ratio, "permille", 1.0, 1e3), unit(Ratio, "ppm", 1.0, 1e6),
];

// === impl Unit ===

impl Unit {
    /// The unit of this name.
    pub fn named(name: &str) -> Option<&'static Unit> {
        let name = typed(name);
        UNITS.iter().find(|unit| unit.names.split(' ').any(|known| known == name))
    }

    /// The way from this unit to another, if they are of one kind.
    pub fn to(&self, other: &Unit) -> Option<Conversion> {
        (self.kind == other.kind).then_some(Conversion {
            from_zero: self.zero,
            numerator: self.numerator * other.denominator,
            denominator: self.denominator * other.numerator,
            to_zero: other.zero,
        })
    }

    /// The units of the same kind, for people.
    pub fn akin(&self) -> String {
        list(UNITS.iter().filter(|unit| unit.kind == self.kind))
    }
}

// === impl Conversion ===

impl Conversion {
    /// The value in the other unit.
    pub fn apply(self, value: f64) -> f64 {
        (value - self.from_zero) * self.numerator / self.denominator + self.to_zero
    }
}

/// All units, for people.
pub fn all() -> String {
    list(UNITS.iter())
}

/// Whether two names mean the same unit, known or not.
pub fn same(one: &str, other: &str) -> bool {
    one == other || Unit::named(one).is_some_and(|unit| Unit::named(other) == Some(unit))
}

fn list<'a>(units: impl Iterator<Item = &'a Unit>) -> String {
    let mut text = String::new();
    for unit in units {
        let gap = if text.is_empty() { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = write!(text, "{gap}{}", unit.names.split(' ').next().unwrap_or_default());
    }
    text
}

/// A name as a keyboard types it.
fn typed(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    for letter in name.trim().chars() {
        match letter {
            '°' => plain.push_str("deg"),
            // Greek mu and omega, and the signs micro and ohm.
            '\u{b5}' | '\u{3bc}' => plain.push('u'),
            '\u{3a9}' | '\u{2126}' => plain.push_str("ohm"),
            '²' | '₂' => plain.push('2'),
            '³' => plain.push('3'),
            '¹' => plain.push('1'),
            '⁻' => plain.push('-'),
            '‰' => plain.push_str("permille"),
            '\u{b7}' | '\u{22c5}' => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(value: f64, from: &str, to: &str) -> f64 {
        let (from, to) = (Unit::named(from).expect(from), Unit::named(to).expect(to));
        from.to(to).expect("of one kind").apply(value)
    }

    #[test]
    fn conversions_agree_with_what_is_printed_in_tables() {
        // Goal: the factors are right. Method: pairs from the definitions, most of them exact, and the way back.
        for (value, from, same, to) in [
            (100.0, "°C", 212.0, "°F"),
            (-40.0, "degF", -40.0, "°C"),
            (0.0, "K", -273.15, "°C"),
            (0.0, "degC", 491.67, "°R"),
            (1.0, "bar", 14.503_773_773, "psi"),
            (1.0, "atm", 760.0, "Torr"),
            (1.0, "atm", 1013.25, "mbar"),
            (1.0, "inHg", 33.863_886_4, "hPa"),
            (1.0, "inH2O", 249.088_91, "Pa"),
            (36.0, "m³/h", 10.0, "l/s"),
            (1.0, "gpm", 3.785_411_784, "L/min"),
            (1.0, "m3/h", 0.588_577_779, "cfm"),
            (3.6, "t/h", 1.0, "kg/s"),
            (1.0, "lb/h", 0.453_592_37, "kg/h"),
            (1.0, "in", 25.4, "mm"),
            (1.0, "mil", 25.4, "µm"),
            (1.0, "mi", 1.609_344, "km"),
            (1.0, "bbl", 158.987_294_928, "l"),
            (1.0, "oz", 28.349_523_125, "g"),
            (1.0, "g/cm³", 1000.0, "kg/m3"),
            (36.0, "km/h", 10.0, "m/s"),
            (60.0, "mph", 88.0, "ft/s"),
            (1.0, "gn", 9.806_65, "m/s²"),
            (3000.0, "1/min", 50.0, "Hz"),
            (60.0, "rpm", std::f64::consts::TAU, "rad/s"),
            (1.0, "min⁻¹", 6.0, "°/s"),
            (180.0, "°", std::f64::consts::PI, "rad"),
            (1.0, "kgf", 2.204_622_622, "lbf"),
            (1.0, "N·m", 0.737_562_149, "lbf·ft"),
            (12.0, "lbfin", 1.0, "lbfft"),
            (1.0, "kWh", 3.6, "MJ"),
            (1.0, "BTU", 0.293_071_07, "Wh"),
            (1.0, "hp", 745.699_871_582, "W"),
            (1.0, "PS", 735.498_75, "W"),
            (1500.0, "kVA", 1.5, "MVA"),
            (4.0, "mA", 4000.0, "µA"),
            (1.0, "kΩ", 1e6, "mΩ"),
            (1.0, "mS/cm", 1000.0, "µS/cm"),
            (90.0, "min", 1.5, "h"),
            (12.5, "%", 125.0, "‰"),
            (1.0, "ppm", 1e-4, "percent"),
        ] {
            let there = convert(value, from, to);
            assert!((there - same).abs() <= 1e-9 * same.abs().max(1.0), "{value} {from} is {there} {to}");
            let back = convert(same, to, from);
            assert!((back - value).abs() <= 1e-8 * value.abs().max(1.0), "{same} {to} is {back} {from}");
        }
        for (value, from, same, to) in
            [(100.0, "°C", 212.0, "°F"), (212.0, "°F", 100.0, "°C"), (25.0, "mm", 0.025, "m")]
        {
            assert_eq!(convert(value, from, to), same, "no digits of rounding");
        }
    }

    #[test]
    fn a_name_means_one_unit() {
        // Goal: the first unit found is the only one. Method: all names of all units; and what differs by case only.
        let names: Vec<&str> = UNITS.iter().flat_map(|unit| unit.names.split(' ')).collect();
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name), "{name} is there twice");
            assert_eq!(typed(name), *name);
        }
        assert_eq!(convert(1.0, "MW", "mW"), 1e9);
        assert!(Unit::named("mw").is_none() && Unit::named("").is_none());
        assert!(same("°C", "degC") && same("foo", "foo") && !same("foo", "bar") && !same("", "°C"));
    }

    #[test]
    fn units_of_two_kinds_are_not_converted() {
        // Goal: a pressure never becomes a temperature. Method: every pair; the first of each kind is its measure.
        for from in UNITS {
            for to in UNITS {
                assert_eq!(from.to(to).is_some(), from.kind == to.kind);
            }
            let first = UNITS.iter().find(|unit| unit.kind == from.kind).unwrap();
            assert_eq!((first.numerator / first.denominator, first.zero), (1.0, 0.0));
        }
        assert_eq!(Unit::named("kWh").unwrap().akin(), "J, kJ, MJ, GJ, Wh, kWh, MWh, kcal, BTU");
    }
}
