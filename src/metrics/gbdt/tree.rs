//! One tree: grown leaf by leaf, the one first whose split lowers the loss most.

use super::*;

/// The least sum of second derivatives in a leaf.
const LEAST_CURVATURE: f64 = 1e-3;
/// Leaves with fewer events are not worth the threads.
const PARALLEL: usize = 20_000;

/// A fitted tree; node 0 is the root.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    features: usize,
}

#[derive(Clone, Copy, Debug)]
enum Node {
    Leaf(f64),
    /// Events up to and with this bin of the feature go to the first node, others to the next one.
    Split {
        feature: usize,
        bin: u8,
        children: usize,
    },
}

impl Tree {
    /// Adds the value of each event's leaf to its score.
    pub(super) fn add_to(&self, events: &Binned, scores: &mut [f64]) {
        for (row, score) in events.rows.chunks_exact(self.features.max(1)).zip(scores) {
            let mut at = 0;
            *score += loop {
                match self.nodes[at] {
                    Node::Leaf(value) => break value,
                    Node::Split { feature, bin, children } => at = children + usize::from(row[feature] > bin),
                }
            };
        }
    }
}

/// Sums over the events of a bin or leaf.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    first: f64,
    second: f64,
    events: u32,
}

impl Sums {
    fn add(&mut self, slope: Slope) {
        self.first += slope.first;
        self.second += slope.second;
        self.events += 1;
    }

    fn plus(self, other: Self) -> Self {
        Self { first: self.first + other.first, second: self.second + other.second, events: self.events + other.events }
    }

    fn less(self, other: Self) -> Self {
        Self { first: self.first - other.first, second: self.second - other.second, events: self.events - other.events }
    }

    /// Twice the fall of the loss from the best value.
    fn gain(self) -> f64 {
        self.first * self.first / self.second.max(f64::MIN_POSITIVE)
    }
}

/// The best split of a leaf.
#[derive(Clone, Copy, Debug)]
struct Split {
    gain: f64,
    feature: usize,
    bin: u8,
}

/// A leaf that may still be split.
struct Leaf {
    node: usize,
    /// Its events, as a range of the order.
    from: usize,
    to: usize,
    sums: Sums,
    histograms: Vec<Vec<Sums>>,
    split: Option<Split>,
}

/// Grows trees on the same events.
pub(super) struct Grower<'a> {
    events: &'a Binned,
    bins: &'a Bins,
    config: Config,
    /// Events, those of a leaf side by side.
    order: Vec<u32>,
}

impl<'a> Grower<'a> {
    pub(super) fn new(events: &'a Binned, bins: &'a Bins, config: Config) -> Self {
        Self { events, bins, config, order: Vec::new() }
    }

    /// Grows a tree down the slopes and adds it to the scores; `None` if no split helps.
    pub(super) fn grow(&mut self, slopes: &[Slope], scores: &mut [f64]) -> Option<Tree> {
        self.order = (0..slopes.len() as u32).collect();
        let mut sums = Sums::default();
        slopes.iter().for_each(|&slope| sums.add(slope));
        let mut nodes = vec![Node::Leaf(0.0)];
        let histograms = self.histograms(0, slopes.len(), slopes);
        let mut leaves = vec![self.leaf(0, (0, slopes.len()), sums, histograms)];
        while leaves.len() < self.config.leaves {
            let gain = |leaf: &Leaf| leaf.split.map_or(0.0, |split| split.gain);
            // The first of equals: max_by would take the last.
            let best = (0..leaves.len()).rev().max_by(|&i, &j| gain(&leaves[i]).total_cmp(&gain(&leaves[j])))?;
            let Some(split) = leaves[best].split else { break };
            let children = nodes.len();
            let leaf = leaves.swap_remove(best);
            nodes[leaf.node] = Node::Split { feature: split.feature, bin: split.bin, children };
            nodes.extend([Node::Leaf(0.0); 2]);
            leaves.extend(self.divide(leaf, split, children, slopes));
        }
        for leaf in &leaves {
            let value = -self.config.rate * leaf.sums.first / leaf.sums.second.max(LEAST_CURVATURE);
            nodes[leaf.node] = Node::Leaf(value);
            self.order[leaf.from..leaf.to].iter().for_each(|&event| scores[event as usize] += value);
        }
        (nodes.len() > 1).then(|| Tree { nodes, features: self.events.columns.len() })
    }

    /// Splits a leaf in two. The histograms of the smaller child are filled, those of the other are what is left.
    fn divide(&mut self, leaf: Leaf, split: Split, children: usize, slopes: &[Slope]) -> [Leaf; 2] {
        let column = &self.events.columns[split.feature];
        let (low, high): (Vec<u32>, Vec<u32>) =
            self.order[leaf.from..leaf.to].iter().partition(|&&event| column[event as usize] <= split.bin);
        let middle = leaf.from + low.len();
        self.order[leaf.from..middle].copy_from_slice(&low);
        self.order[middle..leaf.to].copy_from_slice(&high);
        let below = leaf.histograms[split.feature][..=usize::from(split.bin)].iter();
        let low_sums = below.fold(Sums::default(), |sums, &bin| sums.plus(bin));
        let high_sums = leaf.sums.less(low_sums);
        let low_is_small = low.len() <= high.len();
        let (from, to) = if low_is_small { (leaf.from, middle) } else { (middle, leaf.to) };
        let small = self.histograms(from, to, slopes);
        let mut large = leaf.histograms;
        for (bins, others) in large.iter_mut().zip(&small) {
            bins.iter_mut().zip(others).for_each(|(bin, &other)| *bin = bin.less(other));
        }
        let (low_bins, high_bins) = if low_is_small { (small, large) } else { (large, small) };
        [
            self.leaf(children, (leaf.from, middle), low_sums, low_bins),
            self.leaf(children + 1, (middle, leaf.to), high_sums, high_bins),
        ]
    }

    fn leaf(&self, node: usize, (from, to): (usize, usize), sums: Sums, histograms: Vec<Vec<Sums>>) -> Leaf {
        let split = self.best_split(sums, &histograms);
        Leaf { node, from, to, sums, histograms, split }
    }

    /// Sums in the bins of each feature, over a range of the order.
    fn histograms(&self, from: usize, to: usize, slopes: &[Slope]) -> Vec<Vec<Sums>> {
        let order = &self.order[from..to];
        let fill = |(feature, column): (usize, &Vec<u8>)| {
            let mut bins = vec![Sums::default(); self.bins.of(feature)];
            order.iter().for_each(|&event| bins[usize::from(column[event as usize])].add(slopes[event as usize]));
            bins
        };
        let columns = &self.events.columns;
        if order.len() < PARALLEL {
            columns.iter().enumerate().map(fill).collect()
        } else {
            columns.par_iter().enumerate().map(fill).collect()
        }
    }

    fn best_split(&self, sums: Sums, histograms: &[Vec<Sums>]) -> Option<Split> {
        let least = self.config.least_events as u32;
        let fits = |side: Sums| side.events >= least && side.second >= LEAST_CURVATURE;
        let mut best: Option<Split> = None;
        for (feature, bins) in histograms.iter().enumerate() {
            let mut low = Sums::default();
            for (bin, &here) in bins.iter().enumerate().take(bins.len() - 1) {
                low = low.plus(here);
                let high = sums.less(low);
                if high.events < least {
                    break;
                }
                if here.events == 0 || !fits(low) || !fits(high) {
                    continue;
                }
                let gain = low.gain() + high.gain() - sums.gain();
                if gain > best.map_or(0.0, |best| best.gain) {
                    best = Some(Split { gain, feature, bin: bin as u8 });
                }
            }
        }
        best
    }
}
