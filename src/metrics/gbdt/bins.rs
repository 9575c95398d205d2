//! Features in at most 255 bins of about equal share.

use super::*;

/// Most bins of a feature: a bin fits a byte.
const BINS: usize = 255;

/// The upper edges of the bins of each feature, ascending; values above all of them make one bin more.
#[derive(Clone, Debug)]
pub(super) struct Bins {
    edges: Vec<Vec<f32>>,
}

/// Bin numbers of events.
#[derive(Clone, Debug)]
pub(super) struct Binned {
    /// By feature, for histograms.
    pub(super) columns: Vec<Vec<u8>>,
    /// By event, for scores.
    pub(super) rows: Vec<u8>,
}

impl Bins {
    /// Bins that share out these events.
    pub(super) fn fit(columns: &[Vec<f32>]) -> Self {
        Self { edges: columns.par_iter().map(|column| edges(column)).collect() }
    }

    /// Bins of a feature.
    pub(super) fn of(&self, feature: usize) -> usize {
        self.edges[feature].len() + 1
    }

    /// Puts events into the bins.
    pub(super) fn sort(&self, columns: &[Vec<f32>]) -> Binned {
        let bin = |(column, edges): (&Vec<f32>, &Vec<f32>)| -> Vec<u8> {
            column.iter().map(|&value| edges.partition_point(|&edge| edge < value) as u8).collect()
        };
        let binned: Vec<Vec<u8>> = columns.par_iter().zip(&self.edges).map(bin).collect();
        let events = binned.first().map_or(0, Vec::len);
        let rows = (0..events).flat_map(|event| binned.iter().map(move |column| column[event])).collect();
        Binned { columns: binned, rows }
    }
}

/// Midpoints between neighbouring values: of all distinct ones where they are few, else at equal shares.
fn edges(column: &[f32]) -> Vec<f32> {
    let mut ascending = column.to_vec();
    ascending.sort_unstable_by(f32::total_cmp);
    let mut distinct = ascending.clone();
    distinct.dedup();
    let mut edges: Vec<f32> = if distinct.len() <= BINS {
        distinct.windows(2).map(|pair| f32::midpoint(pair[0], pair[1])).collect()
    } else {
        let at = |i: usize| i * ascending.len() / BINS;
        (1..BINS).map(|i| f32::midpoint(ascending[at(i) - 1], ascending[at(i)])).collect()
    };
    edges.dedup();
    edges
}
