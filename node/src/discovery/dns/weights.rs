//! From the weights of SRV records, which may be anything up to 65535, to such as a ring can bear.

/// The largest one. Each unit is thousands of points on a ring, placed anew at each change.
const LARGEST: u64 = 16;
/// All together: what a ring refuses is twice as much.
const ALL: u64 = 8192;

/// Keeps the proportions: exactly where a common divisor makes them small enough, rounded otherwise. Nobody is left out: the weight 0 of
/// SRV records means "hardly any", and "alike" where all have it.
pub(super) fn scaled(weights: &[u16]) -> Vec<u16> {
    let weights: Vec<u64> = weights
        .iter()
        .map(|weight| u64::from(*weight).max(1))
        .collect();
    let largest = weights.iter().copied().max().unwrap_or(1);
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor);
    let bearable = (ALL / (weights.len() as u64).max(1)).clamp(1, LARGEST);
    let scaled = weights.iter().map(|weight| match largest / divisor.max(1) {
        exact if exact <= bearable => weight / divisor.max(1),
        _ => ((weight * bearable + largest / 2) / largest).max(1),
    });
    scaled.map(|weight| weight as u16).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proportions_are_kept_and_nobody_is_left_out() {
        for (given, expected) in [
            (&[][..], &[][..]),
            (&[0, 0], &[1, 1]),
            (&[65535, 65535], &[1, 1]),
            (&[10, 20, 50], &[1, 2, 5]),
            (&[100, 150], &[2, 3]),
            (&[0, 5], &[1, 5]),
            (&[1, 65535], &[1, 16]),
            (&[33_000, 65_535], &[8, 16]),
        ] {
            assert_eq!(scaled(given), expected, "{given:?}");
        }
    }

    #[test]
    fn many_of_different_weights_still_fit_on_a_ring() {
        let given: Vec<u16> = (1..=4000).collect();
        let sum: u64 = scaled(&given).into_iter().map(u64::from).sum();
        assert!(sum <= ALL, "{sum}");
        assert!(scaled(&vec![7; 60_000]).iter().all(|weight| *weight == 1));
    }
}
