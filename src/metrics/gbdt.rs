//! Gradient-boosted decision trees on histograms, for telling two samples apart.
//!
//! After LightGBM (Ke et al. 2017) and scikit-learn's `HistGradientBoostingClassifier`, whose defaults [`Config`] keeps but
//! for the number of trees: logistic loss, 255 bins of equal share, trees that grow at their best leaf, no regularisation,
//! early stopping on a validation part. Nothing here is random, and threads share out features, so results do not depend on
//! them. The crates that do this either hang on the machine's load and memory or are no longer kept, and a version of theirs
//! would change results under an unchanged cache key.

use rayon::prelude::*;

mod bins;
mod tree;

use bins::{Binned, Bins};
use tree::{Grower, Tree};

/// How to grow trees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Most trees.
    pub trees: usize,
    /// Most leaves of a tree.
    pub leaves: usize,
    /// The step taken with each tree.
    pub rate: f64,
    /// Fewest events in a leaf.
    pub least_events: usize,
    /// Stops when the loss on validation events has not fallen for so many trees.
    pub patience: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { trees: 300, leaves: 31, rate: 0.1, least_events: 20, patience: 10 }
    }
}

/// Events as columns of equal length, each event of one of two classes.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// Features, finite.
    pub columns: &'a [Vec<f32>],
    /// Whether an event is of the class to be found.
    pub classes: &'a [bool],
}

/// A fitted classifier.
#[derive(Clone, Debug)]
pub struct Classifier {
    bins: Bins,
    /// The log-odds of the classes.
    start: f64,
    trees: Vec<Tree>,
}

impl Classifier {
    /// Fits trees to events, as many as lower the loss on the validation events. `None` if either part lacks a class.
    pub fn fit(train: Labelled<'_>, validation: Labelled<'_>, config: Config) -> Option<Self> {
        let of_class = train.classes.iter().filter(|&&class| class).count();
        let checked = validation.classes.iter().filter(|&&class| class).count();
        if of_class == 0 || of_class == train.classes.len() || checked == 0 || checked == validation.classes.len() {
            return None;
        }
        let start = (of_class as f64 / (train.classes.len() - of_class) as f64).ln();
        let bins = Bins::fit(train.columns);
        let (events, checks) = (bins.sort(train.columns), bins.sort(validation.columns));
        let mut grower = Grower::new(&events, &bins, config);
        let mut scores = vec![start; train.classes.len()];
        let mut checked = vec![start; validation.classes.len()];
        let mut trees = Vec::new();
        let (mut best, mut kept): (f64, usize) = (loss(&checked, validation.classes), 0);
        while trees.len() < config.trees.min(kept + config.patience) {
            let slopes: Vec<Slope> =
                scores.iter().zip(train.classes).map(|(&score, &class)| Slope::of(score, class)).collect();
            let Some(tree) = grower.grow(&slopes, &mut scores) else { break };
            tree.add_to(&checks, &mut checked);
            trees.push(tree);
            let found = loss(&checked, validation.classes);
            if found < best - 1e-7 {
                (best, kept) = (found, trees.len());
            }
        }
        trees.truncate(kept);
        Some(Self { bins, start, trees })
    }

    /// The log-odds that each event is of the class.
    pub fn scores(&self, columns: &[Vec<f32>]) -> Vec<f64> {
        let events = self.bins.sort(columns);
        let mut scores = vec![self.start; columns.first().map_or(0, Vec::len)];
        self.trees.iter().for_each(|tree| tree.add_to(&events, &mut scores));
        scores
    }

    /// Trees kept.
    pub fn trees(&self) -> usize {
        self.trees.len()
    }
}

/// First and second derivative of an event's loss by its score.
#[derive(Clone, Copy, Debug, Default)]
struct Slope {
    first: f64,
    second: f64,
}

impl Slope {
    fn of(score: f64, class: bool) -> Self {
        let p = 1.0 / (1.0 + (-score).exp());
        Self { first: p - f64::from(u8::from(class)), second: p * (1.0 - p) }
    }
}

/// The mean logistic loss.
fn loss(scores: &[f64], classes: &[bool]) -> f64 {
    let one = |(&score, &class): (&f64, &bool)| {
        let against = if class { -score } else { score };
        // ln(1 + eˣ) without overflow.
        against.max(0.0) + (-against.abs()).exp().ln_1p()
    };
    scores.iter().zip(classes).map(one).sum::<f64>() / scores.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two features on a lattice; the class is whether both lie on one side of the middle, with every tenth event wrong.
    fn chequers(size: usize, shift: usize) -> (Vec<Vec<f32>>, Vec<bool>) {
        let point = |i: usize| (((i * 37 + shift) % 101) as f32, ((i * 61 + shift) % 97) as f32);
        let columns = vec![(0..size).map(|i| point(i).0).collect(), (0..size).map(|i| point(i).1).collect()];
        let class = |i: usize| ((point(i).0 > 50.0) == (point(i).1 > 48.0)) ^ i.is_multiple_of(10);
        (columns, (0..size).map(class).collect())
    }

    #[test]
    fn trees_learn_what_no_feature_shows_alone() {
        let ((columns, classes), (others, truth)) = (chequers(4000, 0), chequers(2000, 13));
        let labelled = Labelled { columns: &columns, classes: &classes };
        let validation = Labelled { columns: &others, classes: &truth };
        let fitted = Classifier::fit(labelled, validation, Config::default()).unwrap();
        let scores = fitted.scores(&others);
        let right = scores.iter().zip(&truth).filter(|(score, truth)| (**score > 0.0) == **truth).count();
        assert!(right as f64 > 0.88 * 2000.0, "{right} of 2000 in {} trees", fitted.trees());
    }

    #[test]
    fn classes_that_features_do_not_tell_apart_grow_hardly_a_tree() {
        let columns = vec![(0..3000).map(|i| (i / 2 % 101) as f32).collect::<Vec<_>>()];
        let classes: Vec<bool> = (0..3000).map(|i| i % 2 == 0).collect();
        let labelled = Labelled { columns: &columns, classes: &classes };
        assert_eq!(Classifier::fit(labelled, labelled, Config::default()).unwrap().trees(), 0);
    }

    #[test]
    fn a_part_without_both_classes_or_without_spread_does_not_break_it() {
        let columns = vec![vec![1.0; 100]];
        let (one, both) = (vec![true; 100], (0..100).map(|i| i < 50).collect::<Vec<_>>());
        let labelled = |classes| Labelled { columns: &columns, classes };
        assert!(Classifier::fit(labelled(&one), labelled(&both), Config::default()).is_none());
        assert!(Classifier::fit(labelled(&both), labelled(&one), Config::default()).is_none());
        assert_eq!(Classifier::fit(labelled(&both), labelled(&both), Config::default()).unwrap().trees(), 0);
    }
}
