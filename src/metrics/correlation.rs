//! Spearman's rank correlation: how two observables go together, whatever the shape of either.

use super::Sample;

/// Ranks of the values from 1, those of equal values averaged, as `scipy.stats.rankdata`.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    order.sort_unstable_by(|&one, &other| values[one as usize].total_cmp(&values[other as usize]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for equal in order.chunk_by(|&one, &other| values[one as usize] == values[other as usize]) {
        // The mean of first + 1, …, first + equal.len().
        let rank = first as f64 + f64::midpoint(equal.len() as f64, 1.0);
        for &at in equal {
            ranks[at as usize] = rank;
        }
        first += equal.len();
    }
    ranks
}

/// The pairs (i, j), i < j, of so many observables, row by row: the order in which correlations are listed.
pub fn pairs(observables: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..observables).flat_map(move |i| (i + 1..observables).map(move |j| (i, j)))
}

/// Spearman's correlation of each of the [`pairs`] of observables over the complete events, as `scipy.stats.spearmanr`. `None` where an
/// observable has no spread, or there are fewer than two events.
pub fn spearman(sample: &Sample) -> Vec<Option<f64>> {
    // Ranks less their mean, which is known, at length 1.
    let unit = |observable: usize| {
        let values: Vec<f32> = (0..sample.events()).map(|row| sample.event(row)[observable]).collect();
        let mean = f64::midpoint(values.len() as f64, 1.0);
        let mut ranks = ranks(&values);
        for rank in &mut ranks {
            *rank -= mean;
        }
        let length = ranks.iter().map(|rank| rank * rank).sum::<f64>().sqrt();
        (length > 0.0).then(|| ranks.iter().map(|rank| rank / length).collect::<Vec<f64>>())
    };
    let units: Vec<Option<Vec<f64>>> = (0..sample.width()).map(unit).collect();
    let dot = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f64>().clamp(-1.0, 1.0);
    pairs(units.len()).map(|(i, j)| Some(dot(units[i].as_ref()?, units[j].as_ref()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.spearmanr` (scipy 1.17) of these columns.
    #[test]
    fn ties_share_their_rank_and_an_observable_without_spread_has_no_correlation() {
        let a = vec![1.0, 2.0, 2.0, 5.0, 9.0, 3.0];
        let b = vec![2.0, 1.0, 4.0, 4.0, 30.0, 4.0];
        let found = spearman(&Sample::new(&[a, b, vec![7.0; 6]], None));
        assert!((found[0].unwrap() - 0.800_853_434_723_806_7).abs() < 1e-12, "{found:?}");
        assert_eq!(found[1..], [None, None]);
        assert_eq!(pairs(3).collect::<Vec<_>>(), [(0, 1), (0, 2), (1, 2)]);
    }

    #[test]
    fn a_monotone_map_changes_nothing() {
        let a: Vec<f64> = (0..100).map(|i| f64::from(i * 37 % 100)).collect();
        let b: Vec<f64> = a.iter().map(|a| -a.exp().ln_1p()).collect();
        assert!((spearman(&Sample::new(&[a, b], None))[0].unwrap() + 1.0).abs() < 1e-12);
        assert_eq!(spearman(&Sample::new(&[vec![1.0], vec![2.0]], None)), [None]);
    }
}
