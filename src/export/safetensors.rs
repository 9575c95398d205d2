//! safetensors: the weights of a model, with all else that it is made of as JSON in the metadata. `examples/load_model.py` reads it.

use serde_json::json;

use super::{ExportError, Origin, check, columns};
use crate::model::{Component, Discriminator, Factor, Ratio, StoredModel, Uniform, freeze::freeze};

/// Version of the layout.
const FORMAT: u32 = 1;

/// A model as the bytes of a safetensors file; the same model from the same origin gives the same bytes.
pub fn safetensors(model: &StoredModel, origin: &Origin) -> Result<Vec<u8>, ExportError> {
    check(model)?;
    let uniforms: Vec<String> = model.uniforms().into_iter().map(Uniform::name).collect();
    let beside = [
        ("format", json!(FORMAT)),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("pipeline", json!(origin.pipeline)),
        ("stage", json!(origin.stage)),
        ("key", json!(origin.key)),
        ("columns", json!(columns(&model.description))),
        ("uniforms", json!(uniforms)),
        ("latent", json!(model.latent())),
    ];
    let beside = beside.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(for_sampling(model).to_safetensors(beside)?)
}

/// What samples are drawn with: no discriminator, and nets without dropout, with normalisation as the affine map that it has become.
fn for_sampling(model: &StoredModel) -> StoredModel {
    let component = |component: &Component| Component { generator: freeze(&component.generator), ..component.clone() };
    let ratio = |ratio: &Ratio| {
        let factor = match &ratio.factor {
            Factor::Classifier(Discriminator { derived, net }) => {
                Factor::Classifier(Discriminator { derived: derived.clone(), net: freeze(net) })
            }
            strata @ Factor::Strata(_) => strata.clone(),
        };
        Ratio { factor, ..ratio.clone() }
    };
    StoredModel {
        description: model.description.clone(),
        components: model.components.iter().map(component).collect(),
        discriminator: None,
        ratios: model.ratios.iter().map(ratio).collect(),
    }
}
