//! `splice`: events of one model below the tail's cut and of another above it (DijetGAN's way with the tail: a GAN of its own).
//!
//! The data's tail mass is the weight of the tail. Within each side, components keep their proportions: the events of a
//! component that lie on the wrong side are drawn again, so its weight is its old one times the share of its events that lie
//! on the right side.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ArtifactKind, Context, Metrics, Port, Problem, StageError, StageKind, Upstream, training, training::Material,
};
use crate::model::{Component, Model, Side, StoredModel, Window, window};

/// Events of each component that its share of the right side is measured on.
const SHARE_EVENTS: usize = 50_000;
/// A component with less than this share of its events on the right side is left out.
const LEAST_SHARE: f64 = 2e-3;

/// Joins events of one model below the tail's cut and of another above it (DijetGAN's way with the tail: a GAN of its own), with the
/// data's tail mass for the weight of the upper part.
///
/// ```yaml
/// spliced:
///   kind: splice
///   bulk: frozen
///   tail: tail_gan
///   data: events
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Splice {
    /// The model below the cut.
    pub bulk: String,
    /// The model above the cut.
    pub tail: String,
    /// The dataset, whose tail sets the cut and the weight.
    pub data: String,
}

/// What a side takes.
const MODELS: &[ArtifactKind] = &[ArtifactKind::Model, ArtifactKind::FrozenModel];

impl StageKind for Splice {
    const VERSION: u32 = 3;
    const PRODUCES: ArtifactKind = ArtifactKind::Model;

    fn ports(&self) -> Vec<Port<'_>> {
        vec![
            Port::one("bulk", &self.bulk, MODELS),
            Port::one("tail", &self.tail, MODELS),
            Port::one("data", &self.data, &[ArtifactKind::Dataset]),
        ]
    }

    fn mismatches(&self, upstream: &Upstream<'_>) -> Vec<Problem> {
        training::mismatches(upstream, None, None, Some("data"))
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let material = Material::load(context)?;
        let description = &material.dataset.description;
        let mass = material.tail_events()?.len() as f64 / material.dataset.train.len() as f64;
        let Some(tail) = &description.tail else {
            return Err(StageError::Unusable("the dataset names no `tail`".into()));
        };
        let mut metrics = Metrics::from([("tail.mass".to_owned(), mass)]);
        let mut components = Vec::new();
        let mut discriminator = None;
        for (role, side, weight) in [("bulk", Side::Below, 1.0 - mass), ("tail", Side::Above, mass)] {
            let model = material.model(context, role)?;
            if !model.ratios.is_empty() {
                let message = format!("the model of `{role}` has been reweighted; splice first, then reweight");
                return Err(StageError::Unusable(message));
            }
            let window = Window { observable: tail.observable.clone(), side, cut: tail.above };
            let (share, part) = cut(&model, &window, context)?;
            if part.is_empty() {
                return Err(StageError::Unusable(format!(
                    "the model of `{role}` makes only {:.3} % of its events where it is wanted ({window}): too few to draw \
                     from; train it there with `region: {role}`",
                    share * 100.0
                )));
            }
            metrics.insert(format!("share.{role}"), share);
            components.extend(part.into_iter().map(|c| Component { weight: weight * c.weight, ..c }));
            if side == Side::Below {
                discriminator = model.discriminator;
            }
        }
        metrics.insert("components".to_owned(), components.len() as f64);
        let ratios = Vec::new();
        StoredModel { description: description.clone(), components, discriminator, ratios }.save(&context.out)?;
        Ok(metrics)
    }
}

/// The share of a model's events inside of a window, and its components restricted to it, with weights that sum to 1.
fn cut(model: &StoredModel, window: &Window, context: &Context<'_>) -> Result<(f64, Vec<Component>), StageError> {
    let mut rng = context.streams.stream("share");
    let mut kept = Vec::new();
    let mut total = 0.0;
    for component in &model.components {
        let whole = Component { weight: 1.0, ..component.clone() };
        let alone = StoredModel { components: vec![whole], discriminator: None, ..model.clone() };
        let rows = Model::new(&alone, context.device)?.sample_encoded(SHARE_EVENTS, &mut rng)?;
        let inside = window::inside(std::slice::from_ref(window), &model.description, &rows, &mut rng)?;
        let share = inside.iter().filter(|&&inside| inside).count() as f64 / SHARE_EVENTS as f64;
        total += component.weight * share;
        if share >= LEAST_SHARE {
            let mut windows = component.windows.clone();
            windows.push(window.clone());
            kept.push(Component { weight: component.weight * share, windows, ..component.clone() });
        }
    }
    let sum: f64 = kept.iter().map(|component| component.weight).sum();
    for component in &mut kept {
        component.weight /= sum;
    }
    Ok((total, kept))
}
