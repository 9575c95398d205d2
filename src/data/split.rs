//! The split: which events train, which choose, which judge. A seeded shuffle, so every event has the same chance.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// All events in the order of their parts: those to report on, those to choose by, and the rest, to train on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Every event once.
    pub order: Vec<u32>,
    /// How many of the first ones test.
    pub test: usize,
    /// How many of those after them validate.
    pub validation: usize,
}

/// Splits `events` events by these shares, each rounded to whole events; the rest trains.
///
/// A Fisher-Yates shuffle written out here, so that the same stream gives the same split with every version of every crate.
pub fn split(events: u32, validation: f64, test: f64, rng: &mut ChaCha8Rng) -> Split {
    let mut order: Vec<u32> = (0..events).collect();
    let events = order.len();
    for last in (1..events).rev() {
        order.swap(last, below(last + 1, rng));
    }
    let share = |fraction: f64| (events as f64 * fraction.clamp(0.0, 1.0)).round() as usize;
    let test = share(test).min(events);
    let validation = share(validation).min(events - test);
    Split { order, test, validation }
}

/// A whole number in [0, bound): the high half of a 64-bit product; its bias is below `bound` / 2⁶⁴.
fn below(bound: usize, rng: &mut ChaCha8Rng) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Streams;

    fn parts(events: u32, validation: f64, test: f64, seed: u64) -> Split {
        split(events, validation, test, &mut Streams::new(seed, "dataset").stream("split"))
    }

    proptest! {
        #[test]
        fn a_split_has_every_event_once(events in 0u32..3000, validation in 0.0..0.5, test in 0.0..0.5, seed: u64) {
            let parts = parts(events, validation, test, seed);
            prop_assert_eq!(parts.test, (f64::from(events) * test).round() as usize);
            prop_assert!(parts.test + parts.validation <= events as usize);
            let mut all = parts.order;
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..events));
        }
    }

    #[test]
    fn the_split_depends_on_the_seed_and_on_nothing_else() {
        assert_eq!(parts(1000, 0.1, 0.2, 7), parts(1000, 0.1, 0.2, 7));
        assert_ne!(parts(1000, 0.1, 0.2, 7), parts(1000, 0.1, 0.2, 8));
    }

    #[test]
    fn every_event_is_tested_equally_often() {
        let mut chosen = [0_u32; 10];
        for seed in 0..2000 {
            for event in &parts(10, 0.1, 0.2, seed).order[..2] {
                chosen[*event as usize] += 1;
            }
        }
        // 400 expected, deviation 18.
        assert!(chosen.iter().all(|&times| (310..490).contains(&times)), "{chosen:?}");
    }
}
