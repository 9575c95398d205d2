//! `mix`: adds a candidate to a base as it is, with a weight that is given or found; nothing is trained.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ArtifactKind, Context, Metrics, Port, Problem, StageError, StageKind, Upstream,
    mixture::{
        Accept, Learn, MixtureConfig,
        trial::{self, Newcomer, Trial, Verdict},
    },
    training::{self, Material},
};
use crate::value::OpenProbability;

/// Adds a second generator G1 to a frozen base G as it is, with a weight that is given or found; nothing is trained. Where validation
/// events do not ask for the mixture, the base stands.
///
/// ```yaml
/// mixed:
///   kind: mix
///   base: frozen
///   candidate: tail
///   data: events
///   mixture: { learn: line_search }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// The frozen model G.
    pub base: String,
    /// The second generator G1, pretrained.
    pub candidate: String,
    /// The dataset that the mixture is to be like.
    pub data: String,
    /// How the mixture weight q of G1 is found: `fixed`, `moments`, `line_search` or `fully_corrective`, for nothing is trained.
    #[serde(default)]
    pub mixture: MixtureConfig,
    /// When the mixture takes the base's place.
    #[serde(default)]
    pub accept: Accept,
}

impl StageKind for Mix {
    const VERSION: u32 = 3;
    const PRODUCES: ArtifactKind = ArtifactKind::Model;

    fn ports(&self) -> Vec<Port<'_>> {
        vec![
            Port::one("base", &self.base, &[ArtifactKind::FrozenModel]),
            Port::one("candidate", &self.candidate, &[ArtifactKind::Candidate]),
            Port::one("data", &self.data, &[ArtifactKind::Dataset]),
        ]
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.mixture.problems();
        if matches!(self.mixture.learn, Learn::Em | Learn::Adversarial) {
            let problem =
                Problem::new("mixture.learn", "this rule learns the weight in training, and `mix` trains nothing");
            problems
                .push(problem.help("use `fixed`, `moments`, `line_search` or `fully_corrective`, or a `boost` stage"));
        }
        problems
    }

    fn mismatches(&self, upstream: &Upstream<'_>) -> Vec<Problem> {
        training::mismatches(upstream, None, None, self.mixture.needs_tail())
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let material = Material::load(context)?;
        let (base, candidate) = trial::inputs(context, &material)?;
        let mix = Trial::new(&material, &base, context)?;
        let masses = mix.masses(&candidate, context)?;
        let mut metrics = trial::masses_as_metrics(masses);
        let Some(q) = self.mixture.initial.map(OpenProbability::get).or_else(|| masses.initial_weight()) else {
            trial::decline(trial::declined(masses), &base, context, &mut metrics)?;
            return Ok(metrics);
        };
        let newcomer = Newcomer { generator: candidate, weight: q, discriminator: None };
        match mix.settle(&self.mixture, self.accept, newcomer, context, &mut metrics)? {
            Verdict::Taken(model) => {
                metrics.insert("declined".to_owned(), 0.0);
                model.save(&context.out)?;
            }
            Verdict::Declined(reason) => trial::decline(reason, &base, context, &mut metrics)?,
        }
        Ok(metrics)
    }
}
