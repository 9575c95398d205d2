//! `post_stratify`: gives each stratum of the tail observable the mass that it has in the data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ArtifactKind, Context, Metrics, Port, Problem, StageError, StageKind, Upstream,
    training::{self, Material, ceiling, ceiling_problems},
};
use crate::{
    data::{DataError, Dataset, Events},
    model::{Factor, Model, Ratio, StrataFactors, stratum},
    value::Positive,
};

/// Events of the model that its masses are measured on.
const EVENTS: usize = 1_000_000;
/// Events in a stratum, real or of the model, below which its factor would be noise: it is joined with its neighbour.
const LEAST: usize = 30;

/// Gives each stratum of the tail observable the mass that it has in the data.
///
/// The model that comes out makes events of m'(x) ∝ m(x) w(x), w = π_k / m(stratum k) in each stratum, by rejection: they carry no
/// weights. π_k comes from training and validation events together. Within a stratum nothing changes.
///
/// ```yaml
/// stratified:
///   kind: post_stratify
///   model: boosted
///   data: events
///   edges: [1000, 1500, 2500]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostStratify {
    /// The model whose strata are given their masses.
    pub model: String,
    /// The dataset whose masses they are.
    pub data: String,
    /// Edges between strata of the tail observable, ascending, in its unit. Absent: the tail's cut.
    #[serde(default)]
    pub edges: Vec<Positive>,
    /// The largest w: a stratum that the model lacks more of than this stays short, since the share of events that is kept is 1/w.
    #[serde(default = "ceiling")]
    pub ceiling: Positive,
}

impl StageKind for PostStratify {
    const VERSION: u32 = 3;
    const PRODUCES: ArtifactKind = ArtifactKind::Model;

    fn ports(&self) -> Vec<Port<'_>> {
        training::model_and_data(&self.model, &self.data)
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.edges.windows(2).any(|pair| pair[0] >= pair[1]) {
            problems.push(Problem::new("edges", "the edges must ascend"));
        }
        problems.extend(ceiling_problems(self.ceiling, "factor"));
        problems
    }

    fn mismatches(&self, upstream: &Upstream<'_>) -> Vec<Problem> {
        training::mismatches(upstream, None, None, Some("data"))
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let material = Material::load(context)?;
        let mut stored = material.model(context, "model")?;
        let Dataset { description, train, validation, .. } = &material.dataset;
        let Some(tail) = &description.tail else {
            return Err(StageError::Unusable("the dataset names no `tail`".into()));
        };
        let values = |events: &Events| -> Result<Vec<f64>, DataError> {
            Ok(events.observable(description.observables, &tail.observable)?.collect())
        };
        let real = [values(train)?, values(validation)?].concat();
        let events =
            Model::new(&stored, context.device)?.sample_encoded(EVENTS, &mut context.streams.stream("masses"))?;
        let made = material.tail_values(&events, context)?;

        let wanted: Vec<f64> =
            if self.edges.is_empty() { vec![tail.above] } else { self.edges.iter().map(|edge| edge.get()).collect() };
        let edges = filled(&wanted, [real.as_slice(), made.as_slice()]);
        for edge in wanted.iter().filter(|edge| !edges.contains(edge)) {
            context.notice(format!(
                "post_stratify leaves out the edge at {} {edge}: on a side of it lie fewer than {LEAST} events, real or of \
                 the model, and a factor would be noise",
                tail.observable
            ));
        }
        let masses = [&real, &made].map(|values| masses(&edges, values));
        let largest = self.ceiling.get();
        let factors: Vec<f64> =
            masses[0].iter().zip(&masses[1]).map(|(real, made)| (real / made).min(largest)).collect();
        for (k, factor) in factors.iter().enumerate().filter(|(_, factor)| **factor >= largest) {
            let from = k.checked_sub(1).map_or(f64::NEG_INFINITY, |below| edges[below]);
            context.notice(format!(
                "from {} {from} on the data hold more than {factor} times what the model makes; the factor is cut to that \
                 (`ceiling`), and the stratum stays short",
                tail.observable
            ));
        }
        let mut metrics = Metrics::new();
        for (k, factor) in factors.iter().enumerate() {
            metrics.insert(format!("strata[{k}].real"), masses[0][k]);
            metrics.insert(format!("strata[{k}].model"), masses[1][k]);
            metrics.insert(format!("strata[{k}].factor"), *factor);
        }
        let ceiling = factors.iter().copied().fold(f64::MIN_POSITIVE, f64::max).ln();
        let kept: f64 = masses[1].iter().zip(&factors).map(|(made, factor)| made * factor).sum();
        metrics.insert("ratio.kept".to_owned(), kept / ceiling.exp());
        let log_factors = factors.into_iter().map(f64::ln).collect();
        let strata = StrataFactors { observable: tail.observable.clone(), edges, log_factors };
        // A stratum that was cut leaves the mean of w a little below 1.
        stored.ratios.push(Ratio { factor: Factor::Strata(strata), offset: -kept.ln(), ceiling: ceiling - kept.ln() });
        stored.save(&context.out)?;
        Ok(metrics)
    }
}

/// The edges that leave no stratum with fewer than [`LEAST`] values of either sample; from the top, each thin stratum is joined
/// with the one below, and a thin lowest one with the one above.
fn filled(edges: &[f64], samples: [&[f64]; 2]) -> Vec<f64> {
    let mut edges = edges.to_vec();
    let thin = |edges: &[f64]| {
        let counts = samples.map(|values| counts(edges, values));
        (0..=edges.len()).rev().find(|&k| counts.iter().any(|counts| counts[k] < LEAST))
    };
    while let Some(k) = thin(&edges).filter(|_| !edges.is_empty()) {
        edges.remove(k.saturating_sub(1));
    }
    edges
}

fn counts(edges: &[f64], values: &[f64]) -> Vec<usize> {
    let mut counts = vec![0; edges.len() + 1];
    for &value in values {
        counts[stratum(edges, value)] += 1;
    }
    counts
}

fn masses(edges: &[f64], values: &[f64]) -> Vec<f64> {
    counts(edges, values).into_iter().map(|count| count as f64 / values.len().max(1) as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thin_strata_are_joined_with_their_neighbours() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(filled(&[20.0, 50.0], [values.as_slice(); 2]), [50.0], "a thin lowest one with the one above");
        assert_eq!(
            filled(&[40.0, 90.0, 95.0], [values.as_slice(); 2]),
            [40.0],
            "thin ones at the top with those below"
        );
        assert!(filled(&[50.0], [values.as_slice(), &[]]).is_empty(), "no events, no strata");
    }
}
