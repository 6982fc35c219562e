//! Percentiles and their names.
//!
//! Veneur's name is the whole part of p·100: `.99percentile`, also for 0.999, so that two percentiles can share a name and their points overwrite each
//! other. Here names are Veneur's as long as they differ. Of those that would collide, one that is whole keeps the name and the others get their decimals behind an underscore:
//! 0.99 and 0.999 become `.99percentile` and `.99_9percentile`. And p·100 is taken from the shortest decimal that p is written as, so that 0.29
//! and 0.57 are `.29percentile` and `.57percentile`; in Veneur, which cuts the product, they are 28 and 56.

use std::sync::Arc;

use thiserror::Error;

/// The configured percentiles in their order, each once, with their suffixes.
#[derive(Debug, Clone, Default)]
pub struct Percentiles(Vec<Percentile>);

/// One percentile.
#[derive(Debug, Clone)]
pub(super) struct Percentile {
    /// From 0 to 1.
    pub(super) share: f64,
    /// With its dot.
    pub(super) suffix: Arc<str>,
}

/// A percentile that is none.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error("percentile {0} is not between 0 and 1")]
pub struct PercentileError(pub f64);

impl Percentiles {
    /// Names each of `shares`, which are from 0 to 1.
    pub fn new(shares: &[f64]) -> Result<Self, PercentileError> {
        let mut named: Vec<(f64, String, String)> = Vec::with_capacity(shares.len());
        for &share in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(PercentileError(share));
            }
            let (whole, decimals) = hundredfold(share);
            if !named.iter().any(|(known, ..)| *known == share) {
                named.push((share, whole, decimals));
            }
        }
        let suffix = |whole: &str, decimals: &str| {
            let collides = named.iter().filter(|(_, other, _)| other == whole).count() > 1;
            match collides && !decimals.is_empty() {
                true => format!(".{whole}_{decimals}percentile"),
                false => format!(".{whole}percentile"),
            }
        };
        let percentiles = named.iter().map(|(share, whole, decimals)| Percentile {
            share: *share,
            suffix: suffix(whole, decimals).into(),
        });
        Ok(Self(percentiles.collect()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Percentile> {
        self.0.iter()
    }
}

/// share·100 in decimal: what stands before the point and behind it, exactly as the shortest decimal of `share` has it.
fn hundredfold(share: f64) -> (String, String) {
    // Adding zero makes -0 a 0.
    let text = (share + 0.0).to_string();
    let (units, decimals) = text.split_once('.').unwrap_or((&text, ""));
    let hundredths: String = decimals.chars().chain("00".chars()).take(2).collect();
    let whole = format!("{units}{hundredths}");
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    (whole.to_owned(), decimals.chars().skip(2).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suffixes(shares: &[f64]) -> Vec<String> {
        let percentiles = Percentiles::new(shares).unwrap();
        percentiles
            .iter()
            .map(|percentile| percentile.suffix.to_string())
            .collect()
    }

    #[test]
    fn names_are_those_of_veneur_where_they_differ() {
        assert_eq!(
            suffixes(&[0.5, 0.75, 0.99]),
            [".50percentile", ".75percentile", ".99percentile"]
        );
        assert_eq!(suffixes(&[0.999]), [".99percentile"]);
        assert_eq!(
            suffixes(&[0.0, 0.005, 0.05, 1.0]),
            [
                ".0percentile",
                ".0_5percentile",
                ".5percentile",
                ".100percentile"
            ]
        );
    }

    #[test]
    fn colliding_names_get_their_decimals() {
        assert_eq!(
            suffixes(&[0.999, 0.99]),
            [".99_9percentile", ".99percentile"]
        );
        assert_eq!(
            suffixes(&[0.99, 0.999, 0.9999]),
            [".99percentile", ".99_9percentile", ".99_99percentile"]
        );
        assert_eq!(
            suffixes(&[0.995, 0.999]),
            [".99_5percentile", ".99_9percentile"]
        );
    }

    #[test]
    fn no_percentile_from_1_to_99_loses_one_to_rounding() {
        for whole in 1..100 {
            let share = f64::from(whole) / 100.0;
            assert_eq!(suffixes(&[share]), [format!(".{whole}percentile")]);
        }
    }

    #[test]
    fn a_percentile_named_twice_is_emitted_once() {
        assert_eq!(
            suffixes(&[0.5, 0.9, 0.5]),
            [".50percentile", ".90percentile"]
        );
    }

    #[test]
    fn what_is_no_percentile_is_refused() {
        for share in [-0.1, 1.1, 50.0, f64::NAN, f64::INFINITY] {
            let error = Percentiles::new(&[0.5, share]).unwrap_err();
            assert!(
                error.to_string().contains("is not between 0 and 1"),
                "{error}"
            );
        }
    }
}
