//! The options, parsed.

use kit::options::{Pattern, duration, entries, number};

/// Samples in a block when the options do not say.
const BLOCK: usize = 4096;

/// Blocks that the transform is there for.
pub const BLOCKS: [usize; 5] = [256, 512, 1024, 2048, 4096];

/// More would be a spectrum.
const BANDS_MAX: usize = 8;

/// The silence that begins a block anew, when the options do not say: nanoseconds.
const GAP: i64 = 1_000_000_000;

/// All options.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Series that are samples of a vibration.
    pub series: Vec<Pattern>,
    /// Samples in a block: one of [`BLOCKS`].
    pub block: usize,
    /// Bands, in the order given.
    pub bands: Vec<Band>,
    /// Nanoseconds of silence that begin a block anew.
    pub gap: i64,
}

/// A band of frequencies.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// As it was written, `10-1000`: it becomes part of a series' name.
    pub name: String,
    /// Hertz, included.
    pub low: f64,
    /// Hertz, not included.
    pub high: f64,
}

// === impl Settings ===

impl Settings {
    /// Parses options. The error is for whoever wrote them.
    pub fn parse(options: &[(String, String)]) -> Result<Settings, String> {
        let mut settings = Settings { series: Vec::new(), block: BLOCK, bands: Vec::new(), gap: GAP };
        for (name, value) in options {
            let blame = |why: String| format!("option {name:?}: {why}");
            match name.as_str() {
                "series" => settings.series = entries(value).map(Pattern::new).collect(),
                "block" => settings.block = block(value).map_err(blame)?,
                "bands" => {
                    settings.bands = entries(value).map(band).collect::<Result<_, _>>().map_err(blame)?
                }
                "gap" => settings.gap = duration(value.trim()).map_err(blame)?,
                _ => {
                    return Err(format!(
                        "option {name:?} is not known; known are series, block, bands and gap"
                    ));
                }
            }
        }
        if settings.series.is_empty() {
            return Err(
                "option \"series\" is missing: which series are vibration, such as \"*/acceleration\"".into(),
            );
        }
        if settings.bands.len() > BANDS_MAX {
            return Err(format!("option \"bands\": {} are more than {BANDS_MAX}", settings.bands.len()));
        }
        Ok(settings)
    }

    /// Whether the series of this name is vibration.
    pub fn covers(&self, series: &str) -> bool {
        self.series.iter().any(|pattern| pattern.fits(series))
    }
}

fn block(text: &str) -> Result<usize, String> {
    let said = text.trim().parse().ok();
    said.filter(|block| BLOCKS.contains(block))
        .ok_or_else(|| format!("{text:?} is none of 256, 512, 1024, 2048 and 4096"))
}

fn band(entry: &str) -> Result<Band, String> {
    let (low, high) =
        entry.split_once('-').ok_or_else(|| format!("{entry:?} does not look like \"10-1000\""))?;
    let band = Band { name: entry.replace(char::is_whitespace, ""), low: number(low)?, high: number(high)? };
    if band.low < 0.0 || band.high <= band.low {
        return Err(format!("{entry:?} does not go from a lower frequency to a higher one"));
    }
    Ok(band)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let options: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::parse(&options)
    }

    #[test]
    fn options_are_taken_and_the_rest_has_defaults() {
        // Goal: what the documentation says. Method: nothing but the series, then everything.
        let little = parse(&[("series", "*/a; b")]).unwrap();
        assert_eq!((little.block, little.gap, little.bands.len()), (4096, GAP, 0));
        assert!(little.covers("x/a") && little.covers("b") && !little.covers("c"));
        let all =
            parse(&[("series", "a"), ("block", " 256 "), ("bands", "0-10;10 - 2.5e3"), ("gap", "50ms")])
                .unwrap();
        assert_eq!((all.block, all.gap), (256, 50_000_000));
        assert_eq!(all.bands[1], Band { name: "10-2.5e3".into(), low: 10.0, high: 2500.0 });
    }

    #[test]
    fn a_wrong_option_is_refused_with_what_would_be_right() {
        // Goal: whoever wrote the configuration can mend it from the message. Method: one mistake at a time.
        for (name, value, said) in [
            ("serie", "a", "known are series"),
            ("block", "1000", "none of 256"),
            ("bands", "10", "does not look like"),
            ("bands", "100-10", "from a lower frequency"),
            ("bands", "a-b", "\"a\" is not a number"),
            ("bands", "1-2;2-3;3-4;4-5;5-6;6-7;7-8;8-9;9-10", "9 are more than 8"),
            ("gap", "long", "not a duration"),
            ("series", " ; ", "is missing"),
        ] {
            let error = parse(&[("series", "a"), (name, value)]).unwrap_err();
            assert!(error.contains(said), "{name} = {value:?} gave {error:?}");
        }
    }
}
