//! Finds the columns in which single precision makes one value of several.
//!
//! Every number loses digits; that counts only where values merge. Whole numbers beyond 2²⁴ (identifiers, times) are counted all, or a
//! share of them that is chosen by their images, so that all that meet in one are there. Of other numbers a sample that is spread over the file is
//! compared: in thousand values with random digits hardly two meet. Memory is bounded.

use std::{collections::HashSet, fmt, hash::Hash};

/// Whole numbers up to this are exact in single precision: 2²⁴.
const EXACT: f32 = 16_777_216.0;
/// Doubles beyond this are whole whatever they stand for: 2⁴⁸.
const NO_FRACTION: f64 = 281_474_976_710_656.0;
/// The most values in a sample.
const SAMPLE: usize = 1024;
/// The most whole numbers that are kept.
const KEPT: usize = 4096;

/// The share of whole numbers that may meet, in percent.
const WHOLE_PERCENT: u64 = 1;
/// The share of other numbers in a sample that may meet: with more of them a column has fewer than about ten thousand levels.
const REAL_PERCENT: u64 = 5;

/// A number as its file holds it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Exact {
    Whole(i128),
    Real(f64),
}

impl Exact {
    fn whole(self) -> Option<i128> {
        match self {
            Self::Whole(number) => Some(number),
            Self::Real(number) => (number.fract() == 0.0 && number.abs() < NO_FRACTION).then_some(number as i128),
        }
    }

    /// The number less what arithmetic adds to its last digits: `0.1 + 0.2` is 0.3.
    fn rounded(self) -> u64 {
        const NOISE: u64 = 1 << 16;
        let number = match self {
            Self::Whole(number) => number as f64,
            Self::Real(number) => number + 0.0,
        };
        number.to_bits().wrapping_add(NOISE / 2) & !(NOISE - 1)
    }
}

/// Values of a column that meet in single precision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The column.
    pub column: String,
    /// Different values in the file.
    pub distinct: u64,
    /// Different values in single precision.
    pub left: u64,
    counted: Counted,
}

/// The values that were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    All,
    Sample,
    Whole,
    /// Extrapolated from a share of them.
    AboutWhole,
}

impl fmt::Display for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { column, distinct, left, counted } = self;
        let (before, numbers, about) = match counted {
            Counted::All => ("", "values", ""),
            Counted::Sample => ("of a sample ", "values", ""),
            Counted::Whole => ("", "whole numbers beyond 16777216", ""),
            Counted::AboutWhole => ("about ", "whole numbers beyond 16777216", "about "),
        };
        write!(
            f,
            "column `{column}`: {before}{distinct} different {numbers} become {about}{left} in single precision; subtract an offset from \
             them in the file, or leave the column out of `features`"
        )
    }
}

/// Watches the numbers of a column as they become single-precision ones.
#[derive(Debug)]
pub(super) struct Precision {
    seen: u64,
    /// Every so many values one is sampled; a power of two.
    stride: u64,
    sample: Vec<(f32, Exact)>,
    /// `None` once a number is not whole.
    wholes: Option<Wholes>,
}

impl Default for Precision {
    fn default() -> Self {
        Self { seen: 0, stride: 1, sample: Vec::new(), wholes: Some(Wholes::default()) }
    }
}

impl Precision {
    /// Passes on a number in single precision, and looks at the exact one where it is needed.
    pub(super) fn single(&mut self, single: f32, exact: impl FnOnce() -> Exact) -> f32 {
        let sampled = self.seen & (self.stride - 1) == 0;
        self.seen += 1;
        if sampled || self.wholes.as_ref().is_some_and(|wholes| wholes.wants(single)) {
            self.look(single, exact(), sampled);
        }
        single
    }

    fn look(&mut self, single: f32, exact: Exact, sampled: bool) {
        match (exact.whole(), &mut self.wholes) {
            (None, wholes) => *wholes = None,
            (Some(number), Some(wholes)) if wholes.wants(single) => wholes.keep(single, number),
            _ => {}
        }
        if sampled {
            self.sample.push((single, exact));
        }
        if self.sample.len() >= SAMPLE {
            let mut place = 0;
            self.sample.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.stride *= 2;
        }
    }

    /// Returns the values that meet, if they are more than chance explains.
    pub(super) fn merged(&self, column: &str) -> Option<Merged> {
        let found = |distinct: u64, left: u64, counted, percent: u64| {
            let material = (distinct - left.min(distinct)) * 100 > distinct * percent;
            material.then(|| Merged { column: column.to_owned(), distinct, left, counted })
        };
        if let Some(Wholes { kept, level }) = &self.wholes {
            let counted = if *level == 0 { Counted::Whole } else { Counted::AboutWhole };
            let (distinct, left) = (kept.len() as u64, count(kept.iter().map(|(image, _)| image)));
            if let Some(merged) = found(distinct << level, left << level, counted, WHOLE_PERCENT) {
                return Some(merged);
            }
        }
        let counted = if self.stride == 1 { Counted::All } else { Counted::Sample };
        let distinct = match self.wholes {
            Some(_) => count(self.sample.iter().map(|(_, exact)| exact.whole())),
            None => count(self.sample.iter().map(|(_, exact)| exact.rounded())),
        };
        let left = count(self.sample.iter().map(|(single, _)| (single + 0.0).to_bits()));
        found(distinct, left, counted, REAL_PERCENT)
    }
}

fn count<T: Eq + Hash>(values: impl Iterator<Item = T>) -> u64 {
    values.collect::<HashSet<T>>().len() as u64
}

/// Whole numbers beyond 2²⁴ with their images in single precision: those whose image's hash begins with `level` zeros.
#[derive(Debug, Default)]
struct Wholes {
    kept: HashSet<(u32, i128)>,
    level: u32,
}

impl Wholes {
    fn wants(&self, single: f32) -> bool {
        single.abs() >= EXACT && self.has(single.to_bits())
    }

    fn has(&self, image: u32) -> bool {
        let hash = image.wrapping_mul(0x9e37_79b1);
        (hash ^ (hash >> 15)).wrapping_mul(0x85eb_ca6b).leading_zeros() >= self.level
    }

    fn keep(&mut self, single: f32, number: i128) {
        self.kept.insert((single.to_bits(), number));
        while self.kept.len() > KEPT {
            self.level += 1;
            let mut kept = std::mem::take(&mut self.kept);
            kept.retain(|(image, _)| self.has(*image));
            self.kept = kept;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn merged(numbers: impl IntoIterator<Item = Exact>) -> Option<Merged> {
        let mut precision = Precision::default();
        for number in numbers {
            let single = match number {
                Exact::Whole(number) => number as f32,
                Exact::Real(number) => number as f32,
            };
            precision.single(single, || number);
        }
        precision.merged("x")
    }

    fn whole(numbers: impl IntoIterator<Item = i64>) -> Option<Merged> {
        merged(numbers.into_iter().map(|number| Exact::Whole(number.into())))
    }

    fn real(numbers: impl IntoIterator<Item = f64>) -> Option<Merged> {
        merged(numbers.into_iter().map(Exact::Real))
    }

    #[test]
    fn identifiers_that_meet_are_counted() {
        let ids = whole(20_000_000..20_000_300).unwrap();
        assert_eq!((ids.distinct, ids.left), (300, 151));
        assert!(
            ids.to_string().starts_with("column `x`: 300 different whole numbers beyond 16777216 become 151 in"),
            "{ids}"
        );
        // As doubles, and in any order.
        let mut ids: Vec<f64> = (0..1_000_000).map(|k| f64::from(20_000_000 + k * 7 % 1_000_000)).collect();
        ids.extend_from_within(..1000);
        let ids = real(ids).unwrap();
        assert!(ids.to_string().contains("column `x`: about "), "{ids}");
        assert!((800_000..1_200_000).contains(&ids.distinct), "{ids}");
        assert!((0.48..0.52).contains(&(ids.left as f64 / ids.distinct as f64)), "{ids}");
        // Nearly all meet in few.
        let far = whole((0..100_000).map(|k| 1_700_000_000_000_000_000 + k)).unwrap();
        assert!(far.left < 3 && far.distinct > 400, "{far}");
    }

    #[test]
    fn times_that_meet_are_told_of_a_sample() {
        let times = real((0..100_000).map(|k| 1_700_000_000.0 + f64::from(k) * 0.37)).unwrap();
        assert!(
            times.distinct > 400 && times.left < times.distinct && times.to_string().contains("of a sample "),
            "{times}"
        );
        let few = real((0..10).map(|k| 1e9 + f64::from(k) * 0.5)).unwrap();
        assert_eq!((few.distinct, few.left, few.counted), (10, 1, Counted::All));
    }

    #[test]
    fn numbers_with_random_digits_do_not_alarm() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut sorted: Vec<f64> = (0..300_000).map(|_| rng.random_range(1.0..2.0)).collect();
        assert_eq!(real(sorted.clone()), None);
        sorted.sort_unstable_by(f64::total_cmp);
        assert_eq!(real(sorted.clone()), None);
        // A narrow peak, energies in eV, doubles beyond all fractions, small whole numbers, and few values with the noise of arithmetic.
        assert_eq!(real(sorted.iter().map(|x| 91.0 + x)), None);
        assert_eq!(real(sorted.iter().map(|x| x * 6.5e12)), None);
        assert_eq!(real(sorted.iter().map(|x| x * 6e15)), None);
        assert_eq!(whole(0..300_000), None);
        assert_eq!(
            real((0..100_000).map(|k| f64::from(k % 20) * 0.1 + f64::from(k % 7) * 0.1 - f64::from(k % 7) * 0.1)),
            None
        );
        assert_eq!(real((0..300).map(|k| 100.0 + f64::from(k).sin())), None);
        assert_eq!(real([0.0, -0.0, 1.0]), None);
        assert_eq!(merged([]), None);
    }
}
