//! Bins of a histogram, and which bins suit which observable.

use serde::{Deserialize, Serialize};

use super::{sorted, tail::quantile};

/// Ascending edges. A value belongs to the bin [lower, upper); the last bin holds its upper edge too, as in numpy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Binning {
    /// Finite edges, strictly ascending, at least two.
    edges: Vec<f64>,
    /// Whether the first bin also takes what lies below it.
    open_below: bool,
    /// Whether the last bin also takes what lies above it.
    open_above: bool,
}

/// A binning as it stands in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    edges: Vec<f64>,
    open_below: bool,
    open_above: bool,
}

impl TryFrom<Unchecked> for Binning {
    type Error = &'static str;

    fn try_from(Unchecked { edges, open_below, open_above }: Unchecked) -> Result<Self, Self::Error> {
        let closed = Self::new(edges).ok_or("the edges of a histogram must be finite and ascend")?;
        Ok(Self { open_below, open_above, ..closed })
    }
}

/// The binnings of `DijetGAN` and `PreciseGAN`: bins, range, and the first bin (from 0) that enters the χ².
const DIJET: [(&str, usize, f64, f64, usize); 9] = [
    ("ljet1_pt", 20, 200.0, 800.0, 1),
    ("ljet1_eta", 25, -2.5, 2.5, 0),
    ("ljet1_M", 30, 0.0, 300.0, 0),
    ("ljet2_pt", 20, 200.0, 600.0, 2),
    ("ljet2_eta", 25, -2.5, 2.5, 0),
    ("ljet2_M", 30, 0.0, 300.0, 0),
    ("jj_pt", 15, 0.0, 300.0, 0),
    ("jj_eta", 30, -6.0, 6.0, 0),
    ("jj_M", 20, 0.0, 2000.0, 5),
];

/// Edges in GeV for the falling dijet mass spectrum: steps of about ten per cent up to 13,000, wider where events are rare.
const DIJET_MASS: [f64; 24] = [
    1000.0, 1100.0, 1200.0, 1320.0, 1450.0, 1600.0, 1750.0, 1900.0, 2100.0, 2300.0, 2500.0, 2750.0, 3000.0, 3300.0,
    3650.0, 4050.0, 4500.0, 5000.0, 5600.0, 6300.0, 7200.0, 8500.0, 10000.0, 13000.0,
];

/// Bins of a tail whose observable has no edges of its own.
const TAIL_BINS: usize = 12;

impl Binning {
    /// Closed bins between these edges; `None` if they are fewer than two, not finite or not strictly ascending.
    pub fn new(edges: Vec<f64>) -> Option<Self> {
        let fits = edges.len() >= 2
            && edges.iter().all(|edge| edge.is_finite())
            && edges.windows(2).all(|pair| pair[0] < pair[1]);
        fits.then_some(Self { edges, open_below: false, open_above: false })
    }

    /// The same bins, but the outer ones also take all that lies beyond them.
    #[must_use]
    pub fn open(self) -> Self {
        Self { open_below: true, open_above: true, ..self }
    }

    /// The same bins, but the last one also takes all that lies above it.
    #[must_use]
    pub fn open_above(self) -> Self {
        Self { open_above: true, ..self }
    }

    /// Bins of equal width.
    pub fn uniform(bins: usize, low: f64, high: f64) -> Option<Self> {
        Self::new((0..=bins).map(|i| between(i, bins, low, high)).collect())
    }

    /// Bins of equal ratio, for a positive range.
    pub fn logarithmic(bins: usize, low: f64, high: f64) -> Option<Self> {
        let inner = |i| {
            if i == 0 {
                low
            } else if i == bins {
                high
            } else {
                between(i, bins, low.ln(), high.ln()).exp()
            }
        };
        (low > 0.0).then(|| Self::new((0..=bins).map(inner).collect())).flatten()
    }

    /// Open bins that share out a sample equally; fewer where values repeat. `None` if all values are the same.
    pub fn quantile(bins: usize, sample: &[f64]) -> Option<Self> {
        let sample = sorted(sample);
        let mut edges: Vec<f64> = (0..=bins).filter_map(|i| quantile(&sample, i as f64 / bins as f64)).collect();
        edges.dedup();
        Self::new(edges).map(Self::open)
    }

    /// `PreciseGAN`'s bins of a dijet observable, from the first bin that it uses on.
    ///
    /// Its leading bins lie below the trigger threshold; with them, totals and degrees of freedom would count empty bins.
    pub fn dijet(observable: &str) -> Option<Self> {
        let &(_, bins, low, high, first) = DIJET.iter().find(|row| row.0 == observable)?;
        Self::new((first..=bins).map(|i| between(i, bins, low, high)).collect())
    }

    /// Bins for an observable that is known by its name, or shares of a sample else (also where the known bins hold less than
    /// half of it: the name then means something else, or another unit).
    pub fn for_observable(observable: &str, sample: &[f64]) -> Option<Self> {
        let known =
            Self::dijet(observable).filter(|known| 2 * known.counts(sample).iter().sum::<u64>() > sample.len() as u64);
        known.or_else(|| Self::quantile(25, sample))
    }

    /// Bins of the tail above a cut, the last one open: ten-per-cent steps for `jj_M` in GeV, else [`TAIL_BINS`] of equal ratio
    /// (of equal width if the cut is not positive) up to the largest value of a sample. `None` if no value lies above the cut.
    pub fn tail(observable: &str, cut: f64, sample: &[f64]) -> Option<Self> {
        let largest = sample.iter().copied().fold(cut, f64::max);
        let (lowest, highest) = (DIJET_MASS[0], DIJET_MASS[DIJET_MASS.len() - 2]);
        let bins = if observable == "jj_M" && (lowest..highest).contains(&cut) {
            // An edge just above the cut would leave a sliver of a bin.
            let above = DIJET_MASS.into_iter().filter(|&edge| edge > 1.03 * cut);
            Self::new(std::iter::once(cut).chain(above).collect())
        } else if cut > 0.0 {
            Self::logarithmic(TAIL_BINS, cut, largest)
        } else {
            Self::uniform(TAIL_BINS, cut, largest)
        };
        bins.filter(|_| largest > cut).map(Self::open_above)
    }

    /// The edges, one more than bins.
    pub fn edges(&self) -> &[f64] {
        &self.edges
    }

    /// The bin of a value, if it lies in one.
    pub fn bin(&self, value: f64) -> Option<usize> {
        let bins = self.edges.len() - 1;
        let edges_below = self.edges.partition_point(|&edge| edge <= value);
        match edges_below {
            _ if value.is_nan() => None,
            0 => self.open_below.then_some(0),
            n if n <= bins => Some(n - 1),
            _ => (self.open_above || Some(&value) == self.edges.last()).then_some(bins - 1),
        }
    }

    /// Events in each bin.
    pub fn counts(&self, sample: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; self.edges.len() - 1];
        sample.iter().filter_map(|&value| self.bin(value)).for_each(|bin| counts[bin] += 1);
        counts
    }

    /// Sums of the weights, and of their squares, in each bin.
    pub fn weighted_counts(&self, sample: &[f64], weights: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (mut sums, mut squares) = (vec![0.0; self.edges.len() - 1], vec![0.0; self.edges.len() - 1]);
        for (&value, &weight) in sample.iter().zip(weights) {
            if let Some(bin) = self.bin(value) {
                sums[bin] += weight;
                squares[bin] += weight * weight;
            }
        }
        (sums, squares)
    }
}

/// The i-th of n + 1 evenly spaced numbers, exact at both ends.
fn between(i: usize, n: usize, low: f64, high: f64) -> f64 {
    if i == n { high } else { low + (high - low) / n as f64 * i as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_holds_its_lower_edge_and_the_last_one_its_upper_edge_too() {
        let bins = Binning::new(vec![0.0, 1.0, 2.0]).unwrap();
        assert_eq!(bins.counts(&[-0.1, 0.0, 1.0, 2.0, 2.1, f64::NAN]), [1, 2]);
        assert_eq!(bins.open().counts(&[-0.1, 0.0, 1.0, 2.0, 2.1, f64::NAN]), [2, 3]);
    }

    #[test]
    fn edges_that_do_not_ascend_are_refused() {
        assert_eq!(Binning::new(vec![0.0]), None);
        assert_eq!(Binning::new(vec![0.0, 0.0]), None);
        assert_eq!(Binning::new(vec![0.0, f64::INFINITY]), None);
        assert_eq!(Binning::logarithmic(3, 0.0, 1.0), None);
    }

    #[test]
    fn the_first_bin_used_is_where_the_trigger_begins() {
        let lower = |name| Binning::dijet(name).unwrap().edges()[0];
        assert!((lower("ljet1_pt") - 230.0).abs() < 1e-9);
        assert!((lower("ljet2_pt") - 240.0).abs() < 1e-9);
        assert!((lower("jj_M") - 500.0).abs() < 1e-9);
        assert_eq!(Binning::dijet("jj_M").unwrap().edges().len(), 16);
        assert_eq!(Binning::dijet("ljet2_phi"), None);
    }

    #[test]
    fn quantile_bins_share_out_their_sample() {
        let sample: Vec<f64> = (0..1000).map(|i| f64::from(i).exp2().min(1e300)).collect();
        let counts = Binning::quantile(4, &sample[..996]).unwrap().counts(&sample[..996]);
        assert_eq!(counts, [249; 4]);
        assert_eq!(Binning::quantile(4, &[1.0, 1.0]), None);
        assert_eq!(Binning::quantile(4, &[]), None);
        assert_eq!(Binning::quantile(4, &[1.0, 1.0, 1.0, 1.0, 2.0]).unwrap().counts(&[0.0, 1.0, 5.0]), [3]);
    }

    #[test]
    fn a_known_name_in_another_unit_gets_bins_of_its_own() {
        let in_tev: Vec<f64> = (1..100).map(|i| f64::from(i) * 0.01).collect();
        assert_eq!(Binning::for_observable("ljet1_pt", &in_tev), Binning::quantile(25, &in_tev));
        let in_gev: Vec<f64> = in_tev.iter().map(|value| 1000.0 * value).collect();
        assert_eq!(Binning::for_observable("ljet1_pt", &in_gev), Binning::dijet("ljet1_pt"));
    }

    #[test]
    fn tail_bins_start_at_the_cut_and_end_open() {
        let mass = Binning::tail("jj_M", 2500.0, &[9000.0]).unwrap();
        assert_eq!(mass.edges()[..3], [2500.0, 2750.0, 3000.0]);
        assert_eq!(mass.counts(&[2400.0, 2500.0, 99_999.0]).iter().sum::<u64>(), 2);
        assert_eq!(Binning::tail("jj_M", 2490.0, &[9000.0]).unwrap().edges()[..2], [2490.0, 2750.0]);
        let other = Binning::tail("x", 2.0, &[32.0]).unwrap();
        assert!((other.edges()[3] - 4.0).abs() < 1e-12 && other.edges().len() == 13);
        assert_eq!(Binning::tail("x", -1.0, &[11.0]).unwrap().edges()[..2], [-1.0, 0.0]);
        assert_eq!(Binning::tail("x", 2.0, &[1.0]), None);
    }

    #[test]
    fn weights_and_their_squares_add_up() {
        let bins = Binning::uniform(2, 0.0, 2.0).unwrap();
        assert_eq!(bins.weighted_counts(&[0.5, 0.7, 1.5], &[1.0, 2.0, 3.0]), (vec![3.0, 3.0], vec![5.0, 9.0]));
    }
}
