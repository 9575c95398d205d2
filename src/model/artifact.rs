//! The files of a model artifact: `model.json` (architecture, mixture weights, description) and `model.safetensors`.
//!
//! The same model gives the same bytes: JSON in the order of the structs, tensors sorted by safetensors, no metadata.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Derived, Factor, ModelError, Ratio, StrataFactors, Uniform, Weights, Window,
    layer::{Layer, chained},
};
use crate::{data::Description, stage::Artifact};

/// Version of the files that this build writes and reads.
const FORMAT: u32 = 1;
/// The file of the description.
const HEADER: &str = "model.json";
/// The file of the weights.
const TENSORS: &str = "model.safetensors";

/// A model on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredModel {
    /// What its events are.
    pub description: Description,
    /// The components of the mixture; their weights sum to 1.
    pub components: Vec<Component>,
    /// The discriminator that trained it, where there was one.
    pub discriminator: Option<Discriminator>,
    /// Density ratios that thin the mixture, in the order in which they were learnt.
    pub ratios: Vec<Ratio>,
}

/// A generator in a mixture.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// Its mixture weight.
    pub weight: f64,
    /// Its net, from a latent vector to encoded coordinates.
    pub generator: Weights,
    /// Where its events must lie; those outside are drawn again.
    pub windows: Vec<Window>,
}

impl Component {
    /// A component whose events may lie anywhere.
    pub fn new(weight: f64, generator: Weights) -> Self {
        Self { weight, generator, windows: Vec::new() }
    }
}

/// A discriminator with its derived observables.
#[derive(Clone, Debug, PartialEq)]
pub struct Discriminator {
    /// What it sees beside the coordinates.
    pub derived: Derived,
    /// Its net.
    pub net: Weights,
}

/// `model.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelFile {
    format: u32,
    components: Vec<ComponentFile>,
    discriminator: Option<DiscriminatorFile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ratios: Vec<RatioFile>,
    description: Description,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ComponentFile {
    weight: f64,
    layers: Vec<Layer>,
    /// Absent in models without windows, and in those of earlier builds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    windows: Vec<Window>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DiscriminatorFile {
    derived: Derived,
    layers: Vec<Layer>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RatioFile {
    /// Either this …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    classifier: Option<DiscriminatorFile>,
    /// … or this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    strata: Option<StrataFactors>,
    offset: f64,
    ceiling: f64,
}

impl StoredModel {
    /// The names of its files.
    pub const FILES: [&'static str; 2] = [HEADER, TENSORS];

    /// Reads a model artifact; every size in it is checked.
    pub fn load(artifact: &Artifact) -> Result<Self, ModelError> {
        let file = |name: &str| {
            let path = artifact.files.get(name).cloned();
            path.ok_or_else(|| ModelError::Format { path: name.into(), message: "the artifact lacks this file".into() })
        };
        let (json_path, tensor_path) = (file(HEADER)?, file(TENSORS)?);
        let read = |path: &Path| fs::read(path).map_err(|source| ModelError::Io { path: path.to_owned(), source });
        let format = |path: &Path, message: String| ModelError::Format { path: path.to_owned(), message };
        let header: ModelFile =
            serde_json::from_slice(&read(&json_path)?).map_err(|error| format(&json_path, error.to_string()))?;
        if header.format != FORMAT {
            return Err(format(&json_path, format!("format {} is not {FORMAT}", header.format)));
        }
        let bytes = read(&tensor_path)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| format(&tensor_path, error.to_string()))?;
        let width = header.description.coordinates.width();
        let weights = |prefix: String, layers: Vec<Layer>, [inputs, outputs]: [usize; 2]| {
            if chained(&layers, inputs) != Some(outputs) {
                let message = format!("the layers of `{prefix}` do not lead from {inputs} features to {outputs}");
                return Err(format(&json_path, message));
            }
            read_weights(&tensors, &prefix, layers).map_err(|message| format(&tensor_path, message))
        };
        let judge = |prefix: String, DiscriminatorFile { derived, layers }| {
            if !derived.is_sound() {
                return Err(format(&json_path, format!("the derived observables of `{prefix}` are of no use")));
            }
            let seen = width + derived.names.len();
            Ok(Discriminator { net: weights(prefix, layers, [seen, 1])?, derived })
        };
        let mut components = Vec::new();
        let known = header.description.observable_names();
        for (index, ComponentFile { weight, layers, windows }) in header.components.into_iter().enumerate() {
            if let Some(window) = windows.iter().find(|w| !w.cut.is_finite() || !known.contains(&w.observable)) {
                return Err(format(&json_path, format!("component {index} has a window of no use: {window}")));
            }
            let latent = match layers.first() {
                Some(Layer::Linear { inputs, .. }) => *inputs,
                _ => return Err(format(&json_path, format!("component {index} does not begin with a linear layer"))),
            };
            let generator = weights(format!("components.{index}"), layers, [latent, width])?;
            components.push(Component { weight, generator, windows });
        }
        if components.is_empty() {
            return Err(format(&json_path, "a model needs a component".into()));
        }
        let discriminator = header.discriminator.map(|file| judge("discriminator".into(), file)).transpose()?;
        let mut ratios = Vec::new();
        for (index, RatioFile { classifier, offset, ceiling, strata }) in header.ratios.into_iter().enumerate() {
            if !offset.is_finite() || !ceiling.is_finite() {
                return Err(format(&json_path, "a ratio's offset or ceiling is not finite".into()));
            }
            let factor = match (classifier, strata) {
                (Some(file), None) => Factor::Classifier(judge(format!("ratios.{index}"), file)?),
                (None, Some(strata)) if strata.is_sound(&header.description) => Factor::Strata(strata),
                _ => return Err(format(&json_path, format!("ratio {index} has no classifier and no strata of use"))),
            };
            ratios.push(Ratio { factor, offset, ceiling });
        }
        Ok(Self { description: header.description, components, discriminator, ratios })
    }

    /// Writes the files of the artifact into a folder.
    pub fn save(&self, folder: &Path) -> Result<(), ModelError> {
        let json_path = folder.join(HEADER);
        let format = |path: &Path, message: String| ModelError::Format { path: path.to_owned(), message };
        let json = serde_json::to_vec_pretty(&self.file()).map_err(|error| format(&json_path, error.to_string()))?;
        write(&json_path, &json)?;
        let path = folder.join(TENSORS);
        let bytes = self.tensors(None).map_err(|error| format(&path, error.to_string()))?;
        write(&path, &bytes)
    }

    /// Both files in one: the tensors, and `model.json` with what `beside` holds in the metadata, under `pgan_pipe`.
    pub fn to_safetensors(&self, mut beside: serde_json::Map<String, Value>) -> Result<Vec<u8>, ModelError> {
        let failed = |message: String| ModelError::Format { path: TENSORS.into(), message };
        beside.insert("model".into(), serde_json::to_value(self.file()).map_err(|error| failed(error.to_string()))?);
        let metadata = HashMap::from([("pgan_pipe".to_owned(), Value::Object(beside).to_string())]);
        self.tensors(Some(metadata)).map_err(|error| failed(error.to_string()))
    }

    /// Numbers in the longest latent vector of a component.
    pub fn latent(&self) -> usize {
        self.components.iter().map(|component| component.generator.inputs()).max().unwrap_or(0)
    }

    /// What the uniform numbers of an event decide.
    pub fn uniforms(&self) -> Vec<Uniform> {
        Uniform::of(&self.description, self.components.len(), !self.ratios.is_empty())
    }

    fn file(&self) -> ModelFile {
        ModelFile {
            format: FORMAT,
            components: self
                .components
                .iter()
                .map(|c| ComponentFile {
                    weight: c.weight,
                    layers: c.generator.layers.clone(),
                    windows: c.windows.clone(),
                })
                .collect(),
            discriminator: self.discriminator.as_ref().map(Discriminator::file),
            ratios: self
                .ratios
                .iter()
                .map(|Ratio { factor, offset, ceiling }| {
                    let (classifier, strata) = match factor {
                        Factor::Classifier(classifier) => (Some(classifier.file()), None),
                        Factor::Strata(strata) => (None, Some(strata.clone())),
                    };
                    RatioFile { classifier, strata, offset: *offset, ceiling: *ceiling }
                })
                .collect(),
            description: self.description.clone(),
        }
    }

    fn tensors(&self, metadata: Option<HashMap<String, String>>) -> Result<Vec<u8>, SafeTensorError> {
        let mut tensors = BTreeMap::new();
        for (index, component) in self.components.iter().enumerate() {
            write_weights(&component.generator, &format!("components.{index}"), &mut tensors);
        }
        if let Some(discriminator) = &self.discriminator {
            write_weights(&discriminator.net, "discriminator", &mut tensors);
        }
        for (index, ratio) in self.ratios.iter().enumerate() {
            if let Factor::Classifier(classifier) = &ratio.factor {
                write_weights(&classifier.net, &format!("ratios.{index}"), &mut tensors);
            }
        }
        let views = tensors.iter().map(|(name, (shape, bytes))| {
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.as_str(), view))
        });
        safetensors::serialize(views.collect::<Result<Vec<_>, _>>()?, metadata)
    }
}

impl Discriminator {
    fn file(&self) -> DiscriminatorFile {
        DiscriminatorFile { derived: self.derived.clone(), layers: self.net.layers.clone() }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    fs::write(path, bytes).map_err(|source| ModelError::Io { path: path.to_owned(), source })
}

type HostTensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn write_weights(weights: &Weights, prefix: &str, tensors: &mut HostTensors) {
    let mut parameters = weights.parameters.as_slice();
    let mut running = weights.running.as_slice();
    for (index, layer) in weights.layers.iter().enumerate() {
        for (name, shape) in layer.parameter_names().into_iter().zip(layer.shapes()) {
            let (own, rest) = parameters.split_at(shape[0] * shape[1]);
            parameters = rest;
            tensors.insert(format!("{prefix}.{index}.{name}"), (shape.to_vec(), bytes(own)));
        }
        if let Layer::BatchNorm { channels, .. } = *layer {
            for name in ["running_mean", "running_variance"] {
                let (own, rest) = running.split_at(channels);
                running = rest;
                tensors.insert(format!("{prefix}.{index}.{name}"), (vec![1, channels], bytes(own)));
            }
        }
    }
}

fn read_weights(tensors: &SafeTensors<'_>, prefix: &str, layers: Vec<Layer>) -> Result<Weights, String> {
    let read = |name: String, shape: [usize; 2]| {
        let view = tensors.tensor(&name).map_err(|error| format!("tensor `{name}`: {error}"))?;
        if view.dtype() != Dtype::F32 || view.shape() != shape {
            return Err(format!("tensor `{name}` has shape {:?}, not {shape:?} of f32", view.shape()));
        }
        let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let numbers: Vec<f32> = numbers.collect();
        if numbers.iter().all(|number| number.is_finite()) {
            Ok(numbers)
        } else {
            Err(format!("tensor `{name}` is not finite"))
        }
    };
    let mut weights = Weights { layers, parameters: Vec::new(), running: Vec::new() };
    for (index, layer) in weights.layers.iter().enumerate() {
        for (name, shape) in layer.parameter_names().into_iter().zip(layer.shapes()) {
            weights.parameters.extend(read(format!("{prefix}.{index}.{name}"), shape)?);
        }
        if let Layer::BatchNorm { channels, .. } = *layer {
            for name in ["running_mean", "running_variance"] {
                weights.running.extend(read(format!("{prefix}.{index}.{name}"), [1, channels])?);
            }
        }
    }
    Ok(weights)
}
