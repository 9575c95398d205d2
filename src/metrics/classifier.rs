//! The classifier two-sample test: how well gradient boosting tells generated events from real ones (Lopez-Paz & Oquab 2017).

use std::ops::Range;

use rand::seq::{SliceRandom, index};

use super::{
    Comparison, Gives, Numbers, Sample,
    gbdt::{Classifier, Config, Labelled},
};
use crate::rng::Streams;

/// Fewer events of a sample are not worth a test.
const LEAST: usize = 200;
/// The share of the training half that decides when to stop.
const VALIDATION: f64 = 0.1;

/// The area under the ROC curve: the chance that an event of the class scores above one that is not, ties counting half; as
/// `sklearn.metrics.roc_auc_score`. `None` without events of either kind.
pub fn area(scores: &[f64], classes: &[bool]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len().min(classes.len())).collect();
    order.sort_unstable_by(|&i, &j| scores[i].total_cmp(&scores[j]));
    let (mut others, mut found, mut wins) = (0.0, 0.0, 0.0);
    for tied in order.chunk_by(|&i, &j| scores[i] == scores[j]) {
        let of_class = tied.iter().filter(|&&i| classes[i]).count() as f64;
        let rest = tied.len() as f64 - of_class;
        wins += of_class * (others + rest / 2.0);
        (others, found) = (others + rest, found + of_class);
    }
    (others > 0.0 && found > 0.0).then(|| wins / (others * found))
}

/// Trains on half of both samples, a tenth of it to stop by, and takes the area on the other half; then the other way round. The
/// mean is 1/2 for two samples of one law, within about 0.4/√n for n events of each.
fn held_out_area(test: &Drawn<'_>, sample: &Drawn<'_>) -> Option<f64> {
    if test.rows.len().min(sample.rows.len()) < LEAST {
        return None;
    }
    let pick = |from: f64, to: f64| {
        let part = |drawn: &Drawn<'_>| {
            let at = |share: f64| (share * drawn.rows.len() as f64) as usize;
            at(from)..at(to)
        };
        Part::of(test, part(test), sample, part(sample))
    };
    let trained = |half: f64| {
        let checks = half + VALIDATION / 2.0;
        let (check, train, judge) = (pick(half, checks), pick(checks, half + 0.5), pick(0.5 - half, 1.0 - half));
        let fitted = Classifier::fit(train.labelled(), check.labelled(), Config::default())?;
        area(&fitted.scores(&judge.columns), &judge.classes)
    };
    Some(f64::midpoint(trained(0.0)?, trained(0.5)?))
}

/// Real and generated events for one purpose.
struct Part {
    columns: Vec<Vec<f32>>,
    /// Whether an event is generated.
    classes: Vec<bool>,
}

impl Part {
    fn of(test: &Drawn<'_>, reals: Range<usize>, sample: &Drawn<'_>, made: Range<usize>) -> Self {
        let column = |i: usize| {
            let reals = test.rows[reals.clone()].iter().map(|&row| test.events.event(row)[i]);
            reals.chain(sample.rows[made.clone()].iter().map(|&row| sample.events.event(row)[i])).collect()
        };
        let classes = (0..reals.len() + made.len()).map(|place| place >= reals.len()).collect();
        Self { columns: (0..test.events.width()).map(column).collect(), classes }
    }

    fn labelled(&self) -> Labelled<'_> {
        Labelled { columns: &self.columns, classes: &self.classes }
    }
}

/// Rows of a sample in random order.
struct Drawn<'a> {
    events: &'a Sample,
    rows: Vec<usize>,
}

impl<'a> Drawn<'a> {
    /// A draw of at most so many of these rows.
    fn of(events: &'a Sample, rows: Option<&[usize]>, most: usize, streams: &Streams, purpose: &str) -> Self {
        let mut rng = streams.stream(purpose);
        let all = rows.map_or(events.events(), <[usize]>::len);
        let mut drawn = index::sample(&mut rng, all, most.min(all)).into_vec();
        drawn.shuffle(&mut rng);
        if let Some(rows) = rows {
            for place in &mut drawn {
                *place = rows[*place];
            }
        }
        Self { events, rows: drawn }
    }
}

/// The numbers of this metric.
pub(super) const GIVES: &[Gives] = &[
    ("auc", "area under the ROC curve on events that the classifier has not seen: ½ where it cannot tell"),
    ("auc_tail", "the same among the events of the tail"),
];

/// `auc`, of all observables as features, and `auc_tail` among the events of the tail.
///
/// Values below 1/2 are the noise of a classifier that has learnt nothing.
pub(super) fn measure(comparison: &Comparison<'_>, numbers: &mut Numbers) {
    let (test, sample) = (&comparison.bench.test, comparison.sample);
    let draw = |events, rows, purpose: &str| {
        Drawn::of(events, rows, comparison.effort.classifier_events, comparison.streams, purpose)
    };
    let whole = held_out_area(&draw(test, None, "classifier test"), &draw(sample, None, "classifier sample"));
    numbers.put("auc", whole);
    if comparison.bench.tail.is_some() {
        let real = draw(test, Some(test.in_tail()), "classifier test tail");
        let made = draw(sample, Some(sample.in_tail()), "classifier sample tail");
        numbers.put("auc_tail", held_out_area(&real, &made));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_counts_pairs_in_the_right_order() {
        assert_eq!(area(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), Some(0.75));
        assert_eq!(area(&[1.0, 1.0], &[false, true]), Some(0.5));
        assert_eq!(area(&[1.0, 2.0], &[true, true]), None);
    }
}
