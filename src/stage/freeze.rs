//! `freeze`: fixes a model for good, folding its normalisation into the linear layers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ArtifactKind, Context, Metrics, Port, StageError, StageKind};
use crate::model::{StoredModel, freeze::freeze};

/// Fixes a model for good, its normalisation folded into the linear layers: the base of boosting.
///
/// ```yaml
/// frozen:
///   kind: freeze
///   model: base
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// The model to freeze.
    pub model: String,
}

impl StageKind for Freeze {
    const VERSION: u32 = 1;
    const PRODUCES: ArtifactKind = ArtifactKind::FrozenModel;

    fn ports(&self) -> Vec<Port<'_>> {
        vec![Port::one("model", &self.model, &[ArtifactKind::Model])]
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let mut model = StoredModel::load(context.input("model")?)?;
        for component in &mut model.components {
            component.generator = freeze(&component.generator);
        }
        model.save(&context.out)?;
        Ok(Metrics::from([("components".to_owned(), model.components.len() as f64)]))
    }
}
