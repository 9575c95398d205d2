//! Stage kinds: what each takes, what it makes, and how it runs.
//!
//! A kind is one file here and one line in `stages!`. Its struct is both the YAML of the stage (serde reads it) and its
//! parameters in the cache key (serde writes it), so every field that is neither a port nor a source is part of the key.
//! Stage bodies know nothing of YAML positions, the store or the terminal.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    data::Scratch,
    device::DeviceName,
    model::StoredModel,
    report::Evaluation,
    rng::Streams,
    store::{Output, Record, Store},
    train::{checkpoint::Checkpoints, history::Recorder},
};

pub mod aggregate;
pub mod boost;
pub mod dataset;
pub mod evaluate;
pub mod freeze;
pub mod invert;
pub mod mix;
pub mod mixture;
pub mod post_stratify;
pub mod pretrain_tail;
pub mod reweight;
pub mod splice;
pub mod train_gan;
mod training;

/// What a stage makes, and what a port accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    /// Events in physical units, split, with their coordinates.
    Dataset,
    /// A trained generator or mixture with its discriminator.
    Model,
    /// A model that no longer changes: the base of boosting.
    FrozenModel,
    /// A second generator, pretrained on the tail.
    Candidate,
    /// A density of latent vectors that lead to the tail more often.
    Proposal,
    /// Metrics and histograms of models against test events.
    Evaluation,
    /// Evaluations of several seeds, brought together.
    Study,
}

impl ArtifactKind {
    /// The kind in words, with its article: `a frozen model`.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Dataset => "a dataset",
            Self::Model => "a trained model",
            Self::FrozenModel => "a frozen model",
            Self::Candidate => "a tail-pretrained candidate",
            Self::Proposal => "a proposal of latent vectors",
            Self::Evaluation => "an evaluation",
            Self::Study => "a study of several seeds",
        }
    }

    /// The files of such an artifact. One of a training also has its curves, [`History::FILE`](crate::train::history::History::FILE).
    pub fn files(self) -> &'static [&'static str] {
        match self {
            Self::Dataset => &crate::data::Dataset::FILES,
            Self::Model | Self::FrozenModel | Self::Candidate => &StoredModel::FILES,
            Self::Proposal => &[invert::Invert::FILE],
            Self::Evaluation => &[Evaluation::FILE, evaluate::Evaluate::METRICS_FILE],
            Self::Study => &[Evaluation::FILE, aggregate::Aggregate::FILE],
        }
    }
}

/// An input of a stage: a reference by name to another stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port<'a> {
    /// The role of the input (`data`, `base`, `models`); a role may take several artifacts, in order.
    pub role: &'static str,
    /// Where the reference stands in the stage, dotted: `base`, `models.1`.
    pub field: String,
    /// The name of the stage that it refers to.
    pub reference: &'a str,
    /// The kinds of artifact that fit.
    pub accepts: &'static [ArtifactKind],
}

impl<'a> Port<'a> {
    /// A port that takes one artifact, in the field of its role's name.
    pub fn one(role: &'static str, reference: &'a str, accepts: &'static [ArtifactKind]) -> Self {
        Self { role, field: role.to_owned(), reference, accepts }
    }
}

/// A file outside the store that a stage reads; its content is part of the cache key, its name is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// Where the path stands in the stage, dotted: `file`.
    pub field: &'static str,
    /// The path as written, relative to the pipeline file.
    pub path: &'a Path,
}

/// Something wrong with a stage that its types cannot express; the pipeline adds the position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field at fault, dotted (`tail.observable`); the nearest existing one is shown.
    pub field: String,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// A problem of this field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), help: None }
    }

    /// Adds advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds "did you mean …" if a known name is near, or the list of known names.
    #[must_use]
    pub fn suggest<'a>(self, wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        match nearest(wrong, &known) {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None if known.is_empty() => self,
            None => self.help(format!("expected one of `{}`", known.join("`, `"))),
        }
    }
}

/// The known name that a misspelt one most likely means.
pub fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|name| (strsim::osa_distance(wrong, name), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

/// The numbers that a stage reports, by name; one that cannot be computed is absent, never NaN.
pub type Metrics = BTreeMap<String, f64>;

/// What a running stage tells the outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Progress {
    /// A step of many is done.
    Step {
        /// Steps done.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Losses and the like, for the log and the progress line.
        values: BTreeMap<String, f64>,
    },
    /// Training goes on from a step that an earlier run had come to.
    Resumed {
        /// Steps done.
        step: u64,
        /// Steps in all.
        steps: u64,
    },
    /// Something that the user should read, for example that boosting declined.
    Notice {
        /// One sentence.
        message: String,
    },
}

impl Progress {
    /// A step with named values; those that are not finite are left out.
    fn of_step(step: u64, steps: u64, values: &[(&str, f64)]) -> Self {
        let values = values.iter().filter(|(_, v)| v.is_finite()).map(|&(k, v)| (k.to_owned(), v)).collect();
        Self::Step { step, steps, values }
    }
}

/// The files of one input artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What it is.
    pub kind: ArtifactKind,
    /// Its files by name (`model.json`), each a path to an immutable object.
    pub files: BTreeMap<String, PathBuf>,
}

impl Artifact {
    /// The artifact that a record describes, its files being objects of the store. They are not read: `store.inspect(record)`
    /// says whether they are there and intact.
    pub fn of(record: &Record, store: &Store) -> Self {
        let file = |(name, output): (&String, &Output)| (name.clone(), store.object(output.digest));
        Self { kind: record.produces, files: record.outputs.iter().map(file).collect() }
    }

    /// The path of a file of the artifact.
    pub fn file(&self, name: &str) -> Result<&Path, StageError> {
        let missing = || StageError::Artifact(format!("the {:?} artifact has no file `{name}`", self.kind));
        self.files.get(name).map(PathBuf::as_path).ok_or_else(missing)
    }
}

/// All that a stage body may use: inputs, sources, randomness, a device, a place for its output, and someone to tell.
pub struct Context<'a> {
    /// Input artifacts by role, in the order of the ports.
    pub inputs: BTreeMap<String, Vec<Artifact>>,
    /// Absolute paths of the sources, by field.
    pub sources: BTreeMap<String, PathBuf>,
    /// The stage's random streams.
    pub streams: Streams,
    /// Where tensors live.
    pub device: DeviceName,
    /// The folder that the stage writes its output files into. Those that its [kind of artifact](ArtifactKind::files) names are stored.
    pub out: PathBuf,
    /// How much data it keeps in memory, and where the rest goes.
    pub scratch: Scratch,
    /// Where the checkpoints of its training are kept.
    pub checkpoints: Checkpoints,
    /// Takes down the curves of its training.
    pub recorder: Recorder,
    /// Receives progress.
    pub progress: &'a mut dyn FnMut(Progress),
}

impl Context<'_> {
    /// The only artifact of a role.
    pub fn input(&self, role: &str) -> Result<&Artifact, StageError> {
        let missing = || StageError::Artifact(format!("no input for the role `{role}`"));
        self.inputs.get(role).and_then(|artifacts| artifacts.first()).ok_or_else(missing)
    }

    /// Reports a step with named values; those that are not finite are left out.
    pub fn step(&mut self, step: u64, steps: u64, values: &[(&str, f64)]) {
        (self.progress)(Progress::of_step(step, steps, values));
    }

    /// Tells the user something worth reading.
    pub fn notice(&mut self, message: impl Into<String>) {
        (self.progress)(Progress::Notice { message: message.into() });
    }
}

/// Why a stage failed.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The events cannot be read or used.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// A model cannot be read or built.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
    /// The device is not there.
    #[error(transparent)]
    Device(#[from] crate::device::DeviceError),
    /// An input artifact is not what it should be.
    #[error("{0}")]
    Artifact(String),
    /// The curves of a training cannot be written.
    #[error(transparent)]
    History(#[from] crate::train::history::HistoryError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] crate::train::TrainError),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The inputs cannot be used for this.
    #[error("{0}")]
    Unusable(String),
}

impl StageError {
    /// The error of the system, if a file could not be read or written.
    pub fn io_cause(&self) -> Option<&std::io::Error> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref() {
                return Some(io);
            }
            cause = error.source();
        }
        None
    }

    /// Wraps an I/O error with its path.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// The stages that a stage's ports refer to, for checks across stages.
pub type Upstream<'a> = BTreeMap<&'a str, Vec<&'a Stage>>;

/// A kind of stage.
pub trait StageKind: Serialize + DeserializeOwned + JsonSchema {
    /// Raised whenever the same parameters would give another result: it is part of the cache key.
    const VERSION: u32;
    /// What the stage makes.
    const PRODUCES: ArtifactKind;

    /// The inputs.
    fn ports(&self) -> Vec<Port<'_>>;

    /// Fields that change how a result is read and not the result: they are no part of the key.
    fn unhashed(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether `steps` says where training ends and nothing else, so that more of them go on from where fewer came to.
    fn goes_on(&self) -> bool {
        false
    }

    /// The files read from outside the store.
    fn sources(&self) -> Vec<Source<'_>> {
        Vec::new()
    }

    /// What is wrong with the parameters as they stand: ranges that depend on each other and the like. Cheap.
    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// What does not fit the stages that the ports refer to. Cheap. Only called when all references resolve.
    fn mismatches(&self, _upstream: &Upstream<'_>) -> Vec<Problem> {
        Vec::new()
    }

    /// Looks into the source files before anything runs: columns, finite values. `sources` maps fields to absolute paths.
    fn preflight(&self, _sources: &BTreeMap<String, PathBuf>) -> Vec<Problem> {
        Vec::new()
    }

    /// Tells what is worth knowing of the source files and no mistake, in the words of the notice of a run.
    fn remarks(&self, _sources: &BTreeMap<String, PathBuf>) -> Vec<String> {
        Vec::new()
    }

    /// Runs the stage: reads `context.inputs`, writes files into `context.out`, and returns its metrics.
    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError>;
}

macro_rules! stages {
    ($(#[doc = $doc:literal] $name:literal => $kind:ident in $module:ident),* $(,)?) => {
        /// A stage of any kind: the parameters, as resolved from the pipeline.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Stage {
            $(#[doc = $doc] $kind($module::$kind),)*
        }

        impl Stage {
            /// The names that `kind:` takes.
            pub const KINDS: &'static [&'static str] = &[$($name),*];

            /// What stages of this kind do, in a sentence.
            pub fn summary(kind: &str) -> Option<&'static str> {
                match kind {
                    $($name => Some($doc.trim_ascii()),)*
                    _ => None,
                }
            }

            /// The JSON schema of the fields of this kind; `None` if there is no such kind.
            pub fn schema(kind: &str, generator: &mut SchemaGenerator) -> Option<Schema> {
                match kind {
                    $($name => Some($module::$kind::json_schema(generator)),)*
                    _ => None,
                }
            }

            /// Reads the stage of this kind; `None` if there is no such kind.
            pub fn deserialize<'de, D: serde::Deserializer<'de>>(kind: &str, from: D) -> Option<Result<Self, D::Error>> {
                match kind {
                    $($name => Some($module::$kind::deserialize(from).map(Self::$kind)),)*
                    _ => None,
                }
            }

            /// The stage's fields as JSON, defaults filled in, ports and sources included.
            pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
                match self { $(Self::$kind(stage) => serde_json::to_value(stage),)* }
            }

            /// The same stage with other values of these fields, by their dotted paths.
            pub(crate) fn with_fields(&self, values: BTreeMap<String, serde_json::Value>) -> serde_json::Result<Self> {
                let mut fields = self.to_json()?;
                for (path, value) in values {
                    let lost = || serde::de::Error::custom(format!("it lacks the field `{path}`"));
                    *fields.pointer_mut(&format!("/{}", path.replace('.', "/"))).ok_or_else(lost)? = value;
                }
                // The kind is known: it is the stage's own.
                Self::deserialize(self.kind(), fields).unwrap_or_else(|| Ok(self.clone()))
            }

            /// The name of the kind, as in `kind:`.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$kind(_) => $name,)* }
            }

            /// See [`StageKind::VERSION`].
            pub fn version(&self) -> u32 {
                match self { $(Self::$kind(_) => $module::$kind::VERSION,)* }
            }

            /// See [`StageKind::PRODUCES`].
            pub fn produces(&self) -> ArtifactKind {
                match self { $(Self::$kind(_) => $module::$kind::PRODUCES,)* }
            }

            /// See [`StageKind::ports`].
            pub fn ports(&self) -> Vec<Port<'_>> {
                match self { $(Self::$kind(stage) => stage.ports(),)* }
            }

            /// See [`StageKind::unhashed`].
            pub fn unhashed(&self) -> &'static [&'static str] {
                match self { $(Self::$kind(stage) => stage.unhashed(),)* }
            }

            /// See [`StageKind::goes_on`].
            pub fn goes_on(&self) -> bool {
                match self { $(Self::$kind(stage) => stage.goes_on(),)* }
            }

            /// See [`StageKind::sources`].
            pub fn sources(&self) -> Vec<Source<'_>> {
                match self { $(Self::$kind(stage) => stage.sources(),)* }
            }

            /// See [`StageKind::problems`].
            pub fn problems(&self) -> Vec<Problem> {
                match self { $(Self::$kind(stage) => stage.problems(),)* }
            }

            /// See [`StageKind::mismatches`].
            pub fn mismatches(&self, upstream: &Upstream<'_>) -> Vec<Problem> {
                match self { $(Self::$kind(stage) => stage.mismatches(upstream),)* }
            }

            /// See [`StageKind::preflight`].
            pub fn preflight(&self, sources: &BTreeMap<String, PathBuf>) -> Vec<Problem> {
                match self { $(Self::$kind(stage) => stage.preflight(sources),)* }
            }

            /// See [`StageKind::remarks`].
            pub fn remarks(&self, sources: &BTreeMap<String, PathBuf>) -> Vec<String> {
                match self { $(Self::$kind(stage) => stage.remarks(sources),)* }
            }

            /// See [`StageKind::run`]. The curves of a training become a file of the artifact.
            pub fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
                let metrics = match self { $(Self::$kind(stage) => stage.run(context),)* }?;
                if let Some(history) = context.recorder.history() {
                    history.save(&context.out)?;
                }
                Ok(metrics)
            }
        }
    };
}

stages! {
    /// Reads or makes events.
    "dataset" => Dataset in dataset,
    /// Trains the base GAN.
    "train_gan" => TrainGan in train_gan,
    /// Fixes a model for good.
    "freeze" => Freeze in freeze,
    /// Pretrains a second generator on the tail.
    "pretrain_tail" => PretrainTail in pretrain_tail,
    /// Trains the second generator as a component of a mixture.
    "boost" => Boost in boost,
    /// Adds a second generator to a base as it is.
    "mix" => Mix in mix,
    /// Finds the latent vectors that lead to the tail.
    "invert" => Invert in invert,
    /// Joins a model below a cut and another above it.
    "splice" => Splice in splice,
    /// Multiplies a model's density by a classifier's ratio.
    "reweight" => Reweight in reweight,
    /// Gives strata of the tail observable the mass that they have in the data.
    "post_stratify" => PostStratify in post_stratify,
    /// Judges models against test events.
    "evaluate" => Evaluate in evaluate,
    /// Brings evaluations of several seeds together.
    "aggregate" => Aggregate in aggregate,
}
