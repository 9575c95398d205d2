//! Models as files of other programs: ONNX graphs, and safetensors with a description.
//!
//! Both make of given random numbers the events that this program makes of them ([`Draws`](crate::model::Draws)); what they
//! cannot express is refused.

pub mod onnx;
pub mod safetensors;

pub use self::{onnx::onnx, safetensors::safetensors};
use crate::{
    data::{Coordinates, Description},
    model::{Factor, ModelError, StoredModel},
};

/// Where a model comes from, as its file tells.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The pipeline's name.
    pub pipeline: String,
    /// The stage's name.
    pub stage: String,
    /// The cache key of the stage.
    pub key: String,
}

/// Why a model cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// What the model rejects depends on a sign that is drawn anew each time that it is looked at.
    #[error(
        "the model cuts on `{0}`, whose sign its coordinates leave out: a file cannot say which sign is meant; cut on another \
         observable"
    )]
    Sign(String),
    /// The model needs an observable that its events do not give.
    #[error("the model needs `{0}`, which its coordinates do not give")]
    Observable(String),
    /// The model does not make a file.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// The columns of a sample: features, then the derived observables that are no features.
fn columns(description: &Description) -> Vec<String> {
    let derived = description.observables.names().iter().map(|&name| name.to_owned());
    let derived = derived.filter(|name| !description.features.contains(name));
    description.features.iter().cloned().chain(derived).collect()
}

/// Refuses windows and strata of φ₂ where its sign is drawn.
fn check(model: &StoredModel) -> Result<(), ExportError> {
    const SIGNED: &str = "ljet2_phi";
    if !matches!(model.description.coordinates, Coordinates::Dijet { .. }) {
        return Ok(());
    }
    let windows = model.components.iter().flat_map(|component| &component.windows).map(|window| &window.observable);
    let strata = model.ratios.iter().filter_map(|ratio| match &ratio.factor {
        Factor::Strata(strata) => Some(&strata.observable),
        Factor::Classifier(_) => None,
    });
    match windows.chain(strata).find(|name| *name == SIGNED) {
        Some(name) => Err(ExportError::Sign(name.clone())),
        None => Ok(()),
    }
}
