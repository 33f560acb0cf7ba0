//! What a block of samples says. Pure.
//!
//! Moments in double precision; the spectrum in single, under a Hann window (Harris, "On the use of windows for harmonic
//! analysis with the discrete Fourier transform", 1978).

use std::f64::consts::PI;

use crate::settings::Band;

/// Sum of the squares of a Hann window, over its length.
const HANN_POWER: f64 = 3.0 / 8.0;

/// The features of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Root of the mean square, without the mean.
    pub rms: f64,
    /// Largest deviation from the mean.
    pub peak: f64,
    /// Peak over RMS; 0 at rest.
    pub crest: f64,
    /// Fourth moment over the square of the second; 0 at rest.
    pub kurtosis: f64,
    /// RMS in each band; `None` for one that begins above half the sampling rate.
    pub bands: Vec<Option<f64>>,
}

/// A Hann window for blocks of one length. Kept, since a cosine for each sample costs more than the transform.
#[derive(Debug)]
pub struct Window(Vec<f32>);

// === impl Window ===

impl Window {
    /// For blocks of `count` samples.
    pub fn new(count: usize) -> Window {
        let weight = |n: usize| 0.5 - 0.5 * (2.0 * PI * n as f64 / count as f64).cos();
        Window((0..count).map(|n| weight(n) as f32).collect())
    }
}

/// Computes the features of a block sampled at `rate` hertz, whose length is that of the window and one of
/// [`crate::settings::BLOCKS`].
pub fn features(samples: &[f32], window: &Window, rate: f64, bands: &[Band]) -> Features {
    let count = samples.len() as f64;
    let mean = samples.iter().map(|sample| f64::from(*sample)).sum::<f64>() / count;
    let (mut square, mut fourth, mut peak) = (0.0, 0.0, 0.0_f64);
    for sample in samples {
        let deviation = f64::from(*sample) - mean;
        let squared = deviation * deviation;
        square += squared;
        fourth += squared * squared;
        peak = peak.max(deviation.abs());
    }
    let variance = square / count;
    let rms = variance.sqrt();
    // Beside numbers of this size, single precision cannot tell a deviation from rounding.
    let at_rest = peak <= f64::from(f32::EPSILON) * mean.abs();
    let (crest, kurtosis) = if at_rest || variance == 0.0 {
        (0.0, 0.0)
    } else {
        (peak / rms, fourth / count / (variance * variance))
    };
    let bands = if bands.is_empty() { Vec::new() } else { in_bands(samples, window, mean, rate, bands) };
    Features { rms, peak, crest, kurtosis, bands }
}

fn in_bands(samples: &[f32], window: &Window, mean: f64, rate: f64, bands: &[Band]) -> Vec<Option<f64>> {
    let count = samples.len();
    let weighted = |(sample, weight): (&f32, &f32)| ((f64::from(*sample) - mean) * f64::from(*weight)) as f32;
    let windowed = samples.iter().zip(&window.0).map(weighted);
    let power = spectrum(windowed.collect());
    let step = rate / count as f64;
    // Two sides of the spectrum, Parseval, and the window's power.
    let scale = 2.0 / (count as f64 * count as f64 * HANN_POWER);
    let band = |band: &Band| {
        if band.low >= rate / 2.0 {
            return None;
        }
        let inside = power
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(bin, _)| (band.low..band.high).contains(&(*bin as f64 * step)));
        Some((inside.map(|(_, power)| power).sum::<f64>() * scale).sqrt())
    };
    bands.iter().map(band).collect()
}

/// Squared magnitude of each frequency below half the rate.
fn spectrum(mut samples: Vec<f32>) -> Vec<f64> {
    macro_rules! transform {
        ($($size:literal $function:ident),*) => {
            match samples.len() {
                $($size => &mut microfft::real::$function(samples.as_mut_slice().try_into().expect("the length was looked at"))[..],)*
                length => unreachable!("a block has one of the lengths in BLOCKS, not {length}"),
            }
        };
    }
    let bins = transform!(256 rfft_256, 512 rfft_512, 1024 rfft_1024, 2048 rfft_2048, 4096 rfft_4096);
    // The first holds the mean, and in its other half what is at half the rate.
    bins[0].im = 0.0;
    bins.iter().map(|bin| f64::from(bin.re).powi(2) + f64::from(bin.im).powi(2)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::BLOCKS;

    const RATE: f64 = 25_600.0;

    fn band(low: f64, high: f64) -> Band {
        Band { name: String::new(), low, high }
    }

    fn sampled(count: usize, at: impl Fn(f64) -> f64) -> Vec<f32> {
        (0..count).map(|n| at(n as f64 / RATE) as f32).collect()
    }

    fn sine(frequency: f64) -> impl Fn(f64) -> f64 {
        move |t| (2.0 * PI * frequency * t).sin()
    }

    fn near(value: f64, expected: f64, within: f64) {
        assert!((value - expected).abs() <= within * expected.abs().max(1e-9), "{value} is not {expected}");
    }

    #[test]
    fn a_sine_has_the_features_that_books_give_it() {
        // Goal: RMS A/√2, crest √2, kurtosis 1.5, all of it in its band, whatever the sensor shows at rest. Method: 1,600 Hz,
        // which is a whole number of periods in every block, at an offset of 9.81.
        for count in BLOCKS {
            let samples = sampled(count, |t| 9.81 + 3.0 * sine(1_600.0)(t));
            let Features { rms, peak, crest, kurtosis, bands } = features(
                &samples,
                &Window::new(count),
                RATE,
                &[band(10.0, 1_000.0), band(1_000.0, 2_200.0), band(20_000.0, 30_000.0)],
            );
            near(rms, 3.0 / 2.0_f64.sqrt(), 1e-4);
            near(peak, 3.0, 1e-3);
            near(crest, 2.0_f64.sqrt(), 1e-3);
            near(kurtosis, 1.5, 1e-3);
            near(bands[1].unwrap(), 3.0 / 2.0_f64.sqrt(), 1e-3);
            assert!(bands[0].unwrap() < 0.01, "{bands:?}");
            assert_eq!(bands[2], None, "above half the rate");
        }
    }

    #[test]
    fn the_spectrum_is_that_of_the_definition() {
        // Goal: the transform, its packing and its order are understood. Method: the defining sum, for an odd signal.
        let samples: Vec<f32> = (0..256).map(|n| ((n * n * 7) % 31) as f32 - 15.0).collect();
        let power = spectrum(samples.clone());
        assert_eq!(power.len(), 128);
        for (bin, power) in power.iter().enumerate() {
            let angle = |n: usize| 2.0 * PI * (bin * n) as f64 / 256.0;
            let (mut re, mut im) = (0.0, 0.0);
            for (n, sample) in samples.iter().enumerate() {
                re += f64::from(*sample) * angle(n).cos();
                im -= f64::from(*sample) * angle(n).sin();
            }
            let expected = re * re + im * im;
            assert!((power - expected).abs() < 1e-3 * (expected + 1.0), "bin {bin}: {power}, not {expected}");
        }
    }

    #[test]
    fn bands_add_up_to_the_whole() {
        // Goal: no energy is lost or counted twice at the edges. Method: noise in three bands that cover everything.
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f64 / (1 << 24) as f64 - 0.5
        };
        let samples: Vec<f32> = (0..4096).map(|_| noise() as f32).collect();
        let found = features(
            &samples,
            &Window::new(4096),
            RATE,
            &[band(0.0, 500.0), band(500.0, 6_400.0), band(6_400.0, RATE)],
        );
        let sum: f64 = found.bands.iter().map(|rms| rms.unwrap().powi(2)).sum();
        // The window weighs the middle of the block more; of 4,096 samples of noise that is some percent.
        near(sum.sqrt(), found.rms, 0.05);
        near(found.kurtosis, 1.8, 0.05);
    }

    #[test]
    fn impacts_show_in_kurtosis_and_crest() {
        // Goal: what the features are for. Method: the same noise-free sine with a sharp impact every 512 samples.
        let calm = features(&sampled(4096, sine(100.0)), &Window::new(4096), RATE, &[]);
        let struck: Vec<f32> = sampled(4096, sine(100.0))
            .iter()
            .enumerate()
            .map(|(n, s)| s + if n % 512 == 0 { 10.0 } else { 0.0 })
            .collect();
        let struck = features(&struck, &Window::new(4096), RATE, &[]);
        assert!(
            struck.kurtosis > 3.0 * calm.kurtosis && struck.crest > 3.0 * calm.crest,
            "{calm:?} {struck:?}"
        );
    }

    #[test]
    fn a_block_at_rest_gives_numbers() {
        // Goal: no division by nothing. Method: zeros, and a constant that single precision cannot hold exactly.
        for constant in [0.0, 9.81, 1e30] {
            let found = features(&vec![constant; 256], &Window::new(256), RATE, &[band(0.0, RATE)]);
            assert_eq!((found.crest, found.kurtosis), (0.0, 0.0), "{constant}");
            assert!(found.rms.is_finite() && found.bands[0].unwrap().is_finite(), "{found:?}");
        }
    }
}
