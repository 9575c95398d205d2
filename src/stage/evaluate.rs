//! `evaluate`: judges models against test events, each number beside its real-vs-real floor.

use serde::{Deserialize, Serialize};

use super::{ArtifactKind, Context, Metrics, Port, StageError, StageKind};
use crate::value::EventCount;

/// The YAML of an `evaluate` stage.
///
/// Metrics are named `models[i].METRIC[.OBSERVABLE]` and `floor.METRIC[.OBSERVABLE]`: by position, so that the name of a
/// stage is no part of the result. Whoever shows them puts the names in (`plan::named_metrics`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// The dataset whose test events judge.
    pub data: String,
    /// The models to judge.
    pub models: Vec<String>,
    /// Events generated from each model; as many as there are test events if absent.
    #[serde(default)]
    pub events: Option<EventCount>,
}

impl StageKind for Evaluate {
    const VERSION: u32 = 1;
    const PRODUCES: ArtifactKind = ArtifactKind::Evaluation;

    fn ports(&self) -> Vec<Port<'_>> {
        let models = self.models.iter().enumerate().map(|(i, name)| Port {
            role: "models",
            field: format!("models.{i}"),
            reference: name,
            accepts: &[ArtifactKind::Model, ArtifactKind::FrozenModel],
        });
        std::iter::once(Port::one("data", &self.data, &[ArtifactKind::Dataset])).chain(models).collect()
    }

    fn run(&self, _context: &mut Context<'_>) -> Result<Metrics, StageError> {
        todo!()
    }
}
